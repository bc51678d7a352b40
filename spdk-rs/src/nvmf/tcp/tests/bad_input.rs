//! What a peer may send that it must not.

use super::host::{Digests, Got, Host, block, pattern};
use super::rig::{BLOCKS, Rig};
use crate::NvmeStatus;
use crate::nvme::spec::{SglDescriptor, Sqe};
use crate::nvme::tcp::digest::Crc32c;
use crate::nvme::tcp::framing::FatalStatus::{
    DataOutOfRange, HeaderDigest, InvalidHeaderField, LimitExceeded, SequenceError,
    UnsupportedParameter,
};
use crate::nvme::tcp::framing::{FatalStatus, Framer, HEADER_SPACE_BYTES, IcReq, PduType, R2t};
use crate::nvmf::tcp::TcpOptions;

const PLAIN: Digests = Digests { header: false, data: false };
const BOTH: Digests = Digests { header: true, data: true };

/// Breaks something on an I/O queue of four entries, and says what must come of it.
type Case = fn(&mut Host) -> (FatalStatus, u32);

/// A write of 16 KiB whose data were asked for.
fn asked(host: &mut Host) -> R2t {
    host.submit_moved(block(1, 0, 32), 16_384);
    host.ready()
}

/// Sends a data PDU for an R2T.
fn give(host: &mut Host, r2t: &R2t, offset: usize, len: usize, last: bool) {
    let bytes = host.h2c(r2t, offset, &pattern(len, 1), last);
    host.send(&bytes);
}

/// Sends a command without data in which a byte is broken.
fn broken(host: &mut Host, at: usize, value: u8) {
    let mut bytes = host.capsule(&Sqe::new(0, 1), &[]);
    bytes[at] = value;
    host.send(&bytes);
}

fn second_request(host: &mut Host) {
    let mut out = [0; HEADER_SPACE_BYTES];
    let len = Framer::ic_req(&IcReq::default(), &mut out);
    host.send(&out[..len]);
}

const CASES: &[(&str, Case)] = &[
    ("a second ICReq", |host| {
        second_request(host);
        (SequenceError, 0)
    }),
    ("an unknown type", |host| {
        broken(host, 0, 0x0b);
        (InvalidHeaderField, 0)
    }),
    ("a type of the other side", |host| {
        broken(host, 0, PduType::R2t as u8);
        (InvalidHeaderField, 0)
    }),
    ("a digest that was not agreed on", |host| {
        broken(host, 1, 1);
        (InvalidHeaderField, 1)
    }),
    ("a wrong header length", |host| {
        broken(host, 2, 24);
        (InvalidHeaderField, 2)
    }),
    ("a length below the header's", |host| {
        broken(host, 4, 71);
        (InvalidHeaderField, 4)
    }),
    ("a capsule larger than allowed", |host| {
        let mut bytes = host.capsule(&block(1, 0, 32), &[]);
        bytes[3] = 72;
        bytes[4..8].copy_from_slice(&(72_u32 + 16_384).to_le_bytes());
        host.send(&bytes);
        (InvalidHeaderField, 4)
    }),
    ("data that begin inside the header", |host| {
        let mut bytes = host.capsule(&block(1, 0, 1), &[0; 512]);
        bytes[3] = 68;
        host.send(&bytes);
        (InvalidHeaderField, 3)
    }),
    ("an unknown transfer tag", |host| {
        let r2t = asked(host);
        give(host, &R2t { ttag: r2t.ttag + 1, ..r2t }, 0, 16_384, true);
        (InvalidHeaderField, 10)
    }),
    ("a transfer tag beyond all", |host| {
        let r2t = asked(host);
        give(host, &R2t { ttag: u16::MAX, ..r2t }, 0, 16_384, true);
        (InvalidHeaderField, 10)
    }),
    ("a transfer tag of a transfer that is over", |host| {
        let r2t = asked(host);
        give(host, &r2t, 0, 16_384, true);
        assert_eq!(host.response().status(), NvmeStatus::SUCCESS);
        give(host, &r2t, 0, 16_384, true);
        (InvalidHeaderField, 10)
    }),
    ("a wrong command identifier", |host| {
        let r2t = asked(host);
        give(host, &R2t { cccid: r2t.cccid + 1, ..r2t }, 0, 16_384, true);
        (InvalidHeaderField, 8)
    }),
    ("data in the wrong order", |host| {
        let r2t = asked(host);
        give(host, &r2t, 8192, 8192, true);
        (SequenceError, 0)
    }),
    ("the same data twice", |host| {
        let r2t = asked(host);
        give(host, &r2t, 0, 8192, false);
        give(host, &r2t, 0, 8192, false);
        (SequenceError, 0)
    }),
    ("more data than were asked for", |host| {
        let r2t = asked(host);
        give(host, &r2t, 0, 16_896, true);
        (DataOutOfRange, 0)
    }),
    ("data behind the end", |host| {
        let r2t = asked(host);
        give(host, &r2t, 16_384, 512, true);
        (DataOutOfRange, 0)
    }),
    ("an offset that overflows", |host| {
        let r2t = asked(host);
        give(host, &r2t, 0xffff_ff00, 512, true);
        (DataOutOfRange, 0)
    }),
    ("the last flag too early", |host| {
        let r2t = asked(host);
        give(host, &r2t, 0, 8192, true);
        (InvalidHeaderField, 1)
    }),
    ("no last flag", |host| {
        let r2t = asked(host);
        give(host, &r2t, 0, 16_384, false);
        (InvalidHeaderField, 1)
    }),
    ("more data in one PDU than MAXH2CDATA", |host| {
        host.submit_moved(block(1, 0, 256), 131_072);
        let r2t = host.ready();
        give(host, &r2t, 0, 131_072, true);
        (LimitExceeded, 0)
    }),
    ("another length than that of the PDU", |host| {
        let r2t = asked(host);
        let mut bytes = host.h2c(&r2t, 0, &pattern(16_384, 1), true);
        bytes[16] = 4;
        host.send(&bytes);
        (InvalidHeaderField, 16)
    }),
    ("data that nobody asked for", |host| {
        give(host, &R2t { cccid: 1, ttag: 0, offset: 0, length: 512 }, 0, 512, true);
        (InvalidHeaderField, 10)
    }),
    ("more commands than the queue holds", |host| {
        for _ in 0..5 {
            host.submit_moved(block(1, 0, 32), 16_384);
        }
        (SequenceError, 0)
    }),
];

