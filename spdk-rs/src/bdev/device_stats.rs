//! The statistics of a device over all of its channels: reading, setting back, histograms.

use std::sync::Arc;
use std::time::Duration;

use super::core::BdevCore;
use super::histogram::{GRANULARITY, LatencyHistogram};
use super::stats::{ChannelCounters, IoStats, ResetMode};
use super::{Bdev, IoType, IoTypes};
use crate::reactor::ReactorHandle;

/// Which histograms a device keeps, and how they are to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramOptions {
    /// The kinds of I/O whose latencies are counted.
    pub kinds: IoTypes,
    /// Buckets per power of two when shown, as a power of two: 1 to 7.
    pub granularity: u32,
    /// What is shorter is shown as this long.
    pub min: Duration,
    /// What is longer is shown as this long.
    pub max: Duration,
}

impl HistogramOptions {
    /// The finest granularity.
    pub const GRANULARITY_MAX: u32 = GRANULARITY;
}

/// What a device keeps for histograms while they are on.
#[derive(Debug)]
pub(super) struct HistogramState {
    options: HistogramOptions,
    /// What channels counted that were closed meanwhile, by kind.
    retired: Vec<(IoType, LatencyHistogram)>,
}

impl HistogramState {
    /// Takes over what a channel counted.
    pub(super) fn retire(&mut self, counters: &ChannelCounters) {
        for (kind, retired) in &mut self.retired {
            if let Some(counted) = counters.histogram(*kind) {
                retired.merge(&counted);
            }
        }
    }
}

impl Bdev {
    /// The figures of all cores, and then sets them back. Nothing is lost in between: each core
    /// reads and sets back its own at once.
    pub async fn take_stats(self: &Arc<Self>, mode: ResetMode) -> IoStats {
        let mut all = IoStats::default();
        for (_, stats) in self.take_channel_stats(mode).await {
            all.merge(&stats);
        }
        // Last: what a channel counted that was closed meanwhile is here.
        let mut state = self.lock();
        all.merge(&state.retired);
        state.retired.reset(mode);
        all
    }

    /// The figures of the cores that have a channel open, each of which then sets its own back.
    pub async fn take_channel_stats(
        self: &Arc<Self>,
        mode: ResetMode,
    ) -> Vec<(ReactorHandle, IoStats)> {
        let mut all = Vec::new();
        for reactor in self.cores() {
            let bdev = Arc::clone(self);
            let taken = reactor.call(move |reactor| {
                let channel = BdevCore::of(reactor).find(&bdev)?;
                let stats = channel.counters.snapshot();
                channel.counters.reset(mode);
                Some(stats)
            });
            // A reactor that has ended has no channels.
            if let Ok(Some(stats)) = taken.await {
                all.push((reactor, stats));
            }
        }
        all
    }

    /// Counts latencies from now on, from nothing. When it returns every core does. Costs memory of
    /// 42 KiB per kind and channel at the most.
    pub async fn enable_histograms(self: &Arc<Self>, options: HistogramOptions) {
        let retired =
            options.kinds.iter().map(|kind| (kind, LatencyHistogram::default())).collect();
        self.lock().histograms = Some(HistogramState { options, retired });
        self.watch_on_channels().await;
    }

    /// Ends the counting of latencies and forgets what was counted.
    pub async fn disable_histograms(self: &Arc<Self>) {
        self.lock().histograms = None;
        self.watch_on_channels().await;
    }

    async fn watch_on_channels(self: &Arc<Self>) {
        // Asked for there, so that of two changes the later one stays on every core.
        self.on_channels(|channel| channel.counters.watch(channel.bdev().watched_kinds())).await;
    }

    /// The histograms of all cores by kind, as fine as they are kept; none when they are off.
    #[must_use]
    pub fn histograms(&self) -> Option<(HistogramOptions, Vec<(IoType, LatencyHistogram)>)> {
        let state = self.lock();
        let own = state.histograms.as_ref()?;
        let (options, mut all) = (own.options, own.retired.clone());
        for (kind, merged) in &mut all {
            for counters in state.counters() {
                if let Some(counted) = counters.histogram(*kind) {
                    merged.merge(&counted);
                }
            }
        }
        Some((options, all))
    }

    /// The kinds whose latencies a channel that is opened now counts.
    pub(super) fn watched_kinds(&self) -> IoTypes {
        self.lock().histograms.as_ref().map(|state| state.options.kinds).unwrap_or_default()
    }
}
