//! I/O to an open device from one core.

use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use super::buf::{IoBuf, SgList};
use super::channel::{Channel, Gate, has_range};
use super::consumer::{IoConsumer, Refused};
use super::core::{BdevCore, NO_SLOT, Request};
use super::desc::BdevDesc;
use super::future::IoFuture;
use super::io::{BdevIo, IoFlags, IoList};
use super::slot::Done;
use super::zone::check_report;
use super::{Bdev, IoType, NvmeCommand};
use crate::NvmeStatus;
use crate::env::{DmaBuf, IoVec};

/// An open device on the reactor that made the handle. Stays on that thread.
///
/// A submission is checked at once: refused I/O comes back with its buffers and its status, and
/// has no callback. What was accepted completes exactly once, from a later turn of the reactor.
#[derive(Clone)]
pub struct IoHandle {
    channel: Rc<Channel>,
    desc: Arc<BdevDesc>,
    writable: bool,
}

/// One I/O to be submitted. Offsets and lengths are in blocks.
#[derive(Debug)]
pub struct IoRequest {
    /// What is asked for.
    pub kind: IoType,
    /// Its modifiers.
    pub flags: IoFlags,
    /// The first block.
    pub offset_blocks: u64,
    /// The number of blocks.
    pub num_blocks: u64,
    /// For a copy: the first block that is read. For a zone management: what is to be done, which
    /// [`IoRequest::zone`] says.
    pub source_blocks: u64,
    /// The data.
    pub buf: IoBuf,
}

impl IoRequest {
    /// A request without modifiers.
    #[inline(always)]
    #[must_use]
    pub fn new(kind: IoType, offset_blocks: u64, num_blocks: u64, buf: IoBuf) -> Self {
        let (flags, source_blocks) = (IoFlags::empty(), 0);
        Self { kind, flags, offset_blocks, num_blocks, source_blocks, buf }
    }

    /// The same with force unit access when `on`.
    #[inline(always)]
    #[must_use]
    pub fn fua(mut self, on: bool) -> Self {
        self.flags.set(IoFlags::FUA, on);
        self
    }
}

impl IoHandle {
    pub(super) fn new(channel: Rc<Channel>, desc: Arc<BdevDesc>) -> Self {
        let writable = desc.is_writable();
        Self { channel, desc, writable }
    }

    pub(super) fn channel(&self) -> &Rc<Channel> {
        &self.channel
    }

    /// The device.
    #[must_use]
    pub fn bdev(&self) -> &Arc<Bdev> {
        self.channel.bdev()
    }

    /// The descriptor the handle was made from.
    #[must_use]
    pub fn desc(&self) -> &Arc<BdevDesc> {
        &self.desc
    }

    /// The present size in blocks, as this core knows it.
    #[must_use]
    pub fn num_blocks(&self) -> u64 {
        self.channel.num_blocks.get()
    }

    /// Whether a read of so many blocks may ask for the device's own memory now
    /// ([`IoFlags::LEND`] with [`IoBuf::None`]): the device can lend it, the read goes to the
    /// driver whole, and no interceptor is there to look at the data.
    #[inline(always)]
    #[must_use]
    pub fn lends(&self, num_blocks: u64) -> bool {
        let channel = &*self.channel;
        channel.lends
            && num_blocks <= channel.blocks_max
            && !channel.gate.get().contains(Gate::INTERCEPTED)
    }

    /// Whether the core has a slot for one more I/O.
    #[must_use]
    pub fn has_slot(&self) -> bool {
        self.channel.core().slab().has_free()
    }

    /// A buffer for this device.
    ///
    /// # Errors
    /// As [`crate::env::Memory::alloc`].
    pub fn dma_malloc(&self, len: usize) -> Result<DmaBuf, crate::env::MemoryError> {
        let memory = self.channel.reactor().memory();
        memory.alloc_aligned(len, self.channel.align_mask + 1)
    }

