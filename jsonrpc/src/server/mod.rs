//! The server: takes a socket path, accepts connections and serves the methods of a jsonrpsee
//! module.
//!
//! It runs on any tokio runtime with I/O and time enabled, current-thread or multi-thread.
//! Synchronous methods run in the connection's task, so they must not block; on a current-thread
//! runtime they hold up every other connection while they run.

mod connection;
mod dispatch;
mod limits;
mod listener;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jsonrpsee::core::server::{ConnectionId, Methods};
use jsonrpsee::types::ErrorObject;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::dispatch::{Dispatcher, Reply};
pub use self::limits::{Limits, ServerStats};
use self::listener::SocketFile;
use crate::codes;
use crate::error::ServerError;

/// Refusals in delivery at once; connections beyond are closed without a word.
const REFUSALS_MAX: usize = 64;

/// The pause after a failed `accept(2)`, which mostly means that the process is out of file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The errno of a user who may not connect.
const EACCES: i32 = 13;

/// Who is at the other end, as the kernel reported it when the connection was made (`SO_PEERCRED`,
/// unix(7)). Methods find it in their `Extensions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id; none when it is of another PID namespace.
    pub pid: Option<i32>,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// A server that holds its path and listens; [`Server::run`] serves. Dropping it gives the path
/// back.
#[derive(Debug)]
pub struct Server {
    listener: std::os::unix::net::UnixListener,
    file: SocketFile,
    path: PathBuf,
    shared: Arc<Shared>,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    methods: Methods,
    limits: Limits,
    stats: Arc<ServerStats>,
}

impl Server {
    /// Takes `path` and listens there, mode 0600. Clients that connect wait until [`Server::run`].
    ///
    /// The path of a live process is refused, that of a dead one is taken over; see
    /// `docs/jsonrpc.md`.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; nothing is left behind.
    pub fn bind(
        path: &Path,
        module: impl Into<Methods>,
        limits: Limits,
    ) -> Result<Self, ServerError> {
        limits.validate()?;
        let (listener, file) = listener::take(path)?;
        let shared = Shared { methods: module.into(), limits, stats: Arc::default() };
        Ok(Self { listener, file, path: path.to_owned(), shared: Arc::new(shared) })
    }

    /// The path given to [`Server::bind`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Counts that stay readable while the server runs and after it ended.
    pub fn stats(&self) -> Arc<ServerStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Serves until `shutdown` completes, then closes gracefully: the socket goes away, no further
    /// request is begun, those in execution are answered, and after [`Limits::shutdown_grace`] what
    /// is left is cut off.
    ///
    /// # Errors
    ///
    /// [`ServerError::Io`] if the runtime cannot watch the socket.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without I/O and time.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        let Self { listener, mut file, path, shared } = self;
        let listener = UnixListener::from_std(listener).map_err(|source| ServerError::Io {
            path: path.clone(),
            action: "watch the socket",
            source,
        })?;
        tracing::info!(path = %path.display(), "the RPC server listens");
        let (stop, stopped) = watch::channel(false);
        let mut acceptor = Acceptor {
            shared: Arc::clone(&shared),
            stopped,
            connections: JoinSet::new(),
            refusals: JoinSet::new(),
            next_id: 0,
        };
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = acceptor.connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the task of an RPC connection failed");
                    }
                }
                Some(_) = acceptor.refusals.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => acceptor.accept(stream),
                    Err(error) => {
                        tracing::warn!(%error, "an RPC connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        file.remove();
        drop(listener);
        stop.send_replace(true);
        acceptor.close(shared.limits.shutdown_grace).await;
        tracing::info!(path = %path.display(), "the RPC server ended");
        Ok(())
    }
}

/// Turns accepted sockets into tasks.
struct Acceptor {
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    connections: JoinSet<()>,
    refusals: JoinSet<()>,
    next_id: usize,
}

impl Acceptor {
    /// Serves a new connection, or refuses it.
    fn accept(&mut self, stream: UnixStream) {
        let id = ConnectionId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let peer = match stream.peer_cred() {
            Ok(cred) => PeerCredentials { pid: cred.pid(), uid: cred.uid(), gid: cred.gid() },
            Err(error) => {
                tracing::warn!(%error, "the credentials of an RPC peer could not be read; refused");
                self.shared.stats.refused.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        tracing::debug!(connection = id.0, pid = peer.pid, uid = peer.uid, "RPC connection");
        match self.objection(peer) {
            Some(reply) => self.refuse(stream, reply),
            None => self.serve(stream, id, peer),
        }
    }

    /// Why a connection is not served, if so.
    fn objection(&mut self, peer: PeerCredentials) -> Option<Reply> {
        let limits = &self.shared.limits;
        if let Some(allowed) = &limits.allow_uids
            && !allowed.contains(&peer.uid)
        {
            tracing::warn!(pid = peer.pid, uid = peer.uid, "an RPC peer of this user is refused");
            let text = format!("Permission denied: user {} may not connect", peer.uid);
            return Some(Reply::error("null", &codes::from_errno(EACCES, text)));
        }
        // Connections that ended while others were accepted do not count.
        while self.connections.try_join_next().is_some() {}
        if self.connections.len() >= limits.max_connections {
            let max = limits.max_connections;
            tracing::warn!(pid = peer.pid, max, "an RPC peer is refused: too many connections");
            let data = format!("all {max} connections are taken");
            let message = "Server is busy, try again later";
            let error = ErrorObject::owned(codes::SERVER_BUSY, message, Some(data));
            return Some(Reply::error("null", &error));
        }
        None
    }

    /// Answers an error on a connection and closes it.
    fn refuse(&mut self, stream: UnixStream, reply: Reply) {
        self.shared.stats.refused.fetch_add(1, Ordering::Relaxed);
        while self.refusals.try_join_next().is_some() {}
        if self.refusals.len() < REFUSALS_MAX {
            self.refusals.spawn(connection::refuse(stream, reply));
        }
    }

    /// Starts the task of a connection.
    fn serve(&mut self, stream: UnixStream, id: ConnectionId, peer: PeerCredentials) {
        let shared = Arc::clone(&self.shared);
        let stopped = self.stopped.clone();
        shared.stats.accepted.fetch_add(1, Ordering::Relaxed);
        self.connections.spawn(async move {
            let _open = Open::new(&shared.stats);
            let mut methods = shared.methods.clone();
            let mut extensions = methods.extensions().clone();
            extensions.insert(id);
            extensions.insert(peer);
            let dispatcher = Dispatcher {
                methods: &methods,
                limits: &shared.limits,
                stats: &shared.stats,
                connection: id,
                extensions,
            };
            connection::serve(stream, dispatcher, stopped).await;
        });
    }

    /// Waits for the connections to end, for at most `grace`.
    async fn close(mut self, grace: Duration) {
        self.refusals.shutdown().await;
        let ended = async { while self.connections.join_next().await.is_some() {} };
        if timeout(grace, ended).await.is_err() {
            let left = self.connections.len();
            tracing::warn!(left, "RPC connections are cut off: they did not end in time");
        }
        self.connections.shutdown().await;
    }
}

/// Keeps [`ServerStats::connections`] right, however a connection ends.
struct Open<'a>(&'a ServerStats);

impl<'a> Open<'a> {
    fn new(stats: &'a ServerStats) -> Self {
        stats.connections.fetch_add(1, Ordering::Relaxed);
        Self(stats)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
