//! Commands, and the way of their data to the target.

use super::plan::{DataLimits, Plan, plan};
use super::slots::Stage;
use super::{ADMIN_CAPSULE_BYTES, Connection, EARLY_COMMANDS, Missing, Phase, Stalled};
use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::env::DmaBuf;
use crate::nvme::spec::{FusedPart, Sqe};
use crate::nvme::tcp::framing::{DataPdu, FatalError, FatalStatus, Place, Receiver};
use crate::nvmf::transport::Capsule;

impl Connection {
    /// A command came, with so many bytes of data in its capsule.
    #[inline]
    pub(super) fn command(&self, sqe: &Sqe, data_bytes: u32) -> Result<(), FatalError> {
        let limit = self.queue_size().max(EARLY_COMMANDS);
        if self.outstanding.get() >= limit {
            // More commands than the queue holds.
            return Err(FatalError::SEQUENCE);
        }
        self.outstanding.set(self.outstanding.get() + 1);
        self.wire.borrow_mut().slots.note_command();
        self.begin(sqe, data_bytes);
        Ok(())
    }

    /// Gives the command a place, and decides what comes next.
    fn begin(&self, sqe: &Sqe, data_bytes: u32) {
        let taken = self.wire.borrow_mut().slots.take(*sqe);
        let Some(tag) = taken else { return self.stall(sqe, data_bytes, Missing::Slot) };
        self.order(sqe.fused(), tag);
        let options = &self.group.shared.options;
        let strict = self.is_io.get() && !sqe.is_fabrics();
        let floor = if strict { 0 } else { ADMIN_CAPSULE_BYTES };
        let in_capsule = options.in_capsule_bytes.max(floor);
        let planned = plan(sqe, data_bytes, DataLimits { io: options.io_bytes_max, in_capsule });
        match planned {
            Plan::Execute(bytes) => {
                self.set(tag, bytes, None);
                self.ready(tag);
            }
            Plan::TakeInCapsule(bytes) => {
                self.set(tag, bytes, None);
                self.take_in_capsule(tag, sqe, bytes);
            }
            Plan::Fetch(bytes) => {
                self.set(tag, bytes, None);
                let memory = if self.group.is_short() { None } else { self.group.lend(bytes) };
                match memory {
                    Some((buffer, held)) => self.fetch(tag, buffer, held),
                    None => self.starve(tag),
                }
            }
            Plan::Refuse(status) => {
                self.set(tag, 0, Some(status));
                self.place(data_bytes, Place::Discard);
                self.ready(tag);
            }
        }
    }

    fn set(&self, tag: u32, bytes: u32, refusal: Option<NvmeStatus>) {
        if let Some(slot) = self.wire.borrow_mut().slots.get(tag) {
            (slot.data_len, slot.refusal, slot.stage) = (bytes, refusal, Stage::Ready);
        }
    }

    fn place(&self, data_bytes: u32, place: Place) {
        if data_bytes != 0 {
            let wire = &mut *self.wire.borrow_mut();
            wire.receiver.place(&wire.slots, place);
        }
    }

    /// Reading stops at this command until what it needs is there.
    fn stall(&self, sqe: &Sqe, data_bytes: u32, missing: Missing) {
        *self.stalled.borrow_mut() = Some(Stalled { sqe: *sqe, data_bytes, missing });
        if missing != Missing::Slot {
            self.wait_for_memory();
        }
    }

    fn stalled_now(&self) -> Option<Stalled> {
        *self.stalled.borrow()
    }

    fn wait_for_memory(&self) {
        if !self.waits.replace(true)
            && let Some(this) = self.this.upgrade()
        {
            self.group.wait(&this);
        }
    }

    fn take_in_capsule(&self, tag: u32, sqe: &Sqe, bytes: u32) {
        let Some(buffer) = self.group.buffer(bytes) else {
            return self.stall(sqe, bytes, Missing::Memory(tag));
        };
        let wire = &mut *self.wire.borrow_mut();
        if let Some(slot) = wire.slots.get(tag) {
            slot.data = IoBuf::One(buffer);
            (slot.stage, slot.arrived) = (Stage::InCapsule, bytes);
        }
        wire.receiver.place(&wire.slots, Place::Into { tag, offset: 0 });
    }

    /// The command waits for memory; others go on.
    #[cold]
    fn starve(&self, tag: u32) {
        {
            let slots = &mut self.wire.borrow_mut().slots;
            if let Some(slot) = slots.get(tag) {
                slot.stage = Stage::NoMemory;
            }
            slots.starved.push_back(tag);
        }
        self.wait_for_memory();
    }

    /// Asks the host for a command's data.
    fn fetch(&self, tag: u32, buffer: DmaBuf, held: usize) {
        if let Some(slot) = self.wire.borrow_mut().slots.get(tag) {
            slot.data = IoBuf::One(buffer);
            (slot.held, slot.arrived, slot.stage) = (held, 0, Stage::Asking);
        }
        self.queue(tag);
    }

    /// There may be memory: tries again what waits for it. `may_lend` tells whether memory that a
    /// host fills may be taken. Returns whether nothing waits any more.
    pub(in crate::nvmf::tcp) fn retry(&self, may_lend: bool) -> bool {
        if let Some(Stalled { sqe, data_bytes, missing: Missing::Memory(tag) }) = self.stalled_now()
            && self.phase.get() == Phase::Running
        {
            self.stalled.take();
            self.take_in_capsule(tag, &sqe, data_bytes);
            self.go_on();
        }
        while may_lend && self.phase.get() == Phase::Running {
            let first = self.next_starved();
            let Some((tag, bytes)) = first else { break };
            let Some((buffer, held)) = self.group.lend(bytes) else { break };
            self.wire.borrow_mut().slots.starved.pop_front();
            self.fetch(tag, buffer, held);
        }
        let stalled = self.stalled_now().is_some_and(|stalled| stalled.missing != Missing::Slot);
        let waits = self.phase.get() == Phase::Running
            && (stalled || !self.wire.borrow().slots.starved.is_empty());
        self.waits.set(waits);
        !waits
    }

