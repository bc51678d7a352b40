//! The allocator of one owner: chunks that are free, whole or split.

use zerocopy::FromZeros;

use super::bit_tree::BitTree;
use super::space::Layout;
use super::split::{FreeCounts, Split};
use super::{AllocError, Block, BlockError, BlockType, Blocks, Fragmentation, Space, SpaceError};

/// A chunk's state in four bytes: free, whole, or from `SPLIT` on the index of its [`Split`].
const FREE: u32 = 0;
const WHOLE: u32 = 1;
const SPLIT: u32 = 2;

/// The tiered block allocator.
///
/// It takes the first free block of the smallest class that has one, splits a larger one only when
/// there is none, and joins what is freed at once; so equal requests in equal order have equal
/// answers. It does no I/O and keeps nothing but memory: about 4.1 bytes per chunk, of which the
/// kernel gives the most only when they are used, and 40 more for a split chunk.
#[derive(Clone, Debug)]
pub struct Allocator {
    layout: Layout,
    states: Vec<u32>,
    splits: Vec<Split>,
    /// Indices in `splits` of chunks that are split no more.
    spare: Vec<u32>,
    /// By class: the chunks that have a free block of exactly this class.
    with_free: [BitTree; BlockType::COUNT],
    /// By class: the number of free blocks, each counted in the largest class it is free in.
    free_blocks: [u64; BlockType::COUNT],
}

impl Allocator {
    /// An allocator of a space of which nothing is allocated.
    ///
    /// # Errors
    /// [`SpaceError`].
    pub fn new(space: Space) -> Result<Self, SpaceError> {
        let layout = Layout::new(space)?;
        let chunks = chunk_index(layout.chunks());
        let memory = |_| SpaceError::Memory { bytes: layout.chunks() * 4 };
        let none = BitTree::new(chunks);
        let mut allocator = Self {
            layout,
            // FREE is 0.
            states: u32::new_vec_zeroed(chunks).map_err(memory)?,
            splits: Vec::new(),
            spare: Vec::new(),
            with_free: [none.clone(), none.clone(), none, BitTree::full(chunks)],
            free_blocks: [0, 0, 0, layout.chunks()],
        };
        if let Some(units) = layout.tail_units() {
            allocator.change(chunks - 1, |split| *split = Split::cut_off(units));
        }
        Ok(allocator)
    }

    /// An allocator of a space of which these blocks are allocated, in any order.
    ///
    /// # Errors
    /// [`RebuildError`] for the first block that cannot be.
    pub fn from_allocated(
        space: Space,
        blocks: impl IntoIterator<Item = Block>,
    ) -> Result<Self, RebuildError> {
        let mut allocator = Self::new(space)?;
        for block in blocks {
            allocator.reserve(&block)?;
        }
        Ok(allocator)
    }

