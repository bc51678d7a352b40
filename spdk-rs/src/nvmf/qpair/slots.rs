//! The places of a queue pair's commands, and the lists they stand on.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use super::super::core_view::NsView;
use super::super::io::Command;

/// Places before Connect: one for it, and one to answer a host that does not wait.
const EARLY: usize = 2;

/// Set in the index of a place from before Connect.
const EARLY_BIT: u32 = 1 << 31;

/// The end of a list.
const NONE: u32 = u32::MAX;

/// A command in its place: index and generation, so that a late answer finds nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotRef {
    index: u32,
    generation: u32,
}

impl SlotRef {
    /// As the tag of an I/O.
    #[inline(always)]
    pub(crate) fn tag(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[inline(always)]
    pub(super) fn of_tag(tag: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the tag")]
        let (index, generation) = (tag as u32, (tag >> 32) as u32);
        Self { index, generation }
    }
}

/// What a place is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Nothing.
    Free,
    /// An I/O of a device is under way for it.
    Device,
    /// It waits for memory or for a slot of the block device layer.
    Waiting,
    /// Somebody holds its `Request`.
    Held,
}

/// One command.
pub(super) struct Slot {
    pub(super) generation: Cell<u32>,
    pub(super) next: Cell<u32>,
    pub(super) tag: Cell<u32>,
    pub(super) cid: Cell<u16>,
    pub(super) usage: Cell<Use>,
    pub(super) opcode: Cell<u8>,
    pub(super) nsid: Cell<u32>,
    /// Bytes that go to the host when the device has ended with success.
    pub(super) reply_len: Cell<u32>,
    /// The namespace, while it counts as in flight there.
    pub(super) ns: Cell<Option<Rc<NsView>>>,
    /// Of a command that waits.
    pub(super) waiting: Cell<Option<Command>>,
}

impl Slot {
    fn new(next: u32) -> Self {
        Self {
            generation: Cell::new(0),
            next: Cell::new(next),
            tag: Cell::new(0),
            cid: Cell::new(0),
            usage: Cell::new(Use::Free),
            opcode: Cell::new(0),
            nsid: Cell::new(0),
            reply_len: Cell::new(0),
            ns: Cell::new(None),
            waiting: Cell::new(None),
        }
    }
}

/// The places of a queue pair, and which of them are free.
pub(super) struct Slots {
    early: [Slot; EARLY],
    main: OnceCell<Box<[Slot]>>,
    free: Cell<u32>,
    used: Cell<usize>,
    waiting: Cell<(u32, u32)>,
}

impl Slots {
    pub(super) fn new() -> Self {
        let early = [Slot::new(EARLY_BIT | 1), Slot::new(NONE)];
        Self {
            early,
            main: OnceCell::new(),
            free: Cell::new(EARLY_BIT),
            used: Cell::new(0),
            waiting: Cell::new((NONE, NONE)),
        }
    }

    /// Makes the places of a connected queue; those from before it are not used any more once
    /// they are free. Has no effect the second time.
    pub(super) fn grow(&self, count: u32) {
        let next = |index: u32| if index + 1 < count { index + 1 } else { NONE };
        if self.main.set((0..count).map(|index| Slot::new(next(index))).collect()).is_ok() {
            self.free.set(if count == 0 { NONE } else { 0 });
        }
    }

    /// Places that are in use.
    #[inline(always)]
    pub(super) fn used(&self) -> usize {
        self.used.get()
    }

    #[inline(always)]
    fn at(&self, index: u32) -> Option<&Slot> {
        if index & EARLY_BIT == 0 {
            self.main.get()?.get(index as usize)
        } else {
            self.early.get((index ^ EARLY_BIT) as usize)
        }
    }

    /// Takes a free place.
    #[inline(always)]
    pub(super) fn take(&self) -> Option<(SlotRef, &Slot)> {
        let index = self.free.get();
        let slot = self.at(index)?;
        self.free.set(slot.next.get());
        self.used.set(self.used.get() + 1);
        Some((SlotRef { index, generation: slot.generation.get() }, slot))
    }

