//! Faults over RPC: SPDK's methods and ours, with I/O by the block API.

use serde_json::{Value, json};

use crate::harness::Daemon;

const INVALID_PARAMS: i64 = -32602;

/// Allocates a block of a device; returns it.
fn block_of(daemon: &Daemon, name: &str) -> Value {
    daemon.call("block_create", json!({"name": name}));
    daemon.call("block_allocate", json!({"name": name, "size": 4096}))[0].clone()
}

/// Writes 512 bytes of a letter.
fn write(name: &str, block: &Value, letter: &str) -> Value {
    // Three bytes of A, B, C are "QUFB", "QkJC", "Q0ND"; the last two are three letters.
    let (three, two) = match letter {
        "A" => ("QUFB", "QUE="),
        "B" => ("QkJC", "QkI="),
        _ => ("Q0ND", "Q0M="),
    };
    json!({"name": name, "block": block, "data": format!("{}{two}", three.repeat(170))})
}

fn read(daemon: &Daemon, name: &str, block: &Value) -> String {
    let read = json!({"name": name, "block": block, "length": 512});
    daemon.call("block_read", read).as_str().map(str::to_owned).unwrap_or_default()
}

#[test]
fn injections_are_made_listed_and_removed() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=8&blk_size=512"]);
    let block = block_of(&daemon, "m");
    let uri = "inject://m?op=w&method=status-nvme-2-80&retries=1&seed=5";
    let made = daemon.call("fault_injection_create", json!({"uri": uri}));
    assert_eq!((&made["id"], &made["device"], &made["hits"]), (&json!(1), &json!("m"), &json!(0)));
    assert_eq!(made["uri"], "inject:///m?op=write&type=status-nvme-2-80&retries=1&seed=5");
    assert_eq!((&made["at_submission"], &made["at_completion"]), (&json!(["write"]), &json!([])));
    let (code, words) = daemon.refuses("block_write", write("m", &block, "A"));
    assert!(code == -5 && words.contains("SCT 0x2, SC 0x80"), "{code} {words}");
    daemon.call("block_write", write("m", &block, "A"));
    let listed = daemon.call("fault_injection_list", json!({"device": "m"}));
    assert_eq!((&listed[0]["hits"], &listed[0]["active"]), (&json!(1), &json!(false)));

    let fields = json!({"device": "m", "op": "read", "type": "data", "corrupt_value": 2,
        "corrupt_offset": 0, "probability": 1.0, "delay_us": 5});
    let (code, words) = daemon.refuses("fault_injection_create", fields);
    assert!(code == INVALID_PARAMS && words.contains("`delay_us`"), "{words}");
    let fields = json!({"device": "m", "op": "read", "type": "data", "corrupt_value": 2,
        "corrupt_offset": 0, "probability": 1.0});
    let second = daemon.call("fault_injection_create", fields);
    // A with its second bit turned over is C.
    assert!(read(&daemon, "m", &block).starts_with("Q0FB"));
    assert_eq!(daemon.call("fault_injection_remove", json!({"id": second["id"]}))["hits"], 1);
    assert!(read(&daemon, "m", &block).starts_with("QUFB"));
    assert_eq!(daemon.call("fault_injection_clear", Value::Null), 1);
    assert_eq!(daemon.call("fault_injection_list", Value::Null), json!([]));
    // A device takes its injections with it.
    daemon.call("fault_injection_create", json!({"device": "m", "type": "hang", "op": "flush"}));
    daemon.call("block_delete", json!({"name": "m"}));
    daemon.call("bdev_destroy", json!({"name": "m"}));
    assert_eq!(daemon.call("fault_injection_list", Value::Null), json!([]));
}

