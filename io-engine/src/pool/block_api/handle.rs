//! A store as one reactor uses it.

use std::cell::RefCell;
use std::sync::Arc;

use spdk_rs::bdev::IoType;
use spdk_rs::env::DmaBuf;

use super::{BlockApiError, BlockStore};
use crate::core::BlockDeviceHandle;
use crate::pool::allocator::{Block, Blocks, Magazine};

/// A store for the reactor that made the handle: it does the I/O itself, and has blocks of the
/// common sizes at hand. Stays on that thread.
pub struct BlockHandle {
    store: Arc<BlockStore>,
    core: usize,
    io: Box<dyn BlockDeviceHandle>,
    magazine: RefCell<Magazine>,
}

impl BlockHandle {
    pub(super) fn new(store: Arc<BlockStore>, core: usize, io: Box<dyn BlockDeviceHandle>) -> Self {
        let magazine = RefCell::new(Magazine::new(store.allocator()));
        Self { store, core, io, magazine }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<BlockStore> {
        &self.store
    }

    /// As [`BlockStore::allocate_blocks`], from this core's magazine.
    ///
    /// # Errors
    /// [`BlockApiError::Alloc`], and [`BlockApiError::Recorded`] on a volume of a pool; then nothing
    /// was allocated.
    pub fn allocate_blocks(&self, size: u64) -> Result<Blocks, BlockApiError> {
        self.store.check_volatile()?;
        Ok(self.magazine.borrow_mut().allocate(size)?)
    }

    /// As [`BlockStore::free_blocks`], into this core's magazine.
    ///
    /// # Errors
    /// [`BlockApiError::Block`], and [`BlockApiError::Recorded`] on a volume of a pool.
    pub fn free_blocks(&self, blocks: &[Block]) -> Result<(), BlockApiError> {
        self.store.check_volatile()?;
        Ok(self.magazine.borrow_mut().free(blocks)?)
    }

    /// Gives this core's free blocks back for others.
    pub fn drain(&self) {
        self.magazine.borrow_mut().drain();
    }

    /// As [`BlockStore::write`], from this reactor.
    ///
    /// # Errors
    /// As [`BlockStore::write`].
    pub async fn write(
        &self,
        block: &Block,
        offset: u64,
        data: DmaBuf,
    ) -> Result<DmaBuf, BlockApiError> {
        let transfer = self.store.transfer(IoType::Write, block, offset, &data)?;
        self.store.perform(self.core, &*self.io, transfer, data).await
    }

    /// As [`BlockStore::read`], from this reactor.
    ///
    /// # Errors
    /// As [`BlockStore::read`].
    pub async fn read(
        &self,
        block: &Block,
        offset: u64,
        buf: DmaBuf,
    ) -> Result<DmaBuf, BlockApiError> {
        let transfer = self.store.transfer(IoType::Read, block, offset, &buf)?;
        self.store.perform(self.core, &*self.io, transfer, buf).await
    }
}
