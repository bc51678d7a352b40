//! What the sockets of one reactor share: their places, the list of those with something to do,
//! and the way in which the kernel tells about them.
//!
//! With a ring, requests carry the socket's place and completions come back to it. Without one, an
//! epoll set of the reactor's own, which the reactor watches, tells which sockets are ready; it is
//! asked once per turn.

use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;

use spdk_rs_sys::event::{Epoll, Interest, Ready, Trigger};
use spdk_rs_sys::uring::Ring;

use super::{LOW_WATER_LIMIT, NetError};
use crate::reactor::{ClientId, CompletionClient, Reactor, ReactorRing, Rest, Source};

/// Reading and writing, told once each time that it becomes possible.
const INTEREST: Interest = Interest { readable: true, writable: true, trigger: Trigger::Edge };

/// Turns in a row in which requests may wait for those of the devices' answers.
const PUT_OFF_MAX: u32 = 4;

/// Sockets that one call to the kernel tells about without a ring.
const READY_BATCH: usize = 64;

/// Which request of a socket a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Receive,
    Send,
    Poll,
    LowWater,
}

/// A socket's place on its reactor: an index, and the count of those that had it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

/// A token has 48 bits: 2 for the request, 22 for the generation, 24 for the index.
const INDEX_BITS: u32 = 24;
const GENERATION_BITS: u32 = 22;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

impl Key {
    fn token(self, op: Op) -> u64 {
        let op = match op {
            Op::Receive => 0,
            Op::Send => 1,
            Op::Poll => 2,
            Op::LowWater => 3,
        };
        let generation = u64::from(self.generation & GENERATION_MASK);
        op << (INDEX_BITS + GENERATION_BITS) | generation << INDEX_BITS | u64::from(self.index)
    }

    fn from_token(token: u64) -> Option<(Self, Op)> {
        let op = match token >> (INDEX_BITS + GENERATION_BITS) {
            0 => Op::Receive,
            1 => Op::Send,
            2 => Op::Poll,
            3 => Op::LowWater,
            _ => return None,
        };
        let index = u32::try_from(token & INDEX_MASK).ok()?;
        let generation = token >> INDEX_BITS & u64::from(GENERATION_MASK);
        let generation = u32::try_from(generation).ok()?;
        Some((Self { index, generation }, op))
    }
}

/// A stream, a listener, or a connection being made.
pub(super) trait Endpoint {
    /// A request has ended.
    fn completed(self: Rc<Self>, op: Op, result: i32, flags: u32);

    /// The socket is ready; only without a ring. Returns how much was done.
    fn ready(self: Rc<Self>, ready: Ready);

    /// Does what was put off when it marked itself; returns how many events it had. `arm_only`:
    /// requests may be queued, but nobody may be called back.
    fn flush(self: Rc<Self>, arm_only: bool) -> usize;

    /// The reactor ends.
    fn end(self: Rc<Self>);

    /// Whether a receive waits for many bytes, and may go on waiting at this tick.
    fn keeps_waiting(self: Rc<Self>, _now: u64) -> bool {
        false
    }
}

struct Slot {
    generation: u32,
    endpoint: Option<Rc<dyn Endpoint>>,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
}

/// The sockets of one reactor.
pub(super) struct Net {
    reactor: Rc<Reactor>,
    client: OnceCell<ClientId>,
    slots: RefCell<Slots>,
    /// Those with something to do, each at most once.
    marked: RefCell<Vec<Rc<dyn Endpoint>>>,
    /// Requests have completed since the last turn.
    fresh: Cell<bool>,
    /// Turns in a row in which the flush was put off for that.
    put_off: Cell<u32>,
    /// The other list of the two that take turns, so that none is allocated anew.
    spare: RefCell<Vec<Rc<dyn Endpoint>>>,
    /// Who tells about readiness where there is no ring.
    epoll: Option<Epoll>,
    /// Those with a receive that waits for many bytes, each at most once.
    patient: RefCell<Vec<Key>>,
    /// When they are looked at next.
    patience_due: Cell<u64>,
    /// Ticks that such a receive may wait.
    patience: u64,
    /// The kernel sets options through the ring.
    sets_options: Cell<bool>,
    ended: Cell<bool>,
}

/// Where a reactor keeps its [`Net`].
#[derive(Default)]
struct Place(OnceCell<Rc<Net>>);

/// The number of sockets on a reactor: streams, listeners and connections being made. One counts
/// until the kernel is done with it.
#[must_use]
pub fn live_sockets(reactor: &Reactor) -> usize {
    let place = reactor.extension::<Place>(Rc::default);
    place.0.get().map_or(0, |net| net.slots.borrow().live)
}

