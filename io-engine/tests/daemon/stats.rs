//! Statistics, limits, events and health over RPC.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Daemon;

/// A daemon with a memory device that blocks are allocated from, and one such block.
fn with_block() -> (Daemon, Value) {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=2"]);
    assert_eq!(daemon.call("block_create", json!({"name": "m"})), "m");
    let blocks = daemon.call("block_allocate", json!({"name": "m", "size": 4096}));
    let block = blocks[0].clone();
    (daemon, block)
}

/// Writes the block a few times.
fn write(daemon: &Daemon, block: &Value, times: u32) {
    // 4096 zero bytes: 5461 letters and the padding.
    let data = format!("{}==", "A".repeat(5462));
    for _ in 0..times {
        let params = json!({"name": "m", "block": block, "data": data});
        assert_eq!(daemon.call("block_write", params), 4096);
    }
}

fn iostat(daemon: &Daemon, extra: Value) -> Value {
    let mut params = json!({"name": "m"});
    for (name, value) in extra.as_object().into_iter().flatten() {
        params[name] = value.clone();
    }
    daemon.call("bdev_get_iostat", params)["bdevs"][0].clone()
}

#[test]
fn statistics_are_set_back() {
    let (daemon, block) = with_block();
    write(&daemon, &block, 3);
    let taken = iostat(&daemon, json!({"reset_mode": "all"}));
    assert_eq!((&taken["num_write_ops"], &taken["bytes_written"]), (&json!(3), &json!(12288)));
    assert_eq!(iostat(&daemon, json!({}))["num_write_ops"], 0);
    write(&daemon, &block, 2);
    assert!(iostat(&daemon, json!({}))["max_write_latency_ticks"] != 0);
    assert_eq!(daemon.call("bdev_reset_iostat", json!({"name": "m", "mode": "maxmin"})), true);
    let kept = iostat(&daemon, json!({"reset_mode": "none"}));
    assert_eq!((&kept["num_write_ops"], &kept["max_write_latency_ticks"]), (&json!(2), &json!(0)));
    let channels = json!({"names": ["m"], "per_channel": true, "reset_mode": "error"});
    // Nothing is in flight, so there may be no channel.
    assert!(daemon.call("bdev_get_iostat", channels)["channels"].is_array());
    assert_eq!(daemon.call("bdev_reset_iostat", Value::Null), true);
    assert_eq!(iostat(&daemon, json!({}))["num_write_ops"], 0);
    for (method, params, words) in [
        ("bdev_reset_iostat", json!({"mode": "some"}), "one of all, maxmin, error, none"),
        ("bdev_get_iostat", json!({"reset_mode": 1}), "one of all, maxmin, error, none"),
        ("bdev_get_iostat", json!({"names": []}), "a list of 1 to 1024, each"),
        ("bdev_get_iostat", json!({"names": ["m"], "name": "m"}), "`name` is given already"),
        ("bdev_set_qd_sampling_period", json!({"name": "m", "period": -1}), "`period` cannot be"),
    ] {
        let (code, message) = daemon.refuses(method, params);
        assert!(code == -32602 && message.contains(words), "{method}: {message} ({code})");
    }
    let gone = json!({"names": ["m", "x"], "reset_mode": "all"});
    assert_eq!(daemon.refuses("bdev_get_iostat", gone).0, -19);
}

