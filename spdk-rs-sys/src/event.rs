//! Sleeping until something happens: eventfd and epoll.
//!
//! A reactor that has nothing to do waits here, or on its io_uring, and is woken by other threads
//! through an [`EventFd`].
//!
//! Invariants:
//!
//! * An [`EventFd`] never blocks: signalling it more often than it is drained changes nothing.
//! * A wait never returns later than its timeout for lack of precision: where the kernel counts
//!   in milliseconds, the timeout is rounded up, so that a caller's timer is due when it wakes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// A counter that a thread can wait for, see eventfd(2).
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// Makes a non-blocking eventfd that is closed on exec.
    ///
    /// # Errors
    ///
    /// The error of eventfd(2): `EMFILE` or `ENFILE` when there are too many descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes numbers and returns a descriptor or -1.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        owned(fd).map(|fd| Self { fd })
    }

    /// Makes the eventfd readable and wakes who waits for it. Any thread may do so.
    ///
    /// # Errors
    ///
    /// The error of write(2). A counter that is full is readable already and no error.
    pub fn signal(&self) -> io::Result<()> {
        let one = 1_u64;
        // SAFETY: `one` has the 8 readable bytes that are passed.
        let result = unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
        if result == 8 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
    }

    /// Makes the eventfd unreadable again and returns how often it was signalled since.
    ///
    /// # Errors
    ///
    /// The error of read(2). An eventfd that was not signalled yields 0 and is no error.
    pub fn drain(&self) -> io::Result<u64> {
        let mut count = 0_u64;
        // SAFETY: `count` has the 8 writable bytes that are passed.
        let result = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut count).cast(), 8) };
        if result == 8 {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// How readiness is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// As long as the descriptor is ready.
    Level,
    /// Once each time that the descriptor becomes ready.
    Edge,
}

/// What a descriptor is watched for. Errors and hang-ups are always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Something can be read.
    pub readable: bool,
    /// Something can be written.
    pub writable: bool,
    /// How readiness is told.
    pub trigger: Trigger,
}

impl Interest {
    /// Reading, told as long as it is possible.
    pub const READ: Self = Self { readable: true, writable: false, trigger: Trigger::Level };

    fn bits(self) -> u32 {
        let mut bits = 0;
        if self.readable {
            bits |= libc::EPOLLIN | libc::EPOLLRDHUP;
        }
        if self.writable {
            bits |= libc::EPOLLOUT;
        }
        if self.trigger == Trigger::Edge {
            bits |= libc::EPOLLET;
        }
        bits.cast_unsigned()
    }
}

/// A descriptor that is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The number that the descriptor was added with.
    pub token: u64,
    /// `EPOLL*` bits.
    pub events: u32,
}

impl Ready {
    /// Whether something can be read, or the peer is gone.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        let bits = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
        self.events & bits.cast_unsigned() != 0
    }

    /// Whether something can be written, or would fail at once.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let bits = libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR;
        self.events & bits.cast_unsigned() != 0
    }
}

/// A set of watched descriptors, see epoll(7).
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    /// Whether the kernel has epoll_pwait2(2) (Linux 5.11), as far as is known.
    nanoseconds: AtomicBool,
}

/// The most descriptors that one [`Epoll::wait`] tells.
const EVENTS_MAX: usize = 64;

