//! One connection: from its first byte to its end.
//!
//! The phases: *greeting*, until ICReq has come; *running*, until somebody ends it; *ending*, where
//! what is queued leaves and what arrives is dropped; *closed*.

mod asked;
mod bulk;
mod commands;
mod plan;
mod send;
mod slots;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use self::bulk::{Bulk, Guess};
use self::slots::Slots;
use super::group::Group;
use crate::bdev::IoBuf;
use crate::net::{CloseReason, ReadSpace, Socket, Stream, StreamHandler, StreamOptions};
use crate::nvme::spec::{Cqe, Sqe};
use crate::nvme::tcp::framing::{
    Displaced, FatalError, Framer, HEADER_SPACE_BYTES, IcReq, IcResp, Pdu, PduType, ReceiveRules,
    Receiver, Role, Step,
};
use crate::nvmf::log_budget;
use crate::nvmf::qpair::Qpair;
use crate::nvmf::service::TargetService;
use crate::nvmf::transport::{
    ADMIN_QUEUE_ENTRIES, ConnectionInfo, DisconnectReason, ListenerId, QpairTransport,
    TransportKind,
};

/// Bytes of the buffer for headers and what comes with them.
/// A write with its data in the capsule takes 4 KiB and more of it, and many of them come at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of in-capsule data that admin and fabrics commands may have at least (NVMe/TCP Transport
/// Specification 1.0, section 3.3.2.2).
const ADMIN_CAPSULE_BYTES: u32 = 8192;

/// Commands that may be outstanding before Connect has succeeded.
const EARLY_COMMANDS: u32 = 2;

/// When more connections than these receive in bulk, one need not overlap with itself.
const MANY: usize = 2;

/// The largest alignment (HPDA) that the specification allows.
const HPDA_MAX: u8 = 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Running,
    Ending,
    Closed,
}

/// A command whose data are at the start of the stream, while there is no place for it.
#[derive(Clone, Copy, Debug)]
struct Stalled {
    sqe: Sqe,
    data_bytes: u32,
    /// What is missing.
    missing: Missing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// A place: answers have to leave first.
    Slot,
    /// Memory for in-capsule data, in the place that the command has already.
    Memory(u32),
}

/// What the receiving side changes.
struct Wire {
    receiver: Receiver,
    slots: Slots,
    bulk: Bulk,
}

impl Wire {
    /// Where the next bytes go, and for how many of them to wait.
    #[inline]
    fn read_space(&mut self, group: &Group, out: &mut ReadSpace) {
        if self.slots.asked_bytes() < Bulk::WORTH_BYTES {
            return self.receiver.read_space(&self.slots, out);
        }
        self.read_bulk(group, out);
    }

    fn read_bulk(&mut self, group: &Group, out: &mut ReadSpace) {
        let max = Displaced::AHEAD_MAX;
        let run = self.slots.first_run(max);
        if !self.bulk.is_worth(run.bytes) {
            return self.receiver.read_space(&self.slots, out);
        }
        let guess = match run.open {
            false => Guess::Data,
            true if self.bulk.trusts_order() => Guess::Order,
            true => Guess::None,
        };
        let certain = if guess == Guess::None {
            // Commands may come before these data: one look at both tells.
            self.receiver.read_space(&self.slots, out);
            run.bytes
        } else {
            let coming = self.slots.coming(group.shared.options.io_unit_bytes);
            self.receiver.read_space_ahead(&self.slots, coming, max, out)
        };
        if certain != 0 {
            let others = group.displaced.reaching() > MANY;
            let asked = self.slots.asked_bytes();
            out.wait_for(self.bulk.begin(guess, certain, asked, others));
        }
    }
}

/// A connection of a host.
pub(super) struct Connection {
    this: Weak<Self>,
    group: Rc<Group>,
    target: Arc<dyn TargetService>,
    listener: ListenerId,
    peer: SocketAddr,
    /// Its number in the group.
    place: Cell<usize>,
    stream: OnceCell<Rc<Stream>>,
    qpair: RefCell<Option<Rc<Qpair>>>,
    phase: Cell<Phase>,
    wire: RefCell<Wire>,
    framer: Cell<Framer>,
    stalled: RefCell<Option<Stalled>>,
    /// In the group's list of those that wait for memory.
    waits: Cell<bool>,
    /// The first command of a fused pair, when it was the last command that came.
    fused: Cell<Option<u32>>,
    /// Commands without an answer.
    outstanding: Cell<u32>,
    /// Entries of the submission queue; 0 before Connect.
    queue_size: Cell<u32>,
    is_io: Cell<bool>,
    /// The stream is to be shut down when the last answer was queued.
    end_when_sent: Cell<bool>,
    opened: u64,
    /// When something was received or sent last.
    progress: Cell<u64>,
}

