//! From thin to thick.

use std::rc::Rc;

use super::layout::BLOCK_BYTES;
use super::{Pool, PoolError, Volume};

impl Pool {
    /// Keeps all the space of a volume for it from now on, until a snapshot is made of it.
    ///
    /// # Errors
    /// When it is a snapshot, or there is no room.
    pub async fn make_thick(self: &Rc<Self>, volume: &Volume) -> Result<(), PoolError> {
        let own = volume.dataset();
        let closed = self.begin_trimmed(own).await?;
        self.check_live(own)?;
        if own.snapshot {
            let problem = "a snapshot takes only the space that it has".to_owned();
            return Err(PoolError::Refused { name: own.name.borrow().clone(), problem });
        }
        if !own.thin.get() {
            return Ok(());
        }
        let needed = own.size_blocks.get().saturating_sub(own.mapped.get());
        let available = self.available_blocks();
        if available < needed {
            return Err(PoolError::NoSpace { pool: self.name.clone(), available, needed });
        }
        own.thin.set(false);
        own.touch();
        self.commit(&closed, true).await
    }

    /// Bytes of the pool: what of its device it uses.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.geometry.get().total_blocks * BLOCK_BYTES as u64
    }

    /// Bytes that volumes can still take.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        self.available_blocks() * BLOCK_BYTES as u64
    }

    /// Bytes of the journal.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.geometry.get().journal_blocks * BLOCK_BYTES as u64
    }
}
