//! What the load does: rounds that follow from a seed and from the rounds before, so that whoever
//! looks at a drive later knows what has to be on it.
//!
//! The writes of a round touch different blocks, except for the steps of one slot, which touch the
//! same ones after each other. So each slot is at one of its steps after a cut, with all its blocks.

use std::collections::BTreeMap;
use std::ops::Range;

use super::content::Stamp;
use super::mix;
use crate::rng::Rng;

/// The volume whose first block tells the round, in rounds that end with a write with FUA.
pub const MARKER: &str = "v0";
/// Snapshots, and clones, at the same time. All of them together leave half of the pool free.
const SNAPSHOTS_MAX: usize = 3;
const CLONES_MAX: usize = 2;
/// Blocks of one write or transaction at the most.
const SLOT_BLOCKS_MAX: u64 = 64;
/// Numbers below belong to the volumes that are there from the beginning.
const CLONES_FROM: u64 = 16;

/// The volumes of the beginning: size in blocks, and the windows in which blocks are written. The
/// last one has few blocks far apart, so that its tree is high.
const VOLUMES: [(u64, u64, u64); 5] =
    [(64, 1, 64), (1024, 1, 1024), (1024, 1, 1024), (700, 1, 700), (300_000, 7, 40)];

/// A volume or snapshot and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The number that blocks written to it carry.
    pub number: u64,
    /// Whether it is a snapshot.
    pub snapshot: bool,
    /// Whether it is a clone.
    pub clone: bool,
    /// Size in blocks.
    pub size_blocks: u64,
    /// The blocks that may be written.
    pub windows: Vec<Range<u64>>,
    /// The blocks that are no holes.
    pub blocks: BTreeMap<u64, Stamp>,
}

/// One step of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All blocks are written, as one change.
    Write,
    /// The blocks, which are one range, become holes.
    Unmap,
}

/// Blocks of a volume and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its number in the round.
    pub number: u32,
    /// The volume.
    pub volume: String,
    /// The ranges of blocks, which do not overlap; more than one make a transaction.
    pub ranges: Vec<Range<u64>>,
    /// What happens to them, one after the other.
    pub steps: Vec<Step>,
}

/// A change of volumes and snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A snapshot of a volume.
    Snapshot {
        /// The volume.
        of: String,
        /// The snapshot.
        name: String,
    },
    /// A clone of a snapshot.
    Clone {
        /// The snapshot.
        of: String,
        /// The clone.
        name: String,
    },
    /// A clone or snapshot goes.
    Delete(String),
    /// A clone gets blocks of its own.
    Decouple(String),
}

/// What ends a round, and makes it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A flush.
    Flush,
    /// A write of the round's last slot with FUA.
    Fua,
    /// The round's change.
    Change,
}

/// A round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Its number, from 1 on.
    pub number: u64,
    /// What is written side by side.
    pub slots: Vec<Slot>,
    /// What else is done: at the end, or beside the writes, which then go to other volumes.
    pub change: Option<Change>,
    /// What ends it.
    pub end: End,
}

impl Slot {
    /// All its blocks.
    pub fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges.iter().cloned().flatten()
    }

    /// What a block holds after so many steps; none for a hole.
    #[must_use]
    pub fn stamp(&self, volume: u64, round: u64, step: usize) -> Option<Stamp> {
        match self.steps[step] {
            Step::Write => {
                let step = u32::try_from(step).unwrap_or(u32::MAX);
                Some(Stamp { volume, round, slot: self.number, step })
            }
            Step::Unmap => None,
        }
    }
}

/// The rounds, and what is in the pool after those that were applied.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The last round that was applied.
    pub round: u64,
    /// The volumes and snapshots by their names.
    pub datasets: BTreeMap<String, Dataset>,
}

