//! What a pool costs: its I/O beside the device below it, and its recovery by the size of the pool.
//!
//! `pool-bench speed DIRECTORY|malloc SECONDS [LOAD]`, `pool-bench recovery DIRECTORY`, and
//! `pool-bench cold DIRECTORY`. Each line that is printed is a JSON object; `test/bench/pool` makes
//! tables of them.

#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::LocalBoxFuture;
use io_engine::pool::{DigestKind, ImportOptions, Pool, PoolOptions, Volume, VolumeOptions};
use io_engine_test::rng::Rng;
use spdk_rs::bdev::{Bdev, BdevDesc, IoHandle, OpenMode};
use spdk_rs::drivers::malloc::{self, MallocOptions};
use spdk_rs::drivers::uring::{self, FileOptions, UringOptions};
use spdk_rs::env::cpu::CoreId;
use spdk_rs::env::{DmaBuf, Memory};
use spdk_rs::reactor::{LocalReactor, PollMode, Reactor, ReactorConfig};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// What the load of the speed benchmark touches.
const AREA_BYTES: u64 = GIB;
/// The pool of the speed benchmark: room for the area twice.
const DISK_BYTES: u64 = 3 * GIB;
/// The journal of the recovery benchmark, the same for every size.
const JOURNAL_BYTES: u64 = 16 * MIB;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["speed", place, seconds] => speed(place, Duration::from_secs_f64(seconds.parse()?), ""),
        ["speed", place, seconds, named] => {
            speed(place, Duration::from_secs_f64(seconds.parse()?), named)
        }
        ["recovery", directory] => recovery(Path::new(directory)),
        ["cold", directory] => cold(Path::new(directory)),
        _ => bail!(
            "usage: pool-bench speed DIRECTORY|malloc SECONDS [LOAD] | recovery DIRECTORY | cold DIRECTORY"
        ),
    }
}

fn reactor() -> Result<LocalReactor> {
    let config = ReactorConfig { mode: PollMode::Busy, ..ReactorConfig::new(CoreId(0)) };
    Ok(LocalReactor::new(config, Memory::ordinary(256 << 20)?)?)
}

fn open(bdev: &Arc<Bdev>) -> Result<IoHandle> {
    Ok(BdevDesc::open(bdev, OpenMode::ReadWrite, "pool-bench", None)?.io_handle()?)
}

fn sparse_file(path: &Path, bytes: u64) -> Result<Arc<Bdev>> {
    let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
    file.set_len(bytes)?;
    let options = FileOptions { block_len: Some(4096), ..FileOptions::new("disk", path) };
    Ok(uring::create(&UringOptions::new(options))?)
}

/// Where I/O of the load goes.
trait Target {
    fn read(&self, at: u64, buf: DmaBuf) -> LocalBoxFuture<'_, (bool, DmaBuf)>;
    fn write(&self, at: u64, buf: DmaBuf) -> LocalBoxFuture<'_, (bool, DmaBuf)>;
    fn flush(&self) -> LocalBoxFuture<'_, bool>;
}

/// A volume of a pool.
struct Lvol(Rc<Volume>);

impl Target for Lvol {
    fn read(&self, at: u64, buf: DmaBuf) -> LocalBoxFuture<'_, (bool, DmaBuf)> {
        Box::pin(async move {
            let (status, buf) = self.0.read(at, buf).await;
            (status.is_success(), buf)
        })
    }

    fn write(&self, at: u64, buf: DmaBuf) -> LocalBoxFuture<'_, (bool, DmaBuf)> {
        Box::pin(async move {
            let (status, buf) = self.0.write(at, buf, false).await;
            (status.is_success(), buf)
        })
    }

    fn flush(&self) -> LocalBoxFuture<'_, bool> {
        Box::pin(async move { self.0.flush().await.is_success() })
    }
}

/// The device itself, in blocks of 4 KiB.
struct Bare(IoHandle, u64);

