//! The NVMe initiator's methods without a target: what is refused, and how.

use std::net::TcpListener;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::harness::Daemon;

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const INVALID_PARAMS: i64 = -32602;

fn controller() -> Value {
    json!({"name": "c", "trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "1", "subnqn": NQN})
}

fn with(mut params: Value, name: &str, value: Value) -> Value {
    params[name] = value;
    params
}

#[test]
fn parameters_are_refused_by_name() {
    let daemon = Daemon::start(&[]);
    let with = |name: &str, value: Value| with(controller(), name, value);
    let attach = "bdev_nvme_attach_controller";
    for (method, params, words) in [
        (attach, json!({}), "`name` is missing"),
        (attach, json!({"name": "c", "trtype": "TCP", "traddr": "::1"}), "`trsvcid` is missing"),
        (attach, with("trtype", json!("RDMA")), "`trtype` cannot be \"RDMA\""),
        (attach, with("adrfam", json!("IPv6")), "`traddr` cannot be \"127.0.0.1\""),
        (attach, with("adrfam", json!("")), "`adrfam` cannot be \"\""),
        (attach, with("traddr", json!("localhost")), "`traddr` cannot be \"localhost\""),
        (attach, with("trsvcid", json!("0")), "`trsvcid` cannot be \"0\""),
        (attach, with("trsvcid", json!(4420)), "`trsvcid` cannot be 4420"),
        (attach, with("subnqn", json!("disk")), "`subnqn` cannot be \"disk\""),
        (attach, with("hostnqn", json!("me")), "`hostnqn` cannot be \"me\""),
        (attach, with("hostaddr", json!("::1")), "`hostaddr` cannot be \"::1\""),
        (attach, with("hostsvcid", json!("1")), "it needs `hostaddr`"),
        (attach, with("hdgst", json!(1)), "`hdgst` cannot be 1: it has to be true or false"),
        (attach, with("multipath", json!("both")), "one of disable, failover, multipath"),
        (attach, with("num_io_queues", json!(0)), "`num_io_queues` cannot be 0"),
        (attach, with("ctrlr_loss_timeout_sec", json!(-2)), "`ctrlr_loss_timeout_sec`"),
        (attach, with("prchk_guard", json!(true)), "`prchk_guard` cannot be true"),
        (attach, with("psk", json!("secret")), "`psk` is not supported: there is no TLS yet"),
        (attach, with("dhchap_key", json!("secret")), "`dhchap_key` is not supported"),
        (attach, with("priority", json!("high")), "`priority` cannot be \"high\""),
        (attach, with("colour", json!(1)), "unknown parameter `colour`"),
        ("bdev_nvme_detach_controller", json!({}), "`name` is missing"),
        ("bdev_nvme_reset_controller", json!({"name": "c", "cntlid": 65536}), "`cntlid` cannot"),
        ("bdev_nvme_set_options", json!({"action_on_timeout": "x"}), "one of none, reset, abort"),
        ("bdev_nvme_set_options", json!({"transport_retry_count": 256}), "from 0 to 255"),
        ("bdev_nvme_set_options", json!({"rdma_srq_size": 5}), "there is no RDMA transport"),
        (
            "bdev_nvme_set_multipath_policy",
            json!({"name": "n", "policy": "active_passive", "selector": "queue_depth"}),
            "`selector` cannot be \"queue_depth\"",
        ),
        (
            "bdev_nvme_start_discovery",
            json!({"name": "d", "trtype": "TCP", "traddr": "::1", "trsvcid": "8009",
                "wait_for_attach": false, "attach_timeout_ms": 5}),
            "`attach_timeout_ms` cannot be 5",
        ),
        (
            "bdev_create",
            json!({"uri": format!("nvmf://127.0.0.1/{NQN}?hdigest=1")}),
            "unknown parameter `hdigest` for `nvmf:`; allowed are ns, name, hostnqn",
        ),
        ("bdev_create", json!({"uri": "nvmf://127.0.0.1/disk"}), "not an NVMe qualified name"),
    ] {
        let shown = format!("{method} {params}");
        let (code, message) = daemon.refuses(method, params);
        assert_eq!(code, INVALID_PARAMS, "{shown}: {message}");
        assert!(message.contains(words), "{shown}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
    assert!(daemon.names().is_empty());
}

#[test]
fn operations_are_refused_with_spdks_codes() {
    let daemon = Daemon::start(&[]);
    for (method, params, code, words) in [
        ("bdev_nvme_detach_controller", json!({"name": "c"}), -19, "no NVMe controller 'c'"),
        (
            "bdev_nvme_detach_controller",
            json!({"name": "c", "traddr": "::1"}),
            -19,
            "no NVMe controller 'c'",
        ),
        ("bdev_nvme_reset_controller", json!({"name": "c"}), -19, "no NVMe controller 'c'"),
        ("bdev_nvme_get_controllers", json!({"name": "c"}), -19, "no NVMe controller 'c'"),
        ("bdev_nvme_stop_discovery", json!({"name": "c"}), -19, "'c'"),
        (
            "bdev_nvme_set_options",
            json!({"reconnect_delay_sec": 5}),
            -22,
            "without a loss time-out",
        ),
    ] {
        let shown = format!("{method} {params}");
        let (got, message) = daemon.refuses(method, params);
        assert_eq!(got, code, "{shown}: {message}");
        assert!(message.contains(words), "{shown}: {message}");
    }
    let options = json!({"timeout_us": 1_000_000, "action_on_timeout": "abort",
        "keep_alive_timeout_ms": 5000, "ctrlr_loss_timeout_sec": 30, "reconnect_delay_sec": 2});
    assert_eq!(daemon.call("bdev_nvme_set_options", options), true);
    for method in ["bdev_nvme_get_controllers", "bdev_nvme_get_discovery_info"] {
        assert_eq!(daemon.call(method, Value::Null), json!([]));
    }
    let paths = daemon.call("bdev_nvme_get_io_paths", Value::Null);
    assert_eq!(paths["poll_groups"][0]["io_paths"], json!([]));
}

#[test]
fn a_target_that_is_not_there_is_named() {
    let daemon = Daemon::start(&[]);
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let mut params = controller();
    params["trsvcid"] = free.port().to_string().into();
    let (code, words) = daemon.refuses("bdev_nvme_attach_controller", params);
    assert!(code == -5 && words.contains(&free.to_string()), "{code} {words}");
    let uri = format!("nvmf://localhost:{}/{NQN}", free.port());
    let (code, words) = daemon.refuses("bdev_create", json!({ "uri": uri }));
    assert!(code == -5 && words.contains("cannot connect to"), "{code} {words}");
    assert!(daemon.names().is_empty());
    assert_eq!(daemon.call("bdev_nvme_get_controllers", Value::Null), json!([]));
}

/// An address that no machine has, so that nothing of this one is touched.
const NOWHERE: &str = "ffff:ff:1f.7";

#[test]
fn hot_plug_is_switched_and_saved() {
    if !std::path::Path::new("/sys/bus/pci/devices").exists() {
        println!("skipped: this machine shows no PCI bus");
        return;
    }
    let set = |daemon: &Daemon, params: Value| daemon.call("bdev_nvme_set_hotplug", params);
    let saved = |daemon: &Daemon| {
        let calls = daemon.call("framework_get_config", json!({"name": "bdev"}));
        let of_hotplug = |call: &&Value| call["method"] == "bdev_nvme_set_hotplug";
        calls.as_array().expect("calls").iter().find(of_hotplug).cloned()
    };
    let daemon = Daemon::start(&["-A", NOWHERE]);
    assert_eq!(saved(&daemon), None);
    assert_eq!(set(&daemon, json!({"enable": true, "period_us": 20_000})), true);
    let params = json!({"enable": true, "period_us": 20_000});
    assert_eq!(saved(&daemon).expect("it is on")["params"], params);
    assert_eq!(set(&daemon, json!({"enable": true})), true);
    assert_eq!(saved(&daemon).expect("it is on")["params"], json!({"enable": true}));
    assert_eq!(daemon.call("bdev_nvme_get_controllers", Value::Null), json!([]));
    let path = daemon.dir.path().join("hotplug.json");
    daemon.call("save_config", json!({"filename": path}));
    let again = Daemon::start(&["-A", NOWHERE, "--json", &path.display().to_string()]);
    assert!(saved(&again).is_some(), "it is on after a restart");
    assert_eq!(set(&daemon, json!({"enable": false})), true);
    assert_eq!(saved(&daemon), None);
    for (params, words) in [
        (json!({}), "`enable` is missing"),
        (json!({"enable": "yes"}), "`enable` cannot be"),
        (json!({"enable": true, "period_us": 10_000_001}), "`period_us` cannot be 10000001"),
    ] {
        let (code, message) = daemon.refuses("bdev_nvme_set_hotplug", params);
        assert!(code == INVALID_PARAMS && message.contains(words), "{message}");
    }
    again.end(Signal::SIGTERM);
    daemon.end(Signal::SIGTERM);
}

#[test]
fn a_controller_that_is_not_to_be_used_is_refused() {
    let local = json!({"name": "c", "trtype": "PCIe", "traddr": "0000:01:00.0"});
    for (option, words) in
        [("-A", "is not among those that are allowed"), ("-B", "is blocked (--pci-blocked)")]
    {
        let address = if option == "-A" { NOWHERE } else { "01:00.0" };
        let daemon = Daemon::start(&[option, address]);
        let (code, message) = daemon.refuses("bdev_nvme_attach_controller", local.clone());
        assert!(code == -1 && message.contains(words), "{code}: {message}");
        let uri = json!({"uri": "pcie:///0000:01:00.0/1"});
        let (code, message) = daemon.refuses("bdev_create", uri);
        assert!(code == -1 && message.contains(words), "{code}: {message}");
        daemon.end(Signal::SIGTERM);
    }
}

#[test]
fn an_attachment_that_hangs_ends_with_the_daemon() {
    let daemon = Daemon::start(&[]);
    // Takes connections, and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = mute.local_addr().expect("an address").port().to_string();
    let params = with(controller(), "trsvcid", json!(port));
    let pid = daemon.pid();
    let connected = std::thread::spawn(move || {
        let connection = mute.accept().expect("a connection");
        kill(pid, Signal::SIGTERM).expect("the daemon lives");
        connection
    });
    let (_, message) = daemon.refuses("bdev_nvme_attach_controller", params);
    assert!(message.contains("detaching"), "{message}");
    drop(connected.join().expect("a connection"));
    let (status, log, _dir) = daemon.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}
