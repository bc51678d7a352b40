//! The wire and memory structures of NVMe: fixed layouts, little endian, no interpretation.
//!
//! Every type is exactly as long as the specification says (asserted at compile time), may be read
//! from any bytes without alignment, and has getters for its bit fields. What has a variable
//! length is read by iterators that never panic and never read beyond their bytes. Checks that
//! need to know a device or a state belong to those who use the structures.
//!
//! Sections are those of the NVM Express Base Specification 2.0, unless another one is named.

#[macro_use]
mod macros;

pub mod aer;
mod command;
mod completion;
pub(crate) mod error;
pub mod fabrics;
pub mod feature;
pub mod identify;
pub mod log;
pub mod manage;
pub mod nvm;
pub mod opcode;
pub mod pdu;
pub mod register;
pub mod reservation;
#[cfg(test)]
mod tests;
pub mod text;
pub mod zns;

pub use command::{DataDirection, FusedPart, SglDescriptor, SglKind, Sqe};
pub use completion::Cqe;
pub use error::ReadError;
pub use register::{Cap, Cc, Csts, Vs};

/// The namespace identifier that means all namespaces.
pub const NSID_ALL: u32 = 0xffff_ffff;
