//! The bitmap of one group.

use super::super::layout::{BLOCK_BYTES, GROUP_BLOCKS, Geometry};

const WORDS: usize = BLOCK_BYTES / 8;

/// A group of 32,768 blocks; a set bit is a block in use or reserved.
pub(super) struct Group {
    words: Box<[u64; WORDS]>,
    free: u64,
    /// Where the next search begins, as an index of a word.
    cursor: usize,
    /// The same for runs that have to be whole.
    whole_cursor: usize,
    /// Runs of so many blocks were looked for in vain since a block was freed.
    lacks: u64,
    /// Whether it differs from the medium.
    pub(super) dirty: bool,
}

impl Group {
    /// A group of which only the reserved blocks are used.
    pub(super) fn fresh(geometry: &Geometry, group: u64) -> Self {
        let mut made = Self {
            words: Box::new([0; WORDS]),
            free: GROUP_BLOCKS,
            cursor: 0,
            whole_cursor: 0,
            lacks: u64::MAX,
            dirty: false,
        };
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
        Self {
            words,
            free: GROUP_BLOCKS - used,
            cursor: 0,
            whole_cursor: 0,
            lacks: u64::MAX,
            dirty: false,
        }
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
            self.lacks = u64::MAX;
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

impl Group {
    /// Takes a run of exactly `want` free blocks, if there is one behind the last that was taken
    /// like this or, once, from the beginning. Returns its first block.
    pub(super) fn take_whole(&mut self, want: u64) -> Option<u64> {
        if self.free < want || want >= self.lacks {
            return None;
        }
        let from = self.whole_cursor;
        let found = self.find_whole(want, from).or_else(|| self.find_whole(want, 0));
        let Some(first) = found else {
            self.lacks = want;
            return None;
        };
        for block in first..first + want {
            self.set(block);
        }
        self.whole_cursor = usize::try_from((first + want) / 64).unwrap_or(0) % WORDS;
        Some(first)
    }

    fn find_whole(&self, want: u64, from: usize) -> Option<u64> {
        let mut run = 0;
        for (at, &word) in self.words.iter().enumerate().skip(from) {
            let base = at as u64 * 64;
            if word == 0 {
                run += 64;
                if run >= want {
                    return Some(base + 64 - run);
                }
                continue;
            }
            if word == u64::MAX {
                run = 0;
                continue;
            }
            for bit in 0..64 {
                run = if word & (1 << bit) == 0 { run + 1 } else { 0 };
                if run == want {
                    return Some(base + bit + 1 - want);
                }
            }
        }
        None
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

    #[test]
    fn whole_runs_are_found_wherever_they_are() {
        let geometry = Geometry::new(GROUP_BLOCKS * 4, None).expect("a possible size");
        let mut group = Group::fresh(&geometry, 1);
        while group.take_run(1000).is_some() {}
        for (first, count) in [(100, 40), (200, 63), (1000, 64), (2000, 200), (32_700, 68)] {
            for block in first..first + count {
                assert!(group.clear(block));
            }
        }
        let found: Vec<_> = [200, 64, 65, 63, 40, 1, 3].map(|want| group.take_whole(want)).to_vec();
        // Each search begins where the last one ended, and once from the beginning.
        assert_eq!(found[..2], [Some(2000), Some(32_700)]);
        assert_eq!(found[2..5], [None, Some(200), Some(1000)]);
        let left = group.free();
        let mut taken = 0;
        while group.take_whole(1).is_some() {
            taken += 1;
        }
        assert_eq!((taken, group.free()), (left, 0));
    }
}
