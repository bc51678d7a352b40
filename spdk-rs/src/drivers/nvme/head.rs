//! A namespace with the paths to it, as all threads see it.

use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "paths and policies change on the control plane")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::api::{IoPathInfo, MultipathPolicy};
use super::controller::Controller;
use crate::bdev::IoStats;
use crate::nvme::controller::scan::Namespace;
use crate::nvme::spec::log::AnaState;

/// A path to a namespace.
#[derive(Clone)]
pub(super) struct Path {
    pub(super) controller: Arc<Controller>,
    pub(super) namespace: Namespace,
    pub(super) ana: AnaState,
}

/// A namespace: what a block device of this driver stands for.
pub(super) struct Head {
    /// A number that no other namespace of this process has or had.
    pub(super) id: u64,
    /// The name of the block device.
    pub(super) name: String,
    state: State,
}

#[expect(clippy::disallowed_types, reason = "see the import")]
type State = Mutex<HeadState>;

struct HeadState {
    paths: Vec<Path>,
    policy: MultipathPolicy,
    /// The number of the controller whose path is taken whenever it is among the best.
    preferred: Option<u64>,
    /// What channels counted that are closed, by the number of the path's controller.
    counted: Vec<(u64, IoStats)>,
}

/// SPDK's words for a state.
pub(super) const fn ana_words(state: AnaState) -> &'static str {
    match state {
        AnaState::Optimized => "optimized",
        AnaState::NonOptimized => "non_optimized",
        AnaState::Inaccessible => "inaccessible",
        AnaState::PersistentLoss => "persistent_loss",
        AnaState::Change => "change",
    }
}

impl Head {
    pub(super) fn new(name: String, path: Path, policy: MultipathPolicy) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::disallowed_types, reason = "see the import")]
        let state = Mutex::new(HeadState {
            paths: vec![path],
            policy,
            preferred: None,
            counted: Vec::new(),
        });
        Arc::new(Self { id, name, state })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HeadState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The paths, and the policy.
    pub(super) fn paths(&self) -> (Vec<Path>, MultipathPolicy) {
        let state = self.lock();
        (state.paths.clone(), state.policy)
    }

    /// The first path: whatever all of them agree on is taken from it.
    pub(super) fn first(&self) -> Option<Path> {
        self.lock().paths.first().cloned()
    }

    /// Adds a path, or brings one up to date; false when nothing has changed.
    pub(super) fn set_path(&self, path: Path) -> bool {
        let mut state = self.lock();
        let known = state.paths.iter_mut().find(|p| p.controller.id == path.controller.id);
        match known {
            Some(known) if known.namespace == path.namespace && known.ana == path.ana => false,
            Some(known) => {
                *known = path;
                true
            }
            None => {
                state.paths.push(path);
                true
            }
        }
    }

    /// Removes the path of a controller; whether it was there, and whether there is another.
    pub(super) fn remove_path(&self, controller: u64) -> (bool, bool) {
        let mut state = self.lock();
        let before = state.paths.len();
        state.counted.retain(|(own, _)| *own != controller);
        state.paths.retain(|path| path.controller.id != controller);
        (state.paths.len() != before, !state.paths.is_empty())
    }

    pub(super) fn set_policy(&self, policy: MultipathPolicy) {
        self.lock().policy = policy;
    }

    /// The number of the controller whose path is preferred.
    pub(super) fn preferred(&self) -> Option<u64> {
        self.lock().preferred
    }

    pub(super) fn prefer(&self, controller: u64) {
        self.lock().preferred = Some(controller);
    }

    /// Keeps what a channel that is closed has counted of a path.
    pub(super) fn keep_stats(&self, controller: u64, stats: &IoStats) {
        let counted = &mut self.lock().counted;
        match counted.iter_mut().find(|(own, _)| *own == controller) {
            Some((_, sum)) => sum.merge(stats),
            None => counted.push((controller, *stats)),
        }
    }

    /// What closed channels have counted of a path.
    pub(super) fn kept_stats(&self, controller: u64) -> IoStats {
        let state = self.lock();
        let kept = state.counted.iter().find(|(own, _)| *own == controller);
        kept.map(|(_, stats)| *stats).unwrap_or_default()
    }

    /// What listings show.
    pub(super) fn path_infos(&self) -> Vec<IoPathInfo> {
        let (paths, _) = self.paths();
        let info = |path: Path| IoPathInfo {
            bdev: self.name.clone(),
            cntlid: path.controller.info().map(|info| info.cntlid),
            trid: path.controller.trid.clone(),
            connected: path.controller.state() == super::api::ControllerState::Enabled,
            ana_state: ana_words(path.ana),
            current: false,
            controller: path.controller.id,
        };
        paths.into_iter().map(info).collect()
    }
}
