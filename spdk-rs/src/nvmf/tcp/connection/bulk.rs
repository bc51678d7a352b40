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

/// What a receive is laid out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guess {
    /// Whatever comes, a little of it.
    None,
    /// The data that were asked for.
    Data,
    /// A command for each answer, and then data: a host that sends in the order in which it is
    /// told what to send.
    Order,
}

/// How often something was guessed right.
#[derive(Default)]
struct Record {
    /// Occasions until the next guess.
    pause: u32,
    misses: u32,
    hits: u32,
}

impl Record {
    fn is_due(&mut self) -> bool {
        if self.pause != 0 {
            self.pause -= 1;
            return false;
        }
        true
    }

    fn note(&mut self, right: bool) {
        if !right {
            self.misses = (self.misses + 1).min(MISSES_MAX);
            (self.pause, self.hits) = (1 << self.misses, 0);
            return;
        }
        self.hits += 1;
        if self.hits >= HITS {
            (self.misses, self.hits) = (0, 0);
        }
    }
}

/// How it has been going on a connection.
pub(super) struct Bulk {
    data: Record,
    order: Record,
    /// Bytes that are waited for at the most.
    level: usize,
    /// What the receive under way is laid out for, and the bytes that it waits for.
    under_way: Option<(Guess, usize)>,
}

impl Bulk {
    /// Fewer bytes to come are received as they arrive: they are small writes, or a few.
    pub(super) const WORTH_BYTES: usize = 256 << 10;

    pub(super) fn new() -> Self {
        let (data, order) = (Record::default(), Record::default());
        Self { data, order, level: LEVEL_MIN, under_way: None }
    }

    /// Whether the next receive should wait for its bytes, with so many to come.
    #[inline]
    pub(super) fn is_worth(&mut self, bytes: usize) -> bool {
        self.under_way = None;
        bytes >= Self::WORTH_BYTES && self.data.is_due()
    }

    /// Whether to believe that commands come where they would in the order of what was sent.
    pub(super) fn trusts_order(&mut self) -> bool {
        self.order.is_due()
    }

    /// How many bytes a receive waits for when `certain` ones come before anything else may, of
    /// `asked_bytes` in all. The host should go on sending while they are looked at: where it is
    /// asked for little more, three quarters of it are waited for, unless `others` keep the reactor busy.
    pub(super) fn begin(
        &mut self,
        guess: Guess,
        certain: usize,
        asked_bytes: usize,
        others: bool,
    ) -> usize {
        let more = asked_bytes.saturating_sub(certain);
        let share =
            if others || more >= certain / 2 { certain } else { asked_bytes - asked_bytes / 4 };
        let bytes = certain.min(share).min(self.level);
        let bytes = if bytes < LEVEL_MIN { 0 } else { bytes };
        self.under_way = Some((guess, bytes));
        bytes
    }

    /// A receive ended with so many bytes, of which some had to be moved.
    #[inline]
    pub(super) fn end(&mut self, bytes: usize, moved: usize) {
        if let Some((guess, waited)) = self.under_way.take() {
            self.judge(guess, waited, bytes, moved);
        }
    }

    fn judge(&mut self, guess: Guess, waited: usize, bytes: usize, moved: usize) {
        let right = moved <= MOVED_MAX;
        match guess {
            // It has room for little, which says nothing about what comes in time.
            Guess::None => return,
            Guess::Data => self.data.note(right),
            Guess::Order => self.order.note(right),
        }
        if waited != 0 {
            let level = if bytes < waited { waited / 2 } else { (2 * waited).max(self.level) };
            self.level = level.clamp(LEVEL_MIN, LEVEL_MAX);
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
            let bytes = bulk.begin(Guess::Data, 2 * MIB, 4 * MIB, false);
            bulk.end(bytes, 0);
            waited.push(bytes);
        }
        assert_eq!(waited, [MIB / 8, MIB / 4, MIB / 2, MIB, 2 * MIB, 2 * MIB]);
        assert!(bulk.is_worth(4 * MIB));
        assert_eq!(bulk.begin(Guess::Data, 2 * MIB, 4 * MIB, false), 2 * MIB);
        bulk.end(MIB / 2, 0);
        assert!(bulk.is_worth(4 * MIB));
        assert_eq!(bulk.begin(Guess::Data, 2 * MIB, 4 * MIB, false), MIB);
    }

    #[test]
    fn not_all_of_the_last_bytes_is_waited_for_unless_others_are_at_it() {
        let mut bulk = Bulk { level: LEVEL_MAX, ..Bulk::new() };
        assert_eq!(bulk.begin(Guess::Data, MIB, MIB, false), 3 * MIB / 4);
        assert_eq!(bulk.begin(Guess::Data, MIB, MIB, true), MIB);
        assert_eq!(bulk.begin(Guess::Data, MIB, 2 * MIB, false), MIB);
        // Too few to wait for.
        assert_eq!(bulk.begin(Guess::Data, MIB / 8, MIB / 8, false), 0);
    }

    #[test]
    fn a_look_says_nothing_and_wrong_orders_leave_data_alone() {
        let mut bulk = Bulk { level: LEVEL_MAX, ..Bulk::new() };
        bulk.begin(Guess::None, MIB, 2 * MIB, false);
        bulk.end(MIB / 16, 0);
        assert_eq!(bulk.level, LEVEL_MAX);
        assert!(bulk.trusts_order());
        bulk.begin(Guess::Order, MIB, 2 * MIB, false);
        bulk.end(MIB, MIB);
        assert_eq!((bulk.order.pause, bulk.data.pause), (2, 0));
        assert!(bulk.is_worth(MIB) && !bulk.trusts_order());
        assert!(bulk.is_worth(MIB) && !bulk.trusts_order());
        assert!(bulk.is_worth(MIB) && bulk.trusts_order());
    }

    #[test]
    fn wrong_guesses_make_pauses_and_right_ones_end_them() {
        let mut bulk = Bulk::new();
        let mut pauses = Vec::new();
        for _ in 0..3 {
            while !bulk.is_worth(MIB) {}
            bulk.begin(Guess::Data, MIB, MIB, false);
            bulk.end(MIB, MIB / 2);
            pauses.push(bulk.data.pause);
        }
        assert_eq!(pauses, [2, 4, 8]);
        for _ in 0..HITS {
            while !bulk.is_worth(MIB) {}
            bulk.begin(Guess::Data, MIB, MIB, false);
            bulk.end(MIB, MOVED_MAX);
        }
        assert_eq!((bulk.data.pause, bulk.data.misses), (0, 0));
        // An ordinary receive says nothing.
        assert!(!bulk.is_worth(0));
        bulk.end(MIB, MIB);
        assert_eq!(bulk.data.misses, 0);
    }
}
