//! What clients asked for and were told, in order.

use std::collections::BTreeMap;

use super::content::Content;
use super::explain::{Effect, Moment};
use crate::plan::{Name, Range};

/// Never: a moment after all others.
pub const NEVER: Moment = Moment::MAX;

/// A volume or snapshot from its making to its end, under whatever names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub usize);

/// An operation on the data of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataOp {
    /// Its number, which its blocks bear.
    pub id: u64,
    /// What it writes.
    pub effect: Effect,
    /// Where, in order of its data.
    pub ranges: Vec<Range>,
    /// Force unit access.
    pub fua: bool,
    /// When it was submitted.
    pub submitted: Moment,
    /// When it ended.
    pub ended: Moment,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// From when on it must survive a cut.
    pub required_from: Moment,
    /// The change of size that it is a part of: an index into [`History::metas`].
    pub meta: Option<usize>,
}

/// What a snapshot was taken of, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The volume.
    pub origin: InstanceId,
    /// The change that made it: an index into [`History::metas`].
    pub meta: usize,
}

/// A volume or snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    /// What it held when it was made, or when the run began. Further blocks were zeroes.
    pub initial: Vec<Content>,
    /// The operations on it.
    pub ops: Vec<DataOp>,
    /// For a snapshot that was taken in this run.
    pub taken: Option<Taken>,
    /// For a snapshot: what it holds, and since when that is known.
    pub fixed: Option<(Moment, Vec<Content>)>,
}

/// A name's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it names.
    pub instance: InstanceId,
    /// Its size in blocks.
    pub blocks: u64,
    /// Whether it is a snapshot.
    pub snapshot: bool,
}

/// All names.
pub type Names = BTreeMap<Name, Entry>;

/// A change of names or sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A name gets a meaning.
    Add(Name, Entry),
    /// A name loses its meaning.
    Remove(Name),
    /// A volume changes its size.
    Resize(Name, u64),
    /// A volume changes its name.
    Rename(Name, Name),
    /// Nothing that is seen from outside.
    Nothing,
}

impl Change {
    /// Applies the change.
    pub fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(name, entry) => {
                names.insert(*name, *entry);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Resize(name, blocks) => {
                if let Some(entry) = names.get_mut(name) {
                    entry.blocks = *blocks;
                }
            }
            Self::Rename(from, to) => {
                if let Some(entry) = names.remove(from) {
                    names.insert(*to, entry);
                }
            }
            Self::Nothing => {}
        }
    }
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has not.
    Open,
    /// It is done, and durable.
    Done,
    /// It was refused and has done nothing.
    Refused,
    /// It failed; it may be done or not.
    Failed,
}

/// A change, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// What changes.
    pub change: Change,
    /// When it was submitted.
    pub submitted: Moment,
    /// When it ended.
    pub ended: Moment,
    /// How it ended.
    pub outcome: Outcome,
}

/// One run as its clients saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// For every moment, how many events the device had had.
    stamps: Vec<usize>,
    /// What there is and was.
    pub instances: Vec<Instance>,
    /// The names at the start.
    pub start: Names,
    /// The names now.
    pub names: Names,
    /// Changes of names, one after the other.
    pub metas: Vec<Meta>,
    next_op: u64,
}

