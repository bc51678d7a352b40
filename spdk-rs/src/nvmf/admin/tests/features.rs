//! Features.

use crate::NvmeStatus;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::feature::{fid, select};
use crate::nvme::spec::opcode::admin as opcode;
use crate::nvmf::controller::tests::bench::{Bench, HOST, HOST_ID, Host};

fn get(feature: u8, how: u8, cdw11: u32, nsid: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode::GET_FEATURES, nsid);
    sqe.cdw10.set(u32::from(feature) | u32::from(how) << 8);
    sqe.cdw11.set(cdw11);
    sqe
}

fn set(feature: u8, value: u32, nsid: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode::SET_FEATURES, nsid);
    sqe.cdw10.set(feature.into());
    sqe.cdw11.set(value);
    sqe
}

fn current(host: &Host<'_>, feature: u8) -> (NvmeStatus, u64) {
    host.run(get(feature, select::CURRENT, 0, 0))
}

#[test]
fn the_number_of_queues_is_allotted_before_there_are_any() {
    let bench = Bench::new();
    let (host, controller) = bench.admin();
    assert_eq!(current(&host, fid::NUMBER_OF_QUEUES), (NvmeStatus::SUCCESS, 0x7e_007e));
    let wanted = |count: u32| set(fid::NUMBER_OF_QUEUES, count | count << 16, 0);
    assert_eq!(host.run(wanted(1000)), (NvmeStatus::SUCCESS, 0x7e_007e));
    assert_eq!(host.run(wanted(3)), (NvmeStatus::SUCCESS, 0x3_0003));
    assert_eq!(current(&host, fid::NUMBER_OF_QUEUES).1, 0x3_0003);
    assert_eq!(host.run(wanted(0xffff)).0, NvmeStatus::INVALID_FIELD);
    let io = crate::nvmf::controller::tests::bench::Connecting::io(controller.cntlid(), 5);
    assert!(!bench.host().connect(&io).0.is_success());
    let _io = bench.io(controller.cntlid(), 4);
    assert_eq!(host.run(wanted(7)).0, NvmeStatus::COMMAND_SEQUENCE_ERROR);
}

#[test]
fn values_are_kept_defaults_and_capabilities_are_told() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    assert_eq!(host.run(set(fid::ARBITRATION, 0x0102_0303, 0)).0, NvmeStatus::SUCCESS);
    assert_eq!(current(&host, fid::ARBITRATION).1, 0x0102_0303);
    assert_eq!(host.run(get(fid::ARBITRATION, select::DEFAULT, 0, 0)).1, 6);
    assert_eq!(host.run(get(fid::ARBITRATION, select::SAVED, 0, 0)).1, 6);
    assert_eq!(host.run(get(fid::ARBITRATION, select::CAPABILITIES, 0, 0)).1, 4);
    assert_eq!(host.run(get(fid::RESERVATION_MASK, select::CAPABILITIES, 0, 0)).1, 6);
    assert_eq!(host.run(get(fid::ARBITRATION, 4, 0, 0)).0, NvmeStatus::INVALID_FIELD);
    let mut saved = set(fid::ARBITRATION, 0, 0);
    saved.cdw10.set(saved.cdw10.get() | 1 << 31);
    assert_eq!(host.run(saved).0.bits(), 0x410d);
    assert_eq!(host.run(set(fid::ARBITRATION, 0, 1)).0.bits(), 0x410f);
    assert_eq!(host.run(set(fid::POWER_MANAGEMENT, 1, 0)).0, NvmeStatus::INVALID_FIELD);
    assert_eq!(host.run(set(fid::ERROR_RECOVERY, 1 << 16, 0)).0, NvmeStatus::INVALID_FIELD);
    for feature in [fid::TIMESTAMP, fid::LBA_RANGE_TYPE, fid::INTERRUPT_VECTOR, 0, 0xff] {
        assert_eq!(current(&host, feature).0, NvmeStatus::INVALID_FIELD);
        assert_eq!(host.run(set(feature, 0, 0)).0, NvmeStatus::INVALID_FIELD);
    }
}

#[test]
fn thresholds_are_two() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    let under = 1 << 20;
    assert_eq!(host.run(set(fid::TEMPERATURE_THRESHOLD, 300 | under, 0)).0, NvmeStatus::SUCCESS);
    let threshold = |how| host.run(get(fid::TEMPERATURE_THRESHOLD, 0, how, 0));
    assert_eq!((threshold(under).1, threshold(0).1), (300, 0xffff));
    assert_eq!(threshold(1 << 16).0, NvmeStatus::INVALID_FIELD);
}