    /// Bytes that blocks are cut from.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.layout.capacity
    }

    /// Free bytes.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        let blocks = BlockType::ALL.iter().zip(self.free_blocks);
        blocks.map(|(class, count)| class.bytes() * count).sum()
    }

    /// How the free bytes are cut up.
    #[must_use]
    pub fn fragmentation(&self) -> Fragmentation {
        Fragmentation::new(self.free_blocks, 0)
    }

    /// Allocates at least `size_bytes`: below 1 MiB one block of the smallest class that holds it,
    /// from there on as many blocks of 1 MiB as are needed.
    ///
    /// # Errors
    /// [`AllocError`]; then nothing was allocated.
    pub fn allocate(&mut self, size_bytes: u64) -> Result<Blocks, AllocError> {
        let class = self.class_for(size_bytes)?;
        let one = size_bytes <= class.bytes();
        let made =
            if one { self.take(class).map(Blocks::from) } else { self.take_whole(size_bytes) };
        made.ok_or_else(|| self.fragmentation().no_space(size_bytes, class))
    }

    /// The class of the blocks for a request.
    pub(super) fn class_for(&self, size_bytes: u64) -> Result<BlockType, AllocError> {
        if size_bytes == 0 {
            return Err(AllocError::Zero);
        }
        Ok(BlockType::holding(size_bytes).max(self.layout.least))
    }

    /// Takes blocks back: all of them or, when one of them is refused, none.
    ///
    /// # Errors
    /// [`BlockError`] for the first block that is not allocated as it is described.
    pub fn free(&mut self, blocks: &[Block]) -> Result<(), BlockError> {
        self.check_all(blocks)?;
        for block in blocks {
            self.release(block);
        }
        Ok(())
    }

    /// Marks a certain block as allocated.
    ///
    /// # Errors
    /// [`BlockError`]; then nothing was changed.
    pub fn reserve(&mut self, block: &Block) -> Result<(), BlockError> {
        let (chunk, unit) = Layout::place(self.layout.check(block)?);
        let overlaps = |actual| Err(BlockError::Overlap { block: *block, actual });
        if let Some(actual) = self.holder(chunk, unit) {
            return overlaps(actual);
        }
        let index = chunk_index(chunk);
        let class = block.block_type;
        if class != BlockType::M1 {
            return match self.change(index, |split| split.reserve(class, unit)) {
                Ok(()) => Ok(()),
                Err((class, unit)) => overlaps(self.layout.block(chunk, unit, class)),
            };
        }
        if let Some(split) = self.split_of(index) {
            let used = (0..super::space::CHUNK_UNITS).find_map(|unit| split.holder(unit));
            let (class, unit) = used.unwrap_or((BlockType::K4, 0));
            return overlaps(self.layout.block(chunk, unit, class));
        }
        self.take_chunk(index, WHOLE);
        Ok(())
    }

    /// Hands every allocated block to `see`, in order of the offsets.
    pub fn for_each_allocated(&self, mut see: impl FnMut(Block)) {
        let end = self.layout.start + self.layout.capacity;
        for (chunk, state) in (0..).zip(&self.states) {
            let Some(split) = self.split_of(chunk_index(chunk)) else {
                if *state == WHOLE {
                    see(self.layout.block(chunk, 0, BlockType::M1));
                }
                continue;
            };
            for unit in 0..super::space::CHUNK_UNITS {
                let block = split.holder(unit).filter(|(_, first)| *first == unit);
                let block = block.map(|(class, unit)| self.layout.block(chunk, unit, class));
                // What lies behind the end is marked as used and is no block.
                if let Some(block) = block.filter(|block| block.offset < end) {
                    see(block);
                }
            }
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn free_blocks(&self) -> [u64; BlockType::COUNT] {
        self.free_blocks
    }

    /// Checks that every block is allocated as it is described, and named once.
    pub(super) fn check_all(&self, blocks: &[Block]) -> Result<(), BlockError> {
        for block in blocks {
            self.check(block)?;
        }
        if blocks.is_sorted_by(|one, next| one.offset < next.offset) {
            return Ok(());
        }
        // Allocated blocks do not overlap, so only the same one can be there twice.
        let mut sorted = blocks.to_vec();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
        twice.map_or(Ok(()), |pair| Err(BlockError::Repeated { block: pair[0] }))
    }

    /// Checks that a block is allocated as it is described.
    pub(super) fn check(&self, block: &Block) -> Result<(), BlockError> {
        let (chunk, unit) = Layout::place(self.layout.check(block)?);
        match self.holder(chunk, unit) {
            Some(actual) if actual == *block => Ok(()),
            Some(actual) => Err(BlockError::WrongType { block: *block, actual }),
            None => Err(BlockError::NotAllocated { block: *block }),
        }
    }

    /// Frees a block that was checked.
    pub(super) fn release(&mut self, block: &Block) {
        let (chunk, unit) = Layout::place(block.offset - self.layout.start);
        let index = chunk_index(chunk);
        match block.block_type {
            BlockType::M1 => self.give_chunk(index),
            class => self.change(index, |split| split.release(class, unit)),
        }
    }

    /// Takes one block.
    pub(super) fn take(&mut self, class: BlockType) -> Option<Block> {
        let mut taken = None;
        let layout = self.layout;
        self.take_many(class, 1, |relative| {
            taken = Some(Block::new(layout.start + relative, class));
        });
        taken
    }

    /// Takes up to `count` blocks and tells their offsets from the first chunk on.
    pub(super) fn take_many(&mut self, class: BlockType, count: usize, mut give: impl FnMut(u64)) {
        let mut left = count;
        while left > 0 {
            let larger = &self.with_free[class.index()..];
            let Some(index) = larger.iter().find_map(BitTree::first) else { return };
            if class == BlockType::M1 {
                self.take_chunk(index, WHOLE);
                give(self.layout.relative(index as u64, 0));
                left -= 1;
                continue;
            }
            let layout = self.layout;
            left = self.change(index, |split| {
                let mut next = split.take_splitting(class);
                while let Some(unit) = next {
                    give(layout.relative(index as u64, unit));
                    left -= 1;
                    // Another chunk may have a block that need not be split off.
                    next = if left > 0 { split.take(class) } else { None };
                }
                left
            });
        }
    }

    /// Takes as many blocks of 1 MiB as `size_bytes` needs, or none.
    fn take_whole(&mut self, size_bytes: u64) -> Option<Blocks> {
        let class = BlockType::M1;
        let wanted = size_bytes.div_ceil(class.bytes());
        if wanted > self.free_blocks[class.index()] {
            return None;
        }
        let count = usize::try_from(wanted).ok()?;
        let (mut blocks, start) = (Vec::with_capacity(count), self.layout.start);
        self.take_many(class, count, |relative| blocks.push(Block::new(start + relative, class)));
        Some(blocks.into())
    }

    fn split_of(&self, index: usize) -> Option<&Split> {
        let split = self.states[index].checked_sub(SPLIT)?;
        self.splits.get(split as usize)
    }

    /// The allocated block that a unit belongs to.
    fn holder(&self, chunk: u64, unit: u32) -> Option<Block> {
        let index = chunk_index(chunk);
        let (class, unit) = match self.split_of(index) {
            Some(split) => split.holder(unit)?,
            None if self.states[index] == WHOLE => (BlockType::M1, 0),
            None => return None,
        };
        Some(self.layout.block(chunk, unit, class))
    }

    /// Makes a free chunk something else.
    fn take_chunk(&mut self, index: usize, state: u32) {
        self.states[index] = state;
        self.free_blocks[BlockType::M1.index()] -= 1;
        self.with_free[BlockType::M1.index()].remove(index);
    }

    fn give_chunk(&mut self, index: usize) {
        self.states[index] = FREE;
        self.free_blocks[BlockType::M1.index()] += 1;
        self.with_free[BlockType::M1.index()].insert(index);
    }

    /// Changes a chunk that is free or split, and counts what is free in it anew.
    fn change<R>(&mut self, index: usize, change: impl FnOnce(&mut Split) -> R) -> R {
        let (at, before) = match self.split_of(index) {
            Some(split) => (self.states[index] - SPLIT, split.free_counts()),
            None => (self.split_chunk(index), [0; 3]),
        };
        let split = &mut self.splits[at as usize];
        let result = change(split);
        let whole = split.is_free();
        let after = if whole { [0; 3] } else { split.free_counts() };
        self.count(index, before, after);
        if whole {
            self.spare.push(at);
            self.give_chunk(index);
        }
        result
    }

    /// Makes a free chunk a split one without parts; returns the index of its [`Split`].
    fn split_chunk(&mut self, index: usize) -> u32 {
        let at = self.spare.pop().unwrap_or_else(|| {
            self.splits.push(Split::default());
            // There are no more of them than chunks, of which there are fewer than 2^32 - 2.
            u32::try_from(self.splits.len() - 1).unwrap_or(u32::MAX)
        });
        self.splits[at as usize] = Split::default();
        self.take_chunk(index, SPLIT + at);
        at
    }

    fn count(&mut self, index: usize, before: FreeCounts, after: FreeCounts) {
        for (class, (before, after)) in before.into_iter().zip(after).enumerate() {
            self.free_blocks[class] = self.free_blocks[class] - before + after;
            match (before, after) {
                (0, 1..) => self.with_free[class].insert(index),
                (1.., 0) => self.with_free[class].remove(index),
                _ => {}
            }
        }
    }
}

/// Chunks are counted by the length of a vector, which the index fits.
fn chunk_index(chunk: u64) -> usize {
    usize::try_from(chunk).unwrap_or(usize::MAX)
}

/// Why an allocator cannot be made of a list of allocated blocks.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RebuildError {
    /// The space is none.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A block cannot be allocated.
    #[error(transparent)]
    Block(#[from] BlockError),
}