    /// Submits an I/O; `consumer` is told of its end with `tag`.
    ///
    /// # Errors
    /// [`Refused`] when a check fails or the core has no slot left; no callback comes then.
    #[inline(always)]
    pub fn submit(
        &self,
        request: IoRequest,
        consumer: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        // One buffer is the rule, and has a way of its own in which nothing is asked twice.
        let (kind, num_blocks) = (request.kind, request.num_blocks);
        let IoBuf::One(buf) = &request.buf else {
            return self.submit_any(request, consumer, tag);
        };
        if !kind.has_data() {
            return self.submit_any(request, consumer, tag);
        }
        if let Err(status) = self.check_range(&request).and_then(|()| self.check_one(&request, buf))
        {
            return Err(Refused::boxed(status, request.buf));
        }
        let core = self.channel.core();
        let Some(slot) = core.slab().take_free() else {
            return self.submit_any(request, consumer, tag);
        };
        let iovs = NonNull::from(buf.io_vecs());
        let request = started(request, iovs, Done::Consumer(Rc::clone(consumer)), tag);
        let io = BdevCore::fill(core.reactor().now(), &self.channel, slot, request);
        BdevCore::submit(&self.channel, io, kind, num_blocks);
        Ok(())
    }

    #[inline(never)]
    fn submit_any(
        &self,
        request: IoRequest,
        consumer: &Rc<dyn IoConsumer>,
        tag: u64,
    ) -> Result<(), Box<Refused>> {
        let (iovs, direct) = match self.check(&request) {
            Ok(checked) => checked,
            Err(status) => return Err(Refused::boxed(status, request.buf)),
        };
        let io = self.start(request, iovs, Done::Consumer(Rc::clone(consumer)), tag)?;
        self.pass_on(io, direct);
        Ok(())
    }

    /// Passes an I/O on that was checked and started.
    fn pass_on(&self, io: BdevIo, direct: bool) {
        if direct {
            let (kind, num_blocks) = (io.kind(), io.num_blocks());
            BdevCore::submit(&self.channel, io, kind, num_blocks);
        } else {
            self.channel.submit_slow(io);
        }
    }

    /// Submits an I/O and returns the future of its end. Dropping the future does not take the
    /// buffers from the device: they are freed when the I/O has ended.
    #[inline]
    pub fn submit_async(&self, request: IoRequest) -> IoFuture {
        let started = match self.check(&request) {
            Ok((iovs, direct)) => self.start(request, iovs, Done::Future, 0).map(|io| (io, direct)),
            Err(status) => Err(Refused::boxed(status, request.buf)),
        };
        match started {
            Ok((mut io, direct)) => {
                let future = IoFuture::of(&self.channel, &mut io);
                self.pass_on(io, direct);
                future
            }
            Err(refused) => IoFuture::refused(refused),
        }
    }

    /// Submits several I/Os as one batch: one entry into the driver for all that can go straight.
    ///
    /// `requests` is emptied up to the first refused one, whose error is returned; those before
    /// it are on their way, those behind it stay.
    ///
    /// # Errors
    /// As [`IoHandle::submit`], with the tag of the refused I/O.
    pub fn submit_batch(
        &self,
        requests: &mut Vec<(IoRequest, u64)>,
        consumer: &Rc<dyn IoConsumer>,
    ) -> Result<(), (Box<Refused>, u64)> {
        let mut batch = IoList::new();
        let mut result = Ok(());
        let mut taken = 0;
        for (request, tag) in requests.iter_mut() {
            taken += 1;
            let empty = IoRequest::new(request.kind, 0, 0, IoBuf::None);
            let request = std::mem::replace(request, empty);
            let started = match self.check(&request) {
                Ok((iovs, direct)) => {
                    let direct = direct && self.channel.takes(request.kind, request.num_blocks);
                    let done = Done::Consumer(Rc::clone(consumer));
                    self.start(request, iovs, done, *tag).map(|io| (io, direct))
                }
                Err(status) => Err(Refused::boxed(status, request.buf)),
            };
            match started {
                Ok((io, true)) if self.channel.gate.get().is_empty() => batch.push(io),
                Ok((io, _)) => self.channel.submit_slow(io),
                Err(refused) => {
                    result = Err((refused, *tag));
                    break;
                }
            }
        }
        requests.drain(..taken);
        if !batch.is_empty() {
            self.channel.submit_native_batch(&mut batch);
        }
        result
    }

