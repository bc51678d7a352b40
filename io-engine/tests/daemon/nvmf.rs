//! The NVMe-oF target's methods: results, refusals, and what the configuration file and the end do.

use std::net::TcpStream;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{BINARY, Daemon, told};

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
const HOST: &str = "nqn.2016-06.io.spdk:host1";
const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";
const INVALID_PARAMS: i64 = -32602;
const INTERNAL_ERROR: i64 = -32603;

/// A listen address with any free port.
fn anywhere() -> Value {
    json!({"trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": "0"})
}

/// A daemon with two devices, the transport and a subsystem.
fn target() -> Daemon {
    let devices = ["--bdev", "malloc:///m?size_mb=1", "--bdev", "null:///n?size_mb=1"];
    let daemon = Daemon::start(&devices);
    assert_eq!(daemon.call("nvmf_create_transport", json!({"trtype": "tcp"})), true);
    let subsystem = json!({"nqn": NQN, "serial_number": "S1", "ana_reporting": true});
    assert_eq!(daemon.call("nvmf_create_subsystem", subsystem), true);
    daemon
}

/// Adds a listener on a free port and returns its address as it is shown.
fn listen(daemon: &Daemon, nqn: &str) -> Value {
    let params = json!({"nqn": nqn, "listen_address": anywhere()});
    assert_eq!(daemon.call("nvmf_subsystem_add_listener", params), true);
    let listeners = daemon.call("nvmf_subsystem_get_listeners", json!({"nqn": nqn}));
    let last = listeners.as_array().and_then(|all| all.last()).expect("a listener");
    last["address"].clone()
}

/// The one subsystem that the tests make.
fn subsystem(daemon: &Daemon) -> Value {
    daemon.call("nvmf_get_subsystems", json!({"nqn": NQN}))[0].clone()
}

