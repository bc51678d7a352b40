//! Bad input: every refusal has the right code, names the cause, and leaves nothing behind.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::harness::Daemon;

const INVALID_PARAMS: i64 = -32602;

#[test]
fn parameters_are_refused_by_name() {
    let daemon = Daemon::start(&["--bdev", "null:///n?size_mb=1"]);
    let shape = |extra: Value| {
        let mut all = json!({"name": "x", "num_blocks": 8, "block_size": 512});
        for (name, value) in extra.as_object().expect("members") {
            all[name] = value.clone();
        }
        all
    };
    for (method, params, words) in [
        ("bdev_malloc_create", json!({}), "`num_blocks` is missing"),
        ("bdev_malloc_create", json!({"num_blocks": 8}), "`block_size` is missing"),
        ("bdev_malloc_create", json!({"block_size": 512}), "`num_blocks` is missing"),
        ("bdev_malloc_create", shape(json!({"num_blocks": 0})), "`num_blocks` cannot be 0"),
        ("bdev_malloc_create", shape(json!({"num_blocks": "8"})), "`num_blocks` cannot be \"8\""),
        ("bdev_malloc_create", shape(json!({"block_size": 513})), "one of 512, 4096"),
        ("bdev_malloc_create", shape(json!({"name": 5})), "`name` cannot be 5"),
        ("bdev_malloc_create", shape(json!({"name": ""})), "`name` cannot be \"\""),
        ("bdev_malloc_create", shape(json!({"uuid": "zz"})), "`uuid` cannot be \"zz\""),
        ("bdev_malloc_create", shape(json!({"md_size": 8})), "`md_size` cannot be 8"),
        ("bdev_malloc_create", shape(json!({"dif_type": 1})), "`dif_type` cannot be 1"),
        ("bdev_malloc_create", shape(json!({"md_interleave": true})), "`md_interleave`"),
        ("bdev_malloc_create", shape(json!({"optimal_io_boundary": 8})), "`optimal_io_boundary`"),
        ("bdev_malloc_create", shape(json!({"physical_block_size": 3})), "`physical_block_size`"),
        ("bdev_malloc_create", shape(json!({"size": 1})), "unknown parameter `size`; allowed are"),
        (
            "bdev_malloc_create",
            json!({"num_blocks": 8, "block_size": 4096, "physical_block_size": 512}),
            "`physical_block_size` cannot be 512: it has to be at least block_size, 4096",
        ),
        ("bdev_null_create", json!({"num_blocks": 8, "block_size": 512}), "`name` is missing"),
        ("bdev_null_resize", json!({"name": "n"}), "`new_size` is missing"),
        ("bdev_null_resize", json!({"name": "n", "new_size": 0}), "`new_size` cannot be 0"),
        ("bdev_malloc_delete", json!({}), "`name` is missing"),
        ("bdev_get_bdevs", json!({"bdev": "n"}), "unknown parameter `bdev`; allowed are name"),
        ("bdev_get_bdevs", json!({"timeout": 5}), "`timeout` cannot be 5"),
        ("bdev_get_bdevs", json!(["n"]), "an object of parameters"),
        ("bdev_get_iostat", json!({"per_channel": true}), "`per_channel` cannot be true"),
        ("bdev_get_iostat", json!({"per_channel": 1}), "true or false"),
        ("bdev_create", json!({"uri": "melt:///a"}), "unknown scheme `melt`"),
        ("bdev_create", json!({"uri": "malloc:///a?size_mb=1&x=1"}), "unknown parameter `x`"),
        ("bdev_create", json!({"uri": "malloc://a?size_mb=1"}), "takes no host"),
        ("bdev_create", json!({}), "`uri` is missing"),
        ("spdk_kill_instance", json!({"sig_name": "SIGSEGV"}), "one of SIGTERM, SIGINT, SIGKILL"),
        ("spdk_kill_instance", json!({}), "`sig_name` is missing"),
        ("spdk_get_version", json!({"x": 1}), "unknown parameter `x`; allowed are none"),
        ("rpc_get_methods", json!({"current": "yes"}), "`current` cannot be \"yes\""),
    ] {
        let shown = format!("{method} {params}");
        let (code, message) = daemon.refuses(method, params);
        assert_eq!(code, INVALID_PARAMS, "{shown}: {message}");
        assert!(message.contains(words), "{shown}: {message}");
    }
    assert_eq!(daemon.names(), ["n"], "nothing was made or lost");
}

