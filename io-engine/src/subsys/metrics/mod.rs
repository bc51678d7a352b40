//! Metrics: every statistic of the engine in the text format of Prometheus.
//!
//! Statistics are kept per core with plain stores and merged here, when somebody asks: a scrape
//! costs a reactor no more than a message for each of the things that live on it. Times are in
//! seconds, sizes in bytes; a counter ends in `_total`.

mod bdev;
#[cfg(feature = "fault-injection")]
mod faults;
mod health;
mod latency;
mod memory;
mod nvme;
mod nvmf;
mod pool;
mod process;
mod reactor;
pub mod text;

use std::sync::Arc;
use std::time::SystemTime;

use jsonrpc::ServerStats;
use jsonrpc::http::HttpStats;
use spdk_rs::env::Clock;

use crate::rpc::Context;
use text::Exposition;

/// Where metrics come from, beside the engine.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Counts of the Unix socket.
    pub rpc: Option<Arc<ServerStats>>,
    /// Counts of the HTTP server.
    pub http: Arc<HttpStats>,
    /// When the process started.
    pub started: SystemTime,
}

/// All metrics of now. Before the engine has started there are those of the process only.
pub async fn scrape(context: &Context, sources: &Sources) -> String {
    let mut out = Exposition::default();
    process::write(&mut out, sources);
    if let Ok(engine) = context.engine() {
        memory::write(&mut out, engine.memory(), engine.runtime().reactors()).await;
        reactor::write(&mut out, engine.runtime().reactors()).await;
        bdev::write(&mut out, engine.registry());
        latency::write(&mut out, engine.registry());
        health::write(&mut out, engine);
        #[cfg(feature = "fault-injection")]
        faults::write(&mut out, engine.faults());
        pool::write(&mut out, engine.pools()).await;
        pool::blocks(&mut out, context.blocks()).await;
        nvme::write(&mut out, engine.nvme());
        if let Some(target) = context.nvmf().started() {
            nvmf::write(&mut out, &target).await;
        }
    }
    out.into_text()
}

/// Ticks of the real clock in seconds.
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / Clock::Real.hz() as f64
}

#[cfg(test)]
mod tests;
