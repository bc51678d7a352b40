//! Starts that succeed, and starts that are refused with nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::json;
use spdk_rs::env::cpu::CoreSet;
use tempfile::tempdir;

use crate::harness::{BINARY, Daemon, command, fails, told, wrapped};

const USAGE: i32 = 2;
const CONFIG: i32 = 3;
const RESOURCES: i32 = 4;

#[test]
fn the_report_has_a_line_per_topic() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=1"]);
    for topic in [
        "cores: 1 reactor pinned to",
        "NUMA: ",
        "clock: ",
        "huge pages: 4MiB for I/O buffers in",
        "locked memory: ",
        "io_uring: ",
        "registered buffers: ",
        "IOPOLL: ",
        "privileges: user",
        "device 'm' is there",
    ] {
        assert!(daemon.log().contains(topic), "{topic} in\n{}", daemon.log());
    }
    let mode = fs::metadata(daemon.socket()).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_answers_keeps_off_the_reactors_cores() {
    let cores_of = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        CoreSet::parse_list(list.expect("a list").trim()).expect("cores")
    };
    let allowed = cores_of("self");
    let first = allowed.first().expect("the test runs somewhere");
    let daemon = Daemon::start(&["-l", &first.to_string()]);
    let others: CoreSet = allowed.iter().skip(1).collect();
    let wanted = if others.is_empty() { allowed } else { others };
    // The main thread's status is the process's.
    assert_eq!(cores_of(&daemon.pid().to_string()), wanted);
}

#[test]
fn a_configuration_is_applied_before_answering() {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("config.json");
    let config = json!({"subsystems": [{"subsystem": "bdev", "config": [
        {"method": "bdev_malloc_create",
         "params": {"name": "m", "num_blocks": 2048, "block_size": 512}},
        {"method": "bdev_null_create",
         "params": {"name": "n", "num_blocks": 2048, "block_size": 512}},
        {"method": "bdev_null_resize", "params": {"name": "n", "new_size": 2}},
        {"method": "bdev_create", "params": {"uri": "malloc:///u?size_mb=1"}},
        {"method": "bdev_wait_for_examine"},
    ]}]});
    fs::write(&path, config.to_string()).expect("written");
    let path = path.to_str().expect("text");
    let daemon = Daemon::start(&["--json", path, "--bdev", "null:///last?size_mb=1"]);
    assert_eq!(daemon.names(), ["last", "m", "n", "u"]);
    assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "n"}))[0]["num_blocks"], 4096);
}

#[test]
fn a_wrong_configuration_ends_the_start_and_names_the_place() {
    let dir = tempdir().expect("a directory");
    let (socket, path) = (dir.path().join("rpc.sock"), dir.path().join("config.json"));
    let malloc = r#"{"method": "bdev_malloc_create",
                     "params": {"name": "m", "num_blocks": 8, "block_size": 512}}"#;
    for (text, words) in [
        ("{\"subsystems\":\n[}", "line 2"),
        (r#"{"subsystems": [{"subsystem": "nbd", "config": []}]}"#, "subsystems[0] (nbd)"),
        (
            &format!(
                r#"{{"subsystems": [{{"subsystem": "bdev", "config": [{malloc}, {malloc}]}}]}}"#
            ),
            "config[1] (bdev_malloc_create): the name 'm' is taken",
        ),
        (
            r#"{"subsystems": [{"subsystem": "bdev", "config": [{"method": "bdev_melt"}]}]}"#,
            "config[0] (bdev_melt): unknown method",
        ),
    ] {
        fs::write(&path, text).expect("written");
        let (code, log) = fails(&socket, &["--json", path.to_str().expect("text")]);
        assert_eq!(code, Some(CONFIG), "{log}");
        assert!(log.contains(words) && log.contains("config.json"), "{words} in\n{log}");
        assert!(!socket.exists());
    }
    let (code, log) = fails(&socket, &["--json", "/nonexistent.json"]);
    assert!(code == Some(CONFIG) && log.contains("/nonexistent.json"), "{log}");
}

