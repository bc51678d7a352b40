//! Chooses cuts of a log, builds what is left of each, and verifies it.
//!
//! A state has everything up to a flush, and of what came after it, up to a later entry, any subset,
//! torn at sectors of 512 bytes.
//!
//! QEMU's `blklogwrites` adds an entry when the file below has ended the write or flush, and only
//! then tells the guest. So when the guest sends a flush, all that it knows to have ended is in the
//! log already, and the flush comes behind it: what a flush entry has before it contains all that
//! the flush has to cover. It can contain more: writes that ended between a flush's beginning and
//! its end are taken for durable here, though no one may rely on that. And the note of a round is sent
//! when the round was acknowledged: where it is in the log, everything that the round relies on is
//! before it. So a state is never worse than what a drive may leave, and what counts as acknowledged
//! in it was.
//!
//! One state in four is cut twice: what it becomes while it is imported and exported is logged as well,
//! and what is verified is what a cut of that log leaves.
//!
//! QEMU's block layer turns a write with FUA into a write and a flush, hence there are no entries
//! with that flag; one from elsewhere is kept whole.

use std::fmt;
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use io_engine::pool::{ImportOptions, Pool};
use spdk_rs::env::Memory;
use spdk_rs::env::cpu::CoreId;
use spdk_rs::reactor::{LocalReactor, ReactorConfig};

use super::image::Image;
use super::load::open;
use super::log::{Entry, EntryKind, Log, LogWriter};
use super::plan::Plan;
use super::verify::{Seen, verify};
use super::{ACK_OFFSET, DRIVE_BYTES, SECTOR_BYTES, device, mix, parse_ack};
use crate::rng::Rng;

const SECTOR: u64 = SECTOR_BYTES as u64;
/// One of so many states loses its power again while it is imported.
const CUT_TWICE_ONE_IN: u64 = 4;

/// One state: everything up to a flush, and what a seed leaves of that which came after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// The number of the flush in the log, from 0 on.
    pub flush: usize,
    /// The entry behind the last one of which anything may be there.
    end: usize,
    /// The seed of the subset.
    pub seed: u64,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.flush, self.seed)
    }
}

/// What was seen in many states.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// States.
    pub states: u64,
    /// Those of which the first import was cut as well.
    pub twice: u64,
    /// Flushes that they follow.
    pub flushes: u64,
    /// Rounds that were running when power failed.
    pub rounds: u64,
    /// Sectors after the flush that were kept, and that were lost.
    pub kept: u64,
    /// See `kept`.
    pub lost: u64,
    /// What was in them.
    pub seen: Seen,
}

/// A log with the places of flushes and notes.
#[derive(Debug)]
pub struct Recording {
    log: Log,
    seed: u64,
    /// Entries that are flushes.
    flushes: Vec<usize>,
    /// Entries that note acknowledged rounds, with the rounds.
    acks: Vec<(usize, u64)>,
}

impl Recording {
    /// Finds the flushes and the notes of a log.
    ///
    /// # Errors
    /// When it cannot be read, or no round was acknowledged.
    pub fn new(log: Log) -> Result<Self> {
        let is_flush =
            |(at, entry): (usize, &Entry)| (entry.kind == EntryKind::Flush).then_some(at);
        let flushes = log.entries.iter().enumerate().filter_map(is_flush).collect();
        let (mut acks, mut seed) = (Vec::new(), None);
        for (at, entry) in log.entries.iter().enumerate() {
            if entry.sectors > 0 && entry.sector * SECTOR == ACK_OFFSET {
                let (of, round) = parse_ack(&log.data(entry)?)
                    .with_context(|| format!("entry {at} notes no round"))?;
                ensure!(acks.len() as u64 == round, "entry {at} notes round {round} out of order");
                ensure!(*seed.get_or_insert(of) == of, "entry {at} is of another seed, {of}");
                acks.push((at, round));
            }
        }
        let seed = seed.context("the log notes no round: the load did not begin")?;
        Ok(Self { log, seed, flushes, acks })
    }

