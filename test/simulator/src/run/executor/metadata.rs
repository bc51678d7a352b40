//! Changes of names, sizes and of the store as a whole: one at a time, beside operations on data.

use std::rc::Rc;

use super::Executor;
use crate::oracle::history::Outcome;
use crate::oracle::{Change, Entry, Failure, Instance, InstanceId, Moment, Rule, Taken};
use crate::plan::{Name, Op};
use crate::run::observe;
use crate::store::{Cause, Store, StoreError, StoreResult};

/// A change that is about to be made.
struct Planned {
    change: Change,
    /// Operations on these names wait for its end.
    locks: Vec<Name>,
    /// It begins when nothing runs on this.
    alone_on: Option<InstanceId>,
}

impl Executor {
    /// Makes a change, as soon as the one before it has ended.
    pub(super) async fn change(self: &Rc<Self>, op: &Op) {
        self.changed.until(|| self.over.get() || !self.changing.get()).await;
        let (Some(store), false) = (self.store(), self.over.get()) else { return };
        let Some(planned) = self.plan(op) else { return };
        *self.locked.borrow_mut() = planned.locks.clone();
        self.changing.set(true);
        if let Some(instance) = planned.alone_on {
            let idle = || self.busy.borrow().get(&instance).copied().unwrap_or(0) == 0;
            self.changed.until(idle).await;
        }
        let now = self.tick();
        let index = {
            let mut history = self.history.borrow_mut();
            let next = history.metas.len();
            if let (Op::Snapshot(origin, _), Change::Add(_, entry)) = (op, &planned.change)
                && let Some(origin) = history.names.get(origin).copied()
            {
                let taken = Taken { origin: origin.instance, meta: next };
                history.instances[entry.instance.0].taken = Some(taken);
            }
            history.begin_meta(planned.change, now)
        };
        let (own, op) = (Rc::clone(self), op.clone());
        self.reactor.spawn("simulated change", async move {
            let result = perform(&store, &op).await;
            own.changed_to(index, &op, result).await;
        });
    }

    /// What an operation changes; none when it makes no sense now.
    fn plan(&self, op: &Op) -> Option<Planned> {
        let names = self.names();
        let volume = |name: &Name| names.get(name).copied().filter(|entry| !entry.snapshot);
        let snapshot = |name: &Name| names.get(name).copied().filter(|entry| entry.snapshot);
        let is_free = |name: &Name| !names.contains_key(name);
        let add = |name: Name, instance: Instance, blocks, is_snapshot| {
            let instance = self.history.borrow_mut().add_instance(instance);
            let entry = Entry { instance, blocks, snapshot: is_snapshot };
            Planned { change: Change::Add(name, entry), locks: vec![name], alone_on: None }
        };
        let alone = |change, locks, entry: Entry| {
            let alone_on = Some(entry.instance);
            Planned { change, locks, alone_on }
        };
        match op {
            Op::Create(name, blocks, _) if is_free(name) => {
                Some(add(*name, Instance::default(), *blocks, false))
            }
            Op::Delete(name) => {
                let entry = names.get(name).copied()?;
                Some(alone(Change::Remove(*name), vec![*name], entry))
            }
            Op::Snapshot(from, to) if is_free(to) => {
                Some(add(*to, Instance::default(), volume(from)?.blocks, true))
            }
            Op::Clone(from, to) if is_free(to) => {
                let entry = snapshot(from)?;
                // What a snapshot holds is known once it was read.
                let fixed = self.history.borrow().instances[entry.instance.0].fixed.clone();
                let instance = Instance { initial: fixed?.1, ..Instance::default() };
                Some(add(*to, instance, entry.blocks, false))
            }
            Op::Resize(name, blocks) => {
                let entry = volume(name)?;
                Some(alone(Change::Resize(*name, *blocks), vec![*name], entry))
            }
            Op::Rename(from, to) if is_free(to) => {
                let entry = names.get(from).copied()?;
                Some(alone(Change::Rename(*from, *to), vec![*from, *to], entry))
            }
            Op::Decouple(name) => {
                volume(name)?;
                Some(Planned { change: Change::Nothing, locks: Vec::new(), alone_on: None })
            }
            Op::Checkpoint => {
                Some(Planned { change: Change::Nothing, locks: Vec::new(), alone_on: None })
            }
            _ => None,
        }
    }

