//! What each command line asks of the daemon: methods that there are, with parameters that they take.

use serde_json::json;

use super::*;
use crate::cli::{ClientCommand, Invocation};
use crate::rpc;

/// The call that a line comes to.
fn call_of(line: &str) -> Call {
    let invocation = Invocation::parse(std::iter::once("io-engine").chain(line.split_whitespace()));
    match invocation {
        Ok(Invocation::Client(ClientCommand::Pool(args))) => args.command.call(),
        Ok(Invocation::Client(ClientCommand::Vol(args))) => args.command.call(),
        Ok(Invocation::Client(ClientCommand::Nvmf(args))) => args.command.call(),
        Ok(Invocation::Client(ClientCommand::Inject(args))) => args.command.call(),
        Ok(Invocation::Client(ClientCommand::Stats(args))) => args.command.call(),
        other => panic!("{line}: {other:?}"),
    }
}

/// Every command with every option.
const LINES: &[&str] = &[
    "pool list",
    "pool list p -o json",
    "pool create p disk --digest blake3 --journal-mb 8 --cache-mb 16 --uuid 0d1f4ec4-66cb-4c3e-9a4b-0d6a4c3f1c11",
    "pool import disk --name p --cache-mb 16 --readonly",
    "pool export p --force",
    "pool destroy p",
    "pool grow p",
    "pool scrub p",
    "pool scrub p start --rate 100M",
    "pool check p --map-only",
    "vol list",
    "vol list p/v",
    "vol list --pool p",
    "vol create p/v 64M --thick --blk-size 512 --uuid 0d1f4ec4-66cb-4c3e-9a4b-0d6a4c3f1c11",
    "vol delete p/v",
    "vol resize p/v 1G",
    "vol rename p/v w",
    "vol snapshot p/v s",
    "vol clone p/s c",
    "vol decouple p/c --thick",
    "vol set-read-only p/v --off",
    "nvmf list",
    "nvmf list nqn.2016-06.io.spdk:a",
    "nvmf start",
    "nvmf create nqn.2016-06.io.spdk:a --serial S --model M --max-namespaces 4 --allow-any-host --ana",
    "nvmf delete nqn.2016-06.io.spdk:a",
    "nvmf add-ns nqn.2016-06.io.spdk:a disk --nsid 3 --uuid 0d1f4ec4-66cb-4c3e-9a4b-0d6a4c3f1c11",
    "nvmf remove-ns nqn.2016-06.io.spdk:a 3",
    "nvmf listeners nqn.2016-06.io.spdk:a",
    "nvmf listen nqn.2016-06.io.spdk:a 127.0.0.1:4420",
    "nvmf unlisten nqn.2016-06.io.spdk:a [::1]:4420",
    "nvmf allow-host nqn.2016-06.io.spdk:a nqn.2016-06.io.spdk:h",
    "nvmf deny-host nqn.2016-06.io.spdk:a nqn.2016-06.io.spdk:h",
    "nvmf allow-any-host nqn.2016-06.io.spdk:a --off",
    "nvmf hosts nqn.2016-06.io.spdk:a",
    "nvmf queues nqn.2016-06.io.spdk:a",
    #[cfg(feature = "fault-injection")]
    "inject list",
    #[cfg(feature = "fault-injection")]
    "inject list disk -o json",
    #[cfg(feature = "fault-injection")]
    "inject add inject://disk?op=read&type=status&retries=1",
    #[cfg(feature = "fault-injection")]
    "inject remove 7",
    #[cfg(feature = "fault-injection")]
    "inject release 7",
    #[cfg(feature = "fault-injection")]
    "inject clear disk",
    "stats bdev",
    "stats bdev disk --per-core",
    "stats reactor",
    "stats pool p",
    "stats nvmf",
    "stats block disk",
];

#[test]
fn every_line_is_a_call_that_the_daemon_takes() {
    let methods = rpc::methods();
    for line in LINES {
        let call = call_of(line);
        let method = methods.iter().find(|method| method.name() == call.method);
        let method = method.unwrap_or_else(|| panic!("{line}: there is no {}", call.method));
        let params = serde_json::from_value(Value::Object(call.params)).expect("parameters");
        method.check(&params).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn values_arrive() {
    let params = |line: &str| Value::Object(call_of(line).params);
    assert_eq!(
        params("vol create p/v 64M"),
        json!({ "pool": "p", "name": "v", "size": 64 << 20, "thin": true })
    );
    assert_eq!(params("vol set-read-only p/v"), json!({ "name": "p/v", "read_only": true }));
    assert_eq!(params("pool scrub p"), json!({ "name": "p", "action": "status" }));
    assert_eq!(params("pool check p"), json!({ "name": "p", "data": true }));
    let listen = params("nvmf listen nqn.2016-06.io.spdk:a [::1]:4420");
    let address = json!({ "trtype": "TCP", "adrfam": "IPv6", "traddr": "::1", "trsvcid": "4420" });
    assert_eq!(listen["listen_address"], address);
    assert_eq!(params("inject add inject://a?op=read"), json!({ "uri": "inject://a?op=read" }));
    assert_eq!(params("inject remove 7"), json!({ "id": 7 }));
}

#[test]
fn events_are_asked_for_from_a_number_on() {
    let parse = |line: &str| match Invocation::parse(
        std::iter::once("io-engine").chain(line.split_whitespace()),
    ) {
        Ok(Invocation::Client(ClientCommand::Events(args))) => args,
        other => panic!("{line}: {other:?}"),
    };
    let plain = parse("events");
    assert!(!plain.follow && plain.from == 0 && plain.manage.output == OutputFormat::Table);
    let args = parse("events --follow --from 7 -o json -r /tmp/s");
    assert!(args.follow && args.manage.output == OutputFormat::Json);
    let (method, params) = events::question(args.from);
    let methods = rpc::methods();
    let method = methods.iter().find(|known| known.name() == method).expect("it is there");
    let given = serde_json::from_value(params.clone()).expect("parameters");
    method.check(&given).expect("taken");
    assert_eq!(params, json!({ "id": 7 }));
}

#[test]
fn wrong_lines_are_usage_errors() {
    for (line, reason) in [
        ("vol create v 64M", "POOL/VOLUME"),
        ("vol create p/v 64MB", "is not a unit"),
        ("pool create p", "<DISK>"),
        ("pool create p d --digest md5", "possible values: sha256, blake3, crc32c"),
        ("nvmf listen nqn.2016-06.io.spdk:a 127.0.0.1", "invalid socket address"),
        ("stats bdev --per-core", "required"),
        ("inject remove x", "invalid digit"),
        ("inject add", "<URI>"),
        ("events --from=-1", "invalid digit"),
        ("top -d 0", "0.1 to 3600"),
        ("completions tcsh", "possible values"),
    ] {
        let words: Vec<_> = std::iter::once("io-engine").chain(line.split_whitespace()).collect();
        let error = Invocation::parse(words).expect_err(line);
        assert!(error.to_string().contains(reason) && error.exit_code() == 2, "{line}: {error}");
    }
}

#[test]
fn answers_of_another_kind_are_no_tables() {
    for (answer, show) in [
        (json!({}), Show::List(&[])),
        (json!([]), Show::Member("bdevs", &[])),
        (json!({ "bdevs": 1 }), Show::Member("bdevs", &[])),
        (json!([]), Show::Facts),
    ] {
        assert_eq!(shown(&answer, show), None, "{answer}");
    }
    assert_eq!(shown(&json!("disk0"), Show::Plain).as_deref(), Some("disk0"));
}
