//! The data that a host was asked for, in the order of the requests.
//!
//! A host sends from a queue, as a rule: what it was asked for first leaves first, and data that
//! were asked for together leave together. An answer makes room for a command, which may come from
//! there on between the data. So the requests form *runs* without an answer in between, and where
//! one ends it is open what comes next. This is only a guess; a host may send as it likes.

use super::slots::{Slot, Slots, Stage};
use crate::nvme::tcp::framing::Coming;

/// The requests for data that are not served.
#[derive(Default)]
pub(super) struct Asked {
    first: Option<u32>,
    last: Option<u32>,
    /// Bytes that were asked for and whose PDUs have not begun.
    bytes: usize,
    /// Answers behind the last request.
    answers: u32,
}

/// A command's place among the requests.
#[derive(Clone, Copy, Default)]
pub(super) struct AskedLink {
    previous: Option<u32>,
    next: Option<u32>,
    /// Answers between the request before this one and this one that no command has followed.
    answers: u32,
}

/// Requests without an answer in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    /// Bytes of them that were not announced.
    pub(super) bytes: usize,
    /// It is open what comes before the first of them.
    pub(super) open: bool,
}

impl Slots {
    /// Bytes that the host was asked for and whose PDUs have not begun.
    #[inline]
    pub(super) fn asked_bytes(&self) -> usize {
        self.asked.bytes
    }

    /// A command's data were asked for.
    pub(super) fn ask(&mut self, tag: u32) {
        let previous = self.asked.last;
        let answers = std::mem::take(&mut self.asked.answers);
        let Some(slot) = self.get(tag) else { return };
        slot.asked = AskedLink { previous, next: None, answers };
        let bytes = slot.data_len as usize;
        self.asked.bytes += bytes;
        match previous.and_then(|previous| self.get(previous)) {
            Some(slot) => slot.asked.next = Some(tag),
            None => self.asked.first = Some(tag),
        }
        self.asked.last = Some(tag);
    }

    /// A data PDU announced so many bytes of what was asked for; `all`: and no others follow.
    pub(super) fn announce(&mut self, tag: u32, bytes: u32, all: bool) {
        self.asked.bytes = self.asked.bytes.saturating_sub(bytes as usize);
        let Some(slot) = self.get(tag) else { return };
        // Commands that were to come before these data have come, or come after the run.
        slot.asked.answers = 0;
        if !all {
            return;
        }
        let AskedLink { previous, next, .. } = std::mem::take(&mut slot.asked);
        match previous.and_then(|previous| self.get(previous)) {
            Some(slot) => slot.asked.next = next,
            None => self.asked.first = next,
        }
        match next.and_then(|next| self.get(next)) {
            Some(slot) => slot.asked.previous = previous,
            None => self.asked.last = previous,
        }
    }

    /// A command was answered.
    #[inline]
    pub(super) fn note_answer(&mut self) {
        self.asked.answers = self.asked.answers.saturating_add(1);
    }

    /// A command came.
    #[inline]
    pub(super) fn note_command(&mut self) {
        let answers = match self.asked.first.and_then(|first| self.get(first)) {
            Some(slot) => &mut slot.asked.answers,
            None => &mut self.asked.answers,
        };
        *answers = answers.saturating_sub(1);
    }

    /// The requests in their order.
    fn requests(&self) -> impl Iterator<Item = (u32, &Slot)> {
        let slot_of = |tag: Option<u32>| tag.and_then(|tag| Some((tag, self.at(tag)?)));
        let after = move |(_, slot): &(u32, &Slot)| slot_of(slot.asked.next);
        let all = std::iter::successors(slot_of(self.asked.first), after);
        all.take_while(|(_, slot)| slot.stage == Stage::Fetching)
    }

    /// The first run, up to `max` bytes or a little more.
    pub(super) fn first_run(&self, max: usize) -> Run {
        let mut run = Run::default();
        for (place, (_, slot)) in self.requests().enumerate() {
            let is_open = slot.asked.answers != 0;
            if place == 0 {
                run.open = is_open;
            } else if is_open {
                break;
            }
            run.bytes += slot.data_len.saturating_sub(slot.arrived) as usize;
            if run.bytes >= max {
                break;
            }
        }
        run
    }

