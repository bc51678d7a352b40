//! The queue pair: what its users and its stream call.
#![allow(unsafe_code, reason = "commands name their memory by address")]

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::entry::Entry;
use crate::net::{CloseReason, ReadSpace, Stream, StreamHandler};
use crate::nvme::controller::cid::CommandTable;
use crate::nvme::controller::queue::{Command, CommandEnd, QueueListener, QueuePair};
use crate::nvme::controller::transport::QueueParameters;
use crate::nvme::tcp::framing::{FatalError, Framer, PduType, Receiver, Role};
use crate::reactor::Reactor;

/// Bytes for headers, and for data that arrive together with them.
const RECEIVE_BYTES: usize = 64 * 1024;

/// How long a termination request may take to leave.
const TERMINATION_LIMIT: Duration = Duration::from_secs(1);

/// A connected queue pair.
pub(super) struct TcpPair {
    pub(super) reactor: Rc<Reactor>,
    pub(super) stream: OnceCell<Rc<Stream>>,
    pub(super) receiver: RefCell<Receiver>,
    pub(super) commands: RefCell<CommandTable<Entry>>,
    pub(super) framer: Cell<Framer>,
    /// Bytes of data of one H2CData PDU.
    pub(super) data_pdu_max: Cell<u32>,
    pub(super) in_capsule_max: u32,
    /// Commands that have not been sent, because there was no room: in order.
    pub(super) unsent: RefCell<VecDeque<u16>>,
    /// Commands whose data the controller asked for and that were not sent, likewise.
    pub(super) transfers: RefCell<VecDeque<u16>>,
    /// Bytes of the data PDU that is being received.
    pub(super) arriving: Cell<Option<super::receive::Arriving>>,
    pub(super) phase: RefCell<Phase>,
    /// Somebody was told that the queue is full.
    room_wanted: Cell<bool>,
    listener: Rc<dyn QueueListener>,
    why: RefCell<String>,
}

/// Where a connection is.
pub(super) enum Phase {
    /// The answer to the connection request is waited for.
    Greeting(futures::channel::oneshot::Sender<Result<(), String>>, QueueParameters),
    /// Commands go.
    Open,
    /// It is ending; no command goes any more.
    Ending,
}

impl TcpPair {
    pub(super) fn new(
        reactor: &Rc<Reactor>,
        parameters: &QueueParameters,
        greeting: futures::channel::oneshot::Sender<Result<(), String>>,
        listener: Rc<dyn QueueListener>,
    ) -> Rc<Self> {
        let depth = parameters.entries.max(2) - 1;
        let waiting = || RefCell::new(VecDeque::with_capacity(usize::from(depth)));
        Rc::new(Self {
            reactor: Rc::clone(reactor),
            stream: OnceCell::new(),
            receiver: RefCell::new(Receiver::new(Role::Host, RECEIVE_BYTES)),
            commands: RefCell::new(CommandTable::new(depth)),
            framer: Cell::new(Framer::default()),
            data_pdu_max: Cell::new(0),
            in_capsule_max: parameters.in_capsule_max,
            unsent: waiting(),
            transfers: waiting(),
            arriving: Cell::new(None),
            phase: RefCell::new(Phase::Greeting(greeting, parameters.clone())),
            room_wanted: Cell::new(false),
            listener,
            why: RefCell::default(),
        })
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Open)
    }

    /// Ends the connection because of what the controller sent: it is told.
    #[cold]
    pub(super) fn fail(&self, error: FatalError, what: &str) {
        tracing::warn!(%error, what, "an NVMe/TCP controller breaks the protocol");
        self.note(&format!("the controller breaks the protocol: {what} ({error})"));
        let mut space = [0; crate::nvme::tcp::framing::HEADER_SPACE_BYTES];
        let receiver = self.receiver.borrow();
        let cause = receiver.last_header();
        let len = Framer::term_req(PduType::H2cTermReq, &error, cause, &mut space);
        drop(receiver);
        self.receiver.borrow_mut().end();
        *self.phase.borrow_mut() = Phase::Ending;
        if let Some(stream) = self.stream.get() {
            // Without room for it, the end of the connection has to say enough.
            let _ = stream.send(&space[..len], None);
            stream.shutdown(TERMINATION_LIMIT);
        }
    }

    /// Keeps the first reason for the end.
    pub(super) fn note(&self, why: &str) {
        let mut kept = self.why.borrow_mut();
        if kept.is_empty() {
            why.clone_into(&mut kept);
        }
    }

    /// Ends a command that was answered, when nothing of its memory waits to be sent.
    pub(super) fn finish(&self, cid: u16) {
        let mut commands = self.commands.borrow_mut();
        let ready = commands.get_mut(cid).is_some_and(|e| e.end.is_some() && e.unsent == 0);
        let Some(entry) = ready.then(|| commands.remove(cid)).flatten() else { return };
        drop(commands);
        if let Some(end) = entry.end {
            entry.owner.command_done(entry.tag, &end);
        }
        if self.room_wanted.replace(false) {
            self.listener.queue_room();
        }
    }
}

