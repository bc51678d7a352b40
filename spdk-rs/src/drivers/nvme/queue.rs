//! A core's I/O queue of a controller.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::api::ControllerState;
use super::controller::Controller;
use super::core::NvmeCore;
use super::home;
use crate::nvme::controller::TimeoutAction;
use crate::nvme::controller::queue::{QueueListener, QueuePair};
use crate::nvme::controller::signal::Events;
use crate::nvme::controller::transport::connect_io_queue;
use crate::reactor::{Reactor, sleep};

/// Time until a queue that could not be connected is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The least time between two looks for commands that take too long.
const LOOK_MIN: Duration = Duration::from_millis(5);

/// Where a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueState {
    /// The controller is not connected, or the queue is not needed yet.
    Down,
    /// The queue is being connected, or that is about to be tried again.
    Connecting,
    /// Commands go.
    Up,
    /// The controller grants no queue for this core.
    Refused,
}

/// A queue, connected or not. It lives as long as a channel uses it.
pub(super) struct IoQueue {
    own: Weak<Self>,
    reactor: Rc<Reactor>,
    controller: Arc<Controller>,
    state: Cell<QueueState>,
    pair: RefCell<Option<Rc<dyn QueuePair>>>,
    /// The queue's number and its association's.
    id: Cell<(u16, u64)>,
    /// Wait for the end of the queue pair.
    ended: RefCell<Vec<futures::channel::oneshot::Sender<()>>>,
}

/// Hears of the end of one queue pair, and holds its number until then.
struct PairEnd {
    queue: Weak<IoQueue>,
    controller: Arc<Controller>,
    id: (u16, u64),
}

impl QueueListener for PairEnd {
    fn queue_closed(&self, why: &str) {
        if let Some(queue) = self.queue.upgrade() {
            queue.lost(self.id, why);
        }
    }

    fn queue_room(&self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.tell_channels();
        }
    }
}

impl Drop for PairEnd {
    fn drop(&mut self) {
        // The connection is gone, or never came to be: the number is free, once.
        self.controller.give_queue(self.id.0, self.id.1);
    }
}

