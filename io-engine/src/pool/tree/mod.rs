//! The trees that map blocks of volumes to addresses.
//!
//! A tree has 64 pointers per node; a pointer to a node carries its digest, so that the root vouches
//! for everything. Changes are made to copies of the lowest nodes in memory; the next checkpoint
//! writes them, and all nodes above them, to new places. Until then a lookup finds the copy first.

mod ahead;
mod cache;
mod commit;
mod lookup;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::dataset::{Dataset, span};
use super::digest::DigestKind;
use super::layout::{BlockPtr, FANOUT_BITS, Node};
pub(super) use ahead::Ahead;
use cache::NodeCache;
pub(super) use commit::write_runs;

/// A node: dataset, level (1 is the lowest), index among the nodes of that level.
pub(super) type NodeKey = (u64, u8, u64);

/// The nodes of all trees that are in memory.
pub(super) struct Trees {
    digest: DigestKind,
    cache: NodeCache,
    dirty: RefCell<BTreeMap<NodeKey, DirtyNode>>,
    /// The nodes that the next checkpoint writes, with the transaction up to which what they
    /// replace belongs to a snapshot.
    marks: RefCell<BTreeMap<NodeKey, u64>>,
    /// Blocks whose content did not match its digest, since the pool was imported.
    pub(super) invalid_blocks: Cell<u64>,
    /// Nodes that somebody waited for, and nodes that were read ahead.
    pub(super) nodes_read: Cell<u64>,
    pub(super) nodes_ahead: Cell<u64>,
}

struct DirtyNode {
    node: Rc<Node>,
    /// The last transaction that changed it.
    birth: u64,
}

/// The lowest node over some blocks as it was found; none for a hole.
pub(super) type Leaf = (u64, Option<Rc<Node>>);

/// The node over a block among neighbouring ones that were found; none for a hole.
pub(super) fn leaf_over(leaves: &[Leaf], block: u64) -> Option<&Rc<Node>> {
    let (first, _) = leaves.first()?;
    let at = (block >> FANOUT_BITS).checked_sub(*first)?;
    leaves.get(usize::try_from(at).ok()?)?.1.as_ref()
}

/// The place of a node or block among the pointers of its parent.
pub(super) fn slot(index: u64) -> usize {
    usize::try_from(index % (1 << FANOUT_BITS)).unwrap_or(0)
}

impl Trees {
    /// No nodes yet, and room for so many bytes of clean ones.
    pub(super) fn new(digest: DigestKind, cache_bytes: u64) -> Self {
        Self {
            digest,
            cache: NodeCache::new(cache_bytes),
            dirty: RefCell::default(),
            marks: RefCell::default(),
            invalid_blocks: Cell::new(0),
            nodes_read: Cell::new(0),
            nodes_ahead: Cell::new(0),
        }
    }

    /// Nodes that the next checkpoint has to write.
    pub(super) fn marked(&self) -> u64 {
        self.marks.borrow().len() as u64
    }

    /// Nodes that are kept until the next checkpoint.
    pub(super) fn dirty_nodes(&self) -> usize {
        self.dirty.borrow().len()
    }

    /// Clean nodes in memory, and how many there may be.
    pub(super) fn cached(&self) -> (usize, usize) {
        (self.cache.len(), self.cache.capacity())
    }

    /// Whether the next checkpoint writes a node.
    pub(super) fn is_marked(&self, key: NodeKey) -> bool {
        self.marks.borrow().contains_key(&key)
    }

    /// Maps one block: returns what it was mapped to. The leaf over it was looked up before, and
    /// nobody else changes this block meanwhile.
    ///
    /// `prev` gives the last transaction of which what is replaced below an end belongs to others.
    pub(super) fn map(
        &self,
        dataset: &Dataset,
        block: u64,
        ptr: BlockPtr,
        found: Option<&Rc<Node>>,
        txn: u64,
        prev: impl Fn(u64) -> u64,
    ) -> BlockPtr {
        let index = block >> FANOUT_BITS;
        let key = (dataset.id, 1, index);
        let mut dirty = self.dirty.borrow_mut();
        let leaf = dirty.entry(key).or_insert_with(|| {
            self.mark(dataset, index, prev);
            let node = found.map_or_else(|| Rc::new(Node::empty()), Rc::clone);
            DirtyNode { node, birth: txn }
        });
        leaf.birth = txn;
        let place = &mut Rc::make_mut(&mut leaf.node).ptrs[slot(block)];
        dataset.touch();
        let old = std::mem::replace(place, ptr);
        let mapped = dataset.mapped.get() + u64::from(!ptr.is_hole());
        dataset.mapped.set(mapped.saturating_sub(u64::from(!old.is_hole())));
        old
    }

    /// Notes that a lowest node and all above it have to be written.
    fn mark(&self, dataset: &Dataset, index: u64, prev: impl Fn(u64) -> u64) {
        let mut marks = self.marks.borrow_mut();
        for level in 1..=dataset.height.get() {
            let index = index >> (FANOUT_BITS * u32::from(level - 1));
            let key = (dataset.id, level, index);
            if marks.contains_key(&key) {
                return;
            }
            marks.insert(key, prev((index + 1).saturating_mul(span(level))));
        }
    }

    /// Puts new nodes above the root, so that the tree reaches further. Everything below has to be
    /// clean.
    pub(super) fn raise(&self, dataset: &Dataset, height: u8, txn: u64) {
        let mut below = dataset.root.get();
        if below.is_hole() {
            dataset.height.set(dataset.height.get().max(height));
            return;
        }
        while dataset.height.get() < height {
            let level = dataset.height.get() + 1;
            let mut node = Node::empty();
            node.ptrs[0] = below;
            let dirty = DirtyNode { node: Rc::new(node), birth: txn };
            self.dirty.borrow_mut().insert((dataset.id, level, 0), dirty);
            self.marks.borrow_mut().insert((dataset.id, level, 0), 0);
            below = BlockPtr::HOLE;
            dataset.height.set(level);
            dataset.root.set(BlockPtr::HOLE);
            dataset.touch();
        }
    }
}
