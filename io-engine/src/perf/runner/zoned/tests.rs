//! Loads on a device with zones that is a program.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use clap::Parser;
use futures::channel::oneshot;
use spdk_rs::bdev::{
    Bdev, BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoType, IoTypes, ZoneGeometry,
};
use spdk_rs::env::Memory;
use spdk_rs::env::cpu::CoreId;
use spdk_rs::reactor::{Counter, LocalReactor, Reactor, ReactorConfig};

use super::super::job::{self, JobPlan};
use super::*;
use crate::perf::workload::Spec;

const BLOCK: usize = 512;
const ZONE: u64 = 64;
const CAPACITY: u64 = 50;
const ZONES: u64 = 8;
const SHAPE: ZoneShape = ZoneShape { zone_blocks: ZONE, capacity_blocks: CAPACITY, zones: ZONES };

const GEOMETRY: ZoneGeometry = ZoneGeometry {
    zone_blocks: ZONE,
    append_blocks_max: 8,
    open_max: Some(4),
    active_max: None,
    reads_cross: false,
};

thread_local! {
    static RESETS: Cell<u64> = const { Cell::new(0) };
    /// The write with this number fails.
    static FAILS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The device: zones that take a write at their write pointers only.
struct Zoned;

struct ZonedChannel {
    data: Vec<u8>,
    written: Vec<u64>,
    writes: u64,
}

impl BdevOps for Zoned {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[IoType::Read, IoType::Write, IoType::Flush, IoType::ZoneManagement])
    }

    fn zones(&self) -> Option<ZoneGeometry> {
        Some(GEOMETRY)
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        let blocks = usize::try_from(ZONE * ZONES).expect("small");
        let zones = usize::try_from(ZONES).expect("small");
        // What nobody wrote is not zero here, so that it is not taken for data.
        let (data, written) = (vec![0xcc; blocks * BLOCK], vec![CAPACITY; zones]);
        Ok(Box::new(ZonedChannel { data, written, writes: 0 }))
    }
}

impl ZonedChannel {
    fn write(&mut self, io: &BdevIo) -> NvmeStatus {
        let zone = usize::try_from(io.offset_blocks() / ZONE).expect("small");
        let place = io.offset_blocks() % ZONE;
        self.writes += 1;
        if FAILS.get() == Some(self.writes - 1) {
            return NvmeStatus::WRITE_FAULT;
        }
        if place != self.written[zone] {
            return NvmeStatus::ZONE_INVALID_WRITE;
        }
        if place + io.num_blocks() > CAPACITY {
            return NvmeStatus::ZONE_BOUNDARY_ERROR;
        }
        self.written[zone] += io.num_blocks();
        let (at, len) = self.range(io);
        io.copy_out(0, &mut self.data[at..at + len]);
        NvmeStatus::SUCCESS
    }

    fn range(&self, io: &BdevIo) -> (usize, usize) {
        let bytes = |blocks: u64| usize::try_from(blocks).expect("small") * BLOCK;
        (bytes(io.offset_blocks()), bytes(io.num_blocks()))
    }
}

impl BdevChannel for ZonedChannel {
    fn submit(&mut self, mut io: BdevIo) {
        let status = match io.kind() {
            IoType::Write => self.write(&io),
            IoType::Read => {
                let (at, len) = self.range(&io);
                let data = self.data[at..at + len].to_vec();
                io.copy_in(0, &data);
                NvmeStatus::SUCCESS
            }
            IoType::ZoneManagement => {
                assert_eq!(io.zone_action(), Some((ZoneAction::Reset, false)));
                let zone = usize::try_from(io.offset_blocks() / ZONE).expect("small");
                self.written[zone] = 0;
                let zone = zone * usize::try_from(ZONE).expect("small") * BLOCK;
                self.data[zone..zone + 64 * BLOCK].fill(0xcc);
                RESETS.set(RESETS.get() + 1);
                NvmeStatus::SUCCESS
            }
            _ => NvmeStatus::SUCCESS,
        };
        io.complete(status);
    }
}