impl QueuePair for TcpPair {
    #[inline]
    unsafe fn submit(&self, command: Command) -> Result<(), Command> {
        if !self.is_open() {
            return Err(command);
        }
        let mut commands = self.commands.borrow_mut();
        if commands.room() == 0 {
            self.room_wanted.set(true);
            return Err(command);
        }
        let Some(entry) = Entry::of(&command, self.reactor.now()) else { return Err(command) };
        if let Ok(cid) = commands.insert(entry) {
            drop(commands);
            self.send_command(cid);
        }
        Ok(())
    }

    fn room(&self) -> usize {
        if self.is_open() { self.commands.borrow().room() } else { 0 }
    }

    fn outstanding(&self) -> usize {
        self.commands.borrow().len()
    }

    fn close(&self, why: &str) {
        self.note(why);
        *self.phase.borrow_mut() = Phase::Ending;
        if let Some(stream) = self.stream.get() {
            stream.abort();
        }
    }

    fn overdue(&self, submitted_by: u64) -> Vec<(u16, u64)> {
        let late = |entry: &Entry| entry.submitted <= submitted_by;
        let commands = self.commands.borrow();
        commands.iter().filter(|(_, e)| late(e)).map(|(cid, e)| (cid, e.tag)).collect()
    }
}

impl StreamHandler for TcpPair {
    fn read_space(&self, out: &mut ReadSpace) {
        self.receiver.borrow_mut().read_space(&*self.commands.borrow(), out);
    }

    fn received(&self, bytes: usize) {
        self.take_in(bytes);
    }

    fn sent(&self, token: u64) {
        let Ok(cid) = u16::try_from(token) else { return };
        if let Some(entry) = self.commands.borrow_mut().get_mut(cid) {
            entry.unsent = entry.unsent.saturating_sub(1);
        }
        self.finish(cid);
    }

    fn send_room(&self) {
        self.send_waiting();
    }

    fn closed(&self, why: CloseReason) {
        self.note(match why {
            CloseReason::PeerClosed => "the controller closed the connection",
            CloseReason::Reset { .. } => "the controller reset the connection",
            CloseReason::Lost { .. } => "the controller cannot be reached",
            CloseReason::Failed { .. } => "the socket failed",
            _ => "the connection ended",
        });
        let phase = std::mem::replace(&mut *self.phase.borrow_mut(), Phase::Ending);
        let why = self.why.borrow().clone();
        if let Phase::Greeting(tell, _) = phase {
            let _ = tell.send(Err(why.clone()));
        }
        loop {
            let next = self.commands.borrow_mut().pop();
            let Some((_, entry)) = next else { break };
            // What was answered has ended so, whatever became of the data behind it.
            let end = entry.end.unwrap_or(CommandEnd::LOST);
            entry.owner.command_done(entry.tag, &end);
        }
        self.listener.queue_closed(&why);
    }
}
