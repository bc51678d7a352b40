//! The blocks of one device.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use spdk_rs::bdev::{ClaimKind, IoRequest, IoType};
use spdk_rs::env::{DmaBuf, Memory};
use spdk_rs::reactor::{Reactor, ReactorHandle};
use tokio::sync::{RwLock, Semaphore};

use super::metrics::{CoreCounters, measured};
use super::record::{Medium, Record};
use super::{BlockApiError, BlockHandle, CreateOptions, PerfMetrics};
use crate::bdev;
use crate::core::{BlockDevice, BlockDeviceDescriptor, BlockDeviceHandle, CoreError, Engine};
use crate::pool::allocator::{Allocator, Block, Fragmentation, SharedAllocator, Space};
use crate::pool::bdev::DRIVER as VOLUME;

/// Who claims the device.
const OWNER: &str = "block API";

/// What a store is said to do, what it was seen to do, and what is left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockStats {
    /// What [`CreateOptions::declared`] says.
    pub declared: PerfMetrics,
    /// What the I/O of this store came to.
    pub measured: PerfMetrics,
    /// Free bytes.
    pub remaining: u64,
}

/// The blocks of one device, for any thread.
pub struct BlockStore {
    pub(super) device: Box<dyn BlockDevice>,
    /// Whether the device was made for the store and ends with it.
    made_device: bool,
    space: Space,
    block_len: u64,
    options: CreateOptions,
    pub(super) allocator: Arc<SharedAllocator>,
    /// On a volume of a pool: what is allocated, on the medium.
    pub(super) record: Option<Record>,
    memory: Memory,
    /// `None` once the store is closed.
    descriptor: RwLock<Option<Arc<dyn BlockDeviceDescriptor>>>,
    cores: Vec<Core>,
    next_core: AtomicUsize,
}

/// A reactor and its I/O to the store.
struct Core {
    reactor: ReactorHandle,
    /// One per I/O in flight; closed with the store.
    permits: Semaphore,
    counters: CoreCounters,
}

/// A transfer that was checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    kind: IoType,
    block: Block,
    offset: u64,
    len: u64,
}

impl BlockStore {
    /// Opens or makes a device and claims it. On a volume of a pool, what was allocated before is so
    /// again; on any other device nothing is.
    ///
    /// # Errors
    /// [`BlockApiError`]; a device that was made is removed again.
    pub async fn create(
        engine: &Engine,
        options: &CreateOptions,
    ) -> Result<Arc<Self>, BlockApiError> {
        options.check()?;
        let (name, made) = options.device(engine).await?;
        let opened = Self::open(engine, options, &name, made).await;
        if opened.is_err()
            && made
            && let Err(error) = bdev::destroy(engine, &name).await
        {
            tracing::warn!("device '{name}' is left behind: {error}");
        }
        opened
    }

    async fn open(
        engine: &Engine,
        options: &CreateOptions,
        name: &str,
        made_device: bool,
    ) -> Result<Arc<Self>, BlockApiError> {
        let bdev = engine.registry().find(name).map_err(CoreError::from)?;
        bdev.refuse_zoned("a store of blocks").map_err(|allowed| {
            let (option, value) = ("device", name.to_owned());
            BlockApiError::Option { option, value, allowed }
        })?;
        let device = engine.device_lookup(name)?;
        options.space(&*device)?;
        let descriptor: Arc<dyn BlockDeviceDescriptor> = Arc::from(device.open(true, OWNER)?);
        descriptor.claim(ClaimKind::ExclusiveWrite)?;
        let begun = Self::begin(engine, options, device, &descriptor, made_device).await;
        if begun.is_err() {
            descriptor.unclaim();
        }
        begun
    }

    /// A store on a device that is claimed.
    async fn begin(
        engine: &Engine,
        options: &CreateOptions,
        device: Box<dyn BlockDevice>,
        descriptor: &Arc<dyn BlockDeviceDescriptor>,
        made_device: bool,
    ) -> Result<Arc<Self>, BlockApiError> {
        let (record, space, allocator) = if device.driver_name() == VOLUME {
            let reactor = engine.runtime().first().cloned();
            let none = BlockApiError::WrongThread("an engine without reactors does no I/O");
            let medium = Medium {
                name: device.device_name().to_owned(),
                block_len: device.block_len(),
                alignment: usize::try_from(device.alignment()).unwrap_or(usize::MAX),
                descriptor: Arc::clone(descriptor),
                reactor: reactor.ok_or(none)?,
                memory: engine.memory().clone(),
            };
            let (record, space, allocator) = Record::open(&medium, &*device, options).await?;
            (Some(record), space, allocator)
        } else {
            let space = options.space(&*device)?;
            (None, space, Allocator::new(space)?)
        };
        let allocator = SharedAllocator::new(allocator)?;
        let io_depth = usize::try_from(options.io_depth).unwrap_or(usize::MAX);
        let core = |reactor: &ReactorHandle| Core {
            reactor: reactor.clone(),
            permits: Semaphore::new(io_depth),
            counters: CoreCounters::default(),
        };
        Ok(Arc::new(Self {
            made_device,
            space,
            block_len: device.block_len(),
            device,
            options: options.clone(),
            allocator,
            record,
            memory: engine.memory().clone(),
            descriptor: RwLock::new(Some(Arc::clone(descriptor))),
            cores: engine.runtime().reactors().iter().map(core).collect(),
            next_core: AtomicUsize::new(0),
        }))
    }

