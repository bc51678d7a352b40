//! Requests on sockets.
//!
//! A request that finds its socket ready completes at once; any other one is kept by the kernel
//! until the socket is, whether the socket is non-blocking or not. All of them end when the
//! connection is shut down.

use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::types::Fd;

use super::{Ring, SqFull};
use crate::socket::SocketOption;

/// `IORING_RECVSEND_POLL_FIRST`: wait for the socket without trying it first (Linux 5.19).
const POLL_FIRST: u16 = 1;

/// Sends break no process with a signal, and go on by themselves until everything has left (Linux
/// 5.19; older kernels complete a part, as is possible anyway when the connection ends).
const SEND_FLAGS: u32 = (libc::MSG_NOSIGNAL | libc::MSG_WAITALL).cast_unsigned();

/// Whether a receive left bytes in the socket (`IORING_CQE_F_SOCK_NONEMPTY`), by the flags of its
/// completion. Kernels before 5.19 never say so.
#[inline]
#[must_use]
pub fn socket_has_more(flags: u32) -> bool {
    io_uring::cqueue::sock_nonempty(flags)
}

impl Ring {
    /// Queues a receive of up to `len` bytes into `ptr`; it completes with what is there, as soon
    /// as anything is, and with 0 at the end of the stream.
    ///
    /// `poll_first`: there is probably nothing yet. Ignored by kernels that do not know it.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for writing `len` bytes, and nobody else may use them, until the
    /// completion was reaped.
    #[inline]
    pub unsafe fn receive(
        &mut self,
        fd: RawFd,
        ptr: *mut u8,
        len: u32,
        poll_first: bool,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let hints = self.hints(poll_first);
        let request = opcode::Recv::new(Fd(fd), ptr, len).ioprio(hints).build();
        // SAFETY: the caller keeps the buffer as demanded.
        unsafe { self.push(request, user_data) }
    }

    /// As [`Ring::receive`], into the pieces that a message header names.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    ///
    /// # Safety
    ///
    /// `message` must point to a valid header whose pieces are valid for writing; header, pieces
    /// and their memory must stay so, used by nobody else, until the completion was reaped.
    #[inline]
    pub unsafe fn receive_message(
        &mut self,
        fd: RawFd,
        message: *mut libc::msghdr,
        poll_first: bool,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let hints = self.hints(poll_first);
        let request = opcode::RecvMsg::new(Fd(fd), message).ioprio(hints).build();
        // SAFETY: the caller keeps header, pieces and memory as demanded.
        unsafe { self.push(request, user_data) }
    }

    /// Queues the sending of `len` bytes at `ptr`; it completes when all of them were taken over
    /// by the kernel, or with a part of them.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for reading `len` bytes, and nobody may write them, until the
    /// completion was reaped.
    #[inline]
    pub unsafe fn send(
        &mut self,
        fd: RawFd,
        ptr: *const u8,
        len: u32,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let flags = SEND_FLAGS.cast_signed();
        let request = opcode::Send::new(Fd(fd), ptr, len).flags(flags).build();
        // SAFETY: the caller keeps the buffer as demanded.
        unsafe { self.push(request, user_data) }
    }

    /// As [`Ring::send`], from the pieces that a message header names.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    ///
    /// # Safety
    ///
    /// `message` must point to a valid header whose pieces are valid for reading; header, pieces
    /// and their memory must stay so, written by nobody, until the completion was reaped.
    #[inline]
    pub unsafe fn send_message(
        &mut self,
        fd: RawFd,
        message: *const libc::msghdr,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let request = opcode::SendMsg::new(Fd(fd), message).flags(SEND_FLAGS).build();
        // SAFETY: the caller keeps header, pieces and memory as demanded.
        unsafe { self.push(request, user_data) }
    }

    /// Queues the setting of an option of a socket, which completes at once, before requests that
    /// are queued behind it begin (Linux 6.7; older kernels complete it with an error).
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    ///
    /// # Safety
    ///
    /// `value` must be valid for reading, and nobody may write it, until the completion was reaped.
    #[inline]
    pub unsafe fn set_option(
        &mut self,
        fd: RawFd,
        option: SocketOption,
        value: *const i32,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let (level, number) = option.level_and_number();
        let (level, number) = (level.cast_unsigned(), number.cast_unsigned());
        let len = u32::try_from(size_of::<i32>()).unwrap_or(0);
        let request = opcode::SetSockOpt::new(Fd(fd), level, number, value.cast(), len).build();
        // SAFETY: the caller keeps the value as demanded.
        unsafe { self.push(request, user_data) }
    }

    /// Queues a wait for `events` (`POLLIN` …) that completes once, with the events that are
    /// ready. Errors and hang-ups complete it in any case.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    pub fn poll_once(&mut self, fd: RawFd, events: i16, user_data: u64) -> Result<(), SqFull> {
        let events = u32::from(events.cast_unsigned());
        let request = opcode::PollAdd::new(Fd(fd), events).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(request, user_data) }
    }

    fn hints(&self, poll_first: bool) -> u16 {
        if poll_first && self.features().socket_hints { POLL_FIRST } else { 0 }
    }
}
