//! Volumes and snapshots in memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use uuid::Uuid;

use super::layout::{BlockPtr, DatasetState, FANOUT_BITS, VolumeRecord};
use super::sync::RangeLocks;
use super::tree::Ahead;

/// The table of volumes is a tree as well, under this number.
pub(super) const TABLE: u64 = 0;

/// A volume or snapshot.
///
/// Datasets form trees: the parent of a volume is its last snapshot, the parent of a snapshot the
/// one before, and the parent of a clone the snapshot that it was made from. What was born before
/// the parent was made belongs to the parent or to one above it.
pub(super) struct Dataset {
    pub(super) id: u64,
    pub(super) uuid: Uuid,
    /// Its place in the table.
    pub(super) slot: u64,
    pub(super) name: RefCell<String>,
    pub(super) snapshot: bool,
    pub(super) state: Cell<DatasetState>,
    pub(super) thin: Cell<bool>,
    pub(super) read_only: Cell<bool>,
    pub(super) block_shift: u8,
    pub(super) size_blocks: Cell<u64>,
    /// Where what lies behind the size ends, after the volume was made smaller; 0 for nothing.
    pub(super) tail: Cell<u64>,
    pub(super) parent: Cell<u64>,
    pub(super) txn: u64,
    pub(super) cursor: Cell<u64>,
    pub(super) mapped: Cell<u64>,
    pub(super) height: Cell<u8>,
    pub(super) root: Cell<BlockPtr>,
    /// Whether the record differs from the medium, and how many of the pool's do.
    dirty: Cell<bool>,
    changed: Rc<Cell<u64>>,
    pub(super) locks: RangeLocks,
    pub(super) ahead: Ahead,
}

impl Dataset {
    /// The dataset of a record; it counts in `changed` while it differs from the medium.
    pub(super) fn of(record: VolumeRecord, slot: u64, changed: &Rc<Cell<u64>>) -> Self {
        Self {
            id: record.id,
            uuid: record.uuid,
            slot,
            name: RefCell::new(record.name),
            snapshot: record.snapshot,
            state: Cell::new(record.state),
            thin: Cell::new(record.thin),
            read_only: Cell::new(record.read_only),
            block_shift: record.block_shift,
            size_blocks: Cell::new(record.size_blocks),
            tail: Cell::new(record.tail),
            parent: Cell::new(record.parent),
            txn: record.txn,
            cursor: Cell::new(record.cursor),
            mapped: Cell::new(record.mapped),
            height: Cell::new(record.height),
            root: Cell::new(record.root),
            dirty: Cell::new(false),
            changed: Rc::clone(changed),
            locks: RangeLocks::default(),
            ahead: Ahead::default(),
        }
    }

    /// The table of volumes as a tree.
    pub(super) fn table(root: BlockPtr, height: u8) -> Self {
        let record = VolumeRecord {
            id: TABLE,
            uuid: Uuid::nil(),
            name: "the table of volumes".to_owned(),
            snapshot: false,
            state: DatasetState::Live,
            thin: true,
            read_only: false,
            block_shift: 12,
            size_blocks: 1 << (FANOUT_BITS * u32::from(height)),
            parent: 0,
            txn: 0,
            cursor: 0,
            mapped: 0,
            height,
            root,
            tail: 0,
        };
        // What the table counts is nobody's business: it is written whenever anything else is.
        Self::of(record, 0, &Rc::default())
    }

    /// The record with another root.
    pub(super) fn record(&self, root: BlockPtr) -> VolumeRecord {
        VolumeRecord {
            id: self.id,
            uuid: self.uuid,
            name: self.name.borrow().clone(),
            snapshot: self.snapshot,
            state: self.state.get(),
            thin: self.thin.get(),
            read_only: self.read_only.get(),
            block_shift: self.block_shift,
            size_blocks: self.size_blocks.get(),
            parent: self.parent.get(),
            txn: self.txn,
            cursor: self.cursor.get(),
            mapped: self.mapped.get(),
            height: self.height.get(),
            root,
            tail: self.tail.get(),
        }
    }

    /// Whether the record differs from the medium.
    pub(super) fn is_changed(&self) -> bool {
        self.dirty.get()
    }

    /// The record differs from the medium from now on.
    pub(super) fn touch(&self) {
        if !self.dirty.replace(true) {
            self.changed.set(self.changed.get() + 1);
        }
    }

    /// The record is on its way to the medium, or gone.
    pub(super) fn settle(&self) {
        if self.dirty.replace(false) {
            self.changed.set(self.changed.get() - 1);
        }
    }

    /// Where its blocks end: behind the size, while what was cut off is not freed.
    pub(super) fn reach(&self) -> u64 {
        self.size_blocks.get().max(self.tail.get())
    }

    pub(super) fn is_live(&self) -> bool {
        self.state.get() == DatasetState::Live
    }

    /// Blocks that a thick volume has yet to write.
    pub(super) fn reservation(&self) -> u64 {
        let thick = !self.thin.get() && self.is_live();
        if thick { self.size_blocks.get().saturating_sub(self.mapped.get()) } else { 0 }
    }
}

/// Levels of a tree over so many blocks.
pub(super) fn height_for(size_blocks: u64) -> u8 {
    let mut height = 1;
    while span(height) < size_blocks {
        height += 1;
    }
    height
}

/// Blocks that a node of a level covers.
pub(super) fn span(level: u8) -> u64 {
    1_u64.checked_shl(FANOUT_BITS * u32::from(level)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_cover_sizes() {
        for (size, height) in [(1, 1), (64, 1), (65, 2), (4096, 2), (4097, 3), (1 << 30, 5)] {
            assert_eq!(height_for(size), height, "{size}");
        }
    }
}
