//! JSON-RPC 2.0 in the dialect of SPDK: a Unix-socket server and a client, and an HTTP server.
//!
//! The dialect is plain JSON-RPC 2.0 sent as a stream of JSON values with no framing between them,
//! over a Unix socket of mode 0600. Methods are those of a [`jsonrpsee::RpcModule`], and the same
//! module is served by [`http`], which is built on jsonrpsee's own server. This crate knows nothing
//! of storage.
//!
//! Invariants:
//!
//! - Memory per connection is bounded whatever the peer sends, or refuses to read ([`Limits`]).
//! - Requests of one connection are executed and answered in order; connections run concurrently.
//! - A method that panics costs one error answer, never the connection or the process.
//! - A socket path is taken from a dead process only, and a path that is not a socket is never
//!   removed.
#![forbid(unsafe_code)]

pub mod client;
pub mod codes;
mod error;
pub mod framing;
pub mod http;
pub mod server;

pub use client::{Client, ClientError};
pub use error::ServerError;
pub use http::HttpServer;
pub use server::{Limits, PeerCredentials, Server, ServerStats};
