//! Why the daemon could not start or end as it should, and the exit code for it.

use spdk_rs::env::cpu::CpuError;
use spdk_rs::reactor::RuntimeError;
use thiserror::Error;

use crate::bdev::BdevError;
use crate::cli::{CoresError, ExitCode};
use crate::core::CoreError;
use crate::subsys::ConfigError;
use jsonrpc::ServerError;

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
    #[error("--bdev {uri}: {source}")]
    Bdev {
        /// The URI.
        uri: String,
        /// Why.
        #[source]
        source: BdevError,
    },
    /// The socket cannot be taken or served.
    #[error(transparent)]
    Socket(#[from] ServerError),
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
            Self::Cpu(_) | Self::Config(_) => ExitCode::Config,
            Self::Bdev { source: BdevError::Driver { .. }, .. } => ExitCode::Resources,
            Self::Bdev { .. } => ExitCode::Config,
            Self::Socket(ServerError::BadPath { .. }) => ExitCode::Config,
            Self::Engine(CoreError::Runtime(RuntimeError::NoCores | RuntimeError::Cores(_))) => {
                ExitCode::Config
            }
            Self::Socket(_) | Self::Engine(_) | Self::Management(_) => ExitCode::Resources,
            Self::Unflushed(_) => ExitCode::Failure,
        }
    }
}
