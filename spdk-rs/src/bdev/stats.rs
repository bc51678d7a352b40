//! Statistics of a device: kept per core with plain stores, merged by whoever reads them.

use super::histogram::{ChannelHistogram, LatencyHistogram};
use super::{IoType, IoTypes};
use crate::reactor::Counter;

/// The counters of one kind of I/O on one core: a cache line that every I/O touches, and one for
/// latencies that are looked at closer.
#[derive(Debug)]
#[repr(C, align(64))]
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
    _next_line: [u64; 2],
    /// The shortest; `u64::MAX` as long as there was none.
    ticks_min: Counter,
    /// The longest, as what it is above the shortest.
    ticks_range: Counter,
    /// Not 0 while every latency is counted in the histogram.
    watched: Counter,
    histogram: ChannelHistogram,
}

const _: () = assert!(size_of::<OpCounters>() == 128, "the kind is a shift away");
const _: () = assert!(std::mem::offset_of!(OpCounters, ticks_min) == 64, "the second line");

impl OpCounters {
    fn new() -> Self {
        let op = Self {
            ops: Counter::default(),
            blocks: Counter::default(),
            ticks: Counter::default(),
            usual_min: Counter::default(),
            usual_range: Counter::default(),
            errors: Counter::default(),
            _next_line: [0; 2],
            ticks_min: Counter::default(),
            ticks_range: Counter::default(),
            watched: Counter::default(),
            histogram: ChannelHistogram::default(),
        };
        op.forget_extremes();
        op
    }

    /// Forgets the shortest and the longest latency.
    fn forget_extremes(&self) {
        self.ticks_min.set(u64::MAX);
        self.ticks_range.set(0);
        self.set_usual();
    }

    /// Has every latency looked at, or only those beyond the extremes.
    fn set_usual(&self) {
        let (min, range) = match self.watched() {
            true => (u64::MAX, 0),
            false => (self.ticks_min.get(), self.ticks_range.get()),
        };
        self.usual_min.set(min);
        self.usual_range.set(range);
    }

    fn watched(&self) -> bool {
        self.watched.get() != 0
    }

    /// The shortest and the longest latency, if there was one.
    fn extremes(&self) -> Option<(u64, u64)> {
        let min = self.ticks_min.get();
        (min != u64::MAX).then(|| (min, min + self.ticks_range.get()))
    }

    /// Counts a latency.
    #[inline(always)]
    fn took(&self, ticks: u64) {
        self.ticks.add(ticks);
        if ticks.wrapping_sub(self.usual_min.get()) > self.usual_range.get() {
            self.histogram.record(ticks);
            if ticks.wrapping_sub(self.ticks_min.get()) > self.ticks_range.get() {
                self.set_extremes(ticks);
            }
        }
    }

    /// A latency is the shortest or the longest.
    #[cold]
    #[inline(never)]
    fn set_extremes(&self, ticks: u64) {
        let (min, max) = self.extremes().unwrap_or((ticks, ticks));
        let (min, max) = (min.min(ticks), max.max(ticks));
        self.ticks_min.set(min);
        self.ticks_range.set(max - min);
        self.set_usual();
    }

    fn reset(&self, mode: ResetMode) {
        if mode == ResetMode::Errors {
            // What is shown as successful is the difference.
            self.ops.set(self.ops.get() - self.errors.get());
            self.errors.set(0);
        }
        if matches!(mode, ResetMode::MaxMin | ResetMode::All) {
            self.forget_extremes();
        }
        if mode == ResetMode::All {
            for counter in [&self.ops, &self.blocks, &self.ticks, &self.errors] {
                counter.set(0);
            }
        }
    }

    fn snapshot(&self, block_len: u64) -> OpStats {
        let extremes = self.extremes();
        let (ticks_min, ticks_max) = extremes.unwrap_or_default();
        OpStats {
            ops: self.ops.get(),
            bytes: self.blocks.get() * block_len,
            ticks: self.ticks.get(),
            ticks_max,
            ticks_min,
            has_extremes: extremes.is_some(),
            errors: self.errors.get(),
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
            block_len: block_len.into(),
            queue_depth: Counter::default(),
        }
    }

    /// Counts an operation that succeeded. The latency is last, so that nothing is kept across what
    /// a rare one asks for.
    #[inline(always)]
    pub(crate) fn succeeded(&self, kind: IoType, blocks: u64, ticks: u64) {
        let op = &self.ops[kind as usize];
        op.ops.add(1);
        op.blocks.add(blocks);
        op.took(ticks);
    }

    /// Counts an operation that failed.
    pub(crate) fn failed(&self, kind: IoType, ticks: u64) {
        let op = &self.ops[kind as usize];
        op.ops.add(1);
        op.errors.add(1);
        op.took(ticks);
    }

    /// Starts histograms of these kinds afresh, or ends them all. On the owner's thread only.
    pub(super) fn watch(&self, kinds: IoTypes) {
        for kind in IoType::ALL {
            let op = &self.ops[kind as usize];
            if kinds.contains(kind) {
                op.histogram.begin();
            }
            op.watched.set(kinds.contains(kind).into());
            op.set_usual();
        }
    }

    /// The histogram of a kind, when there is one.
    pub(super) fn histogram(&self, kind: IoType) -> Option<LatencyHistogram> {
        let op = &self.ops[kind as usize];
        op.histogram.snapshot().filter(|_| op.watched())
    }

    /// Sets counters back. On the owner's thread only.
    pub(super) fn reset(&self, mode: ResetMode) {
        self.ops.iter().for_each(|op| op.reset(mode));
    }

    /// The present values.
    #[must_use]
    pub fn snapshot(&self) -> IoStats {
        let ops = std::array::from_fn(|kind| self.ops[kind].snapshot(self.block_len));
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
    use crate::NvmeStatus;

    fn record(
        counters: &ChannelCounters,
        kind: IoType,
        blocks: u64,
        ticks: u64,
        status: NvmeStatus,
    ) {
        if status.is_success() {
            counters.succeeded(kind, blocks, ticks);
        } else {
            counters.failed(kind, ticks);
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
