//! The kernel's announcements of devices that come and go (netlink(7), `NETLINK_KOBJECT_UEVENT`).
//!
//! Invariants:
//!
//! * Only what the kernel itself sent is believed.
//! * A receiver that was too slow is told so, by an error, and has to look for itself.

mod parse;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use parse::{Action, Uevent, UeventError};

/// The longest message: the kernel's own buffer for one is 2 KiB, and the head comes on top.
pub const MESSAGE_BYTES_MAX: usize = 8192;

/// The group that the kernel announces to. What udev makes of it goes to another.
const KERNEL_GROUP: u32 = 1;

/// Bytes of messages that may wait: a machine that loses a shelf of disks has much to say.
static RECEIVE_BYTES: i32 = 1 << 20;

/// A socket that hears every announcement. It never blocks.
#[derive(Debug)]
pub struct UeventSocket {
    fd: OwnedFd,
}

impl UeventSocket {
    /// Listens from now on.
    ///
    /// # Errors
    /// The error of socket(2) or bind(2): `EPROTONOSUPPORT`, or `EPERM` by a filter of system calls.
    pub fn new() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes numbers and returns a descriptor or -1.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, for this caller alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let len = length_of::<i32>();
        let place = (&raw const RECEIVE_BYTES).cast();
        let (level, name) = (libc::SOL_SOCKET, libc::SO_RCVBUF);
        // The kernel cuts it to what it allows.
        // SAFETY: `place` points to as many bytes as are named.
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, place, len) };
        // SAFETY: all zeros are a valid value of this structure.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = u16::try_from(libc::AF_NETLINK).unwrap_or(0);
        address.nl_groups = KERNEL_GROUP;
        let len = length_of::<libc::sockaddr_nl>();
        // SAFETY: the address is a structure of this length.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
        if bound == 0 { Ok(Self { fd }) } else { Err(io::Error::last_os_error()) }
    }

    /// Takes the next message; none for one that the kernel did not send, or that is longer than
    /// the buffer.
    ///
    /// # Errors
    /// `WouldBlock` when there is no message, and `ENOBUFS` when some were lost.
    pub fn receive<'a>(&self, buf: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        let mut from = MaybeUninit::<libc::sockaddr_nl>::zeroed();
        let mut len = length_of::<libc::sockaddr_nl>();
        let (place, room) = (buf.as_mut_ptr().cast(), buf.len());
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let (fd, sender) = (self.fd.as_raw_fd(), from.as_mut_ptr().cast());
        // SAFETY: the buffer and the place for the address are as long as is said.
        let got = unsafe { libc::recvfrom(fd, place, room, flags, sender, &raw mut len) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: all zeros are a valid value, and the kernel wrote an address over them.
        let from = unsafe { from.assume_init() };
        // The kernel is nobody's process.
        let kernel = from.nl_pid == 0 && from.nl_groups == KERNEL_GROUP;
        Ok(buf.get(..got).filter(|_| kernel))
    }
}

/// The length of a structure, as the calls take it.
fn length_of<T>() -> libc::socklen_t {
    // They are some tens of bytes long.
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

impl AsRawFd for UeventSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for UeventSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_when_nothing_happens() {
        // Where the system call is filtered there is nothing to listen to.
        let Ok(socket) = UeventSocket::new() else { return };
        let mut buf = [0; MESSAGE_BYTES_MAX];
        loop {
            match socket.receive(&mut buf) {
                // Something may happen to this machine meanwhile.
                Ok(Some(message)) => drop(Uevent::parse(message)),
                Ok(None) => {}
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return;
                }
            }
        }
    }
}
