//! NVMe: the structures of the specifications, and the host's side of a controller.

pub mod controller;
pub(crate) mod pcie;
pub mod spec;
pub mod tcp;
mod transport_id;

pub use spdk_rs_sys::pci::PciAddress;
pub use transport_id::{
    AddressFamily, DISCOVERY_NQN, TransportId, TransportIdError, TransportType, check_nqn,
};
