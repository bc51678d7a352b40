//! What goes wrong outside the data: the set-up, statuses, lost connections, time.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::nvme::controller::TimeoutAction;
use crate::nvme::spec::opcode::nvm;
use crate::nvme::tcp::framing::IcResp;

/// Attaching fails, names the reason, and leaves nothing.
fn refused(fault: Fault, words: &str) {
    let (target, host) = (FakeTarget::start(), Host::new());
    target.shared.fault(fault);
    let mut quick = options();
    quick.controller.fabrics_connect_timeout_us = 500_000;
    let error = host.try_attach("d", trid(&target), quick).unwrap_err().to_string();
    assert!(error.contains(words), "{fault:?}: {error}");
    assert!(host.driver.controllers(None).is_empty());
    // It is no obstacle to the next attempt.
    let handle = host.attach(&target, options());
    drop(handle);
    host.finish();
}

#[test]
fn wrong_answers_to_the_connection_request() {
    let right = IcResp { maxh2cdata: 8192, ..IcResp::default() };
    refused(Fault::Greeting(IcResp { pfv: 1, ..right }), "version");
    refused(Fault::Greeting(IcResp { cpda: 32, ..right }), "CPDA");
    refused(Fault::Greeting(IcResp { maxh2cdata: 4095, ..right }), "MAXH2CDATA");
    refused(Fault::Greeting(IcResp { maxh2cdata: 4098, ..right }), "MAXH2CDATA");
    refused(Fault::Greeting(IcResp { header_digest: true, ..right }), "header digests");
    refused(Fault::Greeting(IcResp { data_digest: true, ..right }), "data digests");
    refused(Fault::NoGreeting, "within 500ms");
}

#[test]
fn refused_by_the_controller() {
    let status = NvmeStatus::new(1, 0x84).with_do_not_retry(true);
    refused(Fault::Connect { io: false, status }, "host not allowed");
    refused(Fault::NeverReady, "CAP.TO");
    refused(Fault::FatalStatus, "CSTS.CFS");
}

#[test]
fn nobody_listens() {
    let (mut target, host) = (FakeTarget::start(), Host::new());
    target.stop();
    let error = host.try_attach("d", trid(&target), options()).unwrap_err();
    assert!(error.to_string().contains("cannot connect"), "{error}");
    host.finish();
}

#[test]
fn an_io_queue_that_is_refused_is_tried_again() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let status = NvmeStatus::NOT_READY;
    target.shared.fault(Fault::Connect { io: true, status });
    let handle = host.attach(&target, options());
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    assert_eq!(host.reconnects(), 0, "the controller itself works");
    drop(handle);
    host.finish();
}

#[test]
fn statuses_are_retried_or_not() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let mut options = options();
    options.controller.transport_retry_count = 2;
    let handle = host.attach(&target, options);
    let mut seen = 0;
    let mut commands = |faults: &[NvmeStatus], expected| {
        faults.iter().for_each(|&status| target.shared.fault(Fault::Status(status)));
        assert_eq!(host.write(&handle, 0, 1, 1), expected);
        let now = target.shared.count(nvm::WRITE);
        now - std::mem::replace(&mut seen, now)
    };
    let (again, never) = (NvmeStatus::WRITE_FAULT, NvmeStatus::WRITE_FAULT.with_do_not_retry(true));
    assert_eq!(commands(&[again], NvmeStatus::SUCCESS), 2);
    assert_eq!(commands(&[again, again, again], again), 3, "two retries are allowed");
    assert_eq!(commands(&[never], never), 1);
    assert_eq!(commands(&[NvmeStatus::NOT_READY], NvmeStatus::SUCCESS), 2);
    drop(handle);
    host.finish();
}

#[test]
fn commands_survive_a_lost_connection() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    for executed in [false, true] {
        let before = host.reconnects();
        target.shared.fault(Fault::Close { executed });
        let writes: Vec<_> =
            (0..20).map(|i| handle.write(host.buf(20, i), u64::from(i) * 20, 20)).collect();
        let done = host.reactor.block_on(futures::future::join_all(writes));
        assert!(done.iter().all(|done| done.status.is_success()));
        (0..20).for_each(|i| host.expect(&handle, u64::from(i) * 20, 20, i));
        assert_eq!(host.reconnects(), before + 1);
    }
    drop(handle);
    host.finish();
}

#[test]
fn what_may_have_been_done_is_not_done_twice() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    target.shared.fault(Fault::Close { executed: true });
    let swap = handle.compare_and_write(host.buf(1, 1), host.buf(1, 2), 0, 1);
    let status = host.reactor.block_on(swap).status;
    assert_eq!(status, NvmeStatus::ABORTED_SQ_DELETION);
    assert_eq!(target.shared.count(nvm::COMPARE), 1);
    assert_eq!(target.shared.count(nvm::WRITE), 1, "only the one before");
    drop(handle);
    host.finish();
}