#[test]
fn histograms_and_latencies() {
    let (daemon, block) = with_block();
    let (code, words) = daemon.refuses("bdev_get_histogram", json!({"name": "m"}));
    assert!(code == -32603 && words.contains("bdev_enable_histogram"), "{words} ({code})");
    let on = json!({"name": "m", "enable": true});
    assert_eq!(daemon.call("bdev_enable_histogram", on), true);
    write(&daemon, &block, 5);
    daemon.call("block_read", json!({"name": "m", "block": block}));
    let latency = daemon.call("bdev_get_latency", json!({"name": "m"}));
    let (reads, writes) = (&latency["operations"]["read"], &latency["operations"]["write"]);
    assert_eq!((&reads["count"], &writes["count"]), (&json!(1), &json!(5)), "{latency:#}");
    let figure = |name: &str| writes[name].as_u64().expect(name);
    assert!(figure("p50_ns") <= figure("p90_ns") && figure("p99_9_ns") <= figure("p99_99_ns"));
    assert!(figure("p99_ns") > 0 && figure("mean_ns") > 0);
    let shown = daemon.call("bdev_get_histogram", json!({"name": "m"}));
    assert_eq!((&shown["granularity"], &shown["bucket_shift"]), (&json!(7), &json!(7)));
    assert!(shown["max_range"].as_u64() > shown["min_range"].as_u64());
    assert!(shown["tsc_rate"].as_u64() > Some(1_000_000));
    let borders = json!({"name": "m", "borders": [0, 60_000_000]});
    let counts = daemon.call("bdev_get_histogram_borders", borders);
    assert_eq!(counts, json!({"borders_count": [0, 6, 6]}));
    let falling = json!({"name": "m", "borders": [2, 1]});
    let (code, words) = daemon.refuses("bdev_get_histogram_borders", falling);
    assert!(code == -32602 && words.contains("larger than the one before"), "{words} ({code})");
    let reads_only = json!({"name": "m", "enable": true, "opc": "read", "granularity": 3,
                            "min_nsec": 0, "max_nsec": 1_000_000});
    assert_eq!(daemon.call("bdev_enable_histogram", reads_only), true);
    write(&daemon, &block, 1);
    let latency = daemon.call("bdev_get_latency", json!({"name": "m"}));
    assert_eq!(latency["operations"], json!({}), "it began afresh, and counts reads only");
    assert_eq!(daemon.call("bdev_get_histogram", json!({"name": "m"}))["granularity"], 3);
    assert_eq!(daemon.call("bdev_enable_histogram", json!({"name": "m", "enable": false})), true);
    assert_eq!(daemon.refuses("bdev_get_latency", json!({"name": "m"})).0, -32603);
    for (params, words) in [
        (json!({"name": "m"}), "`enable` is missing"),
        (json!({"name": "m", "enable": true, "opc": "reed"}), "one of read, write"),
        (json!({"name": "m", "enable": true, "granularity": 8}), "from 1 to 7"),
        (json!({"name": "m", "enable": true, "min_nsec": 5, "max_nsec": 5}), "more than min_nsec"),
    ] {
        let (code, message) = daemon.refuses("bdev_enable_histogram", params);
        assert!(code == -32602 && message.contains(words), "{message} ({code})");
    }
}

#[test]
fn the_queue_depth_is_shown_while_it_is_sampled() {
    let (daemon, block) = with_block();
    assert!(iostat(&daemon, json!({})).get("queue_depth").is_none());
    let on = json!({"name": "m", "period": 100});
    assert_eq!(daemon.call("bdev_set_qd_sampling_period", on), true);
    write(&daemon, &block, 1);
    let seen = iostat(&daemon, json!({}));
    assert_eq!(
        (&seen["queue_depth_polling_period"], &seen["queue_depth"]),
        (&json!(100), &json!(0))
    );
    assert!(seen["io_time"].is_u64() && seen["weighted_io_time"].is_u64());
    let off = json!({"name": "m", "period": 0});
    assert_eq!(daemon.call("bdev_set_qd_sampling_period", off), true);
    assert!(iostat(&daemon, json!({})).get("io_time").is_none());
}

