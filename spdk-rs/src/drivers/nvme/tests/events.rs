//! Namespaces that come, go and change; discovery.
#![expect(clippy::disallowed_types, reason = "a listener may be called on any thread")]

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::bdev::DeviceEvent;
use crate::nvme::DISCOVERY_NQN;
use crate::nvme::spec::log::AnaState;

/// A namespace attribute notice, with the list of changed namespaces as its page.
const NAMESPACES_CHANGED: u32 = 0x0004_0002;
/// A discovery log page change notice.
const DISCOVERY_CHANGED: u32 = 0x0070_f002;

#[test]
fn namespaces_come_go_and_grow() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    let set = |namespaces: &[(u32, u64)]| {
        let all = namespaces.iter().map(|&(nsid, blocks)| (nsid, blocks, AnaState::Optimized));
        target.set_namespaces(all.collect());
        host.hears(&target, NAMESPACES_CHANGED);
    };
    set(&[(1, BLOCKS + 100), (3, 50)]);
    host.until("another namespace", || host.registry.find("dn3").is_ok());
    host.until("more blocks", || handle.num_blocks() == BLOCKS + 100);
    assert_eq!(host.registry.find("dn3").unwrap().num_blocks(), 50);
    assert_eq!(host.write(&handle, BLOCKS, 1, 1), NvmeStatus::SUCCESS);
    let desc = handle.desc().bdev().clone();
    let removed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = Arc::clone(&removed);
    let listener: crate::bdev::EventListener =
        Arc::new(move |_, event| told.store(*event == DeviceEvent::Removed, SeqCst));
    let _open = BdevDesc::open(&desc, OpenMode::Read, "listener", Some(listener)).unwrap();
    set(&[(3, 50)]);
    host.until("the removal", || host.registry.find("dn1").is_err());
    host.until("the event", || removed.load(SeqCst));
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::INVALID_NAMESPACE);
    set(&[(1, 10), (3, 50)]);
    host.until("it again", || host.registry.find("dn1").is_ok_and(|b| b.num_blocks() == 10));
    drop((handle, _open));
    host.finish();
}

#[test]
fn a_discovery_controller_is_asked() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let others = ["10.0.0.1:4420".parse().unwrap(), "10.0.0.2:4421".parse().unwrap()];
    target.set_log(others.to_vec());
    // The page changes twice while it is read.
    target.shared.log_changes.store(2, SeqCst);
    let trid = TransportId::tcp(target.address, DISCOVERY_NQN).unwrap();
    let driver = Arc::clone(&host.driver);
    let asked = async move { driver.discover(&trid, &options()).await };
    let found = host.reactor.block_on(asked).unwrap();
    let addresses: Vec<_> = found.iter().map(|entry| entry.trid.address).collect();
    assert_eq!(addresses, others);
    assert_eq!(target.shared.log_changes.load(SeqCst), 0, "it was read until it stood still");
    assert!(host.driver.controllers(None).is_empty());
    host.finish();
}

#[test]
fn a_discovery_controller_is_followed() {
    let (service, host) = (FakeTarget::start(), Host::new());
    let (first, second) = (FakeTarget::start(), FakeTarget::start());
    second.set_namespaces(vec![(2, 100, AnaState::Optimized)]);
    service.set_log(vec![first.address]);
    let trid = TransportId::tcp(service.address, DISCOVERY_NQN).unwrap();
    let driver = Arc::clone(&host.driver);
    let started = async move { driver.start_discovery("disc", &trid, &options()).await };
    host.reactor.block_on(started).unwrap();
    assert!(host.registry.find("disc0n1").is_ok());
    assert_eq!(host.driver.discoveries()[0].entries.len(), 1);
    service.set_log(vec![second.address]);
    host.hears(&service, DISCOVERY_CHANGED);
    host.until("the second", || host.registry.find("disc1n2").is_ok());
    host.until("no first", || host.registry.find("disc0n1").is_err());
    let driver = Arc::clone(&host.driver);
    host.reactor.block_on(async move { driver.stop_discovery("disc").await }).unwrap();
    assert!(host.driver.controllers(None).is_empty() && host.driver.discoveries().is_empty());
    host.finish();
}

/// The events of a namespace's device, as words.
fn listen(handle: &IoHandle) -> (Arc<BdevDesc>, Arc<std::sync::Mutex<Vec<String>>>) {
    let events: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&events);
    let listener: crate::bdev::EventListener =
        Arc::new(move |_, event| told.lock().unwrap().push(format!("{event:?}")));
    let desc = BdevDesc::open(handle.bdev(), OpenMode::Read, "listener", Some(listener));
    (desc.unwrap(), events)
}

#[test]
fn a_lost_connection_and_the_next_one_are_told_of() {
    let (mut target, host) = (FakeTarget::start(), Host::new());
    let mut options = options();
    options.controller.ctrlr_loss_timeout_sec = 1;
    options.controller.reconnect_delay_sec = 1;
    let handle = host.attach(&target, options);
    let (open, events) = listen(&handle);
    target.shared.fault(Fault::Close { executed: false });
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    host.until("it is back", || events.lock().unwrap().iter().any(|event| event == "Reconnected"));
    let seen = std::mem::take(&mut *events.lock().unwrap());
    assert_eq!(seen.iter().filter(|event| *event == "Reconnecting").count(), 1, "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Reconnected"), "{seen:?}");
    target.stop();
    host.until("it is given up", || {
        events.lock().unwrap().iter().any(|event| event == "Unreachable")
    });
    assert!(events.lock().unwrap().iter().any(|event| event == "AdminQueueFailed"));
    drop((handle, open));
    host.finish();
}