#[test]
fn a_reset_reconnects_and_keeps_io() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    target.shared.fault(Fault::Hang);
    let stuck = handle.write(host.buf(1, 5), 1, 1);
    host.until("the command", || target.shared.count(nvm::WRITE) == 2);
    assert_eq!(host.reactor.block_on(handle.reset()).status, NvmeStatus::SUCCESS);
    assert_eq!(host.reactor.block_on(stuck).status, NvmeStatus::SUCCESS);
    let driver = Arc::clone(&host.driver);
    host.reactor.block_on(async move { driver.reset("d", None).await }).unwrap();
    assert_eq!(host.reconnects(), 2);
    host.expect(&handle, 1, 1, 5);
    drop(handle);
    host.finish();
}

#[test]
fn a_controller_that_hears_no_keep_alive_is_connected_anew() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let mut options = options();
    options.controller.keep_alive_timeout_ms = 100;
    let handle = host.attach(&target, options);
    host.until("a keep-alive", || target.shared.keep_alives.load(SeqCst) > 2);
    assert_eq!(host.reconnects(), 0);
    target.shared.fault(Fault::NoKeepAlive);
    host.until("a new connection", || host.reconnects() == 1);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    drop(handle);
    host.finish();
}

#[test]
fn a_lost_controller_is_given_up_and_taken_again() {
    let (mut target, host) = (FakeTarget::start(), Host::new());
    let mut options = options();
    options.controller.ctrlr_loss_timeout_sec = 0;
    options.controller.reconnect_delay_sec = 0;
    let handle = host.attach(&target, options);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    let address = target.address;
    target.stop();
    let status = host.write(&handle, 0, 1, 2);
    assert_eq!(status, NvmeStatus::INTERNAL_PATH_ERROR);
    assert_eq!(host.state(), ControllerState::Failed);
    assert!(host.trouble().contains("cannot connect"), "{}", host.trouble());
    let driver = Arc::clone(&host.driver);
    let reset = host.reactor.block_on(async move { driver.reset("d", None).await });
    assert!(matches!(reset, Err(NvmeError::Failed { .. })), "{reset:?}");
    let _back = FakeTarget::start_at(address);
    let driver = Arc::clone(&host.driver);
    host.reactor.block_on(async move { driver.reset("d", None).await }).unwrap();
    assert_eq!(host.write(&handle, 0, 1, 3), NvmeStatus::SUCCESS);
    drop(handle);
    host.finish();
}

#[test]
fn io_waits_for_a_target_that_comes_back() {
    let (mut target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    let address = target.address;
    target.stop();
    let waiting = handle.write(host.buf(1, 4), 0, 1);
    host.until("trouble", || host.trouble().contains("cannot connect"));
    let _back = FakeTarget::start_at(address);
    assert_eq!(host.reactor.block_on(waiting).status, NvmeStatus::SUCCESS);
    host.expect(&handle, 0, 1, 4);
    drop(handle);
    host.finish();
}

#[test]
fn io_fails_fast_when_it_is_told_to() {
    let (mut target, host) = (FakeTarget::start(), Host::new());
    let mut options = options();
    options.controller.fast_io_fail_timeout_sec = 1;
    let handle = host.attach(&target, options);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    target.stop();
    assert_eq!(host.write(&handle, 0, 1, 2), NvmeStatus::INTERNAL_PATH_ERROR);
    assert_eq!(host.state(), ControllerState::Resetting, "it is still being tried");
    drop(handle);
    host.finish();
}

#[test]
fn detaching_does_not_wait_for_a_controller_that_is_away() {
    let (mut target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    target.stop();
    let waiting = handle.write(host.buf(1, 4), 0, 1);
    host.until("trouble", || host.trouble().contains("cannot connect"));
    let driver = Arc::clone(&host.driver);
    let both = async move { (driver.detach("d", None).await, waiting.await) };
    let (detached, written) = host.reactor.block_on(both);
    detached.unwrap();
    assert_eq!(written.status, NvmeStatus::INVALID_NAMESPACE);
    drop((handle, written));
    host.finish();
}

#[test]
fn commands_that_take_too_long() {
    for action in [TimeoutAction::Reset, TimeoutAction::Abort, TimeoutAction::None] {
        let (target, host) = (FakeTarget::start(), Host::new());
        let mut options = options();
        options.controller.timeout_us = 100_000;
        options.controller.action_on_timeout = action;
        let handle = host.attach(&target, options);
        target.shared.fault(Fault::Hang);
        let stuck = handle.write(host.buf(1, 4), 0, 1);
        if action == TimeoutAction::None {
            host.until("the command", || target.shared.count(nvm::WRITE) == 1);
            // Twice the time passes, and nothing happens.
            host.reactor.block_on(sleep(Duration::from_millis(300)));
            assert_eq!((host.reconnects(), target.shared.count(nvm::WRITE)), (0, 1));
            target.shared.cut();
        }
        assert_eq!(host.reactor.block_on(stuck).status, NvmeStatus::SUCCESS);
        assert_eq!(host.reconnects(), 1);
        let aborts = target.shared.aborts.load(SeqCst);
        assert_eq!(aborts, usize::from(action == TimeoutAction::Abort), "{action:?}");
        drop(handle);
        host.finish();
    }
}
