//! Queue pairs over a transport of nothing but memory.

pub(in crate::nvmf) mod device;
pub(in crate::nvmf) mod rig;

use std::sync::atomic::Ordering::SeqCst;

use self::device::ALL;
use self::rig::{Rig, SUBSYSTEM};
use super::*;
use crate::bdev::{BdevCore, BdevDesc, OpenMode};
use crate::nvme::spec::Sqe;
use crate::nvme::spec::opcode::{admin, nvm};
use crate::nvmf::core_view::CoreView;

const READ: OpenMode = OpenMode::Read;
const WRITE: OpenMode = OpenMode::ReadWrite;

fn read(slba: u64, blocks: u32) -> Sqe {
    Sqe::block(nvm::READ, 1, slba, blocks)
}

#[test]
fn before_connect_only_connect() {
    let rig = Rig::new();
    let host = rig.connection(false);
    assert_eq!(host.status(read(0, 1), &[]), NvmeStatus::COMMAND_SEQUENCE_ERROR);
    assert_eq!(host.status(Sqe::fabrics(4), &[]), NvmeStatus::COMMAND_SEQUENCE_ERROR);
    assert_eq!((host.qpair.state(), host.qpair.qid()), (QpairState::New, None));
    let refused = host.connect_to(1, 7, 1, 0xdead);
    assert_eq!(refused.status(), NvmeStatus::CONNECT_INVALID_PARAMETERS);
    // A refused one may try again, and then the queue begins at its first entry.
    for (sqsize, max) in [(0, 128), (128, 128)] {
        let error = host.connect(1, sqsize, 1);
        assert_eq!(error.status(), NvmeStatus::CONNECT_INVALID_PARAMETERS, "{sqsize} of {max}");
    }
    let accepted = host.connect(1, 7, 1);
    assert_eq!((accepted.status(), accepted.cqe.sqhd.get()), (NvmeStatus::SUCCESS, 1));
    assert_eq!((host.qpair.state(), host.qpair.qid()), (QpairState::Connected, Some(1)));
    assert_eq!((host.qpair.queue_size(), host.qpair.cntlid()), (8, Some(1)));
    // A second Connect is the controller's to answer.
    assert_eq!(host.run(Sqe::fabrics(1), &[]).cqe.result.get(), 9);
}

#[test]
fn the_head_of_the_queue_goes_round() {
    let rig = Rig::new();
    let host = rig.host_of(1, 4);
    let heads: Vec<_> = (0..7).map(|_| host.run(read(0, 1), &[]).cqe.sqhd.get()).collect();
    assert_eq!(heads, [2, 3, 0, 1, 2, 3, 0], "the Connect was the first entry");
}

#[test]
fn more_commands_than_the_queue_holds_end_the_connection() {
    let rig = Rig::new();
    let (bdev, control) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, WRITE);
    let host = rig.host_of(1, 4);
    control.hold.store(true, SeqCst);
    for _ in 0..4 {
        host.send(read(0, 1), &[]);
    }
    assert!(host.wire.disconnects.borrow().is_empty());
    assert_eq!(host.qpair.outstanding(), 4);
    host.send(read(0, 1), &[]);
    host.send(read(0, 1), &[]);
    assert_eq!(*host.wire.disconnects.borrow(), [DisconnectReason::QueueOverrun], "once");
    assert_eq!(host.qpair.state(), QpairState::Disconnecting);
    control.hold.store(false, SeqCst);
    host.turns(4);
    assert_eq!(host.wire.answers.borrow().len(), 4, "what was taken is answered");
    // What comes on the way out is refused, and nothing is begun.
    let _ = control.seen();
    assert_eq!(host.status(read(0, 1), &[]), NvmeStatus::ABORTED_SQ_DELETION);
    assert!(control.seen().is_empty());
}

#[test]
fn before_connect_a_flood_ends_the_connection_too() {
    struct Never;
    impl TargetService for Never {
        fn connect(self: Arc<Self>, _: &Rc<Qpair>, request: Request) {
            KEPT.with_borrow_mut(|kept| kept.push(request));
        }
    }
    thread_local! {
        static KEPT: RefCell<Vec<Request>> = const { RefCell::new(Vec::new()) };
    }
    let rig = Rig::new();
    let host = rig.connection(false);
    let target: Arc<dyn TargetService> = Arc::new(Never);
    let transport: Rc<dyn QpairTransport> = Rc::<rig::Wire>::clone(&host.wire);
    let qpair = Qpair::new(&target, &rig.reactor, host.qpair.info().clone(), transport);
    let host = rig::Host { qpair, ..host };
    let connect = host.send(Sqe::fabrics(1), &[0; 1024]);
    assert_eq!(host.qpair.state(), QpairState::Connecting);
    assert_eq!(host.status(Sqe::fabrics(1), &[]), NvmeStatus::COMMAND_SEQUENCE_ERROR);
    assert_eq!(host.qpair.state(), QpairState::Connecting, "the other Connect is still there");
    assert!(host.answer(connect).is_none());
    // The connection goes away while the target still works on it: an answer finds nobody.
    host.close();
    assert_eq!(host.qpair.state(), QpairState::Disconnecting);
    KEPT.take().into_iter().for_each(|request| request.finish(NvmeStatus::SUCCESS));
    assert_eq!(host.qpair.state(), QpairState::Gone);
}

