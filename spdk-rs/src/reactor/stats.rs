//! What a reactor counts about itself. Written by its own thread with plain stores, read by any.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::env::clock;

/// A counter that one thread writes and others read: no read-modify-write, no lock.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds, on the owner's thread only.
    #[inline(always)]
    pub fn add(&self, value: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
    }

    /// Sets, on the owner's thread only.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The present value.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one reactor.
#[derive(Debug, Default)]
pub struct ReactorCounters {
    pub(super) turns: Counter,
    pub(super) busy_ticks: Counter,
    pub(super) idle_ticks: Counter,
    pub(super) sleeps: Counter,
    pub(super) sleep_ticks: Counter,
    pub(super) stalls: Counter,
    pub(super) kernel_entries: Counter,
    pub(super) hz: Counter,
    pub(super) os_thread: Counter,
}

/// A snapshot of a reactor's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactorStats {
    /// Turns of the loop.
    pub turns: u64,
    /// Ticks in turns that found work.
    pub busy_ticks: u64,
    /// Ticks in turns that found none, sleep included.
    pub idle_ticks: u64,
    /// How often it slept.
    pub sleeps: u64,
    /// Ticks asleep.
    pub sleep_ticks: u64,
    /// Turns that took longer than the stall limit.
    pub stalls: u64,
    /// Calls of io_uring_enter(2): all system calls of its I/O, where there is a ring.
    pub kernel_entries: u64,
    /// Ticks per second.
    pub hz: u64,
    /// The kernel's thread id.
    pub os_thread: u64,
}

impl ReactorCounters {
    /// The present values. Each is exact; together they may be a turn apart.
    #[must_use]
    pub fn snapshot(&self) -> ReactorStats {
        ReactorStats {
            turns: self.turns.get(),
            busy_ticks: self.busy_ticks.get(),
            idle_ticks: self.idle_ticks.get(),
            sleeps: self.sleeps.get(),
            sleep_ticks: self.sleep_ticks.get(),
            stalls: self.stalls.get(),
            kernel_entries: self.kernel_entries.get(),
            hz: self.hz.get(),
            os_thread: self.os_thread.get(),
        }
    }
}

impl ReactorStats {
    /// Nanoseconds asleep.
    #[must_use]
    pub fn sleep_ns(&self) -> u64 {
        clock::ticks_to_ns(self.sleep_ticks, self.hz)
    }
}
