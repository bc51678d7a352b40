//! Asynchronous events, from the control plane to the host.

use std::sync::Arc;

use super::bench::{Bench, HOST};
use crate::NvmeStatus;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::feature::fid;
use crate::nvme::spec::log::{GetLogPage, lid};
use crate::nvme::spec::opcode::admin as opcode;
use crate::nvmf::core_view::AnaState;
use crate::nvmf::subsystem::Nqn;

const NS_CHANGED: u64 = 0x04_00_02;
const ANA_CHANGED: u64 = 0x0c_03_02;
const DISCOVERY_CHANGED: u64 = 0x70_f0_02;

fn event_request() -> Sqe {
    Sqe::new(opcode::ASYNC_EVENT_REQUEST, 0)
}

fn changed_list(host: &super::bench::Host<'_>) -> Vec<u32> {
    let page = host.ask(GetLogPage::new(lid::CHANGED_NAMESPACES, 4096).to_sqe(0), 4096).unwrap();
    let words = page.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    words.take_while(|&nsid| nsid != 0).collect()
}

#[test]
fn a_namespace_that_comes_goes_or_grows_is_told_once_until_the_list_is_read() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    let cids: Vec<_> = (0..4).map(|_| host.send(event_request(), &[], 0)).collect();
    assert_eq!(bench.namespace("a"), 1);
    assert_eq!(host.wait(cids[0]).0.result.get(), NS_CHANGED);
    assert_eq!(bench.namespace("b"), 2);
    bench.settle();
    assert!(host.take(cids[1]).is_none(), "masked until the log page is read");
    assert_eq!(changed_list(&host), [1, 2]);
    assert!(changed_list(&host).is_empty());
    let device = Arc::clone(bench.subsystem.namespace(1).unwrap().bdev());
    bench.run(async move { device.resize(4096).await });
    assert_eq!(host.wait(cids[1]).0.result.get(), NS_CHANGED);
    assert_eq!(changed_list(&host), [1]);
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.remove_namespace(2).await.unwrap() });
    assert_eq!(host.wait(cids[2]).0.result.get(), NS_CHANGED);
    assert_eq!(changed_list(&host), [2]);
}

#[test]
fn retained_events_stay_masked() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    let (first, second) = (host.send(event_request(), &[], 0), host.send(event_request(), &[], 0));
    bench.namespace("a");
    assert_eq!(host.wait(first).0.result.get(), NS_CHANGED);
    let retained = GetLogPage { rae: true, ..GetLogPage::new(lid::CHANGED_NAMESPACES, 4096) };
    host.ask(retained.to_sqe(0), 4096).unwrap();
    bench.namespace("b");
    bench.settle();
    assert!(host.take(second).is_none());
    assert_eq!(changed_list(&host), [1, 2]);
}

#[test]
fn the_fifth_request_is_too_many_and_any_can_be_aborted() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    let cids: Vec<_> = (0..4).map(|_| host.send(event_request(), &[], 0)).collect();
    assert_eq!(host.run(event_request()).0.bits(), 0x4105);
    let mut abort = Sqe::new(opcode::ABORT, 0);
    abort.cdw10.set(u32::from(cids[1]) << 16);
    assert_eq!(host.run(abort), (NvmeStatus::SUCCESS, 0));
    assert_eq!(host.wait(cids[1]).0.status(), NvmeStatus::ABORTED_BY_REQUEST);
    assert_eq!(host.run(abort), (NvmeStatus::SUCCESS, 1));
}

#[test]
fn events_that_are_not_wanted_are_not_told() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    let mut set = Sqe::new(opcode::SET_FEATURES, 0);
    set.cdw10.set(fid::ASYNC_EVENTS.into());
    assert_eq!(host.run(set).0, NvmeStatus::SUCCESS);
    let cid = host.send(event_request(), &[], 0);
    bench.namespace("a");
    bench.settle();
    assert!(host.take(cid).is_none());
    assert_eq!(changed_list(&host), [1]);
}

#[test]
fn an_ana_change_is_told_to_those_who_came_through_the_listener() {
    let bench = Bench::new();
    bench.namespace("a");
    let subsystem = Arc::clone(&bench.subsystem);
    let other = bench
        .run(async move { subsystem.add_listener(super::bench::address(4421)).await.unwrap() });
    let (host, _) = bench.admin();
    let distant = bench.dial(&other);
    assert!(distant.connect(&super::bench::Connecting::admin()).0.is_success());
    assert!(distant.set_cc(super::bench::ENABLE).is_success());
    let (here, there) = (host.send(event_request(), &[], 0), distant.send(event_request(), &[], 0));
    let (subsystem, address) = (Arc::clone(&bench.subsystem), bench.listener.address());
    bench.run(async move {
        subsystem.set_ana_state(address, Some(1), AnaState::Inaccessible).await.unwrap();
    });
    assert_eq!(host.wait(here).0.result.get(), ANA_CHANGED);
    assert!(distant.take(there).is_none());
    let state = |host: &super::bench::Host<'_>| {
        let page = host.ask(GetLogPage::new(lid::ANA, 64).to_sqe(0), 64).unwrap();
        (page[8], page[16], page[20], page[32], page[48])
    };
    assert_eq!(state(&host), (1, 1, 1, 3, 1), "one group, group 1, one namespace, inaccessible, 1");
    assert_eq!(state(&distant), (1, 1, 1, 1, 1));
}

#[test]
fn discovery_controllers_are_told_of_what_concerns_their_host() {
    let bench = Bench::new();
    let other = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000002";
    let (mine, theirs) = (bench.discovery(HOST), bench.discovery(other));
    let cids = [mine.send(event_request(), &[], 0), theirs.send(event_request(), &[], 0)];
    let (subsystem, generation) = (Arc::clone(&bench.subsystem), bench.target.generation());
    bench.run(async move { subsystem.add_host(Nqn::new(HOST).unwrap()).await.unwrap() });
    assert_eq!(mine.wait(cids[0]).0.result.get(), DISCOVERY_CHANGED);
    assert!(theirs.take(cids[1]).is_none());
    assert_eq!(bench.target.generation(), generation + 1);
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.set_allow_any_host(false).await });
    assert_eq!(theirs.wait(cids[1]).0.result.get(), DISCOVERY_CHANGED);
}
