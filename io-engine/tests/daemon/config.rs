//! A configuration that survives a restart, and the start that waits for RPC.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use jsonrpc::ClientError;
use jsonrpc::client::blocking;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{BINARY, Daemon, fails};

/// One of everything, in files below `dir`.
fn make_everything(daemon: &Daemon, dir: &str) {
    let call = |method: &str, params: Value| daemon.call(method, params);
    call("log_set_level", json!({"level": "DEBUG"}));
    call("log_set_flag", json!({"flag": "nvmf"}));
    call("bdev_nvme_set_options", json!({"timeout_us": 7_000_000, "action_on_timeout": "reset"}));
    // Named against the order in which they are made.
    call("bdev_malloc_create", json!({"name": "z", "num_blocks": 128, "block_size": 512}));
    call("bdev_null_create", json!({"name": "y", "num_blocks": 2048, "block_size": 512}));
    call("bdev_null_resize", json!({"name": "y", "new_size": 2}));
    for name in ["a.img", "b.img", "c.img"] {
        std::fs::File::create(format!("{dir}/{name}"))
            .and_then(|file| file.set_len(32 << 20))
            .expect("a file");
    }
    let file = json!({"name": "x", "filename": format!("{dir}/a.img"), "block_size": 4096});
    call("bdev_aio_create", file);
    let uri = format!("aio://{dir}/b.img?name=w%20w&depth=8&blk_size=4096");
    call("bdev_create", json!({"uri": uri}));
    call("pool_create", json!({"name": "tank", "disk": "x", "cache_mb": 8}));
    call("vol_create", json!({"pool": "tank", "name": "v", "size": 1 << 20}));
    let disk = format!("aio://{dir}/c.img?name=base");
    call("pool_create", json!({"name": "puddle", "disk": disk}));
    call("block_create", json!({"name": "z", "io_depth": 3, "perf_metrics": {"iops": 5}}));

    call("bdev_malloc_create", json!({"name": "u", "num_blocks": 128, "block_size": 512}));
    call("bdev_passthru_create", json!({"base_bdev_name": "u", "name": "thru"}));
    call(
        "bdev_delay_create",
        json!({"base_bdev_name": "thru", "name": "slow", "avg_read_latency": 1,
        "p99_read_latency": 2, "avg_write_latency": 3, "p99_write_latency": 4}),
    );
    call("bdev_error_create", json!({"base_name": "slow"}));
    call("bdev_create", json!({"uri": "error:///odd?base=w%20w"}));

    call("bdev_malloc_create", json!({"name": "s", "num_blocks": 4100, "block_size": 512}));
    let parts = call("bdev_split_create", json!({"base_bdev": "s", "split_count": 3}));
    assert_eq!(parts, json!(["sp0", "sp1", "sp2"]));
    call("bdev_null_create", json!({"name": "t", "num_blocks": 8192, "block_size": 512}));
    call("bdev_split_create", json!({"base_bdev": "t", "split_count": 9, "split_size_mb": 1}));
    // Parts stay where they are, whatever becomes of the device below.
    call("bdev_null_create", json!({"name": "r", "num_blocks": 2048, "block_size": 512}));
    call("bdev_split_create", json!({"base_bdev": "r", "split_count": 2}));
    call("bdev_null_resize", json!({"name": "r", "new_size": 2}));

    call("bdev_set_qos_limit", json!({"name": "y", "rw_ios_per_sec": 5000, "r_mbytes_per_sec": 7}));
    call("bdev_set_io_timeout", json!({"name": "tank/v", "timeout_us": 9000, "action": "reset"}));
    call("bdev_set_qd_sampling_period", json!({"name": "y", "period": 100_000}));
    call("bdev_enable_histogram", json!({"name": "y", "enable": true, "opc": "read"}));
    call("bdev_enable_histogram", json!({"name": "z", "enable": true, "granularity": 3}));
    call("bdev_set_health_thresholds", json!({"faulted_media_errors": 9}));
    call("bdev_set_health_thresholds", json!({"name": "z", "degraded_io_timeouts": 4}));

    make_target(daemon, dir);
    make_faults(daemon);
}

