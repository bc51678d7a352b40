//! Files and block devices as storage: opening them safely, what they can do, and their space.
//!
//! Invariants:
//!
//! * Opening never creates, truncates or changes anything, and never blocks on a pipe.
//! * [`probe`] tells the truth or the cautious answer: a write cache is assumed unless the kernel
//!   says that there is none; a missing capability is never claimed.
//! * [`create`] and [`allocate`] either give all the space or leave nothing behind.

mod block;
mod open;
mod probe;
mod space;

use std::io;
use std::path::PathBuf;

pub use block::{blk_discard, blk_zeroout, size};
pub use open::{OpenOptions, create, lock_exclusive, open};
pub use probe::{FileInfo, FileKind, Filesystem, probe};
pub use space::{Allocation, allocate, fdatasync, punch_hole, zero_range};

/// Why a file cannot be used as storage.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is nothing at that path.
    #[error("{path:?} does not exist")]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The path leads to something that holds no blocks.
    #[error("{path:?} is a {kind}; allowed: a regular file or a block device")]
    NotStorage {
        /// The path as given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The process may not open the file.
    #[error("no permission to open {path:?} for {access}")]
    Permission {
        /// The path as given.
        path: PathBuf,
        /// What it was opened for.
        access: &'static str,
        /// The error of open(2).
        #[source]
        source: io::Error,
    },
    /// The file system or the device is read-only.
    #[error("{path:?} is read-only: open it read-only")]
    ReadOnly {
        /// The path as given.
        path: PathBuf,
        /// The error of open(2).
        #[source]
        source: io::Error,
    },
    /// The file system cannot bypass the page cache.
    #[error("{path:?} is on {filesystem}, which has no direct I/O: open it buffered")]
    NoDirect {
        /// The path as given.
        path: PathBuf,
        /// Name of the file system.
        filesystem: String,
    },
    /// Somebody else uses the file or device.
    #[error("{path:?} is in use: {by}")]
    InUse {
        /// The path as given.
        path: PathBuf,
        /// Who uses it, as far as can be told.
        by: &'static str,
    },
    /// A file to be created exists.
    #[error("{path:?} exists already")]
    Exists {
        /// The path as given.
        path: PathBuf,
    },
    /// The file system has no room.
    #[error("no space for a file of {len} bytes")]
    NoSpace {
        /// The length asked for, in bytes.
        len: u64,
        /// The error of fallocate(2): `ENOSPC`, `EDQUOT`, or `EFBIG` for a file that the file
        /// system or a limit does not allow.
        #[source]
        source: io::Error,
    },
    /// Any other failure.
    #[error("cannot {what} {path:?}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// The path as given, empty for an open file.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
}

/// Runs a system call again as long as a signal interrupts it; it returns -1 for a failure.
fn retry(mut call: impl FnMut() -> i32) -> io::Result<i32> {
    loop {
        let result = call();
        if result >= 0 {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests;
