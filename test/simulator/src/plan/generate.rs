//! A scenario of a seed.

use std::collections::BTreeMap;

use super::{Name, Op, Range, Scenario, Shape};
use crate::device::driver::DeviceOptions;
use crate::device::faults::{FaultKind, FaultPlan};
use crate::rng::Rng;
use crate::run::damage::closing_ops;

/// What scenarios are to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Everything that a client can do.
    Everything,
    /// The same on a device that fails and lies.
    Faults,
    /// One segment, at whose end everything is flushed; the medium is then damaged.
    Damage,
}

/// The longest write in blocks.
const WRITE_MAX: u64 = 8;
/// Of so many scenarios, one is in a store that is nearly full.
const TIGHT_EVERY: u64 = 8;
/// The largest volume in blocks.
const VOLUME_MAX: u64 = 48;

/// A volume or snapshot that should be there when the plan has come so far.
#[derive(Clone, Copy)]
struct Known {
    blocks: u64,
    snapshot: bool,
}

struct Generator<'a> {
    rng: &'a mut Rng,
    names: BTreeMap<Name, Known>,
    /// How often, in a thousand operations, each kind comes up.
    weights: [u64; 15],
    reimport: bool,
    ops: Vec<Op>,
}

/// The scenario of a seed.
#[must_use]
pub fn scenario(seed: u64, profile: Profile) -> Scenario {
    let mut rng = Rng::stream(seed, 0x9e4e);
    let shape = shape(&mut rng);
    let faults = if profile == Profile::Faults { faults(&mut rng) } else { FaultPlan::default() };
    let segments = if profile == Profile::Everything { rng.between(1, 3) } else { 1 };
    let mut generator = Generator {
        weights: weights(&mut rng),
        rng: &mut rng,
        names: BTreeMap::new(),
        // A lie about what is written at the end of an export cannot be noticed.
        reimport: faults.is_empty(),
        ops: Vec::new(),
    };
    let segments = (0..segments)
        .map(|_| {
            generator.segment();
            if profile == Profile::Damage {
                generator.ops.extend(closing_ops());
            }
            std::mem::take(&mut generator.ops)
        })
        .collect();
    Scenario { seed, shape, faults, segments }
}

fn shape(rng: &mut Rng) -> Shape {
    let device = DeviceOptions {
        block_len: if rng.one_in(3) { 4096 } else { 512 },
        write_cache: !rng.one_in(6),
        delay_max_ns: [200, 2000, 2000, 20_000][rng.index(4)],
        io_bytes_max: [4096, 16 << 10, 1 << 20][rng.index(3)],
        ..DeviceOptions::default()
    };
    let shape = Shape {
        device,
        size_bytes: [8, 8, 12, 16][rng.index(4)] << 20,
        journal_blocks: [16, 24, 32, 64][rng.index(4)],
        depth: [1, 2, 4, 8][rng.index(4)],
        tight: None,
    };
    if !rng.one_in(TIGHT_EVERY) {
        return shape;
    }
    // What is not journal has to be filled before, and looked at after each cut.
    let tight = Some(rng.between(0, 24));
    Shape { size_bytes: 8 << 20, journal_blocks: [64, 256, 512][rng.index(3)], tight, ..shape }
}

/// One or two kinds of faults, rare enough for most of a run to be good.
fn faults(rng: &mut Rng) -> FaultPlan {
    let mut plan = FaultPlan::default();
    for _ in 0..rng.between(1, 2) {
        let kind = FaultKind::ALL[rng.index(FaultKind::ALL.len())];
        let share = [5, 20, 100][rng.index(3)];
        plan = plan.with(kind, share, u32::try_from(rng.between(1, 3)).unwrap_or(1));
    }
    plan
}

/// The kinds of operations in the order of [`Generator::step`]. Each seed is fonder of some.
fn weights(rng: &mut Rng) -> [u64; 15] {
    let usual = [10, 6, 10, 6, 5, 3, 2, 60, 12, 10, 8, 25, 25, 6, 8];
    usual.map(|weight| weight * [0, 1, 1, 1, 3][rng.index(5)])
}