#[test]
fn wrong_injections_are_refused_by_name() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=8"]);
    for (params, words) in [
        (json!({}), "`uri` is missing"),
        (json!({"uri": "inject://m", "device": "m"}), "give either"),
        (json!({"uri": "inject://m", "op": "read"}), "give either"),
        (json!({"uri": "inject://m?op=reed"}), "`op` cannot be `reed`"),
        (json!({"device": "m", "op": 5}), "`op`"),
        (json!({"device": "m", "retries": "5"}), "`retries`"),
        (json!({"device": "m", "probability": 1.5}), "`probability`"),
        (json!({"device": "m", "delay_us": true}), "`delay_us`"),
        (json!({"device": "m", "op": "read", "type": "torn"}), "it can to write at submission"),
        (json!({"device": "m", "offset": 1_u64 << 40}), "blocks; give one below that"),
        (json!({"device": "m", "colour": "red"}), "unknown parameter `colour`"),
    ] {
        let (code, found) = daemon.refuses("fault_injection_create", params.clone());
        assert!(code == INVALID_PARAMS && found.contains(words), "{params}: {code} {found}");
    }
    let refused = |method: &str, params: Value| daemon.refuses(method, params).0;
    assert_eq!(refused("fault_injection_create", json!({"device": "x"})), -19);
    assert_eq!(refused("fault_injection_create", json!({"device": "m", "op": "zone_append"})), -95);
    assert_eq!(refused("fault_injection_remove", json!({"id": 7})), -2);
    assert_eq!(refused("fault_injection_release", json!({"id": 7})), -2);
    assert_eq!(
        refused("bdev_nvme_add_error_injection", json!({"name": "n", "cmd_type": "io", "opc": 1})),
        -19
    );
    assert_eq!(
        refused(
            "bdev_nvme_remove_error_injection",
            json!({"name": "n", "cmd_type": "io", "opc": 1})
        ),
        -19
    );
    let late = json!({"name": "n", "cmd_type": "io", "opc": 1, "timeout_in_us": 5});
    assert_eq!(refused("bdev_nvme_add_error_injection", late), INVALID_PARAMS);
    assert_eq!(daemon.call("fault_injection_list", Value::Null), json!([]));
}

#[test]
fn spdks_error_device() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=8&blk_size=512"]);
    assert_eq!(daemon.call("bdev_error_create", json!({"base_name": "m"})), true);
    let shown = &daemon.call("bdev_get_bdevs", json!({"name": "EE_m"}))[0];
    assert_eq!(shown["driver_specific"]["error"]["base_bdev_name"], "m");
    assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "m"}))[0]["claimed"], true);
    assert_eq!(daemon.refuses("bdev_error_create", json!({"base_name": "m"})).0, -17);
    assert_eq!(daemon.refuses("bdev_error_create", json!({"base_name": "x"})).0, -19);
    let block = block_of(&daemon, "EE_m");
    let inject = |params: Value| daemon.call("bdev_error_inject_error", params);
    let order = json!({"name": "EE_m", "io_type": "write", "error_type": "failure", "num": 1});
    assert_eq!(inject(order), true);
    assert_eq!(daemon.refuses("block_write", write("EE_m", &block, "A")).0, -5);
    daemon.call("block_write", write("EE_m", &block, "A"));
    let order = json!({"name": "EE_m", "io_type": "all", "error_type": "nvme_failure", "nvme_sct": 2, "nvme_sc": 0x81});
    inject(order);
    let read_one = json!({"name": "EE_m", "block": block, "length": 512});
    assert!(daemon.refuses("block_read", read_one).1.contains("SC 0x81"));
    inject(json!({"name": "EE_m", "io_type": "clear", "error_type": "failure"}));
    let corrupt = json!({"name": "EE_m", "io_type": "write", "error_type": "corrupt_data", "corrupt_value": 2});
    inject(corrupt);
    daemon.call("block_write", write("EE_m", &block, "A"));
    assert!(read(&daemon, "EE_m", &block).starts_with("Q0FB"));
    for (params, words) in [
        (json!({"name": "EE_m", "io_type": "copy", "error_type": "failure"}), "`io_type`"),
        (json!({"name": "EE_m", "io_type": "read", "error_type": "fire"}), "`error_type`"),
        (
            json!({"name": "EE_m", "io_type": "read", "error_type": "corrupt_data"}),
            "`corrupt_value`",
        ),
        (json!({"name": "EE_m", "io_type": "read", "error_type": "nvme_failure"}), "`nvme_sc`"),
        (
            json!({"name": "EE_m", "io_type": "read", "error_type": "failure", "nvme_sc": 1}),
            "`nvme_sc`",
        ),
    ] {
        let (code, found) = daemon.refuses("bdev_error_inject_error", params);
        assert!(code == INVALID_PARAMS && found.contains(words), "{found}");
    }
    let order = json!({"name": "m", "io_type": "read", "error_type": "failure"});
    assert_eq!(daemon.refuses("bdev_error_inject_error", order).0, -19);
    assert_eq!(daemon.call("bdev_error_resume_pending", json!({"name": "EE_m"})), true);
    daemon.call("block_delete", json!({"name": "EE_m"}));
    assert_eq!(daemon.call("bdev_error_delete", json!({"name": "EE_m"})), true);
    assert_eq!(daemon.names(), ["m"]);
    assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "m"}))[0]["claimed"], false);
}

