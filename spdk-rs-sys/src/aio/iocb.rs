//! The kernel's structures, from `<linux/aio_abi.h>`.

use std::io;
use std::os::fd::RawFd;

/// `IOCB_CMD_*`.
const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;

/// `IOCB_FLAG_RESFD`: `aio_resfd` is valid.
const FLAG_RESFD: u32 = 1;

/// A request: `struct iocb`.
///
/// Making one does nothing; what it names matters when it is submitted.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Iocb {
    data: u64,
    #[cfg(target_endian = "little")]
    key: u32,
    rw_flags: i32,
    #[cfg(target_endian = "big")]
    key: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: u32,
}

const _: () = assert!(size_of::<Iocb>() == 64);
const _: () = assert!(align_of::<Iocb>() == 8);

impl Iocb {
    /// A request of the given kind.
    fn new(opcode: u16, fd: RawFd, buf: u64, nbytes: u64, offset: u64) -> Self {
        Self {
            opcode,
            fd: fd.cast_unsigned(),
            buf,
            nbytes,
            // An offset beyond i64::MAX becomes negative, which the kernel refuses with EINVAL.
            offset: offset.cast_signed(),
            ..Self::default()
        }
    }

    /// A read of `len` bytes at byte `off` into `buf`.
    #[inline]
    #[must_use]
    pub fn pread(fd: RawFd, buf: *mut u8, len: usize, off: u64) -> Self {
        Self::new(PREAD, fd, buf as u64, len as u64, off)
    }

    /// A write of `len` bytes from `buf` to byte `off`.
    #[inline]
    #[must_use]
    pub fn pwrite(fd: RawFd, buf: *const u8, len: usize, off: u64) -> Self {
        Self::new(PWRITE, fd, buf as u64, len as u64, off)
    }

    /// A read at byte `off` into `n` buffers.
    #[inline]
    #[must_use]
    pub fn preadv(fd: RawFd, iov: *const libc::iovec, n: usize, off: u64) -> Self {
        Self::new(PREADV, fd, iov as u64, n as u64, off)
    }

    /// A write from `n` buffers to byte `off`.
    #[inline]
    #[must_use]
    pub fn pwritev(fd: RawFd, iov: *const libc::iovec, n: usize, off: u64) -> Self {
        Self::new(PWRITEV, fd, iov as u64, n as u64, off)
    }

    /// An fdatasync(2), done by a kernel thread; needs Linux 4.18.
    ///
    /// It covers the writes that completed before it was submitted.
    #[inline]
    #[must_use]
    pub fn fdsync(fd: RawFd) -> Self {
        Self::new(FDSYNC, fd, 0, 0, 0)
    }

    /// An fsync(2), done by a kernel thread; needs Linux 4.18.
    #[inline]
    #[must_use]
    pub fn fsync(fd: RawFd) -> Self {
        Self::new(FSYNC, fd, 0, 0, 0)
    }

    /// The number that the completion carries in [`AioEvent::data`].
    #[inline]
    #[must_use]
    pub fn with_data(mut self, data: u64) -> Self {
        self.data = data;
        self
    }

    /// The flags of preadv2(2) and pwritev2(2), such as `RWF_DSYNC`.
    #[inline]
    #[must_use]
    pub fn with_rw_flags(mut self, rw_flags: i32) -> Self {
        self.rw_flags = rw_flags;
        self
    }

    /// An eventfd(2) that the completion adds 1 to.
    #[inline]
    #[must_use]
    pub fn with_eventfd(mut self, fd: RawFd) -> Self {
        self.flags |= FLAG_RESFD;
        self.resfd = fd.cast_unsigned();
        self
    }
}

/// A completion: `struct io_event`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct AioEvent {
    /// The number given by [`Iocb::with_data`].
    pub data: u64,
    /// The address of the [`Iocb`] as it was submitted.
    pub obj: u64,
    /// What the equivalent system call would return: a count, or a negated error number.
    pub res: i64,
    /// A second result; 0 for all requests made here.
    pub res2: i64,
}

const _: () = assert!(size_of::<AioEvent>() == 32);

impl AioEvent {
    /// The result as a count, or the error.
    ///
    /// # Errors
    ///
    /// The error number that the kernel completed the request with.
    #[inline]
    pub fn result(&self) -> io::Result<u64> {
        u64::try_from(self.res).map_err(|_| {
            let number = i32::try_from(-self.res).unwrap_or(libc::EIO);
            io::Error::from_raw_os_error(number)
        })
    }
}
