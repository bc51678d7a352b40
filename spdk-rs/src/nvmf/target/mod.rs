//! The target: the subsystems that hosts can connect to, and where it listens.
//!
//! Invariants:
//! * control operations run on the control plane or as a task of a reactor, never inside an I/O;
//! * a listener exists exactly as long as some subsystem uses it;
//! * the discovery subsystem is there from the start and is reached through every listener.

mod error;
mod listen;
mod listener;
mod lock;
mod options;
mod referral;
mod stats;
mod subsystems;
mod waiters;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use futures::StreamExt;
use futures::channel::mpsc;

pub use error::{NvmfError, NvmfErrorKind};
pub use listener::{ListenAddress, Listener, ListenerHandle, Transport};
pub(in crate::nvmf) use lock::ControlLock;
pub use options::TargetOptions;
pub use referral::Referral;
pub use stats::{CoreStats, QueueStats};
pub(in crate::nvmf) use waiters::Waiters;

use super::controller::Notice;
use super::core_view::SubsystemId;
use super::reservation::ReservationNotice;
use super::subsystem::{BdevChange, Nqn, Subsystem, SubsystemKind, SubsystemOptions};
use crate::reactor::{Offload, Reactor, ReactorHandle};

/// An NVMe-oF target.
pub struct Target {
    options: TargetOptions,
    reactors: Arc<[ReactorHandle]>,
    discovery: Arc<Subsystem>,
    state: ControlLock<State>,
    /// One change of the listeners at a time.
    listening: futures::lock::Mutex<()>,
    /// The discovery log's generation.
    generation: AtomicU64,
    changes: mpsc::UnboundedSender<Change>,
    /// Ticks of the reactors' clock when the target started, and ticks per second.
    started: (u64, u64),
    offload: Offload,
}

/// Something that happened where nobody may wait.
pub(in crate::nvmf) enum Change {
    /// To a device.
    Device(BdevChange),
    /// To a reservation.
    Reservation(ReservationNotice),
}

/// The changing part of a target.
#[derive(Default)]
struct State {
    subsystems: BTreeMap<Nqn, Arc<Subsystem>>,
    transports: Vec<Arc<dyn Transport>>,
    /// With the number of subsystems that use each.
    listeners: Vec<(Arc<Listener>, usize)>,
    referrals: Vec<Referral>,
}

impl Target {
    /// A target that serves connections on these reactors, with a discovery subsystem only.
    ///
    /// # Errors
    /// [`NvmfError`]: no reactor, one that has ended, or options out of range.
    pub async fn start(
        reactors: Vec<ReactorHandle>,
        options: TargetOptions,
    ) -> Result<Arc<Self>, NvmfError> {
        options.check()?;
        let Some(first) = reactors.first().cloned() else {
            return Err(NvmfError::invalid("reactors", 0, "at least one"));
        };
        let facts = |reactor: &Rc<Reactor>| {
            let started = (reactor.now(), reactor.clock().hz());
            (started, reactor.offload().clone())
        };
        let (started, offload) = first.call(facts).await?;
        let reactors: Arc<[ReactorHandle]> = reactors.into();
        let (changes, told) = mpsc::unbounded();
        let target = Arc::new_cyclic(|target| Self {
            options,
            discovery: Subsystem::new(
                SubsystemId(subsystems::next_id()),
                SubsystemKind::Discovery,
                SubsystemOptions::new(Nqn::discovery()),
                target.clone(),
                Arc::clone(&reactors),
            ),
            reactors,
            state: ControlLock::default(),
            listening: futures::lock::Mutex::new(()),
            generation: AtomicU64::new(0),
            changes,
            started,
            offload,
        });
        target.discovery.open_views().await?;
        let weak = Arc::downgrade(&target);
        let task = move |reactor: &Rc<Reactor>| {
            reactor.spawn("nvmf changes", apply_changes(weak, told));
        };
        first.send(task).await?;
        Ok(target)
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> &TargetOptions {
        &self.options
    }

    /// The reactors that serve connections.
    #[must_use]
    pub fn reactors(&self) -> &[ReactorHandle] {
        &self.reactors
    }

    /// The discovery subsystem.
    #[must_use]
    pub fn discovery(&self) -> &Arc<Subsystem> {
        &self.discovery
    }

    /// The discovery log's generation: it counts every change of what the log may say.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// For how many ticks the target has run, by a clock of its reactors, and ticks per second.
    #[must_use]
    pub fn uptime(&self, reactor: &Reactor) -> (u64, u64) {
        (reactor.clock().ticks().saturating_sub(self.started.0), self.started.1)
    }

    /// Notes that the discovery log has changed, for one host or for all, and tells connected
    /// discovery controllers.
    pub(in crate::nvmf) async fn discovery_changed(&self, host: Option<&str>) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        for controller in self.discovery.controllers() {
            if host.is_none_or(|host| host == controller.host().nqn) {
                controller.notify(Notice::DiscoveryChanged).await;
            }
        }
    }

    /// The helper threads for work that may block.
    pub(in crate::nvmf) fn offload(&self) -> &Offload {
        &self.offload
    }

    /// Hands a change to the target's task. Does not block.
    pub(in crate::nvmf) fn report(&self, change: Change) {
        // The task ends with its reactor, and nobody is connected then.
        let _ = self.changes.unbounded_send(change);
    }
}

/// Applies changes; those of devices in a task each, since one may wait for I/O to end.
async fn apply_changes(target: Weak<Target>, mut told: mpsc::UnboundedReceiver<Change>) {
    while let Some(change) = told.next().await {
        let Some(reactor) = Reactor::current() else { return };
        match change {
            Change::Device(change) => reactor.spawn("nvmf device event", change.apply()),
            Change::Reservation(notice) => {
                let subsystems = target.upgrade().map(|target| target.subsystems());
                for subsystem in subsystems.into_iter().flatten() {
                    subsystem.reservation_changed(&notice).await;
                }
            }
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.state.lock().subsystems.len();
        write!(f, "Target({count} subsystems)")
    }
}
