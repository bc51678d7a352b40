//! Why a socket could not be had.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

/// Why a socket could not be opened, connected or listened on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetError {
    /// A text that is no address.
    #[error("\"{text}\" is no network address: {reason}; expected HOST:PORT or [IPV6]:PORT")]
    Address {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A host name that the resolver does not know, or has no address for.
    #[error("cannot resolve the host name \"{host}\"")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no socket, or the reactor has no place for one.
    #[error("cannot open a socket")]
    Open(#[source] io::Error),
    /// The kernel refused an option.
    #[error("cannot set {option} of a socket to {value}")]
    Option {
        /// Its name.
        option: &'static str,
        /// The value.
        value: i64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The local address cannot be used.
    #[error("cannot bind a socket to {addr}")]
    Bind {
        /// The local address.
        addr: SocketAddr,
        /// What the kernel said: `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` (a port below 1024) …
        #[source]
        source: io::Error,
    },
    /// The kernel refused to listen.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The local address.
        addr: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The peer refused, or there is no way to it.
    #[error("cannot connect to {to}")]
    Connect {
        /// The peer.
        to: SocketAddr,
        /// What the kernel said: `ECONNREFUSED`, `EHOSTUNREACH` …
        #[source]
        source: io::Error,
    },
    /// The peer did not answer in time.
    #[error("{to} did not answer within {after:?}")]
    ConnectTimeout {
        /// The peer.
        to: SocketAddr,
        /// The time limit.
        after: Duration,
    },
    /// The reactor is ending and takes no more sockets.
    #[error("the reactor is ending")]
    ReactorEnding,
}

impl NetError {
    /// The error number behind it, when the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source)
            | Self::Resolve { source, .. }
            | Self::Option { source, .. }
            | Self::Bind { source, .. }
            | Self::Listen { source, .. }
            | Self::Connect { source, .. } => source.raw_os_error(),
            Self::ConnectTimeout { .. } => Some(nix::libc::ETIMEDOUT),
            Self::Address { .. } | Self::ReactorEnding => None,
        }
    }
}
