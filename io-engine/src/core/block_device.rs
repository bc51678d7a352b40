//! The three traits.

use std::rc::Rc;
use std::sync::Arc;

use async_trait::async_trait;
use spdk_rs::bdev::{
    ClaimKind, EventListener, IoBuf, IoConsumer, IoFuture, IoRequest, IoStats, IoType, NvmeCommand,
    Refused,
};
use spdk_rs::env::DmaBuf;
use uuid::Uuid;

use super::CoreError;

/// A block device: what it is, and the way to open it.
pub trait BlockDevice: Send + Sync {
    /// Size in bytes.
    fn size_in_bytes(&self) -> u64;
    /// Bytes per block: the unit of offsets and lengths.
    fn block_len(&self) -> u64;
    /// Size in blocks.
    fn num_blocks(&self) -> u64;
    /// Unique identifier.
    fn uuid(&self) -> Uuid;
    /// What it is, in words.
    fn product_name(&self) -> &str;
    /// The driver's name.
    fn driver_name(&self) -> &str;
    /// The device's unique name.
    fn device_name(&self) -> &str;
    /// Buffers start at a multiple of this many bytes.
    fn alignment(&self) -> u64;
    /// Whether completed writes may be lost in a power cut until they are flushed.
    fn write_cache(&self) -> bool;
    /// Whether a kind of I/O can be asked for, emulated ones included.
    fn io_type_supported(&self, kind: IoType) -> bool;
    /// What happened so far, over all cores. Reads memory only.
    fn io_stats(&self) -> IoStats;
    /// Opens the device for reading, or for reading and writing; `owner` is quoted when someone
    /// else is refused because of it.
    ///
    /// # Errors
    /// [`CoreError::Claim`] when a claim or the device forbids it.
    fn open(
        &self,
        read_write: bool,
        owner: &str,
    ) -> Result<Box<dyn BlockDeviceDescriptor>, CoreError>;
    /// The controller behind the device, when it has one.
    fn get_io_controller(&self) -> Option<Box<dyn DeviceIoController>>;
    /// Has `listener` told of removal and resizing until the guard is dropped.
    ///
    /// # Errors
    /// [`CoreError::Claim`] when the device was removed.
    fn add_event_listener(&self, listener: EventListener) -> Result<ListenerGuard, CoreError>;
}

/// The controller behind a device (an NVMe controller, for example).
pub trait DeviceIoController: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;
}

/// Keeps an event listener registered.
#[must_use = "the listener is removed when the guard is dropped"]
pub struct ListenerGuard(pub(super) Arc<spdk_rs::bdev::BdevDesc>);

impl ListenerGuard {
    /// The device that is listened to.
    #[must_use]
    pub fn device_name(&self) -> &str {
        self.0.bdev().name()
    }
}

/// An open device.
#[async_trait(?Send)]
pub trait BlockDeviceDescriptor: Send + Sync {
    /// The device.
    fn get_device(&self) -> Box<dyn BlockDevice>;
    /// The device's name.
    fn device_name(&self) -> &str;
    /// Turns the descriptor into a handle for I/O from this thread's reactor.
    ///
    /// # Errors
    /// [`CoreError::Channel`].
    fn into_handle(self: Box<Self>) -> Result<Box<dyn BlockDeviceHandle>, CoreError>;
    /// A handle for I/O from this thread's reactor.
    ///
    /// # Errors
    /// [`CoreError::Channel`] when the thread is no reactor or the driver has no channel for it.
    fn get_io_handle(&self) -> Result<Box<dyn BlockDeviceHandle>, CoreError>;
    /// As [`BlockDeviceDescriptor::get_io_handle`], after everything else on the reactor had a
    /// turn: opening many handles in a row does not hold a core.
    async fn get_io_handle_nonblock(&self) -> Result<Box<dyn BlockDeviceHandle>, CoreError>;
    /// Claims the device.
    ///
    /// # Errors
    /// [`CoreError::Claim`] when another claim or writer is in the way.
    fn claim(&self, kind: ClaimKind) -> Result<(), CoreError>;
    /// Gives the descriptor's claim up.
    fn unclaim(&self);
}

