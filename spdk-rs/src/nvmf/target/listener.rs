//! Transports and listeners, as the target sees them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;

use super::Target;
use crate::nvmf::transport::{ADMIN_QUEUE_ENTRIES, ListenerId, TransportKind};

/// A kind of transport that a target can listen with. Used by the control plane only.
pub trait Transport: Send + Sync {
    /// Which kind it is; a target has one of each at the most.
    fn kind(&self) -> TransportKind;

    /// Begins to listen. Every connection becomes a `Qpair` of `target` whose
    /// [`ConnectionInfo`](crate::nvmf::transport::ConnectionInfo) names `id`. Port 0 asks for any
    /// free port; [`ListenerHandle::local_addr`] tells which it is.
    fn listen(
        &self,
        target: Arc<Target>,
        id: ListenerId,
        address: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn ListenerHandle>>>;

    /// Submission queue entries of an admin queue at the most, for the discovery log (ASQSZ);
    /// at least 32.
    fn admin_queue_entries(&self) -> u16 {
        ADMIN_QUEUE_ENTRIES
    }

    /// The transport's own type, for those who need its options and figures.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// A listening socket of a transport.
pub trait ListenerHandle: Send + Sync {
    /// Where it listens, with the port that was chosen.
    fn local_addr(&self) -> SocketAddr;

    /// Ends listening; returns when the address is free again. Connections that were accepted
    /// stay.
    fn close(&self) -> BoxFuture<'static, ()>;
}

/// Where a target listens: a transport and an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// The transport.
    pub transport: TransportKind,
    /// Address and port.
    pub address: SocketAddr,
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport, self.address)
    }
}

impl fmt::Debug for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ListenAddress({self})")
    }
}

/// A place where the target listens. Subsystems share it.
pub struct Listener {
    id: ListenerId,
    address: ListenAddress,
    handle: Box<dyn ListenerHandle>,
}

impl Listener {
    pub(super) fn new(
        id: ListenerId,
        transport: TransportKind,
        handle: Box<dyn ListenerHandle>,
    ) -> Arc<Self> {
        let address = ListenAddress { transport, address: handle.local_addr() };
        Arc::new(Self { id, address, handle })
    }

    /// Its number, which no other listener of the process has or had.
    #[must_use]
    pub fn id(&self) -> ListenerId {
        self.id
    }

    /// Where it listens; the port is the real one.
    #[must_use]
    pub fn address(&self) -> ListenAddress {
        self.address
    }

    pub(super) async fn close(&self) {
        self.handle.close().await;
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({} {})", self.id.0, self.address)
    }
}
