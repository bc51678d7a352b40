//! Transports of a target, and the listeners that subsystems share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{ListenAddress, Listener, NvmfError, Target, Transport};
use crate::nvmf::transport::{ListenerId, TransportKind};

impl Target {
    /// Makes a transport available for listening.
    ///
    /// # Errors
    /// [`NvmfError::Exists`] when there is one of its kind.
    pub fn add_transport(&self, transport: Arc<dyn Transport>) -> Result<(), NvmfError> {
        let (state, kind) = (&mut self.state.lock(), transport.kind());
        if state.transports.iter().any(|one| one.kind() == kind) {
            return Err(NvmfError::exists("transport", kind));
        }
        state.transports.push(transport);
        Ok(())
    }

    /// The transports, in the order they were added.
    #[must_use]
    pub fn transports(&self) -> Vec<Arc<dyn Transport>> {
        self.state.lock().transports.clone()
    }

    /// The transport of a kind.
    #[must_use]
    pub fn transport(&self, kind: TransportKind) -> Option<Arc<dyn Transport>> {
        self.state.lock().transports.iter().find(|one| one.kind() == kind).cloned()
    }

    /// The listeners that some subsystem uses.
    #[must_use]
    pub fn listeners(&self) -> Vec<Arc<Listener>> {
        self.state.lock().listeners.iter().map(|(one, _)| Arc::clone(one)).collect()
    }

    /// The listener of a number, while it is used.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> Option<Arc<Listener>> {
        let state = self.state.lock();
        state.listeners.iter().find(|(one, _)| one.id() == id).map(|(one, _)| Arc::clone(one))
    }

    /// The listener at an address, begun if need be. Counts one user more.
    pub(in crate::nvmf) async fn use_listener(
        self: &Arc<Self>,
        address: ListenAddress,
    ) -> Result<Arc<Listener>, NvmfError> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let _listening = self.listening.lock().await;
        if let Some((listener, users)) =
            self.state.lock().listeners.iter_mut().find(|(one, _)| one.address() == address)
        {
            *users += 1;
            return Ok(Arc::clone(listener));
        }
        let kind = address.transport;
        let transport = self.transport(kind).ok_or(NvmfError::NoTransport(kind))?;
        let id = ListenerId(NEXT.fetch_add(1, Ordering::Relaxed));
        let failed = |source| NvmfError::Listen { address: address.to_string(), source };
        let listening = transport.listen(Arc::clone(self), id, address.address);
        let listener = Listener::new(id, kind, listening.await.map_err(failed)?);
        self.state.lock().listeners.push((Arc::clone(&listener), 1));
        Ok(listener)
    }

    /// Counts one user less; without any the listener is closed.
    pub(in crate::nvmf) async fn leave_listener(&self, listener: &Arc<Listener>) {
        let _listening = self.listening.lock().await;
        {
            let listeners = &mut self.state.lock().listeners;
            let at = listeners.iter().position(|(one, _)| Arc::ptr_eq(one, listener));
            let Some(at) = at else { return };
            listeners[at].1 -= 1;
            if listeners[at].1 > 0 {
                return;
            }
            listeners.remove(at);
        }
        listener.close().await;
    }
}
