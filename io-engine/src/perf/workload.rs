//! Which operation at which block comes next.
//!
//! Invariants:
//!
//! - The sequence depends on the seed, the device's and the core's index and nothing else.
//! - Every block address is a multiple of the I/O's length and every I/O lies within the device.
//! - Sequential patterns split the device among the cores without overlap; random ones draw from
//!   the whole device on every core.
//!
//! A generator is a concrete type per combination of addresses and operations, handed to a
//! [`WorkloadVisitor`], so the loop around it is compiled once per combination and a random read
//! costs five instructions beside its state: no dispatch, no modulo, no allocation.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use plan::{Step, VerifyPlan};
pub use spec::{Spec, TooSmall};
pub use zones::{ZoneShape, ZoneStep, ZoneWriters};

mod plan;
mod spec;
#[cfg(test)]
mod tests;
mod zones;

/// One operation on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Op {
    /// Reads blocks.
    Read,
    /// Writes blocks.
    Write,
    /// Makes completed writes durable.
    Flush,
    /// Gives blocks back to the device.
    Unmap,
    /// Sets blocks to zero without sending data.
    WriteZeroes,
}

impl Op {
    /// Every operation, in the order of its value.
    pub const ALL: [Self; 5] =
        [Self::Read, Self::Write, Self::Flush, Self::Unmap, Self::WriteZeroes];

    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Unmap => "unmap",
            Self::WriteZeroes => "write_zeroes",
        }
    }

    /// Whether the operation carries a buffer.
    #[inline]
    #[must_use]
    pub const fn has_data(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }
}

/// What the load does, as given with `-w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Pattern {
    /// Sequential reads.
    Read,
    /// Sequential writes.
    Write,
    /// Random reads.
    #[value(name = "randread")]
    #[serde(rename = "randread")]
    RandRead,
    /// Random writes.
    #[value(name = "randwrite")]
    #[serde(rename = "randwrite")]
    RandWrite,
    /// Sequential mix of reads and writes (-M).
    Rw,
    /// Random mix of reads and writes (-M).
    #[value(name = "randrw")]
    #[serde(rename = "randrw")]
    RandRw,
    /// Sequential writes of blocks that carry their number, a generation and a checkable fill,
    /// each read back and checked, and all of them once more at the end.
    Verify,
    /// Flushes only.
    Flush,
    /// Sequential unmaps.
    Unmap,
    /// Sequential writes of zeroes.
    WriteZeroes,
}

impl Pattern {
    /// The name as given with `-w`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::RandRead => "randread",
            Self::RandWrite => "randwrite",
            Self::Rw => "rw",
            Self::RandRw => "randrw",
            Self::Verify => "verify",
            Self::Flush => "flush",
            Self::Unmap => "unmap",
            Self::WriteZeroes => "write_zeroes",
        }
    }

    /// Whether the pattern mixes reads and writes, so that `-M` means something.
    #[must_use]
    pub fn is_mix(self) -> bool {
        matches!(self, Self::Rw | Self::RandRw)
    }

    /// Whether the pattern writes data from a buffer, so that FUA means something.
    #[must_use]
    pub fn writes_data(self) -> bool {
        matches!(self, Self::Write | Self::RandWrite | Self::Rw | Self::RandRw | Self::Verify)
    }

    /// Whether the pattern changes what the device holds.
    #[must_use]
    pub fn destroys_data(self) -> bool {
        self.writes_data() || matches!(self, Self::Unmap | Self::WriteZeroes)
    }

    /// The operations that the pattern asks a device for; flushes between writes are not counted.
    #[must_use]
    pub fn ops(self) -> &'static [Op] {
        match self {
            Self::Read | Self::RandRead => &[Op::Read],
            Self::Write | Self::RandWrite => &[Op::Write],
            Self::Rw | Self::RandRw | Self::Verify => &[Op::Read, Op::Write],
            Self::Flush => &[Op::Flush],
            Self::Unmap => &[Op::Unmap],
            Self::WriteZeroes => &[Op::WriteZeroes],
        }
    }

    /// Whether the cores share the device by splitting it.
    #[must_use]
    pub fn is_split(self) -> bool {
        !matches!(self, Self::RandRead | Self::RandWrite | Self::RandRw | Self::Flush)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(text, false)
    }
}

/// The next I/O: what, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Io {
    /// The operation.
    pub op: Op,
    /// The first block; 0 for a flush, which covers the whole device.
    pub lba: u64,
}

/// An endless stream of I/Os.
pub trait Workload: 'static {
    /// The one operation of the stream, when it has only one: then nothing has to be looked up
    /// when an I/O has ended.
    const ONLY: Option<Op>;

    /// The next I/O.
    fn next_io(&mut self) -> Io;
}

/// What is to be done with a generator once its type is known.
pub trait WorkloadVisitor {
    /// What comes out of it.
    type Output;

