//! Errors of opening, claiming and reaching devices.

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{ClaimError, RegistryError};
use spdk_rs::env::MemoryError;
use spdk_rs::reactor::{ReactorGone, RuntimeError};
use thiserror::Error;

/// Why the engine could not do what it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CoreError {
    /// A device cannot be found or registered.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A device cannot be opened or claimed.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// There is no buffer memory.
    #[error("no memory for I/O buffers")]
    Memory(#[from] MemoryError),
    /// The driver cannot open a channel on this core.
    #[error("cannot open a channel to device '{device}' on this core")]
    Channel {
        /// The device.
        device: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The reactors cannot be started.
    #[error("cannot start the reactors")]
    Runtime(#[from] RuntimeError),
    /// A reactor has ended.
    #[error(transparent)]
    Reactor(#[from] ReactorGone),
    /// A command ended with an error.
    #[error("the command to device '{device}' failed: {status}")]
    Command {
        /// The device.
        device: String,
        /// How it ended.
        status: NvmeStatus,
    },
}
