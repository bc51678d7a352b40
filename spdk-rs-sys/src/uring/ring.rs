//! [`Ring`]: the queues, and what goes in and out of them.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Fixed, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{CompletionStatus, EnterFlags, IoUring, opcode, squeue};

use super::{Cqe, RingOptions, SqFull, Target, UringError, UringFeatures, setup};

/// `BLOCK_URING_CMD_DISCARD`, `_IO(0x12, 0)` in `<linux/blkdev.h>` (Linux 6.12).
const BLOCK_DISCARD: u32 = 0x1200;

/// Builds a request for either kind of file.
macro_rules! on_target {
    ($target:expr, |$file:ident| $request:expr) => {
        match $target {
            Target::Fd(fd) => {
                let $file = Fd(fd);
                $request
            }
            Target::Fixed(slot) => {
                let $file = Fixed(slot);
                $request
            }
        }
    };
}

/// An io_uring that belongs to the thread that made it.
pub struct Ring {
    pub(super) ring: IoUring,
    completions: CompletionStatus,
    features: UringFeatures,
    /// Requests pushed and not yet taken by the kernel.
    queued: u32,
    /// Requests taken by the kernel whose last completion was not reaped yet.
    in_flight: u64,
    /// Keeps the ring on its thread.
    _thread: PhantomData<*mut ()>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("entries", &self.entries())
            .field("queued", &self.queued)
            .field("in_flight", &self.in_flight)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

impl std::os::fd::AsRawFd for Ring {
    /// The ring's descriptor: readable when completions are ready to be taken.
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl Ring {
    /// Makes a ring, with as many of the kernel's optimisations as it has.
    ///
    /// # Errors
    ///
    /// [`UringError`]; [`UringError::is_unavailable`] tells whether to use something else.
    pub fn new(options: RingOptions) -> Result<Self, UringError> {
        let (mut ring, flags) = setup::build(&options)?;
        let features = UringFeatures::probe(&ring, flags, options.iopoll);
        let queue = ring.completion();
        // SAFETY: the status lives in the same structure as the ring that it points into, and is
        // private to it.
        let completions = unsafe { queue.status() };
        drop(queue);
        Ok(Self { ring, completions, features, queued: 0, in_flight: 0, _thread: PhantomData })
    }

    /// What this ring was set up with and which operations it takes.
    #[must_use]
    pub fn features(&self) -> UringFeatures {
        self.features
    }

    /// Entries of the submission queue.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.ring.params().sq_entries()
    }

    /// Entries of the completion queue.
    #[must_use]
    pub fn cq_entries(&self) -> u32 {
        self.ring.params().cq_entries()
    }

    /// Requests that were pushed and that the kernel did not take yet.
    #[inline]
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued as usize
    }

    /// Requests that the kernel took and whose last completion was not reaped yet.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Whether [`Ring::reap`] would yield something now; two loads, no system call.
    #[inline]
    #[must_use]
    pub fn cq_ready(&self) -> bool {
        !self.completions.is_empty()
    }

    /// Whether [`Ring::submit`] would make completions appear, apart from those of new requests.
    ///
    /// True when the kernel has deferred work for this thread or holds completions that did not
    /// fit the queue, and on a ring that polls devices as long as anything is in flight. Kernels
    /// before 5.19 interrupt the thread to complete requests, so that nothing is ever due there.
    #[inline]
    #[must_use]
    pub fn needs_enter(&self) -> bool {
        if self.features.iopoll {
            return self.in_flight > 0;
        }
        // SAFETY: no other view of the queue exists: each is made and dropped within one method,
        // and the ring is used by one thread only.
        let queue = unsafe { self.ring.submission_shared() };
        queue.taskrun() || queue.cq_overflow()
    }

    /// Hands all queued requests to the kernel and runs deferred completion work, without waiting.
    ///
    /// Returns how many requests the kernel took. The others stay queued: that happens when it is
    /// out of memory for them or wants completions to be reaped first, and is no error.
    ///
    /// # Errors
    ///
    /// Other errors of io_uring_enter(2): `EEXIST` when called on a foreign thread, `EBADR` when
    /// the kernel had to drop a completion for lack of memory.
    #[inline]
    pub fn submit(&mut self) -> io::Result<usize> {
        self.enter(0, None)
    }

