//! The truth table of fault injection: every operation × fault × stage happens exactly when it
//! should, on every driver, and to nothing else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures::poll;
use io_engine::core::Engine;
use io_engine::core::fault_injection::{FaultError, InjectionInfo, InjectionSpec, Stage};
use io_engine_test::devices::{self, DeviceSpec};
use io_engine_test::fixture::{Bench, Dut};
use io_engine_test::nvmf::BACKING;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoBuf, IoCompletion, IoFuture, IoRequest, IoType, NvmeCommand, SgList};
use spdk_rs::reactor::yield_now;

/// Blocks of each I/O.
const BLOCKS: u64 = 8;
/// Where copies come from: a place that nothing else touches.
const SOURCE: u64 = 512;
/// What is on the device at first.
const SEED: u64 = 1;

/// What an I/O looks like that a fault has happened to.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// It ends with a status.
    Ends(NvmeStatus),
    /// It ends well, after a time.
    Takes(Duration),
    /// It ends when it is released.
    Hangs,
    /// It ends well. What is wrong with it is another test's.
    Passes,
}

/// Every fault that leaves the device usable.
fn faults() -> Vec<(&'static str, Outcome)> {
    use Outcome::{Ends, Hangs, Passes, Takes};
    vec![
        ("status", Ends(NvmeStatus::DATA_TRANSFER_ERROR)),
        ("status-nvme-2-81", Ends(NvmeStatus::UNRECOVERED_READ_ERROR)),
        ("errno-ENOSPC", Ends(NvmeStatus::CAPACITY_EXCEEDED)),
        ("nomem", Ends(NvmeStatus::NOT_READY)),
        ("delay&delay_us=300", Takes(Duration::from_micros(300))),
        ("hang", Hangs),
        ("reorder&window=2&delay_us=10", Passes),
        ("data", Passes),
        ("bit_flip", Passes),
        ("torn", Passes),
        ("lost", Passes),
        ("misdirected&distance=2048", Passes),
        ("stale", Passes),
        ("dropped_flush", Passes),
    ]
}

/// A device and what injects into it.
struct Table {
    dut: Dut,
    engine: Arc<Engine>,
    device: String,
}

impl Table {
    /// Starts an I/O of a kind at a place.
    fn start(&self, kind: IoType, offset: u64) -> Result<IoFuture> {
        let handle = &self.dut.handle;
        let pattern = || self.dut.pattern(BLOCKS, SEED);
        let plain = |buf: IoBuf| handle.submit_async(IoRequest::new(kind, offset, BLOCKS, buf));
        Ok(match kind {
            IoType::Read | IoType::Write | IoType::Compare => plain(pattern()?.into()),
            IoType::Unmap | IoType::WriteZeroes => plain(IoBuf::None),
            IoType::CompareAndWrite => {
                // Over NVMe-oF, one block is what is compared and written as one.
                let one = || self.dut.pattern(1, SEED);
                let bufs = SgList::new(vec![one()?, one()?]).into();
                handle.submit_async(IoRequest::new(kind, offset, 1, bufs))
            }
            IoType::Copy => {
                let mut request = IoRequest::new(kind, offset, BLOCKS, IoBuf::None);
                request.source_blocks = SOURCE;
                handle.submit_async(request)
            }
            IoType::Flush => handle.flush_io_async(),
            IoType::Reset => handle.reset_async(),
            IoType::NvmeAdmin => handle.nvme_identify_ctrlr_async(handle.dma_malloc(4096)?),
            IoType::NvmeIo => {
                let read = NvmeCommand::new(0x02).with_cdw(10, u32::try_from(offset)?);
                handle.io_passthru_async(&read, self.dut.pattern(1, 3)?.into())
            }
            other => bail!("no device does {other}"),
        })
    }

    async fn io(&self, kind: IoType, offset: u64) -> Result<IoCompletion> {
        Ok(self.start(kind, offset)?.await)
    }

    /// Does an I/O that no fault may happen to.
    async fn untouched(&self, kind: IoType, offset: u64) -> Result<()> {
        let status = self.io(kind, offset).await?.status;
        let differs = !self.dut.stores_data && status == NvmeStatus::COMPARE_FAILURE;
        ensure!(status.is_success() || differs, "{kind} at {offset}: {status}");
        Ok(())
    }

    /// Brings the device to what it was at first.
    async fn reset_content(&self) -> Result<()> {
        self.dut.write(0, 64, SEED).await?;
        // Compares find what each I/O writes at the two places that are used.
        self.dut.write(0, BLOCKS, SEED).await?;
        self.dut.write(128, BLOCKS, SEED).await?;
        self.dut.write(SOURCE, BLOCKS, SEED).await
    }

