//! What methods answer when all is well.

use std::time::Duration;

use jsonrpc::client::blocking;
use serde_json::{Value, json};

use crate::harness::Daemon;

/// The names of an object's members.
fn members(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Checks that an object has all of these members.
fn has(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(name).is_some(), "{name} in {value:#}");
    }
}

#[test]
fn the_framework_describes_itself() {
    let daemon = Daemon::start(&[]);
    let all = daemon.call("rpc_get_methods", Value::Null);
    let now = daemon.call("rpc_get_methods", json!({"current": true, "include_aliases": true}));
    let (all, now) = (all.as_array().expect("all"), now.as_array().expect("now"));
    for name in ["bdev_get_bdevs", "bdev_malloc_create", "spdk_kill_instance", "bdev_create"] {
        assert!(all.contains(&name.into()) && now.contains(&name.into()), "{name}");
    }
    let only_at_startup = |name: &&Value| !now.contains(name);
    assert_eq!(all.iter().filter(only_at_startup).collect::<Vec<_>>(), ["framework_start_init"]);

    let version = daemon.call("spdk_get_version", Value::Null);
    assert!(version["version"].as_str().expect("text").starts_with("io-engine v"));
    assert_eq!(members(&version["fields"]), ["major", "minor", "patch", "suffix"]);
    assert!(version["fields"]["minor"].is_u64());

    assert_eq!(daemon.call("framework_wait_init", Value::Null), true);
    assert_eq!(daemon.refuses("framework_start_init", Value::Null).0, -1);
}

#[test]
fn reactors_and_threads() {
    let daemon = Daemon::start(&[]);
    let reactors = daemon.call("framework_get_reactors", Value::Null);
    assert_eq!(reactors["pid"], daemon.pid().as_raw());
    assert!(reactors["tick_rate"].as_u64().expect("a rate") > 1_000_000);
    let reactor = &reactors["reactors"][0];
    has(reactor, &["lcore", "tid", "busy", "idle", "in_interrupt", "irq", "sys", "lw_threads"]);
    assert_eq!(members(&reactor["lw_threads"][0]), ["cpumask", "elapsed", "id", "name"]);

    let stats = daemon.call("thread_get_stats", Value::Null);
    let thread = &stats["threads"][0];
    has(thread, &["name", "id", "cpumask", "busy", "idle", "active_pollers_count"]);
    has(thread, &["timed_pollers_count", "paused_pollers_count"]);
    assert_eq!((&thread["id"], &thread["name"]), (&json!(1), &reactor["lw_threads"][0]["name"]));

    let pollers = daemon.call("thread_get_pollers", Value::Null);
    has(&pollers["threads"][0], &["active_pollers", "timed_pollers", "paused_pollers"]);
}

#[test]
fn malloc_devices() {
    let daemon = Daemon::start(&[]);
    let uuid = "0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60";
    let made = daemon.call(
        "bdev_malloc_create",
        json!({"name": "m", "num_blocks": 64, "block_size": 512, "physical_block_size": 4096,
               "uuid": uuid, "md_size": 0, "dif_type": 0, "optimal_io_boundary": 0}),
    );
    assert_eq!(made, "m");
    let shape = json!({"num_blocks": 8, "block_size": 4096});
    assert_eq!(daemon.call("bdev_malloc_create", shape.clone()), "Malloc0");
    let named = json!({"name": "Malloc1", "num_blocks": 8, "block_size": 4096});
    assert_eq!(daemon.call("bdev_malloc_create", named), "Malloc1");
    assert_eq!(daemon.call("bdev_malloc_create", shape), "Malloc2", "a taken number is passed");
    assert_eq!(daemon.names(), ["Malloc0", "Malloc1", "Malloc2", "m"]);

    let by_uuid = daemon.call("bdev_get_bdevs", json!({"name": uuid}));
    assert_eq!(by_uuid.as_array().map(Vec::len), Some(1));
    let bdev = &by_uuid[0];
    has(bdev, &["aliases", "assigned_rate_limits", "claimed", "zoned", "supported_io_types"]);
    has(bdev, &["memory_domains", "write_cache", "read_only"]);
    for (name, value) in [
        ("name", json!("m")),
        ("product_name", json!("Malloc disk")),
        ("block_size", json!(512)),
        ("physical_block_size", json!(4096)),
        ("num_blocks", json!(64)),
        ("uuid", json!(uuid)),
        ("claimed", json!(false)),
    ] {
        assert_eq!(bdev[name], value, "{name}");
    }
    for (kind, supported) in
        [("read", true), ("flush", true), ("unmap", true), ("compare", true), ("nvme_io", false)]
    {
        assert_eq!(bdev["supported_io_types"][kind], supported, "{kind}");
    }
    has(&bdev["supported_io_types"], &["zcopy", "nvme_io_md", "seek_hole", "get_zone_info"]);
    has(&bdev["driver_specific"]["malloc"], &["page_kind"]);

    assert_eq!(daemon.call("bdev_malloc_delete", json!({"name": "Malloc1"})), true);
    assert_eq!(daemon.names(), ["Malloc0", "Malloc2", "m"]);
}

