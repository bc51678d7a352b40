//! Volumes change their size, and a pool grows with its device.

use std::rc::Rc;

use super::dataset::height_for;
use super::layout::BLOCK_BYTES;
use super::manage::check_size;
use super::volume::Volume;
use super::{Pool, PoolError};

impl Pool {
    /// Changes the size of a volume to `size_bytes`, a multiple of 4096. What lies behind a smaller
    /// size is gone.
    ///
    /// # Errors
    /// When it is a snapshot, or the size cannot be.
    pub async fn resize_volume(
        self: &Rc<Self>,
        volume: &Volume,
        size_bytes: u64,
    ) -> Result<(), PoolError> {
        let size_blocks = check_size(size_bytes)?;
        let own = volume.dataset();
        self.check_live(own)?;
        if own.snapshot {
            let problem = "a snapshot keeps its size".to_owned();
            return Err(PoolError::Refused { name: own.name.borrow().clone(), problem });
        }
        let old = own.size_blocks.get();
        if size_blocks < old {
            own.limit.set(size_blocks);
            if let Err(error) = self.clear_range(own, size_blocks, old).await {
                own.limit.set(old);
                return Err(error);
            }
        }
        let closed = self.begin_change().await?;
        self.check_live(own)?;
        if !own.thin.get() && size_blocks > old {
            let (available, needed) = (self.available_blocks(), size_blocks - old);
            if available < needed {
                return Err(PoolError::NoSpace { pool: self.name.clone(), available, needed });
            }
        }
        let height = height_for(size_blocks);
        if height > own.height.get() {
            if let Err(error) = self.write_trees().await {
                self.stop(format!("a change of size failed: {error}"));
                return Err(error);
            }
            self.trees.raise(own, height, self.journal.take_txn());
        }
        own.size_blocks.set(size_blocks);
        own.limit.set(size_blocks);
        own.touch();
        self.commit(&closed, true).await
    }

    /// Takes over what the device has grown by.
    ///
    /// # Errors
    /// When the device is not larger than the pool.
    pub async fn grow(&self) -> Result<u64, PoolError> {
        let closed = self.begin_change().await?;
        let from = self.geometry.get();
        let to = super::Geometry::new(self.device.blocks(), Some(from.journal_blocks))?;
        if to.total_blocks <= from.total_blocks {
            return Err(PoolError::Parameter {
                parameter: "device size",
                value: format!("{} blocks of 4 KiB", self.device.blocks()),
                allowed: format!("more than the pool has, {}", from.total_blocks),
            });
        }
        // Everything of the old sizes has to be on the medium first.
        self.commit(&closed, false).await?;
        if let Err(error) = self.space.grow(&self.device, to).await {
            self.stop(format!("growing failed: {error}"));
            return Err(error);
        }
        self.geometry.set(to);
        self.journal.set_geometry(to);
        self.commit(&closed, true).await?;
        Ok((to.total_blocks - from.total_blocks) * BLOCK_BYTES as u64)
    }
}
