//! The operations of a segment on a store. Each is noted when it begins and when it ends, and
//! what it returned is compared with what it may return.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoHandle;
use spdk_rs::env::{DmaBuf, Memory};
use spdk_rs::reactor::{Reactor, sleep};

use super::observe::{self, buffer};
use super::reactor::Changed;
use crate::device::BLOCK_BYTES;
use crate::device::driver::Control;
use crate::device::faults::FaultKind;
use crate::oracle::history::Names;
use crate::oracle::{
    Circumstances, Content, Effect, Entry, Failure, History, InstanceId, Moment, Rule, Tag,
};
use crate::plan::{Name, Op, Range};
use crate::store::{Store, StoreKind, Volume};

mod metadata;

/// A run of one segment.
pub struct Executor {
    pub(super) reactor: Rc<Reactor>,
    pub(super) kind: &'static dyn StoreKind,
    pub(super) device: IoHandle,
    pub(super) control: Control,
    pub(super) depth: usize,
    pub(super) tight: bool,
    store: RefCell<Option<Rc<dyn Store>>>,
    history: RefCell<History>,
    failure: RefCell<Option<Failure>>,
    running: Cell<usize>,
    /// Operations that found no room.
    full: Cell<u64>,
    busy: RefCell<HashMap<InstanceId, usize>>,
    /// A change of names is under way; operations on these names wait for its end.
    changing: Cell<bool>,
    locked: RefCell<Vec<Name>>,
    changed: Changed,
    /// A change failed, so nobody knows any more which names there are.
    over: Cell<bool>,
}

/// An operation on data that has been noted.
struct Begun {
    instance: InstanceId,
    index: usize,
    volume: Rc<dyn Volume>,
}

impl Executor {
    /// A run on an open store, from what is known of it.
    pub fn new(
        reactor: Rc<Reactor>,
        kind: &'static dyn StoreKind,
        device: (IoHandle, Control),
        limits: (usize, bool),
        history: History,
    ) -> Rc<Self> {
        Rc::new(Self {
            reactor,
            kind,
            device: device.0,
            control: device.1,
            depth: limits.0,
            tight: limits.1,
            store: RefCell::new(None),
            history: RefCell::new(history),
            failure: RefCell::new(None),
            running: Cell::new(0),
            full: Cell::new(0),
            busy: RefCell::default(),
            changing: Cell::new(false),
            locked: RefCell::default(),
            changed: Changed::default(),
            over: Cell::new(false),
        })
    }

    /// Gives it the store.
    pub fn open(&self, store: Rc<dyn Store>) {
        *self.store.borrow_mut() = Some(store);
    }

    /// The store, when it is open.
    pub fn store(&self) -> Option<Rc<dyn Store>> {
        self.store.borrow().clone()
    }

    /// What clients have seen so far.
    pub fn history(&self) -> History {
        self.history.borrow().clone()
    }

    /// How many operations found no room.
    pub fn found_full(&self) -> u64 {
        self.full.get()
    }

    fn memory(&self) -> &Memory {
        self.reactor.memory()
    }

    fn tick(&self) -> Moment {
        self.history.borrow_mut().tick(self.control.events())
    }

    fn names(&self) -> Names {
        self.history.borrow().names.clone()
    }

    /// Notes the first thing that is wrong.
    fn object(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
        self.over.set(true);
        self.changed.tell();
    }

    fn any_injected(&self, which: impl Fn(FaultKind) -> bool) -> bool {
        FaultKind::ALL
            .into_iter()
            .filter(|&kind| kind != FaultKind::LatencySpike && which(kind))
            .any(|kind| self.control.injected(kind) > 0)
    }

    /// Runs the operations, waits for the last, and compares all contents.
    pub async fn run(self: &Rc<Self>, ops: &[Op]) -> Result<(), Failure> {
        for op in ops {
            if self.over.get() {
                break;
            }
            self.issue(op).await?;
        }
        self.drain().await;
        if let Some(failure) = self.failure.borrow_mut().take() {
            return Err(failure);
        }
        self.check_fail_stop()?;
        self.check_contents().await
    }

    /// A flush error ends all changes, and is said so.
    fn check_fail_stop(&self) -> Result<(), Failure> {
        let failed = self.control.injected(FaultKind::FlushError) > 0;
        let store = self.store();
        if failed && store.is_some_and(|store| store.read_only().is_none()) {
            let text = "a flush failed on the device, and the store still takes changes";
            return Err(Failure::new(Rule::FailStop, text));
        }
        Ok(())
    }

