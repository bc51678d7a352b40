//! The way of an I/O from one core to its volume and back.

use std::rc::Rc;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{BdevIo, IoType};
use spdk_rs::env::{DmaBuf, Memory};
use spdk_rs::reactor::{Reactor, ReactorHandle};

use super::super::layout::BLOCK_BYTES;
use super::super::{Span, Volume, memory};
use super::budget::Budget;
use super::{Home, Place};

/// The part of the buffer memory that the I/O of one core may have: with several cores and the
/// pool's own needs, something is always left.
const BUDGET_SHARE: usize = 16;

/// What a volume is asked to do. It crosses cores.
enum Request {
    Read(Span, DmaBuf),
    Write(Span, DmaBuf, bool),
    Zero(Span, bool),
    Unmap(Span),
    Flush,
}

/// A device on one core.
pub(super) struct Lane {
    home: ReactorHandle,
    key: u64,
    block_len: u64,
    /// Where the volume is, on its home.
    local: Option<Rc<Home>>,
    memory: Memory,
    budget: Rc<Budget>,
}

impl Lane {
    pub(super) fn new(reactor: &Rc<Reactor>, place: &Place, block_len: u32) -> Self {
        let memory = reactor.memory().clone();
        let is_home = reactor.core() == place.home.core();
        Self {
            home: place.home.clone(),
            key: place.key,
            block_len: block_len.into(),
            local: is_home.then(|| Home::of(reactor)),
            budget: Budget::new(memory.report().size_bytes / BUDGET_SHARE),
            memory,
        }
    }

    /// Does an I/O and completes it.
    pub(super) async fn serve(self: Rc<Self>, mut io: BdevIo) {
        let offset = io.offset_blocks() * self.block_len;
        let span = Span::of(offset, io.num_blocks() * self.block_len);
        let transfers = matches!(io.kind(), IoType::Read | IoType::Write);
        let bytes = usize::try_from(span.blocks).unwrap_or(usize::MAX).saturating_mul(BLOCK_BYTES);
        let share = match transfers {
            true => Some(self.budget.take(bytes).await),
            false => None,
        };
        let request = match self.request(&io, span, bytes).await {
            Ok(request) => request,
            Err(status) => return io.complete(status),
        };
        let (status, buf) = self.run(request).await;
        if io.kind() == IoType::Read
            && let Some(buf) = buf
            && status == NvmeStatus::SUCCESS
        {
            io.copy_in(0, &buf.as_slice()[span.head..bytes - span.tail]);
        }
        drop(share);
        io.complete(status);
    }

    async fn request(&self, io: &BdevIo, span: Span, bytes: usize) -> Result<Request, NvmeStatus> {
        Ok(match io.kind() {
            IoType::Read => Request::Read(span, self.buffer(bytes).await?),
            IoType::Write => {
                let mut buf = self.buffer(bytes).await?;
                io.copy_out(0, &mut buf.as_mut_slice()[span.head..bytes - span.tail]);
                Request::Write(span, buf, io.fua())
            }
            IoType::WriteZeroes => Request::Zero(span, io.fua()),
            IoType::Unmap => Request::Unmap(span),
            IoType::Flush => Request::Flush,
            _ => return Err(NvmeStatus::INVALID_OPCODE),
        })
    }

    /// A buffer, as soon as there is one.
    async fn buffer(&self, bytes: usize) -> Result<DmaBuf, NvmeStatus> {
        memory::buffer(|| self.memory.alloc(bytes).ok()).await
    }

    /// Has the volume do it, on its home.
    async fn run(&self, request: Request) -> (NvmeStatus, Option<DmaBuf>) {
        const GONE: (NvmeStatus, Option<DmaBuf>) = (NvmeStatus::INVALID_NAMESPACE, None);
        let key = self.key;
        if let Some(home) = &self.local {
            return match home.volume(key) {
                Some(volume) => perform(&volume, request).await,
                None => GONE,
            };
        }
        let answer = self.home.spawn(move |reactor| async move {
            match Home::of(&reactor).volume(key) {
                Some(volume) => perform(&volume, request).await,
                None => GONE,
            }
        });
        answer.await.unwrap_or(GONE)
    }
}

async fn perform(volume: &Volume, request: Request) -> (NvmeStatus, Option<DmaBuf>) {
    match request {
        Request::Read(span, buf) => {
            let (status, buf) = volume.read(span.block, buf).await;
            (status, Some(buf))
        }
        Request::Write(span, buf, fua) => (volume.write_span(span, buf, fua).await, None),
        Request::Zero(span, fua) => (volume.zero_span(span, fua).await, None),
        Request::Unmap(span) => (volume.unmap_span(span).await, None),
        Request::Flush => (volume.flush().await, None),
    }
}
