//! Figures from counters that are known by heart.

use super::*;

/// A job that did `reads` reads of 1,000 ticks and one write of 5,000 ticks in two seconds.
fn job(device: &str, core: u32, reads: u64) -> (Job, JobStats) {
    let job = Job {
        device: device.into(),
        core,
        pattern: Pattern::RandRw,
        io_size: 4096,
        queue_depth: 32,
    };
    let mut stats = JobStats { elapsed_ns: 2_000_000_000, cpu_ns: 40_000, ..JobStats::default() };
    (0..reads).for_each(|_| stats.record(Op::Read, 1000));
    stats.record(Op::Write, 5000);
    (job, stats)
}

#[test]
fn figures_of_one_job() {
    let mut one = job("a", 3, 99);
    one.1.record_error(Op::Write, || "first".into());
    one.1.record_error(Op::Write, || "second".into());
    let report = RunReport::new(&[one], 0.5);
    let figures = &report.jobs[0];
    assert_eq!((figures.ios, figures.errors, figures.core), (100, 2, Some(3)));
    assert_eq!(figures.first_error.as_deref(), Some("first"));
    assert!((figures.iops - 50.0).abs() < 1e-9);
    assert!((figures.mib_per_s - 100.0 * 4096.0 / 1_048_576.0 / 2.0).abs() < 1e-9);
    assert!((figures.cpu_ns_per_io - 400.0).abs() < 1e-9);
    let latency = figures.latency_ns;
    assert!((latency.mean - 520.0).abs() < 1e-9, "ticks are half a nanosecond: {latency:?}");
    assert!((latency.p50 - 500.0).abs() < 500.0 / 128.0, "{latency:?}");
    assert!((latency.max - 2500.0).abs() < 1e-9, "{latency:?}");
    assert_eq!(figures.ops.len(), 2, "only what was done");
    assert_eq!((figures.ops[1].op, figures.ops[1].ios), (Op::Write, 1));
    assert!(report.has_failures() && !report.has_mismatches());
    // One job on one device is the total as well, but for the name.
    let total = JobReport { device: "a".into(), ..report.total.clone().expect("a job") };
    assert_eq!((&total, &report.devices[0]), (figures, figures));
}

#[test]
fn devices_and_total_are_merged() {
    let jobs = [job("a", 0, 99), job("b", 0, 9), job("a", 1, 199)];
    let report = RunReport::new(&jobs, 1.0);
    let names: Vec<&str> = report.devices.iter().map(|d| d.device.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    let a = &report.devices[0];
    assert_eq!((a.ios, a.core, a.queue_depth), (300, None, 64));
    assert!((a.iops - 150.0).abs() < 1e-9, "the jobs ran at the same time");
    let total = report.total.as_ref().expect("three jobs");
    assert_eq!((total.ios, total.queue_depth, total.device.as_str()), (310, 96, "total"));
    assert!((total.latency_ns.mean - (307.0 * 1000.0 + 3.0 * 5000.0) / 310.0).abs() < 1e-9);
}

#[test]
fn nothing_done_is_zero_and_not_nan() {
    let (job, _) = job("a", 0, 0);
    let report = RunReport::new(&[(job, JobStats::default())], 1.0);
    let json = serde_json::to_value(&report).expect("it serialises");
    assert_eq!(json["total"]["iops"], 0.0);
    assert_eq!(json["total"]["latency_ns"]["mean"], 0.0);
    assert!(report.to_table().contains("randrw"));
    let empty = RunReport::new(&[], 1.0);
    assert!(empty.total.is_none() && !empty.has_failures());
}

#[test]
fn json_has_the_documented_names() {
    let report = RunReport::new(&[job("a", 2, 1)], 1.0);
    let json = serde_json::to_value(&report).expect("it serialises");
    let job = &json["jobs"][0];
    for name in [
        "device",
        "core",
        "pattern",
        "io_size",
        "queue_depth",
        "ios",
        "seconds",
        "iops",
        "mib_per_s",
        "latency_ns",
        "cpu_ns_per_io",
        "errors",
        "mismatches",
        "ops",
    ] {
        assert!(!job[name].is_null(), "{name}");
        assert!(!json["total"][name].is_null(), "{name}");
    }
    assert_eq!(job["pattern"], "randrw");
    assert_eq!(job["ops"][0]["op"], "read");
    for name in ["mean", "p50", "p90", "p99", "p99_9", "max"] {
        assert!(job["latency_ns"][name].is_f64(), "{name}");
    }
}

#[test]
fn the_table_has_a_line_per_device_and_operation() {
    let mut wrong = job("b", 0, 9);
    wrong.1.record_mismatch(|| "block 7 is stale".into());
    let table = RunReport::new(&[job("a", 0, 2_469_133), wrong], 1000.0).to_table();
    let line = |device: &str, op: &str| {
        let words = |line: &&str| {
            let mut words = line.trim_matches('│').split_whitespace();
            words.next() == Some(device) && words.next() == Some(op)
        };
        table.lines().find(words).unwrap_or_else(|| panic!("{device} {op} in\n{table}")).to_owned()
    };
    assert!(line("a", "read").contains("1 234 566"), "{table}");
    assert!(line("a", "read").contains("1000.00"), "µs\n{table}");
    assert!(line("b", "read").contains("0 + 1 wrong"), "{table}");
    assert!(line("b", "all").contains("4000"), "CPU per I/O\n{table}");
    line("total", "all");
    assert!(table.contains("b: 0 failed I/Os, 1 with wrong data; first: block 7 is stale"));
    assert!(table.starts_with("randrw · 4KiB · depth 64 in all · 2 device(s) on 1 core(s)"));
}

#[test]
fn a_device_that_went_away_is_named() {
    let mut gone = job("a", 0, 1);
    gone.1.record_error(Op::Read, || "read: the device is gone".into());
    gone.1.device_gone = true;
    let report = RunReport::new(&[gone, job("b", 0, 1)], 1.0);
    assert!(report.has_failures());
    let text = report.to_table();
    assert!(text.contains("\na: the device went away, its load ended early\n"), "{text}");
    assert!(!text.contains("b: the device"), "{text}");
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["devices"][0]["device_gone"], true, "{json}");
    assert!(json["devices"][1].get("device_gone").is_none(), "{json}");
}
