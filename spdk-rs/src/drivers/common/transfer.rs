//! How far an I/O has come, kept in the driver's part of its slot.
//!
//! The kernel may move fewer bytes than it was asked for, or be interrupted. [`Progress::settle`]
//! judges each result; a transfer ends when every byte was moved or when the kernel makes no
//! headway.

use std::io;

use crate::NvmeStatus;
use crate::bdev::{BdevIo, IoType};
use crate::env::IoVec;

/// Results without headway (`EINTR`, `EAGAIN`) in a row after which an I/O fails.
const ATTEMPTS_MAX: u64 = 1024;

/// Places in the driver's context.
const REST: usize = 0;
const DONE: usize = 1;
const ATTEMPTS: usize = 2;
const STAGE: usize = 3;
const HOME: usize = 4;

/// What a result means for its I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::drivers) enum Outcome {
    /// It has ended.
    Done(NvmeStatus),
    /// Ask the kernel for the rest.
    Again,
}

/// The memory that is still to be transferred: a description, that outlives no I/O.
#[derive(Clone, Copy, Debug)]
pub(in crate::drivers) enum Pieces {
    /// One piece.
    One(IoVec),
    /// A list where it stands, in the I/O's slot or in the list that the I/O owns.
    Many {
        /// The first entry.
        first: *const IoVec,
        /// The number of entries.
        count: usize,
    },
}

impl Pieces {
    #[inline(always)]
    fn many(iovs: &[IoVec]) -> Self {
        Self::Many { first: iovs.as_ptr(), count: iovs.len() }
    }
}

/// A read or write as the kernel is asked for it.
#[derive(Clone, Copy, Debug)]
pub(in crate::drivers) struct Transfer {
    /// A write, not a read.
    pub(in crate::drivers) write: bool,
    /// The flags of preadv2(2) and pwritev2(2).
    pub(in crate::drivers) rw_flags: i32,
    /// The memory.
    pub(in crate::drivers) pieces: Pieces,
    /// The first byte in the file.
    pub(in crate::drivers) offset: u64,
}

impl Transfer {
    /// What remains to be done of an I/O.
    #[inline(always)]
    pub(in crate::drivers) fn rest_of(io: &mut BdevIo, block_len: u32) -> Self {
        let done = io.driver_context()[DONE];
        let write = io.kind() == IoType::Write;
        Self {
            write,
            rw_flags: rw_flags(write, io.fua()),
            pieces: Progress::pieces(io.iovs(), done),
            offset: io.offset_blocks() * u64::from(block_len) + done,
        }
    }
}

/// Force unit access is a write that is durable when it completes.
#[inline(always)]
pub(super) fn rw_flags(write: bool, fua: bool) -> i32 {
    if write && fua { nix::libc::RWF_DSYNC } else { 0 }
}

/// The progress of one I/O, read from and written to its slot.
pub(in crate::drivers) struct Progress;

impl Progress {
    /// Starts an I/O: nothing is done, all is to do. `home` is a number of the driver's own.
    #[inline(always)]
    pub(in crate::drivers) fn begin(io: &mut BdevIo, block_len: u32, home: u64) {
        let bytes = if io.kind().has_data() { io.num_blocks() * u64::from(block_len) } else { 0 };
        let context = io.driver_context();
        context[REST] = bytes;
        context[DONE] = 0;
        context[ATTEMPTS] = 0;
        context[STAGE] = 0;
        context[HOME] = home;
    }

    /// The number given at the start.
    #[inline(always)]
    pub(in crate::drivers) fn home(io: &mut BdevIo) -> u64 {
        io.driver_context()[HOME]
    }

    /// Which step of an operation of several steps this is; 0 at first.
    #[inline(always)]
    pub(in crate::drivers) fn stage(io: &mut BdevIo) -> u64 {
        io.driver_context()[STAGE]
    }

    /// Goes on to another step.
    pub(in crate::drivers) fn set_stage(io: &mut BdevIo, stage: u64) {
        let context = io.driver_context();
        context[STAGE] = stage;
        context[ATTEMPTS] = 0;
    }

    /// Whether a result of the kernel is all that was asked for.
    #[inline(always)]
    pub(in crate::drivers) fn is_whole(io: &mut BdevIo, result: i64) -> bool {
        io.driver_context()[REST] == result.cast_unsigned()
    }

    /// Judges a result: a count of bytes, or a negated error number. `align` is the unit of
    /// offsets in bytes, a power of two.
    #[inline(always)]
    pub(in crate::drivers) fn settle(io: &mut BdevIo, result: i64, align: u64) -> Outcome {
        if Self::is_whole(io, result) {
            return Outcome::Done(NvmeStatus::SUCCESS);
        }
        Self::settle_partial(io, result, align)
    }

    #[cold]
    fn settle_partial(io: &mut BdevIo, result: i64, align: u64) -> Outcome {
        let (kind, before) = (io.kind(), io.driver_context()[DONE]);
        let Ok(moved) = u64::try_from(result) else {
            return Self::failed(io, errno_of(result));
        };
        if !kind.has_data() {
            return Outcome::Done(NvmeStatus::SUCCESS);
        }
        // An end of file inside a block gives a part of a block, from where no further request
        // could start: only whole units count.
        let whole = moved & !(align - 1);
        if whole == 0 {
            let is_read = kind == IoType::Read;
            return Outcome::Done(if is_read {
                NvmeStatus::UNRECOVERED_READ_ERROR
            } else {
                NvmeStatus::WRITE_FAULT
            });
        }
        let context = io.driver_context();
        let whole = whole.min(context[REST]);
        context[DONE] = before + whole;
        context[REST] -= whole;
        context[ATTEMPTS] = 0;
        Outcome::Again
    }

    fn failed(io: &mut BdevIo, errno: i32) -> Outcome {
        let write = io.kind() != IoType::Read;
        let transient = matches!(
            io::Error::from_raw_os_error(errno).kind(),
            io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
        );
        let attempts = &mut io.driver_context()[ATTEMPTS];
        if transient && *attempts < ATTEMPTS_MAX {
            *attempts += 1;
            return Outcome::Again;
        }
        Outcome::Done(NvmeStatus::from_errno(errno, write))
    }

    /// The memory behind the first `done` bytes. When `done` ends inside a piece, the rest of
    /// that piece alone: the next request then ends at its end.
    #[inline(always)]
    pub(super) fn pieces(iovs: &[IoVec], done: u64) -> Pieces {
        match iovs {
            [one] if done == 0 => Pieces::One(*one),
            all if done == 0 => Pieces::many(all),
            all => Self::pieces_behind(all, done),
        }
    }

    #[cold]
    fn pieces_behind(iovs: &[IoVec], done: u64) -> Pieces {
        let mut skip = usize::try_from(done).unwrap_or(usize::MAX);
        for (index, iov) in iovs.iter().enumerate() {
            if skip < iov.len() {
                return match &iovs[index..] {
                    all if skip == 0 && all.len() > 1 => Pieces::many(all),
                    _ => Pieces::One(iov.advanced(skip)),
                };
            }
            skip -= iov.len();
        }
        Pieces::One(IoVec::EMPTY)
    }
}

/// The error number of a negative result.
fn errno_of(result: i64) -> i32 {
    i32::try_from(result.unsigned_abs()).unwrap_or(nix::libc::EIO)
}
