//! The transport as the control plane sees it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future;

use super::connection::Connection;
use super::group::Group;
use super::options::{TcpOptions, TcpOptionsError};
use super::shared::{Shared, TcpStats};
use crate::net::{ListenOptions, Listener, NetError, Socket, SocketOptions};
use crate::nvmf::service::TargetService;
use crate::nvmf::transport::ListenerId;
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
    pub async fn listen_for(
        &self,
        target: Arc<dyn TargetService>,
        id: ListenerId,
        address: SocketAddr,
    ) -> Result<TcpListener, NetError> {
        let Some(reactor) = self.shared.reactor(0).cloned() else {
            return Err(NetError::ReactorEnding);
        };
        let shared = Arc::clone(&self.shared);
        let (gone, closed) = oneshot::channel();
        let local = reactor
            .call(move |reactor| bind(reactor, &shared, target, id, address, gone))
            .await
            .map_err(|_| NetError::ReactorEnding)??;
        let (shared, closed) = (Arc::clone(&self.shared), closed.shared());
        Ok(TcpListener { shared, id, local, closed })
    }
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
    pub fn close(&self) -> impl Future<Output = ()> + Send + 'static {
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
