//! The pool: volumes, snapshots and clones on one device, safe against power cuts.
//!
//! What it promises:
//!
//! 1. When a FLUSH or a write with FUA completes, the data are on the medium, with everything that
//!    was completed before.
//! 2. After a power cut, each write that was not flushed is wholly there or wholly absent, however
//!    many blocks it spans, and older state is intact.
//! 3. Every block has a digest in its parent. A read returns what was written, or an error.
//! 4. No block that holds valid data is overwritten.
//! 5. Recovery can be repeated, and its time is bounded by the journal.
//! 6. Damage in the middle of the journal is refused, a torn tail is normal.
//! 7. After a failed flush the pool takes no more changes.
//! 8. A full journal makes writers wait, a full device refuses them; nothing is applied by half.
//!
//! How: a write goes to newly allocated blocks, and at the same time a record with the digests of
//! these blocks goes to the journal. Neither waits for the other: a record whose blocks do not match
//! never happened. The map from blocks to addresses (`tree`) is changed in memory; a checkpoint
//! writes it to new places, then the bitmaps (`space`), then the superblock.
//!
//! Beside it, for whoever keeps the books himself: the tiered block [`allocator`], and the
//! [`block_api`], which lends blocks of any device.
//!
//! A pool lives on one reactor. What it awaits are I/Os of its device on that reactor, so that it
//! runs in virtual time as well as in real time.

pub mod allocator;
pub mod bdev;
pub mod block_api;
mod check;
mod checkpoint;
mod dataset;
mod device;
pub mod digest;
mod digester;
mod error;
mod inflate;
mod journal;
mod label;
pub mod layout;
mod manage;
mod manager;
mod memory;
pub mod mutant;
mod open;
mod reaper;
mod resize;
mod scrub;
mod space;
mod stats;
mod sync;
#[cfg(test)]
mod tests;
mod tree;
mod volume;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use spdk_rs::NvmeStatus;
use uuid::Uuid;

pub use check::CheckReport;
pub use digest::DigestKind;
pub use error::PoolError;
pub use label::PoolLabel;
pub use manage::{VolumeInfo, VolumeOptions};
pub use manager::{
    Base, CLUSTER_BYTES, Exported, ImportRequest, Imported, ManagerError, PoolManager, PoolSummary,
};
pub use open::{ImportOptions, PoolOptions};
pub use scrub::{Damage, ScrubState, ScrubStatus};
pub use stats::{Latency, PoolStats};
pub use volume::{Span, Volume};

use dataset::Dataset;
use device::Device;
use digester::Digester;
use journal::Journal;
use layout::Geometry;
use space::Space;
use stats::Counters;
use sync::{Gate, WaitList};
use tree::Trees;

/// A pool that was created or imported on this reactor.
pub struct Pool {
    device: Rc<Device>,
    name: String,
    uuid: Uuid,
    digest: DigestKind,
    /// Features of the format that may be ignored; they are kept for those who know them.
    compatible: u64,
    digester: Rc<Digester>,
    geometry: Cell<Geometry>,
    space: Space,
    trees: Trees,
    journal: Rc<Journal>,
    /// Passed by every change, closed by checkpoints.
    gate: Gate,
    datasets: RefCell<BTreeMap<u64, Rc<Dataset>>>,
    /// How many of them differ from the medium.
    changed: Rc<Cell<u64>>,
    /// Those of which space is kept, as of the last checkpoint, which every change of that makes.
    thick: RefCell<Vec<Rc<Dataset>>>,
    table: Dataset,
    /// Places of the table whose datasets are gone since the last checkpoint.
    gone: RefCell<Vec<u64>>,
    next_dataset: Cell<u64>,
    /// Places of the table that were ever used.
    table_slots: Cell<u64>,
    /// Why no more changes are taken.
    stopped: RefCell<Option<String>>,
    closed: Cell<bool>,
    flusher: RefCell<Flusher>,
    flushed: WaitList,
    checkpoint_wanted: Cell<bool>,
    checkpoints: Cell<u64>,
    checkpointed: WaitList,
    reaping: Cell<bool>,
    reaped: WaitList,
    scrub: scrub::Scrub,
    counters: Counters,
}

