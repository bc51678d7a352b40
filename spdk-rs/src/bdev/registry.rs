//! The block devices of an engine, by name, alias and UUID.

use std::collections::BTreeMap;
#[expect(clippy::disallowed_types, reason = "creation, look-up and removal are control plane")]
use std::sync::Mutex;
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use uuid::Uuid;

use super::{Bdev, DeviceEvent};

/// Why a device cannot be registered or found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RegistryError {
    /// A name or alias is taken.
    #[error("the name '{name}' is taken by device '{by}'; choose another name")]
    NameTaken {
        /// The name or alias.
        name: String,
        /// Who has it.
        by: String,
    },
    /// The UUID is taken.
    #[error("the UUID {uuid} is taken by device '{by}'; choose another one")]
    UuidTaken {
        /// The UUID.
        uuid: Uuid,
        /// Who has it.
        by: String,
    },
    /// An empty name.
    #[error("a device needs a name")]
    NoName,
    /// There is no such device.
    #[error("there is no device '{name}'")]
    NotFound {
        /// What was asked for.
        name: String,
    },
}

/// The registered devices.
#[derive(Default)]
pub struct Registry {
    devices: Devices,
    /// The names, in the order in which they were registered.
    order: Order,
    monitor: OnceLock<Arc<dyn DeviceMonitor>>,
}

/// Is told of every device of a registry, on whatever thread causes it. Must not block, nor use the
/// registry.
pub trait DeviceMonitor: Send + Sync {
    /// A device was registered.
    fn added(&self, bdev: &Arc<Bdev>);
    /// Something happened to a registered device; its removal is the last of it.
    fn event(&self, bdev: &Bdev, event: &DeviceEvent);
}

#[expect(clippy::disallowed_types, reason = "see the import")]
type Devices = Mutex<BTreeMap<String, Arc<Bdev>>>;
#[expect(clippy::disallowed_types, reason = "see the import")]
type Order = Mutex<Vec<String>>;

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Has `monitor` told of every device that is registered from now on. A registry has one; false
    /// when it has one already.
    pub fn set_monitor(&self, monitor: Arc<dyn DeviceMonitor>) -> bool {
        self.monitor.set(monitor).is_ok()
    }

    /// Adds a device; its name, aliases and UUID are its own from now on.
    ///
    /// # Errors
    /// [`RegistryError`] when one of them is taken; then nothing was added.
    pub fn register(&self, bdev: &Arc<Bdev>) -> Result<(), RegistryError> {
        let mut devices = self.lock();
        let info = bdev.info();
        for name in std::iter::once(&info.name).chain(&info.aliases) {
            check_free(&devices, name, Some(info.uuid))?;
        }
        devices.insert(info.name.clone(), Arc::clone(bdev));
        self.order().push(info.name.clone());
        // Under the lock, so that nobody removes the device before the monitor knows it.
        if let Some(monitor) = self.monitor.get() {
            let own = Arc::clone(monitor);
            bdev.listen(Arc::new(move |bdev, event| own.event(bdev, event)));
            monitor.added(bdev);
        }
        Ok(())
    }

    /// Whether a device of that name and UUID could be registered now.
    ///
    /// # Errors
    /// [`RegistryError`] when not.
    pub fn check_free(&self, name: &str, uuid: Option<Uuid>) -> Result<(), RegistryError> {
        check_free(&self.lock(), name, uuid)
    }

    /// The device with a name, an alias or a UUID.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`].
    pub fn find(&self, name: &str) -> Result<Arc<Bdev>, RegistryError> {
        find(&self.lock(), name).ok_or_else(|| RegistryError::NotFound { name: name.to_owned() })
    }

    /// Every device, in order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Bdev>> {
        self.lock().values().cloned().collect()
    }

    /// Every device, in the order in which they were registered: a device comes after those that
    /// it stands on.
    #[must_use]
    pub fn all_in_order(&self) -> Vec<Arc<Bdev>> {
        let devices = self.lock();
        self.order().iter().filter_map(|name| devices.get(name).cloned()).collect()
    }

    /// Removes a device: its name is free at once, its listeners are told, and when this returns
    /// no I/O is in flight. Handles that are still open fail from now on.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`].
    pub async fn unregister(&self, name: &str) -> Result<Arc<Bdev>, RegistryError> {
        let bdev = {
            let mut devices = self.lock();
            let found = find(&devices, name);
            let bdev = found.ok_or_else(|| RegistryError::NotFound { name: name.to_owned() })?;
            devices.remove(bdev.name());
            self.order().retain(|name| name != bdev.name());
            bdev
        };
        bdev.remove().await;
        Ok(bdev)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Bdev>>> {
        self.devices.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Taken while the devices are locked, never the other way round.
    fn order(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.order.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn check_free(
    devices: &BTreeMap<String, Arc<Bdev>>,
    name: &str,
    uuid: Option<Uuid>,
) -> Result<(), RegistryError> {
    if name.is_empty() {
        return Err(RegistryError::NoName);
    }
    if let Some(by) = find(devices, name) {
        let (name, by) = (name.to_owned(), by.name().to_owned());
        return Err(RegistryError::NameTaken { name, by });
    }
    let same = |other: &&Arc<Bdev>| Some(other.info().uuid) == uuid;
    match (devices.values().find(same), uuid) {
        (Some(by), Some(uuid)) => Err(RegistryError::UuidTaken { uuid, by: by.name().to_owned() }),
        _ => Ok(()),
    }
}

fn find(devices: &BTreeMap<String, Arc<Bdev>>, name: &str) -> Option<Arc<Bdev>> {
    if let Some(bdev) = devices.get(name) {
        return Some(Arc::clone(bdev));
    }
    let uuid = Uuid::parse_str(name).ok();
    let matches = |bdev: &&Arc<Bdev>| {
        bdev.info().aliases.iter().any(|alias| alias == name) || uuid == Some(bdev.info().uuid)
    };
    devices.values().find(matches).cloned()
}
