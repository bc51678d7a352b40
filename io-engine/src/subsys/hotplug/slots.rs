//! Which controllers of this machine are to be attached, decided from what is there.

use std::collections::{BTreeMap, BTreeSet};

use spdk_rs::env::pci::PciAddress;

/// How often a controller is tried before it is left alone until it has gone and come back.
const TRIES_MAX: u32 = 10;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It came, or it is to be tried again: attach it.
    Attach(PciAddress),
    /// It went.
    Gone {
        /// Where it was.
        address: PciAddress,
        /// It is attached still.
        attached: bool,
    },
}

/// What is known of a controller that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// So many attempts have failed.
    Tried(u32),
    /// It is attached, or was: whoever detached it does not want it back.
    Settled,
}

/// The controllers that are there.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: BTreeMap<PciAddress, Slot>,
    /// Those that were attached here, and not by a call or a URI.
    own: BTreeSet<PciAddress>,
}

impl Slots {
    /// What is to be done when these are there for the engine, and these attached.
    pub(super) fn plan(&mut self, there: &[PciAddress], attached: &[PciAddress]) -> Vec<Step> {
        let gone: Vec<_> =
            self.slots.keys().copied().filter(|address| !there.contains(address)).collect();
        let mut steps = Vec::new();
        for address in gone {
            let _ = self.slots.remove(&address);
            let _ = self.own.remove(&address);
            steps.push(Step::Gone { address, attached: attached.contains(&address) });
        }
        for address in there {
            let slot = self.slots.entry(*address).or_insert(Slot::Tried(0));
            if attached.contains(address) {
                *slot = Slot::Settled;
            } else if *slot != Slot::Settled {
                steps.push(Step::Attach(*address));
            }
        }
        steps
    }

    /// A controller was attached.
    pub(super) fn attached(&mut self, address: PciAddress) {
        self.slots.insert(address, Slot::Settled);
        self.own.insert(address);
    }

    /// A controller could not be attached: how often so far, and whether it was the last attempt.
    pub(super) fn failed(&mut self, address: PciAddress) -> (u32, bool) {
        let slot = self.slots.entry(address).or_insert(Slot::Tried(0));
        let tries = match *slot {
            Slot::Tried(tries) => tries + 1,
            Slot::Settled => TRIES_MAX,
        };
        *slot = if tries < TRIES_MAX { Slot::Tried(tries) } else { Slot::Settled };
        (tries, tries >= TRIES_MAX)
    }

    /// Whether some are to be tried again.
    pub(super) fn is_waiting(&self) -> bool {
        self.slots.values().any(|slot| *slot != Slot::Settled)
    }

    /// Whether a controller was attached here.
    pub(super) fn is_own(&self, address: PciAddress) -> bool {
        self.own.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u8) -> PciAddress {
        PciAddress { domain: 0, bus: number, device: 0, function: 0 }
    }

    #[test]
    fn what_comes_is_attached_once() {
        let mut slots = Slots::default();
        assert_eq!(slots.plan(&[at(1), at(2)], &[at(2)]), [Step::Attach(at(1))]);
        slots.attached(at(1));
        assert!(slots.is_own(at(1)) && !slots.is_own(at(2)) && !slots.is_waiting());
        assert_eq!(slots.plan(&[at(1), at(2)], &[at(1), at(2)]), []);
        // Whoever detaches one does not want it back, until it was pulled out and plugged in.
        assert_eq!(slots.plan(&[at(1), at(2)], &[]), []);
        let gone = |attached| Step::Gone { address: at(1), attached };
        assert_eq!(slots.plan(&[at(2)], &[]), [gone(false)]);
        assert!(!slots.is_own(at(1)));
        assert_eq!(slots.plan(&[at(1), at(2)], &[]), [Step::Attach(at(1))]);
        slots.attached(at(1));
        assert_eq!(slots.plan(&[at(2)], &[at(1)]), [gone(true)]);
    }

    #[test]
    fn what_cannot_be_attached_is_tried_a_while() {
        let mut slots = Slots::default();
        for tries in 1..=TRIES_MAX {
            assert_eq!(slots.plan(&[at(1)], &[]), [Step::Attach(at(1))]);
            assert_eq!(slots.failed(at(1)), (tries, tries == TRIES_MAX));
            assert_eq!(slots.is_waiting(), tries != TRIES_MAX);
        }
        assert_eq!(slots.plan(&[at(1)], &[]), []);
        assert_eq!(slots.plan(&[], &[]).len(), 1);
        assert_eq!(slots.plan(&[at(1)], &[]), [Step::Attach(at(1))]);
    }
}
