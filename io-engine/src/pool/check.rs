//! Looking at everything: every pointer, every digest, every bit of the bitmaps.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;

use super::dataset::{Dataset, span};
use super::layout::{BLOCK_BYTES, BlockPtr, DatasetState, FANOUT_BITS, PtrKind};
use super::{Pool, PoolError};

/// Errors that are listed; the others are only counted.
const LISTED_MAX: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// What is wrong, the first hundred.
    pub errors: Vec<String>,
    /// How much is wrong.
    pub error_count: u64,
    /// Volumes and snapshots that were walked.
    pub datasets: u64,
    /// Nodes that were verified.
    pub nodes: u64,
    /// Blocks of data that were verified.
    pub data_blocks: u64,
    /// Blocks that nobody leads to, though they are marked as used.
    pub leaked_blocks: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.error_count == 0
    }

    fn error(&mut self, what: String) {
        self.error_count += 1;
        if self.errors.len() < LISTED_MAX {
            self.errors.push(what);
        }
    }
}

/// Which addresses were found in use, 64 to a word.
#[derive(Default)]
struct Seen(BTreeMap<u64, u64>);

impl Seen {
    /// Notes an address; false when it was noted before.
    fn note(&mut self, address: u64) -> bool {
        let (word, bit) = (self.0.entry(address / 64).or_default(), 1 << (address % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn has(&self, address: u64) -> bool {
        self.0.get(&(address / 64)).is_some_and(|word| word & (1 << (address % 64)) != 0)
    }
}

struct Walk<'a> {
    pool: &'a Rc<Pool>,
    report: CheckReport,
    seen: Seen,
    /// Whether data are read.
    deep: bool,
}

impl Pool {
    /// Walks everything with nobody else inside. With `deep`, data are read as well.
    ///
    /// # Errors
    /// When the device fails; what is wrong with the pool is in the report.
    pub async fn check_with(self: &Rc<Self>, deep: bool) -> Result<CheckReport, PoolError> {
        let closed = self.gate.close().await;
        if self.is_read_only().is_none() {
            self.commit(&closed, false).await?;
        }
        let (report, seen) = (CheckReport::default(), Seen::default());
        let mut walk = Walk { pool: self, report, seen, deep };
        let datasets: Vec<_> = self.datasets.borrow().values().cloned().collect();
        for dataset in &datasets {
            walk.dataset(dataset).await;
        }
        walk.table().await;
        walk.bitmaps().await?;
        Ok(walk.report)
    }

    /// A check that reads data, with a device that fails as one more thing that is wrong.
    pub async fn check(self: &Rc<Self>) -> CheckReport {
        match self.check_with(true).await {
            Ok(report) => report,
            Err(error) => {
                let mut report = CheckReport::default();
                report.error(error.to_string());
                report
            }
        }
    }
}

impl Walk<'_> {
    /// Walks a volume or snapshot.
    async fn dataset(&mut self, dataset: &Rc<Dataset>) {
        self.report.datasets += 1;
        let mut mapped = 0;
        let top = dataset.height.get();
        let root = dataset.root.get();
        let mut stack = vec![(top, 0_u64, root)];
        let deleting = dataset.state.get() == DatasetState::Deleting;
        while let Some((level, index, ptr)) = stack.pop() {
            let end = (index + 1).saturating_mul(span(level));
            if deleting && end.min(dataset.reach()) <= dataset.cursor.get() {
                continue;
            }
            let own = self.note(dataset, &ptr, end);
            let found = self.pool.trees.node(&self.pool.device, dataset, level, index).await;
            let node = match found {
                Ok(Some(node)) => node,
                Ok(None) => continue,
                Err(error) => {
                    self.report.error(error.to_string());
                    continue;
                }
            };
            self.report.nodes += u64::from(own);
            for (slot, ptr) in node.ptrs.iter().enumerate() {
                let below = (index << FANOUT_BITS) + slot as u64;
                if level > 1 {
                    let marked = self.pool.trees.is_marked((dataset.id, level - 1, below));
                    if !ptr.is_hole() || marked {
                        stack.push((level - 1, below, *ptr));
                    }
                } else if !ptr.is_hole() {
                    mapped += 1;
                    self.data(dataset, below, ptr).await;
                }
            }
        }
        if !deleting && mapped != dataset.mapped.get() {
            let (name, counted) = (dataset.name.borrow(), dataset.mapped.get());
            self.report
                .error(format!("'{name}' has {mapped} blocks, but its record says {counted}"));
        }
    }

    /// Notes what a pointer leads to as in use, if it belongs to the dataset.
    fn note(&mut self, dataset: &Dataset, ptr: &BlockPtr, end: u64) -> bool {
        if ptr.is_hole() {
            return false;
        }
        let address = ptr.address();
        if !self.pool.geometry.get().is_usable(address) {
            let name = dataset.name.borrow();
            self.report.error(format!("'{name}' leads to block {address}, which cannot be in use"));
            return false;
        }
        if ptr.birth() <= self.pool.prev(dataset, end) {
            return false;
        }
        if !self.seen.note(address) {
            let name = dataset.name.borrow();
            self.report.error(format!("'{name}' leads to block {address}, as something else does"));
        }
        true
    }

    async fn data(&mut self, dataset: &Rc<Dataset>, block: u64, ptr: &BlockPtr) {
        let own = self.note(dataset, ptr, block + 1);
        if ptr.kind() != Some(PtrKind::Data) {
            let name = dataset.name.borrow();
            self.report.error(format!("'{name}': block {block} has a pointer of another kind"));
        }
        if !(own && self.deep) {
            return;
        }
        self.report.data_blocks += 1;
        match self.pool.device.read_blocks(ptr.address(), 1).await {
            Ok(buf) if self.pool.verify(&[*ptr], &buf).is_none() => {}
            Ok(_) => {
                let (name, address) = (dataset.name.borrow(), ptr.address());
                self.report.error(format!(
                    "'{name}': block {block} at address {address} does not match its digest"
                ));
            }
            Err(error) => self.report.error(error.to_string()),
        }
    }

    /// Walks the table of volumes.
    async fn table(&mut self) {
        let table = &self.pool.table;
        let mut stack = vec![(table.height.get(), 0_u64, table.root.get())];
        while let Some((level, index, ptr)) = stack.pop() {
            self.note(table, &ptr, 0);
            let node = match self.pool.trees.node(&self.pool.device, table, level, index).await {
                Ok(Some(node)) => node,
                Ok(None) => continue,
                Err(error) => {
                    self.report.error(error.to_string());
                    continue;
                }
            };
            for (slot, ptr) in node.ptrs.iter().enumerate().filter(|(_, ptr)| !ptr.is_hole()) {
                if level > 1 {
                    stack.push((level - 1, (index << FANOUT_BITS) + slot as u64, *ptr));
                } else {
                    self.note(table, ptr, 0);
                }
            }
        }
    }

    /// Compares what was found with the bitmaps. With changes that are only in memory, blocks that
    /// these replace are in use without anybody leading to them.
    async fn bitmaps(&mut self) -> Result<(), PoolError> {
        let (pool, geometry) = (self.pool, self.pool.geometry.get());
        let settled = pool.trees.marked() == 0 && pool.space.pending_blocks() == 0;
        let mut free = 0;
        for group in 0..geometry.groups() {
            let Some(bitmap) = pool.space.bitmap(&pool.device, group).await? else {
                free += geometry.usable_in(group);
                self.untouched(group);
                continue;
            };
            for (at, used) in bitmap.into_iter().enumerate() {
                let address = group * super::layout::GROUP_BLOCKS + at as u64;
                if !geometry.is_usable(address) {
                    continue;
                }
                free += u64::from(!used);
                match (used, self.seen.has(address)) {
                    (true, false) if settled => {
                        self.report.leaked_blocks += 1;
                        self.report.error(format!("block {address} is in use, but by nobody"));
                    }
                    (false, true) => {
                        self.report.error(format!("block {address} is in use, but marked as free"));
                    }
                    _ => {}
                }
            }
        }
        let counted = pool.space.free_blocks();
        if settled && counted != free {
            let bytes = BLOCK_BYTES;
            self.report.error(format!("{free} blocks of {bytes} are free, {counted} were counted"));
        }
        Ok(())
    }

    /// Nothing may lead into a group whose bitmap was never written.
    fn untouched(&mut self, group: u64) {
        let words = super::layout::GROUP_BLOCKS / 64;
        let range = group * words..(group + 1) * words;
        if let Some((word, _)) = self.seen.0.range(range).next() {
            let address = word * 64;
            self.report.error(format!("a block from {address} on is in use in an unused group"));
        }
    }
}
