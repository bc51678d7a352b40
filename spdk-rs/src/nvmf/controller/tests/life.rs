//! The life of a controller: reset, shutdown, keep-alive, disconnection, and that nothing is left.

use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, Connecting, ENABLE, HOST, NQN};
use crate::NvmeStatus;
use crate::bdev::BdevCore;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::feature::fid;
use crate::nvme::spec::opcode::{admin as opcode, nvm};
use crate::nvmf::subsystem::Nqn;
use crate::nvmf::transport::DisconnectReason;

#[test]
fn a_reset_ends_io_queues_and_event_requests_and_the_controller_can_go_on() {
    let bench = Bench::new();
    let (host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    let event = host.send(Sqe::new(opcode::ASYNC_EVENT_REQUEST, 0), &[], 0);
    assert!(host.set_cc(ENABLE & !1).is_success());
    assert_eq!(host.wait(event).0.status(), NvmeStatus::ABORTED_SQ_DELETION);
    bench.settle();
    assert_eq!(io.closed(), Some(DisconnectReason::Host));
    assert_eq!(host.property(0x1c, false), 0);
    assert_eq!(host.run(Sqe::new(opcode::KEEP_ALIVE, 0)).0, NvmeStatus::COMMAND_SEQUENCE_ERROR);
    assert!(host.set_cc(ENABLE).is_success());
    assert!(host.run(Sqe::new(opcode::KEEP_ALIVE, 0)).0.is_success());
    bench.io(controller.cntlid(), 1);
}

#[test]
fn a_shutdown_ends_io_queues_and_is_complete_then() {
    let bench = Bench::new();
    let (host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    assert!(host.set_cc(ENABLE | 1 << 14).is_success());
    assert_eq!(host.property(0x1c, false) >> 2 & 3, 1);
    bench.settle();
    assert_eq!(io.closed(), Some(DisconnectReason::Host));
    assert_eq!(host.property(0x1c, false) >> 2 & 3, 2);
    let io = Connecting::io(controller.cntlid(), 1);
    assert_eq!(bench.host().connect(&io).0, NvmeStatus::COMMAND_SEQUENCE_ERROR);
}

#[test]
fn the_end_of_the_admin_connection_ends_the_others() {
    let bench = Bench::new();
    let (host, controller) = bench.admin();
    let ios = [bench.io(controller.cntlid(), 1), bench.io(controller.cntlid(), 2)];
    host.send(Sqe::new(opcode::ASYNC_EVENT_REQUEST, 0), &[], 0);
    host.hang_up();
    bench.settle();
    assert!(ios.iter().all(|io| io.closed() == Some(DisconnectReason::Host)));
    assert_eq!((bench.subsystem.controllers().len(), bench.left()), (0, (0, 0)));
}

#[test]
fn disconnect_ends_one_io_queue_and_its_number_is_free_again() {
    let bench = Bench::new();
    let (host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    let mut wrong = Sqe::fabrics(0x08);
    wrong.cdw10.set(1);
    assert_eq!(io.run(wrong).0.bits(), 0x4180);
    assert!(io.run(Sqe::fabrics(0x08)).0.is_success());
    bench.settle();
    assert_eq!(io.closed(), Some(DisconnectReason::Host));
    assert!(host.closed().is_none());
    bench.io(controller.cntlid(), 1);
}

#[test]
fn a_removed_host_is_disconnected() {
    let bench = Bench::with(crate::env::Clock::Real, |options| options.allow_any_host = false);
    let nqn = || Nqn::new(HOST).unwrap();
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.add_host(nqn()).await.unwrap() });
    let (host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.remove_host(&nqn()).await.unwrap() });
    assert_eq!(host.closed(), Some(DisconnectReason::Removed));
    assert_eq!(io.closed(), Some(DisconnectReason::Removed));
    assert_eq!(bench.left(), (0, 0));
}