fn options() -> TcpOptions {
    TcpOptions { io_unit_bytes: 65_536, ..TcpOptions::default() }
}

#[test]
fn each_violation_gets_its_status_and_ends_that_connection_alone() {
    let rig = Rig::new(options());
    let (admin, mut witness) = rig.host(PLAIN, 32);
    for (name, case) in CASES {
        let (_admin, mut io) = rig.host(PLAIN, 4);
        let (status, info) = case(&mut io);
        println!("{name}: {status:?}, {info}");
        io.expect_end(status, info);
        witness.check();
    }
    assert_eq!(rig.transport.stats().terminated, CASES.len() as u64);
    drop((admin, witness));
    rig.end();
}

#[test]
fn a_termination_repeats_the_header_that_was_wrong() {
    let rig = Rig::new(options());
    let (admin, mut io) = rig.host(PLAIN, 4);
    let mut bytes = io.capsule(&block(2, 7, 1), &[]);
    bytes[2] = 70;
    io.send(&bytes);
    assert_eq!(io.next(), Got::Terminated(1, 2, bytes[..8].to_vec()));
    drop(io);
    let (other, mut io) = rig.host(BOTH, 4);
    let mut bytes = io.capsule(&block(2, 7, 1), &[]);
    bytes[20] ^= 1;
    let digest = u32::from_le_bytes(bytes[72..76].try_into().unwrap());
    assert_ne!(digest, Crc32c::of(&bytes[..72]));
    io.send(&bytes);
    let got = io.next();
    assert_eq!(got, Got::Terminated(HeaderDigest.bits(), digest, bytes[..72].to_vec()));
    assert_eq!(io.next(), Got::End);
    drop((admin, other, io));
    rig.end();
}

