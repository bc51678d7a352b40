//! A polled-mode storage runtime: reactors, block devices and their drivers.
//!
//! The layers import one way: `nvmf, drivers → bdev, nvme → net → reactor → env`, all of them on the
//! kernel and hardware mechanisms of `spdk-rs-sys`. Nothing here knows of pools, URIs or RPC.
//!
//! * [`mod@env`]: memory that devices may write to, the clock, work that may block.
//! * [`reactor`]: one pinned thread per core that polls, runs tasks and sleeps when idle.
//! * [`net`]: listening sockets and byte streams on a reactor.
//! * [`nvme`]: the NVMe structures, and the host's side: controllers and their queues.
//! * [`nvmf`]: the target: devices exported to other hosts.
//! * [`bdev`]: the block device layer: registry, descriptors, channels, the I/O token.
//! * [`drivers`]: what stores the blocks.
//!
//! `unsafe` is confined to the modules that say so at their head: the DMA buffer, the I/O slot and
//! its token, the task waker, and the hand-over of buffers to the kernel.
#![deny(unsafe_code)]

#[cfg(test)]
mod allocations;
pub mod bdev;
pub mod drivers;
pub mod env;
pub mod net;
pub mod nvme;
pub mod nvmf;
pub mod reactor;
mod status;

pub use status::NvmeStatus;
