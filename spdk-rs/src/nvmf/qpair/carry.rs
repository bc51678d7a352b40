//! I/O commands, from their place to the device and back.

use std::rc::Rc;

use super::super::core_view::NsView;
use super::super::io::{self, Command, Outcome};
use super::slots::{Slot, Use};
use super::{Attached, Qpair, SlotRef};
use crate::NvmeStatus;
use crate::bdev::{IoBuf, IoConsumer};
use crate::nvme::spec::NSID_ALL;
use crate::nvme::spec::opcode::nvm;

impl Qpair {
    /// Starts an I/O command that has just come.
    #[inline(always)]
    pub(super) fn start(self: &Rc<Self>, attached: &Attached, at: SlotRef, command: Command) {
        let ns = match io::admit(attached, &command.sqe) {
            Ok(ns) => Some(ns),
            Err(status) => {
                let sqe = &command.sqe;
                if sqe.opcode != nvm::FLUSH || sqe.nsid.get() != NSID_ALL {
                    return self.respond(at, status, 0, command.data, 0);
                }
                None
            }
        };
        if self.slots.any_waiting() {
            // Those that wait come first, or a large command would wait for ever.
            return self.put_off(at, ns, command, false);
        }
        let _ = self.carry_out(at, ns, command, false);
    }

    /// Hands a command to its device. One that cannot begin now waits, at the head when it has
    /// waited before.
    #[inline(always)]
    pub(super) fn carry_out(
        self: &Rc<Self>,
        at: SlotRef,
        ns: Option<Rc<NsView>>,
        command: Command,
        again: bool,
    ) -> bool {
        match io::run(self, at, ns.as_ref(), command) {
            Outcome::Device { reply_len } => {
                if let Some(slot) = self.slots.get(at) {
                    slot.reply_len.set(reply_len);
                    slot.usage.set(Use::Device);
                    enter(slot, ns);
                }
            }
            Outcome::Task => {
                if let Some(slot) = self.slots.get(at) {
                    enter(slot, ns);
                }
            }
            Outcome::Ended(status, data) => self.respond(at, status, 0, data, 0),
            Outcome::Short(command) => {
                self.put_off(at, ns, command, again);
                return false;
            }
        }
        true
    }

    /// Counts a command as in flight in a namespace, until its response.
    pub(crate) fn occupy(&self, at: SlotRef, ns: &Rc<NsView>) {
        if let Some(slot) = self.slots.get(at) {
            enter(slot, Some(Rc::clone(ns)));
        }
    }
}

/// Counts a command as in flight in its namespace.
#[inline(always)]
pub(super) fn enter(slot: &Slot, ns: Option<Rc<NsView>>) {
    if let Some(ns) = &ns {
        ns.enter();
    }
    slot.ns.set(ns);
}

impl IoConsumer for Qpair {
    #[inline]
    fn io_done(&self, tag: u64, status: NvmeStatus, buf: IoBuf, _latency_ticks: u64) {
        let at = SlotRef::of_tag(tag);
        let Some(slot) = self.slots.get(at) else { return };
        let reply_len = if status.is_success() { slot.reply_len.get() } else { 0 };
        self.respond(at, io::for_host(status), 0, buf, reply_len);
    }
}
