//! A stream's requests on the reactor's ring: one receive and one send at a time.

use spdk_rs_sys::socket::message_of;
use spdk_rs_sys::uring::socket_has_more;

use super::Stream;
use crate::env::IoVec;
use crate::net::core::Op;

/// Bytes of one request without a message header.
fn len_of(piece: &IoVec) -> u32 {
    u32::try_from(piece.len()).unwrap_or(u32::MAX).min(1 << 30)
}

impl Stream {
    /// Queues the next receive and the next send, if they are due.
    pub(super) fn ring_flush(&self) {
        if !self.receiver.in_flight.get() {
            self.arm_receive();
        }
        if !self.sender.in_flight.get() {
            self.arm_send();
        }
        self.drain_on();
    }

    fn arm_receive(&self) {
        let (Some(pieces), Some(&key)) = (self.take_space(), self.key.get()) else { return };
        let raised = self.set_low_water(key);
        // A raised mark counts only where the socket is asked before it is read.
        let (fd, poll_first) = (self.fd, self.receiver.drained.get() || raised);
        // SAFETY: no receive is in flight; the pieces lie in the stream and are not used otherwise.
        let pieces = unsafe { &mut *pieces };
        let message = self.receiver.message.get();
        let (first, count) = (pieces.as_mut_ptr(), pieces.len());
        // SAFETY: no receive is in flight, so that the header is nobody's.
        unsafe { message.write(message_of(first.cast(), count)) };
        let queued = self.net.push(key, Op::Receive, |ring, user_data| {
            let queued = if let [one] = &*pieces {
                let (base, len) = (one.base(), len_of(one));
                // SAFETY: the handler keeps its memory, and the buffer is held by the space, which
                // the stream holds; it lives until the completion, see `close_on`.
                unsafe { ring.receive(fd, base, len, poll_first, user_data) }
            } else {
                // SAFETY: as above; header and pieces lie in the stream, which does not move.
                unsafe { ring.receive_message(fd, message, poll_first, user_data) }
            };
            queued.is_ok()
        });
        if !queued {
            self.give_back();
            self.mark();
        }
    }

    fn arm_send(&self) {
        let (Some(pieces), Some(&key)) = (self.sender.next_pieces(), self.key.get()) else {
            return;
        };
        let fd = self.fd;
        // SAFETY: no send is in flight; the pieces lie in the stream and are not used otherwise.
        let pieces = unsafe { &mut *pieces };
        let message = self.sender.message.get();
        let (first, count) = (pieces.as_mut_ptr(), pieces.len());
        // SAFETY: no send is in flight, so that the header is nobody's.
        unsafe { message.write(message_of(first.cast(), count)) };
        let queued = self.net.push(key, Op::Send, |ring, user_data| {
            let queued = if let [one] = &*pieces {
                let (base, len) = (one.base(), len_of(one));
                // SAFETY: the sender keeps the memory until it is told that it has left, or that
                // the stream has ended, which is not before the completion, see `close_on`.
                unsafe { ring.send(fd, base, len, user_data) }
            } else {
                // SAFETY: as above; header and pieces lie in the stream, which does not move.
                unsafe { ring.send_message(fd, message, user_data) }
            };
            queued.is_ok()
        });
        self.sender.in_flight.set(queued);
        if !queued {
            self.mark();
        }
    }

    /// A request has ended.
    #[inline]
    pub(super) fn ring_completed(&self, op: Op, result: i32, flags: u32) {
        match op {
            Op::Receive => match usize::try_from(result) {
                Ok(bytes) => self.received(bytes, !socket_has_more(flags)),
                Err(_) => self.receive_failed(-result),
            },
            Op::Send => {
                self.sender.in_flight.set(false);
                match usize::try_from(result) {
                    Ok(bytes) => self.has_sent(bytes),
                    Err(_) => self.send_failed(-result),
                }
            }
            Op::LowWater => self.low_water_set(result),
            Op::Poll => {}
        }
        // It may have been the last that an end waited for.
        self.mark();
    }
}
