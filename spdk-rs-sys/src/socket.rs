//! TCP sockets that never block: what the standard library does not give.
//!
//! Every socket made here is non-blocking and closed on exec. Addresses, shutdown and the pending
//! error of a connected socket are had through [`std::net::TcpStream`].

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Flags of every socket.
const KIND: i32 = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// An option of a socket whose value is a number, see socket(7), tcp(7) and ipv6(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketOption {
    /// `SO_REUSEADDR`: bind also while old connections of the port linger.
    ReuseAddress,
    /// `SO_KEEPALIVE`: probe a peer that is silent.
    KeepAlive,
    /// `TCP_KEEPIDLE`: seconds of silence before the first probe.
    KeepAliveIdleS,
    /// `TCP_KEEPINTVL`: seconds between probes.
    KeepAliveIntervalS,
    /// `TCP_KEEPCNT`: unanswered probes before the connection is given up.
    KeepAliveProbes,
    /// `TCP_USER_TIMEOUT`: milliseconds for which sent data may stay unacknowledged.
    UserTimeoutMs,
    /// `SO_PRIORITY`: the queue that packets take, 0 to 6 without privilege.
    Priority,
    /// `SO_SNDBUF`: bytes of the send buffer; the kernel doubles the number.
    SendBufferBytes,
    /// `SO_RCVBUF`: bytes of the receive buffer; the kernel doubles the number.
    ReceiveBufferBytes,
    /// `SO_RCVLOWAT`: bytes that have to be there before a reader is woken.
    ReceiveLowWaterBytes,
    /// `TCP_NODELAY`: small segments leave at once.
    NoDelay,
    /// `IPV6_V6ONLY`: an IPv6 socket takes no IPv4 peers.
    V6Only,
}

