//! Taking a socket path, and giving it back.
//!
//! Invariants:
//!
//! - Of processes that take the same path at once, one wins: each holds an exclusive `flock(2)` on
//!   `<path>.lock` from before it looks at the path until after it has removed its socket. This is
//!   also SPDK's convention, so an SPDK target and this server exclude each other.
//! - A socket that somebody answers is never taken, lock or not. One that nobody answers is left by
//!   a dead process.
//! - Nobody can connect while the socket's mode is wider than 0600: the mode is set on the unbound
//!   socket, which Linux carries over to the file that `bind(2)` makes; and connections are
//!   possible only after `listen(2)`, before which the mode of the file is checked.
//! - At the end the socket file is removed only if it is still the inode that was made here.

use std::fs::{self, File, FileType, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};

use crate::error::ServerError;

/// The longest path of a socket: `sun_path` has 108 bytes (unix(7)), the last for the terminating
/// zero.
pub(crate) const PATH_BYTES_MAX: usize = 107;

/// The socket's mode: its owner may connect, and nobody else.
const SOCKET_MODE: u32 = 0o600;

/// A path in our possession; dropping it removes the socket and the lock file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode of the socket file, until it was removed.
    identity: Option<(u64, u64)>,
    /// Dropped after the socket file was removed.
    _lock: LockFile,
}

impl SocketFile {
    /// Removes the socket file, unless somebody replaced it. The lock stays.
    pub(super) fn remove(&mut self) {
        let Some(identity) = self.identity.take() else { return };
        match fs::symlink_metadata(&self.path) {
            Ok(meta) if (meta.dev(), meta.ino()) == identity => {
                if let Err(error) = fs::remove_file(&self.path) {
                    tracing::warn!(path = %self.path.display(), %error, "the RPC socket could not be removed");
                }
            }
            Ok(_) => {
                tracing::warn!(path = %self.path.display(), "the RPC socket was replaced by another file; left alone");
            }
            Err(_) => {
                tracing::warn!(path = %self.path.display(), "the RPC socket was already removed")
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Takes `path`: returns the listening socket and the possession of the path.
pub(super) fn take(path: &Path) -> Result<(UnixListener, SocketFile), ServerError> {
    check_path(path)?;
    let lock = LockFile::take(path)?;
    clear_stale(path)?;
    let absolute = std::path::absolute(path).map_err(io_error(path, "resolve the path"))?;

    let fd = bind_private(path)?;
    let meta = fs::symlink_metadata(path).map_err(io_error(path, "look at the new socket"))?;
    let file = SocketFile { path: absolute, identity: Some((meta.dev(), meta.ino())), _lock: lock };
    // A umask that takes rights from the owner makes the mode narrower than it should be, and a
    // kernel other than Linux may ignore the mode of the unbound socket. Nobody can connect yet.
    if meta.mode() & 0o7777 != SOCKET_MODE {
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
            .map_err(io_error(path, "set the mode of the socket"))?;
    }
    listen(&fd, Backlog::MAXCONN).map_err(nix_error(path, "listen on the socket"))?;
    Ok((UnixListener::from(fd), file))
}

/// Makes a socket and its file. On Linux the file has the mode of the unbound socket, less the
/// umask, from its first moment on.
fn bind_private(path: &Path) -> Result<OwnedFd, ServerError> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, socket_flags(), None)
        .map_err(nix_error(path, "create a socket"))?;
    let mode = Mode::from_bits_truncate(SOCKET_MODE);
    fchmod(&fd, mode).map_err(nix_error(path, "set the mode of the socket"))?;
    let address = UnixAddr::new(path).map_err(nix_error(path, "form a socket address"))?;
    bind(fd.as_raw_fd(), &address).map_err(nix_error(path, "bind the socket"))?;
    Ok(fd)
}

/// Refuses what cannot be a socket's address, with a reason that is clearer than the kernel's.
fn check_path(path: &Path) -> Result<(), ServerError> {
    let bytes = path.as_os_str().as_bytes();
    let bad = |reason: String| Err(ServerError::BadPath { path: path.to_owned(), reason });
    if bytes.is_empty() {
        return bad("it is empty".to_owned());
    }
    if bytes.contains(&0) {
        return bad("it contains a zero byte".to_owned());
    }
    if bytes.len() > PATH_BYTES_MAX {
        return bad(format!(
            "it has {} bytes, and a Unix socket allows {PATH_BYTES_MAX}",
            bytes.len()
        ));
    }
    if path.file_name().is_none() || bytes.ends_with(b"/") {
        return bad("it names a directory, not a file in one".to_owned());
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match fs::metadata(directory) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(io_error(path, "reach its directory")(error))
        }
        _ => {
            Err(ServerError::NoDirectory { path: path.to_owned(), directory: directory.to_owned() })
        }
    }
}

/// Removes a socket that nobody answers; refuses anything else that has the name.
fn clear_stale(path: &Path) -> Result<(), ServerError> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(path, "look at the path")(error)),
    };
    if !meta.file_type().is_socket() {
        let found = kind_of(meta.file_type());
        return Err(ServerError::NotASocket { path: path.to_owned(), found });
    }
    let probe = socket(AddressFamily::Unix, SockType::Stream, socket_flags(), None)
        .map_err(nix_error(path, "create a socket"))?;
    let address = UnixAddr::new(path).map_err(nix_error(path, "form a socket address"))?;
    match connect(probe.as_raw_fd(), &address) {
        Err(Errno::ECONNREFUSED) => {
            tracing::info!(path = %path.display(), "taking over the RPC socket of a process that is gone");
            fs::remove_file(path).map_err(io_error(path, "remove the socket of a dead process"))
        }
        Err(Errno::ENOENT) => Ok(()),
        Ok(()) => Err(ServerError::InUse { path: path.to_owned(), pid: listener_pid(&probe) }),
        // The backlog of a live listener is full, or the socket is bound as another type.
        Err(Errno::EAGAIN | Errno::EPROTOTYPE) => {
            Err(ServerError::InUse { path: path.to_owned(), pid: None })
        }
        Err(errno) => Err(nix_error(path, "find out whether the socket is in use")(errno)),
    }
}

