//! The connections of one reactor: their memory for data of hosts, and their time limits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::shared::Shared;
use crate::env::DmaBuf;
use crate::net::Listener;
use crate::nvme::tcp::framing::Displaced;
use crate::nvmf::transport::ListenerId;
use crate::reactor::{Reactor, sleep};

/// How often commands that wait for memory are tried again, beside whenever a connection of the
/// same reactor gives some back.
const RETRY: Duration = Duration::from_millis(2);

/// What a reactor has for a transport.
pub(super) struct Group {
    this: Weak<Self>,
    pub(super) shared: Arc<Shared>,
    pub(super) reactor: Rc<Reactor>,
    /// The place of the reactor among those of the transport.
    pub(super) index: usize,
    connections: RefCell<Connections>,
    /// Connections with a command that waits for memory, in the order of their turn.
    waiting: RefCell<VecDeque<Rc<Connection>>>,
    retrying: Cell<bool>,
    /// Bytes of buffers whose data were asked for, or stand in for such.
    held: Cell<usize>,
    /// At the most so many.
    held_max: usize,
    watching: Cell<bool>,
    /// Ticks that a connection may take until Connect, and without getting on.
    pub(super) connect_ticks: u64,
    pub(super) data_ticks: u64,
    listeners: RefCell<Vec<(ListenerId, Rc<Listener>)>>,
    /// Memory for what the connections received elsewhere than expected.
    pub(super) displaced: Rc<Displaced>,
}

/// Connections by number.
#[derive(Default)]
struct Connections {
    places: Vec<Option<Rc<Connection>>>,
    free: Vec<usize>,
}

/// The groups of a reactor; there is more than one when a process has several transports.
#[derive(Default)]
struct Groups(RefCell<Vec<Rc<Group>>>);

