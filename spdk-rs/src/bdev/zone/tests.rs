//! Zoned devices as this layer treats them; what a namespace does is tested with its driver.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use spdk_rs_sys::cpu::CoreId;
use zerocopy::IntoBytes;

use super::super::{
    BdevChannel, BdevDesc, BdevInfo, BdevOps, IoLimits, IoTypes, OpenMode, Registry,
};
use super::*;
use crate::drivers::passthru;
use crate::env::Memory;
use crate::nvme::spec::zns::{ZoneDescriptor, ZoneReportHeader};
use crate::reactor::{LocalReactor, PollMode, Reactor, ReactorConfig};

const ZONE: u64 = 100;
const BLOCKS: u64 = 1000;

thread_local! {
    /// What the device has, and was given: kind, first block, blocks, and what was in flight.
    static GIVEN: RefCell<Vec<(IoType, u64, u64, usize)>> = const { RefCell::new(Vec::new()) };
    static GOES_ON: Cell<bool> = const { Cell::new(true) };
}

/// A device that keeps what it is given for a turn.
struct Zoned {
    geometry: ZoneGeometry,
}

#[derive(Default)]
struct ZonedChannel(Vec<BdevIo>);

impl BdevOps for Zoned {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[
            IoType::Read,
            IoType::Write,
            IoType::Flush,
            IoType::ZoneReport,
            IoType::ZoneManagement,
            IoType::ZoneAppend,
        ])
    }

    fn zones(&self) -> Option<ZoneGeometry> {
        Some(self.geometry)
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::<ZonedChannel>::default())
    }
}

impl BdevChannel for ZonedChannel {
    fn submit(&mut self, io: BdevIo) {
        let row = (io.kind(), io.offset_blocks(), io.num_blocks(), self.0.len());
        GIVEN.with_borrow_mut(|all| all.push(row));
        self.0.push(io);
    }

    fn poll(&mut self) -> usize {
        let count = self.0.len();
        for mut io in self.0.drain(..) {
            match io.kind() {
                IoType::ZoneAppend => io.set_result(io.offset_blocks() + 7),
                IoType::ZoneReport => report(&mut io),
                IoType::ZoneManagement => {
                    assert_eq!(io.zone_action(), Some((ZoneAction::Reset, io.num_blocks() > ZONE)));
                }
                _ => {}
            }
            io.complete(NvmeStatus::SUCCESS);
        }
        count
    }

    fn is_polled(&self) -> bool {
        true
    }
}

/// Three zones per report, the first of them the one with the block.
fn report(io: &mut BdevIo) {
    let first = io.offset_blocks() / ZONE * ZONE;
    let zones: Vec<u64> = (0..3).map(|i| first + i * ZONE).filter(|zone| *zone < BLOCKS).collect();
    let header = ZoneReportHeader { nr_zones: (zones.len() as u64).into(), ..Default::default() };
    io.copy_in(0, header.as_bytes());
    for (index, first) in zones.into_iter().enumerate() {
        let first = if GOES_ON.get() { first } else { 0 };
        let (zslba, zcap) = (first.into(), (ZONE - 10).into());
        let zone = ZoneDescriptor { zs: 0x10, zslba, zcap, wp: zslba, ..Default::default() };
        io.copy_in(64 + index * 64, zone.as_bytes());
    }
}

pub(crate) fn zoned() -> Arc<Bdev> {
    GIVEN.take();
    GOES_ON.set(true);
    let info = BdevInfo {
        name: "z".into(),
        aliases: Vec::new(),
        uuid: uuid::Uuid::from_u128(1),
        product_name: "test".into(),
        driver_name: "zoned",
        block_len: 512,
        phys_block_len: 512,
        num_blocks: BLOCKS,
        alignment: 1,
        write_cache: false,
        read_only: false,
        limits: IoLimits { blocks_max: 8, ..IoLimits::default() },
    };
    let geometry = ZoneGeometry {
        zone_blocks: ZONE,
        append_blocks_max: 8,
        open_max: Some(3),
        active_max: None,
        reads_cross: false,
    };
    Bdev::new(info, Box::new(Zoned { geometry }))
}

fn reactor() -> LocalReactor {
    let config = ReactorConfig { mode: PollMode::Busy, ..ReactorConfig::new(CoreId(0)) };
    LocalReactor::new(config, Memory::ordinary(16 << 20).unwrap()).unwrap()
}

fn open(bdev: &Arc<Bdev>) -> IoHandle {
    BdevDesc::open(bdev, OpenMode::ReadWrite, "test", None).unwrap().io_handle().unwrap()
}

