//! The engine: reactors, memory and devices of one process.

use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "taken once, at the start")]
use std::sync::Mutex;

use spdk_rs::bdev::{Bdev, Registry};
use spdk_rs::drivers::nvme::NvmeDriver;
use spdk_rs::env::pci::PciFilter;
use spdk_rs::env::{Memory, MemoryOptions, cpu};
use spdk_rs::reactor::{Runtime, RuntimeError, RuntimeOptions};

use tokio::sync::mpsc::UnboundedReceiver;

use super::events::{DeviceMonitor, EventLog, Removal};
use super::over_bdev::Device;
use super::{BlockDevice, CoreError, HostIdentity};
use crate::pool::PoolManager;

/// What an engine is made of.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Memory for I/O buffers.
    pub memory: MemoryOptions,
    /// Cores and polling.
    pub runtime: RuntimeOptions,
    /// Which NVMe controllers of this machine may be used.
    pub pci: PciFilter,
}

/// A running engine. Dropping it ends the reactors.
pub struct Engine {
    runtime: Runtime,
    registry: Arc<Registry>,
    nvme: Arc<NvmeDriver>,
    pools: PoolManager,
    #[cfg(feature = "fault-injection")]
    faults: super::fault_injection::FaultInjections,
    host: HostIdentity,
    events: Arc<EventLog>,
    monitor: Arc<DeviceMonitor>,
    removals: Removals,
}

/// Devices that are to be removed; whoever removes them takes this once.
#[expect(clippy::disallowed_types, reason = "taken once, at the start")]
type Removals = Mutex<Option<UnboundedReceiver<Removal>>>;

impl Engine {
    /// Maps the memory and starts the reactors.
    ///
    /// # Errors
    /// [`CoreError::Memory`] or [`CoreError::Runtime`]; nothing is left running.
    pub fn start(options: &EngineOptions) -> Result<Arc<Self>, CoreError> {
        // Before the memory, which takes time and may not be had.
        cpu::check_cores(&options.runtime.cores).map_err(RuntimeError::Cores)?;
        let memory = Memory::new(&options.memory)?;
        let runtime = Runtime::start(&options.runtime, memory)?;
        let registry = Registry::new();
        let events = Arc::new(EventLog::default());
        let (monitor, removals) = DeviceMonitor::new(&events);
        let first = registry.set_monitor(Arc::<DeviceMonitor>::clone(&monitor));
        debug_assert!(first, "the registry is new");
        let nvme = NvmeDriver::new(&registry, runtime.reactors());
        let first = nvme.set_pci_filter(options.pci.clone());
        debug_assert!(first, "the driver is new");
        let pools = PoolManager::new(&registry, runtime.reactors());
        Ok(Arc::new(Self {
            #[cfg(feature = "fault-injection")]
            faults: super::fault_injection::FaultInjections::new(&registry, runtime.reactors()),
            runtime,
            registry,
            nvme,
            pools,
            host: HostIdentity::random(),
            events,
            monitor,
            removals: Some(removals).into(),
        }))
    }

    /// The reactors.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The memory for I/O buffers.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        self.runtime.memory()
    }

    /// The devices.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The attached NVMe controllers.
    #[must_use]
    pub fn nvme(&self) -> &Arc<NvmeDriver> {
        &self.nvme
    }

    /// The imported pools.
    #[must_use]
    pub fn pools(&self) -> &PoolManager {
        &self.pools
    }

    /// The faults that are injected.
    #[cfg(feature = "fault-injection")]
    #[must_use]
    pub fn faults(&self) -> &super::fault_injection::FaultInjections {
        &self.faults
    }

    /// Who the engine is to NVMe-oF targets unless told otherwise; another one at every start.
    #[must_use]
    pub fn host(&self) -> &HostIdentity {
        &self.host
    }

    /// What has happened to devices and pools.
    #[must_use]
    pub fn events(&self) -> &Arc<EventLog> {
        &self.events
    }

    /// How the devices do.
    #[must_use]
    pub fn monitor(&self) -> &Arc<DeviceMonitor> {
        &self.monitor
    }

    /// The devices that are to be removed because their I/O takes too long. To be taken once, by
    /// who removes them.
    #[must_use]
    pub fn take_removals(&self) -> Option<UnboundedReceiver<Removal>> {
        self.removals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// The device with a name, an alias or a UUID.
    ///
    /// # Errors
    /// [`CoreError::Registry`] when there is none.
    pub fn device_lookup(&self, name: &str) -> Result<Box<dyn BlockDevice>, CoreError> {
        Ok(Box::new(Device(self.registry.find(name)?)))
    }

    /// A device of the block device layer, seen through the trait.
    #[must_use]
    pub fn device(bdev: Arc<Bdev>) -> Box<dyn BlockDevice> {
        Box::new(Device(bdev))
    }
}
