//! What a target has done, per reactor.

use crate::nvmf::controller::LocalQueues;
use crate::nvmf::target::Target;
use crate::reactor::ReactorGone;
use spdk_rs_sys::cpu::CoreId;

/// Figures of queue pairs: of one, or of all that a reactor had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Commands taken.
    pub commands: u64,
    /// Commands that ended in an error.
    pub errors: u64,
    /// Read commands.
    pub reads: u64,
    /// Bytes that they asked for.
    pub read_bytes: u64,
    /// Write commands.
    pub writes: u64,
    /// Bytes that they brought.
    pub write_bytes: u64,
    /// Times a command had to wait for memory.
    pub waits: u64,
}

impl QueueStats {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            commands: self.commands + other.commands,
            errors: self.errors + other.errors,
            reads: self.reads + other.reads,
            read_bytes: self.read_bytes + other.read_bytes,
            writes: self.writes + other.writes,
            write_bytes: self.write_bytes + other.write_bytes,
            waits: self.waits + other.waits,
        }
    }
}

/// The figures of one reactor (a poll group of nvmf_get_stats).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreStats {
    /// The reactor.
    pub core: CoreId,
    /// Admin queue pairs that were attached since the start.
    pub admin_qpairs: u64,
    /// I/O queue pairs that were attached since the start.
    pub io_qpairs: u64,
    /// Admin queue pairs now.
    pub current_admin_qpairs: u64,
    /// I/O queue pairs now.
    pub current_io_qpairs: u64,
    /// Commands of I/O queues that are in flight.
    pub pending_io: u64,
    /// Commands of I/O queues that have ended.
    pub completed_io: u64,
    /// Sums over the I/O queue pairs, those that are gone included.
    pub queues: QueueStats,
}

impl Target {
    /// The figures of every reactor.
    ///
    /// # Errors
    /// [`ReactorGone`].
    pub async fn stats(&self) -> Result<Vec<CoreStats>, ReactorGone> {
        let mut all = Vec::with_capacity(self.reactors.len());
        for reactor in self.reactors.iter() {
            all.push(reactor.call(|reactor| LocalQueues::of(reactor).stats(reactor.core())).await?);
        }
        Ok(all)
    }
}
