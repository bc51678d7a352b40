//! What can keep a run from starting or ending, and the exit code for it.

use std::io;

use spdk_rs::reactor::RuntimeError;

use crate::bdev::BdevError;
use crate::cli::{CoresError, ExitCode};
use crate::core::CoreError;
use crate::daemon::DaemonError;
use crate::perf::options::OptionsError;
use crate::perf::workload::Op;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PerfError {
    /// The cores cannot be read.
    #[error(transparent)]
    Cores(#[from] CoresError),
    /// An option does not fit a device.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// `verify` on a device that keeps nothing.
    #[error("-w verify on {device}: a null device stores nothing, so there is nothing to verify")]
    NothingStored {
        /// The device's name.
        device: String,
    },
    /// The device does not know an operation of the pattern.
    #[error("{device}: the device knows no {}, and the load needs it", op.name())]
    Unsupported {
        /// The device's name.
        device: String,
        /// The operation.
        op: Op,
    },
    /// A device cannot be made or removed.
    #[error(transparent)]
    Bdev(#[from] BdevError),
    /// The engine cannot be started, or a device cannot be found or opened.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// A job cannot be prepared on its core.
    #[error("{device} on core {core}: {depth} I/Os of {io_size} bytes cannot be prepared")]
    Prepare {
        /// The device's name.
        device: String,
        /// The core's number.
        core: u32,
        /// The number of I/Os kept in flight.
        depth: u32,
        /// The length of an I/O in bytes.
        io_size: u64,
        /// Why.
        source: CoreError,
    },
    /// The kernel gives no way to wait for signals or time.
    #[error("cannot wait for signals")]
    Wait(#[source] io::Error),
    /// Requests cannot be answered, or what they have made does not end in good order.
    #[error(transparent)]
    Management(Box<DaemonError>),
    /// Interrupted a second time while I/O was still in flight.
    #[error("interrupted twice: I/O in flight was abandoned and nothing is reported")]
    Abandoned,
}

impl From<DaemonError> for PerfError {
    fn from(error: DaemonError) -> Self {
        Self::Management(Box::new(error))
    }
}

impl PerfError {
    /// The code the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Cores(_)
            | Self::Options(_)
            | Self::NothingStored { .. }
            | Self::Unsupported { .. } => ExitCode::Usage,
            Self::Management(error) => error.exit_code(),
            Self::Bdev(BdevError::Driver { .. }) => ExitCode::Resources,
            Self::Bdev(_)
            | Self::Core(
                CoreError::Registry(_)
                | CoreError::Runtime(RuntimeError::Cores(_) | RuntimeError::NoCores),
            ) => ExitCode::Config,
            Self::Core(_) | Self::Prepare { .. } | Self::Wait(_) => ExitCode::Resources,
            Self::Abandoned => ExitCode::Failure,
        }
    }
}
