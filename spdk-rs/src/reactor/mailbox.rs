//! How other threads reach a reactor: a bounded queue that never drops, and a bell.
//!
//! Invariants:
//! * a message that was accepted is delivered, in order per sender, before the reactor ends;
//! * a full queue is told to the sender, who waits: nothing is dropped, nothing grows;
//! * a poll of an empty mailbox is one plain load.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam::queue::{ArrayQueue, SegQueue};
use spdk_rs_sys::event::EventFd;

use super::Reactor;
use super::task::TaskId;

/// Messages that a mailbox holds before senders have to wait.
const CAPACITY: usize = 1024;

/// A closure that runs on a reactor.
pub(super) type Call = Box<dyn FnOnce(&Rc<Reactor>) + Send>;

/// What a reactor can be asked to do from outside.
pub(super) enum Message {
    /// Run a closure on the reactor.
    Call(Call),
    /// A piece of offloaded work has ended.
    Offloaded {
        /// Which client of the reactor asked for it.
        client: u16,
        /// The client's own number for it.
        token: u64,
        /// Its result: not negative, or a negated errno.
        result: i32,
    },
}

/// The shared half of a reactor's mailbox.
pub(super) struct Mailbox {
    queue: ArrayQueue<Message>,
    /// Tasks woken from other threads. Unbounded, because a wake-up must not fail; at most one
    /// entry per wake-up of a task that lives here.
    wakes: SegQueue<TaskId>,
    /// Senders that wait for room.
    waiting: SegQueue<std::task::Waker>,
    pending: AtomicBool,
    sleeping: AtomicBool,
    closed: AtomicBool,
    bell: EventFd,
}

/// The queue is full; the message comes back.
pub(super) struct Full(pub(super) Message);

impl Mailbox {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            queue: ArrayQueue::new(CAPACITY),
            wakes: SegQueue::new(),
            waiting: SegQueue::new(),
            pending: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            bell: EventFd::new()?,
        })
    }

    pub(super) fn bell(&self) -> &EventFd {
        &self.bell
    }

    pub(super) fn try_push(&self, message: Message) -> Result<(), Full> {
        self.queue.push(message).map_err(Full)?;
        self.ring_bell();
        Ok(())
    }

    /// Registers a sender to be woken when there is room again.
    pub(super) fn wait_for_room(&self, waker: std::task::Waker) {
        self.waiting.push(waker);
        // The queue may have been drained in between: the reactor looks once more.
        self.ring_bell();
    }

    pub(super) fn push_wake(&self, task: TaskId) {
        self.wakes.push(task);
        self.ring_bell();
    }

    /// Makes the reactor look here: at its next turn, or by ending its sleep.
    pub(super) fn ring_bell(&self) {
        self.pending.store(true, Ordering::Release);
        // Either this fence comes first, and the reactor sees `pending` before it sleeps, or the
        // reactor's comes first, and this thread sees `sleeping`.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            // It fails only when the descriptor is not one, and it is ours.
            let _ = self.bell.signal();
        }
    }

    /// Whether there may be something to take: one plain load.
    #[inline(always)]
    pub(super) fn has_mail(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Starts a drain: what is pushed from here on sets the flag again.
    pub(super) fn begin_drain(&self) {
        self.pending.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(super) fn pop(&self) -> Option<Message> {
        self.queue.pop()
    }

    pub(super) fn pop_wake(&self) -> Option<TaskId> {
        self.wakes.pop()
    }

    /// Tells waiting senders that there is room, and notes whether anything is left.
    pub(super) fn end_drain(&self) {
        while let Some(waker) = self.waiting.pop() {
            waker.wake();
        }
        if !self.queue.is_empty() || !self.wakes.is_empty() {
            self.pending.store(true, Ordering::Relaxed);
        }
    }

    /// Announces sleep; false when there is mail, and then the reactor stays awake.
    pub(super) fn begin_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let clear = !self.pending.load(Ordering::Relaxed);
        if !clear {
            self.end_sleep();
        }
        clear
    }

    pub(super) fn end_sleep(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while let Some(waker) = self.waiting.pop() {
            waker.wake();
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}
