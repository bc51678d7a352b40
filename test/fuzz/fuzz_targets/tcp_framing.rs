//! The receiver of NVMe/TCP, of both roles.
//!
//! The input is a sequence of PDUs that are right unless a byte of theirs is changed. What is
//! reported, and what is written where, must not depend on how the stream was split; an error is
//! final; payload is written to its place only (the address sanitizer watches the rest).
#![no_main]

use std::cell::RefCell;

use arbitrary::Arbitrary;
use crc_fast::CrcAlgorithm::Crc32Iscsi;
use libfuzzer_sys::fuzz_target;
use spdk_rs::env::IoVec;
use spdk_rs::nvme::tcp::framing::{
    Destinations, Pdu, Place, ReceiveRules, Receiver, Role, Step, fuzzing,
};

#[derive(Arbitrary, Debug)]
struct Input {
    host: bool,
    header_digest: bool,
    data_digest: bool,
    /// The alignment is `4 * (alignment % 32 + 1)`.
    alignment: u8,
    in_capsule_max: u16,
    data_max: u16,
    buffer: u16,
    splits: [u16; 6],
    /// Placements that are too small, or unwanted: bit n for the n-th payload.
    refused: u32,
    pdus: Vec<Packet>,
    tail: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
struct Packet {
    kind: u8,
    body: [u8; 64],
    data: u16,
    extra_padding: u8,
    /// Byte of the PDU to change, and how; no change for 0.
    broken: Option<(u16, u8)>,
}

/// A payload's memory: two pieces, the second behind the first in no memory of its own.
struct Memory {
    table: Vec<IoVec>,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Places(RefCell<Vec<Box<Memory>>>);

// SAFETY: tables and memory live in boxes that are never changed or dropped before the receiver.
unsafe impl Destinations for Places {
    fn table(&self, tag: u32) -> &[IoVec] {
        let table: *const [IoVec] = self.0.borrow()[tag as usize].table.as_slice();
        // SAFETY: the box holds the table at the same address for as long as `self` lives.
        unsafe { &*table }
    }
}

impl Places {
    /// Memory for so many bytes at an offset of 3, in pieces of different lengths.
    fn add(&self, len: usize) -> u32 {
        let mut bytes = vec![0; len + 3];
        let base = bytes.as_mut_ptr();
        let cuts = [0, len / 3, len / 3, len / 2 + 3, len + 3];
        let table = cuts
            .windows(2)
            .map(|cut| IoVec::new(base.wrapping_add(cut[0]), cut[1] - cut[0]))
            .collect();
        let mut all = self.0.borrow_mut();
        all.push(Box::new(Memory { table, bytes }));
        u32::try_from(all.len() - 1).expect("few payloads")
    }

    fn payload(&self, tag: u32) -> Vec<u8> {
        self.0.borrow()[tag as usize].bytes.clone()
    }
}

impl Packet {
    /// The PDU, right but for the byte to break.
    fn write(&self, input: &Input, out: &mut Vec<u8>) {
        // The type, the header's length, and whether data may follow.
        let kinds: [(u8, usize, bool); 4] = match input.host {
            true => [(5, 24, false), (7, 24, true), (9, 24, false), (3, 24, false)],
            false => [(4, 72, true), (6, 24, true), (4, 72, true), (2, 24, false)],
        };
        let (kind, hlen, may) = kinds[usize::from(self.kind % 4)];
        let capsule = kind == 4;
        let ends = matches!(kind, 2 | 3);
        let mut data = if may { usize::from(self.data) } else { 0 };
        if may && !capsule {
            data = data.max(1);
        }
        let header_digest = input.header_digest && !ends;
        let headed = hlen + if header_digest { 4 } else { 0 };
        let align = input.rules().alignment_bytes as usize;
        let padded = headed.next_multiple_of(align) + usize::from(self.extra_padding % 2) * align;
        let pdo = if data != 0 { padded } else { headed };
        let digest = input.data_digest && data != 0;
        let plen = pdo + data + if digest { 4 } else { 0 };

        let mut pdu = vec![0; pdo];
        let flags = u8::from(header_digest) | u8::from(digest) << 1 | self.body[0] & 0b1100;
        pdu[..4].copy_from_slice(&[kind, flags, hlen as u8, if data != 0 { pdo as u8 } else { 0 }]);
        pdu[4..8].copy_from_slice(&(plen as u32).to_le_bytes());
        pdu[8..hlen].copy_from_slice(&self.body[..hlen - 8]);
        if matches!(kind, 6 | 7) {
            pdu[16..20].copy_from_slice(&(data as u32).to_le_bytes());
        }
        if header_digest {
            let crc = crc_fast::checksum(Crc32Iscsi, &pdu[..hlen]) as u32;
            pdu[hlen..hlen + 4].copy_from_slice(&crc.to_le_bytes());
        }
        let payload: Vec<u8> = (0..data).map(|at| at.to_le_bytes()[0] ^ self.body[1]).collect();
        pdu.extend_from_slice(&payload);
        if digest {
            let crc = crc_fast::checksum(Crc32Iscsi, &payload) as u32;
            pdu.extend_from_slice(&crc.to_le_bytes());
        }
        if let Some((at, change)) = self.broken {
            let len = pdu.len();
            pdu[usize::from(at) % len] ^= change;
        }
        out.extend_from_slice(&pdu);
    }
}

impl Input {
    fn rules(&self) -> ReceiveRules {
        ReceiveRules {
            header_digest: self.header_digest,
            data_digest: self.data_digest,
            alignment_bytes: 4 * (u32::from(self.alignment) % 32 + 1),
            in_capsule_max: self.in_capsule_max.into(),
            data_max: u32::from(self.data_max).max(1),
        }
    }

