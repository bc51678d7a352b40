//! From errors of the engine to errors of the dialect: SPDK's negative errno codes, with words.

use std::error::Error;
use std::io;

use jsonrpc::codes;
use jsonrpsee::types::ErrorObjectOwned;
use nix::errno::Errno;
use spdk_rs::bdev::{ClaimError, RegistryError};
use spdk_rs::drivers::layer::LayerError;
use spdk_rs::drivers::nvme::NvmeError;
use spdk_rs::drivers::split::SplitError;
use spdk_rs::env::MemoryError;
use spdk_rs::env::system::FileError;

use super::params::ParamError;
use crate::bdev::{BdevError, UriError};
use crate::core::CoreError;
use crate::pool::allocator::AllocError;
use crate::pool::block_api::BlockApiError;
use crate::pool::{ManagerError, PoolError};

/// The result of a method.
pub type RpcResult<T> = Result<T, ErrorObjectOwned>;

/// An error with its causes, in one line; a cause that the text before it quotes is not repeated.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

/// An error of an operation as a method answers it.
#[must_use]
pub fn failed(error: &(dyn Error + 'static)) -> ErrorObjectOwned {
    codes::from_errno(errno_of(error) as i32, with_causes(error))
}

/// An error with a chosen code and words.
#[must_use]
pub fn errno(errno: Errno, message: impl Into<String>) -> ErrorObjectOwned {
    codes::from_errno(errno as i32, message)
}

/// Parameters that are refused.
#[must_use]
pub fn params(error: &ParamError) -> ErrorObjectOwned {
    codes::invalid_params(error.to_string())
}

/// An error of making or removing a device. A wrong URI is a wrong parameter.
#[must_use]
pub fn bdev(error: &BdevError) -> ErrorObjectOwned {
    match error {
        BdevError::Uri(error) => uri(error),
        other => failed(other),
    }
}

fn uri(error: &UriError) -> ErrorObjectOwned {
    codes::invalid_params(format!("parameter `uri`: {error}"))
}

/// The errno that says the same as the first telling error in a chain of causes.
fn errno_of(error: &(dyn Error + 'static)) -> Errno {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(errno) = errno_of_one(error) {
            return errno;
        }
        next = error.source();
    }
    Errno::EINVAL
}

