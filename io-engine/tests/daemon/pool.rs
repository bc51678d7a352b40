//! Pools, volumes, snapshots and clones.

use std::fs::{self, File};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::Daemon;

/// A directory on the file system of the build, which unlike /tmp is seldom in memory.
fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// The URI of a file of so many MiB, which is made, and its path.
fn disk(dir: &TempDir, name: &str, mib: u64) -> (String, String) {
    let path = dir.path().join(name);
    File::create(&path).and_then(|file| file.set_len(mib << 20)).expect("a file");
    let path = path.to_str().expect("text").to_owned();
    (format!("aio://{path}"), path)
}

fn volume<'a>(list: &'a Value, device: &str) -> &'a Value {
    let mut volumes = list.as_array().expect("a list").iter();
    volumes.find(|one| one["device"] == device).unwrap_or_else(|| panic!("no {device} in {list}"))
}

/// A pool with two volumes, a snapshot and a clone.
fn fill(daemon: &Daemon, disk: &str) {
    let pool = daemon.call("pool_create", json!({"name": "tank", "disk": disk}));
    assert_eq!((&pool["name"], &pool["read_only"]), (&json!("tank"), &Value::Null));
    assert_eq!(pool["write_bytes_max"], 1 << 20);
    let made = daemon.call("vol_create", json!({"pool": "tank", "name": "a", "size": 1 << 30}));
    assert_eq!((&made["device"], &made["thin"]), (&json!("tank/a"), &json!(true)));
    let small =
        json!({"pool": "tank", "name": "b", "size": 1 << 20, "blk_size": 512, "thin": false});
    daemon.call("vol_create", small);
    daemon.call("vol_snapshot", json!({"name": "tank/a", "snapshot_name": "s"}));
    daemon.call("vol_clone", json!({"name": "tank/s", "clone_name": "c"}));
}

#[test]
fn what_a_pool_has_comes_back_after_a_restart() {
    let dir = directory();
    let (disk, path) = disk(&dir, "disk", 64);
    let daemon = Daemon::start(&[]);
    fill(&daemon, &disk);
    assert_eq!(daemon.names(), [path.as_str(), "tank/a", "tank/b", "tank/c", "tank/s"]);
    let bdevs = daemon.call("bdev_get_bdevs", json!({"name": "tank/b"}));
    assert_eq!((&bdevs[0]["block_size"], &bdevs[0]["num_blocks"]), (&json!(512), &json!(2048)));
    assert_eq!(bdevs[0]["product_name"], "Logical Volume");
    let snapshot = &daemon.call("bdev_get_bdevs", json!({"name": "tank/s"}))[0];
    assert_eq!(snapshot["read_only"], true);
    assert_eq!(snapshot["driver_specific"]["lvol"]["clones"], json!(["a", "c"]));
    let base = &daemon.call("bdev_get_bdevs", json!({"name": path}))[0];
    assert_eq!(base["claimed_by"], "pool 'tank'");
    let before = daemon.call("vol_get", Value::Null);
    let import = daemon.call("pool_get", json!({"name": "tank"}))[0]["import"].clone();
    let log = daemon.end(Signal::SIGTERM);
    assert!(log.contains("the pool is exported"), "{log}");

    // By a configuration file, with the call that the pool itself gave.
    let config = dir.path().join("config.json");
    let text = json!({"subsystems": [{"subsystem": "bdev", "config": [import]}]});
    fs::write(&config, text.to_string()).expect("written");
    let daemon = Daemon::start(&["--json", config.to_str().expect("text")]);
    assert_eq!(daemon.call("vol_get", json!({"pool": "tank"})), before);
    let stats = daemon.call("pool_get_stats", json!({"name": "tank"}));
    assert_eq!(stats["recovery_records"], 0);
    daemon.signal(Signal::SIGKILL);
    drop(daemon);

    // After a crash.
    let daemon = Daemon::start(&["--bdev", &format!("pool:///tank?disk={}", escaped(&disk))]);
    assert_eq!(daemon.call("vol_get", Value::Null), before);
    let report = daemon.call("pool_check", json!({"name": "tank"}));
    assert_eq!((&report["clean"], &report["datasets"]), (&json!(true), &json!(4)), "{report}");
    daemon.end(Signal::SIGTERM);
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25")
        .replace(':', "%3A")
        .replace('/', "%2F")
        .replace('?', "%3F")
        .replace('&', "%26")
}