impl Connection {
    /// Serves a socket, which the transport has counted on this reactor.
    pub(super) fn open(
        group: &Rc<Group>,
        target: Arc<dyn TargetService>,
        listener: ListenerId,
        socket: Socket,
    ) {
        // It may become an admin queue.
        let depth = group.shared.options.queue_depth_max.max(ADMIN_QUEUE_ENTRIES.into());
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        let now = group.reactor.now();
        let connection = Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            group: Rc::clone(group),
            target,
            listener,
            peer: socket.peer_addr(),
            place: Cell::new(usize::MAX),
            stream: OnceCell::new(),
            qpair: RefCell::new(None),
            phase: Cell::new(Phase::Greeting),
            wire: RefCell::new(Wire {
                receiver: Receiver::new(Role::Controller, BUFFER_BYTES),
                // Answers may be on their way for as many commands again.
                slots: Slots::new(2 * depth),
                bulk: Bulk::new(),
            }),
            framer: Cell::new(Framer::default()),
            stalled: RefCell::new(None),
            waits: Cell::new(false),
            fused: Cell::new(None),
            outstanding: Cell::new(0),
            queue_size: Cell::new(0),
            is_io: Cell::new(false),
            end_when_sent: Cell::new(false),
            opened: now,
            progress: Cell::new(now),
        });
        let room = depth.min(1024);
        let options = StreamOptions { copy_bytes: room * 64, pieces: room * 4 };
        let handler: Rc<dyn StreamHandler> = Rc::<Self>::clone(&connection);
        match Stream::open(&group.reactor, socket, &options, handler) {
            Ok(stream) => {
                connection.stream.get_or_init(|| stream);
                connection.place.set(group.add(&connection));
                group.watch();
            }
            Err(error) => {
                if log_budget::allows(&group.reactor) {
                    tracing::warn!(peer = %connection.peer, %error, "a connection was refused");
                }
                group.shared.left(group.index);
            }
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.phase.get(), Phase::Greeting | Phase::Running)
    }

    /// Goes through what has arrived.
    fn run(&self) {
        while self.is_open() && !self.is_stalled() {
            let step = {
                let wire = &mut *self.wire.borrow_mut();
                wire.receiver.step(&wire.slots)
            };
            let done = match step {
                Ok(Step::More) => return,
                Ok(Step::Pdu { pdu, data_bytes }) => self.pdu(&pdu, data_bytes),
                Ok(Step::Payload { tag, intact }) => {
                    self.payload(tag, intact);
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                self.fatal(error);
            }
        }
    }

    #[inline]
    fn is_stalled(&self) -> bool {
        self.stalled.borrow().is_some()
    }

    #[inline]
    fn pdu(&self, pdu: &Pdu, data_bytes: u32) -> Result<(), FatalError> {
        match pdu {
            Pdu::Command(sqe) => self.command(sqe, data_bytes),
            Pdu::Data(data) => self.data(data),
            Pdu::IcReq(request) => self.greet(request),
            Pdu::TermReq(request) => {
                let (fes, fei) = (request.fes, request.fei);
                if log_budget::allows(&self.group.reactor) {
                    tracing::warn!(peer = %self.peer, fes, fei, "the host ends the connection");
                }
                self.end();
                Ok(())
            }
            // The receiver does not report those to a controller.
            Pdu::IcResp(_) | Pdu::Response(_) | Pdu::R2t(_) => Err(FatalError::SEQUENCE),
        }
    }

    /// Answers the first PDU, from which on there is a queue pair.
    fn greet(&self, request: &IcReq) -> Result<(), FatalError> {
        if request.pfv != 0 {
            return Err(Receiver::UNKNOWN_VERSION);
        }
        if request.hpda > HPDA_MAX {
            return Err(Receiver::WRONG_ALIGNMENT);
        }
        let Some(stream) = self.stream.get() else { return Ok(()) };
        let options = &self.group.shared.options;
        let (header_digest, data_digest) = (request.header_digest, request.data_digest);
        self.framer.set(Framer {
            header_digest,
            data_digest,
            alignment_bytes: (u32::from(request.hpda) + 1) * 4,
        });
        let rules = ReceiveRules {
            header_digest,
            data_digest,
            alignment_bytes: 4,
            in_capsule_max: options.in_capsule_bytes.max(ADMIN_CAPSULE_BYTES),
            data_max: options.io_unit_bytes,
        };
        {
            let receiver = &mut self.wire.borrow_mut().receiver;
            receiver.look_ahead(&self.group.displaced);
            receiver.agree(rules);
        }
        let info = ConnectionInfo {
            transport: TransportKind::Tcp,
            listener: self.listener,
            peer: self.peer,
            local: stream.local_addr(),
            in_capsule_bytes: options.in_capsule_bytes,
            io_bytes_max: options.io_bytes_max,
            queue_depth_max: options.queue_depth_max,
            lend: options.zcopy && !data_digest,
        };
        if let Some(this) = self.this.upgrade() {
            let qpair = Qpair::new(&self.target, &self.group.reactor, info, this);
            *self.qpair.borrow_mut() = Some(qpair);
        }
        let mut out = [0; HEADER_SPACE_BYTES];
        let maxh2cdata = options.io_unit_bytes;
        let response = IcResp { pfv: 0, cpda: 0, header_digest, data_digest, maxh2cdata };
        let len = Framer::ic_resp(&response, &mut out);
        // Nothing was queued before, so there is room.
        let _ = stream.send(&out[..len], None);
        self.phase.set(Phase::Running);
        Ok(())
    }

    fn qpair(&self) -> Option<Rc<Qpair>> {
        self.qpair.borrow().clone()
    }

    /// Entries of the submission queue, 0 before Connect has succeeded.
    #[inline]
    fn queue_size(&self) -> u32 {
        if self.queue_size.get() == 0
            && let Some(qpair) = self.qpair()
        {
            self.queue_size.set(qpair.queue_size());
            self.is_io.set(qpair.qid().is_some_and(|qid| qid != 0));
        }
        self.queue_size.get()
    }

    /// Ends the connection because of what the peer sent.
    #[cold]
    fn fatal(&self, error: FatalError) {
        if !self.is_open() {
            return;
        }
        if log_budget::allows(&self.group.reactor) {
            tracing::warn!(peer = %self.peer, %error, "the connection is terminated");
        }
        self.group.shared.terminated();
        if let Some(stream) = self.stream.get() {
            let mut out = [0; HEADER_SPACE_BYTES];
            let len = {
                let wire = self.wire.borrow();
                let cause = wire.receiver.last_header();
                Framer::term_req(PduType::C2hTermReq, &error, cause, &mut out)
            };
            // Without room the connection ends without a word.
            let _ = stream.send(&out[..len], None);
        }
        self.end();
    }

    /// Lets what is queued leave, and closes.
    fn end(&self) {
        if self.is_open() {
            self.phase.set(Phase::Ending);
            self.end_when_sent.set(true);
            self.end_if_sent();
        }
    }

    fn end_if_sent(&self) {
        if self.end_when_sent.get()
            && self.wire.borrow().slots.unsent.is_empty()
            && let Some(stream) = self.stream.get()
        {
            stream.shutdown(self.group.shared.options.close_timeout);
        }
    }

    /// Ends the connection if it has taken too long; returns whether it has to be looked at again.
    pub(super) fn check_limits(&self) -> bool {
        let Some(stream) = self.stream.get().filter(|_| self.is_open()) else { return false };
        let now = self.group.reactor.now();
        if self.queue_size() == 0 {
            if now.saturating_sub(self.opened) > self.group.connect_ticks {
                if log_budget::allows(&self.group.reactor) {
                    tracing::info!(peer = %self.peer, "a connection without Connect is ended");
                }
                self.end();
            }
            return true;
        }
        let owed = {
            let wire = self.wire.borrow();
            wire.receiver.is_inside_pdu() && !self.is_stalled() || wire.slots.any_waits_for_peer()
        };
        if !owed && stream.queued_bytes() == 0 {
            return false;
        }
        if now.saturating_sub(self.progress.get()) > self.group.data_ticks {
            if log_budget::allows(&self.group.reactor) {
                tracing::info!(peer = %self.peer, "a connection that does not get on is ended");
            }
            self.end();
        }
        true
    }

    fn note_progress(&self) {
        self.progress.set(self.group.reactor.now());
        self.group.watch();
    }
}

