//! The transport as the control plane sees it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{self, BoxFuture};

use super::connection::Connection;
use super::group::Group;
use super::options::{TcpOptions, TcpOptionsError};
use super::shared::{Shared, TcpStats};
use crate::net::{ListenOptions, Listener, NetError, Socket, SocketOptions};
use crate::nvmf::service::TargetService;
use crate::nvmf::target::{ListenerHandle, Target, Transport};
use crate::nvmf::transport::{ListenerId, TransportKind};
use crate::reactor::{Reactor, ReactorHandle};

/// NVMe/TCP for a target. Dropping it ends its listeners; connections stay until their end.
pub struct TcpTransport {
    shared: Arc<Shared>,
}

impl TcpTransport {
    /// A transport whose connections are spread over these reactors; the first one listens.
    ///
    /// # Errors
    /// [`TcpOptionsError`]: an option out of range, or no reactor.
    pub fn new(
        options: TcpOptions,
        reactors: Vec<ReactorHandle>,
    ) -> Result<Arc<Self>, TcpOptionsError> {
        options.check()?;
        if reactors.is_empty() {
            return Err(TcpOptionsError { name: "reactors", value: 0, allowed: "at least 1" });
        }
        Ok(Arc::new(Self { shared: Arc::new(Shared::new(options, reactors)) }))
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &TcpOptions {
        &self.shared.options
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> TcpStats {
        self.shared.stats()
    }

    /// Listens on an address, for a target; port 0 takes any free port.
    ///
    /// # Errors
    /// As [`Listener::bind`], and [`NetError::ReactorEnding`].
    pub fn listen_for(
        &self,
        target: Arc<dyn TargetService>,
        id: ListenerId,
        address: SocketAddr,
    ) -> impl Future<Output = Result<TcpListener, NetError>> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        async move {
            let reactor = shared.reactor(0).cloned().ok_or(NetError::ReactorEnding)?;
            let there = Arc::clone(&shared);
            let (gone, closed) = oneshot::channel();
            let local = reactor
                .call(move |reactor| bind(reactor, &there, target, id, address, gone))
                .await
                .map_err(|_| NetError::ReactorEnding)??;
            Ok(TcpListener { shared, id, local, closed: closed.shared() })
        }
    }
}

impl Transport for TcpTransport {
    fn kind(&self) -> TransportKind {
        TransportKind::Tcp
    }

    fn listen(
        &self,
        target: Arc<Target>,
        id: ListenerId,
        address: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn ListenerHandle>>> {
        let listening = self.listen_for(target, id, address);
        Box::pin(async move {
            let listener = listening.await.map_err(as_io_error)?;
            let handle: Box<dyn ListenerHandle> = Box::new(listener);
            Ok(handle)
        })
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// The same error for those who know only those of the system, with its kind.
fn as_io_error(error: NetError) -> std::io::Error {
    let kind = match &error {
        NetError::Bind { source, .. } | NetError::Listen { source, .. } => source.kind(),
        _ => std::io::ErrorKind::Other,
    };
    std::io::Error::new(kind, error)
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        for index in 0..self.shared.reactors() {
            let shared = Arc::clone(&self.shared);
            if let Some(reactor) = self.shared.reactor(index) {
                // A reactor that has ended has nothing left; one whose mailbox is full keeps an
                // empty group.
                let _ = reactor.try_send(move |reactor| Group::forget(reactor, &shared));
            }
        }
    }
}

fn bind(
    reactor: &Rc<Reactor>,
    shared: &Arc<Shared>,
    target: Arc<dyn TargetService>,
    id: ListenerId,
    address: SocketAddr,
    gone: oneshot::Sender<()>,
) -> Result<SocketAddr, NetError> {
    let group = Group::of(reactor, shared, 0);
    let options = &shared.options;
    let socket = SocketOptions {
        priority: (options.sock_priority != 0).then_some(options.sock_priority),
        ack_timeout: options.ack_timeout,
        ..SocketOptions::default()
    };
    let spread = Spread { group: Rc::downgrade(&group), target, id, _gone: gone };
    let on_accept = Box::new(move |socket, _peer| spread.accepted(socket));
    let listen = ListenOptions { socket, ..ListenOptions::default() };
    let listener = Listener::bind(reactor, address, &listen, on_accept)?;
    let local = listener.local_addr();
    group.add_listener(id, listener);
    Ok(local)
}

/// Sends accepted connections to their reactors.
struct Spread {
    group: std::rc::Weak<Group>,
    target: Arc<dyn TargetService>,
    id: ListenerId,
    /// Dropped with the listener: tells whoever waits for its end.
    _gone: oneshot::Sender<()>,
}

impl Spread {
    fn accepted(&self, socket: Socket) {
        let Some(group) = self.group.upgrade() else { return };
        let (shared, id) = (Arc::clone(&group.shared), self.id);
        let (index, target) = (shared.choose(), Arc::clone(&self.target));
        let Some(reactor) = shared.reactor(index).filter(|_| index != group.index).cloned() else {
            return Connection::open(&group, target, id, socket);
        };
        let there = Arc::clone(&shared);
        let sent = reactor.try_send(move |reactor| {
            Connection::open(&Group::of(reactor, &there, index), target, id, socket);
        });
        if sent.is_err() {
            // Its mailbox is full, or it ends: the peer may try again.
            shared.left(index);
        }
    }
}

/// A listening socket of the transport.
pub struct TcpListener {
    shared: Arc<Shared>,
    id: ListenerId,
    local: SocketAddr,
    closed: future::Shared<oneshot::Receiver<()>>,
}

impl TcpListener {
    /// Where it listens, with the port that was chosen.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Ends listening, and returns when the address is free again. Connections stay.
    pub fn end(&self) -> impl Future<Output = ()> + Send + 'static {
        let (shared, id, closed) = (Arc::clone(&self.shared), self.id, self.closed.clone());
        async move {
            let Some(reactor) = shared.reactor(0).cloned() else { return };
            let close =
                move |reactor: &Rc<Reactor>| Group::of(reactor, &shared, 0).close_listener(id);
            if reactor.send(close).await.is_ok() {
                // The other end is dropped with the socket.
                let _ = closed.await;
            }
        }
    }
}

impl ListenerHandle for TcpListener {
    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.end())
    }
}
