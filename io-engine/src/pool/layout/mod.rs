//! What is on the medium.
//!
//! Everything is made of blocks of [`BLOCK_BYTES`]; numbers are little endian. A device holds
//!
//! * four superblocks, two at its start and two at its end, a mebibyte apart from each other;
//! * the journal, a ring of blocks behind the first two superblocks;
//! * for every group of 128 MiB a header with two places for the bitmap of the group and for each
//!   node of the space tree that begins there;
//! * blocks that the allocator hands out: data, nodes of trees, volume records.
//!
//! Every pointer carries the digest of what it points to, up to the superblock, which carries its
//! own. Nothing that a superblock reaches is written in place.

mod geometry;
mod journal;
mod pointer;
mod superblock;
mod volume;

pub use geometry::{GROUP_BLOCKS, Geometry, SPACE_LEVELS_MAX};
pub use journal::{
    Entry, EntryKind, Extent, HEADER_BYTES, RECORD_BLOCKS_MAX, RecordError, RecordHeader, encode,
    entries, entry_bytes, parse_record,
};
pub use pointer::{BlockPtr, FANOUT, FANOUT_BITS, Node, PtrKind};
pub use superblock::{Superblock, SuperblockError};
pub use volume::{DatasetState, NAME_BYTES_MAX, VolumeRecord};

/// Bytes of a block, the unit of every address and count.
pub const BLOCK_BYTES: usize = 4096;

/// The version of the format. A pool with another one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Features that may be ignored.
pub const FEATURES_COMPATIBLE: u64 = 0;
/// Features without which a pool can be read, but not written.
pub const FEATURES_READ_ONLY: u64 = 0;
/// Features without which a pool cannot be used.
pub const FEATURES_INCOMPATIBLE: u64 = 0;