    /// Notes the end of a change.
    async fn changed_to(&self, index: usize, op: &Op, result: StoreResult) {
        let now = self.tick();
        let outcome = match &result {
            Ok(()) => Outcome::Done,
            Err(error) if error.cause == Cause::Device => Outcome::Failed,
            Err(_) => Outcome::Refused,
        };
        self.history.borrow_mut().finish_meta(index, outcome, now);
        if let Err(error) = result {
            self.judge_change(op, &error);
        }
        if outcome == Outcome::Failed {
            // Whether the name is there is anybody's guess from here on.
            self.over.set(true);
        }
        if let (Op::Snapshot(_, name), Outcome::Done) = (op, outcome) {
            self.read_snapshot(*name).await;
        }
        self.locked.borrow_mut().clear();
        self.changing.set(false);
        self.changed.tell();
    }

    fn judge_change(&self, op: &Op, error: &StoreError) {
        let expected = match error.cause {
            // A deletion needs no space, however full the store is.
            Cause::NoSpace => self.tight && !matches!(op, Op::Delete(_)),
            // A snapshot with clones, and a volume that is no clone.
            Cause::Refused => matches!(op, Op::Delete(_) | Op::Decouple(_)),
            Cause::Device => false,
        };
        let full = expected && error.cause == Cause::NoSpace;
        self.full.set(self.full.get() + u64::from(full));
        if !expected && !self.any_injected(|_| true) {
            let text = format!("{op:?} failed and nothing was injected: {error}");
            self.object(Failure::new(Rule::Status, text));
        }
    }

    /// Reads a new snapshot: from here on it is known what it holds.
    async fn read_snapshot(&self, name: Name) {
        let Some(store) = self.store() else { return };
        let Some(volume) = store.volume(&name.to_string()) else {
            return self.object(Failure::new(Rule::Names, format!("{name} is not there")));
        };
        let found = match observe::contents(self.memory(), &volume).await {
            Ok(found) => found,
            Err(failure) => return self.object(failure),
        };
        let now = self.tick();
        let mut history = self.history.borrow_mut();
        let Some(entry) = history.names.get(&name).copied() else { return };
        let contents: Result<Vec<_>, _> = found.contents.iter().copied().collect();
        match contents {
            Ok(contents) => {
                let only = [(name, found)].into_iter().collect();
                let result = history.check_only(now, &only, name);
                history.instances[entry.instance.0].fixed = Some((now, contents));
                drop(history);
                if let Err(failure) = result {
                    self.object(failure.at("a new snapshot"));
                }
            }
            Err(status) => {
                drop(history);
                self.judge("a read of a snapshot", status);
            }
        }
    }

    /// Exports the store and imports it again.
    pub(super) async fn reimport(self: &Rc<Self>) {
        self.drain().await;
        let Some(store) = self.store().filter(|_| !self.over.get()) else { return };
        let begun: Moment = self.tick();
        let exported = store.export().await;
        let now = self.tick();
        if exported.is_ok() {
            self.history.borrow_mut().require_all(begun, now);
        }
        drop(store);
        *self.store.borrow_mut() = None;
        let opened = match exported {
            Ok(()) => self.kind.import(self.device.clone()).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(store) => self.open(store),
            Err(error) => {
                self.over.set(true);
                if !self.any_injected(|_| true) {
                    let text = format!("export and import failed: {error}");
                    self.object(Failure::new(Rule::Import, text));
                }
            }
        }
    }
}

async fn perform(store: &Rc<dyn Store>, op: &Op) -> StoreResult {
    match op {
        Op::Create(name, blocks, thin) => {
            store.create_volume(&name.to_string(), *blocks, *thin).await
        }
        Op::Delete(name) => store.delete_volume(&name.to_string()).await,
        Op::Snapshot(from, to) => store.snapshot(&from.to_string(), &to.to_string()).await,
        Op::Clone(from, to) => store.clone_volume(&from.to_string(), &to.to_string()).await,
        Op::Resize(name, blocks) => store.resize_volume(&name.to_string(), *blocks).await,
        Op::Rename(from, to) => store.rename_volume(&from.to_string(), &to.to_string()).await,
        Op::Decouple(name) => store.decouple(&name.to_string()).await,
        Op::Checkpoint => store.checkpoint().await,
        _ => Ok(()),
    }
}
