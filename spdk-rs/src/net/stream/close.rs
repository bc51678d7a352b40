//! How a stream ends.

use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Weak;
use std::task::Poll;
use std::time::Duration;

use spdk_rs_sys::socket::{self, ShutdownOf};

use super::{CloseReason, State, Stream};
use crate::reactor::sleep;

impl Stream {
    /// Ends the connection as soon as the stream is flushed; the first reason counts.
    pub(super) fn close(&self, why: CloseReason) {
        if matches!(self.state.get(), State::Open | State::Draining) {
            self.state.set(State::Closing);
            self.reason.set(Some(why));
            self.mark();
        }
    }

    /// The peer has sent its last byte.
    pub(super) fn peer_end(&self) {
        self.peer_ended.set(true);
        if !self.end_sent.get() && self.was_reset() {
            // The send that is in the kernel got the error.
            self.close(CloseReason::Reset { errno: nix::libc::ECONNRESET });
        } else if self.state.get() == State::Open {
            self.close(CloseReason::PeerClosed);
        }
        self.mark();
    }

    fn was_reset(&self) -> bool {
        let socket = self.socket.borrow();
        socket.as_ref().is_some_and(|socket| socket::was_reset(socket.as_fd()).unwrap_or(false))
    }

    /// Goes on with an orderly end: tells the peer when all has left, and closes when it has
    /// answered.
    pub(super) fn drain_on(&self) {
        if self.state.get() != State::Draining || !self.sender.is_idle() {
            return;
        }
        if !self.end_sent.replace(true) {
            // An error shows in the receive that waits.
            self.shut(ShutdownOf::Sending);
        }
        if self.peer_ended.get() {
            self.close(CloseReason::Ended);
        }
    }

    /// Goes on with the end of the connection: the kernel gives back what is in flight, then
    /// nothing is left. Returns how much was done.
    pub(super) fn close_on(&self) -> usize {
        if !self.cut.replace(true) {
            self.shut(ShutdownOf::Both);
        }
        let option = self.low_water.is_in_flight();
        if self.receiver.in_flight.get() || self.sender.in_flight.get() || option {
            // Their ends mark the stream again.
            return 0;
        }
        self.finish();
        1
    }

    fn shut(&self, how: ShutdownOf) {
        if let Some(socket) = self.socket.borrow().as_ref()
            && let Err(error) = socket::shutdown(socket.as_fd(), how)
        {
            // ENOTCONN: the connection is gone, and all that waited for it has been woken.
            tracing::debug!(%error, peer = %self.peer, "shutdown");
        }
    }

    /// Nothing is in flight: lets go of everything and tells the handler.
    fn finish(&self) {
        self.state.set(State::Closed);
        let why = self.reason.get().unwrap_or(CloseReason::Aborted);
        if let Some(socket) = self.socket.take() {
            if matches!(why, CloseReason::Aborted | CloseReason::TimeLimit) {
                // Otherwise the kernel would go on sending what it has.
                let _ = socket::reset_on_close(socket.as_fd());
            }
            if let Some(&key) = self.key.get() {
                self.net.remove(socket.as_fd(), key);
            }
        }
        if let Some(waker) = self.limit_waker.take() {
            waker.wake();
        }
        let handler = self.handler.take();
        if let Some(handler) = handler {
            handler.closed(why);
        }
    }

    /// Closes the stream when it is not closed after `limit`.
    pub(super) fn watch_limit(&self, limit: Duration) {
        let this = Weak::clone(&self.this);
        self.net.reactor().spawn("stream's end", async move {
            let mut limit = pin!(sleep(limit));
            std::future::poll_fn(|cx| {
                let Some(stream) = this.upgrade() else { return Poll::Ready(()) };
                if stream.state.get() == State::Closed {
                    return Poll::Ready(());
                }
                stream.limit_waker.replace(Some(cx.waker().clone()));
                limit.as_mut().poll(cx)
            })
            .await;
            if let Some(stream) = this.upgrade() {
                stream.close(CloseReason::TimeLimit);
            }
        });
    }
}
