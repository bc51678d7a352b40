//! A core's own store of free blocks.

use std::sync::Arc;

use super::shared::{CACHED, Counts, SharedAllocator, tier_of};
use super::sync::Ordering;
use super::{AllocError, Block, BlockError, BlockType, Blocks};

/// Free blocks of the common classes that one core hands out and takes back without a lock.
///
/// Whatever core has a block may free it into its own magazine. Dropping a magazine gives its
/// blocks back.
#[derive(Debug)]
pub struct Magazine {
    shared: Arc<SharedAllocator>,
    counts: Arc<Counts>,
    /// By class: the numbers of blocks, as many of them valid as `counts` says.
    slots: [Box<[u64]>; CACHED.len()],
}

impl Magazine {
    /// An empty magazine, for one core.
    #[must_use]
    pub fn new(shared: &Arc<SharedAllocator>) -> Self {
        // Twice a batch: after a filling or an emptying a batch can come or go without another.
        let slots = |tier| vec![0; 2 * shared.batch(tier)].into_boxed_slice();
        let slots = std::array::from_fn(slots);
        Self { counts: shared.register(), shared: Arc::clone(shared), slots }
    }

    /// The allocator that all magazines share.
    #[must_use]
    pub fn shared(&self) -> &Arc<SharedAllocator> {
        &self.shared
    }

    /// Allocates as [`Allocator::allocate`](super::Allocator::allocate).
    ///
    /// # Errors
    /// [`AllocError`]; then nothing was allocated.
    #[inline]
    pub fn allocate(&mut self, size_bytes: u64) -> Result<Blocks, AllocError> {
        // One comparison, since 0 wraps.
        if size_bytes.wrapping_sub(1) < BlockType::K64.bytes() {
            let class = BlockType::holding(size_bytes);
            return self.allocate_block(class).map(Blocks::from);
        }
        self.allocate_shared(size_bytes)
    }

    /// Allocates one block of a class, or of the smallest class that the alignment allows.
    ///
    /// # Errors
    /// [`AllocError`]; then nothing was allocated.
    #[inline(always)]
    pub fn allocate_block(&mut self, class: BlockType) -> Result<Block, AllocError> {
        let taken = match class {
            BlockType::K4 => self.take::<0>(),
            BlockType::K64 => self.take::<1>(),
            BlockType::K256 | BlockType::M1 => None,
        };
        match taken {
            Some(block) => Ok(block),
            None => self.allocate_slowly(class),
        }
    }

    /// Takes blocks back: all of them or, when one is refused, none.
    ///
    /// # Errors
    /// [`BlockError`] for the first block that is not allocated as it is described.
    #[inline]
    pub fn free(&mut self, blocks: &[Block]) -> Result<(), BlockError> {
        match blocks {
            [block] => self.free_block(block),
            _ => self.free_many(blocks),
        }
    }

    /// Takes one block back.
    ///
    /// # Errors
    /// [`BlockError`] when it is not allocated as it is described.
    #[inline(always)]
    pub fn free_block(&mut self, block: &Block) -> Result<(), BlockError> {
        let freed = match block.block_type {
            BlockType::K4 => self.give::<0>(block),
            class => {
                // The way of the smallest blocks is to have no jump.
                std::hint::cold_path();
                class == BlockType::K64 && self.give::<1>(block)
            }
        };
        if freed { Ok(()) } else { self.free_slowly(block) }
    }

    /// Gives all free blocks back, for other cores and to be joined to larger ones.
    pub fn drain(&mut self) {
        for tier in 0..CACHED.len() {
            let count = self.held(tier);
            self.shared.empty(tier, &self.slots[tier][..count], &self.counts.0[tier], 0);
        }
        self.shared.settle();
    }

    #[inline(always)]
    fn held(&self, tier: usize) -> usize {
        self.counts.0[tier].load(Ordering::Relaxed)
    }

    /// The last block of the magazine, if it has one.
    #[inline(always)]
    fn take<const TIER: usize>(&mut self) -> Option<Block> {
        // An empty magazine has its last block at a wrapped 0, which is nowhere.
        let last = self.held(TIER).wrapping_sub(1);
        let number = *self.slots[TIER].get(last)?;
        self.counts.0[TIER].store(last, Ordering::Relaxed);
        self.shared.set_live::<TIER>(number);
        Some(Block::new(self.shared.offset_of::<TIER>(number), CACHED[TIER]))
    }

