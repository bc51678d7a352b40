//! The real power cut: a load on a pool whose drive logs everything that reaches it, and the states
//! that a loss of power could have left, each of them imported and compared with what was promised.
//!
//! * [`plan`]: what the load does, round by round, from a seed alone.
//! * [`content`]: blocks that say what they are.
//! * [`load`]: does it, on the drive, and notes every acknowledged round behind the pool.
//! * [`log`]: the drive's log, in the format of Linux' dm-log-writes.
//! * [`image`], [`device`]: the contents of a drive, cheap to copy, and as a block device.
//! * [`states`]: chooses cuts and builds what is left of them.
//! * [`verify`]: imports such a state and looks at everything.
//!
//! `test/vm/power-cut` puts the parts together: the load runs in a guest whose drive is QEMU's.

pub mod content;
pub mod device;
pub mod image;
pub mod load;
pub mod log;
pub mod plan;
pub mod states;
#[cfg(test)]
mod tests;
pub mod verify;

/// Bytes of a block of the pool.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes that a drive writes as one: where a write is torn.
pub const SECTOR_BYTES: usize = 512;
/// Bytes of the pool. The load writes all of it every few seconds, so that freed blocks are used
/// again many times.
pub const POOL_BYTES: u64 = 64 << 20;
/// Bytes of the drive. A pool uses whole mebibytes, so that what is behind is not its own.
pub const DRIVE_BYTES: u64 = POOL_BYTES + (64 << 10);
/// Where the last acknowledged round is noted.
pub const ACK_OFFSET: u64 = POOL_BYTES;
/// Bytes of the journal: the smallest with which changes of 64 blocks run side by side, so that
/// there are several checkpoints per second.
pub const JOURNAL_BYTES: u64 = 256 << 10;

/// The drive's block with the last acknowledged round: magic, seed, round.
const ACK_MAGIC: u64 = 0x6b63_612d_7475_6321;

/// The bytes with which a round is noted as acknowledged.
#[must_use]
pub fn ack_record(seed: u64, round: u64) -> [u8; 24] {
    let mut record = [0; 24];
    for (to, word) in record.chunks_exact_mut(8).zip([ACK_MAGIC, seed, round]) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    record
}

/// Seed and round of what [`ack_record`] made.
#[must_use]
pub fn parse_ack(bytes: &[u8]) -> Option<(u64, u64)> {
    let [magic, seed, round] = [0, 8, 16].map(|at| word(bytes, at));
    (magic? == ACK_MAGIC).then_some((seed?, round?))
}

/// Eight bytes as a number.
fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// One seed of several numbers.
fn mix(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0, |hash, number| crate::rng::Rng::new(hash ^ number).next_u64())
}