    /// What comes next of the first run, when one data PDU has at most `data_max` bytes. Where it
    /// is open what comes before it, that is taken to be as many commands as there were answers.
    pub(super) fn coming(&self, data_max: u32) -> impl Iterator<Item = Coming> {
        let step = data_max.max(1);
        let is_first = |place: usize, slot: &Slot| place == 0 || slot.asked.answers == 0;
        let requests = self.requests().enumerate();
        let run = requests.take_while(move |(place, (_, slot))| is_first(*place, slot));
        run.flat_map(move |(_, (tag, slot))| {
            let (from, to) = (slot.arrived, slot.data_len);
            let bytes_at = move |offset: u32| (to - offset).min(step);
            (from..to).step_by(step as usize).map(move |offset| Coming {
                commands: if offset == from { slot.asked.answers } else { 0 },
                tag,
                offset,
                bytes: bytes_at(offset),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::spec::Sqe;

    fn asked(slots: &mut Slots, bytes: u32) -> u32 {
        let tag = slots.take(Sqe::default()).unwrap();
        let slot = slots.get(tag).unwrap();
        (slot.data_len, slot.stage) = (bytes, Stage::Fetching);
        slots.ask(tag);
        tag
    }

    fn announce(slots: &mut Slots, tag: u32, bytes: u32) {
        let slot = slots.get(tag).unwrap();
        slot.arrived += bytes;
        let all = slot.arrived == slot.data_len;
        slots.announce(tag, bytes, all);
    }

    fn run(slots: &Slots, max: usize) -> (usize, bool) {
        let run = slots.first_run(max);
        (run.bytes, run.open)
    }

    fn coming(slots: &Slots) -> Vec<(u32, u32, u32)> {
        slots.coming(4096).map(|coming| (coming.tag, coming.offset, coming.bytes)).collect()
    }

    #[test]
    fn data_are_expected_in_the_order_of_the_requests() {
        let mut slots = Slots::new(32);
        for bytes in [4096, 6000, 4096, 100] {
            asked(&mut slots, bytes);
        }
        assert_eq!(slots.asked_bytes(), 14_292);
        assert_eq!(run(&slots, usize::MAX), (14_292, false));
        assert_eq!(run(&slots, 5000), (10_096, false));
        let all = [(0, 0, 4096), (1, 0, 4096), (1, 4096, 1904), (2, 0, 4096), (3, 0, 100)];
        assert_eq!(coming(&slots), all);
        // Out of the middle, the end and the start; a part of one.
        announce(&mut slots, 1, 6000);
        assert_eq!(coming(&slots), [all[0], all[3], all[4]]);
        announce(&mut slots, 3, 100);
        announce(&mut slots, 0, 1000);
        assert_eq!(coming(&slots), [(0, 1000, 3096), all[3]]);
        announce(&mut slots, 0, 3096);
        assert_eq!(coming(&slots), [all[3]]);
        announce(&mut slots, 2, 4096);
        assert_eq!((coming(&slots), slots.asked_bytes()), (vec![], 0));
        // The list goes on after its end.
        slots.get(3).unwrap().arrived = 0;
        slots.ask(3);
        assert_eq!(coming(&slots), [all[4]]);
    }

    #[test]
    fn a_run_ends_where_a_command_may_come() {
        let mut slots = Slots::new(32);
        asked(&mut slots, 4096);
        slots.note_answer();
        asked(&mut slots, 4096);
        asked(&mut slots, 4096);
        slots.note_answer();
        asked(&mut slots, 4096);
        assert_eq!(run(&slots, usize::MAX), (4096, false));
        assert_eq!(coming(&slots).len(), 1);
        announce(&mut slots, 0, 4096);
        // It is open what comes now; a command tells, or data do.
        assert_eq!((run(&slots, usize::MAX), coming(&slots).len()), ((8192, true), 2));
        let commands: Vec<_> = slots.coming(1000).map(|coming| coming.commands).take(6).collect();
        assert_eq!(commands, [1, 0, 0, 0, 0, 0]);
        slots.note_command();
        assert_eq!((run(&slots, usize::MAX), coming(&slots).len()), ((8192, false), 2));
        announce(&mut slots, 1, 4096);
        announce(&mut slots, 2, 4096);
        assert_eq!(run(&slots, usize::MAX), (4096, true));
        announce(&mut slots, 3, 1000);
        assert_eq!(run(&slots, usize::MAX), (3096, false));
        announce(&mut slots, 3, 3096);
        // An answer whose command comes before anything is asked for is done with.
        slots.note_answer();
        slots.note_command();
        slots.get(2).unwrap().arrived = 0;
        slots.ask(2);
        assert_eq!(run(&slots, usize::MAX), (4096, false));
    }
}
