//! What a host is expected to send: the data that it was asked for, in the order of the requests,
//! and a command for each answer that it got in between.
//!
//! A host sends from a queue, as a rule: what it was asked for first leaves first, and an answer
//! makes room for a command, which leaves behind the data that were asked for before it. This is
//! only a guess at what comes next; a host may send as it likes.

use super::slots::{Slots, Stage};
use crate::nvme::tcp::framing::Coming;

/// The requests for data that are not served, and the answers in between.
#[derive(Default)]
pub(super) struct Asked {
    first: Option<u32>,
    last: Option<u32>,
    /// Bytes that were asked for and whose PDUs have not begun.
    bytes: usize,
    /// Answers behind the last request.
    answers: Answers,
}

/// A command's place among the requests.
#[derive(Clone, Copy, Default)]
pub(super) struct AskedLink {
    previous: Option<u32>,
    next: Option<u32>,
    /// Answers before this request and behind the one before it.
    answers: Answers,
}

/// Answers that have not been followed by a command.
#[derive(Clone, Copy, Default)]
struct Answers {
    /// Not followed where they should have been: given up the next time.
    late: u32,
    fresh: u32,
}

impl Answers {
    fn count(self) -> u32 {
        self.late + self.fresh
    }

    /// One of them was followed by a command.
    fn follow(&mut self) -> bool {
        let kind = if self.late != 0 { &mut self.late } else { &mut self.fresh };
        let some = *kind != 0;
        *kind -= u32::from(some);
        some
    }
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
        if !all {
            return;
        }
        let Some(slot) = self.get(tag) else { return };
        let AskedLink { previous, next, answers } = std::mem::take(&mut slot.asked);
        match previous.and_then(|previous| self.get(previous)) {
            Some(slot) => slot.asked.next = next,
            None => self.asked.first = next,
        }
        // Commands that did not come before these data may come before the next.
        match next.and_then(|next| self.get(next)) {
            Some(slot) => {
                slot.asked.previous = previous;
                slot.asked.answers.late += answers.fresh;
            }
            None => {
                self.asked.last = previous;
                self.asked.answers.late += answers.fresh;
            }
        }
    }

    /// A command was answered.
    #[inline]
    pub(super) fn note_answer(&mut self) {
        let answers = &mut self.asked.answers;
        answers.fresh = answers.fresh.saturating_add(1);
    }

    /// A command came.
    #[inline]
    pub(super) fn note_command(&mut self) {
        let first = self.asked.first.and_then(|first| self.get(first));
        if !first.is_some_and(|slot| slot.asked.answers.follow()) {
            self.asked.answers.follow();
        }
    }

    /// What may come next, when one data PDU has at most `data_max` bytes.
    pub(super) fn coming(&self, data_max: u32) -> impl Iterator<Item = Coming> {
        let slot_of = |tag: &u32| Some((*tag, self.at(*tag)?));
        let after = move |(_, slot): &(u32, &super::slots::Slot)| {
            slot.asked.next.as_ref().and_then(slot_of)
        };
        let requests = std::iter::successors(self.asked.first.as_ref().and_then(slot_of), after);
        requests.take_while(|(_, slot)| slot.stage == Stage::Fetching).flat_map(move |(tag, slot)| {
            let commands = slot.asked.answers.count() as usize;
            let commands = std::iter::repeat_n(Coming::Command, commands);
            let (from, to) = (slot.arrived, slot.data_len);
            let step = data_max.max(1);
            let data = (from..to).step_by(step as usize).map(move |offset| Coming::Data {
                tag,
                offset,
                bytes: (to - offset).min(step),
            });
            commands.chain(data)
        })
    }
}
