//! SHA-256 of many equally long blocks at once (FIPS 180-4).
//!
//! One SHA-256 is a chain of steps that each wait for the one before, so a single stream leaves most
//! of a core idle. Blocks are independent of each other: [`sha256_blocks`] works on sixteen of them
//! in the lanes of AVX-512 vectors, on eight with AVX2, or on two with the SHA instructions in turn,
//! whatever is fastest for their number on the processor at hand.
//!
//! Invariants:
//!
//! * The digest of a block does not depend on its neighbours, on their number, on its address, or
//!   on the implementation.
//! * Nothing is allocated, and no instruction is used that the processor lacks.

use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod constants;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

#[cfg(test)]
mod tests;

/// What the compression function takes at once, in bytes; blocks are a multiple of it.
pub const SHA256_CHUNK_BYTES: usize = 64;

/// One input of the compression function.
type Chunk = [u8; SHA256_CHUNK_BYTES];

/// A way of computing SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sha256Impl {
    /// Sixteen blocks in the lanes of AVX-512 vectors (AVX512F and AVX512BW).
    Avx512,
    /// Eight blocks in the lanes of AVX2 vectors.
    Avx2,
    /// Two blocks in turn with the SHA instructions (SHA, SSSE3 and SSE4.1).
    ShaNi2,
    /// One block after the other, by the `sha2` crate; works on every processor.
    Portable,
}

impl Sha256Impl {
    /// All of them, the widest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::ShaNi2, Self::Portable];

    /// Whether this processor can run it.
    #[must_use]
    pub fn available(self) -> bool {
        Features::of_this_processor().run(self)
    }

    /// What works on so many blocks on this processor.
    #[must_use]
    pub fn chosen(blocks: usize) -> Self {
        Features::of_this_processor().choose(blocks).0
    }

    /// The name, as benchmarks print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::ShaNi2 => "sha-ni-2",
            Self::Portable => "portable",
        }
    }

    /// How many blocks it works on at once; fewer take as long.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::Avx512 => 16,
            Self::Avx2 => 8,
            Self::ShaNi2 => 2,
            Self::Portable => 1,
        }
    }
}

impl fmt::Display for Sha256Impl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why blocks cannot be digested.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Sha256Error {
    /// There is not one place for a digest per block.
    #[error("{blocks} blocks with room for {digests} digests; both numbers must be equal")]
    Count {
        /// Number of blocks.
        blocks: usize,
        /// Number of digests that the output has room for.
        digests: usize,
    },
    /// A block is not as long as the first one.
    #[error(
        "block {index} has {length} bytes, but block 0 has {expected}; all must be equally long"
    )]
    Unequal {
        /// Which block.
        index: usize,
        /// Its length in bytes.
        length: usize,
        /// The length of the first block in bytes.
        expected: usize,
    },
    /// The length of the blocks is not a multiple of 64 bytes.
    #[error("blocks of {length} bytes; the length must be a multiple of {SHA256_CHUNK_BYTES}")]
    Length {
        /// The length in bytes.
        length: usize,
    },
    /// The processor lacks the instructions.
    #[error("this processor cannot run SHA-256 in the variant {0}; `portable` works everywhere")]
    Unavailable(Sha256Impl),
}

/// The SHA-256 of one message of any length.
#[must_use]
pub fn sha256(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}

/// Writes the SHA-256 of every block to the same place of `out`, by the fastest means for their
/// number.
///
/// # Panics
///
/// If `out` has not as many places as there are blocks, if the blocks differ in length, or if their
/// length is not a multiple of 64 bytes. [`sha256_blocks_with`] returns these as errors.
pub fn sha256_blocks(blocks: &[&[u8]], out: &mut [[u8; 32]]) {
    let padding = match padding_for(blocks, out) {
        Ok(padding) => padding,
        Err(error) => panic!("{error}"),
    };
    let features = Features::of_this_processor();
    let (mut blocks, mut out) = (blocks, out);
    while !blocks.is_empty() {
        let (with, count) = features.choose(blocks.len());
        let (now, later) = blocks.split_at(count);
        let (digests, rest) = out.split_at_mut(count);
        run(with, now, &padding, digests);
        (blocks, out) = (later, rest);
    }
}

/// Like [`sha256_blocks`], all of it by one implementation, for tests and benchmarks.
///
/// # Errors
///
/// [`Sha256Error`] if the processor cannot run the implementation, if `out` has not as many places
/// as there are blocks, if the blocks differ in length, or if their length is not a multiple of 64
/// bytes.
pub fn sha256_blocks_with(
    with: Sha256Impl,
    blocks: &[&[u8]],
    out: &mut [[u8; 32]],
) -> Result<(), Sha256Error> {
    if !with.available() {
        return Err(Sha256Error::Unavailable(with));
    }
    let padding = padding_for(blocks, out)?;
    run(with, blocks, &padding, out);
    Ok(())
}

/// What of the processor matters here.
#[derive(Clone, Copy, Debug, Default)]
struct Features {
    avx512: bool,
    avx2: bool,
    sha_ni: bool,
}

impl Features {
    /// Asks the processor the first time in a process; afterwards these are loads of a word in
    /// which the standard library keeps the answers.
    #[inline]
    fn of_this_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            Self {
                avx512: is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
                avx2: is_x86_feature_detected!("avx2"),
                sha_ni: is_x86_feature_detected!("sha")
                    && is_x86_feature_detected!("ssse3")
                    && is_x86_feature_detected!("sse4.1"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            Self::default()
        }
    }

    fn run(self, with: Sha256Impl) -> bool {
        match with {
            Sha256Impl::Avx512 => self.avx512,
            Sha256Impl::Avx2 => self.avx2,
            Sha256Impl::ShaNi2 => self.sha_ni,
            Sha256Impl::Portable => true,
        }
    }

