//! The storage pool.

pub mod digest;
