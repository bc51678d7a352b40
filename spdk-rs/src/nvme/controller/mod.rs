//! The host's side of a controller, whatever carries its queues.

mod options;

pub use options::{ControllerOptions, OptionsError, TimeoutAction};
