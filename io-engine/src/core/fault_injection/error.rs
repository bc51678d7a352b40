//! Why an injection is refused.

use spdk_rs::bdev::RegistryError;
use spdk_rs::reactor::ReactorGone;
use thiserror::Error;

use crate::bdev::UriError;

/// Why a fault cannot be injected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FaultError {
    /// The URI is wrong.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// There is no such device.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No I/O that is asked for can have the fault.
    #[error("type {kind} cannot happen to {ops} at {stage}; it can to {allowed}")]
    Never {
        /// The fault.
        kind: String,
        /// The I/O that was asked for.
        ops: String,
        /// The stage, or "any stage".
        stage: &'static str,
        /// What it can happen to, and when.
        allowed: String,
    },
    /// The device does none of the I/O.
    #[error("device '{device}' does no {ops}; it does {allowed}")]
    Unsupported {
        /// The device.
        device: String,
        /// The I/O that the fault is for.
        ops: String,
        /// What the device does.
        allowed: String,
    },
    /// The blocks are beyond the device's end.
    #[error("offset {offset}: device '{device}' has {blocks} blocks; give one below that")]
    Beyond {
        /// The device.
        device: String,
        /// The first block.
        offset: u64,
        /// Blocks of the device.
        blocks: u64,
    },
    /// There is no such injection.
    #[error("there is no fault injection {id}; fault_injection_list shows those that are")]
    NotFound {
        /// The number.
        id: u64,
    },
    /// The reactors have ended.
    #[error(transparent)]
    Gone(#[from] ReactorGone),
    /// The engine has no reactors.
    #[error("no reactor is running")]
    NoReactor,
}