/// Whether something accepts connections at an address.
fn accepts(address: &Value) -> bool {
    let port: u16 = address["trsvcid"].as_str().expect("text").parse().expect("a port");
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn looking_starts_nothing() {
    let daemon = Daemon::start(&[]);
    assert_eq!(daemon.call("nvmf_get_targets", Value::Null), json!(["nvmf_tgt"]));
    assert_eq!(daemon.call("nvmf_get_transports", Value::Null), json!([]));
    let discovery = json!({"nqn": DISCOVERY, "subtype": "Discovery", "listen_addresses": [],
        "allow_any_host": true, "hosts": []});
    assert_eq!(daemon.call("nvmf_get_subsystems", Value::Null), json!([discovery]));
    assert_eq!(daemon.call("nvmf_get_stats", Value::Null)["poll_groups"], json!([]));
    assert_eq!(daemon.call("nvmf_discovery_get_referrals", Value::Null), json!([]));
    // So that limits can still be set.
    assert_eq!(daemon.call("nvmf_set_max_subsystems", json!({"max_subsystems": 1})), true);
    let transport = json!({"trtype": "TCP", "max_io_qpairs_per_ctrlr": 3});
    assert_eq!(daemon.call("nvmf_create_transport", transport), true);
    let late = daemon.refuses("nvmf_set_max_subsystems", json!({"max_subsystems": 2}));
    assert!(late.0 == -1 && late.1.contains("the target has started"), "{late:?}");
    let shown = daemon.call("nvmf_get_subsystems", Value::Null);
    assert_eq!(shown, json!([discovery]), "the same when it is started");
    assert_eq!(daemon.call("nvmf_create_subsystem", json!({"nqn": NQN})), true);
    let full = daemon.refuses("nvmf_create_subsystem", json!({"nqn": "nqn.2016-06.io.spdk:b"}));
    assert!(full.0 == INTERNAL_ERROR && full.1.contains("no more than 1 subsystems"), "{full:?}");
    let transports = daemon.call("nvmf_get_transports", json!({"trtype": "tcp"}));
    assert_eq!(transports[0]["max_io_qpairs_per_ctrlr"], 3);
}

#[test]
fn transports_have_spdks_defaults() {
    let daemon = target();
    let transport = daemon.call("nvmf_get_transports", Value::Null)[0].clone();
    for (name, value) in [
        ("trtype", json!("TCP")),
        ("max_queue_depth", json!(128)),
        ("max_io_qpairs_per_ctrlr", json!(127)),
        ("in_capsule_data_size", json!(4096)),
        ("max_io_size", json!(131_072)),
        ("io_unit_size", json!(131_072)),
        ("c2h_success", json!(true)),
        ("zcopy", json!(true)),
        ("sock_priority", json!(0)),
        ("association_timeout", json!(120_000)),
        ("connections", json!(0)),
    ] {
        assert_eq!(transport[name], value, "{name}");
    }
    let stats = daemon.call("nvmf_get_stats", json!({"tgt_name": "nvmf_tgt"}));
    let group = &stats["poll_groups"][0];
    for name in ["admin_qpairs", "io_qpairs", "current_admin_qpairs", "current_io_qpairs"] {
        assert_eq!(group[name], 0, "{name}");
    }
    assert_eq!(group["transports"], json!([{"trtype": "TCP"}]));
    assert!(group["name"].as_str().expect("text").starts_with("reactor_"));
}

#[test]
fn options_of_a_transport_are_kept() {
    let daemon = Daemon::start(&[]);
    let options = json!({"trtype": "TCP", "max_queue_depth": 64, "in_capsule_data_size": 8192,
        "max_io_size": 65536, "io_unit_size": 16384, "num_shared_buffers": 100,
        "c2h_success": false, "zcopy": false, "sock_priority": 3, "ack_timeout": 5000,
        "association_timeout": 7000, "dif_insert_or_strip": false, "max_aq_depth": 32});
    assert_eq!(daemon.call("nvmf_create_transport", options.clone()), true);
    let shown = daemon.call("nvmf_get_transports", Value::Null)[0].clone();
    for (name, value) in options.as_object().expect("members") {
        assert_eq!(&shown[name], value, "{name}");
    }
}

#[test]
fn a_subsystem_has_what_it_is_given() {
    let daemon = target();
    let (nguid, eui64) = ("0123456789ABCDEF0123456789ABCDEF", "0123456789ABCDEF");
    let uuid = "0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60";
    let ns = json!({"bdev_name": "m", "nsid": 3, "nguid": nguid, "eui64": eui64, "uuid": uuid,
        "anagrpid": 2});
    let params = json!({"nqn": NQN, "namespace": ns});
    assert_eq!(daemon.call("nvmf_subsystem_add_ns", params), 3);
    let least = json!({"nqn": NQN, "namespace": {"bdev_name": "n"}});
    assert_eq!(daemon.call("nvmf_subsystem_add_ns", least), 1, "the lowest that is free");
    assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "m"}))[0]["claimed"], true);
    let host = json!({"nqn": NQN, "host": HOST});
    assert_eq!(daemon.call("nvmf_subsystem_add_host", host.clone()), true);
    let shown = subsystem(&daemon);
    for (name, value) in [
        ("subtype", json!("NVMe")),
        ("serial_number", json!("S1")),
        ("model_number", json!("io-engine Controller")),
        ("max_namespaces", json!(32)),
        ("min_cntlid", json!(1)),
        ("max_cntlid", json!(65519)),
        ("allow_any_host", json!(false)),
        ("hosts", json!([{"nqn": HOST}])),
        ("listen_addresses", json!([])),
    ] {
        assert_eq!(shown[name], value, "{name}");
    }
    let third = &shown["namespaces"][1];
    for (name, value) in [
        ("nsid", json!(3)),
        ("bdev_name", json!("m")),
        ("name", json!("m")),
        ("nguid", json!(nguid)),
        ("eui64", json!(eui64)),
        ("uuid", json!(uuid)),
        ("anagrpid", json!(2)),
    ] {
        assert_eq!(third[name], value, "{name}");
    }
    let all = daemon.call("nvmf_get_subsystems", Value::Null);
    assert_eq!((&all[0]["nqn"], &all[1]["nqn"]), (&json!(DISCOVERY), &json!(NQN)));

    let any = |allow: bool| json!({"nqn": NQN, "allow_any_host": allow});
    assert_eq!(daemon.call("nvmf_subsystem_allow_any_host", any(true)), true);
    assert_eq!(subsystem(&daemon)["allow_any_host"], true);
    assert_eq!(daemon.call("nvmf_subsystem_allow_any_host", any(false)), true);
    assert_eq!(daemon.call("nvmf_subsystem_remove_host", host), true);
    let group = json!({"nqn": NQN, "nsid": 3, "anagrpid": 5});
    assert_eq!(daemon.call("nvmf_subsystem_set_ns_ana_group", group), true);
    assert_eq!(subsystem(&daemon)["namespaces"][1]["anagrpid"], 5);
    assert_eq!(daemon.call("nvmf_subsystem_remove_ns", json!({"nqn": NQN, "nsid": 3})), true);
    let shown = subsystem(&daemon);
    assert_eq!(shown["namespaces"].as_array().map(Vec::len), Some(1));
    assert_eq!(shown["hosts"], json!([]));
    assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "m"}))[0]["claimed"], false);
    for method in ["nvmf_subsystem_get_controllers", "nvmf_subsystem_get_qpairs"] {
        assert_eq!(daemon.call(method, json!({"nqn": NQN})), json!([]));
    }
    assert_eq!(daemon.call("nvmf_delete_subsystem", json!({"nqn": NQN})), true);
    assert_eq!(daemon.call("nvmf_get_subsystems", Value::Null).as_array().map(Vec::len), Some(1));
    assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "n"}))[0]["claimed"], false);
}