impl Group {
    /// The reactor's group of a transport, made at the first call.
    pub(super) fn of(reactor: &Rc<Reactor>, shared: &Arc<Shared>, index: usize) -> Rc<Self> {
        let groups = reactor.extension(Rc::<Groups>::default);
        let mut groups = groups.0.borrow_mut();
        if let Some(group) = groups.iter().find(|group| Arc::ptr_eq(&group.shared, shared)) {
            return Rc::clone(group);
        }
        let group = Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            held_max: held_max(reactor, shared),
            connect_ticks: reactor.clock().ticks_in(shared.options.connect_timeout),
            data_ticks: reactor.clock().ticks_in(shared.options.data_timeout),
            shared: Arc::clone(shared),
            reactor: Rc::clone(reactor),
            index,
            connections: RefCell::default(),
            waiting: RefCell::default(),
            retrying: Cell::new(false),
            held: Cell::new(0),
            watching: Cell::new(false),
            listeners: RefCell::default(),
            displaced: Displaced::new(),
        });
        groups.push(Rc::clone(&group));
        group
    }

    /// Forgets the group of a transport that is gone, if nothing is left in it.
    pub(super) fn forget(reactor: &Rc<Reactor>, shared: &Arc<Shared>) {
        let groups = reactor.extension(Rc::<Groups>::default);
        let dropped = {
            let mut groups = groups.0.borrow_mut();
            let at = groups.iter().position(|group| Arc::ptr_eq(&group.shared, shared));
            at.map(|at| groups.swap_remove(at))
        };
        if let Some(group) = dropped {
            for (_, listener) in group.listeners.take() {
                listener.close();
            }
        }
    }

    pub(super) fn add(&self, connection: &Rc<Connection>) -> usize {
        let mut connections = self.connections.borrow_mut();
        match connections.free.pop() {
            Some(at) => {
                connections.places[at] = Some(Rc::clone(connection));
                at
            }
            None => {
                connections.places.push(Some(Rc::clone(connection)));
                connections.places.len() - 1
            }
        }
    }

    pub(super) fn remove(&self, at: usize) {
        let removed = {
            let mut connections = self.connections.borrow_mut();
            let removed = connections.places.get_mut(at).and_then(Option::take);
            if removed.is_some() {
                connections.free.push(at);
            }
            if connections.free.len() == connections.places.len() {
                // Nothing stays of a storm of connections.
                *connections = Connections::default();
            }
            removed
        };
        if let Some(connection) = removed {
            self.shared.left(self.index);
            let mut waiting = self.waiting.borrow_mut();
            waiting.retain(|other| !Rc::ptr_eq(other, &connection));
        }
    }

    /// Memory for data that come in a capsule; none when there is none now.
    pub(super) fn buffer(&self, bytes: u32) -> Option<DmaBuf> {
        self.reactor.memory().alloc(usize::try_from(bytes).ok()?).ok()
    }

    /// Memory for data that a host is asked for, within the bound.
    pub(super) fn lend(&self, bytes: u32) -> Option<(DmaBuf, usize)> {
        let wanted = usize::try_from(bytes).ok()?;
        if self.held.get() != 0 && self.held.get() + wanted > self.held_max {
            return None;
        }
        let buffer = self.buffer(bytes)?;
        let held = buffer.capacity();
        self.held.set(self.held.get() + held);
        Some((buffer, held))
    }

    /// So many bytes are not waiting for their data any more.
    pub(super) fn unlend(&self, held: usize) {
        self.held.set(self.held.get() - held.min(self.held.get()));
        if held != 0 {
            self.memory_freed();
        }
    }

    /// A connection has a command that waits for memory.
    pub(super) fn wait(&self, connection: &Rc<Connection>) {
        self.waiting.borrow_mut().push_back(Rc::clone(connection));
        if self.retrying.replace(true) {
            return;
        }
        let this = Weak::clone(&self.this);
        self.reactor.spawn("nvmf tcp waits for memory", async move {
            loop {
                sleep(RETRY).await;
                let Some(group) = this.upgrade() else { return };
                group.retry();
                if group.waiting.borrow().is_empty() {
                    return group.retrying.set(false);
                }
            }
        });
    }

    /// Memory was given back: whoever waits is tried again at the next chance.
    #[inline]
    pub(super) fn memory_freed(&self) {
        if self.retrying.get() {
            self.memory_freed_slow();
        }
    }

    #[cold]
    fn memory_freed_slow(&self) {
        // Not from here: the caller may be in the middle of a connection.
        let this = Weak::clone(&self.this);
        self.reactor.spawn("nvmf tcp has memory again", async move {
            if let Some(group) = this.upgrade() {
                group.retry();
            }
        });
    }

    /// Tries every connection once, the one that has waited longest first. Once a command has to
    /// go on waiting for memory that a host fills, no later one of that kind overtakes it; those
    /// whose data are here already do.
    fn retry(&self) {
        let rounds = self.waiting.borrow().len();
        let mut may_lend = true;
        for _ in 0..rounds {
            let Some(connection) = self.waiting.borrow_mut().pop_front() else { return };
            let done = connection.retry(may_lend);
            if !done {
                may_lend = false;
                self.waiting.borrow_mut().push_back(connection);
            }
        }
    }

    /// Whether commands wait for memory: later ones must not overtake them.
    pub(super) fn is_short(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Has the time limits watched from now on, until no connection needs that any more.
    #[inline]
    pub(super) fn watch(&self) {
        if !self.watching.get() {
            self.start_watching();
        }
    }

    #[cold]
    fn start_watching(&self) {
        self.watching.set(true);
        let options = &self.shared.options;
        let shortest = options.connect_timeout.min(options.data_timeout);
        let pause = (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1));
        let this = Weak::clone(&self.this);
        self.reactor.spawn("nvmf tcp time limits", async move {
            loop {
                sleep(pause).await;
                let Some(group) = this.upgrade() else { return };
                if !group.check_limits() {
                    return group.watching.set(false);
                }
            }
        });
    }

    /// Ends what has taken too long; returns whether there is anything to watch.
    fn check_limits(&self) -> bool {
        let (mut at, mut watched) = (0, false);
        loop {
            let next = {
                let connections = self.connections.borrow();
                if at >= connections.places.len() {
                    return watched;
                }
                connections.places[at].clone()
            };
            at += 1;
            if let Some(connection) = next {
                watched |= connection.check_limits();
            }
        }
    }

    pub(super) fn add_listener(&self, id: ListenerId, listener: Rc<Listener>) {
        self.listeners.borrow_mut().push((id, listener));
    }

    pub(super) fn close_listener(&self, id: ListenerId) {
        let found = {
            let mut listeners = self.listeners.borrow_mut();
            let at = listeners.iter().position(|(other, _)| *other == id);
            at.map(|at| listeners.swap_remove(at).1)
        };
        if let Some(listener) = found {
            listener.close();
        }
    }
}

/// Bytes that may wait for hosts on one reactor: its share of the shared buffers, and of half the
/// memory, so that commands whose data are here already always find some; never less than one
/// command needs.
fn held_max(reactor: &Rc<Reactor>, shared: &Shared) -> usize {
    let options = &shared.options;
    let buffers = u64::from(options.shared_buffers) * u64::from(options.io_unit_bytes);
    let half = reactor.memory().report().size_bytes / 2;
    let bytes = usize::try_from(buffers).unwrap_or(usize::MAX).min(half);
    let one = usize::try_from(options.io_bytes_max).unwrap_or(usize::MAX);
    (bytes / shared.reactors().max(1)).max(one)
}
