//! The block API: a device as a place that blocks are allocated from, written and read.
//!
//! [`BlockStore::create`] opens a device, claims it for writing, and cuts it up with the
//! [allocator](super::allocator). From then on:
//!
//! - [`BlockStore`] serves any thread: its I/O runs on one of the reactors, in turn. Its methods
//!   are `async`; [`Blocking`] has the same for a thread that has nothing else to do.
//! - [`BlockHandle`] serves one reactor, which does the I/O itself and has a magazine of its own.
//!
//! Data go in buffers that the device reads and writes as they are ([`BlockStore::buffer`]), so a
//! memory device copies once and no more.
//!
//! **On a plain device, what is allocated is known to the store alone and is gone with it**; what
//! was written stays on the device. Whoever needs blocks again must remember them, and a store that
//! is created anew hands them out again.
//!
//! **On a volume of a pool it is recorded** (`record`) before the caller is told: a store that is
//! created anew on the volume has the same blocks allocated, after a power cut too. Blocks that are
//! freed give their space back to the pool.
//!
//! An I/O is refused unless its block is allocated as it is described and the range lies inside
//! of it. That a block is not freed while I/O is under way is up to whoever has it.

mod allocate;
mod blocking;
mod error;
mod handle;
mod layout;
mod metrics;
mod options;
mod record;
mod store;
mod stores;
#[cfg(test)]
mod tests;

pub use blocking::Blocking;
pub use error::BlockApiError;
pub use handle::BlockHandle;
pub use metrics::PerfMetrics;
pub use options::CreateOptions;
pub use store::{BlockStats, BlockStore};
pub use stores::BlockStores;
