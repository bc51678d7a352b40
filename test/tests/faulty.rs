//! What the block device layer makes of a device that holds, reorders, fails and loses I/O:
//! nothing is lost, nothing ends twice, nothing leaks.
//!
//! One reactor on the test's own thread, so that every turn is the test's.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use futures::executor::block_on;
use io_engine_test::faulty::{self, Behaviour, Control, FaultyOptions};
use io_engine_test::fixture;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{
    Bdev, BdevCore, BdevDesc, IoBuf, IoConsumer, IoHandle, IoLimits, IoRequest, IoType, OpenMode,
    SgList,
};
use spdk_rs::env::{DmaBuf, Memory};
use spdk_rs::reactor::{LocalReactor, PollMode, ReactorConfig};
use spdk_rs_sys::cpu::CoreId;

const HOLD: Behaviour = Behaviour { hold: true, shuffle: None };

/// A reactor, a faulty device, and what there was before.
struct Rig {
    reactor: LocalReactor,
    bdev: Arc<Bdev>,
    control: Arc<Control>,
    memory: Memory,
    free_before: usize,
}

impl Rig {
    fn new(behaviour: Behaviour, limits: IoLimits) -> Result<Self> {
        let memory = Memory::ordinary(8 << 20)?;
        let free_before = memory.report().free_bytes;
        // A turn with nothing to do must not sleep: there is nobody to wake it.
        let config = ReactorConfig { mode: PollMode::Busy, ..ReactorConfig::new(CoreId(0)) };
        let reactor = LocalReactor::new(config, memory.clone())?;
        let options = FaultyOptions { limits, ..FaultyOptions::new("faulty") };
        let (bdev, control) = faulty::create(&memory, options, behaviour)?;
        Ok(Self { reactor, bdev, control, memory, free_before })
    }

    fn open(&self) -> Result<IoHandle> {
        Ok(BdevDesc::open(&self.bdev, OpenMode::ReadWrite, "test", None)?.io_handle()?)
    }

    fn buf(&self, blocks: usize) -> Result<DmaBuf> {
        Ok(self.memory.alloc(blocks * 512)?)
    }

    fn turns(&self, count: usize) {
        (0..count).for_each(|_| self.reactor.turn());
    }

    fn in_use(&self) -> usize {
        BdevCore::of(&self.reactor).slots_in_use()
    }

    /// Ends the reactor; all slots, channels and buffers must be back.
    fn finish(self) -> Result<()> {
        self.turns(3);
        ensure!(self.in_use() == 0, "{} slots are in use", self.in_use());
        ensure!(self.control.submitted() == self.control.completed(), "the driver has some yet");
        ensure!(self.control.channels() == 0, "a channel is open without handles");
        ensure!(self.bdev.channel_stats().is_empty(), "a channel is listed without handles");
        let Self { reactor, memory, free_before, .. } = self;
        drop(reactor);
        let free = memory.report().free_bytes;
        ensure!(free == free_before, "{} bytes of buffers are missing", free_before - free);
        Ok(())
    }
}

#[test]
fn dropped_futures_leave_their_io_to_the_device() -> Result<()> {
    let rig = Rig::new(HOLD, IoLimits { blocks_max: 8, ..IoLimits::default() })?;
    let handle = rig.open()?;
    // Straight, in parts, by emulation, and one that a task waits for.
    drop(handle.write(rig.buf(4)?, 0, 4));
    drop(handle.write(rig.buf(100)?, 10, 100));
    drop(handle.write_zeroes(200, 300));
    drop(handle.compare(rig.buf(20)?, 600, 20));
    drop(handle.flush());
    let waited = handle.read(rig.buf(2)?, 0, 2);
    let (task, cancelled) = futures::future::abortable(waited);
    rig.reactor.spawn("waiter", async move { drop(task.await) });
    rig.turns(3);
    cancelled.abort();
    rig.turns(3);
    ensure!(rig.in_use() > 10, "the device holds them: {}", rig.in_use());
    ensure!(rig.control.completed() == 0, "nothing was completed");
    rig.control.hold(false);
    rig.turns(50);
    ensure!(rig.in_use() == 0, "{} are still in use", rig.in_use());
    let stats = rig.bdev.stats();
    for kind in [IoType::WriteZeroes, IoType::Compare, IoType::Flush] {
        ensure!(stats.of(kind).ops == 1, "{kind} without a future is counted once: {stats:?}");
    }
    drop(handle);
    rig.finish()
}

#[test]
fn handles_and_descriptors_may_go_before_their_io() -> Result<()> {
    let rig = Rig::new(HOLD, IoLimits::default())?;
    let handle = rig.open()?;
    let mut buf = rig.buf(3)?;
    buf.fill(0x3c);
    let write = handle.write(buf, 5, 3);
    drop(handle);
    rig.turns(5);
    ensure!(rig.control.channels() == 1, "a channel lives as long as its I/O");
    rig.control.hold(false);
    let done = rig.reactor.block_on(write);
    ensure!(done.status.is_success(), "{}", done.status);
    ensure!(done.buf.len() == 3 * 512, "the buffer came back");
    drop(done);
    rig.turns(2);
    ensure!(rig.control.channels() == 0, "the channel went after its last I/O");
    let handle = rig.open()?;
    let read = rig.reactor.block_on(handle.read(rig.buf(3)?, 5, 3)).ok()?;
    let read = read.into_one().ok_or_else(|| anyhow!("no buffer"))?;
    ensure!(read.as_slice().iter().all(|&byte| byte == 0x3c), "the write was done");
    drop((handle, read));
    rig.finish()
}

