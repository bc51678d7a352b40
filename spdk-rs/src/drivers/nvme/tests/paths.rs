//! Several paths to one namespace.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::bdev::{IoType, OpStats};
use crate::drivers::nvme::channel::ChannelPath;
use crate::drivers::nvme::core::NvmeCore;
use crate::drivers::nvme::queue::QueueState;
use crate::nvme::spec::log::AnaState;
use crate::nvme::spec::opcode::nvm;

/// An ANA change notice.
const ANA_CHANGED: u32 = 0x000c_0302;

/// Two targets that play two ports of one subsystem.
fn two(ana: bool) -> (FakeTarget, FakeTarget, Host, IoHandle) {
    let (first, second, host) = (FakeTarget::start(), FakeTarget::start(), Host::new());
    for target in [&first, &second] {
        target.shared.ana.store(ana, SeqCst);
    }
    let handle = host.attach(&first, options());
    let names = host.try_attach("d", trid(&second), options()).unwrap();
    assert_eq!(names, ["dn1"]);
    assert_eq!(host.driver.io_paths(Some("dn1")).len(), 2);
    // Queues are connected behind the attach, and I/O stays on the path whose queue comes first.
    host.until("both queues", || connected(&host) == [true, true]);
    (first, second, host, handle)
}

/// What this core's channel of the one namespace has of each path.
fn seen<T>(host: &Host, what: impl Fn(&ChannelPath) -> T) -> Vec<T> {
    let channels = NvmeCore::of(&host.reactor).channels();
    assert_eq!(channels.len(), 1);
    channels[0].paths.borrow().iter().map(what).collect()
}

/// Which paths can take commands.
fn connected(host: &Host) -> Vec<bool> {
    seen(host, |path| path.queue.state() == QueueState::Up)
}

fn report(host: &Host, target: &FakeTarget, state: AnaState) {
    target.set_namespaces(vec![(1, BLOCKS, state)]);
    host.hears(target, ANA_CHANGED);
}

fn writes(target: &FakeTarget) -> usize {
    target.shared.count(nvm::WRITE)
}

#[test]
fn another_path_takes_over() {
    let (mut first, second, host, handle) = two(false);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    assert_eq!((writes(&first), writes(&second)), (1, 0));
    first.stop();
    assert_eq!(host.write(&handle, 0, 1, 2), NvmeStatus::SUCCESS);
    assert_eq!(writes(&second), 1);
    drop(handle);
    host.finish();
}

#[test]
fn a_path_is_detached_under_io() {
    let (first, second, host, handle) = two(false);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    first.shared.fault(Fault::Hang);
    let stuck = handle.write(host.buf(1, 2), 0, 1);
    host.until("the command", || writes(&first) == 2);
    let (driver, path) = (Arc::clone(&host.driver), trid(&first));
    host.reactor.block_on(async move { driver.detach("d", Some(&path)).await }).unwrap();
    assert_eq!(host.reactor.block_on(stuck).status, NvmeStatus::SUCCESS);
    assert_eq!(writes(&second), 1);
    assert!(host.registry.find("dn1").is_ok());
    assert_eq!(host.driver.io_paths(None).len(), 1);
    drop(handle);
    host.finish();
}

#[test]
fn states_choose_the_path() {
    let (first, second, host, handle) = two(true);
    let set = |target: &FakeTarget, state| report(&host, target, state);
    // The channel's own, since the listing changes before it.
    let states = || seen(&host, |path| path.ana.get());
    set(&first, AnaState::NonOptimized);
    host.until("the state", || states() == [AnaState::NonOptimized, AnaState::Optimized]);
    let listed = host.driver.io_paths(None);
    let listed: Vec<_> = listed.iter().map(|path| path.ana_state).collect();
    assert_eq!(listed, ["non_optimized", "optimized"]);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    assert_eq!((writes(&first), writes(&second)), (0, 1));
    set(&second, AnaState::Inaccessible);
    host.until("the state", || states() == [AnaState::NonOptimized, AnaState::Inaccessible]);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    assert_eq!((writes(&first), writes(&second)), (1, 1));
    // Nothing is accessible: I/O waits for a transition.
    set(&first, AnaState::Change);
    host.until("the state", || states() == [AnaState::Change, AnaState::Inaccessible]);
    let waiting = handle.write(host.buf(1, 3), 0, 1);
    set(&second, AnaState::Optimized);
    assert_eq!(host.reactor.block_on(waiting).status, NvmeStatus::SUCCESS);
    assert_eq!((writes(&first), writes(&second)), (1, 2));
    drop(handle);
    host.finish();
}

