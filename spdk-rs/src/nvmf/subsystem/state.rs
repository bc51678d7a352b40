//! What a subsystem remembers, under its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ConnectRefusal, Namespace, Nqn, SubsystemKind};
use crate::nvmf::ana::AnaStates;
use crate::nvmf::controller::Controller;
use crate::nvmf::target::Listener;
use crate::nvmf::transport::ListenerId;

/// A listener through which a subsystem is reached.
#[derive(Clone, Debug)]
pub struct SubsystemListener {
    /// Where it listens.
    pub listener: Arc<Listener>,
    /// How well each ANA group is reached through it.
    pub ana: AnaStates,
}

impl State {
    /// Whether a host may connect through a listener, and to a subsystem of this kind.
    pub(super) fn check_access(
        &self,
        kind: SubsystemKind,
        host: &str,
        listener: ListenerId,
    ) -> Result<(), ConnectRefusal> {
        let listens = self.listeners.iter().any(|one| one.listener.id() == listener);
        if self.deleting || kind == SubsystemKind::Nvm && !listens {
            return Err(ConnectRefusal::NoSuchSubsystem);
        }
        if self.allows_host(kind, host) { Ok(()) } else { Err(ConnectRefusal::HostNotAllowed) }
    }

    /// Whether a host may connect, by its name; the discovery subsystem is for all.
    pub(super) fn allows_host(&self, kind: SubsystemKind, host: &str) -> bool {
        kind == SubsystemKind::Discovery || self.allow_any_host || self.hosts.contains(host)
    }
}

/// The changing part of a subsystem.
#[derive(Debug)]
pub(super) struct State {
    pub(super) allow_any_host: bool,
    pub(super) hosts: BTreeSet<Nqn>,
    pub(super) listeners: Vec<SubsystemListener>,
    pub(super) namespaces: BTreeMap<u32, Arc<Namespace>>,
    pub(super) controllers: BTreeMap<u16, Arc<Controller>>,
    /// Where the search for a free controller identifier goes on.
    pub(super) next_cntlid: u16,
    /// No connect is accepted any more.
    pub(super) deleting: bool,
    /// Counts changes of the ANA log page.
    pub(super) ana_changes: u64,
}