    /// Puts a block into the magazine; `false` when it is not one that was handed out.
    #[inline(always)]
    fn give<const TIER: usize>(&mut self, block: &Block) -> bool {
        let number = self.shared.number_of::<TIER>(block);
        let handed_out =
            block.size == CACHED[TIER].bytes() && self.shared.clear_live::<TIER>(number);
        if handed_out {
            self.put(TIER, number);
        }
        handed_out
    }

    #[inline(always)]
    fn put(&mut self, tier: usize, number: u64) {
        let count = self.held(tier);
        match self.slots[tier].get_mut(count) {
            Some(slot) => {
                *slot = number;
                self.counts.0[tier].store(count + 1, Ordering::Relaxed);
            }
            None => self.put_making_room(tier, number),
        }
    }

    /// Gives the batch back that has waited longest, and keeps the block.
    #[cold]
    #[inline(never)]
    fn put_making_room(&mut self, tier: usize, number: u64) {
        let (count, batch) = (self.held(tier), self.shared.batch(tier));
        let left = count - batch;
        self.shared.empty(tier, &self.slots[tier][..batch], &self.counts.0[tier], left);
        self.slots[tier].copy_within(batch..count, 0);
        self.slots[tier][left] = number;
        self.counts.0[tier].store(left + 1, Ordering::Relaxed);
    }

    /// Allocates a block that the magazine does not have.
    #[cold]
    #[inline(never)]
    fn allocate_slowly(&mut self, class: BlockType) -> Result<Block, AllocError> {
        let least = self.shared.least();
        if class < least {
            return self.allocate_block(least);
        }
        if let Some(tier) = tier_of(class) {
            let filled = self.shared.fill(tier, &mut self.slots[tier], &self.counts.0[tier]);
            if filled != 0 {
                return self.allocate_block(class);
            }
        }
        let blocks = self.allocate_shared(class.bytes())?;
        // A request of the size of a class has one block.
        blocks.first().copied().ok_or(AllocError::Zero)
    }

    #[inline(never)]
    fn allocate_shared(&mut self, size_bytes: u64) -> Result<Blocks, AllocError> {
        match self.shared.allocate(size_bytes) {
            Err(AllocError::NoSpace { .. }) if self.holds_any() => {
                // What this core keeps may complete a larger block.
                self.drain();
                self.shared.allocate(size_bytes)
            }
            made => made,
        }
    }

    fn holds_any(&self) -> bool {
        (0..CACHED.len()).any(|tier| self.held(tier) != 0)
    }

    /// Frees a block that is not of the magazine's classes, or says why it cannot be freed.
    #[cold]
    #[inline(never)]
    fn free_slowly(&mut self, block: &Block) -> Result<(), BlockError> {
        match tier_of(block.block_type) {
            Some(_) => Err(self.shared.refusal(block)),
            None => self.shared.free(std::slice::from_ref(block)),
        }
    }

    #[inline(never)]
    fn free_many(&mut self, blocks: &[Block]) -> Result<(), BlockError> {
        let cached = |block: &Block| {
            tier_of(block.block_type).is_some() && block.size == block.block_type.bytes()
        };
        if !blocks.iter().all(cached) {
            return self.shared.free(blocks);
        }
        if let Err(block) = self.shared.take_from_owners(blocks) {
            let repeated = blocks.iter().filter(|other| **other == block).count() > 1;
            let refusal = self.shared.refusal(&block);
            return Err(match refusal {
                BlockError::NotAllocated { block } if repeated => BlockError::Repeated { block },
                other => other,
            });
        }
        for block in blocks {
            match block.block_type {
                BlockType::K4 => self.put(0, self.shared.number_of::<0>(block)),
                BlockType::K64 => self.put(1, self.shared.number_of::<1>(block)),
                BlockType::K256 | BlockType::M1 => {}
            }
        }
        Ok(())
    }
}

impl Drop for Magazine {
    fn drop(&mut self) {
        self.drain();
        self.shared.unregister(&self.counts);
    }
}
