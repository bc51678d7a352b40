//! Blocks that say what they are, and the check that reads them back.
//!
//! Every 512 bytes (the unit in which devices tear) hold a header with the block's number, its
//! generation, the run's seed and the position inside the block, and a fill derived from these. So
//! a sector that was written by any run can be told from damage without knowing what was expected,
//! and a wrong one can be named: another block's data, an older generation, or bytes that were
//! never written.

use std::fmt;

use super::workload::mix64;

#[cfg(test)]
mod tests;

/// The unit that carries a header of its own, in bytes.
pub const SECTOR_LEN: usize = 512;

const WORDS: usize = SECTOR_LEN / 8;
const HEADER_WORDS: usize = 5;
/// Marks a sector as written by the load generator: "IOEPERF1" in memory order.
const MAGIC: u64 = u64::from_le_bytes(*b"IOEPERF1");
/// The golden ratio scaled to 2^64: successive multiples differ in about half of their bits.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// A block length that cannot carry the pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("verify needs a block length that is a multiple of {SECTOR_LEN} bytes, not {block_len}")]
pub struct UnsupportedBlockLen {
    /// The block length in bytes.
    pub block_len: u32,
}

/// Writes and checks the blocks of one run on one device.
#[derive(Debug, Clone, Copy)]
pub struct Verifier {
    block_len: usize,
    seed: u64,
}

/// What a sector claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    lba: u64,
    generation: u64,
    seed: u64,
    /// The byte offset inside the block.
    offset: u64,
}

impl Header {
    /// The word at `index` of the sector that this header belongs to.
    #[inline]
    fn fill_word(base: u64, index: usize) -> u64 {
        let word = base.wrapping_add((index as u64).wrapping_mul(STRIDE));
        word ^ (word >> 29)
    }

    fn base(&self) -> u64 {
        mix64(mix64(mix64(mix64(self.seed) ^ self.lba) ^ self.generation) ^ self.offset)
    }

    #[inline]
    fn words(&self) -> [u64; WORDS] {
        let base = self.base();
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = Self::fill_word(base, index);
        }
        words[0] = MAGIC;
        words[1] = self.lba;
        words[2] = self.generation;
        words[3] = self.seed;
        words[HEADER_WORDS - 1] = self.offset;
        words
    }

    /// The header of a sector that is intact from its first to its last byte.
    fn of_intact(words: &[u64; WORDS]) -> Option<Self> {
        let header = Self { lba: words[1], generation: words[2], seed: words[3], offset: words[4] };
        (header.words() == *words).then_some(header)
    }
}

/// How the data differs from what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MismatchKind {
    /// The data of another place of this run is here: a read or a write went astray.
    Misdirected {
        /// The block it belongs to.
        lba: u64,
        /// The byte offset inside that block.
        offset: u64,
        /// Its generation.
        generation: u64,
    },
    /// An older generation of this block, in the whole I/O: the write was lost.
    Stale {
        /// The generation found.
        generation: u64,
    },
    /// An older generation in a part of the I/O, the right one in the rest.
    Torn {
        /// The older generation.
        generation: u64,
        /// Sectors of the I/O that are right.
        good_sectors: usize,
        /// All sectors of the I/O.
        sectors: usize,
    },
    /// A generation of this block that was not asked for yet: two writers, or a broken order.
    Newer {
        /// The generation found.
        generation: u64,
    },
    /// An intact sector of a run with another seed: the write was lost, or two runs share the
    /// device.
    OtherRun {
        /// The seed of that run.
        seed: u64,
        /// The block it belongs to.
        lba: u64,
    },
    /// Nothing but zeroes: never written, or unmapped.
    Zeroes,
    /// Bytes that nobody wrote.
    Corrupt {
        /// Bits that differ in the sector.
        bits: u32,
    },
}

/// The first place at which the data differs from what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// What it looks like.
    pub kind: MismatchKind,
    /// The block.
    pub lba: u64,
    /// The offset in bytes inside the block of the first eight bytes that differ.
    pub offset: usize,
    /// The generation that was written.
    pub generation: u64,
    /// The eight bytes that were written, as a little-endian number.
    pub expected: u64,
    /// The eight bytes that were read, as a little-endian number.
    pub found: u64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, lba, offset, generation, expected, found } = self;
        write!(f, "block {lba} at byte {offset}: ")?;
        match kind {
            MismatchKind::Misdirected { lba, offset, generation } => write!(
                f,
                "misdirected: it holds the data of block {lba} at byte {offset}, \
                 generation {generation}"
            ),
            MismatchKind::Stale { generation: old } => {
                write!(f, "stale: generation {old} is there, {generation} was written")
            }
            MismatchKind::Torn { generation: old, good_sectors, sectors } => write!(
                f,
                "torn: generation {old} is there, {generation} was written and arrived in \
                 {good_sectors} of {sectors} sectors"
            ),
            MismatchKind::Newer { generation: new } => {
                write!(f, "overwritten: generation {new} is there, {generation} was written last")
            }
            MismatchKind::OtherRun { seed, lba } => write!(
                f,
                "foreign: it holds block {lba} of a run with seed {seed}, \
                 generation {generation} of this run was written"
            ),
            MismatchKind::Zeroes => {
                write!(f, "zeroes: the sector is empty, generation {generation} was written")
            }
            MismatchKind::Corrupt { bits } => write!(
                f,
                "corrupt: {bits} bits of the sector differ, the first in {found:#018x} \
                 where {expected:#018x} was written"
            ),
        }
    }
}

