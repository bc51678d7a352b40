//! What happens to devices and pools: kept for a while, told to whoever listens, and weighed into
//! the health of each device.
//!
//! Invariants:
//! * whoever causes an event is held by a short lock at the most, never by a listener;
//! * an event that is gone before somebody read it is announced in its place ([`EventLog::since`],
//!   and `Lagged` of a [subscription](EventLog::subscribe)).

mod health;
mod log;
mod monitor;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use serde_json::Value;

pub use health::{DeviceHealth, HealthState, Thresholds};
pub use log::{EVENTS_MAX, EventLog};
pub use monitor::{DeviceMonitor, Removal};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number: the first is 0, and none is left out.
    pub id: u64,
    /// What happened.
    pub kind: EventType,
    /// What it happened to: the name of a device or pool.
    pub ctx: String,
    /// When it happened.
    pub at: SystemTime,
    /// An object with more about it.
    pub details: Value,
}

/// The types of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// A device is there.
    Registered,
    /// A device is gone.
    Unregistered,
    /// A device has another size.
    Resized,
    /// I/O failed because of the medium or the device.
    MediaError,
    /// I/O is in flight for longer than its time limit.
    IoTimeout,
    /// The admin queue of a device's controller failed.
    AdminQueueFailed,
    /// No path to a device is left; it is connected anew.
    Reconnecting,
    /// A device is reached again.
    Reconnected,
    /// A path to a device failed, others are left.
    PathFailed,
    /// A path to a device is back beside others.
    PathRestored,
    /// Connecting a device anew was given up.
    Unreachable,
    /// A command is with a device's controller for longer than its time limit.
    CommandTimeout,
    /// The abort of a command that took too long has ended.
    CommandAbort,
    /// A device's controller is being reset.
    ControllerReset,
    /// A device goes, since what it is made of was pulled out or is to be given back.
    Unplugged,
    /// A controller of this machine was found and attached.
    ControllerAdded,
    /// A controller of this machine is gone.
    ControllerRemoved,
    /// A pool takes no more changes.
    PoolReadOnly,
    /// The health of a device is another one.
    Health,
    /// Events are gone that nobody may have read.
    Lost,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 20] = [
        Self::Registered,
        Self::Unregistered,
        Self::Resized,
        Self::MediaError,
        Self::IoTimeout,
        Self::AdminQueueFailed,
        Self::Reconnecting,
        Self::Reconnected,
        Self::PathFailed,
        Self::PathRestored,
        Self::Unreachable,
        Self::CommandTimeout,
        Self::CommandAbort,
        Self::ControllerReset,
        Self::Unplugged,
        Self::ControllerAdded,
        Self::ControllerRemoved,
        Self::PoolReadOnly,
        Self::Health,
        Self::Lost,
    ];

    /// The name, SPDK's where it has the type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registered => "bdev_register",
            Self::Unregistered => "bdev_unregister",
            Self::Resized => "bdev_resize",
            Self::MediaError => "bdev_media_error",
            Self::IoTimeout => "bdev_io_timeout",
            Self::AdminQueueFailed => "bdev_admin_queue_failed",
            Self::Reconnecting => "bdev_reconnecting",
            Self::Reconnected => "bdev_reconnected",
            Self::PathFailed => "bdev_path_failed",
            Self::PathRestored => "bdev_path_restored",
            Self::Unreachable => "bdev_unreachable",
            Self::CommandTimeout => "bdev_nvme_command_timeout",
            Self::CommandAbort => "bdev_nvme_command_abort",
            Self::ControllerReset => "bdev_nvme_reset",
            Self::Unplugged => "bdev_unplugged",
            Self::ControllerAdded => "nvme_controller_added",
            Self::ControllerRemoved => "nvme_controller_removed",
            Self::PoolReadOnly => "pool_read_only",
            Self::Health => "bdev_health",
            Self::Lost => "events_lost",
        }
    }
}
