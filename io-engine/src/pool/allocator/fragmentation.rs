//! How free space is cut up.

use super::{AllocError, BlockType};

/// What is free, by the largest class it is free in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fragmentation {
    /// The number of free blocks by class, see [`BlockType::index`]: a free 1 MiB counts as one
    /// block of 1 MiB and as nothing else.
    pub free_blocks: [u64; BlockType::COUNT],
    /// Bytes that are free, those in magazines included.
    pub free_bytes: u64,
    /// Bytes of them that wait in per-core magazines.
    pub cached_bytes: u64,
    /// The largest class of which a block can be had; `None` when there is none.
    pub largest: Option<BlockType>,
    /// The share of the free bytes that is not in free chunks of 1 MiB, from 0 to 1.
    pub split_share: f64,
}

impl Fragmentation {
    pub(super) fn new(free_blocks: [u64; BlockType::COUNT], cached_bytes: u64) -> Self {
        let bytes = |class: BlockType| class.bytes() * free_blocks[class.index()];
        let free_bytes = BlockType::ALL.into_iter().map(bytes).sum::<u64>() + cached_bytes;
        let largest = BlockType::ALL.into_iter().rfind(|class| free_blocks[class.index()] != 0);
        let split = free_bytes - bytes(BlockType::M1);
        let split_share = if free_bytes == 0 { 0.0 } else { split as f64 / free_bytes as f64 };
        Self { free_blocks, free_bytes, cached_bytes, largest, split_share }
    }

    pub(super) fn no_space(&self, size_bytes: u64, block_type: BlockType) -> AllocError {
        AllocError::NoSpace {
            size_bytes,
            block_type,
            remaining_bytes: self.free_bytes,
            largest_bytes: self.largest.map_or(0, BlockType::bytes),
            cached_bytes: self.cached_bytes,
        }
    }
}
