//! Errors that are injected into the commands of a queue pair, on demand: a wrapper around the
//! pair, which is only there while some are.
#![allow(unsafe_code, reason = "passes on what `QueuePair::submit` asks for")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::queue::{Command, CommandEnd, CommandOwner, QueuePair};
use crate::NvmeStatus;
use crate::reactor::{Reactor, sleep};

/// An error to be injected into commands of one opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorInjection {
    /// The commands of the admin queue; else those of the I/O queues.
    pub admin: bool,
    /// The opcode.
    pub opcode: u8,
    /// The controller does not get the command. Otherwise it does it, and its answer is replaced.
    pub do_not_submit: bool,
    /// How long a command takes that the controller does not get.
    pub timeout: Duration,
    /// So many commands, over all queues.
    pub count: u64,
    /// How they end.
    pub status: NvmeStatus,
}

/// An injection that is there, with what is left of its count.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) error: ErrorInjection,
    left: AtomicU64,
}

impl Rule {
    pub(crate) fn new(error: ErrorInjection) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(error.count), error })
    }

    /// What is left of it; none when nothing is.
    pub(crate) fn remaining(&self) -> Option<ErrorInjection> {
        let count = self.left.load(Ordering::Relaxed);
        (count != 0).then_some(ErrorInjection { count, ..self.error })
    }

    /// Takes one of the count for a command, if the rule is for it and something is left.
    fn draw(&self, opcode: u8) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        self.error.opcode == opcode
            && self.left.load(Ordering::Relaxed) != 0
            && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// A queue pair whose commands may end with errors that are injected.
struct FaultPair {
    inner: Rc<dyn QueuePair>,
    reactor: Rc<Reactor>,
    rules: Vec<Arc<Rule>>,
    /// Commands that the controller does not get and that have not ended.
    withheld: Rc<Cell<usize>>,
}

/// A pair with injections; the pair itself when there are none.
pub(crate) fn wrapped(
    inner: &Rc<dyn QueuePair>,
    reactor: &Rc<Reactor>,
    rules: Vec<Arc<Rule>>,
) -> Rc<dyn QueuePair> {
    let inner = Rc::clone(inner);
    if rules.is_empty() {
        return inner;
    }
    Rc::new(FaultPair { inner, reactor: Rc::clone(reactor), rules, withheld: Rc::default() })
}

impl FaultPair {
    /// Ends a command after a while that the controller does not get.
    fn withhold(&self, error: ErrorInjection, command: Command) {
        let withheld = Rc::clone(&self.withheld);
        withheld.set(withheld.get() + 1);
        let Command { tag, owner, .. } = command;
        self.reactor.spawn("withheld NVMe command", async move {
            sleep(error.timeout).await;
            withheld.set(withheld.get() - 1);
            owner.command_done(tag, &end_with(error.status, 0));
        });
    }
}

fn end_with(status: NvmeStatus, result: u64) -> CommandEnd {
    CommandEnd { status, result, answered: true }
}

impl QueuePair for FaultPair {
    unsafe fn submit(&self, command: Command) -> Result<(), Command> {
        let opcode = command.sqe.opcode;
        if self.inner.room() == 0 {
            // It is refused, and comes again: nothing is counted for it now.
            // SAFETY: the caller's promise is passed on.
            return unsafe { self.inner.submit(command) };
        }
        let Some(rule) = self.rules.iter().find(|rule| rule.draw(opcode)) else {
            // SAFETY: the caller's promise is passed on.
            return unsafe { self.inner.submit(command) };
        };
        let error = rule.error;
        if error.do_not_submit {
            self.withhold(error, command);
            return Ok(());
        }
        let Command { sqe, data, tag, owner } = command;
        let own: Rc<dyn CommandOwner> =
            Rc::new(Replaced { owner: Rc::clone(&owner), status: error.status });
        // SAFETY: the caller's promise is passed on.
        let taken = unsafe { self.inner.submit(Command { sqe, data, tag, owner: own }) };
        taken.map_err(|Command { sqe, data, tag, .. }| Command { sqe, data, tag, owner })
    }

    fn room(&self) -> usize {
        self.inner.room()
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding() + self.withheld.get()
    }

    fn close(&self, why: &str) {
        self.inner.close(why);
    }

    fn overdue(&self, submitted_by: u64) -> Vec<(u16, u64)> {
        self.inner.overdue(submitted_by)
    }
}

/// Whoever waits for a command is told of another end than the controller's.
struct Replaced {
    owner: Rc<dyn CommandOwner>,
    status: NvmeStatus,
}

impl CommandOwner for Replaced {
    fn command_done(&self, tag: u64, end: &CommandEnd) {
        // A lost connection is told as what it is.
        let end = if end.answered { end_with(self.status, end.result) } else { *end };
        self.owner.command_done(tag, &end);
    }
}