    /// What it was made of.
    #[must_use]
    pub fn options(&self) -> &CreateOptions {
        &self.options
    }

    /// The device's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.device.device_name()
    }

    /// The device's block size in bytes: what offsets and lengths of I/O are multiples of.
    #[must_use]
    pub fn block_len(&self) -> u64 {
        self.block_len
    }

    /// Bytes that blocks are cut from.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.allocator.capacity()
    }

    /// I/Os in flight per core at the most.
    #[must_use]
    pub fn io_depth(&self) -> u32 {
        self.options.io_depth
    }

    /// What blocks begin at multiples of, in bytes.
    #[must_use]
    pub fn alignment(&self) -> u64 {
        self.space.alignment
    }

    /// Whether the device was made for the store, and ends with it.
    #[must_use]
    pub fn made_device(&self) -> bool {
        self.made_device
    }

    /// How the free bytes are cut up.
    #[must_use]
    pub fn fragmentation(&self) -> Fragmentation {
        self.allocator.fragmentation()
    }

    /// A buffer of `len` bytes that the device can read and write as it is. Its content is
    /// anything.
    ///
    /// # Errors
    /// [`BlockApiError::Memory`].
    pub fn buffer(&self, len: usize) -> Result<DmaBuf, BlockApiError> {
        let align = usize::try_from(self.device.alignment()).unwrap_or(usize::MAX);
        Ok(self.memory.alloc_aligned(len, align)?)
    }

    /// A buffer with a copy of `data`.
    ///
    /// # Errors
    /// [`BlockApiError::Memory`].
    pub fn buffer_of(&self, data: &[u8]) -> Result<DmaBuf, BlockApiError> {
        let mut buf = self.buffer(data.len())?;
        buf.as_mut_slice().copy_from_slice(data);
        Ok(buf)
    }

    /// Writes a buffer to a block from byte `offset` of it on; gives the buffer back.
    ///
    /// # Errors
    /// [`BlockApiError`]; nothing was written unless it is [`BlockApiError::Io`].
    pub async fn write(
        self: &Arc<Self>,
        block: &Block,
        offset: u64,
        data: DmaBuf,
    ) -> Result<DmaBuf, BlockApiError> {
        let transfer = self.transfer(IoType::Write, block, offset, &data)?;
        self.send(transfer, data).await
    }

    /// Reads a block from byte `offset` of it on into the whole buffer; gives it back.
    ///
    /// # Errors
    /// [`BlockApiError`].
    pub async fn read(
        self: &Arc<Self>,
        block: &Block,
        offset: u64,
        buf: DmaBuf,
    ) -> Result<DmaBuf, BlockApiError> {
        let transfer = self.transfer(IoType::Read, block, offset, &buf)?;
        self.send(transfer, buf).await
    }

    /// What is declared, measured and left.
    #[must_use]
    pub fn get_stats(&self) -> BlockStats {
        let counters = self.cores.iter().map(|core| &core.counters);
        let (declared, measured) = (self.options.declared, measured(counters));
        BlockStats { declared, measured, remaining: self.allocator.remaining() }
    }

    /// A handle for I/O from this thread's reactor, with a magazine of its own.
    ///
    /// # Errors
    /// [`BlockApiError::WrongThread`] on a thread that is no reactor of the engine.
    pub async fn handle(self: &Arc<Self>) -> Result<BlockHandle, BlockApiError> {
        let here = Reactor::current().map(|reactor| reactor.core());
        let core = self.cores.iter().position(|core| Some(core.reactor.core()) == here);
        let wrong = BlockApiError::WrongThread("a handle is made on a reactor, for that reactor");
        let core = core.ok_or(wrong)?;
        let io = self.descriptor().await?.get_io_handle()?;
        Ok(BlockHandle::new(Arc::clone(self), core, io))
    }

    /// Waits for the I/O in flight and gives the device up; a device that was made for the store
    /// is removed. Handles of reactors keep the device open until they are dropped, and can do
    /// nothing with it.
    ///
    /// # Errors
    /// [`BlockApiError::Closed`] the second time.
    pub async fn close(&self, engine: &Engine) -> Result<(), BlockApiError> {
        let _idle = match &self.record {
            Some(record) => Some(record.lock.lock().await),
            None => None,
        };
        let descriptor = self.descriptor.write().await.take().ok_or_else(|| self.closed())?;
        for core in &self.cores {
            // All of them are had when nothing is in flight. They are not given back.
            let all = core.permits.acquire_many(self.options.io_depth).await;
            core.permits.close();
            drop(all);
        }
        descriptor.unclaim();
        drop(descriptor);
        if self.made_device {
            match bdev::destroy(engine, self.name()).await {
                // Somebody else has removed it meanwhile.
                Err(bdev::BdevError::Registry(_)) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn allocator(&self) -> &Arc<SharedAllocator> {
        &self.allocator
    }

    /// Has so many I/Os in flight on the first core, as far as the depth is concerned.
    #[cfg(test)]
    pub(super) async fn take_permits(
        &self,
        count: u32,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, tokio::sync::AcquireError> {
        self.cores[0].permits.acquire_many(count).await
    }

    fn closed(&self) -> BlockApiError {
        BlockApiError::Closed { device: self.name().to_owned() }
    }

    /// How the device is reached past the blocks.
    pub(super) async fn medium(&self) -> Result<Medium, BlockApiError> {
        let descriptor = self.descriptor().await?;
        let index = self.next_core.fetch_add(1, Ordering::Relaxed) % self.cores.len().max(1);
        Ok(Medium {
            name: self.name().to_owned(),
            block_len: self.block_len,
            alignment: usize::try_from(self.device.alignment()).unwrap_or(usize::MAX),
            descriptor,
            reactor: self.cores[index].reactor.clone(),
            memory: self.memory.clone(),
        })
    }

    async fn descriptor(&self) -> Result<Arc<dyn BlockDeviceDescriptor>, BlockApiError> {
        self.descriptor.read().await.clone().ok_or_else(|| self.closed())
    }

    /// Checks a transfer of a whole buffer.
    pub(super) fn transfer(
        &self,
        kind: IoType,
        block: &Block,
        offset: u64,
        buf: &DmaBuf,
    ) -> Result<Transfer, BlockApiError> {
        let (block, len) = (*block, buf.len() as u64);
        self.allocator.check(&block)?;
        let block_len = self.block_len;
        if len == 0 || (offset | len) & (block_len - 1) != 0 {
            let device = self.name().to_owned();
            return Err(BlockApiError::Unaligned { device, offset, len, block_len });
        }
        if offset.checked_add(len).is_none_or(|end| end > block.size) {
            return Err(BlockApiError::Beyond { block, offset, len });
        }
        Ok(Transfer { kind, block, offset, len })
    }

    /// Has one of the reactors do a transfer.
    async fn send(
        self: &Arc<Self>,
        transfer: Transfer,
        buf: DmaBuf,
    ) -> Result<DmaBuf, BlockApiError> {
        let descriptor = self.descriptor().await?;
        let index = self.next_core.fetch_add(1, Ordering::Relaxed) % self.cores.len().max(1);
        let (store, core) = (Arc::clone(self), &self.cores[index]);
        let work = async move || {
            let io = descriptor.get_io_handle()?;
            store.perform(index, &*io, transfer, buf).await
        };
        core.reactor.spawn(move |_| work()).await.map_err(CoreError::from)?
    }

    /// Does a transfer on the reactor that this is.
    pub(super) async fn perform(
        &self,
        core: usize,
        io: &dyn BlockDeviceHandle,
        transfer: Transfer,
        buf: DmaBuf,
    ) -> Result<DmaBuf, BlockApiError> {
        let Transfer { kind, block, offset, len } = transfer;
        let core = &self.cores[core];
        let _permit = core.permits.acquire().await.map_err(|_| self.closed())?;
        let running = core.counters.begin(kind);
        let first = (block.offset + offset) / self.block_len;
        let request = IoRequest::new(kind, first, len / self.block_len, buf.into());
        let done = io.submit_async(request).await;
        match (done.status.ok(), done.buf.into_one()) {
            (Ok(()), Some(buf)) => {
                running.succeeded(len);
                Ok(buf)
            }
            _ => {
                let (device, status) = (self.name().to_owned(), done.status);
                Err(BlockApiError::Io { device, kind, block, offset, len, status })
            }
        }
    }
}

impl std::fmt::Debug for BlockStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockStore({})", self.name())
    }
}
