//! Letting changes in: room in the journal, blocks to write to, and blocks for the checkpoint that
//! has to follow. Whoever finds no room makes a checkpoint and tries again.

use std::rc::Rc;

use super::super::dataset::Dataset;
use super::super::layout::FANOUT_BITS;
use super::super::sync::{Pass, RangeGuard};
use super::super::tree::Leaf;
use super::super::{Pool, PoolError};

/// Checkpoints that are tried for space before it is refused.
const ATTEMPTS_MAX: usize = 3;

/// What a change needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// Blocks that are written.
    pub(super) blocks: u64,
    /// Blocks of the journal.
    pub(super) journal_blocks: u64,
    /// Whether it gives space back, so that it may use what is kept for such changes.
    pub(super) frees: bool,
    /// Whether it is of what was cut off of a volume: behind its size.
    pub(super) tail: bool,
}

/// A change that was let in. Dropping it takes back what was promised and not used.
pub(super) struct Admitted<'a> {
    pool: &'a Pool,
    /// Blocks that are promised and not taken.
    pub(super) blocks: u64,
    /// Blocks of the journal that are promised and not used.
    pub(super) journal_blocks: u64,
    nodes: u64,
    pub(super) leaves: Vec<Vec<Leaf>>,
    _guard: RangeGuard<'a>,
    _pass: Pass<'a>,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.pool.space.unpromise(self.blocks);
        self.pool.journal.unreserve(self.journal_blocks);
        let expected = self.pool.counters.expected_nodes();
        expected.set(expected.get() - self.nodes);
    }
}

impl Pool {
    /// Blocks that only changes may use that give space back.
    fn slack(&self) -> u64 {
        (self.geometry.get().total_blocks / 256).max(64)
    }

    /// Notes which volumes space is kept for.
    pub(in super::super) fn note_thick(&self) {
        let datasets = self.datasets.borrow();
        let thick = datasets.values().filter(|one| !one.thin.get() && one.is_live());
        *self.thick.borrow_mut() = thick.cloned().collect();
    }

    /// Blocks that are kept for thick volumes and not written yet.
    fn reserved_blocks(&self) -> u64 {
        self.thick.borrow().iter().map(|one| one.reservation()).sum()
    }

    /// Blocks that volumes may use now.
    pub(in super::super) fn available_blocks(&self) -> u64 {
        let kept = self.slack() + self.checkpoint_needs() + self.reserved_blocks();
        self.unused_blocks().saturating_sub(kept)
    }

    /// Lets a change of some ranges in, `(start, end)` in blocks.
    pub(super) async fn admit<'a>(
        self: &'a Rc<Self>,
        dataset: &'a Dataset,
        ranges: &[(u64, u64)],
        needs: Needs,
    ) -> Result<Admitted<'a>, PoolError> {
        let most = self.journal.txn_blocks_max();
        if needs.journal_blocks > most {
            return Err(PoolError::Parameter {
                parameter: "size of the change",
                value: format!("{} journal blocks", needs.journal_blocks),
                allowed: format!("at most {most}"),
            });
        }
        let mut attempts = 0;
        loop {
            let pass = self.gate.enter().await;
            let guard = dataset.locks.lock(ranges.to_vec()).await;
            self.check_writable()?;
            for &(start, end) in ranges {
                if needs.tail {
                    self.check_tail(dataset, end)?;
                } else {
                    self.check_range(dataset, start, end - start)?;
                }
            }
            let mut leaves = Vec::with_capacity(ranges.len());
            for &(start, end) in ranges {
                leaves.push(self.trees.leaves(&self.device, dataset, start, end).await?);
            }
            let nodes = ranges.iter().map(|&(start, end)| nodes_over(dataset, start, end)).sum();
            match self.promise(dataset, needs, nodes) {
                Ok(()) => {
                    let (blocks, journal_blocks) = (needs.blocks, needs.journal_blocks);
                    let (_guard, _pass) = (guard, pass);
                    let pool = &**self;
                    return Ok(Admitted {
                        pool,
                        blocks,
                        journal_blocks,
                        nodes,
                        leaves,
                        _guard,
                        _pass,
                    });
                }
                Err(Lacking::Journal) => {}
                Err(Lacking::Space { needed }) => {
                    attempts += 1;
                    if attempts > ATTEMPTS_MAX && !needs.frees && self.has_tails() {
                        drop((guard, pass));
                        // What a thick volume was promised may be in what was cut off of it.
                        Box::pin(self.trim_all()).await?;
                        attempts = 0;
                        continue;
                    }
                    if attempts > ATTEMPTS_MAX {
                        let (pool, available) = (self.name.clone(), self.available_blocks());
                        return Err(PoolError::NoSpace { pool, available, needed });
                    }
                }
            }
            drop(guard);
            drop(pass);
            self.checkpoint().await?;
        }
    }

    /// Promises everything or nothing.
    fn promise(&self, dataset: &Dataset, needs: Needs, nodes: u64) -> Result<(), Lacking> {
        let thick = self.reserved_blocks();
        let own = dataset.reservation().min(needs.blocks);
        let kept = if needs.frees { 0 } else { self.slack() + thick - own };
        let expected = self.counters.expected_nodes();
        let nodes_all = nodes + expected.get() + self.checkpoint_needs();
        let required = needs.blocks + nodes_all + kept;
        if self.space.free_blocks() < required {
            return Err(Lacking::Space { needed: needs.blocks + nodes });
        }
        if !self.journal.reserve(needs.journal_blocks) {
            return Err(Lacking::Journal);
        }
        if !self.space.promise(needs.blocks) {
            self.journal.unreserve(needs.journal_blocks);
            return Err(Lacking::Space { needed: needs.blocks + nodes });
        }
        expected.set(expected.get() + nodes);
        Ok(())
    }

    /// Has a checkpoint made when much has gathered.
    pub(super) fn consider_checkpoint(self: &Rc<Self>) {
        let (_, most) = self.trees.cached();
        let full = self.journal.fill() * 2 > self.geometry.get().journal_blocks
            || self.trees.dirty_nodes() * 2 > most
            || self.space.pending_blocks() > self.space.free_blocks();
        if full {
            self.want_checkpoint();
        }
    }
}

/// What there is not enough of.
enum Lacking {
    Journal,
    Space { needed: u64 },
}

/// Nodes that a change of a range may make the next checkpoint write.
fn nodes_over(dataset: &Dataset, start: u64, end: u64) -> u64 {
    let leaves = (end.saturating_sub(1) >> FANOUT_BITS) - (start >> FANOUT_BITS) + 1;
    leaves + leaves.div_ceil(1 << FANOUT_BITS) + 2 * u64::from(dataset.height.get()) + 2
}
