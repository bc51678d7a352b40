//! What the daemon has counted, and what was done between two looks at it.

use std::collections::BTreeMap;

use jsonrpc::Client;
use serde::Deserialize;
use serde_json::Value;

use super::{Sort, TopError};

/// The part of `bdev_get_iostat` that is shown.
#[derive(Clone, Debug, Deserialize)]
struct IoStat {
    tick_rate: u64,
    ticks: u64,
    bdevs: Vec<Device>,
}

#[derive(Clone, Debug, Deserialize)]
struct Device {
    name: String,
    num_read_ops: u64,
    num_write_ops: u64,
    bytes_read: u64,
    bytes_written: u64,
    read_latency_ticks: u64,
    write_latency_ticks: u64,
    #[serde(default)]
    io_error: BTreeMap<String, u64>,
}

/// The part of `thread_get_stats` that is shown.
#[derive(Clone, Debug, Deserialize)]
struct Threads {
    threads: Vec<Thread>,
}

#[derive(Clone, Debug, Deserialize)]
struct Thread {
    name: String,
    busy: u64,
    idle: u64,
    #[serde(default)]
    sleep_ticks: u64,
    #[serde(default)]
    turns: u64,
    #[serde(default)]
    kernel_entries: u64,
    #[serde(default)]
    stalls: u64,
}

/// The counters of one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    iostat: IoStat,
    threads: Vec<Thread>,
}

impl Sample {
    pub(super) async fn take(client: &mut Client) -> Result<Self, TopError> {
        let calls = [("bdev_get_iostat", None), ("thread_get_stats", None)];
        let mut answers = client.batch(&calls).await?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Null));
        let (iostat, threads) = (next()?, next()?);
        Self::of(iostat, threads)
    }

    pub(super) fn of(iostat: Value, threads: Value) -> Result<Self, TopError> {
        let threads: Threads = serde_json::from_value(threads)?;
        Ok(Self { iostat: serde_json::from_value(iostat)?, threads: threads.threads })
    }
}

/// What was done between two looks, per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Load {
    pub(super) devices: Vec<DeviceLoad>,
    pub(super) reactors: Vec<ReactorLoad>,
}

/// What a device did.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DeviceLoad {
    pub(super) name: String,
    pub(super) read_iops: f64,
    pub(super) write_iops: f64,
    pub(super) read_bytes: f64,
    pub(super) write_bytes: f64,
    /// Mean latency in seconds; none when there was no such I/O.
    pub(super) read_latency: Option<f64>,
    pub(super) write_latency: Option<f64>,
    /// Failed I/Os since the start.
    pub(super) errors: u64,
}

/// What a reactor did.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ReactorLoad {
    pub(super) name: String,
    /// Shares of its time, 0 to 1.
    pub(super) busy: f64,
    pub(super) asleep: f64,
    pub(super) turns: f64,
    pub(super) kernel_entries: f64,
    /// Since the start.
    pub(super) stalls: u64,
}

/// The growth of a counter; one that was set back has grown by what it is.
fn grown(now: u64, before: u64) -> f64 {
    now.checked_sub(before).unwrap_or(now) as f64
}

impl Load {
    /// Devices and reactors that were not there before have no load yet.
    pub(super) fn between(before: &Sample, now: &Sample) -> Self {
        let hz = now.iostat.tick_rate.max(1) as f64;
        let seconds = grown(now.iostat.ticks, before.iostat.ticks) / hz;
        let per_second =
            |now, before| if seconds > 0.0 { grown(now, before) / seconds } else { 0.0 };
        let device = |one: &Device| {
            let old = before.iostat.bdevs.iter().find(|old| old.name == one.name)?;
            let latency = |ops, ticks| (ops > 0.0).then(|| ticks / ops / hz);
            let (reads, writes) = (
                grown(one.num_read_ops, old.num_read_ops),
                grown(one.num_write_ops, old.num_write_ops),
            );
            Some(DeviceLoad {
                name: one.name.clone(),
                read_iops: per_second(one.num_read_ops, old.num_read_ops),
                write_iops: per_second(one.num_write_ops, old.num_write_ops),
                read_bytes: per_second(one.bytes_read, old.bytes_read),
                write_bytes: per_second(one.bytes_written, old.bytes_written),
                read_latency: latency(reads, grown(one.read_latency_ticks, old.read_latency_ticks)),
                write_latency: latency(
                    writes,
                    grown(one.write_latency_ticks, old.write_latency_ticks),
                ),
                errors: one.io_error.values().sum(),
            })
        };
        let reactor = |one: &Thread| {
            let old = before.threads.iter().find(|old| old.name == one.name)?;
            let (busy, idle) = (grown(one.busy, old.busy), grown(one.idle, old.idle));
            let whole = (busy + idle).max(1.0);
            Some(ReactorLoad {
                name: one.name.clone(),
                busy: busy / whole,
                asleep: (grown(one.sleep_ticks, old.sleep_ticks) / whole).min(1.0),
                turns: per_second(one.turns, old.turns),
                kernel_entries: per_second(one.kernel_entries, old.kernel_entries),
                stalls: one.stalls,
            })
        };
        Self {
            devices: now.iostat.bdevs.iter().filter_map(device).collect(),
            reactors: now.threads.iter().filter_map(reactor).collect(),
        }
    }