#[test]
fn event_configuration_is_what_there_is() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    assert_eq!(current(&host, fid::ASYNC_EVENTS).1, 0x900);
    assert_eq!(host.run(set(fid::ASYNC_EVENTS, 0x1ff, 0)).0, NvmeStatus::SUCCESS);
    assert_eq!(current(&host, fid::ASYNC_EVENTS).1, 0x1ff);
    assert_eq!(host.run(set(fid::ASYNC_EVENTS, 1 << 31, 0)).0, NvmeStatus::INVALID_FIELD);
    let discovery = bench.discovery(HOST);
    assert_eq!(current(&discovery, fid::ASYNC_EVENTS).1, 1 << 31);
    assert_eq!(current(&discovery, fid::ARBITRATION).0, NvmeStatus::INVALID_FIELD);
}

#[test]
fn a_cache_that_is_not_there_is_no_feature() {
    let bench = Bench::new();
    bench.namespace("a");
    let (host, _) = bench.admin();
    assert_eq!(current(&host, fid::VOLATILE_WRITE_CACHE).0, NvmeStatus::INVALID_FIELD);
    assert_eq!(host.run(set(fid::VOLATILE_WRITE_CACHE, 1, 0)).0, NvmeStatus::INVALID_FIELD);
}

#[test]
fn the_host_is_who_it_said_to_be() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    let id = host.ask(get(fid::HOST_IDENTIFIER, 0, 1, 0), 16).unwrap();
    assert_eq!(id, HOST_ID);
    let short = host.ask(get(fid::HOST_IDENTIFIER, 0, 0, 0), 8);
    assert_eq!(short, Err(NvmeStatus::HOST_ID_INCONSISTENT));
    let changed = host.bring(set(fid::HOST_IDENTIFIER, 1, 0), &[0; 16]).0;
    assert_eq!(changed, NvmeStatus::COMMAND_SEQUENCE_ERROR);
}

#[test]
fn host_behavior_is_kept_and_checked() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    let mut behavior = [0u8; 512];
    behavior[0] = 1;
    assert!(host.bring(set(fid::HOST_BEHAVIOR, 0, 0), &behavior).0.is_success());
    assert_eq!(host.ask(get(fid::HOST_BEHAVIOR, 0, 0, 0), 512).unwrap(), behavior);
    behavior[0] = 2;
    let wrong = host.bring(set(fid::HOST_BEHAVIOR, 0, 0), &behavior).0;
    assert_eq!(wrong, NvmeStatus::INVALID_FIELD);
    let short = host.bring(set(fid::HOST_BEHAVIOR, 0, 0), &behavior[..511]).0;
    assert_eq!(short, NvmeStatus::DATA_SGL_LENGTH_INVALID);
}

#[test]
fn reservation_features_are_of_a_namespace() {
    let bench = Bench::new();
    bench.namespace("a");
    let (host, _) = bench.admin();
    assert!(host.run(set(fid::RESERVATION_MASK, 0b1110, 1)).0.is_success());
    assert_eq!(host.run(get(fid::RESERVATION_MASK, 0, 0, 1)), (NvmeStatus::SUCCESS, 0b1110));
    assert!(host.run(set(fid::RESERVATION_MASK, 0, 0xffff_ffff)).0.is_success());
    assert_eq!(host.run(get(fid::RESERVATION_MASK, 0, 0, 1)).1, 0);
    assert_eq!(host.run(set(fid::RESERVATION_MASK, 1, 1)).0, NvmeStatus::INVALID_FIELD);
    assert_eq!(host.run(set(fid::RESERVATION_MASK, 0, 2)).0, NvmeStatus::INVALID_NAMESPACE);
    assert_eq!(host.run(get(fid::RESERVATION_MASK, 0, 0, 0)).0, NvmeStatus::INVALID_NAMESPACE);
    assert_eq!(host.run(get(fid::RESERVATION_PERSISTENCE, 0, 0, 1)), (NvmeStatus::SUCCESS, 0));
    // There is no file for it.
    assert_eq!(host.run(set(fid::RESERVATION_PERSISTENCE, 1, 1)).0, NvmeStatus::INVALID_FIELD);
    assert!(host.run(set(fid::RESERVATION_PERSISTENCE, 0, 1)).0.is_success());
    let none = host.run(set(fid::RESERVATION_PERSISTENCE, 0, 9)).0;
    assert_eq!(none, NvmeStatus::INVALID_NAMESPACE);
}

#[test]
fn the_one_set_of_command_sets_can_be_chosen() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    assert!(host.run(set(fid::IO_COMMAND_SET_PROFILE, 0, 0)).0.is_success());
    assert_eq!(host.run(set(fid::IO_COMMAND_SET_PROFILE, 1, 0)).0.bits(), 0x412b);
}
