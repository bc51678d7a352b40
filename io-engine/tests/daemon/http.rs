//! HTTP as a scraper, a browser and a script meet it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use openmetrics_parser::prometheus::parse_prometheus;
use openmetrics_parser::{MetricsExposition, PrometheusType, PrometheusValue};
use serde_json::{Value, json};

use crate::harness::{Daemon, fails};

const TOKEN: &str = "dGhlIHNlY3JldCBvZiB0aGUgdGVzdA";

const SUBSYSTEM: &str = "nqn.2016-06.io.spdk:m";

type Exposition = MetricsExposition<PrometheusType, PrometheusValue>;

/// The HTTP server of a daemon that was started with `--http 0`.
struct Http(String);

impl Http {
    fn of(daemon: &Daemon) -> Self {
        let log = daemon.log();
        let line =
            log.lines().find(|line| line.contains("the HTTP server listens")).expect("a line");
        let (_, address) = line.split_once("address=").expect("an address");
        Self(address.trim().to_owned())
    }

    /// The status and the body.
    fn send(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.0).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.0))
    }

    fn call(&self, token: Option<&str>, method: &str, params: &Value) -> Value {
        let body =
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let token =
            token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let (status, answer) = self.send(&format!(
            "POST /rpc HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             {token}Content-Length: {}\r\n\r\n{body}",
            self.0,
            body.len()
        ));
        assert_eq!(status, 200, "{method}: {answer}");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// The metrics, as a parser that is not ours reads them.
    fn metrics(&self) -> (Exposition, String) {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200);
        let parsed = parse_prometheus(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        (parsed, text)
    }
}

/// The value of a sample with these labels, among others.
fn value(metrics: &Exposition, family: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let family = metrics.families.get(family)?;
    family.iter_samples().find_map(|sample| {
        let set = sample.get_labelset().expect("labels");
        let matches = labels
            .iter()
            .all(|(name, text)| set.iter().any(|(other, value)| other == *name && value == *text));
        let number = match &sample.value {
            PrometheusValue::Counter(counter) => counter.value.as_f64(),
            PrometheusValue::Gauge(number) | PrometheusValue::Unknown(number) => number.as_f64(),
            PrometheusValue::Summary(summary) => summary.sum?.as_f64(),
            PrometheusValue::Histogram(spread) => spread.sum?.as_f64(),
        };
        matches.then_some(number)
    })
}

fn write_token(path: &Path, mode: u32) {
    std::fs::write(path, TOKEN).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
}

#[test]
fn health_readiness_and_the_dashboard() {
    let daemon = Daemon::start(&["--http", "0", "--bdev", "null:///n0?size_mb=8"]);
    let http = Http::of(&daemon);
    assert!(http.0.starts_with("127.0.0.1:"), "{}", http.0);
    assert_eq!(http.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(http.get("/readyz"), (200, "ready\n".to_owned()));
    let (status, page) = http.get("/");
    assert!(status == 200 && page.contains("<title>io-engine</title>"), "{page}");
    assert_eq!(http.get("/none").0, 404);
    let discovers = daemon.call("rpc_get_methods", Value::Null);
    let discovers = discovers.as_array().expect("names").contains(&json!("rpc.discover"));
    assert_eq!(http.get("/openrpc.json").0, if discovers { 200 } else { 404 });
    let log = daemon.end(Signal::SIGTERM);
    assert!(log.contains("the HTTP server ended"), "{log}");
}

#[test]
fn nothing_is_served_unless_it_is_asked_for() {
    let daemon = Daemon::start(&[]);
    assert!(!daemon.log().contains("HTTP"), "{}", daemon.log());
}

#[test]
fn without_a_token_devices_can_be_seen_and_not_changed() {
    let daemon = Daemon::start(&["--http", "0", "--bdev", "null:///n0?size_mb=8"]);
    let http = Http::of(&daemon);
    let seen = http.call(None, "bdev_get_bdevs", &json!({ "name": "n0" }));
    assert_eq!(seen["result"][0]["name"], "n0");
    for (method, params) in [
        ("bdev_destroy", json!({ "name": "n0" })),
        ("bdev_create", json!({ "uri": "null:///n1?size_mb=8" })),
        ("spdk_kill_instance", json!({ "sig_name": "SIGKILL" })),
        ("bdev_get_bdevs", json!({ "name": "n1", "timeout": 86_400_000 })),
    ] {
        let refused = http.call(None, method, &params);
        assert_eq!(refused["error"]["code"], -13, "{method}: {refused}");
    }
    assert_eq!(daemon.names(), ["n0"]);
}

#[test]
fn the_token_of_a_file_lets_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    write_token(&path, 0o600);
    let file = path.to_str().expect("a path");
    let daemon = Daemon::start(&["--http", ":0", "--http-token-file", file]);
    let http = Http::of(&daemon);
    let uri = json!({ "uri": "null:///n1?size_mb=8" });
    assert_eq!(http.call(None, "bdev_create", &uri)["error"]["code"], -13);
    assert_eq!(http.call(Some(TOKEN), "bdev_create", &uri)["result"], "n1");
    let wrong = http.call(Some(TOKEN), "bdev_create", &json!({ "uri": "melt:///x" }));
    assert_eq!(wrong["error"]["code"], -32602, "errors are those of the Unix socket");
    assert_eq!(daemon.names(), ["n1"]);
    daemon.end(Signal::SIGINT);
}

