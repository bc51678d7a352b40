//! The contents of a medium as a tree of shared blocks: a copy costs a few pointers, and a write
//! to a copy changes that copy alone.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::{BLOCK_BYTES, SECTOR_BYTES, to_usize};
use crate::rng::Rng;

/// Blocks per group: with these, a device of 16 MiB is 64 groups of 64 blocks.
const GROUP: usize = 64;

type Block = Arc<[u8; BLOCK_BYTES]>;
type Group = [Option<Block>; GROUP];

/// What is stored on a medium. Blocks that were never written read as zeroes.
#[derive(Clone, Debug)]
pub struct Image {
    groups: Vec<Option<Arc<Group>>>,
    size_bytes: u64,
}

impl Image {
    /// An empty medium. The size is rounded up to whole blocks of 4 KiB.
    #[must_use]
    pub fn new(size_bytes: u64) -> Self {
        let blocks = to_usize(size_bytes).div_ceil(BLOCK_BYTES);
        let size_bytes = (blocks * BLOCK_BYTES) as u64;
        Self { groups: vec![None; blocks.div_ceil(GROUP)], size_bytes }
    }

    /// The size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn get(&self, block: usize) -> Option<&Block> {
        self.groups.get(block / GROUP)?.as_ref()?[block % GROUP].as_ref()
    }

    fn place(&mut self, block: usize) -> &mut Option<Block> {
        let group =
            self.groups[block / GROUP].get_or_insert_with(|| Arc::new([const { None }; GROUP]));
        &mut Arc::make_mut(group)[block % GROUP]
    }

    /// Reads bytes.
    ///
    /// # Panics
    /// When the range reaches beyond the end.
    pub fn read(&self, offset_bytes: u64, to: &mut [u8]) {
        assert!(offset_bytes + to.len() as u64 <= self.size_bytes, "a read beyond the image");
        let (mut at, mut rest) = (to_usize(offset_bytes), to);
        while !rest.is_empty() {
            let (block, within) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            let len = rest.len().min(BLOCK_BYTES - within);
            let (head, tail) = rest.split_at_mut(len);
            match self.get(block) {
                Some(data) => head.copy_from_slice(&data[within..within + len]),
                None => head.fill(0),
            }
            (at, rest) = (at + len, tail);
        }
    }

    /// Writes bytes.
    ///
    /// # Panics
    /// When the range reaches beyond the end.
    pub fn write(&mut self, offset_bytes: u64, from: &[u8]) {
        assert!(offset_bytes + from.len() as u64 <= self.size_bytes, "a write beyond the image");
        let (mut at, mut rest) = (to_usize(offset_bytes), from);
        while !rest.is_empty() {
            let (block, within) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            let (head, tail) = rest.split_at(rest.len().min(BLOCK_BYTES - within));
            let place = self.place(block);
            match <&[u8; BLOCK_BYTES]>::try_from(head) {
                Ok(whole) => *place = Some(Arc::new(*whole)),
                Err(_) => {
                    let data = place.get_or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
                    Arc::make_mut(data)[within..within + head.len()].copy_from_slice(head);
                }
            }
            (at, rest) = (at + head.len(), tail);
        }
    }

    /// Changes bits of one byte.
    pub fn flip(&mut self, offset_bytes: u64, mask: u8) {
        let mut byte = [0];
        self.read(offset_bytes, &mut byte);
        self.write(offset_bytes, &[byte[0] ^ mask]);
    }

    /// A byte of a block that was written at some time; none when none was.
    pub fn random_written_byte(&self, rng: &mut Rng) -> Option<u64> {
        let written: Vec<usize> =
            (0..self.groups.len() * GROUP).filter(|&block| self.get(block).is_some()).collect();
        let block = *written.get(rng.index(written.len()))?;
        Some((block * BLOCK_BYTES + rng.index(BLOCK_BYTES)) as u64)
    }

    /// Whether two media share a block: neither was changed there since one was copied.
    #[must_use]
    pub fn shares_block(&self, other: &Self, block: usize) -> bool {
        match (self.get(block), other.get(block)) {
            (Some(own), Some(others)) => Arc::ptr_eq(own, others),
            (None, None) => true,
            _ => false,
        }
    }

    /// A number that differs when the contents do, for comparing two runs.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for block in 0..to_usize(self.size_bytes) / BLOCK_BYTES {
            if let Some(data) = self.get(block)
                && data.iter().any(|&byte| byte != 0)
            {
                (block, &data[..]).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_where_they_were_written() {
        let mut image = Image::new(1 << 20);
        let mut shadow = vec![0u8; 1 << 20];
        let mut rng = Rng::new(1);
        for round in 0..500u64 {
            let at = rng.index((1 << 20) - 10_000);
            let data = vec![u8::try_from(round % 255 + 1).unwrap(); rng.index(10_000)];
            image.write(at as u64, &data);
            shadow[at..at + data.len()].copy_from_slice(&data);
        }
        let mut found = vec![0; 1 << 20];
        image.read(0, &mut found);
        assert!(found == shadow);
    }

    #[test]
    fn a_copy_is_independent() {
        let mut first = Image::new(1 << 20);
        first.write(0, &[1; 4096]);
        let mut second = first.clone();
        second.write(100, &[2; 10]);
        let mut byte = [0];
        first.read(100, &mut byte);
        assert_eq!(byte, [1]);
        assert_ne!(first.digest(), second.digest());
        second.write(100, &[1; 10]);
        assert_eq!(first.digest(), second.digest());
        second.flip(5, 0x80);
        second.read(5, &mut byte);
        assert_eq!(byte, [0x81]);
    }
}