impl Net {
    /// The reactor's sockets.
    pub(super) fn of(reactor: &Rc<Reactor>) -> Result<Rc<Self>, NetError> {
        let place = reactor.extension::<Place>(Rc::default);
        if let Some(net) = place.0.get() {
            return if net.ended.get() { Err(NetError::ReactorEnding) } else { Ok(Rc::clone(net)) };
        }
        let epoll = match reactor.ring() {
            Some(_) => None,
            None => {
                let epoll = Epoll::new().map_err(NetError::Open)?;
                reactor.watch(epoll.as_fd()).map_err(NetError::Open)?;
                Some(epoll)
            }
        };
        let net = Rc::new(Self {
            reactor: Rc::clone(reactor),
            client: OnceCell::new(),
            slots: RefCell::default(),
            marked: RefCell::default(),
            fresh: Cell::new(false),
            put_off: Cell::new(0),
            spare: RefCell::default(),
            epoll,
            patient: RefCell::default(),
            patience_due: Cell::new(0),
            patience: reactor.clock().ticks_in(LOW_WATER_LIMIT),
            sets_options: Cell::new(true),
            ended: Cell::new(false),
        });
        if let Some(ring) = reactor.ring() {
            let receiver: Rc<dyn CompletionClient> = Rc::<Self>::clone(&net);
            let id = reactor.add_client(receiver).map_err(NetError::Open)?;
            ring.set_late_client(id);
            net.client.get_or_init(|| id);
        }
        let source: Rc<dyn Source> = Rc::<Self>::clone(&net);
        reactor.add_source(source);
        Ok(Rc::clone(place.0.get_or_init(|| net)))
    }

    pub(super) fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// Whether requests go through the ring.
    pub(super) fn has_ring(&self) -> bool {
        self.epoll.is_none()
    }

    /// Gives a socket its place. From now on it is told what happens to it.
    pub(super) fn add(
        &self,
        fd: BorrowedFd<'_>,
        endpoint: Rc<dyn Endpoint>,
    ) -> Result<Key, NetError> {
        if self.ended.get() {
            return Err(NetError::ReactorEnding);
        }
        let mut slots = self.slots.borrow_mut();
        let index = match slots.free.last() {
            Some(&index) => index,
            None => u32::try_from(slots.slots.len()).unwrap_or(u32::MAX),
        };
        if u64::from(index) > INDEX_MASK {
            let text = "a reactor has at most 16,777,216 sockets";
            return Err(NetError::Open(std::io::Error::other(text)));
        }
        let generation = slots.slots.get(index as usize).map_or(0, |slot| slot.generation);
        let key = Key { index, generation };
        if let Some(epoll) = &self.epoll {
            epoll.add(fd.as_raw_fd(), INTEREST, key.token(Op::Poll)).map_err(NetError::Open)?;
        }
        slots.live += 1;
        if slots.free.pop().is_some() {
            slots.slots[index as usize].endpoint = Some(endpoint);
        } else {
            slots.slots.push(Slot { generation, endpoint: Some(endpoint) });
        }
        Ok(key)
    }

    /// Takes a socket's place away, of which nothing is in flight.
    pub(super) fn remove(&self, fd: BorrowedFd<'_>, key: Key) {
        if let Some(epoll) = &self.epoll {
            // It also leaves the set when it is closed.
            let _ = epoll.remove(fd.as_raw_fd());
        }
        let mut slots = self.slots.borrow_mut();
        let slots = &mut *slots;
        let Some(slot) = slots.slots.get_mut(key.index as usize) else { return };
        if slot.generation != key.generation {
            return;
        }
        let Some(endpoint) = slot.endpoint.take() else { return };
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        slots.free.push(key.index);
        slots.live -= 1;
        // The caller is it, so that this is not its last reference.
        drop(endpoint);
    }

