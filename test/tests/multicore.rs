//! One device, two reactors: I/O on both, resets, atomic changes, resizing, removal, and opening
//! and closing all the time. Skipped, with a line printed, where this process has one core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use anyhow::{Result, anyhow, bail, ensure};
use futures::StreamExt as _;
use futures::executor::block_on;
use futures::stream::FuturesUnordered;
use io_engine::bdev;
use io_engine_test::devices::{self, DeviceSpec};
use io_engine_test::fixture::{Bench, Dut};
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::DeviceEvent;
use spdk_rs::reactor::yield_now;

/// Runs `test` on a device of a kind with two reactors, then checks that nothing leaked.
fn on_two_cores(device: &DeviceSpec, test: impl FnOnce(&Bench) -> Result<()>) {
    let result = Bench::new(device, 2).and_then(|bench| match bench {
        Some(bench) => {
            test(&bench)?;
            bench.finish()
        }
        None => Ok(()),
    });
    if let Err(error) = result {
        panic!("{}: {error:#}", device.name);
    }
}

/// Writes and reads the blocks of one residue modulo two, several at a time.
async fn work_on_half(dut: &Dut, half: u64, rounds: u64) -> Result<()> {
    let mut in_flight = FuturesUnordered::new();
    for i in 0..rounds {
        let block = 2 * (i % 64) + half;
        in_flight.push(async move {
            dut.write(block, 1, i * 2 + half).await?;
            dut.expect(block, 1, i * 2 + half).await
        });
        if in_flight.len() == 8
            && let Some(done) = in_flight.next().await
        {
            done?;
        }
        // The same block comes again only when all of the round before has ended.
        if i % 64 == 63 {
            while let Some(done) = in_flight.next().await {
                done?;
            }
        }
    }
    while let Some(done) = in_flight.next().await {
        done?;
    }
    Ok(())
}

fn io_on_both(bench: &Bench) -> Result<()> {
    let work = |core: usize, half| {
        bench.start(core, move |dut| Box::pin(async move { work_on_half(&dut, half, 640).await }))
    };
    let both = [work(0, 0)?, work(1, 1)?];
    block_on(futures::future::try_join_all(both))?;
    // What one core wrote, the other reads: the last round left these.
    block_on(bench.start(1, |dut| {
        Box::pin(async move {
            for block in 0..128 {
                dut.expect(block, 1, (576 + block / 2) * 2 + block % 2).await?;
            }
            Ok(())
        })
    })?)
}

fn resets_while_the_other_works(bench: &Bench) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let load = bench.start(1, move |dut| {
        Box::pin(async move {
            let mut rounds = 0;
            while !seen.load(Ordering::SeqCst) || rounds == 0 {
                work_on_half(&dut, 1, 64).await?;
                rounds += 1;
            }
            Ok(rounds)
        })
    })?;
    let resets = bench.start(0, move |dut| {
        Box::pin(async move {
            for i in 0..25 {
                let status = dut.handle.reset_async().await.status;
                ensure!(status.is_success(), "reset {i}: {status}");
                dut.write(0, 1, i).await?;
                dut.expect(0, 1, i).await?;
            }
            Ok(())
        })
    })?;
    block_on(async {
        let resets = async {
            let result = resets.await;
            stop.store(true, Ordering::SeqCst);
            result
        };
        let (load, resets) = futures::join!(load, resets);
        resets?;
        ensure!(load? > 0, "the other core did nothing");
        Ok(())
    })
}

/// Increments a counter in a block, each time by compare-and-write until it is the one that wins.
async fn increment(dut: &Dut, block: u64, times: u64) -> Result<u64> {
    let number = |buf: &[u8]| -> Result<u64> {
        Ok(u64::from_le_bytes(buf.get(..8).ok_or_else(|| anyhow!("no number"))?.try_into()?))
    };
    let mut lost = 0;
    for _ in 0..times {
        loop {
            let old = dut.read(block, 1).await?;
            let mut new = dut.handle.dma_malloc(dut.block_len)?;
            new.as_mut_slice().copy_from_slice(old.as_slice());
            let next = number(old.as_slice())? + 1;
            new.as_mut_slice()[..8].copy_from_slice(&next.to_le_bytes());
            match dut.compare_and_write(old, new, block, 1).await.status {
                NvmeStatus::SUCCESS => break,
                NvmeStatus::COMPARE_FAILURE => lost += 1,
                other => bail!("compare and write: {other}"),
            }
        }
    }
    Ok(lost)
}

