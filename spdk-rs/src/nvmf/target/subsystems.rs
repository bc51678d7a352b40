//! Creating, finding and deleting subsystems.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{NvmfError, Target};
use crate::nvmf::core_view::SubsystemId;
use crate::nvmf::subsystem::{Nqn, Subsystem, SubsystemKind, SubsystemOptions};

/// The number of the next subsystem of the process.
pub(super) fn next_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Target {
    /// Creates a subsystem without namespaces, hosts and listeners.
    ///
    /// # Errors
    /// [`NvmfError`]: an option out of range, the name taken, too many subsystems.
    pub async fn create_subsystem(
        self: &Arc<Self>,
        options: SubsystemOptions,
    ) -> Result<Arc<Subsystem>, NvmfError> {
        options.check()?;
        let nqn = options.nqn.clone();
        if nqn.is_discovery() {
            return Err(NvmfError::exists("subsystem", nqn));
        }
        let subsystem = Subsystem::new(
            SubsystemId(next_id()),
            SubsystemKind::Nvm,
            options,
            Arc::downgrade(self),
            Arc::clone(&self.reactors),
        );
        subsystem.open_views().await?;
        let added = self.insert_subsystem(&nqn, &subsystem);
        if let Err(error) = added {
            subsystem.close_views().await;
            return Err(error);
        }
        self.discovery_changed(None).await;
        Ok(subsystem)
    }

    fn insert_subsystem(&self, nqn: &Nqn, subsystem: &Arc<Subsystem>) -> Result<(), NvmfError> {
        let (state, limit) = (&mut self.state.lock(), self.options.subsystems_max);
        if state.subsystems.contains_key(nqn) {
            return Err(NvmfError::exists("subsystem", nqn));
        }
        if u32::try_from(state.subsystems.len()).is_ok_and(|count| count >= limit) {
            return Err(NvmfError::Full { what: "subsystems", limit });
        }
        state.subsystems.insert(nqn.clone(), Arc::clone(subsystem));
        Ok(())
    }

    /// The subsystem of a name; the discovery subsystem too.
    ///
    /// # Errors
    /// [`NvmfError::NotFound`].
    pub fn subsystem(&self, nqn: &str) -> Result<Arc<Subsystem>, NvmfError> {
        if nqn == self.discovery.nqn().as_str() {
            return Ok(Arc::clone(&self.discovery));
        }
        let found = self.state.lock().subsystems.get(nqn).cloned();
        found.ok_or_else(|| NvmfError::not_found("subsystem", nqn))
    }

    /// The subsystems in order of their names, without the discovery subsystem.
    #[must_use]
    pub fn subsystems(&self) -> Vec<Arc<Subsystem>> {
        self.state.lock().subsystems.values().cloned().collect()
    }

    /// Deletes a subsystem: its controllers are disconnected, its listeners closed unless others
    /// use them, its devices given back. Returns when all of this is done.
    ///
    /// # Errors
    /// [`NvmfError::NotFound`]; the discovery subsystem cannot be deleted.
    pub async fn delete_subsystem(self: &Arc<Self>, nqn: &str) -> Result<(), NvmfError> {
        let subsystem = self.state.lock().subsystems.get(nqn).cloned();
        let subsystem = subsystem.ok_or_else(|| NvmfError::not_found("subsystem", nqn))?;
        subsystem.shut_down().await?;
        self.state.lock().subsystems.remove(nqn);
        self.discovery_changed(None).await;
        Ok(())
    }

    /// Deletes every subsystem, disconnects discovery controllers and closes every listener.
    pub async fn stop(self: &Arc<Self>) {
        for subsystem in self.subsystems() {
            // Somebody else may delete it at the same time.
            let _ = self.delete_subsystem(subsystem.nqn().as_str()).await;
        }
        // Cannot fail: only this ends the discovery subsystem.
        let _ = self.discovery.shut_down().await;
    }
}
