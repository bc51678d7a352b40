//! Changes of namespaces, media and firmware, and commands that are passed on.

use super::pcie::Drive;
use super::*;
use crate::bdev::NvmeCommand;
use crate::drivers::nvme::{
    Firmware, Format, FormatChoice, Outcome, Passed, Sanitize, SecureErase, Transfer,
};
use crate::nvme::controller::{Activation, NewNamespace};
use crate::nvme::pcie::model::Shape;
use crate::nvme::spec::manage::sanitize_state;
use crate::nvme::spec::opcode::{admin, nvm};

/// Runs something of the driver's.
fn run<T: 'static, Fut: Future<Output = T> + 'static>(
    host: &Host,
    f: impl FnOnce(Arc<NvmeDriver>) -> Fut,
) -> T {
    host.reactor.block_on(f(Arc::clone(&host.driver)))
}

fn format(host: &Host, nsid: Option<u32>, choice: FormatChoice) -> Result<(), NvmeError> {
    let how = Format { choice, erase: SecureErase::None };
    run(host, |driver| async move { driver.format("p", nsid, how).await })
}

#[test]
fn a_format_brings_a_device_of_other_blocks() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    assert_eq!(host.write(&handle, 0, 8, 7), NvmeStatus::SUCCESS);
    // Somebody has it open.
    let refused = format(host, Some(1), FormatChoice::BlockLen(4096)).unwrap_err();
    let words = refused.to_string();
    assert!(words.contains("device 'pn1'") && words.contains("test has it open"), "{words}");
    assert!(matches!(refused, NvmeError::InUse { .. }));
    assert!(drive.model.seen().formats.is_empty());
    drop(handle);
    format(host, Some(1), FormatChoice::BlockLen(4096)).unwrap();
    let bdev = host.registry.find("pn1").unwrap();
    assert_eq!((bdev.info().block_len, bdev.num_blocks()), (4096, 512));
    assert!(bdev.openers().is_empty() && bdev.claims().is_empty());
    // As it is: the same again.
    format(host, Some(1), FormatChoice::Present).unwrap();
    assert!(format(host, None, FormatChoice::Present).is_err());
    assert_eq!(drive.model.seen().formats, [(1, 0), (1, 0)]);
    let unknown = format(host, Some(1), FormatChoice::BlockLen(2048)).unwrap_err().to_string();
    assert!(unknown.contains("0: 2^9 bytes, 1: 2^12 bytes"), "{unknown}");
    let how = Format { erase: SecureErase::Crypto, ..Format::default() };
    let refused = run(host, |driver| async move { driver.format("p", Some(1), how).await });
    assert!(matches!(refused, Err(NvmeError::NotSupported { .. })), "{refused:?}");
    // A format with metadata leaves a namespace that is no device.
    format(host, Some(1), FormatChoice::Index(2)).unwrap();
    assert!(host.registry.find("pn1").is_err());
    format(host, Some(1), FormatChoice::BlockLen(512)).unwrap();
    drop(bdev);
    let handle = host.open("pn1");
    host.expect(&handle, 0, 8, 0);
    drop(handle);
    drive.finish();
}

#[test]
fn an_open_handle_does_not_outlive_its_blocks() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    // Another host has formatted it, and the controller tells.
    let sqe = crate::nvme::spec::Sqe::format(1, 1, 0);
    drive.model.obey(&sqe).unwrap();
    drive.model.event(0x0004_0002);
    host.until("a device of other blocks", || {
        host.registry.find("pn1").is_ok_and(|bdev| bdev.info().block_len == 4096)
    });
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::INVALID_NAMESPACE);
    drop(handle);
    drive.finish();
}

#[test]
fn namespaces_come_and_go() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    let new = NewNamespace { num_blocks: 100, capacity_blocks: 100, lbaf: 0, shared: false };
    let made = run(host, |driver| async move {
        driver.create_namespace("p", new, FormatChoice::BlockLen(4096), true).await
    });
    assert_eq!(made.unwrap(), 2);
    let second = host.registry.find("pn2").unwrap();
    assert_eq!((second.info().block_len, second.num_blocks()), (4096, 100));
    drop(second);
    let attach = |nsid, attach| {
        run(host, |driver| async move { driver.attach_namespace("p", nsid, attach).await })
    };
    attach(2, false).unwrap();
    assert!(host.registry.find("pn2").is_err());
    attach(2, true).unwrap();
    assert!(host.registry.find("pn2").is_ok());
    let refused = attach(3, true).unwrap_err();
    assert!(matches!(refused, NvmeError::Refused { .. }), "{refused}");
    // The first is open, the second is not.
    let delete = |nsid| run(host, |driver| async move { driver.delete_namespace("p", nsid).await });
    assert!(matches!(delete(1), Err(NvmeError::InUse { .. })));
    delete(2).unwrap();
    assert!(host.registry.find("pn2").is_err());
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    drop(handle);
    drive.finish();
}

