//! io_uring for a reactor: one ring, used by the one thread that made it.
//!
//! [`Ring::new`] asks for everything that lowers the cost per I/O on the running kernel and falls
//! back step by step, so that one program works from Linux 5.11 on. Requests are queued by the
//! pushers, handed over by [`Ring::submit`], and their completions copied out by [`Ring::reap`].
//!
//! Invariants:
//!
//! * A ring stays on its thread (it is not `Send`): with `IORING_SETUP_SINGLE_ISSUER` and
//!   `IORING_SETUP_DEFER_TASKRUN` the kernel refuses any other.
//! * With `DEFER_TASKRUN` completions appear only when this thread enters the kernel with
//!   `IORING_ENTER_GETEVENTS`. [`Ring::needs_enter`] reads from shared memory whether that would
//!   yield anything, so a polling reactor makes no system call while nothing is ready.
//! * No completion is lost: a completion queue that overflows is kept by the kernel
//!   (`IORING_FEAT_NODROP`, which is required) and handed over by the next enter.
//! * Dropping a ring does not wait for requests in flight. Whoever owns their buffers must reap
//!   every completion first, see [`Ring::in_flight`].

mod features;
mod net;
mod register;
mod ring;
mod setup;

use std::io;
use std::os::fd::RawFd;

pub use features::UringFeatures;
pub use net::socket_has_more;
pub use ring::Ring;

use crate::os::{Limit, limit_text};

/// The most submission entries that the kernel allows (`IORING_MAX_ENTRIES`).
pub const ENTRIES_MAX: u32 = 32_768;
/// The most completion entries that the kernel allows (`IORING_MAX_CQ_ENTRIES`).
pub const CQ_ENTRIES_MAX: u32 = 65_536;
/// The most bytes of one registered buffer: the kernel's limit.
pub const BUFFER_BYTES_MAX: usize = 1 << 30;

/// The shape of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingOptions {
    /// Submission queue entries, 1 to [`ENTRIES_MAX`]; rounded up to a power of two.
    pub entries: u32,
    /// Completion queue entries, at least `entries` and at most [`CQ_ENTRIES_MAX`]; twice
    /// `entries` when `None`.
    pub cq_entries: Option<u32>,
    /// Poll devices for completions instead of waiting for their interrupts. Such a ring takes
    /// reads and writes of files opened with `O_DIRECT` on devices with poll queues, and nothing
    /// else.
    pub iopoll: bool,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self { entries: 256, cq_entries: None, iopoll: false }
    }
}

/// The file of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file descriptor; the kernel looks it up for every request.
    Fd(RawFd),
    /// A slot of the ring's file table, see [`Ring::register_file`]; costs no lookup.
    Fixed(u32),
}

/// A completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cqe {
    /// The number that the request was pushed with.
    pub user_data: u64,
    /// What the equivalent system call would return: a count, or a negated error number.
    pub res: i32,
    /// `IORING_CQE_F_*`.
    pub flags: u32,
}

impl Cqe {
    /// Whether the request stays armed and more completions follow (`IORING_CQE_F_MORE`).
    #[inline]
    #[must_use]
    pub fn has_more(&self) -> bool {
        io_uring::cqueue::more(self.flags)
    }

    /// The result as a count, or the error.
    ///
    /// # Errors
    ///
    /// The error number that the kernel completed the request with.
    #[inline]
    pub fn result(&self) -> io::Result<u32> {
        u32::try_from(self.res).map_err(|_| io::Error::from_raw_os_error(-self.res))
    }
}

/// The submission queue has no free entry: submit, then push again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the submission queue is full")]
pub struct SqFull;

/// Why there is no ring, or why it refused a registration.
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// A queue size that the kernel does not allow.
    #[error("io_uring: {what} is {value}; allowed: {min} to {max}")]
    Size {
        /// The option.
        what: &'static str,
        /// Its value.
        value: u32,
        /// The least allowed value.
        min: u32,
        /// The largest allowed value.
        max: u32,
    },
    /// The kernel or the container forbids io_uring.
    #[error("io_uring is not permitted: {reason}")]
    NotPermitted {
        /// What forbids it, as far as can be told.
        reason: String,
        /// The error of io_uring_setup(2).
        #[source]
        source: io::Error,
    },
    /// No memory, or no more locked memory, for a ring.
    #[error(
        "no memory for an io_uring of {entries} entries ({}); raise `ulimit -l` or grant CAP_IPC_LOCK",
        limit_text(*.limit)
    )]
    NoMemory {
        /// The submission entries asked for.
        entries: u32,
        /// The process's limit on locked memory. Kernels before 5.12 charge rings to it, and
        /// so do recent ones (6.18 does), those of all the user's processes together.
        limit: Option<Limit>,
        /// The error of io_uring_setup(2).
        #[source]
        source: io::Error,
    },
    /// The kernel has no io_uring, or one without something that is needed here.
    #[error("the kernel's io_uring is too old: {missing} is missing; Linux 5.11 has it")]
    TooOld {
        /// What is missing.
        missing: &'static str,
    },
    /// Any other failure to make a ring.
    #[error("cannot set up an io_uring of {entries} entries")]
    Setup {
        /// The submission entries asked for.
        entries: u32,
        /// The error of io_uring_setup(2) or mmap(2).
        #[source]
        source: io::Error,
    },
    /// The ring refused a registration.
    #[error("io_uring: cannot {what}")]
    Register {
        /// What was to be done, with its number.
        what: String,
        /// The error of io_uring_register(2).
        #[source]
        source: io::Error,
    },
}

impl UringError {
    /// Whether another way to do I/O should be tried: the ring is forbidden or too old, which no
    /// later attempt changes.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::NotPermitted { .. } | Self::TooOld { .. })
    }
}

#[cfg(test)]
mod tests;