impl Target for Bare {
    fn read(&self, at: u64, buf: DmaBuf) -> LocalBoxFuture<'_, (bool, DmaBuf)> {
        let blocks = buf.len() as u64 / 4096 * self.1;
        Box::pin(async move {
            let done = self.0.read(buf, at * self.1, blocks).await;
            let good = done.status.is_success();
            (good, done.buf.into_one().expect("one buffer comes back"))
        })
    }

    fn write(&self, at: u64, buf: DmaBuf) -> LocalBoxFuture<'_, (bool, DmaBuf)> {
        let blocks = buf.len() as u64 / 4096 * self.1;
        Box::pin(async move {
            let done = self.0.write(buf, at * self.1, blocks).await;
            let good = done.status.is_success();
            (good, done.buf.into_one().expect("one buffer comes back"))
        })
    }

    fn flush(&self) -> LocalBoxFuture<'_, bool> {
        Box::pin(async move { self.0.flush().await.status.is_success() })
    }
}

/// One shape of load.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    write: bool,
    random: bool,
    blocks: u64,
    depth: u64,
    /// Writes per flush; 0 for none.
    flush_every: u64,
}

const fn load(name: &'static str, write: bool, depth: u64, flush_every: u64) -> Load {
    Load { name, write, random: true, blocks: 1, depth, flush_every }
}

const LOADS: [Load; 10] = [
    load("randwrite 4k q1", true, 1, 0),
    load("randwrite 4k q32", true, 32, 0),
    load("randwrite 4k q128", true, 128, 0),
    load("randwrite 4k q1, flush each", true, 1, 1),
    load("randwrite 4k q32, flush per 32", true, 32, 32),
    load("randread 4k q1", false, 1, 0),
    load("randread 4k q32", false, 32, 0),
    load("randread 4k q128", false, 128, 0),
    Load {
        name: "write 128k q32",
        write: true,
        random: false,
        blocks: 32,
        depth: 32,
        flush_every: 0,
    },
    Load {
        name: "read 128k q32",
        write: false,
        random: false,
        blocks: 32,
        depth: 32,
        flush_every: 0,
    },
];

/// I/Os per second of a load.
async fn rate(target: &dyn Target, load: Load, duration: Duration, seed: u64) -> Result<f64> {
    let reactor = Reactor::current().context("on a reactor")?;
    let clock = reactor.clock().clone();
    let begun = clock.ticks();
    let end = begun + clock.ticks_in(duration);
    let places = AREA_BYTES / 4096 / load.blocks;
    let (done, next) = (Cell::new(0_u64), Cell::new(seed));
    let lane = |lane: u64| {
        let (reactor, clock, done, next) = (&reactor, &clock, &done, &next);
        async move {
            let mut random = Rng::new(seed.wrapping_mul(1000) + lane);
            let mut buf = reactor.memory().alloc(usize::try_from(load.blocks * 4096)?)?;
            random.fill(buf.as_mut_slice());
            while clock.ticks() < end {
                let place =
                    if load.random { random.next_u64() } else { next.replace(next.get() + 1) };
                let at = place % places * load.blocks;
                let good;
                (good, buf) = if load.write {
                    buf.as_mut_slice()[..8].copy_from_slice(&place.to_le_bytes());
                    target.write(at, buf).await
                } else {
                    target.read(at, buf).await
                };
                ensure!(good, "{}: an I/O at block {at} failed", load.name);
                done.set(done.get() + 1);
                if load.flush_every > 0 && done.get() % load.flush_every == 0 {
                    ensure!(target.flush().await, "{}: a flush failed", load.name);
                }
            }
            Ok(())
        }
    };
    for result in futures::future::join_all((0..load.depth).map(lane)).await {
        result?;
    }
    let seconds = clock.duration_of(clock.ticks() - begun).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    Ok(done.get() as f64 / seconds)
}

fn speed(place: &str, duration: Duration, named: &str) -> Result<()> {
    let reactor = reactor()?;
    let named = named.to_owned();
    let make = |name: &str| -> Result<(Arc<Bdev>, Option<PathBuf>)> {
        if place == "malloc" {
            let options = MallocOptions {
                name: name.to_owned(),
                uuid: None,
                block_len: 4096,
                phys_block_len: 4096,
                num_blocks: DISK_BYTES / 4096,
            };
            return Ok((malloc::create(reactor.memory(), options)?, None));
        }
        let path = Path::new(place).join(format!("io-engine-bench-{name}"));
        Ok((sparse_file(&path, DISK_BYTES)?, Some(path)))
    };
    let (bare, bare_path) = make("bare")?;
    let (disk, disk_path) = make("pool")?;
    let result = reactor.block_on(async move { compare(bare, disk, duration, &named).await });
    for path in [bare_path, disk_path].into_iter().flatten() {
        std::fs::remove_file(path)?;
    }
    result
}