impl Generator<'_> {
    fn segment(&mut self) {
        let count = self.rng.between(6, 48);
        if self.names.is_empty() {
            self.create();
        }
        for _ in 0..count {
            self.step();
        }
    }

    fn step(&mut self) {
        let mut at = self.rng.below(self.weights.iter().sum::<u64>() + 1);
        let kind = self.weights.iter().position(|&weight| {
            let hit = at < weight;
            at = at.saturating_sub(weight);
            hit
        });
        match kind.unwrap_or(7) {
            0 => self.create(),
            1 => self.delete(),
            2 => self.snapshot(),
            3 => self.clone_volume(),
            4 => self.resize(),
            5 => self.rename(),
            6 => self.with_volume(|name, _, _| Op::Decouple(name)),
            8 => self.transaction(),
            9 => self.with_range(Op::Zeroes),
            10 => self.with_range(|name, range, _| Op::Unmap(name, range)),
            11 => self.with_volume(|name, _, _| Op::Flush(name)),
            12 => self.read(),
            13 => self.ops.push(Op::Checkpoint),
            14 => self.pace(),
            _ => self.with_range(Op::Write),
        }
    }

    fn pace(&mut self) {
        let op = match self.rng.below(8) {
            0 if self.reimport => Op::Reimport,
            0..=4 => Op::Wait,
            _ => Op::Pause([1, 10, 1000, 200_000][self.rng.index(4)]),
        };
        self.ops.push(op);
    }

    fn free_name(&mut self) -> Option<Name> {
        let free: Vec<Name> = Name::all().filter(|name| !self.names.contains_key(name)).collect();
        free.get(self.rng.index(free.len())).copied()
    }

    fn pick(&mut self, which: impl Fn(&Known) -> bool) -> Option<(Name, Known)> {
        let fit: Vec<(Name, Known)> =
            self.names.iter().filter(|(_, known)| which(known)).map(|(n, k)| (*n, *k)).collect();
        fit.get(self.rng.index(fit.len())).copied()
    }

    fn with_volume(&mut self, make: impl FnOnce(Name, Known, &mut Rng) -> Op) {
        if let Some((name, known)) = self.pick(|known| !known.snapshot) {
            let op = make(name, known, self.rng);
            self.ops.push(op);
        }
    }

    /// A range of a volume: often the same few blocks, so that writes meet.
    fn range(&mut self, blocks: u64) -> Range {
        let longest = if self.rng.one_in(3) { WRITE_MAX } else { 2 };
        let count = self.rng.between(1, longest).min(blocks);
        let span = if self.rng.one_in(2) { blocks.min(6).max(count) } else { blocks };
        (self.rng.below(span - count + 1), count)
    }

    fn with_range(&mut self, make: impl FnOnce(Name, Range, bool) -> Op) {
        if let Some((name, known)) = self.pick(|known| !known.snapshot) {
            let (range, fua) = (self.range(known.blocks), self.rng.one_in(6));
            self.ops.push(make(name, range, fua));
        }
    }

    fn read(&mut self) {
        if let Some((name, known)) = self.pick(|_| true) {
            let range = self.range(known.blocks);
            self.ops.push(Op::Read(name, range));
        }
    }

    fn transaction(&mut self) {
        let Some((name, known)) = self.pick(|known| !known.snapshot) else { return };
        let mut ranges: Vec<Range> = Vec::new();
        for _ in 0..self.rng.between(1, 4) {
            let range = self.range(known.blocks);
            let meets = |other: &Range| other.0 < range.0 + range.1 && range.0 < other.0 + other.1;
            if !ranges.iter().any(meets) {
                ranges.push(range);
            }
        }
        let fua = self.rng.one_in(6);
        self.ops.push(Op::Transaction(name, ranges, fua));
    }

    fn create(&mut self) {
        let volumes = self.names.values().filter(|known| !known.snapshot).count();
        if volumes >= 4 {
            return;
        }
        let Some(name) = self.free_name() else { return };
        let blocks = self.rng.between(1, VOLUME_MAX);
        self.names.insert(name, Known { blocks, snapshot: false });
        let thin = !self.rng.one_in(4);
        self.ops.push(Op::Create(name, blocks, thin));
    }

    fn delete(&mut self) {
        let Some((name, _)) = self.pick(|_| true) else { return };
        self.names.remove(&name);
        self.ops.push(Op::Delete(name));
        if self.names.is_empty() {
            self.create();
        }
    }

    fn snapshot(&mut self) {
        let Some(to) = self.free_name() else { return };
        if let Some((from, known)) = self.pick(|known| !known.snapshot) {
            self.names.insert(to, Known { snapshot: true, ..known });
            self.ops.push(Op::Snapshot(from, to));
        }
    }

    fn clone_volume(&mut self) {
        let Some(to) = self.free_name() else { return };
        if let Some((from, known)) = self.pick(|known| known.snapshot) {
            self.names.insert(to, Known { snapshot: false, ..known });
            self.ops.push(Op::Clone(from, to));
        }
    }

    fn resize(&mut self) {
        let Some((name, known)) = self.pick(|known| !known.snapshot) else { return };
        let blocks = self.rng.between(1, VOLUME_MAX);
        self.names.insert(name, Known { blocks, ..known });
        self.ops.push(Op::Resize(name, blocks));
    }

    fn rename(&mut self) {
        let Some(to) = self.free_name() else { return };
        if let Some((from, known)) = self.pick(|_| true) {
            self.names.remove(&from);
            self.names.insert(to, known);
            self.ops.push(Op::Rename(from, to));
        }
    }
}
