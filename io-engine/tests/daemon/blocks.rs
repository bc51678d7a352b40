//! The block API over RPC.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::Daemon;

const INVALID_PARAMS: i64 = -32602;
const MIB: u64 = 1 << 20;

/// 512 bytes of "AAAA…" as base64 has them.
fn data() -> String {
    // Three bytes are four characters; two bytes are left over.
    format!("{}QUE=", "QUFB".repeat(170))
}

#[test]
fn blocks_are_allocated_written_read_and_freed() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=8&blk_size=512"]);
    let metrics = json!({"read_bandwidth_mbps": 3500.5, "iops": 500000});
    let create = json!({"name": "m", "total_size": 4 * MIB, "perf_metrics": metrics});
    assert_eq!(daemon.call("block_create", create), "m");
    let claimed = &daemon.call("bdev_get_bdevs", json!({"name": "m"}))[0];
    assert_eq!((&claimed["claimed"], &claimed["claimed_by"]), (&json!(true), &json!("block API")));

    let blocks = daemon.call("block_allocate", json!({"name": "m", "size": MIB + 1}));
    let large = |offset: u64| json!({"offset": offset, "size": MIB, "block_type": 3});
    assert_eq!(blocks, json!([large(0), large(MIB)]));
    let small = daemon.call("block_allocate", json!({"name": "m", "size": 100}));
    assert_eq!(small, json!([{"offset": 2 * MIB, "size": 4096, "block_type": 0}]));

    let block = &small[0];
    let write = json!({"name": "m", "block": block, "offset": 1024, "data": data()});
    assert_eq!(daemon.call("block_write", write), 512);
    let read = json!({"name": "m", "block": block, "offset": 1024, "length": 512});
    assert_eq!(daemon.call("block_read", read), data());
    let whole = daemon.call("block_read", json!({"name": "m", "block": block, "offset": 3584}));
    assert_eq!(whole.as_str().map(str::len), Some(512_usize.div_ceil(3) * 4));

    let stats = daemon.call("block_get_stats", json!({"name": "m"}));
    assert_eq!(stats["remaining"], 2 * MIB - 4096);
    assert_eq!(stats["declared"]["read_bandwidth_mbps"], 3500.5);
    assert_eq!(stats["declared"]["write_latency_us"], 0.0);
    for name in ["read_bandwidth_mbps", "write_bandwidth_mbps", "write_latency_us", "iops"] {
        assert!(stats["measured"][name].as_f64().is_some_and(|value| value > 0.0), "{stats}");
    }
    let store = &daemon.call("block_get", Value::Null)[0];
    assert_eq!((&store["name"], &store["capacity"]), (&json!("m"), &json!(4 * MIB)));
    assert_eq!((&store["made_device"], &store["io_depth"]), (&json!(false), &json!(256)));
    assert_eq!(store["free_blocks"], json!([15, 3, 3, 1]));

    let all = json!({"name": "m", "blocks": [blocks[0], block, blocks[1]]});
    assert_eq!(daemon.call("block_free", all.clone()), true);
    let (code, words) = daemon.refuses("block_free", all);
    assert!(code == -22 && words.contains("is not allocated"), "{code} {words}");
    assert_eq!(daemon.call("block_get_stats", json!({"name": "m"}))["remaining"], 4 * MIB);
    assert_eq!(daemon.call("block_delete", json!({"name": "m"})), true);
    assert_eq!(daemon.names(), ["m"]);
    assert_eq!(daemon.call("block_get", Value::Null), json!([]));
}

