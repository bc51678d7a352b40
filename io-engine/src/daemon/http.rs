//! The HTTP server of a daemon.

use std::sync::Arc;
use std::time::SystemTime;

use jsonrpc::ServerStats;
use jsonrpc::http::{BearerToken, HttpLimits, HttpOptions, HttpServer};
use jsonrpsee::RpcModule;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::DaemonError;
use crate::cli::HttpArgs;
use crate::http::{EngineSite, Phase};
use crate::rpc::Context;
use crate::subsys::metrics::Sources;

/// What the options ask for; nothing of it is done, but the token is read.
pub(super) fn plan(args: &HttpArgs) -> Result<Option<HttpOptions>, DaemonError> {
    let Some(address) = args.http else { return Ok(None) };
    let token = args.http_token_file.as_deref().map(BearerToken::read).transpose()?;
    let hosts = args.http_host.clone();
    Ok(Some(HttpOptions { address, token, hosts, limits: HttpLimits::default() }))
}

/// A server in its task. Pages are served from the beginning on, methods when the engine is ready.
pub(super) struct Http {
    site: Arc<EngineSite>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Http {
    /// Listens, and serves as soon as the runtime runs.
    pub(super) fn start(
        options: HttpOptions,
        runtime: &Runtime,
        context: &Arc<Context>,
        module: RpcModule<Arc<Context>>,
        rpc: Option<Arc<ServerStats>>,
    ) -> Result<Self, DaemonError> {
        if !options.address.ip().is_loopback() {
            tracing::warn!(
                address = %options.address,
                "HTTP is not encrypted: whoever sees the traffic to other machines reads it all, \
                 the token included"
            );
        }
        let server = HttpServer::bind(options)?;
        let sources = Sources { rpc, http: server.stats(), started: SystemTime::now() };
        let site = EngineSite::new(Arc::clone(context), module.clone(), sources);
        let (stop, mut stopped) = watch::channel(false);
        let shown = Arc::clone(&site);
        let task = runtime.spawn(async move {
            let end = async {
                // A daemon that is gone has stopped it, too.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            if let Err(error) = server.run(module, shown, end).await {
                tracing::error!("{error}");
            }
        });
        Ok(Self { site, stop, task })
    }

    /// Serves methods from now on, each in its time: the start waits for one of them.
    pub(super) fn hold(&self) {
        self.site.enter(Phase::Held);
    }

    /// What has methods served from then on.
    pub(super) fn opener(&self) -> impl FnOnce() + use<> {
        let site = Arc::clone(&self.site);
        move || site.enter(Phase::Ready)
    }

    /// Serves no more methods from now on.
    pub(super) fn close(&self) {
        self.site.enter(Phase::Ending);
    }

    /// Ends the server; answers that are under way get some time.
    pub(super) async fn end(self) {
        self.close();
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the HTTP server failed");
        }
    }
}
