//! Where a reactor sleeps: on its ring, or on epoll when other descriptors can wake it too.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use spdk_rs_sys::event::{Epoll, EventFd};

use super::ring::ReactorRing;

/// The descriptors that can end a reactor's sleep.
pub(super) struct Waiter {
    epoll: Epoll,
    watched: Cell<usize>,
    ring_added: Cell<bool>,
}

impl Waiter {
    pub(super) fn new(bell: &EventFd) -> std::io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add_edge(bell.raw_fd())?;
        Ok(Self { epoll, watched: Cell::new(0), ring_added: Cell::new(false) })
    }

    pub(super) fn watch(&self, fd: BorrowedFd<'_>) -> std::io::Result<()> {
        use std::os::fd::AsRawFd;
        self.epoll.add_edge(fd.as_raw_fd())?;
        self.watched.set(self.watched.get() + 1);
        Ok(())
    }

    pub(super) fn unwatch(&self, fd: BorrowedFd<'_>) {
        use std::os::fd::AsRawFd;
        if self.epoll.remove(fd.as_raw_fd()).is_ok() {
            self.watched.set(self.watched.get().saturating_sub(1));
        }
    }

    /// Waits for a completion, a message, a watched descriptor, or the time.
    pub(super) fn wait(&self, ring: Option<&ReactorRing>, timeout: Option<Duration>) {
        match ring {
            Some(ring) if self.watched.get() == 0 => ring.wait(timeout),
            Some(ring) => {
                // The ring is the rarer guest here: it is added when it is first needed.
                if !self.ring_added.get() {
                    self.ring_added.set(self.epoll.add_edge(ring.raw_fd()).is_ok());
                }
                ring.flush();
                self.epoll_wait(timeout);
            }
            None => self.epoll_wait(timeout),
        }
    }

    fn epoll_wait(&self, timeout: Option<Duration>) {
        if let Err(error) = self.epoll.wait(timeout) {
            tracing::debug!(%error, "epoll_wait");
        }
    }
}
