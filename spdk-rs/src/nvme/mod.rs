//! NVMe: the structures of the specifications, and the host's side of a controller.

pub mod spec;
pub mod tcp;
