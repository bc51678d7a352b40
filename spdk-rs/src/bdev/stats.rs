//! Statistics of a device: kept per core with plain stores, merged by whoever reads them.

use super::histogram::{Histograms, LatencyHistogram};
use super::{IoType, IoTypes};
use crate::NvmeStatus;
use crate::reactor::Counter;

/// The counters of one kind of I/O on one core. One cache line.
#[derive(Debug)]
#[repr(align(64))]
struct OpCounters {
    ops: Counter,
    /// Blocks of the successful ones; they become bytes when somebody reads them.
    blocks: Counter,
    ticks: Counter,
    /// A latency from `usual_min` to `usual_range` ticks above it asks for nothing but to be added
    /// up: it is neither the shortest nor the longest. While every latency is wanted, and as long as
    /// there was none, `usual_min` is `u64::MAX`, and none is usual.
    usual_min: Counter,
    usual_range: Counter,
    errors: Counter,
    /// The shortest latency; `u64::MAX` as long as there was none.
    ticks_min: Counter,
    ticks_max: Counter,
}

impl OpCounters {
    fn new() -> Self {
        let op = Self {
            ops: Counter::default(),
            blocks: Counter::default(),
            ticks: Counter::default(),
            usual_min: Counter::default(),
            usual_range: Counter::default(),
            errors: Counter::default(),
            ticks_min: Counter::default(),
            ticks_max: Counter::default(),
        };
        op.reset(ResetMode::MaxMin);
        op
    }

    /// Notes the latency as the shortest or longest.
    #[cold]
    #[inline(never)]
    fn widen(&self, ticks: u64, watched: bool) {
        self.ticks_min.set(self.ticks_min.get().min(ticks));
        self.ticks_max.set(self.ticks_max.get().max(ticks));
        self.set_usual(watched);
    }

    /// Has every latency looked at, or only those beyond the extremes.
    fn set_usual(&self, watched: bool) {
        let (min, max) = (self.ticks_min.get(), self.ticks_max.get());
        let none = watched || min == u64::MAX;
        self.usual_min.set(if none { u64::MAX } else { min });
        self.usual_range.set(if none { 0 } else { max - min });
    }

    #[cold]
    #[inline(never)]
    fn failed(&self) {
        self.errors.add(1);
    }

    /// On the owner's thread only.
    fn reset(&self, mode: ResetMode) {
        match mode {
            ResetMode::None => {}
            ResetMode::Errors => {
                // What is shown as successful is the difference.
                self.ops.set(self.ops.get() - self.errors.get());
                self.errors.set(0);
            }
            ResetMode::MaxMin => {
                self.ticks_min.set(u64::MAX);
                self.ticks_max.set(0);
                self.usual_min.set(u64::MAX);
                self.usual_range.set(0);
            }
            ResetMode::All => {
                self.reset(ResetMode::MaxMin);
                for counter in [&self.ops, &self.blocks, &self.ticks, &self.errors] {
                    counter.set(0);
                }
            }
        }
    }
}

/// What is set back when statistics are (SPDK's modes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetMode {
    /// Everything.
    All,
    /// The shortest and longest latencies.
    MaxMin,
    /// The counts of errors.
    Errors,
    /// Nothing.
    None,
}

