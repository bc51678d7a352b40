//! Timers of a reactor: wakers by deadline.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::task::Waker;

/// No timer is set.
const NEVER: u64 = u64::MAX;

/// Timers in order of deadline, then of creation. The earliest deadline is kept beside them, so
/// that a turn without an expired timer costs one comparison.
pub(super) struct Timers {
    earliest: Cell<u64>,
    next_serial: Cell<u64>,
    wakers: RefCell<BTreeMap<(u64, u64), Waker>>,
}

/// Names a timer until it has expired or was cancelled.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimerKey(u64, u64);

impl Timers {
    pub(super) fn new() -> Self {
        Self {
            earliest: Cell::new(NEVER),
            next_serial: Cell::new(0),
            wakers: RefCell::new(BTreeMap::new()),
        }
    }

    /// Sets a timer for a tick of the reactor's clock.
    pub(super) fn set(&self, deadline: u64, waker: Waker) -> TimerKey {
        let serial = self.next_serial.get();
        self.next_serial.set(serial + 1);
        self.wakers.borrow_mut().insert((deadline, serial), waker);
        self.earliest.set(self.earliest.get().min(deadline));
        TimerKey(deadline, serial)
    }

    /// Replaces the waker of a timer that has not expired.
    pub(super) fn update(&self, key: TimerKey, waker: &Waker) {
        if let Some(old) = self.wakers.borrow_mut().get_mut(&(key.0, key.1)) {
            old.clone_from(waker);
        }
    }

    pub(super) fn cancel(&self, key: TimerKey) {
        let mut wakers = self.wakers.borrow_mut();
        wakers.remove(&(key.0, key.1));
        self.refresh(&wakers);
    }

    /// The earliest deadline, if any timer is set.
    #[inline(always)]
    pub(super) fn earliest(&self) -> Option<u64> {
        let earliest = self.earliest.get();
        (earliest != NEVER).then_some(earliest)
    }

    /// Wakes what has expired by `now` and returns how many that were.
    #[inline(always)]
    pub(super) fn expire(&self, now: u64) -> usize {
        if now < self.earliest.get() { 0 } else { self.expire_some(now) }
    }

    fn expire_some(&self, now: u64) -> usize {
        let mut expired = 0;
        loop {
            let mut wakers = self.wakers.borrow_mut();
            let due = wakers.first_entry().filter(|first| first.key().0 <= now);
            let Some(first) = due else {
                self.refresh(&wakers);
                return expired;
            };
            let waker = first.remove();
            drop(wakers);
            waker.wake();
            expired += 1;
        }
    }

    fn refresh(&self, wakers: &BTreeMap<(u64, u64), Waker>) {
        self.earliest.set(wakers.first_key_value().map_or(NEVER, |(key, _)| key.0));
    }
}
