//! What a block holds: every block that a run writes names its writer.

use crate::device::BLOCK_BYTES;

/// Marks a block that a run wrote.
const MAGIC: u64 = 0x5ee1_f00d_b10c_1d5e;
/// Bytes of a word.
const WORD: usize = 8;
/// Distance between two words of a block, odd so that all differ.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Who wrote a block: the operation, and which of its blocks this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// The number of the operation, unique in a run.
    pub op: u64,
    /// The block's place in the operation's data.
    pub index: u64,
}

/// What was found in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Zeroes in every byte.
    Zero,
    /// The data of a write, every byte of it.
    Tag(Tag),
    /// Anything else: torn, rotten, or from elsewhere.
    Foreign,
}

impl Tag {
    fn word(self, index: usize) -> u64 {
        let seed = self.op.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ self.index.rotate_left(40);
        seed.wrapping_add(STEP.wrapping_mul(index as u64))
    }

    /// Fills a block with what this writer writes.
    ///
    /// # Panics
    /// When `block` is not one block long.
    pub fn fill(self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK_BYTES, "a block has 4096 bytes");
        for (index, word) in block.chunks_exact_mut(WORD).enumerate() {
            let value = match index {
                0 => MAGIC,
                1 => self.op,
                2 => self.index,
                _ => self.word(index),
            };
            word.copy_from_slice(&value.to_le_bytes());
        }
    }
}

fn word(block: &[u8], index: usize) -> u64 {
    let bytes = block.get(index * WORD..(index + 1) * WORD).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

impl Content {
    /// What a block holds.
    #[must_use]
    pub fn of(block: &[u8]) -> Self {
        if word(block, 0) != MAGIC {
            let zero = block.chunks_exact(WORD).all(|word| word == [0; WORD]);
            return if zero { Self::Zero } else { Self::Foreign };
        }
        let tag = Tag { op: word(block, 1), index: word(block, 2) };
        let whole = block
            .chunks_exact(WORD)
            .enumerate()
            .skip(3)
            .all(|(index, word)| word == tag.word(index).to_le_bytes());
        if whole { Self::Tag(tag) } else { Self::Foreign }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_recognised_and_a_mixture_is_not() {
        let mut block = vec![0; BLOCK_BYTES];
        assert_eq!(Content::of(&block), Content::Zero);
        let (first, second) = (Tag { op: 7, index: 1 }, Tag { op: 7, index: 2 });
        first.fill(&mut block);
        assert_eq!(Content::of(&block), Content::Tag(first));
        let mut other = vec![0; BLOCK_BYTES];
        second.fill(&mut other);
        for sector in 0..8 {
            let mut torn = block.clone();
            torn[sector * 512..(sector + 1) * 512]
                .copy_from_slice(&other[sector * 512..(sector + 1) * 512]);
            assert_eq!(Content::of(&torn), Content::Foreign, "sector {sector} of another write");
            torn[sector * 512..(sector + 1) * 512].fill(0);
            assert_eq!(Content::of(&torn), Content::Foreign, "sector {sector} is missing");
        }
        block[4095] ^= 1;
        assert_eq!(Content::of(&block), Content::Foreign);
    }
}
