//! A core's I/O queue of a controller.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::api::ControllerState;
use super::controller::Controller;
use super::core::NvmeCore;
use super::forward::{Batch, ForwardPair};
use super::home;
use crate::bdev::DeviceEvent;
use crate::nvme::controller::TimeoutAction;
use crate::nvme::controller::inject::wrapped;
use crate::nvme::controller::link::LinkInfo;
use crate::nvme::controller::queue::{QueueListener, QueuePair};
use crate::nvme::controller::signal::Events;
use crate::nvme::controller::transport::connect_io_queue;
use crate::reactor::{Reactor, sleep};

/// Time until a queue that could not be connected is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Time until a core without a queue looks again for another core that has one.
const JOIN_RETRY: Duration = Duration::from_millis(20);

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
}

/// A queue, connected or not. It lives as long as a channel uses it.
pub(super) struct IoQueue {
    own: Weak<Self>,
    reactor: Rc<Reactor>,
    controller: Arc<Controller>,
    state: Cell<QueueState>,
    /// The queue pair, with the errors that are injected into its commands.
    pair: RefCell<Option<Rc<dyn QueuePair>>>,
    /// The same without.
    bare: RefCell<Option<Rc<dyn QueuePair>>>,
    /// The queue's number and its association's; number 0 stands for another core's queue.
    id: Cell<(u16, u64)>,
    /// Commands of other cores that wait for room.
    guests: RefCell<VecDeque<Batch>>,
    guests_watched: Cell<bool>,
    /// They came before this core's own commands the last time that there was room.
    guests_first: Cell<bool>,
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
            queue.share_room();
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
            bare: RefCell::default(),
            id: Cell::default(),
            guests: RefCell::default(),
            guests_watched: Cell::new(false),
            guests_first: Cell::new(false),
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
        if self.state.get() != QueueState::Down
            || self.controller.state() != ControllerState::Enabled
        {
            return;
        }
        self.state.set(QueueState::Connecting);
        let weak = Weak::clone(&self.own);
        self.reactor.spawn("nvme I/O queue", async move {
            while let Some(queue) = weak.upgrade() {
                let Some(pause) = queue.try_connect().await else { return };
                drop(queue);
                sleep(pause).await;
            }
        });
    }

    /// One attempt; the time until the next one, if there is to be one.
    async fn try_connect(&self) -> Option<Duration> {
        if self.controller.state() != ControllerState::Enabled {
            self.state.set(QueueState::Down);
            return None;
        }
        let info = self.controller.info()?;
        let Some(id) = self.controller.take_queue() else { return self.join_another(&info).await };
        let made = connect_io_queue(&self.reactor, &info, id.0, self.end_of(id)).await;
        match made {
            Ok(pair) => {
                let up = self.take_up(pair, id);
                if up {
                    self.controller.queue_connected(id, self.reactor.handle());
                    self.watch_time();
                }
                if up { None } else { Some(RETRY) }
            }
            Err(error) => {
                let controller = &self.controller.name;
                tracing::warn!(controller, qid = id.0, %error, "an I/O queue is not connected");
                Some(RETRY)
            }
        }
    }

    fn end_of(&self, id: (u16, u64)) -> Rc<PairEnd> {
        let controller = Arc::clone(&self.controller);
        Rc::new(PairEnd { queue: Weak::clone(&self.own), controller, id })
    }

    /// Uses a connected pair, if it still belongs to the present association.
    fn take_up(&self, pair: Rc<dyn QueuePair>, id: (u16, u64)) -> bool {
        let same = id.1 == self.controller.association();
        if !same || self.controller.state() != ControllerState::Enabled {
            pair.close("the controller was connected anew meanwhile");
            return false;
        }
        self.id.set(id);
        *self.bare.borrow_mut() = Some(pair);
        self.inject();
        self.state.set(QueueState::Up);
        self.tell_channels();
        true
    }

    /// Takes over the errors that are injected into the controller's commands. What goes through
    /// another core's queue gets them there.
    pub(super) fn inject(&self) {
        let own = self.id.get().0 != 0;
        let rules = if own { self.controller.rules(false) } else { Vec::new() };
        let bare = self.bare.borrow().as_ref().map(|bare| wrapped(bare, &self.reactor, rules));
        *self.pair.borrow_mut() = bare;
    }

    /// The controller grants no queue for this core: its commands go through another core's.
    async fn join_another(&self, info: &LinkInfo) -> Option<Duration> {
        let found = self.controller.server_for(self.reactor.core());
        // Those that have the queues may still be connecting them.
        let Some((server, association)) = found else { return Some(JOIN_RETRY) };
        let (id, core) = ((0, association), server.core());
        let (entries, end) = (info.io_queue_entries, self.end_of(id));
        let pair = ForwardPair::connect(&self.reactor, &self.controller, server, entries, end);
        let Some(pair) = pair.await else { return Some(JOIN_RETRY) };
        let (controller, granted) = (&self.controller.name, info.io_queues);
        tracing::info!(controller, granted, through = %core, "no I/O queue of its own for a core");
        if self.take_up(pair, id) { None } else { Some(JOIN_RETRY) }
    }

    /// There is room: what waits on this core and what other cores sent come first by turns.
    fn share_room(&self) {
        let guests_first = !self.guests_first.get();
        self.guests_first.set(guests_first);
        if guests_first {
            self.serve_waiting();
        }
        self.tell_channels();
        if !guests_first {
            self.serve_waiting();
        }
    }

    /// Whether it is a connected queue of this core's own.
    pub(super) fn is_own(&self) -> bool {
        self.state.get() == QueueState::Up && self.id.get().0 != 0
    }

    pub(super) fn guests(&self) -> &RefCell<VecDeque<Batch>> {
        &self.guests
    }

    pub(super) fn guests_watched(&self) -> &Cell<bool> {
        &self.guests_watched
    }

    pub(super) fn weak(&self) -> Weak<Self> {
        Weak::clone(&self.own)
    }

    pub(super) fn shared(&self) -> Option<Rc<Self>> {
        self.own.upgrade()
    }

    pub(super) fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// A queue pair has ended.
    fn lost(&self, id: (u16, u64), why: &str) {
        let was_up = self.state.get() == QueueState::Up && self.id.get() == id;
        if !was_up {
            return;
        }
        tracing::info!(controller = self.controller.name, qid = id.0, why, "an I/O queue ended");
        *self.pair.borrow_mut() = None;
        *self.bare.borrow_mut() = None;
        self.state.set(QueueState::Down);
        for waiter in self.ended.take() {
            let _ = waiter.send(());
        }
        self.serve_waiting();
        self.tell_channels();
        if id.0 == 0 {
            // Whoever has the queue sees to it.
            self.connect();
        } else if self.controller.association() == id.1
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
            let event = DeviceEvent::CommandTimeout { qid, cid, limit, action: action.name() };
            home::report(&self.reactor, controller, event);
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
