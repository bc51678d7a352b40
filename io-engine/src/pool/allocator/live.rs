//! Which blocks of a class are in somebody's hands.

use super::SpaceError;
use super::sync::{AtomicU8, Ordering, zeroes};

const FREE: u8 = 0;
const LIVE: u8 = 1;

/// A byte per block of one class, set while the block is handed out.
///
/// Handing out is a plain store: nobody else has business with the byte of a free block. Taking
/// back is one exchange that tells what the byte was, so of two that free the same block at the
/// same time exactly one succeeds, and the other one has changed nothing. With a bit per block
/// both would be atomic read-modify-writes of what neighbours use, at twice the cost; the pages of
/// bytes that are never used do not exist.
///
/// The bytes of 64 blocks share a cache line, and magazines are filled with 64 neighbours, so that
/// cores seldom meet in one. Nothing else is published through them: a block moves from core to
/// core through the lock of the depot, or through whatever its owners use. So their order is
/// relaxed.
#[derive(Debug)]
pub(super) struct Live {
    blocks: Box<[AtomicU8]>,
}

impl Live {
    /// Bytes for so many blocks.
    pub(super) fn new(count: u64) -> Result<Self, SpaceError> {
        let blocks = usize::try_from(count).ok().and_then(zeroes);
        Ok(Self { blocks: blocks.ok_or(SpaceError::Memory { bytes: count })? })
    }

    /// The byte of a block; `None` for a number that no block has.
    #[inline(always)]
    fn block(&self, number: u64) -> Option<&AtomicU8> {
        self.blocks.get(usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// Marks a free block as handed out.
    #[inline(always)]
    pub(super) fn set(&self, number: u64) {
        if let Some(block) = self.block(number) {
            debug_assert_eq!(block.load(Ordering::Relaxed), FREE, "a free block has no owner");
            block.store(LIVE, Ordering::Relaxed);
        }
    }

    /// Whether a block is handed out.
    #[inline(always)]
    pub(super) fn is_set(&self, number: u64) -> bool {
        self.block(number).is_some_and(|block| block.load(Ordering::Relaxed) == LIVE)
    }

    /// Marks a block as free; whether it was handed out.
    #[inline(always)]
    pub(super) fn clear(&self, number: u64) -> bool {
        self.block(number).is_some_and(|block| block.swap(FREE, Ordering::Relaxed) == LIVE)
    }
}
