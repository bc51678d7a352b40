//! A pool that is imported, as seen from any thread.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "management plane only")]
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;
use spdk_rs::bdev::{Bdev, BdevDesc};
use spdk_rs::env::cpu::CoreId;
use spdk_rs::reactor::ReactorHandle;
use uuid::Uuid;

use super::super::bdev::{Facts, Home};
use super::super::{Pool, PoolError, ScrubState};
use super::ManagerError;

/// The device below a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Its name.
    pub device: String,
    /// What it was named by: a URI, or the name of a device.
    pub disk: String,
    /// Whether it was made for the pool, and goes with it.
    pub owned: bool,
}

/// A pool in listings.
#[derive(Clone, Debug, Serialize)]
pub struct PoolSummary {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: Uuid,
    /// The device below.
    pub base_bdev: String,
    /// What the device below was named by.
    pub disk: String,
    /// The core on which the pool lives.
    pub core: u32,
    /// How blocks are digested.
    pub digest: &'static str,
    /// Bytes of the pool.
    pub size_bytes: u64,
    /// Bytes that are in use by nobody.
    pub free_bytes: u64,
    /// Bytes that volumes can still take: without what is kept for thick volumes and checkpoints.
    pub available_bytes: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Bytes of one write, and of one atomic change, at the most.
    pub write_bytes_max: u64,
    /// Why no changes are taken; nothing while they are.
    pub read_only: Option<String>,
    /// Volumes.
    pub volumes: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// How far the scrub is.
    pub scrub: ScrubState,
}

/// The device of a volume.
#[derive(Clone)]
pub(super) struct VolumeDevice {
    /// The volume's key on its home.
    pub(super) key: u64,
    pub(super) bdev: Arc<Bdev>,
    pub(super) facts: Facts,
}

/// Devices of volumes, by UUID.
#[derive(Default)]
pub(super) struct Devices {
    pub(super) open: BTreeMap<Uuid, VolumeDevice>,
    /// Volumes whose devices were removed by their users.
    pub(super) closed: BTreeSet<Uuid>,
}

impl Devices {
    /// Whether a volume has a device, or is to have none.
    pub(super) fn has(&self, uuid: Uuid) -> bool {
        self.open.contains_key(&uuid) || self.closed.contains(&uuid)
    }
}

/// A pool that is imported. Everything of it lives on its home, a reactor.
#[expect(clippy::disallowed_types, reason = "see the import")]
pub struct Imported {
    pub(super) key: u64,
    pub(super) name: String,
    pub(super) uuid: Uuid,
    pub(super) base: Base,
    pub(super) home: ReactorHandle,
    pub(super) write_blocks_max: u64,
    pub(super) read_only: bool,
    pub(super) cache_bytes: u64,
    /// The claim on the device below.
    pub(super) desc: Mutex<Option<Arc<BdevDesc>>>,
    pub(super) devices: Mutex<Devices>,
    /// Held by changes of volumes, and by the export.
    pub(super) changing: futures::lock::Mutex<()>,
}

impl Imported {
    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pool's UUID.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The device below.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Whether it was imported to be read only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Bytes of clean nodes in memory at the most.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.cache_bytes
    }

    /// The core on which the pool lives.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.home.core()
    }

    /// Runs something on the pool's home.
    ///
    /// # Errors
    /// What it returns, or that the pool is gone.
    pub async fn call<R, F>(&self, f: F) -> Result<R, ManagerError>
    where
        R: Send + 'static,
        F: AsyncFnOnce(Rc<Pool>) -> Result<R, PoolError> + Send + 'static,
    {
        let key = self.key;
        let told = self.home.spawn(move |reactor| async move {
            let pool = Home::of(&reactor).pool(key);
            drop(reactor);
            match pool {
                Some(pool) => Some(f(pool).await),
                None => None,
            }
        });
        match told.await? {
            Some(result) => Ok(result?),
            None => Err(ManagerError::NoSuchPool {
                name: self.name.clone(),
                imported: "others; this one was exported meanwhile".to_owned(),
            }),
        }
    }

    /// The pool as listings show it.
    ///
    /// # Errors
    /// When the pool is gone.
    pub async fn summary(&self) -> Result<PoolSummary, ManagerError> {
        let (base, core) = (self.base.clone(), self.core().0);
        self.call(async move |pool| {
            let volumes = pool.volumes();
            let snapshots = volumes.iter().filter(|one| one.snapshot).count();
            Ok(PoolSummary {
                name: pool.name().to_owned(),
                uuid: pool.uuid(),
                base_bdev: base.device,
                disk: base.disk,
                core,
                digest: pool.digest_kind().name(),
                size_bytes: pool.size_bytes(),
                free_bytes: pool.remaining_bytes(),
                available_bytes: pool.available_bytes(),
                journal_bytes: pool.journal_bytes(),
                write_bytes_max: pool.write_blocks_max() * super::super::layout::BLOCK_BYTES as u64,
                read_only: pool.is_read_only(),
                volumes: volumes.len() - snapshots,
                snapshots,
                scrub: pool.scrub_status().state,
            })
        })
        .await
    }

    /// Refuses when any device of a volume is open.
    pub(super) fn check_unused(&self) -> Result<(), ManagerError> {
        let open: Vec<Arc<Bdev>> =
            self.lock_devices().open.values().map(|one| Arc::clone(&one.bdev)).collect();
        open.iter().try_for_each(|bdev| check_closed(bdev))
    }

    pub(super) fn lock_devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Gives the device below back.
    pub(super) fn release(&self) {
        let desc = self.desc.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(desc) = desc {
            desc.unclaim();
        }
    }
}

/// Refuses a device that somebody has open.
pub(super) fn check_closed(bdev: &Bdev) -> Result<(), ManagerError> {
    let mut users = bdev.openers();
    if users.is_empty() {
        return Ok(());
    }
    users.sort_unstable();
    users.dedup();
    Err(ManagerError::InUse { device: bdev.name().to_owned(), users: users.join(", ") })
}
