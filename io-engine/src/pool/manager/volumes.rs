//! Volumes, snapshots and clones of imported pools.

use std::rc::Rc;
use std::sync::Arc;

use uuid::Uuid;

use super::super::{Pool, PoolError, Volume, VolumeInfo, VolumeOptions};
use super::imported::Imported;
use super::{ManagerError, PoolManager};

impl PoolManager {
    /// The volume or snapshot with a name (`POOL/VOLUME`) or UUID.
    ///
    /// # Errors
    /// When there is none.
    pub async fn locate(&self, name: &str) -> Result<(Arc<Imported>, VolumeInfo), ManagerError> {
        let uuid = Uuid::parse_str(name).ok();
        // The name of a pool has no slash, and neither has that of a volume.
        let (pool_name, volume_name) = name.split_once('/').unwrap_or(("", ""));
        for pool in self.all() {
            let by_name = pool.name == pool_name;
            if !by_name && uuid.is_none() {
                continue;
            }
            let volumes = pool.call(async |pool| Ok(pool.volumes())).await?;
            let found = volumes
                .into_iter()
                .find(|one| Some(one.uuid) == uuid || (by_name && one.name == volume_name));
            if let Some(volume) = found {
                return Ok((pool, volume));
            }
        }
        Err(ManagerError::NoSuchVolume { name: name.to_owned() })
    }

    /// Makes a volume and its device; returns the device's name.
    ///
    /// # Errors
    /// When the pool refuses, or the device's name is taken: then there is no volume either.
    pub async fn create_volume(
        &self,
        pool: &str,
        name: &str,
        size_bytes: u64,
        options: VolumeOptions,
    ) -> Result<VolumeInfo, ManagerError> {
        let pool = self.find(pool)?;
        let own = name.to_owned();
        self.made(&pool, name, async move |pool| {
            pool.create_volume(&own, size_bytes, &options).await.map(drop)
        })
        .await
    }

    /// Makes a snapshot of a volume in the same pool, and its device.
    ///
    /// # Errors
    /// As [`PoolManager::create_volume`].
    pub async fn snapshot(&self, volume: &str, name: &str) -> Result<VolumeInfo, ManagerError> {
        let (pool, volume) = self.locate(volume).await?;
        let own = name.to_owned();
        self.made(&pool, name, async move |pool| {
            let volume = live(&pool, volume.uuid)?;
            pool.snapshot(&volume, &own).await.map(drop)
        })
        .await
    }

    /// Makes a volume that begins as a snapshot, and its device.
    ///
    /// # Errors
    /// As [`PoolManager::create_volume`].
    pub async fn clone_volume(
        &self,
        snapshot: &str,
        name: &str,
    ) -> Result<VolumeInfo, ManagerError> {
        let (pool, snapshot) = self.locate(snapshot).await?;
        let own = name.to_owned();
        self.made(&pool, name, async move |pool| {
            let snapshot = live(&pool, snapshot.uuid)?;
            pool.clone_volume(&snapshot, &own).await.map(drop)
        })
        .await
    }

    /// Makes something new and its device, both or none.
    async fn made<F>(
        &self,
        pool: &Imported,
        name: &str,
        make: F,
    ) -> Result<VolumeInfo, ManagerError>
    where
        F: AsyncFnOnce(Rc<Pool>) -> Result<(), PoolError> + Send + 'static,
    {
        let _changing = pool.changing.lock().await;
        let device = format!("{}/{name}", pool.name);
        self.registry.check_free(&device, None)?;
        pool.call(make).await?;
        let own = name.to_owned();
        if let Err(error) = self.follow(pool).await {
            // The name or UUID was taken meanwhile.
            pool.call(async move |pool| pool.delete_volume(&own).await).await?;
            return Err(error);
        }
        let volumes = pool.call(async |pool| Ok(pool.volumes())).await?;
        let found = volumes.into_iter().find(|volume| volume.name == name);
        found.ok_or(ManagerError::NoSuchVolume { name: device })
    }

