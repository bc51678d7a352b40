//! Where the fixed parts of a pool are.

use std::ops::Range;

use super::super::PoolError;

/// Blocks of a group: what one bitmap of 4 KiB covers (128 MiB).
pub const GROUP_BLOCKS: u64 = 32_768;
/// Levels of the space tree at the most: 64⁴ groups are 2 PiB.
pub const SPACE_LEVELS_MAX: u8 = 4;

/// Blocks per mebibyte.
const MIB: u64 = 256;
/// The header of a group: where it begins in its group, and how long it is.
const HEADER_START: u64 = 16;
const HEADER_BLOCKS: u64 = 2 * (1 + SPACE_LEVELS_MAX as u64);
/// Where the journal begins: behind the first two superblocks.
const JOURNAL_START: u64 = 2 * MIB;
/// A last group smaller than this is left unused.
const LAST_GROUP_MIN: u64 = 4 * MIB;
/// The smallest pool.
const TOTAL_MIN: u64 = 8 * MIB;
/// The journal: at least so that a few records fit, at the most so that it stays in its group.
const JOURNAL_MIN: u64 = 16;
const JOURNAL_MAX: u64 = 64 * MIB;
/// The journal of a pool that was not told otherwise: a 64th of it, between these two.
const JOURNAL_DEFAULT_MIN: u64 = 64;
const JOURNAL_DEFAULT_MAX: u64 = 32 * MIB;

/// The sizes from which all fixed places follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Blocks of the pool, a multiple of one mebibyte.
    pub total_blocks: u64,
    /// Blocks of the journal.
    pub journal_blocks: u64,
}

impl Geometry {
    /// The geometry of a new pool on a device of so many blocks of 4 KiB.
    ///
    /// # Errors
    /// When the device is too small, or the journal's size cannot be.
    pub fn new(device_blocks: u64, journal_blocks: Option<u64>) -> Result<Self, PoolError> {
        let total_blocks = Self::total_of(device_blocks);
        if total_blocks < TOTAL_MIN {
            return Err(PoolError::Parameter {
                parameter: "device size",
                value: format!("{device_blocks} blocks of 4 KiB"),
                allowed: format!("a pool needs at least {TOTAL_MIN} (8 MiB)"),
            });
        }
        let default = (total_blocks / 64).clamp(JOURNAL_DEFAULT_MIN, JOURNAL_DEFAULT_MAX);
        let journal_blocks = journal_blocks.unwrap_or(default);
        let most = JOURNAL_MAX.min(total_blocks / 4);
        if !(JOURNAL_MIN..=most).contains(&journal_blocks) {
            return Err(PoolError::Parameter {
                parameter: "journal size",
                value: format!("{journal_blocks} blocks of 4 KiB"),
                allowed: format!("{JOURNAL_MIN} to {most} for this device"),
            });
        }
        Ok(Self { total_blocks, journal_blocks })
    }

    /// Blocks that a pool uses of a device: whole mebibytes, and no last group that is too small
    /// for its own header.
    #[must_use]
    pub fn total_of(device_blocks: u64) -> u64 {
        let total = device_blocks / MIB * MIB;
        let last = total % GROUP_BLOCKS;
        if last < LAST_GROUP_MIN && total > GROUP_BLOCKS { total - last } else { total }
    }