    fn next_starved(&self) -> Option<(u32, u32)> {
        let slots = &mut self.wire.borrow_mut().slots;
        let tag = *slots.starved.front()?;
        slots.get(tag).map(|slot| (tag, slot.data_len))
    }

    /// Reads on after a stall, if that is over.
    fn go_on(&self) {
        if self.is_stalled() {
            return;
        }
        self.run();
        if let Some(stream) = self.stream.get()
            && !self.is_stalled()
        {
            stream.resume_reading();
        }
    }

    /// A place is free: the command that waits for it goes on.
    #[cold]
    pub(super) fn go_on_with_slot(&self) {
        if let Some(Stalled { sqe, data_bytes, missing: Missing::Slot }) = self.stalled_now()
            && self.phase.get() == Phase::Running
        {
            self.stalled.take();
            self.begin(&sqe, data_bytes);
            self.go_on();
        }
    }

    /// A data PDU came.
    pub(super) fn data(&self, data: &DataPdu) -> Result<(), FatalError> {
        let wire = &mut *self.wire.borrow_mut();
        let tag = u32::from(data.ttag);
        let slot = wire.slots.get(tag).filter(|slot| slot.stage == Stage::Fetching);
        let slot = slot.ok_or(Receiver::UNKNOWN_TAG)?;
        if slot.sqe.cid.get() != data.cccid {
            return Err(Receiver::UNKNOWN_COMMAND);
        }
        let end = data.datao.checked_add(data.datal).filter(|&end| end <= slot.data_len);
        let end = end.ok_or(FatalError::of(FatalStatus::DataOutOfRange))?;
        if data.datao != slot.arrived {
            return Err(FatalError::SEQUENCE);
        }
        if data.last != (end == slot.data_len) {
            return Err(Receiver::WRONG_LAST);
        }
        slot.arrived = end;
        let all = end == slot.data_len;
        wire.slots.announce(tag, data.datal, all);
        wire.receiver.place(&wire.slots, Place::Into { tag, offset: data.datao });
        Ok(())
    }

    /// The payload of a PDU is there.
    pub(super) fn payload(&self, tag: u32, intact: bool) {
        {
            let slots = &mut self.wire.borrow_mut().slots;
            let Some(slot) = slots.get(tag) else { return };
            if !intact {
                slot.refusal = Some(NvmeStatus::TRANSIENT_TRANSPORT_ERROR);
            }
            if slot.arrived < slot.data_len {
                return;
            }
            slot.stage = Stage::Ready;
        }
        self.ready(tag);
    }

    /// Keeps the two commands of a fused pair together, which came one directly after the other.
    #[inline]
    fn order(&self, part: FusedPart, tag: u32) {
        if part != FusedPart::None || self.fused.get().is_some() {
            self.order_fused(part, tag);
        }
    }

    #[cold]
    fn order_fused(&self, part: FusedPart, tag: u32) {
        let first = self.fused.take();
        let mut lonely = None;
        if let Some(first) = first {
            let slots = &mut self.wire.borrow_mut().slots;
            if let Some(slot) = slots.get(first) {
                slot.expects_partner = false;
                if part == FusedPart::Second {
                    slot.partner = Some(tag);
                    if let Some(second) = slots.get(tag) {
                        second.partner = Some(first);
                    }
                } else if slot.stage == Stage::Ready {
                    lonely = Some(first);
                }
            }
        }
        if part == FusedPart::First {
            self.fused.set(Some(tag));
            if let Some(slot) = self.wire.borrow_mut().slots.get(tag) {
                slot.expects_partner = true;
            }
        }
        if let Some(first) = lonely {
            // Its second did not come; the queue pair knows what that means.
            self.execute(first);
        }
    }

    /// A command has everything it needs.
    #[inline]
    fn ready(&self, tag: u32) {
        let partner = {
            let slots = &mut self.wire.borrow_mut().slots;
            let Some(slot) = slots.get(tag) else { return };
            if slot.expects_partner {
                return;
            }
            let first = slot.sqe.fused() == FusedPart::First;
            match slot.partner {
                None => None,
                Some(other) => match slots.get(other) {
                    Some(slot) if slot.stage == Stage::Ready => Some((first, other)),
                    Some(_) => return,
                    None => None,
                },
            }
        };
        match partner {
            None => self.execute(tag),
            Some((true, other)) => {
                self.execute(tag);
                self.execute(other);
            }
            Some((false, other)) => {
                self.execute(other);
                self.execute(tag);
            }
        }
    }

    /// Hands a command to the queue pair.
    #[inline]
    fn execute(&self, tag: u32) {
        let Some(qpair) = self.qpair() else { return };
        let (capsule, refusal, held) = {
            let slots = &mut self.wire.borrow_mut().slots;
            let Some(slot) = slots.get(tag) else { return };
            slot.stage = Stage::Executing;
            let held = std::mem::take(&mut slot.held);
            let data = std::mem::take(&mut slot.data);
            let (sqe, data_len) = (slot.sqe, slot.data_len);
            (Capsule { sqe, data, data_len, tag }, slot.refusal, held)
        };
        if held != 0 {
            self.group.unlend(held);
        }
        match refusal {
            None => qpair.execute(capsule),
            Some(status) => qpair.refuse(Capsule { data: IoBuf::None, ..capsule }, status),
        }
    }
}