/// A target with two subsystems.
fn make_target(daemon: &Daemon, dir: &str) {
    let call = |method: &str, params: Value| daemon.call(method, params);
    let nqn = "nqn.2016-06.io.spdk:all";
    call("nvmf_set_max_subsystems", json!({"max_subsystems": 5}));
    call(
        "nvmf_create_transport",
        json!({"trtype": "tcp", "max_queue_depth": 64,
        "max_io_size": 65536, "association_timeout": 5000}),
    );
    call(
        "nvmf_create_subsystem",
        json!({"nqn": nqn, "ana_reporting": true, "max_namespaces": 4,
        "serial_number": "S1", "min_cntlid": 2}),
    );
    call("nvmf_subsystem_add_host", json!({"nqn": nqn, "host": "nqn.2016-06.io.spdk:host"}));
    call(
        "nvmf_subsystem_add_ns",
        json!({"nqn": nqn, "namespace": {"bdev_name": "y", "nsid": 3,
        "eui64": "0123456789ABCDEF", "anagrpid": 2, "ptpl_file": format!("{dir}/ptpl")}}),
    );
    call("nvmf_subsystem_add_ns", json!({"nqn": nqn, "namespace": {"bdev_name": "tank/v"}}));
    let address = json!({"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "0"});
    call("nvmf_subsystem_add_listener", json!({"nqn": nqn, "listen_address": address}));
    let listeners = call("nvmf_subsystem_get_listeners", json!({"nqn": nqn}));
    call(
        "nvmf_subsystem_listener_set_ana_state",
        json!({"nqn": nqn, "anagrpid": 2,
        "listen_address": listeners[0]["address"], "ana_state": "inaccessible"}),
    );
    let discovery = "nqn.2014-08.org.nvmexpress.discovery";
    let address = &listeners[0]["address"];
    call("nvmf_subsystem_add_listener", json!({"nqn": discovery, "listen_address": address}));
    let elsewhere = json!({"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "8009"});
    call("nvmf_discovery_add_referral", json!({"address": elsewhere}));
    call(
        "nvmf_create_subsystem",
        json!({"nqn": "nqn.2016-06.io.spdk:open", "allow_any_host": true}),
    );
}

/// Faults of every form. None of them fires.
fn make_faults(daemon: &Daemon) {
    let call = |method: &str, params: Value| daemon.call(method, params);
    for order in [
        json!({"name": "EE_slow", "io_type": "read", "error_type": "failure", "num": 5, "queue_depth": 2}),
        json!({"name": "EE_slow", "io_type": "write", "error_type": "nvme_failure", "num": 3,
            "nvme_sct": 2, "nvme_sc": 0x81}),
        json!({"name": "EE_slow", "io_type": "unmap", "error_type": "pending"}),
        json!({"name": "odd", "io_type": "read", "error_type": "nomem"}),
        json!({"name": "odd", "io_type": "write", "error_type": "corrupt_data",
            "corrupt_offset": 7, "corrupt_value": 255}),
    ] {
        call("bdev_error_inject_error", order);
    }
    for uri in [
        "inject://t?op=read&type=status-nvme-2-81&retries=4&begin_at=10&end_at=86400000&offset=3&num_blk=9",
        "inject://sp1?op=write,flush&type=delay&delay_us=uniform:5:90&probability=0.25&seed=77&after=6&every=2",
        "inject://t?op=write&type=data&corrupt_offset=1&corrupt_value=3",
        "inject:///w%20w?op=write&type=misdirected&distance=8",
        "inject://sp0?type=reorder&window=4&delay_us=50&stage=submission",
        "inject://sp0?type=errno-EIO",
        "inject://sp0?type=hang&op=unmap",
        "inject://sp2?type=power_cut",
    ] {
        call("fault_injection_create", json!({"uri": uri}));
    }
    // What happens no more is not kept.
    call("fault_injection_create", json!({"uri": "inject://t?type=nomem&retries=0"}));
}

/// What a daemon shows of everything that can be configured.
fn shown(daemon: &Daemon) -> Value {
    let methods = [
        "bdev_get_bdevs",
        "bdev_get_health",
        "fault_injection_list",
        "log_get_flags",
        "log_get_level",
        "nvmf_discovery_get_referrals",
        "nvmf_get_subsystems",
        "nvmf_get_transports",
    ];
    let mut all: serde_json::Map<String, Value> = methods
        .into_iter()
        .map(|method| (method.to_owned(), daemon.call(method, Value::Null)))
        .collect();
    // The one that never happens is not kept, and numbers count all that there were.
    let faults = all["fault_injection_list"].as_array_mut().expect("a list");
    faults.retain(|fault| fault["retries"] != 0);
    faults.iter_mut().for_each(|fault| fault["id"].take().as_u64().map_or((), drop));
    let stats = daemon.call("bdev_get_iostat", json!({"name": "y"}));
    all.insert("period".to_owned(), stats["bdevs"][0]["queue_depth_polling_period"].clone());
    for name in ["y", "z"] {
        let histogram = daemon.call("bdev_get_histogram", json!({"name": name}));
        all.insert(name.to_owned(), histogram["granularity"].clone());
    }
    all.into()
}

/// What a configuration with one of everything has in it.
const SAVED: &[&str] = &[
    "bdev_nvme_set_options",
    "bdev_malloc_create",
    "bdev_null_create",
    "depth=8",
    "bdev_aio_create",
    "bdev_passthru_create",
    "bdev_delay_create",
    "bdev_error_create",
    "error:///odd",
    "\"split_count\":3",
    "\"split_size_mb\":1",
    "split:///r?split_count=2&num_blocks=1024",
    "bdev_set_qos_limit",
    "bdev_set_io_timeout",
    "bdev_set_qd_sampling_period",
    "bdev_enable_histogram",
    "bdev_set_health_thresholds",
    "\"error_type\":\"failure\"",
    "\"error_type\":\"nvme_failure\"",
    "\"error_type\":\"pending\"",
    "\"error_type\":\"nomem\"",
    "\"error_type\":\"corrupt_data\"",
    "\"num\":5",
    "\"queue_depth\":2",
    "\"corrupt_offset\":7",
    "status-nvme-2-81",
    "type=power_cut",
    "pool_import",
    "block_create",
    "nvmf_set_max_subsystems",
    "nvmf_subsystem_listener_set_ana_state",
    "nvmf_discovery_add_referral",
    "log_set_level",
];

#[test]
fn one_of_everything_is_the_same_after_a_restart() {
    let files = tempfile::tempdir().expect("a directory");
    let dir = files.path().display().to_string();
    let first = Daemon::start(&[]);
    make_everything(&first, &dir);
    let saved = first.call("save_config", Value::Null);
    let before = shown(&first);
    let path = format!("{dir}/saved.json");
    assert_eq!(first.call("save_config", json!({"filename": path})), true);
    let written: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    assert_eq!(written, saved);
    // As rpc.py puts it together.
    let mut sections = Vec::new();
    for one in first.call("framework_get_subsystems", Value::Null).as_array().expect("a list") {
        let config = first.call("framework_get_config", json!({"name": one["subsystem"]}));
        sections.push(json!({"subsystem": one["subsystem"], "config": config}));
    }
    assert_eq!(json!({"subsystems": sections}), saved);
    let text = saved.to_string();
    for name in SAVED {
        assert!(text.contains(name), "{name} in {saved:#}");
    }
    assert!(!text.contains("retries=0"), "{saved:#}");
    first.end(Signal::SIGTERM);

    // At the start.
    let second = Daemon::start(&["--json", &path]);
    assert_eq!(second.call("save_config", Value::Null), saved, "after --json");
    let after = shown(&second);
    for (name, was) in before.as_object().expect("an object") {
        assert_eq!(&after[name], was, "{name}");
    }
    second.end(Signal::SIGTERM);
    // By a method, into an empty daemon.
    let third = Daemon::start(&[]);
    third.call("load_config", json!({"filename": path}));
    assert_eq!(third.call("save_config", Value::Null), saved, "after load_config");
    third.end(Signal::SIGTERM);
    // By the command line, into one that waits.
    let fourth = Daemon::start(&["--wait-for-rpc"]);
    let config = |args: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("config").arg("-r").arg(fourth.socket()).args(args).output().expect("it runs")
    };
    let loaded = config(&["load", &path]);
    assert!(loaded.status.success(), "{loaded:?}");
    let again = format!("{dir}/again.json");
    assert!(config(&["save", &again]).status.success());
    let read = |path| std::fs::read_to_string(path).expect("a file");
    assert_eq!(read(&again), read(&path), "after config load");
}

#[test]
fn a_controller_is_attached_again() {
    let target = Daemon::start(&["--bdev", "malloc:///m?size_mb=1"]);
    let (nqn, other) = ("nqn.2016-06.io.spdk:far", "nqn.2016-06.io.spdk:by_uri");
    target.call("bdev_null_create", json!({"name": "n", "num_blocks": 8, "block_size": 512}));
    target.call("nvmf_create_transport", json!({"trtype": "TCP"}));
    target.call("nvmf_create_subsystem", json!({"nqn": nqn, "allow_any_host": true}));
    target.call("nvmf_subsystem_add_ns", json!({"nqn": nqn, "namespace": {"bdev_name": "m"}}));
    let address = json!({"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "0"});
    target.call("nvmf_subsystem_add_listener", json!({"nqn": nqn, "listen_address": address}));
    let listeners = target.call("nvmf_subsystem_get_listeners", json!({"nqn": nqn}));
    let address = &listeners[0]["address"];
    let port = address["trsvcid"].as_str().expect("a port").to_owned();
    target.call("nvmf_create_subsystem", json!({"nqn": other, "allow_any_host": true}));
    target.call("nvmf_subsystem_add_ns", json!({"nqn": other, "namespace": {"bdev_name": "n"}}));
    target.call("nvmf_subsystem_add_listener", json!({"nqn": other, "listen_address": address}));

    let host = Daemon::start(&[]);
    host.call(
        "bdev_nvme_set_options",
        json!({"io_path_stat": true,
        "multipath_opts": {"policy": "active_active", "selector": "queue_depth"}}),
    );
    host.call(
        "bdev_nvme_attach_controller",
        json!({"name": "far", "trtype": "TCP",
        "traddr": "127.0.0.1", "trsvcid": port, "subnqn": nqn, "hdgst": true, "priority": "2",
        "multipath": "failover", "keep_alive_timeout_ms": 5000, "io_queue_size": 16,
        "ctrlr_loss_timeout_sec": 20, "reconnect_delay_sec": 2, "disable_sq_flow_control": false,
        "multipath_opts": {"policy": "active_active"}}),
    );
    let uri = format!(
        "nvmf://127.0.0.1:{port}/{other}?name=by_uri&hostnqn=nqn.2016-06.io.spdk:h\
         &hostid=0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60&timeout_us=9000000"
    );
    host.call("bdev_create", json!({"uri": uri}));
    host.call(
        "bdev_nvme_set_multipath_policy",
        json!({"name": "farn1", "policy": "active_active", "selector": "queue_depth"}),
    );
    // It is for commands that nobody sends.
    let error = json!({"name": "far", "cmd_type": "io", "opc": 200, "err_count": 7, "sct": 2,
        "sc": 0x81, "do_not_submit": true, "timeout_in_us": 50});
    host.call("bdev_nvme_add_error_injection", error.clone());
    let saved = host.call("save_config", Value::Null);
    assert!(saved.to_string().contains(&error.to_string()), "{saved:#}");
    for words in ["queue_depth", "hostid", "failover", "by_uri"] {
        assert!(saved.to_string().contains(words), "{words} in {saved:#}");
    }
    host.end(Signal::SIGTERM);
    let again = Daemon::start(&[]);
    again.call("load_config", json!({"config": saved}));
    assert_eq!(again.call("save_config", Value::Null), saved);
    assert_eq!(again.names(), ["by_urin1", "farn1"]);
}

/// Calls a method without parameters, from any thread.
fn call(socket: &Path, method: &str) -> Result<Value, ClientError> {
    blocking::call(socket, method, None, Duration::from_secs(60))
}

#[test]
fn a_start_waits_for_rpc() {
    let daemon = Daemon::start(&["--wait-for-rpc", "--bdev", "malloc:///m?size_mb=1"]);
    let list = |params: Value| -> Vec<String> {
        serde_json::from_value(daemon.call("rpc_get_methods", params)).expect("names")
    };
    let now = list(json!({"current": true}));
    for (name, callable) in [
        ("framework_start_init", true),
        ("bdev_nvme_set_options", true),
        ("log_set_level", true),
        ("bdev_get_bdevs", false),
        ("bdev_malloc_create", false),
        ("save_config", false),
    ] {
        assert_eq!(now.iter().any(|one| one == name), callable, "{name}");
    }
    assert!(list(Value::Null).len() > now.len());
    let (code, words) = daemon.refuses("bdev_get_bdevs", Value::Null);
    let spdk = "Method may only be called after framework is initialized using \
                framework_start_init RPC.";
    assert_eq!((code, words.as_str()), (-1, spdk));

    std::thread::scope(|scope| {
        let socket = daemon.socket();
        let waiting = scope.spawn(|| call(socket, "framework_wait_init"));
        assert_eq!(daemon.call("framework_start_init", Value::Null), true);
        assert_eq!(waiting.join().expect("no panic").expect("answered"), true);
    });
    assert_eq!(daemon.names(), ["m"], "what was held back is there");
    let (code, words) = daemon.refuses("framework_start_init", Value::Null);
    assert_eq!(code, -1);
    assert!(words.starts_with("Method may only be called before framework is initialized."));
    daemon.end(Signal::SIGTERM);

    // It can be ended without ever having started.
    Daemon::start(&["--wait-for-rpc"]).end(Signal::SIGTERM);
    // What was held back fails: the process ends.
    let mut held = Daemon::start(&["--wait-for-rpc", "--bdev", "aio:///nonexistent/file"]);
    let socket = held.socket().to_owned();
    // The answer may be lost with the process.
    let _ = call(&socket, "framework_start_init");
    held.wait_for("/nonexistent/file");
    assert_eq!(held.wait().0.code(), Some(4));
    let (code, words) = fails(&socket, &["--wait-for-rpc", "--json", "x"]);
    assert!(code == Some(2) && words.contains("--json"), "{words}");
}

#[test]
fn a_configuration_that_is_refused_changes_nothing() {
    let daemon = Daemon::start(&[]);
    let before = daemon.call("save_config", Value::Null);
    let config = |steps: Value| {
        json!({"config": {"subsystems": [
        {"subsystem": "bdev", "config": steps}]}})
    };
    let good = json!({"method": "bdev_malloc_create",
                      "params": {"name": "m", "num_blocks": 8, "block_size": 512}});
    let bad = json!({"method": "bdev_malloc_create", "params": {"name": "n", "num_blocks": 8}});
    let (code, words) = daemon.refuses("load_config", config(json!([good, bad])));
    assert_eq!(code, -32602);
    let place = "subsystems[0] (bdev), config[1] (bdev_malloc_create): parameter `block_size`";
    assert!(words.contains(place), "{words}");
    assert_eq!(daemon.call("save_config", Value::Null), before);
    // What fails only when it is done keeps its own code, and what was done before it.
    let (code, words) = daemon.refuses("load_config", config(json!([good, good])));
    assert!(code == -17 && words.contains("config[1]"), "{words} ({code})");
    assert_eq!(daemon.names(), ["m"]);
    assert_eq!(daemon.refuses("load_config", json!({"filename": "/nonexistent"})).0, -2);
    assert_eq!(daemon.refuses("framework_get_config", json!({"name": "iscsi"})).0, -32602);
    let nowhere = json!({"filename": "/nonexistent/dir/file"});
    assert_eq!(daemon.refuses("save_config", nowhere).0, -2);
}

#[test]
fn files_stay_below_the_root() {
    let root = tempfile::tempdir().expect("a directory");
    let outside = tempfile::tempdir().expect("a directory");
    let dir = root.path().display().to_string();
    let daemon = Daemon::start(&["--rpc-root", &dir]);
    daemon.call("bdev_create", json!({"uri": format!("aio://{dir}/a?size_mb=1")}));
    daemon.call("save_config", json!({"filename": format!("{dir}/c.json")}));
    let out = outside.path().join("new").display().to_string();
    for (method, params) in [
        ("bdev_create", json!({"uri": format!("aio://{out}?size_mb=1")})),
        ("bdev_aio_create", json!({"name": "n", "filename": "/etc/passwd"})),
        ("bdev_uring_create", json!({"name": "n", "filename": "/etc/passwd"})),
        ("pool_create", json!({"name": "p", "disk": format!("aio://{out}?size_mb=64")})),
        ("pool_import", json!({"disk": format!("aio://{out}")})),
        ("block_create", json!({"name": out, "total_size": 1 << 20})),
        ("save_config", json!({"filename": out})),
        ("save_subsystem_config", json!({"name": "bdev", "filename": out})),
        ("load_config", json!({"filename": "/etc/passwd"})),
    ] {
        let (code, words) = daemon.refuses(method, params);
        assert!(code == -13 && words.contains("--rpc-root"), "{method}: {words} ({code})");
    }
    assert_eq!(std::fs::read_dir(outside.path()).expect("a directory").count(), 0);
    daemon.end(Signal::SIGTERM);
    let (code, words) = fails(&root.path().join("s"), &["--rpc-root", "/nonexistent"]);
    assert!(code == Some(3) && words.contains("/nonexistent"), "{words}");
}

#[test]
fn only_users_who_are_named_may_connect() {
    let uid = nix::unistd::getuid().as_raw().to_string();
    Daemon::start(&["--rpc-allow-uid", &uid]).call("bdev_get_bdevs", Value::Null);
    let nobody = Daemon::start(&["--rpc-allow-uid", "4294967294"]);
    assert_eq!(nobody.refuses("bdev_get_bdevs", Value::Null).0, -13);
    let few = Daemon::start(&["--rpc-max-connections", "1", "--rpc-max-size", "1"]);
    let kept = std::os::unix::net::UnixStream::connect(few.socket()).expect("connected");
    assert_eq!(few.refuses("bdev_get_bdevs", Value::Null).0, -32009);
    drop(kept);
}

#[test]
fn the_log_changes_while_it_runs() {
    let daemon = Daemon::start(&["-L", "info"]);
    assert_eq!(daemon.call("log_get_print_level", Value::Null), "NOTICE");
    daemon.call("log_set_print_level", json!({"level": "DEBUG"}));
    assert_eq!(daemon.call("log_get_level", Value::Null), "DEBUG");
    daemon.call("log_set_flag", json!({"flag": "all"}));
    let flags = daemon.call("log_get_flags", Value::Null);
    assert!(flags.as_object().expect("flags").values().all(|on| *on == true), "{flags}");
    daemon.call("log_clear_flag", json!({"flag": "all"}));
    daemon.call("log_set_level", json!({"level": "ERROR"}));
    assert_eq!(daemon.call("log_get_flags", Value::Null)["nvmf"], false);
}
