//! Latencies in constant memory: a log-linear histogram.
//!
//! Invariants:
//!
//! - Every `u64` has a bucket; recording cannot fail, saturate or panic.
//! - A bucket is at most 1/64 of its lower bound wide, and exact below 128. A quantile is reported
//!   as the middle of its bucket (never above the largest value), so it is off by at most 1/128.
//! - Merging histograms gives what one histogram of all values would hold.
//!
//! The unit is the caller's: the load generator records ticks of the time-stamp counter and turns
//! them into nanoseconds once, in the report.
//!
//! Written here, and not taken from the `hdrhistogram` crate, because the range is fixed: no
//! resizing, no `Result` and no bounds check leave 16 instructions for a record with sum and
//! maximum, where the crate (resizing off, which is its shortest way) takes 48 without a sum.

/// Bits of a value that are kept below its leading one.
const PRECISION_BITS: u32 = 6;

/// The number of buckets. 3,776 would hold every `u64`; the next power of two lets an index be
/// masked, so the compiler needs no bounds check.
const BUCKETS: usize = 4096;

/// A histogram of `u64` values with a relative error below 1/64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    sum: u64,
    max: u64,
}

/// The index of a value's bucket: the value itself below 128, else the position of the leading one
/// and the six bits after it.
#[inline]
fn index(value: u64) -> usize {
    let shift = (value | ((2 << PRECISION_BITS) - 1)).ilog2() - PRECISION_BITS;
    // At most 57 * 64 + 127, so nothing is lost in the cast.
    #[expect(clippy::cast_possible_truncation, reason = "the value is below 4096")]
    let index = ((u64::from(shift) << PRECISION_BITS) + (value >> shift)) as usize;
    index & (BUCKETS - 1)
}

/// The smallest and the largest value of a bucket.
fn bounds(index: usize) -> (u64, u64) {
    let index = index as u64;
    let shift = (index >> PRECISION_BITS).saturating_sub(1);
    let low = (index - (shift << PRECISION_BITS)) << shift;
    (low, low + ((1 << shift) - 1))
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty histogram, 32 KiB on the heap. Pages that no value falls into are never touched.
    ///
    /// # Panics
    ///
    /// Never: the allocation has the length of the array it becomes.
    #[must_use]
    pub fn new() -> Self {
        let counts = vec![0; BUCKETS].into_boxed_slice();
        let counts = counts.try_into().expect("the slice has BUCKETS elements");
        Self { counts, sum: 0, max: 0 }
    }

    /// Records one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        let count = &mut self.counts[index(value)];
        *count = count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(value);
        // A branch that is rarely taken, and not a conditional move with its store.
        if value > self.max {
            self.max = value;
        }
    }

    /// Adds all values of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// The number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The largest value, exact; 0 when there is none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The mean, exact as long as the sum of all values fits 64 bits (195 years of accumulated
    /// latency at 3 GHz); 0 when there is no value.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum as f64 / count as f64,
        }
    }

    /// The value at or below which so many thousandths of all values lie (500 is the median, 999
    /// the 99.9th percentile), off by at most 1/128; 0 when there is no value.
    #[must_use]
    pub fn per_mille(&self, per_mille: u16) -> u64 {
        let total = u128::from(self.count());
        let rank = (total * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut seen = 0_u128;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                let (low, high) = bounds(index);
                return (low + (high - low) / 2).min(self.max);
            }
        }
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    #[test]
    fn buckets_tile_the_whole_range() {
        let last = index(u64::MAX);
        let mut next = 0;
        for bucket in 0..=last {
            let (low, high) = bounds(bucket);
            assert_eq!(low, next, "bucket {bucket} starts where the one before ends");
            assert_eq!((index(low), index(high)), (bucket, bucket));
            assert!(high - low <= low / 64, "bucket {bucket}: {low}..={high}");
            next = high.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last bucket ends at u64::MAX");
    }

    #[test]
    fn empty() {
        let histogram = Histogram::new();
        assert_eq!((histogram.count(), histogram.max(), histogram.per_mille(500)), (0, 0, 0));
        assert_eq!(histogram.mean().to_bits(), 0);
    }

    #[test]
    fn small_values_are_exact() {
        let histogram = of(&(1..=100).collect::<Vec<_>>());
        for (per_mille, value) in [(0, 1), (70, 7), (500, 50), (990, 99), (999, 100), (1000, 100)] {
            assert_eq!(histogram.per_mille(per_mille), value, "{per_mille}");
        }
        assert!((histogram.mean() - 50.5).abs() < 1e-9);
    }

    /// Values of every magnitude, not only large ones.
    fn values() -> impl Strategy<Value = Vec<u64>> {
        let value = (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift);
        proptest::collection::vec(value, 1..300)
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values(mut values in values(), per_mille in 0_u16..=1000) {
            let histogram = of(&values);
            values.sort_unstable();
            let len = values.len();
            let rank = (usize::from(per_mille) * len).div_ceil(1000).max(1);
            let exact = values[rank - 1];
            let found = histogram.per_mille(per_mille);
            prop_assert!(found.abs_diff(exact) <= exact / 128 + 1, "{} for {}", found, exact);
            prop_assert_eq!(histogram.max(), values[len - 1]);
            prop_assert_eq!(histogram.count(), len as u64);
        }

        #[test]
        fn merging_equals_recording_all(one in values(), two in values()) {
            let mut merged = of(&one);
            merged.merge(&of(&two));
            prop_assert_eq!(merged, of(&[one, two].concat()));
        }
    }
}