impl Epoll {
    /// Makes an empty set that is closed on exec.
    ///
    /// # Errors
    ///
    /// The error of epoll_create1(2).
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes a flag and returns a descriptor or -1.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        Ok(Self { fd: owned(fd)?, nanoseconds: AtomicBool::new(true) })
    }

    /// Watches a descriptor; `token` comes back when it is ready.
    ///
    /// A descriptor leaves the set when its last copy is closed.
    ///
    /// # Errors
    ///
    /// The error of epoll_ctl(2): `EEXIST` when it is in the set, `EPERM` for a regular file.
    pub fn add(&self, fd: RawFd, interest: Interest, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest.bits(), token)
    }

    /// Changes what a descriptor is watched for.
    ///
    /// # Errors
    ///
    /// The error of epoll_ctl(2): `ENOENT` when it is not in the set.
    pub fn modify(&self, fd: RawFd, interest: Interest, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest.bits(), token)
    }

    /// Stops watching a descriptor.
    ///
    /// # Errors
    ///
    /// The error of epoll_ctl(2): `ENOENT` when it is not in the set.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    fn control(&self, operation: i32, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: `event` is a valid structure that the call reads.
        let result = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &raw mut event) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits until a descriptor is ready or the timeout, in nanoseconds, is over; `None` waits
    /// without limit and 0 not at all. Returns how many entries of `out` were filled, at most 64.
    ///
    /// A signal ends the wait with no descriptor.
    ///
    /// # Errors
    ///
    /// The error of epoll_pwait2(2).
    pub fn wait(&self, out: &mut [Ready], timeout_ns: Option<u64>) -> io::Result<usize> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let room = out.len().min(EVENTS_MAX);
        if room == 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut result = None;
        if self.nanoseconds.load(Ordering::Relaxed) {
            match self.wait_ns(&mut events[..room], timeout_ns) {
                // Seccomp filters that do not know the call deny it with EPERM.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.nanoseconds.store(false, Ordering::Relaxed);
                }
                answer => result = Some(answer),
            }
        }
        let count = match result.unwrap_or_else(|| self.wait_ms(&mut events[..room], timeout_ns)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            answer => answer?,
        };
        for (slot, event) in out.iter_mut().zip(&events[..count]) {
            *slot = Ready { token: event.u64, events: event.events };
        }
        Ok(count)
    }

    /// epoll_pwait2(2).
    fn wait_ns(
        &self,
        events: &mut [libc::epoll_event],
        timeout_ns: Option<u64>,
    ) -> io::Result<usize> {
        let limit = timeout_ns.map(|ns| libc::timespec {
            tv_sec: libc::time_t::try_from(ns / 1_000_000_000).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::try_from(ns % 1_000_000_000).unwrap_or(0),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        let no_mask = ptr::null::<libc::sigset_t>();
        // The C library's function is too young to rely on, so the call is made by number.
        // SAFETY: `events` has room for its length, and the timeout, if any, is valid.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.as_mut_ptr(),
                events.len(),
                limit,
                no_mask,
                0_usize,
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// epoll_wait(2), with the timeout rounded up to milliseconds.
    fn wait_ms(
        &self,
        events: &mut [libc::epoll_event],
        timeout_ns: Option<u64>,
    ) -> io::Result<usize> {
        let timeout_ms =
            timeout_ns.map_or(-1, |ns| i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX));
        let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: `events` has room for its length.
        let result =
            unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.as_mut_ptr(), room, timeout_ms) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Takes over a descriptor that a system call just returned.
fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::monotonic_ns;

    /// Both ways to wait, so that the fallback is tested on every kernel.
    fn both() -> [Epoll; 2] {
        let (modern, old) = (Epoll::new().unwrap(), Epoll::new().unwrap());
        old.nanoseconds.store(false, Ordering::Relaxed);
        [modern, old]
    }

    #[test]
    fn an_eventfd_counts_its_signals() {
        let event = EventFd::new().unwrap();
        assert_eq!(event.drain().unwrap(), 0);
        for _ in 0..3 {
            event.signal().unwrap();
        }
        assert_eq!(event.drain().unwrap(), 3);
        assert_eq!(event.drain().unwrap(), 0);
    }

    #[test]
    fn a_full_eventfd_stays_signalled() {
        let event = EventFd::new().unwrap();
        let nearly_full = u64::MAX - 1;
        // SAFETY: the value has the 8 readable bytes that are passed.
        let written = unsafe { libc::write(event.as_raw_fd(), (&raw const nearly_full).cast(), 8) };
        assert_eq!(written, 8);
        event.signal().unwrap();
        assert_eq!(event.drain().unwrap(), nearly_full);
    }

    #[test]
    fn level_readiness_is_told_until_drained() {
        for epoll in both() {
            let event = EventFd::new().unwrap();
            epoll.add(event.as_raw_fd(), Interest::READ, 42).unwrap();
            let mut ready = [Ready::default(); 4];
            assert_eq!(epoll.wait(&mut ready, Some(0)).unwrap(), 0);
            event.signal().unwrap();
            for _ in 0..2 {
                assert_eq!(epoll.wait(&mut ready, None).unwrap(), 1);
                assert!(ready[0].token == 42 && ready[0].is_readable() && !ready[0].is_writable());
            }
            event.drain().unwrap();
            assert_eq!(epoll.wait(&mut ready, Some(0)).unwrap(), 0);
        }
    }

    #[test]
    fn edge_readiness_is_told_once() {
        for epoll in both() {
            let event = EventFd::new().unwrap();
            let interest = Interest { trigger: Trigger::Edge, ..Interest::READ };
            epoll.add(event.as_raw_fd(), interest, 1).unwrap();
            let mut ready = [Ready::default(); 4];
            event.signal().unwrap();
            assert_eq!(epoll.wait(&mut ready, Some(0)).unwrap(), 1);
            assert_eq!(epoll.wait(&mut ready, Some(0)).unwrap(), 0);
            event.signal().unwrap();
            assert_eq!(epoll.wait(&mut ready, Some(0)).unwrap(), 1);
        }
    }

    #[test]
    fn a_descriptor_can_be_changed_and_removed() {
        let epoll = Epoll::new().unwrap();
        let event = EventFd::new().unwrap();
        let fd = event.as_raw_fd();
        let error = epoll.remove(fd).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        epoll.add(fd, Interest::READ, 1).unwrap();
        let writable = Interest { readable: false, writable: true, trigger: Trigger::Level };
        epoll.modify(fd, writable, 2).unwrap();
        let mut ready = [Ready::default(); 1];
        assert_eq!(epoll.wait(&mut ready, Some(0)).unwrap(), 1);
        assert!(ready[0].token == 2 && ready[0].is_writable());
        epoll.remove(fd).unwrap();
        assert_eq!(epoll.wait(&mut ready, Some(0)).unwrap(), 0);
    }

    #[test]
    fn a_wait_lasts_as_long_as_its_timeout() {
        for epoll in both() {
            for timeout_ns in [200_000, 1_500_000] {
                let start_ns = monotonic_ns();
                assert_eq!(epoll.wait(&mut [Ready::default()], Some(timeout_ns)).unwrap(), 0);
                assert!(monotonic_ns() - start_ns >= timeout_ns);
            }
        }
    }

    #[test]
    fn no_room_for_events_is_refused() {
        let error = Epoll::new().unwrap().wait(&mut [], Some(0)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