/// Counts how often each tag ended.
struct Tally(RefCell<Vec<u32>>);

impl IoConsumer for Tally {
    fn io_done(&self, tag: u64, _: NvmeStatus, _: IoBuf, _: u64) {
        self.0.borrow_mut()[usize::try_from(tag).unwrap_or(usize::MAX)] += 1;
    }
}

#[test]
fn each_io_ends_once_in_whatever_order() -> Result<()> {
    for seed in 0..20 {
        let limits =
            IoLimits { blocks_max: 4, segments_max: 2, boundary_blocks: 7, ..IoLimits::default() };
        let rig = Rig::new(Behaviour { shuffle: Some(seed), ..Behaviour::default() }, limits)?;
        let handle = rig.open()?;
        let tally = Rc::new(Tally(RefCell::new(vec![0; 40])));
        let consumer: Rc<dyn IoConsumer> = Rc::<Tally>::clone(&tally);
        for tag in 0..40 {
            let bufs = (0..10).map(|_| rig.buf(2)).collect::<Result<Vec<_>>>()?;
            let io = IoRequest::new(IoType::Write, tag * 20, 20, SgList::new(bufs).into());
            handle.submit(io, &consumer, tag).map_err(|refused| anyhow!("{refused:?}"))?;
        }
        drop(handle);
        while rig.in_use() > 0 {
            rig.turns(1);
        }
        ensure!(tally.0.borrow().iter().all(|&ends| ends == 1), "seed {seed}: {:?}", tally.0);
        rig.finish()?;
    }
    Ok(())
}

#[test]
fn a_failure_arrives_as_it_is() -> Result<()> {
    let rig = Rig::new(Behaviour::default(), IoLimits::default())?;
    let handle = rig.open()?;
    // A status that has no name here, with the do-not-retry bit.
    let odd = NvmeStatus::new(7, 0x3d).with_do_not_retry(true);
    for failure in [odd, NvmeStatus::UNRECOVERED_READ_ERROR, NvmeStatus::CAPACITY_EXCEEDED] {
        rig.control.fail(Some(50), failure);
        let statuses = rig.reactor.block_on({
            let handle = handle.clone();
            let (one, two, three) = (rig.buf(1)?, rig.buf(100)?, rig.buf(8)?);
            async move {
                [
                    handle.read(one, 50, 1).await.status,
                    handle.write(two, 0, 100).await.status,
                    handle.compare(three, 46, 8).await.status,
                    handle.write_zeroes(50, 1).await.status,
                    handle.copy(200, 40, 20).await.status,
                    handle.copy(40, 200, 20).await.status,
                ]
            }
        });
        ensure!(statuses == [failure; 6], "{failure}: {statuses:?}");
        let beside = rig.reactor.block_on(handle.write(rig.buf(50)?, 0, 50)).status;
        ensure!(beside.is_success(), "a write beside the bad block: {beside}");
    }
    let stats = rig.bdev.stats();
    ensure!(stats.of(IoType::Read).errors >= 3, "{:?}", stats.of(IoType::Read));
    ensure!(stats.of(IoType::Compare).errors == 3, "{:?}", stats.of(IoType::Compare));
    drop(handle);
    rig.finish()
}

#[test]
fn a_failed_part_fails_the_whole_after_the_other_parts() -> Result<()> {
    let limits = IoLimits { blocks_max: 10, ..IoLimits::default() };
    let rig = Rig::new(HOLD, limits)?;
    let handle = rig.open()?;
    rig.control.fail(Some(35), NvmeStatus::WRITE_FAULT);
    let whole = handle.write(rig.buf(1000)?, 0, 1000);
    rig.turns(3);
    let first_parts = rig.control.submitted();
    ensure!((2..100).contains(&first_parts), "{first_parts} parts at first");
    rig.control.hold(false);
    let done = rig.reactor.block_on(whole);
    ensure!(done.status == NvmeStatus::WRITE_FAULT, "{}", done.status);
    ensure!(done.buf.len() == 1000 * 512, "the buffer came back");
    ensure!(rig.control.submitted() == rig.control.completed(), "parts were left behind");
    ensure!(rig.control.submitted() < 100, "parts were issued after the failure");
    let write = rig.bdev.stats();
    let write = write.of(IoType::Write);
    ensure!((write.ops, write.errors, write.bytes) == (1, 1, 0), "{write:?}");
    drop((handle, done));
    rig.finish()
}