    /// With what to go on when `count` blocks are left, and how many of them to take.
    ///
    /// Vectors are for full groups, and for a last group that is full enough: it takes as long as a
    /// full one. Two blocks in turn take 2.5 µs of 4 KiB each on a Zen 5 core, sixteen in AVX-512
    /// lanes 12.5 µs, eight in AVX2 lanes 18 µs, and one without any of these instructions 8 µs;
    /// the limits are where the sums meet.
    fn choose(self, count: usize) -> (Sha256Impl, usize) {
        let narrow = if self.sha_ni { Sha256Impl::ShaNi2 } else { Sha256Impl::Portable };
        let (wide, least) = match self {
            Self { avx512: true, sha_ni: true, .. } => (Sha256Impl::Avx512, 10),
            Self { avx512: true, sha_ni: false, .. } => (Sha256Impl::Avx512, 2),
            Self { avx2: true, sha_ni: false, .. } => (Sha256Impl::Avx2, 3),
            _ => return (narrow, count),
        };
        let rest = count % wide.width();
        if rest == 0 || rest >= least {
            (wide, count)
        } else if rest < count {
            (wide, count - rest)
        } else {
            (narrow, count)
        }
    }
}

/// The chunk that follows every block: a one bit, zeroes, and the length in bits (FIPS 180-4,
/// section 5.1.1). It is the same for all, since their lengths are equal and fill whole chunks.
fn padding_for(blocks: &[&[u8]], out: &[[u8; 32]]) -> Result<Chunk, Sha256Error> {
    if blocks.len() != out.len() {
        return Err(Sha256Error::Count { blocks: blocks.len(), digests: out.len() });
    }
    let expected = blocks.first().map_or(0, |block| block.len());
    if let Some(index) = blocks.iter().position(|block| block.len() != expected) {
        return Err(Sha256Error::Unequal { index, length: blocks[index].len(), expected });
    }
    if !expected.is_multiple_of(SHA256_CHUNK_BYTES) {
        return Err(Sha256Error::Length { length: expected });
    }
    let mut padding = [0; SHA256_CHUNK_BYTES];
    padding[0] = 0x80;
    let bits = (expected as u64).wrapping_mul(8);
    padding[SHA256_CHUNK_BYTES - 8..].copy_from_slice(&bits.to_be_bytes());
    Ok(padding)
}

/// Digests blocks that were checked by [`padding_for`], with what the processor was found to have.
#[cfg(target_arch = "x86_64")]
fn run(with: Sha256Impl, blocks: &[&[u8]], padding: &Chunk, out: &mut [[u8; 32]]) {
    debug_assert!(with.available());
    match with {
        Sha256Impl::Avx512 => in_groups(blocks, out, |lanes| {
            // SAFETY: both callers ask the processor first, and it has AVX512F and AVX512BW.
            unsafe { avx512::sha256(lanes, padding) }
        }),
        Sha256Impl::Avx2 => in_groups(blocks, out, |lanes| {
            // SAFETY: both callers ask the processor first, and it has AVX2.
            unsafe { avx2::sha256(lanes, padding) }
        }),
        Sha256Impl::ShaNi2 => {
            let pairs = blocks.len() / 2 * 2;
            let (paired, single) = blocks.split_at(pairs);
            let (paired_out, single_out) = out.split_at_mut(pairs);
            in_groups(paired, paired_out, |lanes: [&[Chunk]; 2]| {
                // SAFETY: both callers ask the processor first, and it has SHA, SSSE3 and SSE4.1.
                unsafe { sha_ni::sha256(lanes, padding) }
            });
            in_groups(single, single_out, |lanes: [&[Chunk]; 1]| {
                // SAFETY: both callers ask the processor first, and it has SHA, SSSE3 and SSE4.1.
                unsafe { sha_ni::sha256(lanes, padding) }
            });
        }
        Sha256Impl::Portable => one_by_one(blocks, out),
    }
}

/// Elsewhere the other variants are never available.
#[cfg(not(target_arch = "x86_64"))]
fn run(with: Sha256Impl, blocks: &[&[u8]], _padding: &Chunk, out: &mut [[u8; 32]]) {
    debug_assert!(with.available());
    one_by_one(blocks, out);
}

fn one_by_one(blocks: &[&[u8]], out: &mut [[u8; 32]]) {
    for (digest, block) in out.iter_mut().zip(blocks) {
        *digest = sha256(block);
    }
}

/// Feeds blocks to `group`, which takes `N` at once. A last group that is not full repeats its last
/// block, whose further digests are dropped.
#[cfg(target_arch = "x86_64")]
fn in_groups<const N: usize>(
    blocks: &[&[u8]],
    out: &mut [[u8; 32]],
    group: impl Fn([&[Chunk]; N]) -> [[u8; 32]; N],
) {
    for (blocks, out) in blocks.chunks(N).zip(out.chunks_mut(N)) {
        let lanes = std::array::from_fn(|lane| {
            let block: &[u8] = blocks[lane.min(blocks.len() - 1)];
            block.as_chunks().0
        });
        out.copy_from_slice(&group(lanes)[..out.len()]);
    }
}

/// The digests of `N` messages from their final states, of which row *i* holds word *i* of all.
#[cfg(target_arch = "x86_64")]
fn rows_to_digests<const N: usize>(rows: &[[u32; N]; 8]) -> [[u8; 32]; N] {
    let mut digests = [[0; 32]; N];
    for (lane, digest) in digests.iter_mut().enumerate() {
        for (bytes, row) in digest.as_chunks_mut::<4>().0.iter_mut().zip(rows) {
            *bytes = row[lane].to_be_bytes();
        }
    }
    digests
}
