//! Streams of PDUs, right and wrong, in pieces of every length.
#![allow(unsafe_code, reason = "the tests stand in for the kernel, which writes by address")]

use proptest::prelude::*;

use super::*;
use crate::NvmeStatus;
use crate::env::IoVec;
use crate::net::ReadSpace;
use crate::nvme::spec::{Cqe, SglDescriptor, Sqe};
use crate::nvme::tcp::digest::Crc32c;

/// Two destinations, in pieces of odd lengths.
struct Memory {
    tables: Vec<Vec<IoVec>>,
    pieces: Vec<Vec<Box<[u8]>>>,
}

impl Memory {
    fn new(lens: &[&[usize]]) -> Self {
        let buffer = |&len: &usize| vec![0; len].into_boxed_slice();
        let mut pieces: Vec<Vec<Box<[u8]>>> =
            lens.iter().map(|lens| lens.iter().map(buffer).collect()).collect();
        let entry = |piece: &mut Box<[u8]>| IoVec::new(piece.as_mut_ptr(), piece.len());
        let tables =
            pieces.iter_mut().map(|pieces| pieces.iter_mut().map(entry).collect()).collect();
        Self { tables, pieces }
    }

    fn content(&self, tag: usize) -> Vec<u8> {
        let read = |entry: &IoVec| {
            // SAFETY: the entry describes a piece that `self` owns.
            unsafe { std::slice::from_raw_parts(entry.base(), entry.len()) }.to_vec()
        };
        assert_eq!(self.tables[tag].len(), self.pieces[tag].len());
        self.tables[tag].iter().flat_map(read).collect()
    }
}

// SAFETY: the tables never change, and nobody else uses the pieces.
unsafe impl Destinations for Memory {
    fn table(&self, tag: u32) -> &[IoVec] {
        &self.tables[tag as usize]
    }
}

/// Gives the receiver bytes in pieces of at most `chunk`; `see` gets each step and says where
/// payload goes.
fn feed(
    receiver: &mut Receiver,
    memory: &Memory,
    bytes: &[u8],
    chunk: usize,
    mut see: impl FnMut(Step) -> Option<Place>,
) -> Result<(), FatalError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut space = ReadSpace::new();
        receiver.read_space(memory, &mut space);
        let (pieces, room) = space.seal();
        let taken = room.min(chunk).min(rest.len());
        assert_ne!(taken, 0, "the receiver must always have room");
        let mut left = &rest[..taken];
        for piece in pieces {
            let (here, others) = left.split_at(left.len().min(piece.len()));
            // SAFETY: the piece is as long as `here` at least, and nobody else uses it.
            unsafe { std::ptr::copy_nonoverlapping(here.as_ptr(), piece.base(), here.len()) };
            left = others;
        }
        space.fill(taken);
        space.clear();
        receiver.received(memory, taken);
        rest = &rest[taken..];
        loop {
            match receiver.step(memory)? {
                Step::More => break,
                step => {
                    if let Some(place) = see(step) {
                        receiver.place(memory, place);
                    }
                }
            }
        }
    }
    Ok(())
}

fn rules(header_digest: bool, data_digest: bool, alignment_bytes: u32) -> ReceiveRules {
    ReceiveRules {
        header_digest,
        data_digest,
        alignment_bytes,
        in_capsule_max: 8192,
        data_max: 131_072,
    }
}

fn receiver(role: Role, rules: ReceiveRules) -> Receiver {
    let mut receiver = Receiver::new(role, 1024);
    receiver.agree(rules);
    receiver
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap() ^ seed).collect()
}

fn len_of(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap()
}

/// A PDU with data as it goes over the wire.
fn with_data(framer: &Framer, head: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.extend_from_slice(data);
    if framer.data_digest {
        bytes.extend_from_slice(&Crc32c::of(data).to_le_bytes());
    }
    bytes
}

fn command(framer: &Framer, cid: u16, data: &[u8]) -> Vec<u8> {
    let mut sqe = Sqe::new(1, 1);
    sqe.cid.set(cid);
    sqe.dptr = SglDescriptor::in_capsule(0, len_of(data));
    let mut out = [0; HEADER_SPACE_BYTES];
    let len = framer.command(&sqe, len_of(data), &mut out);
    if data.is_empty() { out[..len].to_vec() } else { with_data(framer, &out[..len], data) }
}

