//! A queue pair on one reactor.
#![allow(unsafe_code, reason = "commands name their memory by address")]

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::controller::PcieController;
use super::data::{self, ListSlot, PAGE, SglSupport, Unfit};
use super::function::DmaMap;
use super::rings::{Rings, shared_memory};
use super::staging::{Staging, copy_out};
use crate::NvmeStatus;
use crate::env::iovec::total_len;
use crate::env::{DmaBuf, IoVec};
use crate::nvme::controller::LinkError;
use crate::nvme::controller::cid::CommandTable;
use crate::nvme::controller::queue::{
    Command, CommandData, CommandEnd, CommandOwner, QueueListener, QueuePair,
};
use crate::nvme::spec::{Cqe, DataDirection, Sqe, opcode};
use crate::reactor::Reactor;

/// Completions that one poll of a pair takes at the most, so that others get their turn.
const POLL_MAX: usize = 128;

/// What a pair is made with.
pub(super) struct PairOptions {
    /// 0 is the admin queue.
    pub(super) qid: u16,
    /// At least 2; one fewer commands are outstanding at a time.
    pub(super) entries: u16,
    /// Bytes that one command transfers at the most.
    pub(super) transfer_max: u64,
    pub(super) sgl: SglSupport,
}

/// A queue pair.
pub(super) struct PciePair {
    pub(super) own: Weak<Self>,
    pub(super) reactor: Rc<Reactor>,
    pub(super) controller: Arc<PcieController>,
    pub(super) qid: u16,
    dma: Arc<DmaMap>,
    transfer_max: u64,
    sgl: SglSupport,
    pub(super) inner: RefCell<Inner>,
    pub(super) open: Cell<bool>,
    /// Commands that were never sent, with how they end.
    unsent: RefCell<Vec<(Entry, NvmeStatus)>>,
    /// Requests for events, which nobody waits for.
    lasting: Cell<usize>,
    /// Somebody was told that there is no room.
    room_wanted: Cell<bool>,
    /// Told of the end, once.
    pub(super) listener: RefCell<Option<Rc<dyn QueueListener>>>,
    pub(super) why: RefCell<String>,
}

pub(super) struct Inner {
    pub(super) rings: Rings,
    pub(super) commands: CommandTable<Entry>,
    /// A list per command, by the index in its identifier.
    lists: DmaBuf,
    lists_iova: u64,
    list_bytes: usize,
    index_mask: u16,
    /// Copies of what the controller cannot have where it is.
    staging: Staging,
}

/// A command that has not ended.
pub(super) struct Entry {
    owner: Rc<dyn CommandOwner>,
    tag: u64,
    /// Tick of the reactor's clock.
    submitted: u64,
    special: Special,
}

/// What has to be done at the end of a command.
#[derive(Clone, Copy)]
enum Special {
    /// Nothing, as with most.
    Nothing,
    /// Its data were copied: the index of the command.
    Copied(u16),
    /// It waits for an event, for as long as the association lasts.
    Lasting,
}

/// Why a command is not sent.
enum Unsent {
    /// There are too few pages for a copy of its data now.
    Full,
    /// It never can be.
    Refused(NvmeStatus),
}

impl Inner {
    #[inline(always)]
    fn slot(&self, cid: u16) -> ListSlot {
        let offset = usize::from(cid & self.index_mask) * self.list_bytes;
        ListSlot {
            at: self.lists.as_ptr().cast_mut().wrapping_add(offset),
            iova: self.lists_iova + offset as u64,
            bytes: self.list_bytes,
        }
    }
}

