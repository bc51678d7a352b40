//! A core that has no I/O queue of a controller sends its commands through another core's.
//!
//! Controllers may grant fewer I/O queues than there are reactors. A core that gets none takes a
//! [`ForwardPair`] instead: its commands go as messages to a core that has a queue, and their ends
//! come back so. The core that serves them keeps its queue for as long as there are guests.
//!
//! Invariants:
//! * a command that was taken ends exactly once: a [`Batch`] that is dropped on its way, in a
//!   mailbox that nobody empties any more or at a queue that has ended, tells its origin;
//! * the two commands of a fused pair travel and are submitted together.
#![allow(unsafe_code, reason = "commands name their memory by address, on any core")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::controller::Controller;
use super::core::NvmeCore;
use crate::nvme::controller::cid::CommandTable;
use crate::nvme::controller::queue::{
    Command, CommandData, CommandEnd, CommandOwner, QueueListener, QueuePair,
};
use crate::nvme::spec::{FusedPart, Sqe};
use crate::reactor::{Reactor, ReactorHandle};

/// A command on its way to another core.
pub(super) struct Job {
    pub(super) sqe: Sqe,
    pub(super) data: CommandData,
    /// Its number at the origin.
    pub(super) number: u16,
}

// SAFETY: the addresses are only passed on by the core that serves the command. The memory, and the
// table of its pieces, stay in place and belong to the command until its end was reported at the
// origin, as `QueuePair::submit` demands.
unsafe impl Send for Job {}

/// Where commands came from, and their ends go to.
#[derive(Clone)]
pub(super) struct Origin {
    reactor: ReactorHandle,
    /// The number of the [`ForwardPair`].
    pub(super) pair: u64,
}

impl Origin {
    /// Reports the end of a command. `lost`: the queue that serves the pair has ended.
    pub(super) fn tell(&self, number: u16, end: CommandEnd, lost: bool) {
        let pair = self.pair;
        deliver(&self.reactor, move |reactor| {
            if let Some(pair) = NvmeCore::of(reactor).forward(pair) {
                pair.ended(number, &end, lost);
            }
        });
    }
}

/// Commands that are submitted together: one, or a fused pair.
pub(super) struct Batch {
    pub(super) jobs: Vec<Job>,
    pub(super) origin: Origin,
}

impl Drop for Batch {
    fn drop(&mut self) {
        for job in self.jobs.drain(..) {
            self.origin.tell(job.number, CommandEnd::LOST, true);
        }
    }
}

/// Runs `f` on a reactor as soon as its mailbox has room; drops it when the reactor has ended.
fn deliver(to: &ReactorHandle, f: impl FnOnce(&Rc<Reactor>) + Send + 'static) {
    let Err(refused) = to.try_send(f) else { return };
    let (to, call) = (to.clone(), refused.0);
    // Without a reactor here, everything is ending: there is nobody left to tell.
    if let Some(here) = Reactor::current().filter(|_| !to.has_ended()) {
        here.spawn("nvme forward", async move {
            let _ = to.send(call).await;
        });
    }
}

/// A command that has not ended.
struct Entry {
    tag: u64,
    owner: Rc<dyn CommandOwner>,
}

/// What stands for a queue pair on a core without a queue.
pub(super) struct ForwardPair {
    /// A number that no other one of this process has or had.
    id: u64,
    reactor: Rc<Reactor>,
    server: ReactorHandle,
    commands: RefCell<CommandTable<Entry>>,
    /// The first command of a fused pair, until the second is submitted.
    fused: RefCell<Option<Job>>,
    open: Cell<bool>,
    /// Somebody was told that there is no room.
    room_wanted: Cell<bool>,
    why: RefCell<String>,
    listener: Rc<dyn QueueListener>,
}