#[test]
fn wrong_devices_and_cores_end_the_start() {
    let dir = tempdir().expect("a directory");
    let socket = dir.path().join("rpc.sock");
    for (args, code, words) in [
        (&["--bdev", "melt:///a"][..], CONFIG, "unknown scheme `melt`"),
        (&["--bdev", "malloc:///a"], CONFIG, "needs the parameter size_mb or num_blocks"),
        (&["--bdev", "null:///a?size_mb=1", "--bdev", "null:///a?size_mb=1"], CONFIG, "is taken"),
        (&["--bdev", "bdev:///gone"], CONFIG, "there is no device 'gone'"),
        (&["-l", "8000"], CONFIG, "core 8000 does not exist"),
        (&["-m", "0xz"], USAGE, "is not a hexadecimal digit"),
        (&["-l", "3-1"], USAGE, "ends before it starts"),
    ] {
        let (got, log) = fails(&socket, args);
        assert_eq!(got, Some(code), "{args:?}: {log}");
        assert!(log.contains(words), "{args:?}: {log}");
        assert!(!socket.exists(), "{args:?}");
    }
}

#[test]
fn errors_are_told_with_the_log_switched_off() {
    let dir = tempdir().expect("a directory");
    let (code, errors) = fails(&dir.path().join("s"), &["-L", "off", "-l", "8000"]);
    assert_eq!(code, Some(CONFIG));
    assert!(errors.starts_with("io-engine: core 8000 does not exist"), "{errors}");
}

#[test]
fn a_core_outside_of_the_cpuset_is_refused() {
    let allowed = spdk_rs::env::cpu::allowed();
    let cores: Vec<_> = allowed.iter().collect();
    let &[inside, outside, ..] = cores.as_slice() else {
        return eprintln!("skipped: one core only");
    };
    let dir = tempdir().expect("a directory");
    let socket = dir.path().join("rpc.sock");
    let mut narrow = Command::new("taskset");
    narrow.arg("-c").arg(inside.to_string()).arg(BINARY);
    let mut narrow = wrapped(narrow, &socket, &["-l", &outside.to_string()]);
    let (code, log) = told(narrow.output().expect("taskset runs"));
    assert_eq!(code, Some(CONFIG), "{log}");
    assert!(log.contains(&format!("core {outside} is outside the process's cpuset")), "{log}");
    assert!(!socket.exists());
}

#[test]
fn a_socket_in_use_is_refused_and_a_dead_one_taken_over() {
    let daemon = Daemon::start(&[]);
    let socket = daemon.socket().to_owned();
    let (code, log) = fails(&socket, &[]);
    assert_eq!(code, Some(RESOURCES), "{log}");
    assert!(log.contains(&format!("in use by process {}", daemon.pid())), "{log}");
    assert!(!log.contains("huge pages:"), "nothing else has happened:\n{log}");
    assert!(daemon.names().is_empty(), "the running one is undisturbed");

    daemon.signal(Signal::SIGKILL);
    let (_, _, dir) = daemon.wait();
    assert!(socket.exists(), "a killed daemon leaves its socket");
    let next = Daemon::launch(command(&socket, &[]), dir, socket);
    assert!(next.names().is_empty());
    next.end(Signal::SIGTERM);
}

#[test]
fn a_path_that_is_no_socket_is_left_alone() {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("file");
    fs::write(&path, "mine").expect("written");
    let (code, log) = fails(&path, &[]);
    assert!(code == Some(RESOURCES) && log.contains("a regular file"), "{log}");
    assert_eq!(fs::read_to_string(&path).expect("still there"), "mine");
    let (code, log) = fails(&dir.path().join("x".repeat(120)), &[]);
    assert!(code == Some(CONFIG) && log.contains("107"), "{log}");
}

#[test]
fn it_runs_without_privileges() {
    if !geteuid().is_root() {
        // Then every other test here runs without privileges already.
        return;
    }
    let dir = tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    // The build's own directory may be closed to others.
    let binary = dir.path().join("io-engine");
    fs::copy(BINARY, &binary).expect("copied");
    let socket = dir.path().join("rpc.sock");
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
    // Less memory may be locked than the buffers need.
    nobody.args(["sh", "-c", "ulimit -l 64; exec \"$0\" \"$@\""]).arg(&binary);
    let nobody = wrapped(nobody, &socket, &["--bdev", "malloc:///m?size_mb=1"]);
    let daemon = Daemon::launch(nobody, dir, socket);
    assert!(daemon.log().contains("privileges: user 65534 with no capability"), "{}", daemon.log());
    assert!(daemon.log().contains("locked memory: I/O buffers may be swapped"), "{}", daemon.log());
    assert_eq!(daemon.names(), ["m"]);
    daemon.end(Signal::SIGTERM);
}
