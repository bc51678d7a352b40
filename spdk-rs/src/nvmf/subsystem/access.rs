//! Which hosts may connect.

use std::sync::Arc;

use super::{Nqn, Subsystem};
use crate::nvmf::core_view::HostId;
use crate::nvmf::target::NvmfError;
use crate::nvmf::transport::{DisconnectReason, ListenerId};

/// A host as it named itself in Connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name: not necessarily in the form that a [`Nqn`] has.
    pub nqn: String,
    /// Its identifier.
    pub id: HostId,
}

/// Why a host may not connect to a subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// The subsystem does not exist (any more), or not at this listener.
    NoSuchSubsystem,
    /// The host is not on the list.
    HostNotAllowed,
    /// No controller identifier is free.
    NoIdentifier,
}

impl Subsystem {
    /// Whether a host may connect whoever it is.
    #[must_use]
    pub fn allows_any_host(&self) -> bool {
        self.state.lock().allow_any_host
    }

    /// The hosts on the list, in order.
    #[must_use]
    pub fn hosts(&self) -> Vec<Nqn> {
        self.state.lock().hosts.iter().cloned().collect()
    }

    /// Whether a host may connect, by its name.
    #[must_use]
    pub fn allows_host(&self, host_nqn: &str) -> bool {
        self.state.lock().allows_host(self.kind, host_nqn)
    }

    /// Whether a host may connect through a listener.
    ///
    /// # Errors
    /// [`ConnectRefusal`].
    pub fn check_access(&self, host: &str, listener: ListenerId) -> Result<(), ConnectRefusal> {
        self.state.lock().check_access(self.kind, host, listener)
    }

    /// Allows a host to connect.
    ///
    /// # Errors
    /// [`NvmfError::Exists`] when it is on the list already.
    pub async fn add_host(self: &Arc<Self>, host: Nqn) -> Result<(), NvmfError> {
        let _control = self.control.lock().await;
        if !self.state.lock().hosts.insert(host.clone()) {
            return Err(NvmfError::exists("host", host));
        }
        self.discovery_changed(Some(host.as_str())).await;
        Ok(())
    }

    /// Takes a host off the list; its controllers are disconnected unless any host is allowed.
    /// Returns when they are gone.
    ///
    /// # Errors
    /// [`NvmfError::NotFound`].
    pub async fn remove_host(self: &Arc<Self>, host: &Nqn) -> Result<(), NvmfError> {
        let _control = self.control.lock().await;
        if !self.state.lock().hosts.remove(host) {
            return Err(NvmfError::not_found("host", host));
        }
        self.discovery_changed(Some(host.as_str())).await;
        self.disconnect_forbidden().await;
        Ok(())
    }

    /// Sets whether any host may connect. When no longer, the controllers of hosts that are not
    /// on the list are disconnected.
    pub async fn set_allow_any_host(self: &Arc<Self>, allow: bool) {
        let _control = self.control.lock().await;
        let before = std::mem::replace(&mut self.state.lock().allow_any_host, allow);
        if before == allow {
            return;
        }
        self.discovery_changed(None).await;
        self.disconnect_forbidden().await;
    }

    /// Disconnects the controllers of hosts that may not connect.
    async fn disconnect_forbidden(&self) {
        let forbidden = |host: &str| !self.allows_host(host);
        self.disconnect_where(|controller| forbidden(&controller.host().nqn)).await;
    }

    /// Disconnects some controllers and returns when they are gone.
    pub(super) async fn disconnect_where(&self, which: impl Fn(&super::Controller) -> bool) {
        let chosen: Vec<_> = self.controllers().into_iter().filter(|one| which(one)).collect();
        for controller in &chosen {
            controller.disconnect(DisconnectReason::Removed).await;
        }
        let gone = || {
            let state = self.state.lock();
            let there = |one: &Arc<super::Controller>| {
                state.controllers.get(&one.cntlid()).is_some_and(|now| Arc::ptr_eq(now, one))
            };
            !chosen.iter().any(there)
        };
        self.controller_gone.until(gone).await;
    }

    /// Tells the discovery service that what it says of this subsystem has changed, for one host
    /// or for all.
    pub(super) async fn discovery_changed(&self, host: Option<&str>) {
        if let Some(target) = self.target() {
            target.discovery_changed(host).await;
        }
    }
}
