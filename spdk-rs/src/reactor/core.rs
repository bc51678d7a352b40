//! The reactor itself: what it owns, how it begins and ends.

mod turn;

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use spdk_rs_sys::cpu::CoreId;

use super::config::{ReactorConfig, TraceEvent};
use super::handle::ReactorHandle;
use super::idle::{Idle, PollMode};
use super::live_list::LiveList;
use super::mailbox::Mailbox;
use super::offload::{FileOp, Offload, OffloadFull};
use super::poller::{Poller, PollerHandle, PollerStats, Pollers, Progress};
use super::ring::ReactorRing;
use super::source::{ClientId, CompletionClient, Source};
use super::stats::ReactorCounters;
use super::timer::Timers;
use super::wait::Waiter;
use super::{registry, task};
use crate::env::{Clock, Memory};

/// What a turn that found work takes in virtual time.
const VIRTUAL_TURN: Duration = Duration::from_nanos(100);

/// How long an ending reactor waits for its devices. Whoever ends an engine in order has waited
/// before; this is for the others, and a device that never answers must not hold them for ever.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// A core's event loop. Lives on one thread; others reach it through a [`ReactorHandle`].
pub struct Reactor {
    id: u16,
    config: ReactorConfig,
    clock: Clock,
    now: Cell<u64>,
    memory: Memory,
    offload: Offload,
    mailbox: Arc<Mailbox>,
    counters: Arc<ReactorCounters>,
    pollers: Pollers,
    sources: LiveList<Rc<dyn Source>>,
    clients: RefCell<Vec<Rc<dyn CompletionClient>>>,
    timers: Timers,
    idle: Idle,
    ring: Option<ReactorRing>,
    ring_refusal: Option<String>,
    waiter: Waiter,
    extensions: RefCell<HashMap<TypeId, Rc<dyn Any>>>,
    random: Cell<u64>,
    stop: Cell<bool>,
    stall_ticks: u64,
    longest: Cell<(u64, &'static str)>,
    last_stall: Cell<Option<(&'static str, u64)>>,
    last_turn_busy: Cell<bool>,
    trace: RefCell<Option<Vec<TraceEvent>>>,
}

/// A state for the random sequence from any seed: never 0, and far apart for seeds close together
/// (the finaliser of splitmix64).
fn scramble(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31).max(1)
}

thread_local! {
    static CURRENT: RefCell<Weak<Reactor>> = const { RefCell::new(Weak::new()) };
}

impl Reactor {
    pub(super) fn build(
        config: ReactorConfig,
        memory: Memory,
        offload: Offload,
    ) -> std::io::Result<Rc<Self>> {
        let mailbox = Arc::new(Mailbox::new()?);
        let waiter = Waiter::new(mailbox.bell())?;
        let counters = Arc::new(ReactorCounters::default());
        let (ring, ring_refusal) =
            match config.ring.then(|| ReactorRing::open(&mailbox, &memory, &counters)) {
                Some(Ok(ring)) => (Some(ring), None),
                Some(Err(error)) => (None, Some(error.to_string())),
                None => (None, Some("switched off".to_owned())),
            };
        let clock = config.clock.clone();
        let mode = match clock {
            Clock::Real => config.mode,
            // Virtual time stands still during a turn, so there is nothing to spin for.
            Clock::Virtual(_) => PollMode::Adaptive { spin: Duration::ZERO },
        };
        counters.hz.set(clock.hz());
        counters.os_thread.set(u64::from(nix::unistd::gettid().as_raw().unsigned_abs()));
        let reactor = Rc::new(Self {
            id: registry::register(&mailbox),
            now: Cell::new(clock.ticks()),
            idle: Idle::new(mode, |spin| clock.ticks_in(spin)),
            stall_ticks: clock.ticks_in(config.stall_limit),
            random: Cell::new(scramble(config.seed)),
            clock,
            config,
            memory,
            offload,
            mailbox,
            counters,
            ring,
            ring_refusal,
            waiter,
            pollers: Pollers::default(),
            sources: LiveList::default(),
            clients: RefCell::default(),
            timers: Timers::new(),
            extensions: RefCell::default(),
            stop: Cell::new(false),
            longest: Cell::new((0, "")),
            last_stall: Cell::new(None),
            last_turn_busy: Cell::new(false),
            trace: RefCell::new(None),
        });
        CURRENT.set(Rc::downgrade(&reactor));
        Ok(reactor)
    }

