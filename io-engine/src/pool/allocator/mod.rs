//! The tiered block allocator: who holds which blocks of a space. It does no I/O.
//!
//! Blocks have 4 KiB, 64 KiB, 256 KiB or 1 MiB. A request below 1 MiB gets one block of the
//! smallest class that holds it; from 1 MiB on it gets as many blocks of 1 MiB as it needs. The
//! space is a row of chunks of 1 MiB, each free, whole or split, and what is freed is joined
//! again. Whatever is refused (no space, a block that is not allocated as it is described) is
//! refused before anything changes, and by name.
//!
//! [`Allocator`] has one owner. [`SharedAllocator`] lets cores share one, each through a
//! [`Magazine`] of its own:
//!
//! - A magazine holds free blocks of 4 and 64 KiB in an array that only its core touches.
//!   Allocating takes the last one, freeing puts one there. No lock, and nothing is written that
//!   another core writes in the common case.
//! - An empty magazine is filled, and a full one half emptied, a batch at a time through the
//!   *depot* of the shared allocator, under its lock. The depot keeps a few batches, since what
//!   one core frees another one often allocates; what is more is joined to larger blocks.
//! - To the inner allocator a block in a magazine or the depot is allocated. What is in
//!   somebody's hands has a mark of its own, set by a plain store when it is handed out and
//!   cleared by one exchange when it comes back. So a block can be freed on any core, and of two
//!   that free it exactly one succeeds, whether one after the other or at the same time.
//! - How many blocks a magazine holds is a number that only its core writes and everyone may
//!   read; so what is free is known without asking the cores.
//! - Blocks in the magazines of *other* cores cannot be had. A magazine holds at most two batches
//!   of each class: 128 blocks of 4 KiB and 16 of 64 KiB, fewer in a space below 256 MiB. A
//!   request that fails says how much waits there; [`Magazine::drain`] gives it back.
//!
//! Memory: 4.1 bytes per chunk, 40 more for a split chunk. Sharing adds the marks, a byte for every
//! place of a block of each class, of which only pages that were written exist: one page for each
//! 16 MiB in which blocks of 4 KiB were handed out. 4 TiB take some tens of MB while chunks are
//! whole, and 1.2 GB when all of it is handed out in blocks of 4 KiB.
//!
//! The hand-over is checked by loom: `RUSTFLAGS="--cfg loom" cargo test --lib loom` in
//! `test/allocator`, which compiles this module alone, since tokio does not compile with that flag.

mod bit_tree;
mod block;
mod error;
mod fragmentation;
mod live;
#[cfg(all(test, loom))]
mod loom_tests;
mod magazine;
mod shared;
mod space;
mod split;
mod sync;
#[cfg(test)]
mod tests;
mod tiers;

pub use block::{Block, BlockType, Blocks};
pub use error::{AllocError, BlockError, SpaceError};
pub use fragmentation::Fragmentation;
pub use magazine::Magazine;
pub use shared::SharedAllocator;
pub use space::Space;
pub use tiers::{Allocator, RebuildError};
