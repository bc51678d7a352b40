//! The NVMe-oF target: devices of the block device layer, exported to other hosts.

mod admin;
pub mod ana;
pub mod controller;
pub mod core_view;
mod discovery;
pub mod io;
mod log_budget;
pub mod qpair;
pub mod request;
pub mod reservation;
pub mod service;
pub mod subsystem;
pub mod target;
pub mod tcp;
pub mod transport;

pub use ana::{ANA_STATES, AnaStates, ana_state_name};
pub use controller::{Controller, QueueInfo};
pub use core_view::{AnaState, CoreView, HostId, NsConfig, NsView, SubsystemId, SubsystemView};
pub use qpair::{AbortOutcome, Attachment, Qpair, QpairState, QpairStats};
pub use request::Request;
pub use service::{ControllerService, TargetService};
pub use subsystem::{
    Host, Namespace, NamespaceOptions, Nqn, Subsystem, SubsystemKind, SubsystemListener,
    SubsystemOptions,
};
pub use target::{
    CoreStats, ListenAddress, Listener, ListenerHandle, NvmfError, NvmfErrorKind, QueueStats,
    Referral, Target, TargetOptions, Transport,
};
pub use transport::{
    ADMIN_QUEUE_ENTRIES, Capsule, ConnectionInfo, DisconnectReason, ListenerId, QpairTransport,
    TransportKind,
};
