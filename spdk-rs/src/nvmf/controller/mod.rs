//! Controllers: a host's association with a subsystem, from Connect to its last queue pair.
//!
//! A [`Controller`] is shared by the queue pairs of an association, which live on several
//! reactors. What only admin commands change (properties, features, events, the keep-alive timer)
//! belongs to the `AdminQueue` on the reactor of the admin queue pair.
//!
//! Invariants:
//! * an I/O queue exists only while the controller is enabled and its admin queue exists;
//! * the end of the admin connection ends the others; the identifier is free when all are gone;
//! * an asynchronous event request is answered or given up, and never outlives its connection.

mod connect;
mod events;
mod fabrics;
mod keep_alive;
mod properties;
mod queues;
mod service;
#[cfg(test)]
pub(in crate::nvmf) mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use spdk_rs_sys::cpu::CoreId;

pub(in crate::nvmf) use events::{Answers, Events, Masks};
pub use events::{Notice, ReservationEvent};
pub(in crate::nvmf) use keep_alive::KEEP_ALIVE_GRANULARITY_MS;
pub(in crate::nvmf) use properties::VERSION;
pub(in crate::nvmf) use queues::LocalQueues;
pub(in crate::nvmf) use service::AdminQueue;

use super::service::FailedCommand;
use super::subsystem::{Host, Subsystem};
use super::target::{ControlLock, QueueStats, Waiters};
use super::transport::{ConnectionInfo, DisconnectReason, ListenerId};
use crate::reactor::ReactorHandle;

/// A host's association with a subsystem.
pub struct Controller {
    /// A number that no other controller of the process has or had.
    key: u64,
    cntlid: u16,
    subsystem: Arc<Subsystem>,
    host: Host,
    info: ConnectionInfo,
    /// Where its admin queue is.
    reactor: ReactorHandle,
    /// I/O queues at the most.
    io_queues_max: u16,
    queues: ControlLock<Queues>,
    /// Woken when a queue is gone.
    queue_gone: Waiters,
}

/// The queues of a controller.
#[derive(Debug)]
struct Queues {
    /// No queue may come any more.
    ending: bool,
    /// I/O queues may come: the controller is enabled and not shut down.
    enabled: bool,
    /// The highest queue identifier: what the number of queues was set to.
    io_allotted: u16,
    open: BTreeMap<u16, QueueEntry>,
}

/// A queue pair as other threads reach it.
#[derive(Clone, Debug)]
struct QueueEntry {
    key: u64,
    reactor: ReactorHandle,
    peer: SocketAddr,
    local: SocketAddr,
    listener: ListenerId,
}

/// Why a queue cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueRefusal {
    /// The controller is going away.
    Ending,
    /// The controller is not enabled.
    Disabled,
    /// The identifier is higher than what was allotted.
    TooHigh,
    /// The identifier is in use.
    InUse,
}

/// A queue pair of a controller, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// The controller.
    pub cntlid: u16,
    /// The queue; 0 is the admin queue.
    pub qid: u16,
    /// The reactor that serves it.
    pub core: CoreId,
    /// The listener it came through.
    pub listener: ListenerId,
    /// The host's end.
    pub peer: SocketAddr,
    /// The target's end.
    pub local: SocketAddr,
}

