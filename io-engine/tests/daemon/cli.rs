//! The sub-commands that manage a daemon, as people and scripts use them.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{BINARY, Daemon, told};

/// What a sub-command printed, and its exit code.
fn run(daemon: &Daemon, line: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(BINARY);
    let output = command.args(line.split_whitespace()).arg("-r").arg(daemon.socket()).output();
    let output = output.expect("the binary runs");
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let (code, words) = told(output);
    (code, text, words)
}

/// What a sub-command that succeeds printed.
fn done(daemon: &Daemon, line: &str) -> String {
    let (code, text, words) = run(daemon, line);
    assert_eq!(code, Some(0), "{line}: {words}");
    text
}

/// The line of a table that a word stands in.
fn row<'a>(table: &'a str, word: &str) -> &'a str {
    table.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word} in\n{table}"))
}

#[test]
fn pools_and_volumes() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = format!("aio://{}?size_mb=64&name=d", dir.path().join("disk").display());
    let daemon = Daemon::start(&["--bdev", &disk]);
    assert!(done(&daemon, "pool create p d --digest crc32c").contains("crc32c"));
    assert!(row(&done(&daemon, "pool list"), " p ").contains("crc32c"));
    assert!(done(&daemon, "vol create p/v 4M").contains("p/v"));
    assert_eq!(done(&daemon, "vol resize p/v 8M"), "");
    assert!(row(&done(&daemon, "vol list"), "p/v").contains("8MiB"));
    done(&daemon, "vol snapshot p/v s");
    done(&daemon, "vol clone p/s c");
    let volumes: Value = serde_json::from_str(&done(&daemon, "vol list -o json")).expect("JSON");
    let names: Vec<_> =
        volumes.as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, [&json!("v"), &json!("s"), &json!("c")]);
    assert!(row(&done(&daemon, "stats pool p"), "checkpoint.count").contains('│'));
    done(&daemon, "vol delete p/c");
    let (code, text, words) = run(&daemon, "vol delete p/none");
    assert_eq!((code, text.as_str()), (Some(6), ""));
    assert!(words.contains("vol_delete") && words.contains("p/none"), "{words}");
    assert!(done(&daemon, "pool check p").contains("clean"));
    assert_eq!(done(&daemon, "pool export p"), "");
    assert!(!done(&daemon, "pool list").contains(" p "));
    daemon.end(Signal::SIGTERM);
}

#[test]
fn subsystems() {
    let daemon = Daemon::start(&["--bdev", "null:///n0?size_mb=8"]);
    let nqn = "nqn.2016-06.io.spdk:a";
    done(&daemon, "nvmf start");
    done(&daemon, &format!("nvmf create {nqn} --serial S1 --allow-any-host"));
    assert_eq!(done(&daemon, &format!("nvmf add-ns {nqn} n0 --nsid 5")).trim(), "5");
    done(&daemon, &format!("nvmf listen {nqn} 127.0.0.1:0"));
    assert!(row(&done(&daemon, &format!("nvmf listeners {nqn}")), "TCP").contains("127.0.0.1"));
    assert!(row(&done(&daemon, "nvmf list"), nqn).contains("S1"));
    assert!(done(&daemon, &format!("nvmf hosts {nqn}")).contains("host id"));
    done(&daemon, &format!("nvmf delete {nqn}"));
    assert!(!done(&daemon, "nvmf list").contains("S1"));
    assert!(done(&daemon, "stats nvmf").contains("reactor_"));
    daemon.end(Signal::SIGTERM);
}

#[test]
fn statistics_and_the_load() {
    let daemon = Daemon::start(&["--bdev", "null:///n0?size_mb=8"]);
    assert!(row(&done(&daemon, "stats bdev"), "n0").contains(" 0"));
    assert!(done(&daemon, "stats reactor").contains("kernel entries"));
    let load = done(&daemon, "top -n 2 -d 0.1");
    assert_eq!(load.lines().filter(|line| line.contains("n0")).count(), 2, "{load}");
    assert!(load.contains("busy") && load.contains("read latency"), "{load}");
    daemon.end(Signal::SIGTERM);
}

#[cfg(feature = "fault-injection")]
#[test]
fn injections() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m0?size_mb=8"]);
    let added = done(&daemon, "inject add inject://m0?op=read&type=hang&retries=2");
    assert!(row(&added, "uri").contains("type=hang"), "{added}");
    done(&daemon, "inject add inject://m0?op=write&type=nomem");
    let listed = done(&daemon, "inject list m0");
    assert!(row(&listed, "type=hang").contains(" 1 ") && row(&listed, "nomem").contains(" 2 "));
    let listed: Value = serde_json::from_str(&done(&daemon, "inject list -o json")).expect("JSON");
    assert_eq!((&listed[0]["id"], &listed[1]["type"]), (&json!(1), &json!("nomem")));
    assert_eq!(done(&daemon, "inject release 1").trim(), "0");
    assert_eq!(done(&daemon, "inject remove 1"), "");
    assert_eq!(done(&daemon, "inject clear m0").trim(), "1");
    let (code, _, words) = run(&daemon, "inject remove 1");
    assert!(code == Some(6) && words.contains("fault_injection_remove"), "{code:?} {words}");
    let (code, _, words) = run(&daemon, "inject add inject://m0?op=reed");
    assert!(code == Some(6) && words.contains("`op` cannot be `reed`"), "{code:?} {words}");
    daemon.end(Signal::SIGTERM);
}

#[test]
fn events_as_they_were_and_as_they_come() {
    let daemon = Daemon::start(&["--bdev", "null:///n0?size_mb=8"]);
    let seen = done(&daemon, "events");
    assert!(row(&seen, "bdev_register").contains("n0"), "{seen}");
    let mut child = Command::new(BINARY)
        .args(["events", "--follow", "--from", "1", "-o", "json", "-r"])
        .arg(daemon.socket())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    daemon.call("bdev_null_resize", json!({ "name": "n0", "new_size": 9 }));
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    output.read_line(&mut line).expect("a line");
    let event: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&event["id"], &event["type"]), (&json!(1), &json!("bdev_resize")));
    daemon.end(Signal::SIGTERM);
    assert_eq!(child.wait().expect("it ends").code(), Some(1), "the daemon has gone");
}

#[test]
fn without_a_daemon_there_is_a_word() {
    let dir = tempfile::tempdir().expect("a directory");
    for line in ["pool list", "stats reactor", "events", "top -n 1"] {
        let mut command = Command::new(BINARY);
        let socket = dir.path().join("none.sock");
        let output = command.args(line.split_whitespace()).arg("-r").arg(&socket).output();
        let (code, words) = told(output.expect("the binary runs"));
        assert!(code == Some(5) && words.contains("none.sock"), "{line}: {code:?} {words}");
    }
}

#[test]
fn completions_and_manual_pages() {
    let bash =
        Command::new(BINARY).args(["completions", "bash"]).output().expect("the binary runs");
    assert!(bash.status.success() && String::from_utf8_lossy(&bash.stdout).contains("complete "));
    let man = Command::new(BINARY).arg("man").output().expect("the binary runs");
    assert!(man.status.success() && String::from_utf8_lossy(&man.stdout).contains(".TH IO-ENGINE"));
}
