//! A chunk that is split: 4 quarters of 256 KiB, each perhaps split into 4 groups of 64 KiB, each
//! perhaps split into 16 units of 4 KiB.
//!
//! Invariants:
//! - a piece is in use, split or free, never two of them; only a split piece has parts;
//! - a split piece has a part that is in use (else it is free again), so that what is wholly free
//!   is always found as one piece.

use super::BlockType;
use super::space::CHUNK_UNITS;

const QUARTER_UNITS: u32 = 64;
const GROUP_UNITS: u32 = 16;

/// Which pieces are in use and which are split; what is neither is free. 40 bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Split {
    used4: [u64; 4],
    used64: u16,
    split64: u16,
    used256: u8,
    split256: u8,
}

/// The number of free pieces of 4, 64 and 256 KiB.
pub(super) type FreeCounts = [u64; 3];

/// The four bits of a quarter for every bit of `quarters`.
fn groups_of(quarters: u8) -> u16 {
    (0..4).filter(|quarter| quarters >> quarter & 1 == 1).map(|quarter| 0xf << (quarter * 4)).sum()
}

/// The 16 bits of a group for every one of four bits.
fn units_of(groups: u16) -> u64 {
    let spread = u64::from(groups & 1)
        | u64::from(groups & 2) << 15
        | u64::from(groups & 4) << 30
        | u64::from(groups & 8) << 45;
    spread * 0xffff
}

impl Split {
    /// A chunk of which only the first `units` exist: the rest is in use for ever.
    pub(super) fn cut_off(units: u32) -> Self {
        let mut split = Self::default();
        let mut unit = units;
        while unit < CHUNK_UNITS {
            let fits = [BlockType::K256, BlockType::K64, BlockType::K4]
                .into_iter()
                .find(|class| unit.is_multiple_of(units_in(*class)));
            let class = fits.unwrap_or(BlockType::K4);
            split.mark(class, unit);
            unit += units_in(class);
        }
        split
    }

    fn free256(&self) -> u8 {
        !(self.used256 | self.split256) & 0xf
    }

    fn free64(&self) -> u16 {
        groups_of(self.split256) & !(self.used64 | self.split64)
    }

    fn free4(&self, word: usize) -> u64 {
        units_of(self.split64 >> (word * 4)) & !self.used4[word]
    }

    pub(super) fn free_counts(&self) -> FreeCounts {
        let units: u32 = (0..4).map(|word| self.free4(word).count_ones()).sum();
        [units, self.free64().count_ones(), self.free256().count_ones()].map(u64::from)
    }

    /// Whether nothing is in use.
    pub(super) fn is_free(&self) -> bool {
        self.used256 | self.split256 == 0
    }

    /// Takes the first free piece of exactly this class: its first unit.
    pub(super) fn take(&mut self, class: BlockType) -> Option<u32> {
        let unit = self.first_free(class)?;
        self.mark(class, unit);
        Some(unit)
    }

    /// As [`Split::take`], and splits a larger piece when there is no other.
    pub(super) fn take_splitting(&mut self, class: BlockType) -> Option<u32> {
        let classes = BlockType::ALL.into_iter().filter(|other| *other >= class);
        // The first piece of a class begins where its first part does, and marking splits.
        let unit = classes.into_iter().find_map(|class| self.first_free(class))?;
        self.mark(class, unit);
        Some(unit)
    }

    fn first_free(&self, class: BlockType) -> Option<u32> {
        match class {
            BlockType::K4 => (0_u32..).zip(0..self.used4.len()).find_map(|(at, word)| {
                let free = self.free4(word);
                (free != 0).then(|| at * u64::BITS + free.trailing_zeros())
            }),
            BlockType::K64 => {
                let free = self.free64();
                (free != 0).then(|| free.trailing_zeros() * GROUP_UNITS)
            }
            BlockType::K256 => {
                let free = self.free256();
                (free != 0).then(|| free.trailing_zeros() * QUARTER_UNITS)
            }
            BlockType::M1 => None,
        }
    }

    /// Marks a piece that is wholly free as used, and what contains it as split.
    fn mark(&mut self, class: BlockType, unit: u32) {
        let (quarter, group) = (1_u8 << (unit / QUARTER_UNITS), 1_u16 << (unit / GROUP_UNITS));
        match class {
            BlockType::K4 => {
                self.split256 |= quarter;
                self.split64 |= group;
                self.used4[word_of(unit)] |= 1 << (unit % u64::BITS);
            }
            BlockType::K64 => {
                self.split256 |= quarter;
                self.used64 |= group;
            }
            BlockType::K256 => self.used256 |= quarter,
            BlockType::M1 => {}
        }
    }

    /// Marks a piece as used, or says which block of it is in use already.
    pub(super) fn reserve(&mut self, class: BlockType, unit: u32) -> Result<(), (BlockType, u32)> {
        match (unit..unit + units_in(class)).find_map(|unit| self.holder(unit)) {
            Some(used) => Err(used),
            None => {
                self.mark(class, unit);
                Ok(())
            }
        }
    }

    /// The class and first unit of the block in use that a unit belongs to.
    pub(super) fn holder(&self, unit: u32) -> Option<(BlockType, u32)> {
        let (quarter, group) = (unit / QUARTER_UNITS, unit / GROUP_UNITS);
        if self.used256 >> quarter & 1 == 1 {
            return Some((BlockType::K256, quarter * QUARTER_UNITS));
        }
        if self.used64 >> group & 1 == 1 {
            return Some((BlockType::K64, group * GROUP_UNITS));
        }
        let used = self.used4[word_of(unit)] >> (unit % u64::BITS) & 1 == 1;
        used.then_some((BlockType::K4, unit))
    }

    /// Frees a block that is in use, and makes whole what has no used part left.
    pub(super) fn release(&mut self, class: BlockType, unit: u32) {
        let (quarter, group) = (unit / QUARTER_UNITS, unit / GROUP_UNITS);
        match class {
            BlockType::K4 => self.used4[word_of(unit)] &= !(1 << (unit % u64::BITS)),
            BlockType::K64 => self.used64 &= !(1 << group),
            BlockType::K256 => self.used256 &= !(1 << quarter),
            BlockType::M1 => {}
        }
        if self.used4[word_of(unit)] & units_of(1 << (group % 4)) == 0 {
            self.split64 &= !(1 << group);
        }
        if (self.used64 | self.split64) & groups_of(1 << quarter) == 0 {
            self.split256 &= !(1 << quarter);
        }
    }
}

fn word_of(unit: u32) -> usize {
    (unit / u64::BITS) as usize
}

fn units_in(class: BlockType) -> u32 {
    match class {
        BlockType::K4 => 1,
        BlockType::K64 => GROUP_UNITS,
        BlockType::K256 => QUARTER_UNITS,
        BlockType::M1 => CHUNK_UNITS,
    }
}
