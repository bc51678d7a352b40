//! Imports what a cut left, and compares it with what was promised: every round that was
//! acknowledged is wholly there; of the one that was running, each write is wholly there or wholly
//! absent; the pool's own check finds nothing.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail, ensure};
use io_engine::pool::{ImportOptions, Pool, VolumeInfo};
use spdk_rs::reactor::Reactor;

use super::content::{Found, recognise};
use super::image::Image;
use super::load::open;
use super::plan::{Change, Dataset, End, Plan, Round, Slot};
use super::{BLOCK_BYTES, device};

/// Blocks per read: one more than what one lowest node covers, so that reads begin anywhere in it.
const READ_BLOCKS: u64 = 65;

/// What was seen in a state, or the sums over many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Transactions that recovery applied.
    pub replayed: u64,
    /// States in which it applied any.
    pub with_replay: u64,
    /// Blocks of data that were compared.
    pub blocks: u64,
    /// Writes of running rounds that were there, and that were not.
    pub present: u64,
    /// See `present`.
    pub absent: u64,
    /// Changes of volumes of running rounds that were there, and that were not.
    pub changed: u64,
    /// See `changed`.
    pub unchanged: u64,
}

impl Seen {
    /// Adds what was seen in another state.
    pub fn add(&mut self, other: Self) {
        self.replayed += other.replayed;
        self.with_replay += other.with_replay;
        self.blocks += other.blocks;
        self.present += other.present;
        self.absent += other.absent;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
    }
}

/// Looks at a state of which all rounds that were applied to the plan were acknowledged.
///
/// # Errors
/// The first thing that is not as promised.
pub async fn verify(image: Image, plan: &Plan) -> Result<Seen> {
    let pool = import(image).await?;
    let mut seen = compare(&pool, plan).await?;
    let stats = pool.stats();
    seen.replayed = stats.recovery_transactions;
    seen.with_replay = u64::from(stats.recovery_transactions > 0);
    // Ends what the pool does in the background, so that nothing of it goes on in the next state.
    pool.export().await.context("the export")?;
    Ok(seen)
}

async fn import(image: Image) -> Result<Rc<Pool>> {
    let bdev = device::create(image, None);
    let pool = Pool::import(open(&bdev)?, &ImportOptions::default()).await.context("the import")?;
    let report = pool.check().await;
    ensure!(
        report.is_clean(),
        "the check found {} errors: {:#?}",
        report.error_count,
        report.errors
    );
    Ok(pool)
}

/// Compares everything with the plan.
async fn compare(pool: &Rc<Pool>, plan: &Plan) -> Result<Seen> {
    let next = plan.next();
    let mut after = plan.clone();
    after.apply(&next);
    let listed = pool.volumes();
    let is_changed = is_changed(&listed, plan, &after, &next)?;
    let now = if is_changed == Some(true) { &after } else { plan };
    let mut seen = Seen::default();
    match is_changed {
        Some(true) => seen.changed += 1,
        Some(false) => seen.unchanged += 1,
        None => {}
    }
    // A change at the end of a round is made by a checkpoint, which has all that came before.
    let whole = is_changed == Some(true) && next.end == End::Change;
    for info in &listed {
        let name = &info.name;
        let dataset = &now.datasets[name];
        let found = contents(pool, info, dataset, plan.seed).await?;
        seen.blocks += found.len() as u64;
        // What the change has made has nothing of its own yet.
        let before = plan.datasets.get(name).unwrap_or(dataset);
        let own = |slot: &&Slot| slot.volume == *name && !whole;
        let slots: Vec<&Slot> = next.slots.iter().filter(own).collect();
        let before = if whole { dataset } else { before };
        compare_dataset(name, before, &found, &slots)?;
        for slot in slots {
            let there = compare_slot(before, &found, slot, next.number)
                .with_context(|| format!("'{name}' in round {}: {slot:?}", next.number))?;
            *if there { &mut seen.present } else { &mut seen.absent } += 1;
        }
    }
    Ok(seen)
}

