//! JSON-RPC, and pages, over HTTP/1.1.
//!
//! `POST /rpc` and a WebSocket at `/rpc` serve the methods of the same jsonrpsee module as the Unix
//! socket does; every other path is a page that the [`Site`] makes. It runs on any tokio runtime
//! with I/O and time enabled.
//!
//! Invariants:
//!
//! - A method that may change something runs only for a caller with the bearer token, and for
//!   nobody where there is no token ([`Site::only_reads`] decides which method does).
//! - A request is served only if its `Host` is an address, `localhost` or a name that was allowed,
//!   and its `Origin`, if it has one, is that host: a page of another site cannot use a browser to
//!   get here, by rebinding a name or otherwise.
//! - Memory per connection is bounded, and a peer that sends or reads nothing is disconnected.
//! - A method that was begun runs to its end, even when its caller is gone; one that panics costs
//!   one error answer.

mod caller;
mod io;
mod limits;
mod methods;
mod origin;
mod service;
mod token;

use std::future::Future;
use std::io::Error;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::core::server::Methods;
use jsonrpsee::server::{ServerHandle, stop_channel};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use limits::{HttpLimits, HttpStats};
pub use token::{BearerToken, TokenError};

use crate::error::ServerError;
use io::Patient;
use service::Service;

/// The pause after a failed `accept(2)`, which mostly means that the process is out of file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a peer beyond the last connection is told.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
                      content-length: 0\r\nconnection: close\r\n\r\n";

/// A future of a [`Site`].
pub type SiteFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a server shows beside the methods.
pub trait Site: Send + Sync + 'static {
    /// The page at a path (which begins with `/` and has no query); none where there is none.
    fn page<'a>(&'a self, path: &'a str) -> SiteFuture<'a, Option<Page>>;

    /// Why `/rpc` is not served now; nothing when it is.
    fn closed(&self) -> Option<&'static str>;

    /// Whether a call reads and changes nothing, and so needs no token. `params` is the JSON text
    /// of the parameters.
    fn only_reads(&self, method: &str, params: Option<&str>) -> bool;
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status code; one that does not exist becomes 500.
    pub status: u16,
    /// The media type.
    pub content_type: &'static str,
    /// The content.
    pub body: Vec<u8>,
}

impl Page {
    /// A page of a media type.
    #[must_use]
    pub fn new(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, content_type, body: body.into() }
    }

    /// A line of text with a status code.
    #[must_use]
    pub fn text(status: u16, line: impl std::fmt::Display) -> Self {
        let body = format!("{line}\n").into_bytes();
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }
}

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Where to listen; port 0 is any free one.
    pub address: SocketAddr,
    /// What a caller has to know to change something; without it nothing can be changed.
    pub token: Option<BearerToken>,
    /// Names, without a port, by which browsers may address the server, beside `localhost` and
    /// addresses. Case does not matter.
    pub hosts: Vec<String>,
    /// Limits.
    pub limits: HttpLimits,
}

/// Why a server could not start or had to stop.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpError {
    /// A limit is out of its range.
    #[error(transparent)]
    Limit(ServerError),
    /// The address cannot be listened at.
    #[error("HTTP at {address}: cannot {action}: {source}")]
    Io {
        /// The address.
        address: SocketAddr,
        /// The step.
        action: &'static str,
        /// Why.
        #[source]
        source: Error,
    },
}

/// A server that listens; [`HttpServer::run`] serves.
#[derive(Debug)]
pub struct HttpServer {
    listener: StdListener,
    address: SocketAddr,
    options: HttpOptions,
    stats: Arc<HttpStats>,
}

