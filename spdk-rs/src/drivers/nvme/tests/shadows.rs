//! Shadows of doorbells, over a controller that is a program.

use super::pcie::{Drive, impatient, mixed_load};
use super::*;
use crate::nvme::pcie::model::{Fault, Shape};
use crate::nvme::spec::opcode::admin;

#[test]
fn shadows_spare_doorbells_and_lose_no_command() {
    let rung = |shadows: bool, wanted: bool, entries: u16| {
        let drive = Drive::new(Shape { shadows, ..Shape::default() });
        let mut options = options();
        options.controller.shadow_doorbells = wanted;
        options.controller.io_queue_size = entries;
        let (host, handle) = (&drive.host, drive.attach(options));
        mixed_load(host, &handle);
        // After a reset the new association has shadows of its own.
        let driver = Arc::clone(&host.driver);
        host.reactor.block_on(async move { driver.reset("p", None).await }).unwrap();
        mixed_load(host, &handle);
        drop(handle);
        let seen = drive.finish();
        assert_eq!(seen.enabled, 2);
        seen.doorbells
    };
    let (with, off, without) =
        (rung(true, true, 128), rung(true, false, 128), rung(false, true, 128));
    assert!(with < off / 4 && off.abs_diff(without) <= off / 10, "{with}, {off}, {without}");
    // Rings that wrap at every turn.
    rung(true, true, 3);
}

#[test]
fn a_queue_that_is_made_again_has_fresh_shadows() {
    let drive = Drive::new(Shape { shadows: true, ..Shape::default() });
    let mut options = impatient();
    options.controller.shadow_doorbells = true;
    let host = &drive.host;
    let mut handle = drive.attach(options);
    for writes in [5_u8, 1, 2, 7] {
        for value in 0..writes {
            assert_eq!(host.write(&handle, value.into(), 1, value), NvmeStatus::SUCCESS);
        }
        // It asks for the next doorbell.
        host.until("sleep", || drive.model.sleeps(1));
        drop(handle);
        host.until("the end of the queue", || drive.model.queues() == 1);
        handle = host.open("pn1");
    }
    host.expect(&handle, 0, 1, 0);
    drop(handle);
    let seen = drive.finish();
    assert_eq!((seen.aborts, seen.enabled), (0, 1), "nothing waited for a doorbell");
}

#[test]
fn a_doorbell_that_is_missed_is_rung_again() {
    let drive = Drive::new(Shape { shadows: true, ..Shape::default() });
    let mut options = options();
    options.controller.shadow_doorbells = true;
    let (host, handle) = (&drive.host, drive.attach(options));
    for value in 0..3 {
        assert_eq!(host.write(&handle, 0, 1, value), NvmeStatus::SUCCESS);
        // It goes to sleep between commands.
        drive.model.inject(Fault::Oversleeps);
        host.until("sleep", || drive.model.is_through());
    }
    host.expect(&handle, 0, 1, 2);
    drop(handle);
    assert_eq!(drive.finish().enabled, 1);
}

#[test]
fn shadows_that_a_controller_refuses_are_not_used() {
    let drive = Drive::new(Shape { shadows: true, ..Shape::default() });
    let refusal = Fault::Fails(admin::DOORBELL_BUFFER_CONFIG, NvmeStatus::INTERNAL_ERROR);
    drive.model.inject(refusal);
    let mut options = options();
    options.controller.shadow_doorbells = true;
    let (host, handle) = (&drive.host, drive.attach(options));
    mixed_load(host, &handle);
    drop(handle);
    assert!(drive.model.is_through());
    drive.finish();
}
