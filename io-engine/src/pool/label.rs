//! What a device says of its pool without the pool being opened, and the end of a pool.

use serde::Serialize;
use spdk_rs::bdev::IoHandle;
use uuid::Uuid;

use super::device::Device;
use super::layout::Geometry;
use super::open::find_superblock;
use super::{Pool, PoolError};

/// Which pool a device holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolLabel {
    /// The pool's name.
    pub name: String,
    /// The pool's UUID.
    pub uuid: Uuid,
    /// Whether it was exported in good order; if not, an import replays its journal.
    pub clean: bool,
}

impl Pool {
    /// Which pool a device holds. Nothing is written.
    ///
    /// # Errors
    /// When there is none, or none that can be read.
    pub async fn label(device: IoHandle) -> Result<PoolLabel, PoolError> {
        let superblock = find_superblock(&Device::new(device)?).await?;
        let (name, uuid, clean) = (superblock.name, superblock.uuid, superblock.clean);
        Ok(PoolLabel { name, uuid, clean })
    }

    /// Makes a device hold no pool any more: superblocks and journal are overwritten with zeroes. It
    /// must not be imported. The data of its volumes stay where they are, but nothing leads to them.
    ///
    /// # Errors
    /// When there is no pool, or the device fails.
    pub async fn wipe(device: IoHandle) -> Result<(), PoolError> {
        let device = Device::new(device)?;
        let found = find_superblock(&device).await?.geometry;
        // A pool of the same UUID may be made here again: no old record may pass for one of its.
        device.zero(found.journal_start(), found.journal_blocks).await?;
        // A pool that grew has left superblocks where its device ended before.
        let total_blocks = Geometry::total_of(device.blocks());
        for geometry in [found, Geometry { total_blocks, ..found }] {
            for place in geometry.superblocks() {
                device.zero(place, 1).await?;
            }
        }
        let status = device.flush().await;
        status.ok().map_err(|status| PoolError::device("flush", 0, status))
    }
}
