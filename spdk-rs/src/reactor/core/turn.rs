//! One turn of the reactor, and the rest after it.

use std::rc::Rc;
use std::time::Duration;

use super::super::mailbox::Message;
use super::super::poller::Progress;
use super::super::source::Rest;
use super::super::task;
use super::{Reactor, VIRTUAL_TURN};
use crate::env::Clock;

/// Messages and tasks that one turn runs at the most, so that I/O is polled in between.
const TURN_BUDGET: usize = 64;

impl Reactor {
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
    pub(super) fn work(self: &Rc<Self>, now: u64) -> usize {
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
}
