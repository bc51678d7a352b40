//! The double while it is open: appending to the log, flushing, checkpoints.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::lock::Mutex;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoHandle;
use spdk_rs::reactor::yield_now;

use super::Bug;
use super::log::{self, Area, Superblock};
use super::state::{Change, State};
use crate::run::reactor::Changed;
use crate::store::{Cause, StoreError, StoreResult};

/// What [`Bug::DoesNotRepeat`] depends on.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// An open double.
pub(super) struct Opened {
    device: IoHandle,
    pub(super) bug: Option<Bug>,
    pub(super) state: RefCell<State>,
    superblock: Cell<Superblock>,
    /// Where the next record goes, in blocks of the area.
    tail: Cell<u64>,
    next_record: Cell<u64>,
    /// Records that are being written.
    writing: RefCell<BTreeSet<u64>>,
    written: Changed,
    /// Held while a record gets its place, and all through a checkpoint.
    place: Mutex<()>,
    pub(super) stopped: RefCell<Option<String>>,
    calls: Cell<u64>,
}

impl Opened {
    pub(super) fn new(
        device: IoHandle,
        bug: Option<Bug>,
        state: State,
        superblock: Superblock,
    ) -> Self {
        Self {
            device,
            bug,
            state: RefCell::new(state),
            superblock: Cell::new(superblock),
            tail: Cell::new(0),
            next_record: Cell::new(1),
            writing: RefCell::default(),
            written: Changed::default(),
            place: Mutex::new(()),
            stopped: RefCell::default(),
            calls: Cell::new(0),
        }
    }

    /// Goes on behind the last record of a log.
    pub(super) fn go_on(&self, tail: u64, next_record: u64) {
        self.tail.set(tail);
        self.next_record.set(next_record);
    }

    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// True once in a while, for bugs that are rare.
    pub(super) fn now_and_then(&self, every: u64) -> bool {
        self.calls.set(self.calls.get() + 1);
        self.calls.get().is_multiple_of(every)
    }

    fn stop(&self, error: StoreError) -> StoreError {
        self.stopped.borrow_mut().get_or_insert_with(|| error.text.clone());
        self.written.tell();
        error
    }

    fn check_running(&self) -> StoreResult {
        let stopped = self.stopped.borrow();
        stopped.as_ref().map_or(Ok(()), |text| Err(StoreError::new(Cause::Device, text.clone())))
    }

    fn area(&self) -> Area {
        Area::of(&self.device, self.superblock.get())
    }

    /// Appends a change to the log and applies it. When this ends, the device has it, if not on
    /// the medium.
    pub(super) async fn append(&self, change: Change, data: &[u8]) -> StoreResult {
        self.check_running()?;
        if self.has(Bug::DoesNotRepeat) && RUNS.fetch_add(1, Ordering::Relaxed) % 7 == 3 {
            yield_now().await;
        }
        let blocks = log::record_blocks(&change, data);
        let (number, write) = {
            let _place = self.place.lock().await;
            if self.tail.get() + blocks > self.area().blocks {
                self.rewrite().await?;
            }
            if self.tail.get() + blocks > self.area().blocks {
                return Err(StoreError::new(Cause::NoSpace, "the log is full"));
            }
            let number = self.next_record.get();
            let (area, tail) = (self.area(), self.tail.get());
            let place = (self.superblock.get().generation, number);
            let buf = log::encode(&self.device, place, &change, data)?;
            self.tail.set(tail + blocks);
            self.next_record.set(number + 1);
            self.writing.borrow_mut().insert(number);
            let bug = self.bug.filter(|bug| *bug != Bug::SnapshotSharesReplayed);
            self.state.borrow_mut().apply(&change, data, bug);
            (number, log::write(&self.device, area.first + tail, buf))
        };
        let status = write.await.status;
        self.writing.borrow_mut().remove(&number);
        self.written.tell();
        status.ok().map_err(|status| self.stop(device("a log record was not written", status)))
    }

    /// Brings all records that were appended so far to the medium.
    pub(super) async fn flush(&self) -> StoreResult {
        if self.has(Bug::Hang) && self.now_and_then(20) {
            std::future::pending::<()>().await;
        }
        let next = self.next_record.get();
        if !self.has(Bug::FlushDoesNotWait) {
            let earlier = || self.writing.borrow().first().is_some_and(|first| *first < next);
            self.written.until(|| !earlier() || self.stopped.borrow().is_some()).await;
        }
        self.check_running()?;
        if self.has(Bug::FlushNotSent) {
            return Ok(());
        }
        self.flush_device().await
    }

    async fn flush_device(&self) -> StoreResult {
        let status = self.device.flush().await.status;
        if status.is_success() || self.has(Bug::FlushErrorHidden) {
            return Ok(());
        }
        let error = device("a flush failed", status);
        Err(if self.has(Bug::FlushErrorForgiven) { error } else { self.stop(error) })
    }

    /// Writes all contents anew and names them in the superblock.
    pub(super) async fn checkpoint(&self) -> StoreResult {
        self.check_running()?;
        let _place = self.place.lock().await;
        self.rewrite().await
    }

    /// The checkpoint itself, with the place of the next record held.
    async fn rewrite(&self) -> StoreResult {
        self.written.until(|| self.writing.borrow().is_empty()).await;
        self.check_running()?;
        let old = self.superblock.get();
        let area = if self.has(Bug::ImportInPlace) { old.area } else { 1 - old.area };
        let new = Superblock { generation: old.generation + 1, area };
        let place = Area::of(&self.device, new);
        let (mut tail, mut number) = (0, 1);
        let changes = self.state.borrow().as_changes();
        for (change, data) in changes {
            let blocks = log::record_blocks(&change, &data);
            if tail + blocks > place.blocks {
                return Err(StoreError::new(Cause::NoSpace, "the contents do not fit the log"));
            }
            let buf = log::encode(&self.device, (new.generation, number), &change, &data)?;
            let status = log::write(&self.device, place.first + tail, buf).await.status;
            let written = status.ok();
            written.map_err(|status| self.stop(device("a checkpoint was not written", status)))?;
            (tail, number) = (tail + blocks, number + 1);
        }
        if tail < place.blocks {
            // A checkpoint of the same generation that a cut ended may have left records here.
            let end = log::buffer(&self.device, 1)?;
            let status = log::write(&self.device, place.first + tail, end).await.status;
            let written = status.ok();
            written.map_err(|status| self.stop(device("the log's end was not written", status)))?;
        }
        if !self.has(Bug::SuperblockTooEarly) {
            self.flush_device().await?;
        }
        new.save(&self.device).await.map_err(|error| self.stop(error))?;
        self.superblock.set(new);
        self.go_on(tail, number);
        Ok(())
    }
}

fn device(what: &str, status: NvmeStatus) -> StoreError {
    StoreError::new(Cause::Device, format!("{what}: {status}"))
}