#[test]
fn limits_are_rounded_kept_and_shown() {
    let (daemon, block) = with_block();
    let limits = |daemon: &Daemon| {
        daemon.call("bdev_get_bdevs", json!({"name": "m"}))[0]["assigned_rate_limits"].clone()
    };
    let set = |params: Value| assert_eq!(daemon.call("bdev_set_qos_limit", params), true);
    set(json!({"name": "m", "rw_ios_per_sec": 20_500, "r_mbytes_per_sec": 7}));
    set(json!({"name": "m", "w_mbytes_per_sec": 9, "r_mbytes_per_sec": 0}));
    let wanted = json!({"rw_ios_per_sec": 21_000, "rw_mbytes_per_sec": 0,
                        "r_mbytes_per_sec": 0, "w_mbytes_per_sec": 9});
    assert_eq!(limits(&daemon), wanted);
    write(&daemon, &block, 20);
    set(json!({"name": "m", "rw_ios_per_sec": 0, "w_mbytes_per_sec": 0}));
    assert_eq!(limits(&daemon)["rw_ios_per_sec"], 0);
    let (code, words) = daemon.refuses("bdev_set_qos_limit", json!({"name": "m"}));
    assert!(code == -22 && words.contains("No rate limits specified"), "{words} ({code})");
    let unknown = json!({"name": "x", "rw_ios_per_sec": 1});
    assert_eq!(daemon.refuses("bdev_set_qos_limit", unknown).0, -19);
    let negative = json!({"name": "m", "rw_ios_per_sec": -1});
    assert_eq!(daemon.refuses("bdev_set_qos_limit", negative).0, -32602);
}

#[test]
fn events_are_numbered_and_fetched_from_any_number_on() {
    let daemon = Daemon::start(&["--bdev", "null:///n?size_mb=1"]);
    let types = daemon.call("notify_get_types", Value::Null);
    let types = types.as_array().expect("a list");
    for name in ["bdev_register", "bdev_unregister", "bdev_resize", "pool_read_only"] {
        assert!(types.contains(&name.into()), "{name}");
    }
    daemon.call("bdev_null_resize", json!({"name": "n", "new_size": 3}));
    daemon.call("bdev_null_delete", json!({"name": "n"}));
    let all = daemon.call("notify_get_notifications", Value::Null);
    let seen: Vec<_> = (all.as_array().expect("a list").iter())
        .map(|event| (event["type"].as_str().unwrap_or(""), event["id"].as_u64(), &event["ctx"]))
        .collect();
    let name = json!("n");
    let wanted =
        [("bdev_register", Some(0)), ("bdev_resize", Some(1)), ("bdev_unregister", Some(2))];
    assert_eq!(seen, wanted.map(|(kind, id)| (kind, id, &name)));
    assert_eq!(all[1]["details"]["num_blocks"], 6144);
    let some = daemon.call("notify_get_notifications", json!({"id": 1, "max": 1}));
    assert_eq!((some.as_array().map(Vec::len), &some[0]["id"]), (Some(1), &json!(1)));
    assert_eq!(daemon.call("notify_get_notifications", json!({"id": 3})), json!([]));
    assert_eq!(daemon.refuses("notify_get_notifications", json!({"id": -1})).0, -32602);
}

