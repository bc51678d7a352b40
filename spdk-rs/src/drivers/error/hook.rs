//! What an error device does to its I/O on one core.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{ErrorKind, Shared};
use crate::NvmeStatus;
use crate::bdev::{
    BdevIo, Interceptor, InterceptorFactory, IoRequest, IoType, KeptList, Notice, Then,
};

pub(super) struct Make(pub(super) Arc<Shared>);

impl InterceptorFactory for Make {
    fn make(&self) -> Box<dyn Interceptor> {
        let (in_flight, kept) = (Cell::new(0), KeptList::default());
        Box::new(Hook { shared: Arc::clone(&self.0), in_flight, kept })
    }
}

struct Hook {
    shared: Arc<Shared>,
    /// I/Os that were submitted and have not ended.
    in_flight: Cell<u64>,
    kept: KeptList,
}

impl Hook {
    fn draw(&self, io: &BdevIo) -> Option<ErrorKind> {
        self.shared.order(io.kind())?.draw(self.in_flight.get())
    }
}

impl Interceptor for Hook {
    fn submission(&self, io: BdevIo) -> Option<BdevIo> {
        // A read is corrupted when there are data, and counted then.
        let of_read = |kind| io.kind() == IoType::Read && matches!(kind, ErrorKind::Corrupt { .. });
        let planned = self.shared.order(io.kind()).and_then(|order| order.peek());
        let drawn = if planned.is_some_and(of_read) { None } else { self.draw(&io) };
        self.in_flight.set(self.in_flight.get() + 1);
        match drawn {
            Some(ErrorKind::Fail(status)) => io.complete(status),
            Some(ErrorKind::Pending) => {
                self.shared.pending.fetch_add(1, Ordering::Relaxed);
                self.kept.push(io, Then::Resume);
            }
            Some(ErrorKind::Corrupt { offset_bytes, value }) if io.kind() == IoType::Write => {
                write_corrupted(io, offset_bytes, value);
            }
            Some(ErrorKind::Corrupt { .. }) | None => return Some(io),
        }
        None
    }

    fn completion(&self, io: BdevIo, status: NvmeStatus) -> Option<(BdevIo, NvmeStatus)> {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        let mut io = io;
        if io.kind() == IoType::Read
            && status.is_success()
            && let Some(planned @ ErrorKind::Corrupt { .. }) =
                self.shared.order(IoType::Read).and_then(|order| order.peek())
            && let Some(ErrorKind::Corrupt { offset_bytes, value }) =
                self.draw(&io).filter(|drawn| *drawn == planned)
        {
            change(&mut io, offset_bytes, value);
        }
        Some((io, status))
    }

    fn told(&self, notice: Notice) {
        let count = self.kept.told(notice) as u64;
        self.shared.pending.fetch_sub(count, Ordering::Relaxed);
    }
}

/// The place of a byte in data of a length; none when the data end before it.
fn place(offset_bytes: u64, len: usize) -> Option<usize> {
    usize::try_from(offset_bytes).ok().filter(|&offset| offset < len)
}

fn data_len(io: &BdevIo) -> usize {
    io.iovs().iter().map(crate::env::IoVec::len).sum()
}

fn change(io: &mut BdevIo, offset_bytes: u64, value: u8) {
    if let Some(offset) = place(offset_bytes, data_len(io)) {
        let mut byte = [0];
        io.copy_out(offset, &mut byte);
        byte[0] ^= value;
        io.copy_in(offset, &byte);
    }
}

/// Writes other data than the consumer's, whose buffers stay as they are.
fn write_corrupted(io: BdevIo, offset_bytes: u64, value: u8) {
    let mut io = io;
    let below = io.below();
    let len = data_len(&io);
    let Ok(mut buf) = below.dma_malloc(len) else { return io.complete(NvmeStatus::NOT_READY) };
    io.copy_out(0, buf.as_mut_slice());
    if let Some(offset) = place(offset_bytes, len) {
        buf.as_mut_slice()[offset] ^= value;
    }
    let (offset, blocks, fua) = (io.offset_blocks(), io.num_blocks(), io.fua());
    let written = below.submit(IoRequest::new(IoType::Write, offset, blocks, buf.into()).fua(fua));
    below.reactor().spawn("corrupted write", async move { io.complete(written.await.status) });
}
