//! The journal: a ring of records that say what was mapped since the last checkpoint.
//!
//! Transactions that come together share a record, and several records are written at once.
//! Invariants:
//!
//! * records and transactions are numbered in the order in which they lie in the ring;
//! * a record says which ones before it were on the medium when it was made, so that recovery can
//!   tell a torn tail from damage;
//! * the ring is never filled beyond what was reserved, so that no append waits for a checkpoint.

mod scan;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use futures::channel::oneshot;
use spdk_rs::NvmeStatus;
use spdk_rs::reactor::Reactor;
use uuid::Uuid;

use super::device::Device;
use super::digest::DigestKind;
use super::layout::{
    BLOCK_BYTES, Entry, EntryKind, Geometry, HEADER_BYTES, RECORD_BLOCKS_MAX, RecordHeader, encode,
};
use super::sync::WaitList;
pub(super) use scan::{Scan, scan};

/// Records that are being written at once.
const WRITERS_MAX: usize = 4;
/// How often a record is written before the pool gives up.
const ATTEMPTS: usize = 3;

/// Where the journal of a superblock begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) epoch: u64,
    pub(super) generation: u64,
    pub(super) position: u64,
    pub(super) next_record: u64,
    pub(super) next_txn: u64,
}

/// The journal of a pool.
pub(super) struct Journal {
    device: Rc<Device>,
    uuid: Uuid,
    digest: DigestKind,
    geometry: Cell<Geometry>,
    inner: RefCell<Inner>,
    /// Told when a record is complete or has failed.
    done: WaitList,
    pub(super) records_written: Cell<u64>,
    pub(super) blocks_written: Cell<u64>,
}

struct Inner {
    epoch: u64,
    generation: u64,
    /// Where the records begin that a recovery would read.
    tail: u64,
    /// Where the next record goes.
    head: u64,
    next_record: u64,
    next_txn: u64,
    /// Blocks promised to transactions that are not in a record yet.
    reserved: u64,
    queue: VecDeque<Queued>,
    pump_scheduled: bool,
    writing: BTreeMap<u64, bool>,
    /// All records up to this one are complete.
    complete: u64,
    durable_record: u64,
    durable_txn: u64,
    /// Transactions that are neither complete nor given up.
    unresolved: BTreeSet<u64>,
    failed: Option<NvmeStatus>,
}

struct Queued {
    bytes: Vec<u8>,
    reserved: u64,
    tell: Tell,
}

/// How a transaction learns that its record is written.
type Tell = oneshot::Sender<Result<(), NvmeStatus>>;

/// A transaction on its way into the journal.
pub(super) struct Appended {
    pub(super) txn: u64,
    pub(super) written: oneshot::Receiver<Result<(), NvmeStatus>>,
}

/// What a flush will have brought to the medium when it succeeds.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlushPoint {
    record: u64,
    txn: u64,
}

/// Blocks that an entry of so many bytes needs in the worst case: a record of its own.
pub(super) fn blocks_for(entry_bytes: usize) -> u64 {
    (HEADER_BYTES + entry_bytes).div_ceil(BLOCK_BYTES) as u64
}

impl Journal {
    pub(super) fn new(
        device: Rc<Device>,
        uuid: Uuid,
        digest: DigestKind,
        geometry: Geometry,
        start: Start,
    ) -> Self {
        let inner = Inner {
            epoch: start.epoch,
            generation: start.generation,
            tail: start.position,
            head: start.position,
            next_record: start.next_record,
            next_txn: start.next_txn,
            reserved: 0,
            queue: VecDeque::new(),
            pump_scheduled: false,
            writing: BTreeMap::new(),
            complete: start.next_record - 1,
            durable_record: start.next_record - 1,
            durable_txn: start.next_txn - 1,
            unresolved: BTreeSet::new(),
            failed: None,
        };
        Self {
            device,
            uuid,
            digest,
            geometry: Cell::new(geometry),
            inner: RefCell::new(inner),
            done: WaitList::default(),
            records_written: Cell::new(0),
            blocks_written: Cell::new(0),
        }
    }

