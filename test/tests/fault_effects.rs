//! What faults do: to data, to time, to order; together, again, and on several cores.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use futures::executor::block_on;
use futures::future::join_all;
use io_engine::core::Engine;
use io_engine::core::fault_injection::{FaultInjections, InjectionInfo, InjectionSpec};
use io_engine_test::fixture;
use io_engine_test::rng::Rng;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{
    Bdev, BdevCore, BdevDesc, IoBuf, IoCompletion, IoFuture, IoHandle, IoRequest, IoType, OpenMode,
    Registry,
};
use spdk_rs::drivers::malloc::{self, MallocOptions};
use spdk_rs::env::{Clock, DmaBuf, Memory, VirtualClock};
use spdk_rs::reactor::{LocalReactor, ReactorConfig, sleep, yield_now};
use spdk_rs_sys::cpu::{self, CoreId};

const OK: NvmeStatus = NvmeStatus::SUCCESS;
const FAILED: NvmeStatus = NvmeStatus::DATA_TRANSFER_ERROR;

/// A malloc device of 256 blocks on this thread's reactor, whose time is virtual.
struct Rig {
    faults: Arc<FaultInjections>,
    bdev: Arc<Bdev>,
    registry: Arc<Registry>,
    handle: IoHandle,
    reactor: LocalReactor,
}

impl Rig {
    fn new(block_len: u32) -> Result<Self> {
        let memory = Memory::ordinary(16 << 20)?;
        let clock = Clock::Virtual(VirtualClock::default());
        let config = ReactorConfig { clock, ring: false, ..ReactorConfig::new(CoreId(0)) };
        let reactor = LocalReactor::new(config, memory.clone())?;
        let options = MallocOptions {
            name: "m".to_owned(),
            uuid: None,
            block_len,
            phys_block_len: block_len,
            num_blocks: 256,
        };
        let bdev = malloc::create(&memory, options)?;
        let registry = Registry::new();
        registry.register(&bdev)?;
        let faults = Arc::new(FaultInjections::new(&registry, &[reactor.handle()]));
        let handle = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None)?.io_handle()?;
        Ok(Self { faults, bdev, registry, handle, reactor })
    }

    fn add(&self, query: &str) -> Result<u64> {
        let spec = InjectionSpec::parse(&format!("inject://m?{query}"))?;
        let faults = Arc::clone(&self.faults);
        Ok(self.reactor.block_on(async move { faults.add(spec).await })?.id)
    }

    fn info(&self, id: u64) -> Result<InjectionInfo> {
        let all = self.faults.list(None);
        all.into_iter().find(|info| info.id == id).ok_or_else(|| anyhow!("no injection {id}"))
    }

    fn clear(&self) {
        let faults = Arc::clone(&self.faults);
        self.reactor.block_on(async move { faults.clear(None).await });
    }

    fn pass(&self, time: Duration) {
        self.reactor.block_on(sleep(time));
    }

    fn turns(&self, count: usize) {
        self.reactor.block_on(async move {
            for _ in 0..count {
                yield_now().await;
            }
        });
    }

    fn end(&self, io: IoFuture) -> IoCompletion {
        self.reactor.block_on(io)
    }

    fn buf(&self, blocks: u64, seed: u64) -> Result<DmaBuf> {
        let len = usize::try_from(blocks)? * self.bdev.info().block_len as usize;
        let mut buf = self.reactor.memory().alloc(len)?;
        Rng::new(seed).fill(buf.as_mut_slice());
        Ok(buf)
    }

    fn write(&self, offset: u64, blocks: u64, seed: u64) -> Result<NvmeStatus> {
        let done = self.end(self.handle.write(self.buf(blocks, seed)?, offset, blocks));
        let back = done.buf.into_one().ok_or_else(|| anyhow!("the buffer is lost"))?;
        ensure!(back.as_slice() == self.buf(blocks, seed)?.as_slice(), "the buffer was changed");
        Ok(done.status)
    }

    fn read(&self, offset: u64, blocks: u64) -> Result<Vec<u8>> {
        let done = self.end(self.handle.read(self.buf(blocks, 99)?, offset, blocks));
        let buf = done.ok()?.into_one().ok_or_else(|| anyhow!("the buffer is lost"))?;
        Ok(buf.as_slice().to_vec())
    }

    fn finish(self) -> Result<()> {
        self.clear();
        self.turns(5);
        let in_use = BdevCore::of(&self.reactor).slots_in_use();
        ensure!(in_use == 0, "{in_use} slots are in use");
        Ok(())
    }
}

