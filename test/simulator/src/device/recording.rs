//! The events of one run of a device, and the images that cuts at any of them leave.

use std::fmt;

use super::disk::{Applied, Data, Disk};
use super::image::Image;
use crate::rng::Rng;

/// What happened to a device, in order. Reads change nothing and are not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A write came in.
    WriteSubmitted {
        /// Its number.
        id: u64,
        /// Its first sector.
        sector: u64,
        /// Its data.
        data: Data,
        /// Force unit access.
        fua: bool,
    },
    /// A write ended.
    WriteCompleted {
        /// Its number.
        id: u64,
        /// What it did.
        applied: Applied,
    },
    /// A flush came in.
    FlushSubmitted {
        /// Its number.
        id: u64,
    },
    /// A flush ended.
    FlushCompleted {
        /// Its number.
        id: u64,
        /// Whether it did what it was to do.
        succeeded: bool,
        /// Whether a failed one forgot what was to be written.
        drops: bool,
    },
    /// A bit on the medium changed by itself.
    Rot {
        /// The byte.
        offset_bytes: u64,
        /// Its changed bits.
        mask: u8,
    },
}

impl Event {
    /// Applies the event to a disk.
    pub fn apply(&self, disk: &mut Disk) {
        match self {
            Self::WriteSubmitted { id, sector, data, fua } => {
                disk.submit_write(*id, *sector, data.clone(), *fua);
            }
            Self::WriteCompleted { id, applied } => disk.complete_write(*id, *applied),
            Self::FlushSubmitted { id } => disk.submit_flush(*id),
            Self::FlushCompleted { id, succeeded, drops } => {
                disk.complete_flush(*id, *succeeded, *drops);
            }
            Self::Rot { offset_bytes, mask } => disk.rot(*offset_bytes, *mask),
        }
    }
}

/// Which loose sectors survive a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutMode {
    /// All: the process died, the disk did not.
    All,
    /// None: the cache is gone.
    Nothing,
    /// Each sector by itself, so many times in a thousand.
    Sectors(u16),
    /// Whole writes, so many times in a thousand.
    Writes(u16),
    /// The last write only.
    OnlyLast,
    /// All but one write.
    AllButOne,
    /// All but one sector.
    AllButOneSector,
    /// Whole writes as the bits of the number say, the first in the lowest bit.
    WriteMask(u64),
    /// Sectors as the bits of the number say, the first in the lowest bit.
    SectorMask(u64),
}

impl CutMode {
    /// A mode by chance: each of the interesting ones often.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        match rng.below(12) {
            0 => Self::All,
            1 | 2 => Self::Nothing,
            3 => Self::OnlyLast,
            4 | 5 => Self::AllButOne,
            6 => Self::AllButOneSector,
            7 => Self::Sectors(900),
            8 => Self::Sectors(500),
            9 => Self::Sectors(100),
            _ => Self::Writes(500),
        }
    }
}

/// A power cut: after how many events, and what of the cache survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// So many events have happened.
    pub at_event: usize,
    /// What survives.
    pub mode: CutMode,
    /// The seed of what the mode leaves to chance.
    pub seed: u64,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} device events, {:?}, seed {}", self.at_event, self.mode, self.seed)
    }
}

/// One run of a device.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The medium at its start.
    pub base: Image,
    /// Whether the device has a volatile write cache.
    pub write_cache: bool,
    /// What happened.
    pub events: Vec<Event>,
}

impl Recording {
    /// A walk along the events. Cuts in their order cost no repetition.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_> {
        let disk = Disk::new(self.base.clone(), self.write_cache);
        Cursor { recording: self, disk, done: 0 }
    }

    /// What a cut leaves.
    #[must_use]
    pub fn cut(&self, cut: Cut) -> Image {
        let mut cursor = self.cursor();
        cursor.advance(cut.at_event);
        cursor.cut(cut.mode, cut.seed)
    }
}

/// A place in a recording.
pub struct Cursor<'a> {
    recording: &'a Recording,
    disk: Disk,
    done: usize,
}

impl Cursor<'_> {
    /// Goes on until so many events have happened. Going back starts from the beginning.
    pub fn advance(&mut self, at_event: usize) {
        if at_event < self.done {
            *self = self.recording.cursor();
        }
        for event in self.recording.events.iter().take(at_event).skip(self.done) {
            event.apply(&mut self.disk);
            self.done += 1;
        }
    }

    /// The disk at this place.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// What a cut at this place leaves.
    #[must_use]
    pub fn cut(&self, mode: CutMode, seed: u64) -> Image {
        let mut rng = Rng::stream(seed, 0xc07);
        let (writes, sectors) = (self.disk.loose_writes(), self.disk.loose_sectors());
        match mode {
            CutMode::All => self.disk.cut(|_, _| true),
            CutMode::Nothing => self.disk.cut(|_, _| false),
            CutMode::Sectors(share) => self.disk.cut(|_, _| rng.per_mille(share.into())),
            CutMode::Writes(share) => {
                let kept: Vec<bool> = (0..writes).map(|_| rng.per_mille(share.into())).collect();
                self.disk.cut(|write, _| kept[write])
            }
            CutMode::OnlyLast => self.disk.cut(|write, _| write + 1 == writes),
            CutMode::AllButOne => {
                let lost = rng.index(writes);
                self.disk.cut(|write, _| write != lost)
            }
            CutMode::AllButOneSector => {
                let lost = rng.index(sectors);
                self.disk.cut(|_, sector| sector != lost)
            }
            CutMode::WriteMask(mask) => self.disk.cut(|write, _| bit(mask, write)),
            CutMode::SectorMask(mask) => self.disk.cut(|_, sector| bit(mask, sector)),
        }
    }
}

fn bit(mask: u64, index: usize) -> bool {
    u32::try_from(index).ok().and_then(|index| mask.checked_shr(index)).unwrap_or(0) & 1 == 1
}

#[cfg(test)]
mod tests;