#[test]
fn a_subsystem_has_the_limits_it_is_given() {
    let daemon = target();
    let nqn = "nqn.2016-06.io.spdk:small";
    let given = json!({"nqn": nqn, "model_number": "M1", "max_namespaces": 1, "min_cntlid": 5,
        "max_cntlid": 9, "allow_any_host": true});
    assert_eq!(daemon.call("nvmf_create_subsystem", given.clone()), true);
    let shown = daemon.call("nvmf_get_subsystems", json!({"nqn": nqn}))[0].clone();
    for (name, value) in given.as_object().expect("members") {
        assert_eq!(&shown[name], value, "{name}");
    }
    let ns = |name: &str| json!({"nqn": nqn, "namespace": {"bdev_name": name}});
    assert_eq!(daemon.call("nvmf_subsystem_add_ns", ns("m")), 1);
    let full = daemon.refuses("nvmf_subsystem_add_ns", ns("n"));
    assert!(full.0 == INVALID_PARAMS && full.1.contains("no more than 1 namespaces"), "{full:?}");
}

#[test]
fn a_device_that_goes_takes_its_namespace_with_it() {
    let mut daemon = target();
    let ns = json!({"nqn": NQN, "namespace": {"bdev_name": "n"}});
    assert_eq!(daemon.call("nvmf_subsystem_add_ns", ns), 1);
    assert_eq!(daemon.call("bdev_destroy", json!({"name": "n"})), true);
    // The device has gone when the namespace has let it go.
    assert_eq!(daemon.names(), ["m"]);
    assert_eq!(subsystem(&daemon)["namespaces"], json!([]));
    daemon.wait_for("the RPC server listens");
}

