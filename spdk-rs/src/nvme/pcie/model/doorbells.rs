//! How the model learns of new commands: by its doorbells, by their shadows, and from its own memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::{Fault, Model, State};
use crate::nvme::spec::register::offset;

/// Steps without work after which it looks at the shadows no more until a doorbell is rung.
const AWAKE_STEPS: u32 = 50;

/// What a doorbell of the model holds until it is rung.
const NOT_RUNG: u32 = u32::MAX;

/// Bit 0 of CMBMSC: the capabilities of its memory can be read; bit 1: it is addressed.
const MEMORY_ON: u64 = 3;

/// Capabilities of its memory: submission queues only (bit 0), sizes in 4 KiB (bits 11:8 are 0).
const MEMORY_QUEUES: u32 = 1;

/// Where its memory is: BAR 2, from the start.
const MEMORY_BAR: u32 = 2;

/// What it knows of doorbells.
#[derive(Default)]
pub(super) struct Bells {
    /// The shadows, and what it has seen of them, once they are configured.
    shadows: Option<(u64, u64)>,
    /// Values of doorbells of submission queues that it has noticed.
    noticed: BTreeMap<u16, u32>,
    /// Steps for which it goes on looking at a queue's shadow.
    awake: BTreeMap<u16, u32>,
}

impl Bells {
    pub(super) fn configure(&mut self, shadows: u64, events: u64) {
        assert_eq!((shadows | events) % 4096, 0, "buffers start at a page");
        self.shadows = Some((shadows, events));
    }
}

impl Model {
    /// A queue was made anew: nobody has rung its doorbell.
    pub(super) fn reset_doorbell(&self, state: &mut State, qid: u16) {
        state.bells.noticed.remove(&qid);
        state.bells.awake.remove(&qid);
        let value = if state.bells.shadows.is_some() { NOT_RUNG } else { 0 };
        self.registers.write32(0x1000 + usize::from(qid) * 8, value);
    }

    /// The tail of a submission queue, as far as the model knows it.
    ///
    /// With shadows it looks at them for as long as there is work, and asks for the doorbell before
    /// it stops, as a thread that goes to sleep does.
    pub(super) fn tail(&self, state: &mut State, qid: u16) -> u32 {
        let register = 0x1000 + usize::from(qid) * 8;
        let rung = self.registers.read32(register);
        let Some((shadows, events)) = state.bells.shadows.filter(|_| qid != 0) else {
            if state.bells.noticed.insert(qid, rung).unwrap_or(0) != rung {
                state.seen.doorbells += 1;
            }
            return rung;
        };
        // With shadows a doorbell may be rung with the value that it was rung with last.
        let is_news = rung != NOT_RUNG;
        if is_news {
            state.seen.doorbells += 1;
            self.registers.write32(register, NOT_RUNG);
        }
        let place = u64::from(qid) * 8;
        let look = |model: &Self, state: &mut State| {
            std::sync::atomic::fence(Ordering::SeqCst);
            let bytes = model.read(state, shadows + place, 4).unwrap();
            u32::from_le_bytes(bytes.try_into().unwrap())
        };
        let head = state.sqs.get(&qid).map_or(0, |sq| u32::from(sq.head));
        let awake = state.bells.awake.get(&qid).copied().unwrap_or(0);
        if !is_news && awake == 0 {
            return head;
        }
        let tail = look(self, state);
        let left = if is_news || tail != head { AWAKE_STEPS } else { awake - 1 };
        state.bells.awake.insert(qid, left);
        if left != 0 {
            return tail;
        }
        if Self::take(state, |fault| *fault == Fault::Oversleeps).is_some() {
            return head;
        }
        // It asks for the next doorbell, and looks once more: one may have been left out before.
        self.write(state, events + place, &head.to_le_bytes());
        let tail = look(self, state);
        if tail != head {
            state.bells.awake.insert(qid, AWAKE_STEPS);
        }
        tail
    }

    /// Whether it looks at a queue's shadow no more until a doorbell is rung.
    pub(crate) fn sleeps(&self, qid: u16) -> bool {
        self.lock().bells.awake.get(&qid) == Some(&0)
    }

    /// Shows its own memory. It is for the host to switch it on (CMBMSC).
    pub(super) fn show_memory(&self) {
        let Some(own) = &self.own else { return };
        let units = u32::try_from(own.len() / 4096).unwrap();
        self.registers.write32(offset::CMBLOC as usize, MEMORY_BAR);
        self.registers.write32(offset::CMBSZ as usize, units << 12 | MEMORY_QUEUES);
    }

    /// An entry of a submission queue, from the host's memory or its own.
    pub(super) fn fetch_entry(&self, state: &mut State, at: u64) -> Option<Vec<u8>> {
        let control = self.registers.read64(offset::CMBMSC as usize);
        let inside = at.wrapping_sub(control & !0xfff);
        if let Some(own) = &self.own
            && control & MEMORY_ON == MEMORY_ON
            && inside < own.len() as u64
        {
            state.seen.from_own_memory += 1;
            let first = usize::try_from(inside).unwrap();
            let words = (0..8).map(|word| own.read64(first + word * 8));
            return Some(words.flat_map(u64::to_le_bytes).collect());
        }
        self.read(state, at, 64)
    }
}
