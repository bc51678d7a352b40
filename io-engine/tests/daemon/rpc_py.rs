//! What SPDK's `rpc.py` sends when its commands are called with little more than what they need:
//! it adds every switch that was not given as `false`.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::Daemon;

const NQN: &str = "nqn.2016-06.io.spdk:cnode1";

#[test]
fn what_rpc_py_adds_is_taken() {
    let files = tempfile::tempdir().expect("a directory");
    let path = files.path().join("a.img").display().to_string();
    let made = std::fs::File::create(&path).and_then(|file| file.set_len(32 << 20));
    made.expect("a file");
    let daemon = Daemon::start(&[]);
    let address = json!({"trtype": "tcp", "traddr": "127.0.0.1", "trsvcid": "0"});
    let calls: Vec<(&str, Value)> = vec![
        ("rpc_get_methods", json!({"current": false, "include_aliases": false})),
        ("framework_monitor_context_switch", json!({"enabled": false})),
        ("framework_get_config", json!({"name": "bdev", "with_batches": false})),
        (
            "bdev_nvme_set_options",
            json!({"timeout_us": 9_000_000, "delay_cmd_submit": true,
            "disable_auto_failback": false, "generate_uuids": false, "nvme_error_stat": false,
            "io_path_stat": false, "allow_accel_sequence": false, "enable_flush": false}),
        ),
        ("iobuf_set_options", json!({"enable_numa": false})),
        ("iobuf_get_stats", Value::Null),
        ("accel_get_stats", Value::Null),
        ("sock_impl_set_options", json!({"impl_name": "posix"})),
        ("thread_get_io_channels", Value::Null),
        (
            "bdev_malloc_create",
            json!({"name": "m", "num_blocks": 8192, "block_size": 512,
            "md_interleave": false, "dif_is_head_of_md": false}),
        ),
        (
            "bdev_null_create",
            json!({"name": "n", "num_blocks": 8192, "block_size": 512,
            "dif_is_head_of_md": false}),
        ),
        (
            "bdev_aio_create",
            json!({"filename": path, "name": "a", "block_size": 4096,
            "readonly": false, "fallocate": false, "nowait": false}),
        ),
        ("bdev_get_iostat", json!({"per_channel": false})),
        ("bdev_lvol_create_lvstore", json!({"bdev_name": "a", "lvs_name": "lvs"})),
        (
            "bdev_lvol_create",
            json!({"lvol_name": "v", "size_in_mib": 4, "thin_provision": false,
            "lvs_name": "lvs"}),
        ),
        ("bdev_examine", json!({"name": "a"})),
        ("nvmf_set_crdt", json!({})),
        (
            "nvmf_set_config",
            json!({"dup_host_policy": "allow", "discovery_filters": ["match_any"]}),
        ),
        ("bdev_lvol_grow_lvstore", json!({"lvs_name": "lvs"})),
        ("framework_get_pci_devices", json!({})),
        (
            "nvmf_create_transport",
            json!({"trtype": "TCP", "no_srq": false, "c2h_success": true,
            "zcopy": false, "dif_insert_or_strip": false, "no_wr_batching": false,
            "disable_mappable_bar0": false, "disable_adaptive_irq": false,
            "disable_shadow_doorbells": false, "disable_command_passthru": false}),
        ),
        (
            "nvmf_create_subsystem",
            json!({"nqn": NQN, "allow_any_host": true,
            "serial_number": "SPDK00000000000001", "ana_reporting": false, "passthrough": false}),
        ),
        (
            "nvmf_subsystem_add_ns",
            json!({"nqn": NQN,
            "namespace": {"bdev_name": "m", "no_auto_visible": false, "hide_metadata": false}}),
        ),
        (
            "nvmf_subsystem_add_listener",
            json!({"nqn": NQN, "secure_channel": false,
            "listen_address": address}),
        ),
    ];
    for (method, params) in calls {
        daemon.call(method, params);
    }
    assert_eq!(daemon.names(), ["a", "lvs/v", "m", "n"]);
    daemon.end(Signal::SIGTERM);
}

