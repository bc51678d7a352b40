//! When a receive reaches ahead, and how many bytes it waits for.
//!
//! Large writes keep megabytes under way. Without this a receive ends with whatever the network
//! has brought, a few segments, and costs system calls each time. With many bytes to come a receive
//! is laid out for them and waits for a good part; what it waits for grows as long as it comes in
//! time, and shrinks when it does not. Where the guess at what comes next was wrong, the bytes have
//! to be moved, so that the next receives are ordinary ones, the more of them the more often that
//! happens.

/// The least that is waited for, and the most. A low-water mark takes memory of the kernel.
const LEVEL_MIN: usize = 128 << 10;
const LEVEL_MAX: usize = 2 << 20;
/// Bytes that may have to be moved in a receive that counts as well guessed.
const MOVED_MAX: usize = 16 << 10;
/// After so many wrong guesses the number of ordinary receives in between doubles no more.
const MISSES_MAX: u32 = 8;
/// So many right guesses in a row make up for the wrong ones before.
const HITS: u32 = 8;

/// How it has been going on a connection.
pub(super) struct Bulk {
    /// Ordinary receives until the next guess.
    pause: u32,
    misses: u32,
    hits: u32,
    /// Bytes that are waited for at the most.
    level: usize,
    /// The receive under way reaches ahead, and waits for so many bytes.
    waits: Option<usize>,
}

impl Bulk {
    /// Fewer bytes to come are received as they arrive: they are small writes, or a few.
    pub(super) const WORTH_BYTES: usize = 256 << 10;

    pub(super) const fn new() -> Self {
        Self { pause: 0, misses: 0, hits: 0, level: LEVEL_MIN, waits: None }
    }

    /// Whether the next receive should wait for its bytes, with so many to come.
    #[inline]
    pub(super) fn is_worth(&mut self, bytes: usize) -> bool {
        self.waits = None;
        if bytes < Self::WORTH_BYTES {
            return false;
        }
        if self.pause != 0 {
            self.pause -= 1;
            return false;
        }
        true
    }

    /// How many bytes a receive waits for when `certain` ones come before anything else may, of
    /// `asked_bytes` in all. The host should go on sending while they are looked at: where it is
    /// asked for little more, half of it is waited for, unless `others` keep the reactor busy.
    pub(super) fn begin(&mut self, certain: usize, asked_bytes: usize, others: bool) -> usize {
        let more = asked_bytes.saturating_sub(certain);
        let share = if others || more >= certain / 2 { certain } else { asked_bytes / 2 };
        let bytes = certain.min(share).min(self.level);
        let bytes = if bytes < LEVEL_MIN { 0 } else { bytes };
        self.waits = Some(bytes);
        bytes
    }

    /// A receive ended with so many bytes, of which some had to be moved.
    #[inline]
    pub(super) fn end(&mut self, bytes: usize, moved: usize) {
        if let Some(waited) = self.waits.take() {
            self.judge(waited, bytes, moved);
        }
    }

    fn judge(&mut self, waited: usize, bytes: usize, moved: usize) {
        if waited != 0 {
            let level = if bytes < waited { waited / 2 } else { (2 * waited).max(self.level) };
            self.level = level.clamp(LEVEL_MIN, LEVEL_MAX);
        }
        if moved > MOVED_MAX {
            self.misses = (self.misses + 1).min(MISSES_MAX);
            (self.pause, self.hits) = (1 << self.misses, 0);
        } else {
            self.hits += 1;
            if self.hits >= HITS {
                (self.misses, self.hits) = (0, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_is_waited_for_grows_in_time_and_shrinks_out_of_it() {
        let mut bulk = Bulk::new();
        assert!(!bulk.is_worth(Bulk::WORTH_BYTES - 1));
        let mut waited = Vec::new();
        for _ in 0..6 {
            assert!(bulk.is_worth(4 * MIB));
            let bytes = bulk.begin(2 * MIB, 4 * MIB, false);
            bulk.end(bytes, 0);
            waited.push(bytes);
        }
        assert_eq!(waited, [MIB / 8, MIB / 4, MIB / 2, MIB, 2 * MIB, 2 * MIB]);
        assert!(bulk.is_worth(4 * MIB));
        assert_eq!(bulk.begin(2 * MIB, 4 * MIB, false), 2 * MIB);
        bulk.end(MIB / 2, 0);
        assert!(bulk.is_worth(4 * MIB));
        assert_eq!(bulk.begin(2 * MIB, 4 * MIB, false), MIB);
    }

    #[test]
    fn half_of_the_last_bytes_is_waited_for_unless_others_are_at_it() {
        let mut bulk = Bulk { level: LEVEL_MAX, ..Bulk::new() };
        assert_eq!(bulk.begin(MIB, MIB, false), MIB / 2);
        assert_eq!(bulk.begin(MIB, MIB, true), MIB);
        assert_eq!(bulk.begin(MIB, 2 * MIB, false), MIB);
        // Too few to wait for.
        assert_eq!(bulk.begin(MIB / 8, MIB / 8, false), 0);
    }

    #[test]
    fn wrong_guesses_make_pauses_and_right_ones_end_them() {
        let mut bulk = Bulk::new();
        let mut pauses = Vec::new();
        for _ in 0..3 {
            while !bulk.is_worth(MIB) {}
            bulk.begin(MIB, MIB, false);
            bulk.end(MIB, MIB / 2);
            pauses.push(bulk.pause);
        }
        assert_eq!(pauses, [2, 4, 8]);
        for _ in 0..HITS {
            while !bulk.is_worth(MIB) {}
            bulk.begin(MIB, MIB, false);
            bulk.end(MIB, MOVED_MAX);
        }
        assert_eq!((bulk.pause, bulk.misses), (0, 0));
        // An ordinary receive says nothing.
        assert!(!bulk.is_worth(0));
        bulk.end(MIB, MIB);
        assert_eq!(bulk.misses, 0);
    }
}