    /// Deletes a volume or snapshot that nobody has open.
    ///
    /// # Errors
    /// When there is none, it is open, or the pool refuses.
    pub async fn delete_volume(&self, name: &str) -> Result<(), ManagerError> {
        let (pool, volume) = self.locate(name).await?;
        let _changing = pool.changing.lock().await;
        self.check_volume_closed(&pool, &volume)?;
        self.remove_device(&pool, volume.uuid).await;
        let own = volume.uuid.to_string();
        let deleted = pool.call(async move |pool| pool.delete_volume(&own).await).await;
        // What could not be deleted has its device back; others have other parents now.
        self.follow(&pool).await?;
        deleted
    }

    /// Gives a volume or snapshot that nobody has open another name.
    ///
    /// # Errors
    /// When there is none, it is open, or the name cannot be.
    pub async fn rename_volume(&self, name: &str, new: &str) -> Result<(), ManagerError> {
        let (pool, volume) = self.locate(name).await?;
        let _changing = pool.changing.lock().await;
        self.check_volume_closed(&pool, &volume)?;
        self.registry.check_free(&format!("{}/{new}", pool.name), None)?;
        let new = new.to_owned();
        self.changed(&pool, volume.uuid, async move |pool, volume| {
            pool.rename_volume(&volume, &new).await
        })
        .await
    }

    /// Changes the size of a volume. A volume that somebody has open does not shrink.
    ///
    /// # Errors
    /// When there is none, it is a snapshot, or the size cannot be.
    pub async fn resize_volume(&self, name: &str, size_bytes: u64) -> Result<(), ManagerError> {
        let (pool, volume) = self.locate(name).await?;
        let _changing = pool.changing.lock().await;
        if size_bytes < volume.size_bytes {
            self.check_volume_closed(&pool, &volume)?;
        }
        self.changed(&pool, volume.uuid, async move |pool, volume| {
            pool.resize_volume(&volume, size_bytes).await
        })
        .await
    }

    /// Lets hosts write a volume that nobody has open, or not.
    ///
    /// # Errors
    /// When there is none, it is open, or it is a snapshot.
    pub async fn set_read_only(&self, name: &str, on: bool) -> Result<(), ManagerError> {
        let (pool, volume) = self.locate(name).await?;
        let _changing = pool.changing.lock().await;
        if volume.read_only != on {
            self.check_volume_closed(&pool, &volume)?;
        }
        self.changed(&pool, volume.uuid, async move |pool, volume| {
            pool.set_read_only(&volume, on).await
        })
        .await
    }

    /// Makes a clone independent of its snapshot. With `thick`, all of its space is kept for it
    /// from then on.
    ///
    /// # Errors
    /// When there is none, it is a snapshot, or there is no room.
    pub async fn decouple(&self, name: &str, thick: bool) -> Result<(), ManagerError> {
        let (pool, volume) = self.locate(name).await?;
        let _changing = pool.changing.lock().await;
        self.changed(&pool, volume.uuid, async move |pool, volume| {
            pool.decouple(&volume).await?;
            if thick { pool.make_thick(&volume).await } else { Ok(()) }
        })
        .await
    }

    /// Changes a volume; its device follows, also after a failure.
    async fn changed<F>(&self, pool: &Imported, uuid: Uuid, change: F) -> Result<(), ManagerError>
    where
        F: AsyncFnOnce(Rc<Pool>, Rc<Volume>) -> Result<(), PoolError> + Send + 'static,
    {
        let result = pool
            .call(async move |pool| {
                let volume = live(&pool, uuid)?;
                change(pool, volume).await
            })
            .await;
        self.follow(pool).await?;
        result
    }
}

fn live(pool: &Rc<Pool>, uuid: Uuid) -> Result<Rc<Volume>, PoolError> {
    let missing = || {
        let (pool, name) = (pool.name().to_owned(), uuid.to_string());
        PoolError::NoSuchVolume { pool, name }
    };
    pool.volume(&uuid.to_string()).ok_or_else(missing)
}