#[test]
fn operations_are_refused_with_spdks_codes() {
    let uuid = "0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60";
    let first = format!("malloc:///m?size_mb=1&uuid={uuid}");
    let daemon = Daemon::start(&["--bdev", &first]);
    let shape = |name: &str| json!({"name": name, "num_blocks": 8, "block_size": 512});
    // More than an address space has, so that nobody's memory is at stake.
    let too_large = json!({"name": "x", "num_blocks": 1_u64 << 53, "block_size": 512});
    let petabyte = json!({"name": "x", "num_blocks": 1_u64 << 41, "block_size": 512});
    let mut twin = shape("twin");
    twin["uuid"] = uuid.into();
    for (method, params, code, words) in [
        ("bdev_malloc_create", shape("m"), -17, "the name 'm' is taken by device 'm'"),
        ("bdev_null_create", shape("m"), -17, "the name 'm' is taken"),
        ("bdev_malloc_create", twin.clone(), -17, "the UUID 0d4ae5a4"),
        ("bdev_null_create", twin, -17, "the UUID 0d4ae5a4"),
        ("bdev_create", json!({"uri": "null:///m?size_mb=1"}), -17, "the name 'm' is taken"),
        ("bdev_create", json!({"uri": "bdev:///gone"}), -19, "there is no device 'gone'"),
        ("bdev_null_delete", json!({"name": "m"}), -19, "is a malloc device, not a null device"),
        ("bdev_null_resize", json!({"name": "m", "new_size": 1}), -19, "a malloc device"),
        ("bdev_malloc_delete", json!({"name": "gone"}), -19, "there is no device 'gone'"),
        ("bdev_destroy", json!({"name": "gone"}), -19, "there is no device 'gone'"),
        ("bdev_get_bdevs", json!({"name": "gone"}), -19, "there is no device 'gone'"),
        ("bdev_get_iostat", json!({"name": "gone"}), -19, "there is no device 'gone'"),
        ("bdev_malloc_create", too_large, -12, "no memory for a malloc device"),
        ("bdev_malloc_create", petabyte, -12, "1125899906842624 bytes are wanted and "),
        ("bdev_melt", Value::Null, -32601, "Method not found"),
    ] {
        let shown = format!("{method} {params}");
        let (got, message) = daemon.refuses(method, params);
        assert_eq!(got, code, "{shown}: {message}");
        assert!(message.contains(words), "{shown}: {message}");
    }
    assert_eq!(daemon.names(), ["m"]);
}

#[test]
fn requests_come_in_pieces_and_in_heaps() {
    let daemon = Daemon::start(&[]);
    let mut stream = UnixStream::connect(daemon.socket()).expect("connected");
    let request = |id: u32, method: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{}}}}"#)
    };
    // Three requests and a half: the half is answered when its rest has come.
    let text: String = (1..=4).map(|id| request(id, "framework_wait_init")).collect();
    let (head, tail) = text.split_at(text.len() - 20);
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answers = String::new();
    let mut read = |until: usize, stream: &mut UnixStream| {
        let mut bytes = [0; 4096];
        while answers.lines().count() < until {
            let count = stream.read(&mut bytes).expect("an answer");
            assert!(count > 0, "closed after\n{answers}");
            answers.push_str(std::str::from_utf8(&bytes[..count]).expect("text"));
        }
        answers.lines().count()
    };
    assert_eq!(read(3, &mut stream), 3);
    assert_eq!(daemon.call("framework_wait_init", Value::Null), true, "others are not held up");
    stream.write_all(tail.as_bytes()).expect("sent");
    assert_eq!(read(4, &mut stream), 4);
    for (index, line) in answers.lines().enumerate() {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&answer["id"], &answer["result"]), (&json!(index + 1), &json!(true)));
    }
}
