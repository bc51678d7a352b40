//! All contents of the double, in memory, and the changes that lead from one state to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Bug;
use crate::device::{BLOCK_BYTES, to_usize};
use crate::plan::Range;

/// A change of the double, as its log has it. Data follow beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Change {
    Create { name: String, blocks: u64, snapshot: bool },
    Delete { name: String },
    Copy { from: String, to: String, snapshot: bool },
    Resize { name: String, blocks: u64 },
    Rename { from: String, to: String },
    Write { name: String, ranges: Vec<Range> },
    Zero { name: String, range: Range },
}

type Block = Arc<[u8; BLOCK_BYTES]>;

#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    pub(super) blocks: u64,
    pub(super) snapshot: bool,
    origin: Option<String>,
    pub(super) data: BTreeMap<u64, Block>,
}

/// What the double can hold.
const CAPACITY_BLOCKS: usize = 1 << 20;

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) volumes: BTreeMap<String, Stored>,
    leaked: usize,
}

impl State {
    pub(super) fn remaining_bytes(&self) -> u64 {
        let used: usize = self.volumes.values().map(|stored| stored.data.len()).sum();
        ((CAPACITY_BLOCKS - used - self.leaked) * BLOCK_BYTES) as u64
    }

    pub(super) fn apply(&mut self, change: &Change, data: &[u8], bug: Option<Bug>) {
        match change {
            Change::Create { name, blocks, snapshot } => {
                let (blocks, snapshot) = (*blocks, *snapshot);
                let stored = Stored { blocks, snapshot, ..Stored::default() };
                self.volumes.insert(name.clone(), stored);
            }
            Change::Delete { name } => {
                let gone = self.volumes.remove(name);
                if bug == Some(Bug::SpaceLeak) && gone.is_some_and(|gone| !gone.data.is_empty()) {
                    self.leaked += 1;
                }
            }
            Change::Copy { from, to, snapshot } => {
                if let Some(stored) = self.volumes.get(from).cloned() {
                    let origin = Some(from.clone());
                    let copy = Stored { snapshot: *snapshot, origin, ..stored };
                    self.volumes.insert(to.clone(), copy);
                }
            }
            Change::Resize { name, blocks } => {
                if let Some(stored) = self.volumes.get_mut(name) {
                    stored.blocks = *blocks;
                    if bug != Some(Bug::RegrowShowsOld) {
                        stored.data.retain(|block, _| block < blocks);
                    }
                }
            }
            Change::Rename { from, to } => {
                if let Some(stored) = self.volumes.remove(from) {
                    self.volumes.insert(to.clone(), stored);
                }
            }
            Change::Write { name, ranges } => self.write(name, ranges, data, bug),
            Change::Zero { name, range } => {
                if let Some(stored) = self.volumes.get_mut(name) {
                    stored.data.retain(|block, _| !(range.0..range.0 + range.1).contains(block));
                }
            }
        }
    }

    fn write(&mut self, name: &str, ranges: &[Range], data: &[u8], bug: Option<Bug>) {
        let blocks = ranges.iter().flat_map(|&(first, count)| first..first + count);
        let data: Vec<(u64, Block)> = blocks
            .zip(data.chunks_exact(BLOCK_BYTES))
            .filter_map(|(block, data)| {
                Some((block, Arc::new(<[u8; BLOCK_BYTES]>::try_from(data).ok()?)))
            })
            .collect();
        let shares = matches!(bug, Some(Bug::SnapshotShares | Bug::SnapshotSharesReplayed));
        for (own, stored) in &mut self.volumes {
            let follows = shares && stored.snapshot && stored.origin.as_deref() == Some(name);
            if own == name || follows {
                stored.data.extend(data.iter().cloned());
            }
        }
    }

    /// The changes that lead from nothing to this state, with their data.
    pub(super) fn as_changes(&self) -> Vec<(Change, Vec<u8>)> {
        let mut all = Vec::new();
        for (name, stored) in &self.volumes {
            let (blocks, snapshot) = (stored.blocks, stored.snapshot);
            all.push((Change::Create { name: name.clone(), blocks, snapshot }, Vec::new()));
            let written: Vec<(&u64, &Block)> = stored.data.iter().collect();
            for some in written.chunks(16) {
                let ranges = some.iter().map(|&(&block, _)| (block, 1)).collect();
                let data = some.iter().flat_map(|(_, data)| data.iter()).copied().collect();
                all.push((Change::Write { name: name.clone(), ranges }, data));
            }
        }
        all
    }

    /// The bytes of some blocks of a volume.
    pub(super) fn read(&self, name: &str, first: u64, to: &mut [u8]) -> bool {
        let Some(stored) = self.volumes.get(name) else { return false };
        let blocks = (to.len() / BLOCK_BYTES) as u64;
        to.fill(0);
        for (&block, data) in stored.data.range(first..first + blocks) {
            let at = to_usize(block - first) * BLOCK_BYTES;
            to[at..at + BLOCK_BYTES].copy_from_slice(&data[..]);
        }
        first + blocks <= stored.blocks
    }
}
