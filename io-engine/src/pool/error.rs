//! Why the pool could not do what it was asked to.

use spdk_rs::NvmeStatus;
use thiserror::Error;
use uuid::Uuid;

/// An error of a pool, a volume or a snapshot.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// No superblock was found.
    #[error("device '{device}' holds no pool: none of the places for a superblock has one")]
    NotAPool {
        /// The device.
        device: String,
    },
    /// Something that looks like superblocks is there, and none of them is whole.
    #[error("device '{device}' held a pool, but all of its superblocks are damaged: {found}")]
    NoSuperblock {
        /// The device.
        device: String,
        /// What was found at each place.
        found: String,
    },
    /// A newer or foreign format.
    #[error("pool on device '{device}' has format {what} {found}; this build knows {allowed}")]
    Format {
        /// The device.
        device: String,
        /// Which part of the format.
        what: &'static str,
        /// What the pool has.
        found: String,
        /// What would be allowed.
        allowed: String,
    },
    /// The device has a pool already.
    #[error(
        "device '{device}' already holds pool '{pool}' ({uuid}); destroy that pool by its name first"
    )]
    HoldsPool {
        /// The device.
        device: String,
        /// The pool's name.
        pool: String,
        /// The pool's UUID.
        uuid: Uuid,
    },
    /// The device is smaller than the pool on it.
    #[error(
        "device '{device}' has {device_blocks} blocks of 4 KiB, but its pool was made for {pool_blocks}: the device shrank"
    )]
    Shrunk {
        /// The device.
        device: String,
        /// Blocks of 4 KiB that there are.
        device_blocks: u64,
        /// Blocks of 4 KiB that the pool has.
        pool_blocks: u64,
    },
    /// The superblocks that are left are older than the journal.
    #[error(
        "pool on device '{device}': the newest superblocks are lost: generation {found} was found, but the journal has records of generation {journal}"
    )]
    StaleSuperblock {
        /// The device.
        device: String,
        /// The generation of the newest superblock.
        found: u64,
        /// The newest generation in the journal.
        journal: u64,
    },
    /// A journal record is damaged, and a later one shows that it was durable.
    #[error(
        "journal record {record} in block {address} is damaged, but the later record {later} says that it was on the medium"
    )]
    JournalDamaged {
        /// The damaged record.
        record: u64,
        /// Where it should be, in blocks of 4 KiB.
        address: u64,
        /// A good record behind it.
        later: u64,
    },
    /// A block does not hold what its parent says.
    #[error("{what}: block {address} does not match its digest")]
    Corrupt {
        /// What the block should be.
        what: String,
        /// Where it is, in blocks of 4 KiB.
        address: u64,
    },
    /// Two facts of the pool contradict each other.
    #[error("the pool contradicts itself: {0}")]
    Inconsistent(String),
    /// The device failed.
    #[error("{operation} of block {address} failed: {status}")]
    Device {
        /// What was done.
        operation: &'static str,
        /// Where, in blocks of 4 KiB.
        address: u64,
        /// How it ended.
        status: NvmeStatus,
    },
    /// The pool has stopped taking changes.
    #[error("pool '{pool}' is read-only: {reason}")]
    ReadOnly {
        /// The pool.
        pool: String,
        /// Why.
        reason: String,
    },
    /// There is no room.
    #[error("pool '{pool}' has {available} blocks of 4 KiB available, {needed} are needed")]
    NoSpace {
        /// The pool.
        pool: String,
        /// Blocks of 4 KiB that can be used.
        available: u64,
        /// Blocks of 4 KiB that are needed.
        needed: u64,
    },
    /// A name or UUID is in use.
    #[error("{what} '{value}' is taken in pool '{pool}'")]
    Taken {
        /// Name or UUID.
        what: &'static str,
        /// Its value.
        value: String,
        /// The pool.
        pool: String,
    },
    /// There is no such volume or snapshot.
    #[error("pool '{pool}' has no volume or snapshot '{name}'")]
    NoSuchVolume {
        /// The pool.
        pool: String,
        /// What was asked for.
        name: String,
    },
    /// An operation does not fit the kind or the state of a volume.
    #[error("'{name}': {problem}")]
    Refused {
        /// The volume or snapshot.
        name: String,
        /// Why.
        problem: String,
    },
    /// A parameter has a value that cannot be.
    #[error("{parameter} {value}: {allowed}")]
    Parameter {
        /// The parameter.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

impl PoolError {
    /// The status with which an I/O ends that met this error.
    pub fn status(&self) -> NvmeStatus {
        match self {
            Self::Device { status, .. } => *status,
            Self::Corrupt { .. } => NvmeStatus::UNRECOVERED_READ_ERROR.with_do_not_retry(true),
            Self::ReadOnly { .. } => NvmeStatus::WRITE_PROTECTED,
            Self::NoSpace { .. } => NvmeStatus::CAPACITY_EXCEEDED,
            Self::NoSuchVolume { .. } => NvmeStatus::INVALID_NAMESPACE,
            Self::Parameter { .. } => NvmeStatus::INVALID_FIELD,
            _ => NvmeStatus::INTERNAL_ERROR,
        }
    }

    pub(super) fn device(operation: &'static str, address: u64, status: NvmeStatus) -> Self {
        Self::Device { operation, address, status }
    }
}
