//! Zoned namespaces, over a controller that is a program.

use super::pcie::Drive;
use super::*;
use crate::bdev::{IoFuture, IoType, Zone};
use crate::nvme::pcie::model::{BLOCK, BLOCKS, CAPACITY, Fault, Shape, ZONE};
use crate::nvme::spec::opcode::nvm;
use crate::nvme::spec::zns::{ZoneAction, ZoneState};

fn zoned() -> Drive {
    Drive::new(Shape { zoned: true, ..Shape::default() })
}

fn zone_at(host: &Host, handle: &IoHandle, first: u64) -> Zone {
    host.reactor.block_on(handle.zones(first, 1)).unwrap()[0]
}

#[test]
fn a_zoned_namespace_says_that_it_is_one() {
    let drive = zoned();
    let handle = drive.attach(options());
    let zones = *handle.bdev().zones().unwrap();
    assert_eq!((zones.zone_blocks, zones.append_blocks_max), (ZONE, 16));
    assert_eq!((zones.open_max, zones.active_max), (Some(2), Some(3)));
    assert_eq!(zones.zones(handle.num_blocks()), BLOCKS as u64 / ZONE);
    let types = handle.bdev().io_types();
    for kind in [IoType::ZoneReport, IoType::ZoneManagement, IoType::ZoneAppend, IoType::Compare] {
        assert!(types.contains(kind), "{kind}");
    }
    for kind in [IoType::Unmap, IoType::Copy, IoType::CompareAndWrite] {
        assert!(!types.contains(kind), "{kind}");
    }
    drop(handle);
    drive.finish();
    let plain = Drive::new(Shape::default());
    let handle = plain.attach(options());
    assert_eq!(handle.bdev().zones(), None);
    let status = plain.host.reactor.block_on(handle.zone_manage(0, ZoneAction::Open)).status;
    assert_eq!(status, NvmeStatus::INVALID_OPCODE);
    drop(handle);
    plain.finish();
}

#[test]
fn zones_are_written_at_their_write_pointers() {
    let drive = zoned();
    let (host, handle) = (&drive.host, drive.attach(options()));
    let status = |future: IoFuture| host.reactor.block_on(future).status;
    assert_eq!(host.write(&handle, 0, 4, 7), NvmeStatus::SUCCESS);
    assert_eq!(host.write(&handle, 8, 4, 7), NvmeStatus::ZONE_INVALID_WRITE);
    host.expect(&handle, 0, 4, 7);
    // More than one command takes, in order.
    assert_eq!(host.write(&handle, 4, 600, 8), NvmeStatus::SUCCESS);
    host.expect(&handle, 4, 600, 8);
    let zone = zone_at(host, &handle, 0);
    assert_eq!((zone.write_pointer, zone.state), (Some(604), ZoneState::ImplicitlyOpen));
    // Behind the capacity, in one command and in parts.
    assert_eq!(host.write(&handle, 604, 16, 9), NvmeStatus::SUCCESS);
    assert_eq!(host.write(&handle, 620, 410, 9), NvmeStatus::ZONE_BOUNDARY_ERROR);
    assert_eq!(zone_at(host, &handle, 0).write_pointer, Some(620), "nothing was written");
    assert_eq!(host.write(&handle, 620, 380, 9), NvmeStatus::SUCCESS);
    let zone = zone_at(host, &handle, 0);
    assert_eq!((zone.write_pointer, zone.state), (None, ZoneState::Full));
    assert_eq!(zone.capacity_blocks, CAPACITY);
    assert_eq!(host.write(&handle, 1000, 1, 9), NvmeStatus::ZONE_FULL);
    assert_eq!(status(handle.write_zeroes(ZONE, 8)), NvmeStatus::SUCCESS);
    assert_eq!(zone_at(host, &handle, ZONE).write_pointer, Some(ZONE + 8));
    drop(handle);
    drive.finish();
}

#[test]
fn zones_are_opened_closed_finished_and_reset() {
    let drive = zoned();
    let (host, handle) = (&drive.host, drive.attach(options()));
    let act = |zone: u64, action| host.reactor.block_on(handle.zone_manage(zone * ZONE, action));
    let state = |zone: u64| zone_at(host, &handle, zone * ZONE).state;
    assert_eq!(act(0, ZoneAction::Open).status, NvmeStatus::SUCCESS);
    assert_eq!(act(1, ZoneAction::Open).status, NvmeStatus::SUCCESS);
    assert_eq!(state(1), ZoneState::ExplicitlyOpen);
    assert_eq!(
        act(2, ZoneAction::Open).status.with_do_not_retry(false),
        NvmeStatus::TOO_MANY_OPEN_ZONES
    );
    assert_eq!(act(0, ZoneAction::Close).status, NvmeStatus::SUCCESS);
    assert_eq!(act(2, ZoneAction::Open).status, NvmeStatus::SUCCESS);
    assert_eq!(act(1, ZoneAction::Close).status, NvmeStatus::SUCCESS);
    let full = host.write(&handle, 3 * ZONE, 1, 1).with_do_not_retry(false);
    assert_eq!(full, NvmeStatus::TOO_MANY_ACTIVE_ZONES);
    assert_eq!(act(0, ZoneAction::Finish).status, NvmeStatus::SUCCESS);
    assert_eq!(act(0, ZoneAction::Close).status, NvmeStatus::ZONE_INVALID_TRANSITION);
    assert_eq!(state(0), ZoneState::Full);
    assert_eq!(act(0, ZoneAction::Reset).status, NvmeStatus::SUCCESS);
    assert_eq!(zone_at(host, &handle, 0).write_pointer, Some(0));
    let all = host.reactor.block_on(handle.zone_manage_all(ZoneAction::Reset));
    assert_eq!(all.status, NvmeStatus::SUCCESS);
    let zones = host.reactor.block_on(handle.zones(0, u64::MAX)).unwrap();
    assert_eq!(zones.len(), 4);
    assert!(zones.iter().all(|zone| zone.state == ZoneState::Empty), "{zones:?}");
    let inside = host.reactor.block_on(handle.zone_manage(5, ZoneAction::Open));
    assert_eq!(inside.status, NvmeStatus::INVALID_FIELD);
    drop(handle);
    drive.finish();
}

#[test]
fn appends_tell_where_they_went_and_are_not_done_twice() {
    let drive = zoned();
    let (host, handle) = (&drive.host, drive.attach(options()));
    let append = |value| host.reactor.block_on(handle.zone_append(host.buf(8, value), ZONE, 8));
    for (value, place) in [(1, ZONE), (2, ZONE + 8), (3, ZONE + 16)] {
        let done = append(value);
        assert_eq!((done.status, done.result), (NvmeStatus::SUCCESS, place));
        host.expect(&handle, place, 8, value);
    }
    // Beyond one command.
    let long = handle.zone_append(host.buf(257, 0), ZONE, 257);
    assert_eq!(host.reactor.block_on(long).status, NvmeStatus::INVALID_FIELD);
    // Nobody knows whether one was done whose completion is lost.
    drive.model.inject(Fault::Gone);
    let lost = handle.zone_append(host.buf(8, 4), ZONE, 8);
    let lost = host.reactor.block_on(lost);
    assert!(!lost.status.is_success());
    drop(lost);
    assert_eq!(drive.model.count(nvm::ZONE_APPEND), 4);
    assert_eq!(BLOCK, 512);
    drop(handle);
    drive.finish();
}
