//! What a reactor does when a turn found nothing: spin on, or sleep in the kernel.
//!
//! In adaptive mode the spin window is learnt whenever a sleep ends with work: if the whole wait,
//! the spin before the sleep included, fits the longest window, spinning would have caught the
//! event, so the window grows; if not, the spin was wasted, so it shrinks, down to no spinning at
//! all. A device that takes 100 µs is then waited for in the kernel, one that takes 5 µs is
//! polled, and an idle process sleeps.

use std::cell::Cell;
use std::time::Duration;

/// How a reactor waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollMode {
    /// Never sleep: the lowest latency, one core at 100 %.
    Busy,
    /// Spin for at most this long after the last event, then sleep until the next one.
    Adaptive {
        /// The longest spin.
        spin: Duration,
    },
}

impl PollMode {
    /// The longest spin when nothing else is said. Above the cost of a sleep and wake-up (some
    /// 10 µs on bare metal, up to 50 µs in a virtual machine) spinning pays only by luck.
    pub const DEFAULT_SPIN: Duration = Duration::from_micros(50);
}

impl Default for PollMode {
    fn default() -> Self {
        Self::Adaptive { spin: Self::DEFAULT_SPIN }
    }
}

/// The idle state of one reactor, in ticks.
pub(super) struct Idle {
    busy_mode: bool,
    window_max: u64,
    window: Cell<u64>,
    last_busy: Cell<u64>,
    /// Since the last event.
    slept: Cell<bool>,
}

/// The window restarts from this share of the longest one when it has shrunk to nothing.
const RESTART_SHARE: u64 = 16;

impl Idle {
    pub(super) fn new(mode: PollMode, ticks_in: impl Fn(Duration) -> u64) -> Self {
        let window_max = match mode {
            PollMode::Busy => u64::MAX,
            PollMode::Adaptive { spin } => ticks_in(spin),
        };
        Self {
            busy_mode: mode == PollMode::Busy,
            window_max,
            window: Cell::new(window_max),
            last_busy: Cell::new(0),
            slept: Cell::new(false),
        }
    }

    /// Whether the reactor would sleep as soon as nothing is ready.
    #[inline(always)]
    pub(super) fn sleeps_at_once(&self) -> bool {
        self.window.get() == 0
    }

    /// Notes a turn that found work.
    #[inline(always)]
    pub(super) fn busy(&self, now: u64) {
        let before = self.last_busy.replace(now);
        if self.slept.take() {
            self.learn(now.saturating_sub(before));
        }
    }

    /// Whether it is time to sleep after a turn without work.
    #[inline(always)]
    pub(super) fn time_to_sleep(&self, now: u64) -> bool {
        !self.busy_mode
            && (self.slept.get() || now.saturating_sub(self.last_busy.get()) >= self.window.get())
    }

    /// Notes a sleep.
    pub(super) fn slept(&self) {
        self.slept.set(true);
    }

    /// Adjusts the window to a wait of so many ticks that a sleep was the end of.
    fn learn(&self, waited: u64) {
        let window = self.window.get();
        let next = if waited <= self.window_max {
            (window * 2).max(self.window_max / RESTART_SHARE).min(self.window_max)
        } else if window <= self.window_max / RESTART_SHARE {
            0
        } else {
            window / 2
        };
        self.window.set(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Idle {
        let mode = PollMode::Adaptive { spin: Duration::from_nanos(1600) };
        Idle::new(mode, |spin| u64::try_from(spin.as_nanos()).unwrap())
    }

    #[test]
    fn long_sleeps_end_the_spinning_and_short_ones_bring_it_back() {
        let idle = idle();
        idle.busy(0);
        assert!(!idle.time_to_sleep(1599));
        assert!(idle.time_to_sleep(1600));
        for turn in 1..10 {
            idle.slept();
            idle.busy(turn * 1_000_000);
        }
        assert!(idle.sleeps_at_once());
        for turn in 1..10 {
            idle.slept();
            idle.busy(9_000_000 + turn * 100);
        }
        assert!(!idle.time_to_sleep(9_000_900 + 1599));
    }

    #[test]
    fn a_wait_just_longer_than_the_window_is_not_spun_for() {
        let idle = idle();
        for turn in 1..10 {
            // The spin takes 1600, the sleep behind it only 200.
            idle.slept();
            idle.busy(turn * 1800);
        }
        assert!(idle.sleeps_at_once());
    }

    #[test]
    fn a_wake_up_without_work_goes_back_to_sleep() {
        let idle = idle();
        idle.busy(0);
        idle.slept();
        assert!(idle.time_to_sleep(5001), "no new spin window after a false alarm");
    }

    #[test]
    fn busy_mode_never_sleeps() {
        let idle = Idle::new(PollMode::Busy, |_| 0);
        idle.busy(0);
        assert!(!idle.time_to_sleep(u64::MAX));
        assert!(!idle.sleeps_at_once());
    }
}