impl History {
    /// A run that begins with nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { next_op: 1, ..Self::default() }
    }

    /// A run that begins with what was found. The numbers of operations go on from those of the
    /// run before, so that no block can be taken for another.
    #[must_use]
    pub fn following(&self, found: impl Iterator<Item = (Name, bool, Vec<Content>)>) -> Self {
        let mut next = Self { next_op: self.next_op, ..Self::new() };
        for (name, snapshot, initial) in found {
            let blocks = initial.len() as u64;
            let fixed = snapshot.then(|| (0, initial.clone()));
            let instance = next.add_instance(Instance { initial, fixed, ..Instance::default() });
            next.start.insert(name, Entry { instance, blocks, snapshot });
        }
        next.names = next.start.clone();
        next
    }

    /// The next moment; the device has had so many events.
    pub fn tick(&mut self, events: usize) -> Moment {
        self.stamps.push(events);
        Moment::try_from(self.stamps.len() - 1).unwrap_or(NEVER)
    }

    /// The first moment that comes after a cut at an event.
    #[must_use]
    pub fn moment_of_cut(&self, at_event: usize) -> Moment {
        let before = self.stamps.partition_point(|&events| events <= at_event);
        Moment::try_from(before).unwrap_or(NEVER)
    }

    /// The moment after all others so far.
    #[must_use]
    pub fn end(&self) -> Moment {
        Moment::try_from(self.stamps.len()).unwrap_or(NEVER)
    }

    /// How many events the device had had when the first write ended; none when none has.
    #[must_use]
    pub fn first_write_ended(&self) -> Option<usize> {
        let ops = self.instances.iter().flat_map(|instance| &instance.ops);
        let first = ops.map(|op| op.ended).min()?;
        self.stamps.get(usize::try_from(first).ok()?).copied()
    }

    /// How many events the device had had when the last write was submitted, if it succeeded and
    /// nothing came after it.
    #[must_use]
    pub fn last_write_submitted(&self) -> Option<usize> {
        let ops = self.instances.iter().flat_map(|instance| &instance.ops);
        let last = ops.max_by_key(|op| op.submitted)?;
        let is_last = self.metas.iter().all(|meta| meta.ended < last.submitted);
        let at = usize::try_from(last.submitted).ok()?;
        self.stamps.get(at).copied().filter(|_| is_last && last.succeeded)
    }

    /// Adds a volume or snapshot.
    pub fn add_instance(&mut self, instance: Instance) -> InstanceId {
        self.instances.push(instance);
        InstanceId(self.instances.len() - 1)
    }

    /// Notes that an operation on data begins; returns its index and its number.
    pub fn begin(
        &mut self,
        instance: InstanceId,
        effect: Effect,
        ranges: Vec<Range>,
        fua: bool,
        now: Moment,
    ) -> (usize, u64) {
        let id = self.next_op;
        self.next_op += 1;
        let ops = &mut self.instances[instance.0].ops;
        ops.push(DataOp {
            id,
            effect,
            ranges,
            fua,
            submitted: now,
            ended: NEVER,
            succeeded: false,
            required_from: NEVER,
            meta: None,
        });
        (ops.len() - 1, id)
    }

    /// Notes that an operation on data ended.
    pub fn finish(&mut self, instance: InstanceId, index: usize, succeeded: bool, now: Moment) {
        let op = &mut self.instances[instance.0].ops[index];
        (op.ended, op.succeeded) = (now, succeeded);
        if succeeded && op.fua {
            op.required_from = now;
            let begun = op.submitted;
            self.require(instance, begun, now);
        }
    }

    /// Notes that a flush, submitted at `begun`, has succeeded: what had ended by then must now
    /// survive.
    pub fn require(&mut self, instance: InstanceId, begun: Moment, now: Moment) {
        for op in &mut self.instances[instance.0].ops {
            if op.succeeded && op.ended < begun {
                op.required_from = op.required_from.min(now);
            }
        }
    }

    /// The same for everything there is: an export.
    pub fn require_all(&mut self, begun: Moment, now: Moment) {
        for instance in 0..self.instances.len() {
            self.require(InstanceId(instance), begun, now);
        }
    }

    /// Notes that a change of names begins. One that makes a volume smaller also empties the
    /// blocks behind its new end, for a later one that makes it larger.
    pub fn begin_meta(&mut self, change: Change, now: Moment) -> usize {
        let index = self.metas.len();
        if let Change::Resize(name, blocks) = change
            && let Some(entry) = self.names.get(&name).copied()
            && blocks < entry.blocks
        {
            let range = (blocks, entry.blocks - blocks);
            let (op, _) = self.begin(entry.instance, Effect::Zero, vec![range], false, now);
            self.instances[entry.instance.0].ops[op].meta = Some(index);
        }
        self.metas.push(Meta { change, submitted: now, ended: NEVER, outcome: Outcome::Open });
        index
    }

    /// Notes that a change of names ended.
    pub fn finish_meta(&mut self, index: usize, outcome: Outcome, now: Moment) {
        let meta = &mut self.metas[index];
        (meta.ended, meta.outcome) = (now, outcome);
        if outcome == Outcome::Done {
            meta.change.clone().apply(&mut self.names);
        }
        for op in self.instances.iter_mut().flat_map(|instance| &mut instance.ops) {
            if op.meta == Some(index) {
                (op.ended, op.succeeded) = (now, outcome == Outcome::Done);
            }
        }
    }
}