#[test]
fn a_device_that_was_made_goes_with_its_blocks() {
    let daemon = Daemon::start(&[]);
    let path = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let file = path.path().join("file").to_str().expect("text").to_owned();
    for (name, device) in [("malloc:///a?size_mb=2", "a"), (&*file, &*file)] {
        let create = json!({"name": name, "total_size": MIB, "alignment": 65536});
        assert_eq!(daemon.call("block_create", create), device);
        assert_eq!(daemon.names(), [device]);
        let blocks = daemon.call("block_allocate", json!({"name": device, "size": 1}));
        assert_eq!(blocks[0]["size"], 65536);
        assert_eq!(daemon.call("block_delete", json!({"name": device})), true);
        assert!(daemon.names().is_empty());
    }
    assert_eq!(std::fs::metadata(&file).expect("the file stays").len(), MIB);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let daemon = Daemon::start(&["--bdev", "null:///n?size_mb=4", "--bdev", "null:///o?size_mb=4"]);
    daemon.call("block_create", json!({"name": "n"}));
    let block = &daemon.call("block_allocate", json!({"name": "n", "size": 4096}))[0];
    let free = json!({"offset": 8192, "size": 4096, "block_type": 0});
    let write = |extra: Value| {
        let mut all = json!({"name": "n", "block": block, "data": data()});
        for (name, value) in extra.as_object().expect("members") {
            all[name] = value.clone();
        }
        all
    };
    let named = |extra: Value| {
        let mut all = extra;
        all["name"] = "n".into();
        all
    };
    for (method, params, code, words) in [
        ("block_create", json!({}), INVALID_PARAMS, "`name` is missing"),
        (
            "block_create",
            json!({"name": "o", "io_depth": 0}),
            INVALID_PARAMS,
            "`io_depth` cannot be 0",
        ),
        (
            "block_create",
            json!({"name": "o", "alignment": 3}),
            INVALID_PARAMS,
            "`alignment` cannot be 3",
        ),
        (
            "block_create",
            json!({"name": "o", "total_size": 5}),
            INVALID_PARAMS,
            "`total_size` cannot be 5",
        ),
        (
            "block_create",
            json!({"name": "o", "perf_metrics": {"iops": -1}}),
            INVALID_PARAMS,
            "in `perf_metrics`: parameter `iops` cannot be -1",
        ),
        ("block_create", json!({"name": "melt:///a"}), INVALID_PARAMS, "unknown scheme `melt`"),
        (
            "block_create",
            json!({"name": "o", "total_size": 8 * MIB}),
            -22,
            "device 'o' has 4194304",
        ),
        ("block_create", json!({"name": "n"}), -16, "block API holds the exclusive write claim"),
        ("block_create", json!({"name": "missing"}), -19, "'missing'"),
        ("block_delete", json!({"name": "o"}), -19, "no blocks are managed on a device 'o'"),
        ("block_get", json!({"name": "o"}), -19, "'o'"),
        ("block_allocate", named(json!({"size": 0})), INVALID_PARAMS, "`size` cannot be 0"),
        ("block_allocate", named(json!({"size": 5 * MIB})), -28, "no space for 5242880 bytes"),
        ("block_free", named(json!({"blocks": []})), INVALID_PARAMS, "`blocks` cannot be []"),
        ("block_free", named(json!({"blocks": [block, block]})), -22, "named twice"),
        ("block_free", named(json!({"blocks": [free]})), -22, "is not allocated"),
        ("block_write", write(json!({"data": "!"})), INVALID_PARAMS, "`data` cannot be"),
        ("block_write", write(json!({"block": 5})), INVALID_PARAMS, "`block` cannot be 5"),
        ("block_write", write(json!({"block": free})), -22, "is not allocated"),
        ("block_write", write(json!({"offset": 4096})), -22, "reach beyond the block at 0"),
        ("block_write", write(json!({"offset": 1})), -22, "does multiples of"),
        ("block_read", named(json!({"block": block, "length": 0})), INVALID_PARAMS, "`length`"),
        ("block_read", named(json!({"block": block, "offset": 4096})), -22, "lies behind 4096"),
        ("block_read", named(json!({"block": block, "length": 8192})), -22, "reach beyond"),
        ("block_get_stats", json!({"name": "o"}), -19, "'o'"),
    ] {
        let told = daemon.refuses(method, params.clone());
        assert!(told.0 == code && told.1.contains(words), "{method} {params}: {told:?}");
    }
    // Nothing of it has changed anything.
    assert_eq!(daemon.call("block_get_stats", json!({"name": "n"}))["remaining"], 4 * MIB - 4096);
    // The store is open still, and the end is orderly all the same.
    daemon.end(Signal::SIGTERM);
}

#[test]
fn a_device_that_is_pulled_away_fails_the_io() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=2"]);
    daemon.call("block_create", json!({"name": "m"}));
    let block = &daemon.call("block_allocate", json!({"name": "m", "size": 4096}))[0];
    daemon.call("bdev_destroy", json!({"name": "m"}));
    let write = json!({"name": "m", "block": block, "data": data()});
    let (code, words) = daemon.refuses("block_write", write);
    assert!(code < 0 && words.contains("'m'"), "{code} {words}");
    assert_eq!(daemon.call("block_delete", json!({"name": "m"})), true);
}
