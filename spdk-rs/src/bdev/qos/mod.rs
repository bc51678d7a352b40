//! Limits on the rate of a device's I/O (quality of service), for all cores together.
//!
//! Invariants:
//! * a device without limits pays nothing: the flag of limits is one of those that are tested
//!   anyway;
//! * what waits for a limit waits in order of its arrival, reads and writes apart, so that a limit
//!   of one direction does not hold the other;
//! * what waits was not given to the driver: a reset leaves it waiting, a removal fails it, and a
//!   change of the limits takes it along.

mod bucket;
#[cfg(test)]
mod tests;
mod throttle;

use std::rc::Rc;
use std::sync::Arc;

use bucket::SharedBucket;
pub(super) use throttle::Throttle;

use super::channel::{Channel, Gate};
use super::{Bdev, BdevIo, IoFlags};

/// The kinds of limit.
pub(super) const LIMITS: usize = 4;

/// What a device may do per second. 0 is no limit.
///
/// Reads, writes, compares, compare-and-writes, zone appends and NVMe I/O commands count; what
/// carries no data does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QosLimits {
    /// I/Os per second, reads and writes together.
    pub rw_ios_per_sec: u64,
    /// Bytes per second, reads and writes together.
    pub rw_bytes_per_sec: u64,
    /// Bytes read per second.
    pub r_bytes_per_sec: u64,
    /// Bytes written per second.
    pub w_bytes_per_sec: u64,
}

impl QosLimits {
    fn rates(&self) -> [u64; LIMITS] {
        [self.rw_ios_per_sec, self.rw_bytes_per_sec, self.r_bytes_per_sec, self.w_bytes_per_sec]
    }
}

/// The limits of a device and how far they are used up. Shared by its channels.
#[derive(Debug)]
pub(super) struct SharedLimits {
    settings: QosLimits,
    buckets: [Option<SharedBucket>; LIMITS],
}

impl Bdev {
    /// Limits the device's I/O, or lifts the limits. What waits now goes on waiting for the new
    /// limits, in order. When this returns, every core heeds them.
    pub async fn set_qos_limits(self: &Arc<Self>, settings: QosLimits) {
        let shared = (settings != QosLimits::default()).then(|| {
            let buckets = settings.rates().map(SharedBucket::new);
            Arc::new(SharedLimits { settings, buckets })
        });
        self.lock().qos = shared;
        // Asked for there, so that of two changes the later one stays on every core.
        self.on_channels(|channel| channel.set_limits(channel.bdev().shared_limits())).await;
    }

    /// The limits of the device's I/O.
    #[must_use]
    pub fn qos_limits(&self) -> QosLimits {
        self.lock().qos.as_ref().map(|shared| shared.settings).unwrap_or_default()
    }

    pub(super) fn shared_limits(&self) -> Option<Arc<SharedLimits>> {
        self.lock().qos.clone()
    }
}

impl Channel {
    /// Has the channel heed these limits from now on.
    pub(super) fn set_limits(&self, shared: Option<Arc<SharedLimits>>) {
        let limited = shared.is_some();
        let fresh = shared.map(|shared| Throttle::new(shared, self.reactor().clock().hz()));
        let fresh = fresh.map(Rc::new);
        let old = self.throttle.replace(fresh.clone());
        self.gate.set(self.gate.get() - Gate::LIMITED);
        if limited {
            self.gate.set(self.gate.get() | Gate::LIMITED);
        }
        let waiting = old.map(|old| old.take_all()).unwrap_or_default();
        match fresh {
            Some(fresh) => {
                fresh.append(waiting);
                throttle::start(self, &fresh);
            }
            None => self.go_on(waiting),
        }
    }

    /// Passes an I/O on, or has it wait for the limits.
    #[cold]
    pub(super) fn limit(&self, io: BdevIo) {
        let throttle = self.throttle.borrow().clone();
        let passed = match &throttle {
            Some(throttle) => throttle.admit(io, self.reactor().now()),
            None => Some(io),
        };
        if let Some(io) = passed {
            self.pass_limits(io);
        }
    }

    /// The way of an I/O that no limit holds any more.
    pub(super) fn pass_limits(&self, io: BdevIo) {
        if self.gate.get().contains(Gate::INTERCEPTED) && !io.flags().contains(IoFlags::INTERNAL) {
            self.intercept(io);
        } else {
            self.route(io);
        }
    }

    /// I/Os that wait for the limits.
    pub(super) fn limited(&self) -> usize {
        self.throttle.borrow().as_ref().map_or(0, |throttle| throttle.len())
    }

    /// Has what waits for the limits look at them again.
    pub(super) fn wake_limited(&self) {
        if let Some(throttle) = &*self.throttle.borrow() {
            throttle.wake();
        }
    }

    /// Sends what waits for the limits on its way once more, in order: after a removal it fails.
    pub(super) fn resubmit_limited(&self) {
        let throttle = self.throttle.borrow().clone();
        if let Some(throttle) = throttle {
            self.go_on(throttle.take_all());
        }
    }

    fn go_on(&self, waiting: Vec<BdevIo>) {
        let now = self.reactor().clock().ticks();
        for mut io in waiting {
            io.waited_until(now);
            self.submit_slow(io);
        }
    }
}
