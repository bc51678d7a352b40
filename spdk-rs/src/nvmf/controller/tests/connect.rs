//! Connect: what is accepted, and each refusal with its exact bytes.

use std::sync::Arc;

use super::bench::{Bench, Connecting, ENABLE, HOST, NQN};
use crate::NvmeStatus;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::fabrics::{Connect, ConnectAttributes, Property};
use crate::nvmf::subsystem::Nqn;

/// Status bits without the phase: type 1, code 82h, do not retry.
const INVALID_PARAMETERS: u16 = 0x4182;
const IN_DATA: u64 = 1 << 16;

/// Connects on a new connection and returns the status bits and dword 0.
fn refused(bench: &Bench, change: impl FnOnce(&mut Connecting)) -> (u16, u64) {
    let mut connecting = Connecting::admin();
    change(&mut connecting);
    let (status, result) = bench.host().connect(&connecting);
    assert!(!status.is_success());
    (status.bits(), result)
}

#[test]
fn an_admin_queue_makes_a_controller() {
    let bench = Bench::new();
    let host = bench.host();
    assert_eq!(host.connect(&Connecting::admin()), (NvmeStatus::SUCCESS, 1));
    let controller = bench.subsystem.controller(1).unwrap();
    assert_eq!(controller.host().nqn, HOST);
    assert_eq!(bench.host().connect(&Connecting::admin()), (NvmeStatus::SUCCESS, 2));
    assert_eq!(host.connect(&Connecting::admin()).0, NvmeStatus::COMMAND_SEQUENCE_ERROR);
}

#[test]
fn wrong_fields_of_the_command() {
    let bench = Bench::new();
    let with = |change: fn(&mut Connect)| refused(&bench, |one| change(&mut one.command));
    assert_eq!(with(|one| one.recfmt = 1), (0x4180, 0));
    assert_eq!(with(|one| one.sqsize = 0), (INVALID_PARAMETERS, 44));
    assert_eq!(with(|one| one.sqsize = 128), (INVALID_PARAMETERS, 44));
    assert_eq!(with(|one| one.sqsize = 0xffff), (INVALID_PARAMETERS, 44));
    assert_eq!(with(|one| one.cattr = ConnectAttributes(4)), (INVALID_PARAMETERS, 46));
    assert_eq!(bench.subsystem.controllers().len(), 0);
}

#[test]
fn wrong_fields_of_the_data() {
    let bench = Bench::new();
    let unknown = refused(&bench, |one| one.nqn.push('x'));
    assert_eq!(unknown, (INVALID_PARAMETERS, IN_DATA | 256));
    assert_eq!(refused(&bench, |one| one.nqn.clear()), (INVALID_PARAMETERS, IN_DATA | 256));
    assert_eq!(refused(&bench, |one| one.host.clear()), (INVALID_PARAMETERS, IN_DATA | 512));
    for cntlid in [0, 1, 0xfffe] {
        let wrong = refused(&bench, |one| one.cntlid = cntlid);
        assert_eq!(wrong, (INVALID_PARAMETERS, IN_DATA | 16));
    }
}

#[test]
fn data_that_are_too_short() {
    let bench = Bench::new();
    let sqe = Connecting::admin().command.to_sqe();
    let (status, result) = bench.host().bring(sqe, &[0; 1023]);
    assert_eq!((status, result), (NvmeStatus::DATA_SGL_LENGTH_INVALID, 0));
}

#[test]
fn a_host_that_is_not_on_the_list() {
    let bench = Bench::new();
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.set_allow_any_host(false).await });
    assert_eq!(refused(&bench, |_| {}), (0x4184, 0));
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.add_host(Nqn::new(HOST).unwrap()).await.unwrap() });
    assert!(bench.host().connect(&Connecting::admin()).0.is_success());
}

#[test]
fn a_listener_of_another_subsystem_does_not_lead_there() {
    let bench = Bench::new();
    let target = Arc::clone(&bench.target);
    let other = bench.run(async move {
        let nqn = Nqn::new("nqn.2016-06.io.spdk:other").unwrap();
        let options = crate::nvmf::subsystem::SubsystemOptions::new(nqn);
        let other = target.create_subsystem(options).await.unwrap();
        other.add_listener(super::bench::address(0)).await.unwrap()
    });
    let (status, result) = bench.dial(&other).connect(&Connecting::admin());
    assert_eq!((status.bits(), result), (INVALID_PARAMETERS, IN_DATA | 256));
}

