//! Statistics of a device: kept per core with plain stores, merged by whoever reads them.

use super::histogram::{ChannelHistogram, LatencyHistogram};
use super::{IoType, IoTypes};
use crate::NvmeStatus;
use crate::reactor::Counter;

/// The counters of one kind of I/O on one core that every I/O touches: one cache line.
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
}

const _: () = assert!(size_of::<OpCounters>() == 64, "the kind is a shift away");

/// What is known of the latencies of one kind of I/O, beside their sum.
#[derive(Debug)]
struct OpLatencies {
    /// The shortest; `u64::MAX` as long as there was none.
    ticks_min: Counter,
    ticks_max: Counter,
    histogram: ChannelHistogram,
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
        };
        op.usual_min.set(u64::MAX);
        op
    }

    /// Has every latency looked at, or only those beyond the extremes.
    fn set_usual(&self, latencies: &OpLatencies, watched: bool) {
        let (min, max) = (latencies.ticks_min.get(), latencies.ticks_max.get());
        let none = watched || min == u64::MAX;
        self.usual_min.set(if none { u64::MAX } else { min });
        self.usual_range.set(if none { 0 } else { max - min });
    }
}

impl OpLatencies {
    fn new() -> Self {
        let latencies = Self {
            ticks_min: Counter::default(),
            ticks_max: Counter::default(),
            histogram: ChannelHistogram::default(),
        };
        latencies.forget();
        latencies
    }

