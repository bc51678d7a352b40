//! Devices over files and block devices by io_uring.
//!
//! * All devices of a core share the reactor's ring: what a turn queued is submitted with one
//!   system call, which also waits when there is nothing else to do.
//! * Files are registered with the ring, and so is the arena that buffers come from.
//! * A flush is an asynchronous fdatasync(2), force unit access is `RWF_DSYNC`, and holes are
//!   punched and ranges zeroed through the ring as well. Where the kernel's ring lacks an
//!   operation, helper threads do it.
//! * With direct I/O on a device that has poll queues, reads and writes go through a ring of their
//!   own whose completions are polled for (`IORING_SETUP_IOPOLL`).
//! * Buffered I/O works too; a flush then also writes the page cache back.

mod channel;
mod client;
mod polled;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use spdk_rs_sys::uring::{Ring, RingOptions};

use super::common::{Buffered, DriverNames, FileDevice};
pub use super::common::{FileBdevError, FileOptions, rescan};
use crate::bdev::{Bdev, BdevChannel, BdevOps, IoTypes};
use crate::reactor::Reactor;

const NAMES: DriverNames = DriverNames { driver: "uring", product: "URING disk" };

/// What an io_uring device is made of.
#[derive(Clone, Debug)]
pub struct UringOptions {
    /// The file.
    pub file: FileOptions,
    /// Poll the device for completions of reads and writes; when none, if it has queues for that.
    /// Keeps the core busy while any are in flight.
    pub iopoll: Option<bool>,
}

impl UringOptions {
    /// The default settings for a file.
    #[must_use]
    pub fn new(file: FileOptions) -> Self {
        Self { file, iopoll: None }
    }
}

/// Opens a file or block device as a device. Blocks: not for a reactor.
///
/// # Errors
/// [`FileBdevError`]; then nothing is left behind.
pub fn create(options: &UringOptions) -> Result<Arc<Bdev>, FileBdevError> {
    let probe = RingOptions { entries: 1, ..RingOptions::default() };
    drop(Ring::new(probe).map_err(FileBdevError::NoUring)?);
    let device = Arc::new(FileDevice::open(&options.file, Buffered::Allowed)?);
    let iopoll = options.iopoll.unwrap_or_else(|| device.has_poll_queues());
    if iopoll && !device.is_direct() {
        let _ = device.iopoll_refusal.set("it needs direct I/O".to_owned());
    }
    let iopoll = iopoll && device.is_direct();
    let info = device.bdev_info(&options.file, NAMES);
    let iopoll_given = options.iopoll;
    Ok(Bdev::new(info, Box::new(Uring { device, iopoll, iopoll_given })))
}

struct Uring {
    device: Arc<FileDevice>,
    iopoll: bool,
    /// Whether to poll, when that was said.
    iopoll_given: Option<bool>,
}

impl BdevOps for Uring {
    fn io_types(&self) -> IoTypes {
        self.device.io_types()
    }

    fn create_channel(&self, reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        let iopoll = self.iopoll && self.device.iopoll_refusal.get().is_none();
        Ok(Box::new(channel::UringChannel::open(&self.device, iopoll, reactor)?))
    }

    fn driver_info(&self) -> serde_json::Value {
        let mut facts = self.device.describe();
        let refusal = self.device.iopoll_refusal.get();
        facts.insert("iopoll".to_owned(), (self.iopoll && refusal.is_none()).into());
        facts.insert("iopoll_override".to_owned(), self.iopoll_given.into());
        facts.insert("iopoll_refusal".to_owned(), refusal.cloned().into());
        facts.insert("fixed_buffers".to_owned(), self.device.fixed_buffers.get().copied().into());
        serde_json::json!({ "uring": facts })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(&self.device)
    }
}
