//! Unmap and write zeroes: blocks become holes, which is a change of the map only.

use std::rc::Rc;

use spdk_rs::NvmeStatus;

use super::super::dataset::{Dataset, span};
use super::super::journal::blocks_for;
use super::super::layout::{Entry, EntryKind, Extent, entry_bytes};
use super::super::{Pool, PoolError};
use super::admit::Needs;

/// Blocks that are cleared as one change (4 MiB): few nodes, so that it is possible in a full pool.
const PIECE_BLOCKS: u64 = 1024;

impl Pool {
    pub(super) async fn clear(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        offset: u64,
        blocks: u64,
        fua: bool,
    ) -> Result<(), PoolError> {
        self.check_range(dataset, offset, blocks)?;
        if dataset.snapshot || dataset.read_only.get() {
            let (pool, name) = (self.name.clone(), dataset.name.borrow().clone());
            return Err(PoolError::ReadOnly { pool, reason: format!("'{name}' is read-only") });
        }
        self.clear_range(dataset, offset, offset + blocks, false).await?;
        if fua { self.flush().await } else { Ok(()) }
    }

    /// Clears a range of a volume, or of its tail.
    pub(in super::super) async fn clear_range(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        offset: u64,
        end: u64,
        tail: bool,
    ) -> Result<(), PoolError> {
        let mut at = offset;
        while at < end {
            let hole = self.hole_end(dataset, at).await?;
            if hole > at {
                at = hole;
                continue;
            }
            // Up to the next border of a piece, so that most pieces have whole nodes.
            let stop = ((at / PIECE_BLOCKS + 1) * PIECE_BLOCKS).min(end);
            self.clear_piece(dataset, at, stop, tail).await?;
            at = stop;
        }
        self.consider_checkpoint();
        Ok(())
    }

    /// The end of the hole in the upper levels of the tree in which a block lies; the block itself
    /// when it lies in none.
    pub(in super::super) async fn hole_end(
        &self,
        dataset: &Dataset,
        block: u64,
    ) -> Result<u64, PoolError> {
        for level in (1..=dataset.height.get()).rev() {
            let index = block / span(level);
            if self.trees.is_marked((dataset.id, level, index)) {
                continue;
            }
            let ptr = self.trees.pointer(&self.device, dataset, level, index).await?;
            if ptr.is_hole() {
                return Ok((index + 1).saturating_mul(span(level)));
            }
        }
        Ok(block)
    }

    async fn clear_piece(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        start: u64,
        end: u64,
        tail: bool,
    ) -> Result<(), PoolError> {
        let journal_blocks = blocks_for(entry_bytes(1, 0));
        let needs = Needs { blocks: 0, journal_blocks, frees: true, tail };
        let mut admitted = self.admit(dataset, &[(start, end)], needs).await?;
        let extent = Extent { offset: start, count: end - start, address: None, digests: vec![] };
        let mut entry =
            Entry { kind: EntryKind::Map, dataset: dataset.id, txn: 0, extents: vec![extent] };
        let reserved = std::mem::take(&mut admitted.journal_blocks);
        let appended = self.journal.append(&mut entry, reserved);
        let written = appended.written.await.unwrap_or(Err(NvmeStatus::INTERNAL_ERROR));
        if let Err(status) = written {
            return self.stop_without_journal(status);
        }
        self.apply(dataset, appended.txn, &entry.extents, &admitted.leaves);
        self.journal.resolve(appended.txn);
        Ok(())
    }
}
