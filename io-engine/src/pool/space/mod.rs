//! Which blocks are in use.
//!
//! A bitmap per group, and above them a tree of nodes with digests and counts of free blocks. Both
//! are written to the place that is not valid, and never in place. Memory holds what is being
//! allocated from and what changed since the last checkpoint; it does not grow with the pool.
//!
//! Invariant: a block that was freed is handed out again only after a checkpoint has recorded that
//! it is free. Until then journal records and the superblock may still lead to it.

mod group;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::PoolError;
use super::device::Device;
use super::digest::{DigestKind, digest};
use super::layout::{BlockPtr, FANOUT_BITS, GROUP_BLOCKS, Geometry, Node, PtrKind};
use super::mutant::Mutant;
use group::Group;

/// Clean groups and nodes that stay in memory after a checkpoint.
const KEPT: usize = 64;
/// Writes of bitmaps at once.
const WRITES_MAX: usize = 32;
/// Blocks from which a request should lie together (64 KiB), and groups that are looked at for
/// that: a disk and a reader gain from it, but not at the price of a long search.
const WHOLE_FROM: u64 = 16;
const WHOLE_TRIES: usize = 4;

/// A run of blocks: first address and count.
pub(super) type Run = (u64, u64);

/// The space of a pool.
pub(super) struct Space {
    geometry: Cell<Geometry>,
    digest: DigestKind,
    root: Cell<BlockPtr>,
    inner: RefCell<Inner>,
    /// Blocks that can be taken now, less those that were promised.
    free: Cell<u64>,
    /// Blocks that the next checkpoint makes free.
    pending: Cell<u64>,
    /// The groups from which is taken: for what may lie in pieces, and for what should not.
    current: Cell<u64>,
    current_whole: Cell<u64>,
}

#[derive(Default)]
struct Inner {
    groups: BTreeMap<u64, Group>,
    nodes: BTreeMap<(u8, u64), SpaceNode>,
    pending: BTreeMap<u64, Vec<(u64, u64)>>,
}

struct SpaceNode {
    node: Box<Node>,
    dirty: bool,
}

fn slot(index: u64) -> usize {
    usize::try_from(index % (1 << FANOUT_BITS)).unwrap_or(0)
}

impl Space {
    /// The space that a superblock points to.
    pub(super) fn open(geometry: Geometry, digest: DigestKind, root: BlockPtr) -> Self {
        Self {
            geometry: Cell::new(geometry),
            digest,
            root: Cell::new(root),
            inner: RefCell::default(),
            free: Cell::new(root.aux()),
            pending: Cell::new(0),
            current: Cell::new(0),
            current_whole: Cell::new(0),
        }
    }

    /// Blocks that can be taken now.
    pub(super) fn free_blocks(&self) -> u64 {
        self.free.get()
    }

    /// Blocks that the next checkpoint makes free.
    pub(super) fn pending_blocks(&self) -> u64 {
        self.pending.get()
    }

    /// Promises blocks, so that nobody else takes them; false when there are not so many.
    pub(super) fn promise(&self, blocks: u64) -> bool {
        let free = self.free.get();
        free.checked_sub(blocks).map(|left| self.free.set(left)).is_some()
    }

    /// Takes a promise back.
    pub(super) fn unpromise(&self, blocks: u64) {
        self.free.set(self.free.get() + blocks);
    }

    /// Takes blocks that were promised.
    ///
    /// # Errors
    /// When a bitmap cannot be read; the promise is then taken back.
    pub(super) async fn take(&self, device: &Device, blocks: u64) -> Result<Vec<Run>, PoolError> {
        if blocks >= WHOLE_FROM
            && let Ok(Some(run)) = self.take_whole(device, blocks).await
        {
            return Ok(vec![run]);
        }
        let mut runs: Vec<Run> = Vec::with_capacity(1);
        let mut needed = blocks;
        while needed > 0 {
            let group = self.current.get();
            let taken = self
                .inner
                .borrow_mut()
                .groups
                .get_mut(&group)
                .and_then(|open| open.take_run(needed));
            if let Some((first, count)) = taken {
                let address = group * GROUP_BLOCKS + first;
                match runs.last_mut() {
                    Some(last) if last.0 + last.1 == address => last.1 += count,
                    _ => runs.push((address, count)),
                }
                needed -= count;
            } else if let Err(error) = self.next_group(device, &self.current, 1).await {
                self.unpromise(needed);
                for (address, count) in runs {
                    self.free(address, count);
                }
                return Err(error);
            }
        }
        Ok(runs)
    }