    /// Runs an endless stream of I/Os.
    fn stream<W: Workload>(self, workload: W) -> Self::Output;

    /// Runs a plan of writes and checks.
    fn verify(self, plan: VerifyPlan) -> Self::Output;

    /// Runs writes to the zones of a zoned device.
    fn zones(self, writers: ZoneWriters) -> Self::Output;
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014): a bijection in which every input bit reaches every output bit.
pub(super) fn mix64(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A linear congruential generator modulo 2^64. Only its upper bits are used, which are as good as
/// addresses need, and it is two instructions long.
#[derive(Debug, Clone)]
struct Lcg {
    state: u64,
    increment: u64,
}

impl Lcg {
    /// The multiplier with the best spectral figures of its length (Steele, Vigna:
    /// "Computationally easy, spectrally good multipliers", 2021, table 4).
    const MULTIPLIER: u64 = 0xd134_2543_de82_ef95;

    fn new(seed: u64) -> Self {
        // The increment has to be odd for a period of 2^64.
        Self { state: mix64(seed), increment: mix64(seed ^ u64::MAX) | 1 }
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_mul(Self::MULTIPLIER).wrapping_add(self.increment);
        self.state
    }
}

/// Where the next I/O goes.
trait Addresses: 'static {
    fn next_lba(&mut self) -> u64;
}

/// What the next I/O is.
trait Operations: 'static {
    /// The operation when there is only one.
    const ONLY: Option<Op>;

    fn next_op(&mut self) -> Op;
}

/// One after the other, and over again.
#[derive(Debug)]
struct Sequential {
    next: u64,
    first: u64,
    end: u64,
    blocks_per_io: u64,
}

impl Sequential {
    fn new(first_slot: u64, end_slot: u64, blocks_per_io: u64) -> Self {
        let (first, end) = (first_slot * blocks_per_io, end_slot * blocks_per_io);
        Self { next: first, first, end, blocks_per_io }
    }
}

impl Addresses for Sequential {
    #[inline]
    fn next_lba(&mut self) -> u64 {
        let lba = self.next;
        let next = lba + self.blocks_per_io;
        self.next = if next == self.end { self.first } else { next };
        lba
    }
}

/// Uniform over the device. The draw is scaled by taking the upper half of a product, whose bias
/// is below slots / 2^64.
#[derive(Debug)]
struct Random {
    lcg: Lcg,
    slots: u64,
    blocks_per_io: u64,
}

impl Addresses for Random {
    #[inline]
    fn next_lba(&mut self) -> u64 {
        let product = u128::from(self.lcg.next()) * u128::from(self.slots);
        let slot = (product >> 64) as u64;
        slot.wrapping_mul(self.blocks_per_io)
    }
}

/// Always the same operation, known to the compiler.
#[derive(Debug)]
struct Only<const OP: u8>;

impl<const OP: u8> Operations for Only<OP> {
    const ONLY: Option<Op> = Some(Op::ALL[OP as usize]);

    #[inline]
    fn next_op(&mut self) -> Op {
        const { Op::ALL[OP as usize] }
    }
}

/// Reads with the given probability, writes otherwise.
#[derive(Debug)]
struct Mix {
    lcg: Lcg,
    /// The share of reads, scaled to 2^32.
    read_below: u64,
}

impl Mix {
    fn new(lcg: Lcg, read_percent: u8) -> Self {
        Self { lcg, read_below: (u64::from(read_percent.min(100)) << 32) / 100 }
    }
}

impl Operations for Mix {
    const ONLY: Option<Op> = None;

    #[inline]
    fn next_op(&mut self) -> Op {
        if self.lcg.next() >> 32 < self.read_below { Op::Read } else { Op::Write }
    }
}

/// Addresses and operations together.
#[derive(Debug)]
struct Stream<A, O>(A, O);

impl<A: Addresses, O: Operations> Workload for Stream<A, O> {
    const ONLY: Option<Op> = O::ONLY;

    #[inline]
    fn next_io(&mut self) -> Io {
        Io { op: self.1.next_op(), lba: self.0.next_lba() }
    }
}

/// Flushes and nothing else.
#[derive(Debug)]
struct FlushOnly;

impl Workload for FlushOnly {
    const ONLY: Option<Op> = Some(Op::Flush);

    #[inline]
    fn next_io(&mut self) -> Io {
        Io { op: Op::Flush, lba: 0 }
    }
}

/// Puts a flush after every so many I/Os that are not reads.
#[derive(Debug)]
struct FlushEvery<W> {
    inner: W,
    interval: u64,
    left: u64,
}

impl<W: Workload> Workload for FlushEvery<W> {
    const ONLY: Option<Op> = None;

    #[inline]
    fn next_io(&mut self) -> Io {
        if self.left == 0 {
            self.left = self.interval;
            return Io { op: Op::Flush, lba: 0 };
        }
        let io = self.inner.next_io();
        self.left -= u64::from(io.op != Op::Read);
        io
    }
}