fn h2c(framer: &Framer, ttag: u16, datao: u32, data: &[u8], last: bool) -> Vec<u8> {
    let pdu = DataPdu { cccid: 9, ttag, datao, datal: len_of(data), last, success: false };
    let mut out = [0; HEADER_SPACE_BYTES];
    let len = framer.h2c_data(&pdu, &mut out);
    with_data(framer, &out[..len], data)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_stream_in_any_pieces_gives_the_same_pdus(
        header_digest: bool,
        data_digest: bool,
        pda in 0..32_u32,
        chunk in 1..6000_usize,
        first in 1..5000_usize,
        second in 1..5000_usize,
    ) {
        let alignment_bytes = (pda + 1) * 4;
        let framer = Framer { header_digest, data_digest, alignment_bytes };
        let memory = Memory::new(&[&[7, 4096, 1, 900], &[10_000]]);
        let (inside, moved) = (pattern(first, 1), pattern(second, 2));
        let mut stream = command(&framer, 1, &[]);
        stream.extend(command(&framer, 2, &inside));
        stream.extend(h2c(&framer, 5, 100, &moved, true));
        stream.extend(command(&framer, 3, &inside));
        stream.extend(command(&framer, 4, &[]));
        let mut receiver = receiver(Role::Controller, rules(header_digest, data_digest, alignment_bytes));
        let mut seen = Vec::new();
        feed(&mut receiver, &memory, &stream, chunk, |step| {
            match step {
                Step::Pdu { pdu: Pdu::Command(sqe), data_bytes } => {
                    seen.push(format!("command {} {data_bytes}", sqe.cid.get()));
                    let into = Place::Into { tag: 0, offset: 2 };
                    match sqe.cid.get() {
                        2 => Some(into),
                        3 => Some(Place::Discard),
                        _ => None,
                    }
                }
                Step::Pdu { pdu: Pdu::Data(data), data_bytes } => {
                    assert_eq!((data.cccid, data.ttag, data.datal), (9, 5, data_bytes));
                    seen.push(format!("data {} {}", data.datao, data.last));
                    Some(Place::Into { tag: 1, offset: data.datao })
                }
                Step::Payload { tag, intact } => {
                    seen.push(format!("payload {tag} {intact}"));
                    None
                }
                other => panic!("{other:?}"),
            }
        }).unwrap();
        let fits = first + 2 <= 7 + 4096 + 1 + 900;
        let mut expected = vec!["command 1 0".to_owned(), format!("command 2 {first}")];
        if fits {
            expected.push("payload 0 true".to_owned());
        }
        expected.extend(["data 100 true".to_owned(), "payload 1 true".to_owned()]);
        expected.extend([format!("command 3 {first}"), "command 4 0".to_owned()]);
        prop_assert_eq!(seen, expected);
        if fits {
            prop_assert_eq!(&memory.content(0)[2..first + 2], &inside[..]);
            prop_assert!(memory.content(0)[first + 2..].iter().all(|&byte| byte == 0));
        }
        prop_assert_eq!(&memory.content(1)[100..100 + second], &moved[..]);
        prop_assert!(!receiver.is_inside_pdu());
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600),
                              good in 0..3_usize, digests: bool, host: bool) {
        let framer = Framer { header_digest: digests, data_digest: digests, alignment_bytes: 4 };
        let role = if host { Role::Host } else { Role::Controller };
        let mut receiver = receiver(role, rules(digests, digests, 4));
        let memory = Memory::new(&[&[64]]);
        let mut stream = Vec::new();
        for _ in 0..good {
            stream.extend(command(&framer, 1, &[]));
        }
        stream.extend(bytes);
        let _ = feed(&mut receiver, &memory, &stream, 97, |step| match step {
            Step::Pdu { data_bytes: 1.., .. } => Some(Place::Into { tag: 0, offset: 0 }),
            _ => None,
        });
    }
}

#[test]
fn a_wrong_data_digest_is_told_and_a_wrong_header_digest_is_fatal() {
    let framer = Framer { header_digest: true, data_digest: true, alignment_bytes: 4 };
    let memory = Memory::new(&[&[4096]]);
    let place = |step| match step {
        Step::Pdu { data_bytes: 1.., .. } => Some(Place::Into { tag: 0, offset: 0 }),
        Step::Payload { intact, .. } => {
            assert!(!intact);
            None
        }
        _ => None,
    };
    for chunk in [1, 5000] {
        let mut receiver = receiver(Role::Controller, rules(true, true, 4));
        let mut stream = h2c(&framer, 1, 0, &pattern(4096, 0), true);
        stream[2000] ^= 1;
        feed(&mut receiver, &memory, &stream, chunk, place).unwrap();
        let mut stream = command(&framer, 1, &[]);
        stream[40] ^= 0x10;
        let came = u32::from_le_bytes(stream[72..76].try_into().unwrap());
        let error = feed(&mut receiver, &memory, &stream, chunk, place).unwrap_err();
        assert_eq!(error, FatalError { status: FatalStatus::HeaderDigest, info: came });
        assert_eq!(receiver.last_header(), &stream[..72]);
        // Nothing comes after that.
        let more = command(&framer, 1, &[]);
        feed(&mut receiver, &memory, &more, chunk, |step| panic!("{step:?}")).unwrap();
    }
}

