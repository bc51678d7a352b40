//! The NVMe-oF target: devices of the block device layer, exported to other hosts.

pub mod core_view;
pub mod io;
pub mod qpair;
pub mod request;
pub mod reservation;
pub mod service;
pub mod transport;

pub use core_view::{AnaState, CoreView, HostId, NsConfig, NsView, SubsystemId, SubsystemView};
pub use qpair::{AbortOutcome, Attachment, Qpair, QpairState, QpairStats};
pub use request::Request;
pub use service::{ControllerService, TargetService};
pub use transport::{
    Capsule, ConnectionInfo, DisconnectReason, ListenerId, QpairTransport, TransportKind,
};