    async fn add(&self, query: &str) -> Result<InjectionInfo, FaultError> {
        let spec = InjectionSpec::parse(&format!("inject:///{}?{query}", self.device))?;
        self.engine.faults().add(spec).await
    }

    fn info(&self, id: u64) -> Result<InjectionInfo> {
        let all = self.engine.faults().list(None);
        all.into_iter().find(|info| info.id == id).ok_or_else(|| anyhow!("no injection {id}"))
    }

    async fn remove(&self, id: u64) -> Result<()> {
        self.engine.faults().remove(id).await?;
        Ok(())
    }

    fn does(&self, kind: IoType) -> bool {
        self.dut.handle.get_device().io_type_supported(kind)
    }

    /// The kinds that the device does, but for those that are slow and those in `without`.
    fn others(&self, without: IoType) -> Vec<IoType> {
        let slow = [without, IoType::Reset];
        IoType::ALL.into_iter().filter(|kind| !slow.contains(kind) && self.does(*kind)).collect()
    }

    /// One line of the table.
    async fn line(&self, kind: IoType, stage: Stage, fault: &str, outcome: Outcome) -> Result<()> {
        let query = format!("op={kind}&stage={}&type={fault}", stage.name());
        let spec = InjectionSpec::parse(&format!("inject:///x?type={fault}"))?;
        let possible = spec.kind.can_happen_to(stage).contains(kind);
        match self.add(&query).await {
            Err(FaultError::Never { .. }) if !possible => return Ok(()),
            Err(FaultError::Unsupported { .. }) if possible && !self.does(kind) => return Ok(()),
            Err(error) => bail!("refused: {error}"),
            Ok(_) if !possible || !self.does(kind) => bail!("not refused"),
            Ok(added) => {
                for other in self.others(kind) {
                    // Where compares find what they expect, nothing is zeroed.
                    let zeroes = matches!(other, IoType::Unmap | IoType::WriteZeroes);
                    let place = if zeroes { 1024 } else { 0 };
                    self.untouched(other, place).await.context("another operation")?;
                }
                let info = self.info(added.id)?;
                ensure!((info.matched, info.hits) == (0, 0), "without an I/O: {info:?}");
                self.hit(added.id, kind, outcome).await?;
                let info = self.info(added.id)?;
                ensure!((info.matched, info.hits) == (1, 1), "after one I/O: {info:?}");
                self.remove(added.id).await?;
            }
        }
        self.reset_content().await?;
        self.untouched(kind, 0).await.context("after the removal")
    }

    async fn hit(&self, id: u64, kind: IoType, outcome: Outcome) -> Result<()> {
        let mut running = self.start(kind, 0)?;
        match outcome {
            Outcome::Ends(status) => {
                let found = running.await.status;
                ensure!(found == status, "it ended with {found}");
            }
            Outcome::Takes(time) => {
                let done = running.await;
                let took = self.dut.reactor.clock().duration_of(done.latency_ticks);
                ensure!(done.status.is_success() || !self.dut.stores_data, "{}", done.status);
                // A tick may be longer than a nanosecond.
                ensure!(took + Duration::from_nanos(10) >= time, "it took {took:?}");
            }
            Outcome::Hangs => {
                while self.info(id)?.held == 0 {
                    ensure!(poll!(&mut running).is_pending(), "it ended");
                    yield_now().await;
                }
                for _ in 0..20 {
                    ensure!(poll!(&mut running).is_pending(), "it ended");
                    yield_now().await;
                }
                ensure!(self.engine.faults().release(id).await? == 1, "one was held");
                let status = running.await.status;
                ensure!(status.is_success() || !self.dut.stores_data, "after release: {status}");
                ensure!(self.info(id)?.held == 0, "none is held");
            }
            Outcome::Passes => {
                let status = running.await.status;
                ensure!(status.is_success() || !self.dut.stores_data, "{status}");
            }
        }
        Ok(())
    }

    async fn whole_table(&self) -> Result<()> {
        self.reset_content().await?;
        for kind in IoType::ALL {
            for stage in [Stage::Submission, Stage::Completion] {
                for (fault, outcome) in faults() {
                    let line = self.line(kind, stage, fault, outcome).await;
                    line.with_context(|| format!("{kind}, {}, {fault}", stage.name()))?;
                }
            }
        }
        Ok(())
    }