#[test]
fn a_reset_ends_what_the_device_abandons() -> Result<()> {
    let rig = Rig::new(HOLD, IoLimits { blocks_max: 8, ..IoLimits::default() })?;
    let handle = rig.open()?;
    rig.control.abort_at_reset(true);
    let small = handle.write(rig.buf(1)?, 0, 1);
    let parts = handle.write(rig.buf(64)?, 100, 64);
    let (small, parts, reset) = rig.reactor.block_on({
        let handle = handle.clone();
        async move { futures::join!(small, parts, handle.reset()) }
    });
    let aborted = NvmeStatus::ABORTED_SQ_DELETION;
    ensure!((small.status, parts.status) == (aborted, aborted), "{small:?} {parts:?}");
    ensure!(reset.status.is_success(), "{}", reset.status);
    drop((handle, small, parts));
    rig.finish()
}

#[test]
fn lost_io_ends_as_aborted_with_its_buffers() -> Result<()> {
    let rig = Rig::new(Behaviour::default(), IoLimits { blocks_max: 8, ..IoLimits::default() })?;
    let handle = rig.open()?;
    rig.control.lose(true);
    let straight = rig.reactor.block_on(handle.write(rig.buf(1)?, 0, 1));
    let parts = rig.reactor.block_on(handle.read(rig.buf(64)?, 0, 64));
    for done in [straight, parts] {
        ensure!(done.status == NvmeStatus::ABORTED_BY_REQUEST, "{}", done.status);
        ensure!(!done.buf.is_empty(), "the buffer came back");
    }
    rig.control.lose(false);
    let after = rig.reactor.block_on(handle.write(rig.buf(64)?, 0, 64)).status;
    ensure!(after.is_success(), "afterwards: {after}");
    drop(handle);
    rig.finish()
}

#[test]
fn removal_waits_for_a_slow_device_and_refuses_the_rest() -> Result<()> {
    let rig = Rig::new(HOLD, IoLimits { blocks_max: 8, ..IoLimits::default() })?;
    let registry = spdk_rs::bdev::Registry::new();
    registry.register(&rig.bdev)?;
    let handle = rig.open()?;
    let early = handle.write(rig.buf(200)?, 0, 200);
    let gone = Rc::new(std::cell::Cell::new(false));
    let (names, seen) = (Arc::clone(&registry), Rc::clone(&gone));
    rig.reactor.spawn("remove", async move {
        seen.set(names.unregister("faulty").await.is_ok());
    });
    rig.turns(50);
    ensure!(!gone.get(), "I/O is in flight");
    let late = rig.reactor.block_on(handle.write(rig.buf(1)?, 0, 1)).status;
    ensure!(late == NvmeStatus::INVALID_NAMESPACE, "{late}");
    rig.control.hold(false);
    let early = rig.reactor.block_on(early).status;
    // Parts that were not issued yet find the device gone.
    let either = [NvmeStatus::SUCCESS, NvmeStatus::INVALID_NAMESPACE].contains(&early);
    ensure!(either, "{early}");
    rig.turns(50);
    ensure!(gone.get(), "the removal ended");
    drop(handle);
    rig.finish()
}

/// Ends an engine while a device holds three I/Os, one of which somebody waits for; the device
/// goes on holding them, or completes them after some thousand polls. Returns the buffer bytes
/// that are missing, and the driver's channels that are left.
fn end_engine_with_io_in_flight(hold: bool) -> Result<(usize, usize)> {
    let engine = fixture::engine(1)?;
    let memory = engine.memory().clone();
    let free_before = memory.report().free_bytes;
    let behaviour = Behaviour { hold, shuffle: Some(4) };
    let (bdev, control) = faulty::create(&memory, FaultyOptions::new("slow"), behaviour)?;
    control.ignore_polls(5000);
    engine.registry().register(&bdev)?;
    let desc = engine.device_lookup("slow")?.open(true, "test")?;
    let reactor = engine.runtime().first().ok_or_else(|| anyhow!("no reactor"))?.clone();
    block_on(reactor.call(move |reactor| -> Result<()> {
        let handle = desc.into_handle()?;
        for block in 0..2 {
            let buf = handle.dma_malloc(4096)?.into();
            drop(handle.writev_blocks_async(buf, block * 8, 8));
        }
        let waited = handle.writev_blocks_async(handle.dma_malloc(4096)?.into(), 16, 8);
        reactor.spawn("waiter", async move { drop(waited.await) });
        Ok(())
    }))??;
    drop((bdev, engine));
    ensure!(reactor.has_ended(), "the reactor runs on");
    Ok((free_before - memory.report().free_bytes, control.channels()))
}

#[test]
fn an_engine_that_ends_keeps_the_buffers_that_a_device_may_still_write() -> Result<()> {
    let (missing, _) = end_engine_with_io_in_flight(true)?;
    ensure!(missing == 3 * 4096, "{missing} bytes are kept from reuse");
    Ok(())
}

#[test]
fn an_engine_that_ends_lets_a_device_finish() -> Result<()> {
    let (missing, channels) = end_engine_with_io_in_flight(false)?;
    ensure!((missing, channels) == (0, 0), "{missing} bytes missing, {channels} channels left");
    Ok(())
}
