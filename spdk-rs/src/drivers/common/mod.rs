//! What the drivers over regular files and block devices share: opening and checking the file,
//! the progress of a transfer, and the space operations that run on helper threads.
//!
//! Invariants:
//!
//! * A device is either made whole or not at all: a file that was created for a device that then
//!   could not be made is removed again.
//! * Nobody else who honours flock(2) or `O_EXCL` uses the file while a device does.
//! * A transfer completes when every byte was moved, or fails. What the kernel leaves out of one
//!   request is asked for with the next.
//! * A failed flush is reported to who asked for it and never repeated by itself: the kernel tells
//!   an error once and forgets which data it could not write, so that a second fdatasync(2) that
//!   succeeds proves nothing about them.

mod device;
mod error;
mod space;
#[cfg(test)]
mod tests;
mod transfer;

pub use device::FileOptions;
pub(in crate::drivers) use device::{Buffered, DriverNames, FileDevice};
pub use device::{is_file_device, rescan};
pub use error::FileBdevError;
pub(in crate::drivers) use space::{FLAG_BLOCK_DEVICE, FLAG_SYNC, discard, punch, sync, zero};
pub(in crate::drivers) use transfer::{Outcome, Pieces, Progress, Transfer};
