//! The simulated disk: what it stores, what of it survives a power cut, and how it misbehaves.
//!
//! * [`image`]: the contents of a medium, cheap to copy.
//! * [`disk`]: the volatile write cache over it, and what a cut leaves.
//! * [`recording`]: the events of one run, from which any number of cuts is made.
//! * [`faults`]: errors and lies, by a seed and with a budget.
//! * [`driver`]: all of that as a block device.
//!
//! Invariants:
//! * what a completed flush covers, and a completed write with FUA, survives every cut;
//! * of everything else any subset of sectors of 512 bytes may survive;
//! * the live device and the replay of its recording go through the same [`disk::Disk`], so a cut
//!   that is made from a recording is one that the live device could have had.

pub mod disk;
pub mod driver;
pub mod faults;
pub mod image;
pub mod recording;

/// Bytes of a sector: what a disk writes as one.
pub const SECTOR_BYTES: usize = 512;
/// Bytes of a block of the image, and of the pool.
pub const BLOCK_BYTES: usize = 4096;
/// Sectors of a block.
pub const BLOCK_SECTORS: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;

/// A number of bytes as an index. Every device here is far smaller than an address space.
pub(crate) fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
