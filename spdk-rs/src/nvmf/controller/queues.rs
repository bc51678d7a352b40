//! The queue pairs and controllers of one reactor, for those who know their numbers only.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use spdk_rs_sys::cpu::CoreId;

use super::AdminQueue;
use crate::nvmf::qpair::Qpair;
use crate::nvmf::target::{CoreStats, QueueStats};
use crate::reactor::Reactor;

/// The attached queue pairs of a reactor: an extension of it.
#[derive(Default)]
pub(in crate::nvmf) struct LocalQueues {
    qpairs: RefCell<HashMap<u64, Weak<Qpair>>>,
    admins: RefCell<HashMap<u64, Weak<AdminQueue>>>,
    admin_seen: Cell<u64>,
    io_seen: Cell<u64>,
    /// Sums of the I/O queue pairs that are gone.
    retired: Cell<QueueStats>,
}

impl LocalQueues {
    pub(in crate::nvmf) fn of(reactor: &Reactor) -> Rc<Self> {
        reactor.extension(|| Rc::new(Self::default()))
    }

    pub(in crate::nvmf) fn find(&self, key: u64) -> Option<Rc<Qpair>> {
        self.qpairs.borrow().get(&key)?.upgrade()
    }

    pub(super) fn admin(&self, controller: u64) -> Option<Rc<AdminQueue>> {
        self.admins.borrow().get(&controller)?.upgrade()
    }

    pub(super) fn add(&self, key: u64, qpair: &Rc<Qpair>, qid: u16) {
        self.qpairs.borrow_mut().insert(key, Rc::downgrade(qpair));
        let seen = if qid == 0 { &self.admin_seen } else { &self.io_seen };
        seen.set(seen.get() + 1);
    }

    pub(super) fn remove(&self, key: u64, qpair: &Qpair, qid: u16) {
        self.qpairs.borrow_mut().remove(&key);
        if qid != 0 {
            self.retired.set(self.retired.get().plus(figures(qpair)));
        }
    }

    pub(super) fn add_admin(&self, controller: u64, admin: &Rc<AdminQueue>) {
        self.admins.borrow_mut().insert(controller, Rc::downgrade(admin));
    }

    pub(super) fn remove_admin(&self, controller: u64) {
        self.admins.borrow_mut().remove(&controller);
    }

    pub(super) fn stats_of(&self, key: u64) -> Option<QueueStats> {
        self.find(key).map(|qpair| figures(&qpair))
    }

    /// The figures of the reactor.
    pub(in crate::nvmf) fn stats(&self, core: CoreId) -> CoreStats {
        let mut stats = CoreStats {
            core,
            admin_qpairs: self.admin_seen.get(),
            io_qpairs: self.io_seen.get(),
            current_admin_qpairs: 0,
            current_io_qpairs: 0,
            pending_io: 0,
            completed_io: 0,
            queues: self.retired.get(),
        };
        for qpair in self.qpairs.borrow().values().filter_map(Weak::upgrade) {
            if qpair.qid() == Some(0) {
                stats.current_admin_qpairs += 1;
            } else {
                stats.current_io_qpairs += 1;
                stats.pending_io += qpair.outstanding() as u64;
                stats.queues = stats.queues.plus(figures(&qpair));
            }
        }
        stats.completed_io = stats.queues.commands.saturating_sub(stats.pending_io);
        stats
    }

    /// What is left of queue pairs and controllers, for tests.
    #[cfg(test)]
    pub(in crate::nvmf) fn left(&self) -> (usize, usize) {
        (self.qpairs.borrow().len(), self.admins.borrow().len())
    }
}

fn figures(qpair: &Qpair) -> QueueStats {
    let stats = qpair.stats();
    QueueStats {
        commands: stats.commands.get(),
        errors: stats.errors.get(),
        reads: stats.reads.get(),
        read_bytes: stats.read_bytes.get(),
        writes: stats.writes.get(),
        write_bytes: stats.write_bytes.get(),
        waits: stats.waits.get(),
    }
}
