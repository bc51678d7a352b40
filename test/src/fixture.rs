//! An engine, one device, a handle on a reactor; and afterwards the proof that nothing leaked.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures::executor::block_on;
use futures::future::LocalBoxFuture;
use io_engine::bdev;
use io_engine::core::{BlockDeviceHandle, Engine, EngineOptions};
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{BdevCore, IoBuf, IoCompletion, IoRequest, IoType, ZoneGeometry};
use spdk_rs::env::{DmaBuf, Memory, MemoryOptions};
use spdk_rs::nvme::spec::zns::ZoneAction;
use spdk_rs::reactor::{PollMode, Reactor, ReactorHandle, RuntimeOptions};
use spdk_rs_sys::cpu::{self, CoreSet};
use spdk_rs_sys::hugepage;
use spdk_rs_sys::pci::PciFilter;

use crate::devices::{self, DeviceSpec};
use crate::nvmf::Rig;
use crate::rng::Rng;

/// Buffer memory of an engine under test.
const MEMORY_BYTES: usize = 32 << 20;

/// Turns of a reactor within which a channel without handles must be closed.
const CLOSING_TURNS_MAX: usize = 100;

/// An engine with one device.
pub struct Bench {
    engine: Arc<Engine>,
    spec: DeviceSpec,
    device: String,
    rig: Option<Rig>,
    memory: Memory,
    free_before: usize,
    _scratch: tempfile::TempDir,
}

/// An open device on its reactor.
pub struct Dut {
    /// The device.
    pub handle: Box<dyn BlockDeviceHandle>,
    /// The reactor.
    pub reactor: Rc<Reactor>,
    /// See [`DeviceSpec::stores_data`].
    pub stores_data: bool,
    /// Bytes per block.
    pub block_len: usize,
    /// Size in blocks.
    pub num_blocks: u64,
    /// The zones of a zoned device.
    pub zones: Option<ZoneGeometry>,
}

/// Starts an engine on the first `cores` cores that this process may use.
///
/// # Errors
/// When there are too few, or the engine does not start.
pub fn engine(cores: usize) -> Result<Arc<Engine>> {
    let mut set = CoreSet::new();
    cpu::allowed().iter().take(cores).for_each(|core| set.insert(core));
    ensure!(set.len() == cores, "{cores} cores are needed, {} are there", set.len());
    let backing =
        hugepage::MemoryOptions { huge: hugepage::HugePolicy::Never, ..Default::default() };
    let options = EngineOptions {
        memory: MemoryOptions { size_bytes: MEMORY_BYTES, backing },
        runtime: RuntimeOptions {
            cores: set,
            mode: PollMode::Adaptive { spin: std::time::Duration::from_micros(20) },
            ring: true,
        },
        pci: PciFilter::default(),
    };
    Ok(Engine::start(&options)?)
}

