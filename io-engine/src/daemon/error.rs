//! Why the daemon could not start or end as it should, and the exit code for it.

use std::path::PathBuf;

use spdk_rs::env::cpu::CpuError;
use spdk_rs::reactor::RuntimeError;
use thiserror::Error;

use super::export::ExportError;
use crate::bdev::BdevError;
use crate::cli::{CoresError, ExitCode};
use crate::core::CoreError;
use crate::subsys::ConfigError;
use jsonrpc::ServerError;
use jsonrpc::http::{HttpError, TokenError};

/// Why the daemon failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The mask or list of cores cannot be read.
    #[error(transparent)]
    Cores(#[from] CoresError),
    /// A core cannot be used.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The configuration file is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A device of the command line cannot be made.
    #[error("{uri}: {source}")]
    Bdev {
        /// The URI.
        uri: String,
        /// Why.
        #[source]
        source: BdevError,
    },
    /// A device of the command line cannot be exported.
    #[error("cannot export: {source}")]
    Export {
        /// Why.
        #[source]
        source: ExportError,
    },
    /// The directory of `--rpc-root` is not there.
    #[error("--rpc-root {dir:?}: {source}")]
    Root {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The socket cannot be taken or served.
    #[error(transparent)]
    Socket(#[from] ServerError),
    /// HTTP cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The file with the token for HTTP is refused.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Memory or reactors cannot be had.
    #[error(transparent)]
    Engine(#[from] CoreError),
    /// The management thread cannot be set up.
    #[error("cannot set up the management thread")]
    Management(#[source] std::io::Error),
    /// Devices whose completed writes may not be on their medium.
    #[error("not flushed: {0}")]
    Unflushed(String),
}

impl DaemonError {
    /// The code to end the process with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Cores(_) => ExitCode::Usage,
            Self::Cpu(_) | Self::Config(_) | Self::Root { .. } | Self::Token(_) => ExitCode::Config,
            Self::Bdev { source: BdevError::Driver { .. }, .. } => ExitCode::Resources,
            Self::Bdev { .. } => ExitCode::Config,
            Self::Export { source } if source.is_config() => ExitCode::Config,
            Self::Socket(ServerError::BadPath { .. }) => ExitCode::Config,
            Self::Engine(CoreError::Runtime(RuntimeError::NoCores | RuntimeError::Cores(_))) => {
                ExitCode::Config
            }
            Self::Socket(_)
            | Self::Http(_)
            | Self::Engine(_)
            | Self::Management(_)
            | Self::Export { .. } => ExitCode::Resources,
            Self::Unflushed(_) => ExitCode::Failure,
        }
    }
}
