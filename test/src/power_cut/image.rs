//! The contents of a drive. A copy shares all blocks, and a write to it changes that copy alone.

use std::sync::Arc;

use super::BLOCK_BYTES;

type Block = Arc<[u8; BLOCK_BYTES]>;

/// What is stored on a drive. Blocks that were never written read as zeroes.
#[derive(Clone, Debug)]
pub struct Image {
    blocks: Vec<Option<Block>>,
}

impl Image {
    /// An empty drive of whole blocks of 4 KiB.
    #[must_use]
    pub fn new(size_bytes: u64) -> Self {
        let blocks = usize::try_from(size_bytes).unwrap_or(usize::MAX) / BLOCK_BYTES;
        Self { blocks: vec![None; blocks] }
    }

    /// The size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        (self.blocks.len() * BLOCK_BYTES) as u64
    }

    /// Reads bytes.
    ///
    /// # Panics
    /// When the range reaches beyond the end.
    pub fn read(&self, offset_bytes: u64, mut to: &mut [u8]) {
        let mut at = usize::try_from(offset_bytes).unwrap_or(usize::MAX);
        while !to.is_empty() {
            let (block, within) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            let len = to.len().min(BLOCK_BYTES - within);
            let (head, rest) = to.split_at_mut(len);
            match &self.blocks[block] {
                Some(data) => head.copy_from_slice(&data[within..within + len]),
                None => head.fill(0),
            }
            (at, to) = (at + len, rest);
        }
    }

    /// Writes bytes.
    ///
    /// # Panics
    /// When the range reaches beyond the end.
    pub fn write(&mut self, offset_bytes: u64, mut from: &[u8]) {
        let mut at = usize::try_from(offset_bytes).unwrap_or(usize::MAX);
        while !from.is_empty() {
            let (block, within) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            let (head, rest) = from.split_at(from.len().min(BLOCK_BYTES - within));
            let place = self.blocks[block].get_or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            Arc::make_mut(place)[within..within + head.len()].copy_from_slice(head);
            (at, from) = (at + head.len(), rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_copy_is_independent_and_bytes_are_found_where_they_were_written() {
        let mut image = Image::new(1 << 20);
        let mut shadow = vec![0; 1 << 20];
        let mut rng = Rng::new(1);
        for round in 0..200u8 {
            let at = rng.index((1 << 20) - 10_000);
            let data = vec![round + 1; rng.index(10_000)];
            image.write(at as u64, &data);
            shadow[at..at + data.len()].copy_from_slice(&data);
        }
        let mut copy = image.clone();
        copy.write(5000, &[0xff; 9000]);
        let mut found = vec![0; 1 << 20];
        image.read(0, &mut found);
        assert!(found == shadow);
        copy.read(0, &mut found);
        shadow[5000..14_000].fill(0xff);
        assert!(found == shadow);
    }
}