    /// Blocks match by overlap, and what has no blocks matches no range.
    async fn ranges(&self) -> Result<()> {
        self.reset_content().await?;
        for kind in self.others(IoType::Abort) {
            let added = self.add(&format!("op={kind}&offset=16&num_blk=8&type=hang")).await?;
            let ranged = !matches!(kind, IoType::NvmeAdmin | IoType::NvmeIo | IoType::Flush);
            let first = if kind == IoType::CompareAndWrite { 16 } else { 9 };
            let places = [(first - 1, false), (first, true), (16, true), (23, true), (24, false)];
            for (offset, overlaps) in places {
                let expected = if kind == IoType::Flush { true } else { ranged && overlaps };
                let before = self.info(added.id)?.hits;
                let mut running = self.start(kind, offset)?;
                for _ in 0..3 {
                    let _ = poll!(&mut running);
                    yield_now().await;
                }
                self.engine.faults().release(added.id).await?;
                let _ = running.await;
                let hit = self.info(added.id)?.hits - before;
                ensure!(hit == u64::from(expected), "{kind} at {offset}: {hit} hits");
            }
            self.remove(added.id).await?;
        }
        let added = self.add("op=reset&num_blk=8&type=status").await?;
        self.untouched(IoType::Reset, 0).await?;
        ensure!(self.info(added.id)?.matched == 0, "a reset has no blocks");
        self.remove(added.id).await
    }

    /// Counts: `retries`, `after` and `every` are exact.
    async fn counts(&self) -> Result<()> {
        let fails = async |query: &str| -> Result<Vec<usize>> {
            let added = self.add(&format!("op=write&type=status&{query}")).await?;
            let mut failed = Vec::new();
            for number in 0..12 {
                if !self.io(IoType::Write, 0).await?.status.is_success() {
                    failed.push(number);
                }
            }
            let info = self.info(added.id)?;
            ensure!(info.hits == failed.len() as u64, "{query}: {info:?}");
            self.remove(added.id).await?;
            Ok(failed)
        };
        let cases: [(&str, &[usize]); 6] = [
            ("retries=3", &[0, 1, 2]),
            ("retries=0", &[]),
            ("after=10", &[10, 11]),
            ("every=5", &[4, 9]),
            ("after=2&every=3&retries=2", &[4, 7]),
            ("probability=0", &[]),
        ];
        for (query, expected) in cases {
            let failed = fails(query).await?;
            ensure!(failed == expected, "{query}: {failed:?}");
        }
        let (one, same) =
            (fails("probability=0.5&seed=9").await?, fails("probability=0.5&seed=9").await?);
        ensure!(one == same && !one.is_empty() && one.len() < 12, "{one:?}, {same:?}");
        ensure!(fails("probability=0.5&seed=10").await? != one, "another seed");
        // On the way back the one that was added last comes first: it leaves no data to change.
        let change = self.add("op=read&type=data").await?;
        let fail = self.add("op=read&type=status&stage=completion").await?;
        ensure!(!self.io(IoType::Read, 0).await?.status.is_success(), "a read that fails");
        ensure!(self.info(change.id)?.matched == 0, "data of a read that failed");
        self.remove(fail.id).await?;
        self.remove(change.id).await
    }

    /// A cut drops what was not flushed, and fails everything until power is back.
    async fn power_cut(&self) -> Result<()> {
        let dut = &self.dut;
        dut.write(0, 64, 1).await?;
        self.untouched(IoType::Flush, 0).await?;
        let added = self.add("op=compare&type=power_cut").await?;
        dut.write(0, 8, 2).await?;
        self.untouched(IoType::Flush, 0).await?;
        dut.write(4, 24, 3).await?;
        let buf = dut.pattern(4, 4)?.into();
        let fua = IoRequest::new(IoType::Write, 40, 4, buf).fua(true);
        ensure!(dut.handle.submit_async(fua).await.status.is_success(), "a write with FUA");
        self.untouched(IoType::WriteZeroes, 48).await?;
        dut.expect(4, 24, 3).await?;
        for kind in [IoType::Compare, IoType::Read, IoType::Write, IoType::Flush] {
            let status = self.io(kind, 0).await?.status;
            ensure!(status == NvmeStatus::ABORTED_POWER_LOSS, "{kind} after the cut: {status}");
        }
        ensure!(self.info(added.id)?.power_off, "{:?}", self.info(added.id)?);
        self.remove(added.id).await?;
        let old = dut.pattern(64, 1)?;
        let bytes = |blocks: u64| dut.bytes_of(blocks);
        let found = dut.read(0, 64).await?;
        let flushed = dut.pattern(8, 2)?;
        dut.same(0, &found.as_slice()[..bytes(8)?], flushed.as_slice())?;
        dut.same(
            8,
            &found.as_slice()[bytes(8)?..bytes(40)?],
            &old.as_slice()[bytes(8)?..bytes(40)?],
        )?;
        dut.same(40, &found.as_slice()[bytes(40)?..bytes(44)?], dut.pattern(4, 4)?.as_slice())?;
        dut.same(44, &found.as_slice()[bytes(44)?..], &old.as_slice()[bytes(44)?..])
    }