#[test]
fn admin_commands_are_the_controllers() {
    let rig = Rig::new();
    let host = rig.connection(false);
    assert!(host.connect(0, 31, 1).status().is_success());
    let answer = host.run(Sqe::new(admin::IDENTIFY, 0), &[]);
    assert_eq!((answer.data, answer.cqe.result.get()), (vec![7; 100], 5));
    let cid = host.send_len(Sqe::new(admin::IDENTIFY, 0), &[], 60);
    assert_eq!(host.wait(cid).data, [7; 60], "no more than was asked for");
    let kept = host.send(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0), &[]);
    assert!(host.answer(kept).is_none());
    assert_eq!(host.qpair.abort(kept), AbortOutcome::NotAborted, "the controller's to abort");
    assert_eq!(host.qpair.abort(kept + 1), AbortOutcome::NotFound);
    let request = rig.control().kept.borrow_mut().pop().unwrap();
    drop(request);
    assert_eq!(host.wait(kept).status(), NvmeStatus::INTERNAL_ERROR, "dropping one is a bug");
}

#[test]
fn a_closed_connection_drains_in_silence() {
    let rig = Rig::new();
    let (bdev, control) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, WRITE);
    let host = rig.host();
    control.hold.store(true, SeqCst);
    host.send(read(0, 8), &[]);
    host.send(Sqe::block(nvm::VERIFY, 1, 0, 8), &[]);
    let mut first = Sqe::block(COMPARE, 1, 0, 1);
    first.flags |= 1;
    host.send(first, &[0; 512]);
    host.turns(4);
    host.close();
    let log = || rig.control().log.take();
    assert_eq!((host.qpair.state(), log()), (QpairState::Disconnecting, vec!["closing"]));
    assert_eq!(host.qpair.outstanding(), 2, "half a pair ends at once");
    let view = CoreView::of(&rig.reactor).find(SUBSYSTEM).unwrap();
    assert_eq!(view.namespace(1).unwrap().in_flight(), 2);
    control.hold.store(false, SeqCst);
    host.turns(8);
    assert_eq!((host.qpair.state(), log()), (QpairState::Gone, vec!["gone"]));
    assert_eq!(view.namespace(1).unwrap().in_flight(), 0);
    assert!(host.qpair.controller().is_none());
    assert_eq!(Rc::strong_count(&host.qpair), 1, "nobody else keeps it");
    assert_eq!(BdevCore::of(&rig.reactor).slots_in_use(), 0);
}

#[test]
fn requests_that_a_controller_keeps_end_with_the_connection() {
    let rig = Rig::new();
    let host = rig.connection(false);
    assert!(host.connect(0, 31, 1).status().is_success());
    host.send(Sqe::new(admin::ASYNC_EVENT_REQUEST, 0), &[]);
    host.qpair.disconnect(DisconnectReason::KeepAlive);
    assert_eq!(*host.wire.disconnects.borrow(), [DisconnectReason::KeepAlive]);
    assert!(rig.control().log.borrow().is_empty());
    host.close();
    assert_eq!(*rig.control().log.borrow(), ["closing", "gone"]);
    assert_eq!(host.qpair.state(), QpairState::Gone);
    assert!(host.wire.answers.borrow().is_empty());
}

#[test]
fn without_memory_commands_wait_in_order_and_none_fails() {
    let rig = Rig::with_memory(2 << 20);
    let (bdev, _) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, WRITE);
    let host = rig.host();
    let mut all = Vec::new();
    while let Ok(buf) = rig.reactor.memory().alloc(4096) {
        all.push(buf);
    }
    let cids: Vec<_> = (0..5).map(|at| host.send(read(at, 1), &[])).collect();
    // Even one that needs no memory waits for its turn.
    let flush = host.send(Sqe::new(nvm::FLUSH, 1), &[]);
    host.turns(2000);
    assert!(host.wire.answers.borrow().is_empty());
    assert_eq!(host.qpair.stats().waits.get(), 6);
    assert_eq!(host.qpair.abort(cids[1]), AbortOutcome::Aborted);
    assert_eq!(host.wait(cids[1]).status(), NvmeStatus::ABORTED_BY_REQUEST);
    drop(all.pop());
    while host.qpair.outstanding() > 0 {
        host.turns(1);
    }
    let answers = host.wire.answers.take();
    assert!(answers.iter().all(|answer| answer.status().is_success()));
    let order: Vec<_> = answers.iter().map(|answer| answer.cqe.cid.get()).collect();
    assert_eq!(order, [cids[0], cids[2], cids[3], cids[4], flush], "the oldest first");
}