/// Whether the change of the running round has happened; none when that cannot be seen.
fn is_changed(
    listed: &[VolumeInfo],
    before: &Plan,
    after: &Plan,
    next: &Round,
) -> Result<Option<bool>> {
    let mut names: Vec<&str> = listed.iter().map(|info| &*info.name).collect();
    names.sort_unstable();
    let are = |plan: &Plan| plan.datasets.keys().eq(&names);
    match (are(before), are(after), &next.change) {
        (true, _, None | Some(Change::Decouple(_))) => Ok(None),
        (true, _, _) => Ok(Some(false)),
        (_, true, _) => Ok(Some(true)),
        _ => bail!(
            "there are {names:?} instead of {:?}, with {:?} on its way",
            before.datasets.keys(),
            next.change
        ),
    }
}

/// What all blocks of a volume hold that may have been written.
async fn contents(
    pool: &Rc<Pool>,
    info: &VolumeInfo,
    dataset: &Dataset,
    seed: u64,
) -> Result<BTreeMap<u64, Found>> {
    let name = &info.name;
    let volume = pool.volume(name).with_context(|| format!("'{name}'"))?;
    let bytes = dataset.size_blocks * BLOCK_BYTES as u64;
    ensure!(
        info.size_bytes == bytes && info.snapshot == dataset.snapshot,
        "'{name}' should have {bytes} bytes: {info:?}"
    );
    let reactor = Reactor::current().context("on a reactor")?;
    let mut found = BTreeMap::new();
    for window in &dataset.windows {
        let mut at = window.start;
        while at < window.end {
            let count = READ_BLOCKS.min(window.end - at);
            let buf = reactor.memory().alloc(usize::try_from(count)? * BLOCK_BYTES)?;
            let (status, buf) = volume.read(at, buf).await;
            ensure!(status.is_success(), "'{name}': reading {count} blocks at {at}: {status}");
            for (block, data) in (at..).zip(buf.as_slice().chunks_exact(BLOCK_BYTES)) {
                found.insert(block, recognise(data, seed, block));
            }
            at += count;
        }
    }
    let mapped = found.values().filter(|found| **found != Found::Zeroes).count() as u64;
    let counted = info.mapped_bytes / BLOCK_BYTES as u64;
    ensure!(mapped == counted, "'{name}' has {counted} blocks, but {mapped} were found");
    Ok(found)
}

fn expected(dataset: &Dataset, block: u64) -> Found {
    dataset.blocks.get(&block).map_or(Found::Zeroes, |stamp| Found::Written(*stamp))
}

/// Compares the blocks of a volume that the running round does not touch.
fn compare_dataset(
    name: &str,
    dataset: &Dataset,
    found: &BTreeMap<u64, Found>,
    slots: &[&Slot],
) -> Result<()> {
    let touched = |block: u64| {
        slots.iter().any(|slot| slot.ranges.iter().any(|range| range.contains(&block)))
    };
    for (&block, is) in found {
        let should = expected(dataset, block);
        if *is != should && !touched(block) {
            bail!("block {block} of '{name}' should hold {should}, but holds {is}");
        }
    }
    Ok(())
}

/// Compares the blocks of a slot of the running round; tells whether any of its steps is there.
fn compare_slot(
    dataset: &Dataset,
    found: &BTreeMap<u64, Found>,
    slot: &Slot,
    round: u64,
) -> Result<bool> {
    // Which block holds what after a step; before the first, what was there before.
    let after = |steps: usize, block: u64| match steps.checked_sub(1) {
        None => expected(dataset, block),
        Some(step) => {
            let stamp = slot.stamp(dataset.number, round, step);
            stamp.map_or(Found::Zeroes, Found::Written)
        }
    };
    let is =
        |steps: usize| slot.blocks().all(|block| found.get(&block) == Some(&after(steps, block)));
    match (0..=slot.steps.len()).find(|&steps| is(steps)) {
        Some(steps) => Ok(steps > 0),
        None => {
            let list = |block| found.get(&block).map(|is| format!("block {block}: {is}"));
            let list: Vec<_> = slot.blocks().filter_map(list).collect();
            bail!("it is neither there nor absent as a whole: {}", list.join(", "))
        }
    }
}
