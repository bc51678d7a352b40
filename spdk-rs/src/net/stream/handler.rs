//! What a protocol implements to be told about its stream.

use nix::libc;

use super::space::ReadSpace;

/// The protocol on a [`Stream`](super::Stream).
///
/// All calls come on the reactor's thread, one at a time, never from inside a call that the
/// handler makes to its stream; so a handler may send, pause and shut down from any of them.
pub trait StreamHandler {
    /// Says where the next bytes go. Nothing pushed: reading pauses until
    /// [`Stream::resume_reading`](super::Stream::resume_reading).
    ///
    /// Called with no receive in flight. It only fills `out`: it makes no call to the stream, the
    /// reactor or a device.
    fn read_space(&self, out: &mut ReadSpace);

    /// So many bytes (at least 1) arrived and fill the space in its order. What went to a
    /// [`ReadBuffer`](super::ReadBuffer) can be read from it now.
    fn received(&self, bytes: usize);

    /// The bytes that were queued with this token, and all before them, were handed over to the
    /// kernel: their memory may be reused. Tokens come in the order in which they were queued.
    fn sent(&self, token: u64);

    /// There is room again after a [`SendFull`](super::SendFull) or a refusal of
    /// [`Stream::has_room`](super::Stream::has_room).
    fn send_room(&self) {}

    /// The stream has ended. Called exactly once and last: nothing touches the memory of the read
    /// space or of unsent pieces any more. Tokens that were not reported are void.
    fn closed(&self, why: CloseReason);
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// [`Stream::shutdown`](super::Stream::shutdown): all has left, and the peer closed too.
    Ended,
    /// [`Stream::shutdown`](super::Stream::shutdown): its time limit was over first.
    TimeLimit,
    /// [`Stream::abort`](super::Stream::abort).
    Aborted,
    /// The peer closed the connection.
    PeerClosed,
    /// The peer reset the connection: `ECONNRESET`, `EPIPE` or `ECONNABORTED`.
    Reset {
        /// The error number.
        errno: i32,
    },
    /// The peer is not heard of any more: `ETIMEDOUT`, or the network to it is gone.
    Lost {
        /// The error number.
        errno: i32,
    },
    /// Any other error of the socket.
    Failed {
        /// The error number.
        errno: i32,
    },
    /// The reactor ends.
    ReactorEnded,
}

impl CloseReason {
    pub(super) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => Self::Reset { errno },
            libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN => {
                Self::Lost { errno }
            }
            _ => Self::Failed { errno },
        }
    }
}
