//! `io-engine perf` as a user runs it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use jsonrpc::client::{DEFAULT_TIMEOUT, blocking};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn perf(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_io-engine"));
    command.arg("perf").args(args.split_whitespace()).args(["-s", "16", "--no-huge"]);
    command
}

fn run(args: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = perf(args).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// The report of a run that has to succeed.
fn report(args: &str) -> Value {
    let (code, stdout, stderr) = run(&format!("{args} --json"));
    assert_eq!(code, Some(0), "{args}: {stdout}{stderr}");
    serde_json::from_str(&stdout).expect("JSON")
}

#[test]
fn json_has_every_figure() {
    let report = report("null:///n0?size_mb=64 malloc:///m0?size_mb=1 -w randrw -q 4 -n 1000");
    assert_eq!(report["jobs"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["devices"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["total"]["ios"], 2000);
    assert_eq!(report["total"]["queue_depth"], 8);
    for job in report["jobs"].as_array().expect("jobs") {
        assert_eq!(
            (&job["ios"], &job["errors"], &job["io_size"]),
            (&1000.into(), &0.into(), &4096.into())
        );
        assert!(job["core"].is_u64());
        for figure in ["seconds", "iops", "mib_per_s", "cpu_ns_per_io"] {
            assert!(job[figure].as_f64().is_some_and(|value| value > 0.0), "{figure} in {job:#}");
        }
        for figure in ["mean", "p50", "p90", "p99", "p99_9", "max"] {
            assert!(job["latency_ns"][figure].is_f64(), "{figure} in {job:#}");
        }
        let ops: Vec<_> = job["ops"].as_array().expect("ops").iter().collect();
        assert_eq!(ops.len(), 2);
        assert_eq!((&ops[0]["op"], &ops[1]["op"]), (&"read".into(), &"write".into()));
        assert_eq!(ops.iter().filter_map(|op| op["ios"].as_u64()).sum::<u64>(), 1000);
    }
}

#[test]
fn a_table_for_people() {
    let (code, stdout, stderr) = run("null:///n0?size_mb=64 -w write -o 8k -n 100");
    // On a busy machine the log may say that a turn took long; nothing else belongs there.
    let others: Vec<_> = stderr.lines().filter(|line| !line.contains("took too long")).collect();
    assert!(code == Some(0) && others.is_empty(), "{code:?} {stderr}{stdout}");
    for words in ["write · 8KiB · depth 32", "n0", "IOPS", "CPU of the whole process"] {
        assert!(stdout.contains(words), "{words} in\n{stdout}");
    }
}

#[test]
fn every_pattern_runs_and_time_ends_a_run() {
    for pattern in ["read", "write", "rw", "flush", "unmap", "write_zeroes", "randwrite"] {
        let report = report(&format!("malloc:///m0?size_mb=1 -w {pattern} -t 0.05"));
        let total = &report["total"];
        assert!(total["ios"].as_u64().is_some_and(|ios| ios > 0), "{pattern}: {total:#}");
        assert_eq!(total["errors"], 0, "{pattern}");
    }
}

#[test]
fn verify_succeeds_on_memory() {
    let report = report("malloc:///m0?size_mb=2&blk_size=4096 -w verify -n 5000 --flush-every 100");
    let total = &report["total"];
    assert_eq!((&total["errors"], &total["mismatches"]), (&0.into(), &0.into()), "{total:#}");
    assert!(total["ios"].as_u64().is_some_and(|ios| ios >= 5000));
}

#[test]
fn an_interrupt_ends_the_run_with_a_report() {
    for (signal, pattern) in [(Signal::SIGINT, "randread"), (Signal::SIGTERM, "verify")] {
        let args = format!("malloc:///m0?size_mb=1 -w {pattern} -t 3600 --json -L io_engine=info");
        let mut child = perf(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let log = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut lines = log.lines().map(|line| line.expect("UTF-8"));
        assert!(lines.any(|line| line.contains("the load runs")), "{signal}");
        let pid = Pid::from_raw(child.id().try_into().expect("a process number"));
        kill(pid, signal).expect("it runs");
        let mut stdout = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut stdout).expect("UTF-8");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{signal}: {stdout}");
        let report: Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!(
            (&report["total"]["errors"], &report["total"]["mismatches"]),
            (&0.into(), &0.into())
        );
    }
}

#[test]
fn requests_are_answered_while_a_load_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("rpc.sock");
    let socket: &Path = &socket;
    let call = |method: &str, params: Value| {
        blocking::call(socket, method, Some(params), DEFAULT_TIMEOUT).expect(method)
    };
    let args = format!(
        "malloc:///m0?size_mb=1 -w randrw -t 3600 --json -L io_engine=info -r {}",
        socket.display()
    );
    let mut child =
        perf(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let log = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut lines = log.lines().map(|line| line.expect("UTF-8"));
    assert!(lines.any(|line| line.contains("the load runs")));
    let reads = || {
        let stats = call("bdev_get_iostat", json!({"name": "m0"}));
        stats["bdevs"][0]["num_read_ops"].as_u64().expect("a count")
    };
    let before = reads();
    while reads() == before {}
    // A limit changes the run that it is about, and what a request makes ends with the run.
    call("bdev_set_qos_limit", json!({"name": "m0", "rw_ios_per_sec": 1000}));
    assert_eq!(call("bdev_get_bdevs", json!({"name": "m0"}))[0]["claimed"], false);
    call("bdev_malloc_create", json!({"name": "other", "num_blocks": 8, "block_size": 512}));
    let pid = Pid::from_raw(child.id().try_into().expect("a process number"));
    kill(pid, Signal::SIGINT).expect("it runs");
    let mut stdout = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut stdout).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{stdout}");
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert!(report["total"]["ios"].as_u64().is_some_and(|ios| ios > before), "{report:#}");
    assert!(!socket.exists(), "the socket goes with the run");
}

#[test]
fn a_socket_in_use_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("rpc.sock");
    let _other = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let (code, stdout, stderr) = run(&format!("null:///x?size_mb=1 -n 1 -r {}", socket.display()));
    assert_eq!((code, stdout.as_str()), (Some(4), ""), "{stderr}");
    assert!(stderr.contains("rpc.sock"), "{stderr}");
}

#[test]
fn what_cannot_run_is_refused_with_words() {
    for (args, code, words) in [
        ("foo:///x", 3, "unknown scheme `foo`; known are malloc, null"),
        ("malloc:///x", 3, "size_mb"),
        ("malloc:///x?size_mb=1&colour=red", 3, "colour"),
        ("null:///x?size_mb=1 null:///x?size_mb=1", 3, "the name 'x' is taken"),
        ("bdev:///nobody", 3, "nobody"),
        ("null:///x?size_mb=1 -o 5000", 2, "-o 5000 is not a multiple of the block size of x"),
        ("null:///x?size_mb=1 -o 12x", 2, "12x"),
        ("null:///x?size_mb=1 -q 0", 2, "1..=65536"),
        ("null:///x?size_mb=1 -o 2M", 2, "x: the device holds 0 I/Os"),
        ("null:///x?size_mb=1 -w verify", 2, "stores nothing"),
        ("null:///x?size_mb=1 --rpc-max-connections 9", 2, "the socket of -r"),
        ("null:///x?size_mb=1 -l 8000", 3, "8000"),
        ("null:///x?size_mb=1 -m 0xzz", 2, "--reactor-mask 0xzz"),
        ("null:///x?size_mb=64 -q 1024 -o 64k", 4, "larger memory size (-s MIB)"),
    ] {
        let (got, stdout, stderr) = run(args);
        assert_eq!((got, stdout.as_str()), (Some(code), ""), "{args}: {stderr}");
        assert!(stderr.contains(words), "{args}: {stderr}");
    }
}