impl IoQueue {
    pub(super) fn new(reactor: &Rc<Reactor>, controller: &Arc<Controller>) -> Rc<Self> {
        let queue = Rc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            reactor: Rc::clone(reactor),
            controller: Arc::clone(controller),
            state: Cell::new(QueueState::Down),
            pair: RefCell::default(),
            id: Cell::default(),
            ended: RefCell::default(),
        });
        queue.connect();
        queue
    }

    /// The state.
    #[inline(always)]
    pub(super) fn state(&self) -> QueueState {
        self.state.get()
    }

    /// The queue pair, when commands go.
    #[inline(always)]
    pub(super) fn pair(&self) -> Option<Rc<dyn QueuePair>> {
        self.pair.borrow().as_ref().map(Rc::clone)
    }

    /// Commands outstanding.
    pub(super) fn outstanding(&self) -> usize {
        self.pair.borrow().as_ref().map_or(0, |pair| pair.outstanding())
    }

    /// Begins to connect, when the controller is connected and the queue is not.
    pub(super) fn connect(&self) {
        let idle = matches!(self.state.get(), QueueState::Down | QueueState::Refused);
        if !idle || self.controller.state() != ControllerState::Enabled {
            return;
        }
        self.state.set(QueueState::Connecting);
        let weak = Weak::clone(&self.own);
        self.reactor.spawn("nvme I/O queue", async move {
            while let Some(queue) = weak.upgrade() {
                if queue.try_connect().await {
                    return;
                }
                drop(queue);
                sleep(RETRY).await;
            }
        });
    }

    /// One attempt; true when there is to be no other.
    async fn try_connect(&self) -> bool {
        if self.controller.state() != ControllerState::Enabled {
            self.state.set(QueueState::Down);
            return true;
        }
        let Some(info) = self.controller.info() else { return true };
        let Some(id) = self.controller.take_queue() else {
            let granted = info.io_queues;
            tracing::warn!(controller = self.controller.name, granted, "no I/O queue for a core");
            self.state.set(QueueState::Refused);
            self.tell_channels();
            return true;
        };
        self.id.set(id);
        let controller = Arc::clone(&self.controller);
        let end = Rc::new(PairEnd { queue: Weak::clone(&self.own), controller, id });
        let made = connect_io_queue(&self.reactor, &info, id.0, end).await;
        let same = id.1 == self.controller.association();
        match made {
            Ok(pair) if same && self.controller.state() == ControllerState::Enabled => {
                *self.pair.borrow_mut() = Some(pair);
                self.state.set(QueueState::Up);
                self.watch_time();
                self.tell_channels();
                true
            }
            Ok(pair) => {
                pair.close("the controller was connected anew meanwhile");
                false
            }
            Err(error) => {
                let controller = &self.controller.name;
                tracing::warn!(controller, qid = id.0, %error, "an I/O queue is not connected");
                false
            }
        }
    }

    /// A queue pair has ended.
    fn lost(&self, id: (u16, u64), why: &str) {
        let was_up = self.state.get() == QueueState::Up && self.id.get() == id;
        if !was_up {
            return;
        }
        tracing::info!(controller = self.controller.name, qid = id.0, why, "an I/O queue ended");
        *self.pair.borrow_mut() = None;
        self.state.set(QueueState::Down);
        for waiter in self.ended.take() {
            let _ = waiter.send(());
        }
        self.tell_channels();
        if self.controller.association() == id.1
            && self.controller.state() == ControllerState::Enabled
        {
            home::tell(&self.reactor, &self.controller, Events::QUEUE_LOST);
        }
    }

    /// Ends the queue pair and waits until its commands have ended.
    pub(super) async fn disconnect(&self, why: &str) {
        let Some(pair) = self.pair() else { return };
        let (tell, told) = futures::channel::oneshot::channel();
        self.ended.borrow_mut().push(tell);
        pair.close(why);
        drop(pair);
        let _ = told.await;
    }

    /// Has the channels of this core look at their paths, and send what waits.
    pub(super) fn tell_channels(&self) {
        for channel in NvmeCore::of(&self.reactor).channels() {
            channel.path_changed();
        }
    }

    /// Looks for commands that take too long, while the queue pair lives.
    fn watch_time(&self) {
        let options = &self.controller.options;
        let limit = Duration::from_micros(options.timeout_us);
        let (action, id) = (options.action_on_timeout, self.id.get());
        if limit.is_zero() {
            return;
        }
        let weak = Weak::clone(&self.own);
        self.reactor.spawn("nvme time-outs", async move {
            let mut reported = Vec::new();
            loop {
                sleep((limit / 4).max(LOOK_MIN)).await;
                let Some(queue) = weak.upgrade() else { return };
                if queue.id.get() != id || queue.state.get() != QueueState::Up {
                    return;
                }
                queue.look_at_time(limit, action, &mut reported);
            }
        });
    }

    fn look_at_time(&self, limit: Duration, action: TimeoutAction, reported: &mut Vec<u16>) {
        let Some(pair) = self.pair() else { return };
        let (clock, now) = (self.reactor.clock(), self.reactor.clock().ticks());
        let late = |times: u32| now.checked_sub(clock.ticks_in(limit * times));
        let overdue = late(1).map(|by| pair.overdue(by)).unwrap_or_default();
        reported.retain(|cid| overdue.iter().any(|(late, _)| late == cid));
        let fresh: Vec<_> =
            overdue.iter().map(|&(cid, _)| cid).filter(|cid| !reported.contains(cid)).collect();
        if fresh.is_empty() && action != TimeoutAction::Abort {
            return;
        }
        let controller = &self.controller;
        for &cid in &fresh {
            let (name, qid) = (&controller.name, self.id.get().0);
            tracing::warn!(controller = name, qid, cid, ?limit, "an NVMe command takes too long");
            reported.push(cid);
            if action == TimeoutAction::Abort {
                home::abort(&self.reactor, controller, qid, cid);
            }
        }
        // An abort that did not help within the same time again is followed by a reset.
        let hopeless = match action {
            TimeoutAction::None => false,
            TimeoutAction::Reset => true,
            TimeoutAction::Abort => late(2).is_some_and(|by| !pair.overdue(by).is_empty()),
        };
        if hopeless {
            controller.set_trouble("a command took too long");
            home::tell(&self.reactor, controller, Events::RESET);
        }
    }
}

impl Drop for IoQueue {
    fn drop(&mut self) {
        if let Some(pair) = self.pair.take() {
            pair.close("no channel uses it any more");
        }
    }
}
