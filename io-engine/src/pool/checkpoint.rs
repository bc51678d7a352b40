//! Checkpoints: everything that changed in memory goes to the medium, then the superblock.
//!
//! Order: nodes and records to new places, bitmaps to the places that are not valid, a flush, one
//! pair of superblocks (one at the start, one at the end), a flush, the other pair. So at every
//! moment at least one pair is whole and leads to what was flushed before it.

use std::rc::Rc;

use spdk_rs::reactor::Reactor;

use super::dataset::height_for;
use super::digest::digest_blocks;
use super::journal::Start;
use super::layout::{BlockPtr, PtrKind, Superblock};
use super::mutant::Mutant;
use super::stats::Counters;
use super::sync::Closed;
use super::tree::write_runs;
use super::{Pool, PoolError};

/// Blocks that a checkpoint may need beyond those that can be counted before it.
const MARGIN: u64 = 16;

impl Pool {
    /// Brings everything that changed to the medium and releases the journal.
    ///
    /// # Errors
    /// When the device fails; the pool is read-only from then on.
    pub async fn checkpoint(&self) -> Result<(), PoolError> {
        let closed = self.gate.close().await;
        self.commit(&closed, false).await
    }

    /// A checkpoint also when nothing has changed.
    pub(super) async fn commit_forced(&self) -> Result<(), PoolError> {
        let closed = self.gate.close().await;
        self.commit(&closed, true).await
    }

    /// Blocks that the next checkpoint takes at the most.
    pub(super) fn checkpoint_needs(&self) -> u64 {
        let table = self.changed.get() * (1 + u64::from(self.table.height.get()));
        self.trees.marked() + table + MARGIN
    }

    /// Whether there is anything to write.
    fn has_changes(&self) -> bool {
        self.journal.fill() > 0
            || self.trees.marked() > 0
            || self.space.pending_blocks() > 0
            || !self.gone.borrow().is_empty()
            || self.changed.get() > 0
    }

