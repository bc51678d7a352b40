//! A disk with a volatile write cache: which writes are on the medium, and which a power cut may
//! still take.

use std::collections::VecDeque;
use std::sync::Arc;

use super::image::Image;
use super::{SECTOR_BYTES, to_usize};
use crate::rng::Rng;

/// What a write puts into its sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// These bytes, a multiple of a sector.
    Bytes(Arc<[u8]>),
    /// One value: write zeroes and unmap.
    Fill {
        /// The byte.
        value: u8,
        /// The number of sectors.
        sectors: u64,
    },
}

impl Data {
    /// The number of sectors.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => (bytes.len() / SECTOR_BYTES) as u64,
            Self::Fill { sectors, .. } => *sectors,
        }
    }

    /// Writes a run of its sectors to where they belong.
    fn apply(&self, image: &mut Image, sector: u64, from: usize, count: usize) {
        let offset = (sector + from as u64) * SECTOR_BYTES as u64;
        match self {
            Self::Bytes(bytes) => {
                let bytes = &bytes[from * SECTOR_BYTES..(from + count) * SECTOR_BYTES];
                image.write(offset, bytes);
            }
            Self::Fill { value, .. } => image.write(offset, &vec![*value; count * SECTOR_BYTES]),
        }
    }
}

/// How much of a write took effect when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All of it, as it should be.
    All,
    /// Nothing: a lost write, or one that failed before the medium.
    Nothing,
    /// So many sectors from its start: one that failed on the way.
    Sectors(u64),
}

/// A write that is not surely on the medium.
#[derive(Clone, Debug)]
struct Entry {
    id: u64,
    sector: u64,
    data: Data,
    fua: bool,
    /// Its place in the order of completion; that of a write in flight is undecided.
    order: u64,
    /// Sectors that a later write has not made irrelevant.
    alive: Vec<bool>,
}

impl Entry {
    fn apply(&self, image: &mut Image, mut survives: impl FnMut(usize) -> bool) {
        let mut at = 0;
        while at < self.alive.len() {
            let start = at;
            while at < self.alive.len() && self.alive[at] && survives(at) {
                at += 1;
            }
            if at > start {
                self.data.apply(image, self.sector, start, at - start);
            }
            // The sector that ended the run was decided on already.
            at += 1;
        }
    }

    fn end(&self) -> u64 {
        self.sector + self.alive.len() as u64
    }
}

#[derive(Clone, Debug)]
struct Flush {
    id: u64,
    /// Writes that completed before it was submitted have a lower order.
    covers: u64,
}

/// The state of a disk.
#[derive(Clone, Debug)]
pub struct Disk {
    durable: Image,
    /// What reads see; none in a replay, which never reads.
    view: Option<Image>,
    write_cache: bool,
    completed: VecDeque<Entry>,
    in_flight: Vec<Entry>,
    flushes: Vec<Flush>,
    next_order: u64,
}

impl Disk {
    /// A disk whose medium has these contents and whose cache is empty.
    #[must_use]
    pub fn new(durable: Image, write_cache: bool) -> Self {
        let (completed, in_flight) = (VecDeque::new(), Vec::new());
        let view = None;
        Self {
            durable,
            view,
            write_cache,
            completed,
            in_flight,
            flushes: Vec::new(),
            next_order: 0,
        }
    }

    /// The same, and it can be read.
    #[must_use]
    pub fn readable(mut self) -> Self {
        self.view = Some(self.durable.clone());
        self
    }

    /// What a reader sees who waits for all that is in flight; none in a replay.
    #[must_use]
    pub fn view(&self) -> Option<&Image> {
        self.view.as_ref()
    }

    /// Takes a write.
    pub fn submit_write(&mut self, id: u64, sector: u64, data: Data, fua: bool) {
        let alive = vec![true; to_usize(data.sectors())];
        self.in_flight.push(Entry { id, sector, data, fua, order: u64::MAX, alive });
    }

