//! Namespaces of NVMe controllers as block devices.
//!
//! A name stands for the paths to one subsystem, each a controller with its admin queue on one
//! reactor (its home) and an I/O queue on every reactor that uses it. A namespace is one block
//! device, `{name}n{nsid}`, however many paths lead to it.
//!
//! Invariants:
//! * an I/O is in one place: at a queue pair, waiting in its channel, or ended; when a connection is
//!   lost, its commands end before it is reported lost;
//! * a command that may have been executed is sent again only if doing it twice is doing it once;
//! * paths, states and namespaces change on the control plane; the channels of each core take them
//!   over by message, so that an I/O takes no lock;
//! * FLUSH is sent whenever the controller has a volatile cache.

mod admin;
mod api;
mod attach;
mod channel;
mod choose;
mod command;
mod controller;
mod core;
mod discovery;
mod disk;
mod driver;
mod formats;
mod forward;
mod fused;
mod guests;
mod head;
mod home;
mod inject;
mod manage;
mod passthrough;
mod paths;
mod queue;
mod retry;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use spdk_rs_sys::pci::PciFilter;

pub use api::{
    AttachOptions, ControllerInfo, ControllerState, DiscoveryInfo, IoPathInfo, MultipathMode,
    MultipathPolicy, NvmeError, PathInfo,
};
pub use disk::NvmeDisk;
pub use manage::{Firmware, Format, FormatChoice, Sanitize, SecureErase};
pub use passthrough::{Outcome, Passed, Transfer};

use crate::bdev::Registry;
use crate::nvme::TransportId;
use crate::nvme::controller::Discovered;
use crate::reactor::ReactorHandle;

/// The controllers of an engine. Its methods may be called from any thread; those that wait do not
/// block a reactor.
pub struct NvmeDriver {
    shared: Arc<driver::Shared>,
    /// One path is attached or detached at a time.
    turn: futures::lock::Mutex<()>,
    /// One discovery service is started or stopped at a time.
    discovery_turn: futures::lock::Mutex<()>,
}

impl NvmeDriver {
    /// A driver without controllers, over the devices and the reactors of an engine.
    #[must_use]
    pub fn new(registry: &Arc<Registry>, reactors: &[ReactorHandle]) -> Arc<Self> {
        let shared = driver::Shared::new(registry, reactors);
        Arc::new(Self { shared, turn: Default::default(), discovery_turn: Default::default() })
    }

    /// Sets which controllers of this machine may be attached, once: the first filter stays, and
    /// false is answered to any other. Without one, all may.
    pub fn set_pci_filter(&self, filter: PciFilter) -> bool {
        self.shared.filter.set(filter).is_ok()
    }

    /// Which controllers of this machine may be attached.
    #[must_use]
    pub fn pci_filter(&self) -> PciFilter {
        self.shared.filter.get().cloned().unwrap_or_default()
    }

    /// Attaches a controller, or a further path of one, and returns the names of the block devices
    /// that it leads to. Dropped before it has an outcome, the controller is detached.
    ///
    /// # Errors
    /// [`NvmeError`]; then nothing was attached.
    pub async fn attach(
        &self,
        name: &str,
        trid: &TransportId,
        options: &AttachOptions,
    ) -> Result<Vec<String>, NvmeError> {
        let _turn = self.turn.lock().await;
        self.attach_path(name, trid, options).await
    }

    /// Detaches one path of a controller, or all of them. Block devices without another path go;
    /// their I/O has a second to end.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`], [`NvmeError::NoPath`].
    pub async fn detach(&self, name: &str, path: Option<&TransportId>) -> Result<(), NvmeError> {
        // Whoever attaches has the turn, and may wait for ever.
        let mut given_up = false;
        for controller in self.find(name, path)?.into_iter().filter(|c| c.is_attaching()) {
            home::stop(&controller).await;
            given_up = true;
        }
        let _turn = self.turn.lock().await;
        let found = match self.find(name, path) {
            // What was given up is gone already.
            Err(NvmeError::NotFound { .. } | NvmeError::NoPath { .. }) if given_up => Vec::new(),
            found => found?,
        };
        for controller in found {
            self.shared.detach(&controller).await;
        }
        Ok(())
    }

    /// Resets a controller (all its paths, or the one with a controller identifier) and returns
    /// when it is connected again.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`], [`NvmeError::NoPath`], or [`NvmeError::Failed`] when a path was
    /// given up.
    pub async fn reset(&self, name: &str, cntlid: Option<u16>) -> Result<(), NvmeError> {
        for controller in self.find_by_id(name, cntlid)? {
            home::reset(&controller).await.map_err(|why| NvmeError::Failed {
                what: "reset",
                name: name.to_owned(),
                why,
            })?;
        }
        Ok(())
    }

    /// The attached controllers, or the one of a name.
    #[must_use]
    pub fn controllers(&self, name: Option<&str>) -> Vec<ControllerInfo> {
        self.shared.infos(name)
    }

    /// The paths of the block devices, or of the one of a name.
    #[must_use]
    pub fn io_paths(&self, bdev: Option<&str>) -> Vec<IoPathInfo> {
        let heads = self.shared.heads();
        let wanted = heads.iter().filter(|head| bdev.is_none_or(|name| name == head.name));
        wanted.flat_map(|head| head.path_infos()).collect()
    }

    /// Sets which paths of a block device are used.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`].
    pub async fn set_policy(&self, bdev: &str, policy: MultipathPolicy) -> Result<(), NvmeError> {
        let head = self.shared.heads().into_iter().find(|head| head.name == bdev);
        let head = head.ok_or_else(|| NvmeError::NotFound { name: bdev.to_owned() })?;
        head.set_policy(policy);
        self.shared.refresh(&head).await;
        Ok(())
    }

    /// Asks a discovery controller once.
    ///
    /// # Errors
    /// [`NvmeError::Connect`].
    pub async fn discover(
        &self,
        trid: &TransportId,
        options: &AttachOptions,
    ) -> Result<Vec<Discovered>, NvmeError> {
        let controller = self.connect_discovery("discovery", trid, options).await?;
        let read = discovery::read_log(&controller).await;
        home::stop(&controller).await;
        read.map_err(|why| NvmeError::Connect { trid: Box::new(trid.clone()), why })
    }

    /// Follows a discovery controller: what it names is attached as `{name}0`, `{name}1`, …, what
    /// it names no more is detached. Returns after the first round.
    ///
    /// # Errors
    /// [`NvmeError`] when the discovery controller cannot be asked, or when nothing of what it
    /// names can be attached.
    pub async fn start_discovery(
        self: &Arc<Self>,
        name: &str,
        trid: &TransportId,
        options: &AttachOptions,
    ) -> Result<(), NvmeError> {
        let _turn = self.discovery_turn.lock().await;
        self.follow(name, trid, options).await
    }

    /// Ends following; what it attached is detached.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`].
    pub async fn stop_discovery(&self, name: &str) -> Result<(), NvmeError> {
        let _turn = self.discovery_turn.lock().await;
        self.unfollow(name).await
    }

    /// The discovery services that are followed.
    #[must_use]
    pub fn discoveries(&self) -> Vec<DiscoveryInfo> {
        discovery::infos(&self.shared)
    }
}
