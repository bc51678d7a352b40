//! Errors of the server.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a server could not start or had to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A limit is out of its range.
    #[error("limit {name}: {value} is not allowed; it must be {allowed}")]
    Limit {
        /// The field of [`Limits`](crate::Limits).
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be set to.
        allowed: String,
    },
    /// The path cannot be the address of a Unix socket.
    #[error("RPC socket path {path:?}: {reason}")]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory that should hold the socket does not exist or is not a directory.
    #[error(
        "RPC socket path {path:?}: {directory:?} is not an existing directory; create it, or choose another path"
    )]
    NoDirectory {
        /// The path.
        path: PathBuf,
        /// Its parent.
        directory: PathBuf,
    },
    /// A live process serves, or is about to serve, this path.
    #[error(
        "RPC socket path {path:?} is in use by {}; stop that process, or choose another path",
        .pid.map_or_else(|| "a running process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The path.
        path: PathBuf,
        /// The process, where the kernel or the lock file tells.
        pid: Option<i32>,
    },
    /// Something other than a socket has this name; it is left alone.
    #[error(
        "RPC socket path {path:?} is {found}, not a socket; it is left as it is: choose another path or remove it"
    )]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The operating system refused a step.
    #[error("RPC socket path {path:?}: cannot {action}: {source}")]
    Io {
        /// The path of the socket or of its lock file.
        path: PathBuf,
        /// The step.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ServerError {
    /// A limit out of range.
    pub(crate) fn limit(
        name: &'static str,
        value: impl ToString,
        allowed: impl Into<String>,
    ) -> Self {
        Self::Limit { name, value: value.to_string(), allowed: allowed.into() }
    }
}