    /// The reactor of this thread, if it is one. For set-up, not for every I/O.
    #[must_use]
    pub fn current() -> Option<Rc<Self>> {
        CURRENT.with_borrow(Weak::upgrade)
    }

    /// The core this reactor stands for.
    #[must_use]
    pub fn core(&self) -> CoreId {
        self.config.core
    }

    /// The number of this reactor in the process.
    pub(super) fn id(&self) -> u16 {
        self.id
    }

    /// The tick at which this turn began: the one clock read of the turn.
    #[inline(always)]
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The memory that buffers come from.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The helper threads for work that may block.
    #[must_use]
    pub fn offload(&self) -> &Offload {
        &self.offload
    }

    /// The ring, when the kernel gave one.
    #[must_use]
    pub fn ring(&self) -> Option<&ReactorRing> {
        self.ring.as_ref()
    }

    /// Why there is no ring, in words.
    #[must_use]
    pub fn ring_refusal(&self) -> Option<&str> {
        self.ring_refusal.as_deref()
    }

    /// How other threads reach this reactor.
    #[must_use]
    pub fn handle(&self) -> ReactorHandle {
        let mailbox = Arc::clone(&self.mailbox);
        ReactorHandle::new(self.config.core, mailbox, Arc::clone(&self.counters))
    }

    /// The next number of the reactor's seeded sequence (xorshift64*).
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The reactor's one value of type `T`, made at the first call.
    pub fn extension<T: 'static>(&self, make: impl FnOnce() -> Rc<T>) -> Rc<T> {
        let found = self.extensions.borrow().get(&TypeId::of::<T>()).cloned();
        if let Some(found) = found.and_then(|any| any.downcast::<T>().ok()) {
            return found;
        }
        let made = make();
        let stored: Rc<dyn Any> = Rc::<T>::clone(&made);
        self.extensions.borrow_mut().insert(TypeId::of::<T>(), stored);
        made
    }

    /// Adds something to poll at every turn, for as long as the reactor lives.
    pub fn add_source(&self, source: Rc<dyn Source>) {
        self.sources.push(source);
    }

    /// Adds a receiver of ring and offload results, for as long as the reactor lives.
    ///
    /// # Errors
    /// When 65,535 clients are registered.
    pub fn add_client(&self, client: Rc<dyn CompletionClient>) -> std::io::Result<ClientId> {
        let mut clients = self.clients.borrow_mut();
        let id = u16::try_from(clients.len())
            .ok()
            .filter(|&id| id < ReactorRing::INTERNAL_CLIENT)
            .ok_or_else(|| std::io::Error::other("a reactor has at most 65,535 clients"))?;
        clients.push(client);
        Ok(ClientId(id))
    }

    /// Runs a system call on a helper thread; the result goes to `client` with `token` (48 bits).
    ///
    /// # Errors
    /// [`OffloadFull`] when too many are waiting already.
    pub fn offload_file_op(
        &self,
        client: ClientId,
        token: u64,
        run: FileOp,
        args: [u64; 4],
    ) -> Result<(), OffloadFull> {
        self.offload.submit(run, args, self.id, client.0, token)
    }

    /// Wakes the reactor from its sleep when the descriptor becomes readable (edge triggered).
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn watch(&self, fd: std::os::fd::BorrowedFd<'_>) -> std::io::Result<()> {
        self.waiter.watch(fd)
    }

    /// Ends the watch of a descriptor.
    pub fn unwatch(&self, fd: std::os::fd::BorrowedFd<'_>) {
        self.waiter.unwatch(fd);
    }

