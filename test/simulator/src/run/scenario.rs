//! Segments of operations with power cuts between them, and many more cuts of each.

use std::fmt;
use std::rc::Rc;

use spdk_rs::env::Memory;

use super::ballast;
use super::executor::Executor;
use super::observe;
use super::reactor::run;
use super::recovery::{self, RecoveryOptions, recover};
use crate::device::disk::Disk;
use crate::device::driver::DeviceOptions;
use crate::device::faults::FaultKind;
use crate::device::image::Image;
use crate::device::recording::{Cursor, Cut, CutMode, Recording};
use crate::oracle::history::Names;
use crate::oracle::{Circumstances, Content, Failure, History, Moment, Observed, Rule};
use crate::plan::{Name, Op, Scenario};
use crate::rng::Rng;
use crate::store::{StoreKind, StoreOptions};

/// Of so many seeds, one runs its operations twice, to see that it repeats.
const REPEAT_EVERY: u64 = 16;

/// How many cuts of what kind a scenario gets.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Events of a segment at which the power is cut; all when there are no more.
    pub points: usize,
    /// Cuts at each of them.
    pub cuts_per_point: usize,
    /// Of so many cuts, one is recovered under a second cut, at every event of its import.
    pub double_every: u64,
    /// Of so many cuts, one is followed by the deletion of everything.
    pub space_every: u64,
    /// Every subset of what is not flushed, where it has at most so many parts, instead of cuts
    /// by chance; 0 for cuts by chance.
    pub subset_parts: u32,
    /// Cuts are of this mode, instead of one by chance: for finding a cut again.
    pub mode: Option<CutMode>,
    /// Places of the medium that are damaged when all is written, each in a recovery of its own.
    pub damages: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            points: 48,
            cuts_per_point: 2,
            double_every: 64,
            space_every: 8,
            subset_parts: 0,
            mode: None,
            damages: 0,
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Scenarios.
    pub runs: u64,
    /// Cuts that were recovered and found right.
    pub cuts: u64,
    /// Of these, cuts during the import after another cut.
    pub double_cuts: u64,
    /// Imports that were refused after the device had lied.
    pub refused: u64,
    /// Operations that found no room.
    pub full: u64,
}

impl Totals {
    /// Adds others.
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.cuts += other.cuts;
        self.double_cuts += other.double_cuts;
        self.refused += other.refused;
        self.full += other.full;
    }
}

/// A rule was broken, and where.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub failure: Failure,
    /// The segment.
    pub segment: usize,
    /// The cuts, one after the other; none when the operations themselves broke it.
    pub cuts: Vec<Cut>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {}", self.segment)?;
        for cut in &self.cuts {
            write!(f, ", cut {cut}")?;
        }
        write!(f, ": {}", self.failure)
    }
}

/// A segment that has run.
pub struct Ran {
    /// What clients saw.
    pub history: History,
    /// What the device saw.
    pub recording: Recording,
    /// How many events the device had had when the store was open.
    pub open_at: usize,
    /// Bytes that remained in the new store.
    pub remaining_bytes: u64,
    /// Whether the device has lied.
    pub lied: bool,
    /// Operations that found no room.
    pub full: u64,
    /// What went wrong without a cut.
    pub failure: Option<Failure>,
}

/// Where a segment begins.
#[derive(Clone)]
pub struct Start {
    image: Image,
    observed: Observed,
    names: Names,
    history: Rc<History>,
    moment: Moment,
}