#[test]
fn listeners_listen_until_they_are_removed() {
    let daemon = target();
    let address = listen(&daemon, NQN);
    assert!(accepts(&address), "{address}");
    assert_eq!(subsystem(&daemon)["listen_addresses"], json!([address]));
    let twice = json!({"nqn": NQN, "listen_address": address});
    let refused = daemon.refuses("nvmf_subsystem_add_listener", twice.clone());
    assert!(refused.0 == INVALID_PARAMS && refused.1.contains("exists already"), "{refused:?}");

    // Another subsystem shares the listener, and keeps it.
    let other = "nqn.2016-06.io.spdk:cnode2";
    assert_eq!(daemon.call("nvmf_create_subsystem", json!({"nqn": other})), true);
    let shared = json!({"nqn": other, "listen_address": address});
    assert_eq!(daemon.call("nvmf_subsystem_add_listener", shared.clone()), true);
    assert_eq!(daemon.call("nvmf_subsystem_remove_listener", twice), true);
    assert!(accepts(&address), "the other subsystem listens");
    assert_eq!(daemon.call("nvmf_subsystem_remove_listener", shared), true);
    assert!(!accepts(&address), "nobody listens");

    let address = listen(&daemon, NQN);
    let log = daemon.end(Signal::SIGTERM);
    assert!(!accepts(&address), "closed at the end");
    let (target, ended) = (log.find("NVMe-oF target has ended"), log.find(": ended"));
    assert!(target.is_some() && target < ended.or(Some(log.len())), "{log}");
}

#[test]
fn ana_states_are_of_a_listener_and_a_group() {
    let daemon = target();
    let address = listen(&daemon, NQN);
    let set = |state: &str, group: Option<u32>| {
        let mut params = json!({"nqn": NQN, "listen_address": address, "ana_state": state});
        if let Some(group) = group {
            params["anagrpid"] = group.into();
        }
        daemon.call("nvmf_subsystem_listener_set_ana_state", params)
    };
    assert_eq!(set("non_optimized", None), true);
    assert_eq!(set("inaccessible", Some(2)), true);
    let listeners = daemon.call("nvmf_subsystem_get_listeners", json!({"nqn": NQN}));
    let states = listeners[0]["ana_states"].as_array().expect("states");
    assert_eq!(states.len(), 32);
    assert_eq!(states[0], json!({"ana_group": 1, "ana_state": "non_optimized"}));
    assert_eq!(states[1], json!({"ana_group": 2, "ana_state": "inaccessible"}));
    let mut first = json!({"nqn": NQN, "listen_address": anywhere()});
    first["ana_state"] = "inaccessible".into();
    assert_eq!(daemon.call("nvmf_subsystem_add_listener", first), true);
    let listeners = daemon.call("nvmf_subsystem_get_listeners", json!({"nqn": NQN}));
    assert_eq!(listeners[1]["ana_states"][31]["ana_state"], "inaccessible");

    let plain = "nqn.2016-06.io.spdk:plain";
    assert_eq!(daemon.call("nvmf_create_subsystem", json!({"nqn": plain})), true);
    let address = listen(&daemon, plain);
    let params = json!({"nqn": plain, "listen_address": address, "ana_state": "optimized"});
    let refused = daemon.refuses("nvmf_subsystem_listener_set_ana_state", params);
    assert!(refused.0 == INVALID_PARAMS && refused.1.contains("`ana_reporting`"), "{refused:?}");
    let listeners = daemon.call("nvmf_subsystem_get_listeners", json!({"nqn": plain}));
    assert_eq!(listeners, json!([{"address": address}]));
}

