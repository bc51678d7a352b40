//! What one reactor has of this driver: queues of controllers, and channels of namespaces.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::channel::ChannelCore;
use super::controller::Controller;
use super::forward::{Batch, ForwardPair};
use super::home::Home;
use super::queue::IoQueue;
use crate::reactor::{Reactor, ReactorHandle};

/// The part of one reactor.
#[derive(Default)]
pub(super) struct NvmeCore {
    /// The I/O queues that channels of this core use, by the controller's number.
    queues: RefCell<HashMap<u64, Weak<IoQueue>>>,
    /// The open channels, by the namespace's number.
    channels: RefCell<HashMap<u64, Weak<ChannelCore>>>,
    /// The controllers whose admin queue is here, by their number.
    homes: RefCell<HashMap<u64, Rc<Home>>>,
    /// What this core sends through other cores' queues, by number, until all of it has ended.
    forwards: RefCell<HashMap<u64, Rc<ForwardPair>>>,
    /// The queues that serve other cores, by the number of the other's [`ForwardPair`].
    serving: RefCell<HashMap<u64, Rc<IoQueue>>>,
}

impl NvmeCore {
    /// The part of a reactor, made at first use.
    pub(super) fn of(reactor: &Rc<Reactor>) -> Rc<Self> {
        reactor.extension(Rc::default)
    }

    /// The core's queue of a controller, made at first use.
    pub(super) fn queue(&self, reactor: &Rc<Reactor>, controller: &Arc<Controller>) -> Rc<IoQueue> {
        let mut queues = self.queues.borrow_mut();
        if let Some(queue) = queues.get(&controller.id).and_then(Weak::upgrade) {
            return queue;
        }
        let queue = IoQueue::new(reactor, controller);
        queues.retain(|_, queue| queue.strong_count() > 0);
        queues.insert(controller.id, Rc::downgrade(&queue));
        queue
    }

    /// The core's queue of a controller, if there is one.
    pub(super) fn find_queue(&self, controller: u64) -> Option<Rc<IoQueue>> {
        self.queues.borrow().get(&controller)?.upgrade()
    }

    pub(super) fn add_channel(&self, head: u64, channel: &Rc<ChannelCore>) {
        let mut channels = self.channels.borrow_mut();
        channels.retain(|_, channel| channel.strong_count() > 0);
        channels.insert(head, Rc::downgrade(channel));
    }

    /// The core's channel of a namespace, if it is open.
    pub(super) fn channel(&self, head: u64) -> Option<Rc<ChannelCore>> {
        self.channels.borrow().get(&head)?.upgrade()
    }

    /// All open channels of the core.
    pub(super) fn channels(&self) -> Vec<Rc<ChannelCore>> {
        self.channels.borrow().values().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn add_forward(&self, id: u64, pair: &Rc<ForwardPair>) {
        let _ = self.forwards.borrow_mut().insert(id, Rc::clone(pair));
    }

    pub(super) fn forward(&self, id: u64) -> Option<Rc<ForwardPair>> {
        self.forwards.borrow().get(&id).cloned()
    }

    pub(super) fn remove_forward(&self, id: u64) -> Option<Rc<ForwardPair>> {
        self.forwards.borrow_mut().remove(&id)
    }

    /// Lets a [`ForwardPair`] of another core use this core's queue of a controller; false when it
    /// has none.
    pub(super) fn admit(&self, pair: u64, controller: u64) -> bool {
        let queue = self.find_queue(controller).filter(|queue| queue.is_own());
        let admitted = queue.map(|queue| self.serving.borrow_mut().insert(pair, queue));
        admitted.is_some()
    }

    /// Other cores' [`ForwardPair`]s that use queues of this core.
    #[cfg(test)]
    pub(super) fn guests(&self) -> usize {
        self.serving.borrow().len()
    }

    /// Takes commands of another core. Without a queue for them they end when they are dropped.
    pub(super) fn serve(&self, batch: Batch) {
        let queue = self.serving.borrow().get(&batch.origin.pair).cloned();
        if let Some(queue) = queue {
            queue.serve(batch);
        }
    }

    /// A [`ForwardPair`] has ended.
    pub(super) fn dismiss(&self, pair: u64) {
        let queue = self.serving.borrow_mut().remove(&pair);
        drop(queue);
    }

    pub(super) fn add_home(&self, home: &Rc<Home>) {
        self.homes.borrow_mut().insert(home.controller().id, Rc::clone(home));
    }

    pub(super) fn home(&self, controller: u64) -> Option<Rc<Home>> {
        self.homes.borrow().get(&controller).cloned()
    }

    pub(super) fn remove_home(&self, controller: u64) {
        let _ = self.homes.borrow_mut().remove(&controller);
    }
}

/// Runs `f` on every reactor and waits for all of them.
pub(super) async fn on_all<F>(reactors: &[ReactorHandle], f: F)
where
    F: Fn(&Rc<Reactor>) + Clone + Send + 'static,
{
    for reactor in reactors {
        let f = f.clone();
        // A reactor that has ended has nothing of this driver.
        let _ = reactor.call(move |reactor| f(reactor)).await;
    }
}
