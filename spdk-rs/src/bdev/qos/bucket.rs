//! A rate that all cores of a device share, as one moment in time.
//!
//! The bucket knows the tick up to which its rate is given away. Who needs tokens moves that tick
//! ahead by what they cost and may use them from where it stood. A core thus fetches a chunk with
//! one atomic exchange, and cores that want more than there is are served in the order in which
//! they asked. What one core does not ask for is there for the others: that is all the borrowing
//! there has to be.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a bucket that was not used fills up, as a part of a second. It covers a reactor that
/// slept or was not scheduled for a while, without being a burst to speak of.
const BURST_PARTS: u64 = 100;

/// How much a core fetches at a time, as a part of what a second gives. A chunk that one core keeps
/// is what it may be ahead of the others.
const CHUNK_PARTS: u64 = 4000;

/// A shared token bucket.
#[derive(Debug)]
pub(super) struct SharedBucket {
    /// Tokens per second, not 0.
    rate: u64,
    /// The tick up to which tokens are given away; 0 before the first.
    next: AtomicU64,
}

impl SharedBucket {
    /// A bucket of a rate; none for a rate of 0, which is no limit.
    pub(super) fn new(rate: u64) -> Option<Self> {
        (rate != 0).then(|| Self { rate, next: AtomicU64::new(0) })
    }

    /// Tokens that are fetched at a time at the least.
    pub(super) fn chunk(&self) -> u64 {
        (self.rate / CHUNK_PARTS).max(1)
    }

    /// Takes tokens; returns the tick from which on they may be used, on a clock of `hz`.
    pub(super) fn reserve(&self, now: u64, hz: u64, tokens: u64) -> u64 {
        let cost = u128::from(tokens) * u128::from(hz) / u128::from(self.rate);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let start = match next {
                // A new bucket is empty, so that changing a limit all the time gains nothing.
                0 => now,
                next => next.max(now.saturating_sub(hz / BURST_PARTS)),
            };
            let after = start.saturating_add(cost);
            match self.next.compare_exchange_weak(next, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return start,
                Err(changed) => next = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 1_000_000_000;

    #[test]
    fn tokens_come_at_the_rate_in_the_order_of_asking() {
        let bucket = SharedBucket::new(1000).unwrap();
        assert_eq!(bucket.chunk(), 1);
        assert_eq!(bucket.reserve(5 * HZ, HZ, 1), 5 * HZ);
        assert_eq!(bucket.reserve(5 * HZ, HZ, 2), 5 * HZ + HZ / 1000);
        assert_eq!(bucket.reserve(5 * HZ, HZ, 1), 5 * HZ + 3 * HZ / 1000);
    }

    #[test]
    fn a_bucket_that_rested_is_a_hundredth_of_a_second_ahead() {
        let bucket = SharedBucket::new(1000).unwrap();
        bucket.reserve(HZ, HZ, 1);
        assert_eq!(bucket.reserve(9 * HZ, HZ, 1), 9 * HZ - HZ / 100);
        assert!(SharedBucket::new(0).is_none());
    }
}
