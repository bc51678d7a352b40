//! Command lines as people type them.

use super::*;
use crate::perf::workload::Pattern;

fn parse(line: &str) -> Result<Invocation, clap::Error> {
    Invocation::parse(std::iter::once("io-engine").chain(line.split_whitespace()))
}

fn daemon(line: &str) -> DaemonArgs {
    match parse(line) {
        Ok(Invocation::Daemon(args)) => *args,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn clap_finds_no_contradiction_in_the_definitions() {
    Cli::command().debug_assert();
}

#[test]
fn the_daemon_is_the_default() {
    let args = daemon("");
    assert_eq!(args.rpc_socket, PathBuf::from("/var/tmp/spdk.sock"));
    assert_eq!((args.env.mem_size, args.env.poll_mode), (256, PollMode::Adaptive));
    assert!(args.bdev.is_empty() && args.json.is_none() && args.env.spin_us.is_none());
    assert_eq!(args.log.filter("info"), "info");

    let args = daemon(
        "-m 0x3 -s 512 --huge-dir /mnt/huge -r /tmp/a.sock --json c.json --spin-us 50 -L warn \
         -L io_engine=debug --log-format json --bdev malloc:///a?size_mb=8 --bdev null:///b",
    );
    assert_eq!(args.env.reactor_mask.as_deref(), Some("0x3"));
    assert_eq!((args.env.mem_size, args.env.spin_us), (512, Some(50)));
    assert_eq!(args.log.filter("info"), "warn,io_engine=debug");
    assert_eq!(args.log.log_format, LogFormat::Json);
    let names: Vec<_> = args.bdev.iter().map(|uri| uri.name()).collect();
    assert_eq!(names, [Ok("a"), Ok("b")]);
}

#[test]
fn sub_commands() {
    let Ok(Invocation::Perf(perf)) = parse("perf malloc:///a?size_mb=8 -w verify -l 0") else {
        panic!("perf")
    };
    assert_eq!((perf.pattern, perf.uris.len()), (Pattern::Verify, 1));

    let Ok(Invocation::Rpc(rpc)) = parse(r#"rpc -r /tmp/a.sock bdev_get_bdevs {"name":"a"}"#)
    else {
        panic!("rpc")
    };
    assert_eq!(
        (rpc.method.as_str(), rpc.client.rpc_socket.to_str()),
        ("bdev_get_bdevs", Some("/tmp/a.sock"))
    );
    assert_eq!(rpc.params, Some(serde_json::json!({"name": "a"})));

    let bdev = |line: &str| match parse(line) {
        Ok(Invocation::Bdev(args)) => args.command,
        other => panic!("{line}: {other:?}"),
    };
    assert!(matches!(
        bdev("bdev list"),
        BdevCommand::List { name: None, output: OutputFormat::Table }
    ));
    assert!(matches!(
        bdev("bdev list a -o json"),
        BdevCommand::List { name: Some(_), output: OutputFormat::Json }
    ));
    let BdevCommand::Create { uri } = bdev("bdev -r /tmp/a create aio:///dev/sdb") else {
        panic!("create")
    };
    assert_eq!(uri.file_path(), Ok("/dev/sdb"));
    assert!(matches!(bdev("bdev destroy a"), BdevCommand::Destroy { name } if name == "a"));
}

#[test]
fn an_export_needs_no_more_than_a_device() {
    let export = |line: &str| match parse(line) {
        Ok(Invocation::Export(args)) => args,
        other => panic!("{line}: {other:?}"),
    };
    let least = export("export malloc:///a?size_mb=8");
    let addresses = |args: &ExportArgs| -> Vec<String> {
        args.listen.iter().map(ToString::to_string).collect()
    };
    assert_eq!(addresses(&least), ["127.0.0.1:4420"]);
    assert!(least.nqn.is_none() && least.host.is_empty() && least.rpc_socket.is_none());
    let full = export(
        "export malloc:///a?size_mb=8 null:///b?size_mb=8 --listen 0.0.0.0 --listen [::1]:4421 \
         --nqn nqn.2016-06.io.spdk:x --host nqn.2016-06.io.spdk:h -l 0 -s 64 -r /tmp/a.sock",
    );
    assert_eq!(addresses(&full), ["0.0.0.0:4420", "[::1]:4421"]);
    assert_eq!((full.uris.len(), full.host.len(), full.env.mem_size), (2, 1, 64));
    let daemon = full.daemon();
    assert_eq!(daemon.rpc_socket, PathBuf::from("/tmp/a.sock"));
    assert_eq!(daemon.bdev, full.uris);
}

#[test]
fn wrong_lines_are_usage_errors_that_name_the_reason() {
    for (line, reason) in [
        ("-m 0x1 -l 0", "cannot be used with"),
        ("--no-huge --huge-dir /mnt", "cannot be used with"),
        ("-s 0", "1..="),
        ("--poll-mode fast", "possible values: busy, adaptive"),
        ("--poll-mode busy --spin-us 5", "--spin-us has no meaning with --poll-mode busy"),
        ("perf null:///a --poll-mode busy --spin-us 5", "--spin-us has no meaning"),
        ("perf null:///a -M 5", "-w randread has no mix"),
        ("--bdev disk0", "it has no scheme"),
        ("--log-format xml", "possible values: text, json"),
        ("-L io_engine=loud", "error parsing level filter"),
        ("-r /tmp/a rpc x", "subcommand"),
        ("export", "<URI>"),
        ("export disk0", "it has no scheme"),
        ("export null:///a --listen here", "it has to be an address of this machine"),
        ("export null:///a --nqn disk", "'disk' is no NVMe qualified name"),
        ("export null:///a --host disk", "'disk' is no NVMe qualified name"),
        ("export null:///a --poll-mode busy --spin-us 5", "--spin-us has no meaning"),
        ("export null:///a --json c.json", "unexpected argument"),
        ("serve", "unrecognized subcommand"),
        ("rpc", "<METHOD>"),
        ("rpc m 5", "a JSON object or array"),
        ("rpc m {", "it is not JSON"),
        ("bdev", "Usage: io-engine bdev"),
        ("bdev create a", "it has no scheme"),
        ("bdev list -o xml", "possible values: table, json"),
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.to_string().contains(reason), "{line}: {error}");
        assert!(error.use_stderr() && error.exit_code() == 2, "{line}");
    }
}

#[test]
fn help_is_no_error_and_lists_the_exit_codes() {
    for line in ["--help", "--version", "perf --help", "bdev list --help"] {
        assert!(!parse(line).expect_err(line).use_stderr(), "{line}");
    }
    let help = parse("--help").expect_err("help").to_string();
    assert!(help.contains("Exit codes:") && help.contains("/var/tmp/spdk.sock"), "{help}");
}

#[test]
fn the_controllers_of_this_machine() {
    let pci = |line: &str| match parse(line) {
        Ok(Invocation::Client(ClientCommand::Pci(args))) => args.command,
        other => panic!("{line}: {other:?}"),
    };
    assert!(matches!(pci("pci list -o json"), PciCommand::List { output: OutputFormat::Json }));
    assert!(matches!(pci("pci status"), PciCommand::Status { address: None }));
    let PciCommand::Bind { addresses, driver } = pci("pci bind 0000:01:00.0 02:00.1") else {
        panic!("bind")
    };
    assert_eq!((addresses.len(), driver.as_str()), (2, "vfio-pci"));
    assert!(matches!(pci("pci unbind 01:00.0"), PciCommand::Unbind { .. }));
    let refused = parse("pci bind nvme0").expect_err("no address").to_string();
    assert!(refused.contains("'nvme0' is not a PCI address"), "{refused}");
    assert!(parse("pci unbind").is_err());
    let PciCommand::Hugepages(huge) = pci("pci hugepages --hugemem 64 --hugenode 0,1") else {
        panic!("hugepages")
    };
    assert_eq!((huge.hugemem, huge.hugenode.as_slice()), (Some(64), &[0, 1][..]));
    for (line, words) in [
        ("pci hugepages --hugemem 0", "0 is not in"),
        ("pci hugepages --hugemem 1 --nrhuge 1", "cannot be used with"),
        ("pci hugepages --clear --nrhuge 1", "cannot be used with"),
        ("pci list -A 01:00.0 -B 02:00.0", "cannot be used with"),
        ("-A 01:00.0 -B 02:00.0", "cannot be used with"),
        ("perf malloc:///m -B nvme0", "'nvme0' is not a PCI address"),
    ] {
        let refused = parse(line).expect_err(line).to_string();
        assert!(refused.contains(words), "{line}: {refused}");
    }
    let Ok(Invocation::Daemon(daemon)) = parse("-A 01:00.0 -A 02:00.0") else { panic!("daemon") };
    let options = daemon.env.engine_options().expect("options");
    assert_eq!((options.pci.allowed.len(), options.pci.blocked.len()), (2, 0));
}
