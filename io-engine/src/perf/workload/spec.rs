//! What one job does, and which part of its device is its own.

use super::zones::Places;
use super::{
    FlushEvery, FlushOnly, Lcg, Mix, Only, Op, Pattern, Random, Sequential, Stream, VerifyPlan,
    Workload, WorkloadVisitor, ZoneShape, ZoneWriters, mix64,
};

/// Everything that the sequence of one job (a device on a core) depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// What to do.
    pub pattern: Pattern,
    /// The share of reads in a mix, 0 to 100.
    pub read_percent: u8,
    /// The length of an I/O in blocks, at least 1.
    pub blocks_per_io: u64,
    /// The size of the device in blocks.
    pub num_blocks: u64,
    /// The seed of the whole run.
    pub seed: u64,
    /// The device's index in the run.
    pub device: u32,
    /// The core's index in the run, below `cores`.
    pub core: u32,
    /// The number of cores that drive the device, at least 1.
    pub cores: u32,
    /// Flush after so many writes, unmaps or writes of zeroes.
    pub flush_every: Option<u64>,
    /// The zones of a zoned device.
    pub zones: Option<ZoneShape>,
}

/// The device has less room than the job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the device holds {slots} I/Os of {blocks_per_io} blocks ({num_blocks} blocks in all), \
     and the pattern needs at least {needed}, one per core"
)]
pub struct TooSmall {
    /// The size of the device in blocks.
    pub num_blocks: u64,
    /// The length of an I/O in blocks.
    pub blocks_per_io: u64,
    /// How many I/Os fit.
    pub slots: u64,
    /// How many have to fit.
    pub needed: u64,
}

impl Spec {
    /// Makes the generator and hands it to `visitor`.
    ///
    /// # Errors
    ///
    /// [`TooSmall`] when the device, or this core's part of it, does not hold one I/O.
    pub fn visit<V: WorkloadVisitor>(&self, visitor: V) -> Result<V::Output, TooSmall> {
        const READ: u8 = Op::Read as u8;
        const WRITE: u8 = Op::Write as u8;
        const UNMAP: u8 = Op::Unmap as u8;
        const WRITE_ZEROES: u8 = Op::WriteZeroes as u8;

        let (first, end) = self.slots()?;
        let sequential = Sequential::new(first, end, self.blocks_per_io);
        let random = || Random {
            lcg: Lcg::new(self.stream_seed(0)),
            slots: end,
            blocks_per_io: self.blocks_per_io,
        };
        let mix = || Mix::new(Lcg::new(self.stream_seed(1)), self.read_percent);
        Ok(match self.pattern {
            Pattern::Read => visitor.stream(Stream(sequential, Only::<READ>)),
            Pattern::RandRead => visitor.stream(Stream(random(), Only::<READ>)),
            Pattern::Write if let Some(shape) = self.zones => {
                let zones = self.core_zones(&shape);
                let every = self.flush_every;
                visitor.zones(ZoneWriters::new(shape, self.blocks_per_io, zones, every))
            }
            Pattern::Write => self.stream(visitor, Stream(sequential, Only::<WRITE>)),
            Pattern::RandWrite => self.stream(visitor, Stream(random(), Only::<WRITE>)),
            Pattern::Rw => self.stream(visitor, Stream(sequential, mix())),
            Pattern::RandRw => self.stream(visitor, Stream(random(), mix())),
            Pattern::Unmap => self.stream(visitor, Stream(sequential, Only::<UNMAP>)),
            Pattern::WriteZeroes => self.stream(visitor, Stream(sequential, Only::<WRITE_ZEROES>)),
            Pattern::Flush => visitor.stream(FlushOnly),
            Pattern::Verify => {
                visitor.verify(VerifyPlan::new(first, end, self.places(), self.flush_every))
            }
        })
    }

    /// Checks that the device has room for the job.
    ///
    /// # Errors
    ///
    /// [`TooSmall`] when the device, or this core's part of it, does not hold one I/O.
    pub fn check(&self) -> Result<(), TooSmall> {
        self.slots().map(drop)
    }

    /// The range of this core in units of an I/O.
    pub(super) fn slots(&self) -> Result<(u64, u64), TooSmall> {
        let Self { blocks_per_io, num_blocks, .. } = *self;
        if let Some(shape) = self.written_zones() {
            let (slots, needed) = (shape.slots_per_zone(blocks_per_io), u64::from(self.cores));
            if slots == 0 || shape.zones < needed {
                let slots = slots.saturating_mul(shape.zones).min(shape.zones);
                return Err(TooSmall { num_blocks, blocks_per_io, slots, needed });
            }
            let (first, end) = self.core_zones(&shape);
            return Ok((first * slots, end * slots));
        }
        let slots = num_blocks.checked_div(blocks_per_io).unwrap_or(0);
        let needed = if self.pattern.is_split() { u64::from(self.cores.max(1)) } else { 1 };
        if slots < needed {
            return Err(TooSmall { num_blocks, blocks_per_io, slots, needed });
        }
        if !self.pattern.is_split() {
            return Ok((0, slots));
        }
        Ok(self.share(slots))
    }

    /// This core's share of a number of things, from the first to the one behind the last.
    fn share(&self, count: u64) -> (u64, u64) {
        // Quotient and remainder apart, so that nothing overflows: the first cores get one more.
        let cores = u64::from(self.cores.max(1));
        let (each, extra) = (count / cores, count % cores);
        let start = |core: u64| core * each + core.min(extra);
        let core = u64::from(self.core);
        (start(core), start(core + 1))
    }

    /// The zones, when they are written in order.
    fn written_zones(&self) -> Option<ZoneShape> {
        self.zones.filter(|_| matches!(self.pattern, Pattern::Write | Pattern::Verify))
    }

    /// The zones of this core.
    fn core_zones(&self, shape: &ZoneShape) -> (u64, u64) {
        self.share(shape.zones)
    }

    /// Where the I/Os of a plan are.
    fn places(&self) -> Places {
        let blocks_per_io = self.blocks_per_io;
        match self.written_zones() {
            None => Places::Dense { blocks_per_io },
            Some(shape) => Places::Zoned {
                blocks_per_io,
                slots_per_zone: shape.slots_per_zone(blocks_per_io),
                zone_blocks: shape.zone_blocks,
            },
        }
    }

    /// Hands a stream to `visitor`, with flushes in it when they were asked for.
    fn stream<V: WorkloadVisitor>(&self, visitor: V, inner: impl Workload) -> V::Output {
        match self.flush_every {
            None => visitor.stream(inner),
            Some(interval) => visitor.stream(FlushEvery { inner, interval, left: interval }),
        }
    }

    /// A seed of its own for every device, core and use.
    fn stream_seed(&self, stream: u64) -> u64 {
        let place = u64::from(self.device) << 34 | u64::from(self.core) << 2 | stream;
        mix64(mix64(self.seed) ^ place)
    }
}
