//! Command lines as people type them, and what controllers tell as people see it.

use spdk_rs::nvme::spec::identify::LbaFormat;
use zerocopy::FromZeros as _;

use super::*;
use crate::cli::{ClientCommand, Invocation};

fn nvme(line: &str) -> NvmeArgs {
    let words = std::iter::once("io-engine").chain(line.split_whitespace());
    match Invocation::parse(words) {
        Ok(Invocation::Client(ClientCommand::Nvme(args))) => args,
        other => panic!("{line}: {other:?}"),
    }
}

fn usage(line: &str) -> String {
    let words = std::iter::once("io-engine").chain(line.split_whitespace());
    Invocation::parse(words).expect_err(line).to_string()
}

#[test]
fn lines() {
    assert!(matches!(nvme("nvme list -o json").command, NvmeCommand::List));
    let NvmeCommand::Identify(place) = nvme("nvme identify pcie:///01:00.0 -n 2").command else {
        panic!("identify")
    };
    assert_eq!((place.controller.as_str(), place.nsid), ("pcie:///01:00.0", Some(2)));
    let line = "nvme format Nvme0n1 --block-size 4096 --erase user_data --force";
    let NvmeCommand::Format { block_size, erase, force, .. } = nvme(line).command else {
        panic!("format")
    };
    assert_eq!((block_size, erase, force.force), (Some(4096), Erase::UserData, true));
    assert_eq!(name_of(&SanitizeAction::BlockErase), "block_erase");
    let line = "nvme zns reset-zone Nvme0n1 -s 4096 --force";
    let NvmeCommand::Zns(ZnsCommand::ResetZone { zone, .. }) = nvme(line).command else {
        panic!("reset")
    };
    assert_eq!((zone.start_lba, zone.select_all), (Some(4096), false));
    for (line, reason) in [
        ("nvme zns open-zone a", "--start-lba"),
        ("nvme zns finish-zone a -s 0 -a", "cannot be used with"),
        ("nvme identify", "<CONTROLLER>"),
        ("nvme format a --lbaf 1 --block-size 512", "cannot be used with"),
        ("nvme format a --all --nsid 1", "cannot be used with"),
        ("nvme fw a --slot 1", "--image"),
        ("nvme identify a -n 0", "1.."),
    ] {
        assert!(usage(line).contains(reason), "{line}: {}", usage(line));
    }
}

#[test]
fn what_destroys_is_asked_for() {
    // Tests have no terminal.
    for line in [
        "nvme format a",
        "nvme delete-ns a",
        "nvme fw a --image x",
        "nvme sanitize a overwrite",
        "nvme zns reset-zone a -a",
        "nvme zns offline-zone a -s 0",
    ] {
        assert_eq!(confirmed(&nvme(line).command, "a"), Err(ExitCode::Usage), "{line}");
        let forced = format!("{line} --force");
        assert_eq!(confirmed(&nvme(&forced).command, "a"), Ok(()), "{forced}");
    }
    assert_eq!(confirmed(&nvme("nvme fw a").command, "a"), Ok(()));
    assert_eq!(confirmed(&nvme("nvme zns close-zone a -a").command, "a"), Ok(()));
}

#[test]
fn a_namespace_is_shown_with_its_formats() {
    let mut data = IdentifyNamespace { nlbaf: 1, flbas: 1, ..Default::default() };
    data.nsze.set(1000);
    data.lbaf[0] = LbaFormat::new(9, 0);
    data.lbaf[1] = LbaFormat::new(12, 8);
    let shown = show::namespace(&data, 1);
    assert_eq!(shown["nsze"], 1000);
    assert_eq!(shown["lbafs"][1]["block_size"], 4096);
    assert_eq!(
        (&shown["lbafs"][0]["in_use"], &shown["lbafs"][1]["in_use"]),
        (&json!(false), &json!(true))
    );
    let table = listed(&shown["lbafs"], FORMATS);
    assert!(table.contains("4KiB") && table.contains("yes"), "{table}");
}

#[test]
fn firmware_and_errors_are_shown() {
    let mut slots = FirmwareSlots::new_zeroed();
    slots.afi = 0x21;
    slots.frs[0] = *b"1.0     ";
    let shown = show::slots(&slots, 2 << 1);
    assert_eq!(shown.as_array().map(Vec::len), Some(2));
    assert_eq!((&shown[0]["revision"], &shown[0]["active"]), (&json!("1.0"), &json!(true)));
    assert_eq!((&shown[1]["revision"], &shown[1]["active_next"]), (&json!(""), &json!(true)));
    let mut entry = ErrorEntry::new_zeroed();
    entry.error_count.set(4);
    entry.sqid.set(u16::MAX);
    entry.status.set(0x0002 << 1);
    let shown = show::error(&entry);
    assert_eq!((&shown["sqid"], &shown["status_field"]), (&Value::Null, &json!(2)));
    assert!(shown["status"].as_str().is_some_and(|words| words.contains("invalid field")));
}