impl ForwardPair {
    /// Has `server` take commands of this core for a controller, `entries - 1` at a time. None when
    /// it has no queue any more.
    pub(super) async fn connect(
        reactor: &Rc<Reactor>,
        controller: &Arc<Controller>,
        server: ReactorHandle,
        entries: u16,
        listener: Rc<dyn QueueListener>,
    ) -> Option<Rc<Self>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (id, of) = (NEXT.fetch_add(1, Ordering::Relaxed), controller.id);
        let admitted = server.call(move |reactor| NvmeCore::of(reactor).admit(id, of)).await;
        if !admitted.unwrap_or(false) {
            return None;
        }
        let pair = Rc::new(Self {
            id,
            reactor: Rc::clone(reactor),
            server,
            commands: RefCell::new(CommandTable::new(entries.max(2) - 1)),
            fused: RefCell::default(),
            open: Cell::new(true),
            room_wanted: Cell::new(false),
            why: RefCell::default(),
            listener,
        });
        NvmeCore::of(reactor).add_forward(id, &pair);
        Some(pair)
    }

    fn send(&self, jobs: Vec<Job>) {
        let origin = Origin { reactor: self.reactor.handle(), pair: self.id };
        let batch = Batch { jobs, origin };
        deliver(&self.server, move |reactor| NvmeCore::of(reactor).serve(batch));
    }

    /// A command has ended.
    fn ended(&self, number: u16, end: &CommandEnd, lost: bool) {
        if lost {
            self.close("the I/O queue of the core that serves this one has ended");
        }
        let ended = self.commands.borrow_mut().remove(number);
        let Some(Entry { tag, owner }) = ended else {
            tracing::error!(number, "a forwarded NVMe command ended twice");
            return;
        };
        owner.command_done(tag, end);
        if self.open.get() && self.room_wanted.replace(false) {
            self.listener.queue_room();
        }
        self.finish();
    }

    /// Reports the end once all commands have ended.
    fn finish(&self) {
        if self.open.get() || self.commands.borrow().len() != 0 {
            return;
        }
        let id = self.id;
        if let Some(pair) = NvmeCore::of(&self.reactor).remove_forward(id) {
            deliver(&self.server, move |reactor| NvmeCore::of(reactor).dismiss(id));
            let why = pair.why.borrow().clone();
            pair.listener.queue_closed(&why);
        }
    }
}

impl QueuePair for ForwardPair {
    unsafe fn submit(&self, command: Command) -> Result<(), Command> {
        if !self.open.get() {
            return Err(command);
        }
        let Command { sqe, data, tag, owner } = command;
        let inserted = self.commands.borrow_mut().insert(Entry { tag, owner });
        let number = match inserted {
            Ok(number) => number,
            Err(Entry { tag, owner }) => {
                self.room_wanted.set(true);
                return Err(Command { sqe, data, tag, owner });
            }
        };
        let job = Job { sqe, data, number };
        let first = self.fused.take();
        match (first, job.sqe.fused()) {
            (None, FusedPart::First) => *self.fused.borrow_mut() = Some(job),
            (first, _) => self.send(first.into_iter().chain([job]).collect()),
        }
        Ok(())
    }

    fn room(&self) -> usize {
        if self.open.get() { self.commands.borrow().room() } else { 0 }
    }

    fn outstanding(&self) -> usize {
        self.commands.borrow().len()
    }

    /// Takes no more commands. Those outstanding end with the queue that they were sent to, which
    /// is closed as well, or by themselves.
    fn close(&self, why: &str) {
        if !self.open.replace(false) {
            return;
        }
        why.clone_into(&mut self.why.borrow_mut());
        let (reactor, id) = (Rc::clone(&self.reactor), self.id);
        self.reactor.spawn("nvme forward ends", async move {
            if let Some(pair) = NvmeCore::of(&reactor).forward(id) {
                pair.finish();
            }
        });
    }

    /// None: the core that serves them watches over them.
    fn overdue(&self, _: u64) -> Vec<(u16, u64)> {
        Vec::new()
    }
}
