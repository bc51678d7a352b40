//! The storage engine.
//!
//! - [`bdev`]: device URIs and what they are made into
//! - [`size`]: byte sizes as people write them

#![forbid(unsafe_code)]

pub mod bdev;
pub mod size;