#[test]
fn greetings_that_are_wrong_are_terminated() {
    let rig = Rig::new(options());
    let good = {
        let mut out = [0; HEADER_SPACE_BYTES];
        let len = Framer::ic_req(&IcReq::default(), &mut out);
        out[..len].to_vec()
    };
    let cases: [(usize, u8, FatalStatus, u32); 6] = [
        (0, PduType::CapsuleCmd as u8, SequenceError, 0),
        (0, PduType::IcResp as u8, InvalidHeaderField, 0),
        (2, 64, InvalidHeaderField, 2),
        (4, 64, InvalidHeaderField, 4),
        (8, 1, UnsupportedParameter, 8),
        (10, 32, InvalidHeaderField, 10),
    ];
    for (at, value, status, info) in cases {
        let mut host = rig.silent();
        let mut bytes = good.clone();
        bytes[at] = value;
        host.send(&bytes);
        host.expect_end(status, info);
    }
    // A termination request is not answered.
    let mut host = Host::greeted(rig.address, PLAIN, 0);
    let mut out = [0; HEADER_SPACE_BYTES];
    let error = crate::nvme::tcp::framing::FatalError::SEQUENCE;
    let len = Framer::term_req(PduType::H2cTermReq, &error, &[0; 24], &mut out);
    host.send(&out[..len]);
    assert_eq!(host.next(), Got::End);
    drop(host);
    rig.end();
}

#[test]
fn wrong_connects_are_refused_with_a_status() {
    let rig = Rig::new(options());
    let (admin, cntlid) = rig.admin(PLAIN);
    let refusal = |nqn: &str, qid, sqsize, cntlid| {
        let mut host = Host::greeted(rig.address, PLAIN, 0);
        host.connect_to(nqn, qid, sqsize, cntlid).unwrap_err()
    };
    let invalid = NvmeStatus::CONNECT_INVALID_PARAMETERS;
    let subsystem = super::rig::SUBSYSTEM;
    for (nqn, qid, sqsize, cntlid) in [
        ("nqn.2024-01.io.engine:other", 0, 31, 0xffff),
        (subsystem, 1, 31, cntlid + 1),
        (subsystem, 1, 0, cntlid),
        (subsystem, 1, 128, cntlid),
    ] {
        let status = refusal(nqn, qid, sqsize, cntlid);
        assert_eq!((status.sct(), status.sc()), (invalid.sct(), invalid.sc()));
    }
    // Another command before Connect.
    let mut host = Host::greeted(rig.address, PLAIN, 0);
    host.submit_moved(block(2, 0, 1), 512);
    assert_eq!(host.response().status(), NvmeStatus::COMMAND_SEQUENCE_ERROR);
    drop((admin, host));
    rig.end();
}

#[test]
fn wrong_descriptors_fail_the_command_only() {
    let rig = Rig::new(options());
    let (admin, mut io) = rig.host(PLAIN, 32);
    let mut refused = |sqe: Sqe, data: &[u8], status: NvmeStatus| {
        let bytes = io.capsule(&sqe, data);
        io.send(&bytes);
        let cqe = io.response();
        assert_eq!((cqe.cid.get(), cqe.status()), (sqe.cid.get(), status));
        io.check();
    };
    let length = NvmeStatus::DATA_SGL_LENGTH_INVALID;
    let with = |dptr| Sqe { dptr, ..block(1, 0, 8) };
    // More than fits one command, more than the capsule has, and less.
    refused(with(SglDescriptor::transport(131_073)), &[], length);
    refused(with(SglDescriptor::in_capsule(0, 4096)), &[0; 512], length);
    refused(with(SglDescriptor::in_capsule(0, 512)), &[0; 4096], length);
    refused(with(SglDescriptor::transport(4096)), &[0; 4096], length);
    // More in the capsule than an I/O command may have.
    refused(with(SglDescriptor::in_capsule(0, 8192)), &[0; 8192], length);
    let offset = SglDescriptor::in_capsule(512, 4096);
    refused(with(offset), &[0; 4096], NvmeStatus::SGL_OFFSET_INVALID);
    let keyed = SglDescriptor { identifier: 0x40, ..SglDescriptor::transport(4096) };
    refused(with(keyed), &[], NvmeStatus::SGL_TYPE_INVALID);
    // The data are right, and the command wants another length.
    let mut short = block(1, 0, 8);
    short.dptr = SglDescriptor::in_capsule(0, 512);
    refused(short, &[0; 512], length);
    let mut outside = block(1, BLOCKS, 1);
    outside.dptr = SglDescriptor::in_capsule(0, 512);
    refused(outside, &[0; 512], NvmeStatus::LBA_OUT_OF_RANGE);
    drop((admin, io));
    rig.end();
}