#[test]
fn what_cannot_be_served_ends_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, token) = (dir.path().join("rpc.sock"), dir.path().join("token"));
    write_token(&token, 0o644);
    let file = token.to_str().expect("a path");
    let (code, words) = fails(&socket, &["--http", "0", "--http-token-file", file]);
    assert_eq!(code, Some(3), "{words}");
    assert!(words.contains("0644") && words.contains("0600"), "{words}");
    let (code, words) = fails(&socket, &["--http", "0", "--http-token-file", "/nonexistent"]);
    assert!(code == Some(3) && words.contains("/nonexistent"), "{words}");
    let (code, words) = fails(&socket, &["--http-token-file", file]);
    assert!(code == Some(2) && words.contains("--http"), "{words}");
    let (code, words) = fails(&socket, &["--http", "127.0.0.1"]);
    assert!(code == Some(2) && words.contains("it has to be a port"), "{words}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (code, words) = fails(&socket, &["--http", &address]);
    assert!(code == Some(4) && words.contains(&address), "{words}");
    assert!(!socket.exists(), "nothing is left behind");
}

/// A daemon with something of everything, and where its files are.
fn everything() -> (Daemon, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = dir.path().join("pool.img");
    let daemon = Daemon::start(&["--http", "0", "--bdev", "malloc:///m\"0?size_mb=1"]);
    let uri = format!("aio://{}?size_mb=64", disk.display());
    daemon.call("pool_create", json!({ "name": "p", "disk": uri }));
    // The pool has it open, so a core looks at it.
    let sampled = json!({ "name": disk.display().to_string(), "period": 1000 });
    daemon.call("bdev_set_qd_sampling_period", sampled);
    daemon.call("vol_create", json!({ "pool": "p", "name": "v", "size": 4 << 20 }));
    daemon.call("block_create", json!({ "name": "malloc:///b?size_mb=1" }));
    let blocks = daemon.call("block_allocate", json!({ "name": "b", "size": 4096 }));
    let data = "AAAA".repeat(4096 / 3) + "AA==";
    for _ in 0..3 {
        daemon.call("block_write", json!({ "name": "b", "block": blocks[0], "data": data }));
    }
    let nqn = SUBSYSTEM;
    // The initiator is in the same process, and would find the volume's own taken.
    let uuid = "0d1f4ec4-66cb-4c3e-9a4b-0d6a4c3f1c11";
    daemon.call("nvmf_create_transport", json!({ "trtype": "TCP" }));
    daemon.call("nvmf_create_subsystem", json!({ "nqn": nqn, "allow_any_host": true }));
    daemon.call(
        "nvmf_subsystem_add_ns",
        json!({ "nqn": nqn, "namespace": { "bdev_name": "p/v", "uuid": uuid } }),
    );
    let listen = json!({ "trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "0" });
    daemon.call("nvmf_subsystem_add_listener", json!({ "nqn": nqn, "listen_address": listen }));
    let listeners = daemon.call("nvmf_subsystem_get_listeners", json!({ "nqn": nqn }));
    let port = listeners[0]["address"]["trsvcid"].as_str().expect("a port");
    // The engine's own initiator is the host.
    daemon.call("bdev_create", json!({ "uri": format!("nvmf://127.0.0.1:{port}/{nqn}?name=h") }));
    (daemon, dir)
}

#[test]
fn every_part_of_the_engine_has_metrics() {
    let (daemon, _dir) = everything();
    let (metrics, text) = Http::of(&daemon).metrics();
    let at = |family: &str, labels: &[(&str, &str)]| {
        value(&metrics, family, labels)
            .unwrap_or_else(|| panic!("no {family} {labels:?} in\n{text}"))
    };
    // The parser leaves what is escaped as it is.
    let (m0, b) = (("bdev", r#"m\"0"#), ("bdev", "b"));
    assert_eq!(at("io_engine_bdev_size_bytes", &[m0]), 1_048_576.0);
    assert_eq!(at("io_engine_bdev_info", &[m0, ("driver", "malloc")]), 1.0);
    let write = ("op", "write");
    assert_eq!(at("io_engine_bdev_ops_total", &[b, write]), 3.0);
    assert_eq!(at("io_engine_bdev_bytes_total", &[b, write]), 12_288.0);
    assert_eq!(at("io_engine_bdev_errors_total", &[b, write]), 0.0);
    // Their blocks are the whole device, and no data.
    for op in ["flush", "reset"] {
        at("io_engine_bdev_ops_total", &[b, ("op", op)]);
        assert_eq!(value(&metrics, "io_engine_bdev_bytes_total", &[b, ("op", op)]), None, "{op}");
    }
    assert!(at("io_engine_bdev_latency_seconds", &[b, write]) > 0.0);
    assert!(at("io_engine_bdev_latency_max_seconds", &[b, write]) > 0.0);
    assert_eq!(at("io_engine_block_store_capacity_bytes", &[b]), 1_048_576.0);
    assert!(at("io_engine_reactor_turns_total", &[]) > 0.0);
    assert!(at("io_engine_reactor_busy_seconds_total", &[]) > 0.0);
    assert!(at("io_engine_reactor_poller_runs_total", &[("poller", "queue depth")]) >= 1.0);
    let p = ("pool", "p");
    assert!(at("io_engine_pool_size_bytes", &[p]) > 3e7);
    assert_eq!(at("io_engine_pool_volumes", &[p]), 1.0);
    assert_eq!(at("io_engine_pool_read_only", &[p]), 0.0);
    assert!(at("io_engine_pool_journal_blocks", &[p]) > 0.0);
    for family in [
        "io_engine_pool_write_seconds",
        "io_engine_pool_flush_max_seconds",
        "io_engine_pool_checkpoint_seconds",
        "io_engine_pool_recovery_seconds",
        "io_engine_pool_invalid_blocks_total",
        "io_engine_pool_recovery_transactions",
        "io_engine_pool_journal_used_blocks",
    ] {
        at(family, &[p]);
    }
    assert_eq!(at("io_engine_volume_size_bytes", &[p, ("volume", "v")]), 4_194_304.0);
    let nqn = ("nqn", SUBSYSTEM);
    assert_eq!(at("io_engine_nvmf_subsystem_namespaces", &[nqn]), 1.0);
    assert_eq!(at("io_engine_nvmf_subsystem_controllers", &[nqn]), 1.0);
    // I/O queues come with the first I/O of a core, and nobody has done any.
    assert_eq!(at("io_engine_nvmf_controller_io_queues", &[nqn]), 0.0);
    assert!(at("io_engine_nvmf_connections", &[("trtype", "TCP")]) >= 1.0);
    at("io_engine_nvmf_controller_commands_total", &[nqn]);
    at("io_engine_nvmf_pending_io", &[]);
    assert_eq!(at("io_engine_nvme_path_connected", &[("controller", "h")]), 1.0);
    assert!(at("io_engine_rpc_calls_total", &[]) >= 10.0);
    assert_eq!(at("io_engine_http_requests_total", &[]), 1.0);
    assert!(at("io_engine_memory_size_bytes", &[]) >= 4e6);
    assert!(at("process_resident_memory_bytes", &[]) > 0.0);
    // The target ends first, and the host could not flush to it any more.
    daemon.call("bdev_nvme_detach_controller", json!({ "name": "h" }));
    daemon.end(Signal::SIGTERM);
}

#[cfg(feature = "fault-injection")]
#[test]
fn latencies_depths_health_and_faults_have_metrics() {
    let daemon = Daemon::start(&["--http", "0", "--bdev", "null:///n0?size_mb=8"]);
    daemon.call("block_create", json!({ "name": "malloc:///b?size_mb=1" }));
    let blocks = daemon.call("block_allocate", json!({ "name": "b", "size": 4096 }));
    daemon.call("bdev_enable_histogram", json!({ "name": "b", "enable": true }));
    daemon.call("bdev_set_qd_sampling_period", json!({ "name": "b", "period": 1000 }));
    let data = "AAAA".repeat(4096 / 3) + "AA==";
    let write = json!({ "name": "b", "block": blocks[0], "data": data });
    for _ in 0..3 {
        daemon.call("block_write", write.clone());
    }
    let uri = "inject://b?op=write&type=status-nvme-2-80&retries=1";
    daemon.call("fault_injection_create", json!({ "uri": uri }));
    daemon.refuses("block_write", write);
    let http = Http::of(&daemon);
    let (metrics, text) = http.metrics();
    let at = |family: &str, labels: &[(&str, &str)]| {
        value(&metrics, family, labels)
            .unwrap_or_else(|| panic!("no {family} {labels:?} in\n{text}"))
    };
    let b = ("bdev", "b");
    let name = "io_engine_bdev_latency_histogram_seconds";
    let spread = metrics.families[name].iter_samples().find_map(|sample| match &sample.value {
        PrometheusValue::Histogram(spread) => Some(spread),
        _ => None,
    });
    let spread = spread.expect("a histogram");
    assert_eq!((spread.count, spread.buckets.len()), (Some(4), 23), "{text}");
    let counts: Vec<f64> = spread.buckets.iter().map(|bucket| bucket.count.as_f64()).collect();
    assert!(counts.is_sorted() && counts[22] == 4.0, "{counts:?}");
    assert!(spread.sum.expect("a sum").as_f64() > 0.0);
    for (state, is) in [("online", 0.0), ("degraded", 1.0), ("faulted", 0.0)] {
        assert_eq!(at("io_engine_bdev_health", &[b, ("state", state)]), is, "{state}");
    }
    assert_eq!(at("io_engine_bdev_health", &[("bdev", "n0"), ("state", "online")]), 1.0);
    assert_eq!(at("io_engine_bdev_media_errors_total", &[b]), 1.0);
    assert_eq!(at("io_engine_bdev_io_timeouts_total", &[b]), 0.0);
    assert_eq!(at("io_engine_bdev_queue_depth", &[b]), 0.0);
    assert_eq!(at("io_engine_bdev_queue_depth_period_seconds", &[b]), 0.001);
    assert_eq!(value(&metrics, "io_engine_bdev_queue_depth", &[("bdev", "n0")]), None);
    let fault = [b, ("id", "1"), ("type", "status-nvme-2-80")];
    assert_eq!(at("io_engine_fault_injection_hits_total", &fault), 1.0);
    assert_eq!(at("io_engine_fault_injection_held", &fault), 0.0);
    // Two devices came, and the health of one is another.
    assert!(at("io_engine_events_total", &[]) >= 3.0);
    for source in ["cache", "arena"] {
        at("io_engine_memory_buffers_total", &[("source", source)]);
    }
    assert_eq!(at("io_engine_memory_refused_total", &[]), 0.0);
    at("io_engine_memory_cached_bytes", &[]);
    daemon.end(Signal::SIGTERM);
}

#[test]
fn a_start_that_waits_can_be_begun_over_http() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("token");
    write_token(&path, 0o600);
    let file = path.to_str().expect("a path");
    let args = ["--http", "0", "--http-token-file", file, "--wait-for-rpc"];
    let daemon = Daemon::start(&[&args[..], &["--bdev", "null:///n0?size_mb=8"]].concat());
    let http = Http::of(&daemon);
    assert_eq!(http.get("/readyz"), (503, "waiting for framework_start_init\n".to_owned()));
    let none = json!({});
    assert!(http.call(None, "spdk_get_version", &none)["result"].is_object());
    let early = http.call(None, "bdev_get_bdevs", &none);
    assert_eq!(early["error"]["code"], -1, "{early}");
    assert_eq!(http.call(None, "framework_start_init", &none)["error"]["code"], -13);
    assert_eq!(http.call(Some(TOKEN), "framework_start_init", &none)["result"], true);
    assert_eq!(http.get("/readyz").0, 200);
    assert_eq!(http.call(None, "bdev_get_bdevs", &none)["result"][0]["name"], "n0");
    daemon.end(Signal::SIGTERM);
}
