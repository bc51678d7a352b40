//! Block devices as users name them.
//!
//! A device is described by a URI; [`uri`] takes it apart and leaves nothing in it unread: a part
//! or a parameter that nobody asked for is an error, because a misspelt option that is silently
//! dropped is found only after the data is written. [`dev`] finds the factory of the scheme, and
//! each scheme has a file of its own.

pub mod aio;
pub mod dev;
mod existing;
pub(crate) mod file_params;
pub mod layers;
pub mod malloc;
mod memory_params;
mod null;
mod nvmf;
mod pcie;
pub mod pool;
pub mod split;
pub mod uri;
pub mod uring;
mod vol;

pub use dev::{
    BdevError, attach_controller, create, destroy, detach_controllers, detach_unfinished, plan,
};
pub use uri::{BdevUri, Params, UriError};
