//! Commands that are ended before they have begun.

use std::rc::Rc;

use super::super::core_view::NsView;
use super::super::io::Access;
use super::slots::Slot;
use super::{AbortOutcome, Qpair, SlotRef};
use crate::NvmeStatus;
use crate::bdev::IoBuf;

impl Qpair {
    /// Aborts the command with an identifier, if it has not begun. Those that a device has begun
    /// are not aborted, since no device here can abandon one; the commands of which a controller
    /// keeps the [`Request`](super::super::Request) are its own to abort.
    pub fn abort(self: &Rc<Self>, cid: u16) -> AbortOutcome {
        let waiting = self.slots.take_waiting(|slot| slot.cid.get() == cid);
        let found = !waiting.is_empty();
        self.end_waiting(waiting, NvmeStatus::ABORTED_BY_REQUEST);
        if found {
            return AbortOutcome::Aborted;
        }
        let fused = self.fused.borrow_mut().take_if(|first| first.sqe().cid.get() == cid);
        if let Some(first) = fused {
            self.straight.set(true);
            first.finish(NvmeStatus::ABORTED_BY_REQUEST);
            return AbortOutcome::Aborted;
        }
        if self.slots.in_use().any(|slot| slot.cid.get() == cid) {
            AbortOutcome::NotAborted
        } else {
            AbortOutcome::NotFound
        }
    }

    /// Aborts the commands of a namespace that have not begun, for a preempt and abort.
    pub(crate) fn abort_waiting_of(self: &Rc<Self>, ns: &Rc<NsView>) {
        let waiting = self.slots.take_waiting(|slot| is_of(slot, ns));
        self.end_waiting(waiting, NvmeStatus::ABORTED_PREEMPT);
    }

    /// Whether a command of the namespace is in flight that reads or changes it. Reservation
    /// commands do neither: two that preempt each other would wait for each other.
    pub(crate) fn uses(&self, ns: &Rc<NsView>) -> bool {
        let busy = |slot: &Slot| Access::of(slot.opcode.get()) != Access::Free && is_of(slot, ns);
        self.slots.in_use().any(busy)
    }

    pub(super) fn drop_waiting(self: &Rc<Self>) {
        let waiting = self.slots.take_waiting(|_| true);
        self.end_waiting(waiting, NvmeStatus::ABORTED_SQ_DELETION);
    }

    pub(super) fn end_waiting(self: &Rc<Self>, waiting: Vec<SlotRef>, status: NvmeStatus) {
        for at in waiting {
            let command = self.slots.get(at).and_then(|slot| slot.waiting.take());
            let data = command.map_or(IoBuf::None, |command| command.data);
            self.respond(at, status, 0, data, 0);
        }
    }
}

/// Whether a command counts as in flight in a namespace.
fn is_of(slot: &Slot, ns: &Rc<NsView>) -> bool {
    let own = slot.ns.take();
    let same = own.as_ref().is_some_and(|own| Rc::ptr_eq(own, ns));
    slot.ns.set(own);
    same
}