/// Runs one segment: from nothing, or from what a cut left.
///
/// # Errors
/// When the simulator itself cannot go on, or the run hangs or panics.
pub fn run_segment(
    kind: &'static dyn StoreKind,
    memory: &Memory,
    scenario: &Scenario,
    segment: usize,
    start: Option<Start>,
) -> Result<Ran, Failure> {
    let seed = scenario.seed.wrapping_add(segment as u64 * 0x1_0000_0001);
    let shape = scenario.shape.clone();
    let device = DeviceOptions { seed, faults: scenario.faults.clone(), ..shape.device.clone() };
    let ops: Vec<Op> = scenario.segments[segment].clone();
    let scenario_seed = scenario.seed;
    run(seed, memory, move |reactor| async move {
        let image =
            start.as_ref().map_or_else(|| Image::new(shape.size_bytes), |s| s.image.clone());
        let (handle, control) = recovery::open(image, &device)?;
        let options = StoreOptions { seed: scenario_seed, journal_blocks: shape.journal_blocks };
        let opened = match &start {
            None => kind.create(handle.clone(), &options).await,
            Some(_) => kind.import(handle.clone()).await,
        };
        let store = opened.map_err(|error| Failure::new(Rule::Import, error.to_string()))?;
        let history = match &start {
            None => History::new(),
            Some(start) => {
                let again = observe::everything(reactor.memory(), &store).await?;
                if again != start.observed {
                    let text = format!("a second import found {again:?}, not {:?}", start.observed);
                    return Err(Failure::new(Rule::Idempotence, text));
                }
                start.history.following(known(&again, &start.names).into_iter())
            }
        };
        let remaining_bytes = store.remaining_bytes();
        let tight = shape.tight.filter(|_| kind.can_be_filled());
        if let (None, Some(left)) = (&start, tight) {
            ballast::fill(reactor.memory(), &store, left).await?;
        }
        let open_at = control.events();
        let limits = (shape.depth, tight.is_some());
        let pair = (handle, control.clone());
        let executor = Executor::new(reactor, kind, pair, limits, history);
        executor.open(store);
        control.arm(true);
        let result = executor.run(&ops).await;
        let lied =
            FaultKind::ALL.into_iter().any(|kind| !kind.is_honest() && control.injected(kind) > 0);
        let (history, recording) = (executor.history(), control.take_recording());
        let (full, failure) = (executor.found_full(), result.err());
        Ok(Ran { history, recording, open_at, remaining_bytes, lied, full, failure })
    })
}

/// Runs a segment a second time: every event, with its data and its moment, is the same.
fn repeat(
    kind: &'static dyn StoreKind,
    memory: &Memory,
    scenario: &Scenario,
    segment: usize,
    start: Option<Start>,
    first: &Ran,
) -> Result<(), Failure> {
    let second = run_segment(kind, memory, scenario, segment, start)?;
    let (a, b) = (&first.recording.events, &second.recording.events);
    let differs = a.iter().zip(b).position(|(a, b)| a != b);
    if a.len() == b.len() && differs.is_none() && first.history == second.history {
        return Ok(());
    }
    let at = differs.unwrap_or(a.len().min(b.len()));
    let text = format!("the same seed gave another run, from device event {at} on");
    Err(Failure::new(Rule::Repeat, text))
}

/// What was found, and which of it is a snapshot.
fn known(observed: &Observed, names: &Names) -> Vec<(Name, bool, Vec<Content>)> {
    observed
        .iter()
        .map(|(&name, found)| {
            let contents = found.contents.iter().filter_map(|content| content.ok()).collect();
            (name, names.get(&name).is_some_and(|entry| entry.snapshot), contents)
        })
        .collect()
}

/// Every subset of sectors where they are few; else every subset of writes where these are few,
/// and every single sector lost or alone.
fn subsets(writes: usize, sectors: usize, parts_max: u32) -> Vec<CutMode> {
    let all = |parts: usize| {
        let parts = u32::try_from(parts).ok().filter(|&parts| parts <= parts_max)?;
        Some(0..1u64 << parts)
    };
    if let Some(masks) = all(sectors) {
        return masks.map(CutMode::SectorMask).collect();
    }
    let mut modes = vec![CutMode::All, CutMode::Nothing];
    match all(writes) {
        Some(masks) => modes.extend(masks.map(CutMode::WriteMask)),
        None => modes.extend([CutMode::OnlyLast, CutMode::AllButOne, CutMode::Writes(500)]),
    }
    for sector in 0..sectors.min(64) {
        modes.extend([CutMode::SectorMask(1 << sector), CutMode::SectorMask(!(1 << sector))]);
    }
    modes
}

