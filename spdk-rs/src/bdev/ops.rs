//! What a driver implements: a device for all cores, and a channel to it for each core.

use std::any::Any;
use std::rc::Rc;

use super::{BdevIo, IoList, IoTypes, ZoneGeometry};
use crate::NvmeStatus;
use crate::reactor::{Reactor, Rest};

/// A device of a driver, shared by all cores.
pub trait BdevOps: Send + Sync + 'static {
    /// The I/O that the driver does itself. Of the rest, the block device layer emulates what can
    /// be emulated honestly and refuses the others.
    fn io_types(&self) -> IoTypes;

    /// Opens the device's channel on the reactor that calls. Must not block.
    ///
    /// # Errors
    /// When the kernel does not give what the channel needs.
    fn create_channel(&self, reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>>;

    /// Whether reads can be lent the device's own memory ([`BdevIo::wants_lent`]).
    fn lends(&self) -> bool {
        false
    }

    /// The zones of a zoned device; `None` when its blocks can be written in any order. Asked once.
    fn zones(&self) -> Option<ZoneGeometry> {
        None
    }

    /// Facts that only this driver has, for `driver_specific` in listings.
    fn driver_info(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// The driver's own type, for operations that only this driver has; none when it has none.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }
}

/// A driver's queue pair on one core.
///
/// Callbacks of consumers never run inside these methods: [`BdevIo::complete`] only collects, so a
/// channel is never entered twice.
pub trait BdevChannel {
    /// Takes an I/O that was checked: of a kind from [`BdevOps::io_types`], inside the device,
    /// within the limits, aligned. The driver completes it, now or later.
    fn submit(&mut self, io: BdevIo);

    /// Takes several at once; a driver that can ring one doorbell for all of them overrides this.
    fn submit_batch(&mut self, batch: &mut IoList) {
        while let Some(io) = batch.pop() {
            self.submit(io);
        }
    }

    /// Called once per turn while I/O is outstanding: submit what was collected, complete what is
    /// ready. Returns how much was done.
    fn poll(&mut self) -> usize {
        0
    }

    /// Whether `poll` does anything.
    fn is_polled(&self) -> bool {
        false
    }

    /// Whether the reactor may sleep while I/O is outstanding here.
    fn rest(&self) -> Rest {
        Rest::Sleep
    }

    /// Abandons what the device has not completed, where the device can. The block device layer
    /// holds new I/O back meanwhile and waits until nothing is in flight.
    fn reset(&mut self) -> NvmeStatus {
        NvmeStatus::SUCCESS
    }

    /// The device was resized.
    fn resized(&mut self, _num_blocks: u64) {}
}