    /// The connection's first PDU, and those that follow.
    fn stream(&self) -> Vec<u8> {
        let mut stream = vec![u8::from(self.host), 0, 128, 0, 128, 0, 0, 0];
        stream.resize(128, 0);
        self.pdus.iter().for_each(|packet| packet.write(self, &mut stream));
        stream.extend_from_slice(&self.tail);
        stream
    }
}

/// Everything that was reported, as text, with the payload.
fn run(input: &Input, stream: &[u8], splits: &[u16]) -> Vec<String> {
    let role = if input.host { Role::Host } else { Role::Controller };
    let mut receiver = Receiver::new(role, input.buffer.into());
    let (places, mut seen, mut payloads) = (Places::default(), Vec::new(), 0);
    let (mut rest, mut splits) = (stream, splits.iter().cycle());
    while !rest.is_empty() {
        let len = usize::from(*splits.next().expect("endless")).clamp(1, rest.len());
        let taken = fuzzing::receive(&mut receiver, &places, &rest[..len]);
        assert!(taken != 0, "a receiver always has room");
        rest = &rest[taken..];
        loop {
            match receiver.step(&places) {
                Ok(Step::More) => break,
                Ok(Step::Pdu { pdu, data_bytes }) => {
                    seen.push(format!("{pdu:?} {data_bytes}"));
                    if matches!(pdu, Pdu::IcReq(_) | Pdu::IcResp(_)) {
                        receiver.agree(input.rules());
                    }
                    if data_bytes != 0 {
                        assert!(data_bytes <= 65535 && data_bytes as usize <= stream.len());
                        let refused = input.refused >> (payloads % 32) & 1 == 1;
                        let tag = places.add(data_bytes as usize - usize::from(refused));
                        payloads += 1;
                        receiver.place(&places, Place::Into { tag, offset: 3 });
                    }
                }
                Ok(Step::Payload { tag, intact }) => {
                    seen.push(format!("{tag} {intact} {:?}", places.payload(tag)));
                }
                Err(error) => {
                    seen.push(format!("{error:?} {:?}", receiver.last_header()));
                    assert!(receiver.is_ended(), "an error is final");
                    assert!(matches!(receiver.step(&places), Ok(Step::More)));
                    return seen;
                }
            }
        }
    }
    seen.push(format!("inside {}", receiver.is_inside_pdu()));
    seen
}

fuzz_target!(|input: Input| {
    let stream = input.stream();
    if stream.len() > 1 << 18 {
        return;
    }
    let whole = run(&input, &stream, &[u16::MAX]);
    assert_eq!(whole, run(&input, &stream, &input.splits));
    if stream.len() < 4096 {
        assert_eq!(whole, run(&input, &stream, &[1]));
    }
});