    /// The devices in an order.
    pub(super) fn sorted(&self, sort: Sort) -> Vec<&DeviceLoad> {
        let mut devices: Vec<_> = self.devices.iter().collect();
        let most = |figure: fn(&DeviceLoad) -> f64| {
            move |a: &&DeviceLoad, b: &&DeviceLoad| {
                figure(b).total_cmp(&figure(a)).then_with(|| a.name.cmp(&b.name))
            }
        };
        match sort {
            Sort::Iops => devices.sort_by(most(|one| one.read_iops + one.write_iops)),
            Sort::Throughput => devices.sort_by(most(|one| one.read_bytes + one.write_bytes)),
            Sort::Latency => devices.sort_by(most(|one| {
                one.read_latency.unwrap_or(0.0).max(one.write_latency.unwrap_or(0.0))
            })),
            Sort::Name => devices.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        devices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn device(name: &str, reads: u64, ticks: u64) -> Value {
        json!({
            "name": name, "num_read_ops": reads, "num_write_ops": 0, "bytes_read": reads * 4096,
            "bytes_written": 0, "read_latency_ticks": ticks, "write_latency_ticks": 0,
            "io_error": { "read": 2, "write": 1 },
        })
    }

    fn sample(ticks: u64, bdevs: &[Value], busy: u64, idle: u64) -> Sample {
        let iostat = json!({ "tick_rate": 1000, "ticks": ticks, "bdevs": bdevs });
        let threads = json!({ "threads": [
            { "name": "reactor_0", "busy": busy, "idle": idle, "sleep_ticks": idle / 2, "turns": ticks },
        ]});
        Sample::of(iostat, threads).expect("answers of the daemon")
    }

    #[test]
    fn what_was_done_is_what_counters_grew_by() {
        let before = sample(1000, &[device("a", 100, 50), device("b", 500, 0)], 10, 0);
        let now = sample(
            3000,
            &[device("a", 300, 450), device("b", 40, 0), device("new", 9, 9)],
            510,
            1500,
        );
        let load = Load::between(&before, &now);
        let names: Vec<_> = load.devices.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "b"], "what was not there before has no load yet");
        let a = &load.devices[0];
        assert_eq!((a.read_iops, a.read_bytes, a.write_iops), (100.0, 409_600.0, 0.0));
        assert_eq!((a.read_latency, a.write_latency, a.errors), (Some(0.002), None, 3));
        assert_eq!(load.devices[1].read_iops, 20.0, "a counter that was set back");
        let reactor = &load.reactors[0];
        assert_eq!((reactor.busy, reactor.asleep, reactor.turns), (0.25, 0.375, 1000.0));
    }

    #[test]
    fn orders() {
        let one = |name: &str, read_iops, write_bytes, write_latency| DeviceLoad {
            name: name.to_owned(),
            read_iops,
            write_bytes,
            write_latency,
            ..DeviceLoad::default()
        };
        let devices = vec![
            one("c", 5.0, 1.0, None),
            one("a", 5.0, 9.0, Some(0.1)),
            one("b", 7.0, 3.0, Some(0.2)),
        ];
        let load = Load { devices, ..Load::default() };
        for (sort, order) in [
            (Sort::Iops, "bac"),
            (Sort::Throughput, "abc"),
            (Sort::Latency, "bac"),
            (Sort::Name, "abc"),
        ] {
            let names: String = load.sorted(sort).iter().map(|one| one.name.as_str()).collect();
            assert_eq!(names, order, "{sort:?}");
        }
    }
}