    /// Blocks of one transaction at the most, so that a few fit.
    pub(super) fn txn_blocks_max(&self) -> u64 {
        (self.geometry.get().journal_blocks / 4).min(RECORD_BLOCKS_MAX)
    }

    /// Blocks in use or promised.
    pub(super) fn fill(&self) -> u64 {
        let inner = self.inner.borrow();
        inner.head - inner.tail + inner.reserved
    }

    /// Promises blocks to a transaction; false when a checkpoint has to make room first.
    pub(super) fn reserve(&self, blocks: u64) -> bool {
        let fits = self.fill() + blocks <= self.geometry.get().journal_blocks;
        if fits {
            self.inner.borrow_mut().reserved += blocks;
        }
        fits
    }

    /// Takes a promise back.
    pub(super) fn unreserve(&self, blocks: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.reserved = inner.reserved.saturating_sub(blocks);
    }

    /// Numbers a transaction and queues it; `reserved` blocks of its promise go with it.
    pub(super) fn append(self: &Rc<Self>, entry: &mut Entry, reserved: u64) -> Appended {
        let (tell, written) = oneshot::channel();
        let mut inner = self.inner.borrow_mut();
        let txn = match entry.kind {
            EntryKind::Map => {
                let txn = inner.next_txn;
                inner.next_txn += 1;
                inner.unresolved.insert(txn);
                entry.txn = txn;
                txn
            }
            EntryKind::Abort => entry.txn,
        };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        inner.queue.push_back(Queued { bytes, reserved, tell });
        let schedule = !std::mem::replace(&mut inner.pump_scheduled, true);
        drop(inner);
        // Later in this turn, when the other transactions of this turn have come as well.
        if schedule && let Some(reactor) = Reactor::current() {
            let own = Rc::clone(self);
            reactor.spawn("pool journal", async move {
                own.inner.borrow_mut().pump_scheduled = false;
                own.pump();
            });
        }
        Appended { txn, written }
    }

    /// The next transaction's number, for changes that are made by a checkpoint.
    pub(super) fn take_txn(&self) -> u64 {
        let mut inner = self.inner.borrow_mut();
        inner.next_txn += 1;
        inner.next_txn - 1
    }

    /// A transaction is complete, or it was given up and that is written.
    pub(super) fn resolve(&self, txn: u64) {
        self.inner.borrow_mut().unresolved.remove(&txn);
    }

    /// Starts to write records while there is something to write.
    fn pump(self: &Rc<Self>) {
        loop {
            let mut inner = self.inner.borrow_mut();
            if inner.queue.is_empty() || inner.writing.len() >= WRITERS_MAX {
                return;
            }
            if let Some(status) = inner.failed {
                for queued in inner.queue.drain(..) {
                    let _ = queued.tell.send(Err(status));
                }
                return;
            }
            let (header, bytes, told) = self.pack(&mut inner);
            drop(inner);
            let Some(reactor) = Reactor::current() else { return };
            let own = Rc::clone(self);
            reactor.spawn("pool journal record", async move {
                let result = own.write(&header, &bytes).await;
                own.finish(&header, result);
                for tell in told {
                    let _ = tell.send(result);
                }
                own.pump();
            });
        }
    }

    /// Makes a record of as much of the queue as fits one.
    fn pack(&self, inner: &mut Inner) -> (RecordHeader, Vec<u8>, Vec<Tell>) {
        let most = usize::try_from(RECORD_BLOCKS_MAX).unwrap_or(1) * BLOCK_BYTES;
        let mut bytes = vec![0; HEADER_BYTES];
        let mut told = Vec::new();
        while let Some(next) = inner.queue.front() {
            if !told.is_empty() && bytes.len() + next.bytes.len() > most {
                break;
            }
            let Some(queued) = inner.queue.pop_front() else { break };
            bytes.extend_from_slice(&queued.bytes);
            inner.reserved = inner.reserved.saturating_sub(queued.reserved);
            told.push(queued.tell);
        }
        let header = RecordHeader {
            uuid: self.uuid,
            epoch: inner.epoch,
            generation: inner.generation,
            record: inner.next_record,
            position: inner.head,
            durable_record: inner.durable_record,
            durable_txn: inner.durable_txn,
            length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            entries: u32::try_from(told.len()).unwrap_or(u32::MAX),
        };
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        encode(&header, self.digest, &mut bytes);
        inner.next_record += 1;
        inner.head += header.blocks();
        inner.writing.insert(header.record, false);
        (header, bytes, told)
    }