/// The number of the next controller or queue pair of the process.
fn next_key() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Controller {
    fn new(
        cntlid: u16,
        subsystem: &Arc<Subsystem>,
        host: Host,
        info: ConnectionInfo,
        reactor: ReactorHandle,
        io_queues_max: u16,
    ) -> Arc<Self> {
        let open = BTreeMap::new();
        let queues = Queues { ending: false, enabled: false, io_allotted: io_queues_max, open };
        Arc::new(Self {
            key: next_key(),
            cntlid,
            subsystem: Arc::clone(subsystem),
            host,
            info,
            reactor,
            io_queues_max,
            queues: ControlLock::new(queues),
            queue_gone: Waiters::default(),
        })
    }

    /// Its identifier in the subsystem.
    #[must_use]
    pub fn cntlid(&self) -> u16 {
        self.cntlid
    }

    /// The subsystem.
    #[must_use]
    pub fn subsystem(&self) -> &Arc<Subsystem> {
        &self.subsystem
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The listener that its admin queue came through.
    #[must_use]
    pub fn listener(&self) -> ListenerId {
        self.info.listener
    }

    /// The connection of its admin queue.
    #[must_use]
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// The number of its I/O queues.
    #[must_use]
    pub fn io_queue_count(&self) -> usize {
        self.queues.lock().open.keys().filter(|&&qid| qid != 0).count()
    }

    /// Its queues, in order of their identifiers.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueInfo> {
        let info = |(&qid, entry): (&u16, &QueueEntry)| QueueInfo {
            cntlid: self.cntlid,
            qid,
            core: entry.reactor.core(),
            listener: entry.listener,
            peer: entry.peer,
            local: entry.local,
        };
        self.queues.lock().open.iter().map(info).collect()
    }

    /// What its queues have counted, by queue identifier; those that just went away are left out.
    pub async fn queue_stats(&self) -> Vec<(u16, QueueStats)> {
        let mut all = Vec::new();
        for (qid, entry) in self.entries(|_| true) {
            let key = entry.key;
            let found = entry.reactor.call(move |reactor| LocalQueues::of(reactor).stats_of(key));
            if let Ok(Some(stats)) = found.await {
                all.push((qid, stats));
            }
        }
        all
    }

    /// Tells the host of something, as far as it wants to know.
    pub async fn notify(&self, notice: Notice) {
        let key = self.key;
        let tell = self.reactor.send(move |reactor| {
            if let Some(admin) = LocalQueues::of(reactor).admin(key) {
                admin.raise(notice);
            }
        });
        // A reactor that has ended has no controller.
        let _ = tell.await;
    }

    /// Notes I/O commands of a queue that failed in the error log, and counts `beyond` more.
    pub(super) async fn note_failures(&self, qid: u16, commands: Vec<FailedCommand>, beyond: u64) {
        let key = self.key;
        let tell = self.reactor.send(move |reactor| {
            if let Some(admin) = LocalQueues::of(reactor).admin(key) {
                let mut errors = admin.errors.borrow_mut();
                commands.into_iter().for_each(|command| errors.note(qid, command));
                errors.skip(beyond);
            }
        });
        // A reactor that has ended has no controller.
        let _ = tell.await;
    }

    /// Disconnects every queue. The controller is gone a little later.
    pub async fn disconnect(&self, why: DisconnectReason) {
        self.set_ending();
        self.disconnect_entries(self.entries(|_| true), why).await;
    }

    /// Disconnects the I/O queues.
    async fn disconnect_io(&self, why: DisconnectReason) {
        self.disconnect_entries(self.entries(|qid| qid != 0), why).await;
    }

    async fn disconnect_entries(&self, entries: Vec<(u16, QueueEntry)>, why: DisconnectReason) {
        for (_, QueueEntry { key, reactor, .. }) in entries {
            let tell = reactor.send(move |reactor| {
                if let Some(qpair) = LocalQueues::of(reactor).find(key) {
                    qpair.disconnect(why);
                }
            });
            // A reactor that has ended has no queue pairs.
            let _ = tell.await;
        }
    }

    fn entries(&self, which: impl Fn(u16) -> bool) -> Vec<(u16, QueueEntry)> {
        let chosen = |(&qid, entry): (&u16, &QueueEntry)| which(qid).then(|| (qid, entry.clone()));
        self.queues.lock().open.iter().filter_map(chosen).collect()
    }

    /// Where a queue is, for a command that names it.
    pub(in crate::nvmf) fn locate(&self, qid: u16) -> Option<(ReactorHandle, u64)> {
        self.queues.lock().open.get(&qid).map(|entry| (entry.reactor.clone(), entry.key))
    }

    fn add_queue(&self, qid: u16, entry: QueueEntry) -> Result<(), QueueRefusal> {
        let queues = &mut *self.queues.lock();
        if queues.ending {
            return Err(QueueRefusal::Ending);
        }
        if qid != 0 && !queues.enabled {
            return Err(QueueRefusal::Disabled);
        }
        if qid > queues.io_allotted {
            return Err(QueueRefusal::TooHigh);
        }
        if queues.open.contains_key(&qid) {
            return Err(QueueRefusal::InUse);
        }
        queues.open.insert(qid, entry);
        Ok(())
    }

    /// A queue is gone. After the last one the controller is gone.
    fn remove_queue(&self, qid: u16, key: u64) {
        let last = {
            let queues = &mut *self.queues.lock();
            if queues.open.get(&qid).is_some_and(|entry| entry.key == key) {
                queues.open.remove(&qid);
            }
            queues.ending |= qid == 0;
            queues.open.is_empty()
        };
        self.queue_gone.wake();
        if last {
            self.subsystem.controller_gone(self);
        }
    }

    /// Lets I/O queues come, or no more.
    fn set_enabled(&self, enabled: bool) {
        self.queues.lock().enabled = enabled;
    }

    /// Returns when there is no I/O queue.
    async fn io_queues_gone(&self) {
        self.queue_gone.until(|| self.io_queue_count() == 0).await;
    }

    /// Allots as many I/O queues as there can be.
    fn reset_allotment(&self) {
        self.queues.lock().io_allotted = self.io_queues_max;
    }

    /// No queue may come any more.
    fn set_ending(&self) {
        self.queues.lock().ending = true;
    }

    /// Allots I/O queues, 1 and more, and returns how many there are; none when some exist.
    pub(in crate::nvmf) fn allot_io_queues(&self, wanted: u16) -> Option<u16> {
        let queues = &mut *self.queues.lock();
        if queues.open.keys().any(|&qid| qid != 0) {
            return None;
        }
        queues.io_allotted = wanted.clamp(1, self.io_queues_max);
        Some(queues.io_allotted)
    }

    /// I/O queues that can be allotted.
    pub(in crate::nvmf) fn io_queues_max(&self) -> u16 {
        self.io_queues_max
    }

    /// I/O queues that are allotted.
    pub(in crate::nvmf) fn io_queues_allotted(&self) -> u16 {
        self.queues.lock().io_allotted
    }
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Controller({:#x} of {})", self.cntlid, self.host.nqn)
    }
}