    /// The device goes, and everything fails.
    async fn removal(&self) -> Result<()> {
        let added = self.add("op=read&type=remove&after=1").await?;
        self.untouched(IoType::Read, 0).await?;
        self.untouched(IoType::Write, 0).await?;
        let gone = NvmeStatus::INVALID_NAMESPACE;
        ensure!(self.io(IoType::Read, 0).await?.status == gone, "the read that pulls it");
        while self.engine.registry().find(&self.device).is_ok() {
            yield_now().await;
        }
        ensure!(self.io(IoType::Write, 0).await?.status == gone, "a write afterwards");
        ensure!(!self.info(added.id)?.active && self.info(added.id)?.hits == 1, "once");
        self.remove(added.id).await
    }
}

/// Runs a part of the table on a device.
fn run<F>(spec: &DeviceSpec, part: F)
where
    F: AsyncFnOnce(&Table) -> Result<()> + Send + 'static,
{
    let all = || -> Result<()> {
        let Some(bench) = Bench::new(spec, 1)? else { return Ok(()) };
        let (engine, device) = (Arc::clone(bench.engine()), bench.device().to_owned());
        bench.run(|dut| {
            Box::pin(async move {
                let table = Table { dut, engine, device };
                part(&table).await
            })
        })?;
        if bench.engine().registry().find(bench.device()).is_ok() { bench.finish() } else { Ok(()) }
    };
    if let Err(error) = all() {
        panic!("{}: {error:#}", spec.name);
    }
}

macro_rules! devices {
    ($($module:ident = $device:ident;)+) => {
        $(mod $module {
            use super::*;
            const DEVICE: DeviceSpec = devices::$device;

            #[test]
            fn every_fault_happens_to_its_io_and_no_other() {
                run(&DEVICE, Table::whole_table);
            }

            #[test]
            fn blocks_match_by_overlap() {
                run(&DEVICE, Table::ranges);
            }

            #[test]
            fn counts_are_exact() {
                run(&DEVICE, Table::counts);
            }

            #[test]
            fn a_power_cut_drops_what_was_not_flushed() {
                run(&DEVICE, Table::power_cut);
            }

            #[test]
            fn a_device_is_pulled_out() {
                run(&DEVICE, Table::removal);
            }
        })+
    };
}

devices! {
    malloc_512 = MALLOC_512;
    null = NULL;
    limited = LIMITED;
    aio_file = AIO_FILE_4096;
    uring_file = URING_FILE;
    nvmf = NVMF_512;
}

/// A fault behind a target is seen by the host: its status arrives as it is, and a host that tries
/// again sees as many as there are.
#[test]
fn faults_are_seen_through_nvme_of() -> Result<()> {
    let Some(bench) = Bench::new(&devices::NVMF_512, 1)? else { return Ok(()) };
    let engine = Arc::clone(bench.engine());
    bench.run(|dut| {
        Box::pin(async move {
            let table = Table { dut, engine, device: BACKING.to_owned() };
            table.reset_content().await?;
            for kind in [IoType::Read, IoType::Write, IoType::WriteZeroes] {
                // Do not retry is not part of a fault's status: the host tries again.
                let added = table.add(&format!("op={kind}&type=status-nvme-2-81")).await?;
                let status = table.io(kind, 0).await?.status;
                ensure!(status.sct() == 2 && status.sc() == 0x81, "{kind}: {status}");
                ensure!(table.info(added.id)?.hits > 1, "the host tried again");
                table.remove(added.id).await?;
                let once = table.add(&format!("op={kind}&type=status-nvme-2-81&retries=1")).await?;
                table.untouched(kind, 0).await?;
                ensure!(table.info(once.id)?.hits == 1, "once");
                table.remove(once.id).await?;
            }
            let added = table.add("op=read&type=bit_flip&seed=1").await?;
            ensure!(table.dut.expect(0, BLOCKS, SEED).await.is_err(), "wrong data arrive");
            table.remove(added.id).await?;
            table.reset_content().await?;
            table.dut.expect(0, BLOCKS, SEED).await
        })
    })?;
    bench.finish()
}