#[test]
fn spdks_delay_and_passthru_devices() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=8&blk_size=512"]);
    let create = json!({"base_bdev_name": "m", "name": "p"});
    assert_eq!(daemon.call("bdev_passthru_create", create.clone()), "p");
    assert_eq!(
        daemon.refuses("bdev_passthru_create", json!({"base_bdev_name": "m", "name": "q"})).0,
        -16
    );
    let create = json!({"base_bdev_name": "p", "name": "d", "avg_read_latency": 1, "p99_read_latency": 2,
        "avg_write_latency": 3, "p99_write_latency": 4});
    assert_eq!(daemon.call("bdev_delay_create", create), "d");
    let update = json!({"delay_bdev_name": "d", "latency_type": "p99_write", "latency_us": 50});
    assert_eq!(daemon.call("bdev_delay_update_latency", update), true);
    let facts = &daemon.call("bdev_get_bdevs", json!({"name": "d"}))[0]["driver_specific"]["delay"];
    assert_eq!((&facts["avg_read_latency"], &facts["p99_write_latency"]), (&json!(1), &json!(50)));
    let wrong = json!({"delay_bdev_name": "d", "latency_type": "p50", "latency_us": 50});
    assert_eq!(daemon.refuses("bdev_delay_update_latency", wrong).0, INVALID_PARAMS);
    let other = json!({"delay_bdev_name": "p", "latency_type": "avg_read", "latency_us": 50});
    assert_eq!(daemon.refuses("bdev_delay_update_latency", other).0, -19);
    let block = block_of(&daemon, "d");
    daemon.call("block_write", write("d", &block, "B"));
    assert!(read(&daemon, "d", &block).starts_with("QkJC"));
    daemon.call("block_delete", json!({"name": "d"}));
    // Those above go with the device below.
    assert_eq!(daemon.call("bdev_malloc_delete", json!({"name": "m"})), true);
    let gone = (0..20_000).any(|_| daemon.names().is_empty());
    assert!(gone, "{:?}", daemon.names());
    assert_eq!(daemon.refuses("bdev_passthru_delete", json!({"name": "p"})).0, -19);
    daemon.call("bdev_create", json!({"uri": "null:///n?size_mb=1"}));
    daemon.call("bdev_create", json!({"uri": "error:///e?base=n"}));
    daemon.call("bdev_create", json!({"uri": "delay:///l?base=e&avg_read_latency=5"}));
    daemon.call("bdev_create", json!({"uri": "passthru:///t?base=l"}));
    assert_eq!(daemon.names().len(), 4);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time of an injection passes; no reactor is here"
)]
#[test]
fn what_is_left_of_faults_is_saved() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=8&blk_size=512"]);
    let block = block_of(&daemon, "m");
    for uri in [
        "inject://m?op=write&type=status-nvme-2-80&retries=2&after=1&seed=5",
        "inject://m?op=read&type=delay&delay_us=1&end_at=1&seed=6",
    ] {
        daemon.call("fault_injection_create", json!({"uri": uri}));
    }
    daemon.call("block_write", write("m", &block, "A"));
    daemon.refuses("block_write", write("m", &block, "A"));
    std::thread::sleep(std::time::Duration::from_millis(2));
    let left = || {
        let config = daemon.call("framework_get_config", json!({"name": "bdev"}));
        let calls = config.as_array().expect("a list").iter();
        let of = calls.filter(|call| call["method"] == "fault_injection_create");
        of.map(|call| call["params"]["uri"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(left(), ["inject:///m?op=write&type=status-nvme-2-80&retries=1&seed=5"]);
    daemon.refuses("block_write", write("m", &block, "A"));
    assert_eq!(left(), [""; 0], "it happens no more");
}
