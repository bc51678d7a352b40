//! `bdev_enable_histogram`, `bdev_get_histogram`, `bdev_get_histogram_borders`, `bdev_get_latency`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jsonrpc::codes;
use serde_json::{Map, Value, json};
use spdk_rs::bdev::{Bdev, HistogramOptions, IoType, IoTypes, LatencyHistogram};
use spdk_rs::env::Clock;

use super::bdev::{NAME, find};
use super::errors::RpcResult;
use super::params::def::{choice, int, optional, required, words};
use super::params::{Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};

/// SPDK's default for what is shown as shortest, in nanoseconds.
const MIN_NSEC: i64 = 1000;
/// SPDK's default for what is shown as longest, in nanoseconds.
const MAX_NSEC: i64 = 120_000_000_000;
/// The longest time that can be given, in nanoseconds: a day.
const NSEC_MAX: i128 = 86_400_000_000_000;

/// The finest granularity.
const FINEST: u32 = HistogramOptions::GRANULARITY_MAX;

/// The kinds of I/O by their names.
const KINDS: [(&str, IoType); IoType::ALL.len()] = {
    let mut kinds = [("", IoType::Read); IoType::ALL.len()];
    let mut index = 0;
    while index < kinds.len() {
        kinds[index] = (IoType::ALL[index].name(), IoType::ALL[index]);
        index += 1;
    }
    kinds
};

/// The percentiles that are shown: the member, and the share in parts of 100,000.
const PERCENTILES: [(&str, u32); 6] = [
    ("p50_ns", 50_000),
    ("p90_ns", 90_000),
    ("p95_ns", 95_000),
    ("p99_ns", 99_000),
    ("p99_9_ns", 99_900),
    ("p99_99_ns", 99_990),
];

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_enable_histogram", "Begins or ends a histogram of latencies.", enable)
            .in_config("bdev"),
        Method::new("bdev_get_histogram", "Gives the histogram of a device's latencies.", get_histogram)
            .answers(
                "`histogram` (base64 of 64-bit numbers, little-endian), `granularity`, \
                 `bucket_shift`, `min_range`, `max_range`, `tsc_rate`; SPDK's `histogram.py` reads it",
            ),
        Method::new(
            "bdev_get_histogram_borders",
            "Counts the latencies of a device that did not exceed some borders.",
            get_borders,
        )
        .answers(
            "`borders_count`: for each border how many latencies did not exceed it, to the width of \
             a bucket, and then how many there are",
        ),
        Method::new("bdev_get_latency", "Gives percentiles of a device's latencies.", get_latency)
            .answers(
                "`name`, `operations`: per kind `count`, `mean_ns`, `p50_ns`, `p90_ns`, `p95_ns`, \
                 `p99_ns`, `p99_9_ns`, `p99_99_ns`",
            ),
    ]
}

struct Enable {
    name: Name,
    enable: bool,
    kind: Option<IoType>,
    granularity: u32,
    min: Duration,
    max: Duration,
}