/// The counters of one channel. Written by its reactor, read by anyone.
#[derive(Debug)]
pub struct ChannelCounters {
    ops: [OpCounters; IoType::COUNT],
    block_len: u64,
    histograms: Histograms,
    /// I/Os that were in flight when it was last looked at (see [`super::sampling`]).
    pub(super) queue_depth: Counter,
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
    /// Whether there was a latency since the extremes were last set back.
    pub has_extremes: bool,
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
        Self {
            ops: std::array::from_fn(|_| OpCounters::new()),
            block_len: block_len.into(),
            histograms: Histograms::default(),
            queue_depth: Counter::default(),
        }
    }

    /// Counts a completed operation; true when it failed.
    #[inline(always)]
    pub(super) fn record(&self, kind: IoType, blocks: u64, ticks: u64, status: NvmeStatus) -> bool {
        let op = &self.ops[kind as usize];
        op.ops.add(1);
        op.ticks.add(ticks);
        if ticks.wrapping_sub(op.usual_min.get()) > op.usual_range.get() {
            self.unusual(kind, ticks);
        }
        if !status.is_success() {
            op.failed();
            return true;
        }
        op.blocks.add(blocks);
        false
    }

    /// A latency that is more than to be added up: for a histogram, or as the shortest or longest.
    #[cold]
    #[inline(never)]
    fn unusual(&self, kind: IoType, ticks: u64) {
        self.histograms.record(kind, ticks);
        let op = &self.ops[kind as usize];
        if ticks < op.ticks_min.get() || ticks > op.ticks_max.get() {
            op.widen(ticks, self.histograms.watches(kind));
        }
    }

    /// Starts histograms of these kinds afresh, or ends them all. On the owner's thread only.
    pub(super) fn watch(&self, kinds: IoTypes) {
        self.histograms.watch(kinds);
        for kind in IoType::ALL {
            self.ops[kind as usize].set_usual(kinds.contains(kind));
        }
    }

    /// The histogram of a kind, when there is one.
    pub(super) fn histogram(&self, kind: IoType) -> Option<LatencyHistogram> {
        self.histograms.snapshot(kind)
    }

    /// Sets counters back. On the owner's thread only.
    pub(super) fn reset(&self, mode: ResetMode) {
        self.ops.iter().for_each(|op| op.reset(mode));
    }

    /// The present values.
    #[must_use]
    pub fn snapshot(&self) -> IoStats {
        let ops = std::array::from_fn(|kind| {
            let op = &self.ops[kind];
            let min = op.ticks_min.get();
            let has_extremes = min != u64::MAX;
            OpStats {
                ops: op.ops.get(),
                bytes: op.blocks.get() * self.block_len,
                ticks: op.ticks.get(),
                ticks_max: if has_extremes { op.ticks_max.get() } else { 0 },
                ticks_min: if has_extremes { min } else { 0 },
                has_extremes,
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
            if theirs.has_extremes {
                mine.ticks_min = match mine.has_extremes {
                    false => theirs.ticks_min,
                    true => mine.ticks_min.min(theirs.ticks_min),
                };
                mine.ticks_max = mine.ticks_max.max(theirs.ticks_max);
                mine.has_extremes = true;
            }
            mine.ops += theirs.ops;
            mine.bytes += theirs.bytes;
            mine.ticks += theirs.ticks;
            mine.errors += theirs.errors;
        }
    }

    /// Sets figures back.
    pub(super) fn reset(&mut self, mode: ResetMode) {
        for op in &mut self.ops {
            match mode {
                ResetMode::None => {}
                ResetMode::All => *op = OpStats::default(),
                ResetMode::Errors => {
                    op.ops -= op.errors;
                    op.errors = 0;
                }
                ResetMode::MaxMin => {
                    (op.ticks_min, op.ticks_max, op.has_extremes) = (0, 0, false);
                }
            }
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
        let expected = OpStats {
            ops: 4,
            bytes: 8704,
            ticks: 65,
            ticks_max: 30,
            ticks_min: 5,
            has_extremes: true,
            errors: 1,
        };
        assert_eq!(all.of(IoType::Read), &expected);
        assert_eq!(all.of(IoType::Write), &OpStats::default());
    }

    #[test]
    fn figures_are_set_back_by_mode() {
        let counters = ChannelCounters::new(512);
        for mode in [ResetMode::None, ResetMode::Errors, ResetMode::MaxMin, ResetMode::All] {
            counters.reset(ResetMode::All);
            counters.record(IoType::Read, 8, 10, NvmeStatus::SUCCESS);
            counters.record(IoType::Read, 8, 30, NvmeStatus::INTERNAL_ERROR);
            counters.reset(mode);
            let mut retired = counters.snapshot();
            retired.reset(mode);
            assert_eq!(retired, counters.snapshot());
            let shown = |op: &OpStats| (op.ops, op.bytes, op.ticks, op.errors, op.ticks_min);
            let wanted = match mode {
                ResetMode::None => (2, 4096, 40, 1, 10),
                ResetMode::Errors => (1, 4096, 40, 0, 10),
                ResetMode::MaxMin => (2, 4096, 40, 1, 0),
                ResetMode::All => (0, 0, 0, 0, 0),
            };
            assert_eq!(shown(counters.snapshot().of(IoType::Read)), wanted, "{mode:?}");
            // A latency in between is the shortest and the longest once they are set back.
            counters.record(IoType::Read, 8, 20, NvmeStatus::SUCCESS);
            let op = *counters.snapshot().of(IoType::Read);
            let fresh = matches!(mode, ResetMode::MaxMin | ResetMode::All);
            let extremes = if fresh { (20, 20) } else { (10, 30) };
            assert_eq!((op.ticks_min, op.ticks_max), extremes, "{mode:?}");
        }
    }

    #[test]
    fn histograms_take_every_latency_and_leave_the_extremes_right() {
        let counters = ChannelCounters::new(512);
        let read = |ticks| counters.record(IoType::Read, 1, ticks, NvmeStatus::SUCCESS);
        read(50);
        read(100);
        assert!(counters.histogram(IoType::Read).is_none());
        counters.watch(IoTypes::of(&[IoType::Read]));
        for ticks in [70, 70, 100, 3, 200] {
            read(ticks);
        }
        counters.record(IoType::Write, 1, 9, NvmeStatus::SUCCESS);
        assert!(counters.histogram(IoType::Write).is_none(), "only reads were asked for");
        assert_eq!(counters.histogram(IoType::Read).unwrap().total(), 5);
        counters.watch(IoTypes::default());
        assert!(counters.histogram(IoType::Read).is_none());
        read(1);
        let op = *counters.snapshot().of(IoType::Read);
        assert_eq!((op.ops, op.ticks_min, op.ticks_max), (8, 1, 200));
        counters.watch(IoTypes::of(&[IoType::Read]));
        assert_eq!(counters.histogram(IoType::Read).unwrap().total(), 0, "it begins afresh");
    }
}