impl std::error::Error for Mismatch {}

impl Verifier {
    /// A verifier for a device with this block length in bytes.
    ///
    /// # Errors
    ///
    /// [`UnsupportedBlockLen`] when the length is not a multiple of [`SECTOR_LEN`].
    pub fn new(block_len: u32, seed: u64) -> Result<Self, UnsupportedBlockLen> {
        let len = block_len as usize;
        if len == 0 || !len.is_multiple_of(SECTOR_LEN) {
            return Err(UnsupportedBlockLen { block_len });
        }
        Ok(Self { block_len: len, seed })
    }

    /// Fills `buf`, which starts at block `first_lba`, with the pattern of a generation.
    ///
    /// # Panics
    ///
    /// When `buf` is not a whole number of blocks.
    pub fn fill(&self, buf: &mut [u8], first_lba: u64, generation: u64) {
        self.assert_whole_blocks(buf.len());
        for (index, sector) in buf.chunks_exact_mut(SECTOR_LEN).enumerate() {
            let words = self.header(index, first_lba, generation).words();
            for (bytes, word) in sector.chunks_exact_mut(8).zip(words) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
    }

    /// Checks that `buf`, read from block `first_lba`, holds the pattern of a generation.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] describes the first place that differs.
    ///
    /// # Panics
    ///
    /// When `buf` is not a whole number of blocks.
    pub fn check(&self, buf: &[u8], first_lba: u64, generation: u64) -> Result<(), Mismatch> {
        self.assert_whole_blocks(buf.len());
        for (index, sector) in buf.chunks_exact(SECTOR_LEN).enumerate() {
            let expected = self.header(index, first_lba, generation).words();
            if load(sector) != expected {
                return Err(self.describe(buf, index, first_lba, generation));
            }
        }
        Ok(())
    }

    fn assert_whole_blocks(&self, len: usize) {
        assert!(
            len.is_multiple_of(self.block_len),
            "{len} bytes are not a whole number of blocks of {}",
            self.block_len
        );
    }

    #[inline]
    fn header(&self, sector: usize, first_lba: u64, generation: u64) -> Header {
        let at = sector * SECTOR_LEN;
        let (block, offset) = ((at / self.block_len) as u64, (at % self.block_len) as u64);
        Header { lba: first_lba.wrapping_add(block), generation, seed: self.seed, offset }
    }

    /// Finds words for a sector that differs. Off the fast path.
    #[cold]
    fn describe(&self, buf: &[u8], index: usize, first_lba: u64, generation: u64) -> Mismatch {
        let header = self.header(index, first_lba, generation);
        let expected = header.words();
        let at = index * SECTOR_LEN;
        let found = load(&buf[at..at + SECTOR_LEN]);
        let pairs = || expected.iter().zip(&found);
        let word = pairs().position(|(one, other)| one != other).unwrap_or(0);
        let kind = match Header::of_intact(&found) {
            Some(other) if other.seed != header.seed => {
                MismatchKind::OtherRun { seed: other.seed, lba: other.lba }
            }
            Some(other) if (other.lba, other.offset) != (header.lba, header.offset) => {
                let Header { lba, offset, generation, .. } = other;
                MismatchKind::Misdirected { lba, offset, generation }
            }
            Some(other) if other.generation > generation => {
                MismatchKind::Newer { generation: other.generation }
            }
            Some(other) => self.stale_or_torn(buf, first_lba, generation, other.generation),
            None if found == [0; WORDS] => MismatchKind::Zeroes,
            None => {
                MismatchKind::Corrupt { bits: pairs().map(|(a, b)| (a ^ b).count_ones()).sum() }
            }
        };
        let (expected, found) = (expected[word], found[word]);
        let offset = at % self.block_len + word * 8;
        Mismatch { kind, lba: header.lba, offset, generation, expected, found }
    }

    fn stale_or_torn(&self, buf: &[u8], first: u64, generation: u64, old: u64) -> MismatchKind {
        let sectors = buf.len() / SECTOR_LEN;
        let good_sectors = buf
            .chunks_exact(SECTOR_LEN)
            .enumerate()
            .filter(|(index, sector)| {
                load(sector) == self.header(*index, first, generation).words()
            })
            .count();
        match good_sectors {
            0 => MismatchKind::Stale { generation: old },
            _ => MismatchKind::Torn { generation: old, good_sectors, sectors },
        }
    }
}

/// A sector as little-endian words.
#[inline]
fn load(sector: &[u8]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let (bytes, _) = sector.as_chunks::<8>();
    for (word, bytes) in words.iter_mut().zip(bytes) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}