/// Bytes that differ.
fn differences(one: &[u8], other: &[u8]) -> Vec<usize> {
    one.iter().zip(other).enumerate().filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect()
}

#[test]
fn a_window_counts_from_the_add() -> Result<()> {
    let rig = Rig::new(512)?;
    rig.pass(Duration::from_secs(3));
    let id = rig.add("op=write&begin_at=10&end_at=20")?;
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(rig.write(0, 1, 1)?);
        rig.pass(Duration::from_millis(5));
    }
    // At 0, 5, 10, 15, 20 and 25 ms; what an I/O itself takes is far less than one.
    ensure!(seen == [OK, OK, FAILED, FAILED, OK, OK], "{seen:?}");
    ensure!(rig.info(id)?.matched == 2, "outside of the window nothing is counted");
    rig.finish()
}

#[test]
fn delays_take_their_time_at_both_stages() -> Result<()> {
    for stage in ["submission", "completion"] {
        let rig = Rig::new(512)?;
        rig.add(&format!("op=read&type=delay&delay_us=1500&stage={stage}"))?;
        let read = rig.end(rig.handle.read(rig.buf(1, 0)?, 0, 1));
        ensure!((1_500_000..1_510_000).contains(&read.latency_ticks), "{}", read.latency_ticks);
        let write = rig.end(rig.handle.write(rig.buf(1, 0)?, 0, 1));
        ensure!(write.latency_ticks < 10_000, "{}", write.latency_ticks);
        // Many at once take it together.
        let many = (0..10).map(|at| Ok(rig.handle.read(rig.buf(1, 0)?, at, 1)));
        let many = join_all(many.collect::<Result<Vec<_>>>()?);
        for done in rig.reactor.block_on(many) {
            ensure!((1_500_000..1_510_000).contains(&done.latency_ticks), "{done:?}");
        }
        rig.finish()?;
    }
    Ok(())
}

#[test]
fn data_are_changed_on_the_device_and_not_in_the_buffer() -> Result<()> {
    let rig = Rig::new(512)?;
    let whole = rig.buf(4, 1)?;
    for (query, count) in [
        ("op=write&type=bit_flip", 1..2),
        ("op=write&type=data&corrupt_offset=5&corrupt_value=255", 1..2),
        ("op=write&type=data", 1500..2049),
        ("op=read&type=bit_flip", 1..2),
        ("op=read&type=data", 1500..2049),
    ] {
        let id = rig.add(&format!("{query}&retries=1&seed=3"))?;
        ensure!(rig.write(0, 4, 1)? == OK, "{query}");
        let changed = differences(&rig.read(0, 4)?, whole.as_slice());
        ensure!(count.contains(&changed.len()), "{query}: {} bytes differ", changed.len());
        ensure!(rig.info(id)?.hits == 1, "{query}");
        let of_read = query.starts_with("op=read");
        let stays = differences(&rig.read(0, 4)?, whole.as_slice()).is_empty();
        ensure!(stays == of_read, "{query}: only a write's fault stays");
    }
    rig.finish()
}