impl StreamHandler for Connection {
    fn read_space(&self, out: &mut ReadSpace) {
        if !self.is_stalled() {
            let wire = &mut *self.wire.borrow_mut();
            wire.read_space(&self.group, out);
        }
    }

    fn received(&self, bytes: usize) {
        {
            let wire = &mut *self.wire.borrow_mut();
            wire.receiver.received(&wire.slots, bytes);
        }
        self.note_progress();
        self.run();
        let wire = &mut *self.wire.borrow_mut();
        wire.bulk.end(bytes, wire.receiver.take_moved());
    }

    fn sent(&self, token: u64) {
        self.has_left(token);
    }

    fn send_room(&self) {
        self.send_unsent();
        self.end_if_sent();
    }

    fn closed(&self, why: CloseReason) {
        tracing::debug!(peer = %self.peer, ?why, "a connection is gone");
        self.phase.set(Phase::Closed);
        let qpair = self.qpair.take();
        if let Some(qpair) = qpair {
            qpair.transport_closed();
        }
        self.stalled.take();
        let slots = {
            let wire = &mut *self.wire.borrow_mut();
            // It knows memory of the slots.
            wire.receiver.end();
            std::mem::replace(&mut wire.slots, Slots::new(0))
        };
        self.group.unlend(slots.held_bytes());
        drop(slots);
        self.group.remove(self.place.get());
        self.group.memory_freed();
    }
}

impl QpairTransport for Connection {
    #[inline]
    fn respond(&self, tag: u32, cqe: Cqe, data: IoBuf, data_len: u32) {
        self.answer(tag, cqe, data, data_len);
    }

    fn disconnect(&self, why: DisconnectReason) {
        match why {
            DisconnectReason::QueueOverrun => self.fatal(FatalError::SEQUENCE),
            _ => {
                if log_budget::allows(&self.group.reactor) {
                    tracing::info!(peer = %self.peer, ?why, "the target ends a connection");
                }
                self.end();
            }
        }
    }
}
