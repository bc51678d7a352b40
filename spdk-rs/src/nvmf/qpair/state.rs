//! Where a queue pair stands, and what it has counted.

use std::cell::Cell;
use std::fmt;

/// Life of a queue pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QpairState {
    /// Connected on the transport's level; no Connect was accepted yet.
    New,
    /// A Connect is being worked on.
    Connecting,
    /// A queue of a controller.
    Connected,
    /// The connection ends: no command is taken any more, those in flight end.
    Disconnecting,
    /// The transport is closed and no command is in flight.
    Gone,
}

impl fmt::Display for QpairState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnecting => "disconnecting",
            Self::Gone => "gone",
        })
    }
}

/// A count on one core.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }

    #[inline(always)]
    pub(crate) fn add(&self, by: u64) {
        self.0.set(self.0.get().wrapping_add(by));
    }
}

/// What a queue pair has counted since its connection began.
#[derive(Debug, Default)]
pub struct QpairStats {
    /// Commands taken.
    pub commands: Count,
    /// Commands that ended in an error.
    pub errors: Count,
    /// Read commands, and the bytes they asked for.
    pub reads: Count,
    /// As `reads`.
    pub read_bytes: Count,
    /// Write commands, and the bytes they brought.
    pub writes: Count,
    /// As `writes`.
    pub write_bytes: Count,
    /// Times a command had to wait for memory or for a slot of the block device layer.
    pub waits: Count,
}
