//! Two daemons and the load generator over NVMe/TCP: what one exports, the other attaches.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{BINARY, Daemon};

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const HOST: &str = "nqn.2016-06.io.spdk:host1";
/// How often a state is asked for until it is as expected; the harness ends a test long before.
const LOOKS: usize = 20_000;

/// A daemon that exports its devices on `listeners` free ports; returns their addresses.
fn target(devices: &[&str], listeners: usize) -> (Daemon, Vec<Value>) {
    let args: Vec<&str> = devices.iter().flat_map(|&uri| ["--bdev", uri]).collect();
    let daemon = Daemon::start(&args);
    daemon.call("nvmf_create_transport", json!({"trtype": "TCP"}));
    let subsystem = json!({"nqn": NQN, "allow_any_host": true, "ana_reporting": true});
    daemon.call("nvmf_create_subsystem", subsystem);
    for name in daemon.names() {
        daemon.call("nvmf_subsystem_add_ns", json!({"nqn": NQN, "namespace": {"bdev_name": name}}));
    }
    let anywhere = json!({"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "0"});
    for _ in 0..listeners {
        let params = json!({"nqn": NQN, "listen_address": anywhere});
        daemon.call("nvmf_subsystem_add_listener", params);
    }
    let shown = daemon.call("nvmf_get_subsystems", json!({"nqn": NQN}));
    let addresses = shown[0]["listen_addresses"].as_array().expect("addresses").clone();
    (daemon, addresses)
}

/// The parameters that attach to an address.
fn attach(address: &Value) -> Value {
    json!({"name": "c", "trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": address["trsvcid"],
        "subnqn": NQN, "hostnqn": HOST})
}

fn port(address: &Value) -> &str {
    address["trsvcid"].as_str().expect("a port")
}

/// Asks until the answer is as it should be.
fn until(what: &str, mut ask: impl FnMut() -> bool) {
    assert!((0..LOOKS).any(|_| ask()), "{what} has not come");
}

#[test]
fn namespaces_become_devices_and_hosts_are_seen() {
    let (target, at) = target(&["malloc:///m?size_mb=1", "null:///n?size_mb=2"], 1);
    let host = Daemon::start(&[]);
    let mut params = attach(&at[0]);
    params["hdgst"] = true.into();
    params["ddgst"] = true.into();
    let attached = host.call("bdev_nvme_attach_controller", params.clone());
    assert_eq!(attached, json!(["cn1", "cn2"]));
    let (near, far) =
        (host.call("bdev_get_bdevs", Value::Null), target.call("bdev_get_bdevs", Value::Null));
    for index in 0..2 {
        for name in ["uuid", "num_blocks", "block_size", "write_cache"] {
            assert_eq!(near[index][name], far[index][name], "{name}");
        }
    }
    let controllers = host.call("bdev_nvme_get_controllers", json!({"name": "c"}));
    let path = &controllers[0]["ctrlrs"][0];
    assert_eq!((&path["state"], &path["hdgst"]), (&json!("enabled"), &json!(true)));
    assert_eq!(path["trid"]["subnqn"], NQN);
    assert_eq!(path["host"]["nqn"], HOST);
    assert_eq!(controllers[0]["bdevs"], attached);

    let seen = target.call("nvmf_subsystem_get_controllers", json!({"nqn": NQN}));
    assert_eq!((&seen[0]["hostnqn"], &seen[0]["cntrltype"]), (&json!(HOST), &json!("io")));
    assert_eq!((&seen[0]["cntlid"], &seen[0]["hostid"]), (&path["cntlid"], &path["hostid"]));
    let queues = target.call("nvmf_subsystem_get_qpairs", json!({"nqn": NQN}));
    assert_eq!((&queues[0]["qid"], &queues[0]["listen_address"]), (&json!(0), &at[0]));
    assert_eq!(queues[0]["peer_address"]["traddr"], "127.0.0.1");

    let again = host.refuses("bdev_nvme_attach_controller", params);
    assert!(again.0 == -114 && again.1.contains("'c'"), "{again:?}");
    let late = host.refuses("bdev_nvme_set_options", json!({}));
    assert!(late.0 == -1 && late.1.contains("before a controller is attached"), "{late:?}");
    assert_eq!(host.call("bdev_nvme_reset_controller", json!({"name": "c"})), true);
    let elsewhere = json!({"name": "c", "trsvcid": "1"});
    assert_eq!(host.refuses("bdev_nvme_detach_controller", elsewhere).0, -6);
    let fits = json!({"name": "c", "trtype": "tcp", "trsvcid": port(&at[0])});
    assert_eq!(host.call("bdev_nvme_detach_controller", fits), true);
    assert!(host.names().is_empty());
    until("the host's end", || {
        target.call("nvmf_subsystem_get_controllers", json!({"nqn": NQN})) == json!([])
    });
    let stats = target.call("nvmf_get_stats", Value::Null)["poll_groups"][0].clone();
    assert_eq!(stats["current_admin_qpairs"], 0);
    assert!(stats["admin_qpairs"].as_u64() >= Some(1), "{stats}");
}

#[test]
fn hosts_follow_what_the_target_does() {
    let (target, at) = target(&["malloc:///m?size_mb=1", "null:///n?size_mb=1"], 1);
    let host = Daemon::start(&[]);
    host.call("bdev_nvme_attach_controller", attach(&at[0]));
    target.call("bdev_null_resize", json!({"name": "n", "new_size": 3}));
    until("the new size", || {
        host.call("bdev_get_bdevs", json!({"name": "cn2"}))[0]["num_blocks"] == 6144
    });
    target.call("nvmf_subsystem_remove_ns", json!({"nqn": NQN, "nsid": 1}));
    until("the removal", || host.names() == ["cn2"]);
    target.call(
        "nvmf_subsystem_add_ns",
        json!({"nqn": NQN, "namespace": {"bdev_name": "m", "nsid": 5}}),
    );
    until("the addition", || host.names() == ["cn2", "cn5"]);
    // A host that may not connect any more is disconnected, and kept out.
    target.call("nvmf_subsystem_allow_any_host", json!({"nqn": NQN, "allow_any_host": false}));
    assert_eq!(target.call("nvmf_subsystem_get_controllers", json!({"nqn": NQN})), json!([]));
    let state = || {
        let shown = host.call("bdev_nvme_get_controllers", json!({"name": "c"}));
        shown[0]["ctrlrs"][0]["state"].clone()
    };
    until("the loss", || state() == "failed");
    assert_eq!(host.names(), ["cn2", "cn5"], "given up, and kept until it is detached");
    let other = Daemon::start(&[]);
    let refused = other.refuses("bdev_nvme_attach_controller", attach(&at[0]));
    assert_eq!(refused.0, -5, "{refused:?}");
    target.call("nvmf_subsystem_add_host", json!({"nqn": NQN, "host": HOST}));
    let attached = other.call("bdev_nvme_attach_controller", attach(&at[0]));
    assert_eq!(attached, json!(["cn2", "cn5"]));
    target.call("nvmf_subsystem_remove_host", json!({"nqn": NQN, "host": HOST}));
    assert_eq!(target.call("nvmf_subsystem_get_qpairs", json!({"nqn": NQN})), json!([]));
}

#[test]
fn options_are_those_of_the_controller_else_those_that_were_set() {
    let (_target, at) = target(&["null:///n?size_mb=1"], 1);
    let host = Daemon::start(&[]);
    let set = json!({"timeout_us": 5_000_000, "timeout_admin_us": 6_000_000,
        "action_on_timeout": "reset", "keep_alive_timeout_ms": 7000, "transport_retry_count": 2,
        "ctrlr_loss_timeout_sec": 30, "reconnect_delay_sec": 2, "fast_io_fail_timeout_sec": 9});
    assert_eq!(host.call("bdev_nvme_set_options", set.clone()), true);
    // What a later call leaves out stays.
    assert_eq!(host.call("bdev_nvme_set_options", json!({"transport_retry_count": 3})), true);
    let mut params = attach(&at[0]);
    params["fast_io_fail_timeout_sec"] = 10.into();
    host.call("bdev_nvme_attach_controller", params);
    let shown = host.call("bdev_nvme_get_controllers", Value::Null)[0]["ctrlrs"][0].clone();
    for (name, value) in set.as_object().expect("members") {
        let value = match name.as_str() {
            "transport_retry_count" => &json!(3),
            "fast_io_fail_timeout_sec" => &json!(10),
            _ => value,
        };
        assert_eq!(&shown[name], value, "{name}");
    }
}

#[test]
fn a_uri_is_one_namespace() {
    let (target, at) = target(&["malloc:///m?size_mb=1", "null:///n?size_mb=2"], 1);
    let host = Daemon::start(&[]);
    let uri = format!("nvmf://localhost:{}/{NQN}", port(&at[0]));
    let (code, words) = host.refuses("bdev_create", json!({ "uri": uri }));
    assert!(code == -22 && words.ends_with("the subsystem has the namespaces 1, 2"), "{words}");
    assert!(host.names().is_empty(), "nothing stays attached");
    let chosen = format!("{uri}?ns=2&name=far");
    assert_eq!(host.call("bdev_create", json!({ "uri": chosen })), "farn2");
    let size = host.call("bdev_get_bdevs", json!({"name": "farn2"}))[0]["num_blocks"].clone();
    assert_eq!(size, 4096);
    assert_eq!(host.call("bdev_destroy", json!({"name": "farn2"})), true);
    assert!(host.names().is_empty(), "the controller is detached");
    target.call("nvmf_subsystem_remove_ns", json!({"nqn": NQN, "nsid": 2}));
    let name = format!("localhost:{}/{NQN}n1", port(&at[0]));
    let tcp = uri.replace("nvmf:", "nvmf+tcp:");
    assert_eq!(host.call("bdev_create", json!({ "uri": tcp })), name.as_str());
    target.end(Signal::SIGTERM);
    host.end(Signal::SIGTERM);
}

#[test]
fn a_namespace_that_others_need_is_not_detached() {
    let (_target, at) = target(&["malloc:///m?size_mb=1", "null:///n?size_mb=2"], 1);
    let host = Daemon::start(&[]);
    host.call("bdev_nvme_attach_controller", attach(&at[0]));
    // What was attached can be exported again, and is claimed then.
    host.call("nvmf_create_transport", json!({"trtype": "TCP"}));
    host.call("nvmf_create_subsystem", json!({"nqn": NQN}));
    host.call("nvmf_subsystem_add_ns", json!({"nqn": NQN, "namespace": {"bdev_name": "cn2"}}));
    let (code, words) = host.refuses("bdev_destroy", json!({"name": "cn1"}));
    assert!(code == -16 && words.contains("controller 'c', of which cn2 is in use"), "{words}");
    assert_eq!(host.names(), ["cn1", "cn2"]);
    host.end(Signal::SIGTERM);
}

#[test]
fn paths_have_the_states_of_their_listeners() {
    let (target, at) = target(&["malloc:///m?size_mb=1"], 2);
    let host = Daemon::start(&[]);
    for address in &at {
        let names = host.call("bdev_nvme_attach_controller", attach(address));
        assert_eq!(names, json!(["cn1"]));
    }
    let paths = || {
        let shown = host.call("bdev_nvme_get_io_paths", json!({"name": "cn1"}));
        shown["poll_groups"][0]["io_paths"].as_array().expect("paths").clone()
    };
    assert_eq!(paths().len(), 2);
    assert!(paths().iter().all(|path| path["accessible"] == true && path["connected"] == true));
    let state = json!({"nqn": NQN, "listen_address": at[0], "ana_state": "inaccessible"});
    target.call("nvmf_subsystem_listener_set_ana_state", state);
    until("the state", || {
        paths().iter().all(|path| {
            let first = path["transport"]["trsvcid"] == at[0]["trsvcid"];
            path["accessible"] == !first
        })
    });
    let policy = json!({"name": "cn1", "policy": "active_active", "selector": "queue_depth"});
    assert_eq!(host.call("bdev_nvme_set_multipath_policy", policy), true);
    let gone = json!({"nqn": NQN, "listen_address": at[0]});
    target.call("nvmf_subsystem_remove_listener", gone);
    until("the loss of a path", || paths().iter().filter(|p| p["connected"] == true).count() == 1);
    assert_eq!(host.names(), ["cn1"]);
}

#[test]
fn what_a_discovery_service_names_is_attached() {
    let (_target, at) = target(&["malloc:///m?size_mb=1"], 1);
    let host = Daemon::start(&[]);
    let start = json!({"name": "d", "trtype": "TCP", "traddr": "127.0.0.1",
        "trsvcid": port(&at[0]), "hostnqn": HOST, "wait_for_attach": true});
    assert_eq!(host.call("bdev_nvme_start_discovery", start.clone()), true);
    assert_eq!(host.names(), ["d0n1"]);
    assert_eq!(host.refuses("bdev_nvme_start_discovery", start).0, -114);
    let info = host.call("bdev_nvme_get_discovery_info", Value::Null);
    assert_eq!((&info[0]["name"], &info[0]["trid"]["trtype"]), (&json!("d"), &json!("TCP")));
    assert_eq!(info[0]["subsystems"][0]["trid"]["subnqn"], NQN);
    assert_eq!(host.call("bdev_nvme_stop_discovery", json!({"name": "d"})), true);
    assert!(host.names().is_empty());
    assert_eq!(host.call("bdev_nvme_get_discovery_info", Value::Null), json!([]));
}

#[test]
fn data_come_back_as_they_were_written() {
    let (target, at) = target(&["malloc:///m?size_mb=4"], 1);
    for digests in ["hdgst=0&ddgst=0", "hdgst=1&ddgst=1"] {
        let uri = format!("nvmf://127.0.0.1:{}/{NQN}?{digests}", port(&at[0]));
        let perf = Command::new(BINARY)
            .args(["perf", &uri, "-w", "verify", "-q", "8", "-o", "4k", "-t", "1"])
            .args(["--no-huge", "-s", "16"])
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs");
        let (out, error) =
            (String::from_utf8_lossy(&perf.stdout), String::from_utf8_lossy(&perf.stderr));
        assert_eq!(perf.status.code(), Some(0), "{digests}: {out}\n{error}");
    }
    let stats = target.call("nvmf_get_stats", Value::Null)["poll_groups"][0].clone();
    assert!(stats["bytes_written"].as_u64() > Some(4 << 20), "{stats}");
    assert_eq!((&stats["errors"], &stats["pending_bdev_io"]), (&json!(0), &json!(0)), "{stats}");
}

#[test]
fn a_daemon_that_is_its_own_host_ends_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = format!("aio://{}?size_mb=64&name=disk", dir.path().join("disk").display());
    let daemon = Daemon::start(&["--bdev", &disk]);
    daemon.call("nvmf_create_transport", json!({"trtype": "TCP"}));
    // The disk is exported, attached here, exported again and attached again; a pool is on that.
    let (outer, mut device) = ("nqn.2016-06.io.spdk:outer", "disk".to_owned());
    for (nqn, name, uuid) in [(NQN, "a", 1), (outer, "b", 2)] {
        daemon.call("nvmf_create_subsystem", json!({"nqn": nqn, "allow_any_host": true}));
        // There is one device of a UUID.
        let uuid = format!("00000000-0000-4000-8000-00000000000{uuid}");
        let namespace = json!({"bdev_name": device, "uuid": uuid});
        daemon.call("nvmf_subsystem_add_ns", json!({"nqn": nqn, "namespace": namespace}));
        let anywhere = json!({"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "0"});
        let listener = json!({"nqn": nqn, "listen_address": anywhere});
        daemon.call("nvmf_subsystem_add_listener", listener);
        let shown = daemon.call("nvmf_get_subsystems", json!({"nqn": nqn}));
        let mut params = attach(&shown[0]["listen_addresses"][0]);
        params["name"] = name.into();
        params["subnqn"] = nqn.into();
        device = format!("{name}n1");
        assert_eq!(daemon.call("bdev_nvme_attach_controller", params), json!([device]));
    }
    daemon.call("pool_create", json!({"name": "p", "disk": format!("bdev:///{device}")}));
    daemon.call("bdev_lvol_create", json!({"lvs_name": "p", "lvol_name": "v", "size_in_mib": 8}));
    let log = daemon.end(Signal::SIGTERM);
    let at = |words: &str| log.find(words).unwrap_or_else(|| panic!("no '{words}' in {log}"));
    let flushed = |name: &str| at(&format!("device '{name}' is flushed"));
    let target = at("the NVMe-oF target has ended");
    assert!(flushed("bn1") < flushed("an1") && flushed("an1") < target, "{log}");
    assert!(target < flushed("disk"), "{log}");
}
