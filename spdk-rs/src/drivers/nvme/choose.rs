//! Which path an I/O takes.

use super::api::MultipathPolicy;
use crate::nvme::spec::log::AnaState;

/// A path as the choice sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its queue is connected.
    pub(super) connected: bool,
    /// The namespace's state there.
    pub(super) ana: AnaState,
    /// Commands outstanding on its queue.
    pub(super) outstanding: usize,
}

impl Candidate {
    /// Whether no other can be better.
    #[inline(always)]
    pub(super) const fn is_best(self) -> bool {
        self.connected && matches!(self.ana, AnaState::Optimized)
    }

    /// How good it is: 0 is best; none when it cannot be used.
    #[inline(always)]
    const fn rank(self) -> Option<u8> {
        match (self.connected, self.ana) {
            (true, AnaState::Optimized) => Some(0),
            (true, AnaState::NonOptimized) => Some(1),
            _ => None,
        }
    }
}

/// The index of the path to take after `last`: of those with the best state, the one that the
/// policy names. None when no path can be used.
#[inline]
pub(super) fn choose(
    policy: MultipathPolicy,
    last: usize,
    count: usize,
    candidate: impl Fn(usize) -> Candidate,
) -> Option<usize> {
    let mut best: Option<(u8, usize, usize)> = None;
    for step in 0..count {
        // A policy that stays begins with the last one, a policy that changes behind it.
        let from = match policy {
            MultipathPolicy::ActivePassive => last,
            MultipathPolicy::RoundRobin | MultipathPolicy::QueueDepth => last + 1,
        };
        let index = (from + step) % count;
        let path = candidate(index);
        let Some(rank) = path.rank() else { continue };
        let depth = match policy {
            MultipathPolicy::QueueDepth => path.outstanding,
            MultipathPolicy::ActivePassive | MultipathPolicy::RoundRobin => 0,
        };
        if best.is_none_or(|(r, d, _)| (rank, depth) < (r, d)) {
            best = Some((rank, depth, index));
        }
    }
    best.map(|(_, _, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use MultipathPolicy::{ActivePassive, QueueDepth, RoundRobin};

    const fn path(connected: bool, ana: AnaState, outstanding: usize) -> Candidate {
        Candidate { connected, ana, outstanding }
    }

    const GOOD: Candidate = path(true, AnaState::Optimized, 5);
    const FAIR: Candidate = path(true, AnaState::NonOptimized, 0);
    const DOWN: Candidate = path(false, AnaState::Optimized, 0);

    fn pick(policy: MultipathPolicy, last: usize, paths: &[Candidate]) -> Option<usize> {
        choose(policy, last, paths.len(), |index| paths[index])
    }

    #[test]
    fn the_state_comes_before_the_policy() {
        for policy in [ActivePassive, RoundRobin, QueueDepth] {
            assert_eq!(pick(policy, 0, &[FAIR, GOOD]), Some(1));
            assert_eq!(pick(policy, 1, &[FAIR, DOWN]), Some(0));
            assert_eq!(pick(policy, 0, &[DOWN]), None);
            assert_eq!(pick(policy, 0, &[]), None);
        }
    }

    #[test]
    fn paths_that_serve_nothing_are_left_out() {
        for ana in [AnaState::Inaccessible, AnaState::PersistentLoss, AnaState::Change] {
            assert_eq!(pick(ActivePassive, 0, &[path(true, ana, 0), FAIR]), Some(1));
            assert_eq!(pick(ActivePassive, 0, &[path(true, ana, 0)]), None);
        }
    }

    #[test]
    fn policies_among_equals() {
        let three = [GOOD, GOOD, GOOD];
        assert_eq!(pick(ActivePassive, 1, &three), Some(1));
        assert_eq!(pick(RoundRobin, 1, &three), Some(2));
        assert_eq!(pick(RoundRobin, 2, &three), Some(0));
        let depths = [GOOD, path(true, AnaState::Optimized, 2), GOOD];
        assert_eq!(pick(QueueDepth, 1, &depths), Some(1));
    }
}