    /// Makes a checkpoint with nobody else inside.
    pub(super) async fn commit(&self, _: &Closed<'_>, forced: bool) -> Result<(), PoolError> {
        self.check_writable()?;
        if !forced && !self.has_changes() {
            return Ok(());
        }
        let begun = Counters::now();
        let result = match self.write_trees().await {
            Ok(()) => self.write_superblock(false).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &result {
            self.stop(format!("a checkpoint failed: {error}"));
        }
        self.note_thick();
        self.counters.checkpoint(begun);
        self.checkpoints.set(self.checkpoints.get() + 1);
        self.checkpointed.wake_all();
        result
    }

    /// Writes the trees of all volumes; nobody else is inside.
    pub(super) async fn write_trees(&self) -> Result<(), PoolError> {
        for id in self.trees.changed() {
            let Some(dataset) = self.dataset(id) else { continue };
            if let Some(written) = self.trees.write(&self.device, &self.space, &dataset).await? {
                self.trees.install(&dataset, &self.space, written);
            }
        }
        Ok(())
    }

    /// Writes the records that changed, and the table of them.
    async fn write_table(&self) -> Result<(), PoolError> {
        let needed = height_for(self.table_slots.get().max(1));
        if needed > self.table.height.get() {
            self.trees.raise(&self.table, needed, self.journal.take_txn());
        }
        let txn = self.journal.take_txn();
        let changed: Vec<_> =
            self.datasets.borrow().values().filter(|one| one.is_changed()).cloned().collect();
        let records: Vec<Vec<u8>> =
            changed.iter().map(|one| one.record(one.root.get()).encode()).collect();
        let blocks: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let mut digests = vec![[0; 32]; blocks.len()];
        digest_blocks(self.digest, &blocks, &mut digests);
        let count = blocks.len() as u64;
        if !self.space.promise(count) {
            let problem = "the blocks kept back for volume records are not enough";
            return Err(PoolError::Inconsistent(problem.to_owned()));
        }
        let runs = self.space.take(&self.device, count).await?;
        write_runs(&self.device, &runs, &blocks).await?;
        let addresses = runs.iter().flat_map(|&(first, count)| first..first + count);
        let mut places = Vec::new();
        for ((dataset, digest), address) in changed.iter().zip(digests).zip(addresses) {
            let ptr = BlockPtr::new(PtrKind::Record, 0, address, txn, digest);
            places.push((dataset.slot, ptr));
            dataset.settle();
        }
        let gone = self.gone.take();
        places.extend(gone.into_iter().map(|slot| (slot, BlockPtr::HOLE)));
        for (slot, ptr) in places {
            let leaf = self.trees.leaves(&self.device, &self.table, slot, slot + 1).await?;
            let found = leaf.first().and_then(|(_, node)| node.as_ref());
            let old = self.trees.map(&self.table, slot, ptr, found, txn, |_| 0);
            if !old.is_hole() {
                self.space.free(old.address(), 1);
            }
        }
        self.table.settle();
        if let Some(written) = self.trees.write(&self.device, &self.space, &self.table).await? {
            self.trees.install(&self.table, &self.space, written);
        }
        Ok(())
    }

    /// Writes records, bitmaps and superblocks, with the trees written.
    async fn write_superblock(&self, clean: bool) -> Result<(), PoolError> {
        self.write_table().await?;
        let space_root = self.space.commit(&self.device).await?;
        if !Mutant::NoFlushBeforeSuperblock.is_on() {
            self.flush_device("flush before the superblock").await?;
        }
        let after = self.journal.start_after();
        let start = Start { generation: after.generation + 1, ..after };
        let superblock = Superblock {
            uuid: self.uuid,
            name: self.name.clone(),
            digest: self.digest,
            compatible: self.compatible,
            read_only: 0,
            generation: start.generation,
            epoch: start.epoch,
            geometry: self.geometry.get(),
            journal_position: start.position,
            next_record: start.next_record,
            next_txn: start.next_txn,
            next_dataset: self.next_dataset.get(),
            table_height: self.table.height.get(),
            table_slots: self.table_slots.get(),
            table_root: self.table.root.get(),
            space_root,
            clean,
        };
        let block = superblock.encode();
        let places = self.geometry.get().superblocks();
        let odd = usize::from(start.generation % 2 == 1 && !Mutant::OneSuperblockPair.is_on());
        self.write_pair([places[odd], places[odd + 2]], &block).await?;
        if Mutant::OneSuperblockPair.is_on() {
            self.write_pair([places[1], places[3]], &block).await?;
        }
        if !Mutant::NoFlushAfterSuperblock.is_on() {
            self.flush_device("flush after the superblock").await?;
        }
        self.journal.checkpointed(start);
        self.write_pair([places[1 - odd], places[3 - odd]], &block).await
    }

    async fn write_pair(&self, places: [u64; 2], block: &[u8]) -> Result<(), PoolError> {
        let [first, last] = places;
        let (first, last) = futures::join!(
            self.device.write_bytes(first, block),
            self.device.write_bytes(last, block)
        );
        first.and(last)
    }

    /// Has a checkpoint made soon, if none is on its way.
    pub(super) fn want_checkpoint(self: &Rc<Self>) {
        if self.checkpoint_wanted.replace(true) {
            return;
        }
        let Some(reactor) = Reactor::current() else { return };
        let own = Rc::clone(self);
        reactor.spawn("pool checkpoint", async move {
            let closed = own.gate.close().await;
            own.checkpoint_wanted.set(false);
            // A failure has stopped the pool, which is what everybody learns of.
            let _ = own.commit(&closed, false).await;
        });
    }

    /// Closes the pool: brings everything to the medium. I/O that comes later is refused.
    ///
    /// # Errors
    /// As [`Pool::checkpoint`].
    pub async fn export(&self) -> Result<(), PoolError> {
        self.closed.set(true);
        self.reaped.until(|| (!self.reaping.get()).then_some(())).await;
        let _closed = self.gate.close().await;
        self.check_writable()?;
        let result = match self.write_trees().await {
            Ok(()) => self.write_superblock(true).await,
            Err(error) => Err(error),
        };
        let last = match result {
            // The pair that came last is not on the medium yet.
            Ok(()) => self.flush_device("flush at the export").await,
            Err(error) => Err(error),
        };
        self.end_changes("it was exported");
        last
    }
}