#[test]
fn identifiers_run_out() {
    let bench = Bench::with(crate::env::Clock::Real, |options| options.max_cntlid = 2);
    let first = bench.host();
    assert_eq!(first.connect(&Connecting::admin()).1, 1);
    assert_eq!(bench.host().connect(&Connecting::admin()).1, 2);
    // Without do-not-retry: an identifier may become free.
    assert_eq!(refused(&bench, |_| {}), (0x0181, 0));
    first.hang_up();
    bench.settle();
    assert_eq!(bench.host().connect(&Connecting::admin()).1, 1);
}

#[test]
fn io_queues_are_checked_against_their_controller() {
    let bench = Bench::new();
    let (admin, controller) = bench.admin();
    let cntlid = controller.cntlid();
    let connect = |change: fn(&mut Connecting)| {
        let mut io = Connecting::io(cntlid, 1);
        change(&mut io);
        let (status, result) = bench.host().connect(&io);
        (status.bits(), result)
    };
    let subsystem = Arc::clone(&bench.subsystem);
    let other =
        bench.run(async move { subsystem.add_listener(super::bench::address(0)).await.unwrap() });
    let (status, result) = bench.dial(&other).connect(&Connecting::io(cntlid, 1));
    assert_eq!((status.bits(), result), (INVALID_PARAMETERS, IN_DATA | 16));
    assert_eq!(connect(|io| io.cntlid = 99), (INVALID_PARAMETERS, IN_DATA | 16));
    assert_eq!(connect(|io| io.cntlid = 0xffff), (INVALID_PARAMETERS, IN_DATA | 16));
    assert_eq!(connect(|io| io.host = NQN.into()), (INVALID_PARAMETERS, IN_DATA | 512));
    assert_eq!(connect(|io| io.host_id = [8; 16]), (INVALID_PARAMETERS, IN_DATA));
    assert_eq!(connect(|io| io.command.qid = 128), (INVALID_PARAMETERS, 42));
    assert_eq!(connect(|io| io.command.sqsize = 128), (INVALID_PARAMETERS, 44));
    assert_eq!(connect(|_| {}), (0, u64::from(cntlid)));
    assert_eq!(connect(|_| {}), (0x400c, 0));
    assert_eq!(connect(|io| io.command.qid = 127), (0, u64::from(cntlid)));
    assert_eq!(controller.io_queue_count(), 2);
    drop(admin);
}

#[test]
fn io_queues_come_after_enable_only() {
    let bench = Bench::new();
    let host = bench.host();
    let (_, cntlid) = host.connect(&Connecting::admin());
    let io = Connecting::io(u16::try_from(cntlid).unwrap(), 1);
    assert_eq!(bench.host().connect(&io).0, NvmeStatus::COMMAND_SEQUENCE_ERROR);
    // Enabled, with other entry sizes than the NVM command set's.
    assert!(host.set_cc(1).is_success());
    assert_eq!(bench.host().connect(&io).0, NvmeStatus::COMMAND_SEQUENCE_ERROR);
    assert!(host.set_cc(ENABLE & !0x70).is_success());
    assert!(bench.host().connect(&io).0.is_success());
}

#[test]
fn a_discovery_controller_has_no_io_queues() {
    let bench = Bench::new();
    let discovery = bench.discovery(HOST);
    let nqn = bench.target.discovery().nqn().to_string();
    let io = Connecting { nqn, ..Connecting::io(1, 1) };
    let (status, result) = bench.host().connect(&io);
    assert_eq!((status.bits(), result), (INVALID_PARAMETERS, 42));
    assert!(discovery.closed().is_none());
}

#[test]
fn properties_are_for_admin_queues() {
    let bench = Bench::new();
    let (admin, controller) = bench.admin();
    assert_eq!(admin.property(0, true) & 0xffff, 127);
    assert_eq!(admin.property(0x08, false), 0x2_0000);
    assert_eq!(admin.property(0x1c, false), 1);
    assert_eq!(admin.run(Property::get(0x20, false)).0, NvmeStatus::INVALID_FIELD);
    assert_eq!(admin.run(Property::set(0x1c, false, 0)).0, NvmeStatus::INVALID_FIELD);
    assert_eq!(admin.run(Property::set(0x14, true, 1)).0, NvmeStatus::INVALID_FIELD);
    assert_eq!(admin.run(Sqe::fabrics(0x05)).0, NvmeStatus::INVALID_OPCODE);
    assert_eq!(admin.run(Sqe::fabrics(0x08)).0.bits(), 0x4185);
    let io = bench.io(controller.cntlid(), 1);
    assert_eq!(io.run(Property::get(0, true)).0, NvmeStatus::INVALID_OPCODE);
    assert_eq!(io.run(Sqe::fabrics(0x01)).0, NvmeStatus::COMMAND_SEQUENCE_ERROR);
}
