//! The block API for threads that wait.

use std::sync::Arc;

use spdk_rs::env::DmaBuf;
use spdk_rs::reactor::Reactor;

use super::{BlockApiError, BlockStore, CreateOptions};
use crate::core::Engine;
use crate::pool::allocator::Block;

/// A store whose I/O is waited for. What does no I/O is on the store itself.
///
/// Every method refuses to run on a reactor, which would wait for itself. A thread that runs
/// futures of its own stands still meanwhile.
#[derive(Clone, Debug)]
pub struct Blocking(Arc<BlockStore>);

impl Blocking {
    /// The store, for a thread that waits.
    #[must_use]
    pub fn new(store: Arc<BlockStore>) -> Self {
        Self(store)
    }

    /// As [`BlockStore::create`].
    ///
    /// # Errors
    /// As there, and [`BlockApiError::WrongThread`] on a reactor.
    pub fn create(engine: &Engine, options: &CreateOptions) -> Result<Self, BlockApiError> {
        wait(BlockStore::create(engine, options)).map(Self)
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<BlockStore> {
        &self.0
    }

    /// As [`BlockStore::allocate_blocks`].
    ///
    /// # Errors
    /// As there, and [`BlockApiError::WrongThread`] on a reactor.
    pub fn allocate_blocks(&self, size: u64) -> Result<Vec<Block>, BlockApiError> {
        wait(self.0.allocate_blocks(size))
    }

    /// As [`BlockStore::free_blocks`].
    ///
    /// # Errors
    /// As there, and [`BlockApiError::WrongThread`] on a reactor.
    pub fn free_blocks(&self, blocks: &[Block]) -> Result<(), BlockApiError> {
        wait(self.0.free_blocks(blocks))
    }

    /// As [`BlockStore::flush`].
    ///
    /// # Errors
    /// As there, and [`BlockApiError::WrongThread`] on a reactor.
    pub fn flush(&self) -> Result<(), BlockApiError> {
        wait(self.0.flush())
    }

    /// As [`BlockStore::write`].
    ///
    /// # Errors
    /// As there, and [`BlockApiError::WrongThread`] on a reactor.
    pub fn write(&self, block: &Block, offset: u64, data: DmaBuf) -> Result<DmaBuf, BlockApiError> {
        wait(self.0.write(block, offset, data))
    }

    /// As [`BlockStore::read`].
    ///
    /// # Errors
    /// As there, and [`BlockApiError::WrongThread`] on a reactor.
    pub fn read(&self, block: &Block, offset: u64, buf: DmaBuf) -> Result<DmaBuf, BlockApiError> {
        wait(self.0.read(block, offset, buf))
    }

    /// As [`BlockStore::close`].
    ///
    /// # Errors
    /// As there, and [`BlockApiError::WrongThread`] on a reactor.
    pub fn close(&self, engine: &Engine) -> Result<(), BlockApiError> {
        wait(self.0.close(engine))
    }
}

fn wait<T>(work: impl Future<Output = Result<T, BlockApiError>>) -> Result<T, BlockApiError> {
    if Reactor::current().is_some() {
        return Err(BlockApiError::WrongThread("a reactor cannot wait; use a BlockHandle"));
    }
    futures::executor::block_on(work)
}
