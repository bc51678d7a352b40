//! NVM subsystems: namespaces, the hosts that may connect, and the listeners that lead there.
//!
//! Control operations are futures of the control plane, one at a time per subsystem. Each changes
//! the state under its lock and then has every reactor update its own view of the subsystem
//! (`core_view`), which is all that the data path reads.
//!
//! Invariants:
//! * a namespace in the state is in the view of every reactor, or is about to be taken out;
//! * a controller identifier is in the table from Connect until its last queue pair is gone;
//! * when a removal has returned, nothing of what was removed is in flight.

mod access;
mod cntlid;
mod events;
mod listeners;
mod namespace;
mod namespaces;
mod nqn;
mod options;
mod state;
#[cfg(test)]
mod tests;
mod views;

use std::sync::{Arc, Weak};

pub use access::{ConnectRefusal, Host};
pub(in crate::nvmf) use events::BdevChange;
pub use namespace::Namespace;
pub use nqn::{DISCOVERY_NQN, NQN_MAX_BYTES, Nqn, NqnError};
pub use options::{
    CNTLID_MAX, NAMESPACES_DEFAULT, NAMESPACES_MAX, NamespaceOptions, SubsystemOptions,
};
pub use state::SubsystemListener;

use self::state::State;
use super::controller::{Controller, Notice, ReservationEvent};
use super::core_view::SubsystemId;
use super::reservation::ReservationNotice;
use super::target::{ControlLock, Target, Waiters};
use crate::reactor::ReactorHandle;

/// What a subsystem is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubsystemKind {
    /// It has namespaces.
    Nvm,
    /// The discovery service.
    Discovery,
}

/// A subsystem of a target.
pub struct Subsystem {
    id: SubsystemId,
    kind: SubsystemKind,
    options: SubsystemOptions,
    target: Weak<Target>,
    reactors: Arc<[ReactorHandle]>,
    state: ControlLock<State>,
    /// One control operation at a time.
    control: futures::lock::Mutex<()>,
    /// Woken when a controller is gone.
    controller_gone: Waiters,
}

impl Subsystem {
    pub(super) fn new(
        id: SubsystemId,
        kind: SubsystemKind,
        options: SubsystemOptions,
        target: Weak<Target>,
        reactors: Arc<[ReactorHandle]>,
    ) -> Arc<Self> {
        let state = State {
            allow_any_host: options.allow_any_host,
            hosts: Default::default(),
            listeners: Vec::new(),
            namespaces: Default::default(),
            controllers: Default::default(),
            next_cntlid: options.min_cntlid,
            deleting: false,
            ana_changes: 0,
        };
        Arc::new(Self {
            id,
            kind,
            options,
            target,
            reactors,
            state: ControlLock::new(state),
            control: futures::lock::Mutex::new(()),
            controller_gone: Waiters::default(),
        })
    }

    /// Its number, which no other subsystem of the process has or had.
    #[must_use]
    pub fn id(&self) -> SubsystemId {
        self.id
    }

    /// What it is for.
    #[must_use]
    pub fn kind(&self) -> SubsystemKind {
        self.kind
    }

    /// Its name.
    #[must_use]
    pub fn nqn(&self) -> &Nqn {
        &self.options.nqn
    }

    /// What it was created with. Whether any host is allowed may have changed since:
    /// [`Subsystem::allows_any_host`].
    #[must_use]
    pub fn options(&self) -> &SubsystemOptions {
        &self.options
    }

    /// The target, while it exists.
    #[must_use]
    pub fn target(&self) -> Option<Arc<Target>> {
        self.target.upgrade()
    }

    /// The namespaces, in order of their numbers.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.state.lock().namespaces.values().cloned().collect()
    }

    /// A namespace.
    #[must_use]
    pub fn namespace(&self, nsid: u32) -> Option<Arc<Namespace>> {
        self.state.lock().namespaces.get(&nsid).cloned()
    }

    /// The listeners that lead to it, in the order they were added.
    #[must_use]
    pub fn listeners(&self) -> Vec<SubsystemListener> {
        self.state.lock().listeners.clone()
    }

    /// The controllers, in order of their identifiers.
    #[must_use]
    pub fn controllers(&self) -> Vec<Arc<Controller>> {
        self.state.lock().controllers.values().cloned().collect()
    }

    /// A controller.
    #[must_use]
    pub fn controller(&self, cntlid: u16) -> Option<Arc<Controller>> {
        self.state.lock().controllers.get(&cntlid).cloned()
    }

    /// How often what the ANA log page says has changed.
    #[must_use]
    pub fn ana_changes(&self) -> u64 {
        self.state.lock().ana_changes
    }

    /// Tells the controllers of a host what happened to a reservation.
    pub(super) async fn reservation_changed(&self, notice: &ReservationNotice) {
        if notice.subsystem == self.id {
            let event = ReservationEvent { nsid: notice.nsid, kind: notice.kind };
            let of_host = |controller: &Controller| controller.host().id == notice.host;
            self.notify(Notice::Reservation(event), of_host).await;
        }
    }

    /// Tells controllers of an event; `of` chooses which.
    async fn notify(&self, notice: Notice, of: impl Fn(&Controller) -> bool) {
        for controller in self.controllers() {
            if of(&controller) {
                controller.notify(notice).await;
            }
        }
    }
}

impl std::fmt::Debug for Subsystem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subsystem({} {})", self.id.0, self.options.nqn)
    }
}
