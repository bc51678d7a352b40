//! Why there is no block device over a file.

use std::io;
use std::path::PathBuf;

use spdk_rs_sys::aio::AioError;
use spdk_rs_sys::file::FileError;
use spdk_rs_sys::uring::UringError;
use thiserror::Error;

/// Why a block device over a file or a block device of the system cannot be made or rescanned.
#[derive(Debug, Error)]
pub enum FileBdevError {
    /// It cannot be opened; the cause names the path.
    #[error("the file cannot be used")]
    Open(#[source] FileError),
    /// It does not exist and cannot be created.
    #[error("cannot create {path:?} with {bytes} bytes")]
    Create {
        /// The path as given.
        path: PathBuf,
        /// The size asked for.
        bytes: u64,
        /// Why.
        #[source]
        source: FileError,
    },
    /// A block size that the device cannot do.
    #[error(
        "{path:?}: the block size is {block_len} bytes; allowed: a power of two from {min} to {max}"
    )]
    BlockLen {
        /// The path as given.
        path: PathBuf,
        /// The block size asked for.
        block_len: u32,
        /// The smallest block that the device or its file system does.
        min: u32,
        /// The largest block.
        max: u32,
    },
    /// Not even one block fits.
    #[error("{path:?} has {bytes} bytes, which is less than one block of {block_len}")]
    TooSmall {
        /// The path as given.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The block size.
        block_len: u32,
    },
    /// A part of a block would be left over.
    #[error("{path:?} has {bytes} bytes, which is not a multiple of the block size {block_len}")]
    PartialBlock {
        /// The path as given.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The block size.
        block_len: u32,
    },
    /// It exists with another size than the one to create it with.
    #[error(
        "{path:?} exists with {found} bytes and not with the {wanted} to create it with; \
         leave the size out to use the file as it is"
    )]
    SizeDiffers {
        /// The path as given.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The size asked for.
        wanted: u64,
    },
    /// The block device is write-protected.
    #[error("{path:?} is write-protected: open it read-only")]
    WriteProtected {
        /// The path as given.
        path: PathBuf,
    },
    /// Linux AIO is asked to go through the page cache, where it is not asynchronous.
    #[error(
        "{path:?}: Linux AIO needs direct I/O ({reason}), since io_submit(2) would wait for the \
         device otherwise; use uring:// instead"
    )]
    AioNeedsDirect {
        /// The path as given.
        path: PathBuf,
        /// Why there is none.
        reason: String,
    },
    /// A queue depth that the driver does not do.
    #[error("{path:?}: the queue depth is {depth}; allowed: 1 to {max}")]
    Depth {
        /// The path as given.
        path: PathBuf,
        /// The depth asked for.
        depth: u32,
        /// The largest depth.
        max: u32,
    },
    /// The kernel gives no AIO context.
    #[error("Linux AIO is not available")]
    NoAio(#[source] AioError),
    /// The kernel gives no io_uring.
    #[error("io_uring is not available here; use aio:// instead")]
    NoUring(#[source] UringError),
    /// Any other failure.
    #[error("cannot {what} {path:?}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// The path as given.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A rescan of a device that is not over a file.
    #[error(
        "device '{device}' is of the driver {driver}; only aio and uring devices are rescanned"
    )]
    NotAFile {
        /// The device.
        device: String,
        /// Its driver.
        driver: &'static str,
    },
}