#[test]
fn health_is_shown_and_its_thresholds_are_set() {
    let daemon = Daemon::start(&["--bdev", "null:///n?size_mb=1", "--bdev", "null:///o?size_mb=1"]);
    let health = |name: &str| daemon.call("bdev_get_health", json!({"name": name}))[0].clone();
    let all = daemon.call("bdev_get_health", Value::Null);
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    assert_eq!((&all[0]["state"], &all[0]["reasons"]), (&json!("online"), &json!([])));
    let set = |params: Value| daemon.call("bdev_set_health_thresholds", params);
    assert_eq!(set(json!({"name": "n", "faulted_media_errors": 7})), true);
    assert_eq!(set(json!({"degraded_io_timeouts": 3})), true);
    assert_eq!(health("n")["thresholds"]["faulted_media_errors"], 7);
    assert_eq!(health("n")["thresholds"]["degraded_io_timeouts"], 1, "it has its own");
    assert_eq!(health("o")["thresholds"]["degraded_io_timeouts"], 3);
    assert_eq!(daemon.call("bdev_reset_health", json!({"name": "n"})), true);
    let limit = json!({"name": "n", "timeout_us": 5000, "action": "reset"});
    assert_eq!(daemon.call("bdev_set_io_timeout", limit), true);
    assert_eq!(
        (&health("n")["timeout_us"], &health("n")["action"]),
        (&json!(5000), &json!("reset"))
    );
    assert_eq!(daemon.call("bdev_set_io_timeout", json!({"name": "n", "timeout_us": 0})), true);
    assert_eq!(health("n")["action"], Value::Null);
    for (params, words) in [
        (json!({"name": "n"}), "`timeout_us` is missing"),
        (json!({"name": "n", "timeout_us": 999}), "at least 1000"),
        (
            json!({"name": "n", "timeout_us": 5000, "action": "melt"}),
            "one of ignore, reset, remove, abort",
        ),
    ] {
        let (code, message) = daemon.refuses("bdev_set_io_timeout", params);
        assert!(code == -32602 && message.contains(words), "{message} ({code})");
    }
    let abort = json!({"name": "n", "timeout_us": 5000, "action": "abort"});
    let (code, message) = daemon.refuses("bdev_set_io_timeout", abort);
    assert!(code == -95 && message.contains("device 'n' (null) cannot be taken back"), "{message}");
    assert_eq!(health("n")["action"], Value::Null);
    for method in ["bdev_get_health", "bdev_reset_health"] {
        assert_eq!(daemon.refuses(method, json!({"name": "x"})).0, -19, "{method}");
    }
}

/// A target that stops answering, and what the daemon does with its device.
#[test]
#[expect(clippy::disallowed_methods, reason = "this is no reactor")]
fn a_device_whose_io_takes_too_long_is_removed_where_that_is_asked_for() {
    use nix::sys::signal::Signal;
    let mut target = Daemon::start(&["--bdev", "malloc:///m?size_mb=1"]);
    let nqn = "nqn.2016-06.io.spdk:slow";
    target.call("nvmf_create_transport", json!({"trtype": "TCP"}));
    target.call("nvmf_create_subsystem", json!({"nqn": nqn, "allow_any_host": true}));
    let namespace = json!({"nqn": nqn, "namespace": {"bdev_name": "m"}});
    target.call("nvmf_subsystem_add_ns", namespace);
    let address = json!({"trtype": "TCP", "traddr": "127.0.0.1", "adrfam": "IPv4", "trsvcid": "0"});
    let listen = json!({"nqn": nqn, "listen_address": address});
    target.call("nvmf_subsystem_add_listener", listen);
    let listeners = target.call("nvmf_subsystem_get_listeners", json!({"nqn": nqn}));
    let port = listeners[0]["address"]["trsvcid"].as_str().expect("a port").to_owned();
    let host = Daemon::start(&[]);
    let uri = format!("nvmf://127.0.0.1:{port}/{nqn}?name=far");
    let name = host.call("bdev_create", json!({"uri": uri}));
    let limit = json!({"name": name, "timeout_us": 20_000, "action": "remove"});
    assert_eq!(host.call("bdev_set_io_timeout", limit), true);
    host.call("block_create", json!({"name": name}));
    let blocks = host.call("block_allocate", json!({"name": name, "size": 4096}));
    target.signal(Signal::SIGSTOP);
    let read = json!({"name": name, "block": blocks[0]});
    let (code, words) = host.refuses("block_read", read);
    target.signal(Signal::SIGCONT);
    assert!(code < 0, "{words}");
    for _ in 0..1000 {
        if host.names().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(host.names().is_empty(), "{:?}", host.names());
    let events = host.call("notify_get_notifications", Value::Null);
    let kinds: Vec<_> = events.as_array().expect("a list").iter().map(|e| &e["type"]).collect();
    assert!(kinds.contains(&&json!("bdev_io_timeout")), "{kinds:?}");
    assert!(kinds.contains(&&json!("bdev_unregister")), "{kinds:?}");
    target.wait_for("the RPC server listens");
}