#[test]
fn referrals_come_and_go() {
    let daemon = target();
    let address = json!({"trtype": "TCP", "adrfam": "IPv6", "traddr": "::1", "trsvcid": "8009"});
    let add = json!({"address": address, "secure_channel": true});
    assert_eq!(daemon.call("nvmf_discovery_add_referral", add.clone()), true);
    assert_eq!(daemon.refuses("nvmf_discovery_add_referral", add).0, INTERNAL_ERROR);
    let shown = json!([{"address": address, "secure_channel": true, "subnqn": DISCOVERY}]);
    assert_eq!(daemon.call("nvmf_discovery_get_referrals", Value::Null), shown);
    let remove = json!({"address": address});
    assert_eq!(daemon.call("nvmf_discovery_remove_referral", remove.clone()), true);
    assert_eq!(daemon.refuses("nvmf_discovery_remove_referral", remove).0, INTERNAL_ERROR);
    assert_eq!(daemon.call("nvmf_discovery_get_referrals", Value::Null), json!([]));
}

#[test]
fn parameters_are_refused_by_name() {
    let daemon = target();
    let ns = |ns: Value| json!({"nqn": NQN, "namespace": ns});
    let at = |address: Value| json!({"nqn": NQN, "listen_address": address});
    let tcp = |name: &str, value: Value| {
        let mut params = json!({"trtype": "TCP"});
        params[name] = value;
        params
    };
    let sub = |name: &str, value: Value| {
        let mut params = json!({"nqn": "nqn.2016-06.io.spdk:x"});
        params[name] = value;
        params
    };
    for (method, params, words) in [
        ("nvmf_create_transport", json!({}), "`trtype` is missing: it has to be one of TCP"),
        ("nvmf_create_transport", json!({"trtype": "RDMA"}), "one of TCP"),
        (
            "nvmf_create_transport",
            tcp("max_queue_depth", json!(1)),
            "`max_queue_depth` cannot be 1",
        ),
        ("nvmf_create_transport", tcp("max_io_size", json!(5000)), "`max_io_size` cannot be 5000"),
        ("nvmf_create_transport", tcp("in_capsule_data_size", json!(7)), "`in_capsule_data_size`"),
        ("nvmf_create_transport", tcp("io_unit_size", json!(1 << 20)), "`io_unit_size` cannot"),
        ("nvmf_create_transport", tcp("sock_priority", json!(7)), "`sock_priority` cannot be 7"),
        ("nvmf_create_transport", tcp("dif_insert_or_strip", json!(true)), "no metadata"),
        ("nvmf_create_transport", tcp("no_srq", json!(true)), "it is an option of RDMA"),
        ("nvmf_create_transport", tcp("kas", json!(1)), "`kas` is not supported"),
        ("nvmf_create_transport", tcp("colour", json!(1)), "unknown parameter `colour`"),
        ("nvmf_create_subsystem", json!({}), "`nqn` is missing"),
        ("nvmf_create_subsystem", json!({"nqn": "disk"}), "`nqn` cannot be \"disk\""),
        ("nvmf_create_subsystem", sub("serial_number", json!("a".repeat(21))), "`serial_number`"),
        ("nvmf_create_subsystem", sub("model_number", json!("é")), "1 to 40 printable ASCII"),
        ("nvmf_create_subsystem", sub("max_namespaces", json!(4097)), "`max_namespaces`"),
        ("nvmf_create_subsystem", sub("min_cntlid", json!(0)), "`min_cntlid` cannot be 0"),
        ("nvmf_create_subsystem", sub("max_cntlid", json!(65520)), "`max_cntlid` cannot be 65520"),
        ("nvmf_create_subsystem", sub("passthrough", json!(true)), "`passthrough`"),
        (
            "nvmf_create_subsystem",
            json!({"nqn": NQN, "min_cntlid": 5, "max_cntlid": 4}),
            "Invalid cntlid range",
        ),
        ("nvmf_delete_subsystem", sub("x", json!(1)), "unknown parameter `x`"),
        ("nvmf_delete_subsystem", json!({"nqn": "gone"}), "there is no subsystem gone"),
        ("nvmf_delete_subsystem", json!({"nqn": DISCOVERY}), "cannot be deleted"),
        ("nvmf_subsystem_add_ns", json!({"nqn": NQN}), "`namespace` is missing"),
        ("nvmf_subsystem_add_ns", ns(json!({})), "in `namespace`: parameter `bdev_name` is miss"),
        ("nvmf_subsystem_add_ns", ns(json!("m")), "`namespace` cannot be \"m\""),
        ("nvmf_subsystem_add_ns", ns(json!({"bdev_name": "gone"})), "there is no device 'gone'"),
        ("nvmf_subsystem_add_ns", ns(json!({"bdev_name": "m", "nsid": 33})), "nsid is 33"),
        ("nvmf_subsystem_add_ns", ns(json!({"bdev_name": "m", "nguid": "12"})), "32 hexadecimal"),
        ("nvmf_subsystem_add_ns", ns(json!({"bdev_name": "m", "eui64": 1})), "16 hexadecimal"),
        ("nvmf_subsystem_add_ns", ns(json!({"bdev_name": "m", "uuid": "x"})), "`uuid` cannot"),
        ("nvmf_subsystem_add_ns", ns(json!({"bdev_name": "m", "ptpl_file": ""})), "`ptpl_file`"),
        ("nvmf_subsystem_add_ns", ns(json!({"bdev_name": "m", "anagrpid": 33})), "anagrpid is 33"),
        (
            "nvmf_subsystem_add_ns",
            ns(json!({"bdev_name": "m", "no_auto_visible": true})),
            "`no_auto_visible` cannot be true",
        ),
        ("nvmf_subsystem_remove_ns", json!({"nqn": NQN, "nsid": 0}), "`nsid` cannot be 0"),
        ("nvmf_subsystem_remove_ns", json!({"nqn": NQN, "nsid": 9}), "there is no namespace 9"),
        ("nvmf_subsystem_set_ns_ana_group", json!({"nqn": NQN, "nsid": 1}), "`anagrpid` is missi"),
        ("nvmf_subsystem_add_listener", json!({"nqn": NQN}), "`listen_address` is missing"),
        ("nvmf_subsystem_add_listener", at(json!({})), "in `listen_address`: parameter `trtype`"),
        (
            "nvmf_subsystem_add_listener",
            at(json!({"trtype": "TCP", "traddr": "here", "trsvcid": "1"})),
            "`traddr` cannot be \"here\"",
        ),
        (
            "nvmf_subsystem_add_listener",
            // An address for documentation: nobody has it.
            at(json!({"trtype": "TCP", "traddr": "192.0.2.1", "trsvcid": "4420"})),
            "cannot listen on",
        ),
        (
            "nvmf_subsystem_add_listener",
            json!({"nqn": NQN, "listen_address": anywhere(), "secure_channel": true}),
            "there is no TLS yet",
        ),
        ("nvmf_subsystem_remove_listener", at(anywhere()), "there is no listener"),
        (
            "nvmf_subsystem_listener_set_ana_state",
            json!({"nqn": NQN, "listen_address": anywhere(), "ana_state": "good"}),
            "one of optimized, non_optimized, inaccessible",
        ),
        ("nvmf_subsystem_add_host", json!({"nqn": NQN, "host": "me"}), "`host` cannot be \"me\""),
        (
            "nvmf_subsystem_add_host",
            json!({"nqn": NQN, "host": HOST, "psk": "secret"}),
            "`psk` is not supported: there is no TLS yet",
        ),
        ("nvmf_subsystem_allow_any_host", json!({"nqn": NQN}), "`allow_any_host` is missing"),
        ("nvmf_subsystem_get_qpairs", json!({"nqn": "gone"}), "there is no subsystem gone"),
        (
            "nvmf_discovery_add_referral",
            json!({"address": {"trtype": "TCP", "traddr": "::1", "trsvcid": "0"}}),
            "trsvcid has to be",
        ),
        ("nvmf_set_max_subsystems", json!({"max_subsystems": 0}), "`max_subsystems` cannot be 0"),
        ("nvmf_set_config", json!({"poll_groups_mask": "0x1"}), "`poll_groups_mask` is not supp"),
        ("nvmf_set_crdt", json!({"crdt1": 1}), "`crdt1` cannot be 1"),
        ("nvmf_get_targets", json!({"x": 1}), "unknown parameter `x`; allowed are none"),
    ] {
        let shown = format!("{method} {params}");
        let (code, message) = daemon.refuses(method, params);
        assert_eq!(code, INVALID_PARAMS, "{shown}: {message}");
        assert!(message.contains(words), "{shown}: {message}");
        assert!(!message.contains("secret"), "{message}");
    }
    let shown = subsystem(&daemon);
    assert_eq!((&shown["namespaces"], &shown["hosts"]), (&json!([]), &json!([])));
    assert_eq!(shown["listen_addresses"], json!([]), "nothing was made");
}