    async fn check_contents(&self) -> Result<(), Failure> {
        let Some(store) = self.store() else { return Ok(()) };
        let observed = observe::everything(self.memory(), &store).await?;
        let circumstances = Circumstances {
            all_completed: true,
            errors_allowed: self.any_injected(|_| true),
            lied: false,
        };
        let history = self.history.borrow();
        let result = history.check(history.end(), &observed, circumstances);
        let result = result.map(drop);
        result.map_err(|failure| failure.at("without a cut, at the end of the operations"))
    }

    /// Waits until nothing runs.
    async fn drain(&self) {
        self.changed.until(|| self.running.get() == 0 && !self.changing.get()).await;
    }

    async fn issue(self: &Rc<Self>, op: &Op) -> Result<(), Failure> {
        match op {
            Op::Wait => self.drain().await,
            Op::Pause(us) => sleep(Duration::from_micros(*us)).await,
            Op::Write(name, range, fua) => {
                self.write(*name, vec![*range], *fua, false).await?;
            }
            Op::Transaction(name, ranges, fua) => {
                self.write(*name, ranges.clone(), *fua, true).await?;
            }
            Op::Zeroes(name, range, fua) => self.zero(*name, *range, Some(*fua)).await,
            Op::Unmap(name, range) => self.zero(*name, *range, None).await,
            Op::Flush(name) => self.flush(*name).await,
            Op::Read(name, range) => self.read(*name, *range).await?,
            Op::Reimport => self.reimport().await,
            _ => self.change(op).await,
        }
        Ok(())
    }

    /// Waits for a place, and until nobody changes what a name means; then the name's entry and
    /// its volume, when it has some.
    async fn admit(&self, name: Name) -> Option<(Entry, Rc<dyn Volume>)> {
        let free = || {
            self.over.get()
                || self.running.get() < self.depth && !self.locked.borrow().contains(&name)
        };
        self.changed.until(free).await;
        if self.over.get() {
            return None;
        }
        let entry = self.names().get(&name).copied()?;
        let volume = self.store().and_then(|store| store.volume(&name.to_string()));
        if volume.is_none() {
            self.object(Failure::new(Rule::Names, format!("{name} is not there")));
        }
        Some((entry, volume?))
    }

    async fn admit_change_of_data(
        &self,
        name: Name,
        ranges: &[Range],
    ) -> Option<(Entry, Rc<dyn Volume>)> {
        let (entry, volume) = self.admit(name).await?;
        let inside = ranges.iter().all(|&(first, count)| first + count <= entry.blocks);
        (inside && !entry.snapshot).then_some((entry, volume))
    }

    fn enter(&self, instance: InstanceId) {
        self.running.set(self.running.get() + 1);
        *self.busy.borrow_mut().entry(instance).or_default() += 1;
    }

    fn leave(&self, instance: InstanceId) {
        self.running.set(self.running.get() - 1);
        if let Some(count) = self.busy.borrow_mut().get_mut(&instance) {
            *count -= 1;
        }
        self.changed.tell();
    }

    fn begin(
        &self,
        entry: Entry,
        volume: Rc<dyn Volume>,
        what: (Effect, Vec<Range>, bool),
    ) -> (Begun, u64) {
        let now = self.tick();
        let (effect, ranges, fua) = what;
        let instance = entry.instance;
        let (index, id) = self.history.borrow_mut().begin(instance, effect, ranges, fua, now);
        self.enter(instance);
        (Begun { instance, index, volume }, id)
    }

    fn end(&self, begun: &Begun, what: &str, status: NvmeStatus) {
        let now = self.tick();
        let succeeded = status.is_success();
        self.history.borrow_mut().finish(begun.instance, begun.index, succeeded, now);
        self.judge(what, status);
        self.leave(begun.instance);
    }

    /// Whether an operation may have ended so.
    fn judge(&self, what: &str, status: NvmeStatus) {
        // What gives space back or takes none is possible however full the store is.
        let takes = matches!(what, "a write" | "a transaction");
        let full = self.tight && takes && status == NvmeStatus::CAPACITY_EXCEEDED;
        self.full.set(self.full.get() + u64::from(full));
        if !status.is_success() && !full && !self.any_injected(|_| true) {
            let text = format!("{what} ended with \"{status}\" and nothing was injected");
            self.object(Failure::new(Rule::Status, text));
        }
    }