impl PciePair {
    /// Makes a pair in memory. The controller knows nothing of it yet.
    pub(super) fn new(
        reactor: &Rc<Reactor>,
        controller: &Arc<PcieController>,
        options: &PairOptions,
        listener: Rc<dyn QueueListener>,
    ) -> Result<Rc<Self>, LinkError> {
        let memory = reactor.memory();
        let entries = options.entries.max(2);
        let rings = Rings::new(memory, controller, options.qid, entries)?;
        let list_bytes = data::list_bytes(options.transfer_max);
        let bytes = (usize::from(entries) * list_bytes).next_multiple_of(PAGE);
        let (lists, lists_iova) = shared_memory(memory, controller, bytes)?;
        // The table has its index in as many low bits of an identifier.
        let index_bits = u16::BITS - (entries - 2).leading_zeros();
        let index_mask = u16::try_from((1_u32 << index_bits) - 1).unwrap_or(u16::MAX);
        let transfer_max = usize::try_from(options.transfer_max.min(data::TRANSFER_MAX));
        let queue = (options.qid, usize::from(entries));
        let staging = Staging::new(memory, controller, queue, transfer_max.unwrap_or(PAGE))?;
        let commands = CommandTable::new(entries - 1);
        Ok(Rc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            reactor: Rc::clone(reactor),
            controller: Arc::clone(controller),
            qid: options.qid,
            dma: Arc::clone(controller.function().dma()),
            transfer_max: options.transfer_max,
            sgl: options.sgl,
            inner: RefCell::new(Inner {
                rings,
                commands,
                lists,
                lists_iova,
                list_bytes,
                index_mask,
                staging,
            }),
            open: Cell::new(true),
            unsent: RefCell::default(),
            lasting: Cell::new(0),
            room_wanted: Cell::new(false),
            listener: RefCell::new(Some(listener)),
            why: RefCell::default(),
        }))
    }

    /// The number of entries and the controller's addresses of both rings.
    pub(super) fn places(&self) -> (u16, u64, u64) {
        let rings = &self.inner.borrow().rings;
        (rings.entries(), rings.sq_iova, rings.cq_iova)
    }

    /// Whether it has to be polled again before the reactor sleeps.
    pub(super) fn wants_turn(&self) -> bool {
        let inner = self.inner.borrow();
        let untold = inner.rings.is_untold() || !self.unsent.borrow().is_empty();
        untold || inner.rings.is_ready() || inner.commands.len() > self.lasting.get()
    }

    /// Commands that somebody waits for.
    pub(super) fn waited_for(&self) -> usize {
        let outstanding = self.inner.borrow().commands.len() + self.unsent.borrow().len();
        outstanding.saturating_sub(self.lasting.get())
    }

    /// Sends what was submitted and takes what has completed.
    #[inline]
    pub(super) fn poll(&self) -> usize {
        let mut inner = self.inner.borrow_mut();
        let untold = inner.rings.is_untold();
        if untold {
            inner.rings.tell();
        }
        let ready = inner.rings.is_ready();
        drop(inner);
        let mut work = usize::from(untold);
        if ready {
            work += self.take_completions();
        }
        if !self.unsent.borrow().is_empty() {
            work += self.end_unsent();
        }
        work
    }

    /// Takes what has completed, up to a limit.
    #[inline]
    pub(super) fn take_completions(&self) -> usize {
        let mut taken = 0;
        while taken < POLL_MAX {
            let mut inner = self.inner.borrow_mut();
            let Some(cqe) = inner.rings.pop() else { break };
            taken += 1;
            let sane = cqe.sqid.get() == self.qid && cqe.sqhd.get() < inner.rings.entries();
            let entry = if sane { inner.commands.remove(cqe.cid.get()) } else { None };
            drop(inner);
            match entry {
                Some(entry) => self.end(entry, &CommandEnd::answered(&cqe)),
                None => {
                    self.nonsense(&cqe);
                    break;
                }
            }
        }
        if taken != 0 {
            self.inner.borrow_mut().rings.tell_taken();
            if self.room_wanted.replace(false)
                && let Some(listener) = self.listener()
            {
                listener.queue_room();
            }
        }
        taken
    }

    /// Tells whoever listens that the device goes.
    pub(super) fn device_leaves(&self, why: &'static str) {
        if let Some(listener) = self.listener() {
            listener.device_leaves(why);
        }
    }

    fn listener(&self) -> Option<Rc<dyn QueueListener>> {
        self.listener.borrow().clone()
    }

    /// A completion that cannot be meant: nothing that the controller says is believed any more.
    #[cold]
    fn nonsense(&self, cqe: &Cqe) {
        let (qid, cid, sqid, sqhd) = (self.qid, cqe.cid.get(), cqe.sqid.get(), cqe.sqhd.get());
        let address = self.controller.address;
        tracing::error!(%address, qid, cid, sqid, sqhd, "an NVMe completion makes no sense");
        self.close("the controller sent a completion that makes no sense");
    }

    #[inline(always)]
    fn end(&self, entry: Entry, end: &CommandEnd) {
        if !matches!(entry.special, Special::Nothing) {
            self.end_special(entry, end);
        } else {
            entry.owner.command_done(entry.tag, end);
        }
    }

    #[cold]
    fn end_special(&self, entry: Entry, end: &CommandEnd) {
        match entry.special {
            Special::Nothing => {}
            Special::Lasting => self.lasting.set(self.lasting.get() - 1),
            Special::Copied(index) => {
                self.inner.borrow_mut().staging.give_back(index, end.status.is_success());
            }
        }
        entry.owner.command_done(entry.tag, end);
    }

    #[cold]
    fn end_unsent(&self) -> usize {
        let ended = self.unsent.take();
        let count = ended.len();
        for (entry, status) in ended {
            let end = CommandEnd { status, result: 0, answered: true };
            self.end(entry, &end);
        }
        count
    }

    /// Ends every command that has no completion: the controller has none of their memory.
    pub(super) fn end_all(&self) {
        self.end_unsent();
        loop {
            let next = self.inner.borrow_mut().commands.pop();
            let Some((_, entry)) = next else { break };
            self.end(entry, &CommandEnd::LOST);
        }
    }

    /// Copies what the controller cannot have where it is, and describes the copy.
    #[cold]
    fn copy(
        &self,
        inner: &mut Inner,
        sqe: &mut Sqe,
        command: &CommandData,
    ) -> Result<Special, Unsent> {
        let (slot, index) = (inner.slot(sqe.cid.get()), sqe.cid.get() & inner.index_mask);
        let table = pieces(command);
        let bytes = total_len(table);
        let sent = sqe.direction() == DataDirection::HostToController;
        if bytes as u64 > self.transfer_max.min(data::TRANSFER_MAX) {
            return Err(Unsent::Refused(NvmeStatus::INVALID_FIELD));
        }
        if sent && bytes <= slot.bytes {
            // SAFETY: the slot's memory belongs to the command, which was not sent yet.
            let place = unsafe { std::slice::from_raw_parts_mut(slot.at, bytes) };
            copy_out(table, place);
            // It does not cross a page.
            sqe.dptr = data::prp(slot.iova, 0);
            return Ok(Special::Nothing);
        }
        let back = if sent { CommandData::None } else { *command };
        if !inner.staging.take(index, bytes, back) {
            return Err(Unsent::Full);
        }
        if sent {
            inner.staging.copy_out(index, table);
        } else {
            inner.staging.clear(index);
        }
        inner.staging.describe(index, sqe, slot);
        Ok(Special::Copied(index))
    }

    /// Data that have to be described with more than two PRP entries, or copied.
    #[inline(never)]
    fn describe(
        &self,
        inner: &mut Inner,
        sqe: &mut Sqe,
        command: &CommandData,
    ) -> Result<Special, Unsent> {
        let (dma, slot) = (&*self.dma, inner.slot(sqe.cid.get()));
        let fits = match command {
            CommandData::Many { .. } => data::point_many(sqe, pieces(command), dma, slot, self.sgl),
            CommandData::One(piece) => data::point_one(sqe, piece, dma, slot),
            CommandData::None => Ok(()),
        };
        match fits {
            Ok(()) => Ok(Special::Nothing),
            Err(Unfit::Copy) => self.copy(inner, sqe, command),
            Err(Unfit::TooLong) => Err(Unsent::Refused(NvmeStatus::INVALID_FIELD)),
        }
    }

    /// Whatever is not the rule: commands of the admin queue without data, and data that lie in
    /// more than two pages.
    #[inline(never)]
    fn prepare(&self, inner: &mut Inner, sqe: &mut Sqe, data: &CommandData) -> Result<(), Unsent> {
        let cid = sqe.cid.get();
        let lasts = self.qid == 0 && sqe.opcode == opcode::admin::ASYNC_EVENT_REQUEST;
        let special = if lasts {
            self.lasting.set(self.lasting.get() + 1);
            Special::Lasting
        } else {
            self.describe(inner, sqe, data)?
        };
        if !matches!(special, Special::Nothing)
            && let Some(entry) = inner.commands.get_mut(cid)
        {
            entry.special = special;
        }
        Ok(())
    }

    /// What becomes of a command that was not sent: its owner gets it back until there is room for
    /// it, or it ends at the next poll.
    #[cold]
    fn not_sent(&self, cid: u16, why: &Unsent) -> Result<(), Rc<dyn CommandOwner>> {
        let Some(entry) = self.inner.borrow_mut().commands.remove(cid) else { return Ok(()) };
        match *why {
            Unsent::Full => {
                self.room_wanted.set(true);
                Err(entry.owner)
            }
            Unsent::Refused(status) => {
                self.unsent.borrow_mut().push((entry, status));
                Ok(())
            }
        }
    }

    /// Keeps the first reason for the end.
    fn note(&self, why: &str) {
        let mut kept = self.why.borrow_mut();
        if kept.is_empty() {
            why.clone_into(&mut kept);
        }
    }
}

