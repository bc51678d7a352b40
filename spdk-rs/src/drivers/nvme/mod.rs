//! Namespaces of NVMe controllers as block devices.

mod api;

pub use api::{
    AttachOptions, ControllerInfo, ControllerState, DiscoveryInfo, IoPathInfo, MultipathMode,
    MultipathPolicy, NvmeError, PathInfo,
};

use std::sync::Arc;

use crate::bdev::Registry;
use crate::nvme::TransportId;
use crate::nvme::controller::Discovered;
use crate::reactor::ReactorHandle;

/// The controllers of an engine. Every method may be called from any thread that is no reactor.
pub struct NvmeDriver {
    registry: Arc<Registry>,
    reactors: Vec<ReactorHandle>,
}

impl NvmeDriver {
    /// A driver without controllers, over the devices and the reactors of an engine.
    #[must_use]
    pub fn new(registry: &Arc<Registry>, reactors: &[ReactorHandle]) -> Arc<Self> {
        Arc::new(Self { registry: Arc::clone(registry), reactors: reactors.to_vec() })
    }

    /// Attaches a controller, or a further path of one, and returns the names of its block devices.
    ///
    /// # Errors
    /// [`NvmeError`]; then nothing was attached.
    pub async fn attach(
        self: &Arc<Self>,
        name: &str,
        _trid: &TransportId,
        _options: &AttachOptions,
    ) -> Result<Vec<String>, NvmeError> {
        let _ = (&self.registry, &self.reactors);
        Err(NvmeError::NotFound { name: name.to_owned() })
    }

    /// Detaches one path of a controller, or all of them.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`], [`NvmeError::NoPath`].
    pub async fn detach(&self, name: &str, _path: Option<&TransportId>) -> Result<(), NvmeError> {
        Err(NvmeError::NotFound { name: name.to_owned() })
    }

    /// Resets a controller (each of its paths) and returns when it is connected again.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`], or [`NvmeError::Failed`] when a path did not come back.
    pub async fn reset(&self, name: &str, _cntlid: Option<u16>) -> Result<(), NvmeError> {
        Err(NvmeError::NotFound { name: name.to_owned() })
    }

    /// The attached controllers, or one of a name.
    #[must_use]
    pub fn controllers(&self, _name: Option<&str>) -> Vec<ControllerInfo> {
        Vec::new()
    }

    /// The paths of the block devices, or of one of a name.
    #[must_use]
    pub fn io_paths(&self, _bdev: Option<&str>) -> Vec<IoPathInfo> {
        Vec::new()
    }

    /// Sets which paths of a block device are used.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`].
    pub async fn set_policy(&self, bdev: &str, _: MultipathPolicy) -> Result<(), NvmeError> {
        Err(NvmeError::NotFound { name: bdev.to_owned() })
    }

    /// Asks a discovery controller once.
    ///
    /// # Errors
    /// [`NvmeError::Connect`].
    pub async fn discover(
        &self,
        trid: &TransportId,
        _: &AttachOptions,
    ) -> Result<Vec<Discovered>, NvmeError> {
        Err(NvmeError::Connect { trid: Box::new(trid.clone()), why: String::new() })
    }

    /// Follows a discovery controller: what it names is attached as `{name}0`, `{name}1`, …, what
    /// it names no more is detached. Returns after the first round.
    ///
    /// # Errors
    /// [`NvmeError`] when the discovery controller cannot be asked.
    pub async fn start_discovery(
        self: &Arc<Self>,
        name: &str,
        _trid: &TransportId,
        _: &AttachOptions,
    ) -> Result<(), NvmeError> {
        Err(NvmeError::NotFound { name: name.to_owned() })
    }

    /// Ends following; what it attached is detached.
    ///
    /// # Errors
    /// [`NvmeError::NotFound`].
    pub async fn stop_discovery(&self, name: &str) -> Result<(), NvmeError> {
        Err(NvmeError::NotFound { name: name.to_owned() })
    }

    /// The discovery services that are followed.
    #[must_use]
    pub fn discoveries(&self) -> Vec<DiscoveryInfo> {
        Vec::new()
    }
}
