//! I/O that an interceptor keeps for a while, or until it is told to let it go.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::{BdevIo, Notice};
use crate::NvmeStatus;
use crate::reactor::{Reactor, sleep};

/// What becomes of an I/O when it is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on to the device.
    Resume,
    /// It ends with a status.
    Complete(NvmeStatus),
}

impl Then {
    /// Lets an I/O go.
    pub fn apply(self, io: BdevIo) {
        match self {
            Self::Resume => io.resume(),
            Self::Complete(status) => io.complete(status),
        }
    }

    /// What becomes of it on a notice: it goes on as it was meant to, or ends.
    #[must_use]
    pub fn on(self, notice: Notice) -> Self {
        notice.status().map_or(self, Self::Complete)
    }
}

/// I/O without a time, in order.
#[derive(Default)]
pub struct KeptList(RefCell<VecDeque<(BdevIo, Then)>>);

impl KeptList {
    /// Keeps an I/O.
    pub fn push(&self, io: BdevIo, then: Then) {
        self.0.borrow_mut().push_back((io, then));
    }

    /// Takes the I/O at an index, counted from the oldest.
    #[must_use]
    pub fn take(&self, index: usize) -> Option<(BdevIo, Then)> {
        self.0.borrow_mut().remove(index)
    }

    /// The number of I/Os.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets all of them go, as a notice says; returns how many that were.
    pub fn told(&self, notice: Notice) -> usize {
        // What goes on may come back to the list.
        let all = self.0.take();
        let count = all.len();
        for (io, then) in all {
            then.on(notice).apply(io);
        }
        count
    }
}

struct Entry {
    due: u64,
    serial: u64,
    io: BdevIo,
    then: Then,
}

impl Entry {
    fn key(&self) -> (u64, u64) {
        (self.due, self.serial)
    }
}

// The heap's greatest is the earliest.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

/// I/O that is let go at a time each, in order of the times. One task serves all of it, for as
/// long as there is some.
#[derive(Default)]
pub struct DelayQueue(Rc<Inner>);

#[derive(Default)]
struct Inner {
    entries: RefCell<BinaryHeap<Entry>>,
    serial: Cell<u64>,
    running: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl DelayQueue {
    /// Keeps an I/O until a tick of the reactor's clock.
    pub fn push(&self, reactor: &Rc<Reactor>, due: u64, io: BdevIo, then: Then) {
        let inner = &*self.0;
        let serial = inner.serial.replace(inner.serial.get() + 1);
        let sooner = inner.next().is_none_or(|next| due < next);
        inner.entries.borrow_mut().push(Entry { due, serial, io, then });
        if !inner.running.replace(true) {
            let inner = Rc::clone(&self.0);
            let own = Rc::clone(reactor);
            reactor.spawn("delayed I/O", async move { inner.serve(&own).await });
        } else if sooner && let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// The number of I/Os.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.entries.borrow().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets all of them go, as a notice says; returns how many that were.
    pub fn told(&self, notice: Notice) -> usize {
        let all = self.0.entries.take().into_sorted_vec();
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
        let count = all.len();
        // Sorted is latest first.
        for entry in all.into_iter().rev() {
            entry.then.on(notice).apply(entry.io);
        }
        count
    }
}

impl Inner {
    fn next(&self) -> Option<u64> {
        self.entries.borrow().peek().map(|entry| entry.due)
    }

    fn take_due(&self, now: u64) -> Option<Entry> {
        let mut entries = self.entries.borrow_mut();
        if entries.peek()?.due <= now { entries.pop() } else { None }
    }

    async fn serve(&self, reactor: &Reactor) {
        let clock = reactor.clock();
        loop {
            let now = clock.ticks();
            while let Some(entry) = self.take_due(now) {
                entry.then.apply(entry.io);
            }
            let Some(due) = self.next() else { break };
            let mut time = pin!(sleep(clock.duration_of(due.saturating_sub(now))));
            let mut slept = false;
            poll_fn(|cx| {
                // Woken for an I/O that is due earlier, or for none being left.
                if std::mem::replace(&mut slept, true) && self.next() != Some(due) {
                    return Poll::Ready(());
                }
                let poll = time.as_mut().poll(cx);
                if poll.is_pending() {
                    *self.waker.borrow_mut() = Some(cx.waker().clone());
                }
                poll
            })
            .await;
        }
        self.waker.take();
        self.running.set(false);
    }
}
