//! Does the rounds of the plan on a new pool, and notes each one that was acknowledged behind the
//! pool on the same drive, without a flush: where that note is in the drive's log, the round was
//! acknowledged before.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use io_engine::pool::{Pool, PoolOptions, Volume, VolumeOptions};
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{Bdev, BdevDesc, IoHandle, OpenMode};
use spdk_rs::env::DmaBuf;
use spdk_rs::reactor::Reactor;

use super::plan::{Change, End, Plan, Round, Slot, Step};
use super::{ACK_OFFSET, BLOCK_BYTES, DRIVE_BYTES, JOURNAL_BYTES, ack_record, content};

/// Slots of a round that are written side by side.
const IN_FLIGHT: usize = 16;

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so long.
    Elapsed(Duration),
    /// After so many rounds.
    Rounds(u64),
}

/// What a load did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// Rounds that were acknowledged.
    pub rounds: u64,
    /// Blocks of 4 KiB that were written.
    pub blocks: u64,
    /// Checkpoints of the pool.
    pub checkpoints: u64,
    /// Flushes of the drive.
    pub flushes: u64,
}

/// Opens a drive for I/O.
///
/// # Errors
/// When it cannot be opened.
pub fn open(bdev: &Arc<Bdev>) -> Result<IoHandle> {
    Ok(BdevDesc::open(bdev, OpenMode::ReadWrite, "pool-cut", None)?.io_handle()?)
}

struct Load {
    drive: IoHandle,
    pool: Rc<Pool>,
    volumes: BTreeMap<String, Rc<Volume>>,
    plan: Plan,
    blocks: Cell<u64>,
}

/// Runs the load of a seed on a drive. The pool is left as it is, without an export.
///
/// # Errors
/// When anything fails that the plan does.
pub async fn run(bdev: Arc<Bdev>, seed: u64, until: Until) -> Result<Done> {
    let drive = open(&bdev)?;
    let size = bdev.size_bytes();
    ensure!(size == DRIVE_BYTES, "the drive has {size} bytes instead of {DRIVE_BYTES}");
    let (name, journal_bytes) = ("cut".to_owned(), Some(JOURNAL_BYTES));
    let options = PoolOptions { name, journal_bytes, ..PoolOptions::default() };
    let pool = Pool::create(open(&bdev)?, &options).await?;
    let plan = Plan::new(seed);
    let mut volumes = BTreeMap::new();
    for (name, dataset) in &plan.datasets {
        let size = dataset.size_blocks * BLOCK_BYTES as u64;
        let volume = pool.create_volume(name, size, &VolumeOptions::default()).await?;
        volumes.insert(name.clone(), volume);
    }
    let mut load = Load { drive, pool, volumes, plan, blocks: Cell::new(0) };
    load.acknowledge(0).await?;
    let clock = Reactor::current().context("on a reactor")?.clock().clone();
    let begun = clock.ticks();
    loop {
        let over = match until {
            Until::Elapsed(duration) => clock.duration_of(clock.ticks() - begun) >= duration,
            Until::Rounds(rounds) => load.plan.round >= rounds,
        };
        if over {
            break;
        }
        let round = load.plan.next();
        load.round(&round).await.with_context(|| format!("round {}", round.number))?;
        load.plan.apply(&round);
        load.acknowledge(round.number).await?;
    }
    let stats = load.pool.stats();
    Ok(Done {
        rounds: load.plan.round,
        blocks: load.blocks.get(),
        checkpoints: stats.checkpoint.count,
        flushes: stats.flush.count,
    })
}

fn good(status: NvmeStatus, what: impl FnOnce() -> String) -> Result<()> {
    ensure!(status.is_success(), "{}: {status}", what());
    Ok(())
}

impl Load {
    /// Notes that a round was acknowledged.
    async fn acknowledge(&self, round: u64) -> Result<()> {
        let mut buf = self.drive.dma_malloc(BLOCK_BYTES)?;
        buf.fill(0);
        let record = ack_record(self.plan.seed, round);
        buf.as_mut_slice()[..record.len()].copy_from_slice(&record);
        let block_len = u64::from(self.drive.bdev().info().block_len);
        let (at, count) = (ACK_OFFSET / block_len, BLOCK_BYTES as u64 / block_len);
        let done = self.drive.write(buf, at, count).await;
        good(done.status, || format!("noting round {round}"))
    }

    fn volume(&self, name: &str) -> Result<&Rc<Volume>> {
        self.volumes.get(name).with_context(|| format!("volume '{name}'"))
    }

    async fn round(&mut self, round: &Round) -> Result<()> {
        let fua = round.end == End::Fua;
        let last = round.slots.len() - usize::from(fua);
        let writes = stream::iter(&round.slots[..last])
            .map(|slot| self.slot(slot, round.number, false))
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<()>();
        let change = async {
            match &round.change {
                Some(change) => self.change(change).await,
                None => Ok(None),
            }
        };
        let made = match round.end {
            End::Change => {
                writes.await?;
                change.await?
            }
            End::Flush | End::Fua => futures::try_join!(writes, change)?.1,
        };
        match round.end {
            End::Flush => good(self.volume("v1")?.flush().await, || "flush".to_owned())?,
            End::Fua => self.slot(&round.slots[last], round.number, true).await?,
            End::Change => {}
        }
        if let Some(volume) = made {
            self.volumes.insert(volume.name(), volume);
        }
        if let Some(Change::Delete(name)) = &round.change {
            self.volumes.remove(name);
        }
        Ok(())
    }

    async fn slot(&self, slot: &Slot, round: u64, fua: bool) -> Result<()> {
        let volume = self.volume(&slot.volume)?;
        for (number, step) in slot.steps.iter().enumerate() {
            let status = match (step, &slot.ranges[..]) {
                (Step::Unmap, [range]) => volume.unmap(range.start, range.end - range.start).await,
                (_, [range]) => {
                    let buf = self.data(slot, round, number, range.start..range.end)?;
                    volume.write(range.start, buf, fua).await.0
                }
                (_, ranges) => {
                    let mut pieces = Vec::with_capacity(ranges.len());
                    for range in ranges {
                        let buf = self.data(slot, round, number, range.start..range.end)?;
                        pieces.push((range.start, buf));
                    }
                    volume.transaction(pieces, fua).await
                }
            };
            good(status, || format!("step {number} of {slot:?}"))?;
        }
        Ok(())
    }

    fn data(
        &self,
        slot: &Slot,
        round: u64,
        step: usize,
        range: std::ops::Range<u64>,
    ) -> Result<DmaBuf> {
        let count = range.end - range.start;
        let mut buf = self.drive.dma_malloc(usize::try_from(count)? * BLOCK_BYTES)?;
        let volume = self.plan.datasets[&slot.volume].number;
        let stamp = slot.stamp(volume, round, step).context("a step that writes")?;
        for (bytes, block) in buf.as_mut_slice().chunks_exact_mut(BLOCK_BYTES).zip(range) {
            content::fill(bytes, self.plan.seed, block, stamp);
        }
        self.blocks.set(self.blocks.get() + count);
        Ok(buf)
    }

    async fn change(&self, change: &Change) -> Result<Option<Rc<Volume>>> {
        let pool = &self.pool;
        Ok(match change {
            Change::Snapshot { of, name } => Some(pool.snapshot(self.volume(of)?, name).await?),
            Change::Clone { of, name } => Some(pool.clone_volume(self.volume(of)?, name).await?),
            Change::Delete(name) => {
                pool.delete_volume(name).await?;
                None
            }
            Change::Decouple(name) => {
                pool.decouple(self.volume(name)?).await?;
                None
            }
        })
    }
}
