//! Writing changed nodes to new places, from the leaves to the root.

use std::collections::BTreeMap;
use std::rc::Rc;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use zerocopy::IntoBytes as _;

use super::super::PoolError;
use super::super::dataset::Dataset;
use super::super::device::Device;
use super::super::digest::digest_blocks;
use super::super::layout::{BLOCK_BYTES, BlockPtr, FANOUT_BITS, Node, PtrKind};
use super::super::mutant::Mutant;
use super::super::space::{Run, Space};
use super::{Trees, slot};

/// Nodes per write, and writes at once.
const NODES_PER_WRITE: usize = 64;
const WRITES_MAX: usize = 16;

/// What writing a tree came to. Nothing of it counts until it is installed.
pub(in super::super) struct Written {
    pub(in super::super) root: BlockPtr,
    nodes: Vec<(BlockPtr, Rc<Node>)>,
    replaced: Vec<BlockPtr>,
}

/// A node that is to be written: index, content, last transaction.
struct Changed {
    index: u64,
    node: Rc<Node>,
    birth: u64,
}

impl Trees {
    /// Writes the changed nodes of a dataset. None when nothing is changed.
    ///
    /// # Errors
    /// When there is no space or the device fails.
    pub(in super::super) async fn write(
        &self,
        device: &Device,
        space: &Space,
        dataset: &Dataset,
    ) -> Result<Option<Written>, PoolError> {
        let top = dataset.height.get();
        let mut written = Written { root: BlockPtr::HOLE, nodes: Vec::new(), replaced: Vec::new() };
        let mut below: BTreeMap<u64, (BlockPtr, u64)> = BTreeMap::new();
        if !self.is_marked((dataset.id, top, 0)) {
            return Ok(None);
        }
        for level in 1..=top {
            let marks: Vec<u64> = {
                let marks = self.marks.borrow();
                marks
                    .range((dataset.id, level, 0)..=(dataset.id, level, u64::MAX))
                    .map(|((_, _, index), _)| *index)
                    .collect()
            };
            let mut changed = Vec::with_capacity(marks.len());
            for index in marks {
                changed.push(
                    self.merge(device, dataset, level, index, &below, &mut written.replaced)
                        .await?,
                );
            }
            below = self.write_level(device, space, level, changed, &mut written.nodes).await?;
        }
        if let Some((root, _)) = below.get(&0) {
            written.root = *root;
        }
        let old = dataset.root.get();
        if self.is_own(&old, (dataset.id, top, 0)) {
            written.replaced.push(old);
        }
        Ok(Some(written))
    }

    /// Whether a pointer that is being replaced leads to what no snapshot holds.
    fn is_own(&self, old: &BlockPtr, key: super::NodeKey) -> bool {
        let prev = self.marks.borrow().get(&key).copied().unwrap_or(u64::MAX);
        !old.is_hole() && (old.birth() > prev || Mutant::FreeSnapshotNodes.is_on())
    }

    /// A node with the new pointers to the nodes below it.
    async fn merge(
        &self,
        device: &Device,
        dataset: &Dataset,
        level: u8,
        index: u64,
        below: &BTreeMap<u64, (BlockPtr, u64)>,
        replaced: &mut Vec<BlockPtr>,
    ) -> Result<Changed, PoolError> {
        let found = self.node(device, dataset, level, index).await?;
        let mut node = found.unwrap_or_else(|| Rc::new(Node::empty()));
        let own = self.dirty.borrow().get(&(dataset.id, level, index)).map(|dirty| dirty.birth);
        let mut birth = own.unwrap_or(0);
        if level > 1 {
            let ptrs = &mut Rc::make_mut(&mut node).ptrs;
            let first = index << FANOUT_BITS;
            for (child, (ptr, child_birth)) in below.range(first..first + (1 << FANOUT_BITS)) {
                let old = std::mem::replace(&mut ptrs[slot(*child)], *ptr);
                if self.is_own(&old, (dataset.id, level - 1, *child)) {
                    replaced.push(old);
                }
                birth = birth.max(*child_birth);
            }
        }
        Ok(Changed { index, node, birth })
    }

    /// Writes the nodes of one level. Nodes of holes become holes.
    async fn write_level(
        &self,
        device: &Device,
        space: &Space,
        level: u8,
        changed: Vec<Changed>,
        nodes: &mut Vec<(BlockPtr, Rc<Node>)>,
    ) -> Result<BTreeMap<u64, (BlockPtr, u64)>, PoolError> {
        let mut done = BTreeMap::new();
        let (empty, full): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|changed| changed.node.is_empty());
        for hole in empty {
            done.insert(hole.index, (BlockPtr::HOLE, hole.birth));
        }
        let count = full.len() as u64;
        if count == 0 {
            return Ok(done);
        }
        if !space.promise(count) {
            let problem = "the blocks kept back for a checkpoint are not enough";
            return Err(PoolError::Inconsistent(problem.to_owned()));
        }
        let runs = space.take(device, count).await?;
        let blocks: Vec<&[u8]> = full.iter().map(|changed| changed.node.as_bytes()).collect();
        let mut digests = vec![[0; 32]; blocks.len()];
        digest_blocks(self.digest, &blocks, &mut digests);
        write_runs(device, &runs, &blocks).await?;
        let addresses = runs.iter().flat_map(|&(first, count)| first..first + count);
        for ((changed, digest), address) in full.into_iter().zip(digests).zip(addresses) {
            let ptr = BlockPtr::new(PtrKind::Node, level, address, changed.birth, digest);
            done.insert(changed.index, (ptr, changed.birth));
            nodes.push((ptr, changed.node));
        }
        Ok(done)
    }

    /// Makes what was written the tree, and frees what it replaces. Then nothing of the dataset is
    /// changed.
    pub(in super::super) fn install(&self, dataset: &Dataset, space: &Space, written: Written) {
        dataset.root.set(written.root);
        for (ptr, node) in written.nodes {
            self.cache.put(&ptr, node);
        }
        for old in written.replaced {
            space.free(old.address(), 1);
        }
        self.dirty.borrow_mut().retain(|key, _| key.0 != dataset.id);
        self.marks.borrow_mut().retain(|key, _| key.0 != dataset.id);
    }

    /// The datasets of which something is changed.
    pub(in super::super) fn changed(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.marks.borrow().keys().map(|key| key.0).collect();
        ids.dedup();
        ids
    }
}

/// Writes blocks to runs of addresses, neighbours together.
pub(in super::super) async fn write_runs(
    device: &Device,
    runs: &[Run],
    blocks: &[&[u8]],
) -> Result<(), PoolError> {
    let mut writes = Vec::new();
    let mut rest = blocks;
    for &(first, count) in runs {
        let (mut own, after) = rest.split_at(usize::try_from(count).unwrap_or(rest.len()));
        let mut address = first;
        while !own.is_empty() {
            let (now, later) = own.split_at(own.len().min(NODES_PER_WRITE));
            writes.push((address, now));
            (address, own) = (address + now.len() as u64, later);
        }
        rest = after;
    }
    let write = |(address, blocks): (u64, &[&[u8]])| {
        let mut bytes = Vec::with_capacity(blocks.len() * BLOCK_BYTES);
        blocks.iter().for_each(|block| bytes.extend_from_slice(block));
        async move { device.write_bytes(address, &bytes).await }
    };
    stream::iter(writes.into_iter().map(write)).buffered(WRITES_MAX).try_collect().await
}
