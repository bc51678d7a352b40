//! The reactor's own executor: tasks that never leave their core.
//!
//! A waker is a number (reactor, task, generation), not a pointer: cloning and dropping one costs
//! nothing, waking a task of the own core pushes its number on a queue without an atomic
//! operation, and a late wake-up of a finished task is recognised by its generation.
#![allow(unsafe_code, reason = "a waker is made from a vtable")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

use super::registry;

const INDEX_BITS: u32 = 24;
const GENERATION_BITS: u32 = 24;
const LOW_24: u64 = (1 << 24) - 1;

/// A task's number: reactor in bits 63:48, generation in 47:24, index in 23:0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TaskId(u64);

impl TaskId {
    fn new(reactor: u16, generation: u32, index: usize) -> Self {
        let generation = u64::from(generation) & LOW_24;
        let index = index as u64 & LOW_24;
        Self(u64::from(reactor) << (INDEX_BITS + GENERATION_BITS) | generation << 24 | index)
    }

    fn reactor(self) -> u16 {
        u16::try_from(self.0 >> (INDEX_BITS + GENERATION_BITS)).unwrap_or(u16::MAX)
    }

    fn generation(self) -> u32 {
        u32::try_from(self.0 >> INDEX_BITS & LOW_24).unwrap_or(u32::MAX)
    }

    fn index(self) -> usize {
        usize::try_from(self.0 & LOW_24).unwrap_or(usize::MAX)
    }

    fn waker(self) -> Waker {
        const { assert!(size_of::<usize>() == 8, "a task's number needs 64 bits") };
        let data = ptr::without_provenance(usize::try_from(self.0).unwrap_or(usize::MAX));
        // SAFETY: the functions of the table treat the data as a plain number; clone and drop
        // have nothing to count, and waking is allowed from any thread.
        unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
    }
}

static VTABLE: RawWakerVTable =
    RawWakerVTable::new(|data| RawWaker::new(data, &VTABLE), wake, wake, |_| ());

fn wake(data: *const ()) {
    let task = TaskId(data.addr() as u64);
    let local = LOCAL.try_with(|local| {
        let here = local.reactor.get() == Some(task.reactor());
        if here {
            local.schedule(task);
        }
        here
    });
    if local != Ok(true) {
        registry::wake_remote(task.reactor(), task);
    }
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

struct Entry {
    generation: u32,
    queued: bool,
    live: bool,
    future: Option<Boxed>,
    name: &'static str,
}

/// The tasks of this thread's reactor.
struct Local {
    reactor: Cell<Option<u16>>,
    entries: RefCell<Vec<Entry>>,
    free: RefCell<Vec<usize>>,
    ready: RefCell<VecDeque<TaskId>>,
}

thread_local! {
    static LOCAL: Local = const {
        Local {
            reactor: Cell::new(None),
            entries: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            ready: RefCell::new(VecDeque::new()),
        }
    };
}

impl Local {
    fn schedule(&self, task: TaskId) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(task.index()) else { return };
        if entry.live && entry.generation == task.generation() && !entry.queued {
            entry.queued = true;
            self.ready.borrow_mut().push_back(task);
        }
    }

    fn insert(&self, name: &'static str, future: Boxed) -> Option<TaskId> {
        let reactor = self.reactor.get()?;
        let mut entries = self.entries.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let fresh = Entry { generation: 0, queued: false, live: false, future: None, name: "" };
            entries.push(fresh);
            entries.len() - 1
        });
        let entry = &mut entries[index];
        (entry.live, entry.queued, entry.name) = (true, true, name);
        entry.future = Some(future);
        let task = TaskId::new(reactor, entry.generation, index);
        self.ready.borrow_mut().push_back(task);
        Some(task)
    }

    fn finish(&self, task: TaskId) {
        let mut entries = self.entries.borrow_mut();
        let entry = &mut entries[task.index()];
        entry.live = false;
        entry.generation = (entry.generation + 1) & u32::try_from(LOW_24).unwrap_or(u32::MAX);
        self.free.borrow_mut().push(task.index());
    }
}

/// Makes this thread's executor belong to a reactor; ends with the guard.
pub(super) struct ExecutorGuard(());

pub(super) fn enter(reactor: u16) -> ExecutorGuard {
    LOCAL.with(|local| local.reactor.set(Some(reactor)));
    ExecutorGuard(())
}

impl Drop for ExecutorGuard {
    fn drop(&mut self) {
        drop_all();
        let _ = LOCAL.try_with(|local| local.reactor.set(None));
    }
}

/// Drops every task of this thread. Destructors may wake and spawn; both are harmless here.
pub(super) fn drop_all() {
    let _ = LOCAL.try_with(|local| {
        loop {
            let index = local.entries.borrow().iter().position(|entry| entry.future.is_some());
            let Some(index) = index else { break };
            let future = local.entries.borrow_mut()[index].future.take();
            let id = {
                let entries = local.entries.borrow();
                TaskId::new(local.reactor.get().unwrap_or(0), entries[index].generation, index)
            };
            drop(future);
            local.finish(id);
        }
        local.ready.borrow_mut().clear();
    });
}

/// Adds a task to this thread's reactor; false when the thread is none, and the future is dropped.
pub(super) fn spawn(name: &'static str, future: Boxed) -> bool {
    LOCAL.with(|local| local.insert(name, future).is_some())
}

/// Whether a task of this thread is ready to run.
#[inline(always)]
pub(super) fn any_ready() -> bool {
    LOCAL.with(|local| !local.ready.borrow().is_empty())
}

/// The number of tasks that have not ended.
pub(super) fn live() -> usize {
    LOCAL.with(|local| local.entries.borrow().iter().filter(|entry| entry.live).count())
}

/// Schedules a task of this thread that another thread woke.
pub(super) fn schedule(task: TaskId) {
    LOCAL.with(|local| local.schedule(task));
}

/// Runs one ready task; `pick` chooses among so many ready ones. Returns its name.
pub(super) fn run_one(pick: impl FnOnce(usize) -> usize) -> Option<&'static str> {
    LOCAL.with(|local| {
        let task = {
            let mut ready = local.ready.borrow_mut();
            let choice = if ready.len() > 1 { pick(ready.len()) } else { 0 };
            ready.remove(choice)?
        };
        let (mut future, name) = {
            let mut entries = local.entries.borrow_mut();
            let entry = entries.get_mut(task.index())?;
            if !entry.live || entry.generation != task.generation() {
                return Some("");
            }
            entry.queued = false;
            (entry.future.take()?, entry.name)
        };
        let waker = task.waker();
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            drop(future);
            local.finish(task);
        } else {
            local.entries.borrow_mut()[task.index()].future = Some(future);
        }
        Some(name)
    })
}
