//! Faults that can be built into the pool to see whether the simulator finds them.
//!
//! Without the feature `pool-mutants` [`Mutant::is_on`] is constantly false and costs nothing.

/// One step of the pool that can be left out or done wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// FLUSH answers without asking the device.
    NoFlushOnFlush = 1,
    /// FUA answers without a flush.
    NoFlushOnFua,
    /// The superblock is written before trees and bitmaps are on the medium.
    NoFlushBeforeSuperblock,
    /// The journal is released before the superblock is on the medium.
    NoFlushAfterSuperblock,
    /// FLUSH does not wait for journal records that are still being written.
    NoWaitForRecords,
    /// A write is acknowledged before its data are written.
    AckBeforeData,
    /// A write is acknowledged before its journal record is written.
    AckBeforeRecord,
    /// Freed blocks are used again before a checkpoint has recorded it.
    ReuseBeforeCheckpoint,
    /// Recovery accepts data that do not match their digests.
    NoDataDigestAtRecovery,
    /// Recovery accepts journal records whose digest is wrong.
    NoRecordDigest,
    /// Recovery accepts journal records of an earlier epoch.
    NoEpochCheck,
    /// Recovery accepts journal records with an unexpected number.
    NoRecordNumberCheck,
    /// Recovery accepts a superblock whose digest is wrong.
    NoSuperblockDigest,
    /// Recovery takes the first superblock that it finds instead of the newest.
    OldestSuperblock,
    /// Damage in the middle of the journal passes for its end.
    NoDamageCheck,
    /// Reads do not verify digests of data.
    NoReadDigest,
    /// Reads do not verify digests of nodes.
    NoNodeDigest,
    /// A superblock is written over the copies that are valid.
    OneSuperblockPair,
    /// A bitmap is written over the copy that is valid.
    BitmapInPlace,
    /// A block that a snapshot holds is freed when its volume overwrites it.
    FreeSnapshotBlocks,
    /// A node that a snapshot holds is freed when its volume changes it.
    FreeSnapshotNodes,
    /// Deleting a snapshot frees what the next one still uses.
    ReapIgnoresChild,
    /// Deleting a snapshot frees what the one before still uses.
    ReapIgnoresParent,
    /// Deleting a snapshot leaves its nodes allocated.
    ReapLeaksNodes,
    /// A replayed write leaves the blocks that it replaces allocated.
    ReplayLeaks,
    /// An aborted write is replayed.
    ReplayAborted,
    /// A flush error is answered, and then forgotten.
    ForgiveFlushError,
    /// A checkpoint's flush counts although another one under way fails.
    FlushBesideOthers,
    /// A volume that shrinks is emptied behind its new size before it has that size.
    ShrinkInParts,
    /// What lies behind the new size of a volume is not noted, and so never freed.
    ShrinkForgetsTail,
}

/// Every mutant.
pub const ALL: &[Mutant] = &[
    Mutant::NoFlushOnFlush,
    Mutant::NoFlushOnFua,
    Mutant::NoFlushBeforeSuperblock,
    Mutant::NoFlushAfterSuperblock,
    Mutant::NoWaitForRecords,
    Mutant::AckBeforeData,
    Mutant::AckBeforeRecord,
    Mutant::ReuseBeforeCheckpoint,
    Mutant::NoDataDigestAtRecovery,
    Mutant::NoRecordDigest,
    Mutant::NoEpochCheck,
    Mutant::NoRecordNumberCheck,
    Mutant::NoSuperblockDigest,
    Mutant::OldestSuperblock,
    Mutant::NoDamageCheck,
    Mutant::NoReadDigest,
    Mutant::NoNodeDigest,
    Mutant::OneSuperblockPair,
    Mutant::BitmapInPlace,
    Mutant::FreeSnapshotBlocks,
    Mutant::FreeSnapshotNodes,
    Mutant::ReapIgnoresChild,
    Mutant::ReapIgnoresParent,
    Mutant::ReapLeaksNodes,
    Mutant::ReplayLeaks,
    Mutant::ReplayAborted,
    Mutant::ForgiveFlushError,
    Mutant::FlushBesideOthers,
    Mutant::ShrinkInParts,
    Mutant::ShrinkForgetsTail,
];

#[cfg(feature = "pool-mutants")]
static ACTIVE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Turns one mutant on, for the whole process, or all off.
#[cfg(feature = "pool-mutants")]
pub fn set(mutant: Option<Mutant>) {
    ACTIVE.store(mutant.map_or(0, |mutant| mutant as u8), std::sync::atomic::Ordering::SeqCst);
}

impl Mutant {
    /// Its name, as the simulator's table prints it.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// Whether it is turned on.
    #[cfg(feature = "pool-mutants")]
    #[must_use]
    pub fn is_on(self) -> bool {
        ACTIVE.load(std::sync::atomic::Ordering::Relaxed) == self as u8
    }

    /// Whether it is turned on: never, in this build.
    #[cfg(not(feature = "pool-mutants"))]
    #[inline(always)]
    #[must_use]
    pub const fn is_on(self) -> bool {
        false
    }
}