#[test]
fn a_removed_listener_disconnects_its_own() {
    let bench = Bench::new();
    let subsystem = Arc::clone(&bench.subsystem);
    let other =
        bench.run(async move { subsystem.add_listener(super::bench::address(0)).await.unwrap() });
    let (stays, _) = bench.admin();
    let goes = bench.dial(&other);
    assert!(goes.connect(&Connecting::admin()).0.is_success());
    assert_eq!(bench.transport.open.load(std::sync::atomic::Ordering::SeqCst), 2);
    let (subsystem, address) = (Arc::clone(&bench.subsystem), other.address());
    bench.run(async move { subsystem.remove_listener(address).await.unwrap() });
    assert_eq!(goes.closed(), Some(DisconnectReason::Removed));
    assert!(stays.closed().is_none());
    assert_eq!(bench.transport.open.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn a_deleted_subsystem_leaves_nothing() {
    let bench = Bench::new();
    bench.namespace("a");
    let device = Arc::clone(bench.subsystem.namespace(1).unwrap().bdev());
    let (host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    drop(controller);
    let target = Arc::clone(&bench.target);
    bench.run(async move { target.delete_subsystem(NQN).await.unwrap() });
    assert!(host.closed().is_some() && io.closed().is_some());
    assert_eq!(bench.left(), (0, 0));
    assert_eq!(bench.transport.open.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(device.claims(), []);
    assert!(bench.target.subsystem(NQN).is_err());
    assert!(!bench.host().connect(&Connecting::admin()).0.is_success());
}

#[test]
fn no_keep_alive_ends_the_controller_at_the_second() {
    let (bench, time) = Bench::on_virtual_time();
    let host = bench.host();
    let mut admin = Connecting::admin();
    admin.command.kato = 4_500;
    let (_, cntlid) = host.connect(&admin);
    assert!(host.set_cc(ENABLE).is_success());
    let mut get = Sqe::new(opcode::GET_FEATURES, 0);
    get.cdw10.set(fid::KEEP_ALIVE_TIMER.into());
    assert_eq!(host.run(get), (NvmeStatus::SUCCESS, 5_000), "rounded up to the granularity");
    let io = bench.io(u16::try_from(cntlid).unwrap(), 1);
    let reactor = &bench.reactor;
    // A task that keeps virtual time from running away, and tells when to look.
    let keep = |seconds: u64| {
        reactor.block_on(async move {
            crate::reactor::sleep(Duration::from_secs(seconds)).await;
        });
    };
    for _ in 0..3 {
        keep(4);
        assert!(host.run(Sqe::new(opcode::KEEP_ALIVE, 0)).0.is_success());
    }
    let kept = time.now_ns();
    keep(4);
    assert!(host.closed().is_none() && io.closed().is_none());
    keep(2);
    assert_eq!(host.closed(), Some(DisconnectReason::KeepAlive));
    assert_eq!(io.closed(), Some(DisconnectReason::KeepAlive));
    assert!(time.now_ns() - kept < 7_000_000_000);
    assert_eq!((bench.subsystem.controllers().len(), bench.left()), (0, (0, 0)));
}

#[test]
fn a_controller_that_is_never_enabled_is_not_for_ever() {
    let (bench, _) = Bench::on_virtual_time();
    let host = bench.host();
    assert!(host.connect(&Connecting::admin()).0.is_success());
    let pause = |seconds: u64| {
        bench.run(async move { crate::reactor::sleep(Duration::from_secs(seconds)).await });
    };
    pause(119);
    assert!(host.closed().is_none());
    pause(2);
    assert_eq!(host.closed(), Some(DisconnectReason::KeepAlive));
}

#[test]
fn an_abort_finds_its_queue() {
    let bench = Bench::new();
    bench.namespace("a");
    let (host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    let abort = |sqid: u32, cid: u16| {
        let mut abort = Sqe::new(opcode::ABORT, 0);
        abort.cdw10.set(sqid | u32::from(cid) << 16);
        abort
    };
    assert_eq!(host.run(abort(1, 77)), (NvmeStatus::SUCCESS, 1));
    assert_eq!(host.run(abort(9, 1)), (NvmeStatus::SUCCESS, 1));
    // The first of a fused pair waits for the second, so that it can be aborted.
    let mut compare = Sqe::new(nvm::COMPARE, 1);
    compare.flags = 1;
    let cid = io.send(compare, &[0; 512], 512);
    assert_eq!(host.run(abort(1, cid)), (NvmeStatus::SUCCESS, 0));
    assert_eq!(io.wait(cid).0.status(), NvmeStatus::ABORTED_BY_REQUEST);
    // Five at once are one too many.
    let cids: Vec<_> = (0..5).map(|_| host.send(abort(1, 77), &[], 0)).collect();
    assert_eq!(host.wait(cids[4]).0.status().bits(), 0x4103);
    assert!(cids[..4].iter().all(|&cid| host.wait(cid).0.status().is_success()));
}

#[test]
fn ten_thousand_controllers_leave_nothing() {
    let bench = Bench::new();
    bench.namespace("a");
    let tasks = bench.reactor.live_tasks();
    for round in 0..10_000u32 {
        let host = bench.host();
        let mut admin = Connecting::admin();
        admin.command.kato = 120_000;
        let (status, cntlid) = host.connect(&admin);
        assert!(status.is_success());
        if round % 2 == 0 {
            assert!(host.set_cc(ENABLE).is_success());
            host.send(Sqe::new(opcode::ASYNC_EVENT_REQUEST, 0), &[], 0);
            bench.io(u16::try_from(cntlid).unwrap(), 1);
        }
        host.hang_up();
        if round % 16 == 0 {
            bench.settle();
        }
    }
    bench.settle();
    assert_eq!((bench.subsystem.controllers().len(), bench.left()), (0, (0, 0)));
    assert_eq!(bench.reactor.live_tasks(), tasks);
    assert_eq!(BdevCore::of(&bench.reactor).slots_in_use(), 0);
    let stats = bench.run({
        let target = Arc::clone(&bench.target);
        async move { target.stats().await.unwrap() }
    });
    assert_eq!((stats[0].admin_qpairs, stats[0].io_qpairs), (10_000, 5_000));
    assert_eq!((stats[0].current_admin_qpairs, stats[0].current_io_qpairs), (0, 0));
}