#[test]
fn writes_are_torn_lost_and_misdirected() -> Result<()> {
    for block_len in [512, 4096] {
        let rig = Rig::new(block_len)?;
        let (old, new) = (rig.buf(256, 1)?, rig.buf(4, 2)?);
        let bytes = new.len();
        rig.add("op=write&type=torn&after=1&retries=1")?;
        ensure!(rig.write(0, 256, 1)? == OK, "the first passes");
        ensure!(rig.write(0, 4, 2)? == OK, "a torn write ends well");
        let found = rig.read(0, 256)?;
        let cut = found[..bytes].iter().zip(new.as_slice()).take_while(|(a, b)| a == b).count();
        ensure!(cut.is_multiple_of(512) && (512..bytes).contains(&cut), "{cut} of {bytes} bytes");
        ensure!(found[cut..] == old.as_slice()[cut..], "the rest is old");
        rig.clear();
        for kind in ["lost", "misdirected&distance=100", "misdirected"] {
            ensure!(rig.write(0, 256, 1)? == OK, "the old content");
            rig.add(&format!("op=write&type={kind}&retries=1"))?;
            ensure!(rig.write(0, 4, 2)? == OK, "{kind}: it ends well");
            let found = rig.read(0, 256)?;
            ensure!(found[..bytes] == old.as_slice()[..bytes], "{kind}: the place is old");
            let changed = differences(&found, old.as_slice());
            match kind {
                "lost" => ensure!(changed.is_empty(), "nothing changed"),
                "misdirected" => ensure!(changed.len() > bytes / 2, "somewhere it is"),
                _ => {
                    let at = 100 * block_len as usize;
                    ensure!(found[at..at + bytes] == *new.as_slice(), "100 blocks on");
                }
            }
            rig.clear();
        }
        rig.finish()?;
    }
    Ok(())
}

#[test]
fn one_sector_cannot_be_torn() -> Result<()> {
    let rig = Rig::new(512)?;
    let id = rig.add("op=write&type=torn")?;
    ensure!(rig.write(0, 1, 1)? == OK && rig.write(0, 2, 1)? == OK, "they end well");
    ensure!(rig.info(id)?.matched == 1, "{:?}", rig.info(id)?);
    rig.finish()
}

#[test]
fn a_stale_read_finds_what_was_there_before() -> Result<()> {
    let rig = Rig::new(512)?;
    let (first, second) = (rig.buf(8, 1)?, rig.buf(4, 2)?);
    ensure!(rig.write(0, 8, 1)? == OK, "a write");
    rig.add("op=read&type=stale&retries=1")?;
    ensure!(rig.write(2, 4, 2)? == OK, "a write");
    let stale = rig.read(0, 8)?;
    ensure!(
        stale == first.as_slice(),
        "the old content: {:?}",
        differences(&stale, first.as_slice())
    );
    ensure!(rig.read(2, 4)? == second.as_slice(), "the next read is fresh");
    rig.finish()
}

#[test]
fn a_dropped_flush_and_a_power_cut_lose_data_together() -> Result<()> {
    for dropped in [false, true] {
        let rig = Rig::new(512)?;
        ensure!(rig.write(0, 8, 1)? == OK, "a write");
        if dropped {
            rig.add("type=dropped_flush")?;
        }
        let cut = rig.add("op=read&type=power_cut")?;
        ensure!(rig.write(0, 8, 2)? == OK, "a write");
        ensure!(rig.end(rig.handle.flush()).status == OK, "the flush says that it is safe");
        let status = rig.end(rig.handle.read(rig.buf(8, 0)?, 0, 8)).status;
        ensure!(status == NvmeStatus::ABORTED_POWER_LOSS, "{status}");
        ensure!(rig.info(cut)?.power_off, "the power is off");
        rig.clear();
        let expected = rig.buf(8, if dropped { 1 } else { 2 })?;
        ensure!(rig.read(0, 8)? == expected.as_slice(), "dropped: {dropped}");
        rig.finish()?;
    }
    Ok(())
}