    /// Whether the numbers of a superblock can be.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        Self::total_of(self.total_blocks) == self.total_blocks
            && Self::new(self.total_blocks, Some(self.journal_blocks)).is_ok()
            && self.space_levels() <= SPACE_LEVELS_MAX
    }

    /// The places of the superblocks.
    #[must_use]
    pub fn superblocks(&self) -> [u64; 4] {
        [0, MIB, self.total_blocks - 2 * MIB, self.total_blocks - MIB]
    }

    /// The first block of the journal.
    #[must_use]
    pub fn journal_start(&self) -> u64 {
        JOURNAL_START
    }

    /// The number of groups.
    #[must_use]
    pub fn groups(&self) -> u64 {
        self.total_blocks.div_ceil(GROUP_BLOCKS)
    }

    /// Levels of nodes above the bitmaps.
    #[must_use]
    pub fn space_levels(&self) -> u8 {
        let (mut levels, mut reach) = (1, 64);
        while reach < self.groups() {
            (levels, reach) = (levels + 1, reach * 64);
        }
        levels
    }

    /// The two places of a bitmap (level 0) or of a node of the space tree.
    #[must_use]
    pub fn space_places(&self, level: u8, index: u64) -> [u64; 2] {
        let first_group = index << (6 * u32::from(level));
        let place = first_group * GROUP_BLOCKS + HEADER_START + 2 * u64::from(level);
        [place, place + 1]
    }

    /// The blocks of a group that are never handed out, as ranges inside the group.
    pub fn reserved(&self, group: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let first = group * GROUP_BLOCKS;
        let clip = move |range: Range<u64>| {
            let start = range.start.clamp(first, first + GROUP_BLOCKS) - first;
            let end = range.end.clamp(first, first + GROUP_BLOCKS) - first;
            start..end
        };
        let header = first + HEADER_START..first + HEADER_START + HEADER_BLOCKS;
        let journal = JOURNAL_START..JOURNAL_START + self.journal_blocks;
        let beyond = self.total_blocks..u64::MAX;
        let slots = self.superblocks().map(|place| place..place + 1);
        [header, journal, beyond]
            .into_iter()
            .chain(slots)
            .map(clip)
            .filter(|range| !range.is_empty())
    }

    /// The number of blocks of a group that can be handed out. The ranges do not overlap.
    #[must_use]
    pub fn usable_in(&self, group: u64) -> u64 {
        GROUP_BLOCKS - self.reserved(group).map(|range| range.end - range.start).sum::<u64>()
    }

    /// Blocks that can be handed out in all.
    #[must_use]
    pub fn usable(&self) -> u64 {
        // Only the first and the last groups differ from the others.
        let groups = self.groups();
        let special = [0, groups.saturating_sub(2), groups - 1];
        let mut sum = 0;
        let mut seen = Vec::with_capacity(3);
        for group in special {
            if !seen.contains(&group) {
                seen.push(group);
                sum += self.usable_in(group);
            }
        }
        sum + (groups - seen.len() as u64) * (GROUP_BLOCKS - HEADER_BLOCKS)
    }

    /// Whether a block can be data, a node or a record.
    #[must_use]
    pub fn is_usable(&self, address: u64) -> bool {
        let (group, inside) = (address / GROUP_BLOCKS, address % GROUP_BLOCKS);
        address < self.total_blocks && !self.reserved(group).any(|range| range.contains(&inside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_do_not_overlap_and_counts_agree() {
        for mib in [8, 9, 100, 127, 128, 129, 131, 132, 200, 256, 300, 8192, 8193, 20_000] {
            let geometry = Geometry::new(mib * MIB, None).expect("a possible size");
            assert!(geometry.is_possible(), "{mib} MiB");
            let mut usable = 0;
            for group in 0..geometry.groups() {
                let mut used = vec![false; 32_768];
                for range in geometry.reserved(group) {
                    for block in range {
                        let block = usize::try_from(block).expect("in a group");
                        assert!(!used[block], "{mib} MiB: block {block} of group {group} twice");
                        used[block] = true;
                    }
                }
                let free = used.iter().filter(|used| !**used).count() as u64;
                assert_eq!(free, geometry.usable_in(group), "{mib} MiB, group {group}");
                usable += free;
            }
            assert_eq!(usable, geometry.usable(), "{mib} MiB");
        }
    }

    #[test]
    fn a_device_that_is_too_small_is_named() {
        let error = Geometry::new(2047, None).expect_err("too small");
        assert!(error.to_string().contains("2047 blocks"), "{error}");
        let error = Geometry::new(2048, Some(3)).expect_err("a tiny journal");
        assert!(error.to_string().contains("journal size 3"), "{error}");
    }
}
