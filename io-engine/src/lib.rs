//! The storage engine.
//!
//! - [`bdev`]: device URIs and what they are made into
//! - [`core`]: the three traits of a block device, and the engine
//! - [`cli`]: the command line of the `io-engine` binary and its exit codes
//! - [`perf`]: the load generator behind `io-engine perf`
//! - [`size`]: byte sizes as people write them

#![forbid(unsafe_code)]

pub mod bdev;
pub mod cli;
pub mod core;
pub mod perf;
pub mod size;