#[test]
fn volumes_change() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=64"]);
    fill(&daemon, "m");
    daemon.call("vol_resize", json!({"name": "tank/c", "size": 2_u64 << 30}));
    daemon.call("vol_rename", json!({"name": "tank/c", "new_name": "d"}));
    daemon.call("vol_set_read_only", json!({"name": "tank/d"}));
    let bdev = &daemon.call("bdev_get_bdevs", json!({"name": "tank/d"}))[0];
    assert_eq!((&bdev["read_only"], &bdev["num_blocks"]), (&json!(true), &json!(524_288)));
    daemon.call("vol_set_read_only", json!({"name": "tank/d", "read_only": false}));
    daemon.call("vol_decouple", json!({"name": "tank/d"}));
    let all = daemon.call("vol_get", Value::Null);
    assert_eq!(volume(&all, "tank/d")["parent"], Value::Null);
    assert_eq!(volume(&all, "tank/s")["children"], json!(["a"]));
    daemon.call("vol_delete", json!({"name": "tank/s"}));
    assert_eq!(daemon.names(), ["m", "tank/a", "tank/b", "tank/d"]);
    let scrub = daemon.call("pool_scrub", json!({"name": "tank", "bytes_per_sec": 1 << 20}));
    assert_ne!(scrub["state"], "none");
    // The device of a volume goes and comes, its data stay.
    daemon.call("bdev_destroy", json!({"name": "tank/b"}));
    assert_eq!(daemon.names(), ["m", "tank/a", "tank/d"]);
    assert_eq!(daemon.call("bdev_create", json!({"uri": "lvol:///b?pool=tank"})), "tank/b");
    let made =
        daemon.call("bdev_create", json!({"uri": "vol:///e?pool=tank&size=8M&blk_size=512"}));
    assert_eq!(made, "tank/e");
    daemon.call("bdev_destroy", json!({"name": "tank"}));
    assert_eq!(daemon.names(), ["m"]);
    assert_eq!(daemon.call("pool_import", json!({"disk": "m"}))["volumes"], 4);
    daemon.call("pool_destroy", json!({"name": "tank"}));
    let (code, words) = daemon.refuses("pool_import", json!({"disk": "m"}));
    assert!(code == -19 && words.contains("holds no pool"), "{code} {words}");
    fill(&daemon, "m");
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let options = ["--bdev", "malloc:///m?size_mb=64", "--bdev", "malloc:///n?size_mb=64"];
    let daemon = Daemon::start(&options);
    fill(&daemon, "m");
    let volume = |name: &str, size: u64| json!({"pool": "tank", "name": name, "size": size});
    for (method, params, code, words) in [
        ("pool_create", json!({"name": "x", "disk": "m"}), -16, "pool 'tank' holds the exclusive"),
        (
            "pool_create",
            json!({"name": "tank", "disk": "n"}),
            -17,
            "'tank' is taken by the pool on",
        ),
        ("pool_create", json!({"name": "x", "disk": "o"}), -19, "no device 'o'"),
        ("pool_create", json!({"name": "a/b", "disk": "n"}), -22, "without '/'"),
        (
            "pool_create",
            json!({"name": "x", "disk": "n", "digest": "md5"}),
            -32602,
            "one of sha256",
        ),
        ("pool_import", json!({"disk": "m"}), -17, "is imported already"),
        ("pool_import", json!({"disk": "n"}), -19, "device 'n' holds no pool"),
        ("pool_import", json!({"disk": "melt:///n"}), -32602, "unknown scheme `melt`"),
        ("pool_get", json!({"name": "x"}), -19, "there is no pool 'x'; imported are tank"),
        ("vol_create", volume("a", 4096), -17, "the name 'tank/a' is taken"),
        ("vol_create", volume("x", 5000), -22, "a multiple of 4096"),
        ("vol_get", json!({"name": "tank/x"}), -19, "no volume or snapshot 'tank/x'"),
        ("vol_snapshot", json!({"name": "tank/s", "snapshot_name": "x"}), -22, "make a clone"),
        ("vol_clone", json!({"name": "tank/a", "clone_name": "x"}), -22, "only a snapshot can be"),
        ("vol_rename", json!({"name": "tank/a", "new_name": "b"}), -17, "'tank/b' is taken"),
        ("vol_resize", json!({"name": "tank/s", "size": 4096}), -22, "a snapshot keeps its size"),
        ("pool_grow", json!({"name": "tank"}), -22, "more than the pool has"),
        ("bdev_create", json!({"uri": "vol:///x?pool=tank"}), -19, "no volume or snapshot 'x'"),
        ("bdev_create", json!({"uri": "vol:///a?pool=tank&size=4k"}), -22, "and has 1073741824"),
        (
            "bdev_lvol_rename_lvstore",
            json!({"old_name": "tank", "new_name": "x"}),
            -95,
            "keeps the",
        ),
        ("bdev_lvol_inflate", json!({"name": "tank/a"}), -28, "are needed"),
    ] {
        let (got, message) = daemon.refuses(method, params.clone());
        assert_eq!(got, code, "{method} {params}: {message}");
        assert!(message.contains(words), "{method} {params}: {message}");
    }
    assert_eq!(daemon.names(), ["m", "n", "tank/a", "tank/b", "tank/c", "tank/s"]);
}

