//! Where the writes of a load go on a device whose zones are written in order.
//!
//! Every zone is taken to have the capacity of the smallest, so that a place follows from its
//! number; the rest of larger zones stays unwritten.

/// The zones of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZoneShape {
    /// From the first block of a zone to that of the next, in blocks.
    pub zone_blocks: u64,
    /// Blocks of every zone that are written, from the first one on.
    pub capacity_blocks: u64,
    /// The number of zones.
    pub zones: u64,
}

impl ZoneShape {
    /// I/Os that a zone holds.
    #[must_use]
    pub fn slots_per_zone(&self, blocks_per_io: u64) -> u64 {
        self.capacity_blocks.checked_div(blocks_per_io).unwrap_or(0)
    }
}

/// The places of the I/Os of one core; positions are in units of an I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    /// One after the other.
    Dense {
        /// The length of an I/O in blocks.
        blocks_per_io: u64,
    },
    /// One after the other inside of zones.
    Zoned {
        /// The length of an I/O in blocks.
        blocks_per_io: u64,
        /// I/Os of a zone, at least 1.
        slots_per_zone: u64,
        /// From one zone to the next in blocks.
        zone_blocks: u64,
    },
}

impl Places {
    /// The first block of an I/O.
    pub(super) fn lba(self, slot: u64) -> u64 {
        match self {
            Self::Dense { blocks_per_io } => slot * blocks_per_io,
            Self::Zoned { blocks_per_io, slots_per_zone, zone_blocks } => {
                slot / slots_per_zone * zone_blocks + slot % slots_per_zone * blocks_per_io
            }
        }
    }

    /// Where the zone of an I/O begins and ends (exclusive), in I/Os.
    pub(super) fn zone_of(self, slot: u64) -> Option<(u64, u64)> {
        match self {
            Self::Dense { .. } => None,
            Self::Zoned { slots_per_zone, .. } => {
                let begin = slot / slots_per_zone * slots_per_zone;
                Some((begin, begin + slots_per_zone))
            }
        }
    }
}

/// Writes to zones, several zones at a time: each writer goes through zones of its own, one write
/// after the other.
#[derive(Debug)]
pub struct ZoneWriters {
    shape: ZoneShape,
    slots_per_zone: u64,
    blocks_per_io: u64,
    /// The core's zones.
    first: u64,
    end: u64,
    writers: Vec<Writer>,
    flush_every: Option<u64>,
}

/// What a writer does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneStep {
    /// Make the zone that begins at this block empty.
    Reset {
        /// The first block of the zone.
        lba: u64,
    },
    /// Write at this block, which is the zone's write pointer.
    Write {
        /// The first block.
        lba: u64,
    },
    /// Flush the device.
    Flush,
}

#[derive(Debug, Clone, Copy)]
struct Writer {
    zone: u64,
    /// I/Os written to the zone; none before it was reset.
    written: Option<u64>,
    /// Writes until the next flush.
    until_flush: u64,
}

impl ZoneWriters {
    pub(super) fn new(
        shape: ZoneShape,
        blocks_per_io: u64,
        (first, end): (u64, u64),
        flush_every: Option<u64>,
    ) -> Self {
        let slots_per_zone = shape.slots_per_zone(blocks_per_io);
        let writers = Vec::new();
        Self { shape, slots_per_zone, blocks_per_io, first, end, writers, flush_every }
    }

    /// Makes as many writers as there are zones for, `count` at the most; returns how many.
    pub fn start(&mut self, count: u64) -> u64 {
        let count = count.min(self.end - self.first);
        let until_flush = self.flush_every.unwrap_or(u64::MAX);
        let writer = |index| Writer { zone: self.first + index, written: None, until_flush };
        self.writers = (0..count).map(writer).collect();
        count
    }

    /// What a writer does after what it did last has succeeded.
    pub fn next_step(&mut self, index: usize) -> Option<ZoneStep> {
        let (count, begin) = (self.writers.len() as u64, index as u64);
        let writer = self.writers.get_mut(index)?;
        if writer.until_flush == 0 {
            writer.until_flush = self.flush_every.unwrap_or(u64::MAX);
            return Some(ZoneStep::Flush);
        }
        if writer.written == Some(self.slots_per_zone) {
            // The writers take turns at the zones; behind the last one each begins anew.
            let next = writer.zone + count;
            writer.zone = if next < self.end { next } else { self.first + begin };
            writer.written = None;
        }
        let lba = writer.zone * self.shape.zone_blocks;
        Some(match &mut writer.written {
            None => {
                writer.written = Some(0);
                ZoneStep::Reset { lba }
            }
            Some(written) => {
                *written += 1;
                writer.until_flush -= 1;
                ZoneStep::Write { lba: lba + (*written - 1) * self.blocks_per_io }
            }
        })
    }

    /// A writer's last write has failed, so nobody knows where its zone's write pointer is: it goes
    /// on with the next zone.
    pub fn leave_zone(&mut self, index: usize) {
        if let Some(writer) = self.writers.get_mut(index) {
            writer.written = Some(self.slots_per_zone);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ZoneShape = ZoneShape { zone_blocks: 100, capacity_blocks: 35, zones: 5 };

    #[test]
    fn every_writer_resets_a_zone_and_writes_it_in_order() {
        let mut writers = ZoneWriters::new(SHAPE, 10, (1, 5), Some(2));
        assert_eq!(writers.start(3), 3);
        let steps: Vec<_> = (0..10).filter_map(|_| writers.next_step(0)).collect();
        let (reset, write) = (|lba| ZoneStep::Reset { lba }, |lba| ZoneStep::Write { lba });
        // The first of three writers has the zones 1 and 4, and only the capacity is written.
        let wanted = [
            reset(100),
            write(100),
            write(110),
            ZoneStep::Flush,
            write(120),
            reset(400),
            write(400),
            ZoneStep::Flush,
            write(410),
            write(420),
        ];
        assert_eq!(steps, wanted);
        assert_eq!(writers.next_step(1), Some(reset(200)));
        assert_eq!(writers.next_step(1), Some(write(200)));
        writers.leave_zone(1);
        assert_eq!(writers.next_step(1), Some(reset(200)), "the second has one zone only");
        assert_eq!(writers.start(9), 4, "no more than there are zones for");
        assert_eq!(writers.next_step(4), None);
    }

    #[test]
    fn places_are_inside_of_zones() {
        let zoned = Places::Zoned { blocks_per_io: 10, slots_per_zone: 3, zone_blocks: 100 };
        let places: Vec<u64> = (0..7).map(|slot| zoned.lba(slot)).collect();
        assert_eq!(places, [0, 10, 20, 100, 110, 120, 200]);
        assert_eq!(zoned.zone_of(4), Some((3, 6)));
        let dense = Places::Dense { blocks_per_io: 10 };
        assert_eq!((dense.lba(4), dense.zone_of(4)), (40, None));
    }
}
