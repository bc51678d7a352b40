//! Opening, creating and locking.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::{FileError, allocate, probe::filesystem_of, retry};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Open for reading only.
    pub read_only: bool,
    /// Bypass the page cache with `O_DIRECT`.
    pub direct: bool,
    /// Refuse a file or device that somebody uses, and keep others from using it, see
    /// [`lock_exclusive`].
    pub exclusive: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { read_only: false, direct: true, exclusive: false }
    }
}

impl OpenOptions {
    fn access(&self) -> &'static str {
        if self.read_only { "reading" } else { "reading and writing" }
    }

    fn flags(&self) -> i32 {
        // O_NONBLOCK keeps the open from waiting for the other end of a pipe; O_EXCL without
        // O_CREAT claims a block device and means nothing for a regular file.
        let mut flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        if self.direct {
            flags |= libc::O_DIRECT;
        }
        if self.exclusive {
            flags |= libc::O_EXCL;
        }
        flags
    }
}

/// Opens a regular file or a block device.
///
/// # Errors
///
/// [`FileError`] naming the path and what is wrong with it.
pub fn open(path: &Path, options: &OpenOptions) -> Result<File, FileError> {
    let result = File::options()
        .read(true)
        .write(!options.read_only)
        .custom_flags(options.flags())
        .open(path);
    let file = result.map_err(|source| open_error(path, options, source))?;
    check_kind(path, &file)?;
    // io_uring would complete requests with EAGAIN instead of waiting if the flag stayed.
    set_blocking(&file).map_err(|source| FileError::Io {
        what: "change the flags of",
        path: path.to_owned(),
        source,
    })?;
    if options.exclusive {
        lock_exclusive(&file, path)?;
    }
    Ok(file)
}

/// Creates a regular file of `len` bytes, readable and writable by its owner only, with all its
/// space allocated as far as the file system can, and opens it.
///
/// # Errors
///
/// [`FileError`]; a file that could not be given its space is removed again.
pub fn create(path: &Path, len: u64, options: &OpenOptions) -> Result<File, FileError> {
    let result = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_CLOEXEC)
        .open(path);
    let file = result.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists { path: path.to_owned() },
        _ => open_error(path, options, source),
    })?;
    let opened = allocate(&file, len).and_then(|_| open(path, options));
    if opened.is_err() {
        // The file was made here a moment ago and holds nothing.
        let _ = std::fs::remove_file(path);
    }
    opened
}

/// Keeps other users of this crate, and everybody who honours flock(2), off a file until it is
/// closed. A block device is kept by the `O_EXCL` that [`open`] opened it with, which also refuses
/// a mounted one.
///
/// # Errors
///
/// [`FileError::InUse`] when somebody else has it.
pub fn lock_exclusive(file: &File, path: &Path) -> Result<(), FileError> {
    // SAFETY: the call takes a descriptor that is open and a constant.
    match retry(|| unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(FileError::InUse { path: path.to_owned(), by: "another opener holds its lock" })
        }
        Err(source) => Err(FileError::Io { what: "lock", path: path.to_owned(), source }),
    }
}

/// Refuses what is neither a regular file nor a block device.
fn check_kind(path: &Path, file: &File) -> Result<(), FileError> {
    let metadata = file.metadata().map_err(|source| FileError::Io {
        what: "examine",
        path: path.to_owned(),
        source,
    })?;
    kind_of(&metadata.file_type())
        .map_err(|kind| FileError::NotStorage { path: path.to_owned(), kind })
}

/// What kind of thing holds no blocks.
fn kind_of(kind: &std::fs::FileType) -> Result<(), &'static str> {
    if kind.is_file() || kind.is_block_device() {
        Ok(())
    } else if kind.is_dir() {
        Err("directory")
    } else if kind.is_char_device() {
        Err("character device")
    } else if kind.is_fifo() {
        Err("pipe")
    } else {
        Err("special file")
    }
}

/// Clears `O_NONBLOCK`.
fn set_blocking(file: &File) -> io::Result<()> {
    let fd = file.as_raw_fd();
    // SAFETY: the call takes a descriptor that is open.
    let flags = retry(|| unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: the call takes a descriptor that is open and its own flags.
    retry(|| unsafe { libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_NONBLOCK) })?;
    Ok(())
}

/// Tells apart why open(2) failed.
fn open_error(path: &Path, options: &OpenOptions, source: io::Error) -> FileError {
    let path = path.to_owned();
    match source.raw_os_error() {
        Some(libc::ENOENT) => FileError::NotFound { path },
        Some(libc::EISDIR) => FileError::NotStorage { path, kind: "directory" },
        Some(libc::ENXIO) => FileError::NotStorage { path, kind: "pipe, socket or absent device" },
        Some(libc::EACCES | libc::EPERM) => {
            FileError::Permission { path, access: options.access(), source }
        }
        Some(libc::EROFS) => FileError::ReadOnly { path, source },
        Some(libc::EBUSY) => {
            FileError::InUse { path, by: "it is mounted, or another program claims it" }
        }
        Some(libc::EINVAL) if options.direct => {
            // A pipe or a character device has no direct I/O either, and is no storage at all.
            let kind = std::fs::metadata(&path).map(|metadata| kind_of(&metadata.file_type()));
            if let Ok(Err(kind)) = kind {
                return FileError::NotStorage { path, kind };
            }
            let filesystem = filesystem_of(&path).map(|filesystem| filesystem.name);
            let filesystem = filesystem.unwrap_or("a file system").to_owned();
            FileError::NoDirect { path, filesystem }
        }
        _ => FileError::Io { what: "open", path, source },
    }
}