/// The process that listens at the other end; none when it belongs to another PID namespace.
fn listener_pid(probe: &OwnedFd) -> Option<i32> {
    getsockopt(probe, PeerCredentials).ok().map(|peer| peer.pid()).filter(|pid| *pid > 0)
}

/// What a file is, in words.
fn kind_of(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_symlink() => "a symbolic link",
        _ if kind.is_file() => "a regular file",
        _ if kind.is_fifo() => "a FIFO",
        _ => "a device",
    }
}

/// Flags of every socket here.
fn socket_flags() -> SockFlag {
    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK
}

/// The exclusive lock on `<path>.lock`; dropping it removes the file, then releases the lock.
#[derive(Debug)]
struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    /// Takes the lock for the socket at `socket`, or fails with the process that holds it.
    fn take(socket: &Path) -> Result<Self, ServerError> {
        let mut path = std::path::absolute(socket)
            .map_err(io_error(socket, "resolve the path"))?
            .into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        loop {
            let file = Self::open(&path).map_err(io_error(&path, "open the lock file"))?;
            if let Some(lock) = Self::claim(socket, path.clone(), file)? {
                return Ok(lock);
            }
        }
    }

    /// Locks an opened lock file; none if the path does not name it any more. Its previous holder
    /// may have removed it since it was opened, and a lock on a removed file excludes nobody.
    fn claim(socket: &Path, path: PathBuf, mut file: File) -> Result<Option<Self>, ServerError> {
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = Self::holder(&mut file);
                return Err(ServerError::InUse { path: socket.to_owned(), pid });
            }
            Err(TryLockError::Error(error)) => {
                return Err(io_error(&path, "lock the lock file")(error));
            }
        }
        let mut lock = Self { path, file };
        if !lock.is_current() {
            return Ok(None);
        }
        match lock.note_holder() {
            Ok(()) => Ok(Some(lock)),
            Err(error) => Err(io_error(&lock.path, "write the lock file")(error)),
        }
    }

    /// Opens the file, or makes it. An existing file is opened without `O_CREAT`, which kernels
    /// with `fs.protected_regular` refuse for another user's file in a sticky directory.
    fn open(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        loop {
            match options.clone().open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
            match options.clone().create_new(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result,
            }
        }
    }

    /// Whether the locked file is the one that the path names.
    fn is_current(&self) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    /// Writes our process id, for whoever finds the lock held.
    fn note_holder(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        writeln!(self.file, "{}", std::process::id())
    }

    /// The process id in the file of a lock that is held.
    fn holder(file: &mut File) -> Option<i32> {
        let mut text = String::new();
        file.take(32).read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if self.is_current()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the lock file could not be removed");
        }
    }
}

/// Wraps an I/O error with the step it broke.
fn io_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> ServerError {
    move |source| ServerError::Io { path: path.to_owned(), action, source }
}

/// As [`io_error`], for an error of nix.
fn nix_error(path: &Path, action: &'static str) -> impl FnOnce(Errno) -> ServerError {
    move |errno| io_error(path, action)(errno.into())
}

#[cfg(test)]
mod tests;
