//! Latency histograms: one per kind of I/O and channel, merged by whoever reads them.
//!
//! The buckets are those of SPDK's `histogram_data`: 128 of one tick each, then 128 for each power
//! of two, so that a bucket is never wider than 1/128 of what it holds. A latency finds its bucket
//! with a count of leading zeroes and two shifts.

#![allow(
    unsafe_code,
    reason = "buckets are reached by address, without a look whether they are there"
)]

use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use zerocopy::FromZeros;

/// Buckets per power of two, as a power of two (SPDK's default granularity).
pub(super) const GRANULARITY: u32 = 7;

/// Latencies of this many bits and more are counted in the last bucket: a day at 3 GHz.
const BITS_MAX: u32 = 48;

/// Powers of two that are told apart; the first range holds what is below 128 ticks.
const RANGES: u32 = BITS_MAX - GRANULARITY + 1;

/// Buckets of a histogram.
const BUCKETS: usize = (RANGES as usize) << GRANULARITY;

/// Buckets in memory: as many as any latency needs, and a power of two, so that an index is masked
/// and not compared.
const BUCKETS_THERE: usize = 8192;

type Buckets = [AtomicU64; BUCKETS_THERE];

/// The bucket of a latency, without the limit of [`BITS_MAX`].
#[inline(always)]
fn bucket_of(ticks: u64) -> usize {
    // The lowest bits are set, so that everything below two ranges counts as one of the second.
    let width = 63 - (ticks | ((2 << GRANULARITY) - 1)).leading_zeros();
    let shift = width - GRANULARITY;
    #[expect(clippy::cast_possible_truncation, reason = "at most 64 << 7")]
    let index = (u64::from(shift << GRANULARITY) + (ticks >> shift)) as usize;
    index & (BUCKETS_THERE - 1)
}

/// The first latency of a bucket, and how many it spans.
fn span_of(bucket: usize, granularity: u32) -> (u64, u64) {
    let range = bucket >> granularity;
    let index = (bucket & ((1 << granularity) - 1)) as u64;
    match range.checked_sub(1) {
        None => (index, 1),
        Some(shift) => (((1 << granularity) + index) << shift, 1 << shift),
    }
}

/// Where latencies are counted that nobody asked for: what finds out about the shortest and the
/// longest then need not ask whether there is a histogram. Nobody reads it.
static NOWHERE: Buckets = [const { AtomicU64::new(0) }; BUCKETS_THERE];

/// The histogram of a kind of I/O on a channel. Written by its reactor, read by anyone.
///
/// The memory is taken when the kind is first watched and kept until the channel is closed.
#[derive(Debug)]
pub(super) struct ChannelHistogram {
    own: OnceLock<Box<Buckets>>,
    /// `own` once that is there, else [`NOWHERE`].
    at: AtomicPtr<Buckets>,
}

impl Default for ChannelHistogram {
    fn default() -> Self {
        let nowhere = ptr::from_ref(&NOWHERE).cast_mut();
        Self { own: OnceLock::new(), at: AtomicPtr::new(nowhere) }
    }
}

impl ChannelHistogram {
    /// Counts a latency, on the owner's thread only.
    #[inline(always)]
    pub(super) fn record(&self, ticks: u64) {
        // SAFETY: it is a static or the box of `own`, which stays there as long as this value.
        let buckets = unsafe { &*self.at.load(Ordering::Relaxed) };
        increment(&buckets[bucket_of(ticks)]);
    }

    /// Begins from nothing. On the owner's thread only.
    pub(super) fn begin(&self) {
        if let Some(old) = self.own.get() {
            return old.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
        }
        // Zeroed memory; pages of it that are never counted in are never there.
        let Ok(fresh) = Buckets::new_box_zeroed() else { return };
        let own = self.own.get_or_init(|| fresh);
        self.at.store(ptr::from_ref(&**own).cast_mut(), Ordering::Relaxed);
    }

