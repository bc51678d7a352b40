//! Errors of the client.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

/// Why a call did not succeed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody serves the socket: it does not exist, or its process is gone.
    #[error(
        "no daemon answers at {path:?}; start one, or name the socket of a running one with -r/--rpc-socket"
    )]
    NotRunning {
        /// The socket's path.
        path: PathBuf,
        /// ENOENT or ECONNREFUSED.
        #[source]
        source: io::Error,
    },
    /// The socket belongs to another user.
    #[error(
        "no permission for {path:?}; the socket serves the user who runs the daemon: run as that user or as root"
    )]
    Denied {
        /// The socket's path.
        path: PathBuf,
        /// EACCES or EPERM.
        #[source]
        source: io::Error,
    },
    /// The connection could not be made, or broke.
    #[error("{path:?}: cannot {action}: {source}")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// The step.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer took too long. Whether the method was executed is unknown; connect again for
    /// further calls.
    #[error("{path:?}: no answer to {what} within {after:?}")]
    Timeout {
        /// The socket's path.
        path: PathBuf,
        /// The method, or the step.
        what: String,
        /// The time allowed.
        after: Duration,
    },
    /// The server answered with an error.
    #[error("{message} (code {code}){}", .data.as_ref().map_or_else(String::new, |data| format!(": {data}")))]
    Rpc {
        /// The code; see [`crate::codes`].
        code: i64,
        /// The server's explanation.
        message: String,
        /// Details, where the server gave some.
        data: Option<Value>,
    },
    /// The request cannot be sent, or what came back is no answer to it.
    #[error("{path:?}: {reason}")]
    Protocol {
        /// The socket's path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
