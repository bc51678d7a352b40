//! I/O to volumes and snapshots, in blocks of 4 KiB.

mod admit;
mod clear;
mod decouple;
mod flush;
mod partial;
mod read;
mod write;

use std::rc::Rc;

use spdk_rs::NvmeStatus;
use spdk_rs::env::DmaBuf;
use uuid::Uuid;

use super::dataset::Dataset;
use super::layout::{BLOCK_BYTES, BlockPtr};
use super::mutant::Mutant;
use super::tree::{Leaf, leaf_over};
use super::{Pool, PoolError};
pub use partial::Span;

/// A volume or snapshot of a pool on this reactor.
#[derive(Clone)]
pub struct Volume {
    pool: Rc<Pool>,
    dataset: Rc<Dataset>,
}

fn outcome(result: &Result<(), PoolError>) -> NvmeStatus {
    match result {
        Ok(()) => NvmeStatus::SUCCESS,
        Err(error) => error.status(),
    }
}

impl Volume {
    pub(super) fn new(pool: &Rc<Pool>, dataset: Rc<Dataset>) -> Self {
        Self { pool: Rc::clone(pool), dataset }
    }

    pub(super) fn dataset(&self) -> &Rc<Dataset> {
        &self.dataset
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.dataset.name.borrow().clone()
    }

    /// Its UUID.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.dataset.uuid
    }

    /// Size in blocks of 4 KiB.
    #[must_use]
    pub fn size_blocks(&self) -> u64 {
        self.dataset.size_blocks.get()
    }

    /// Bytes per block that hosts see: 512 or 4096.
    #[must_use]
    pub fn block_len(&self) -> u32 {
        1 << self.dataset.block_shift
    }

    /// Whether it is a snapshot.
    #[must_use]
    pub fn is_snapshot(&self) -> bool {
        self.dataset.snapshot
    }

    /// Whether hosts may only read it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.dataset.snapshot || self.dataset.read_only.get()
    }

    /// Reads as many blocks as fit the buffer, from `offset_blocks` on. What was never written reads
    /// as zeroes. A block that does not match its digest ends the read with
    /// [`NvmeStatus::UNRECOVERED_READ_ERROR`].
    pub async fn read(&self, offset_blocks: u64, buf: DmaBuf) -> (NvmeStatus, DmaBuf) {
        let (result, buf) = self.pool.read(&self.dataset, offset_blocks, buf).await;
        (self.report(&result), buf)
    }

    /// Writes the buffer, whole blocks, at `offset_blocks`. After a power cut all of it is there or
    /// nothing; with `fua` all of it is there.
    pub async fn write(&self, offset_blocks: u64, buf: DmaBuf, fua: bool) -> (NvmeStatus, DmaBuf) {
        let pieces = vec![(offset_blocks, buf)];
        let (result, mut pieces) = self.pool.write(&self.dataset, pieces, fua).await;
        match pieces.pop() {
            Some((_, buf)) => (self.report(&result), buf),
            None => unreachable!("the piece that went in comes back"),
        }
    }

    /// Writes several buffers at several places as one change: after a power cut all of it is there
    /// or nothing.
    pub async fn transaction(&self, pieces: Vec<(u64, DmaBuf)>, fua: bool) -> NvmeStatus {
        if pieces.is_empty() {
            return if fua { self.flush().await } else { NvmeStatus::SUCCESS };
        }
        let (result, _) = self.pool.write(&self.dataset, pieces, fua).await;
        self.report(&result)
    }

    /// Makes blocks read as zeroes, and gives their space back.
    pub async fn write_zeroes(&self, offset_blocks: u64, blocks: u64, fua: bool) -> NvmeStatus {
        let result = self.pool.clear(&self.dataset, offset_blocks, blocks, fua).await;
        self.report(&result)
    }

    /// Gives the space of blocks back; they read as zeroes from then on.
    pub async fn unmap(&self, offset_blocks: u64, blocks: u64) -> NvmeStatus {
        self.write_zeroes(offset_blocks, blocks, false).await
    }

    /// Brings everything that was completed before to the medium.
    pub async fn flush(&self) -> NvmeStatus {
        let result = self.pool.flush().await;
        self.report(&result)
    }

    fn report(&self, result: &Result<(), PoolError>) -> NvmeStatus {
        if let Err(error @ PoolError::Corrupt { .. }) = result {
            tracing::error!(pool = self.pool.name, %error, "a block is damaged");
        }
        outcome(result)
    }
}

impl Pool {
    /// Checks a range of a dataset.
    fn check_range(&self, dataset: &Dataset, offset: u64, blocks: u64) -> Result<(), PoolError> {
        let name = || dataset.name.borrow().clone();
        if !dataset.is_live() || self.closed.get() {
            return Err(PoolError::NoSuchVolume { pool: self.name.clone(), name: name() });
        }
        let end = offset.checked_add(blocks).filter(|end| *end <= dataset.size_blocks.get());
        if end.is_some() && blocks > 0 {
            return Ok(());
        }
        Err(PoolError::Parameter {
            parameter: "block range",
            value: format!("{blocks} at {offset}"),
            allowed: format!("'{}' has {} blocks of 4 KiB", name(), dataset.size_blocks.get()),
        })
    }

    /// Checks that what lies in front of `end` is a part of a volume or of its tail.
    fn check_tail(&self, dataset: &Dataset, end: u64) -> Result<(), PoolError> {
        if dataset.is_live() && !self.closed.get() && end <= dataset.reach() {
            return Ok(());
        }
        let (pool, name) = (self.name.clone(), dataset.name.borrow().clone());
        Err(PoolError::NoSuchVolume { pool, name })
    }

    /// Maps a block and frees what it was mapped to, if no snapshot holds that. That it does not
    /// free is for a mutant.
    pub(super) fn map_block(
        &self,
        dataset: &Dataset,
        block: u64,
        ptr: BlockPtr,
        leaves: &[Leaf],
        txn: u64,
        frees: bool,
    ) {
        let found = leaf_over(leaves, block);
        let prev = |end| self.prev(dataset, end);
        let old = self.trees.map(dataset, block, ptr, found, txn, prev);
        let own = old.birth() > prev(block + 1) || Mutant::FreeSnapshotBlocks.is_on();
        if !old.is_hole() && own && frees {
            self.space.free(old.address(), 1);
        }
    }
}

/// Blocks of 4 KiB in a buffer.
fn blocks_in(buf: &DmaBuf) -> u64 {
    (buf.len() / BLOCK_BYTES) as u64
}