#[test]
fn null_devices() {
    let daemon = Daemon::start(&[]);
    let shape = json!({"name": "n", "num_blocks": 2048, "block_size": 512});
    assert_eq!(daemon.call("bdev_null_create", shape), "n");
    assert_eq!(daemon.call("bdev_null_resize", json!({"name": "n", "new_size": 3})), true);
    assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "n"}))[0]["num_blocks"], 6144);
    let (code, words) = daemon.refuses("bdev_null_resize", json!({"name": "n", "new_size": 2}));
    assert!(code == -22 && words.contains("`new_size` cannot be 2"), "{code} {words}");
    assert_eq!(daemon.call("bdev_null_delete", json!({"name": "n"})), true);
    assert!(daemon.names().is_empty());
}

#[test]
fn devices_by_uri() {
    let daemon = Daemon::start(&["--bdev", "null:///first?size_mb=1"]);
    assert_eq!(daemon.call("bdev_create", json!({"uri": "malloc:///m?size_mb=1"})), "m");
    assert_eq!(daemon.call("bdev_create", json!({"uri": "bdev:///first"})), "first");
    assert_eq!(daemon.names(), ["first", "m"]);
    assert_eq!(daemon.call("bdev_destroy", json!({"name": "first"})), true);
    assert_eq!(daemon.names(), ["m"]);
    assert_eq!(daemon.call("bdev_wait_for_examine", Value::Null), true);
}

#[test]
fn statistics() {
    let daemon =
        Daemon::start(&["--bdev", "null:///a?size_mb=1", "--bdev", "malloc:///b?size_mb=1"]);
    let all = daemon.call("bdev_get_iostat", Value::Null);
    has(&all, &["tick_rate", "ticks"]);
    assert_eq!(all["bdevs"].as_array().map(Vec::len), Some(2));
    let one = daemon.call("bdev_get_iostat", json!({"name": "b"}));
    assert_eq!(one["bdevs"][0]["name"], "b");
    for kind in ["read", "write", "unmap", "copy", "flush"] {
        for prefix in ["", "max_", "min_"] {
            let name = format!("{prefix}{kind}_latency_ticks");
            assert_eq!(one["bdevs"][0][&name], 0, "{name}");
        }
        assert_eq!(one["bdevs"][0][format!("num_{kind}_ops")], 0);
    }
    for bytes in ["bytes_read", "bytes_written", "bytes_unmapped", "bytes_copied"] {
        assert_eq!(one["bdevs"][0][bytes], 0, "{bytes}");
    }
    assert_eq!(one["bdevs"][0]["io_error"], json!({}));
    let channels = daemon.call("bdev_get_iostat", json!({"name": "b", "per_channel": true}));
    assert_eq!((&channels["name"], &channels["channels"]), (&json!("b"), &json!([])));
}

#[test]
fn a_caller_can_wait_for_a_device() {
    let daemon = Daemon::start(&[]);
    let socket = daemon.socket().to_owned();
    let waiting = std::thread::spawn(move || {
        let params = json!({"name": "late", "timeout": 60_000});
        blocking::call(&socket, "bdev_get_bdevs", Some(params), Duration::from_secs(60))
    });
    assert_eq!(daemon.call("bdev_create", json!({"uri": "null:///late?size_mb=1"})), "late");
    let late = waiting.join().expect("no panic").expect("it came");
    assert_eq!(late[0]["name"], "late");
    let never = daemon.refuses("bdev_get_bdevs", json!({"name": "never", "timeout": 1}));
    assert_eq!(never.0, -19);
}
