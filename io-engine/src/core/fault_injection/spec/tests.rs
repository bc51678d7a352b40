//! URIs of injections.

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoType;

use super::*;

fn spec(uri: &str) -> InjectionSpec {
    InjectionSpec::parse(uri).expect(uri)
}

fn refusal(uri: &str) -> String {
    InjectionSpec::parse(uri).expect_err(uri).to_string()
}

#[test]
fn a_device_alone_fails_every_read_and_write() {
    let found = spec("inject://dev0");
    assert_eq!(found, InjectionSpec::new("dev0", Kind::Status(NvmeStatus::DATA_TRANSFER_ERROR)));
    assert_eq!(found.ops_at(Stage::Submission), READ_WRITE);
    assert_eq!(found.ops_at(Stage::Completion), IoTypes::default());
}

#[test]
fn mayastors_spelling_is_read() {
    let uri = "inject://dev0?domain=child&op=w";
    assert!(refusal(uri).contains("there is no nexus"), "{}", refusal(uri));
    let found = spec(
        "inject://d?domain=BlockDevice&op=Read&stage=compl&method=status-nvme-2-81&begin=5&end=9&\
         offset=3&num_blocks=4&retries=2",
    );
    assert_eq!(found.kind, Kind::Status(NvmeStatus::UNRECOVERED_READ_ERROR));
    assert_eq!((found.stage, found.retries), (Some(Stage::Completion), Some(2)));
    assert_eq!(
        (found.begin, found.end),
        (Duration::from_millis(5), Some(Duration::from_millis(9)))
    );
    assert_eq!((found.offset_blocks, found.num_blocks), (3, Some(4)));
    let same = spec(
        "inject:///d?domain=bdev_io&op=r&stage=c&type=status-nvme-2-81&begin_at=5&end_at=9&\
         offset=3&num_blk=4&retries=2",
    );
    assert_eq!(InjectionSpec { device: "d".to_owned(), ..same }, found);
}

#[test]
fn devices_have_names_of_any_form() {
    assert_eq!(spec("inject://tank/vol").device, "tank/vol");
    assert_eq!(spec("inject:///tmp/disk.img").device, "/tmp/disk.img");
    assert_eq!(spec("inject:///a%20b%3F").device, "/a b?");
    assert_eq!(spec("inject://host:7/x").device, "host:7/x");
    assert!(refusal("inject://").contains("needs a name"));
    assert!(refusal("malloc:///m").contains("unknown scheme"));
}

#[test]
fn what_is_written_is_read_again() {
    let uris = [
        "inject://d?op=all&type=hang",
        "inject://d?op=read,flush&type=errno-ENOSPC&stage=completion&retries=0",
        "inject://d?type=delay&delay_us=normal:200:50&probability=0.125&seed=7&after=3&every=2",
        "inject://d?type=data&corrupt_offset=3&corrupt_value=255&begin_at=1&end_at=2",
        "inject://d?type=reorder&window=4&delay_us=77&offset=1&num_blk=9",
        "inject://d?op=write&type=misdirected&distance=8",
        "inject://d?type=power_cut&probability=0.000000001",
        "inject://d?type=dropped_flush",
    ];
    for uri in uris {
        let (read, again) = (spec(uri), spec(&spec(uri).to_string()));
        // In what is written the device stands in the path, and its slash is tried without.
        assert_eq!(again.device, "/d");
        assert_eq!(InjectionSpec { device: read.device.clone(), ..again }, read, "{uri}");
    }
}

#[test]
fn each_io_has_its_fault_at_one_stage() {
    let data = spec("inject://d?type=data");
    assert_eq!(data.ops_at(Stage::Submission), IoTypes::of(&[IoType::Write]));
    assert_eq!(data.ops_at(Stage::Completion), IoTypes::of(&[IoType::Read]));
    let late = spec("inject://d?type=data&stage=completion");
    assert_eq!(late.ops_at(Stage::Submission), IoTypes::default());
    let hang = spec("inject://d?op=all&type=hang");
    assert_eq!(hang.ops_at(Stage::Completion), IoTypes::default());
    let stale = spec("inject://d?type=stale");
    assert_eq!(stale.ops_at(Stage::Completion), IoTypes::of(&[IoType::Read]));
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = [
        ("op=reed", "`op` cannot be `reed`"),
        ("stage=late", "`stage`"),
        ("type=melt", "`type` cannot be `melt`"),
        ("method=melt", "`method` cannot be `melt`"),
        ("type=hang&method=hang", "exclude each other"),
        ("begin=1&begin_at=1", "exclude each other"),
        ("num_blk=1&num_blocks=1", "exclude each other"),
        ("begin=5&end=5", "`end_at` cannot be `5`"),
        ("offset=-1", "`offset`"),
        ("num_blk=0", "`num_blk`"),
        ("retries=x", "`retries`"),
        ("probability=1.5", "`probability`"),
        ("probability=.", "`probability`"),
        ("every=0", "`every`"),
        ("type=delay", "delay_us"),
        ("type=delay&delay_us=soon", "`delay_us` cannot be `soon`"),
        ("delay_us=5", "belongs to type=delay"),
        ("type=data&corrupt_offset=1", "corrupt_value"),
        ("type=data&corrupt_value=0", "`corrupt_value`"),
        ("window=4", "belongs to type=reorder"),
        ("type=reorder&delay_us=uniform:1:2", "the longest wait"),
        ("distance=4", "belongs to type=misdirected"),
        ("type=power_cut&retries=2", "happens once"),
        ("op=read&type=torn", "it can to write at submission"),
        ("op=flush&type=data", "write at submission and read at completion"),
        ("op=read&type=data&stage=submission", "cannot happen to read at submission"),
        ("colour=red", "unknown parameter `colour`"),
    ];
    for (query, words) in wrong {
        let found = refusal(&format!("inject://d?{query}"));
        assert!(found.contains(words), "{query}: {found}");
    }
}
