//! What the driver is asked for, and what it tells.

use spdk_rs_sys::pci::PciError;
use thiserror::Error;

use crate::NvmeStatus;
use crate::bdev::RegistryError;
use crate::nvme::controller::{ControllerOptions, Discovered, OptionsError};
use crate::nvme::{TransportId, TransportIdError};

/// What a second path to a controller that is attached already means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultipathMode {
    /// A name has one path; another is refused.
    Disable,
    /// Further paths take over when the first fails: one is used at a time.
    Failover,
    /// Further paths are used as the ANA states and the policy say.
    #[default]
    Multipath,
}

/// Which of the paths with the best ANA state are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MultipathPolicy {
    /// One, until it fails.
    #[default]
    ActivePassive,
    /// All of them, in turn.
    RoundRobin,
    /// The one with the fewest commands outstanding on this core.
    QueueDepth,
}

impl MultipathPolicy {
    /// SPDK's two words: policy and selector.
    #[must_use]
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ActivePassive => ("active_passive", "round_robin"),
            Self::RoundRobin => ("active_active", "round_robin"),
            Self::QueueDepth => ("active_active", "queue_depth"),
        }
    }
}

/// A request to attach.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// How the controller is connected.
    pub controller: ControllerOptions,
    /// What a second path means.
    pub multipath: MultipathMode,
    /// Which of several paths are used.
    pub policy: MultipathPolicy,
}

/// Where a controller is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ControllerState {
    /// Being connected for the first time.
    Connecting = 0,
    /// Connected; I/O goes.
    Enabled,
    /// Being connected again, or waiting to be.
    Resetting,
    /// Given up: I/O fails.
    Failed,
    /// Disconnected because that was asked for: I/O fails.
    Disabled,
    /// Being detached.
    Deleting,
}

impl ControllerState {
    /// SPDK's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Enabled => "enabled",
            Self::Resetting => "resetting",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
            Self::Deleting => "deleting",
        }
    }
}

/// One path of a controller name: a connection to one controller of the subsystem.
#[derive(Clone, Debug)]
pub struct PathInfo {
    /// Where.
    pub trid: TransportId,
    /// How.
    pub options: ControllerOptions,
    /// The state.
    pub state: ControllerState,
    /// The controller's identifier; none before the first connection.
    pub cntlid: Option<u16>,
    /// I/O queues that the controller granted.
    pub io_queues: u16,
    /// The core that has its admin queue.
    pub core: u32,
    /// How often it was connected anew.
    pub reconnects: u64,
    /// Why it is not connected, in words.
    pub trouble: Option<String>,
}

/// A controller name with its paths.
#[derive(Clone, Debug)]
pub struct ControllerInfo {
    /// The base name; namespaces are `{name}n{nsid}`.
    pub name: String,
    /// What a second path means.
    pub multipath: MultipathMode,
    /// Its paths, in the order in which they were attached.
    pub paths: Vec<PathInfo>,
    /// The block devices.
    pub bdevs: Vec<String>,
}

/// A path of one block device.
#[derive(Clone, Debug)]
pub struct IoPathInfo {
    /// The block device.
    pub bdev: String,
    /// The controller's identifier.
    pub cntlid: Option<u16>,
    /// Where.
    pub trid: TransportId,
    /// Whether the controller is connected.
    pub connected: bool,
    /// The namespace's ANA state on this path, in SPDK's words.
    pub ana_state: &'static str,
    /// Whether it is the path that the core's I/O takes; false where no core was asked.
    pub current: bool,
    /// The controller's number.
    pub(super) controller: u64,
}

/// A discovery service that is followed.
#[derive(Clone, Debug)]
pub struct DiscoveryInfo {
    /// The base name of what it attaches.
    pub name: String,
    /// The discovery controller.
    pub trid: TransportId,
    /// How its controller and what it names are connected.
    pub options: ControllerOptions,
    /// The names of the controllers that it attached.
    pub attached: Vec<String>,
    /// The subsystems it named last.
    pub entries: Vec<Discovered>,
    /// Why it is not connected, in words.
    pub trouble: Option<String>,
}

/// Why a request to the driver fails.
#[derive(Debug, Error)]
pub enum NvmeError {
    /// An option.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// An address or name.
    #[error(transparent)]
    TransportId(#[from] TransportIdError),
    /// A controller of this machine that is not to be used.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// There is no such controller.
    #[error("there is no NVMe controller '{name}'")]
    NotFound {
        /// The name.
        name: String,
    },
    /// There is no such path.
    #[error("the NVMe controller '{name}' has no path to {path}")]
    NoPath {
        /// The name.
        name: String,
        /// The path asked for.
        path: String,
    },
    /// The name is taken.
    #[error("the name '{name}' is taken by an NVMe controller: {why}")]
    Taken {
        /// The name.
        name: String,
        /// Why another path is not taken.
        why: &'static str,
    },
    /// The name is not usable.
    #[error("'{name}' cannot be the name of an NVMe controller: 1 to 223 bytes are needed")]
    BadName {
        /// The name.
        name: String,
    },
    /// The controller could not be connected.
    #[error("cannot connect to {trid}: {why}")]
    Connect {
        /// Where.
        trid: Box<TransportId>,
        /// Why.
        why: String,
    },
    /// The second path leads to another subsystem, or the namespaces differ.
    #[error("the path to {trid} does not lead to the same namespaces: {why}")]
    OtherSubsystem {
        /// Where.
        trid: Box<TransportId>,
        /// What differs.
        why: String,
    },
    /// A block device could not be registered.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The engine has no reactors, or they have ended.
    #[error("no reactor is running")]
    NoReactor,
    /// A namespace that would be changed is in use.
    #[error("{what} needs device '{device}' for itself: {users}")]
    InUse {
        /// The operation.
        what: &'static str,
        /// The device.
        device: String,
        /// Who uses it.
        users: String,
    },
    /// The controller refused a command.
    #[error("NVMe controller '{name}' refused '{what}': {status}")]
    Refused {
        /// The operation.
        what: &'static str,
        /// The controller.
        name: String,
        /// How it refused.
        status: NvmeStatus,
    },
    /// The controller cannot do it, or not with this value.
    #[error("NVMe controller '{name}' cannot do '{what}': {why}")]
    NotSupported {
        /// The operation.
        what: &'static str,
        /// The controller.
        name: String,
        /// What is missing, and what would be allowed.
        why: String,
    },
    /// A command was not answered in time.
    #[error("NVMe controller '{name}' did not answer '{what}' in time; it still has the command")]
    TimedOut {
        /// The operation.
        what: &'static str,
        /// The controller.
        name: String,
    },
    /// The operation did not succeed.
    #[error("{what} of NVMe controller '{name}' failed: {why}")]
    Failed {
        /// The operation.
        what: &'static str,
        /// The controller.
        name: String,
        /// Why.
        why: String,
    },
}

impl NvmeError {
    /// A word for programs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Options(_) | Self::TransportId(_) | Self::BadName { .. } => "invalid",
            Self::Pci(_) => "refused",
            Self::NotFound { .. } | Self::NoPath { .. } => "not_found",
            Self::Taken { .. } | Self::Registry(_) => "exists",
            Self::Connect { .. } | Self::NoReactor | Self::Failed { .. } => "io",
            Self::Refused { .. } | Self::TimedOut { .. } => "io",
            Self::InUse { .. } => "busy",
            Self::NotSupported { .. } => "unsupported",
            Self::OtherSubsystem { .. } => "mismatch",
        }
    }
}