    async fn write(
        self: &Rc<Self>,
        name: Name,
        ranges: Vec<Range>,
        fua: bool,
        transaction: bool,
    ) -> Result<(), Failure> {
        let Some((entry, volume)) = self.admit_change_of_data(name, &ranges).await else {
            return Ok(());
        };
        let what = (Effect::Write, ranges.clone(), fua);
        let (begun, id) = self.begin(entry, volume, what);
        let mut index = 0;
        let mut parts = Vec::with_capacity(ranges.len());
        for (first, count) in ranges {
            let buf = match buffer(self.memory(), count) {
                Ok(buf) => tagged(buf, id, &mut index),
                Err(failure) => {
                    self.leave(begun.instance);
                    return Err(failure);
                }
            };
            parts.push((first, buf));
        }
        let own = Rc::clone(self);
        self.reactor.spawn("simulated write", async move {
            let status = if transaction {
                begun.volume.transaction(parts, fua).await
            } else {
                let mut status = NvmeStatus::SUCCESS;
                for (first, buf) in parts {
                    status = begun.volume.write(first, buf, fua).await;
                }
                status
            };
            own.end(&begun, if transaction { "a transaction" } else { "a write" }, status);
        });
        Ok(())
    }

    /// Writes zeroes; unmaps when `fua` is none.
    async fn zero(self: &Rc<Self>, name: Name, range: Range, fua: Option<bool>) {
        let Some((entry, volume)) = self.admit_change_of_data(name, &[range]).await else {
            return;
        };
        let what = (Effect::Zero, vec![range], fua.unwrap_or(false));
        let (begun, _) = self.begin(entry, volume, what);
        let own = Rc::clone(self);
        self.reactor.spawn("simulated zeroes", async move {
            let (first, count) = range;
            let status = match fua {
                Some(fua) => begun.volume.write_zeroes(first, count, fua).await,
                None => begun.volume.unmap(first, count).await,
            };
            own.end(&begun, "zeroing blocks", status);
        });
    }

    async fn flush(self: &Rc<Self>, name: Name) {
        let Some((entry, volume)) = self.admit(name).await else { return };
        let begun = self.tick();
        self.enter(entry.instance);
        let own = Rc::clone(self);
        self.reactor.spawn("simulated flush", async move {
            let status = volume.flush().await;
            let now = own.tick();
            if status.is_success() {
                own.history.borrow_mut().require(entry.instance, begun, now);
            }
            own.judge("a flush", status);
            own.leave(entry.instance);
        });
    }

    async fn read(self: &Rc<Self>, name: Name, range: Range) -> Result<(), Failure> {
        let Some((entry, volume)) = self.admit(name).await else { return Ok(()) };
        let (first, count) = range;
        if first + count > entry.blocks {
            return Ok(());
        }
        let buf = buffer(self.memory(), count)?;
        let since = self.tick();
        self.enter(entry.instance);
        let own = Rc::clone(self);
        self.reactor.spawn("simulated read", async move {
            let (status, buf) = volume.read(first, buf).await;
            own.tick();
            if status.is_success() {
                own.compare(name, entry.instance, first, &buf, since);
            } else {
                own.judge("a read", status);
            }
            own.leave(entry.instance);
        });
        Ok(())
    }

    fn compare(&self, name: Name, of: InstanceId, first: u64, buf: &DmaBuf, since: Moment) {
        for (block, data) in (first..).zip(buf.as_slice().chunks_exact(BLOCK_BYTES)) {
            let found = Content::of(data);
            if !self.history.borrow().may_read(of, block, found, since) {
                let text = format!("a read of {name} block {block} returned {found:?}");
                self.object(Failure::new(Rule::Read, text));
                return;
            }
        }
    }
}

/// Fills a buffer with the blocks of a write, from the given one on.
fn tagged(mut buf: DmaBuf, op: u64, index: &mut u64) -> DmaBuf {
    for block in buf.as_mut_slice().chunks_exact_mut(BLOCK_BYTES) {
        Tag { op, index: *index }.fill(block);
        *index += 1;
    }
    buf
}
