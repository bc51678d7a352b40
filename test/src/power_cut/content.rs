//! Blocks that say what they are: which write of which round put them where. Everything behind the
//! header follows from it, so that a block that is torn or mixed is recognised.

use std::fmt;

use super::{BLOCK_BYTES, mix, word};
use crate::rng::Rng;

const MAGIC: u64 = 0x6b63_6f6c_6274_7563;
/// Magic, seed, block, round, volume, slot and step.
const HEADER_BYTES: usize = 56;

/// Which write a block is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// The number of the volume that was written to. Snapshots and clones keep it.
    pub volume: u64,
    /// The round.
    pub round: u64,
    /// The slot of the round, and which of its steps: the number of the write.
    pub slot: u32,
    /// See `slot`.
    pub step: u32,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volume, round, slot, step } = self;
        write!(f, "write {slot}.{step} of round {round} to volume {volume}")
    }
}

/// What a block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing was ever written, or it was cleared.
    Zeroes,
    /// What a write put there.
    Written(Stamp),
    /// Neither.
    Foreign,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeroes => f.write_str("zeroes"),
            Self::Written(stamp) => stamp.fmt(f),
            Self::Foreign => f.write_str("something that was never written there"),
        }
    }
}

fn body(words: &[u64]) -> Rng {
    Rng::new(mix(words))
}

/// Fills a block of 4 KiB.
pub fn fill(buf: &mut [u8], seed: u64, block: u64, stamp: Stamp) {
    let number = u64::from(stamp.slot) << 32 | u64::from(stamp.step);
    let words = [MAGIC, seed, block, stamp.round, stamp.volume, number];
    let (header, rest) = buf.split_at_mut(HEADER_BYTES);
    header.fill(0);
    for (to, word) in header.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    body(&words).fill(rest);
}

/// Recognises a block of 4 KiB.
#[must_use]
pub fn recognise(buf: &[u8], seed: u64, block: u64) -> Found {
    if buf.iter().all(|byte| *byte == 0) {
        return Found::Zeroes;
    }
    let words = [0, 8, 16, 24, 32, 40].map(|at| word(buf, at).unwrap_or(0));
    let [_, _, _, round, volume, number] = words;
    let half = |shift: u32| u32::try_from(number >> shift & 0xffff_ffff).unwrap_or(0);
    let stamp = Stamp { volume, round, slot: half(32), step: half(0) };
    let mut expected = [0; BLOCK_BYTES];
    fill(&mut expected, seed, block, stamp);
    if expected == buf { Found::Written(stamp) } else { Found::Foreign }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_recognised_and_any_other_byte_is_noticed() {
        let stamp = Stamp { volume: 3, round: 1 << 40, slot: 7, step: 2 };
        let mut block = [0; BLOCK_BYTES];
        assert_eq!(recognise(&block, 5, 9), Found::Zeroes);
        fill(&mut block, 5, 9, stamp);
        assert_eq!(recognise(&block, 5, 9), Found::Written(stamp));
        assert_eq!(recognise(&block, 6, 9), Found::Foreign);
        assert_eq!(recognise(&block, 5, 10), Found::Foreign);
        for at in [0, 24, 50, 60, 4095] {
            block[at] ^= 1;
            assert_eq!(recognise(&block, 5, 9), Found::Foreign, "byte {at}");
            block[at] ^= 1;
        }
    }
}
