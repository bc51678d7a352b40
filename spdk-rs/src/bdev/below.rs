//! I/O of an interceptor's own: to the device as it is below the interceptor.
//!
//! The interceptors that stand before the one that asks do not see it, those behind it do. A lock
//! of all I/O of the device holds it back as any other; statistics do not count it, since it is a
//! part of the I/O that it is done for.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::channel::{Channel, has_range};
use super::consumer::Refused;
use super::core::{BdevCore, NO_SLOT, Request};
use super::future::IoFuture;
use super::io::{BdevIo, IoFlags};
use super::slot::Done;
use super::{Bdev, IoBuf, IoRequest, IoType};
use crate::NvmeStatus;
use crate::env::{DmaBuf, IoVec, MemoryError};
use crate::reactor::Reactor;

/// More than the interceptors that a channel takes: all of them are passed by.
const ALL: u8 = u8::MAX;

/// A device on one core as an interceptor reaches it.
#[derive(Clone)]
pub struct Below {
    channel: Rc<Channel>,
    above: u8,
}

impl Below {
    /// The device below all interceptors, on the reactor of this thread.
    ///
    /// # Errors
    /// When the driver cannot open a channel here.
    pub fn all(reactor: &Rc<Reactor>, bdev: &Arc<Bdev>) -> std::io::Result<Self> {
        Ok(Self { channel: BdevCore::of(reactor).channel(bdev)?, above: ALL })
    }

    /// The device.
    #[must_use]
    pub fn bdev(&self) -> &Arc<Bdev> {
        self.channel.bdev()
    }

    /// The reactor.
    #[must_use]
    pub fn reactor(&self) -> &Rc<Reactor> {
        self.channel.core().reactor()
    }

    /// A buffer for this device.
    ///
    /// # Errors
    /// As [`crate::env::Memory::alloc`].
    pub fn dma_malloc(&self, len: usize) -> Result<DmaBuf, MemoryError> {
        self.reactor().memory().alloc_aligned(len, self.channel.align_mask + 1)
    }

    /// Submits a read, a write or a flush; anything else is refused as an invalid field.
    pub fn submit(&self, request: IoRequest) -> IoFuture {
        if let Err(status) = self.check(&request) {
            return IoFuture::refused(Refused::boxed(status, request.buf));
        }
        let iovs = NonNull::from(request.buf.io_vecs());
        let IoRequest { kind, flags, offset_blocks, num_blocks, buf, .. } = request;
        let (argument, done, tag) = (0, Done::Future, 0);
        let flags = flags & IoFlags::FUA | IoFlags::BELOW;
        let request =
            Request { kind, flags, offset_blocks, num_blocks, argument, iovs, buf, done, tag };
        match self.channel.core().start(&self.channel, request) {
            Ok(io) => self.send(io),
            Err(buf) => IoFuture::refused(Refused::boxed(NO_SLOT, buf)),
        }
    }

    fn send(&self, mut io: BdevIo) -> IoFuture {
        let slot = io.get_mut();
        (slot.seen, slot.above) = (self.above, self.above);
        let future = IoFuture::of(&self.channel, &mut io);
        self.channel.submit_slow(io);
        future
    }

    fn check(&self, request: &IoRequest) -> Result<(), NvmeStatus> {
        let channel = &*self.channel;
        let bytes = match request.kind {
            IoType::Read | IoType::Write => {
                request.num_blocks.saturating_mul(u64::from(channel.block_len))
            }
            IoType::Flush => 0,
            _ => return Err(NvmeStatus::INVALID_FIELD),
        };
        let lent = matches!(request.buf, IoBuf::Lent(_));
        if request.buf.len() as u64 != bytes || lent {
            return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
        }
        let unaligned = |iov: &IoVec| iov.base().addr() & channel.align_mask != 0;
        if request.buf.io_vecs().iter().any(unaligned) {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        in_range(channel, request.kind, request.offset_blocks, request.num_blocks)
    }
}

/// Whether blocks are inside a device.
pub(super) fn in_range(
    channel: &Channel,
    kind: IoType,
    offset_blocks: u64,
    num_blocks: u64,
) -> Result<(), NvmeStatus> {
    let blocks = channel.num_blocks.get();
    let fits = offset_blocks <= blocks && num_blocks <= blocks - offset_blocks;
    if fits || !has_range(kind) { Ok(()) } else { Err(NvmeStatus::LBA_OUT_OF_RANGE) }
}

/// An I/O that its interceptor does and gets back: see [`BdevIo::perform`].
#[must_use = "the I/O is lost when this is dropped"]
pub struct Performing {
    io: Option<BdevIo>,
    running: IoFuture,
}

impl BdevIo {
    /// The device below the interceptor that has this I/O.
    #[must_use]
    pub fn below(&mut self) -> Below {
        let slot = self.get_mut();
        Below { channel: slot.channel(), above: slot.seen }
    }

    /// Does the I/O of an interceptor that keeps it, below that interceptor, and gives it back
    /// with its status, to be completed.
    pub fn perform(mut self) -> Performing {
        let below = self.below();
        let (kind, buf, done, tag) = (self.kind(), IoBuf::None, Done::Future, 0);
        let request = Request {
            kind,
            flags: self.flags() & IoFlags::FUA | IoFlags::BELOW,
            offset_blocks: self.offset_blocks(),
            num_blocks: self.num_blocks(),
            argument: self.source_blocks(),
            // The memory stays the I/O's, which is not completed before the other has ended.
            iovs: NonNull::from(self.iovs()),
            buf,
            done,
            tag,
        };
        let command = *self.nvme_command();
        let running = match below.channel.core().start(&below.channel, request) {
            Ok(mut io) => {
                io.get_mut().command = command;
                below.send(io)
            }
            Err(buf) => IoFuture::refused(Refused::boxed(NO_SLOT, buf)),
        };
        Performing { io: Some(self), running }
    }
}

impl Future for Performing {
    type Output = (BdevIo, NvmeStatus);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Poll::Ready(done) = Pin::new(&mut this.running).poll(cx) else { return Poll::Pending };
        match this.io.take() {
            Some(mut io) => {
                if done.result != 0 {
                    io.set_result(done.result);
                }
                Poll::Ready((io, done.status))
            }
            // Polled again after its end: it has none any more.
            None => Poll::Pending,
        }
    }
}

impl Drop for Performing {
    fn drop(&mut self) {
        if let Some(io) = self.io.take() {
            // The device may still use the memory, which goes with the I/O.
            tracing::error!(?io, "an I/O that was being done for an interceptor is lost");
            let _ = ManuallyDrop::new(io);
        }
    }
}
