//! Why a pool or volume cannot be managed as asked.

use spdk_rs::bdev::{ClaimError, RegistryError};
use spdk_rs::reactor::ReactorGone;
use thiserror::Error;
use uuid::Uuid;

use super::super::PoolError;

/// An error of the pool manager.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// The pool or volume refused.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The device below cannot be had.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// There is no such device, or the name of a volume's device is taken.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The pool's reactor has ended.
    #[error(transparent)]
    Gone(#[from] ReactorGone),
    /// The device below cannot be opened on the pool's reactor.
    #[error("device '{device}' cannot be opened for a pool")]
    Open {
        /// The device.
        device: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The device below has zones.
    #[error("{words}")]
    Zoned {
        /// Which device, and why that cannot be.
        words: String,
    },
    /// There is no such pool.
    #[error("there is no pool '{name}'; imported are {imported}")]
    NoSuchPool {
        /// What was asked for.
        name: String,
        /// The pools that there are, or "none".
        imported: String,
    },
    /// There is no such volume.
    #[error(
        "there is no volume or snapshot '{name}'; a volume is named POOL/VOLUME or by its UUID"
    )]
    NoSuchVolume {
        /// What was asked for.
        name: String,
    },
    /// A pool of that name is imported.
    #[error("the name '{name}' is taken by the pool on device '{device}'; export that pool first")]
    NameTaken {
        /// The name.
        name: String,
        /// The device of the pool that has it.
        device: String,
    },
    /// The pool is imported.
    #[error("pool '{name}' on device '{device}' is imported already")]
    Already {
        /// The pool.
        name: String,
        /// Its device.
        device: String,
    },
    /// The same pool is imported from another device.
    #[error(
        "device '{device}' holds a copy of pool '{name}' ({uuid}), which is imported from device '{other}'"
    )]
    Copy {
        /// The device that was to be imported.
        device: String,
        /// The imported pool.
        name: String,
        /// The UUID of both.
        uuid: Uuid,
        /// The device of the imported pool.
        other: String,
    },
    /// The device holds another pool than the one that was asked for.
    #[error("device '{device}' holds pool '{found}' ({uuid}), not '{wanted}'")]
    OtherPool {
        /// The device.
        device: String,
        /// The name of its pool.
        found: String,
        /// The UUID of its pool.
        uuid: Uuid,
        /// The name that was asked for.
        wanted: String,
    },
    /// A device is open.
    #[error("'{device}' is in use by {users}; it has to be closed first")]
    InUse {
        /// The device.
        device: String,
        /// Who has it open.
        users: String,
    },
    /// There are no reactors.
    #[error("there is no reactor for a pool")]
    NoReactor,
}
