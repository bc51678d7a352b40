//! Linux kernel AIO: requests in by io_submit(2), completions out of memory shared with the kernel.
//!
//! This is what remains where io_uring is forbidden, and what SPDK's `aio` block device is built
//! on. It is asynchronous for files opened with `O_DIRECT` only; a buffered file makes io_submit(2)
//! do the work before it returns.
//!
//! Invariants:
//!
//! * [`AioContext::reap`] makes no system call as long as the kernel's ring has the layout known
//!   here; otherwise it falls back to io_getevents(2) with no waiting.
//! * An [`Iocb`] may be reused once io_submit(2) took it; the memory it names only once the
//!   request completed.
//! * Dropping a context waits for its requests, so that no buffer is written afterwards.

mod context;
mod iocb;

use std::io;

pub use context::AioContext;
pub use iocb::{AioEvent, Iocb};

/// Why there is no AIO context.
#[derive(Debug, thiserror::Error)]
pub enum AioError {
    /// A context for no request, or for more than the kernel can count.
    #[error("AIO: queue depth is {depth}; allowed: 1 to {max}", max = i32::MAX)]
    Depth {
        /// The depth asked for.
        depth: u32,
    },
    /// The machine-wide limit on AIO requests is reached.
    #[error(
        "AIO: no room for {depth} more requests: {} of {} are taken; raise /proc/sys/fs/aio-max-nr",
        number(*.in_use), number(*.max)
    )]
    Limit {
        /// The depth asked for.
        depth: u32,
        /// Requests that all contexts of the machine were made for, from `/proc/sys/fs/aio-nr`.
        in_use: Option<u64>,
        /// The limit, from `/proc/sys/fs/aio-max-nr`.
        max: Option<u64>,
        /// The error of io_setup(2).
        #[source]
        source: io::Error,
    },
    /// The kernel is built without AIO, or a seccomp filter denies it.
    #[error("the kernel or a seccomp filter refuses AIO")]
    Unavailable(#[source] io::Error),
    /// Any other failure to make a context.
    #[error("cannot set up AIO for {depth} requests")]
    Setup {
        /// The depth asked for.
        depth: u32,
        /// The error of io_setup(2).
        #[source]
        source: io::Error,
    },
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "an unknown number".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests;
