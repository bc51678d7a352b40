//! The end of the daemon, and the sub-commands that talk to it.

use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::harness::{BINARY, Daemon};

const FAILURE: i32 = 1;
const UNREACHABLE: i32 = 5;
const REFUSED: i32 = 6;

#[test]
fn signals_end_it_in_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=1"]);
        let log = daemon.end(signal);
        assert!(log.contains(&format!("{signal}: ending")) && log.contains(": ended"), "{log}");
    }
}

#[test]
fn it_can_be_asked_to_end_itself() {
    for signal in ["SIGTERM", "SIGINT"] {
        let daemon = Daemon::start(&[]);
        assert_eq!(daemon.call("spdk_kill_instance", json!({ "sig_name": signal })), true);
        let (status, log, _dir) = daemon.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut daemon = Daemon::start(&["-L", "trace"]);
    let socket = daemon.socket().to_owned();
    std::thread::scope(|scope| {
        // A call under way delays the orderly end.
        let call = scope.spawn(move || {
            let params = json!({"name": "never", "timeout": 60_000});
            let patience = std::time::Duration::from_secs(60);
            jsonrpc::client::blocking::call(&socket, "bdev_get_bdevs", Some(params), patience)
        });
        daemon.wait_for("bdev_get_bdevs");
        daemon.signal(Signal::SIGTERM);
        daemon.wait_for("SIGTERM: ending");
        daemon.signal(Signal::SIGTERM);
        let (status, log, _dir) = daemon.wait();
        assert_eq!(status.code(), Some(FAILURE), "{log}");
        assert!(log.contains("a second signal: ended at once"), "{log}");
        assert!(call.join().expect("no panic").is_err(), "the call is cut off");
    });
}

/// Runs the binary's sub-command: exit code, standard output, standard error.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY).args(args).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn sub_commands_talk_to_it() {
    let daemon = Daemon::start(&[]);
    let socket = daemon.socket().to_str().expect("text");

    let (code, out, _) = run(&["bdev", "-r", socket, "create", "malloc:///m?size_mb=1"]);
    assert_eq!((code, out.as_str()), (Some(0), "m\n"));
    let (code, out, _) = run(&["bdev", "-r", socket, "list"]);
    assert!(code == Some(0) && out.contains("m ") && out.contains("Malloc disk"), "{out}");
    let (_, out, _) = run(&["bdev", "-r", socket, "list", "m", "-o", "json"]);
    let list: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(list[0]["name"], "m");

    let (code, out, _) = run(&["rpc", "-r", socket, "bdev_get_bdevs", r#"{"name": "m"}"#]);
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), list);
    let (code, out, err) = run(&["rpc", "-r", socket, "bdev_get_bdevs", r#"{"name": "x"}"#]);
    assert_eq!((code, out.as_str()), (Some(REFUSED), ""));
    assert!(err.contains("bdev_get_bdevs: there is no device 'x' (code -19)"), "{err}");

    assert_eq!(run(&["bdev", "-r", socket, "destroy", "m"]).0, Some(0));
    let (code, _, err) = run(&["bdev", "-r", socket, "destroy", "m"]);
    assert!(code == Some(REFUSED) && err.contains("there is no device 'm'"), "{err}");
    let (code, _, err) = run(&["rpc", "-r", socket, "melt"]);
    assert!(code == Some(REFUSED) && err.contains("Method not found"), "{err}");
}

#[test]
fn sub_commands_say_when_nobody_answers() {
    let dir = tempdir().expect("a directory");
    let socket = dir.path().join("s");
    let socket = socket.to_str().expect("text");
    for args in [&["rpc", "-r", socket, "rpc_get_methods"][..], &["bdev", "-r", socket, "list"]] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (Some(UNREACHABLE), ""), "{err}");
        assert!(err.contains("no daemon answers at"), "{err}");
    }
}
