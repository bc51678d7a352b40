//! Devices over files, by aio and by uring.

use std::fs::{self, File};

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Daemon, fails};

/// A directory on the file system of the build, which unlike /tmp is seldom in memory: Linux AIO
/// needs direct I/O.
fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// A file of so many MiB; returns its path.
fn file(dir: &TempDir, name: &str, mib: u64) -> String {
    let path = dir.path().join(name);
    File::create(&path).and_then(|file| file.set_len(mib << 20)).expect("a file");
    path.to_str().expect("text").to_owned()
}

#[test]
fn both_drivers_create_rescan_and_delete() {
    let (daemon, dir) = (Daemon::start(&[]), directory());
    for driver in ["aio", "uring"] {
        let path = file(&dir, driver, 1);
        let method = |what: &str| format!("bdev_{driver}_{what}");
        let uuid = "0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60";
        let create = json!({"name": "f", "filename": path, "block_size": 4096, "uuid": uuid});
        assert_eq!(daemon.call(&method("create"), create.clone()), "f");
        let bdev = &daemon.call("bdev_get_bdevs", json!({"name": "f"}))[0];
        assert_eq!((&bdev["num_blocks"], &bdev["block_size"]), (&json!(256), &json!(4096)));
        assert_eq!((&bdev["uuid"], &bdev["driver"]), (&json!(uuid), &json!(driver)));
        assert_eq!(bdev["driver_specific"][driver]["filename"], path);

        let (code, words) = daemon.refuses(&method("create"), create);
        assert!(code == -17 && words.contains("the name 'f' is taken"), "{code} {words}");
        let twice = json!({"name": "g", "filename": path});
        let (code, words) = daemon.refuses(&method("create"), twice);
        assert!(code == -16 && words.contains("is in use"), "{code} {words}");

        let grown = File::options().write(true).open(&path).expect("open");
        grown.set_len(2 << 20).expect("grown");
        assert_eq!(daemon.call(&method("rescan"), json!({"name": "f"})), true);
        assert_eq!(daemon.call("bdev_get_bdevs", json!({"name": "f"}))[0]["num_blocks"], 512);
        assert_eq!(daemon.call(&method("delete"), json!({"name": "f"})), true);
        assert!(daemon.names().is_empty());
    }
}

#[test]
fn files_that_cannot_be_devices() {
    let (daemon, dir) = (Daemon::start(&["--bdev", "null:///n?size_mb=1"]), directory());
    let path = file(&dir, "file", 1);
    let short = dir.path().join("short");
    fs::write(&short, [0; 100]).expect("written");
    let odd = dir.path().join("odd");
    fs::write(&odd, vec![0; 4096 * 2 + 512 * 3]).expect("written");
    let create = |path: &str| json!({"name": "f", "filename": path, "block_size": 4096});
    for driver in ["aio", "uring"] {
        let method = format!("bdev_{driver}_create");
        for (params, code, words) in [
            (create("/nonexistent"), -2, "does not exist"),
            (create(dir.path().to_str().expect("text")), -22, "is a directory"),
            (create(short.to_str().expect("text")), -22, "less than one block"),
            (create(odd.to_str().expect("text")), -22, "not a multiple of the block size 4096"),
            (create("/dev/null"), -22, "is a character device"),
            (json!({"name": "f", "filename": path, "block_size": 777}), -32602, "`block_size`"),
            (json!({"name": "f"}), -32602, "`filename` is missing"),
            (json!({"filename": path}), -32602, "`name` is missing"),
            (json!({"name": "f", "filename": "a\u{0}b"}), -32602, "no zero byte"),
            (json!({"name": "f", "filename": path, "size": 1}), -32602, "unknown parameter `size`"),
            (json!({"name": "n", "filename": path}), -17, "the name 'n' is taken"),
        ] {
            let shown = format!("{method} {params}");
            let (got, message) = daemon.refuses(&method, params);
            assert_eq!(got, code, "{shown}: {message}");
            assert!(message.contains(words), "{shown}: {message}");
        }
        for what in ["rescan", "delete"] {
            let method = format!("bdev_{driver}_{what}");
            let (code, words) = daemon.refuses(&method, json!({"name": "n"}));
            assert!(code == -19 && words.contains("is a null device"), "{method}: {words}");
        }
    }
    let read_only = json!({"name": "f", "filename": path, "readonly": true, "fallocate": true});
    assert_eq!(daemon.refuses("bdev_aio_create", read_only).0, -32602);
    assert_eq!(daemon.names(), ["n"]);
}

#[test]
fn a_device_can_be_read_only() {
    let (daemon, dir) = (Daemon::start(&[]), directory());
    let path = file(&dir, "file", 1);
    let create = json!({"name": "f", "filename": path, "readonly": true});
    assert_eq!(daemon.call("bdev_aio_create", create), "f");
    let bdev = &daemon.call("bdev_get_bdevs", json!({"name": "f"}))[0];
    assert_eq!(bdev["read_only"], true);
    assert_eq!(bdev["supported_io_types"]["write"], false);
    assert_eq!(bdev["supported_io_types"]["read"], true);
}

#[test]
fn uris_name_files_and_create_them() {
    let dir = directory();
    let path = file(&dir, "there", 1);
    let new = dir.path().join("new");
    let new = new.to_str().expect("text");
    let by_path = format!("aio://{path}");
    let created = format!("uring://{new}?name=u&size_mb=2&blk_size=4096&direct=false");
    let daemon = Daemon::start(&["--bdev", &by_path, "--bdev", &created]);
    assert_eq!(daemon.names(), [path.as_str(), "u"]);
    let bdev = &daemon.call("bdev_get_bdevs", json!({"name": "u"}))[0];
    assert_eq!((&bdev["num_blocks"], &bdev["write_cache"]), (&json!(512), &json!(true)));
    assert!(daemon.log().contains("IOPOLL: completions come by interrupt for 'u'"));
    let log = daemon.end(Signal::SIGTERM);
    assert!(log.contains("device 'u' is flushed"), "{log}");
    assert_eq!(fs::metadata(new).expect("it stays").len(), 2 << 20);
}

#[test]
fn a_start_without_its_file_is_refused() {
    let dir = directory();
    let socket = dir.path().join("rpc.sock");
    for (uri, code, words) in [
        ("aio:///nonexistent", 4, "\"/nonexistent\" does not exist"),
        ("uring:///nonexistent", 4, "\"/nonexistent\" does not exist"),
        ("aio:///a?direct=true", 3, "unknown parameter `direct` for `aio:`; allowed are name,"),
        ("uring:///a?iopoll=true&direct=false", 3, "polled for with direct I/O only"),
        ("aio:///a?blk_size=100", 3, "`blk_size`"),
        ("aio:///a?depth=0", 3, "`depth`"),
    ] {
        let (got, log) = fails(&socket, &["--bdev", uri]);
        assert_eq!(got, Some(code), "{uri}: {log}");
        assert!(log.contains(words), "{uri}: {log}");
    }
}
