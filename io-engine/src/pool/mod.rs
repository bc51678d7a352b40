//! Space on devices: who holds which blocks of it.
//!
//! - [`allocator`]: the tiered block allocator, a pure data structure
//! - [`block_api`]: blocks of a device, allocated, written and read

pub mod allocator;
pub mod block_api;
