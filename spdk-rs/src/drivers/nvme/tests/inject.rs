//! Errors that are injected into the commands of a controller.

use super::*;
use crate::bdev::{IoBuf, IoType, NvmeCommand};
use crate::nvme::controller::ErrorInjection;
use crate::nvme::spec::opcode::{admin, nvm};

fn error(opcode: u8, count: u64) -> ErrorInjection {
    ErrorInjection {
        admin: false,
        opcode,
        do_not_submit: false,
        timeout: Duration::ZERO,
        count,
        status: NvmeStatus::WRITE_FAULT.with_do_not_retry(true),
    }
}

fn add(host: &Host, error: ErrorInjection) {
    let driver = Arc::clone(&host.driver);
    host.reactor.block_on(async move { driver.add_error_injection("d", error).await }).unwrap();
}

#[test]
fn so_many_commands_of_an_opcode_end_with_the_error() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    add(&host, error(nvm::WRITE, 2));
    let failed = NvmeStatus::WRITE_FAULT.with_do_not_retry(true);
    assert_eq!(host.write(&handle, 0, 1, 2), failed);
    host.expect(&handle, 0, 1, 2);
    assert_eq!(host.write(&handle, 0, 1, 3), failed);
    assert_eq!(host.write(&handle, 0, 1, 4), NvmeStatus::SUCCESS);
    assert_eq!(target.shared.count(nvm::WRITE), 4, "the controller had all of them");
    drop(handle);
    host.finish();
}

#[test]
fn a_command_that_is_withheld_never_reaches_the_controller() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    let timeout = Duration::from_millis(20);
    add(&host, ErrorInjection { do_not_submit: true, timeout, ..error(nvm::WRITE, 100) });
    let write = handle.write(host.buf(1, 1), 0, 1);
    let done = host.reactor.block_on(write);
    assert_eq!(done.status, NvmeStatus::WRITE_FAULT.with_do_not_retry(true));
    assert!(host.reactor.clock().duration_of(done.latency_ticks) >= timeout);
    drop(done);
    assert_eq!(target.shared.count(nvm::WRITE), 0);
    let driver = Arc::clone(&host.driver);
    let removed = async move { driver.remove_error_injection("d", false, nvm::WRITE).await };
    host.reactor.block_on(removed).unwrap();
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    drop(handle);
    host.finish();
}

#[test]
fn admin_commands_and_io_commands_are_told_apart() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    let of_admin = ErrorInjection { admin: true, ..error(admin::IDENTIFY, 1) };
    add(&host, of_admin);
    add(&host, error(admin::IDENTIFY, 100));
    let identify = || {
        let command = NvmeCommand::new(admin::IDENTIFY).with_cdw(10, 1);
        let buf = IoBuf::One(host.memory.alloc(4096).unwrap());
        let done = handle.nvme_command(IoType::NvmeAdmin, &command, buf);
        host.reactor.block_on(done).status
    };
    assert_eq!(identify(), NvmeStatus::WRITE_FAULT.with_do_not_retry(true));
    assert_eq!(identify(), NvmeStatus::SUCCESS);
    let driver = Arc::clone(&host.driver);
    let missing = async move { driver.add_error_injection("x", of_admin).await };
    assert!(matches!(host.reactor.block_on(missing), Err(NvmeError::NotFound { .. })));
    drop(handle);
    host.finish();
}

/// What is injected stays when the controller is connected anew.
#[test]
fn a_reset_keeps_what_is_injected() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    add(&host, error(nvm::WRITE, 1));
    assert!(host.reactor.block_on(handle.reset()).status.is_success());
    let failed = NvmeStatus::WRITE_FAULT.with_do_not_retry(true);
    assert_eq!(host.write(&handle, 0, 1, 1), failed);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    drop((handle, target));
    host.finish();
}

#[test]
fn what_is_left_of_injections_is_told() {
    let (first, second, host) = (FakeTarget::start(), FakeTarget::start(), Host::new());
    let handle = host.attach(&first, options());
    host.try_attach("d", trid(&second), options()).unwrap();
    add(&host, error(nvm::WRITE, 3));
    add(&host, ErrorInjection { admin: true, ..error(admin::ABORT, 1) });
    assert!(!host.write(&handle, 0, 1, 1).is_success());
    let left = host.driver.error_injections();
    let counts: Vec<_> =
        left.iter().map(|(name, one)| (name.as_str(), one.opcode, one.count)).collect();
    // Both paths have them; each is told of once.
    assert_eq!(counts, [("d", admin::ABORT, 1), ("d", nvm::WRITE, 2)]);
    (0..2).for_each(|_| assert!(!host.write(&handle, 0, 1, 1).is_success()));
    assert_eq!(host.driver.error_injections().len(), 1, "what has happened is not left");
    drop(handle);
    host.finish();
}
