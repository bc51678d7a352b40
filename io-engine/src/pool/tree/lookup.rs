//! Finding nodes and pointers.

use std::rc::Rc;

use super::super::PoolError;
use super::super::dataset::{Dataset, span};
use super::super::device::Device;
use super::super::digest::digest;
use super::super::layout::{BlockPtr, FANOUT_BITS, Node};
use super::super::mutant::Mutant;
use super::{Leaf, Trees, slot};

/// What a descent through nodes in memory came to.
enum Found {
    Node(Option<Rc<Node>>),
    /// The next node on the way is not in memory.
    Missing(BlockPtr),
}

impl Trees {
    /// Goes from the root as far as memory reaches.
    fn descend(&self, dataset: &Dataset, level: u8, index: u64) -> Found {
        let dirty = self.dirty.borrow();
        if let Some(dirty) = dirty.get(&(dataset.id, level, index)) {
            return Found::Node(Some(Rc::clone(&dirty.node)));
        }
        let top = dataset.height.get();
        if level > top || index >> (FANOUT_BITS * u32::from(top - level)) != 0 {
            return Found::Node(None);
        }
        let mut ptr = dataset.root.get();
        for at in (level..=top).rev() {
            let here = index >> (FANOUT_BITS * u32::from(at - level));
            let copy = dirty.get(&(dataset.id, at, here)).map(|dirty| Rc::clone(&dirty.node));
            let node = match copy {
                Some(node) => node,
                None if ptr.is_hole() => {
                    // Only new nodes above an old root have holes over dirty nodes.
                    if at == level {
                        return Found::Node(None);
                    }
                    continue;
                }
                None => match self.cache.get(&ptr) {
                    Some(node) => node,
                    None => return Found::Missing(ptr),
                },
            };
            if at == level {
                return Found::Node(Some(node));
            }
            let below = index >> (FANOUT_BITS * u32::from(at - 1 - level));
            ptr = node.ptrs[slot(below)];
        }
        Found::Node(None)
    }

    /// A node; none where the tree has a hole.
    ///
    /// # Errors
    /// When a node on the way cannot be read or does not match its digest.
    pub(in super::super) async fn node(
        &self,
        device: &Device,
        dataset: &Dataset,
        level: u8,
        index: u64,
    ) -> Result<Option<Rc<Node>>, PoolError> {
        let mut failed: Option<BlockPtr> = None;
        loop {
            let ptr = match self.descend(dataset, level, index) {
                Found::Node(node) => return Ok(node),
                Found::Missing(ptr) => ptr,
            };
            let buf = device.read_blocks(ptr.address(), 1).await?;
            self.nodes_read.set(self.nodes_read.get() + 1);
            let right = digest(self.digest, buf.as_slice()) == ptr.digest;
            match Node::parse(buf.as_slice()) {
                Some(node) if right || Mutant::NoNodeDigest.is_on() => {
                    self.cache.put(&ptr, Rc::new(node));
                }
                // The node may have been replaced, and its place used again, while it was read:
                // then the way leads elsewhere now. If it leads here again, the node is bad.
                _ if failed == Some(ptr) => {
                    self.invalid_blocks.set(self.invalid_blocks.get() + 1);
                    let name = dataset.name.borrow();
                    let what = format!(
                        "'{name}': node of level {} over block {}",
                        ptr.level(),
                        index.saturating_mul(span(level))
                    );
                    return Err(PoolError::Corrupt { what, address: ptr.address() });
                }
                _ => failed = Some(ptr),
            }
        }
    }

    /// The lowest nodes over blocks.
    ///
    /// # Errors
    /// As [`Trees::node`].
    pub(in super::super) async fn leaves(
        &self,
        device: &Device,
        dataset: &Dataset,
        start: u64,
        end: u64,
    ) -> Result<Vec<Leaf>, PoolError> {
        let (first, last) = (start >> FANOUT_BITS, end.saturating_sub(1) >> FANOUT_BITS);
        let mut leaves = Vec::with_capacity(usize::try_from(last - first + 1).unwrap_or(1));
        for index in first..=last {
            leaves.push((index, self.node(device, dataset, 1, index).await?));
        }
        Ok(leaves)
    }

    /// The pointer to a node, in its parent or in the root; a hole when there is none.
    ///
    /// # Errors
    /// As [`Trees::node`].
    pub(in super::super) async fn pointer(
        &self,
        device: &Device,
        dataset: &Dataset,
        level: u8,
        index: u64,
    ) -> Result<BlockPtr, PoolError> {
        let top = dataset.height.get();
        if level > top || (level == top && index != 0) {
            return Ok(BlockPtr::HOLE);
        }
        if level == top {
            return Ok(dataset.root.get());
        }
        let parent = self.node(device, dataset, level + 1, index >> FANOUT_BITS).await?;
        Ok(parent.map_or(BlockPtr::HOLE, |node| node.ptrs[slot(index)]))
    }
}
