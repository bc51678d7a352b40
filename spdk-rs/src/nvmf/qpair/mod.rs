//! A queue pair of the target: a connection's commands, from capsule to response.
//!
//! Invariants:
//! * a command has a place from [`Qpair::execute`] to its response; more commands than places end
//!   the connection, so what a host can make the target keep is bounded by its queue;
//! * a command ends exactly once: the place's generation makes a second answer find nobody;
//! * a command never fails for want of memory: it waits in its place;
//! * after [`Qpair::transport_closed`] nothing is sent, and buffers live until the device is done.

mod abort;
mod carry;
mod slots;
mod state;
#[cfg(test)]
pub(super) mod tests;
mod waiting;

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use thiserror::Error;

use self::slots::{Slot, Slots, Use};
use super::core_view::{HostId, ListenerView, SubsystemView};
use super::io::{self, Command};
use super::request::Request;
use super::service::{ControllerService, FailedCommand, TargetService};
use super::transport::{Capsule, ConnectionInfo, DisconnectReason, QpairTransport};
use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::nvme::spec::opcode::FABRICS;
use crate::nvme::spec::opcode::fctype::CONNECT;
use crate::nvme::spec::opcode::nvm::COMPARE;
use crate::nvme::spec::{Cqe, FusedPart};
use crate::reactor::Reactor;

pub use self::slots::SlotRef;
pub use self::state::{Count, QpairState, QpairStats};

/// What makes a connection a queue of a controller.
pub struct Attachment {
    /// The controller, for what is no I/O.
    pub controller: Rc<dyn ControllerService>,
    /// Its number.
    pub cntlid: u16,
    /// The queue: 0 for the admin queue.
    pub qid: u16,
    /// Entries of the submission queue (SQSIZE + 1), 2 to `ConnectionInfo::queue_entries_max`.
    pub queue_size: u32,
    /// The subsystem on this core.
    pub subsystem: Rc<SubsystemView>,
    /// The host.
    pub host: HostId,
}

/// Why a queue pair cannot be attached.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AttachError {
    /// The connection is not in its Connect.
    #[error("the queue pair is {0}, and only one that is connecting can be attached")]
    State(QpairState),
    /// The queue has another size than is allowed.
    #[error("a queue of {size} entries was asked for; 2 to {max} are allowed")]
    QueueSize {
        /// Entries asked for.
        size: u32,
        /// Entries allowed.
        max: u32,
    },
}

/// What became of an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortOutcome {
    /// The command was aborted; its response is on its way.
    Aborted,
    /// The command cannot be aborted any more; it ends by itself.
    NotAborted,
    /// There is no such command.
    NotFound,
}

/// What a queue pair has once it is attached.
pub(super) struct Attached {
    /// Until the queue pair is gone.
    controller: RefCell<Option<Rc<dyn ControllerService>>>,
    pub(super) cntlid: u16,
    pub(super) qid: u16,
    pub(super) queue_size: u32,
    pub(super) subsystem: Rc<SubsystemView>,
    pub(super) listener: Rc<ListenerView>,
    pub(super) host: HostId,
}

/// A connection's queue pair. Lives on one reactor.
///
/// The transport keeps one pointer and drops it after [`Qpair::transport_closed`].
pub struct Qpair {
    own: Weak<Qpair>,
    reactor: Rc<Reactor>,
    target: Arc<dyn TargetService>,
    info: ConnectionInfo,
    transport: Rc<dyn QpairTransport>,
    state: Cell<QpairState>,
    /// The transport has ended: nothing is sent any more.
    closed: Cell<bool>,
    /// The Connect that is being worked on.
    connect: Cell<Option<SlotRef>>,
    attached: OnceCell<Rc<Attached>>,
    slots: Slots,
    /// Entries of the submission queue, and the head that the host is told.
    queue_size: Cell<u32>,
    sq_head: Cell<u32>,
    /// The first command of a fused pair, until the next command comes.
    fused: RefCell<Option<Request>>,
    /// Whether a plain I/O command may start: on a connected I/O queue, without half a pair.
    straight: Cell<bool>,
    /// Whether the reactor looks after this queue pair's waiting commands.
    in_waiting_room: Cell<bool>,
    stats: QpairStats,
}