impl QueuePair for PciePair {
    #[inline]
    unsafe fn submit(&self, command: Command) -> Result<(), Command> {
        if !self.open.get() {
            return Err(command);
        }
        let mut guard = self.inner.borrow_mut();
        let inner = &mut *guard;
        let mut command = command;
        let submitted = self.reactor.now();
        let (owner, tag) = (command.owner, command.tag);
        let entry = Entry { owner, tag, submitted, special: Special::Nothing };
        let cid = match inner.commands.insert(entry) {
            Ok(cid) => cid,
            Err(Entry { owner, .. }) => {
                self.room_wanted.set(true);
                return Err(Command { owner, ..command });
            }
        };
        command.sqe.cid.set(cid);
        let simple = match &command.data {
            CommandData::None => self.qid != 0,
            CommandData::One(piece) => data::point_short(&mut command.sqe, piece, &self.dma),
            CommandData::Many { .. } => false,
        };
        if !simple && let Err(why) = self.prepare(inner, &mut command.sqe, &command.data) {
            drop(guard);
            let back = self.not_sent(cid, &why);
            return back.map_err(|owner| Command { owner, ..command });
        }
        #[cfg(debug_assertions)]
        super::audit::check(
            &command.sqe,
            total_len(pieces(&command.data)),
            &self.dma,
            inner.slot(cid),
        );
        inner.rings.push(&command.sqe);
        Ok(())
    }

