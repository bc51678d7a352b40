//! What a server accepts from its peers, and counts of what it holds.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::ServerError;
use crate::framing::MAX_DEPTH;

/// Limits of a server. Start from [`Limits::default`] and change what differs.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest request or batch in bytes, at least 1. Default 32 MiB. A longer one is answered
    /// with [`codes::REQUEST_TOO_LARGE`](crate::codes::REQUEST_TOO_LARGE) and its connection is
    /// closed.
    pub max_request_bytes: usize,
    /// The longest response in bytes, at least 1024. Default 32 MiB, which is SPDK's. A longer one
    /// becomes the error [`codes::RESPONSE_TOO_LARGE`](crate::codes::RESPONSE_TOO_LARGE).
    pub max_response_bytes: usize,
    /// The deepest nesting of a request, 1 to 127. Default 64, which is SPDK's.
    pub max_depth: u32,
    /// The most requests in one batch, at least 1. Default 65,536.
    pub max_batch_requests: usize,
    /// The most connections at once, at least 1. Default 64, which is SPDK's.
    pub max_connections: usize,
    /// Bytes of finished responses that may wait for one peer to read them, at least 1. Default 1
    /// MiB. No further request of that peer is executed while more than this waits. One response
    /// longer than this may wait alone.
    pub max_buffered_bytes: usize,
    /// A peer that takes no byte of a waiting response for this long is disconnected. Default 30 s.
    pub write_timeout: Duration,
    /// At shutdown, requests in execution and responses that wait get this long. Default 5 s.
    pub shutdown_grace: Duration,
    /// Users that may connect, by effective user id; `None` leaves it to the mode of the socket.
    /// Default `None`.
    pub allow_uids: Option<Vec<u32>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_bytes: 32 << 20,
            max_response_bytes: 32 << 20,
            max_depth: 64,
            max_batch_requests: 65_536,
            max_connections: 64,
            max_buffered_bytes: 1 << 20,
            write_timeout: Duration::from_secs(30),
            shutdown_grace: Duration::from_secs(5),
            allow_uids: None,
        }
    }
}

impl Limits {
    /// The shortest response limit that holds every error answer the server makes itself.
    const RESPONSE_BYTES_MIN: usize = 1024;

    /// Checks every field against the range that its documentation states.
    ///
    /// # Errors
    ///
    /// [`ServerError::Limit`] naming the first field out of range.
    pub fn validate(&self) -> Result<(), ServerError> {
        let at_least = |name, value: usize, min: usize| {
            let range = || format!("at least {min}");
            (value >= min).then_some(()).ok_or_else(|| ServerError::limit(name, value, range()))
        };
        at_least("max_request_bytes", self.max_request_bytes, 1)?;
        at_least("max_response_bytes", self.max_response_bytes, Self::RESPONSE_BYTES_MIN)?;
        at_least("max_batch_requests", self.max_batch_requests, 1)?;
        at_least("max_connections", self.max_connections, 1)?;
        at_least("max_buffered_bytes", self.max_buffered_bytes, 1)?;
        if !(1..=MAX_DEPTH).contains(&self.max_depth) {
            return Err(ServerError::limit(
                "max_depth",
                self.max_depth,
                format!("1 to {MAX_DEPTH}"),
            ));
        }
        if self.write_timeout.is_zero() {
            return Err(ServerError::limit("write_timeout", "0 s", "longer than 0 s"));
        }
        Ok(())
    }
}

/// Counts of a server, readable from any thread while it runs. Each is exact on its own; read
/// together they may be of slightly different moments.
#[derive(Debug, Default)]
pub struct ServerStats {
    pub(super) connections: AtomicUsize,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) stalled: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) buffered_bytes: AtomicUsize,
}

impl ServerStats {
    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections served since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections refused since the start, for their number or their user.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections closed since the start because their peer read nothing.
    pub fn stalled(&self) -> u64 {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Methods called since the start, by requests and notifications.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Methods that panicked since the start.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Bytes of responses, of all connections, that were made and not yet handed to the kernel.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Limits::default().validate().unwrap();
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_name() {
        let default = Limits::default;
        for (name, limits) in [
            ("max_request_bytes", Limits { max_request_bytes: 0, ..default() }),
            ("max_response_bytes", Limits { max_response_bytes: 1023, ..default() }),
            ("max_depth", Limits { max_depth: 0, ..default() }),
            ("max_depth", Limits { max_depth: 128, ..default() }),
            ("max_batch_requests", Limits { max_batch_requests: 0, ..default() }),
            ("max_connections", Limits { max_connections: 0, ..default() }),
            ("max_buffered_bytes", Limits { max_buffered_bytes: 0, ..default() }),
            ("write_timeout", Limits { write_timeout: Duration::ZERO, ..default() }),
        ] {
            let text = limits.validate().unwrap_err().to_string();
            assert!(text.contains(name), "{name}: {text}");
        }
    }
}
