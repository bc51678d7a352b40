//! The allocator of all cores, and the depot that their magazines are filled from.

use std::sync::Arc;

use super::live::Live;
use super::space::Layout;
use super::sync::{AtomicUsize, Lock, Ordering};
use super::{
    AllocError, Allocator, Block, BlockError, BlockType, Blocks, Fragmentation, SpaceError,
};

/// The classes that magazines hold.
pub(super) const CACHED: [BlockType; 2] = [BlockType::K4, BlockType::K64];
/// The most blocks that move between a magazine and the depot at a time, by class. 64 blocks of
/// 4 KiB are neighbours in one word of the bits; 8 of 64 KiB keep the bytes in magazines small.
const BATCH_MAX: [u64; CACHED.len()] = [64, 8];
/// A batch is at most this part of the space, so that magazines cannot hold most of a small one.
const BATCH_PART: u64 = 256;
/// The batches that the depot keeps before it gives blocks back to be joined.
const DEPOT_BATCHES: usize = 4;

/// The place of a class in [`CACHED`].
#[inline(always)]
pub(super) fn tier_of(class: BlockType) -> Option<usize> {
    match class {
        BlockType::K4 => Some(0),
        BlockType::K64 => Some(1),
        BlockType::K256 | BlockType::M1 => None,
    }
}

/// What a magazine holds, written by its owner only and read by whoever asks what is free. A
/// cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Counts(pub(super) [AtomicUsize; CACHED.len()]);

impl Counts {
    fn new() -> Arc<Self> {
        Arc::new(Self(std::array::from_fn(|_| AtomicUsize::new(0))))
    }
}

/// The allocator that the cores share. See the module for how.
#[derive(Debug)]
pub struct SharedAllocator {
    layout: Layout,
    /// By class: who has what. The cached classes need it; with the others, whether a block is
    /// allocated can be told without the lock.
    live: [Live; BlockType::COUNT],
    batch: [usize; CACHED.len()],
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    inner: Allocator,
    /// Free blocks that `inner` has as allocated, by class: their numbers.
    depot: [Vec<u64>; CACHED.len()],
    magazines: Vec<Arc<Counts>>,
}

impl State {
    /// Gives what the depot holds beyond `keep` blocks back to be joined.
    fn trim(&mut self, tier: usize, keep: usize) {
        let start = self.inner.layout().start;
        let excess = self.depot[tier].len().saturating_sub(keep);
        let class = CACHED[tier];
        for number in self.depot[tier].drain(..excess) {
            self.inner.release(&Block::new(start + (number << class.shift()), class));
        }
    }

    fn trim_all(&mut self) {
        (0..CACHED.len()).for_each(|tier| self.trim(tier, 0));
    }

    fn fragmentation(&self) -> Fragmentation {
        let mut free = self.inner.free_blocks();
        let mut cached_bytes = 0;
        for (tier, class) in CACHED.into_iter().enumerate() {
            free[class.index()] += self.depot[tier].len() as u64;
            let counts = self.magazines.iter().map(|counts| counts.0[tier].load(Ordering::Relaxed));
            cached_bytes += counts.map(|count| count as u64 * class.bytes()).sum::<u64>();
        }
        Fragmentation::new(free, cached_bytes)
    }
}

impl SharedAllocator {
    /// Shares an allocator.
    ///
    /// # Errors
    /// [`SpaceError::Memory`].
    pub fn new(inner: Allocator) -> Result<Arc<Self>, SpaceError> {
        let layout = *inner.layout();
        let live = |class: BlockType| Live::new(layout.capacity >> class.shift());
        let [k4, k64, k256, m1] = BlockType::ALL.map(live);
        let live = [k4?, k64?, k256?, m1?];
        let batch = std::array::from_fn(|tier| {
            let part = (layout.capacity >> CACHED[tier].shift()) / BATCH_PART;
            usize::try_from(part.clamp(1, BATCH_MAX[tier])).unwrap_or(1)
        });
        let depot = batch.map(|batch| Vec::with_capacity((DEPOT_BATCHES + 1) * batch));
        let state = Lock::new(State { inner, depot, magazines: Vec::new() });
        let shared = Self { layout, live, batch, state };
        shared.state.with(|state| {
            state.inner.for_each_allocated(|block| shared.mark(&block));
        });
        Ok(Arc::new(shared))
    }