impl HttpServer {
    /// Listens. Clients that connect wait until [`HttpServer::run`].
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub fn bind(options: HttpOptions) -> Result<Self, HttpError> {
        options.limits.validate().map_err(HttpError::Limit)?;
        let address = options.address;
        let failed = |action| move |source| HttpError::Io { address, action, source };
        let listener = StdListener::bind(address).map_err(failed("listen"))?;
        listener.set_nonblocking(true).map_err(failed("watch the socket"))?;
        let address = listener.local_addr().map_err(failed("tell the port"))?;
        tracing::info!(%address, "the HTTP server listens");
        Ok(Self { listener, address, options, stats: Arc::default() })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counts that stay readable while the server runs and after it ended.
    #[must_use]
    pub fn stats(&self) -> Arc<HttpStats> {
        Arc::clone(&self.stats)
    }

    /// Serves until `shutdown` completes. Then nothing more is accepted, requests in execution are
    /// answered, and after [`HttpLimits::shutdown_grace`] what is left is cut off; methods run on.
    ///
    /// # Errors
    ///
    /// [`HttpError::Io`] if the runtime cannot watch the socket.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without I/O and time.
    pub async fn run(
        self,
        methods: impl Into<Methods>,
        site: Arc<dyn Site>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), HttpError> {
        let Self { listener, address, options, stats } = self;
        let listener = TcpListener::from_std(listener).map_err(|source| HttpError::Io {
            address,
            action: "watch the socket",
            source,
        })?;
        let (stop, stopped) = watch::channel(false);
        // Ends the WebSockets, which outlive the connections that they come from.
        let (sessions_stop, sessions) = stop_channel();
        let slots = Arc::new(Semaphore::new(options.limits.max_connections));
        let service =
            Service::new(methods.into(), site, &options, Arc::clone(&stats), sessions_stop);
        let mut acceptor = Acceptor {
            service: Arc::new(service),
            limits: options.limits.clone(),
            slots: Arc::clone(&slots),
            stats,
            stopped,
            connections: JoinSet::new(),
        };
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = acceptor.connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the task of an HTTP connection failed");
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => acceptor.accept(stream, peer),
                    Err(error) => {
                        tracing::warn!(%error, "an HTTP connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        drop(listener);
        stop.send_replace(true);
        end(acceptor, &slots, &sessions, &options.limits).await;
        tracing::info!(%address, "the HTTP server ended");
        Ok(())
    }
}

/// Waits until every connection and WebSocket has given back its slot, and cuts off the rest.
async fn end(
    mut acceptor: Acceptor,
    slots: &Semaphore,
    sessions: &ServerHandle,
    limits: &HttpLimits,
) {
    // It can only have been stopped already, which is what is wanted.
    let _ = sessions.stop();
    let all = u32::try_from(limits.max_connections).unwrap_or(u32::MAX);
    if timeout(limits.shutdown_grace, slots.acquire_many(all)).await.is_err() {
        tracing::warn!("HTTP connections are cut off: they did not end in time");
    }
    acceptor.connections.shutdown().await;
}

/// Turns accepted sockets into tasks.
struct Acceptor {
    service: Arc<Service>,
    limits: HttpLimits,
    slots: Arc<Semaphore>,
    stats: Arc<HttpStats>,
    stopped: watch::Receiver<bool>,
    connections: JoinSet<()>,
}

impl Acceptor {
    /// Serves a new connection, or refuses it.
    fn accept(&mut self, stream: TcpStream, peer: SocketAddr) {
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => {
                self.stats.accepted.fetch_add(1, Ordering::Relaxed);
                self.serve(stream, peer, slot);
            }
            Err(_) => {
                self.stats.refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%peer, max = self.limits.max_connections, "an HTTP peer is refused");
                // A new connection's buffer has room for this; a peer that is gone misses nothing.
                let _ = stream.try_write(BUSY);
            }
        }
    }

    /// Starts the task of a connection.
    fn serve(&mut self, stream: TcpStream, peer: SocketAddr, slot: OwnedSemaphorePermit) {
        tracing::debug!(%peer, "HTTP connection");
        // Small answers would wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        let limits = self.limits.clone();
        let mut stopped = self.stopped.clone();
        let connection = self.service.connection();
        let stream = Patient::new(stream, limits.write_timeout, Arc::clone(&self.stats), slot);
        self.connections.spawn(async move {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(limits.header_timeout)
                .max_buf_size(limits.max_header_bytes);
            let served = builder.serve_connection(TokioIo::new(stream), connection).with_upgrades();
            let mut served = pin!(served);
            let stopped = async {
                // An acceptor that is gone has stopped, too.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            let ended = tokio::select! {
                ended = served.as_mut() => ended,
                () = stopped => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "an HTTP peer is gone");
            }
        });
    }
}

#[cfg(test)]
mod tests;