#[test]
fn operations_are_refused_with_spdks_codes() {
    let daemon = target();
    let ns = json!({"nqn": NQN, "namespace": {"bdev_name": "m"}});
    assert_eq!(daemon.call("nvmf_subsystem_add_ns", ns.clone()), 1);
    let host = json!({"nqn": NQN, "host": HOST});
    assert_eq!(daemon.call("nvmf_subsystem_add_host", host.clone()), true);
    let tgt = |mut params: Value| {
        params["tgt_name"] = "foobar".into();
        params
    };
    for (method, params, code, words) in [
        (
            "nvmf_create_transport",
            json!({"trtype": "TCP"}),
            INTERNAL_ERROR,
            "Transport type 'TCP' already exists",
        ),
        (
            "nvmf_create_subsystem",
            json!({"nqn": NQN}),
            INTERNAL_ERROR,
            "Unable to create subsystem",
        ),
        ("nvmf_create_subsystem", json!({"nqn": DISCOVERY}), INTERNAL_ERROR, "exists already"),
        (
            "nvmf_create_subsystem",
            tgt(json!({"nqn": NQN})),
            INTERNAL_ERROR,
            "Unable to find target foobar",
        ),
        ("nvmf_get_subsystems", tgt(json!({})), INTERNAL_ERROR, "Unable to find target foobar"),
        ("nvmf_get_subsystems", json!({"nqn": "gone"}), -19, "'gone' does not exist"),
        ("nvmf_subsystem_add_ns", ns, INVALID_PARAMS, "Invalid parameters: "),
        ("nvmf_subsystem_add_host", host, INTERNAL_ERROR, "exists already"),
        (
            "nvmf_subsystem_remove_host",
            json!({"nqn": NQN, "host": "nqn.2016-06.io.spdk:x"}),
            INTERNAL_ERROR,
            "there is no host",
        ),
        (
            "nvmf_create_transport",
            json!({"trtype": "TCP", "max_io_qpairs_per_ctrlr": 1}),
            INTERNAL_ERROR,
            "already exists",
        ),
    ] {
        let shown = format!("{method} {params}");
        let (got, message) = daemon.refuses(method, params);
        assert_eq!(got, code, "{shown}: {message}");
        assert!(message.contains(words), "{shown}: {message}");
    }
    let none = Daemon::start(&[]);
    assert_eq!(none.refuses("nvmf_get_transports", json!({"trtype": "TCP"})).0, -19);
    assert_eq!(none.refuses("nvmf_subsystem_get_qpairs", json!({"nqn": NQN})).0, INVALID_PARAMS);
}

