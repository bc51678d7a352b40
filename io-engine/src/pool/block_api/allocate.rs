//! Allocating and freeing, with a record of it or without.

use std::sync::Arc;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoType;

use super::record::Medium;
use super::{BlockApiError, BlockStore};
use crate::pool::allocator::Block;

impl BlockStore {
    /// Whether what is allocated is recorded on the device, so that it is known again when the store
    /// is created anew.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.record.is_some()
    }

    /// Allocates at least `size` bytes: below 1 MiB one block, from there on blocks of 1 MiB. On a
    /// volume of a pool it is on the medium when this returns, with all that was written before.
    ///
    /// # Errors
    /// [`BlockApiError::Alloc`]; then nothing was allocated. On a volume also
    /// [`BlockApiError::Record`] and [`BlockApiError::Damaged`].
    pub async fn allocate_blocks(self: &Arc<Self>, size: u64) -> Result<Vec<Block>, BlockApiError> {
        let Some(record) = &self.record else {
            return Ok(self.allocator.allocate(size)?.into_vec());
        };
        let _lock = record.lock.lock().await;
        let medium = self.medium().await?;
        let blocks = self.allocator.allocate(size)?;
        if let Err(error) = record.note(&medium, &blocks, true).await {
            // Nobody has them yet.
            self.allocator.free(&blocks)?;
            return Err(error);
        }
        Ok(blocks.into_vec())
    }

    /// Gives blocks back: all of them or, when one is refused, none. What was written to them stays on
    /// the device until it is overwritten; a volume of a pool reads as zeroes there from then on.
    ///
    /// # Errors
    /// [`BlockApiError::Block`]. On a volume also [`BlockApiError::Record`] and
    /// [`BlockApiError::Damaged`].
    pub async fn free_blocks(self: &Arc<Self>, blocks: &[Block]) -> Result<(), BlockApiError> {
        let Some(record) = &self.record else {
            return Ok(self.allocator.free(blocks)?);
        };
        let _lock = record.lock.lock().await;
        let medium = self.medium().await?;
        self.allocator.check_all(blocks)?;
        let mut noted = record.note(&medium, blocks, false).await;
        let full = |error: &BlockApiError| {
            matches!(error, BlockApiError::Record { status, .. }
                if *status == NvmeStatus::CAPACITY_EXCEEDED)
        };
        let retry = noted.as_ref().is_err_and(full);
        if retry || noted.is_ok() {
            // What is freed has no content any more, so that a full pool may have its space first.
            self.give_back(&medium, blocks).await;
        }
        if retry {
            noted = record.note(&medium, blocks, false).await;
        }
        noted?;
        Ok(self.allocator.free(blocks)?)
    }

    /// Gives the space of blocks back to the pool.
    async fn give_back(&self, medium: &Medium, blocks: &[Block]) {
        for block in blocks {
            // That space is not given back is only a waste.
            if let Err(error) = medium.io(IoType::Unmap, block.offset, block.size, None).await {
                tracing::warn!(device = self.name(), %error, "freed blocks keep their space");
            }
        }
    }

    /// The allocated blocks from byte `offset` of the device on, in order of their offsets, at most
    /// `count`.
    #[must_use]
    pub fn allocated(&self, offset: u64, count: usize) -> Vec<Block> {
        let mut found = Vec::new();
        self.allocator.for_each_allocated(|block| {
            if block.offset >= offset && found.len() < count {
                found.push(block);
            }
        });
        found
    }

    /// Brings everything that was written before to the medium.
    ///
    /// # Errors
    /// [`BlockApiError`].
    pub async fn flush(self: &Arc<Self>) -> Result<(), BlockApiError> {
        let medium = self.medium().await?;
        let bytes = self.device.num_blocks() * self.block_len();
        medium.io(IoType::Flush, 0, bytes, None).await.map(drop)
    }

    /// Refuses what leaves no record where there has to be one.
    pub(super) fn check_volatile(&self) -> Result<(), BlockApiError> {
        match &self.record {
            Some(_) => Err(BlockApiError::Recorded { device: self.name().to_owned() }),
            None => Ok(()),
        }
    }
}