    /// Ends a write.
    pub fn complete_write(&mut self, id: u64, applied: Applied) {
        let Some(at) = self.in_flight.iter().position(|entry| entry.id == id) else { return };
        let mut entry = self.in_flight.remove(at);
        match applied {
            Applied::All => {}
            Applied::Nothing => return,
            Applied::Sectors(count) => entry.alive.truncate(to_usize(count)),
        }
        if let Some(view) = &mut self.view {
            entry.apply(view, |_| true);
        }
        entry.order = self.next_order;
        self.next_order += 1;
        // A write that failed promises nothing, whatever its flags.
        let durable = (entry.fua || !self.write_cache) && applied == Applied::All;
        if durable {
            entry.apply(&mut self.durable, |_| true);
            for older in &mut self.completed {
                let start = entry.sector.max(older.sector);
                for sector in start..entry.end().min(older.end()) {
                    older.alive[to_usize(sector - older.sector)] = false;
                }
            }
        } else {
            self.completed.push_back(entry);
        }
    }

    /// Takes a flush.
    pub fn submit_flush(&mut self, id: u64) {
        self.flushes.push(Flush { id, covers: self.next_order });
    }

    /// Ends a flush. One that failed leaves all as it is, or `drops` what it was to bring to the
    /// medium: the cache then believes it clean.
    pub fn complete_flush(&mut self, id: u64, succeeded: bool, drops: bool) {
        let Some(at) = self.flushes.iter().position(|flush| flush.id == id) else { return };
        let flush = self.flushes.remove(at);
        if !succeeded && !drops {
            return;
        }
        while let Some(entry) = self.completed.pop_front_if(|entry| entry.order < flush.covers) {
            if succeeded {
                entry.apply(&mut self.durable, |_| true);
            }
        }
    }

    /// Changes bits of a byte on the medium. Reads see it where the cache has nothing newer.
    pub fn rot(&mut self, offset_bytes: u64, mask: u8) {
        self.durable.flip(offset_bytes, mask);
        let sector = offset_bytes / SECTOR_BYTES as u64;
        let cached =
            self.completed.iter().any(|entry| (entry.sector..entry.end()).contains(&sector));
        if let Some(view) = &mut self.view
            && !cached
        {
            view.flip(offset_bytes, mask);
        }
    }

    /// Reads bytes. Of a write in flight, a reader may see the old data or the new.
    pub fn read(&self, offset_bytes: u64, to: &mut [u8], rng: &mut Rng) {
        let Some(view) = &self.view else { return };
        let end = offset_bytes + to.len() as u64;
        let sector_bytes = SECTOR_BYTES as u64;
        let meets = |entry: &&Entry| {
            entry.sector * sector_bytes < end && offset_bytes < entry.end() * sector_bytes
        };
        let mut early = self.in_flight.iter().filter(meets).peekable();
        if early.peek().is_none() {
            view.read(offset_bytes, to);
            return;
        }
        let mut seen = view.clone();
        for entry in early {
            if rng.one_in(2) {
                entry.apply(&mut seen, |_| true);
            }
        }
        seen.read(offset_bytes, to);
    }

    /// The number of sectors that a cut may take, the versions of a sector counted apart.
    #[must_use]
    pub fn loose_sectors(&self) -> usize {
        self.loose().map(|entry| entry.alive.iter().filter(|&&alive| alive).count()).sum()
    }

    /// The number of writes that a cut may take.
    #[must_use]
    pub fn loose_writes(&self) -> usize {
        self.loose().count()
    }

    fn loose(&self) -> impl Iterator<Item = &Entry> {
        self.completed.iter().chain(&self.in_flight)
    }

    /// What the medium holds after a cut. `survives` is asked for every loose sector in order:
    /// the index of its write among the loose ones, and the index of the sector among all.
    pub fn cut(&self, mut survives: impl FnMut(usize, usize) -> bool) -> Image {
        let mut image = self.durable.clone();
        let mut sector = 0;
        for (write, entry) in self.loose().enumerate() {
            entry.apply(&mut image, |_| {
                sector += 1;
                survives(write, sector - 1)
            });
        }
        image
    }
}
