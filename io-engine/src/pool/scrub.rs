//! Scrubbing: everything that volumes and snapshots lead to is read and compared with its digest,
//! while hosts go on.
//!
//! A piece is 64 blocks. Between two pieces others have their turn, and checkpoints can be made. A
//! block that several volumes share is read once, for the oldest of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use spdk_rs::env::DmaBuf;
use spdk_rs::reactor::{Reactor, sleep, yield_now};

use super::dataset::Dataset;
use super::layout::{BLOCK_BYTES, BlockPtr, DatasetState, FANOUT_BITS};
use super::{Pool, PoolError};

/// Blocks that are read between two turns of others: what one lowest node leads to.
const PIECE_BLOCKS: u64 = 1 << FANOUT_BITS;
/// Damaged blocks that are listed; the others are only counted.
const LISTED_MAX: usize = 100;
/// A scrub that waits for its rate looks so often whether it has to end.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// How far a scrub is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScrubState {
    /// None was started since the import.
    #[default]
    None,
    /// One is under way.
    Running,
    /// The last one has seen everything.
    Done,
    /// The last one was stopped.
    Stopped,
}

/// A block that does not hold what it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The volume or snapshot.
    pub volume: String,
    /// The block of the volume, in units of 4 KiB; the first one when `blocks` is above 1.
    pub block: u64,
    /// Blocks that cannot be read: more than one where a node of the map is damaged.
    pub blocks: u64,
    /// What is wrong, in words.
    pub problem: String,
}

/// A scrub's progress and findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScrubStatus {
    /// How far it is.
    pub state: ScrubState,
    /// Bytes per second that it reads at the most; 0 for no limit.
    pub bytes_per_sec: u64,
    /// Bytes that were read and compared.
    pub scrubbed_bytes: u64,
    /// Bytes of volumes and snapshots that were passed, shared ones and holes included.
    pub passed_bytes: u64,
    /// Bytes of all volumes and snapshots when it began.
    pub total_bytes: u64,
    /// Progress in percent.
    pub percent: u64,
    /// Damaged blocks.
    pub damaged_blocks: u64,
    /// The first hundred of them.
    pub damaged: Vec<Damage>,
}

/// A pool's scrub.
#[derive(Default)]
pub(super) struct Scrub {
    status: RefCell<ScrubStatus>,
    stop: Cell<bool>,
}

impl Pool {
    /// Starts a scrub that reads at most `bytes_per_sec`; 0 for as fast as it goes.
    ///
    /// # Errors
    /// When one is under way, or the pool is being exported.
    pub fn start_scrub(self: &Rc<Self>, bytes_per_sec: u64) -> Result<(), PoolError> {
        let refuse = |problem: &str| {
            let (name, problem) = (self.name.clone(), problem.to_owned());
            Err(PoolError::Refused { name, problem })
        };
        if self.closed.get() {
            return refuse("it is being exported");
        }
        if self.scrub.status.borrow().state == ScrubState::Running {
            return refuse("a scrub is under way; stop it first");
        }
        let Some(reactor) = Reactor::current() else {
            return refuse("a scrub runs on the pool's reactor");
        };
        let blocks: u64 = self.scrubbed().iter().map(|one| one.size_blocks.get()).sum();
        *self.scrub.status.borrow_mut() = ScrubStatus {
            state: ScrubState::Running,
            bytes_per_sec,
            total_bytes: blocks * BLOCK_BYTES as u64,
            ..ScrubStatus::default()
        };
        self.scrub.stop.set(false);
        let own = Rc::clone(self);
        reactor.spawn("pool scrub", async move {
            let state = if own.scrub_all(bytes_per_sec).await {
                ScrubState::Done
            } else {
                ScrubState::Stopped
            };
            let mut status = own.scrub.status.borrow_mut();
            status.state = state;
            let (damaged, bytes) = (status.damaged_blocks, status.scrubbed_bytes);
            drop(status);
            tracing::info!(pool = own.name, ?state, damaged, bytes, "the scrub has ended");
        });
        Ok(())
    }

    /// Has a scrub that is under way end soon.
    pub fn stop_scrub(&self) {
        self.scrub.stop.set(true);
    }

    /// How far the scrub is and what it found.
    #[must_use]
    pub fn scrub_status(&self) -> ScrubStatus {
        let mut status = self.scrub.status.borrow().clone();
        let all = status.total_bytes.max(1);
        status.percent = match status.state {
            ScrubState::Done => 100,
            // What was made since it began is passed as well.
            _ => (u128::from(status.passed_bytes) * 100 / u128::from(all))
                .min(99)
                .try_into()
                .unwrap_or(99),
        };
        status
    }

    /// What is scrubbed: everything but what is being deleted.
    fn scrubbed(&self) -> Vec<Rc<Dataset>> {
        let datasets = self.datasets.borrow();
        let kept = |one: &&Rc<Dataset>| one.state.get() != DatasetState::Deleting;
        datasets.values().filter(kept).cloned().collect()
    }

