//! [`AioContext`]: a queue of requests and the ring of their completions.
//!
//! The kernel maps the ring into the process and uses its address as the context's name. The
//! layout (`struct aio_ring` in the kernel's `fs/aio.c`) is announced by a magic number:
//! consumers advance `head`, the kernel advances `tail`.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{AioError, AioEvent, Iocb};
use crate::sysfs;

/// `AIO_RING_MAGIC` of the kernel.
const RING_MAGIC: u32 = 0xA10A_10A1;

/// The start of the ring; the events follow it.
#[repr(C)]
struct RingHeader {
    id: u32,
    entries: u32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: u32,
    compat_features: u32,
    incompat_features: u32,
    header_bytes: u32,
}

const _: () = assert!(size_of::<RingHeader>() == 32);

/// The kernel's ring, when its layout is the known one.
#[derive(Clone, Copy, Debug)]
struct UserRing {
    header: NonNull<RingHeader>,
    events: NonNull<AioEvent>,
    entries: u32,
}

impl UserRing {
    /// Looks at the ring that the context's name points to.
    fn find(context: libc::c_ulong) -> Option<Self> {
        let header = NonNull::new(context as *mut RingHeader)?;
        // SAFETY: the kernel names a context by the address of its ring, which stays mapped until
        // io_destroy(2) and is at least one page long.
        let view = unsafe { header.as_ref() };
        let known = view.magic == RING_MAGIC
            && view.incompat_features == 0
            && view.header_bytes as usize == size_of::<RingHeader>()
            && view.entries > 0;
        if !known {
            return None;
        }
        let entries = view.entries;
        // SAFETY: the header is followed by `entries` events inside the same mapping.
        let events = unsafe { header.add(1) }.cast();
        Some(Self { header, events, entries })
    }

    fn header(&self) -> &RingHeader {
        // SAFETY: the mapping outlives `self`, which the context owns; the kernel and this side
        // only change the two atomic fields.
        unsafe { self.header.as_ref() }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        let header = self.header();
        header.head.load(Ordering::Relaxed) == header.tail.load(Ordering::Acquire)
    }

    /// Copies events out and gives their places back to the kernel.
    #[inline]
    fn take(&mut self, out: &mut [AioEvent]) -> usize {
        let header = self.header();
        // Only this side writes the head. The acquire pairs with the kernel's barrier between
        // writing an event and moving the tail.
        let mut head = header.head.load(Ordering::Relaxed);
        let tail = header.tail.load(Ordering::Acquire);
        let mut count = 0;
        for slot in out {
            if head == tail {
                break;
            }
            // SAFETY: head and tail stay below the number of events, see below and the kernel.
            let event = unsafe { self.events.add(head as usize) };
            // SAFETY: the event was written before the tail moved past it, and the kernel leaves
            // it alone until the head does.
            *slot = unsafe { event.read() };
            head = if head + 1 == self.entries { 0 } else { head + 1 };
            count += 1;
        }
        // The release keeps the reads above before the kernel's reuse of their places.
        header.head.store(head, Ordering::Release);
        count
    }
}

/// A kernel AIO context.
#[derive(Debug)]
pub struct AioContext {
    id: libc::c_ulong,
    user_ring: Option<UserRing>,
    depth: u32,
    in_flight: u32,
}

// SAFETY: a context belongs to the process; no part of it is bound to a thread.
unsafe impl Send for AioContext {}

impl AioContext {
    /// Makes a context for at least `depth` requests in flight.
    ///
    /// # Errors
    ///
    /// [`AioError`]; [`AioError::Limit`] names the machine-wide limit.
    pub fn new(depth: u32) -> Result<Self, AioError> {
        if depth == 0 || i32::try_from(depth).is_err() {
            return Err(AioError::Depth { depth });
        }
        let mut id: libc::c_ulong = 0;
        // SAFETY: `id` is zero, as the call demands, and is filled by it.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, depth, &raw mut id) };
        if result != 0 {
            return Err(classify(depth, io::Error::last_os_error()));
        }
        Ok(Self { id, user_ring: UserRing::find(id), depth, in_flight: 0 })
    }

