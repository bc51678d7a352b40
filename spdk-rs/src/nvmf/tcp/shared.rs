//! What the reactors of a transport share: options, and who has how many connections.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::options::TcpOptions;
use crate::reactor::ReactorHandle;

/// Shared by the reactors. Written when a connection comes or goes, not per I/O.
pub(super) struct Shared {
    pub(super) options: TcpOptions,
    places: Vec<Place>,
    /// Where the search for the reactor with the fewest connections begins.
    next: AtomicUsize,
    accepted: AtomicU64,
    terminated: AtomicU64,
}

struct Place {
    reactor: ReactorHandle,
    connections: AtomicU32,
}

/// What a transport has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStats {
    /// Connections that were accepted since the start.
    pub accepted: u64,
    /// Connections now.
    pub current: u64,
    /// Connections that were ended for a fatal error of the protocol.
    pub terminated: u64,
}

impl Shared {
    pub(super) fn new(options: TcpOptions, reactors: Vec<ReactorHandle>) -> Self {
        let place = |reactor| Place { reactor, connections: AtomicU32::new(0) };
        Self {
            options,
            places: reactors.into_iter().map(place).collect(),
            next: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            terminated: AtomicU64::new(0),
        }
    }

    /// The number of reactors.
    pub(super) fn reactors(&self) -> usize {
        self.places.len()
    }

    pub(super) fn reactor(&self, index: usize) -> Option<&ReactorHandle> {
        self.places.get(index).map(|place| &place.reactor)
    }

    /// Chooses the reactor with the fewest connections for a new one, in turn among equals, and
    /// counts it there.
    pub(super) fn choose(&self) -> usize {
        let count = self.places.len().max(1);
        let from = self.next.fetch_add(1, Ordering::Relaxed);
        let connections = |index: usize| {
            self.places.get(index).map_or(0, |place| place.connections.load(Ordering::Relaxed))
        };
        let order = (0..count).map(|step| from.wrapping_add(step) % count);
        let chosen = order.min_by_key(|&index| connections(index)).unwrap_or(0);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.came(chosen);
        chosen
    }

    pub(super) fn came(&self, index: usize) {
        if let Some(place) = self.places.get(index) {
            place.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn left(&self, index: usize) {
        if let Some(place) = self.places.get(index) {
            place.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn terminated(&self) {
        self.terminated.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> TcpStats {
        let current = |place: &Place| u64::from(place.connections.load(Ordering::Relaxed));
        TcpStats {
            accepted: self.accepted.load(Ordering::Relaxed),
            current: self.places.iter().map(current).sum(),
            terminated: self.terminated.load(Ordering::Relaxed),
        }
    }
}
