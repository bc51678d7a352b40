//! Statistics of a device: kept per core with plain stores, merged by whoever reads them.

use super::IoType;
use crate::NvmeStatus;
use crate::reactor::Counter;

/// The counters of one kind of I/O on one core. One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct OpCounters {
    ops: Counter,
    /// Blocks of the successful ones; they become bytes when somebody reads them.
    blocks: Counter,
    ticks: Counter,
    ticks_max: Counter,
    /// The complement of the shortest latency, so that 0 means none was measured.
    ticks_min_inverted: Counter,
    errors: Counter,
}

impl OpCounters {
    #[cold]
    #[inline(never)]
    fn failed(&self) {
        self.errors.add(1);
    }
}

/// The counters of one channel. Written by its reactor, read by anyone.
#[derive(Debug)]
pub struct ChannelCounters {
    ops: [OpCounters; IoType::COUNT],
    block_len: u64,
}

/// What happened to one kind of I/O.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpStats {
    /// Completed operations, failed ones included.
    pub ops: u64,
    /// Bytes of the successful ones.
    pub bytes: u64,
    /// Sum of their latencies in ticks, submission to completion.
    pub ticks: u64,
    /// The longest latency in ticks.
    pub ticks_max: u64,
    /// The shortest latency in ticks; 0 when there was none.
    pub ticks_min: u64,
    /// Operations that failed.
    pub errors: u64,
}

/// The statistics of a device or a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStats {
    ops: [OpStats; IoType::COUNT],
}

impl ChannelCounters {
    /// Counters of a device with blocks of so many bytes.
    pub(super) fn new(block_len: u32) -> Self {
        Self { ops: std::array::from_fn(|_| OpCounters::default()), block_len: block_len.into() }
    }

    /// Counts a completed operation.
    #[inline(always)]
    pub(super) fn record(&self, kind: IoType, blocks: u64, ticks: u64, status: NvmeStatus) {
        let op = &self.ops[kind as usize];
        op.ops.add(1);
        op.ticks.add(ticks);
        if ticks > op.ticks_max.get() {
            op.ticks_max.set(ticks);
        }
        if !ticks > op.ticks_min_inverted.get() {
            op.ticks_min_inverted.set(!ticks);
        }
        if !status.is_success() {
            return op.failed();
        }
        op.blocks.add(blocks);
    }

    /// The present values.
    #[must_use]
    pub fn snapshot(&self) -> IoStats {
        let ops = std::array::from_fn(|kind| {
            let op = &self.ops[kind];
            let inverted = op.ticks_min_inverted.get();
            OpStats {
                ops: op.ops.get(),
                bytes: op.blocks.get() * self.block_len,
                ticks: op.ticks.get(),
                ticks_max: op.ticks_max.get(),
                ticks_min: if inverted == 0 { 0 } else { !inverted },
                errors: op.errors.get(),
            }
        });
        IoStats { ops }
    }
}

impl IoStats {
    /// The figures of one kind of I/O.
    #[must_use]
    pub fn of(&self, kind: IoType) -> &OpStats {
        &self.ops[kind as usize]
    }

    /// Adds another channel's figures.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.ops.iter_mut().zip(&other.ops) {
            if theirs.ops == 0 {
                continue;
            }
            mine.ticks_min = match mine.ops {
                0 => theirs.ticks_min,
                _ => mine.ticks_min.min(theirs.ticks_min),
            };
            mine.ticks_max = mine.ticks_max.max(theirs.ticks_max);
            mine.ops += theirs.ops;
            mine.bytes += theirs.bytes;
            mine.ticks += theirs.ticks;
            mine.errors += theirs.errors;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_counts_and_merges() {
        let one = ChannelCounters::new(512);
        one.record(IoType::Read, 8, 10, NvmeStatus::SUCCESS);
        one.record(IoType::Read, 8, 30, NvmeStatus::SUCCESS);
        one.record(IoType::Read, 8, 20, NvmeStatus::INTERNAL_ERROR);
        let two = ChannelCounters::new(512);
        two.record(IoType::Read, 1, 5, NvmeStatus::SUCCESS);
        let mut all = one.snapshot();
        all.merge(&two.snapshot());
        let expected =
            OpStats { ops: 4, bytes: 8704, ticks: 65, ticks_max: 30, ticks_min: 5, errors: 1 };
        assert_eq!(all.of(IoType::Read), &expected);
        assert_eq!(all.of(IoType::Write), &OpStats::default());
    }
}
