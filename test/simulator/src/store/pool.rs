//! The pool of io-engine behind the simulator's traits.

use std::rc::Rc;

use async_trait::async_trait;
use io_engine::pool::{
    self, DigestKind, ImportOptions, Pool, PoolError, PoolOptions, VolumeOptions,
};
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoHandle;
use spdk_rs::env::DmaBuf;
use uuid::Uuid;

use super::{Cause, Part, Store, StoreError, StoreKind, StoreOptions, StoreResult, Volume};
use crate::device::BLOCK_BYTES;

/// Bytes of clean nodes in memory: so few that nodes are read again.
const CACHE_BYTES: u64 = 32 << 10;

/// The pool.
pub struct PoolKind;

/// The one there is.
pub static POOL: PoolKind = PoolKind;

impl From<PoolError> for StoreError {
    fn from(error: PoolError) -> Self {
        let cause = match error {
            PoolError::NoSpace { .. } => Cause::NoSpace,
            PoolError::Refused { .. }
            | PoolError::Taken { .. }
            | PoolError::NoSuchVolume { .. }
            | PoolError::Parameter { .. } => Cause::Refused,
            _ => Cause::Device,
        };
        Self::new(cause, error.to_string())
    }
}

#[async_trait(?Send)]
impl StoreKind for PoolKind {
    fn name(&self) -> &str {
        "pool"
    }

    fn can_be_filled(&self) -> bool {
        true
    }

    async fn create(&self, device: IoHandle, options: &StoreOptions) -> StoreResult<Rc<dyn Store>> {
        let digest = match options.seed % 3 {
            0 => DigestKind::Sha256,
            1 => DigestKind::Blake3,
            _ => DigestKind::Crc32c,
        };
        let options = PoolOptions {
            name: "simulated".to_owned(),
            uuid: Some(Uuid::from_u64_pair(0x7001_7001_7001_4001, options.seed)),
            digest,
            journal_bytes: Some(options.journal_blocks * BLOCK_BYTES as u64),
            cache_bytes: CACHE_BYTES,
            ..PoolOptions::default()
        };
        Ok(Rc::new(Open(Pool::create(device, &options).await?)))
    }

    async fn import(&self, device: IoHandle) -> StoreResult<Rc<dyn Store>> {
        let options = ImportOptions { cache_bytes: CACHE_BYTES, ..ImportOptions::default() };
        Ok(Rc::new(Open(Pool::import(device, &options).await?)))
    }
}

/// An open pool.
struct Open(Rc<Pool>);

impl Open {
    fn find(&self, name: &str) -> StoreResult<Rc<pool::Volume>> {
        let none = || StoreError::new(Cause::Refused, format!("{name} is not there"));
        self.0.volume(name).ok_or_else(none)
    }
}

#[async_trait(?Send)]
impl Store for Open {
    async fn create_volume(&self, name: &str, blocks: u64, thin: bool) -> StoreResult {
        // What is random must not be in a run that repeats; what a name meant before has its own.
        let mut number = 0;
        loop {
            let text = format!("{name} {number}");
            let uuid = Some(Uuid::new_v5(&self.0.uuid(), text.as_bytes()));
            let options = VolumeOptions { thin, uuid, ..VolumeOptions::default() };
            match self.0.create_volume(name, blocks * BLOCK_BYTES as u64, &options).await {
                Err(PoolError::Taken { what: "the UUID", .. }) => number += 1,
                result => return result.map(drop).map_err(StoreError::from),
            }
        }
    }

    fn volume(&self, name: &str) -> Option<Rc<dyn Volume>> {
        let volume: Rc<dyn Volume> = Rc::new(OpenVolume(self.0.volume(name)?));
        Some(volume)
    }

    async fn delete_volume(&self, name: &str) -> StoreResult {
        Ok(self.0.delete_volume(name).await?)
    }

    async fn snapshot(&self, volume: &str, snapshot: &str) -> StoreResult {
        self.0.snapshot(&*self.find(volume)?, snapshot).await?;
        Ok(())
    }

    async fn clone_volume(&self, snapshot: &str, volume: &str) -> StoreResult {
        self.0.clone_volume(&*self.find(snapshot)?, volume).await?;
        Ok(())
    }

    async fn resize_volume(&self, name: &str, blocks: u64) -> StoreResult {
        Ok(self.0.resize_volume(&*self.find(name)?, blocks * BLOCK_BYTES as u64).await?)
    }

    async fn rename_volume(&self, from: &str, to: &str) -> StoreResult {
        Ok(self.0.rename_volume(&*self.find(from)?, to).await?)
    }

    async fn decouple(&self, name: &str) -> StoreResult {
        Ok(self.0.decouple(&*self.find(name)?).await?)
    }

    async fn checkpoint(&self) -> StoreResult {
        Ok(self.0.checkpoint().await?)
    }

    async fn reclaimed(&self) -> StoreResult {
        Ok(self.0.reclaimed().await?)
    }

    async fn export(&self) -> StoreResult {
        Ok(self.0.export().await?)
    }

    async fn check(&self) -> Vec<String> {
        let report = self.0.check().await;
        if report.is_clean() {
            return Vec::new();
        }
        let more = format!("{} errors in all", report.error_count);
        report.errors.into_iter().chain([more]).collect()
    }

    fn remaining_bytes(&self) -> u64 {
        self.0.remaining_bytes()
    }

    fn read_only(&self) -> Option<String> {
        self.0.is_read_only()
    }
}

/// An open volume of the pool.
struct OpenVolume(Rc<pool::Volume>);

#[async_trait(?Send)]
impl Volume for OpenVolume {
    fn blocks(&self) -> u64 {
        self.0.size_blocks()
    }

    async fn read(&self, offset: u64, buf: DmaBuf) -> (NvmeStatus, DmaBuf) {
        self.0.read(offset, buf).await
    }

    async fn write(&self, offset: u64, buf: DmaBuf, fua: bool) -> NvmeStatus {
        self.0.write(offset, buf, fua).await.0
    }

    async fn transaction(&self, parts: Vec<Part>, fua: bool) -> NvmeStatus {
        self.0.transaction(parts, fua).await
    }

    async fn write_zeroes(&self, offset: u64, blocks: u64, fua: bool) -> NvmeStatus {
        self.0.write_zeroes(offset, blocks, fua).await
    }

    async fn unmap(&self, offset: u64, blocks: u64) -> NvmeStatus {
        self.0.unmap(offset, blocks).await
    }

    async fn flush(&self) -> NvmeStatus {
        self.0.flush().await
    }
}