    /// Requests that may be in flight.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Requests that were submitted and not yet reaped.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Whether completions are read from shared memory; otherwise each [`AioContext::reap`] is a
    /// system call.
    #[must_use]
    pub fn has_user_ring(&self) -> bool {
        self.user_ring.is_some()
    }

    /// Submits requests in order and returns how many the kernel took, which may be fewer.
    ///
    /// Zero means that the context is full: reap, then submit again. A request that the kernel
    /// refuses ends the series; submitting from it on gives its error.
    ///
    /// # Errors
    ///
    /// The error of the first request: `EBADF`, `EINVAL` for a bad offset, length, flag or
    /// operation.
    ///
    /// # Safety
    ///
    /// Every pointer must be to an [`Iocb`] that the kernel may read and write now. The memory
    /// that a request names must be valid for it, and be left alone as it demands, until the
    /// request was reaped or the context dropped.
    pub unsafe fn submit(&mut self, iocbs: &mut [*mut Iocb]) -> io::Result<usize> {
        let count = libc::c_long::try_from(iocbs.len()).unwrap_or(libc::c_long::MAX);
        // SAFETY: the array has `count` pointers; the caller answers for what they point to.
        let result =
            unsafe { libc::syscall(libc::SYS_io_submit, self.id, count, iocbs.as_mut_ptr()) };
        match u32::try_from(result) {
            Ok(taken) => {
                self.in_flight += taken;
                Ok(taken as usize)
            }
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.raw_os_error() == Some(libc::EAGAIN) { Ok(0) } else { Err(error) }
            }
        }
    }

    /// Whether [`AioContext::reap`] may yield something; two loads when the ring is mapped.
    #[inline]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.user_ring {
            Some(ring) => !ring.is_empty(),
            None => self.in_flight > 0,
        }
    }

    /// Copies completions out, without waiting and without a system call; returns how many.
    #[inline]
    pub fn reap(&mut self, out: &mut [AioEvent]) -> usize {
        let count = match &mut self.user_ring {
            Some(ring) => ring.take(out),
            None => self.get_events(out, 0, Some(Duration::ZERO)).unwrap_or(0),
        };
        self.count_reaped(count);
        count
    }

    /// Copies completions out, waiting until there are at least `min` or `timeout` is over.
    ///
    /// For places that may block, such as closing a device; `None` waits without limit.
    ///
    /// # Errors
    ///
    /// The error of io_getevents(2); `EINTR` when a signal came first.
    pub fn reap_wait(
        &mut self,
        out: &mut [AioEvent],
        min: usize,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let min = min.min(out.len());
        let count = self.get_events(out, min, timeout)?;
        self.count_reaped(count);
        Ok(count)
    }

    fn count_reaped(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.in_flight = self.in_flight.saturating_sub(count);
    }

    /// io_getevents(2).
    fn get_events(
        &self,
        out: &mut [AioEvent],
        min: usize,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        let max = libc::c_long::try_from(out.len()).unwrap_or(libc::c_long::MAX);
        let min = libc::c_long::try_from(min).unwrap_or(libc::c_long::MAX);
        // SAFETY: `out` has room for `max` events, and the timeout, if any, is a valid structure.
        let result = unsafe {
            libc::syscall(libc::SYS_io_getevents, self.id, min, max, out.as_mut_ptr(), limit)
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// Behaves as with a kernel whose ring is not known.
    #[cfg(test)]
    pub(super) fn forget_user_ring(&mut self) {
        self.user_ring = None;
    }
}

impl Drop for AioContext {
    fn drop(&mut self) {
        // SAFETY: the context is owned by this value; the call waits for requests in flight and
        // unmaps the ring, which is not used afterwards.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

/// Tells apart why io_setup(2) failed.
pub(super) fn classify(depth: u32, source: io::Error) -> AioError {
    match source.raw_os_error() {
        Some(libc::EAGAIN) => AioError::Limit {
            depth,
            in_use: sysfs::read_u64("/proc/sys/fs/aio-nr"),
            max: sysfs::read_u64("/proc/sys/fs/aio-max-nr"),
            source,
        },
        Some(libc::ENOSYS | libc::EPERM) => AioError::Unavailable(source),
        _ => AioError::Setup { depth, source },
    }
}
