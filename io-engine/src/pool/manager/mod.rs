//! Which pools are imported, and on which reactors they live.
//!
//! Invariants:
//!
//! * The name and the UUID of an imported pool are its own; a copy of it is refused before anything
//!   is written to it.
//! * While a pool is imported, its device is claimed, and nobody else writes to it.
//! * Each volume and snapshot has a block device, unless that was removed by name.
//! * Changes of one pool's volumes happen one after the other.

mod devices;
mod error;
mod imported;
mod volumes;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
#[expect(clippy::disallowed_types, reason = "management plane only")]
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use spdk_rs::bdev::{
    BdevDesc, ClaimKind, DeviceEvent, EventListener, IoHandle, OpenMode, Registry,
};
use spdk_rs::reactor::{ReactorHandle, sleep};
use uuid::Uuid;

use super::bdev::Home;
use super::{ImportOptions, Pool, PoolError, PoolLabel, PoolOptions};
pub use error::ManagerError;
pub use imported::{Base, Imported, PoolSummary};

/// What SPDK's listings call a cluster: the pool's largest class of blocks.
pub const CLUSTER_BYTES: u64 = 1 << 20;
/// How long an export waits for tasks of the pool to end.
const END_PAUSE: Duration = Duration::from_millis(1);
const END_PAUSES_MAX: usize = 10_000;

/// How a pool is imported.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// The name that it has to have; any when none.
    pub name: Option<String>,
    /// The pool's part.
    pub options: ImportOptions,
}

/// How a pool ended.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The device below, which is free now.
    pub base: Base,
    /// Why nothing could be written any more; none for a pool that was closed in good order, or
    /// that was imported to be read only.
    pub stopped: Option<String>,
}

/// What is done with a device to have its pool.
enum Opening {
    Create(PoolOptions),
    Import(ImportOptions),
}

/// What is known of a pool that was opened.
struct Opened {
    name: String,
    uuid: Uuid,
    write_blocks_max: u64,
}

/// The imported pools of an engine.
#[expect(clippy::disallowed_types, reason = "see the import")]
pub struct PoolManager {
    registry: Arc<Registry>,
    reactors: Vec<ReactorHandle>,
    /// In the order in which they were imported: a pool on a volume comes after the volume's pool.
    pools: Mutex<Vec<Arc<Imported>>>,
    /// One import or export at a time.
    moving: futures::lock::Mutex<()>,
    next_key: AtomicU64,
}

impl PoolManager {
    /// A manager of pools on the given reactors.
    #[must_use]
    pub fn new(registry: &Arc<Registry>, reactors: &[ReactorHandle]) -> Self {
        Self {
            registry: Arc::clone(registry),
            reactors: reactors.to_vec(),
            pools: Default::default(),
            moving: futures::lock::Mutex::new(()),
            next_key: AtomicU64::new(1),
        }
    }

