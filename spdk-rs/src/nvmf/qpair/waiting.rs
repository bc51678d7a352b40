//! Commands that wait for memory or for a slot of the block device layer.
//!
//! What they wait for may be freed anywhere: by this queue pair, by another one, by a transport,
//! by another core. So the reactor looks again every so often, only while some command waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::super::core_view::NsView;
use super::super::io::Command;
use super::carry::enter;
use super::{Qpair, SlotRef};
use crate::NvmeStatus;
use crate::reactor::{Reactor, sleep};

/// How long a command waits before it looks again.
const PATIENCE: Duration = Duration::from_micros(50);

/// The queue pairs of a reactor that have commands waiting.
#[derive(Default)]
struct WaitingRoom {
    qpairs: RefCell<Vec<Rc<Qpair>>>,
    attended: Cell<bool>,
}

impl WaitingRoom {
    fn add(reactor: &Rc<Reactor>, qpair: &Rc<Qpair>) {
        let room = reactor.extension(|| Rc::new(Self::default()));
        room.qpairs.borrow_mut().push(Rc::clone(qpair));
        if !room.attended.replace(true) {
            reactor.spawn("commands that wait for memory", room.attend());
        }
    }

    async fn attend(self: Rc<Self>) {
        while !self.qpairs.borrow().is_empty() {
            sleep(PATIENCE).await;
            for qpair in self.qpairs.take() {
                qpair.retry_waiting();
                if qpair.slots.any_waiting() {
                    self.qpairs.borrow_mut().push(qpair);
                } else {
                    qpair.in_waiting_room.set(false);
                }
            }
        }
        self.attended.set(false);
    }
}

impl Qpair {
    /// Lets a command wait, at the head of those that do when it was there before.
    #[cold]
    pub(super) fn put_off(
        self: &Rc<Self>,
        at: SlotRef,
        ns: Option<Rc<NsView>>,
        command: Command,
        again: bool,
    ) {
        let Some(slot) = self.slots.get(at) else { return };
        enter(slot, ns);
        slot.waiting.set(Some(command));
        self.slots.wait(at, slot, again);
        if !again {
            self.stats.waits.add(1);
        }
        if !self.in_waiting_room.replace(true) {
            WaitingRoom::add(&self.reactor, self);
        }
    }

    /// Tries the commands that wait, oldest first, until one has to go on waiting. Those whose
    /// namespace was removed end.
    fn retry_waiting(self: &Rc<Self>) {
        let removed = self.slots.take_waiting(|slot| {
            let ns = slot.ns.take();
            let removed = ns.as_ref().is_some_and(|ns| ns.is_removed());
            slot.ns.set(ns);
            removed
        });
        self.end_waiting(removed, NvmeStatus::INVALID_NAMESPACE);
        while let Some((at, slot)) = self.slots.next_waiting() {
            let Some(command) = slot.waiting.take() else { continue };
            let ns = slot.ns.take();
            if let Some(ns) = &ns {
                ns.leave();
            }
            if !self.carry_out(at, ns, command, true) {
                return;
            }
        }
    }
}
