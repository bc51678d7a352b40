//! A stream without a ring: calls that do not block, made when the kernel says that they are
//! worth it.
//!
//! Readiness is told when it begins (edge triggered), so it is remembered until a call takes less
//! than it could.

use std::os::fd::AsFd;

use spdk_rs_sys::event::Ready;
use spdk_rs_sys::socket;

use super::Stream;
use crate::env::iovec::total_len;

fn errno_of(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(nix::libc::EIO)
}

impl Stream {
    /// The kernel says that the socket is ready.
    pub(super) fn note_ready(&self, ready: Ready) {
        let ending = nix::libc::EPOLLRDHUP | nix::libc::EPOLLHUP | nix::libc::EPOLLERR;
        if ready.events & ending.cast_unsigned() != 0 {
            self.ready.ending.set(true);
        }
        if ready.is_readable() {
            self.ready.readable.set(true);
        }
        if ready.is_writable() {
            self.ready.writable.set(true);
        }
        self.mark();
    }

    /// Sends and receives once; returns how much was done.
    pub(super) fn ready_flush(&self) -> usize {
        let mut work = 0;
        if self.ready.writable.get() && self.try_send() {
            work += 1;
        }
        let idle = !self.receiver.in_flight.get();
        if idle && self.ready.readable.get() && self.try_receive() {
            work += 1;
        }
        self.drain_on();
        work
    }

    /// Sends what is queued, as far as it fits; false when nothing is.
    fn try_send(&self) -> bool {
        let Some(pieces) = self.sender.next_pieces() else { return false };
        // SAFETY: nobody else uses the pieces, and nobody is called before they were used.
        let pieces = unsafe { &mut *pieces };
        let (total, count) = (total_len(pieces), pieces.len());
        let first = pieces.as_mut_ptr().cast();
        let result = match self.socket.borrow().as_ref() {
            // SAFETY: the pieces name memory of the queue, and memory that is kept by who queued
            // it. The entries are laid out as the kernel's, see `IoVec`.
            Some(socket) => unsafe { socket::send(socket.as_fd(), first, count) },
            None => return false,
        };
        match result {
            Ok(bytes) => {
                // There will be an event when there is room again.
                self.ready.writable.set(bytes == total);
                self.has_sent(bytes);
            }
            Err(error) => {
                let errno = errno_of(&error);
                self.ready.writable.set(errno == nix::libc::EINTR);
                if errno != nix::libc::EAGAIN {
                    self.send_failed(errno);
                }
            }
        }
        true
    }

    /// Receives what is there, as far as the space goes; false when none is wanted.
    fn try_receive(&self) -> bool {
        let Some(pieces) = self.take_space() else { return false };
        let first = pieces.cast();
        let result = match self.socket.borrow().as_ref() {
            // SAFETY: the pieces name memory that the handler gave for this, or the stream's own.
            // The entries are laid out as the kernel's, see `IoVec`.
            Some(socket) => unsafe { socket::receive(socket.as_fd(), first, pieces.len()) },
            None => {
                self.give_back();
                return false;
            }
        };
        match result {
            Ok(bytes) => {
                // Less than there was room for: nothing is left, unless it is the end.
                let drained = bytes < self.receiver.space_bytes.get();
                self.ready.readable.set(!drained || self.ready.ending.get());
                self.received(bytes, drained);
            }
            Err(error) => {
                let errno = errno_of(&error);
                self.ready.readable.set(errno == nix::libc::EINTR);
                if errno == nix::libc::EAGAIN {
                    self.give_back();
                } else {
                    self.receive_failed(errno);
                }
            }
        }
        true
    }
}
