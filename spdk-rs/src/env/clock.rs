//! The clock: the time stamp counter, or virtual time that only moves when it is told to.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use spdk_rs_sys::tsc;

/// Ticks per second of virtual time: a tick is a nanosecond.
const VIRTUAL_HZ: u64 = 1_000_000_000;

/// Virtual time, in nanoseconds, shared by everyone who holds a clone.
#[derive(Clone, Debug, Default)]
pub struct VirtualClock(Rc<Cell<u64>>);

impl VirtualClock {
    /// Moves time forward.
    pub fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.0.set(self.0.get().saturating_add(ns));
    }

    /// Nanoseconds since the clock was made.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.0.get()
    }
}

/// A source of ticks: monotonic, cheap, with a known frequency.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The time stamp counter, or CLOCK_MONOTONIC where the counter is not invariant.
    Real,
    /// Time that moves only when it is advanced.
    Virtual(VirtualClock),
}

impl Clock {
    /// The present tick.
    #[inline(always)]
    #[must_use]
    pub fn ticks(&self) -> u64 {
        match self {
            Self::Real => tsc::ticks(),
            Self::Virtual(clock) => clock.now_ns(),
        }
    }

    /// Ticks per second.
    #[must_use]
    pub fn hz(&self) -> u64 {
        match self {
            Self::Real => tsc::ticks_hz(),
            Self::Virtual(_) => VIRTUAL_HZ,
        }
    }

    /// The number of ticks in a duration, saturating.
    #[must_use]
    pub fn ticks_in(&self, duration: Duration) -> u64 {
        let ticks = duration.as_nanos() * u128::from(self.hz()) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// The duration of a number of ticks, saturating.
    #[must_use]
    pub fn duration_of(&self, ticks: u64) -> Duration {
        Duration::from_nanos(ticks_to_ns(ticks, self.hz()))
    }
}

/// Nanoseconds in `ticks` ticks of a clock of `hz` ticks per second, saturating.
#[must_use]
pub fn ticks_to_ns(ticks: u64, hz: u64) -> u64 {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(hz.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_moves_when_told() {
        let time = VirtualClock::default();
        let clock = Clock::Virtual(time.clone());
        assert_eq!(clock.ticks(), 0);
        time.advance(Duration::from_micros(3));
        assert_eq!(clock.ticks(), 3_000);
        assert_eq!(clock.duration_of(3_000), Duration::from_micros(3));
    }

    #[test]
    fn real_time_is_monotonic_and_scaled() {
        let clock = Clock::Real;
        let first = clock.ticks();
        assert!(clock.ticks() >= first);
        assert_eq!(clock.ticks_in(Duration::from_secs(2)), 2 * clock.hz());
        assert_eq!(ticks_to_ns(u64::MAX, 1), u64::MAX);
    }
}