/// A scenario under way.
pub(super) struct Running<'a> {
    pub(super) kind: &'static dyn StoreKind,
    pub(super) memory: &'a Memory,
    pub(super) scenario: &'a Scenario,
    pub(super) budget: Budget,
    pub(super) rng: Rng,
    pub(super) empty_remaining_bytes: u64,
    pub(super) totals: Totals,
}

/// Runs a scenario with its cuts.
///
/// # Errors
/// The first rule that is broken.
pub fn run_scenario(
    kind: &'static dyn StoreKind,
    memory: &Memory,
    scenario: &Scenario,
    budget: Budget,
) -> Result<Totals, Box<Finding>> {
    let mut running = Running {
        kind,
        memory,
        scenario,
        budget,
        rng: Rng::stream(scenario.seed, 0x5ce0),
        empty_remaining_bytes: 0,
        totals: Totals { runs: 1, ..Totals::default() },
    };
    let mut start: Option<Start> = None;
    for segment in 0..scenario.segments.len() {
        let at = |failure| Box::new(Finding { failure, segment, cuts: Vec::new() });
        let ran = run_segment(kind, memory, scenario, segment, start.clone()).map_err(at)?;
        if scenario.seed.is_multiple_of(REPEAT_EVERY) {
            repeat(kind, memory, scenario, segment, start.clone(), &ran).map_err(at)?;
        }
        if let Some(failure) = ran.failure.clone() {
            return Err(at(failure));
        }
        running.totals.full += ran.full;
        if segment == 0 {
            running.empty_remaining_bytes = ran.remaining_bytes;
        }
        if running.budget.damages > 0 {
            running.damage(&ran).map_err(at)?;
        }
        let next = running.cut_everywhere(segment, &ran, start.as_ref()).map_err(|mut found| {
            found.segment = segment;
            found
        })?;
        match next {
            Some(next) => start = Some(next),
            None => break,
        }
    }
    Ok(running.totals)
}