/// What the first PDU of a stream comes to.
fn outcome(role: Role, agreed: Option<ReceiveRules>, bytes: &[u8]) -> Result<(), FatalError> {
    let mut receiver = Receiver::new(role, 1024);
    if let Some(rules) = agreed {
        receiver.agree(rules);
    }
    let memory = Memory::new(&[&[]]);
    feed(&mut receiver, &memory, bytes, 4096, |step| match step {
        Step::Pdu { data_bytes: 1.., .. } => Some(Place::Discard),
        _ => None,
    })
}

#[test]
fn wrong_headers_get_the_status_that_names_the_field() {
    let framer = Framer::default();
    let agreed = Some(rules(false, false, 4));
    let good = h2c(&framer, 1, 0, &[1; 512], true);
    let capsule = command(&framer, 1, &[1; 64]);
    assert_eq!(outcome(Role::Controller, agreed, &good), Ok(()));
    assert_eq!(outcome(Role::Controller, agreed, &capsule), Ok(()));
    let broken = |bytes: &[u8], at: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        outcome(Role::Controller, agreed, &bytes)
    };
    let field = |offset| Err(FatalError::field(offset));
    // Types: unknown, and those of the other end.
    for kind in [0x01, 0x03, 0x05, 0x07, 0x08, 0x09, 0x0a, 0xff] {
        assert_eq!(broken(&good, 0, kind), field(0), "{kind:#x}");
    }
    // A second ICReq.
    assert_eq!(broken(&good, 0, 0), Err(FatalError::SEQUENCE));
    // Digests that were not agreed on.
    assert_eq!(broken(&good, 1, 1 | 4), field(1));
    assert_eq!(broken(&good, 1, 2 | 4), field(1));
    assert_eq!(broken(&capsule, 1, 2), field(1));
    // Header length, offset of the data, length.
    assert_eq!(broken(&good, 2, 72), field(2));
    assert_eq!(broken(&capsule, 2, 24), field(2));
    assert_eq!(broken(&good, 3, 20), field(3));
    assert_eq!(broken(&good, 3, 25), field(3));
    assert_eq!(broken(&good, 4, 23), field(16));
    assert_eq!(broken(&good, 5, 0), field(4));
    assert_eq!(broken(&capsule, 4, 71), field(4));
    assert_eq!(broken(&capsule, 6, 1), field(4));
    // The data's length against that of the PDU.
    assert_eq!(broken(&good, 16, 4), field(16));
    // More than one data PDU may have.
    let small = Some(ReceiveRules { data_max: 508, ..rules(false, false, 4) });
    let limit = Err(FatalError::of(FatalStatus::LimitExceeded));
    assert_eq!(outcome(Role::Controller, small, &good), limit);
    // Alignment.
    let wide = Some(rules(false, false, 32));
    assert_eq!(outcome(Role::Controller, wide, &good), field(3));
    // Digests that are missing.
    let digests = Some(rules(true, false, 4));
    assert_eq!(outcome(Role::Controller, digests, &good), field(1));
    let digests = Some(rules(false, true, 4));
    assert_eq!(outcome(Role::Controller, digests, &good), field(1));
}