    /// The counts, if it was ever begun.
    pub(super) fn snapshot(&self) -> Option<LatencyHistogram> {
        let all = self.own.get()?;
        let mut counts: Vec<u64> =
            all.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        counts[BUCKETS - 1] += counts[BUCKETS..].iter().sum::<u64>();
        counts.truncate(BUCKETS);
        Some(LatencyHistogram { granularity: GRANULARITY, counts })
    }
}

#[inline(always)]
fn increment(bucket: &AtomicU64) {
    bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// How often which latency was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyHistogram {
    granularity: u32,
    counts: Vec<u64>,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self { granularity: GRANULARITY, counts: vec![0; BUCKETS] }
    }
}

impl LatencyHistogram {
    /// Counts a latency so many times.
    pub fn count(&mut self, ticks: u64, times: u64) {
        debug_assert_eq!(self.granularity, GRANULARITY);
        self.counts[bucket_of(ticks).min(BUCKETS - 1)] += times;
    }

    /// Adds another histogram of the same granularity.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.granularity, other.granularity);
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// Buckets per power of two, as a power of two.
    #[must_use]
    pub fn granularity(&self) -> u32 {
        self.granularity
    }

    /// Powers of two that are told apart, the first bucket range included.
    #[must_use]
    pub fn ranges(&self) -> u32 {
        u32::try_from(self.counts.len() >> self.granularity).unwrap_or(u32::MAX)
    }

    /// The counts, bucket after bucket.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Latencies that were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The same with fewer buckets per power of two (at least 2), and with latencies below `min`
    /// and above `max` ticks counted as those.
    #[must_use]
    pub fn narrowed(&self, granularity: u32, min: u64, max: u64) -> Self {
        let granularity = granularity.clamp(1, self.granularity);
        let coarser = |ticks: u64| {
            let width = 63 - (ticks | ((2 << granularity) - 1)).leading_zeros();
            let shift = width - granularity;
            let index = u64::from(shift << granularity) + (ticks >> shift);
            usize::try_from(index).unwrap_or(usize::MAX)
        };
        let ranges = (coarser(max) >> granularity) + 1;
        let mut counts = vec![0; ranges << granularity];
        for (bucket, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count != 0) {
            let (first, _) = span_of(bucket, self.granularity);
            let last = counts.len() - 1;
            counts[coarser(first.clamp(min, max.max(min))).min(last)] += count;
        }
        Self { granularity, counts }
    }

