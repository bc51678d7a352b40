//! What can happen to a device while it is open.

use std::sync::Arc;

use super::Bdev;

/// Something that happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// It is gone; I/O fails from now on.
    Removed,
    /// Its size changed.
    Resized {
        /// Blocks before.
        before: u64,
        /// Blocks now.
        now: u64,
    },
}

/// Told of events, on whatever thread caused them. Must not block.
pub type EventListener = Arc<dyn Fn(&Bdev, &DeviceEvent) + Send + Sync>;
