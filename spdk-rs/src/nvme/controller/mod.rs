//! The host's side of a controller, whatever carries its queues.

pub(crate) mod admin;
pub(crate) mod cid;
mod error;
mod events;
pub(crate) mod inject;
pub(crate) mod link;
pub(crate) mod logs;
mod manage;
mod options;
pub(crate) mod queue;
pub(crate) mod reconnect;
pub(crate) mod scan;
mod setup;
pub(crate) mod signal;
pub(crate) mod transport;

pub use error::LinkError;
pub use inject::ErrorInjection;
pub use logs::Discovered;
pub use manage::{Activation, NewNamespace};
pub use options::{ControllerOptions, OptionsError, TimeoutAction};
pub use scan::UniqueIds;
