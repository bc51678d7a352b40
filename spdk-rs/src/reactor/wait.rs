//! Where a reactor sleeps: on its ring, or on epoll where there is none. Descriptors that the ring does
//! not know are in the epoll set, and the ring watches that.
//!
//! It is not the other way round, because a ring with deferred completions (`IORING_SETUP_DEFER_TASKRUN`)
//! makes none while its thread waits elsewhere: its descriptor stays silent.

use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use spdk_rs_sys::event::{Epoll, EventFd, Interest, Ready, Trigger};

use super::ring::ReactorRing;

/// Readable once per event: nothing has to be read to arm it again.
const EDGE: Interest = Interest { trigger: Trigger::Edge, ..Interest::READ };

/// The descriptors that can end a reactor's sleep.
pub(super) struct Waiter {
    epoll: Epoll,
    watched: Cell<usize>,
}

impl Waiter {
    pub(super) fn new(bell: &EventFd) -> std::io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(bell.as_raw_fd(), EDGE, 0)?;
        Ok(Self { epoll, watched: Cell::new(0) })
    }

    pub(super) fn watch(&self, fd: BorrowedFd<'_>) -> std::io::Result<()> {
        self.epoll.add(fd.as_raw_fd(), EDGE, 0)?;
        self.watched.set(self.watched.get() + 1);
        Ok(())
    }

    pub(super) fn unwatch(&self, fd: BorrowedFd<'_>) {
        if self.epoll.remove(fd.as_raw_fd()).is_ok() {
            self.watched.set(self.watched.get().saturating_sub(1));
        }
    }

    /// Waits for a completion, a message, a watched descriptor, or the time.
    pub(super) fn wait(&self, ring: Option<&ReactorRing>, timeout: Option<Duration>) {
        match ring {
            Some(ring) if self.watched.get() == 0 => ring.wait(timeout),
            Some(ring) => {
                // What became ready since the last look is polled before any sleep.
                if self.epoll_wait(Some(Duration::ZERO)) == 0 {
                    ring.watch_guests(self.epoll.as_raw_fd());
                    ring.wait(timeout);
                }
            }
            None => {
                self.epoll_wait(timeout);
            }
        }
    }

    /// Waits, and returns how many descriptors were ready.
    fn epoll_wait(&self, timeout: Option<Duration>) -> usize {
        // Whatever was ready, the next turn polls all of it.
        let mut ready = [Ready::default(); 8];
        let timeout_ns =
            timeout.map(|timeout| u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
        self.epoll.wait(&mut ready, timeout_ns).unwrap_or_else(|error| {
            tracing::debug!(%error, "epoll_wait");
            0
        })
    }
}