#[test]
fn gathered_io_changes_places() -> Result<()> {
    let rig = Rig::new(512)?;
    rig.add("op=write&type=reorder&window=4&delay_us=500&seed=1")?;
    // All to one block: the last one that the device does is what stays.
    let mut last = Vec::new();
    for _ in 0..8 {
        let writes = (0..4).map(|seed| Ok(rig.handle.write(rig.buf(1, seed)?, 0, 1)));
        let ended = rig.reactor.block_on(join_all(writes.collect::<Result<Vec<_>>>()?));
        ensure!(ended.iter().all(|done| done.status == OK), "{ended:?}");
        let found = rig.read(0, 1)?;
        let same = |seed: &u64| rig.buf(1, *seed).is_ok_and(|buf| buf.as_slice() == found);
        last.push((0..4).find(same).ok_or_else(|| anyhow!("none of them"))?);
    }
    ensure!(last.iter().all(|&seed| seed != 3), "the last one never comes last: {last:?}");
    // Fewer than a window go after the time.
    let one = rig.end(rig.handle.write(rig.buf(1, 0)?, 0, 1));
    ensure!((500_000..510_000).contains(&one.latency_ticks), "{}", one.latency_ticks);
    rig.finish()
}

#[test]
fn several_injections_follow_each_other() -> Result<()> {
    let rig = Rig::new(512)?;
    let delay = rig.add("op=write&type=delay&delay_us=700")?;
    let flip = rig.add("op=write&type=bit_flip")?;
    let fail = rig.add("op=write&type=status&every=2")?;
    let first = rig.end(rig.handle.write(rig.buf(1, 1)?, 0, 1));
    ensure!(first.status == OK && first.latency_ticks >= 700_000, "{first:?}");
    ensure!(differences(&rig.read(0, 1)?, rig.buf(1, 1)?.as_slice()).len() == 1, "one byte");
    let second = rig.end(rig.handle.write(rig.buf(1, 2)?, 0, 1));
    ensure!(second.status == FAILED && second.latency_ticks >= 700_000, "{second:?}");
    // What the second injection writes in place of the I/O is seen by the third.
    let hits = |id| Ok::<_, anyhow::Error>(rig.info(id)?.hits);
    ensure!((hits(delay)?, hits(flip)?, hits(fail)?) == (2, 2, 1), "{:?}", rig.faults.list(None));
    // On the way back the last one added comes first: the first has the last word.
    rig.clear();
    rig.add("op=read&type=status-nvme-2-81&stage=completion")?;
    rig.add("op=read&type=status-nvme-2-82&stage=completion")?;
    let status = rig.end(rig.handle.read(rig.buf(1, 0)?, 0, 1)).status;
    ensure!(status == NvmeStatus::new(2, 0x81), "{status}");
    rig.finish()
}

/// Whatever is random, in one run: the statuses, the content and the times.
fn seeded_run(seed: u64) -> Result<(Vec<u16>, Vec<u8>, Vec<u64>)> {
    let rig = Rig::new(512)?;
    for query in [
        "op=all&type=status&probability=0.2",
        "op=write&type=data&probability=0.3",
        "op=write&type=torn&probability=0.3",
        "op=write&type=misdirected&probability=0.2",
        "op=read&type=delay&delay_us=uniform:10:900",
        "op=read,write&type=reorder&window=3&delay_us=50&probability=0.5",
    ] {
        rig.add(&format!("{query}&seed={seed}"))?;
    }
    let (mut statuses, mut times, mut random) = (Vec::new(), Vec::new(), Rng::new(5));
    for _ in 0..60 {
        let (offset, blocks) = (random.below(200), 1 + random.below(8));
        let write = rig.handle.write(rig.buf(blocks, random.next_u64())?, offset, blocks);
        let read = rig.handle.read(rig.buf(1, 0)?, random.below(256), 1);
        for done in rig.reactor.block_on(join_all([write, read])) {
            statuses.push(done.status.bits());
            times.push(done.latency_ticks);
        }
    }
    rig.clear();
    let content = rig.read(0, 256)?;
    rig.finish()?;
    Ok((statuses, content, times))
}

#[test]
fn a_seed_gives_the_same_faults_again() -> Result<()> {
    let (one, same, other) = (seeded_run(7)?, seeded_run(7)?, seeded_run(8)?);
    ensure!(one == same, "the same seed");
    ensure!(one.0 != other.0 && one.1 != other.1 && one.2 != other.2, "another seed");
    ensure!(one.0.iter().any(|&bits| bits != 0), "some fail");
    Ok(())
}

