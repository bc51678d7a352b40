//! The commands of a connection, from their capsule until their data have left.
#![allow(unsafe_code, reason = "promises that buffers of commands stay where they are")]

use std::collections::VecDeque;

use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::env::IoVec;
use crate::nvme::spec::{Cqe, Sqe};
use crate::nvme::tcp::framing::Destinations;

use super::asked::{Asked, AskedLink};

/// Places that are made at a time.
const CHUNK: usize = 32;

/// Where a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nowhere: the place is free.
    Free,
    /// Its in-capsule data arrive.
    InCapsule,
    /// It waits for memory for its data.
    NoMemory,
    /// Its data will be asked for when the stream has room.
    Asking,
    /// Its data were asked for (R2T).
    Fetching,
    /// It is complete, and waits for the other one of its fused pair.
    Ready,
    /// The core has it.
    Executing,
    /// Its response waits for room in the stream.
    Answered,
    /// Its data are being sent.
    Sending,
}

/// One command.
pub(super) struct Slot {
    pub(super) stage: Stage,
    pub(super) sqe: Sqe,
    pub(super) data: IoBuf,
    /// Bytes that its SGL names, or, of an answer, bytes that are sent.
    pub(super) data_len: u32,
    /// Bytes of the data that have been announced in data PDUs.
    pub(super) arrived: u32,
    /// Bytes of memory that count as waiting for the host.
    pub(super) held: usize,
    /// How it ends when it cannot be executed.
    pub(super) refusal: Option<NvmeStatus>,
    /// The other one of a fused pair.
    pub(super) partner: Option<u32>,
    /// The first of a fused pair, whose second may still come.
    pub(super) expects_partner: bool,
    /// Of an answer that waits.
    pub(super) cqe: Cqe,
    /// Of a command whose data were asked for.
    pub(super) asked: AskedLink,
}

impl Slot {
    fn new() -> Self {
        Self {
            stage: Stage::Free,
            sqe: Sqe::default(),
            data: IoBuf::None,
            data_len: 0,
            arrived: 0,
            held: 0,
            refusal: None,
            partner: None,
            expects_partner: false,
            cqe: Cqe::default(),
            asked: AskedLink::default(),
        }
    }
}

/// The places for commands; there are more of them when need be, up to a number.
pub(super) struct Slots {
    chunks: Vec<Box<[Slot]>>,
    free: Vec<u32>,
    max: usize,
    /// Answers and requests for data that wait for room in the stream, in their order.
    pub(super) unsent: VecDeque<u32>,
    /// Commands that wait for memory for their data, in their order.
    pub(super) starved: VecDeque<u32>,
    /// Commands in the stage `Fetching`.
    pub(super) asked: Asked,
}

impl Slots {
    /// Up to `max` places.
    pub(super) fn new(max: usize) -> Self {
        let (unsent, starved) = (VecDeque::new(), VecDeque::new());
        let asked = Asked::default();
        Self { chunks: Vec::new(), free: Vec::new(), max, unsent, starved, asked }
    }

    fn len(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// A free place; none when all of them are taken.
    pub(super) fn take(&mut self, sqe: Sqe) -> Option<u32> {
        if self.free.is_empty() {
            self.grow()?;
        }
        let tag = self.free.pop()?;
        let slot = self.get(tag)?;
        (slot.sqe, slot.data_len, slot.arrived) = (sqe, 0, 0);
        (slot.refusal, slot.partner, slot.expects_partner) = (None, None, false);
        Some(tag)
    }

    #[cold]
    fn grow(&mut self) -> Option<()> {
        if self.len() >= self.max {
            return None;
        }
        let from = u32::try_from(self.len()).ok()?;
        let to = u32::try_from(self.len() + CHUNK).ok()?;
        self.chunks.push((0..CHUNK).map(|_| Slot::new()).collect());
        // The lowest number is taken first.
        self.free.extend((from..to).rev());
        self.unsent.reserve(self.len());
        self.starved.reserve(self.len());
        Some(())
    }

    /// The place of a tag.
    #[inline]
    pub(super) fn get(&mut self, tag: u32) -> Option<&mut Slot> {
        let index = usize::try_from(tag).ok()?;
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    pub(super) fn at(&self, tag: u32) -> Option<&Slot> {
        let index = usize::try_from(tag).ok()?;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// Frees a place, and returns its data to be dropped.
    pub(super) fn free(&mut self, tag: u32) -> IoBuf {
        let Some(slot) = self.get(tag) else { return IoBuf::None };
        if slot.stage == Stage::Free {
            return IoBuf::None;
        }
        slot.stage = Stage::Free;
        let data = std::mem::take(&mut slot.data);
        self.free.push(tag);
        data
    }

    /// Commands whose data were asked for, or whose memory waits for them.
    pub(super) fn held_bytes(&self) -> usize {
        self.chunks.iter().flatten().map(|slot| slot.held).sum()
    }

    /// Whether some command waits for data from the host, or its own wait to be sent.
    pub(super) fn any_waits_for_peer(&self) -> bool {
        let waits = |slot: &Slot| {
            matches!(
                slot.stage,
                Stage::InCapsule
                    | Stage::Asking
                    | Stage::Fetching
                    | Stage::Answered
                    | Stage::Sending
            )
        };
        self.chunks.iter().flatten().any(waits)
    }
}

// SAFETY: the table is that of a buffer that the slot owns from before the receiver is told its tag
// until the step that reports the payload: a slot in the stages `InCapsule` and `Fetching` gives
// its data away in no other place, and the slots live until the stream has been closed, which ends
// the receiver. What is said to come is of slots in the stage `Fetching`.
unsafe impl Destinations for Slots {
    #[inline]
    fn table(&self, tag: u32) -> &[IoVec] {
        self.at(tag).map_or(&[], |slot| slot.data.io_vecs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_used_again() {
        let mut slots = Slots::new(CHUNK + 1);
        let mut taken = Vec::new();
        while let Some(tag) = slots.take(Sqe::default()) {
            slots.get(tag).unwrap().stage = Stage::Executing;
            taken.push(tag);
        }
        assert_eq!(taken.len(), 2 * CHUNK);
        assert_eq!(taken, (0..64).collect::<Vec<_>>());
        assert!(slots.get(64).is_none());
        let _ = slots.free(5);
        // A second time has no effect.
        let _ = slots.free(5);
        assert_eq!(slots.take(Sqe::default()), Some(5));
        assert_eq!(slots.take(Sqe::default()), None);
    }
}