/// I/O to an open device from the reactor that made the handle.
///
/// Offsets and lengths are in blocks. The callback forms tell `done` with `tag` when the I/O has
/// ended; refused I/O comes back at once and has no callback. The `_async` forms allocate nothing.
/// Buffers move in and come back with the result.
pub trait BlockDeviceHandle {
    /// The device.
    fn get_device(&self) -> &dyn BlockDevice;
    /// A buffer of `len` bytes for this device.
    ///
    /// # Errors
    /// [`CoreError::Memory`].
    fn dma_malloc(&self, len: usize) -> Result<DmaBuf, CoreError>;
    /// Submits any I/O.
    ///
    /// # Errors
    /// [`Refused`], with the buffers, when a check fails or the core has no slot left.
    fn submit(
        &self,
        io: IoRequest,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>>;
    /// Submits any I/O and returns the future of its end.
    fn submit_async(&self, io: IoRequest) -> IoFuture;
    /// Submits several I/Os as one batch; `ios` is emptied up to the first refused one.
    ///
    /// # Errors
    /// The refused I/O and its tag; those before it are on their way.
    fn submit_batch(
        &self,
        ios: &mut Vec<(IoRequest, u64)>,
        done: &Rc<dyn IoConsumer>,
    ) -> Result<(), (Box<Refused>, u64)>;
    /// Passes an NVMe command as it is; refused by devices that are no NVMe devices.
    fn nvme_command_async(&self, kind: IoType, command: &NvmeCommand, buf: IoBuf) -> IoFuture;

    /// Reads blocks into the buffers.
    ///
    /// # Errors
    /// As [`BlockDeviceHandle::submit`].
    fn readv_blocks(
        &self,
        buf: IoBuf,
        offset_blocks: u64,
        num_blocks: u64,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        self.submit(IoRequest::new(IoType::Read, offset_blocks, num_blocks, buf), done, tag)
    }

    /// Writes the buffers to blocks.
    ///
    /// # Errors
    /// As [`BlockDeviceHandle::submit`].
    fn writev_blocks(
        &self,
        buf: IoBuf,
        offset_blocks: u64,
        num_blocks: u64,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        self.submit(IoRequest::new(IoType::Write, offset_blocks, num_blocks, buf), done, tag)
    }

    /// Compares blocks with the buffers.
    ///
    /// # Errors
    /// As [`BlockDeviceHandle::submit`].
    fn comparev_blocks(
        &self,
        buf: IoBuf,
        offset_blocks: u64,
        num_blocks: u64,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        self.submit(IoRequest::new(IoType::Compare, offset_blocks, num_blocks, buf), done, tag)
    }

    /// Gives blocks back.
    ///
    /// # Errors
    /// As [`BlockDeviceHandle::submit`].
    fn unmap_blocks(
        &self,
        offset_blocks: u64,
        num_blocks: u64,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        let io = IoRequest::new(IoType::Unmap, offset_blocks, num_blocks, IoBuf::None);
        self.submit(io, done, tag)
    }

    /// Writes zeroes to blocks.
    ///
    /// # Errors
    /// As [`BlockDeviceHandle::submit`].
    fn write_zeroes(
        &self,
        offset_blocks: u64,
        num_blocks: u64,
        done: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        let io = IoRequest::new(IoType::WriteZeroes, offset_blocks, num_blocks, IoBuf::None);
        self.submit(io, done, tag)
    }

    /// Brings all completed writes to the medium.
    ///
    /// # Errors
    /// As [`BlockDeviceHandle::submit`].
    fn flush_io(&self, done: &Rc<dyn IoConsumer>, tag: u64) -> Result<(), Box<Refused>> {
        let all = self.get_device().num_blocks();
        self.submit(IoRequest::new(IoType::Flush, 0, all, IoBuf::None), done, tag)
    }

    /// Abandons what is in flight where the device can, and starts afresh.
    ///
    /// # Errors
    /// As [`BlockDeviceHandle::submit`].
    fn reset(&self, done: &Rc<dyn IoConsumer>, tag: u64) -> Result<(), Box<Refused>> {
        self.submit(IoRequest::new(IoType::Reset, 0, 0, IoBuf::None), done, tag)
    }

    /// Reads blocks into the buffers.
    fn readv_blocks_async(&self, buf: IoBuf, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Read, offset_blocks, num_blocks, buf))
    }

    /// Writes the buffers to blocks.
    fn writev_blocks_async(&self, buf: IoBuf, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Write, offset_blocks, num_blocks, buf))
    }

    /// Compares blocks with the buffers.
    fn comparev_blocks_async(&self, buf: IoBuf, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Compare, offset_blocks, num_blocks, buf))
    }

    /// Gives blocks back.
    fn unmap_blocks_async(&self, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Unmap, offset_blocks, num_blocks, IoBuf::None))
    }

    /// Writes zeroes to blocks.
    fn write_zeroes_async(&self, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        let kind = IoType::WriteZeroes;
        self.submit_async(IoRequest::new(kind, offset_blocks, num_blocks, IoBuf::None))
    }

    /// Brings all completed writes to the medium.
    fn flush_io_async(&self) -> IoFuture {
        let all = self.get_device().num_blocks();
        self.submit_async(IoRequest::new(IoType::Flush, 0, all, IoBuf::None))
    }

    /// Abandons what is in flight where the device can, and starts afresh.
    fn reset_async(&self) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Reset, 0, 0, IoBuf::None))
    }

    /// Passes an NVMe admin command as it is.
    fn nvme_admin_async(&self, command: &NvmeCommand, buf: IoBuf) -> IoFuture {
        self.nvme_command_async(IoType::NvmeAdmin, command, buf)
    }

    /// Passes an NVMe I/O command as it is.
    fn io_passthru_async(&self, command: &NvmeCommand, buf: IoBuf) -> IoFuture {
        self.nvme_command_async(IoType::NvmeIo, command, buf)
    }

    /// The controller's identify data, 4096 bytes (NVMe Base Specification 2.0, section 5.17.2.1).
    fn nvme_identify_ctrlr_async(&self, buf: DmaBuf) -> IoFuture {
        let command = NvmeCommand::new(nvme::IDENTIFY).with_cdw(10, nvme::CNS_CONTROLLER);
        self.nvme_admin_async(&command, buf.into())
    }

    /// Registers, replaces or removes a reservation key (section 7.3): action 0 to 2, change of
    /// persistence 0 to 3; the buffer holds the present and the new key, 16 bytes.
    fn nvme_resv_register_async(&self, action: u8, cptpl: u8, buf: DmaBuf) -> IoFuture {
        let cdw10 = u32::from(action & 7) | u32::from(cptpl & 3) << 30;
        let command = NvmeCommand::new(nvme::RESERVATION_REGISTER).with_cdw(10, cdw10);
        self.io_passthru_async(&command, buf.into())
    }

    /// Acquires or preempts a reservation (section 7.1): action 0 to 2, type 1 to 6; the buffer
    /// holds the present key and the key to preempt, 16 bytes.
    fn nvme_resv_acquire_async(&self, action: u8, kind: u8, buf: DmaBuf) -> IoFuture {
        let cdw10 = u32::from(action & 7) | u32::from(kind) << 8;
        let command = NvmeCommand::new(nvme::RESERVATION_ACQUIRE).with_cdw(10, cdw10);
        self.io_passthru_async(&command, buf.into())
    }

    /// Releases or clears a reservation (section 7.4): action 0 or 1, type 1 to 6; the buffer
    /// holds the present key, 8 bytes.
    fn nvme_resv_release_async(&self, action: u8, kind: u8, buf: DmaBuf) -> IoFuture {
        let cdw10 = u32::from(action & 7) | u32::from(kind) << 8;
        let command = NvmeCommand::new(nvme::RESERVATION_RELEASE).with_cdw(10, cdw10);
        self.io_passthru_async(&command, buf.into())
    }

    /// Reports reservations in the extended form (section 7.5) into the buffer.
    fn nvme_resv_report_async(&self, buf: DmaBuf) -> IoFuture {
        let dwords = u32::try_from(buf.len() / 4).unwrap_or(u32::MAX).saturating_sub(1);
        let command = NvmeCommand::new(nvme::RESERVATION_REPORT)
            .with_cdw(10, dwords)
            .with_cdw(11, nvme::EXTENDED_REPORT);
        self.io_passthru_async(&command, buf.into())
    }
}

/// Opcodes and fields of the commands above (NVMe Base Specification 2.0, figures 138 and 390).
mod nvme {
    pub(super) const IDENTIFY: u8 = 0x06;
    pub(super) const CNS_CONTROLLER: u32 = 1;
    pub(super) const RESERVATION_REGISTER: u8 = 0x0d;
    pub(super) const RESERVATION_REPORT: u8 = 0x0e;
    pub(super) const RESERVATION_ACQUIRE: u8 = 0x11;
    pub(super) const RESERVATION_RELEASE: u8 = 0x15;
    pub(super) const EXTENDED_REPORT: u32 = 1;
}
