//! A target that breaks the protocol at a command: the connection ends with a termination request
//! that says why, and the command is done on the next connection.

use super::*;
use crate::nvme::spec::opcode::nvm;

/// FES of a termination request (NVMe/TCP 1.0, section 3.6.2).
const FIELD: u16 = 1;
const SEQUENCE: u16 = 2;
const DIGEST: u16 = 3;
const RANGE: u16 = 4;
const LIMIT: u16 = 5;

fn broken(fault: Fault, blocks: usize, options: AttachOptions, fes: u16) {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options);
    assert_eq!(host.write(&handle, 0, 64, 9), NvmeStatus::SUCCESS);
    target.shared.fault(fault);
    if matches!(fault, Fault::DataBeyond | Fault::DataGap | Fault::DataForNone) {
        host.expect(&handle, 0, blocks, 9);
    } else {
        assert_eq!(host.write(&handle, 0, blocks, 3), NvmeStatus::SUCCESS, "{fault:?}");
        host.expect(&handle, 0, blocks, 3);
    }
    host.until("the termination request", || !target.terms().is_empty());
    assert_eq!(target.terms(), [fes], "{fault:?}");
    host.until("a new connection", || host.reconnects() == 1);
    drop(handle);
    host.finish();
}

#[test]
fn answers() {
    broken(Fault::WrongCid, 1, options(), FIELD);
    broken(Fault::Garbage, 1, options(), FIELD);
    broken(Fault::HeaderDigest, 1, digests(), DIGEST);
}

#[test]
fn an_answer_that_comes_twice() {
    broken(Fault::Twice, 1, options(), FIELD);
}

#[test]
fn data() {
    broken(Fault::DataBeyond, 4, options(), RANGE);
    broken(Fault::DataGap, 4, options(), RANGE);
    broken(Fault::DataForNone, 4, options(), FIELD);
}

#[test]
fn requests_for_data() {
    broken(Fault::R2tBeyond, 16, options(), RANGE);
    broken(Fault::R2tEmpty, 16, options(), FIELD);
    broken(Fault::R2tForNone, 16, options(), FIELD);
    broken(Fault::R2tTwo, 16, options(), RANGE);
    let _ = (SEQUENCE, LIMIT);
}

#[test]
fn a_termination_request_ends_the_connection() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    target.shared.fault(Fault::Terminate);
    assert_eq!(host.write(&handle, 0, 1, 3), NvmeStatus::SUCCESS);
    assert_eq!(host.reconnects(), 1);
    host.expect(&handle, 0, 1, 3);
    drop(handle);
    host.finish();
}

#[test]
fn a_wrong_data_digest_fails_the_command_only() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, digests());
    assert_eq!(host.write(&handle, 0, 4, 3), NvmeStatus::SUCCESS);
    target.shared.fault(Fault::DataDigest);
    host.expect(&handle, 0, 4, 3);
    assert_eq!(target.shared.count(nvm::READ), 2);
    assert_eq!(host.reconnects(), 0);
    drop(handle);
    host.finish();
}

#[test]
fn a_read_that_is_short_is_read_again() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    assert_eq!(host.write(&handle, 0, 4, 3), NvmeStatus::SUCCESS);
    target.shared.fault(Fault::DataShort);
    host.expect(&handle, 0, 4, 3);
    assert_eq!(target.shared.count(nvm::READ), 2);
    drop(handle);
    host.finish();
}