fn errno_of_one(error: &(dyn Error + 'static)) -> Option<Errno> {
    if let Some(error) = error.downcast_ref::<RegistryError>() {
        return Some(match error {
            RegistryError::NameTaken { .. } | RegistryError::UuidTaken { .. } => Errno::EEXIST,
            RegistryError::NotFound { .. } => Errno::ENODEV,
            RegistryError::NoName => Errno::EINVAL,
        });
    }
    if let Some(error) = error.downcast_ref::<ClaimError>() {
        return Some(match error {
            ClaimError::Claimed { .. } | ClaimError::Written { .. } => Errno::EBUSY,
            ClaimError::NotWritable { .. } => Errno::EINVAL,
            ClaimError::ReadOnlyDevice { .. } => Errno::EROFS,
            ClaimError::Removed { .. } => Errno::ENODEV,
        });
    }
    // Transparent wrappers have no source of their own to walk to.
    match error.downcast_ref::<BdevError>() {
        Some(BdevError::Registry(error)) => return errno_of_one(error),
        Some(BdevError::Parameter { .. }) => return Some(Errno::EINVAL),
        Some(BdevError::Shared { .. } | BdevError::Parts { .. }) => return Some(Errno::EBUSY),
        Some(BdevError::Pool { source, .. }) => return errno_of_one(&**source),
        _ => {}
    }
    match error.downcast_ref::<CoreError>() {
        Some(CoreError::Registry(error)) => return errno_of_one(error),
        Some(CoreError::Claim(error)) => return errno_of_one(error),
        Some(CoreError::Command { status, .. }) => return Some(Errno::from_raw(status.errno())),
        _ => {}
    }
    match error.downcast_ref::<BlockApiError>() {
        Some(BlockApiError::Core(error)) => return errno_of_one(error),
        Some(BlockApiError::Bdev(error)) => return errno_of_one(error),
        Some(BlockApiError::Alloc(AllocError::NoSpace { .. })) => return Some(Errno::ENOSPC),
        Some(BlockApiError::NotFound { .. } | BlockApiError::Closed { .. }) => {
            return Some(Errno::ENODEV);
        }
        Some(BlockApiError::Io { status, .. } | BlockApiError::Record { status, .. }) => {
            return Some(Errno::from_raw(status.errno()));
        }
        Some(BlockApiError::Damaged { .. }) => return Some(Errno::EIO),
        // Its cause tells.
        Some(BlockApiError::Memory(_)) | None => {}
        Some(_) => return Some(Errno::EINVAL),
    }
    match error.downcast_ref::<NvmeError>() {
        Some(NvmeError::Registry(error)) => return errno_of_one(error),
        Some(NvmeError::NotFound { .. }) => return Some(Errno::ENODEV),
        Some(NvmeError::NoPath { .. }) => return Some(Errno::ENXIO),
        Some(NvmeError::Pci(_)) => return Some(Errno::EPERM),
        // SPDK's for a controller name or path that is there already.
        Some(NvmeError::Taken { .. }) => return Some(Errno::EALREADY),
        Some(NvmeError::Connect { .. } | NvmeError::Failed { .. } | NvmeError::NoReactor) => {
            return Some(Errno::EIO);
        }
        Some(NvmeError::InUse { .. }) => return Some(Errno::EBUSY),
        Some(NvmeError::NotSupported { .. }) => return Some(Errno::EOPNOTSUPP),
        Some(NvmeError::TimedOut { .. }) => return Some(Errno::ETIMEDOUT),
        Some(NvmeError::Refused { status, .. }) => return Some(Errno::from_raw(status.errno())),
        Some(_) => return Some(Errno::EINVAL),
        None => {}
    }
    if let Some(errno) = errno_of_what_is_below(error) {
        return Some(errno);
    }
    if let Some(error) = error.downcast_ref::<ManagerError>() {
        return errno_of_manager(error);
    }
    if let Some(error) = error.downcast_ref::<PoolError>() {
        return Some(errno_of_pool(error));
    }
    if error.is::<MemoryError>() {
        return Some(Errno::ENOMEM);
    }
    error.downcast_ref::<io::Error>()?.raw_os_error().map(Errno::from_raw)
}

/// The errno of an error of a file, or of a device over another one.
fn errno_of_what_is_below(error: &(dyn Error + 'static)) -> Option<Errno> {
    match error.downcast_ref::<FileError>() {
        Some(FileError::NotFound { .. }) => return Some(Errno::ENOENT),
        Some(FileError::NotStorage { .. } | FileError::NoDirect { .. }) => {
            return Some(Errno::EINVAL);
        }
        Some(FileError::InUse { .. }) => return Some(Errno::EBUSY),
        Some(FileError::Exists { .. }) => return Some(Errno::EEXIST),
        _ => {}
    }
    match error.downcast_ref::<LayerError>() {
        Some(LayerError::Claim(error)) => return errno_of_one(error),
        Some(LayerError::Registry(error)) => return errno_of_one(error),
        None => {}
    }
    match error.downcast_ref::<SplitError>() {
        Some(SplitError::Layer(error)) => return errno_of_one(error),
        Some(SplitError::Room { .. } | SplitError::Uneven { .. } | SplitError::Zoned { .. }) => {
            return Some(Errno::EINVAL);
        }
        None => {}
    }
    None
}

fn errno_of_manager(error: &ManagerError) -> Option<Errno> {
    match error {
        ManagerError::Pool(error) => Some(errno_of_pool(error)),
        ManagerError::Claim(error) => errno_of_one(error),
        ManagerError::Registry(error) => errno_of_one(error),
        ManagerError::Open { source, .. } => errno_of_one(source),
        ManagerError::Zoned { .. } => Some(Errno::EINVAL),
        ManagerError::NoSuchPool { .. } | ManagerError::NoSuchVolume { .. } => Some(Errno::ENODEV),
        ManagerError::NameTaken { .. }
        | ManagerError::Already { .. }
        | ManagerError::Copy { .. } => Some(Errno::EEXIST),
        ManagerError::OtherPool { .. } => Some(Errno::EINVAL),
        ManagerError::InUse { .. } => Some(Errno::EBUSY),
        ManagerError::Gone(_) | ManagerError::NoReactor => Some(Errno::EIO),
    }
}

fn errno_of_pool(error: &PoolError) -> Errno {
    match error {
        PoolError::NotAPool { .. } | PoolError::NoSuchVolume { .. } => Errno::ENODEV,
        PoolError::HoldsPool { .. } | PoolError::Taken { .. } => Errno::EEXIST,
        PoolError::Format { .. } => Errno::EOPNOTSUPP,
        PoolError::ReadOnly { .. } => Errno::EROFS,
        PoolError::NoSpace { .. } => Errno::ENOSPC,
        PoolError::Device { status, .. } => Errno::from_raw(status.errno()),
        PoolError::Refused { .. } | PoolError::Parameter { .. } => Errno::EINVAL,
        // Everything else is a pool that is not what it was.
        _ => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_once() {
        let inner = io::Error::from_raw_os_error(Errno::ENOENT as i32);
        let words = inner.to_string();
        let error = BdevError::driver("a", inner);
        assert_eq!(with_causes(&error), format!("cannot create device 'a': {words}"));
    }

    #[test]
    fn codes_are_those_of_spdk() {
        let by = || "b".to_owned();
        let taken = RegistryError::NameTaken { name: "a".into(), by: by() };
        assert_eq!(failed(&taken).code(), -17);
        assert_eq!(bdev(&taken.into()).code(), -17);
        let gone = RegistryError::NotFound { name: "a".into() };
        assert_eq!(failed(&gone).code(), -19);
        assert_eq!(failed(&CoreError::from(gone)).code(), -19);
        let missing = io::Error::from_raw_os_error(Errno::ENOENT as i32);
        assert_eq!(bdev(&BdevError::driver("a", missing)).code(), -2);
        assert_eq!(bdev(&BdevError::driver("a", "words")).code(), -22);
        let memory = MemoryError::Exhausted { bytes: 1, free: 0, largest: 0 };
        assert_eq!(bdev(&BdevError::driver("a", memory)).code(), -12);
        let removed = ClaimError::Removed { device: "a".into() };
        assert_eq!(failed(&removed).code(), -19);
        let wrong = UriError::NoName { scheme: "malloc".into() };
        assert_eq!(bdev(&wrong.into()).code(), codes::INVALID_PARAMS);
    }
}
