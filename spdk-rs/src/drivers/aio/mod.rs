//! Devices over files and block devices by Linux AIO: what works where io_uring is forbidden.
//!
//! * Submissions of a turn are collected and handed over with one io_submit(2); completions are
//!   read from the ring that the kernel shares, without a system call.
//! * The reactor may sleep while I/O is in flight: each request signals an eventfd that it watches.
//! * A flush is an asynchronous fdatasync(2) (`IOCB_CMD_FDSYNC`), and force unit access is
//!   `RWF_DSYNC`. Both cover the device's cache, with direct I/O the only one there is.
//! * Hole punching, discarding and zeroing have no asynchronous form here: helper threads do them.
//! * Only direct I/O: io_submit(2) of buffered I/O would wait for the device.

mod channel;
mod request;

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use spdk_rs_sys::aio::AioContext;

use super::common::{Buffered, DriverNames, FileDevice};
pub use super::common::{FileBdevError, FileOptions, rescan};
use crate::bdev::{Bdev, BdevChannel, BdevOps, IoTypes};
use crate::reactor::Reactor;

const NAMES: DriverNames = DriverNames { driver: "aio", product: "AIO disk" };

/// What an AIO device is made of.
#[derive(Clone, Debug)]
pub struct AioOptions {
    /// The file.
    pub file: FileOptions,
    /// Requests in flight per core, 1 to [`AioOptions::DEPTH_MAX`]; what goes beyond waits here.
    pub depth: u32,
}

impl AioOptions {
    /// The default depth.
    pub const DEPTH: u32 = 256;
    /// The largest depth: what a system has for all contexts together by default.
    pub const DEPTH_MAX: u32 = 65_536;

    /// The default settings for a file.
    #[must_use]
    pub fn new(file: FileOptions) -> Self {
        Self { file, depth: Self::DEPTH }
    }
}

/// Opens a file or block device as a device. Blocks: not for a reactor.
///
/// # Errors
/// [`FileBdevError`]; then nothing is left behind.
pub fn create(options: &AioOptions) -> Result<Arc<Bdev>, FileBdevError> {
    let (depth, max) = (options.depth, AioOptions::DEPTH_MAX);
    if !(1..=max).contains(&depth) {
        let path = options.file.path.clone();
        return Err(FileBdevError::Depth { path, depth, max });
    }
    drop(AioContext::new(1).map_err(FileBdevError::NoAio)?);
    let device = Arc::new(FileDevice::open(&options.file, Buffered::Refused)?);
    let info = device.bdev_info(&options.file, NAMES);
    Ok(Bdev::new(info, Box::new(Aio { device, depth })))
}

struct Aio {
    device: Arc<FileDevice>,
    depth: u32,
}

impl BdevOps for Aio {
    fn io_types(&self) -> IoTypes {
        self.device.io_types()
    }

    fn create_channel(&self, reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(channel::AioChannel::open(&self.device, self.depth, reactor)?))
    }

    fn driver_info(&self) -> serde_json::Value {
        let mut facts = self.device.describe();
        facts.insert("queue_depth".to_owned(), self.depth.into());
        serde_json::json!({ "aio": facts })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(&self.device)
    }
}