impl Qpair {
    /// The queue pair of a new connection.
    #[must_use]
    pub fn new(
        target: &Arc<dyn TargetService>,
        reactor: &Rc<Reactor>,
        info: ConnectionInfo,
        transport: Rc<dyn QpairTransport>,
    ) -> Rc<Self> {
        Rc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            reactor: Rc::clone(reactor),
            target: Arc::clone(target),
            info,
            transport,
            state: Cell::new(QpairState::New),
            closed: Cell::new(false),
            connect: Cell::new(None),
            attached: OnceCell::new(),
            slots: Slots::new(),
            queue_size: Cell::new(2),
            sq_head: Cell::new(0),
            fused: RefCell::new(None),
            straight: Cell::new(false),
            in_waiting_room: Cell::new(false),
            stats: QpairStats::default(),
        })
    }

    /// Its reactor.
    #[must_use]
    pub fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// The connection.
    #[must_use]
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> QpairState {
        self.state.get()
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> &QpairStats {
        &self.stats
    }

    /// Bytes of data that one command may have at most.
    #[must_use]
    pub fn max_data_len(&self) -> u32 {
        self.info.io_bytes_max
    }

    /// The queue identifier; none before Connect has succeeded.
    #[must_use]
    pub fn qid(&self) -> Option<u16> {
        self.attached.get().map(|attached| attached.qid)
    }

    /// The controller's number; none before Connect has succeeded.
    #[must_use]
    pub fn cntlid(&self) -> Option<u16> {
        self.attached.get().map(|attached| attached.cntlid)
    }

    /// The controller; none before Connect has succeeded and after the end.
    #[must_use]
    pub fn controller(&self) -> Option<Rc<dyn ControllerService>> {
        self.attached.get()?.controller.borrow().clone()
    }

    /// Entries of the submission queue; 0 before Connect has succeeded.
    #[must_use]
    pub fn queue_size(&self) -> u32 {
        self.attached.get().map_or(0, |attached| attached.queue_size)
    }

    /// Commands that have no response yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.slots.used()
    }

    /// The host; none before Connect has succeeded.
    #[must_use]
    pub fn host(&self) -> Option<HostId> {
        self.attached.get().map(|attached| attached.host)
    }

    pub(super) fn attached_shared(&self) -> Option<Rc<Attached>> {
        self.attached.get().cloned()
    }

    /// Whether responses can still be sent.
    pub(super) fn is_live(&self) -> bool {
        !self.closed.get()
    }

    /// Makes the connection a queue of a controller: called by the target during Connect, before
    /// it completes the request with success.
    ///
    /// # Errors
    /// [`AttachError`]; nothing has changed then.
    pub fn attach(self: &Rc<Self>, attachment: Attachment) -> Result<(), AttachError> {
        let Attachment { controller, cntlid, qid, queue_size, subsystem, host } = attachment;
        if self.state.get() != QpairState::Connecting {
            return Err(AttachError::State(self.state.get()));
        }
        let max = self.info.queue_entries_max(qid);
        if !(2..=max).contains(&queue_size) {
            return Err(AttachError::QueueSize { size: queue_size, max });
        }
        self.slots.grow(queue_size);
        self.queue_size.set(queue_size);
        self.sq_head.set(0);
        let listener = subsystem.listener(self.info.listener);
        subsystem.add_qpair(self);
        let controller = RefCell::new(Some(controller));
        let attached = Attached { controller, cntlid, qid, queue_size, subsystem, listener, host };
        // It was not set: a queue pair is connecting only before its first attachment.
        let _ = self.attached.set(Rc::new(attached));
        self.state.set(QpairState::Connected);
        self.straight.set(qid != 0);
        Ok(())
    }

    /// Takes a command. It is answered exactly once through the transport, unless the connection
    /// ends before.
    ///
    /// The two commands of a fused pair are handed over one directly after the other when the
    /// host has put them into the queue so; whatever comes between them breaks the pair.
    #[inline]
    pub fn execute(self: &Rc<Self>, capsule: Capsule) {
        let Some((at, slot)) = self.slots.take() else { return self.overrun() };
        let Capsule { sqe, data, data_len, tag } = capsule;
        slot.tag.set(tag);
        slot.cid.set(sqe.cid.get());
        slot.opcode.set(sqe.opcode);
        slot.nsid.set(sqe.nsid.get());
        slot.usage.set(Use::Held);
        self.stats.commands.add(1);
        if self.straight.get()
            && sqe.opcode != FABRICS
            && sqe.fused() == FusedPart::None
            && let Some(attached) = self.attached.get()
        {
            return self.start(attached, at, Command { sqe, data, data_len });
        }
        self.dispatch(Request::new(self, at, sqe, data, data_len));
    }

    /// Ends a command that the transport could not deliver with this status. It counts like any
    /// other, and breaks a fused pair.
    #[cold]
    pub fn refuse(self: &Rc<Self>, capsule: Capsule, status: NvmeStatus) {
        let Some((at, slot)) = self.slots.take() else { return self.overrun() };
        let Capsule { sqe, data, data_len, tag } = capsule;
        slot.tag.set(tag);
        slot.cid.set(sqe.cid.get());
        slot.opcode.set(sqe.opcode);
        slot.nsid.set(sqe.nsid.get());
        slot.usage.set(Use::Held);
        self.stats.commands.add(1);
        let request = Request::new(self, at, sqe, data, data_len);
        if let Some(first) = self.fused.take() {
            first.finish(NvmeStatus::ABORTED_MISSING_FUSED);
        }
        request.finish(status);
    }

    /// What is not a plain I/O command.
    #[inline(never)]
    fn dispatch(self: &Rc<Self>, request: Request) {
        let opcode = request.sqe().opcode;
        match (self.state.get(), self.attached.get(), self.controller()) {
            (QpairState::Connected, Some(attached), Some(controller)) => {
                if opcode == FABRICS {
                    controller.fabrics(request);
                } else if attached.qid == 0 {
                    controller.admin(request);
                } else {
                    self.fuse(attached, request);
                }
            }
            (QpairState::New, ..) if opcode == FABRICS && fabrics_type(&request) == CONNECT => {
                self.state.set(QpairState::Connecting);
                self.connect.set(Some(request.place()));
                Arc::clone(&self.target).connect(self, request);
            }
            (QpairState::New | QpairState::Connecting, ..) => {
                request.finish(NvmeStatus::COMMAND_SEQUENCE_ERROR);
            }
            _ => request.finish(NvmeStatus::ABORTED_SQ_DELETION),
        }
    }

    /// An I/O command that is a part of a fused pair, or comes after the first of one.
    fn fuse(self: &Rc<Self>, attached: &Rc<Attached>, mut request: Request) {
        self.straight.set(true);
        let (first, part) = (self.fused.take(), request.sqe().fused());
        match first {
            Some(first) if part == FusedPart::Second => return io::pair(attached, first, request),
            // Whatever else comes, the first command has lost its partner.
            Some(first) => first.finish(NvmeStatus::ABORTED_MISSING_FUSED),
            None => {}
        }
        match part {
            FusedPart::None => {
                let (at, sqe, data_len) = (request.place(), *request.sqe(), request.data_len());
                let data = request.take_data();
                request.forget();
                self.start(attached, at, Command { sqe, data, data_len });
            }
            FusedPart::First if request.sqe().opcode == COMPARE => {
                self.straight.set(false);
                *self.fused.borrow_mut() = Some(request);
            }
            FusedPart::First => request.finish(NvmeStatus::INVALID_OPCODE),
            FusedPart::Second => request.finish(NvmeStatus::ABORTED_MISSING_FUSED),
            FusedPart::Reserved => request.finish(NvmeStatus::INVALID_FIELD),
        }
    }

    #[cold]
    fn overrun(self: &Rc<Self>) {
        self.disconnect(DisconnectReason::QueueOverrun);
    }

    /// Sends the response of a command and frees its place. Nothing happens when the command has
    /// ended already.
    #[inline]
    pub(super) fn respond(
        &self,
        at: SlotRef,
        status: NvmeStatus,
        result: u64,
        data: IoBuf,
        data_len: u32,
    ) {
        let Some(slot) = self.slots.get(at) else { return };
        let (tag, cid) = (slot.tag.get(), slot.cid.get());
        if let Some(ns) = slot.ns.take() {
            ns.leave();
        }
        self.slots.free(at, slot);
        if !status.is_success() {
            self.failed(slot, status);
        }
        if self.closed.get() {
            drop(data);
            return self.maybe_gone();
        }
        let head = self.advance_head();
        if self.connect.get() == Some(at) {
            self.connect_ended();
        }
        self.transport.respond(tag, Cqe::new(cid, head, status, result), data, data_len);
    }

    /// Counts a command that failed, and tells the controller when it was I/O.
    #[cold]
    fn failed(&self, slot: &Slot, status: NvmeStatus) {
        self.stats.errors.add(1);
        let opcode = slot.opcode.get();
        if self.qid().is_some_and(|qid| qid != 0)
            && opcode != FABRICS
            && let Some(controller) = self.controller()
        {
            let (cid, nsid) = (slot.cid.get(), slot.nsid.get());
            controller.failed(FailedCommand { cid, opcode, nsid, status });
        }
    }

    #[cold]
    fn connect_ended(&self) {
        self.connect.set(None);
        if self.state.get() == QpairState::Connecting {
            // Connect was refused: the host may try again on this connection.
            self.state.set(QpairState::New);
        }
    }

    /// The submission queue's head after one more command has ended.
    #[inline(always)]
    fn advance_head(&self) -> u16 {
        let next = self.sq_head.get() + 1;
        let head = if next >= self.queue_size.get() { 0 } else { next };
        self.sq_head.set(head);
        u16::try_from(head).unwrap_or(0)
    }

    /// Closes the connection. What is in flight ends by itself.
    pub fn disconnect(&self, why: DisconnectReason) {
        if matches!(self.state.get(), QpairState::Disconnecting | QpairState::Gone) {
            return;
        }
        self.state.set(QpairState::Disconnecting);
        self.straight.set(false);
        self.transport.disconnect(why);
    }

    /// The transport's end: it sends nothing any more and takes no calls. Commands that wait are
    /// dropped; those in flight keep their buffers until the device has ended them.
    pub fn transport_closed(self: &Rc<Self>) {
        if self.closed.replace(true) {
            return;
        }
        self.state.set(QpairState::Disconnecting);
        self.straight.set(false);
        self.drop_waiting();
        drop(self.fused.take());
        if let Some(controller) = self.controller() {
            controller.closing(self);
        }
        self.maybe_gone();
    }

    fn maybe_gone(&self) {
        if self.slots.used() != 0 || self.state.get() != QpairState::Disconnecting {
            return;
        }
        self.state.set(QpairState::Gone);
        let (Some(attached), Some(own)) = (self.attached.get(), self.own.upgrade()) else { return };
        attached.subsystem.remove_qpair(&own);
        if let Some(controller) = attached.controller.take() {
            controller.gone(&own);
        }
    }
}

/// The type of a fabrics command (byte 4 of the entry).
fn fabrics_type(request: &Request) -> u8 {
    request.sqe().nsid.get().to_le_bytes()[0]
}

impl fmt::Debug for Qpair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.info.peer;
        write!(f, "Qpair({:?} from {peer}, {})", self.qid(), self.state.get())
    }
}