#[test]
fn a_removed_injection_lets_go_what_hangs() -> Result<()> {
    let rig = Rig::new(512)?;
    let id = rig.add("op=read,write&type=hang")?;
    let (write, read) =
        (rig.handle.write(rig.buf(1, 1)?, 0, 1), rig.handle.read(rig.buf(1, 0)?, 9, 1));
    rig.turns(10);
    ensure!(rig.info(id)?.held == 2, "{:?}", rig.info(id)?);
    let faults = Arc::clone(&rig.faults);
    let removed = rig.reactor.block_on(async move { faults.remove(id).await })?;
    ensure!((removed.hits, removed.active) == (2, false), "{removed:?}");
    ensure!((rig.end(write).status, rig.end(read).status) == (OK, OK), "they go on");
    let faults = Arc::clone(&rig.faults);
    ensure!(rig.reactor.block_on(async move { faults.remove(id).await }).is_err(), "it is gone");
    rig.finish()
}

#[test]
fn what_hangs_ends_with_a_reset_and_with_the_device() -> Result<()> {
    for stage in ["submission", "completion"] {
        let rig = Rig::new(512)?;
        rig.add(&format!("op=write&type=hang&stage={stage}"))?;
        let write = rig.handle.write(rig.buf(1, 1)?, 0, 1);
        rig.turns(10);
        let reset = rig.handle.reset();
        ensure!(rig.end(reset).status == OK, "a reset");
        let status = rig.end(write).status;
        ensure!(status == NvmeStatus::ABORTED_SQ_DELETION, "{status}");
        let write = rig.handle.write(rig.buf(1, 1)?, 0, 1);
        rig.turns(10);
        let registry = Arc::clone(&rig.registry);
        rig.reactor.block_on(async move { registry.unregister("m").await.map(drop) })?;
        let status = rig.end(write).status;
        ensure!(status == NvmeStatus::INVALID_NAMESPACE, "{status}");
        rig.finish()?;
    }
    Ok(())
}

#[test]
fn what_hangs_does_not_hold_up_an_atomic_change() -> Result<()> {
    let rig = Rig::new(512)?;
    let id = rig.add("op=read&type=hang")?;
    ensure!(rig.write(0, 1, 1)? == OK, "a write");
    let read = rig.handle.read(rig.buf(1, 0)?, 0, 1);
    rig.turns(10);
    let swap = rig.handle.compare_and_write(rig.buf(1, 1)?, rig.buf(1, 2)?, 0, 1);
    ensure!(rig.end(swap).status == OK, "nothing is in flight");
    let faults = Arc::clone(&rig.faults);
    ensure!(rig.reactor.block_on(async move { faults.release(id).await })? == 1, "one");
    let read = rig.end(read).ok()?.into_one().ok_or_else(|| anyhow!("no buffer"))?;
    ensure!(read.as_slice() == rig.buf(1, 2)?.as_slice(), "it reads what is there now");
    rig.finish()
}

#[test]
fn atomic_changes_and_flushes_go_on_while_changes_are_watched() -> Result<()> {
    let rig = Rig::new(512)?;
    rig.add("op=compare&type=power_cut")?;
    rig.add("op=read&type=stale&after=1000")?;
    ensure!(rig.write(0, 64, 1)? == OK, "a write");
    let mut all: Vec<IoFuture> = Vec::new();
    for round in 0..20 {
        all.push(rig.handle.write(rig.buf(4, round)?, 8 + 4 * (round % 10), 4));
        all.push(rig.handle.flush());
        all.push(rig.handle.compare_and_write(rig.buf(1, 7)?, rig.buf(1, 7)?, 200, 1));
        all.push(rig.handle.copy(100, 0, 8));
        let zeroes = IoRequest::new(IoType::WriteZeroes, 120, 8, IoBuf::None);
        all.push(rig.handle.submit_async(zeroes));
    }
    for done in rig.reactor.block_on(join_all(all)) {
        ensure!([OK, NvmeStatus::COMPARE_FAILURE].contains(&done.status), "{}", done.status);
    }
    rig.finish()
}