impl Bench {
    /// An engine on `cores` cores with a device; none, with a line printed, when this machine
    /// cannot have one or the other.
    ///
    /// # Errors
    /// When it can and it does not work.
    pub fn new(spec: &DeviceSpec, cores: usize) -> Result<Option<Self>> {
        if cpu::allowed().len() < cores {
            eprintln!("skipped: {} needs {cores} cores", spec.name);
            return Ok(None);
        }
        let engine = engine(cores)?;
        let memory = engine.memory().clone();
        let free_before = memory.report().free_bytes;
        let scratch = tempfile::tempdir()?;
        let made = match devices::create(spec, &engine, scratch.path())? {
            Ok(made) => made,
            Err(why) => {
                eprintln!("skipped: {}: {why}", spec.name);
                return Ok(None);
            }
        };
        let devices::Made { name: device, rig } = made;
        let spec = *spec;
        Ok(Some(Self { engine, spec, device, rig, memory, free_before, _scratch: scratch }))
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// What is behind a device over NVMe/TCP.
    #[must_use]
    pub fn rig(&self) -> Option<&Rig> {
        self.rig.as_ref()
    }

    /// The device's name.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// A reactor.
    ///
    /// # Errors
    /// When there is none of that index.
    pub fn reactor(&self, index: usize) -> Result<ReactorHandle> {
        let reactor = self.engine.runtime().reactors().get(index);
        Ok(reactor.ok_or_else(|| anyhow!("no reactor {index}"))?.clone())
    }

    /// Opens the device and starts `work` with it on a reactor. The result comes as a future, so
    /// that several reactors can work at once; slots that are in use in the end are an error.
    ///
    /// # Errors
    /// When the device cannot be opened.
    pub fn start<F, R>(
        &self,
        reactor: usize,
        work: F,
    ) -> Result<impl Future<Output = Result<R>> + use<F, R>>
    where
        F: FnOnce(Dut) -> LocalBoxFuture<'static, Result<R>> + Send + 'static,
        R: Send + 'static,
    {
        let device = self.engine.device_lookup(&self.device)?;
        let desc = device.open(true, "test")?;
        let (block_len, num_blocks) = (device.block_len(), device.num_blocks());
        let stores_data = self.spec.stores_data;
        let zones = self.engine.registry().find(&self.device)?.zones().copied();
        let reactor = self.reactor(reactor)?;
        Ok(async move {
            let answer = reactor.spawn(move |reactor| async move {
                let handle = desc.into_handle()?;
                let block_len = usize::try_from(block_len)?;
                let own = Rc::clone(&reactor);
                let dut = Dut { handle, reactor: own, stores_data, block_len, num_blocks, zones };
                work(dut).await
            });
            answer.await?
        })
    }

    /// Runs `work` on the first reactor to its end.
    ///
    /// # Errors
    /// The work's own.
    pub fn run<F, R>(&self, work: F) -> Result<R>
    where
        F: FnOnce(Dut) -> LocalBoxFuture<'static, Result<R>> + Send + 'static,
        R: Send + 'static,
    {
        block_on(self.start(0, work)?)
    }

    /// Removes the device, ends the engine and checks that every slot and every byte is back.
    ///
    /// # Errors
    /// When something is missing.
    pub fn finish(self) -> Result<()> {
        let bdev = self.engine.registry().find(&self.device)?;
        for reactor in self.engine.runtime().reactors() {
            let mut in_use = block_on(slots_in_use(reactor))?;
            // A task's last handle goes with the task, and its channel in the turn after that.
            for _ in 0..CLOSING_TURNS_MAX {
                if in_use == 0 && bdev.channel_stats().is_empty() {
                    break;
                }
                in_use = block_on(slots_in_use(reactor))?;
            }
            ensure!(in_use == 0, "{in_use} I/O slots are still in use on {reactor:?}");
        }
        let open = bdev.channel_stats().len();
        ensure!(open == 0, "{open} channels are still open without a handle");
        drop(bdev);
        let Self { engine, device, rig, memory, free_before, .. } = self;
        match rig {
            Some(rig) => rig.close(&engine).context("removing the device")?,
            None => block_on(bdev::destroy(&engine, &device)).context("removing the device")?,
        }
        export_pools(&engine)?;
        ensure!(Arc::strong_count(&engine) == 1, "someone still holds the engine");
        drop(engine);
        let free = memory.report().free_bytes;
        ensure!(free == free_before, "{} bytes of buffers are missing", free_before - free);
        Ok(())
    }
}

/// Exports the pools that devices came with.
///
/// # Errors
/// When one cannot be brought to its medium.
pub fn export_pools(engine: &Engine) -> Result<()> {
    for pool in engine.pools().all().iter().rev() {
        let exported = block_on(bdev::pool::export(engine, pool.name(), false))?;
        ensure!(exported.stopped.is_none(), "pool '{}': {:?}", pool.name(), exported.stopped);
    }
    Ok(())
}

async fn slots_in_use(reactor: &ReactorHandle) -> Result<usize> {
    Ok(reactor.call(|reactor| BdevCore::of(reactor).slots_in_use()).await?)
}

/// Runs a case on a fresh device of a kind, then checks that nothing leaked.
///
/// # Panics
/// When the case or the check fails.
pub fn run_case<F>(spec: &DeviceSpec, case: F)
where
    F: FnOnce(Dut) -> LocalBoxFuture<'static, Result<()>> + Send + 'static,
{
    let result = Bench::new(spec, 1).and_then(|bench| match bench {
        Some(bench) => {
            bench.run(case)?;
            bench.finish()
        }
        None => Ok(()),
    });
    if let Err(error) = result {
        panic!("{}: {error:#}", spec.name);
    }
}

impl Dut {
    /// The number of blocks that hold at least so many bytes.
    #[must_use]
    pub fn blocks_of(&self, bytes: usize) -> u64 {
        bytes.div_ceil(self.block_len) as u64
    }

    /// The bytes of so many blocks.
    ///
    /// # Errors
    /// When they do not fit memory.
    pub fn bytes_of(&self, blocks: u64) -> Result<usize> {
        Ok(usize::try_from(blocks)? * self.block_len)
    }

    /// A buffer for so many blocks, filled with what belongs to `seed`.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn pattern(&self, blocks: u64, seed: u64) -> Result<DmaBuf> {
        let mut buf = self.handle.dma_malloc(self.bytes_of(blocks)?)?;
        Rng::new(seed).fill(buf.as_mut_slice());
        Ok(buf)
    }