impl Running<'_> {
    /// Cuts a segment at many events. Returns one of the outcomes, to go on from.
    fn cut_everywhere(
        &mut self,
        segment: usize,
        ran: &Ran,
        before: Option<&Start>,
    ) -> Result<Option<Start>, Box<Finding>> {
        let points = self.points(ran);
        let chosen = self.rng.index(points.len());
        let history = Rc::new(ran.history.clone());
        let mut next = None;
        let mut cursor = ran.recording.cursor();
        for (number, at_event) in points.into_iter().enumerate() {
            cursor.advance(at_event);
            for mode in self.modes(cursor.disk()) {
                let cut = Cut { at_event, mode, seed: self.rng.next_u64() };
                let outcome = self
                    .cut(&cursor, cut, ran, before)
                    .map_err(|failure| Box::new(Finding { segment, ..failure }))?;
                if number >= chosen && next.is_none() && at_event > ran.open_at {
                    next = outcome.map(|(image, observed, names)| Start {
                        image,
                        observed,
                        names,
                        history: Rc::clone(&history),
                        moment: ran.history.moment_of_cut(at_event),
                    });
                }
            }
        }
        Ok(next)
    }

    /// Events at which to cut, in order; the last one always.
    fn points(&mut self, ran: &Ran) -> Vec<usize> {
        let events = ran.recording.events.len();
        if self.budget.subset_parts > 0 {
            return (ran.history.first_write_ended().unwrap_or(0)..=events).collect();
        }
        if events < self.budget.points {
            return (0..=events).collect();
        }
        let mut points: Vec<usize> =
            (1..self.budget.points).map(|_| self.rng.index(events)).collect();
        points.push(events);
        points.sort_unstable();
        points.dedup();
        points
    }

    /// What survives the cuts at one place.
    fn modes(&mut self, disk: &Disk) -> Vec<CutMode> {
        let parts = self.budget.subset_parts;
        if parts > 0 {
            return subsets(disk.loose_writes(), disk.loose_sectors(), parts);
        }
        let fixed = self.budget.mode;
        let pick = |_| fixed.unwrap_or_else(|| CutMode::random(&mut self.rng));
        (0..self.budget.cuts_per_point).map(pick).collect()
    }

    /// One cut: recovers it and compares what is found with what may be. The contents are given
    /// back when nothing of them is in doubt.
    fn cut(
        &mut self,
        cursor: &Cursor<'_>,
        cut: Cut,
        ran: &Ran,
        before: Option<&Start>,
    ) -> Result<Option<(Image, Observed, Names)>, Finding> {
        let at = |failure| Finding { failure, segment: 0, cuts: vec![cut] };
        let image = cursor.cut(cut.mode, cut.seed);
        let opening = cut.at_event < ran.open_at;
        let double = self.rng.one_in(self.budget.double_every.max(1)) && !ran.lied;
        let mut options = self.recovery_options(cut.seed, double);
        if !ran.lied && self.rng.one_in(self.budget.space_every.max(1)) {
            options.empty_remaining_bytes = Some(self.empty_remaining_bytes);
        }
        options.check = !ran.lied;
        let recovered = match recover(self.kind, self.memory, image.clone(), &options) {
            Ok(recovered) => recovered,
            // A store that is not made yet need not be there.
            Err(failure) if failure.rule == Rule::Import && opening && before.is_none() => {
                return Ok(None);
            }
            Err(failure) if failure.rule == Rule::Import && ran.lied => {
                self.totals.refused += 1;
                return Ok(None);
            }
            Err(failure) => return Err(at(failure)),
        };
        let (history, moment) = match before {
            Some(before) if opening => (&*before.history, before.moment),
            _ => (&ran.history, ran.history.moment_of_cut(cut.at_event)),
        };
        let circumstances =
            Circumstances { all_completed: false, errors_allowed: ran.lied, lied: ran.lied };
        let names = history.check(moment, &recovered.observed, circumstances).map_err(at)?;
        self.totals.cuts += 1;
        if double {
            let expected = &recovered.observed;
            self.cut_again(&recovered.recording, expected, history, moment).map_err(|found| {
                let cuts = [vec![cut], found.cuts].concat();
                Finding { cuts, ..found }
            })?;
        }
        Ok((!ran.lied && !opening).then_some((image, recovered.observed, names)))
    }

    pub(super) fn recovery_options(&self, seed: u64, with_delays: bool) -> RecoveryOptions {
        let shape = &self.scenario.shape.device;
        let delay_max_ns = if with_delays { shape.delay_max_ns } else { 0 };
        let device = DeviceOptions { seed, delay_max_ns, record: with_delays, ..shape.clone() };
        RecoveryOptions { device, check: false, empty_remaining_bytes: None }
    }

    /// Cuts an import at every event of it. After its end, a second import finds the same.
    fn cut_again(
        &mut self,
        recording: &Recording,
        expected: &Observed,
        history: &History,
        moment: Moment,
    ) -> Result<(), Finding> {
        let mut cursor = recording.cursor();
        for at_event in 0..=recording.events.len() {
            cursor.advance(at_event);
            let last = at_event == recording.events.len();
            let mode = if last { CutMode::Nothing } else { CutMode::random(&mut self.rng) };
            let cut = Cut { at_event, mode, seed: self.rng.next_u64() };
            let at = |failure| Finding { failure, segment: 0, cuts: vec![cut] };
            let image = cursor.cut(mode, cut.seed);
            let mut options = self.recovery_options(cut.seed, false);
            options.check = true;
            let found = recover(self.kind, self.memory, image, &options).map_err(at)?;
            let result = history.check(moment, &found.observed, Circumstances::default());
            result.map_err(at)?;
            if last && found.observed != *expected {
                let text = format!("a second import found {:?}, not {expected:?}", found.observed);
                return Err(at(Failure::new(Rule::Idempotence, text)));
            }
            self.totals.cuts += 1;
            self.totals.double_cuts += 1;
        }
        Ok(())
    }
}
