//! Pollers: functions that a reactor calls at every turn, or every so often.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Whether a poll found something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There was nothing.
    Idle,
    /// Work was done.
    Busy,
}

/// One registered poller.
pub(super) struct Poller {
    pub(super) name: &'static str,
    /// Ticks between two calls; 0 for every turn.
    pub(super) period: u64,
    pub(super) due: Cell<u64>,
    pub(super) removed: Cell<bool>,
    pub(super) runs: Cell<u64>,
    pub(super) busy_runs: Cell<u64>,
    pub(super) run: RefCell<Box<dyn FnMut() -> Progress>>,
}

/// Keeps a poller registered; dropping it ends the poller.
#[must_use = "the poller ends when this is dropped"]
pub struct PollerHandle(pub(super) Rc<Poller>);

impl PollerHandle {
    /// The name it was registered under.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }
}

impl Drop for PollerHandle {
    fn drop(&mut self) {
        self.0.removed.set(true);
    }
}

/// A poller as statistics show it.
#[derive(Clone, Debug)]
pub struct PollerStats {
    /// The name it was registered under.
    pub name: &'static str,
    /// Ticks between two calls; 0 for every turn.
    pub period_ticks: u64,
    /// How often it ran.
    pub runs: u64,
    /// How often it found work.
    pub busy_runs: u64,
}

/// The pollers of a reactor.
#[derive(Default)]
pub(super) struct Pollers {
    list: RefCell<Vec<Rc<Poller>>>,
    count: Cell<usize>,
}

impl Pollers {
    pub(super) fn add(&self, poller: Rc<Poller>) {
        self.list.borrow_mut().push(poller);
        self.count.set(self.list.borrow().len());
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    pub(super) fn get(&self, index: usize) -> Option<Rc<Poller>> {
        self.list.borrow().get(index).cloned()
    }

    /// Forgets pollers whose handles are gone.
    pub(super) fn sweep(&self) {
        let mut list = self.list.borrow_mut();
        if list.iter().any(|poller| poller.removed.get()) {
            list.retain(|poller| !poller.removed.get());
            self.count.set(list.len());
        }
    }

    /// When the next periodic poller is due; 0 when one wants every turn.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.list
            .borrow()
            .iter()
            .filter(|poller| !poller.removed.get())
            .map(|poller| if poller.period == 0 { 0 } else { poller.due.get() })
            .min()
    }

    pub(super) fn stats(&self) -> Vec<PollerStats> {
        let of = |poller: &Rc<Poller>| PollerStats {
            name: poller.name,
            period_ticks: poller.period,
            runs: poller.runs.get(),
            busy_runs: poller.busy_runs.get(),
        };
        self.list.borrow().iter().map(of).collect()
    }
}