    fn find(&self, key: Key) -> Option<Rc<dyn Endpoint>> {
        let slots = self.slots.borrow();
        let slot = slots.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.endpoint.clone() } else { None }
    }

    /// Has `flush` of a socket called soon. It marks itself once only.
    #[inline]
    pub(super) fn mark(&self, endpoint: Rc<dyn Endpoint>) {
        self.marked.borrow_mut().push(endpoint);
    }

    /// Queues a request on the ring; `queue` gets the user data. False: it is full, try again in
    /// the next turn.
    #[inline]
    pub(super) fn push(
        &self,
        key: Key,
        op: Op,
        mut queue: impl FnMut(&mut Ring, u64) -> bool,
    ) -> bool {
        let (Some(ring), Some(&client)) = (self.reactor.ring(), self.client.get()) else {
            return false;
        };
        let user_data = ReactorRing::user_data(client, key.token(op));
        ring.push_late(|ring| queue(ring, user_data))
    }

    /// Whether the kernel sets options through the ring, as far as is known.
    #[inline]
    pub(super) fn sets_options(&self) -> bool {
        self.sets_options.get()
    }

    /// The kernel does not.
    #[cold]
    pub(super) fn refuses_options(&self) {
        self.sets_options.set(false);
    }

    /// Ticks that a receive may wait for many bytes.
    #[inline]
    pub(super) fn patience(&self) -> u64 {
        self.patience
    }

    /// Has the receive of a socket watched, once at a time.
    pub(super) fn watch_patient(&self, key: Key) {
        let mut patient = self.patient.borrow_mut();
        if patient.is_empty() {
            self.patience_due.set(self.reactor.now().saturating_add(self.patience));
        }
        patient.push(key);
    }

    /// Ends waits that have taken too long.
    #[cold]
    fn check_patient(&self) {
        let now = self.reactor.now();
        if now < self.patience_due.get() {
            return;
        }
        self.patience_due.set(now.saturating_add(self.patience / 4));
        let keeps = |key: &Key| self.find(*key).is_some_and(|endpoint| endpoint.keeps_waiting(now));
        self.patient.borrow_mut().retain(keeps);
    }

    /// Flushes those that were marked before.
    fn flush(&self, arm_only: bool) -> usize {
        if self.marked.borrow().is_empty() {
            return 0;
        }
        let mut list = self.marked.replace(self.spare.take());
        let mut work = 0;
        for endpoint in list.drain(..) {
            work += endpoint.flush(arm_only);
        }
        self.spare.replace(list);
        work
    }

    /// Tells those that are ready.
    fn ask(&self, epoll: &Epoll) -> usize {
        if self.slots.borrow().live == 0 {
            return 0;
        }
        let mut ready = [Ready::default(); READY_BATCH];
        let mut found = 0;
        loop {
            let count = match epoll.wait(&mut ready, Some(0)) {
                Ok(count) => count,
                Err(error) => {
                    tracing::debug!(%error, "epoll_wait");
                    0
                }
            };
            for &ready in &ready[..count] {
                let endpoint = Key::from_token(ready.token).and_then(|(key, _)| self.find(key));
                if let Some(endpoint) = endpoint {
                    endpoint.ready(ready);
                }
            }
            found += count;
            if count < READY_BATCH {
                return found;
            }
        }
    }
}

impl CompletionClient for Net {
    #[inline]
    fn completed(&self, token: u64, result: i32, flags: u32) {
        self.fresh.set(true);
        let found = Key::from_token(token).and_then(|(key, op)| Some((self.find(key)?, op)));
        match found {
            Some((endpoint, op)) => endpoint.completed(op, result, flags),
            None => {
                // Its memory may be gone too: a place is given up only when nothing is in flight.
                tracing::error!(token, "a completion came for a socket that is gone");
                debug_assert!(false, "a completion came for a socket that is gone");
            }
        }
    }
}

impl Source for Net {
    fn poll(&self) -> usize {
        let found = self.epoll.as_ref().map_or(0, |epoll| self.ask(epoll));
        if !self.patient.borrow().is_empty() {
            self.check_patient();
        }
        // What arrived last turn went to devices, which may answer in this one: the next receive and
        // the answers leave in one call of the kernel. Those of many sockets must not wait for ever.
        let turns = self.put_off.get();
        if self.fresh.take() && turns < PUT_OFF_MAX {
            self.put_off.set(turns + 1);
            return found + usize::from(!self.marked.borrow().is_empty());
        }
        self.put_off.set(0);
        found + self.flush(false)
    }

    /// Nothing: what callbacks queued waits for what those of the other sources queue.
    fn dispatch(&self) -> usize {
        0
    }

    /// While the reactor lives, an open socket waits for the world outside, which is no I/O. When
    /// it ends, the kernel has to let go of all of them.
    fn outstanding(&self) -> usize {
        if self.ended.get() { self.slots.borrow().live } else { 0 }
    }

    fn rest(&self) -> Rest {
        if self.has_ring() {
            self.flush(true);
        }
        // Nothing would end a sleep when a receive has waited for too long.
        let idle = self.marked.borrow().is_empty() && self.patient.borrow().is_empty();
        if idle { Rest::Sleep } else { Rest::Poll }
    }

    fn end(&self) {
        self.ended.set(true);
        let list = |slots: &Slots| -> Vec<Rc<dyn Endpoint>> {
            slots.slots.iter().filter_map(|slot| slot.endpoint.clone()).collect()
        };
        let all = list(&self.slots.borrow());
        for endpoint in all {
            endpoint.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_fit_48_bits_and_come_back() {
        for op in [Op::Receive, Op::Send, Op::Poll, Op::LowWater] {
            for (index, generation) in [(0, 0), (1, 2), (0xff_ffff, 0x3f_ffff), (0xab_cdef, 1)] {
                let key = Key { index, generation };
                let token = key.token(op);
                assert!(token < 1 << 48);
                assert_eq!(Key::from_token(token), Some((key, op)));
            }
        }
        assert_eq!(Key::from_token(1 << 48), None);
    }
}
