//! Options that do not fit each other or the device, each refused by name.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
#[command(name = "perf")]
struct Perf {
    #[command(flatten)]
    args: PerfArgs,
}

fn perf(options: &str) -> Result<PerfArgs, String> {
    let line = ["perf", "null:///n"].into_iter().chain(options.split_whitespace());
    let perf = Perf::try_parse_from(line).map_err(|error| error.to_string())?;
    perf.args.check().map_err(|error| error.to_string())?;
    Ok(perf.args)
}

const DISK: Geometry<'_> = Geometry { name: "disk", block_len: 512, num_blocks: 2048, zones: None };
const PLACE: Place = Place { device: 0, core: 0, cores: 1 };

#[test]
fn defaults() {
    let args = perf("").expect("a URI is enough");
    assert_eq!((args.queue_depth, args.pattern, args.seed), (32, Pattern::RandRead, 1));
    assert_eq!(args.limit(), Limit { time: Some(TIME_DEFAULT), ios: None });
    let spec = args.spec(DISK, PLACE).expect("it fits");
    assert_eq!((spec.blocks_per_io, spec.read_percent, spec.flush_every), (8, 50, None));
    for (block_len, io_size) in [(512, 4096), (4096, 4096), (8192, 8192), (520, 520)] {
        assert_eq!(args.io_size(block_len), io_size, "{block_len}");
    }
}

#[test]
fn everything_given() {
    let args = perf(
        "-q 8 -o 16k -w randrw -M 70 -t 0.5 -n 100 --seed 9 --fua --flush-every 4 --json \
         -l 0-1 -s 64 --poll-mode busy --no-huge -L debug",
    )
    .expect("all fits");
    let limit = Limit { time: Some(Duration::from_millis(500)), ios: Some(100) };
    assert_eq!(args.limit(), limit);
    let spec = args.spec(DISK, PLACE).expect("it fits");
    assert_eq!((spec.blocks_per_io, spec.read_percent, spec.seed), (32, 70, 9));
    assert_eq!(spec.flush_every, Some(4));
    assert_eq!(args.env.core_list.as_deref(), Some("0-1"));
    assert!(args.fua && args.json && args.env.no_huge);
    let only_ios = perf("-n 7").expect("a number is enough").limit();
    assert_eq!(only_ios, Limit { time: None, ios: Some(7) });
}

#[test]
fn what_does_not_fit_is_named() {
    for (options, reason) in [
        ("-q 0", "1..=65536"),
        ("-q -1", "-1"),
        ("-o 0", "from 1 to 2GiB"),
        ("-o 4KB", "`KB`"),
        ("-w randomread", "[possible values: read, write, randread"),
        ("-M 101 -w rw", "0..=100"),
        ("-M 50", "-w randread has no mix"),
        ("-M 50 -w write", "-w write has no mix"),
        ("-t 0", "from 0.001"),
        ("-t nan", "from 0.001"),
        ("-n 0", "1.."),
        ("-o 4k -w flush", "a flush has none"),
        ("--fua", "-w randread writes no data"),
        ("--fua -w unmap", "-w unmap writes no data"),
        ("--flush-every 4 -w read", "-w read does none"),
        ("--flush-every 0 -w write", "1.."),
        ("-m 0x3 -l 0,1", "cannot be used with"),
        ("-L foo=bar=baz", "error parsing level filter"),
    ] {
        let error = perf(options).expect_err(options);
        assert!(error.contains(reason), "{options}: {error}");
    }
    let no_device = Perf::try_parse_from(["perf"]).expect_err("no device").to_string();
    assert!(no_device.contains("<URI>..."), "{no_device}");
    let bad_uri = Perf::try_parse_from(["perf", "disk0"]).expect_err("no URI").to_string();
    assert!(bad_uri.contains("it has no scheme"), "{bad_uri}");
}

#[test]
fn what_does_not_fit_the_device_is_named() {
    let refusal = |options: &str, disk: Geometry<'_>, cores: u32| {
        let args = perf(options).expect("the options fit each other");
        args.spec(disk, Place { cores, ..PLACE }).expect_err(options).to_string()
    };
    let error = refusal("-o 1000", DISK, 1);
    assert_eq!(error, "-o 1000 is not a multiple of the block size of disk, 512 bytes");
    let error = refusal("-o 2M", DISK, 1);
    assert!(error.starts_with("disk: the device holds 0 I/Os of 4096 blocks"), "{error}");
    let error = refusal("-o 1M -w write", DISK, 2);
    assert!(error.contains("at least 2, one per core"), "{error}");
    let error = refusal("-w verify", Geometry { block_len: 520, ..DISK }, 1);
    assert!(error.contains("multiple of 512 bytes, not 520"), "{error}");
    assert!(!refusal("-o 4k", Geometry { block_len: 0, ..DISK }, 1).is_empty());
}