async fn compare(bare: Arc<Bdev>, disk: Arc<Bdev>, duration: Duration, named: &str) -> Result<()> {
    // A pool writes to ever new blocks: the kernel has to have memory or extents for all of them
    // before, as it has for the area that the bare device overwrites.
    for disk in [&bare, &disk] {
        let ratio = 4096 / u64::from(disk.info().block_len);
        fill_area(&Bare(open(disk)?, ratio), DISK_BYTES).await?;
    }
    let bare = Bare(open(&bare)?, 4096 / u64::from(bare.info().block_len));
    let kind = match std::env::var("POOL_DIGEST") {
        Ok(name) => name.parse::<DigestKind>()?,
        Err(_) => DigestKind::Sha256,
    };
    let options = PoolOptions { name: "bench".to_owned(), digest: kind, ..PoolOptions::default() };
    let pool = Pool::create(open(&disk)?, &options).await?;
    let volume = Lvol(pool.create_volume("v", AREA_BYTES, &VolumeOptions::default()).await?);
    fill_area(&volume, AREA_BYTES).await?;
    for load in LOADS.into_iter().filter(|load| load.name.contains(named)) {
        let (mut below, mut above) = (0.0, 0.0);
        let before = pool.stats();
        for round in 0..3 {
            below += rate(&bare, load, duration / 3, round + 1).await?;
            above += rate(&volume, load, duration / 3, round + 1).await?;
        }
        let after = pool.stats();
        let written = after.written_bytes - before.written_bytes;
        let journal = (after.journal_blocks_written - before.journal_blocks_written) * 4096;
        let (below, above) = (below / 3.0, above / 3.0);
        println!(
            "{{\"load\": \"{}\", \"bare_iops\": {below:.0}, \"pool_iops\": {above:.0}, \"ratio\": {:.3}, \
             \"written\": {written}, \"journal\": {journal}, \"checkpoints\": {}, \"checkpoint_max_us\": {}}}",
            load.name,
            above / below,
            after.checkpoint.count - before.checkpoint.count,
            after.checkpoint.max_ns / 1000,
        );
    }
    pool.export().await?;
    Ok(())
}

/// Writes everything once.
async fn fill_area(target: &dyn Target, bytes: u64) -> Result<()> {
    let reactor = Reactor::current().context("on a reactor")?;
    let mut buf = reactor.memory().alloc(1 << 20)?;
    Rng::new(1).fill(buf.as_mut_slice());
    for at in (0..bytes / 4096).step_by(256) {
        let good;
        (good, buf) = target.write(at, buf).await;
        ensure!(good, "filling block {at} failed");
    }
    ensure!(target.flush().await, "flushing failed");
    Ok(())
}

/// Reads of 128 KiB, one at a time, of a volume whose map is not in memory: in order, so that nodes
/// are read ahead, and scattered, so that each is waited for.
fn cold(directory: &Path) -> Result<()> {
    let path = directory.join("io-engine-bench-cold");
    let reactor = reactor()?;
    let disk = sparse_file(&path, DISK_BYTES)?;
    let result = reactor.block_on(async move { read_cold(disk).await });
    std::fs::remove_file(&path)?;
    result
}

async fn read_cold(disk: Arc<Bdev>) -> Result<()> {
    const BLOCKS: u64 = 32;
    let options = PoolOptions { name: "bench".to_owned(), ..PoolOptions::default() };
    let pool = Pool::create(open(&disk)?, &options).await?;
    let volume = Lvol(pool.create_volume("v", AREA_BYTES, &VolumeOptions::default()).await?);
    fill_area(&volume, AREA_BYTES).await?;
    drop(volume);
    pool.export().await?;
    drop(pool);
    let reactor = Reactor::current().context("on a reactor")?;
    let places = AREA_BYTES / 4096 / BLOCKS;
    // Twice, since the first read of a file may find the host's own caches cold.
    for order in [1, 3001, 1, 3001, 1, 3001] {
        let pool = Pool::import(open(&disk)?, &ImportOptions::default()).await?;
        let volume = Lvol(pool.volume("v").context("the volume")?);
        let before = pool.stats();
        let begun = reactor.clock().ticks();
        let mut buf = reactor.memory().alloc(usize::try_from(BLOCKS * 4096)?)?;
        for number in 0..places {
            let good;
            (good, buf) = volume.read(number * order % places * BLOCKS, buf).await;
            ensure!(good, "read {number} failed");
        }
        let seconds = reactor.clock().duration_of(reactor.clock().ticks() - begun).as_secs_f64();
        let stats = pool.stats();
        println!(
            "{{\"order\": \"{}\", \"mib_per_s\": {:.0}, \"nodes_waited_for\": {}, \"nodes_read_ahead\": {}}}",
            if order == 1 { "sequential" } else { "scattered" },
            (AREA_BYTES / MIB) as f64 / seconds,
            stats.nodes_read - before.nodes_read,
            stats.nodes_read_ahead,
        );
        drop(volume);
        pool.export().await?;
    }
    Ok(())
}

