//! The storage engine.
//!
//! - [`bdev`]: device URIs and what they are made into
//! - [`core`]: the three traits of a block device, and the engine
//! - [`cli`]: the command line of the `io-engine` binary and its exit codes
//! - [`daemon`]: the daemon from its first to its last moment
//! - [`http`]: metrics, health and the dashboard over HTTP
//! - [`rpc`]: the methods of the management interface
//! - [`subsys`]: the configuration file, the NVMe-oF target, and the metrics
//! - [`pool`]: volumes, snapshots and clones on a device, safe against power cuts
//! - [`perf`]: the load generator behind `io-engine perf`
//! - [`size`]: byte sizes as people write them

#![forbid(unsafe_code)]

pub mod bdev;
pub mod cli;
pub mod core;
pub mod daemon;
pub mod http;
mod interrupts;
pub mod perf;
pub mod pool;
pub mod rpc;
pub mod size;
pub mod subsys;
