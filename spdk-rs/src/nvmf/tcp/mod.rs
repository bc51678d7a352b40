//! The target's NVMe/TCP transport: listeners, connections, and the way of data over them.
//!
//! A connection lives on one reactor from its acceptance to its end. It cuts what arrives into
//! PDUs ([`framing`](crate::nvme::tcp::framing)), gets the data of commands, hands the commands to
//! its [`Qpair`](super::Qpair), and sends what the queue pair answers.
//!
//! Invariants:
//! * whatever a peer sends, it gets a termination request with the right fatal status at most, and
//!   its connection ends; others do not notice;
//! * a command has memory for its data before the host is asked for them; without memory it waits;
//! * memory that waits for data of hosts is bounded, and memory that the kernel may write to or
//!   read from lives until the stream says so, or has been closed;
//! * a connection that does not get on is ended: before Connect, inside a PDU, with data owed, or
//!   with responses unread;
//! * what a turn answers leaves in one send per connection.

mod connection;
mod group;
mod options;
mod shared;
#[cfg(test)]
mod tests;
mod transport;

pub use options::{TcpOptions, TcpOptionsError};
pub use shared::TcpStats;
pub use transport::{TcpListener, TcpTransport};