#[test]
fn a_volume_in_use_stays_as_it_is() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=64"]);
    fill(&daemon, "m");
    let nqn = "nqn.2016-06.io.spdk:cnode1";
    daemon.call("nvmf_create_transport", json!({"trtype": "TCP"}));
    daemon.call("nvmf_create_subsystem", json!({"nqn": nqn, "allow_any_host": true}));
    let namespace = json!({"nqn": nqn, "namespace": {"bdev_name": "tank/a"}});
    daemon.call("nvmf_subsystem_add_ns", namespace);
    for (method, params) in [
        ("vol_delete", json!({"name": "tank/a"})),
        ("vol_rename", json!({"name": "tank/a", "new_name": "x"})),
        ("vol_resize", json!({"name": "tank/a", "size": 4096})),
        ("vol_set_read_only", json!({"name": "tank/a"})),
        ("pool_export", json!({"name": "tank"})),
        ("pool_destroy", json!({"name": "tank"})),
    ] {
        let (code, words) = daemon.refuses(method, params);
        assert!(code == -16 && words.contains("'tank/a' is in use by"), "{method}: {code} {words}");
    }
    daemon.call("vol_resize", json!({"name": "tank/a", "size": 2_u64 << 30}));
    daemon.call("vol_snapshot", json!({"name": "tank/a", "snapshot_name": "t"}));
    daemon.call("nvmf_delete_subsystem", json!({"nqn": nqn}));
    daemon.call("vol_delete", json!({"name": "tank/a"}));
    daemon.end(Signal::SIGTERM);
}