/// Bytes of memory that the process has in use and its peak, from the kernel.
fn resident_kib() -> Result<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find(|line| line.starts_with(name)).context("a line")?;
        Ok(line.split_whitespace().nth(1).context("a number")?.parse()?)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

fn recovery(directory: &Path) -> Result<()> {
    for bytes in [GIB, 100 * GIB, 4096 * GIB] {
        let path = directory.join("io-engine-bench-recovery");
        let reactor = reactor()?;
        let disk = sparse_file(&path, bytes)?;
        // The peak counts from here on.
        std::fs::write("/proc/self/clear_refs", "5")?;
        let result = reactor.block_on(async move { recover(disk, bytes).await });
        std::fs::remove_file(&path)?;
        result?;
    }
    Ok(())
}

async fn recover(disk: Arc<Bdev>, bytes: u64) -> Result<()> {
    let journal_bytes = Some(JOURNAL_BYTES);
    let options = PoolOptions { name: "bench".to_owned(), journal_bytes, ..PoolOptions::default() };
    let pool = Pool::create(open(&disk)?, &options).await?;
    let size = bytes / 2;
    let volume = pool.create_volume("v", size, &VolumeOptions::default()).await?;
    let mut random = Rng::new(bytes);
    let reactor = Reactor::current().context("on a reactor")?;
    // Each write has a record of its own, so that the journal fills; it ends just before the pool
    // would make a checkpoint.
    let mut writes = 0_u64;
    while pool.stats().journal_fill_blocks * 2 < pool.stats().journal_blocks - 8 {
        let mut buf = reactor.memory().alloc(4096)?;
        random.fill(buf.as_mut_slice());
        let (status, _) = volume.write(random.below(size / 4096), buf, false).await;
        ensure!(status.is_success(), "write {writes}: {status}");
        writes += 1;
    }
    ensure!(volume.flush().await.is_success(), "flush");
    let filled = pool.stats();
    drop((volume, pool));
    let before = resident_kib()?;
    let pool = Pool::import(open(&disk)?, &ImportOptions::default()).await?;
    let after = resident_kib()?;
    let stats = pool.stats();
    println!(
        "{{\"pool_gib\": {}, \"writes\": {writes}, \"dirty_nodes\": {}, \"records\": {}, \
         \"transactions\": {}, \"recovery_ms\": {:.1}, \"rss_before_kib\": {}, \"rss_after_kib\": {}}}",
        bytes / GIB,
        filled.dirty_nodes,
        stats.recovery_records,
        stats.recovery_transactions,
        stats.recovery_ns as f64 / 1e6,
        before.0,
        after.0,
    );
    bounded(&pool, size, &mut random).await
}

/// The nodes in memory while a load touches far more of them than may be kept.
async fn bounded(pool: &Rc<Pool>, size: u64, random: &mut Rng) -> Result<()> {
    let volume = pool.volume("v").context("the volume")?;
    let reactor = Reactor::current().context("on a reactor")?;
    let mut most = 0;
    for number in 0..40_000_u64 {
        let mut buf = reactor.memory().alloc(4096)?;
        buf.as_mut_slice()[..8].copy_from_slice(&number.to_le_bytes());
        let (status, _) = volume.write(random.below(size / 4096), buf, false).await;
        ensure!(status.is_success(), "write {number}: {status}");
        let stats = pool.stats();
        most = most.max(stats.cached_nodes + stats.dirty_nodes);
    }
    let stats = pool.stats();
    println!(
        "{{\"pool_gib\": {}, \"nodes_most\": {most}, \"clean_nodes_max\": {}, \"rss_kib\": {}}}",
        size * 2 / GIB,
        stats.cached_nodes_max,
        resident_kib()?.0,
    );
    pool.export().await?;
    Ok(())
}