#[test]
fn the_first_pdu_is_the_request_or_the_response_and_nothing_else() {
    let mut out = [0; HEADER_SPACE_BYTES];
    let request = IcReq { pfv: 0, hpda: 3, header_digest: true, data_digest: false, maxr2t: 15 };
    let len = Framer::ic_req(&request, &mut out);
    let bytes = out[..len].to_vec();
    assert_eq!(len, 128);
    let mut receiver = Receiver::new(Role::Controller, 1024);
    let memory = Memory::new(&[]);
    let mut seen = None;
    feed(&mut receiver, &memory, &bytes, 50, |step| {
        seen = Some(step);
        None
    })
    .unwrap();
    assert_eq!(seen, Some(Step::Pdu { pdu: Pdu::IcReq(request), data_bytes: 0 }));
    let command = command(&Framer::default(), 1, &[]);
    assert_eq!(outcome(Role::Controller, None, &command), Err(FatalError::SEQUENCE));
    assert_eq!(outcome(Role::Host, None, &bytes), Err(FatalError::field(0)));
    let mut long = bytes.clone();
    long[4] = 129;
    assert_eq!(outcome(Role::Controller, None, &long), Err(FatalError::field(4)));
    let response =
        IcResp { pfv: 0, cpda: 31, header_digest: false, data_digest: true, maxh2cdata: 8192 };
    let len = Framer::ic_resp(&response, &mut out);
    let mut receiver = Receiver::new(Role::Host, 1024);
    feed(&mut receiver, &memory, &out[..len], 1000, |step| {
        assert_eq!(step, Step::Pdu { pdu: Pdu::IcResp(response), data_bytes: 0 });
        None
    })
    .unwrap();
    assert_eq!(outcome(Role::Host, Some(rules(false, false, 4)), &out[..len]), {
        Err(FatalError::SEQUENCE)
    });
}

#[test]
fn a_host_reads_what_a_controller_sends() {
    let framer = Framer { header_digest: true, data_digest: false, alignment_bytes: 64 };
    let mut receiver = receiver(Role::Host, rules(true, false, 64));
    let memory = Memory::new(&[&[512]]);
    let mut out = [0; HEADER_SPACE_BYTES];
    let request = R2t { cccid: 3, ttag: 8, offset: 0, length: 8192 };
    let len = framer.r2t(&request, &mut out);
    let mut stream = out[..len].to_vec();
    let data = DataPdu { cccid: 3, ttag: 0, datao: 0, datal: 512, last: true, success: true };
    let len = framer.c2h_data(&data, &mut out);
    assert_eq!((len, out[3]), (64, 64));
    stream.extend(with_data(&framer, &out[..len], &pattern(512, 3)));
    let cqe = Cqe::new(3, 7, NvmeStatus::LBA_OUT_OF_RANGE, 1 << 40);
    let len = framer.response(&cqe, &mut out);
    stream.extend_from_slice(&out[..len]);
    let error = FatalError::of(FatalStatus::LimitExceeded);
    let len = Framer::term_req(PduType::C2hTermReq, &error, &[7; 200], &mut out);
    assert_eq!(len, 152);
    stream.extend_from_slice(&out[..len]);
    let mut seen = Vec::new();
    feed(&mut receiver, &memory, &stream, 33, |step| {
        seen.push(step);
        matches!(step, Step::Pdu { data_bytes: 1.., .. })
            .then_some(Place::Into { tag: 0, offset: 0 })
    })
    .unwrap();
    let pdu = |pdu| Step::Pdu { pdu, data_bytes: 0 };
    assert_eq!(
        seen,
        [
            pdu(Pdu::R2t(request)),
            Step::Pdu { pdu: Pdu::Data(data), data_bytes: 512 },
            Step::Payload { tag: 0, intact: true },
            pdu(Pdu::Response(cqe)),
            pdu(Pdu::TermReq(TermReq { fes: 5, fei: 0 })),
        ]
    );
    assert_eq!(memory.content(0), pattern(512, 3));
    assert!(receiver.is_ended());
}

#[test]
fn headers_are_those_of_the_specification() {
    // A Connect as the Linux host sends it: 1024 bytes of data in the capsule, no digests.
    let framer = Framer::default();
    let mut sqe = Sqe::new(0x7f, 1);
    sqe.dptr = SglDescriptor::in_capsule(0, 1024);
    let mut out = [0; HEADER_SPACE_BYTES];
    let len = framer.command(&sqe, 1024, &mut out);
    assert_eq!((len, &out[..8]), (72, &[4, 0, 72, 72, 0x48, 4, 0, 0][..]));
    // The same with both digests: four bytes more before and behind the data.
    let framer = Framer { header_digest: true, data_digest: true, alignment_bytes: 4 };
    let len = framer.command(&sqe, 1024, &mut out);
    assert_eq!((len, &out[..8]), (76, &[4, 3, 72, 76, 0x50, 4, 0, 0][..]));
    let len = framer.response(&Cqe::default(), &mut out);
    assert_eq!((len, &out[..8]), (28, &[5, 1, 24, 0, 28, 0, 0, 0][..]));
    let r2t = R2t { cccid: 0x0102, ttag: 0x0304, offset: 5, length: 6 };
    let len = Framer::default().r2t(&r2t, &mut out);
    let expected = [9, 0, 24, 0, 24, 0, 0, 0, 2, 1, 4, 3, 5, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(out[..len], expected);
}