impl SocketOption {
    /// The name in the C headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReuseAddress => "SO_REUSEADDR",
            Self::KeepAlive => "SO_KEEPALIVE",
            Self::KeepAliveIdleS => "TCP_KEEPIDLE",
            Self::KeepAliveIntervalS => "TCP_KEEPINTVL",
            Self::KeepAliveProbes => "TCP_KEEPCNT",
            Self::UserTimeoutMs => "TCP_USER_TIMEOUT",
            Self::Priority => "SO_PRIORITY",
            Self::SendBufferBytes => "SO_SNDBUF",
            Self::ReceiveBufferBytes => "SO_RCVBUF",
            Self::ReceiveLowWaterBytes => "SO_RCVLOWAT",
            Self::NoDelay => "TCP_NODELAY",
            Self::V6Only => "IPV6_V6ONLY",
        }
    }

    pub(crate) fn level_and_number(self) -> (i32, i32) {
        match self {
            Self::ReuseAddress => (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            Self::KeepAlive => (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            Self::KeepAliveIdleS => (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
            Self::KeepAliveIntervalS => (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
            Self::KeepAliveProbes => (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
            Self::UserTimeoutMs => (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
            Self::Priority => (libc::SOL_SOCKET, libc::SO_PRIORITY),
            Self::SendBufferBytes => (libc::SOL_SOCKET, libc::SO_SNDBUF),
            Self::ReceiveBufferBytes => (libc::SOL_SOCKET, libc::SO_RCVBUF),
            Self::ReceiveLowWaterBytes => (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
            Self::NoDelay => (libc::IPPROTO_TCP, libc::TCP_NODELAY),
            Self::V6Only => (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        }
    }
}

/// Makes a TCP socket of the address's family.
///
/// # Errors
///
/// The error of socket(2): `EMFILE`, `ENFILE`, `ENOBUFS`, `EAFNOSUPPORT` (no IPv6) …
pub fn stream_for(addr: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the call takes numbers and returns a descriptor or -1.
    owned(unsafe { libc::socket(family, KIND, 0) })
}

/// Gives a socket its local address.
///
/// # Errors
///
/// The error of bind(2).
pub fn bind(fd: BorrowedFd<'_>, addr: &SocketAddr) -> io::Result<()> {
    let (place, len) = to_kernel(addr);
    // SAFETY: `place` holds an address of `len` bytes.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const place).cast(), len) })
}

/// Lets a socket listen; at most `backlog` connections wait to be accepted.
///
/// # Errors
///
/// The error of listen(2).
pub fn listen(fd: BorrowedFd<'_>, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: the call takes numbers.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })
}

/// Starts to connect. True: connected; false: under way, the socket becomes writable at its end,
/// and `SO_ERROR` tells how it went.
///
/// # Errors
///
/// The error of connect(2).
pub fn connect(fd: BorrowedFd<'_>, to: &SocketAddr) -> io::Result<bool> {
    let (place, len) = to_kernel(to);
    // SAFETY: `place` holds an address of `len` bytes.
    match check(unsafe { libc::connect(fd.as_raw_fd(), (&raw const place).cast(), len) }) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Takes a connection that waits, non-blocking and closed on exec, and its peer.
///
/// # Errors
///
/// The error of accept4(2); `WouldBlock` when none waits.
pub fn accept(fd: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut place = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = storage_len();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `place` has room for `len` bytes, and both live until the call returns.
    let taken = owned(unsafe {
        libc::accept4(fd.as_raw_fd(), place.as_mut_ptr().cast(), &raw mut len, flags)
    })?;
    // SAFETY: all zeros are a valid value, and the kernel wrote an address over them.
    let peer = from_kernel(&unsafe { place.assume_init() })?;
    Ok((taken, peer))
}

/// The local address of a socket.
///
/// # Errors
///
/// The error of getsockname(2).
pub fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut place = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = storage_len();
    // SAFETY: `place` has room for `len` bytes, and both live until the call returns.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), place.as_mut_ptr().cast(), &raw mut len) })?;
    // SAFETY: all zeros are a valid value, and the kernel wrote an address over them.
    from_kernel(&unsafe { place.assume_init() })
}

/// Sets an option.
///
/// # Errors
///
/// The error of setsockopt(2).
pub fn set_option(fd: BorrowedFd<'_>, option: SocketOption, value: i32) -> io::Result<()> {
    let (level, number) = option.level_and_number();
    set(fd, level, number, &value)
}

/// The value of an option.
///
/// # Errors
///
/// The error of getsockopt(2).
pub fn option(fd: BorrowedFd<'_>, option: SocketOption) -> io::Result<i32> {
    let (level, number) = option.level_and_number();
    get(fd, level, number)
}

/// Takes the error that a socket has pending (`SO_ERROR`), such as the outcome of a connect.
///
/// # Errors
///
/// The pending error.
pub fn pending_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    match get(fd, libc::SOL_SOCKET, libc::SO_ERROR)? {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Whether the connection of a socket was reset, rather than ended in order by the peer.
///
/// A reset is told by one error only, which whoever waited for the socket first has taken; for all
/// others it looks like the end of the stream. Meaningful while the local side has not ended.
///
/// # Errors
///
/// The error of getsockopt(2).
pub fn was_reset(fd: BorrowedFd<'_>) -> io::Result<bool> {
    /// `TCP_CLOSE` of the kernel's `tcp_states.h`; after the peer's end in order it would be
    /// `TCP_CLOSE_WAIT`.
    const CLOSED: u8 = 7;
    // `tcpi_state` is the first byte of `struct tcp_info`; a short buffer gets its beginning.
    let mut state = [0_u8; 4];
    let mut len = libc::socklen_t::try_from(state.len()).unwrap_or(0);
    let place = state.as_mut_ptr().cast();
    let (level, number) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: `place` points to `len` writable bytes, and both live until the call returns.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, number, place, &raw mut len) })?;
    Ok(state[0] == CLOSED)
}

/// Makes the close of a socket drop unsent bytes and reset the connection.
///
/// # Errors
///
/// The error of setsockopt(2).
pub fn reset_on_close(fd: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    set(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Which directions of a connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownOf {
    /// Sending: the peer reads the end of the stream after what was sent.
    Sending,
    /// Both. Whoever waits for the socket is woken, be it a listening one.
    Both,
}

/// Ends a connection in one direction or both.
///
/// # Errors
///
/// The error of shutdown(2): `ENOTCONN` when the connection has ended already.
pub fn shutdown(fd: BorrowedFd<'_>, how: ShutdownOf) -> io::Result<()> {
    let how = match how {
        ShutdownOf::Sending => libc::SHUT_WR,
        ShutdownOf::Both => libc::SHUT_RDWR,
    };
    // SAFETY: the call takes numbers.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), how) })
}

/// Whether the socket is writable now, or has failed.
///
/// # Errors
///
/// The error of poll(2).
pub fn is_writable(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: `entry` is one valid entry.
    check(unsafe { libc::poll(&raw mut entry, 1, 0) })?;
    Ok(entry.revents != 0)
}

/// Receives into `count` pieces what is there; 0 is the end of the stream.
///
/// # Errors
///
/// The error of recvmsg(2); `WouldBlock` when nothing is there.
///
/// # Safety
///
/// `pieces` points to `count` entries whose memory is valid for writing.
pub unsafe fn receive(
    fd: BorrowedFd<'_>,
    pieces: *mut libc::iovec,
    count: usize,
) -> io::Result<usize> {
    let mut message = message_of(pieces, count);
    // SAFETY: the caller vouches for the pieces.
    let result = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sends from `count` pieces as much as there is room for. A broken connection is `EPIPE`, and no
/// signal.
///
/// # Errors
///
/// The error of sendmsg(2); `WouldBlock` when there is no room.
///
/// # Safety
///
/// `pieces` points to `count` entries whose memory is valid for reading.
pub unsafe fn send(
    fd: BorrowedFd<'_>,
    pieces: *mut libc::iovec,
    count: usize,
) -> io::Result<usize> {
    let message = message_of(pieces, count);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the caller vouches for the pieces.
    let result = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The message header of a receive or send of `count` pieces, without address and control data.
#[must_use]
pub fn message_of(pieces: *mut libc::iovec, count: usize) -> libc::msghdr {
    // SAFETY: all zeros are a valid header: null pointers with no lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces;
    // The C libraries differ in the type of the count.
    message.msg_iovlen = count as _;
    message
}

fn set<T>(fd: BorrowedFd<'_>, level: i32, number: i32, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let place = std::ptr::from_ref(value).cast();
    // SAFETY: `place` points to `len` readable bytes.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, number, place, len) })
}

fn get(fd: BorrowedFd<'_>, level: i32, number: i32) -> io::Result<i32> {
    let mut value = 0_i32;
    let mut len = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
    let place = (&raw mut value).cast();
    // SAFETY: `place` points to `len` writable bytes, and both live until the call returns.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, number, place, &raw mut len) })?;
    Ok(value)
}

/// The address as the kernel wants it, and how many bytes of it count.
fn to_kernel(addr: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros are a valid value.
    let mut place: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match addr {
        SocketAddr::V4(addr) => {
            let to = (&raw mut place).cast::<libc::sockaddr_in>();
            let value = libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: addr.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage has room and alignment for every kind of address.
            unsafe { to.write(value) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(addr) => {
            let to = (&raw mut place).cast::<libc::sockaddr_in6>();
            let value = libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: addr.port().to_be(),
                sin6_flowinfo: addr.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                sin6_scope_id: addr.scope_id(),
            };
            // SAFETY: the storage has room and alignment for every kind of address.
            unsafe { to.write(value) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (place, libc::socklen_t::try_from(len).unwrap_or(0))
}

/// The address that the kernel wrote.
fn from_kernel(place: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    match i32::from(place.ss_family) {
        libc::AF_INET => {
            let from = std::ptr::from_ref(place).cast::<libc::sockaddr_in>();
            // SAFETY: the family says that an IPv4 address is there.
            let addr = unsafe { from.read() };
            let ip = Ipv4Addr::from(addr.sin_addr.s_addr.to_ne_bytes());
            Ok(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(addr.sin_port))))
        }
        libc::AF_INET6 => {
            let from = std::ptr::from_ref(place).cast::<libc::sockaddr_in6>();
            // SAFETY: the family says that an IPv6 address is there.
            let addr = unsafe { from.read() };
            let ip = Ipv6Addr::from(addr.sin6_addr.s6_addr);
            let (port, zone) = (u16::from_be(addr.sin6_port), addr.sin6_scope_id);
            Ok(SocketAddr::V6(SocketAddrV6::new(ip, port, addr.sin6_flowinfo, zone)))
        }
        other => Err(io::Error::other(format!("address family {other} is neither IPv4 nor IPv6"))),
    }
}

fn family(number: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).unwrap_or(0)
}

fn storage_len() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or(0)
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over a descriptor that a system call just returned.
fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the descriptor was just made and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    use super::*;

    fn listening(addr: &str) -> io::Result<(OwnedFd, SocketAddr)> {
        let addr = addr.parse().unwrap();
        let fd = stream_for(&addr)?;
        if addr.is_ipv6() {
            set_option(fd.as_fd(), SocketOption::V6Only, 1)?;
        }
        bind(fd.as_fd(), &addr)?;
        listen(fd.as_fd(), 8)?;
        let local = local_addr(fd.as_fd())?;
        Ok((fd, local))
    }

    fn wait_writable(fd: BorrowedFd<'_>) {
        while !is_writable(fd).unwrap() {}
    }

    #[test]
    fn bytes_go_both_ways_over_both_families() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let (listener, local) = match listening(addr) {
                Err(error) if addr.starts_with('[') => return println!("skipped: {error}"),
                answer => answer.unwrap(),
            };
            let fd = stream_for(&local).unwrap();
            if !connect(fd.as_fd(), &local).unwrap() {
                wait_writable(fd.as_fd());
            }
            pending_error(fd.as_fd()).unwrap();
            let (other, peer) = accept(listener.as_fd()).unwrap();
            assert_eq!(peer, local_addr(fd.as_fd()).unwrap());
            let kind = accept(listener.as_fd()).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::WouldBlock);
            let mut parts = [*b"one ", *b"two "];
            let mut pieces = parts
                .each_mut()
                .map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: 4 });
            // SAFETY: the pieces name the parts.
            assert_eq!(unsafe { send(fd.as_fd(), pieces.as_mut_ptr(), 2) }.unwrap(), 8);
            let mut other = TcpStream::from(other);
            other.set_nonblocking(false).unwrap();
            let mut bytes = [0; 8];
            other.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"one two ");
            // SAFETY: the pieces name the parts.
            let nothing = unsafe { receive(fd.as_fd(), pieces.as_mut_ptr(), 2) };
            assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
            other.write_all(b"12345").unwrap();
            // SAFETY: the pieces name the parts.
            assert_eq!(unsafe { receive(fd.as_fd(), pieces.as_mut_ptr(), 2) }.unwrap(), 5);
            assert_eq!(&parts, &[*b"1234", *b"5wo "]);
        }
    }

    #[test]
    fn a_refused_connection_is_told_by_its_error() {
        let (listener, local) = listening("127.0.0.1:0").unwrap();
        drop(listener);
        let fd = stream_for(&local).unwrap();
        let error = match connect(fd.as_fd(), &local) {
            Ok(_) => {
                wait_writable(fd.as_fd());
                pending_error(fd.as_fd()).unwrap_err()
            }
            Err(error) => error,
        };
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    }

    #[test]
    fn options_are_set_by_their_own_number() {
        use SocketOption::*;
        let fd = stream_for(&"127.0.0.1:0".parse().unwrap()).unwrap();
        for (wanted, value) in [
            (ReuseAddress, 1),
            (KeepAlive, 1),
            (KeepAliveIdleS, 11),
            (KeepAliveIntervalS, 12),
            (KeepAliveProbes, 13),
            (UserTimeoutMs, 1400),
            (Priority, 5),
            (ReceiveLowWaterBytes, 9000),
            (NoDelay, 1),
        ] {
            assert_ne!(option(fd.as_fd(), wanted).unwrap(), value, "{}", wanted.name());
            set_option(fd.as_fd(), wanted, value).unwrap();
            assert_eq!(option(fd.as_fd(), wanted).unwrap(), value, "{}", wanted.name());
        }
        for wanted in [SendBufferBytes, ReceiveBufferBytes] {
            set_option(fd.as_fd(), wanted, 40_000).unwrap();
            assert_eq!(option(fd.as_fd(), wanted).unwrap(), 80_000, "{}", wanted.name());
        }
    }

    #[test]
    fn a_reset_reaches_the_peer_and_a_shutdown_wakes_a_listener() {
        let (listener, local) = listening("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(local).unwrap();
        let (taken, _) = accept(listener.as_fd()).unwrap();
        reset_on_close(taken.as_fd()).unwrap();
        drop(taken);
        let error = client.read(&mut [0; 4]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        assert_eq!(client.read(&mut [0; 4]).unwrap(), 0, "the error is told once");
        assert!(was_reset(client.as_fd()).unwrap());
        let client = TcpStream::connect(local).unwrap();
        assert!(!was_reset(client.as_fd()).unwrap());
        drop(accept(listener.as_fd()).unwrap());
        assert_eq!((&client).read(&mut [0; 4]).unwrap(), 0);
        assert!(!was_reset(client.as_fd()).unwrap());
        shutdown(listener.as_fd(), ShutdownOf::Both).unwrap();
        assert!(is_writable(listener.as_fd()).unwrap(), "a hang-up is told to whoever waits");
    }
}