fn increments_add_up(bench: &Bench) -> Result<()> {
    const TIMES: u64 = 150;
    bench.run(|dut| {
        Box::pin(async move {
            let status = dut.handle.write_zeroes_async(0, 8).await.status;
            ensure!(status.is_success(), "{status}");
            Ok(())
        })
    })?;
    let both = (0..2)
        .map(|core| {
            bench.start(core, |dut| Box::pin(async move { increment(&dut, 3, TIMES).await }))
        })
        .collect::<Result<Vec<_>>>()?;
    let lost = block_on(futures::future::try_join_all(both))?;
    let count = bench.run(|dut| {
        Box::pin(async move {
            let found = dut.read(3, 1).await?;
            Ok(u64::from_le_bytes(found.as_slice()[..8].try_into()?))
        })
    })?;
    ensure!(count == 2 * TIMES, "{count} of {} increments (lost races: {lost:?})", 2 * TIMES);
    Ok(())
}

/// Two numbers in a block: the plain write that it comes from, and how often it was changed since.
fn pair_of(buf: &[u8]) -> Result<(u64, u64)> {
    let number = |at: usize| -> Result<u64> {
        Ok(u64::from_le_bytes(buf.get(at..at + 8).ok_or_else(|| anyhow!("short"))?.try_into()?))
    };
    Ok((number(0)?, number(8)?))
}

fn pair(dut: &Dut, (base, changes): (u64, u64)) -> Result<spdk_rs::env::DmaBuf> {
    let mut buf = dut.handle.dma_malloc(dut.block_len)?;
    buf.fill(0);
    buf.as_mut_slice()[..8].copy_from_slice(&base.to_le_bytes());
    buf.as_mut_slice()[8..16].copy_from_slice(&changes.to_le_bytes());
    Ok(buf)
}

/// One core writes plainly, the other changes what it finds by compare-and-write. A plain write
/// between its compare and its write would be lost, and the writer would find an older one.
fn plain_writes_do_not_come_between(bench: &Bench) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let changes = bench.start(1, move |dut| {
        Box::pin(async move {
            let mut changed = 0;
            while !seen.load(Ordering::SeqCst) || changed == 0 {
                let old = dut.read(5, 1).await?;
                let (base, changes) = pair_of(old.as_slice())?;
                let new = pair(&dut, (base, changes + 1))?;
                match dut.compare_and_write(old, new, 5, 1).await.status {
                    NvmeStatus::SUCCESS => changed += 1,
                    NvmeStatus::COMPARE_FAILURE => {}
                    other => bail!("compare and write: {other}"),
                }
            }
            Ok(changed)
        })
    })?;
    let writes = bench.start(0, move |dut| {
        Box::pin(async move {
            for base in 1..=2000 {
                let buf = pair(&dut, (base, 0))?.into();
                let status = dut.handle.writev_blocks_async(buf, 5, 1).await.status;
                ensure!(status.is_success(), "{status}");
                // Sometimes at once, sometimes when the other had time to do harm.
                for _ in 0..base % 4 {
                    yield_now().await;
                }
                let found = pair_of(dut.read(5, 1).await?.as_slice())?;
                ensure!(found.0 == base, "write {base} was lost: {found:?} is there");
            }
            Ok(())
        })
    })?;
    block_on(async {
        let writes = async {
            let result = writes.await;
            stop.store(true, Ordering::SeqCst);
            result
        };
        let (changes, writes) = futures::join!(changes, writes);
        writes?;
        ensure!(changes? > 0, "the other core changed nothing");
        Ok(())
    })
}