    /// All pools, in the order in which they were imported.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Imported>> {
        self.lock().clone()
    }

    /// The pool with a name or UUID.
    ///
    /// # Errors
    /// [`ManagerError::NoSuchPool`].
    pub fn find(&self, name: &str) -> Result<Arc<Imported>, ManagerError> {
        let uuid = Uuid::parse_str(name).ok();
        let pools = self.lock();
        let found = pools.iter().find(|one| one.name == name || Some(one.uuid) == uuid);
        found.cloned().ok_or_else(|| {
            let names: Vec<&str> = pools.iter().map(|pool| pool.name.as_str()).collect();
            let imported = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            ManagerError::NoSuchPool { name: name.to_owned(), imported }
        })
    }

    /// Makes a pool on a device and imports it.
    ///
    /// # Errors
    /// When the name or UUID is taken, the device is in use or holds a pool, or fails.
    pub async fn create(
        &self,
        base: Base,
        options: PoolOptions,
    ) -> Result<Arc<Imported>, ManagerError> {
        let _moving = self.moving.lock().await;
        self.check_name(&options.name)?;
        if let Some(uuid) = options.uuid {
            self.check_uuid(&base.device, uuid)?;
        }
        let owner = format!("pool '{}'", options.name);
        self.open(base, &owner, Opening::Create(options)).await
    }

    /// Imports the pool of a device.
    ///
    /// # Errors
    /// When there is none, it is another one or a copy of one that is imported, or it is damaged.
    pub async fn import(
        &self,
        base: Base,
        request: ImportRequest,
    ) -> Result<Arc<Imported>, ManagerError> {
        let _moving = self.moving.lock().await;
        let label = self.label(&base.device).await?;
        if let Some(wanted) = request.name.filter(|wanted| *wanted != label.name) {
            let (device, found, uuid) = (base.device, label.name, label.uuid);
            return Err(ManagerError::OtherPool { device, found, uuid, wanted });
        }
        self.check_uuid(&base.device, label.uuid)?;
        self.check_name(&label.name)?;
        let owner = format!("pool '{}'", label.name);
        self.open(base, &owner, Opening::Import(request.options)).await
    }

    /// Which pool a device holds. Nothing is written.
    ///
    /// # Errors
    /// When there is no such device, or no pool on it.
    pub async fn label(&self, device: &str) -> Result<PoolLabel, ManagerError> {
        let bdev = self.registry.find(device)?;
        let desc = BdevDesc::open(&bdev, OpenMode::Read, "a look for a pool", None)?;
        let home = self.home()?;
        let looked = home.spawn(move |_| async move { Ok(Pool::label(handle(&desc)?).await?) });
        looked.await?
    }

    fn check_name(&self, name: &str) -> Result<(), ManagerError> {
        match self.lock().iter().find(|pool| pool.name == name) {
            None => Ok(()),
            Some(other) => {
                let (name, device) = (name.to_owned(), other.base.device.clone());
                Err(ManagerError::NameTaken { name, device })
            }
        }
    }

    fn check_uuid(&self, device: &str, uuid: Uuid) -> Result<(), ManagerError> {
        match self.lock().iter().find(|pool| pool.uuid == uuid) {
            None => Ok(()),
            Some(other) if other.base.device == device => {
                let (name, device) = (other.name.clone(), device.to_owned());
                Err(ManagerError::Already { name, device })
            }
            Some(other) => Err(ManagerError::Copy {
                device: device.to_owned(),
                name: other.name.clone(),
                uuid,
                other: other.base.device.clone(),
            }),
        }
    }

    /// The reactor with the fewest pools.
    fn home(&self) -> Result<ReactorHandle, ManagerError> {
        let pools = self.lock();
        let count = |reactor: &&ReactorHandle| {
            pools.iter().filter(|pool| pool.home.core() == reactor.core()).count()
        };
        self.reactors.iter().min_by_key(count).cloned().ok_or(ManagerError::NoReactor)
    }

    async fn open(
        &self,
        base: Base,
        owner: &str,
        opening: Opening,
    ) -> Result<Arc<Imported>, ManagerError> {
        let (home, key) = (self.home()?, self.next_key.fetch_add(1, Ordering::Relaxed));
        let read_only = matches!(&opening, Opening::Import(options) if options.read_only);
        let cache_bytes = match &opening {
            Opening::Create(options) => options.cache_bytes,
            Opening::Import(options) => options.cache_bytes,
        };
        let (mode, claim) = if read_only {
            (OpenMode::Read, ClaimKind::ReadOnly)
        } else {
            (OpenMode::ReadWrite, ClaimKind::ExclusiveWrite)
        };
        let bdev = self.registry.find(&base.device)?;
        bdev.refuse_zoned("a pool").map_err(|words| ManagerError::Zoned { words })?;
        let desc = BdevDesc::open(&bdev, mode, owner, Some(removal_listener(&home, key)))?;
        desc.claim(claim)?;
        let own = Arc::clone(&desc);
        let opened = home.spawn(move |reactor| async move {
            let device = handle(&own)?;
            let pool = match opening {
                Opening::Create(options) => Pool::create(device, &options).await?,
                Opening::Import(options) => Pool::import(device, &options).await?,
            };
            let opened = Opened {
                name: pool.name().to_owned(),
                uuid: pool.uuid(),
                write_blocks_max: pool.write_blocks_max(),
            };
            Home::of(&reactor).add_pool(key, pool);
            Ok::<_, ManagerError>(opened)
        });
        let opened = opened.await??;
        let pool = Arc::new(Imported {
            key,
            name: opened.name,
            uuid: opened.uuid,
            base,
            home,
            write_blocks_max: opened.write_blocks_max,
            read_only,
            cache_bytes,
            desc: Some(desc).into(),
            devices: Default::default(),
            changing: futures::lock::Mutex::new(()),
        });
        if let Err(error) = self.follow(&pool).await {
            self.close(&pool).await?;
            return Err(error);
        }
        tracing::info!(
            pool = pool.name,
            device = pool.base.device,
            core = pool.core().0,
            "the pool is imported"
        );
        self.lock().push(Arc::clone(&pool));
        Ok(pool)
    }

    /// Closes a pool in good order: everything is on the medium, and its devices are gone. Unless
    /// `forced`, it is refused while a volume is open.
    ///
    /// # Errors
    /// When a volume is open, or the device fails; in the latter case the pool is gone all the same.
    pub async fn export(&self, name: &str, forced: bool) -> Result<Exported, ManagerError> {
        let _moving = self.moving.lock().await;
        let pool = self.find(name)?;
        let _changing = pool.changing.lock().await;
        if !forced {
            pool.check_unused()?;
        }
        let closed = self.close(&pool).await;
        self.lock().retain(|other| other.key != pool.key);
        let stopped = closed?;
        tracing::info!(pool = pool.name, stopped, "the pool is exported");
        Ok(Exported { base: pool.base.clone(), stopped })
    }

    /// Ends a pool for ever: its device holds no pool afterwards. Refused while a volume is open.
    ///
    /// # Errors
    /// When a volume is open, or the device fails.
    pub async fn destroy(&self, name: &str) -> Result<Base, ManagerError> {
        let pool = self.find(name)?;
        if pool.read_only {
            let problem = "it was imported to be read only".to_owned();
            return Err(PoolError::Refused { name: pool.name.clone(), problem }.into());
        }
        let Exported { base, .. } = self.export(name, false).await?;
        let _moving = self.moving.lock().await;
        let bdev = self.registry.find(&base.device)?;
        let owner = format!("the end of pool '{}'", pool.name);
        let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, &owner, None)?;
        desc.claim(ClaimKind::ExclusiveWrite)?;
        let wiped = pool.home.spawn(move |_| async move {
            Ok::<_, ManagerError>(Pool::wipe(handle(&desc)?).await?)
        });
        wiped.await??;
        Ok(base)
    }

    /// Removes the devices of a pool, exports it, and gives its device back.
    async fn close(&self, pool: &Imported) -> Result<Option<String>, ManagerError> {
        let volumes: Vec<Uuid> = pool.lock_devices().open.keys().copied().collect();
        for uuid in volumes {
            self.remove_device(pool, uuid).await;
        }
        let key = pool.key;
        let closed = pool.home.spawn(move |reactor| async move {
            let Some(own) = Home::of(&reactor).remove_pool(key) else { return Ok(None) };
            let stopped = own.is_read_only();
            let result = match &stopped {
                Some(_) => {
                    own.close_quietly();
                    Ok(())
                }
                None => own.export().await,
            };
            // Tasks of the pool that see only now that it has ended.
            for _ in 0..END_PAUSES_MAX {
                if Rc::strong_count(&own) == 1 {
                    break;
                }
                sleep(END_PAUSE).await;
            }
            result.map(|()| stopped)
        });
        let closed = closed.await;
        pool.release();
        let stopped = closed??;
        Ok(stopped.filter(|_| !pool.read_only))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Imported>>> {
        self.pools.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A handle of a device on the reactor of this thread.
fn handle(desc: &Arc<BdevDesc>) -> Result<IoHandle, ManagerError> {
    desc.io_handle().map_err(|source| {
        let device = desc.bdev().name().to_owned();
        ManagerError::Open { device, source }
    })
}

/// Stops a pool when its device is removed.
fn removal_listener(home: &ReactorHandle, key: u64) -> EventListener {
    let home = home.clone();
    Arc::new(move |bdev, event| {
        if *event != DeviceEvent::Removed {
            return;
        }
        let reason = format!("its device '{}' was removed", bdev.name());
        // Should the mailbox be full, the pool stops at its next I/O, with that one's error.
        let told = home.try_send(move |reactor| {
            if let Some(pool) = Home::of(reactor).pool(key) {
                pool.stop(reason);
            }
        });
        if told.is_err() {
            tracing::warn!("device '{}' is gone; its pool learns of it by errors", bdev.name());
        }
    })
}