    /// Forgets the shortest and the longest.
    fn forget(&self) {
        self.ticks_min.set(u64::MAX);
        self.ticks_max.set(0);
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
    latencies: [OpLatencies; IoType::COUNT],
    block_len: u64,
    /// The kinds whose latencies are counted in histograms, a bit each.
    watched: Counter,
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
    pub(crate) fn new(block_len: u32) -> Self {
        Self {
            ops: std::array::from_fn(|_| OpCounters::new()),
            latencies: std::array::from_fn(|_| OpLatencies::new()),
            block_len: block_len.into(),
            watched: Counter::default(),
            queue_depth: Counter::default(),
        }
    }

    /// Counts a completed operation; true when it failed, which is then to be counted apart: one
    /// call out of the fast path does all that a failure needs.
    #[inline(always)]
    pub(crate) fn record(&self, kind: IoType, blocks: u64, ticks: u64, status: NvmeStatus) -> bool {
        let op = &self.ops[kind as usize];
        op.ops.add(1);
        op.ticks.add(ticks);
        if ticks.wrapping_sub(op.usual_min.get()) > op.usual_range.get() {
            self.unusual(kind, ticks);
        }
        if !status.is_success() {
            return true;
        }
        op.blocks.add(blocks);
        false
    }

    /// Counts an operation as failed that [`ChannelCounters::record`] has found to be.
    pub(crate) fn failed(&self, kind: IoType) {
        self.ops[kind as usize].errors.add(1);
    }

    /// A latency for a histogram, or the shortest or longest.
    #[cold]
    #[inline(never)]
    fn unusual(&self, kind: IoType, ticks: u64) {
        let latencies = &self.latencies[kind as usize];
        latencies.histogram.record(ticks);
        let (min, max) = (latencies.ticks_min.get(), latencies.ticks_max.get());
        if ticks < min || ticks > max {
            latencies.ticks_min.set(min.min(ticks));
            latencies.ticks_max.set(max.max(ticks));
            self.ops[kind as usize].set_usual(latencies, self.watches(kind));
        }
    }

    fn watches(&self, kind: IoType) -> bool {
        self.watched.get() >> kind as u32 & 1 == 1
    }

    /// Starts histograms of these kinds afresh, or ends them all. On the owner's thread only.
    pub(super) fn watch(&self, kinds: IoTypes) {
        kinds.iter().for_each(|kind| self.latencies[kind as usize].histogram.begin());
        self.watched.set(kinds.iter().map(|kind| 1 << kind as u32).sum());
        for kind in IoType::ALL {
            let latencies = &self.latencies[kind as usize];
            self.ops[kind as usize].set_usual(latencies, kinds.contains(kind));
        }
    }

    /// The histogram of a kind, when there is one.
    pub(super) fn histogram(&self, kind: IoType) -> Option<LatencyHistogram> {
        self.latencies[kind as usize].histogram.snapshot().filter(|_| self.watches(kind))
    }

    /// Sets counters back. On the owner's thread only.
    pub(super) fn reset(&self, mode: ResetMode) {
        for kind in IoType::ALL {
            self.reset_kind(kind, mode);
        }
    }

    fn reset_kind(&self, kind: IoType, mode: ResetMode) {
        let (op, latencies) = (&self.ops[kind as usize], &self.latencies[kind as usize]);
        if mode == ResetMode::Errors {
            // What is shown as successful is the difference.
            op.ops.set(op.ops.get() - op.errors.get());
            op.errors.set(0);
        }
        if matches!(mode, ResetMode::MaxMin | ResetMode::All) {
            latencies.forget();
            op.set_usual(latencies, self.watches(kind));
        }
        if mode == ResetMode::All {
            for counter in [&op.ops, &op.blocks, &op.ticks, &op.errors] {
                counter.set(0);
            }
        }
    }

    /// The present values.
    #[must_use]
    pub fn snapshot(&self) -> IoStats {
        let ops = std::array::from_fn(|kind| {
            let op = &self.ops[kind];
            let latencies = &self.latencies[kind];
            let min = latencies.ticks_min.get();
            let has_extremes = min != u64::MAX;
            OpStats {
                ops: op.ops.get(),
                bytes: op.blocks.get() * self.block_len,
                ticks: op.ticks.get(),
                ticks_max: if has_extremes { latencies.ticks_max.get() } else { 0 },
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

    fn record(
        counters: &ChannelCounters,
        kind: IoType,
        blocks: u64,
        ticks: u64,
        status: NvmeStatus,
    ) {
        if counters.record(kind, blocks, ticks, status) {
            counters.failed(kind);
        }
    }

    #[test]
    fn a_channel_counts_and_merges() {
        let one = ChannelCounters::new(512);
        record(&one, IoType::Read, 8, 10, NvmeStatus::SUCCESS);
        record(&one, IoType::Read, 8, 30, NvmeStatus::SUCCESS);
        record(&one, IoType::Read, 8, 20, NvmeStatus::INTERNAL_ERROR);
        let two = ChannelCounters::new(512);
        record(&two, IoType::Read, 1, 5, NvmeStatus::SUCCESS);
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
            record(&counters, IoType::Read, 8, 10, NvmeStatus::SUCCESS);
            record(&counters, IoType::Read, 8, 30, NvmeStatus::INTERNAL_ERROR);
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
            record(&counters, IoType::Read, 8, 20, NvmeStatus::SUCCESS);
            let op = *counters.snapshot().of(IoType::Read);
            let fresh = matches!(mode, ResetMode::MaxMin | ResetMode::All);
            let extremes = if fresh { (20, 20) } else { (10, 30) };
            assert_eq!((op.ticks_min, op.ticks_max), extremes, "{mode:?}");
        }
    }

    #[test]
    fn histograms_take_every_latency_and_leave_the_extremes_right() {
        let counters = ChannelCounters::new(512);
        let read = |ticks| record(&counters, IoType::Read, 1, ticks, NvmeStatus::SUCCESS);
        read(50);
        read(100);
        assert!(counters.histogram(IoType::Read).is_none());
        counters.watch(IoTypes::of(&[IoType::Read]));
        for ticks in [70, 70, 100, 3, 200] {
            read(ticks);
        }
        record(&counters, IoType::Write, 1, 9, NvmeStatus::SUCCESS);
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
