//! The queue pairs of one reactor, and who polls them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::pair::PciePair;
use crate::nvme::controller::admin::Awaited;
use crate::nvme::controller::queue::QueuePair;
use crate::reactor::{Reactor, Rest, Source};

/// The part of one reactor: polled at every turn.
#[derive(Default)]
pub(super) struct PcieCore {
    pairs: RefCell<Vec<Rc<PciePair>>>,
    /// Admin queues by the number of their controller, with who waits for commands of this module.
    admins: RefCell<HashMap<u64, Admin>>,
}

/// An admin queue, and who waits for its commands.
type Admin = (Rc<Awaited>, Weak<PciePair>);

impl PcieCore {
    /// The part of a reactor, made and polled from the first use on.
    pub(super) fn of(reactor: &Rc<Reactor>) -> Rc<Self> {
        reactor.extension(|| {
            let core: Rc<Self> = Rc::default();
            let source: Rc<dyn Source> = Rc::<Self>::clone(&core);
            reactor.add_source(source);
            core
        })
    }

    pub(super) fn add(&self, pair: &Rc<PciePair>) {
        self.pairs.borrow_mut().push(Rc::clone(pair));
    }

    pub(super) fn remove(&self, pair: &Rc<PciePair>) {
        self.pairs.borrow_mut().retain(|other| !Rc::ptr_eq(other, pair));
    }

    pub(super) fn add_admin(&self, controller: u64, pair: &Rc<PciePair>) {
        let mut admins = self.admins.borrow_mut();
        admins.retain(|_, (_, pair)| pair.strong_count() > 0);
        admins.insert(controller, (Rc::default(), Rc::downgrade(pair)));
    }

    /// The admin queue of a controller whose home is here.
    pub(super) fn admin(&self, controller: u64) -> Option<(Rc<Awaited>, Rc<dyn QueuePair>)> {
        let admins = self.admins.borrow();
        let (awaited, pair) = admins.get(&controller)?;
        let pair: Rc<dyn QueuePair> = pair.upgrade()?;
        Some((Rc::clone(awaited), pair))
    }

    #[inline(always)]
    fn pair(&self, index: usize) -> Option<Rc<PciePair>> {
        self.pairs.borrow().get(index).cloned()
    }
}

impl Source for PcieCore {
    #[inline]
    fn poll(&self) -> usize {
        let (mut work, mut index) = (0, 0);
        // One that goes meanwhile has another one polled a turn later.
        while let Some(pair) = self.pair(index) {
            work += pair.poll();
            index += 1;
        }
        work
    }

    fn dispatch(&self) -> usize {
        0
    }

    fn outstanding(&self) -> usize {
        self.pairs.borrow().iter().map(|pair| pair.waited_for()).sum()
    }

    fn rest(&self) -> Rest {
        let busy = self.pairs.borrow().iter().any(|pair| pair.wants_turn());
        if busy { Rest::Poll } else { Rest::Sleep }
    }
}