    /// Sees to it that something else is in blocks that are about to be written. On a zoned device
    /// the write pointer is at the first of them then; what was in their zone is lost.
    ///
    /// # Errors
    /// When a write, or the reset of the zone, fails.
    pub async fn prepare(&self, offset: u64, blocks: u64) -> Result<()> {
        if self.zones.is_none() {
            return self.put(offset, blocks, 1).await;
        }
        self.wind(offset).await
    }

    /// Brings the write pointer of a zone to a block.
    async fn wind(&self, offset: u64) -> Result<()> {
        let Some(zones) = self.zones else { return Ok(()) };
        let first = offset - offset % zones.zone_blocks;
        let reset = IoRequest::zone(first, 1, ZoneAction::Reset);
        let status = self.handle.submit_async(reset).await.status;
        ensure!(status.is_success(), "reset of the zone at {first}: {status}");
        match offset - first {
            0 => Ok(()),
            before => self.put(first, before, 1).await,
        }
    }

    /// Writes what belongs to `seed`, on a zoned device after the zone was made ready for it.
    ///
    /// # Errors
    /// When the write fails.
    pub async fn write(&self, offset: u64, blocks: u64, seed: u64) -> Result<()> {
        self.wind(offset).await?;
        self.put(offset, blocks, seed).await
    }

    async fn put(&self, offset: u64, blocks: u64, seed: u64) -> Result<()> {
        let buf = self.pattern(blocks, seed)?.into();
        let done = self.handle.writev_blocks_async(buf, offset, blocks).await;
        ensure!(done.status.is_success(), "write of {blocks} at {offset}: {}", done.status);
        Ok(())
    }

    /// Reads blocks into a buffer that held something else before.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn read(&self, offset: u64, blocks: u64) -> Result<DmaBuf> {
        let mut buf = self.handle.dma_malloc(self.bytes_of(blocks)?)?;
        buf.fill(0xa5);
        let done = self.handle.readv_blocks_async(buf.into(), offset, blocks).await;
        ensure!(done.status.is_success(), "read of {blocks} at {offset}: {}", done.status);
        done.buf.into_one().ok_or_else(|| anyhow!("the read lost its buffer"))
    }

    /// Reads blocks; they must hold what belongs to `seed`.
    ///
    /// # Errors
    /// When the read fails or finds something else.
    pub async fn expect(&self, offset: u64, blocks: u64, seed: u64) -> Result<()> {
        let expected = self.pattern(blocks, seed)?;
        let found = self.read(offset, blocks).await?;
        self.same(offset, found.as_slice(), expected.as_slice())
    }

    /// Reads blocks; they must be zero.
    ///
    /// # Errors
    /// When the read fails or finds something else.
    pub async fn expect_zeroes(&self, offset: u64, blocks: u64) -> Result<()> {
        let found = self.read(offset, blocks).await?;
        self.same(offset, found.as_slice(), &vec![0; found.len()])
    }

    /// Compares data where the device stores data.
    ///
    /// # Errors
    /// When they differ, naming the first block that does.
    pub fn same(&self, offset: u64, found: &[u8], expected: &[u8]) -> Result<()> {
        ensure!(found.len() == expected.len(), "{} of {} bytes", found.len(), expected.len());
        if self.stores_data && found != expected {
            let at = found.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(0);
            let block = offset + (at / self.block_len) as u64;
            bail!("wrong data in block {block}, byte {}", at % self.block_len);
        }
        Ok(())
    }

    /// Checks the end of a compare of data that are equal, or not. A device that stores nothing
    /// may find either, and must find one of them.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub fn compared(&self, done: &IoCompletion, equal: bool) -> Result<()> {
        let expected = if equal { NvmeStatus::SUCCESS } else { NvmeStatus::COMPARE_FAILURE };
        let either = [NvmeStatus::SUCCESS, NvmeStatus::COMPARE_FAILURE].contains(&done.status);
        let right = done.status == expected || (!self.stores_data && either);
        ensure!(
            right,
            "compare of {} data: {}",
            ["other", "equal"][usize::from(equal)],
            done.status
        );
        Ok(())
    }

    /// A compare-and-write.
    pub async fn compare_and_write(
        &self,
        expected: DmaBuf,
        new: DmaBuf,
        offset: u64,
        blocks: u64,
    ) -> IoCompletion {
        let bufs = IoBuf::from(spdk_rs::bdev::SgList::new(vec![expected, new]));
        let request = IoRequest::new(IoType::CompareAndWrite, offset, blocks, bufs);
        self.handle.submit_async(request).await
    }

    /// A copy inside the device.
    pub async fn copy(&self, to: u64, from: u64, blocks: u64) -> IoCompletion {
        let mut request = IoRequest::new(IoType::Copy, to, blocks, IoBuf::None);
        request.source_blocks = from;
        self.handle.submit_async(request).await
    }
}
