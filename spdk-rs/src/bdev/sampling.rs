//! Queue depth: how much is in flight, looked at now and then.
//!
//! Each channel publishes what it has in flight once per period. The first channel of the device
//! adds up what all of them have published; what it knows of the others is thus up to a period old.
//! While sampling is on, the device's reactors wake up once per period.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Bdev;
use super::channel::Channel;
use super::stats::ChannelCounters;
use crate::env::clock::ticks_to_ns;
use crate::reactor::Progress;

/// The samples of a device.
#[derive(Debug)]
pub(super) struct Sampling {
    period: Duration,
    depth: u64,
    /// Ticks with I/O in flight, and ticks times I/Os in flight.
    busy_ticks: u64,
    weighted_ticks: u64,
    last: Option<u64>,
    hz: u64,
}

/// How much a device had in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Time between two looks.
    pub period: Duration,
    /// I/Os in flight at the last look.
    pub depth: u64,
    /// Time in which there was I/O in flight.
    pub io_time: Duration,
    /// The same, each moment counted as often as there were I/Os: divided by the time in between,
    /// the growth of this is the mean depth.
    pub weighted_io_time: Duration,
}

impl Bdev {
    /// Has the queue depth looked at once per period from now on, beginning with nothing; not any
    /// more with none.
    pub async fn set_queue_depth_sampling(self: &Arc<Self>, period: Option<Duration>) {
        let fresh = |period| Sampling {
            period,
            depth: 0,
            busy_ticks: 0,
            weighted_ticks: 0,
            last: None,
            hz: 1,
        };
        self.lock().sampling = period.map(fresh);
        // Asked for there, so that of two changes the later one stays on every core.
        self.on_channels(|channel| channel.set_sampling(channel.bdev().sampling_period())).await;
    }

    /// What was seen; none when nobody looks.
    #[must_use]
    pub fn queue_depth(&self) -> Option<QueueDepth> {
        let state = self.lock();
        let sampling = state.sampling.as_ref()?;
        let time = |ticks| Duration::from_nanos(ticks_to_ns(ticks, sampling.hz));
        // Without a channel there is nobody to look, and nothing in flight.
        let depth = if state.counters().next().is_none() { 0 } else { sampling.depth };
        Some(QueueDepth {
            period: sampling.period,
            depth,
            io_time: time(sampling.busy_ticks),
            weighted_io_time: time(sampling.weighted_ticks),
        })
    }

    pub(super) fn sampling_period(&self) -> Option<Duration> {
        self.lock().sampling.as_ref().map(|sampling| sampling.period)
    }

    /// Adds up what the channels have published. `own` are the counters of the channel that asks.
    fn sample(&self, own: &Arc<ChannelCounters>, now: u64, hz: u64, period: u64) {
        // Whoever has the lock is at it for a moment only; the next look makes up for this one.
        let Some(mut state) = self.try_lock() else { return };
        if !state.counters().next().is_some_and(|first| Arc::ptr_eq(first, own)) {
            return;
        }
        let depth = state.counters().map(|counters| counters.queue_depth.get()).sum();
        let Some(sampling) = &mut state.sampling else { return };
        // A longer gap is one in which there was no channel.
        let passed = sampling.last.map_or(period, |last| now.saturating_sub(last).min(2 * period));
        (sampling.last, sampling.hz, sampling.depth) = (Some(now), hz, depth);
        if depth != 0 {
            sampling.busy_ticks += passed;
            sampling.weighted_ticks = sampling.weighted_ticks.saturating_add(passed * depth);
        }
    }
}

impl Channel {
    /// Publishes what is in flight once per period from now on.
    pub(super) fn set_sampling(&self, period: Option<Duration>) {
        let shared = self.shared();
        let poller = period.zip(shared).map(|(period, shared)| {
            let channel = Rc::downgrade(&shared);
            let period_ticks = self.reactor().clock().ticks_in(period).max(1);
            self.reactor().register_poller("queue depth", Some(period), move || {
                if let Some(channel) = channel.upgrade() {
                    let clock = channel.reactor().clock();
                    channel.counters.queue_depth.set(channel.outstanding.get() as u64);
                    let (now, hz) = (clock.ticks(), clock.hz());
                    channel.bdev().sample(&channel.counters, now, hz, period_ticks);
                }
                Progress::Idle
            })
        });
        self.counters.queue_depth.set(0);
        drop(self.sampler.replace(poller));
    }
}