    /// Calls `run` at every turn, or at the most once per `period`.
    ///
    /// A poller without a period keeps the reactor from sleeping.
    pub fn register_poller(
        &self,
        name: &'static str,
        period: Option<Duration>,
        run: impl FnMut() -> Progress + 'static,
    ) -> PollerHandle {
        let period = period.map_or(0, |period| self.clock.ticks_in(period).max(1));
        let poller = Rc::new(Poller {
            name,
            period,
            due: Cell::new(self.clock.ticks().saturating_add(period)),
            removed: Cell::new(false),
            runs: Cell::new(0),
            busy_runs: Cell::new(0),
            run: RefCell::new(Box::new(run)),
        });
        self.pollers.add(Rc::clone(&poller));
        PollerHandle(poller)
    }

    /// What the pollers did so far.
    #[must_use]
    pub fn poller_stats(&self) -> Vec<PollerStats> {
        self.pollers.stats()
    }

    /// Starts a task on this reactor. It ends with the reactor at the latest.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        task::spawn(name, Box::pin(future));
    }

    /// The number of tasks that have not ended.
    #[must_use]
    pub fn live_tasks(&self) -> usize {
        task::live()
    }

    /// Ends [`Reactor::run`] after the present turn.
    pub fn stop(&self) {
        self.stop.set(true);
    }

    /// Starts recording events, for comparing two runs.
    pub fn start_trace(&self) {
        *self.trace.borrow_mut() = Some(Vec::new());
    }

    /// Ends the recording and returns the events.
    #[must_use]
    pub fn take_trace(&self) -> Vec<TraceEvent> {
        self.trace.take().unwrap_or_default()
    }

    /// Adds an event to the trace, if one is being recorded.
    pub fn trace(&self, what: &'static str, values: [u64; 3]) {
        if let Some(trace) = self.trace.borrow_mut().as_mut() {
            trace.push(TraceEvent { at: self.now.get(), what, values });
        }
    }

    /// The last stall: what held the core, and for how many ticks.
    #[must_use]
    pub fn last_stall(&self) -> Option<(&'static str, u64)> {
        self.last_stall.get()
    }

    /// Runs turns until [`Reactor::stop`].
    pub fn run(self: &Rc<Self>) {
        self.stop.set(false);
        while !self.stop.get() {
            self.turn();
        }
    }

    /// Runs turns until `future` is ready.
    pub fn block_on<T: 'static>(self: &Rc<Self>, future: impl Future<Output = T> + 'static) -> T {
        let result = Rc::new(RefCell::new(None));
        let (place, reactor) = (Rc::clone(&result), Rc::clone(self));
        self.spawn("block_on", async move {
            let value = future.await;
            *place.borrow_mut() = Some(value);
            // The turn that got here must not end in a sleep.
            reactor.stop();
        });
        loop {
            self.turn();
            if let Some(value) = result.borrow_mut().take() {
                self.stop.set(false);
                return value;
            }
        }
    }

    pub(super) fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Goes on until no I/O is in flight, for as long as an ending reactor waits.
    fn drain(self: &Rc<Self>) {
        let (time, limit) = (Clock::Real, Clock::Real.ticks_in(DRAIN_MAX));
        let started = time.ticks();
        while self.sources.any(|source| source.outstanding() != 0) {
            if time.ticks().wrapping_sub(started) > limit {
                tracing::error!(core = %self.config.core, "the reactor ends with I/O in flight");
                return;
            }
            if let Clock::Virtual(time) = &self.clock {
                time.advance(VIRTUAL_TURN);
            }
            self.work(self.clock.ticks());
        }
    }

    /// Ends the reactor: no more messages, tasks, sources or clients.
    pub(super) fn shut_down(self: &Rc<Self>) {
        self.sources.each(|source| source.end());
        self.drain();
        self.mailbox.close();
        while let Some(message) = self.mailbox.pop() {
            drop(message);
        }
        task::drop_all();
        // A source lets go of what is idle when it is polled; what is in flight stays for ever.
        self.sources.each(|source| {
            source.poll();
        });
        self.sources.clear();
        self.clients.borrow_mut().clear();
        self.extensions.borrow_mut().clear();
        CURRENT.set(Weak::new());
    }
}
