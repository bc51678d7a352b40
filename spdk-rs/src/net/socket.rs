//! A socket that no stream owns yet.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use spdk_rs_sys::socket::{self, SocketOption};

use super::NetError;

/// Silence before the first probe of a keep-alive, in seconds, when it is on.
const KEEP_ALIVE_INTERVAL_S: i32 = 5;
/// Unanswered probes before the connection is given up.
const KEEP_ALIVE_PROBES: i32 = 3;

/// What a socket of a connection is set to, beside `TCP_NODELAY`, which all have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// `SO_PRIORITY`, 0 to 6 without privilege; the kernel's own when `None`.
    pub priority: Option<u8>,
    /// Bytes of the kernel's send buffer; grows with the connection when `None`.
    pub send_buffer_bytes: Option<u32>,
    /// Bytes of the kernel's receive buffer; grows with the connection when `None`.
    pub receive_buffer_bytes: Option<u32>,
    /// Probe a peer after so long a silence (in whole seconds, at least 1); three unanswered
    /// probes, 5 seconds apart, end the connection. None: no probes.
    pub keep_alive: Option<Duration>,
    /// How long sent bytes may stay unacknowledged before the connection is given up; the
    /// kernel's own limit (about 15 minutes) when `None`.
    pub ack_timeout: Option<Duration>,
}

impl SocketOptions {
    /// Applies to a connection's socket, or to a listening one whose connections inherit it.
    pub(super) fn apply(&self, fd: BorrowedFd<'_>) -> Result<(), NetError> {
        set(fd, SocketOption::NoDelay, 1)?;
        if let Some(priority) = self.priority {
            set(fd, SocketOption::Priority, i64::from(priority))?;
        }
        if let Some(bytes) = self.send_buffer_bytes {
            set(fd, SocketOption::SendBufferBytes, i64::from(bytes))?;
        }
        if let Some(bytes) = self.receive_buffer_bytes {
            set(fd, SocketOption::ReceiveBufferBytes, i64::from(bytes))?;
        }
        if let Some(silence) = self.keep_alive {
            set(fd, SocketOption::KeepAlive, 1)?;
            let idle_s = i64::try_from(silence.as_secs().max(1)).unwrap_or(i64::MAX);
            set(fd, SocketOption::KeepAliveIdleS, idle_s)?;
            set(fd, SocketOption::KeepAliveIntervalS, KEEP_ALIVE_INTERVAL_S.into())?;
            set(fd, SocketOption::KeepAliveProbes, KEEP_ALIVE_PROBES.into())?;
        }
        if let Some(limit) = self.ack_timeout {
            let limit_ms = i64::try_from(limit.as_millis().max(1)).unwrap_or(i64::MAX);
            set(fd, SocketOption::UserTimeoutMs, limit_ms)?;
        }
        Ok(())
    }
}

/// Sets an option that takes a number of up to 31 bits.
pub(super) fn set(fd: BorrowedFd<'_>, option: SocketOption, value: i64) -> Result<(), NetError> {
    let fail = |source| NetError::Option { option: option.name(), value, source };
    let number = i32::try_from(value)
        .map_err(|_| fail(std::io::Error::from_raw_os_error(nix::libc::EINVAL)))?;
    socket::set_option(fd, option, number).map_err(fail)
}

/// A connected socket, non-blocking, that may be sent to another reactor. Dropping it closes it.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    peer: SocketAddr,
}

impl Socket {
    /// Takes over a connected TCP socket, such as one of a test or one that was inherited.
    ///
    /// # Errors
    /// When it is not connected.
    pub fn from_std(stream: TcpStream) -> Result<Self, NetError> {
        stream.set_nonblocking(true).map_err(NetError::Open)?;
        let peer = stream.peer_addr().map_err(NetError::Open)?;
        SocketOptions::default().apply(stream.as_fd())?;
        Ok(Self { stream, peer })
    }

    pub(super) fn new(fd: OwnedFd, peer: SocketAddr) -> Self {
        Self { stream: TcpStream::from(fd), peer }
    }

    /// The peer's address.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The local address.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> Result<SocketAddr, NetError> {
        self.stream.local_addr().map_err(NetError::Open)
    }

    /// Sets options.
    ///
    /// # Errors
    /// [`NetError::Option`] names the one that the kernel refused; those before it are set.
    pub fn set(&self, options: &SocketOptions) -> Result<(), NetError> {
        options.apply(self.as_fd())
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
