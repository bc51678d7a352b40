//! Clean nodes in memory, as many as fit.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::super::digest::Digest;
use super::super::layout::{BLOCK_BYTES, BlockPtr, Node};

/// Clean nodes at the least: a few paths from a root to a leaf.
const NODES_MIN: usize = 64;

/// Nodes by address. Which one goes when there is no room is decided by second chance: one that
/// was used since it was last looked at stays.
pub(super) struct NodeCache {
    capacity: usize,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    nodes: HashMap<u64, Entry>,
    order: VecDeque<u64>,
}

struct Entry {
    digest: Digest,
    node: Rc<Node>,
    used: Cell<bool>,
}

impl NodeCache {
    pub(super) fn new(bytes: u64) -> Self {
        let nodes = usize::try_from(bytes / BLOCK_BYTES as u64).unwrap_or(usize::MAX);
        Self { capacity: nodes.max(NODES_MIN), inner: RefCell::default() }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn len(&self) -> usize {
        self.inner.borrow().nodes.len()
    }

    /// The node that a pointer leads to. An address that was used again since has another digest.
    pub(super) fn get(&self, ptr: &BlockPtr) -> Option<Rc<Node>> {
        let inner = self.inner.borrow();
        let entry = inner.nodes.get(&ptr.address()).filter(|entry| entry.digest == ptr.digest)?;
        entry.used.set(true);
        Some(Rc::clone(&entry.node))
    }

    /// Keeps a node that was read or written.
    pub(super) fn put(&self, ptr: &BlockPtr, node: Rc<Node>) {
        let mut inner = self.inner.borrow_mut();
        let entry = Entry { digest: ptr.digest, node, used: Cell::new(false) };
        if inner.nodes.insert(ptr.address(), entry).is_none() {
            inner.order.push_back(ptr.address());
        }
        while inner.nodes.len() > self.capacity {
            let Some(oldest) = inner.order.pop_front() else { return };
            if inner.nodes.get(&oldest).is_some_and(|entry| entry.used.replace(false)) {
                inner.order.push_back(oldest);
            } else {
                inner.nodes.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::layout::PtrKind;
    use super::*;

    #[test]
    fn the_bound_holds_and_what_is_used_stays() {
        let cache = NodeCache::new(0);
        let ptr = |address| BlockPtr::new(PtrKind::Node, 1, address, 1, [1; 32]);
        for address in 0..1000 {
            cache.put(&ptr(address), Rc::new(Node::empty()));
            assert!(cache.get(&ptr(0)).is_some(), "after {address}");
        }
        assert_eq!(cache.len(), NODES_MIN);
        let other = BlockPtr::new(PtrKind::Node, 1, 0, 1, [2; 32]);
        assert!(cache.get(&other).is_none(), "the digest counts");
    }
}
