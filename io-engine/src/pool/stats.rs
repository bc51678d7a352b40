//! What a pool counted and measured.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use serde::Serialize;
use spdk_rs::reactor::Reactor;

use super::Pool;

/// A duration that was measured many times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// How often.
    pub count: u64,
    /// The sum in nanoseconds.
    pub total_ns: u64,
    /// The longest in nanoseconds.
    pub max_ns: u64,
}

/// Figures of a pool since it was created or imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolStats {
    /// From the submission of a write to its completion.
    pub write: Latency,
    /// From the submission of a read to its completion.
    pub read: Latency,
    /// Flushes of the device below.
    pub flush: Latency,
    /// Checkpoints.
    pub checkpoint: Latency,
    /// Bytes that were written to volumes.
    pub written_bytes: u64,
    /// Bytes that were read from volumes.
    pub read_bytes: u64,
    /// Duration of the recovery in nanoseconds; 0 for a pool that was created.
    pub recovery_ns: u64,
    /// Journal records that the recovery found.
    pub recovery_records: u64,
    /// Transactions that the recovery applied.
    pub recovery_transactions: u64,
    /// Blocks that did not match their digests.
    pub invalid_blocks: u64,
    /// Journal records that were written.
    pub journal_records: u64,
    /// Journal blocks that were written.
    pub journal_blocks_written: u64,
    /// Journal blocks in use.
    pub journal_fill_blocks: u64,
    /// Journal blocks in all.
    pub journal_blocks: u64,
    /// Nodes in memory that are clean, and how many there may be.
    pub cached_nodes: u64,
    /// See `cached_nodes`.
    pub cached_nodes_max: u64,
    /// Nodes that are changed in memory.
    pub dirty_nodes: u64,
    /// Nodes that were read while somebody waited for them.
    pub nodes_read: u64,
    /// Nodes that were read ahead of sequential reads.
    pub nodes_read_ahead: u64,
}

/// Where a pool counts.
#[derive(Default)]
pub(super) struct Counters(RefCell<PoolStats>, Cell<u64>);

impl Latency {
    fn add(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }
}

impl Counters {
    /// The tick at which the reactor's turn began: durations here are those of whole turns.
    pub(super) fn now() -> u64 {
        Reactor::current().map_or(0, |reactor| reactor.now())
    }

    fn since(begun: u64) -> Duration {
        let Some(reactor) = Reactor::current() else { return Duration::ZERO };
        reactor.clock().duration_of(reactor.now().saturating_sub(begun))
    }

    pub(super) fn recovered(&self, begun: u64, records: u64, transactions: u64) {
        let mut stats = self.0.borrow_mut();
        stats.recovery_ns = u64::try_from(Self::since(begun).as_nanos()).unwrap_or(u64::MAX);
        stats.recovery_records = records;
        stats.recovery_transactions = transactions;
    }

    pub(super) fn checkpoint(&self, begun: u64) {
        self.0.borrow_mut().checkpoint.add(Self::since(begun));
    }

    pub(super) fn flush(&self, begun: u64) {
        self.0.borrow_mut().flush.add(Self::since(begun));
    }

    pub(super) fn write(&self, begun: u64, bytes: u64) {
        let mut stats = self.0.borrow_mut();
        stats.write.add(Self::since(begun));
        stats.written_bytes += bytes;
    }

    pub(super) fn read(&self, begun: u64, bytes: u64) {
        let mut stats = self.0.borrow_mut();
        stats.read.add(Self::since(begun));
        stats.read_bytes += bytes;
    }

    /// Nodes that writes on their way may still mark.
    pub(super) fn expected_nodes(&self) -> &Cell<u64> {
        &self.1
    }
}

impl Pool {
    /// What the pool counted and measured.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let (cached, most) = self.trees.cached();
        PoolStats {
            invalid_blocks: self.trees.invalid_blocks.get(),
            journal_records: self.journal.records_written.get(),
            journal_blocks_written: self.journal.blocks_written.get(),
            journal_fill_blocks: self.journal.fill(),
            journal_blocks: self.geometry.get().journal_blocks,
            cached_nodes: cached as u64,
            cached_nodes_max: most as u64,
            dirty_nodes: self.trees.dirty_nodes() as u64,
            nodes_read: self.trees.nodes_read.get(),
            nodes_read_ahead: self.trees.nodes_ahead.get(),
            ..self.counters.0.borrow().clone()
        }
    }
}