#[test]
fn firmware_is_downloaded_whole_and_activated() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    let image: Vec<u8> = (0..200_004_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let update = |slot, activate, image: &[u8]| {
        let firmware = Firmware { image: image.to_vec(), slot, activate };
        run(host, |driver| async move { driver.update_firmware("p", firmware).await })
    };
    assert!(matches!(update(0, true, &image), Err(NvmeError::InUse { .. })));
    drop(handle);
    assert!(matches!(update(0, true, &image[..7]), Err(NvmeError::NotSupported { .. })));
    assert_eq!(update(0, false, &image).unwrap(), Activation::AsAsked);
    assert_eq!((drive.model.seen().firmware == image, drive.model.seen().enabled), (true, 1));
    assert_eq!(update(0, true, &image).unwrap(), Activation::AsAsked);
    assert_eq!(drive.model.seen().enabled, 2, "it was reset");
    let waits = Activation::NeedsReset(NvmeStatus::FIRMWARE_NEEDS_RESET);
    assert_eq!(update(2, true, &image).unwrap().to_owned(), waits);
    let slots = run(host, |driver| async move { driver.firmware_slots("p").await }).unwrap();
    assert_eq!(&slots.frs[0], b"1.0     ");
    drive.finish();
}

#[test]
fn a_sanitize_takes_everything() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    assert_eq!(host.write(&handle, 0, 1, 9), NvmeStatus::SUCCESS);
    let sanitize = |how| run(host, |driver| async move { driver.sanitize("p", how, true).await });
    assert!(matches!(sanitize(Sanitize::BlockErase), Err(NvmeError::InUse { .. })));
    drop(handle);
    assert!(matches!(sanitize(Sanitize::CryptoErase), Err(NvmeError::NotSupported { .. })));
    let overwrite = Sanitize::Overwrite { passes: 16, pattern: 5, invert: true };
    sanitize(overwrite).unwrap();
    assert_eq!(drive.model.seen().sanitized, [0x303], "16 passes are 0");
    let status = run(host, |driver| async move { driver.sanitize_status("p").await }).unwrap();
    assert_eq!(status.sstat.get(), sanitize_state::COMPLETED);
    let (health, names) = run(host, |driver| async move { driver.health("p").await }).unwrap();
    assert_eq!((health.power_cycles.get(), names[0].as_str()), (3, "model"));
    drive.finish();
}

#[test]
fn commands_are_passed_on_but_for_the_drivers_own() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    let pass = |queue, command: NvmeCommand, data, timeout: Option<Duration>| {
        run(host, |driver| async move { driver.pass("p", queue, &command, data, timeout).await })
    };
    let admin = |command, data| pass(Passed::Admin, command, data, None);
    let identify = NvmeCommand::new(admin::IDENTIFY).with_cdw(10, 1);
    let told = admin(identify, Transfer::In(4096)).unwrap();
    assert_eq!(
        (told.status, told.data.len(), &told.data[24..29]),
        (NvmeStatus::SUCCESS, 4096, &b"model"[..])
    );
    for opcode in [admin::DELETE_IO_SQ, admin::CREATE_IO_CQ, admin::DOORBELL_BUFFER_CONFIG] {
        let ended = admin(NvmeCommand::new(opcode).with_cdw(10, 1), Transfer::None).unwrap();
        assert_eq!(ended.status, NvmeStatus::INVALID_OPCODE, "{opcode:#x}");
    }
    // The same by way of a device.
    let deletion = NvmeCommand::new(admin::DELETE_IO_SQ).with_cdw(10, 1);
    let kind = crate::bdev::IoType::NvmeAdmin;
    let done = host.reactor.block_on(handle.nvme_command(kind, &deletion, IoBuf::None));
    assert_eq!(done.status, NvmeStatus::INVALID_OPCODE);
    assert_eq!(host.write(&handle, 0, 1, 5), NvmeStatus::SUCCESS, "the queue is there");
    let mut read = NvmeCommand::new(nvm::READ);
    read.0[1] = 1;
    let Outcome { status, data, .. } = pass(Passed::Io, read, Transfer::In(512), None).unwrap();
    assert_eq!((status, data), (NvmeStatus::SUCCESS, vec![5; 512]));
    let mut write = NvmeCommand::new(nvm::WRITE);
    write.0[1] = 2;
    let ended = pass(Passed::Io, write, Transfer::Out(vec![1; 512]), None).unwrap();
    assert_eq!(ended.status, NvmeStatus::INVALID_NAMESPACE);
    // What changes namespaces takes the same care as the functions that do.
    let mut format = NvmeCommand::new(admin::FORMAT_NVM).with_cdw(10, 1);
    format.0[1] = 1;
    assert!(matches!(admin(format, Transfer::None), Err(NvmeError::InUse { .. })));
    // A command without an answer ends the wait, not the association.
    drive.model.inject(crate::nvme::pcie::model::Fault::Deaf(admin::IDENTIFY));
    let limit = Some(Duration::from_millis(20));
    let late = pass(Passed::Admin, identify, Transfer::In(4096), limit);
    assert!(matches!(late, Err(NvmeError::TimedOut { .. })), "{late:?}");
    assert_eq!(host.write(&handle, 0, 1, 5), NvmeStatus::SUCCESS);
    drop(handle);
    assert_eq!(drive.finish().enabled, 1);
}
