//! Receives that are woken for many bytes at a time.
//!
//! The socket's low-water mark (`SO_RCVLOWAT`) is set through the ring, in front of the receive
//! and in the same system call. A receive with a raised mark is watched: when its bytes take
//! longer than [`LOW_WATER_LIMIT`], the mark is lowered and the receive ends with what is there.

use std::cell::{Cell, UnsafeCell};
use std::time::Duration;

use spdk_rs_sys::socket::SocketOption;

use super::Stream;
use crate::net::core::{Key, Op};

/// How long a receive may hold bytes back that have arrived, because more are expected. A quarter
/// may be added, since time limits are looked at from time to time.
pub const LOW_WATER_LIMIT: Duration = Duration::from_millis(2);

/// The mark of a socket that wakes for any byte.
const ANY: i32 = 1;

/// The socket's mark.
pub(super) struct LowWater {
    /// What the socket is set to, as far as the kernel was asked.
    current: Cell<i32>,
    /// While it is being set, the kernel reads it.
    value: UnsafeCell<i32>,
    in_flight: Cell<bool>,
    /// When the last receive with a raised mark began.
    since: Cell<u64>,
    /// The stream is in the list of those that are watched.
    watched: Cell<bool>,
}

impl LowWater {
    pub(super) const fn new() -> Self {
        Self {
            current: Cell::new(ANY),
            value: UnsafeCell::new(ANY),
            in_flight: Cell::new(false),
            since: Cell::new(0),
            watched: Cell::new(false),
        }
    }

    /// Whether the kernel has still to read the value.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.get()
    }
}

impl Stream {
    /// Sets the mark for the receive that is queued next; returns whether it is raised.
    #[inline]
    pub(super) fn set_low_water(&self, key: Key) -> bool {
        let wanted = self.receiver.waits_for.get();
        let current = self.low_water.current.get();
        if wanted <= 1 && current == ANY {
            return false;
        }
        self.change_low_water(key, wanted, current)
    }

    fn change_low_water(&self, key: Key, wanted: usize, current: i32) -> bool {
        let wanted = i32::try_from(wanted).unwrap_or(i32::MAX).max(ANY);
        // A mark that is a little lower does as well.
        let near = current > ANY && (wanted - wanted / 4..=wanted).contains(&current);
        if !near && self.net.sets_options() {
            self.push_low_water(key, wanted);
        }
        if self.low_water.current.get() == ANY {
            return false;
        }
        self.low_water.since.set(self.net.reactor().now());
        if !self.low_water.watched.replace(true) {
            self.net.watch_patient(key);
        }
        true
    }

    /// Queues the setting of the mark; without room on the ring it stays as it is.
    fn push_low_water(&self, key: Key, bytes: i32) {
        let mark = &self.low_water;
        if mark.in_flight.get() {
            return;
        }
        let (fd, value) = (self.fd, mark.value.get());
        // SAFETY: no setting is in flight, so that the value is nobody's.
        unsafe { value.write(bytes) };
        let queued = self.net.push(key, Op::LowWater, |ring, user_data| {
            let option = SocketOption::ReceiveLowWaterBytes;
            // SAFETY: the value lies in the stream, which does not move, and is written by the
            // next setting only; the stream lives until the completion, see `close_on`.
            unsafe { ring.set_option(fd, option, value, user_data) }.is_ok()
        });
        if queued {
            mark.in_flight.set(true);
            mark.current.set(bytes);
        }
    }

    /// The mark was set, or the kernel does not do that.
    pub(super) fn low_water_set(&self, result: i32) {
        self.low_water.in_flight.set(false);
        if result < 0 {
            tracing::debug!(errno = -result, "the kernel sets no low-water mark through io_uring");
            self.low_water.current.set(ANY);
            self.net.refuses_options();
        }
    }

    /// Whether a receive waits with a raised mark and may go on; lowers it when it may not.
    pub(super) fn low_water_holds(&self, now: u64) -> bool {
        let mark = &self.low_water;
        let waits = self.receiver.in_flight.get() && mark.current.get() != ANY;
        let late = now.saturating_sub(mark.since.get()) > self.net.patience();
        if waits
            && late
            && let Some(&key) = self.key.get()
        {
            self.push_low_water(key, ANY);
        }
        let holds = waits && mark.current.get() != ANY;
        mark.watched.set(holds);
        holds
    }
}