    /// Writes a record to its place in the ring, in two parts when it goes round.
    async fn write(&self, header: &RecordHeader, bytes: &[u8]) -> Result<(), NvmeStatus> {
        let geometry = self.geometry.get();
        let index = header.position % geometry.journal_blocks;
        let until_end = usize::try_from(geometry.journal_blocks - index).unwrap_or(usize::MAX);
        let (first, second) =
            bytes.split_at(bytes.len().min(until_end.saturating_mul(BLOCK_BYTES)));
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            let start = geometry.journal_start();
            result = self.device.write_bytes(start + index, first).await;
            if result.is_ok() && !second.is_empty() {
                result = self.device.write_bytes(start, second).await;
            }
            if result.is_ok() {
                break;
            }
        }
        self.records_written.set(self.records_written.get() + 1);
        self.blocks_written.set(self.blocks_written.get() + header.blocks());
        result.map_err(|error| error.status())
    }

    fn finish(&self, header: &RecordHeader, result: Result<(), NvmeStatus>) {
        let mut inner = self.inner.borrow_mut();
        match result {
            Ok(()) => {
                inner.writing.insert(header.record, true);
                while let Some(first) = inner.writing.first_entry().filter(|first| *first.get()) {
                    let record = *first.key();
                    first.remove();
                    inner.complete = record;
                }
            }
            Err(status) => {
                inner.failed = Some(status);
                inner.writing.remove(&header.record);
            }
        }
        drop(inner);
        self.done.wake_all();
    }

    /// Waits until all records that were begun are complete.
    ///
    /// # Errors
    /// When one cannot be written.
    pub(super) async fn settled(&self) -> Result<(), NvmeStatus> {
        let target = self.inner.borrow().next_record - 1;
        self.done
            .until(|| {
                let inner = self.inner.borrow();
                match inner.failed {
                    Some(status) => Some(Err(status)),
                    None => (inner.complete >= target).then_some(Ok(())),
                }
            })
            .await
    }

    /// What a flush that begins now will have brought to the medium.
    pub(super) fn flush_point(&self) -> FlushPoint {
        let inner = self.inner.borrow();
        let txn = inner.unresolved.first().map_or(inner.next_txn - 1, |first| first - 1);
        FlushPoint { record: inner.complete, txn }
    }

    /// A flush has succeeded.
    pub(super) fn flushed(&self, point: FlushPoint) {
        let mut inner = self.inner.borrow_mut();
        inner.durable_record = inner.durable_record.max(point.record);
        inner.durable_txn = inner.durable_txn.max(point.txn);
    }

    /// Begins a new life behind what was found of the old one.
    pub(super) fn restart(&self, position: u64, next_record: u64, next_txn: u64, epoch: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.head = position;
        inner.next_record = next_record;
        inner.complete = next_record - 1;
        inner.next_txn = inner.next_txn.max(next_txn);
        inner.epoch = epoch;
    }

    /// The pool has grown; the journal stays where it is.
    pub(super) fn set_geometry(&self, geometry: Geometry) {
        self.geometry.set(geometry);
    }

    /// Where the journal goes on after a checkpoint of now.
    pub(super) fn start_after(&self) -> Start {
        let inner = self.inner.borrow();
        Start {
            epoch: inner.epoch,
            generation: inner.generation,
            position: inner.head,
            next_record: inner.next_record,
            next_txn: inner.next_txn,
        }
    }

    /// A superblock with this start is on the medium: everything before it is released.
    pub(super) fn checkpointed(&self, start: Start) {
        let mut inner = self.inner.borrow_mut();
        inner.tail = start.position;
        inner.generation = start.generation;
        inner.epoch = start.epoch;
        inner.durable_record = inner.durable_record.max(start.next_record - 1);
        inner.durable_txn = inner.durable_txn.max(start.next_txn - 1);
    }
}