#[test]
fn a_transition_that_takes_too_long_fails_io() {
    let (target, host) = (FakeTarget::start(), Host::new());
    target.shared.ana.store(true, SeqCst);
    target.set_namespaces(vec![(1, BLOCKS, AnaState::Inaccessible)]);
    let handle = host.attach(&target, options());
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::new(3, 2));
    assert_eq!(writes(&target), 0);
    drop(handle);
    host.finish();
}

#[test]
fn a_status_of_the_path_moves_io() {
    let (first, second, host, handle) = two(true);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    let status = NvmeStatus::new(3, 2);
    first.set_namespaces(vec![(1, BLOCKS, AnaState::Inaccessible)]);
    first.shared.fault(Fault::Status(status));
    assert_eq!(host.write(&handle, 0, 1, 2), NvmeStatus::SUCCESS);
    assert_eq!((writes(&first), writes(&second)), (2, 1));
    let state = || host.driver.io_paths(None)[0].ana_state;
    host.until("the log page", || state() == "inaccessible");
    drop(handle);
    host.finish();
}

#[test]
fn io_goes_over_all_paths_in_turn() {
    let (first, second, host, handle) = two(false);
    let driver = Arc::clone(&host.driver);
    let policy = MultipathPolicy::RoundRobin;
    host.reactor.block_on(async move { driver.set_policy("dn1", policy).await }).unwrap();
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    for i in 0..10 {
        assert_eq!(host.write(&handle, 0, 1, i), NvmeStatus::SUCCESS);
    }
    let both = (writes(&first), writes(&second));
    assert!(both.0 >= 5 && both.1 >= 5, "{both:?}");
    drop(handle);
    host.finish();
}

#[test]
fn a_namespace_that_is_another_one_is_no_path() {
    let (first, second, host) = (FakeTarget::start(), FakeTarget::start(), Host::new());
    second.set_namespaces(vec![(1, 100, AnaState::Optimized), (2, 100, AnaState::Optimized)]);
    second.shared.foreign.store(true, SeqCst);
    let handle = host.attach(&first, options());
    let error = host.try_attach("d", trid(&second), options()).unwrap_err().to_string();
    assert!(error.contains("namespace 1 is another one"), "{error}");
    assert_eq!(handle.num_blocks(), BLOCKS);
    assert_eq!(host.driver.io_paths(None).len(), 1);
    assert!(host.registry.find("dn2").is_err(), "nothing of it is left");
    drop(handle);
    host.finish();
}

#[test]
fn a_preferred_path_is_gone_back_to() {
    let (first, second, host, handle) = two(true);
    let controllers = host.driver.controllers(Some("d"));
    let cntlid = |index: usize| controllers[0].paths[index].cntlid.unwrap();
    // The fake controllers have one identifier, so that the first of a number is meant.
    assert_eq!(cntlid(0), cntlid(1));
    let prefer = |cntlid| {
        let driver = Arc::clone(&host.driver);
        host.reactor.block_on(async move { driver.set_preferred_path("dn1", cntlid).await })
    };
    assert!(matches!(prefer(cntlid(0) + 1), Err(NvmeError::NoPath { .. })));
    prefer(cntlid(0)).unwrap();
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    assert_eq!((writes(&first), writes(&second)), (1, 0));
    let current = || {
        let driver = Arc::clone(&host.driver);
        let cores = host.reactor.block_on(async move { driver.io_paths_by_core(None).await });
        cores[0].1.iter().map(|path| path.current).collect::<Vec<_>>()
    };
    assert_eq!(current(), [true, false]);
    // What a channel learns by itself, without taking the paths over anew.
    let say = |state| {
        let channels = NvmeCore::of(&host.reactor).channels();
        channels[0].paths.borrow()[0].ana.set(state);
    };
    say(AnaState::Inaccessible);
    assert_eq!(current(), [false, true]);
    assert_eq!(host.write(&handle, 0, 1, 2), NvmeStatus::SUCCESS);
    assert_eq!((writes(&first), writes(&second)), (1, 1));
    // Without a preference I/O would stay on the second path.
    say(AnaState::Optimized);
    assert_eq!(current(), [true, false]);
    assert_eq!(host.write(&handle, 0, 1, 3), NvmeStatus::SUCCESS);
    assert_eq!((writes(&first), writes(&second)), (2, 1));
    drop(handle);
    host.finish();
}

