//! What was on a device before it was changed, kept by one reactor for all cores.
//!
//! Invariants:
//! * a change is begun before it is done and ended after it, and what it replaces is saved between
//!   its begin and its doing;
//! * while a flush or the cut goes on, no change does;
//! * what is saved for the power cut is what the medium holds for certain: what was there at the
//!   last flush.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use futures::channel::oneshot;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{Bdev, Below, IoBuf, IoRequest, IoType};
use spdk_rs::reactor::Reactor;

/// Bytes that are saved at the most; the device is flushed, or nothing more is saved, beyond that.
const SAVED_BYTES_MAX: usize = 64 << 20;

/// Bytes that one read or write transfers at the most.
const STEP_BYTES: u64 = 256 << 10;

/// The shadows that a reactor keeps, by the number of their injection.
#[derive(Default)]
pub(super) struct Shadows(RefCell<HashMap<u64, Rc<Shadow>>>);

impl Shadows {
    /// The part of a reactor.
    pub(super) fn of(reactor: &Rc<Reactor>) -> Rc<Self> {
        reactor.extension(Rc::default)
    }

    /// The shadow of an injection, made at first use.
    pub(super) fn get(&self, id: u64) -> Rc<Shadow> {
        Rc::clone(self.0.borrow_mut().entry(id).or_default())
    }

    pub(super) fn remove(&self, id: u64) {
        let _ = self.0.borrow_mut().remove(&id);
    }
}

/// What was there before.
#[derive(Default)]
pub(super) struct Shadow {
    blocks: RefCell<BTreeMap<u64, Box<[u8]>>>,
    bytes: Cell<usize>,
    gate: Gate,
    /// What changes save is read by one at a time.
    saving: futures::lock::Mutex<()>,
    full: Cell<bool>,
}

/// Blocks of a device: the first, and how many.
pub(super) type Run = (u64, u64);

impl Shadow {
    /// Begins a change and saves what it replaces where nothing is saved yet (`first`), or in any
    /// case. It has to be ended.
    pub(super) async fn begin_change(
        &self,
        reactor: &Rc<Reactor>,
        bdev: &Arc<Bdev>,
        run: Run,
        first: bool,
    ) {
        if first && self.bytes.get() > SAVED_BYTES_MAX {
            self.write_back(reactor, bdev).await;
        }
        self.gate.enter_shared().await;
        let _one = self.saving.lock().await;
        if !first && self.bytes.get() > SAVED_BYTES_MAX {
            if !self.full.replace(true) {
                tracing::warn!(device = bdev.name(), "no more old blocks are kept for stale reads");
            }
            return;
        }
        for part in self.to_save(bdev, run, first) {
            // A block that cannot be read has nothing to be brought back.
            if let Ok(data) = read(reactor, bdev, part).await {
                self.save(bdev, part.0, &data);
            }
        }
    }

    /// Ends a change; its blocks are on the medium now (`durable`), or may not be.
    pub(super) fn end_change(&self, run: Run, durable: bool) {
        if durable {
            for block in run.0..run.0 + run.1 {
                self.drop_block(block);
            }
        }
        self.gate.leave_shared();
    }

    /// Begins a flush. It has to be ended.
    pub(super) async fn begin_flush(&self) {
        self.gate.enter_exclusive().await;
    }

    /// Ends a flush; what was changed before is on the medium when it went well.
    pub(super) fn end_flush(&self, durable: bool) {
        if durable {
            self.forget();
        }
        self.gate.leave_exclusive();
    }

    /// Waits until no change is going on, and brings back what was not flushed.
    pub(super) async fn cut(&self, reactor: &Rc<Reactor>, bdev: &Arc<Bdev>) {
        self.gate.enter_exclusive().await;
        let saved = self.blocks.take();
        self.bytes.set(0);
        tracing::warn!(
            device = bdev.name(),
            blocks = saved.len(),
            "power cut: unflushed blocks are lost"
        );
        for (first, data) in joined(bdev, &saved) {
            if let Err(status) = write(reactor, bdev, first, &data).await {
                tracing::error!(device = bdev.name(), first, %status, "a block keeps what was not flushed");
            }
        }
        self.gate.leave_exclusive();
    }

    /// What was there before, of a run: block by block, where something is saved.
    pub(super) fn old(&self, run: Run) -> Vec<(u64, Vec<u8>)> {
        let blocks = self.blocks.borrow();
        let saved = blocks.range(run.0..run.0.saturating_add(run.1));
        saved.map(|(&block, data)| (block, data.to_vec())).collect()
    }

    /// Flushes the device, as a cache that is full does.
    async fn write_back(&self, reactor: &Rc<Reactor>, bdev: &Arc<Bdev>) {
        self.gate.enter_exclusive().await;
        let flushed = match Below::all(reactor, bdev) {
            Ok(below) => {
                let all = bdev.num_blocks();
                below.submit(IoRequest::new(IoType::Flush, 0, all, IoBuf::None)).await.status
            }
            Err(_) => NvmeStatus::NOT_READY,
        };
        self.end_flush(flushed.is_success());
    }