#[test]
fn waiting_commands_end_with_the_connection_or_their_namespace() {
    let rig = Rig::with_memory(2 << 20);
    let (bdev, _) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, WRITE);
    let (host, other) = (rig.host(), rig.host());
    let mut all = Vec::new();
    while let Ok(buf) = rig.reactor.memory().alloc(4096) {
        all.push(buf);
    }
    let waiting = host.send(read(0, 1), &[]);
    other.send(read(0, 1), &[]);
    other.close();
    assert_eq!(other.qpair.state(), QpairState::Gone);
    let view = CoreView::of(&rig.reactor).find(SUBSYSTEM).unwrap();
    rig.reactor.block_on(view.remove_namespace(1));
    assert_eq!(host.answer(waiting).unwrap().status(), NvmeStatus::INVALID_NAMESPACE);
    drop(all);
    host.turns(2000);
    assert!(host.wire.answers.borrow().is_empty());
}

#[test]
fn without_slots_of_the_block_device_layer_commands_wait() {
    let rig = Rig::with_memory(4 << 20);
    let (bdev, control) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, WRITE);
    let host = rig.host();
    control.hold.store(true, SeqCst);
    let handle = BdevDesc::open(&bdev, READ, "test", None).unwrap().io_handle().unwrap();
    let mut taken = Vec::new();
    while handle.has_slot() {
        taken.push(handle.flush());
    }
    let write = host.send(Sqe::block(nvm::WRITE, 1, 4, 1), &[0xab; 512]);
    let dsm = host.send(Sqe::dataset_management(1, 1, 0), &[0; 16]);
    host.turns(100);
    assert!(host.wire.answers.borrow().is_empty());
    // Futures that are not asked keep their slots; those that are gone do not.
    drop(taken);
    control.hold.store(false, SeqCst);
    assert!(host.wait(write).status().is_success());
    assert!(host.wait(dsm).status().is_success());
    assert_eq!(host.run(read(4, 1), &[]).data, [0xab; 512]);
}

#[test]
fn a_namespace_removed_under_load_lets_what_has_begun_end() {
    let rig = Rig::new();
    let (bdev, control) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, WRITE);
    let host = rig.host();
    control.hold.store(true, SeqCst);
    let begun: Vec<_> = (0..4).map(|at| host.send(read(at, 1), &[])).collect();
    let view = CoreView::of(&rig.reactor).find(SUBSYSTEM).unwrap();
    let removed = Rc::new(Cell::new(false));
    let (future, tell) = (view.remove_namespace(1), Rc::clone(&removed));
    rig.reactor.spawn("removal", async move {
        future.await;
        tell.set(true);
    });
    assert_eq!(host.status(read(0, 1), &[]), NvmeStatus::INVALID_NAMESPACE);
    host.turns(20);
    assert!(!removed.get(), "it waits for what is in flight");
    assert_eq!(bdev.channel_stats().len(), 1);
    control.hold.store(false, SeqCst);
    for cid in begun {
        assert!(host.wait(cid).status().is_success());
    }
    host.turns(4);
    assert!(removed.get());
    assert_eq!(bdev.channel_stats().len(), 0, "the device is closed on this core");
}

#[test]
fn a_device_removed_under_load_ends_every_command() {
    let rig = Rig::new();
    let (bdev, control) = device::create(rig.reactor.memory(), 64, ALL);
    let registry = crate::bdev::Registry::new();
    registry.register(&bdev).unwrap();
    rig.add(1, &bdev, WRITE);
    let host = rig.host();
    control.hold.store(true, SeqCst);
    let begun = host.send(read(0, 1), &[]);
    rig.reactor.spawn("removal", async move {
        registry.unregister("double").await.unwrap();
    });
    host.turns(4);
    assert_eq!(host.status(read(0, 1), &[]), NvmeStatus::INVALID_NAMESPACE);
    control.hold.store(false, SeqCst);
    assert!(host.wait(begun).status().is_success());
}

#[test]
fn statistics() {
    let rig = Rig::new();
    let (bdev, _) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, READ);
    let host = rig.host();
    assert!(host.status(read(0, 8), &[]).is_success());
    let write = Sqe::block(nvm::WRITE, 1, 0, 1);
    assert_eq!(host.status(write, &[0; 512]), NvmeStatus::WRITE_PROTECTED);
    let stats = host.qpair.stats();
    let counts = [&stats.commands, &stats.reads, &stats.read_bytes, &stats.writes, &stats.errors];
    assert_eq!(counts.map(Count::get), [3, 1, 4096, 0, 1]);
}
