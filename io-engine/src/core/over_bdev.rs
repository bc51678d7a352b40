//! The one implementation of the three traits, over the block device layer.

use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use spdk_rs::bdev::{
    Bdev, BdevDesc, ClaimKind, EventListener, IoBuf, IoConsumer, IoFuture, IoHandle, IoRequest,
    IoStats, IoType, NvmeCommand, OpenMode, Refused,
};
use spdk_rs::env::DmaBuf;
use uuid::Uuid;

use super::{
    BlockDevice, BlockDeviceDescriptor, BlockDeviceHandle, CoreError, DeviceIoController,
    ListenerGuard,
};

/// A device of the block device layer.
#[derive(Clone)]
pub(super) struct Device(pub(super) Arc<Bdev>);

impl BlockDevice for Device {
    fn size_in_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn block_len(&self) -> u64 {
        self.0.info().block_len.into()
    }

    fn num_blocks(&self) -> u64 {
        self.0.num_blocks()
    }

    fn uuid(&self) -> Uuid {
        self.0.info().uuid
    }

    fn product_name(&self) -> &str {
        &self.0.info().product_name
    }

    fn driver_name(&self) -> &str {
        self.0.info().driver_name
    }

    fn device_name(&self) -> &str {
        self.0.name()
    }

    fn alignment(&self) -> u64 {
        self.0.info().alignment as u64
    }

    fn write_cache(&self) -> bool {
        self.0.info().write_cache
    }

    fn io_type_supported(&self, kind: IoType) -> bool {
        self.0.io_types().contains(kind)
    }

    fn io_stats(&self) -> IoStats {
        self.0.stats()
    }

    fn open(
        &self,
        read_write: bool,
        owner: &str,
    ) -> Result<Box<dyn BlockDeviceDescriptor>, CoreError> {
        let mode = if read_write { OpenMode::ReadWrite } else { OpenMode::Read };
        Ok(Box::new(Descriptor(BdevDesc::open(&self.0, mode, owner, None)?)))
    }

    fn get_io_controller(&self) -> Option<Box<dyn DeviceIoController>> {
        None
    }

    fn add_event_listener(&self, listener: EventListener) -> Result<ListenerGuard, CoreError> {
        let desc = BdevDesc::open(&self.0, OpenMode::Read, "event listener", Some(listener))?;
        Ok(ListenerGuard(desc))
    }
}

struct Descriptor(Arc<BdevDesc>);

impl Descriptor {
    fn handle(&self) -> Result<Handle, CoreError> {
        let io = self.0.io_handle().map_err(|source| CoreError::Channel {
            device: self.0.bdev().name().to_owned(),
            source,
        })?;
        Ok(Handle { io, device: Device(Arc::clone(self.0.bdev())) })
    }
}

#[async_trait(?Send)]
impl BlockDeviceDescriptor for Descriptor {
    fn get_device(&self) -> Box<dyn BlockDevice> {
        Box::new(Device(Arc::clone(self.0.bdev())))
    }

    fn device_name(&self) -> &str {
        self.0.bdev().name()
    }

    fn into_handle(self: Box<Self>) -> Result<Box<dyn BlockDeviceHandle>, CoreError> {
        Ok(Box::new(self.handle()?))
    }

    fn get_io_handle(&self) -> Result<Box<dyn BlockDeviceHandle>, CoreError> {
        Ok(Box::new(self.handle()?))
    }

    async fn get_io_handle_nonblock(&self) -> Result<Box<dyn BlockDeviceHandle>, CoreError> {
        spdk_rs::reactor::yield_now().await;
        Ok(Box::new(self.handle()?))
    }

    fn claim(&self, kind: ClaimKind) -> Result<(), CoreError> {
        Ok(self.0.claim(kind)?)
    }

    fn unclaim(&self) {
        self.0.unclaim();
    }
}

struct Handle {
    io: IoHandle,
    device: Device,
}

impl BlockDeviceHandle for Handle {
    fn get_device(&self) -> &dyn BlockDevice {
        &self.device
    }

    fn dma_malloc(&self, len: usize) -> Result<DmaBuf, CoreError> {
        Ok(self.io.dma_malloc(len)?)
    }

    fn submit(
        &self,
        io: IoRequest,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        self.io.submit(io, done, tag)
    }

    fn submit_async(&self, io: IoRequest) -> IoFuture {
        self.io.submit_async(io)
    }

    fn submit_batch(
        &self,
        ios: &mut Vec<(IoRequest, u64)>,
        done: &Rc<dyn IoConsumer>,
    ) -> Result<(), (Box<Refused>, u64)> {
        self.io.submit_batch(ios, done)
    }

    fn nvme_command_async(&self, kind: IoType, command: &NvmeCommand, buf: IoBuf) -> IoFuture {
        self.io.nvme_command(kind, command, buf)
    }

    // The constant kind lets the compiler drop the checks of the other kinds.
    fn readv_blocks(
        &self,
        buf: IoBuf,
        offset_blocks: u64,
        num_blocks: u64,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        self.io.submit(IoRequest::new(IoType::Read, offset_blocks, num_blocks, buf), done, tag)
    }

    fn writev_blocks(
        &self,
        buf: IoBuf,
        offset_blocks: u64,
        num_blocks: u64,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        self.io.submit(IoRequest::new(IoType::Write, offset_blocks, num_blocks, buf), done, tag)
    }
}