    /// The parts of a run whose content is to be saved.
    fn to_save(&self, bdev: &Bdev, run: Run, first: bool) -> Vec<Run> {
        let step = (STEP_BYTES / u64::from(bdev.info().block_len)).max(1);
        let end = run.0.saturating_add(run.1).min(bdev.num_blocks());
        let blocks = self.blocks.borrow();
        let mut parts: Vec<Run> = Vec::new();
        for block in run.0..end {
            if first && blocks.contains_key(&block) {
                continue;
            }
            match parts.last_mut() {
                Some((from, count)) if *from + *count == block && *count < step => *count += 1,
                _ => parts.push((block, 1)),
            }
        }
        parts
    }

    fn save(&self, bdev: &Bdev, first: u64, data: &[u8]) {
        let block_len = bdev.info().block_len as usize;
        for (block, data) in (first..).zip(data.chunks(block_len)) {
            let before = self.blocks.borrow_mut().insert(block, data.into());
            if before.is_none() {
                self.bytes.set(self.bytes.get() + block_len);
            }
        }
    }

    fn drop_block(&self, block: u64) {
        if let Some(data) = self.blocks.borrow_mut().remove(&block) {
            self.bytes.set(self.bytes.get() - data.len());
        }
    }

    fn forget(&self) {
        self.blocks.borrow_mut().clear();
        self.bytes.set(0);
    }
}

/// Blocks that follow each other as one piece, as long as a step.
fn joined(bdev: &Bdev, saved: &BTreeMap<u64, Box<[u8]>>) -> Vec<(u64, Vec<u8>)> {
    let block_len = u64::from(bdev.info().block_len);
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    for (&block, data) in saved {
        match runs.last_mut() {
            Some((first, run))
                if *first + run.len() as u64 / block_len == block
                    && (run.len() as u64) < STEP_BYTES =>
            {
                run.extend_from_slice(data);
            }
            _ => runs.push((block, data.to_vec())),
        }
    }
    runs
}

async fn read(reactor: &Rc<Reactor>, bdev: &Arc<Bdev>, run: Run) -> Result<Vec<u8>, NvmeStatus> {
    let below = Below::all(reactor, bdev).map_err(|_| NvmeStatus::NOT_READY)?;
    let len = usize::try_from(run.1 * u64::from(bdev.info().block_len));
    let len = len.map_err(|_| NvmeStatus::INTERNAL_ERROR)?;
    let buf = below.dma_malloc(len).map_err(|_| NvmeStatus::NOT_READY)?;
    let read = below.submit(IoRequest::new(IoType::Read, run.0, run.1, buf.into())).await;
    let buf = read.ok()?.into_one().ok_or(NvmeStatus::INTERNAL_ERROR)?;
    Ok(buf.as_slice().to_vec())
}

async fn write(
    reactor: &Rc<Reactor>,
    bdev: &Arc<Bdev>,
    first: u64,
    data: &[u8],
) -> Result<(), NvmeStatus> {
    let below = Below::all(reactor, bdev).map_err(|_| NvmeStatus::NOT_READY)?;
    let mut buf = below.dma_malloc(data.len()).map_err(|_| NvmeStatus::NOT_READY)?;
    buf.as_mut_slice().copy_from_slice(data);
    let blocks = data.len() as u64 / u64::from(bdev.info().block_len);
    let write = IoRequest::new(IoType::Write, first, blocks, buf.into()).fua(true);
    below.submit(write).await.status.ok()
}

/// Lets many in that share, or one alone. Who waits to be alone comes before those that share.
#[derive(Default)]
struct Gate {
    sharing: Cell<usize>,
    alone: Cell<bool>,
    wish: Cell<usize>,
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
}

impl Gate {
    async fn enter_shared(&self) {
        while self.alone.get() || self.wish.get() > 0 {
            self.wait().await;
        }
        self.sharing.set(self.sharing.get() + 1);
    }

    fn leave_shared(&self) {
        self.sharing.set(self.sharing.get().saturating_sub(1));
        self.wake();
    }

    async fn enter_exclusive(&self) {
        self.wish.set(self.wish.get() + 1);
        while self.alone.get() || self.sharing.get() > 0 {
            self.wait().await;
        }
        self.wish.set(self.wish.get() - 1);
        self.alone.set(true);
    }

    fn leave_exclusive(&self) {
        self.alone.set(false);
        self.wake();
    }

    async fn wait(&self) {
        let (tell, told) = oneshot::channel();
        self.waiting.borrow_mut().push(tell);
        let _ = told.await;
    }

    fn wake(&self) {
        for waiter in self.waiting.take() {
            let _ = waiter.send(());
        }
    }
}
