//! What can happen to a device.

use std::sync::Arc;
use std::time::Duration;

use super::{Bdev, IoTimeoutAction, IoType};
use crate::NvmeStatus;

/// Something that happened to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// I/O failed because of the medium or the device itself. One event stands for all errors of a
    /// core within a tenth of a second.
    MediaError {
        /// What the last of them was.
        kind: IoType,
        /// Its first block.
        offset_blocks: u64,
        /// Its length in blocks.
        num_blocks: u64,
        /// How it ended.
        status: NvmeStatus,
        /// How many there were.
        count: u64,
    },
    /// I/O is in flight for longer than the device's time limit. Told once of each I/O.
    IoTimeout {
        /// What the oldest of them is.
        kind: IoType,
        /// Its first block.
        offset_blocks: u64,
        /// Its length in blocks.
        num_blocks: u64,
        /// How long it has been in flight.
        waited: Duration,
        /// How many there are.
        count: u64,
        /// What is done about it.
        action: IoTimeoutAction,
    },
    /// The controller's admin queue failed.
    AdminQueueFailed,
    /// No path is left; the controller is being connected anew, and I/O waits.
    Reconnecting,
    /// It can be reached again.
    Reconnected,
    /// A path failed, others are left.
    PathFailed {
        /// Paths that are connected.
        connected: usize,
        /// Paths there are.
        paths: usize,
    },
    /// A path is back beside others.
    PathRestored {
        /// Paths that are connected.
        connected: usize,
        /// Paths there are.
        paths: usize,
    },
    /// Connecting it anew was given up; I/O fails.
    Unreachable,
    /// A command is with the controller for longer than its time limit.
    CommandTimeout {
        /// The queue.
        qid: u16,
        /// The command's identifier.
        cid: u16,
        /// The limit.
        limit: Duration,
        /// What is done about it.
        action: &'static str,
    },
    /// The abort of a command that took too long has ended.
    CommandAbort {
        /// The queue.
        qid: u16,
        /// The command's identifier.
        cid: u16,
        /// What came of it: `aborted`, `not aborted` (it is about to end, or is not known), or
        /// `failed` (the controller did not answer the abort either).
        outcome: &'static str,
    },
    /// The controller is being reset.
    ControllerReset {
        /// Why, in words.
        reason: Arc<str>,
    },
    /// What it is made of was pulled out, or is to be given back: it goes.
    Unplugged {
        /// Why, in words.
        reason: Arc<str>,
    },
    /// What is kept on the device takes no more changes, so that nothing gets worse.
    ReadOnly {
        /// What is kept there (a pool).
        user: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
}

/// Told of events, on whatever thread caused them. Must not block.
pub type EventListener = Arc<dyn Fn(&Bdev, &DeviceEvent) + Send + Sync>;
