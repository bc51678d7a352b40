//! Control operations on subsystems, with and without hosts.

use std::sync::Arc;

use crate::NvmeStatus;
use crate::bdev::{BdevDesc, ClaimKind, OpenMode, Registry};
use crate::nvme::spec::Sqe;
use crate::nvme::spec::opcode::nvm;
use crate::nvmf::controller::tests::bench::{Bench, HOST, NQN, address};
use crate::nvmf::core_view::AnaState;
use crate::nvmf::subsystem::{NamespaceOptions, Nqn, SubsystemOptions};
use crate::nvmf::target::{NvmfError, NvmfErrorKind};

/// Adds a namespace with options and tells how that ended.
fn add(bench: &Bench, options: NamespaceOptions) -> Result<u32, NvmfError> {
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.add_namespace(options).await })
}

fn kind<T: std::fmt::Debug>(result: Result<T, NvmfError>) -> NvmfErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn a_device_is_claimed_as_long_as_it_is_exported() {
    let bench = Bench::new();
    let device = bench.device("a", 16);
    assert_eq!(add(&bench, NamespaceOptions::new(Arc::clone(&device))).unwrap(), 1);
    let owner = format!("NVMe-oF subsystem {NQN}");
    assert_eq!(device.claims(), [(owner.clone(), ClaimKind::ExclusiveWrite)]);
    let again = add(&bench, NamespaceOptions::new(Arc::clone(&device))).unwrap_err();
    assert_eq!(again.kind(), NvmfErrorKind::Busy);
    assert!(again.to_string().contains(&owner), "{again}");
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.remove_namespace(1).await.unwrap() });
    assert_eq!(device.claims(), []);
    let writer = BdevDesc::open(&device, OpenMode::ReadWrite, "test", None).unwrap();
    let refused = add(&bench, NamespaceOptions::new(Arc::clone(&device))).unwrap_err();
    assert!(refused.to_string().contains("test"), "{refused}");
    drop(writer);
    assert_eq!(add(&bench, NamespaceOptions::new(device)).unwrap(), 1);
}

#[test]
fn a_device_with_zones_is_not_exported() {
    let bench = Bench::new();
    let refused = add(&bench, NamespaceOptions::new(crate::bdev::zoned_double())).unwrap_err();
    assert_eq!(refused.kind(), NvmfErrorKind::Invalid);
    assert!(refused.to_string().contains("the zoned device 'z'"), "{refused}");
}

#[test]
fn numbers_groups_and_names_are_checked() {
    let bench = Bench::with(crate::env::Clock::Real, |options| options.max_namespaces = 2);
    let with = |name: &str, change: fn(&mut NamespaceOptions)| {
        let mut options = NamespaceOptions::new(bench.device(name, 16));
        change(&mut options);
        add(&bench, options)
    };
    assert_eq!(kind(with("a", |options| options.nsid = Some(3))), NvmfErrorKind::Invalid);
    assert_eq!(kind(with("a", |options| options.nsid = Some(0))), NvmfErrorKind::Invalid);
    assert_eq!(kind(with("a", |options| options.ana_group = Some(3))), NvmfErrorKind::Invalid);
    assert_eq!(kind(with("a", |options| options.nguid = Some([0; 16]))), NvmfErrorKind::Invalid);
    assert_eq!(kind(with("a", |options| options.eui64 = Some([0; 8]))), NvmfErrorKind::Invalid);
    assert_eq!(with("a", |options| options.nsid = Some(2)).unwrap(), 2);
    assert_eq!(kind(with("b", |options| options.nsid = Some(2))), NvmfErrorKind::Exists);
    assert_eq!(with("b", |_| {}).unwrap(), 1);
    assert_eq!(kind(with("c", |_| {})), NvmfErrorKind::Full);
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move {
        assert_eq!(kind(subsystem.remove_namespace(9).await), NvmfErrorKind::NotFound);
        assert_eq!(kind(subsystem.set_namespace_ana_group(1, 3).await), NvmfErrorKind::Invalid);
        assert_eq!(kind(subsystem.set_namespace_ana_group(3, 1).await), NvmfErrorKind::NotFound);
    });
}

#[test]
fn a_connected_host_loses_and_gains_namespaces() {
    let bench = Bench::new();
    bench.namespace("a");
    let (_host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    assert!(io.ask(Sqe::new(nvm::READ, 1), 512).is_ok());
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.remove_namespace(1).await.unwrap() });
    let gone = io.ask(Sqe::new(nvm::READ, 1), 512);
    assert_eq!(gone, Err(NvmeStatus::INVALID_NAMESPACE));
    assert_eq!(bench.namespace("b"), 1);
    assert!(io.ask(Sqe::new(nvm::READ, 1), 512).is_ok());
}

#[test]
fn a_device_that_is_removed_takes_its_namespace_along() {
    let bench = Bench::new();
    let (registry, device) = (Registry::new(), bench.device("a", 16));
    registry.register(&device).unwrap();
    add(&bench, NamespaceOptions::new(device)).unwrap();
    bench.run(async move { drop(registry.unregister("a").await.unwrap()) });
    bench.settle();
    assert!(bench.subsystem.namespaces().is_empty());
    assert_eq!(bench.namespace("b"), 1);
}