#[test]
fn what_is_not_there_is_refused_with_a_reason() {
    let daemon = Daemon::start(&[]);
    for (method, params, code, words) in [
        ("framework_set_scheduler", json!({"name": "dynamic"}), -95, "no scheduler 'dynamic'"),
        ("framework_set_scheduler", json!({"name": "static", "period": 5}), -32602, "`period`"),
        ("framework_enable_cpumask_locks", json!({}), -95, "not locked"),
        ("thread_set_cpumask", json!({"id": 1, "cpumask": "0x1"}), -95, "stays on its core"),
        ("iobuf_set_options", json!({"small_pool_count": 8}), -32602, "the option -s"),
        ("bdev_set_options", json!({"bdev_auto_examine": true}), -32602, "`bdev_auto_examine`"),
        ("bdev_examine", json!({"name": "gone"}), -19, "'gone'"),
        ("log_enable_timestamps", json!({"enabled": false}), -32602, "`enabled`"),
        ("log_set_level", json!({"level": "LOUD"}), -32602, "one of DISABLED, ERROR"),
        ("log_set_flag", json!({"flag": "iscsi"}), -32602, "one of all, bdev"),
        (
            "nvmf_set_config",
            json!({"dup_host_policy": "restrict_per_listener"}),
            -32602,
            "\"allow\"",
        ),
        ("bdev_nvme_get_path_iostat", json!({"name": "gone"}), -19, "'gone'"),
        ("bdev_nvme_set_preferred_path", json!({"name": "gone", "cntlid": 1}), -19, "'gone'"),
        ("bdev_nvme_disable_controller", json!({"name": "gone"}), -19, "'gone'"),
        ("bdev_nvme_enable_controller", json!({"name": "gone", "cntlid": 1}), -19, "'gone'"),
    ] {
        let (got, text) = daemon.refuses(method, params);
        assert!(got == code && text.contains(words), "{method}: {text} ({got})");
    }
    let scheduler = daemon.call("framework_get_scheduler", Value::Null);
    assert_eq!(scheduler, json!({"scheduler_name": "static", "scheduler_period": 0}));
    let memory = daemon.call("engine_get_memory_stats", Value::Null);
    assert!(memory["free_bytes"].as_u64() <= memory["size_bytes"].as_u64());
}

#[test]
fn examining_a_device_imports_its_pool() {
    let files = tempfile::tempdir().expect("a directory");
    let uri = format!("aio://{}/disk?name=disk&size_mb=32", files.path().display());
    let daemon = Daemon::start(&["--bdev", &uri, "--bdev", "null:///n?size_mb=32"]);
    daemon.call("pool_create", json!({"name": "tank", "disk": "disk"}));
    daemon.call("vol_create", json!({"pool": "tank", "name": "v", "size": 1 << 20}));
    daemon.call("pool_export", json!({"name": "tank"}));
    assert_eq!(daemon.names(), ["disk", "n"]);
    for _ in 0..2 {
        daemon.call("bdev_examine", json!({"name": "disk"}));
        assert_eq!(daemon.names(), ["disk", "n", "tank/v"]);
    }
    daemon.end(Signal::SIGTERM);
}

#[test]
fn switches_that_are_off_do_not_keep_a_pcie_controller_away() {
    let daemon = Daemon::start(&[]);
    let attach = |digests: bool| {
        let params = json!({"name": "p", "trtype": "pcie", "traddr": "ffff:ff:1f.7",
            "hdgst": digests, "ddgst": false, "prchk_reftag": false, "prchk_guard": false,
            "allow_unrecognized_csi": false, "disable_sq_flow_control": false});
        daemon.refuses("bdev_nvme_attach_controller", params)
    };
    let (code, words) = attach(false);
    assert!(code == -5 && words.contains("ffff:ff:1f.7"), "{words} ({code})");
    let (code, words) = attach(true);
    assert!(code == -32602 && words.contains("`hdgst` cannot be true"), "{words} ({code})");
}

#[test]
fn what_other_clients_read_is_there() {
    let files = tempfile::tempdir().expect("a directory");
    let uri = format!("aio://{}/disk?name=disk&size_mb=64", files.path().display());
    let daemon = Daemon::start(&["--bdev", &uri]);
    daemon.call("bdev_lvol_create_lvstore", json!({"bdev_name": "disk", "lvs_name": "lvs"}));
    // SPDK's CSI driver and OpenStack's Cinder say sizes in bytes.
    let params = json!({"lvol_name": "v", "size": (5 << 20) + 1, "lvs_name": "lvs",
        "clear_method": "unmap", "thin_provision": true});
    let uuid = daemon.call("bdev_lvol_create", params.clone());
    let device = |name: &Value| daemon.call("bdev_get_bdevs", json!({"name": name}))[0].clone();
    let made = device(&uuid);
    assert_eq!(made["num_blocks"], (6 << 20) / 4096);
    assert_eq!(made["aliases"], json!(["lvs/v"]));
    daemon.call("bdev_lvol_resize", json!({"name": made["name"], "size": 8 << 20}));
    assert_eq!(device(&uuid)["num_blocks"], (8 << 20) / 4096);
    let mut both = params.clone();
    both["size_in_mib"] = 5.into();
    let mut neither = params.clone();
    neither.as_object_mut().expect("an object").remove("size");
    for (params, words) in [(both, "`size` cannot be"), (neither, "`size_in_mib` is missing")] {
        let (code, text) = daemon.refuses("bdev_lvol_create", params);
        assert!(code == -32602 && text.contains(words), "{text} ({code})");
    }
    // They know these two errors by SPDK's words.
    let mut large = params;
    large["lvol_name"] = "w".into();
    (large["size"], large["thin_provision"]) = ((1_u64 << 30).into(), false.into());
    let (code, text) = daemon.refuses("bdev_lvol_create", large);
    assert!(code == -28 && text.starts_with("No space left on device: "), "{text} ({code})");
    let (code, text) = daemon.refuses("bdev_lvol_delete", json!({"name": "lvs/gone"}));
    assert!(code == -19 && text.starts_with("No such device: "), "{text} ({code})");
}