    /// The place of a command that has not ended.
    #[inline(always)]
    pub(super) fn get(&self, at: SlotRef) -> Option<&Slot> {
        let slot = self.at(at.index)?;
        (slot.generation.get() == at.generation && slot.usage.get() != Use::Free).then_some(slot)
    }

    /// Frees a place.
    #[inline(always)]
    pub(super) fn free(&self, at: SlotRef, slot: &Slot) {
        slot.usage.set(Use::Free);
        slot.generation.set(at.generation.wrapping_add(1));
        self.used.set(self.used.get() - 1);
        // A place from before Connect is not given out again when there are others.
        if at.index & EARLY_BIT == 0 || self.main.get().is_none() {
            slot.next.set(self.free.get());
            self.free.set(at.index);
        }
    }

    /// Whether some command waits.
    #[inline(always)]
    pub(super) fn any_waiting(&self) -> bool {
        self.waiting.get().0 != NONE
    }

    /// Puts a command at the end of those that wait, or at their head.
    pub(super) fn wait(&self, at: SlotRef, slot: &Slot, first: bool) {
        slot.usage.set(Use::Waiting);
        let (head, tail) = self.waiting.get();
        if head == NONE {
            slot.next.set(NONE);
            self.waiting.set((at.index, at.index));
        } else if first {
            slot.next.set(head);
            self.waiting.set((at.index, tail));
        } else {
            slot.next.set(NONE);
            if let Some(last) = self.at(tail) {
                last.next.set(at.index);
            }
            self.waiting.set((head, at.index));
        }
    }

    /// Takes the command that waits longest.
    pub(super) fn next_waiting(&self) -> Option<(SlotRef, &Slot)> {
        let (head, tail) = self.waiting.get();
        let slot = self.at(head)?;
        let next = slot.next.get();
        self.waiting.set((next, if next == NONE { NONE } else { tail }));
        Some((SlotRef { index: head, generation: slot.generation.get() }, slot))
    }

    /// Takes the commands that wait and meet a condition.
    pub(super) fn take_waiting(&self, mut is: impl FnMut(&Slot) -> bool) -> Vec<SlotRef> {
        let (mut taken, mut others) = (Vec::new(), Vec::new());
        while let Some((at, slot)) = self.next_waiting() {
            if is(slot) { taken.push(at) } else { others.push((at, slot)) }
        }
        others.into_iter().for_each(|(at, slot)| self.wait(at, slot, false));
        taken
    }

    /// The places in use.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &Slot> {
        let main = self.main.get().into_iter().flatten();
        self.early.iter().chain(main).filter(|slot| slot.usage.get() != Use::Free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_answer_finds_nobody() {
        let slots = Slots::new();
        slots.grow(2);
        let (old, slot) = slots.take().unwrap();
        slot.usage.set(Use::Held);
        assert!(slots.get(old).is_some());
        assert_eq!(SlotRef::of_tag(old.tag()), old);
        slots.free(old, slot);
        assert!(slots.get(old).is_none());
        let (new, slot) = slots.take().unwrap();
        slot.usage.set(Use::Held);
        assert_eq!(new.index, old.index, "the same place");
        assert!(slots.get(old).is_none() && slots.get(new).is_some());
        assert!(slots.get(SlotRef { index: 2, ..new }).is_none());
    }

    #[test]
    fn places_from_before_connect_are_not_given_out_again() {
        let slots = Slots::new();
        let (early, slot) = slots.take().unwrap();
        slot.usage.set(Use::Held);
        slots.grow(3);
        slots.free(early, slot);
        let taken: Vec<_> = std::iter::from_fn(|| slots.take()).map(|(at, _)| at.index).collect();
        assert_eq!((taken, slots.used()), (vec![0, 1, 2], 3));
    }
}