    fn room(&self) -> usize {
        if !self.open.get() {
            return 0;
        }
        let inner = self.inner.borrow();
        inner.commands.room().min(inner.staging.room())
    }

    fn outstanding(&self) -> usize {
        self.inner.borrow().commands.len() + self.unsent.borrow().len()
    }

    fn close(&self, why: &str) {
        self.note(why);
        if !self.open.replace(false) {
            return;
        }
        let Some(own) = self.own.upgrade() else { return };
        self.reactor.spawn("nvme queue end", async move { own.quiesce().await });
    }

    fn overdue(&self, submitted_by: u64) -> Vec<(u16, u64)> {
        let lasts = |entry: &Entry| matches!(entry.special, Special::Lasting);
        let late = |entry: &Entry| entry.submitted <= submitted_by && !lasts(entry);
        let inner = self.inner.borrow();
        inner.commands.iter().filter(|(_, e)| late(e)).map(|(cid, e)| (cid, e.tag)).collect()
    }
}

impl Drop for PciePair {
    fn drop(&mut self) {
        if self.qid == 0
            && let Some(event) = self.controller.function().admin_event()
        {
            self.reactor.unwatch(event.as_fd());
        }
        if self.listener.borrow().is_some() {
            // The reactor ends before the queue: the memory of the rings must not be written to.
            self.controller.stop_at_once();
        }
    }
}

/// The pieces of a command's memory.
pub(super) fn pieces(data: &CommandData) -> &[IoVec] {
    match data {
        CommandData::None => &[],
        CommandData::One(piece) => std::slice::from_ref(piece),
        // SAFETY: whoever submits a command promises that the table stays in place until the
        // command has ended, and the data live in its entry or in its submission until then.
        CommandData::Many { first, count } => unsafe { std::slice::from_raw_parts(*first, *count) },
    }
}