fn resizing_is_seen_on_both(bench: &Bench) -> Result<()> {
    let device = bench.engine().registry().find(bench.device())?;
    let (tell, told) = mpsc::channel();
    let listener: spdk_rs::bdev::EventListener = Arc::new(move |_, event| {
        let _ = tell.send(event.clone());
    });
    let guard = bench.engine().device_lookup(bench.device())?.add_event_listener(listener)?;
    let full = device.num_blocks();
    let small = full / 2;
    let (go, gone) = futures::channel::oneshot::channel::<()>();
    let gone = futures::FutureExt::shared(gone);
    let both = (0..2)
        .map(|core| {
            let gone = gone.clone();
            bench.start(core, move |dut| {
                Box::pin(async move {
                    dut.write(small, 1, 1).await?;
                    gone.await?;
                    let status = |offset| {
                        let buf = dut.pattern(1, 2);
                        let handle = &dut.handle;
                        async move {
                            let buf = buf?.into();
                            Ok::<_, anyhow::Error>(
                                handle.writev_blocks_async(buf, offset, 1).await.status,
                            )
                        }
                    };
                    let beyond = status(small).await?;
                    ensure!(beyond == NvmeStatus::LBA_OUT_OF_RANGE, "core {core}: {beyond}");
                    let last = status(small - 1).await?;
                    ensure!(last.is_success(), "core {core}: {last}");
                    let known = dut.handle.get_device().num_blocks();
                    ensure!(known == small, "core {core} knows {known} blocks");
                    Ok(())
                })
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let drive = async {
        // Both channels are there, so the message has to reach both.
        while device.channel_stats().len() < 2 {
            std::thread::yield_now();
        }
        device.resize(small).await;
        go.send(()).map_err(|()| anyhow!("both cores have ended"))
    };
    // The tasks are started by being polled, and polled beside what drives them.
    let (both, drive) = block_on(async {
        let mut both = Box::pin(futures::future::try_join_all(both));
        let started = futures::poll!(&mut both);
        ensure!(started.is_pending(), "the work ended before the resize");
        let drive = drive.await;
        Ok((both.await, drive))
    })?;
    both?;
    drive?;
    block_on(device.resize(full));
    let events: Vec<_> = told.try_iter().collect();
    let expected = [
        DeviceEvent::Resized { before: full, now: small },
        DeviceEvent::Resized { before: small, now: full },
    ];
    ensure!(events == expected, "events: {events:?}");
    drop(guard);
    bench.run(move |dut| Box::pin(async move { dut.write(small, 1, 3).await }))
}

/// Works until the device is gone; only these two statuses may come.
async fn until_removed(dut: Dut) -> Result<()> {
    let mut block = 0;
    loop {
        let buf = dut.pattern(1, block)?.into();
        match dut.handle.writev_blocks_async(buf, block % 64, 1).await.status {
            NvmeStatus::SUCCESS => block += 1,
            NvmeStatus::INVALID_NAMESPACE => break,
            other => bail!("write at removal: {other}"),
        }
    }
    ensure!(block > 0, "no write before the removal");
    let read = dut.handle.readv_blocks_async(dut.pattern(1, 0)?.into(), 0, 1).await.status;
    ensure!(read == NvmeStatus::INVALID_NAMESPACE, "read after removal: {read}");
    let reset = dut.handle.reset_async().await.status;
    ensure!(reset == NvmeStatus::INVALID_NAMESPACE, "reset after removal: {reset}");
    Ok(())
}

fn removal_is_seen_on_both(device: &DeviceSpec) {
    let result = (|| {
        let Some(bench) = Bench::new(device, 2)? else { return Ok(()) };
        let both = (0..2)
            .map(|core| bench.start(core, |dut| Box::pin(until_removed(dut))))
            .collect::<Result<Vec<_>>>()?;
        let known = bench.engine().registry().find(bench.device())?;
        let worked = || {
            let writes = |(_, stats): &(_, spdk_rs::bdev::IoStats)| {
                stats.of(spdk_rs::bdev::IoType::Write).ops > 0
            };
            known.channel_stats().iter().filter(|stats| writes(stats)).count() == 2
        };
        block_on(async {
            let mut both = Box::pin(futures::future::try_join_all(both));
            ensure!(futures::poll!(&mut both).is_pending(), "the work ended at once");
            while !worked() {
                std::thread::yield_now();
            }
            bdev::destroy(bench.engine(), bench.device()).await?;
            both.await?;
            Ok(())
        })?;
        ensure!(known.open_fails(), "a removed device was opened");
        ensure!(bdev_is_gone(&bench), "the name is still there");
        Ok(())
    })();
    if let Err(error) = result {
        panic!("{}: {error:#}", device.name);
    }
}

fn bdev_is_gone(bench: &Bench) -> bool {
    bench.engine().device_lookup(bench.device()).is_err()
}

trait OpenFails {
    fn open_fails(&self) -> bool;
}

impl OpenFails for Arc<spdk_rs::bdev::Bdev> {
    fn open_fails(&self) -> bool {
        io_engine::core::Engine::device(Arc::clone(self)).open(false, "late").is_err()
    }
}

fn opening_and_closing(bench: &Bench) -> Result<()> {
    let device = bench.engine().registry().find(bench.device())?;
    let engine = bench.engine();
    let both = (0..2u64).map(|core| {
        let device = io_engine::core::Engine::device(Arc::clone(&device));
        let reactor = &engine.runtime().reactors()[usize::from(core != 0)];
        reactor.spawn(move |_| async move {
            for i in 0..150 {
                let desc = device.open(i % 3 != 0, "churn")?;
                let handle = match i % 2 {
                    0 => desc.get_io_handle_nonblock().await?,
                    _ => desc.get_io_handle()?,
                };
                drop(desc);
                let buf = handle.dma_malloc(usize::try_from(device.block_len())?)?;
                let read = handle.readv_blocks_async(buf.into(), i % 32 + core, 1);
                if i % 5 == 0 {
                    // The handle goes first, and the I/O ends all the same.
                    drop(handle);
                    ensure!(read.await.status.is_success(), "read {i}");
                } else if i % 7 == 0 {
                    // Nobody waits for this one.
                    drop(read);
                } else {
                    ensure!(read.await.status.is_success(), "read {i}");
                }
                if i % 4 == 0 {
                    yield_now().await;
                }
            }
            Ok(())
        })
    });
    for done in block_on(futures::future::join_all(both)) {
        done??;
    }
    // The statistics of the closed channels are kept.
    let reads = device.stats().of(spdk_rs::bdev::IoType::Read).ops;
    ensure!(reads >= 250, "{reads} reads were counted");
    Ok(())
}

macro_rules! devices {
    ($($module:ident = $device:ident;)+) => {
        $(mod $module {
            use super::*;
            const DEVICE: DeviceSpec = devices::$device;

            #[test]
            fn io_on_both_cores() {
                on_two_cores(&DEVICE, io_on_both);
            }

            #[test]
            fn resets_while_the_other_core_works() {
                on_two_cores(&DEVICE, super::resets_while_the_other_works);
            }

            #[test]
            fn increments_of_both_cores_add_up() {
                on_two_cores(&DEVICE, increments_add_up);
            }

            #[test]
            fn plain_writes_do_not_come_between_compare_and_write() {
                on_two_cores(&DEVICE, super::plain_writes_do_not_come_between);
            }

            #[test]
            fn a_resize_is_seen_on_both_cores() {
                on_two_cores(&DEVICE, resizing_is_seen_on_both);
            }

            #[test]
            fn removal_is_seen_on_both_cores() {
                super::removal_is_seen_on_both(&DEVICE);
            }

            #[test]
            fn opening_and_closing_on_both_cores() {
                on_two_cores(&DEVICE, opening_and_closing);
            }
        })+
    };
}

devices! {
    malloc_512 = MALLOC_512;
    vol_512 = VOL_512;
    vol_4096 = VOL_4096;
    limited = LIMITED;
    aio_file = AIO_FILE;
    uring_file = URING_FILE;
    uring_buffered = URING_BUFFERED;
}
