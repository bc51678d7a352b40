//! What the HTTP server shows: the methods, metrics, health, and the dashboard.
//!
//! Everything here runs on the management thread. What lives on a reactor is asked for there, and
//! with a limit on the time, so that a reactor that hangs shows as ill instead of hanging the
//! monitoring too.

mod access;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use jsonrpc::http::{Page, Site, SiteFuture};
use jsonrpsee::core::EmptyServerParams;
use jsonrpsee::core::server::Methods;
use serde_json::Value;
use tokio::time::timeout;

use crate::rpc::{self, Context};
use crate::subsys::metrics::{self, Sources};
pub use access::only_reads;

/// A reactor answers within this, or is ill. Turns that last longer count as stalls long before.
const REACTOR_PATIENCE: Duration = Duration::from_secs(2);

/// Prometheus gives up after ten seconds unless it is told otherwise.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(9);

/// The method that describes the others (OpenRPC).
const DISCOVER: &str = "rpc.discover";

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Reactors and devices are being made.
    Starting,
    /// The start waits for `framework_start_init`, and goes on then: each method says when it may be
    /// called.
    Held,
    /// Everything that was asked for is there.
    Ready,
    /// Devices are being flushed and removed.
    Ending,
}

/// The site of an engine.
pub struct EngineSite {
    context: Arc<Context>,
    methods: Methods,
    sources: Sources,
    phase: AtomicU8,
}

impl EngineSite {
    /// A site in the first phase.
    #[must_use]
    pub fn new(context: Arc<Context>, methods: impl Into<Methods>, sources: Sources) -> Arc<Self> {
        let phase = AtomicU8::new(Phase::Starting as u8);
        Arc::new(Self { context, methods: methods.into(), sources, phase })
    }

    /// Begins another phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Held,
            2 => Phase::Ready,
            _ => Phase::Ending,
        }
    }

    /// Whether every reactor turns.
    async fn health(&self) -> Page {
        let Ok(engine) = self.context.engine() else {
            return Page::text(200, "ok: starting");
        };
        for reactor in engine.runtime().reactors() {
            let turned = timeout(REACTOR_PATIENCE, reactor.call(|_| ())).await;
            let trouble = match turned {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => "has ended".to_owned(),
                Err(_) => format!("does not answer for {} s", REACTOR_PATIENCE.as_secs()),
            };
            return Page::text(503, format!("the reactor of core {} {trouble}", reactor.core()));
        }
        Page::text(200, "ok")
    }

    fn readiness(&self) -> Page {
        match self.phase() {
            Phase::Starting => Page::text(503, "starting"),
            Phase::Held => match self.context.phase().now() {
                rpc::Phase::Startup => Page::text(503, "waiting for framework_start_init"),
                rpc::Phase::Starting | rpc::Phase::Running => Page::text(503, "starting"),
            },
            Phase::Ready => Page::text(200, "ready"),
            Phase::Ending => Page::text(503, "ending"),
        }
    }

    async fn metrics(&self) -> Page {
        match timeout(SCRAPE_PATIENCE, metrics::scrape(&self.context, &self.sources)).await {
            Ok(text) => Page::new(metrics::text::CONTENT_TYPE, text),
            Err(_) => Page::text(503, "a reactor does not answer; see /healthz"),
        }
    }

    /// The description of the methods, where there is one.
    async fn description(&self) -> Option<Page> {
        self.methods.method(DISCOVER)?;
        let described = self.methods.call::<_, Value>(DISCOVER, EmptyServerParams::new()).await;
        Some(match described {
            Ok(document) => Page::new(JSON, document.to_string()),
            Err(error) => Page::text(500, error),
        })
    }
}

impl Site for EngineSite {
    fn page<'a>(&'a self, path: &'a str) -> SiteFuture<'a, Option<Page>> {
        Box::pin(async move {
            Some(match path {
                "/" => Page::new(HTML, include_str!("dashboard/index.html")),
                "/dashboard.js" => Page::new(
                    "text/javascript; charset=utf-8",
                    concat!(
                        include_str!("dashboard/data.js"),
                        include_str!("dashboard/plot.js"),
                        include_str!("dashboard/page.js")
                    ),
                ),
                "/dashboard.css" => {
                    Page::new("text/css; charset=utf-8", include_str!("dashboard/style.css"))
                }
                "/metrics" => self.metrics().await,
                "/healthz" => self.health().await,
                "/readyz" => self.readiness(),
                "/openrpc.json" => return self.description().await,
                _ => return None,
            })
        })
    }

    fn closed(&self) -> Option<&'static str> {
        match self.phase() {
            Phase::Starting => Some("the engine is starting"),
            Phase::Held | Phase::Ready => None,
            Phase::Ending => Some("the engine is ending"),
        }
    }

    fn only_reads(&self, method: &str, params: Option<&str>) -> bool {
        only_reads(method, params)
    }
}

impl fmt::Debug for EngineSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineSite({:?})", self.phase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonrpsee::RpcModule;
    use std::time::SystemTime;

    fn site(module: RpcModule<()>) -> Arc<EngineSite> {
        let sources = Sources { rpc: None, http: Arc::default(), started: SystemTime::now() };
        EngineSite::new(Context::new(), module, sources)
    }

    #[tokio::test]
    async fn the_phase_shows() {
        let site = site(RpcModule::new(()));
        for (phase, status, closed) in [
            (Phase::Starting, 503, true),
            (Phase::Held, 503, false),
            (Phase::Ready, 200, false),
            (Phase::Ending, 503, true),
        ] {
            site.enter(phase);
            assert_eq!(site.page("/readyz").await.expect("a page").status, status, "{phase:?}");
            assert_eq!(site.closed().is_some(), closed, "{phase:?}");
            assert_eq!(site.page("/healthz").await.expect("a page").status, 200, "{phase:?}");
        }
    }

    #[tokio::test]
    async fn the_methods_are_described_where_they_can_be() {
        assert_eq!(site(RpcModule::new(())).page("/openrpc.json").await, None);
        let mut module = RpcModule::new(());
        let document = serde_json::json!({ "openrpc": "1.3.2" });
        let answer = document.clone();
        let method = module.register_method(DISCOVER, move |_, (), _| answer.clone());
        method.expect("the first of its name");
        let page = site(module).page("/openrpc.json").await.expect("a page");
        assert_eq!((page.status, page.content_type), (200, "application/json"));
        assert_eq!(serde_json::from_slice::<Value>(&page.body).expect("JSON"), document);
    }

    #[tokio::test]
    async fn the_dashboard_loads_nothing_from_elsewhere() {
        let site = site(RpcModule::new(()));
        for path in ["/", "/dashboard.js", "/dashboard.css"] {
            let page = site.page(path).await.expect(path);
            let text = String::from_utf8(page.body).expect("text");
            assert!(page.status == 200 && text.len() > 500, "{path}");
            for outside in ["http://", "https://", "src=\"//", "@import", "url("] {
                // The name of a name space is no address.
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(outside), "{outside} in {path}");
            }
        }
        let html = site.page("/").await.expect("a page");
        let html = String::from_utf8(html.body).expect("text");
        // The policy of the pages forbids both.
        assert!(!html.contains("style=") && !html.contains("onclick") && !html.contains("<style"));
        assert_eq!(site.page("/nothing").await, None);
    }
}