#[test]
fn parts_of_a_write_follow_each_other_inside_a_zone() {
    let reactor = reactor();
    let handle = open(&zoned());
    let status = |future: IoFuture| reactor.block_on(future).status;
    let buf = |blocks: usize| reactor.memory().alloc(blocks * 512).unwrap();
    assert_eq!(status(handle.write(buf(40), 100, 40)), NvmeStatus::SUCCESS);
    let parts = GIVEN.take();
    let places: Vec<u64> = parts.iter().map(|part| part.1).collect();
    assert_eq!(places, [100, 108, 116, 124, 132]);
    assert!(parts.iter().all(|part| part.3 == 0), "a part before the one before it: {parts:?}");
    // Reads need no order.
    assert_eq!(status(handle.read(buf(40), 100, 40)), NvmeStatus::SUCCESS);
    assert!(GIVEN.take().iter().any(|part| part.3 > 0));
    // Nothing of what would end in another zone is written, and an append is one command.
    assert_eq!(status(handle.write(buf(40), 170, 40)), NvmeStatus::ZONE_BOUNDARY_ERROR);
    assert_eq!(status(handle.zone_append(buf(9), 100, 9)), NvmeStatus::INVALID_FIELD);
    assert!(GIVEN.take().is_empty());
    // What needs no parts is the device's to refuse.
    assert_eq!(status(handle.write(buf(8), 196, 8)), NvmeStatus::SUCCESS);
}

#[test]
fn what_would_write_anywhere_is_not_emulated() {
    let reactor = reactor();
    let handle = open(&zoned());
    let status = |future: IoFuture| reactor.block_on(future).status;
    assert_eq!(status(handle.write_zeroes(0, 8)), NvmeStatus::INVALID_OPCODE);
    assert_eq!(status(handle.unmap(0, 8)), NvmeStatus::INVALID_OPCODE);
    assert_eq!(status(handle.copy(8, 0, 8)), NvmeStatus::INVALID_OPCODE);
    let buf = || reactor.memory().alloc(512).unwrap();
    let swapped = handle.compare_and_write(buf(), buf(), 0, 1);
    assert_eq!(status(swapped), NvmeStatus::INVALID_OPCODE);
    assert!(GIVEN.take().is_empty());
    assert_eq!(status(handle.reset()), NvmeStatus::SUCCESS);
    let words = handle.bdev().refuse_zoned("a pool").unwrap_err();
    assert!(words.contains("a pool cannot be on the zoned device 'z'"), "{words}");
}

#[test]
fn zones_are_reported_managed_and_appended_to() {
    let reactor = reactor();
    let handle = open(&zoned());
    let all = reactor.block_on(handle.zones(0, u64::MAX)).unwrap();
    let places: Vec<u64> = all.iter().map(|zone| zone.first_block).collect();
    assert_eq!(places, (0..10).map(|i| i * ZONE).collect::<Vec<_>>());
    let zone = Zone {
        first_block: 300,
        capacity_blocks: 90,
        write_pointer: Some(300),
        state: ZoneState::Empty,
    };
    assert_eq!(reactor.block_on(handle.zones(350, 2)).unwrap()[0], zone);
    assert_eq!(reactor.block_on(handle.zones(350, 2)).unwrap().len(), 2);
    GOES_ON.set(false);
    assert_eq!(reactor.block_on(handle.zones(0, u64::MAX)), Err(NvmeStatus::INTERNAL_ERROR));
    let buf = reactor.memory().alloc(8 * 512).unwrap();
    let done = reactor.block_on(handle.zone_append(buf, 300, 8));
    assert_eq!((done.status, done.result), (NvmeStatus::SUCCESS, 307));
    GIVEN.take();
    let status = |future: IoFuture| reactor.block_on(future).status;
    assert_eq!(status(handle.zone_manage(300, ZoneAction::Reset)), NvmeStatus::SUCCESS);
    assert_eq!(status(handle.zone_manage_all(ZoneAction::Reset)), NvmeStatus::SUCCESS);
    let kind = IoType::ZoneManagement;
    assert_eq!(GIVEN.take(), [(kind, 300, ZONE, 0), (kind, 0, BLOCKS, 0)]);
    let short = handle.zone_report(reactor.memory().alloc(100).unwrap(), 0);
    assert_eq!(status(short), NvmeStatus::DATA_SGL_LENGTH_INVALID);
}

#[test]
fn a_layer_above_has_the_same_zones() {
    let reactor = reactor();
    let registry = Registry::new();
    let bdev = zoned();
    registry.register(&bdev).unwrap();
    let layer = passthru::create(&registry, &reactor.handle(), "z", "p", None).unwrap();
    assert_eq!(layer.zones(), bdev.zones());
    let handle = open(&layer);
    assert_eq!(reactor.block_on(handle.zones(0, u64::MAX)).unwrap().len(), 10);
    let status = |future: IoFuture| reactor.block_on(future).status;
    assert_eq!(status(handle.zone_manage_all(ZoneAction::Reset)), NvmeStatus::SUCCESS);
    let buf = reactor.memory().alloc(512).unwrap();
    assert_eq!(reactor.block_on(handle.zone_append(buf, 500, 1)).result, 507);
    let buf = reactor.memory().alloc(40 * 512).unwrap();
    assert_eq!(status(handle.write(buf, 170, 40)), NvmeStatus::ZONE_BOUNDARY_ERROR);
}
