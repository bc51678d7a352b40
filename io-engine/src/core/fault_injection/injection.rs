//! An injection that is there: what all cores share of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spdk_rs::bdev::{Bdev, BdevIo, IoType, IoTypes, Registry};
use spdk_rs::reactor::ReactorHandle;

use super::kind::Kind;
use super::operation::{Stage, has_range};
use super::random::{Purpose, draw};
use super::spec::{InjectionSpec, PPB};

/// Sectors are written whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

/// An injection. Everything that an I/O reads before it fits is never written while the injection
/// exists, but for the one flag that ends it.
pub(super) struct Injection {
    pub(super) id: u64,
    pub(super) spec: InjectionSpec,
    pub(super) seed: u64,
    pub(super) bdev: Arc<Bdev>,
    pub(super) registry: Arc<Registry>,
    /// The reactor that keeps what was there before changes.
    pub(super) home: ReactorHandle,
    pub(super) at_submission: IoTypes,
    pub(super) at_completion: IoTypes,
    /// Ticks of the clock between which it happens.
    pub(super) window: std::ops::Range<u64>,
    /// It happens no more.
    spent: AtomicBool,
    /// I/Os that fitted.
    matched: AtomicU64,
    /// I/Os that it happened to.
    hits: AtomicU64,
    /// I/Os that hang.
    pub(super) held: AtomicU64,
    /// The power is off.
    pub(super) cut: AtomicBool,
    /// The interceptors' id.
    pub(super) hook_id: AtomicU64,
}

impl Injection {
    pub(super) fn new(
        id: u64,
        spec: InjectionSpec,
        bdev: Arc<Bdev>,
        registry: Arc<Registry>,
        home: ReactorHandle,
        window: std::ops::Range<u64>,
    ) -> Arc<Self> {
        let seed = spec.seed.unwrap_or_else(|| draw(0, id, Purpose::Order));
        Arc::new(Self {
            id,
            seed,
            bdev,
            registry,
            home,
            at_submission: spec.ops_at(Stage::Submission),
            at_completion: spec.ops_at(Stage::Completion),
            window,
            spent: AtomicBool::new(spec.retries == Some(0)),
            matched: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            held: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            hook_id: AtomicU64::new(0),
            spec,
        })
    }

    /// Ends it: it happens to nothing more.
    pub(super) fn end(&self) {
        self.spent.store(true, Ordering::Release);
    }

    pub(super) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }

    pub(super) fn matched(&self) -> u64 {
        self.matched.load(Ordering::Relaxed)
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Whether an I/O fits, at a tick: it is read only what does not change.
    pub(super) fn fits(&self, io: &BdevIo, now: u64) -> bool {
        !self.is_spent()
            && self.window.contains(&now)
            && self.touches(io)
            && (self.spec.kind != Kind::Torn || self.sectors(io) > 1)
    }

    /// Whether an I/O touches the blocks that the injection is for.
    pub(super) fn touches(&self, io: &BdevIo) -> bool {
        let (offset, blocks) = (self.spec.offset_blocks, self.spec.num_blocks);
        if offset == 0 && blocks.is_none() {
            return true;
        }
        let end = blocks.map_or(u64::MAX, |blocks| offset.saturating_add(blocks));
        let overlaps = |first: u64| first < end && first.saturating_add(io.num_blocks()) > offset;
        match io.kind() {
            // It concerns every block.
            IoType::Flush => true,
            IoType::Copy => overlaps(io.offset_blocks()) || overlaps(io.source_blocks()),
            kind => has_range(kind) && overlaps(io.offset_blocks()),
        }
    }

    pub(super) fn sectors(&self, io: &BdevIo) -> u64 {
        io.num_blocks().saturating_mul(u64::from(self.bdev.info().block_len)) / SECTOR_BYTES
    }

    /// Counts an I/O that fits and says whether the fault happens to it: the number of the hit.
    ///
    /// What the choice depends on is the count alone, so the same I/O gets the same faults; the
    /// last of `retries` is drawn by one core only.
    pub(super) fn draw(&self) -> Option<u64> {
        let spec = &self.spec;
        let number = self.matched.fetch_add(1, Ordering::Relaxed);
        let counted = number.checked_sub(spec.after)?;
        if counted % spec.every != spec.every - 1 {
            return None;
        }
        let chance = draw(self.seed, number, Purpose::Fire) % PPB;
        if chance >= spec.probability_ppb {
            return None;
        }
        let most = if spec.kind.is_final() { 1 } else { spec.retries.unwrap_or(u64::MAX) };
        let one_more = |hits: u64| (hits < most).then_some(hits + 1);
        let hit = self.hits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok();
        if hit.is_none_or(|hit| hit + 1 == most) {
            self.end();
        }
        hit
    }
}