    /// Hands all queued requests to the kernel and waits until `min` completions are there to be
    /// reaped or `timeout` is over.
    ///
    /// A timeout, a signal, or a kernel that wants completions reaped first is no error: the
    /// caller looks at the queue in any case.
    ///
    /// # Errors
    ///
    /// As [`Ring::submit`].
    pub fn submit_and_wait(&mut self, min: u32, timeout: Option<Duration>) -> io::Result<()> {
        let limit = timeout
            .map(|timeout| Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos()));
        self.enter(min, limit.as_ref()).map(|_| ())
    }

    /// Enters the kernel and keeps count of what it took.
    fn enter(&mut self, min: u32, timeout: Option<&Timespec>) -> io::Result<usize> {
        let mut flags = EnterFlags::empty();
        let overflow = self.ring.submission().cq_overflow();
        if min > 0 || self.features.defer_taskrun || self.features.iopoll || overflow {
            flags.insert(EnterFlags::GETEVENTS);
        }
        if min > 0 && self.features.no_iowait {
            flags.insert(EnterFlags::NO_IOWAIT);
        }
        let result = match timeout {
            Some(timeout) if min > 0 => {
                let args = SubmitArgs::new().timespec(timeout);
                flags.insert(EnterFlags::EXT_ARG);
                let submitter = self.ring.submitter();
                // SAFETY: EXT_ARG announces the argument structure that is passed, and what it
                // points to lives until the call returns.
                unsafe { submitter.enter(self.queued, min, flags.bits(), Some(&args)) }
            }
            _ => {
                let submitter = self.ring.submitter();
                // SAFETY: no argument structure is passed and no flag announces one.
                unsafe { submitter.enter::<libc::sigset_t>(self.queued, min, flags.bits(), None) }
            }
        };
        // The queue's head is the truth, whatever the call returned.
        let left = self.ring.submission().len();
        let taken = self.queued as usize - left;
        self.queued = u32::try_from(left).unwrap_or(u32::MAX);
        self.in_flight += taken as u64;
        match result {
            Ok(_) => Ok(taken),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(taken),
                _ => Err(error),
            },
        }
    }

    /// Copies completions out of the queue and frees their entries; returns how many.
    #[inline]
    pub fn reap(&mut self, out: &mut [Cqe]) -> usize {
        let mut count = 0;
        let mut ended = 0;
        for (slot, entry) in out.iter_mut().zip(self.ring.completion()) {
            *slot = Cqe { user_data: entry.user_data(), res: entry.result(), flags: entry.flags() };
            ended += u64::from(!slot.has_more());
            count += 1;
        }
        self.in_flight = self.in_flight.saturating_sub(ended);
        count
    }

    /// Queues a request.
    ///
    /// # Safety
    ///
    /// All memory that the request names must stay valid, and be left alone as the request
    /// demands, until its last completion was reaped.
    #[inline]
    pub(super) unsafe fn push(
        &mut self,
        request: squeue::Entry,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let request = request.user_data(user_data);
        let mut queue = self.ring.submission();
        // SAFETY: passed on to the caller.
        unsafe { queue.push(&request) }.map_err(|_| SqFull)?;
        drop(queue);
        self.queued += 1;
        Ok(())
    }

    /// Queues a read of `len` bytes at byte `off` into `ptr`; with `fixed_buf`, `ptr` lies inside
    /// that registered buffer.
    ///
    /// `rw_flags` are those of preadv2(2).
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for writing `len` bytes, and nobody else may use them, until the
    /// completion was reaped.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "one per field of the request")]
    pub unsafe fn read(
        &mut self,
        target: Target,
        ptr: *mut u8,
        len: u32,
        off: u64,
        rw_flags: i32,
        fixed_buf: Option<u16>,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let request = match fixed_buf {
            Some(buffer) => {
                on_target!(target, |file| opcode::ReadFixed::new(file, ptr, len, buffer)
                    .offset(off)
                    .rw_flags(rw_flags)
                    .build())
            }
            None => on_target!(target, |file| opcode::Read::new(file, ptr, len)
                .offset(off)
                .rw_flags(rw_flags)
                .build()),
        };
        // SAFETY: the caller keeps the buffer as demanded.
        unsafe { self.push(request, user_data) }
    }

    /// Queues a write of `len` bytes from `ptr` to byte `off`; with `fixed_buf`, `ptr` lies inside
    /// that registered buffer.
    ///
    /// `rw_flags` are those of pwritev2(2); `RWF_DSYNC` makes the write durable before it
    /// completes.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for reading `len` bytes, and nobody may write them, until the
    /// completion was reaped.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "one per field of the request")]
    pub unsafe fn write(
        &mut self,
        target: Target,
        ptr: *const u8,
        len: u32,
        off: u64,
        rw_flags: i32,
        fixed_buf: Option<u16>,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let request = match fixed_buf {
            Some(buffer) => {
                on_target!(target, |file| opcode::WriteFixed::new(file, ptr, len, buffer)
                    .offset(off)
                    .rw_flags(rw_flags)
                    .build())
            }
            None => on_target!(target, |file| opcode::Write::new(file, ptr, len)
                .offset(off)
                .rw_flags(rw_flags)
                .build()),
        };
        // SAFETY: the caller keeps the buffer as demanded.
        unsafe { self.push(request, user_data) }
    }

    /// Queues a read at byte `off` into `n` buffers.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    ///
    /// # Safety
    ///
    /// `iov` must point to `n` entries whose buffers are valid for writing; entries and buffers
    /// must stay so, used by nobody else, until the completion was reaped.
    #[inline]
    pub unsafe fn readv(
        &mut self,
        target: Target,
        iov: *const libc::iovec,
        n: u32,
        off: u64,
        rw_flags: i32,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let request = on_target!(target, |file| opcode::Readv::new(file, iov, n)
            .offset(off)
            .rw_flags(rw_flags)
            .build());
        // SAFETY: the caller keeps the vector and its buffers as demanded.
        unsafe { self.push(request, user_data) }
    }

    /// Queues a write from `n` buffers to byte `off`.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    ///
    /// # Safety
    ///
    /// `iov` must point to `n` entries whose buffers are valid for reading; entries and buffers
    /// must stay so, written by nobody, until the completion was reaped.
    #[inline]
    pub unsafe fn writev(
        &mut self,
        target: Target,
        iov: *const libc::iovec,
        n: u32,
        off: u64,
        rw_flags: i32,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let request = on_target!(target, |file| opcode::Writev::new(file, iov, n)
            .offset(off)
            .rw_flags(rw_flags)
            .build());
        // SAFETY: the caller keeps the vector and its buffers as demanded.
        unsafe { self.push(request, user_data) }
    }

    /// Queues an fsync(2), or an fdatasync(2) with `datasync`. It covers the writes that completed
    /// before it was submitted, not those queued before it.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    pub fn fsync(&mut self, target: Target, datasync: bool, user_data: u64) -> Result<(), SqFull> {
        let flags = if datasync { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
        let request = on_target!(target, |file| opcode::Fsync::new(file).flags(flags).build());
        // SAFETY: the request names no memory.
        unsafe { self.push(request, user_data) }
    }

    /// Queues a fallocate(2) of `len` bytes at byte `off`.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    pub fn fallocate(
        &mut self,
        target: Target,
        mode: i32,
        off: u64,
        len: u64,
        user_data: u64,
    ) -> Result<(), SqFull> {
        let request = on_target!(target, |file| opcode::Fallocate::new(file, len)
            .offset(off)
            .mode(mode)
            .build());
        // SAFETY: the request names no memory.
        unsafe { self.push(request, user_data) }
    }

    /// Queues a discard of `len` bytes at byte `off` of a block device. Kernels before 6.12
    /// complete it with `EOPNOTSUPP` or `EINVAL`.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    pub fn blk_discard(
        &mut self,
        target: Target,
        off: u64,
        len: u64,
        user_data: u64,
    ) -> Result<(), SqFull> {
        // The length goes to `addr3`, which shares its place with the command's first 8 bytes.
        let mut command = [0_u8; 16];
        command[..8].copy_from_slice(&len.to_ne_bytes());
        let request = on_target!(target, |file| opcode::UringCmd16::new(file, BLOCK_DISCARD)
            .cmd(command)
            .addr(Some(off))
            .build());
        // SAFETY: the request names no memory.
        unsafe { self.push(request, user_data) }
    }

    /// Queues a poll for `events` (`POLLIN` …) that stays armed: each readiness completes once,
    /// with the ready events as result, as long as [`Cqe::has_more`] says so.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    pub fn poll_multishot(&mut self, fd: RawFd, events: i16, user_data: u64) -> Result<(), SqFull> {
        let events = u32::from(events.cast_unsigned());
        let request = opcode::PollAdd::new(Fd(fd), events).multi(true).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(request, user_data) }
    }

    /// Queues the cancellation of the request that was pushed with `target_user_data`.
    ///
    /// It completes with 0, `ENOENT` (no such request) or `EALREADY` (it cannot be stopped any
    /// more). The request itself completes in any case, with `ECANCELED` when it was stopped.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    pub fn cancel(&mut self, target_user_data: u64, user_data: u64) -> Result<(), SqFull> {
        let request = opcode::AsyncCancel::new(target_user_data).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(request, user_data) }
    }

    /// Queues the cancellation of everything in flight (Linux 5.19); completes with the number of
    /// requests that were stopped.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    pub fn cancel_all(&mut self, user_data: u64) -> Result<(), SqFull> {
        let request = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        // SAFETY: the request names no memory.
        unsafe { self.push(request, user_data) }
    }

    /// Queues a request that does nothing and completes with 0.
    ///
    /// # Errors
    ///
    /// [`SqFull`].
    pub fn nop(&mut self, user_data: u64) -> Result<(), SqFull> {
        // SAFETY: the request names no memory.
        unsafe { self.push(opcode::Nop::new().build(), user_data) }
    }
}