impl Plan {
    /// The plan of a seed, at its beginning: some empty volumes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let datasets = (0_u64..).zip(VOLUMES).map(|(number, (size_blocks, windows, len))| {
            let start = |at| at * size_blocks / windows;
            let windows = (0..windows).map(|at| start(at)..start(at) + len).collect();
            let (snapshot, clone, blocks) = (false, false, BTreeMap::new());
            let dataset = Dataset { number, snapshot, clone, size_blocks, windows, blocks };
            (format!("v{number}"), dataset)
        });
        Self { seed, round: 0, datasets: datasets.collect() }
    }

    /// The round that comes next.
    #[must_use]
    pub fn next(&self) -> Round {
        let number = self.round + 1;
        let mut rng = Rng::new(mix(&[self.seed, number]));
        let change = if rng.one_in(5) { self.change(&mut rng, number) } else { None };
        let beside = rng.one_in(2);
        let mut slots: Vec<Slot> = Vec::new();
        let wanted = if rng.one_in(8) { 40 } else { 1 + rng.below(10) };
        for _ in 0..wanted {
            let number = u32::try_from(slots.len()).unwrap_or(u32::MAX);
            let avoid = if beside { change.as_ref() } else { None };
            slots.extend(self.slot(&mut rng, number, &slots, avoid));
        }
        let end = match (&change, beside, rng.one_in(2)) {
            (Some(_), false, _) => End::Change,
            (_, _, true) => End::Flush,
            (_, _, false) => End::Fua,
        };
        if end == End::Fua {
            let number = u32::try_from(slots.len()).unwrap_or(u32::MAX);
            let (volume, ranges) = (MARKER.to_owned(), std::iter::once(0..1).collect());
            slots.push(Slot { number, volume, ranges, steps: vec![Step::Write] });
        }
        Round { number, slots, change, end }
    }

    fn names(&self, is_it: impl Fn(&Dataset) -> bool) -> Vec<&String> {
        self.datasets.iter().filter(|(_, one)| is_it(one)).map(|(name, _)| name).collect()
    }

    fn change(&self, rng: &mut Rng, number: u64) -> Option<Change> {
        let snapshots = self.names(|one| one.snapshot);
        let clones = self.names(|one| one.clone);
        let pick = |rng: &mut Rng, of: &[&String]| of.get(rng.index(of.len())).map(|&n| n.clone());
        match rng.below(8) {
            0..3 if snapshots.len() < SNAPSHOTS_MAX => {
                let volumes = self.names(|one| !one.snapshot && one.number > 0);
                pick(rng, &volumes).map(|of| Change::Snapshot { of, name: format!("s{number}") })
            }
            3..5 if clones.len() < CLONES_MAX => {
                pick(rng, &snapshots).map(|of| Change::Clone { of, name: format!("c{number}") })
            }
            5 => pick(rng, &clones).map(Change::Decouple),
            6 => pick(rng, &clones).map(Change::Delete),
            _ => pick(rng, &snapshots).map(Change::Delete),
        }
    }

    /// A slot that touches nothing that others of the round touch; none when none was found.
    fn slot(
        &self,
        rng: &mut Rng,
        number: u32,
        others: &[Slot],
        avoid: Option<&Change>,
    ) -> Option<Slot> {
        let avoided = match avoid {
            Some(Change::Snapshot { of: name, .. } | Change::Delete(name)) => Some(name),
            _ => None,
        };
        let mut volumes = self.names(|one| !one.snapshot && one.number > 0);
        volumes.retain(|name| Some(*name) != avoided);
        let volume = volumes[rng.index(volumes.len())];
        let windows = &self.datasets[volume].windows;
        let mut taken: Vec<Range<u64>> = others
            .iter()
            .filter(|slot| slot.volume == *volume)
            .flat_map(|slot| slot.ranges.clone())
            .collect();
        let pieces = if rng.one_in(3) { 2 + rng.below(4) } else { 1 };
        let most = SLOT_BLOCKS_MAX / pieces;
        let mut ranges = Vec::new();
        for _ in 0..pieces * 2 {
            let window = &windows[rng.index(windows.len())];
            let len = match rng.below(4) {
                0 | 1 => 1,
                2 => 1 + rng.below(most.min(8)),
                _ => 1 + rng.below(most),
            };
            let len = len.min(window.end - window.start);
            let start = window.start + rng.below(window.end - window.start - len + 1);
            let range = start..start + len;
            if taken.iter().all(|other| other.end <= range.start || range.end <= other.start) {
                taken.push(range.clone());
                ranges.push(range);
            }
            if ranges.len() as u64 == pieces {
                break;
            }
        }
        let unmaps = ranges.len() == 1;
        let count = if rng.one_in(4) { 2 + rng.below(2) } else { 1 };
        let step = |_| if unmaps && rng.one_in(8) { Step::Unmap } else { Step::Write };
        let steps = (0..count).map(step).collect();
        (!ranges.is_empty()).then(|| Slot { number, volume: volume.clone(), ranges, steps })
    }

    /// Does a round that [`Plan::next`] gave.
    pub fn apply(&mut self, round: &Round) {
        for slot in &round.slots {
            let Some(dataset) = self.datasets.get_mut(&slot.volume) else { continue };
            let stamp = slot.stamp(dataset.number, round.number, slot.steps.len() - 1);
            for block in slot.blocks() {
                match stamp {
                    Some(stamp) => dataset.blocks.insert(block, stamp),
                    None => dataset.blocks.remove(&block),
                };
            }
        }
        match &round.change {
            Some(Change::Snapshot { of, name }) => {
                let copy = Dataset { snapshot: true, clone: false, ..self.datasets[of].clone() };
                self.datasets.insert(name.clone(), copy);
            }
            Some(Change::Clone { of, name }) => {
                let number = CLONES_FROM + round.number;
                let from = self.datasets[of].clone();
                let copy = Dataset { number, snapshot: false, clone: true, ..from };
                self.datasets.insert(name.clone(), copy);
            }
            Some(Change::Delete(name)) => drop(self.datasets.remove(name)),
            Some(Change::Decouple(_)) | None => {}
        }
        self.round = round.number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_from_the_seed_and_their_slots_do_not_meet() {
        let (mut first, mut second) = (Plan::new(5), Plan::new(5));
        let (mut changes, mut beside, mut fua) = (0, 0, 0);
        for _ in 0..500 {
            let round = first.next();
            assert_eq!(round, second.next());
            let mut seen = std::collections::BTreeSet::new();
            for slot in &round.slots {
                let dataset = &first.datasets[&slot.volume];
                assert!(!dataset.snapshot && slot.blocks().count() <= 64);
                for block in slot.blocks() {
                    assert!(dataset.windows.iter().any(|window| window.contains(&block)));
                    assert!(seen.insert((slot.volume.clone(), block)), "{round:?}");
                }
            }
            changes += usize::from(round.change.is_some());
            beside += usize::from(round.change.is_some() && round.end != End::Change);
            fua += usize::from(round.end == End::Fua);
            first.apply(&round);
            second.apply(&round);
        }
        assert_eq!(first.datasets, second.datasets);
        assert!(changes > 50 && beside > 10 && fua > 100, "{changes} {beside} {fua}");
        assert_ne!(Plan::new(6).next(), Plan::new(5).next());
    }
}