#[test]
fn a_configuration_exports_devices_whatever_its_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("c.json");
    let step = |method: &str, params: Value| json!({"method": method, "params": params});
    let config = json!({"subsystems": [
        {"subsystem": "nvmf", "config": [
            step("nvmf_set_config", json!({"discovery_filter": "match_any",
                "admin_cmd_passthru": {"identify_ctrlr": false}})),
            step("nvmf_set_max_subsystems", json!({"max_subsystems": 10})),
            step("nvmf_set_crdt", json!({"crdt1": 0, "crdt2": 0, "crdt3": 0})),
            step("nvmf_create_transport", json!({"trtype": "TCP"})),
            step("nvmf_create_subsystem", json!({"nqn": NQN, "allow_any_host": true})),
            step("nvmf_subsystem_add_ns", json!({"nqn": NQN, "namespace": {"bdev_name": "m"}})),
            step("nvmf_subsystem_add_listener",
                 json!({"nqn": NQN, "listen_address": anywhere()}))]},
        {"subsystem": "bdev", "config": [
            step("bdev_malloc_create", json!({"name": "m", "num_blocks": 8, "block_size": 512}))]},
    ]});
    std::fs::write(&file, config.to_string()).expect("written");
    let daemon = Daemon::start(&["--json", file.to_str().expect("a path")]);
    let shown = subsystem(&daemon);
    assert_eq!(shown["namespaces"][0]["bdev_name"], "m");
    assert!(accepts(&shown["listen_addresses"][0]));
    daemon.end(Signal::SIGTERM);
}

