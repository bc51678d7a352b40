//! What the allocator refuses. Whatever is refused has changed nothing.

use thiserror::Error;

use super::{Block, BlockType};

/// Why a space cannot be allocated from.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpaceError {
    /// The size is no number of blocks.
    #[error("a space of {size_bytes} bytes: the size has to be a multiple of 4096 above 0")]
    Size {
        /// The size in bytes.
        size_bytes: u64,
    },
    /// It is larger than what is kept track of.
    #[error("a space of {size_bytes} bytes: the largest has {size_max}")]
    TooLarge {
        /// The size in bytes.
        size_bytes: u64,
        /// The largest size in bytes.
        size_max: u64,
    },
    /// There is no memory for what has to be kept.
    #[error("no {bytes} bytes of memory to keep track of the space with; choose a smaller one")]
    Memory {
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// The end does not fit a device.
    #[error("a space of {size_bytes} bytes at {base_offset}: it has to end by byte {end_max}")]
    End {
        /// Where the space begins, in bytes.
        base_offset: u64,
        /// The size in bytes.
        size_bytes: u64,
        /// The largest end.
        end_max: u64,
    },
    /// The alignment is none.
    #[error("an alignment of {alignment} bytes: it has to be a power of two up to 1048576")]
    Alignment {
        /// The alignment in bytes.
        alignment: u64,
    },
    /// Not one block fits.
    #[error(
        "a space of {size_bytes} bytes at {base_offset}, aligned to {alignment}, holds no block: \
         it needs at least {least_bytes} bytes from {start} on"
    )]
    TooSmall {
        /// Where the space begins, in bytes.
        base_offset: u64,
        /// The size in bytes.
        size_bytes: u64,
        /// The alignment in bytes.
        alignment: u64,
        /// The first aligned byte.
        start: u64,
        /// The size of the smallest block, in bytes.
        least_bytes: u64,
    },
}

/// Why blocks cannot be had.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// Nothing was asked for.
    #[error("a request for 0 bytes: ask for at least 1")]
    Zero,
    /// The space does not have it.
    #[error(
        "no space for {size_bytes} bytes in blocks of {block_type}: {remaining_bytes} bytes are \
         free, the largest free block has {largest_bytes} bytes, and {cached_bytes} bytes wait in \
         per-core magazines"
    )]
    NoSpace {
        /// Bytes asked for.
        size_bytes: u64,
        /// The class of the blocks that the request needs.
        block_type: BlockType,
        /// Bytes free in all.
        remaining_bytes: u64,
        /// The size of the largest free block, 0 when there is none.
        largest_bytes: u64,
        /// Free bytes that only the cores that hold them can hand out.
        cached_bytes: u64,
    },
}

/// Why a block is not taken back, or cannot be marked as allocated.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockError {
    /// The size is not that of the class.
    #[error("{block}: a block of this type has {} bytes", block.block_type.bytes())]
    Size {
        /// The block.
        block: Block,
    },
    /// It is not wholly inside of the space.
    #[error("{block} lies outside of the space, which has bytes {start} to {end}")]
    Outside {
        /// The block.
        block: Block,
        /// The first byte of the space.
        start: u64,
        /// The first byte after it.
        end: u64,
    },
    /// No block of the class can begin there.
    #[error("{block} is misaligned: blocks of its type begin at {start} plus multiples of {}", block.size)]
    Misaligned {
        /// The block.
        block: Block,
        /// The first byte of the space.
        start: u64,
    },
    /// No block of so small a class is handed out, because of the alignment.
    #[error("{block}: the alignment allows no blocks smaller than {least}")]
    TooSmall {
        /// The block.
        block: Block,
        /// The smallest class.
        least: BlockType,
    },
    /// It is free.
    #[error("{block} is not allocated: it was freed before, or never handed out")]
    NotAllocated {
        /// The block.
        block: Block,
    },
    /// What is allocated there is another block.
    #[error("{block} was not handed out: what is allocated there is the {actual}")]
    WrongType {
        /// The block.
        block: Block,
        /// The allocated one.
        actual: Block,
    },
    /// A list names it twice.
    #[error("{block} is named twice in one list")]
    Repeated {
        /// The block.
        block: Block,
    },
    /// It overlaps one that is allocated.
    #[error("{block} overlaps the {actual}, which is allocated")]
    Overlap {
        /// The block.
        block: Block,
        /// The allocated one.
        actual: Block,
    },
}
