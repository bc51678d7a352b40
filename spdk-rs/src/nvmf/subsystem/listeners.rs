//! The listeners that lead to a subsystem, and their ANA states; the subsystem's end.

use std::sync::Arc;

use super::{Subsystem, SubsystemKind, SubsystemListener};
use crate::nvmf::ana::AnaStates;
use crate::nvmf::controller::Notice;
use crate::nvmf::core_view::AnaState;
use crate::nvmf::target::{ListenAddress, Listener, NvmfError};

impl Subsystem {
    /// Makes the subsystem reachable at an address; the target begins to listen there if it does
    /// not yet. Port 0 chooses a free one: the result tells which.
    ///
    /// # Errors
    /// [`NvmfError`]: there already, no such transport, or the address cannot be had.
    pub async fn add_listener(
        self: &Arc<Self>,
        address: ListenAddress,
    ) -> Result<Arc<Listener>, NvmfError> {
        let _control = self.control.lock().await;
        let target = self.target().ok_or_else(|| NvmfError::not_found("target of", self.nqn()))?;
        {
            let state = self.state.lock();
            if state.deleting {
                return Err(NvmfError::not_found("subsystem", self.nqn()));
            }
            if state.listeners.iter().any(|one| one.listener.address() == address) {
                return Err(NvmfError::exists("listener", address));
            }
        }
        let listener = target.use_listener(address).await?;
        {
            let ana = AnaStates::new(self.options.max_namespaces);
            let entry = SubsystemListener { listener: Arc::clone(&listener), ana };
            self.state.lock().listeners.push(entry);
        }
        target.discovery_changed(None).await;
        Ok(listener)
    }

    /// Makes the subsystem unreachable at an address: its controllers that came through it are
    /// disconnected. Returns when they are gone.
    ///
    /// # Errors
    /// [`NvmfError::NotFound`].
    pub async fn remove_listener(
        self: &Arc<Self>,
        address: ListenAddress,
    ) -> Result<(), NvmfError> {
        let _control = self.control.lock().await;
        let removed = {
            let listeners = &mut self.state.lock().listeners;
            let at = listeners.iter().position(|one| one.listener.address() == address);
            listeners.remove(at.ok_or_else(|| NvmfError::not_found("listener", address))?)
        };
        self.leave(&removed.listener).await?;
        Ok(())
    }

    /// Sets the state of an ANA group, or of all, of the paths through a listener, and tells the
    /// hosts that are connected through it.
    ///
    /// # Errors
    /// [`NvmfError`]: ANA reporting is off, no such listener, or a group out of range.
    pub async fn set_ana_state(
        self: &Arc<Self>,
        address: ListenAddress,
        group: Option<u32>,
        ana: AnaState,
    ) -> Result<(), NvmfError> {
        let _control = self.control.lock().await;
        if !self.options.ana_reporting {
            let allowed = "a subsystem that was created with ana_reporting";
            return Err(NvmfError::invalid("nqn", self.nqn(), allowed));
        }
        if let Some(group) = group {
            self.check_ana_group(group)?;
        }
        let (id, states) = {
            let state = &mut *self.state.lock();
            let found = state.listeners.iter_mut().find(|one| one.listener.address() == address);
            let found = found.ok_or_else(|| NvmfError::not_found("listener", address))?;
            if !found.ana.set(group, ana) {
                return Ok(());
            }
            state.ana_changes += 1;
            (found.listener.id(), found.ana.clone())
        };
        self.on_views(move |view| {
            for (group, state) in states.iter() {
                view.set_ana_state(id, group, state);
            }
        })
        .await?;
        self.notify(Notice::AnaChanged, |controller| controller.listener() == id).await;
        Ok(())
    }

    /// Ends the subsystem: no connect is accepted any more, every controller is disconnected,
    /// every listener left, every namespace removed. Returns when all of this is done.
    pub(in crate::nvmf) async fn shut_down(self: &Arc<Self>) -> Result<(), NvmfError> {
        let _control = self.control.lock().await;
        if std::mem::replace(&mut self.state.lock().deleting, true) {
            return Err(NvmfError::not_found("subsystem", self.nqn()));
        }
        self.disconnect_where(|_| true).await;
        let (listeners, namespaces) = {
            let state = &mut *self.state.lock();
            (std::mem::take(&mut state.listeners), std::mem::take(&mut state.namespaces))
        };
        if let Some(target) = self.target() {
            for entry in &listeners {
                target.leave_listener(&entry.listener).await;
            }
        }
        self.close_views().await;
        for namespace in namespaces.values() {
            namespace.desc.unclaim();
        }
        Ok(())
    }

    /// Leaves a listener that was taken out of the state.
    async fn leave(self: &Arc<Self>, listener: &Arc<Listener>) -> Result<(), NvmfError> {
        let id = listener.id();
        if let Some(target) = self.target() {
            target.discovery_changed(None).await;
            target.leave_listener(listener).await;
        }
        // Every listener leads to the discovery subsystem as long as it is there.
        if self.kind == SubsystemKind::Nvm {
            self.disconnect_where(|controller| controller.listener() == id).await;
        }
        self.on_views(move |view| view.remove_listener(id)).await?;
        Ok(())
    }
}