#[test]
fn paths_follow_the_state_of_their_group() {
    let bench = Bench::new();
    bench.namespace("a");
    let (_host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    let set = |group, state| {
        let (subsystem, address) = (Arc::clone(&bench.subsystem), bench.listener.address());
        bench.run(async move { subsystem.set_ana_state(address, group, state).await })
    };
    let read = || io.ask(Sqe::new(nvm::READ, 1), 512).map(drop);
    for (state, expected) in [
        (AnaState::Inaccessible, Err(NvmeStatus::ANA_INACCESSIBLE)),
        (AnaState::PersistentLoss, Err(NvmeStatus::ANA_PERSISTENT_LOSS)),
        (AnaState::Change, Err(NvmeStatus::ANA_TRANSITION)),
        (AnaState::NonOptimized, Ok(())),
    ] {
        set(None, state).unwrap();
        assert_eq!(read(), expected, "{state:?}");
    }
    set(Some(2), AnaState::Inaccessible).unwrap();
    assert_eq!(read(), Ok(()));
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.set_namespace_ana_group(1, 2).await.unwrap() });
    assert_eq!(read(), Err(NvmeStatus::ANA_INACCESSIBLE));
    assert_eq!(kind(set(Some(33), AnaState::Optimized)), NvmfErrorKind::Invalid);
}

#[test]
fn a_queue_that_comes_later_finds_the_states_as_they_are() {
    let bench = Bench::new();
    bench.namespace("a");
    let (subsystem, address) = (Arc::clone(&bench.subsystem), bench.listener.address());
    bench.run(async move {
        subsystem.set_ana_state(address, None, AnaState::Inaccessible).await.unwrap();
    });
    let (_host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    assert_eq!(io.ask(Sqe::new(nvm::READ, 1), 512), Err(NvmeStatus::ANA_INACCESSIBLE));
}

#[test]
fn listeners_are_shared_and_errors_name_what_is_wrong() {
    let bench = Bench::new();
    let (target, subsystem) = (Arc::clone(&bench.target), Arc::clone(&bench.subsystem));
    let first = bench.listener.address();
    bench.run(async move {
        let nqn = Nqn::new("nqn.2016-06.io.spdk:cnode2").unwrap();
        let other = target.create_subsystem(SubsystemOptions::new(nqn)).await.unwrap();
        let shared = other.add_listener(first).await.unwrap();
        assert_eq!(shared.id(), subsystem.listeners()[0].listener.id());
        assert_eq!(kind(other.add_listener(first).await), NvmfErrorKind::Exists);
        assert_eq!(kind(other.add_listener(address(1)).await), NvmfErrorKind::Io);
        assert_eq!(kind(other.remove_listener(address(2)).await), NvmfErrorKind::NotFound);
        subsystem.remove_listener(first).await.unwrap();
        assert_eq!(target.listeners().len(), 1);
        other.remove_listener(first).await.unwrap();
        assert_eq!(target.listeners().len(), 0);
    });
    assert_eq!(bench.transport.open.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn subsystems_are_checked_and_found() {
    let bench = Bench::new();
    let target = Arc::clone(&bench.target);
    bench.run(async move {
        let options = || SubsystemOptions::new(Nqn::new(NQN).unwrap());
        assert_eq!(kind(target.create_subsystem(options()).await), NvmfErrorKind::Exists);
        let discovery = SubsystemOptions::new(Nqn::discovery());
        assert_eq!(kind(target.create_subsystem(discovery).await), NvmfErrorKind::Exists);
        for change in [
            (|options| options.serial = "x".repeat(21)) as fn(&mut SubsystemOptions),
            |options| options.serial.clear(),
            |options| options.model = "ü".into(),
            |options| options.max_namespaces = 0,
            |options| options.min_cntlid = 0,
            |options| options.max_cntlid = 0xfff0,
            |options| (options.min_cntlid, options.max_cntlid) = (5, 4),
        ] {
            let mut wrong = SubsystemOptions::new(Nqn::new("nqn.2016-06.io.x:y").unwrap());
            change(&mut wrong);
            assert_eq!(kind(target.create_subsystem(wrong).await), NvmfErrorKind::Invalid);
        }
        assert_eq!(kind(target.delete_subsystem("nqn.x").await), NvmfErrorKind::NotFound);
        let discovery = Nqn::discovery();
        assert_eq!(
            kind(target.delete_subsystem(discovery.as_str()).await),
            NvmfErrorKind::NotFound
        );
        assert_eq!(target.subsystems().len(), 1);
        target.stop().await;
        assert_eq!(target.subsystems().len(), 0);
    });
}

#[test]
fn hosts_are_listed_once() {
    let bench = Bench::new();
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move {
        let host = || Nqn::new(HOST).unwrap();
        subsystem.add_host(host()).await.unwrap();
        assert_eq!(kind(subsystem.add_host(host()).await), NvmfErrorKind::Exists);
        assert_eq!(subsystem.hosts(), [host()]);
        subsystem.remove_host(&host()).await.unwrap();
        assert_eq!(kind(subsystem.remove_host(&host()).await), NvmfErrorKind::NotFound);
    });
}
