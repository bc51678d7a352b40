//! Volumes change their size, and a pool grows with its device.

use std::rc::Rc;

use super::dataset::{Dataset, height_for};
use super::layout::BLOCK_BYTES;
use super::manage::check_size;
use super::mutant::Mutant;
use super::sync::Closed;
use super::volume::Volume;
use super::{Pool, PoolError};

impl Pool {
    /// Changes the size of a volume to `size_bytes`, a multiple of 4096. What lies behind a smaller
    /// size is gone. The change is atomic: the new size goes to the medium first, with a note of
    /// what lies behind it, and that is freed afterwards, also after a power cut.
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
        if Mutant::ShrinkInParts.is_on() && size_blocks < own.size_blocks.get() {
            self.clear_range(own, size_blocks, own.size_blocks.get(), false).await?;
        }
        let closed = self.begin_trimmed(own).await?;
        self.check_live(own)?;
        let old = own.size_blocks.get();
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
        if size_blocks < old && !Mutant::ShrinkForgetsTail.is_on() {
            own.tail.set(old);
        }
        own.touch();
        self.commit(&closed, true).await?;
        drop(closed);
        if let Err(error) = self.trim(own).await {
            // The size is what was asked for; what lies behind it is freed by the next change of
            // the volume that it is in the way of, or after the next import.
            tracing::error!(pool = self.name, %error, "what was cut off cannot be freed");
        }
        Ok(())
    }

    /// Begins a change of a volume of which nothing lies behind its size.
    pub(super) async fn begin_trimmed(
        self: &Rc<Self>,
        own: &Rc<Dataset>,
    ) -> Result<Closed<'_>, PoolError> {
        loop {
            self.trim(own).await?;
            let closed = self.begin_change().await?;
            // Who was deleted meanwhile is refused by the caller.
            if own.tail.get() == 0 || !own.is_live() {
                return Ok(closed);
            }
        }
    }

    /// Whether anything lies behind the size of any volume.
    pub(super) fn has_tails(&self) -> bool {
        self.datasets.borrow().values().any(|one| one.is_live() && one.tail.get() != 0)
    }

    /// Frees what lies behind the sizes of all volumes.
    pub(super) async fn trim_all(self: &Rc<Self>) -> Result<(), PoolError> {
        let datasets: Vec<_> = self.datasets.borrow().values().cloned().collect();
        for dataset in datasets {
            match self.trim(&dataset).await {
                // It was deleted meanwhile, with all that it had.
                Err(PoolError::NoSuchVolume { .. }) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Frees what lies behind the size of a volume, as an unmap does. The record says that it is
    /// done when the next checkpoint writes it; after a power cut before, it is done once more.
    async fn trim(self: &Rc<Self>, own: &Rc<Dataset>) -> Result<(), PoolError> {
        while own.is_live() && own.tail.get() != 0 {
            let (size, tail) = (own.size_blocks.get(), own.tail.get());
            self.clear_range(own, size, tail, true).await?;
            // Somebody else may have done the same, and made the volume smaller once more.
            if (size, tail) == (own.size_blocks.get(), own.tail.get()) {
                own.tail.set(0);
                own.touch();
            }
        }
        Ok(())
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