    /// Reads blocks into a buffer.
    #[inline]
    pub fn read(&self, buf: impl Into<IoBuf>, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Read, offset_blocks, num_blocks, buf.into()))
    }

    /// Writes a buffer to blocks.
    #[inline]
    pub fn write(&self, buf: impl Into<IoBuf>, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Write, offset_blocks, num_blocks, buf.into()))
    }

    /// Writes a buffer to blocks; when it completes the data are on the medium.
    pub fn write_fua(
        &self,
        buf: impl Into<IoBuf>,
        offset_blocks: u64,
        num_blocks: u64,
    ) -> IoFuture {
        let request = IoRequest::new(IoType::Write, offset_blocks, num_blocks, buf.into());
        self.submit_async(request.fua(true))
    }

    /// Brings all completed writes to the medium.
    pub fn flush(&self) -> IoFuture {
        let all = self.num_blocks();
        self.submit_async(IoRequest::new(IoType::Flush, 0, all, IoBuf::None))
    }

    /// Gives blocks back; what they read as afterwards is up to the device.
    pub fn unmap(&self, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Unmap, offset_blocks, num_blocks, IoBuf::None))
    }

    /// Writes zeroes to blocks.
    pub fn write_zeroes(&self, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        let kind = IoType::WriteZeroes;
        self.submit_async(IoRequest::new(kind, offset_blocks, num_blocks, IoBuf::None))
    }

    /// Compares blocks with a buffer.
    pub fn compare(&self, buf: impl Into<IoBuf>, offset_blocks: u64, num_blocks: u64) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Compare, offset_blocks, num_blocks, buf.into()))
    }

    /// Compares blocks with `expected` and, if they are equal, writes `new` to them. No other I/O
    /// of this device comes between the two.
    pub fn compare_and_write(
        &self,
        expected: DmaBuf,
        new: DmaBuf,
        offset_blocks: u64,
        num_blocks: u64,
    ) -> IoFuture {
        let bufs = IoBuf::List(SgList::new(vec![expected, new]));
        let kind = IoType::CompareAndWrite;
        self.submit_async(IoRequest::new(kind, offset_blocks, num_blocks, bufs))
    }

    /// Copies blocks inside the device.
    pub fn copy(&self, to_blocks: u64, from_blocks: u64, num_blocks: u64) -> IoFuture {
        let mut request = IoRequest::new(IoType::Copy, to_blocks, num_blocks, IoBuf::None);
        request.source_blocks = from_blocks;
        self.submit_async(request)
    }

    /// Abandons what is in flight where the device can, waits for the rest, and starts afresh.
    pub fn reset(&self) -> IoFuture {
        self.submit_async(IoRequest::new(IoType::Reset, 0, 0, IoBuf::None))
    }

    /// Passes an NVMe command to the device as it is; the data pointer is made from `buf`.
    ///
    /// `kind` is [`IoType::NvmeAdmin`] or [`IoType::NvmeIo`]. A device that is no NVMe device
    /// refuses with [`NvmeStatus::INVALID_OPCODE`].
    pub fn nvme_command(&self, kind: IoType, command: &NvmeCommand, buf: IoBuf) -> IoFuture {
        let request = IoRequest::new(kind, 0, 0, buf);
        let refuse = |status, buf| IoFuture::refused(Refused::boxed(status, buf));
        if !matches!(kind, IoType::NvmeAdmin | IoType::NvmeIo) {
            return refuse(NvmeStatus::INVALID_FIELD, request.buf);
        }
        let (iovs, direct) = match self.check(&request) {
            Ok(checked) => checked,
            Err(status) => return refuse(status, request.buf),
        };
        match self.start(request, iovs, Done::Future, 0) {
            Ok(mut io) => {
                io.get_mut().command = *command;
                let future = IoFuture::of(&self.channel, &mut io);
                self.pass_on(io, direct);
                future
            }
            Err(refused) => IoFuture::refused(refused),
        }
    }

    /// Checks a request. Returns the table of its buffers, and whether its pieces are few enough
    /// for the driver.
    #[inline(always)]
    fn check(&self, request: &IoRequest) -> Result<(NonNull<[IoVec]>, bool), NvmeStatus> {
        let channel = &*self.channel;
        let kind = request.kind;
        self.check_range(request)?;
        if kind.has_data() {
            match &request.buf {
                IoBuf::One(buf) => {
                    self.check_one(request, buf)?;
                    Ok((NonNull::from(buf.io_vecs()), true))
                }
                IoBuf::List(list) => {
                    let bytes = request.num_blocks * u64::from(channel.block_len);
                    let wrong_len = list.len() as u64 != bytes || bytes == 0;
                    if wrong_len || list.length_bits() & channel.align_mask != 0 {
                        return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
                    }
                    let few = list.iovs().len() <= channel.segments_max;
                    Ok((NonNull::from(list.iovs()), few))
                }
                IoBuf::None if request.flags.contains(IoFlags::LEND) => {
                    if kind != IoType::Read || !self.lends(request.num_blocks) {
                        return Err(NvmeStatus::INVALID_FIELD);
                    }
                    if request.num_blocks == 0 {
                        return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
                    }
                    Ok((NonNull::from(&[]), true))
                }
                IoBuf::None | IoBuf::Lent(_) => Err(NvmeStatus::DATA_SGL_LENGTH_INVALID),
            }
        } else {
            self.check_without_data(request)?;
            Ok((NonNull::from(request.buf.io_vecs()), true))
        }
    }

    /// Checks that the handle may, and that the blocks are there.
    #[inline(always)]
    fn check_range(&self, request: &IoRequest) -> Result<(), NvmeStatus> {
        let channel = &*self.channel;
        let kind = request.kind;
        if kind.modifies() && !self.writable {
            return Err(NvmeStatus::WRITE_TO_READ_ONLY);
        }
        if has_range(kind) {
            let blocks = channel.num_blocks.get();
            let offset = request.offset_blocks;
            if offset > blocks || request.num_blocks > blocks - offset {
                return Err(NvmeStatus::LBA_OUT_OF_RANGE);
            }
        }
        Ok(())
    }

    /// Checks a single buffer: its length and its place.
    #[inline(always)]
    fn check_one(&self, request: &IoRequest, buf: &DmaBuf) -> Result<(), NvmeStatus> {
        let bytes = request.num_blocks * u64::from(self.channel.block_len);
        if buf.len() as u64 != bytes || bytes == 0 {
            return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
        }
        if buf.as_ptr().addr() & self.channel.align_mask != 0 {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        Ok(())
    }

    fn check_without_data(&self, request: &IoRequest) -> Result<(), NvmeStatus> {
        let kind = request.kind;
        if !self.bdev().io_types().contains(kind) {
            return Err(NvmeStatus::INVALID_OPCODE);
        }
        let needs_blocks = has_range(kind) && kind != IoType::Flush && kind != IoType::ZoneReport;
        if needs_blocks && request.num_blocks == 0 {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        let blocks = self.num_blocks();
        if kind == IoType::Copy
            && (request.source_blocks > blocks
                || request.num_blocks > blocks - request.source_blocks)
        {
            return Err(NvmeStatus::LBA_OUT_OF_RANGE);
        }
        if kind == IoType::ZoneReport {
            check_report(&self.channel, request.buf.len())?;
        }
        if kind == IoType::CompareAndWrite {
            let bytes = request.num_blocks.saturating_mul(u64::from(self.channel.block_len) * 2);
            let halves = matches!(&request.buf, IoBuf::List(list)
                if list.bufs().len() == 2 && list.bufs()[0].len() == list.bufs()[1].len());
            if request.buf.len() as u64 != bytes || !halves {
                return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
            }
        }
        Ok(())
    }

    fn start(
        &self,
        request: IoRequest,
        iovs: NonNull<[IoVec]>,
        done: Done,
        tag: u64,
    ) -> Result<BdevIo, Box<Refused>> {
        // A read without a buffer was let through by the check because it wants to be lent one.
        let lent = request.kind == IoType::Read && matches!(request.buf, IoBuf::None);
        let mut request = started(request, iovs, done, tag);
        request.flags.set(IoFlags::LEND, lent);
        let started = self.channel.core().start(&self.channel, request);
        started.map_err(|buf| Refused::boxed(NO_SLOT, buf))
    }
}

/// A request with what makes it an I/O: the table of its buffers, and who is to be told.
#[inline(always)]
fn started(request: IoRequest, iovs: NonNull<[IoVec]>, done: Done, tag: u64) -> Request {
    let IoRequest { kind, flags, offset_blocks, num_blocks, source_blocks, buf } = request;
    let (flags, argument) = (flags & IoFlags::FUA, source_blocks);
    Request { kind, flags, offset_blocks, num_blocks, argument, iovs, buf, done, tag }
}
