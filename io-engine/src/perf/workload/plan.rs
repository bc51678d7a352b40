//! The order of writes and checks in `-w verify`.
//!
//! The core's part of the device is gone through window by window: a window is written, drained,
//! read back and checked, drained. After the last window the next pass starts with the next
//! generation. At the end everything that was ever written is read once more, which finds what a
//! later write to another block has destroyed.
//!
//! Invariants:
//!
//! - Between two [`Step::Drain`]s no block is touched twice, so the order of completion is free.
//! - Every write is read back after it, with the generation it was written with.
//! - Once stopped, the plan issues no further write and comes to [`Step::Done`].
//! - On a zoned device a zone is reset before its first write, and no write is issued before the
//!   one before it has ended. What a reset took away and nobody wrote again is not asked for.

use super::zones::Places;

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write the pattern of this generation.
    Write {
        /// The first block.
        lba: u64,
        /// The generation to write.
        generation: u64,
    },
    /// Read, and check that this generation is there.
    Read {
        /// The first block.
        lba: u64,
        /// The generation that was written last.
        generation: u64,
    },
    /// Make the zone that begins at a block empty; nothing is in flight.
    Reset {
        /// The first block of the zone.
        lba: u64,
    },
    /// Flush the device; nothing is in flight.
    Flush,
    /// Wait until nothing is in flight before asking again.
    Drain,
    /// All is written and checked.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Writing the window.
    Write,
    /// The window is written and drained.
    Flush,
    /// Reading the window back.
    Check,
    /// Reading back everything that was ever written.
    Audit,
    Done,
}

/// The plan of one core; positions are in units of an I/O.
#[derive(Debug)]
pub struct VerifyPlan {
    first: u64,
    end: u64,
    places: Places,
    /// Wait before the next write.
    waits: bool,
    /// The end of the zone that was reset last; what lies in it behind the last write is gone.
    wiped: u64,
    flushes: bool,
    window_len: u64,
    window: u64,
    /// Where writing in the window has come to, or stopped.
    written: u64,
    next: u64,
    generation: u64,
    phase: Phase,
    stopped: bool,
}

/// The longest window in I/Os. Long enough that draining twice costs little at any useful depth,
/// short enough that even a window of 1 MiB I/Os (1 GiB) is checked soon after it is written.
const WINDOW_MAX: u64 = 1024;

impl VerifyPlan {
    /// A plan over the I/Os from `first` to `end` (exclusive, not empty). A `flush_every` shortens
    /// the window to that many writes and flushes each window before it is checked.
    pub(super) fn new(first: u64, end: u64, places: Places, flush_every: Option<u64>) -> Self {
        Self {
            first,
            end,
            places,
            waits: false,
            wiped: first,
            flushes: flush_every.is_some(),
            window_len: flush_every.unwrap_or(WINDOW_MAX).clamp(1, WINDOW_MAX),
            window: first,
            written: first,
            next: first,
            generation: 1,
            phase: Phase::Write,
            stopped: false,
        }
    }

    /// Ends the writing: what was written is still checked, then comes [`Step::Done`].
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The next step. After [`Step::Drain`], ask again only when nothing is in flight.
    pub fn next_step(&mut self) -> Step {
        match self.phase {
            Phase::Write => self.write(),
            Phase::Flush => {
                self.enter(Phase::Check, self.window);
                Step::Flush
            }
            Phase::Check => self.check(),
            Phase::Audit => self.audit(),
            Phase::Done => Step::Done,
        }
    }

    fn write(&mut self) -> Step {
        let window_end = self.window.saturating_add(self.window_len).min(self.end);
        if self.stopped || self.next == window_end {
            self.written = self.next;
            self.waits = false;
            let phase = if self.flushes { Phase::Flush } else { Phase::Check };
            self.enter(phase, self.window);
            return Step::Drain;
        }
        if std::mem::take(&mut self.waits) {
            return Step::Drain;
        }
        if let Some((begin, end)) = self.places.zone_of(self.next) {
            self.waits = true;
            if begin == self.next && self.wiped != end {
                self.wiped = end;
                return Step::Reset { lba: self.places.lba(begin) };
            }
        }
        self.next += 1;
        Step::Write { lba: self.places.lba(self.next - 1), generation: self.generation }
    }

    fn check(&mut self) -> Step {
        if self.next < self.written {
            self.next += 1;
            return Step::Read { lba: self.places.lba(self.next - 1), generation: self.generation };
        }
        if self.stopped {
            self.enter(Phase::Audit, self.first);
        } else if self.written == self.end {
            self.generation += 1;
            self.wiped = self.first;
            self.window = self.first;
            self.enter(Phase::Write, self.first);
        } else {
            self.window = self.written;
            self.enter(Phase::Write, self.window);
        }
        Step::Drain
    }

    fn audit(&mut self) -> Step {
        // In the first pass nothing lies beyond what was written; later, the pass before does.
        let end = if self.generation == 1 { self.written } else { self.end };
        if self.generation > 1 && (self.written..self.wiped).contains(&self.next) {
            self.next = self.wiped;
        }
        if self.next >= end {
            self.phase = Phase::Done;
            return Step::Drain;
        }
        let slot = self.next;
        self.next += 1;
        let generation = self.generation - u64::from(slot >= self.written);
        Step::Read { lba: self.places.lba(slot), generation }
    }

    fn enter(&mut self, phase: Phase, at: u64) {
        self.phase = phase;
        self.next = at;
    }
}