    /// The numbers of flushes, entries and acknowledged rounds.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.flushes.len(), self.log.entries.len(), self.acks.len())
    }

    /// The flushes behind the beginning of the load.
    fn eligible(&self) -> Range<usize> {
        let begun = self.acks.first().map_or(usize::MAX, |(at, _)| *at);
        self.flushes.partition_point(|at| *at < begun)..self.flushes.len()
    }

    /// The cut behind a flush that a seed chooses.
    ///
    /// # Errors
    /// When there is no such flush while the load ran.
    pub fn cut(&self, flush: usize, seed: u64) -> Result<Cut> {
        let eligible = self.eligible();
        ensure!(eligible.contains(&flush), "flush {flush}: the load ran during {eligible:?}");
        let begin = self.flushes[flush] + 1;
        // Behind the next flush, what came before it could not be missing.
        let end = self.flushes.get(flush + 1).copied().unwrap_or(self.log.entries.len());
        let mut rng = Rng::new(mix(&[seed, 1]));
        let end = if rng.one_in(4) { end } else { begin + rng.index(end - begin + 1) };
        Ok(Cut { flush, end, seed })
    }

    /// Chooses cuts by a seed, in the order of the log.
    ///
    /// # Errors
    /// When the log has no flush.
    pub fn choose(&self, count: usize, seed: u64) -> Result<Vec<Cut>> {
        let eligible = self.eligible();
        ensure!(!eligible.is_empty(), "there is no flush behind the beginning of the load");
        let mut rng = Rng::new(seed);
        let mut cut = |_| {
            let flush = eligible.start + rng.index(eligible.len());
            self.cut(flush, rng.next_u64() >> 32)
        };
        let mut cuts: Vec<Cut> = (0..count).map(&mut cut).collect::<Result<_>>()?;
        cuts.sort_unstable_by_key(|cut| (cut.flush, cut.end, cut.seed));
        Ok(cuts)
    }

    /// Verifies cuts, which are in the order of the log; `progress` learns of each.
    ///
    /// # Errors
    /// The first that is not as promised, with its name.
    pub fn verify(&self, cuts: &[Cut], mut progress: impl FnMut(&Totals)) -> Result<Totals> {
        let config = ReactorConfig { ring: false, ..ReactorConfig::new(CoreId(0)) };
        let reactor = LocalReactor::new(config, Memory::ordinary(64 << 20)?)?;
        let mut durable = Image::new(DRIVE_BYTES);
        let mut plan = Plan::new(self.seed);
        let (mut applied, mut totals) = (0, Totals::default());
        let (mut last_flush, mut last_round) = (None, None);
        for cut in cuts {
            let begin = self.flushes[cut.flush] + 1;
            for entry in &self.log.entries[applied..begin] {
                apply(&self.log, &mut durable, entry, || true)?;
            }
            applied = begin;
            let acked = self.acks.partition_point(|(at, _)| *at < cut.end) as u64 - 1;
            while plan.round < acked {
                let round = plan.next();
                plan.apply(&round);
            }
            let mut image = durable.clone();
            let (kept, lost) = leave(&self.log, &mut image, begin..cut.end, cut.seed)?;
            let own = plan.clone();
            let (seed, twice) = (cut.seed, cut.seed.is_multiple_of(CUT_TWICE_ONE_IN));
            let seen = reactor.block_on(async move {
                if twice {
                    image = cut_again(image, seed).await.context("a second cut")?;
                }
                verify(image, &own).await
            });
            let seen = seen.with_context(|| {
                format!(
                    "state {cut}: after flush {} (entry {}) and what is left of {} entries, {kept} \
                     sectors kept and {lost} lost, with round {acked} acknowledged",
                    cut.flush,
                    begin - 1,
                    cut.end - begin
                )
            })?;
            totals.states += 1;
            totals.twice += u64::from(twice);
            totals.flushes += u64::from(last_flush.replace(cut.flush) != Some(cut.flush));
            totals.rounds += u64::from(last_round.replace(acked) != Some(acked));
            totals.kept += kept;
            totals.lost += lost;
            totals.seen.add(seen);
            progress(&totals);
        }
        Ok(totals)
    }
}

