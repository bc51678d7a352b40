//! The space of files: allocating, punching holes, zeroing, and making it durable.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::{FileError, retry};

/// How a file got its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Every added block is reserved: no later write fails for lack of space.
    Reserved,
    /// The file system cannot reserve; blocks are taken when they are written.
    Sparse,
}

/// Grows a regular file to `len` bytes and reserves the added blocks. A file that has as much is
/// left alone.
///
/// # Errors
///
/// [`FileError::NoSpace`], after which the file has its old length and holds no more blocks than
/// before.
pub fn allocate(file: &File, len: u64) -> Result<Allocation, FileError> {
    let failed = |source| FileError::Io { what: "grow", path: PathBuf::new(), source };
    let old_len = file.metadata().map_err(failed)?.len();
    if len <= old_len {
        return Ok(Allocation::Reserved);
    }
    match fallocate(file, 0, old_len, len - old_len) {
        Ok(()) => Ok(Allocation::Reserved),
        Err(error) => match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::ENOSYS) => {
                file.set_len(len).map_err(|source| grow_error(len, source))?;
                Ok(Allocation::Sparse)
            }
            _ => {
                // What was reserved before the space ran out goes back.
                file.set_len(old_len).map_err(failed)?;
                Err(grow_error(len, error))
            }
        },
    }
}

fn grow_error(len: u64, source: io::Error) -> FileError {
    match source.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => FileError::NoSpace { len, source },
        _ => FileError::Io { what: "grow", path: PathBuf::new(), source },
    }
}

/// Gives `len` bytes at byte `off` back to the file system; they read as zero. The file keeps its
/// length. On a block device the range is zeroed if it can do so by command. Blocks the calling
/// thread.
///
/// # Errors
///
/// The error of fallocate(2): `EOPNOTSUPP` when the file system cannot.
pub fn punch_hole(file: &File, off: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, off, len)
}

/// Makes `len` bytes at byte `off` read as zero and keeps them allocated. As with a write, a file
/// that ends before the end of the range grows. Blocks the calling thread.
///
/// # Errors
///
/// The error of fallocate(2): `EOPNOTSUPP` when the file system cannot.
pub fn zero_range(file: &File, off: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_ZERO_RANGE, off, len)
}

/// fallocate(2).
pub(super) fn fallocate(file: &File, mode: i32, off: u64, len: u64) -> io::Result<()> {
    let too_large = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let off = libc::off_t::try_from(off).map_err(too_large)?;
    let len = libc::off_t::try_from(len).map_err(too_large)?;
    // SAFETY: the call takes a descriptor that is open and numbers.
    retry(|| unsafe { libc::fallocate(file.as_raw_fd(), mode, off, len) }).map(|_| ())
}

/// Makes all completed writes of a file durable, see fdatasync(2). Blocks the calling thread.
///
/// # Errors
///
/// The error of fdatasync(2). After it the state of unsynced data is unknown: a later success
/// does not cover it.
pub fn fdatasync(file: &File) -> io::Result<()> {
    // SAFETY: the call takes a descriptor that is open.
    retry(|| unsafe { libc::fdatasync(file.as_raw_fd()) }).map(|_| ())
}
