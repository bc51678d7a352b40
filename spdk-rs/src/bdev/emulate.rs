//! I/O that a driver lacks and that can be done honestly with reads and writes.
//!
//! A reset, and a compare-and-write as one change, first hold back all other I/O of the device on
//! every core and wait until nothing is in flight.

use std::ptr::NonNull;
use std::rc::Rc;

use super::buf::IoBuf;
use super::channel::Channel;
use super::core::{BdevCore, NO_SLOT, Request};
use super::future::IoFuture;
use super::interceptor::Notice;
use super::io::{BdevIo, IoFlags};
use super::slot::Done;
use super::{IoType, consumer::Refused};
use crate::NvmeStatus;
use crate::env::{DmaBuf, IoVec};
use crate::reactor::ReactorHandle;

/// Bytes that one step of an emulated I/O transfers.
const STEP_BYTES: u64 = 256 << 10;

/// Does an I/O that the driver does not do itself, or refuses it.
#[cold]
pub(super) fn start(channel: &Channel, io: BdevIo) {
    let kind = io.kind();
    let Some(shared) = channel.shared().filter(|_| channel.bdev().io_types().contains(kind)) else {
        io.complete(NvmeStatus::INVALID_OPCODE);
        return;
    };
    channel.reactor().spawn(kind.name(), async move {
        let done = match kind {
            IoType::WriteZeroes => write_zeroes(&shared, &io).await,
            IoType::Compare => compare(&shared, &io).await,
            IoType::CompareAndWrite => compare_and_write(&shared, &io).await,
            IoType::Copy => copy(&shared, &io).await,
            IoType::Reset => reset(&shared).await,
            _ => Err(NvmeStatus::INVALID_OPCODE),
        };
        io.complete(done.err().unwrap_or(NvmeStatus::SUCCESS));
    });
}

/// The steps of a range: offset from its start and length, in blocks.
fn steps(channel: &Channel, num_blocks: u64) -> impl Iterator<Item = (u64, u64)> + use<> {
    let step = (STEP_BYTES / u64::from(channel.block_len)).clamp(1, channel.blocks_max);
    (0..num_blocks.div_ceil(step)).map(move |i| (i * step, step.min(num_blocks - i * step)))
}

/// A buffer for the largest step of a range.
fn step_buffer(channel: &Channel, num_blocks: u64) -> Result<DmaBuf, NvmeStatus> {
    let largest = steps(channel, num_blocks).next().map_or(1, |(_, blocks)| blocks);
    let len = byte_len(channel, largest);
    let memory = channel.reactor().memory();
    memory.alloc_aligned(len, channel.align_mask + 1).map_err(|_| NvmeStatus::NOT_READY)
}

fn byte_len(channel: &Channel, blocks: u64) -> usize {
    usize::try_from(blocks * u64::from(channel.block_len)).unwrap_or(usize::MAX)
}

/// Submits an I/O of the layer's own.
fn internal(
    channel: &Rc<Channel>,
    kind: IoType,
    fua: bool,
    offset_blocks: u64,
    num_blocks: u64,
    buf: IoBuf,
) -> IoFuture {
    let mut flags = IoFlags::INTERNAL;
    flags.set(IoFlags::FUA, fua);
    let (argument, done, tag) = (0, Done::Future, 0);
    let iovs = NonNull::from(buf.io_vecs());
    let request =
        Request { kind, flags, offset_blocks, num_blocks, argument, iovs, buf, done, tag };
    match channel.core().start(channel, request) {
        Ok(mut io) => {
            let future = IoFuture::of(channel, &mut io);
            channel.submit_slow(io);
            future
        }
        Err(buf) => IoFuture::refused(Refused::boxed(NO_SLOT, buf)),
    }
}

/// One step with a buffer that comes back.
async fn transfer(
    channel: &Rc<Channel>,
    kind: IoType,
    fua: bool,
    at: (u64, u64),
    mut buf: DmaBuf,
) -> Result<DmaBuf, NvmeStatus> {
    buf.set_len(byte_len(channel, at.1)).map_err(|_| NvmeStatus::INTERNAL_ERROR)?;
    let done = internal(channel, kind, fua, at.0, at.1, IoBuf::One(buf)).await;
    done.ok()?.into_one().ok_or(NvmeStatus::INTERNAL_ERROR)
}

async fn write_zeroes(channel: &Rc<Channel>, io: &BdevIo) -> Result<(), NvmeStatus> {
    let mut buf = step_buffer(channel, io.num_blocks())?;
    buf.fill(0);
    for (offset, blocks) in steps(channel, io.num_blocks()) {
        let at = (io.offset_blocks() + offset, blocks);
        buf = transfer(channel, IoType::Write, io.fua(), at, buf).await?;
    }
    Ok(())
}

async fn compare(channel: &Rc<Channel>, io: &BdevIo) -> Result<(), NvmeStatus> {
    let mut buf = step_buffer(channel, io.num_blocks())?;
    for (offset, blocks) in steps(channel, io.num_blocks()) {
        let at = (io.offset_blocks() + offset, blocks);
        buf = transfer(channel, IoType::Read, false, at, buf).await?;
        if !io.equals_at(byte_len(channel, offset), buf.as_slice()) {
            return Err(NvmeStatus::COMPARE_FAILURE);
        }
    }
    Ok(())
}