#[test]
fn an_engine_ends_with_io_that_hangs() -> Result<()> {
    let engine = fixture::engine(1)?;
    block_on(io_engine::bdev::create(&engine, "malloc:///m?size_mb=1"))?;
    let spec = InjectionSpec::parse("inject://m?op=write&type=hang")?;
    let id = block_on(engine.faults().add(spec))?.id;
    let memory = engine.memory().clone();
    let free = memory.report().free_bytes;
    let desc = engine.device_lookup("m")?.open(true, "test")?;
    let reactor = engine.runtime().first().ok_or_else(|| anyhow!("no reactor"))?.clone();
    block_on(reactor.call(move |_| -> Result<()> {
        let handle = desc.into_handle()?;
        let buf = handle.dma_malloc(512)?.into();
        drop(handle.writev_blocks_async(buf, 0, 1));
        Ok(())
    }))??;
    while engine.faults().list(None).iter().any(|info| info.id == id && info.held == 0) {
        std::thread::yield_now();
    }
    drop(engine);
    ensure!(memory.report().free_bytes == free, "the buffer came back");
    Ok(())
}

/// Exactly so many over all cores, with all of them writing at once.
#[test]
fn the_count_is_exact_over_all_cores() -> Result<()> {
    const WRITES: u64 = 400;
    let cores = cpu::allowed().len().min(4);
    let engine: Arc<Engine> = fixture::engine(cores)?;
    block_on(io_engine::bdev::create(&engine, "malloc:///m?size_mb=1"))?;
    for retries in [1, 7, 100] {
        let uri = format!("inject://m?op=write&type=status&retries={retries}&after=5&every=3");
        let id = block_on(engine.faults().add(InjectionSpec::parse(&uri)?))?.id;
        let bdev = engine.registry().find("m")?;
        let workers = engine.runtime().reactors().iter().map(|reactor| {
            let bdev = Arc::clone(&bdev);
            reactor.spawn(move |reactor| async move {
                let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None)?;
                let handle = desc.io_handle()?;
                let mut failed = 0;
                for _ in 0..WRITES / 4 {
                    let mut writes = Vec::new();
                    for at in 0..4 {
                        writes.push(handle.write(reactor.memory().alloc(512)?, at, 1));
                    }
                    let ended = join_all(writes).await;
                    failed += ended.iter().filter(|done| done.status == FAILED).count() as u64;
                }
                anyhow::Ok(failed)
            })
        });
        let failed =
            block_on(join_all(workers)).into_iter().map(|one| one?).sum::<Result<u64>>()?;
        let most = (WRITES * cores as u64 - 5) / 3;
        ensure!(failed == retries.min(most), "{failed} failures for retries={retries}");
        let info = engine.faults().list(Some("m"));
        ensure!(info.len() == 1 && info[0].hits == failed, "{info:?}");
        ensure!(!info[0].active, "it is used up");
        block_on(engine.faults().remove(id))?;
    }
    Ok(())
}

#[test]
fn what_a_device_cannot_have_is_refused() -> Result<()> {
    let rig = Rig::new(512)?;
    let refused = |query: &str| rig.add(query).expect_err(query).to_string();
    ensure!(refused("op=zone_append").contains("does no zone_append; it does read, write"), "ops");
    ensure!(refused("offset=256").contains("has 256 blocks"), "{}", refused("offset=256"));
    let spec = InjectionSpec::parse("inject://other?op=read")?;
    let faults = Arc::clone(&rig.faults);
    let missing = rig.reactor.block_on(async move { faults.add(spec).await });
    ensure!(missing.is_err_and(|error| error.to_string().contains("no device 'other'")), "device");
    ensure!(rig.faults.list(None).is_empty(), "nothing was added");
    rig.finish()
}
