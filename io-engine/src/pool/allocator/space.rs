//! The space that blocks are cut from, and where a block lies in it.

use super::{Block, BlockError, BlockType, SpaceError};

/// 4 KiB units in a chunk of 1 MiB.
pub(super) const CHUNK_UNITS: u32 = 256;

/// The largest end of a space: what fits a signed 64-bit number, as files and devices have it.
const END_MAX: u64 = i64::MAX.unsigned_abs();

/// The largest space: 256 TiB. A chunk's index then fits 28 bits, and what is kept for a space
/// that nothing was taken from fits memory.
const SIZE_MAX: u64 = 1 << 48;

/// A range of a device that blocks are handed out from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Where it begins, in bytes.
    pub base_offset: u64,
    /// Its size in bytes, a multiple of 4096 up to 256 TiB.
    pub size_bytes: u64,
    /// Every block begins at a multiple of this many bytes and has a multiple of it as its size:
    /// a power of two up to 1 MiB. Above 4096 the classes below it are not used.
    pub alignment: u64,
}

impl Space {
    /// A space from offset 0 with an alignment of 4096.
    #[must_use]
    pub const fn of_size(size_bytes: u64) -> Self {
        Self { base_offset: 0, size_bytes, alignment: BlockType::K4.bytes() }
    }
}

/// A space that was checked: chunks of 1 MiB from `start` on, the last one perhaps cut off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// The first byte of the first chunk.
    pub(super) start: u64,
    /// Bytes that blocks can be cut from.
    pub(super) capacity: u64,
    /// The smallest class that is handed out.
    pub(super) least: BlockType,
}

impl Layout {
    pub(super) fn new(space: Space) -> Result<Self, SpaceError> {
        let Space { base_offset, size_bytes, alignment } = space;
        if !alignment.is_power_of_two() || alignment > BlockType::M1.bytes() {
            return Err(SpaceError::Alignment { alignment });
        }
        if size_bytes == 0 || !size_bytes.is_multiple_of(BlockType::K4.bytes()) {
            return Err(SpaceError::Size { size_bytes });
        }
        if size_bytes > SIZE_MAX {
            return Err(SpaceError::TooLarge { size_bytes, size_max: SIZE_MAX });
        }
        let end = base_offset.checked_add(size_bytes).filter(|end| *end <= END_MAX);
        let Some(end) = end else {
            return Err(SpaceError::End { base_offset, size_bytes, end_max: END_MAX });
        };
        let least = BlockType::holding(alignment);
        let start = base_offset.next_multiple_of(alignment);
        let room = end.saturating_sub(start);
        let capacity = room - room % least.bytes();
        if capacity == 0 {
            let least_bytes = least.bytes();
            return Err(SpaceError::TooSmall {
                base_offset,
                size_bytes,
                alignment,
                start,
                least_bytes,
            });
        }
        Ok(Self { start, capacity, least })
    }

    /// The number of chunks, a cut-off one included.
    pub(super) fn chunks(&self) -> u64 {
        self.capacity.div_ceil(BlockType::M1.bytes())
    }

    /// The number of units in the last chunk when it is cut off.
    pub(super) fn tail_units(&self) -> Option<u32> {
        let bytes = self.capacity % BlockType::M1.bytes();
        u32::try_from(bytes / BlockType::K4.bytes()).ok().filter(|units| *units != 0)
    }

    /// The block of a class that begins with a unit of a chunk.
    pub(super) fn block(&self, chunk: u64, unit: u32, class: BlockType) -> Block {
        Block::new(self.start + self.relative(chunk, unit), class)
    }

    /// The offset of a unit of a chunk, from the first chunk on.
    pub(super) fn relative(&self, chunk: u64, unit: u32) -> u64 {
        (chunk << BlockType::M1.shift()) + (u64::from(unit) << BlockType::K4.shift())
    }

    /// The chunk and unit of an offset from the first chunk on.
    pub(super) fn place(relative: u64) -> (u64, u32) {
        let unit = (relative >> BlockType::K4.shift()) % u64::from(CHUNK_UNITS);
        (relative >> BlockType::M1.shift(), u32::try_from(unit).unwrap_or(0))
    }

    /// The offset of a block from the first chunk on, if a block of its class can be there.
    pub(super) fn check(&self, block: &Block) -> Result<u64, BlockError> {
        let (block, start) = (*block, self.start);
        let bytes = block.block_type.bytes();
        if block.size != bytes {
            return Err(BlockError::Size { block });
        }
        let end = start + self.capacity;
        let inside = block.offset.checked_add(bytes).is_some_and(|last| last <= end);
        if !inside || block.offset < start {
            return Err(BlockError::Outside { block, start, end });
        }
        let relative = block.offset - start;
        if !relative.is_multiple_of(bytes) {
            return Err(BlockError::Misaligned { block, start });
        }
        if block.block_type < self.least {
            return Err(BlockError::TooSmall { block, least: self.least });
        }
        Ok(relative)
    }
}
