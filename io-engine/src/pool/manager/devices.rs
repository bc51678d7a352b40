//! Devices follow their volumes: after each change the registered devices are compared with what
//! the pool has.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use uuid::Uuid;

use super::super::bdev::{self, Facts, Home, Place};
use super::super::{PoolError, VolumeInfo};
use super::imported::{Imported, VolumeDevice, check_closed};
use super::{ManagerError, PoolManager};

impl PoolManager {
    /// Makes the devices of a pool what its volumes are.
    pub(super) async fn follow(&self, pool: &Imported) -> Result<(), ManagerError> {
        let volumes = pool.call(async |pool| Ok(pool.volumes())).await?;
        let known: Vec<(Uuid, VolumeDevice)> =
            pool.lock_devices().open.iter().map(|(uuid, one)| (*uuid, one.clone())).collect();
        for (uuid, device) in known {
            let volume = volumes.iter().find(|volume| volume.uuid == uuid);
            if let Some(volume) = volume.filter(|volume| fits(pool, volume, &device)) {
                let blocks = volume.size_bytes / u64::from(volume.block_len);
                device.bdev.resize(blocks).await;
                device.facts.set(facts(pool, volume));
            } else {
                self.remove_device(pool, uuid).await;
            }
        }
        for volume in &volumes {
            if !pool.lock_devices().has(volume.uuid) {
                self.add_device(pool, volume).await?;
            }
        }
        Ok(())
    }

    async fn add_device(&self, pool: &Imported, volume: &VolumeInfo) -> Result<(), ManagerError> {
        let key = self.next_key.fetch_add(1, Ordering::Relaxed);
        let known = Facts::default();
        known.set(facts(pool, volume));
        let place = Place {
            home: pool.home.clone(),
            key,
            pool: pool.name.clone(),
            write_blocks_max: pool.write_blocks_max,
            read_only: pool.read_only,
        };
        let bdev = bdev::device(volume, place, known.clone());
        // The volume is there before anybody can find its device.
        let (pool_key, name) = (pool.key, volume.uuid.to_string());
        let found = pool
            .home
            .call(move |reactor| {
                let home = Home::of(reactor);
                let volume = home.pool(pool_key).and_then(|pool| pool.volume(&name));
                let found = volume.is_some();
                if let Some(volume) = volume {
                    home.add_volume(key, volume);
                }
                found
            })
            .await?;
        if !found {
            let (pool, name) = (pool.name.clone(), volume.name.clone());
            return Err(PoolError::NoSuchVolume { pool, name }.into());
        }
        if let Err(error) = self.registry.register(&bdev) {
            pool.home.call(move |reactor| Home::of(reactor).remove_volume(key)).await?;
            return Err(error.into());
        }
        let device = VolumeDevice { key, bdev, facts: known };
        pool.lock_devices().open.insert(volume.uuid, device);
        Ok(())
    }

    /// Removes the device of a volume; its I/O has ended when this returns.
    pub(super) async fn remove_device(&self, pool: &Imported, uuid: Uuid) {
        let Some(device) = pool.lock_devices().open.remove(&uuid) else { return };
        // Somebody else may have unregistered it, and another one may have its name by now.
        let same = |other: Arc<spdk_rs::bdev::Bdev>| Arc::ptr_eq(&other, &device.bdev);
        if self.registry.find(device.bdev.name()).is_ok_and(same) {
            let removed = self.registry.unregister(device.bdev.name()).await;
            if let Err(error) = removed {
                tracing::debug!("volume device: {error}");
            }
        }
        let key = device.key;
        // A reactor that has ended has no volumes.
        let _ = pool.home.call(move |reactor| Home::of(reactor).remove_volume(key)).await;
    }

    /// Removes the device of a volume, which stays in its pool; [`PoolManager::open_volume`] brings
    /// it back.
    ///
    /// # Errors
    /// When there is no such volume.
    pub async fn close_volume(&self, name: &str) -> Result<(), ManagerError> {
        let (pool, volume) = self.locate(name).await?;
        let _changing = pool.changing.lock().await;
        pool.lock_devices().closed.insert(volume.uuid);
        self.remove_device(&pool, volume.uuid).await;
        Ok(())
    }

    /// Makes sure that a volume has a device; returns its name.
    ///
    /// # Errors
    /// When there is no such volume, or the device's name is taken.
    pub async fn open_volume(&self, name: &str) -> Result<String, ManagerError> {
        let (pool, volume) = self.locate(name).await?;
        let _changing = pool.changing.lock().await;
        pool.lock_devices().closed.remove(&volume.uuid);
        self.follow(&pool).await?;
        Ok(format!("{}/{}", pool.name, volume.name))
    }

    /// Refuses when the device of a volume is open.
    pub(super) fn check_volume_closed(
        &self,
        pool: &Imported,
        volume: &VolumeInfo,
    ) -> Result<(), ManagerError> {
        let device = pool.lock_devices().open.get(&volume.uuid).cloned();
        device.map_or(Ok(()), |device| check_closed(&device.bdev))
    }
}

/// Whether a device is what the volume's device has to be, but for its size.
fn fits(pool: &Imported, volume: &VolumeInfo, device: &VolumeDevice) -> bool {
    let info = device.bdev.info();
    !device.bdev.is_removed()
        && info.name == format!("{}/{}", pool.name, volume.name)
        && info.read_only == (volume.read_only || pool.read_only)
}

/// SPDK's facts of a logical volume, and the pool's name.
fn facts(pool: &Imported, volume: &VolumeInfo) -> serde_json::Value {
    let mut shown = json!({
        "lvol_store_uuid": pool.uuid,
        "base_bdev": pool.base.device,
        "pool": pool.name,
        "thin_provision": volume.thin,
        "num_allocated_clusters": volume.mapped_bytes / super::CLUSTER_BYTES,
        "snapshot": volume.snapshot,
        "clone": volume.parent.is_some() && !volume.snapshot,
        "esnap_clone": false,
    });
    if let Some(members) = shown.as_object_mut() {
        if let Some(parent) = volume.parent.as_ref().filter(|_| !volume.snapshot) {
            members.insert("base_snapshot".to_owned(), parent.as_str().into());
        }
        if volume.snapshot && !volume.children.is_empty() {
            members.insert("clones".to_owned(), volume.children.clone().into());
        }
    }
    json!({ "lvol": shown })
}
