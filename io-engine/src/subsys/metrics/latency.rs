//! How latencies are spread: the histograms of devices that keep some, and the queue depths of those
//! that are sampled.

use std::sync::Arc;
use std::time::Duration;

use spdk_rs::bdev::{Bdev, IoType, LatencyHistogram, QueueDepth, Registry};
use spdk_rs::env::Clock;

use super::text::{Exposition, Kind, KindFigure, Number};

/// The bounds of the buckets in nanoseconds: 1 µs to 10 s.
const BOUNDS_NS: [u64; 22] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

const DEPTHS: [KindFigure<QueueDepth, Number>; 4] = [
    (
        "io_engine_bdev_queue_depth",
        Kind::Gauge,
        "I/Os of a device in flight when it was last looked.",
        |seen| seen.depth.into(),
    ),
    (
        "io_engine_bdev_queue_depth_period_seconds",
        Kind::Gauge,
        "Time between two looks at the queue depth of a device.",
        |seen| seen.period.as_secs_f64().into(),
    ),
    (
        "io_engine_bdev_io_time_seconds_total",
        Kind::Counter,
        "Time in which a device had I/O in flight, since its queue depth is looked at.",
        |seen| seen.io_time.as_secs_f64().into(),
    ),
    (
        "io_engine_bdev_weighted_io_time_seconds_total",
        Kind::Counter,
        "The same, counted once for each I/O in flight: its rate is the mean queue depth.",
        |seen| seen.weighted_io_time.as_secs_f64().into(),
    ),
];

pub(super) fn write(out: &mut Exposition, registry: &Registry) {
    let devices = registry.all();
    write_histograms(out, &devices);
    let sampled: Vec<(&str, QueueDepth)> =
        devices.iter().filter_map(|bdev| Some((bdev.name(), bdev.queue_depth()?))).collect();
    for (name, kind, help, value) in DEPTHS {
        let mut family = out.family(name, kind, help);
        for (bdev, seen) in &sampled {
            family.sample(&[("bdev", bdev)], value(seen));
        }
    }
}

fn write_histograms(out: &mut Exposition, devices: &[Arc<Bdev>]) {
    let help = "Time from submission to completion of I/Os of a device, since its histograms are \
                on.";
    let name = "io_engine_bdev_latency_histogram_seconds";
    let mut family = out.family(name, Kind::Histogram, help);
    for bdev in devices {
        let Some((_, all)) = bdev.histograms() else { continue };
        for (kind, histogram) in all.iter().filter(|(_, histogram)| histogram.total() != 0) {
            let labels = [("bdev", bdev.name()), ("op", IoType::name(*kind))];
            let (buckets, count, sum) = figures(histogram, &Clock::Real);
            family.histogram(&labels, &buckets, count, sum);
        }
    }
}

/// The bounds in seconds with how many latencies did not exceed them, the number of all, and
/// their sum in seconds.
fn figures(histogram: &LatencyHistogram, clock: &Clock) -> (Vec<(f64, u64)>, u64, f64) {
    let bounds = BOUNDS_NS.map(Duration::from_nanos);
    let ticks = bounds.map(|bound| clock.ticks_in(bound));
    let seconds = bounds.iter().map(Duration::as_secs_f64);
    let buckets = seconds.zip(histogram.cumulative(&ticks)).collect();
    (buckets, histogram.total(), histogram.sum() as f64 / clock.hz() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_up_to_all() {
        let mut all = LatencyHistogram::default();
        // The virtual clock's ticks are nanoseconds.
        let clock = Clock::Virtual(Default::default());
        for (ns, times) in [(900, 3), (2_400, 2), (1_000_000, 1), (30_000_000_000, 4)] {
            all.count(ns, times);
        }
        let (buckets, count, sum) = figures(&all, &clock);
        assert_eq!(count, 10);
        assert!((sum - 120.001).abs() < 1.0, "{sum}");
        let at = |bound: f64| buckets.iter().find(|(other, _)| *other == bound).expect("a bound").1;
        assert_eq!(
            [at(0.000_001), at(0.000_002_5), at(0.000_5), at(0.01), at(10.0)],
            [3, 5, 5, 6, 6]
        );
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
    }
}
