//! Space on devices: who holds which blocks of it.
//!
//! - [`allocator`]: the tiered block allocator, a pure data structure

pub mod allocator;
