//! What the runtime stands on: the clock, and memory that a device may write to.
//!
//! Invariants:
//! * a [`DmaBuf`] is owned by exactly one party at a time, and while an operation is in flight that
//!   party is the operation;
//! * time is read from a [`Clock`] only, so that a run with a virtual clock repeats bit for bit.

mod buffer_cache;
pub mod clock;
mod dma_buf;
mod free_map;
pub mod iovec;
mod memory;
pub mod system;
mod work;

pub use buffer_cache::{BufferCache, BufferCounts, BufferStats, CacheGuard};
pub use clock::{Clock, VirtualClock};
pub use dma_buf::DmaBuf;
pub use iovec::IoVec;
pub use memory::{HugePolicy, Memory, MemoryError, MemoryOptions, MemoryReport, SharedRegion};
/// Where the pages of the engine's memory come from.
pub use spdk_rs_sys::hugepage::MemoryOptions as MemoryBacking;
/// Processor cores, the processor time of threads, digests of blocks and PCI functions: what those above this
/// crate need of the ground.
pub use spdk_rs_sys::{cpu, digest, os, pci};
pub use work::{Work, WorkCount};