    /// Takes one run of promised blocks; none when none was found soon.
    async fn take_whole(&self, device: &Device, blocks: u64) -> Result<Option<Run>, PoolError> {
        for _ in 0..WHOLE_TRIES {
            let group = self.current_whole.get();
            self.load_group(device, group).await?;
            let first = self
                .inner
                .borrow_mut()
                .groups
                .get_mut(&group)
                .and_then(|open| open.take_whole(blocks));
            if let Some(first) = first {
                return Ok(Some((group * GROUP_BLOCKS + first, blocks)));
            }
            self.current_whole.set((group + 1) % self.geometry.get().groups());
            if self.next_group(device, &self.current_whole, blocks).await.is_err() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Makes the next group with so many free blocks the one that is taken from.
    async fn next_group(
        &self,
        device: &Device,
        place: &Cell<u64>,
        blocks: u64,
    ) -> Result<(), PoolError> {
        let groups = self.geometry.get().groups();
        let current = place.get();
        for step in 0..=groups {
            let group = (current + step) % groups;
            self.load_node(device, 1, group >> FANOUT_BITS).await?;
            if self.free_in(group) >= blocks {
                self.load_group(device, group).await?;
                place.set(group);
                return Ok(());
            }
        }
        let promised = "blocks were promised, but no group has a free one";
        Err(PoolError::Inconsistent(promised.to_owned()))
    }

    /// Free blocks of a group whose node is loaded.
    fn free_in(&self, group: u64) -> u64 {
        let inner = self.inner.borrow();
        if let Some(open) = inner.groups.get(&group) {
            return open.free();
        }
        let ptr = inner.nodes.get(&(1, group >> FANOUT_BITS)).map(|n| n.node.ptrs[slot(group)]);
        match ptr {
            Some(ptr) if !ptr.is_hole() => ptr.aux(),
            _ => self.geometry.get().usable_in(group),
        }
    }

    /// Gives blocks back; the next checkpoint makes them free.
    pub(super) fn free(&self, address: u64, count: u64) {
        if Mutant::ReuseBeforeCheckpoint.is_on() {
            let mut inner = self.inner.borrow_mut();
            let (group, block) = (address / GROUP_BLOCKS, address % GROUP_BLOCKS);
            if let Some(open) = inner.groups.get_mut(&group) {
                for block in block..block + count {
                    open.clear(block);
                }
                self.free.set(self.free.get() + count);
                return;
            }
        }
        let mut inner = self.inner.borrow_mut();
        let (mut address, mut left) = (address, count);
        while left > 0 {
            let (group, block) = (address / GROUP_BLOCKS, address % GROUP_BLOCKS);
            let here = left.min(GROUP_BLOCKS - block);
            let list = inner.pending.entry(group).or_default();
            match list.last_mut() {
                Some(last) if last.0 + last.1 == block => last.1 += here,
                _ => list.push((block, here)),
            }
            (address, left) = (address + here, left - here);
        }
        self.pending.set(self.pending.get() + count);
    }

    /// Marks blocks as used that a journal record says were taken.
    ///
    /// # Errors
    /// When they are in use already or cannot be handed out.
    pub(super) async fn mark_used(&self, device: &Device, run: Run) -> Result<(), PoolError> {
        let wrong = |address, what| {
            PoolError::Inconsistent(format!("the journal maps block {address}, which {what}"))
        };
        for address in run.0..run.0.saturating_add(run.1) {
            if !self.geometry.get().is_usable(address) {
                return Err(wrong(address, "cannot hold data"));
            }
            let group = address / GROUP_BLOCKS;
            self.load_group(device, group).await?;
            let mut inner = self.inner.borrow_mut();
            let open = inner.groups.get_mut(&group);
            if !open.is_some_and(|open| open.set(address % GROUP_BLOCKS)) {
                return Err(wrong(address, "is in use already"));
            }
            self.free.set(self.free.get().saturating_sub(1));
        }
        Ok(())
    }

    /// Which blocks of a group are in use; none for a group that was never used.
    ///
    /// # Errors
    /// When the bitmap cannot be read.
    pub(super) async fn bitmap(
        &self,
        device: &Device,
        group: u64,
    ) -> Result<Option<Vec<bool>>, PoolError> {
        self.load_node(device, 1, group >> FANOUT_BITS).await?;
        let untouched = self.child(1, group >> FANOUT_BITS, slot(group)).is_hole();
        if untouched && !self.inner.borrow().groups.contains_key(&group) {
            return Ok(None);
        }
        self.load_group(device, group).await?;
        let inner = self.inner.borrow();
        Ok(inner
            .groups
            .get(&group)
            .map(|open| (0..GROUP_BLOCKS).map(|at| open.is_used(at)).collect()))
    }

    async fn load_group(&self, device: &Device, group: u64) -> Result<(), PoolError> {
        if self.inner.borrow().groups.contains_key(&group) {
            return Ok(());
        }
        let parent = group >> FANOUT_BITS;
        self.load_node(device, 1, parent).await?;
        let ptr = self.child(1, parent, slot(group));
        let loaded = if ptr.is_hole() {
            Group::fresh(&self.geometry.get(), group)
        } else {
            Group::parse(&self.read(device, &ptr, 0, group).await?)
        };
        self.inner.borrow_mut().groups.entry(group).or_insert(loaded);
        Ok(())
    }

    /// Brings a node and all above it into memory.
    async fn load_node(&self, device: &Device, level: u8, index: u64) -> Result<(), PoolError> {
        if self.inner.borrow().nodes.contains_key(&(level, index)) {
            return Ok(());
        }
        let top = self.geometry.get().space_levels();
        let mut at = top;
        loop {
            let here = index >> (FANOUT_BITS * u32::from(at - level));
            if !self.inner.borrow().nodes.contains_key(&(at, here)) {
                let ptr = if at == top {
                    self.root.get()
                } else {
                    self.child(at + 1, here >> FANOUT_BITS, slot(here))
                };
                let node = if ptr.is_hole() {
                    Node::empty()
                } else {
                    let bytes = self.read(device, &ptr, at, here).await?;
                    Node::parse(&bytes).unwrap_or(const { Node::empty() })
                };
                let loaded = SpaceNode { node: Box::new(node), dirty: false };
                self.inner.borrow_mut().nodes.entry((at, here)).or_insert(loaded);
            }
            if at == level {
                return Ok(());
            }
            at -= 1;
        }
    }

    /// A pointer of a loaded node.
    fn child(&self, level: u8, index: u64, slot: usize) -> BlockPtr {
        let inner = self.inner.borrow();
        inner.nodes.get(&(level, index)).map_or(BlockPtr::HOLE, |node| node.node.ptrs[slot])
    }

    async fn read(
        &self,
        device: &Device,
        ptr: &BlockPtr,
        level: u8,
        index: u64,
    ) -> Result<Vec<u8>, PoolError> {
        let buf = device.read_blocks(ptr.address(), 1).await?;
        let bytes = buf.as_slice().to_vec();
        if digest(self.digest, &bytes) != ptr.digest && !Mutant::NoNodeDigest.is_on() {
            let what = match level {
                0 => format!("the bitmap of group {index}"),
                _ => format!("node {index} of level {level} of the space tree"),
            };
            return Err(PoolError::Corrupt { what, address: ptr.address() });
        }
        Ok(bytes)
    }

    /// Makes what was given back free, and writes all that changed to the places that are not
    /// valid. Returns the new root. Nothing may be taken or given back meanwhile.
    ///
    /// # Errors
    /// When the device fails or a block was given back twice; the pool has to stop then.
    pub(super) async fn commit(&self, device: &Device) -> Result<BlockPtr, PoolError> {
        self.settle(device).await?;
        let dirty: Vec<u64> = {
            let inner = self.inner.borrow();
            inner.groups.iter().filter(|(_, open)| open.dirty).map(|(group, _)| *group).collect()
        };
        let mut changed = Vec::new();
        for group in dirty {
            self.load_node(device, 1, group >> FANOUT_BITS).await?;
            let inner = self.inner.borrow();
            if let Some(open) = inner.groups.get(&group) {
                changed.push((group, open.encode(), open.free()));
            }
        }
        let top = self.geometry.get().space_levels();
        for level in 0..=top {
            if changed.is_empty() {
                break;
            }
            changed = self.write_level(device, level, changed).await?;
        }
        let mut inner = self.inner.borrow_mut();
        inner.groups.values_mut().for_each(|open| open.dirty = false);
        inner.nodes.values_mut().for_each(|node| node.dirty = false);
        Self::shrink(&mut inner, self.current.get());
        Ok(self.root.get())
    }

    /// Clears the bits of what was given back.
    async fn settle(&self, device: &Device) -> Result<(), PoolError> {
        let pending = std::mem::take(&mut self.inner.borrow_mut().pending);
        for (group, runs) in pending {
            self.load_group(device, group).await?;
            let mut inner = self.inner.borrow_mut();
            let Some(open) = inner.groups.get_mut(&group) else { continue };
            for (first, count) in runs {
                for block in first..first + count {
                    if !open.clear(block) {
                        let address = group * GROUP_BLOCKS + block;
                        let problem = format!("block {address} was freed twice");
                        return Err(PoolError::Inconsistent(problem));
                    }
                }
                self.free.set(self.free.get() + count);
            }
        }
        self.pending.set(0);
        Ok(())
    }

    /// Writes blocks of one level, and returns the nodes above that have to follow.
    async fn write_level(
        &self,
        device: &Device,
        level: u8,
        changed: Vec<(u64, Vec<u8>, u64)>,
    ) -> Result<Vec<(u64, Vec<u8>, u64)>, PoolError> {
        let (geometry, digest_kind) = (self.geometry.get(), self.digest);
        let top = geometry.space_levels();
        let write = |(index, bytes, free): (u64, Vec<u8>, u64)| async move {
            let old = if level == top {
                self.root.get()
            } else {
                self.child(level + 1, index >> FANOUT_BITS, slot(index))
            };
            let places = geometry.space_places(level, index);
            let valid = !old.is_hole() && old.address() == places[0];
            let same = Mutant::BitmapInPlace.is_on() && !old.is_hole();
            let place = places[usize::from(valid != same)];
            device.write_bytes(place, &bytes).await?;
            let digest = digest(digest_kind, &bytes);
            let ptr = BlockPtr::new(PtrKind::Space, level, place, 0, digest).with_aux(free);
            Ok::<_, PoolError>((index, ptr))
        };
        let written: Vec<(u64, BlockPtr)> =
            stream::iter(changed.into_iter().map(write)).buffered(WRITES_MAX).try_collect().await?;
        if level == top {
            if let Some((_, ptr)) = written.first() {
                self.root.set(*ptr);
            }
            return Ok(Vec::new());
        }
        for (index, _) in &written {
            self.load_node(device, level + 1, index >> FANOUT_BITS).await?;
        }
        let mut inner = self.inner.borrow_mut();
        for (index, ptr) in written {
            if let Some(parent) = inner.nodes.get_mut(&(level + 1, index >> FANOUT_BITS)) {
                parent.node.ptrs[slot(index)] = ptr;
                parent.dirty = true;
            }
        }
        let above = inner.nodes.iter().filter(|((at, _), node)| *at == level + 1 && node.dirty);
        Ok(above
            .map(|((at, index), node)| {
                let free = free_below(&geometry, *at, *index, &node.node);
                (*index, zerocopy::IntoBytes::as_bytes(&*node.node).to_vec(), free)
            })
            .collect())
    }

    /// Forgets what can be read again.
    fn shrink(inner: &mut Inner, current: u64) {
        if inner.groups.len() > KEPT {
            inner.groups.retain(|group, _| *group == current);
        }
        if inner.nodes.len() > KEPT {
            inner.nodes.clear();
        }
    }

    /// Extends the space to a larger pool; the places of the old last superblocks become free.
    ///
    /// # Errors
    /// When a bitmap cannot be read.
    pub(super) async fn grow(&self, device: &Device, to: Geometry) -> Result<(), PoolError> {
        let from = self.geometry.get();
        let (old_top, old_usable) = (from.space_levels(), from.usable());
        // The groups whose reserved blocks change have to be in memory under the old sizes.
        let last = from.groups() - 1;
        let changed = [last.saturating_sub(1), last];
        for group in changed {
            self.load_group(device, group).await?;
        }
        let root = self.root.get();
        self.geometry.set(to);
        {
            let mut inner = self.inner.borrow_mut();
            let Inner { groups, .. } = &mut *inner;
            for group in changed {
                let Some(open) = groups.get_mut(&group) else { continue };
                for range in from.reserved(group) {
                    for block in range {
                        open.clear(block);
                    }
                }
                for range in to.reserved(group) {
                    for block in range {
                        open.set(block);
                    }
                }
                open.dirty = true;
            }
            // A higher tree begins with the old one as its first child.
            let mut below = root;
            for level in old_top + 1..=to.space_levels() {
                let mut node = Box::new(Node::empty());
                node.ptrs[0] = below;
                inner.nodes.insert((level, 0), SpaceNode { node, dirty: true });
                below = BlockPtr::HOLE;
            }
            if to.space_levels() > old_top {
                self.root.set(BlockPtr::HOLE);
            }
        }
        self.free.set(self.free.get() + to.usable() - old_usable);
        Ok(())
    }
}

/// Free blocks below a node: holes are groups that were never written.
fn free_below(geometry: &Geometry, level: u8, index: u64, node: &Node) -> u64 {
    let span = 1_u64 << (FANOUT_BITS * u32::from(level - 1));
    let child = |(slot, ptr): (usize, &BlockPtr)| {
        if !ptr.is_hole() {
            return ptr.aux();
        }
        let first = ((index << FANOUT_BITS) + slot as u64) * span;
        (first..(first + span).min(geometry.groups())).map(|group| geometry.usable_in(group)).sum()
    };
    node.ptrs.iter().enumerate().map(child).sum()
}