#[test]
fn spdk_s_methods_work_on_pools() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=64"]);
    let store =
        daemon.call("bdev_lvol_create_lvstore", json!({"bdev_name": "m", "lvs_name": "lvs"}));
    let made = daemon.call(
        "bdev_lvol_create",
        json!({"lvol_name": "v", "size_in_mib": 8, "uuid": store, "thin_provision": true}),
    );
    daemon.call("bdev_lvol_snapshot", json!({"lvol_name": "lvs/v", "snapshot_name": "s"}));
    daemon.call("bdev_lvol_clone", json!({"snapshot_name": "lvs/s", "clone_name": "c"}));
    daemon.call("bdev_lvol_resize", json!({"name": made, "size_in_mib": 16}));
    daemon.call("bdev_lvol_rename", json!({"old_name": "lvs/c", "new_name": "d"}));
    daemon.call("bdev_lvol_inflate", json!({"name": "lvs/d"}));
    daemon.call("bdev_lvol_set_read_only", json!({"name": "lvs/d"}));
    let lvols = daemon.call("bdev_lvol_get_lvols", json!({"lvs_name": "lvs"}));
    let names: Vec<_> = lvols.as_array().expect("a list").iter().map(|one| &one["alias"]).collect();
    assert_eq!(names, ["lvs/v", "lvs/s", "lvs/d"]);
    assert_eq!((&lvols[1]["is_snapshot"], &lvols[0]["is_clone"]), (&json!(true), &json!(true)));
    assert_eq!(lvols[2]["is_thin_provisioned"], false);
    let stores = daemon.call("bdev_lvol_get_lvstores", json!({"uuid": store}));
    assert_eq!(
        (&stores[0]["base_bdev"], &stores[0]["cluster_size"]),
        (&json!("m"), &json!(1 << 20))
    );
    daemon.call("bdev_lvol_decouple_parent", json!({"name": "lvs/v"}));
    for name in ["lvs/d", "lvs/s", "lvs/v"] {
        daemon.call("bdev_lvol_delete", json!({"name": name}));
    }
    daemon.call("bdev_lvol_delete_lvstore", json!({"lvs_name": "lvs"}));
    assert_eq!(daemon.names(), ["m"]);
}

#[test]
fn a_removed_device_makes_its_pool_read_only() {
    let daemon = Daemon::start(&["--bdev", "malloc:///m?size_mb=64"]);
    fill(&daemon, "m");
    daemon.call("bdev_malloc_delete", json!({"name": "m"}));
    let pool = &daemon.call("pool_get", json!({"name": "tank"}))[0];
    assert_eq!(pool["read_only"], "its device 'm' was removed");
    let (code, words) = daemon.refuses("vol_delete", json!({"name": "tank/b"}));
    assert!(code == -30 && words.contains("its device 'm' was removed"), "{code} {words}");
    let exported = daemon.call("pool_export", json!({"name": "tank"}));
    assert_eq!(exported["stopped"], "its device 'm' was removed");
    assert!(daemon.names().is_empty());
}

#[test]
fn a_copy_of_a_pool_is_refused_and_a_read_only_import_writes_nothing() {
    let dir = directory();
    let (disk, path) = disk(&dir, "disk", 64);
    let daemon = Daemon::start(&[]);
    fill(&daemon, &disk);
    daemon.call("pool_export", json!({"name": "tank"}));
    assert!(daemon.names().is_empty(), "a device that was made for the pool goes with it");
    let copy = dir.path().join("copy");
    fs::copy(&path, &copy).expect("copied");
    let copied = format!("aio://{}", copy.display());
    let import = json!({"disk": disk, "readonly": true, "cache_mb": 8});
    let pool = daemon.call("pool_import", import);
    assert_eq!(pool["read_only"], "it was imported to be read only");
    assert_eq!(
        pool["import"]["params"],
        json!({"name": "tank", "disk": disk, "readonly": true, "cache_mb": 8})
    );
    assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "tank/a"}))[0]["read_only"], true);
    let (code, words) = daemon.refuses("pool_import", json!({"disk": copied}));
    assert!(code == -17 && words.contains("holds a copy of pool 'tank'"), "{code} {words}");
    let (code, words) =
        daemon.refuses("vol_create", json!({"pool": "tank", "name": "x", "size": 4096}));
    assert!(code == -30 && words.contains("imported to be read only"), "{code} {words}");
    let exported = daemon.call("pool_export", json!({"name": "tank"}));
    assert_eq!(exported["stopped"], Value::Null);
    assert!(
        fs::read(&path).expect("read") == fs::read(&copy).expect("read"),
        "something was written"
    );
    let other = json!({"disk": copied, "name": "lake"});
    let (code, words) = daemon.refuses("pool_import", other);
    assert!(code == -22 && words.contains("holds pool 'tank'"), "{code} {words}");
    daemon.end(Signal::SIGTERM);
}
