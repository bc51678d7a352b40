//! The reactor itself: what it owns, and the order of a turn.

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
use super::mailbox::{Mailbox, Message};
use super::offload::{FileOp, Offload, OffloadFull};
use super::poller::{Poller, PollerHandle, PollerStats, Pollers, Progress};
use super::ring::ReactorRing;
use super::source::{ClientId, CompletionClient, Rest, Source};
use super::stats::ReactorCounters;
use super::timer::Timers;
use super::wait::Waiter;
use super::{registry, task};
use crate::env::{Clock, Memory};

/// Messages and tasks that one turn runs at the most, so that I/O is polled in between.
const TURN_BUDGET: usize = 64;

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
        let (ring, ring_refusal) = match config.ring.then(|| ReactorRing::open(&mailbox, &memory)) {
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
        let counters = Arc::new(ReactorCounters::default());
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

    /// One turn: mailbox, pollers, sources, ring, callbacks, tasks, timers; then spin or sleep.
    #[inline]
    pub fn turn(self: &Rc<Self>) {
        let now = self.clock.ticks();
        let work = self.work(now);
        if work != 0 {
            self.idle.busy(now);
            if !self.idle.sleeps_at_once() {
                return;
            }
        }
        self.maybe_sleep(now);
    }

    /// What a turn does, without the rest after it.
    #[inline(always)]
    fn work(self: &Rc<Self>, now: u64) -> usize {
        self.close_turn(now);
        let mut work = 0;
        if self.mailbox.has_mail() {
            work += self.drain_mailbox();
        }
        if !self.pollers.is_empty() {
            work += self.run_pollers(now);
        }
        self.sources.each(|source| work += source.poll());
        if let Some(ring) = &self.ring {
            work += ring.turn(|client, token, result, flags| {
                self.complete(client, token, result, flags);
            });
        }
        self.sources.each(|source| work += source.dispatch());
        if task::any_ready() {
            work += self.run_tasks();
        }
        work += self.timers.expire(now);
        self.last_turn_busy.set(work != 0);
        work
    }

    /// Accounts the turn that ended, and notices when it took too long.
    #[inline(always)]
    fn close_turn(&self, now: u64) {
        let took = now.wrapping_sub(self.now.replace(now));
        self.counters.turns.add(1);
        if self.last_turn_busy.get() {
            self.counters.busy_ticks.add(took);
            if took > self.stall_ticks {
                self.report_stall(took);
            }
        } else {
            self.counters.idle_ticks.add(took);
        }
        self.longest.set((0, "block device channels"));
    }

    #[cold]
    fn report_stall(&self, took: u64) {
        let (_, name) = self.longest.get();
        self.counters.stalls.add(1);
        self.last_stall.set(Some((name, took)));
        let held = self.clock.duration_of(took);
        tracing::warn!(core = %self.config.core, held_by = name, ?held, "a turn took too long");
    }

    /// Notes how long something took, for the stall report. Reads the clock.
    fn note(&self, name: &'static str, started: u64) -> u64 {
        let now = self.clock.ticks();
        let took = now.wrapping_sub(started);
        if took > self.longest.get().0 {
            self.longest.set((took, name));
        }
        now
    }

    #[cold]
    fn drain_mailbox(self: &Rc<Self>) -> usize {
        self.mailbox.begin_drain();
        let mut work = 0;
        let mut at = self.now.get();
        while let Some(task) = self.mailbox.pop_wake() {
            task::schedule(task);
            work += 1;
        }
        while work < TURN_BUDGET
            && let Some(message) = self.mailbox.pop()
        {
            work += 1;
            match message {
                Message::Call(call) => {
                    self.trace("message", [0; 3]);
                    call(self);
                    at = self.note("message from another thread", at);
                }
                Message::Offloaded { client, token, result } => {
                    self.complete(client, token, result, 0);
                }
            }
        }
        self.mailbox.end_drain();
        work
    }

    fn complete(&self, client: u16, token: u64, result: i32, flags: u32) {
        let found = self.clients.borrow().get(usize::from(client)).cloned();
        if let Some(found) = found {
            found.completed(token, result, flags);
        }
    }

    #[cold]
    fn run_pollers(&self, now: u64) -> usize {
        let (mut index, mut work, mut at) = (0, 0, now);
        while let Some(poller) = self.pollers.get(index) {
            index += 1;
            if poller.removed.get() || poller.due.get() > now && poller.period != 0 {
                continue;
            }
            poller.due.set(now.saturating_add(poller.period));
            poller.runs.set(poller.runs.get() + 1);
            let progress = (poller.run.borrow_mut())();
            if progress == Progress::Busy {
                poller.busy_runs.set(poller.busy_runs.get() + 1);
                work += 1;
            }
            at = self.note(poller.name, at);
        }
        self.pollers.sweep();
        work
    }

    #[cold]
    fn run_tasks(&self) -> usize {
        let (mut work, mut at) = (0, self.now.get());
        while work < TURN_BUDGET
            && let Some(name) = task::run_one(|ready| self.pick(ready))
        {
            work += 1;
            self.trace(name, [0; 3]);
            at = self.note(name, at);
        }
        work
    }

    fn pick(&self, ready: usize) -> usize {
        if !self.config.shuffle {
            return 0;
        }
        let choice = self.random() % ready as u64;
        usize::try_from(choice).unwrap_or(0)
    }

    fn maybe_sleep(&self, now: u64) {
        if let Clock::Virtual(time) = &self.clock {
            if !self.last_turn_busy.get() && self.may_rest() {
                self.skip_idle_time(time);
            } else {
                time.advance(VIRTUAL_TURN);
            }
        } else if self.idle.time_to_sleep(now) && self.may_rest() {
            self.sleep();
        } else {
            std::hint::spin_loop();
        }
    }

    /// Whether nothing needs another turn at once.
    fn may_rest(&self) -> bool {
        !self.sources.any(|source| source.rest() == Rest::Poll)
            && !task::any_ready()
            && self.pollers.next_due() != Some(0)
            && !self.stop.get()
    }

    fn next_deadline(&self) -> Option<u64> {
        [self.timers.earliest(), self.pollers.next_due()].into_iter().flatten().min()
    }

    /// Virtual time: nothing happens before the next deadline, so go there.
    fn skip_idle_time(&self, time: &crate::env::VirtualClock) {
        match self.next_deadline() {
            Some(deadline) => {
                let ahead = deadline.saturating_sub(time.now_ns()).max(1);
                time.advance(Duration::from_nanos(ahead));
            }
            // Only the world outside can go on: wait for it without moving time.
            None => self.sleep(),
        }
    }

    #[cold]
    fn sleep(&self) {
        if !self.mailbox.begin_sleep() {
            return;
        }
        let before = self.clock.ticks();
        let timeout = self
            .next_deadline()
            .map(|deadline| self.clock.duration_of(deadline.saturating_sub(before)));
        if timeout != Some(Duration::ZERO) {
            self.waiter.wait(self.ring.as_ref(), timeout);
        }
        self.mailbox.end_sleep();
        let after = self.clock.ticks();
        let slept = after.wrapping_sub(before);
        self.idle.slept();
        self.counters.sleeps.add(1);
        self.counters.sleep_ticks.add(slept);
        // The sleep is idle time, also when the turn before it was busy.
        self.counters.idle_ticks.add(slept);
        self.now.set(self.now.get().wrapping_add(slept));
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