#[test]
fn what_goes_over_each_path_is_counted() {
    let (first, second, host) = (FakeTarget::start(), FakeTarget::start(), Host::new());
    let mut counted = options();
    counted.controller.io_path_stat = true;
    counted.policy = MultipathPolicy::RoundRobin;
    let handle = host.attach(&first, counted.clone());
    host.try_attach("d", trid(&second), counted).unwrap();
    host.until("both queues", || connected(&host) == [true, true]);
    for i in 0..10 {
        assert_eq!(host.write(&handle, 0, 2, i), NvmeStatus::SUCCESS);
    }
    second.shared.fault(Fault::Status(NvmeStatus::WRITE_FAULT.with_do_not_retry(true)));
    let failed = (0..2).filter(|_| !host.write(&handle, 0, 1, 1).is_success()).count();
    assert_eq!(failed, 1);
    let stats = || {
        let driver = Arc::clone(&host.driver);
        let stats = host.reactor.block_on(async move { driver.path_stats("dn1").await });
        stats.unwrap().into_iter().map(|(trid, stats)| (trid, *stats.of(IoType::Write))).collect()
    };
    let expected = |stats: Vec<(TransportId, OpStats)>| {
        let [(one, a), (other, b)] = &stats[..] else { panic!("{stats:?}") };
        assert_eq!((one, other), (&trid(&first), &trid(&second)));
        assert_eq!((a.ops, b.ops), (writes(&first) as u64, writes(&second) as u64));
        assert_eq!((a.errors, b.errors), (0, 1));
        // 10 of two blocks and one of one; the one that failed carried nothing.
        assert_eq!(a.bytes + b.bytes, 21 * BLOCK as u64);
        assert!(a.ticks > 0 && a.ticks_max >= a.ticks_min);
    };
    expected(stats());
    // A core that has closed the device has counted all the same.
    drop(handle);
    host.until("the end of the channel", || NvmeCore::of(&host.reactor).channels().is_empty());
    expected(stats());
    host.finish();
}

#[test]
fn a_disabled_controller_stays_away_until_it_is_enabled() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    let disable = || {
        let driver = Arc::clone(&host.driver);
        host.reactor.block_on(async move { driver.disable("d", None).await })
    };
    target.shared.fault(Fault::Hang);
    let stuck = handle.write(host.buf(1, 2), 0, 1);
    host.until("the command", || writes(&target) == 2);
    // Twice is as good as once.
    (0..2).for_each(|_| disable().unwrap());
    assert_eq!(host.state(), ControllerState::Disabled);
    assert!(host.trouble().contains("disabled"), "{}", host.trouble());
    assert_eq!(host.reactor.block_on(stuck).status, NvmeStatus::INTERNAL_PATH_ERROR);
    assert_eq!(host.write(&handle, 0, 1, 3), NvmeStatus::INTERNAL_PATH_ERROR);
    let driver = Arc::clone(&host.driver);
    let reset = host.reactor.block_on(async move { driver.reset("d", None).await });
    assert!(reset.unwrap_err().to_string().contains("it is disabled"));
    assert_eq!((host.state(), host.reconnects()), (ControllerState::Disabled, 0));
    let enable = || {
        let driver = Arc::clone(&host.driver);
        host.reactor.block_on(async move { driver.enable("d", None).await })
    };
    (0..2).for_each(|_| enable().unwrap());
    assert_eq!((host.state(), host.reconnects()), (ControllerState::Enabled, 1));
    assert_eq!(host.write(&handle, 0, 1, 4), NvmeStatus::SUCCESS);
    // One that is disabled can be detached.
    disable().unwrap();
    drop(handle);
    host.finish();
}

#[test]
fn a_disabled_path_leaves_io_to_the_other() {
    let (mut first, second, host, handle) = two(false);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    first.stop();
    host.until("the loss", || connected(&host) == [false, true]);
    // Also while it is being connected anew.
    let driver = Arc::clone(&host.driver);
    host.reactor.block_on(async move { driver.disable("d", None).await }).unwrap();
    assert_eq!(host.write(&handle, 0, 1, 2), NvmeStatus::INTERNAL_PATH_ERROR);
    let controllers = host.driver.controllers(Some("d"));
    let states: Vec<_> = controllers[0].paths.iter().map(|path| path.state).collect();
    assert_eq!(states, [ControllerState::Disabled; 2]);
    assert_eq!(writes(&second), 0);
    drop(handle);
    host.finish();
}
