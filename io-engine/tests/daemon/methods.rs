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

#[test]
fn memory_sockets_and_digests() {
    let daemon = Daemon::start(&[]);
    let buffers = daemon.call("iobuf_get_stats", Value::Null);
    assert_eq!(members(&buffers[0]), ["large_pool", "module", "small_pool"]);
    assert_eq!(members(&buffers[0]["small_pool"]), ["cache", "main", "retry"]);
    let before = buffers[0]["small_pool"]["main"].as_u64().expect("a number");

    let used = daemon.call("sock_get_default_impl", Value::Null)["impl_name"].clone();
    let other = if used == "uring" { "posix" } else { "uring" };
    assert_eq!(daemon.call("sock_set_default_impl", json!({"impl_name": used})), true);
    let options = daemon.call("sock_impl_get_options", json!({"impl_name": used}));
    has(&options, &["recv_buf_size", "send_buf_size", "enable_recv_pipe", "enable_quickack"]);
    has(&options, &["enable_placement_id", "zerocopy_threshold", "tls_version", "enable_ktls"]);
    // What is told can be set, and nothing else.
    let mut same = options.clone();
    same["impl_name"] = used.clone();
    assert_eq!(daemon.call("sock_impl_set_options", same), true);
    let (code, words) = daemon.refuses(
        "sock_impl_set_options",
        json!({"impl_name": used, "enable_zerocopy_send_server": true}),
    );
    assert!(code == -32602 && words.contains("`enable_zerocopy_send_server`"), "{words}");
    for method in ["sock_set_default_impl", "sock_impl_get_options"] {
        assert_eq!(daemon.refuses(method, json!({"impl_name": other})).0, -95, "{method}");
        assert_eq!(daemon.refuses(method, json!({"impl_name": "ssl"})).0, -32602, "{method}");
    }

    let who = daemon.call("accel_get_opc_assignments", Value::Null);
    assert_eq!(who, json!({"crc32c": "software", "sha256": "software", "blake3": "software"}));
    let modules = daemon.call("accel_get_module_info", Value::Null);
    assert_eq!(modules[0]["supported ops"], json!(["crc32c", "sha256", "blake3"]));
    assert!(modules[0]["implementations"]["sha256"].is_string(), "{modules}");
    let made = daemon.call("accel_get_stats", Value::Null);
    assert_eq!((&made["operations"], &made["sequence_executed"]), (&json!([]), &json!(0)));
    // A pool is digested.
    daemon
        .call("bdev_malloc_create", json!({"name": "d", "num_blocks": 16384, "block_size": 4096}));
    daemon.call("pool_create", json!({"name": "p", "disk": "d", "digest": "blake3"}));
    daemon.call("vol_create", json!({"pool": "p", "name": "v", "size": 1 << 20}));
    let made = daemon.call("accel_get_stats", Value::Null);
    let of = |opcode: &str| {
        let all = made["operations"].as_array().expect("a list");
        let one = all.iter().find(|one| one["opcode"] == opcode);
        one.unwrap_or_else(|| panic!("{opcode} in {made}")).clone()
    };
    for opcode in ["sha256", "blake3"] {
        assert!(of(opcode)["num_bytes"].as_u64() > Some(4096), "{made}");
        assert!(of(opcode)["executed"].as_u64() > Some(0), "{made}");
    }
    let buffers = daemon.call("iobuf_get_stats", Value::Null);
    assert!(buffers[0]["small_pool"]["main"].as_u64() > Some(before), "{buffers}");

    let channels = daemon.call("thread_get_io_channels", Value::Null);
    let thread = &channels["threads"][0];
    assert_eq!(members(thread), ["id", "io_channels", "name"]);
    assert_eq!(thread["io_channels"][0]["name"], "bdev_d");
    assert!(thread["io_channels"][0]["ref"].as_u64() > Some(0), "{channels}");
}

#[test]
fn what_is_known_of_the_memory_is_written_to_a_file() {
    let daemon = Daemon::start(&[]);
    let dir = daemon.dir.path().display().to_string();
    let confined = Daemon::start(&["--rpc-root", &dir]);
    for daemon in [&daemon, &confined] {
        let name = daemon.call("env_dpdk_get_mem_stats", Value::Null)["filename"].clone();
        let name = name.as_str().expect("a path").to_owned();
        assert_eq!(daemon.call("env_dpdk_get_mem_stats", Value::Null)["filename"], name, "again");
        let text = std::fs::read_to_string(&name).expect("a file");
        assert!(text.contains("size_bytes 4194304") && text.contains("reactor_"), "{text}");
        let inside = name.starts_with(&dir);
        assert_eq!(inside, std::ptr::eq(daemon, &confined), "{name}");
        std::fs::remove_file(&name).expect("it is ours");
    }
}

#[test]
fn devices_that_are_parts() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=4"]);
    let split = |count: u32, mib: u64| json!({"base_bdev": "m", "split_count": count, "split_size_mb": mib});
    assert_eq!(daemon.call("bdev_split_create", split(9, 2)), json!(["mp0", "mp1"]));
    let part = daemon.call("bdev_get_bdevs", json!({"name": "mp1"}));
    assert_eq!(part[0]["num_blocks"], 4096);
    let facts = json!({"base_bdev": "m", "offset_blocks": 4096});
    assert_eq!(part[0]["driver_specific"]["split"], facts);
    assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "m"}))[0]["claimed"], true);
    assert_eq!(daemon.refuses("bdev_split_create", split(2, 0)).0, -17);
    assert_eq!(daemon.refuses("bdev_null_delete", json!({"name": "mp0"})).0, -19);
    assert_eq!(daemon.call("bdev_split_delete", json!({"base_bdev": "m"})), true);
    assert_eq!(daemon.refuses("bdev_split_delete", json!({"base_bdev": "m"})).0, -19);
    let (code, words) = daemon.refuses("bdev_split_create", split(1, 5));
    assert!(code == -22 && words.contains("1 to 8192"), "{words} ({code})");
    assert_eq!(daemon.refuses("bdev_split_create", split(0, 0)).0, -32602);

    // By URI, and one goes with the others unless those are in use.
    let uri = "split:///m?split_count=2";
    assert_eq!(daemon.call("bdev_create", json!({"uri": uri})), "mp0");
    daemon.call("bdev_passthru_create", json!({"base_bdev_name": "mp1", "name": "over"}));
    let (code, words) = daemon.refuses("bdev_destroy", json!({"name": "mp0"}));
    assert!(code == -16 && words.contains("mp1 is in use"), "{words} ({code})");
    daemon.call("bdev_passthru_delete", json!({"name": "over"}));
    daemon.call("bdev_destroy", json!({"name": "mp0"}));
    assert_eq!(daemon.names(), ["m"]);
}