    /// Scrubs everything; false when it was stopped before the end.
    async fn scrub_all(self: &Rc<Self>, bytes_per_sec: u64) -> bool {
        for dataset in self.scrubbed() {
            let mut at = 0;
            while at < dataset.size_blocks.get() && dataset.state.get() != DatasetState::Deleting {
                if self.scrub_ends() {
                    return false;
                }
                let before = self.scrub.status.borrow().scrubbed_bytes;
                let next = self.scrub_piece(&dataset, at).await;
                let bytes = self.passed((next - at) * BLOCK_BYTES as u64) - before;
                at = next;
                if !self.pace(bytes, bytes_per_sec).await {
                    return false;
                }
            }
        }
        true
    }

    /// Notes what was passed; returns what was read so far.
    fn passed(&self, bytes: u64) -> u64 {
        let mut status = self.scrub.status.borrow_mut();
        status.passed_bytes += bytes;
        status.scrubbed_bytes
    }

    fn scrub_ends(&self) -> bool {
        self.scrub.stop.get() || self.closed.get()
    }

    /// Waits as long as `bytes` take; false when the scrub has to end meanwhile.
    async fn pace(&self, bytes: u64, bytes_per_sec: u64) -> bool {
        yield_now().await;
        if bytes_per_sec == 0 || bytes == 0 {
            return true;
        }
        let micros = u128::from(bytes) * 1_000_000 / u128::from(bytes_per_sec);
        let mut left = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        while !left.is_zero() {
            if self.scrub_ends() {
                return false;
            }
            let part = left.min(WAIT_MAX);
            sleep(part).await;
            left -= part;
        }
        true
    }

    /// Scrubs the piece in which a block lies, or passes the hole there; returns where it ended.
    async fn scrub_piece(self: &Rc<Self>, dataset: &Rc<Dataset>, at: u64) -> u64 {
        let size = dataset.size_blocks.get();
        let end = ((at / PIECE_BLOCKS + 1) * PIECE_BLOCKS).min(size);
        // With a checkpoint kept out, what a pointer leads to stays what it is.
        let _pass = self.gate.enter().await;
        match self.hole_end(dataset, at).await {
            Ok(hole) if hole > at => return hole.min(size),
            Ok(_) => {}
            Err(error) => {
                self.damaged(dataset, at, end - at, &error);
                return end;
            }
        }
        match self.pointers(dataset, at, end - at).await {
            Err(error) => self.damaged(dataset, at, end - at, &error),
            Ok(ptrs) => {
                let floor = self.scrub_floor(dataset);
                let own = |ptr: &BlockPtr| !ptr.is_hole() && ptr.birth() > floor;
                let count = ptrs.iter().filter(|ptr| own(ptr)).count() as u64;
                if count > 0 {
                    self.scrub_blocks(dataset, at, &ptrs, own).await;
                    let mut status = self.scrub.status.borrow_mut();
                    status.scrubbed_bytes += count * BLOCK_BYTES as u64;
                }
            }
        }
        end
    }

    /// The last transaction whose blocks are scrubbed with another volume or snapshot.
    fn scrub_floor(&self, dataset: &Dataset) -> u64 {
        let datasets = self.datasets.borrow();
        let mut id = dataset.parent.get();
        while let Some(parent) = datasets.get(&id) {
            if parent.state.get() != DatasetState::Deleting {
                return parent.txn;
            }
            id = parent.parent.get();
        }
        0
    }

    /// Reads the blocks of a piece: all at once, and one by one when something is wrong.
    async fn scrub_blocks(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        at: u64,
        ptrs: &[BlockPtr],
        own: impl Fn(&BlockPtr) -> bool,
    ) {
        if ptrs.iter().all(&own)
            && let Ok(buf) = self.device.buffer(ptrs.len() as u64).await
            && self.matches(ptrs, buf).await
        {
            return;
        }
        for (block, ptr) in (at..).zip(ptrs).filter(|(_, ptr)| own(ptr)) {
            let read = self.device.read_blocks(ptr.address(), 1).await;
            let wrong = match &read {
                Ok(buf) => self.verify(std::slice::from_ref(ptr), buf).is_some(),
                Err(_) => true,
            };
            // A host may have replaced the block meanwhile, and its place may be in use again.
            let now = self.pointers(dataset, block, 1).await;
            if !wrong || now.as_ref().is_ok_and(|now| now.first() != Some(ptr)) {
                continue;
            }
            let what = format!("'{}': block {block}", dataset.name.borrow());
            let corrupt = PoolError::Corrupt { what, address: ptr.address() };
            self.damaged(dataset, block, 1, &read.err().unwrap_or(corrupt));
        }
    }

    /// Whether all that pointers lead to can be read and is right.
    async fn matches(&self, ptrs: &[BlockPtr], buf: DmaBuf) -> bool {
        let (result, buf) = self.fetch(ptrs, buf).await;
        result.is_ok() && self.verify(ptrs, &buf).is_none()
    }

    fn damaged(&self, dataset: &Dataset, block: u64, blocks: u64, error: &PoolError) {
        let volume = dataset.name.borrow().clone();
        let problem = error.to_string();
        tracing::error!(pool = self.name, volume, block, blocks, problem, "scrub found damage");
        let mut status = self.scrub.status.borrow_mut();
        status.damaged_blocks += blocks;
        if status.damaged.len() < LISTED_MAX {
            status.damaged.push(Damage { volume, block, blocks, problem });
        }
    }
}
