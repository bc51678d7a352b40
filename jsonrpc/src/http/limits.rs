//! What the HTTP server accepts from its peers, and counts of what it did.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::ServerError;

/// Limits of an HTTP server. Start from [`HttpLimits::default`] and change what differs.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// The longest head of a request in bytes, at least 8192. Default 32 KiB. A longer one is
    /// answered with status 431.
    pub max_header_bytes: usize,
    /// The longest body of a request, and the longest message of a WebSocket, in bytes, at least 1.
    /// Default 4 MiB. A longer body is answered with status 413.
    pub max_request_bytes: u32,
    /// The longest response of a method in bytes, at least 1024. Default 32 MiB.
    pub max_response_bytes: u32,
    /// The most requests in one batch, at least 1. Default 1024.
    pub max_batch_requests: u32,
    /// The most connections at once, 1 to 65,535. Default 64. One more is answered with status 503.
    pub max_connections: usize,
    /// The most subscriptions of one WebSocket. Default 16.
    pub max_subscriptions: u32,
    /// Answers and messages that may wait for the peer of a WebSocket to read them, at least 1.
    /// Default 256.
    pub max_buffered_messages: u32,
    /// A peer has so long for the head of a request, from the end of the one before. Default 15 s.
    pub header_timeout: Duration,
    /// A peer has so long for the body of a request. Default 30 s; after it, status 408.
    pub body_timeout: Duration,
    /// A peer that takes no byte of a waiting response for this long is disconnected. Default 30 s.
    pub write_timeout: Duration,
    /// A WebSocket is asked for a sign of life after half of this, and closed after all of it.
    /// Default 60 s.
    pub idle_timeout: Duration,
    /// At shutdown, requests in execution and responses that wait get this long. Default 5 s.
    pub shutdown_grace: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_header_bytes: 32 << 10,
            max_request_bytes: 4 << 20,
            max_response_bytes: 32 << 20,
            max_batch_requests: 1024,
            max_connections: 64,
            max_subscriptions: 16,
            max_buffered_messages: 256,
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

impl HttpLimits {
    /// What the parser of heads cannot do with less.
    const HEADER_BYTES_MIN: u64 = 8192;
    /// The shortest response limit that holds every error answer the server makes itself.
    const RESPONSE_BYTES_MIN: u64 = 1024;
    /// More connections than this are no management interface.
    const CONNECTIONS_MAX: u64 = 65_535;

    /// Checks every field against the range that its documentation states.
    ///
    /// # Errors
    ///
    /// [`ServerError::Limit`] naming the first field out of range.
    pub fn validate(&self) -> Result<(), ServerError> {
        let within = |name, value: u64, min: u64, max: u64| {
            let range = match max {
                u64::MAX => format!("at least {min}"),
                max => format!("{min} to {max}"),
            };
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(ServerError::limit(name, value, range))
            }
        };
        let least = |name, value, min| within(name, value, min, u64::MAX);
        least("max_header_bytes", self.max_header_bytes as u64, Self::HEADER_BYTES_MIN)?;
        least("max_request_bytes", self.max_request_bytes.into(), 1)?;
        least("max_response_bytes", self.max_response_bytes.into(), Self::RESPONSE_BYTES_MIN)?;
        least("max_batch_requests", self.max_batch_requests.into(), 1)?;
        within("max_connections", self.max_connections as u64, 1, Self::CONNECTIONS_MAX)?;
        least("max_buffered_messages", self.max_buffered_messages.into(), 1)?;
        for (name, value) in [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("write_timeout", self.write_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if value.is_zero() {
                return Err(ServerError::limit(name, "0 s", "longer than 0 s"));
            }
        }
        Ok(())
    }
}

/// Counts of an HTTP server, readable from any thread. Each is exact on its own; read together
/// they may be of slightly different moments.
#[derive(Debug, Default)]
pub struct HttpStats {
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) stalled: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) forbidden: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) panics: AtomicU64,
}

impl HttpStats {
    /// Connections served since the start.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections refused since the start, for their number.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Connections closed since the start because their peer read nothing.
    pub fn stalled(&self) -> u64 {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Requests since the start, by whatever path.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Requests and calls refused since the start for their host, their origin or their token.
    pub fn forbidden(&self) -> u64 {
        self.forbidden.load(Ordering::Relaxed)
    }

    /// Methods called since the start.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Methods that panicked since the start.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_refused_by_name() {
        HttpLimits::default().validate().unwrap();
        let default = HttpLimits::default;
        for (name, limits) in [
            ("max_header_bytes", HttpLimits { max_header_bytes: 8191, ..default() }),
            ("max_request_bytes", HttpLimits { max_request_bytes: 0, ..default() }),
            ("max_response_bytes", HttpLimits { max_response_bytes: 1023, ..default() }),
            ("max_batch_requests", HttpLimits { max_batch_requests: 0, ..default() }),
            ("max_connections", HttpLimits { max_connections: 0, ..default() }),
            ("max_connections", HttpLimits { max_connections: 65_536, ..default() }),
            ("max_buffered_messages", HttpLimits { max_buffered_messages: 0, ..default() }),
            ("header_timeout", HttpLimits { header_timeout: Duration::ZERO, ..default() }),
            ("body_timeout", HttpLimits { body_timeout: Duration::ZERO, ..default() }),
            ("write_timeout", HttpLimits { write_timeout: Duration::ZERO, ..default() }),
            ("idle_timeout", HttpLimits { idle_timeout: Duration::ZERO, ..default() }),
        ] {
            let text = limits.validate().unwrap_err().to_string();
            assert!(text.contains(name), "{name}: {text}");
        }
    }
}