/// The counters of a load of 4 KiB I/Os.
fn run(pattern: Pattern, depth: u32, ios: u64, flush_every: Option<u64>) -> JobStats {
    RESETS.set(0);
    let info = BdevInfo {
        name: "z".into(),
        aliases: Vec::new(),
        uuid: uuid::Uuid::from_u128(1),
        product_name: "test".into(),
        driver_name: "zoned",
        block_len: 512,
        phys_block_len: 512,
        num_blocks: ZONE * ZONES,
        alignment: 1,
        write_cache: false,
        read_only: false,
        limits: IoLimits::default(),
    };
    let bdev = Bdev::new(info, Box::new(Zoned));
    let memory = Memory::ordinary(4 << 20).expect("memory");
    let reactor = LocalReactor::new(ReactorConfig::new(CoreId(0)), memory).expect("a reactor");
    let descriptor = Engine::device(bdev).open(true, "test").expect("the device is free");
    let handle = descriptor.get_io_handle().expect("a channel");
    let spec = Spec {
        pattern,
        read_percent: 50,
        blocks_per_io: 8,
        num_blocks: ZONE * ZONES,
        seed: 7,
        device: 0,
        core: 0,
        cores: 1,
        flush_every,
        zones: Some(SHAPE),
    };
    let plan = JobPlan {
        descriptor: Arc::from(descriptor),
        spec,
        block_len: 512,
        depth,
        io_size: 4096,
        fua: false,
        time: None,
        ios: Some(ios),
        wrong: Arc::<Counter>::default(),
    };
    let on = Rc::clone(&reactor);
    reactor.block_on(async move {
        let load = job::build(&on, plan, handle).await.expect("all fits");
        let (_stop, stops) = oneshot::channel();
        load.start();
        job::drive(&*load, None, stops).await;
        load.finish()
    })
}

fn ios(stats: &JobStats, op: Op) -> (u64, u64) {
    (stats.op(op).latency.count(), stats.op(op).errors)
}

#[test]
fn zones_are_written_in_order_by_as_many_writers_as_wanted() {
    // Six I/Os fill a zone. More writers than zones are as many as there are zones.
    for (depth, count) in [(1, 100), (4, 100), (20, 200)] {
        let stats = run(Pattern::Write, depth, count, None);
        assert_eq!(ios(&stats, Op::Write), (count, 0), "{:?}", stats.first_error);
        assert!(RESETS.get() >= count / 6, "{} resets", RESETS.get());
    }
    let stats = run(Pattern::Write, 2, 100, Some(4));
    let (writes, flushes) = (ios(&stats, Op::Write).0, ios(&stats, Op::Flush).0);
    assert!(writes + flushes == 100 && (18..=21).contains(&flushes), "{flushes} flushes");
}

#[test]
fn a_write_that_fails_costs_its_zone_only() {
    FAILS.set(Some(3));
    let stats = run(Pattern::Write, 1, 50, None);
    FAILS.set(None);
    assert_eq!(ios(&stats, Op::Write), (49, 1), "{:?}", stats.first_error);
}

#[test]
fn what_is_written_to_zones_is_verified() {
    // Less than a pass, in the middle of a zone in the second, and several passes.
    for count in [10, 48 * 2 + 9, 1000] {
        let stats = run(Pattern::Verify, 8, count, None);
        let (writes, reads) = (ios(&stats, Op::Write), ios(&stats, Op::Read));
        assert_eq!((writes.1, reads.1, stats.mismatches), (0, 0, 0), "{:?}", stats.first_error);
        assert!(reads.0 >= writes.0 && writes.0 > 0);
    }
}

fn words(line: &str, cores: u64) -> Result<(), String> {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PerfArgs,
    }
    let words = ["perf", "null:///n"].into_iter().chain(line.split_whitespace());
    let Line { args } = Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    check(&args, &GEOMETRY, (args.io_size(512) / 512, cores))
}

#[test]
fn what_zones_cannot_have_is_refused_in_words() {
    for (line, cores, reason) in [
        ("-w randwrite", 1, "zones are written in order, which -w randwrite does not do"),
        ("-w rw", 1, "which -w rw does not do"),
        ("-w unmap", 1, "which -w unmap does not do"),
        ("-w write -q 5", 1, "5 zones at a time, and the device can have 4 open; -q has to be 4"),
        ("-w write -q 3", 2, "-q has to be 2 at the most"),
        ("-w read -o 12k", 1, "an I/O of 24 blocks would cross from a zone of 64 blocks"),
    ] {
        let refused = words(line, cores).expect_err(line);
        assert!(refused.contains(reason), "{line}: {refused}");
    }
    for line in ["-w write -q 4", "-w verify -q 32", "-w randread -q 64", "-w flush"] {
        assert_eq!(words(line, 1), Ok(()), "{line}");
    }
}