/// Flushes that are shared by everybody who waits for one.
#[derive(Default)]
struct Flusher {
    running: bool,
    /// Flushes that were begun, and the last one that has ended with its outcome.
    begun: u64,
    ended: u64,
}

impl Pool {
    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pool's UUID.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// How its blocks are digested.
    #[must_use]
    pub fn digest_kind(&self) -> DigestKind {
        self.digest
    }

    /// The name of the device below.
    #[must_use]
    pub fn device_name(&self) -> &str {
        self.device.name()
    }

    /// Why the pool takes no more changes; none while it does.
    #[must_use]
    pub fn is_read_only(&self) -> Option<String> {
        self.stopped.borrow().clone()
    }

    /// Stops taking changes, with the first reason that is given. What is on the medium stays as
    /// the last checkpoint and the journal have it.
    fn stop(&self, reason: String) {
        let first = self.stopped.borrow().is_none();
        if first {
            tracing::error!(pool = self.name, reason, "the pool is read-only from now on");
            *self.stopped.borrow_mut() = Some(reason.clone());
            self.device.tell_read_only(&self.name, &reason);
        }
        self.wake_stopped();
    }

    /// Stops taking changes because that was asked for.
    fn end_changes(&self, reason: &str) {
        self.stopped.borrow_mut().get_or_insert_with(|| reason.to_owned());
        self.wake_stopped();
    }

    /// Ends a pool that takes no changes any more: I/O that comes later is refused.
    fn close_quietly(&self) {
        self.closed.set(true);
    }

    fn wake_stopped(&self) {
        self.checkpointed.wake_all();
        self.flushed.wake_all();
    }

    /// Stops because the journal cannot be written, and says so.
    fn stop_without_journal(&self, status: NvmeStatus) -> Result<(), PoolError> {
        self.stop(format!("a journal record cannot be written: {status}"));
        self.check_writable()
    }

    /// Refuses when no changes are taken.
    fn check_writable(&self) -> Result<(), PoolError> {
        match &*self.stopped.borrow() {
            Some(reason) => {
                Err(PoolError::ReadOnly { pool: self.name.clone(), reason: reason.clone() })
            }
            None => Ok(()),
        }
    }

    /// The dataset with a number, whatever its state.
    fn dataset(&self, id: u64) -> Option<Rc<Dataset>> {
        self.datasets.borrow().get(&id).cloned()
    }

    /// The last transaction of which what lies below `end` (in blocks) belongs to a snapshot, as
    /// seen from a dataset. A snapshot that is being deleted has given up what it has passed.
    fn prev(&self, dataset: &Dataset, end: u64) -> u64 {
        let mut id = dataset.parent.get();
        let datasets = self.datasets.borrow();
        while let Some(parent) = datasets.get(&id) {
            // The cursor stops at the size; the node that holds it reaches further.
            let end = end.min(parent.reach());
            let passed =
                parent.state.get() == layout::DatasetState::Deleting && end <= parent.cursor.get();
            if !passed {
                return parent.txn;
            }
            id = parent.parent.get();
        }
        0
    }

    /// Blocks of 4 KiB that are in use by nobody, counting what the next checkpoint frees.
    fn unused_blocks(&self) -> u64 {
        self.space.free_blocks() + self.space.pending_blocks()
    }

    /// Bytes that are in use by nobody. Exact after a checkpoint; in between, the nodes that the
    /// next one writes and those that it replaces are not counted.
    #[must_use]
    pub fn remaining_bytes(&self) -> u64 {
        self.unused_blocks() * layout::BLOCK_BYTES as u64
    }
}
