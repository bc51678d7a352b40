//! The commands of I/O queues, as operations of a block device.
//!
//! A command is *admitted* (its namespace is there, the path leads to it, no reservation forbids
//! it), *checked* (fields against fields and against the limits that Identify tells), and
//! *started*. Read, write, compare, flush and write zeroes are one operation of the device, with
//! the queue pair as its consumer; the others run as tasks.
//!
//! Invariants:
//! * read and write cost no allocation, lock or atomic read-modify-write;
//! * a status of the device reaches the host as it is;
//! * what wants memory or a slot that is not there waits for it.

mod access;
mod dataset;
mod flush;
mod fused;
pub mod limits;
mod reservation;
mod start;
mod task;
#[cfg(test)]
mod tests;
mod transfer;

pub use access::Access;
pub(super) use fused::pair;
pub(super) use start::{Command, Outcome, admit, run};

use crate::NvmeStatus;

/// The status for a host instead of one that only makes sense inside the engine.
pub(super) fn for_host(status: NvmeStatus) -> NvmeStatus {
    if status == NvmeStatus::WRITE_TO_READ_ONLY { NvmeStatus::WRITE_PROTECTED } else { status }
}