    /// The ticks that this share of the latencies, in parts of 100,000, did not exceed; none when
    /// there were no latencies. Exact to the width of a bucket.
    #[must_use]
    pub fn percentile(&self, parts: u32) -> Option<u64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        let wanted = (u128::from(total) * u128::from(parts)).div_ceil(100_000).max(1);
        let mut seen = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += u128::from(count);
            if seen >= wanted {
                let (first, width) = span_of(bucket, self.granularity);
                return Some(first + width - 1);
            }
        }
        None
    }

    /// How many latencies did not exceed each of `bounds`, which are in ticks and ascend. A bucket
    /// that reaches beyond a bound counts for the next one only.
    #[must_use]
    pub fn cumulative(&self, bounds: &[u64]) -> Vec<u64> {
        let mut counts = self.counts.iter().enumerate().peekable();
        let mut seen = 0;
        let up_to = |bound: &u64| {
            while let Some((bucket, count)) = counts.peek() {
                let (first, width) = span_of(*bucket, self.granularity);
                if first + width - 1 > *bound {
                    break;
                }
                seen += **count;
                counts.next();
            }
            seen
        };
        bounds.iter().map(up_to).collect()
    }

    /// The last latency, in ticks, that is counted in the same bucket as this one.
    #[must_use]
    pub fn last_alike(&self, ticks: u64) -> u64 {
        let bucket = bucket_of(ticks).min(BUCKETS - 1);
        let (first, width) = span_of(bucket, GRANULARITY);
        first + width - 1
    }

    /// The sum of all latencies in ticks, from the middles of the buckets.
    #[must_use]
    pub fn sum(&self) -> u128 {
        let of_bucket = |(bucket, &count): (usize, &u64)| {
            let (first, width) = span_of(bucket, self.granularity);
            u128::from(first + width / 2) * u128::from(count)
        };
        self.counts.iter().enumerate().map(of_bucket).sum()
    }

    /// The mean in ticks, from the middles of the buckets; none when there were no latencies.
    #[must_use]
    pub fn mean(&self) -> Option<u64> {
        let mean = self.sum().checked_div(u128::from(self.total()))?;
        u64::try_from(mean).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_hold_their_latencies() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let (first, width) = span_of(bucket, GRANULARITY);
            assert_eq!(first, next, "bucket {bucket}");
            assert_eq!((bucket_of(first), bucket_of(first + width - 1)), (bucket, bucket));
            assert!(width == 1 || first / width >= 128, "no wider than 1/128");
            next = first + width;
        }
        assert_eq!((next, bucket_of(next)), (1 << 48, BUCKETS));
        assert_eq!(of(&[next, u64::MAX]).counts()[BUCKETS - 1], 2);
    }

    fn of(latencies: &[u64]) -> LatencyHistogram {
        let all = ChannelHistogram::default();
        assert!(all.snapshot().is_none());
        all.begin();
        latencies.iter().for_each(|&ticks| all.record(ticks));
        all.snapshot().unwrap()
    }

    #[test]
    fn percentiles_and_the_mean() {
        let mut all = of(&(1..=1000).collect::<Vec<_>>());
        let exact = |found: Option<u64>, wanted: u64| {
            let found = found.unwrap();
            assert!(found >= wanted && found - wanted <= wanted / 128, "{found} for {wanted}");
        };
        exact(all.percentile(50_000), 500);
        exact(all.percentile(99_000), 990);
        exact(all.percentile(99_990), 1000);
        assert_eq!(all.percentile(1), Some(1));
        assert!(all.mean().unwrap().abs_diff(500) < 5);
        all.merge(&of(&[1 << 40]));
        assert_eq!(all.total(), 1001);
        exact(all.percentile(100_000), 1 << 40);
        assert_eq!(LatencyHistogram::default().percentile(50_000), None);
        assert_eq!(LatencyHistogram::default().mean(), None);
    }

    #[test]
    fn what_does_not_exceed_a_bound_is_counted_up() {
        let all = of(&[0, 1, 127, 128, 1000, 1003, 1004, 1 << 40, u64::MAX]);
        // 1000 to 1003 share a bucket, which reaches beyond 1002.
        let bounds = [0, 1, 127, 128, 1002, 1003, 1 << 39, 1 << 41, u64::MAX];
        assert_eq!(all.cumulative(&bounds), [1, 2, 3, 4, 4, 6, 7, 8, 9]);
        assert_eq!(LatencyHistogram::default().cumulative(&[5, 6]), [0, 0]);
        assert_eq!(of(&[1, 2, 126]).sum(), 129);
        assert_eq!([5, 1000, 1003, 1004].map(|ticks| all.last_alike(ticks)), [5, 1003, 1003, 1007]);
    }

    #[test]
    fn a_narrower_histogram_keeps_every_latency() {
        let all = of(&[1, 200, 1000, 100_000, 1 << 40]);
        let narrow = all.narrowed(3, 100, 50_000);
        assert_eq!((narrow.total(), narrow.granularity(), narrow.ranges()), (5, 3, 14));
        let found: Vec<u64> = (narrow.counts().iter().enumerate())
            .filter(|(_, count)| **count != 0)
            .map(|(bucket, _)| span_of(bucket, 3).0)
            .collect();
        assert_eq!(found, [96, 192, 960, 49_152], "the first of each bucket");
        assert_eq!(all.narrowed(7, 0, u64::MAX).total(), 5);
        assert_eq!(all.narrowed(200, 0, 1 << 20).granularity(), 7);
    }
}