    /// Bytes that blocks are cut from.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.layout.capacity
    }

    /// Free bytes, those in magazines included. Exact when no core is allocating or freeing.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.fragmentation().free_bytes
    }

    /// How the free bytes are cut up.
    #[must_use]
    pub fn fragmentation(&self) -> Fragmentation {
        self.state.with(|state| state.fragmentation())
    }

    /// Allocates past the magazines, as [`Allocator::allocate`].
    ///
    /// # Errors
    /// [`AllocError`]; then nothing was allocated.
    pub fn allocate(&self, size_bytes: u64) -> Result<Blocks, AllocError> {
        let blocks = self.state.with(|state| {
            if let Ok(blocks) = state.inner.allocate(size_bytes) {
                return Ok(blocks);
            }
            // What the depot holds may be a block of the class, or complete a larger one.
            state.trim_all();
            state.inner.allocate(size_bytes).map_err(|error| match error {
                AllocError::NoSpace { block_type, .. } => {
                    state.fragmentation().no_space(size_bytes, block_type)
                }
                other => other,
            })
        })?;
        blocks.iter().for_each(|block| self.mark(block));
        Ok(blocks)
    }

    /// Takes blocks back past the magazines: all of them or, when one is refused, none.
    ///
    /// # Errors
    /// [`BlockError`] for the first block that is not allocated as it is described.
    pub fn free(&self, blocks: &[Block]) -> Result<(), BlockError> {
        self.state.with(|state| {
            state.inner.check_all(blocks)?;
            self.take_from_owners(blocks).map_err(|block| BlockError::NotAllocated { block })?;
            blocks.iter().for_each(|block| state.inner.release(block));
            Ok(())
        })
    }

    /// Marks blocks of the right size as free, all or none. The first that is not handed out is
    /// the error. Those before it are free for a moment, in which another core that frees one of
    /// them (wrongly, as one of the two does) is refused as well.
    pub(super) fn take_from_owners(&self, blocks: &[Block]) -> Result<(), Block> {
        for (at, block) in blocks.iter().enumerate() {
            if !self.unmark(block) {
                blocks[..at].iter().for_each(|block| self.mark(block));
                return Err(*block);
            }
        }
        Ok(())
    }

    fn mark(&self, block: &Block) {
        self.live[block.block_type.index()].set(self.number(block));
    }

    /// Marks a block that comes back; `false` when it is free.
    fn unmark(&self, block: &Block) -> bool {
        self.live[block.block_type.index()].clear(self.number(block))
    }

    /// Checks that a block is allocated as it is described, without a lock when it is.
    ///
    /// # Errors
    /// [`BlockError`].
    #[inline]
    pub fn check(&self, block: &Block) -> Result<(), BlockError> {
        let class = block.block_type;
        if block.size == class.bytes() && self.live[class.index()].is_set(self.number(block)) {
            return Ok(());
        }
        Err(self.refusal(block))
    }

    /// Checks that every block is allocated as it is described, and named once.
    ///
    /// # Errors
    /// [`BlockError`] for the first that is not.
    pub fn check_all(&self, blocks: &[Block]) -> Result<(), BlockError> {
        blocks.iter().try_for_each(|block| self.check(block))?;
        self.state.with(|state| state.inner.check_all(blocks))
    }

    /// Hands every block to `see` that is handed out, in order of the offsets. Nobody else allocates
    /// or frees meanwhile.
    pub fn for_each_allocated(&self, mut see: impl FnMut(Block)) {
        let handed_out =
            |block: &Block| self.live[block.block_type.index()].is_set(self.number(block));
        self.state.with(|state| {
            state.inner.for_each_allocated(|block| {
                if handed_out(&block) {
                    see(block);
                }
            });
        });
    }

    /// Why a block that could not be freed is refused.
    pub(super) fn refusal(&self, block: &Block) -> BlockError {
        let found = self.state.with(|state| state.inner.check(block));
        // What is allocated in the eyes of the inner allocator waits in a magazine or the depot.
        found.err().unwrap_or(BlockError::NotAllocated { block: *block })
    }

    /// The smallest class that is handed out.
    pub(super) fn least(&self) -> BlockType {
        self.layout.least
    }

    /// The number of a block among those of its class. For a block that lies outside of the
    /// space, and for one where none can begin, whose low bits become the highest, it is one that
    /// no block has.
    #[inline(always)]
    pub(super) fn number_of<const TIER: usize>(&self, block: &Block) -> u64 {
        let relative = block.offset.wrapping_sub(self.layout.start);
        relative.rotate_right(CACHED[TIER].shift())
    }

    fn number(&self, block: &Block) -> u64 {
        let relative = block.offset.wrapping_sub(self.layout.start);
        relative.rotate_right(block.block_type.shift())
    }

    /// The offset of a block in bytes.
    #[inline(always)]
    pub(super) fn offset_of<const TIER: usize>(&self, number: u64) -> u64 {
        self.layout.start + (number << CACHED[TIER].shift())
    }

    /// Marks a free block as handed out.
    #[inline(always)]
    pub(super) fn set_live<const TIER: usize>(&self, number: u64) {
        self.live[TIER].set(number);
    }

    /// Marks a block as free; whether it was handed out.
    #[inline(always)]
    pub(super) fn clear_live<const TIER: usize>(&self, number: u64) -> bool {
        self.live[TIER].clear(number)
    }

    pub(super) fn batch(&self, tier: usize) -> usize {
        self.batch[tier]
    }

    pub(super) fn register(&self) -> Arc<Counts> {
        let counts = Counts::new();
        self.state.with(|state| state.magazines.push(Arc::clone(&counts)));
        counts
    }

    pub(super) fn unregister(&self, counts: &Arc<Counts>) {
        self.state.with(|state| state.magazines.retain(|other| !Arc::ptr_eq(other, counts)));
    }

    /// Puts up to a batch of free blocks into an empty magazine; how many there are is counted
    /// before the lock is given back, so that nothing is missing from what is free.
    pub(super) fn fill(&self, tier: usize, slots: &mut [u64], count: &AtomicUsize) -> usize {
        let wanted = self.batch[tier].min(slots.len());
        self.state.with(|state| {
            let State { inner, depot, .. } = state;
            if depot[tier].is_empty() {
                let class = CACHED[tier];
                let keep = |relative: u64| depot[tier].push(relative >> class.shift());
                inner.take_many(class, wanted, keep);
                // The lowest is taken first, and a magazine hands out its last.
                depot[tier].reverse();
            }
            let from = depot[tier].len().saturating_sub(wanted);
            let filled = depot[tier].len() - from;
            for (slot, number) in slots.iter_mut().zip(depot[tier].drain(from..)) {
                *slot = number;
            }
            count.store(filled, Ordering::Relaxed);
            filled
        })
    }

    /// Takes the `given` free blocks of a magazine that has `left` others.
    pub(super) fn empty(&self, tier: usize, given: &[u64], count: &AtomicUsize, left: usize) {
        self.state.with(|state| {
            state.depot[tier].extend_from_slice(given);
            count.store(left, Ordering::Relaxed);
            state.trim(tier, DEPOT_BATCHES * self.batch[tier]);
        });
    }

    /// Joins what the depot holds.
    pub(super) fn settle(&self) {
        self.state.with(State::trim_all);
    }
}
