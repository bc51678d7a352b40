//! The pools of one reactor, found by those who come from elsewhere.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use spdk_rs::reactor::Reactor;

use super::super::{Pool, Volume};

/// What of pools lives on a reactor. Keys are unique in the process.
#[derive(Default)]
pub(in crate::pool) struct Home {
    pools: RefCell<BTreeMap<u64, Rc<Pool>>>,
    volumes: RefCell<BTreeMap<u64, Rc<Volume>>>,
}

impl Home {
    /// The part of a reactor, made at first use.
    pub(in crate::pool) fn of(reactor: &Rc<Reactor>) -> Rc<Self> {
        reactor.extension(Rc::<Self>::default)
    }

    /// Keeps a pool.
    pub(in crate::pool) fn add_pool(&self, key: u64, pool: Rc<Pool>) {
        self.pools.borrow_mut().insert(key, pool);
    }

    /// The pool of a key.
    pub(in crate::pool) fn pool(&self, key: u64) -> Option<Rc<Pool>> {
        self.pools.borrow().get(&key).cloned()
    }

    /// Gives a pool away.
    pub(in crate::pool) fn remove_pool(&self, key: u64) -> Option<Rc<Pool>> {
        self.pools.borrow_mut().remove(&key)
    }

    /// Keeps a volume for its device.
    pub(in crate::pool) fn add_volume(&self, key: u64, volume: Rc<Volume>) {
        self.volumes.borrow_mut().insert(key, volume);
    }

    /// The volume of a device.
    pub(super) fn volume(&self, key: u64) -> Option<Rc<Volume>> {
        self.volumes.borrow().get(&key).cloned()
    }

    /// Lets a volume go.
    pub(in crate::pool) fn remove_volume(&self, key: u64) {
        self.volumes.borrow_mut().remove(&key);
    }
}