#[test]
fn an_export_tells_what_to_type_and_ends_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("rpc.sock");
    let args = ["malloc:///m?size_mb=1", "null:///n?size_mb=2", "--listen", "127.0.0.1:0"];
    let mut export = Command::new(BINARY);
    export.arg("export").args(args).args(["--no-huge", "-s", "4", "-L", "info", "-r"]).arg(&socket);
    let output = dir.path().join("out");
    export.stdout(std::fs::File::create(&output).expect("a file"));
    let daemon = Daemon::launch(export, dir, socket);
    let text = std::fs::read_to_string(&output).expect("text");
    let all = daemon.call("nvmf_get_subsystems", Value::Null);
    let (nqn, address) = (&all[1]["nqn"], &all[1]["listen_addresses"][0]);
    let (nqn, port) = (nqn.as_str().expect("text"), address["trsvcid"].as_str().expect("text"));
    assert!(nqn.starts_with("nqn.2014-08.org.nvmexpress:uuid:"), "{nqn}");
    for line in [
        format!("subsystem {nqn}"),
        "  namespace 1: m, 1MiB, blocks of 512 bytes".to_owned(),
        "  namespace 2: n, 2MiB, blocks of 512 bytes".to_owned(),
        format!("nvme discover -t tcp -a 127.0.0.1 -s {port}"),
        format!("nvme connect -t tcp -a 127.0.0.1 -s {port} -n {nqn}"),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
    assert!(all[1]["allow_any_host"] == true && accepts(address), "{all:#}");
    let address = address.clone();
    daemon.end(Signal::SIGINT);
    assert!(!accepts(&address));
}

#[test]
fn an_export_that_cannot_be_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = held.local_addr().expect("an address").to_string();
    let missing = format!("aio://{}", dir.path().join("missing").display());
    for (args, code, words) in [
        (vec!["malloc:///m?size_mb=1", "--listen", "192.0.2.1:4420"], 4, "cannot listen on"),
        (vec!["malloc:///m?size_mb=1", "--listen", taken.as_str()], 4, "cannot listen on"),
        (vec!["malloc:///m?size=1"], 3, "unknown parameter `size`"),
        (vec![missing.as_str()], 4, "missing"),
        (vec!["malloc:///m?size_mb=1", "--nqn", DISCOVERY], 3, "exists already"),
        (
            vec!["malloc:///m?size_mb=1", "--listen", "[::1]:0", "--host", HOST, "--host", HOST],
            3,
            "exists already",
        ),
    ] {
        let mut export = Command::new(BINARY);
        export.arg("export").args(&args).args(["--no-huge", "-s", "4"]);
        let (got, error) = told(export.output().expect("the binary runs"));
        assert_eq!(got, Some(code), "{args:?}: {error}");
        assert!(error.contains(words), "{args:?}: {error}");
    }
}