/// Under the device's lock: compares the first half of the buffers, then writes the second.
async fn compare_and_write(channel: &Rc<Channel>, io: &BdevIo) -> Result<(), NvmeStatus> {
    let alone = Quiesced::begin(channel, 1).await;
    let half = byte_len(channel, io.num_blocks());
    let written = async {
        compare(channel, io).await?;
        let mut buf = step_buffer(channel, io.num_blocks())?;
        for (offset, blocks) in steps(channel, io.num_blocks()) {
            buf.set_len(byte_len(channel, blocks)).map_err(|_| NvmeStatus::INTERNAL_ERROR)?;
            io.copy_at(half + byte_len(channel, offset), buf.as_mut_slice());
            let at = (io.offset_blocks() + offset, blocks);
            buf = transfer(channel, IoType::Write, io.fua(), at, buf).await?;
        }
        Ok(())
    };
    let written = written.await;
    alone.end().await;
    written
}

/// Copies step by step; when the ranges overlap, from the end that keeps the source whole.
async fn copy(channel: &Rc<Channel>, io: &BdevIo) -> Result<(), NvmeStatus> {
    let mut buf = step_buffer(channel, io.num_blocks())?;
    let mut order: Vec<_> = steps(channel, io.num_blocks()).collect();
    if io.offset_blocks() > io.source_blocks() {
        order.reverse();
    }
    for (offset, blocks) in order {
        let from = (io.source_blocks() + offset, blocks);
        buf = transfer(channel, IoType::Read, false, from, buf).await?;
        let to = (io.offset_blocks() + offset, blocks);
        buf = transfer(channel, IoType::Write, io.fua(), to, buf).await?;
    }
    Ok(())
}

/// Has every core's driver abandon what it can, and waits until nothing is in flight.
async fn reset(channel: &Rc<Channel>) -> Result<(), NvmeStatus> {
    let alone = Quiesced::begin_with(channel, 1, true).await;
    let status = alone.status;
    alone.end().await;
    status.ok()
}

/// All I/O of a device held back, on every core, with nothing in flight.
struct Quiesced<'a> {
    channel: &'a Rc<Channel>,
    cores: Vec<ReactorHandle>,
    status: NvmeStatus,
    _turn: futures::lock::MutexGuard<'a, ()>,
}

impl<'a> Quiesced<'a> {
    /// `own` I/Os of this channel belong to the caller and are not waited for.
    async fn begin(channel: &'a Rc<Channel>, own: usize) -> Self {
        Self::begin_with(channel, own, false).await
    }

    async fn begin_with(channel: &'a Rc<Channel>, own: usize, reset: bool) -> Self {
        let bdev = channel.bdev();
        // Others that wait here for their turn are outstanding too: they are counted as held.
        channel.waiting.set(channel.waiting.get() + own);
        let turn = bdev.quiesce.lock().await;
        bdev.set_held(true);
        let cores = bdev.cores();
        bdev.on_channels(Channel::hold).await;
        let mut status = NvmeStatus::SUCCESS;
        for core in &cores {
            let bdev = std::sync::Arc::clone(bdev);
            let drained = core.spawn(move |reactor| async move {
                let channel = BdevCore::of(&reactor).find(&bdev)?;
                let status = reset.then(|| channel.driver().borrow_mut().reset());
                if reset {
                    channel.tell(None, Notice::Abandon);
                }
                channel.quiet().await;
                status
            });
            // A reactor that has ended has nothing in flight.
            if let Ok(Some(failed)) = drained.await
                && status.is_success()
            {
                status = failed;
            }
        }
        Self { channel, cores, status, _turn: turn }
    }

    async fn end(self) {
        let waiting = &self.channel.waiting;
        waiting.set(waiting.get() - 1);
        debug_assert!(!self.cores.is_empty(), "the caller's own core has a channel");
        let bdev = self.channel.bdev();
        bdev.set_held(false);
        bdev.on_channels(Channel::release).await;
    }
}

impl BdevIo {
    /// Whether the I/O's data from `offset` bytes on equal `found`.
    fn equals_at(&self, offset: usize, found: &[u8]) -> bool {
        let mut at = 0;
        self.each_piece(offset, found.len(), |piece| {
            let same = piece == &found[at..at + piece.len()];
            at += piece.len();
            same
        })
    }

    /// Copies the I/O's data from `offset` bytes on.
    fn copy_at(&self, offset: usize, target: &mut [u8]) {
        let (mut at, len) = (0, target.len());
        self.each_piece(offset, len, |piece| {
            target[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            true
        });
    }

    /// Calls `f` with the pieces of a range of the I/O's data until it returns false.
    fn each_piece(&self, offset: usize, len: usize, mut f: impl FnMut(&[u8]) -> bool) -> bool {
        let (mut skip, mut rest) = (offset, len);
        for iov in self.iovs() {
            let piece: IoVec = iov.advanced(skip).truncated(rest);
            skip = skip.saturating_sub(iov.len());
            rest -= piece.len();
            if !piece.is_empty() && !f(self.piece_bytes(&piece)) {
                return false;
            }
        }
        true
    }
}