impl Request for Enable {
    const PARAMS: Defs = &[&[
        NAME,
        required("enable", Kind::Bool, "Whether to begin or to end; what was counted is lost."),
        optional("opc", choice(&words(&KINDS)), "I/O of this kind only; else of every kind."),
        optional(
            "granularity",
            int(1, FINEST as i128),
            "The buckets of a power of two, as its logarithm.",
        )
        .or_int(FINEST as i64),
        optional("min_nsec", int(0, NSEC_MAX), "What is shorter is counted as this.")
            .or_int(MIN_NSEC),
        optional("max_nsec", int(0, NSEC_MAX), "What is longer is counted as this.")
            .or_int(MAX_NSEC),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let time = |name| params.required(name).map(Duration::from_nanos);
        let request = Self {
            name: params.required("name")?,
            enable: params.required("enable")?,
            kind: params.optional_choice("opc", &KINDS)?,
            granularity: params.required("granularity")?,
            min: time("min_nsec")?,
            max: time("max_nsec")?,
        };
        if request.max <= request.min {
            return Err(params.refuse("max_nsec", "it has to be more than min_nsec"));
        }
        Ok(request)
    }
}

async fn enable(context: Arc<Context>, request: Enable) -> RpcResult<bool> {
    let bdev = find(&context, &request.name)?;
    if request.enable {
        let kinds = request.kind.map_or_else(|| bdev.io_types(), |kind| IoTypes::of(&[kind]));
        let Enable { granularity, min, max, .. } = request;
        bdev.enable_histograms(HistogramOptions { kinds, granularity, min, max }).await;
    } else {
        bdev.disable_histograms().await;
    }
    Ok(true)
}

/// The most borders of a question.
const BORDERS_MAX: usize = 1024;

struct Borders {
    name: Name,
    borders_us: Vec<u64>,
}

impl Request for Borders {
    const PARAMS: Defs = &[&[
        NAME,
        required(
            "borders",
            Kind::List { item: &int(0, NSEC_MAX / 1000), min: 1, max: BORDERS_MAX },
            "Latencies in microseconds, each larger than the one before.",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let borders_us: Vec<u64> = params.required("borders")?;
        if !borders_us.is_sorted_by(|a, b| a < b) {
            return Err(params.refuse("borders", "each has to be larger than the one before"));
        }
        Ok(Self { name: params.required("name")?, borders_us })
    }
}

async fn get_borders(context: Arc<Context>, request: Borders) -> RpcResult<Value> {
    let bdev = find(&context, &request.name)?;
    let (_, all) = histograms(&bdev)?;
    let mut merged = LatencyHistogram::default();
    all.iter().for_each(|(_, histogram)| merged.merge(histogram));
    Ok(json!({ "borders_count": up_to(&merged, &request.borders_us, &Clock::Real) }))
}

/// How many latencies did not exceed each border, and how many there are. What is counted in the
/// bucket that a border lies in counts for it, as in SPDK.
fn up_to(all: &LatencyHistogram, borders_us: &[u64], clock: &Clock) -> Vec<u64> {
    let end = |us: &u64| all.last_alike(clock.ticks_in(Duration::from_micros(*us)));
    let ends: Vec<u64> = borders_us.iter().map(end).collect();
    let mut counts = all.cumulative(&ends);
    counts.push(all.total());
    counts
}

struct ByName(Name);

impl Request for ByName {
    const PARAMS: Defs = &[&[NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self(params.required("name")?))
    }
}

fn histograms(bdev: &Bdev) -> RpcResult<(HistogramOptions, Vec<(IoType, LatencyHistogram)>)> {
    bdev.histograms().ok_or_else(|| {
        // SPDK's code for this.
        codes::internal_error(format!(
            "no histogram of device '{}': bdev_enable_histogram begins one",
            bdev.name()
        ))
    })
}

async fn get_histogram(context: Arc<Context>, request: ByName) -> RpcResult<Value> {
    let bdev = find(&context, &request.0)?;
    let (options, all) = histograms(&bdev)?;
    let mut merged = LatencyHistogram::default();
    all.iter().for_each(|(_, histogram)| merged.merge(histogram));
    Ok(encode(&merged, &options, &Clock::Real))
}

/// A histogram as SPDK encodes it, so that `histogram.py` of any of its versions reads it: all
/// ranges from the first on are there, and an empty one stands behind the last, since one version
/// of the script does not look at the last.
fn encode(all: &LatencyHistogram, options: &HistogramOptions, clock: &Clock) -> Value {
    let (min, max) = (clock.ticks_in(options.min), clock.ticks_in(options.max));
    let shown = all.narrowed(options.granularity, min, max);
    let empty = vec![0; 1 << shown.granularity()];
    let counts = shown.counts().iter().chain(&empty);
    let bytes: Vec<u8> = counts.flat_map(|count| count.to_le_bytes()).collect();
    json!({
        "histogram": BASE64.encode(bytes),
        "granularity": shown.granularity(),
        "bucket_shift": shown.granularity(),
        "min_range": 0,
        "max_range": shown.ranges(),
        "tsc_rate": clock.hz(),
    })
}

async fn get_latency(context: Arc<Context>, request: ByName) -> RpcResult<Value> {
    let bdev = find(&context, &request.0)?;
    let (_, all) = histograms(&bdev)?;
    let operations: Map<String, Value> = all
        .iter()
        .filter(|(_, histogram)| histogram.total() != 0)
        .map(|(kind, histogram)| (kind.name().to_owned(), figures(histogram, &Clock::Real)))
        .collect();
    Ok(json!({ "name": bdev.name(), "operations": operations }))
}

/// The latencies of one kind in nanoseconds.
fn figures(histogram: &LatencyHistogram, clock: &Clock) -> Value {
    let ns = |ticks: Option<u64>| {
        let time = clock.duration_of(ticks.unwrap_or(0));
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    };
    let mut shown = json!({ "count": histogram.total(), "mean_ns": ns(histogram.mean()) });
    for (name, parts) in PERCENTILES {
        shown[name] = ns(histogram.percentile(parts)).into();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buckets with something in them, found as SPDK's `histogram.py` finds them: the end of the
    /// bucket in ticks, and the count.
    fn as_the_script_reads(answer: &Value, ranges: u64) -> Vec<(u64, u64)> {
        let number = |name: &str| answer[name].as_u64().expect(name);
        let bytes = BASE64.decode(answer["histogram"].as_str().unwrap()).unwrap();
        let granularity = number("granularity");
        let mut found = Vec::new();
        for i in 0..ranges {
            for j in 0..1 << granularity {
                let at = usize::try_from(((i << granularity) + j) * 8).unwrap();
                let count = bytes
                    .get(at..at + 8)
                    .map_or(0, |eight| u64::from_le_bytes(eight.try_into().expect("eight bytes")));
                let end = match i {
                    0 => j + 1,
                    _ => (1 << (i + granularity - 1)) + ((j + 1) << (i - 1)),
                };
                if count != 0 {
                    found.push((end, count));
                }
            }
        }
        found
    }

    #[test]
    fn spdks_script_reads_the_encoding() {
        let mut all = LatencyHistogram::default();
        all.count(3, 2);
        all.count(1000, 5);
        all.count(1_000_000, 1);
        all.count(u64::MAX, 4);
        let options = |granularity, min, max| HistogramOptions {
            kinds: IoTypes::of(&[IoType::Read]),
            granularity,
            min: Duration::from_nanos(min),
            max: Duration::from_nanos(max),
        };
        let clock = Clock::Virtual(Default::default());
        let shown = encode(&all, &options(7, 0, 2_000_000), &clock);
        let newest = shown["max_range"].as_u64().unwrap() - shown["min_range"].as_u64().unwrap();
        let oldest = 64 - shown["bucket_shift"].as_u64().unwrap();
        // Each latency lies below the end of its bucket, by a hundredth at the most.
        let wanted = [(4, 2), (1004, 5), (1_003_520, 1), (2_007_040, 4)];
        assert_eq!(as_the_script_reads(&shown, newest), wanted);
        assert_eq!(as_the_script_reads(&shown, oldest), wanted);
        assert_eq!(shown["tsc_rate"], 1_000_000_000);
        let coarse = encode(&all, &options(2, 100, 1_000_000), &clock);
        let ranges = coarse["max_range"].as_u64().unwrap();
        assert_eq!(as_the_script_reads(&coarse, ranges), [(112, 2), (1024, 5), (1 << 20, 5)]);
    }

    #[test]
    fn borders_are_counted_up_to() {
        let mut all = LatencyHistogram::default();
        (0..1 << 16).for_each(|ns| all.count(ns, 1));
        let clock = Clock::Virtual(Default::default());
        // 1000 ns and 10,000 ns lie in buckets of 4 and of 64 ns.
        let counts = up_to(&all, &[0, 1, 10, 1000], &clock);
        assert_eq!(counts, [1, 1004, 10_048, 1 << 16, 1 << 16]);
    }

    #[test]
    fn figures_are_in_nanoseconds() {
        let mut all = LatencyHistogram::default();
        (1..=100).for_each(|us| all.count(us * 1000, 1));
        let shown = figures(&all, &Clock::Virtual(Default::default()));
        assert_eq!(shown["count"], 100);
        for (name, wanted) in [("p50_ns", 50_000), ("p99_ns", 99_000), ("p99_99_ns", 100_000)] {
            let found = shown[name].as_u64().unwrap();
            assert!(found >= wanted && found <= wanted + wanted / 100, "{name}: {found}");
        }
        assert!(shown["mean_ns"].as_u64().unwrap().abs_diff(50_500) < 500);
    }
}