/// Writes what is kept of an entry to an image.
fn apply(
    log: &Log,
    image: &mut Image,
    entry: &Entry,
    mut keep: impl FnMut() -> bool,
) -> Result<()> {
    if entry.sectors == 0 {
        return Ok(());
    }
    let data = log.data(entry)?;
    for (sector, bytes) in (entry.sector..).zip(data.chunks_exact(SECTOR_BYTES)) {
        if keep() {
            image.write(sector * SECTOR, bytes);
        }
    }
    Ok(())
}

/// Puts what is left of unflushed entries into an image. Counts sectors, kept and lost.
fn leave(log: &Log, image: &mut Image, entries: Range<usize>, seed: u64) -> Result<(u64, u64)> {
    let entries = &log.entries[entries];
    let mut rng = Rng::new(mix(&[seed, 2]));
    let special = rng.index(entries.len().max(1));
    let mode = rng.below(8);
    let (mut kept, mut lost) = (0, 0);
    for (at, entry) in entries.iter().enumerate() {
        let coin = rng.one_in(2);
        let keep = |rng: &mut Rng| match mode {
            0 => false,
            1 => true,
            2 => coin,
            3 => rng.one_in(2),
            4 => at != special,
            5 => at == special,
            6 => at != special || rng.one_in(2),
            _ => !rng.one_in(16),
        };
        let fua = entry.kind == EntryKind::WriteFua;
        apply(log, image, entry, || {
            let keep = fua || keep(&mut rng);
            *if keep { &mut kept } else { &mut lost } += 1;
            keep
        })?;
    }
    Ok((kept, lost))
}

/// Cuts the power once more, while what the first cut left is imported or exported again.
async fn cut_again(mut image: Image, seed: u64) -> Result<Image> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("log");
    let bdev = device::create(image.clone(), Some(LogWriter::create(&path)?));
    let pool = Pool::import(open(&bdev)?, &ImportOptions::default()).await?;
    pool.export().await?;
    let log = Log::open(&path)?;
    let mut rng = Rng::new(mix(&[seed, 3]));
    // Behind a flush, or before the first one.
    let is_flush = |entry: &Entry| entry.kind == EntryKind::Flush;
    let begins: Vec<usize> =
        (0..log.entries.len()).filter(|&at| at == 0 || is_flush(&log.entries[at - 1])).collect();
    let begin = begins.get(rng.index(begins.len())).copied().unwrap_or(0);
    let len = log.entries[begin..].iter().position(is_flush).unwrap_or(0);
    for entry in &log.entries[..begin] {
        apply(&log, &mut image, entry, || true)?;
    }
    leave(&log, &mut image, begin..begin + len, mix(&[seed, 4]))?;
    Ok(image)
}

/// Verifies the whole contents of a drive: everything that was written is there.
///
/// # Errors
/// When anything is not as promised.
pub fn verify_image(image: Image) -> Result<(u64, Seen)> {
    let mut record = [0; 24];
    image.read(ACK_OFFSET, &mut record);
    let (seed, acked) = parse_ack(&record).context("the drive notes no round")?;
    let mut plan = Plan::new(seed);
    while plan.round < acked {
        let round = plan.next();
        plan.apply(&round);
    }
    let config = ReactorConfig { ring: false, ..ReactorConfig::new(CoreId(0)) };
    let reactor = LocalReactor::new(config, Memory::ordinary(64 << 20)?)?;
    Ok((acked, reactor.block_on(async move { verify(image, &plan).await })?))
}
