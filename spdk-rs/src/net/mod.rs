//! Sockets on a reactor: listeners and byte streams, on the reactor's ring or by readiness.
//!
//! Everything here belongs to one reactor and stays on its thread, except a [`Socket`], which may
//! be sent to another one before a [`Stream`] is made of it.
//!
//! Invariants:
//! * nothing blocks: names are resolved on helper threads, everything else waits in the kernel;
//! * a stream has at most one receive and one send in the kernel; whatever is queued meanwhile
//!   leaves together in the next send, and all sockets of a turn share one system call;
//! * memory that a receive or send names stays in place until the kernel is done with it: the
//!   stream keeps its handler for as long, and a reactor that ends too early leaks it;
//! * [`StreamHandler::closed`] is called exactly once, and is the last call;
//! * after a socket was opened, sending and receiving allocate nothing.

mod addr;
mod connect;
mod core;
mod error;
mod listener;
mod socket;
mod stream;
#[cfg(test)]
mod tests;

pub use addr::{HostPort, resolve};
pub use connect::{ConnectOptions, connect};
pub use core::live_sockets;
pub use error::NetError;
pub use listener::{ListenOptions, Listener};
pub use socket::{Socket, SocketOptions};
pub use stream::{
    CloseReason, LOW_WATER_LIMIT, ReadBuffer, ReadSpace, Received, SendFull, Stream, StreamHandler,
    StreamOptions,
};
