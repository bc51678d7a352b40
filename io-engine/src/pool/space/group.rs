//! The bitmap of one group.

use super::super::layout::{BLOCK_BYTES, GROUP_BLOCKS, Geometry};

const WORDS: usize = BLOCK_BYTES / 8;

/// A group of 32,768 blocks; a set bit is a block in use or reserved.
pub(super) struct Group {
    words: Box<[u64; WORDS]>,
    free: u64,
    /// Where the next search begins, as an index of a word.
    cursor: usize,
    /// Whether it differs from the medium.
    pub(super) dirty: bool,
}

impl Group {
    /// A group of which only the reserved blocks are used.
    pub(super) fn fresh(geometry: &Geometry, group: u64) -> Self {
        let mut made =
            Self { words: Box::new([0; WORDS]), free: GROUP_BLOCKS, cursor: 0, dirty: false };
        for range in geometry.reserved(group) {
            for block in range {
                made.set(block);
            }
        }
        made
    }

    /// The group of a bitmap whose digest was verified.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut words = Box::new([0; WORDS]);
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
        }
        let used: u64 = words.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { words, free: GROUP_BLOCKS - used, cursor: 0, dirty: false }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Blocks that are not in use.
    pub(super) fn free(&self) -> u64 {
        self.free
    }

    fn place(block: u64) -> (usize, u64) {
        // A block of a group is below 32,768.
        let word = usize::try_from(block / 64).unwrap_or(usize::MAX);
        (word, 1 << (block % 64))
    }

    pub(super) fn is_used(&self, block: u64) -> bool {
        let (word, bit) = Self::place(block);
        self.words[word] & bit != 0
    }

    /// Marks a block as used; false when it is already.
    pub(super) fn set(&mut self, block: u64) -> bool {
        let (word, bit) = Self::place(block);
        let was_free = self.words[word] & bit == 0;
        if was_free {
            self.words[word] |= bit;
            self.free -= 1;
            self.dirty = true;
        }
        was_free
    }

    /// Marks a block as free; false when it is already.
    pub(super) fn clear(&mut self, block: u64) -> bool {
        let (word, bit) = Self::place(block);
        let was_used = self.words[word] & bit != 0;
        if was_used {
            self.words[word] &= !bit;
            self.free += 1;
            self.dirty = true;
        }
        was_used
    }

    /// Takes the next run of at most `want` free blocks: `(first block, count)`.
    ///
    /// Searching goes on where it ended, so that what is written together lies together, and what
    /// was freed is not taken at once.
    pub(super) fn take_run(&mut self, want: u64) -> Option<(u64, u64)> {
        if self.free == 0 || want == 0 {
            return None;
        }
        let at = (0..WORDS).map(|step| (self.cursor + step) % WORDS);
        let word = at.into_iter().find(|&word| self.words[word] != u64::MAX)?;
        self.cursor = word;
        let first = word as u64 * 64 + u64::from(self.words[word].trailing_ones());
        let mut count = 0;
        while count < want && first + count < GROUP_BLOCKS && self.set(first + count) {
            count += 1;
        }
        Some((first, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_taken_until_the_group_is_full() {
        let geometry = Geometry::new(GROUP_BLOCKS * 4, None).expect("a possible size");
        let mut group = Group::fresh(&geometry, 1);
        assert_eq!(group.free(), geometry.usable_in(1));
        assert_eq!(group.take_run(100), Some((0, 16)), "up to the header");
        assert_eq!(group.take_run(100), Some((26, 100)), "behind the header");
        assert!(group.clear(3) && !group.clear(3));
        let mut taken = 0;
        while let Some((_, count)) = group.take_run(1000) {
            taken += count;
        }
        assert_eq!(taken, geometry.usable_in(1) - 116 + 1);
        assert_eq!(group.free(), 0);
        let copy = Group::parse(&group.encode());
        assert_eq!((copy.free(), copy.is_used(3)), (0, true));
    }
}
