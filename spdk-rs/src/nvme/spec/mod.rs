//! The wire and memory structures of NVMe: fixed layouts, little endian, no interpretation.
//!
//! Every type is exactly as long as the specification says (asserted at compile time), may be read
//! from any bytes without alignment, and has getters for its bit fields. Checks that need to know
//! a device or a state belong to those who use the structures.
//!
//! Sections are those of the NVM Express Base Specification 2.0, unless another one is named.

mod command;
mod completion;

pub use command::{DataDirection, FusedPart, SglDescriptor, SglKind, Sqe};
pub use completion::Cqe;
