//! The contract between a transport and the target's core.
//!
//! A transport makes one [`Qpair`](super::Qpair) per connection, hands it every command as a
//! [`Capsule`], and is told what to send through [`QpairTransport`]. Everything happens on the
//! reactor that serves the connection.
//!
//! Invariants:
//! * every capsule gets exactly one [`QpairTransport::respond`], unless the connection ends first;
//! * after `Qpair::transport_closed` no method of the transport is called any more;
//! * memory of the transport that went into a capsule is not touched after it has come back in
//!   `respond`, or after the queue pair has dropped it.

use std::fmt;
use std::net::SocketAddr;

use crate::bdev::IoBuf;
use crate::nvme::spec::{Cqe, Sqe};

/// A kind of transport (TRTYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportKind {
    /// NVMe/TCP (TRTYPE 3).
    Tcp,
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("TCP"),
        }
    }
}

/// A listener of the target, by a number that no other listener of the process has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// What a transport knows of a new connection before the first command.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The transport.
    pub transport: TransportKind,
    /// The listener that took the connection.
    pub listener: ListenerId,
    /// The host's end.
    pub peer: SocketAddr,
    /// The target's end.
    pub local: SocketAddr,
    /// Bytes of data that may come inside a capsule (in_capsule_data_size).
    pub in_capsule_bytes: u32,
    /// Bytes of data of one command at the most (max_io_size); a power of two times 4096.
    pub io_bytes_max: u32,
    /// Entries of an I/O submission queue at the most (max_queue_depth), 2 to 65536; see
    /// [`ConnectionInfo::queue_entries_max`].
    pub queue_depth_max: u32,
    /// Whether read data may be sent out of a device's own memory. Not with a data digest: the
    /// memory may change between the digest and the sending.
    pub lend: bool,
}

/// Entries that an admin submission queue may always have: the least that a discovery log may tell
/// (ASQSZ, NVMe Base Specification 2.0, section 5.16.1.23), and what hosts ask for unasked.
pub const ADMIN_QUEUE_ENTRIES: u16 = 32;

impl ConnectionInfo {
    /// Entries that the submission queue of an identifier may have at the most. Queue 0 is the
    /// admin queue.
    #[must_use]
    pub fn queue_entries_max(&self, qid: u16) -> u32 {
        let floor = if qid == 0 { u32::from(ADMIN_QUEUE_ENTRIES) } else { 0 };
        self.queue_depth_max.max(floor)
    }
}

/// A command as the transport delivers it.
#[derive(Debug)]
pub struct Capsule {
    /// The command.
    pub sqe: Sqe,
    /// Host-to-controller data, `data_len` bytes, when the command's direction says so; else
    /// [`IoBuf::None`]. On the admin queue and before Connect it is one buffer.
    pub data: IoBuf,
    /// Bytes that the command's SGL names, in either direction.
    pub data_len: u32,
    /// The transport's own number of the command; it comes back in the response.
    pub tag: u32,
}

/// Why the core wants a connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The host has sent more commands than its queue holds.
    QueueOverrun,
    /// The host asked for it: Disconnect, or a reset or shutdown of its controller.
    Host,
    /// Connect was refused.
    ConnectRefused,
    /// The first command is no Connect, or a second Connect came.
    Protocol,
    /// No keep-alive came in time.
    KeepAlive,
    /// The controller, the subsystem or the listener was removed.
    Removed,
}

/// What the core tells a transport, on the reactor of the connection.
///
/// The core may call these from inside `Qpair::execute`.
pub trait QpairTransport {
    /// Ends the command of `tag`. With `data_len` > 0 the first `data_len` bytes of `data` go to
    /// the host before or with the completion entry, and the transport drops `data` after they
    /// have left. With 0, `data` is the memory the command came with: to be reused or dropped.
    fn respond(&self, tag: u32, cqe: Cqe, data: IoBuf, data_len: u32);

    /// Closes the connection after the responses that are queued have left; the transport then
    /// calls `Qpair::transport_closed`, not from inside this call.
    fn disconnect(&self, why: DisconnectReason);
}
