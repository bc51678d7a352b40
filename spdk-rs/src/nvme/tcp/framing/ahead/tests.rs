//! Receives laid out for what comes, and for what does not.
#![allow(unsafe_code, reason = "the tests stand in for the kernel, which writes by address")]

use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::nvme::spec::{SglDescriptor, Sqe};
use crate::nvme::tcp::digest::Crc32c;
use crate::nvme::tcp::framing::{
    DataPdu, Framer, HEADER_SPACE_BYTES, Pdu, Place, Receiver, Role, Step,
};

/// The tag of what comes in capsules.
const CAPSULE: u32 = 99;
/// Bytes of data of each tag.
const BYTES: usize = 6000;

/// A destination per tag, in two pieces.
struct Memory {
    tables: Vec<[IoVec; 2]>,
    bytes: Vec<Box<[u8]>>,
}

impl Memory {
    fn new(tags: usize) -> Self {
        let mut bytes: Vec<_> = (0..=tags).map(|_| vec![0; BYTES].into_boxed_slice()).collect();
        let table = |bytes: &mut Box<[u8]>| {
            let base = bytes.as_mut_ptr();
            [IoVec::new(base, 1000), IoVec::new(base.wrapping_add(1000), BYTES - 1000)]
        };
        let tables = bytes.iter_mut().map(table).collect();
        Self { tables, bytes }
    }

    fn content(&self, tag: usize) -> Vec<u8> {
        assert_eq!(self.bytes[tag].len(), BYTES);
        let read = |entry: &IoVec| {
            // SAFETY: the entry describes a part of a box that `self` owns.
            unsafe { std::slice::from_raw_parts(entry.base(), entry.len()) }.to_vec()
        };
        self.tables[tag].iter().flat_map(read).collect()
    }
}

// SAFETY: the tables never change, and nobody else uses the memory.
unsafe impl Destinations for Memory {
    fn table(&self, tag: u32) -> &[IoVec] {
        let last = self.tables.len() - 1;
        &self.tables[if tag == CAPSULE { last } else { tag as usize }]
    }
}

/// What a host sends.
#[derive(Clone, Debug)]
enum Sent {
    /// A command with so many bytes in its capsule.
    Command(usize),
    /// Data of a tag, from one offset to another.
    Data(usize, usize, usize),
}

fn content_of(tag: usize) -> Vec<u8> {
    (0..BYTES).map(|at| u8::try_from((at * 13 + at / 255 + tag * 41) % 251).unwrap()).collect()
}

fn write(framer: &Framer, sent: &Sent) -> Vec<u8> {
    let mut out = [0; HEADER_SPACE_BYTES];
    let (len, data) = match *sent {
        Sent::Command(bytes) => {
            let data = content_of(7)[..bytes].to_vec();
            let mut sqe = Sqe::new(1, 1);
            let len = u32::try_from(bytes).unwrap();
            sqe.dptr = SglDescriptor::in_capsule(0, len);
            (framer.command(&sqe, len, &mut out), data)
        }
        Sent::Data(tag, from, to) => {
            let pdu = DataPdu {
                cccid: 1,
                ttag: u16::try_from(tag).unwrap(),
                datao: u32::try_from(from).unwrap(),
                datal: u32::try_from(to - from).unwrap(),
                last: to == BYTES,
                success: false,
            };
            (framer.h2c_data(&pdu, &mut out), content_of(tag)[from..to].to_vec())
        }
    };
    let mut bytes = out[..len].to_vec();
    bytes.extend_from_slice(&data);
    if framer.data_digest && !data.is_empty() {
        bytes.extend(Crc32c::of(&data).to_le_bytes());
    }
    bytes
}

struct Rig {
    receiver: Receiver,
    memory: Memory,
    displaced: Rc<Displaced>,
    /// How much of each tag was announced, and what was reported.
    arrived: Vec<usize>,
    seen: Vec<String>,
    data_max: usize,
    /// Commands that are taken to come before the data of each tag.
    commands: Vec<u32>,
}

impl Rig {
    fn new(framer: &Framer, tags: usize, data_max: usize) -> Self {
        let mut receiver = Receiver::new(Role::Controller, 1024);
        let displaced = Displaced::new();
        receiver.look_ahead(&displaced);
        receiver.agree(ReceiveRules {
            header_digest: framer.header_digest,
            data_digest: framer.data_digest,
            alignment_bytes: 4,
            in_capsule_max: 8192,
            data_max: 131_072,
        });
        let (memory, arrived) = (Memory::new(tags), vec![0; tags]);
        let commands = vec![0; tags];
        Self { receiver, memory, displaced, arrived, seen: Vec::new(), data_max, commands }
    }

    /// What is still to come, first tag first.
    fn coming(&self) -> Vec<Coming> {
        let of = |(tag, &from): (usize, &usize)| {
            (from..BYTES).step_by(self.data_max).map(move |offset| (tag, offset))
        };
        let all = self.arrived.iter().enumerate().flat_map(of);
        all.map(|(tag, offset)| Coming {
            commands: if offset == self.arrived[tag] { self.commands[tag] } else { 0 },
            tag: u32::try_from(tag).unwrap(),
            offset: u32::try_from(offset).unwrap(),
            bytes: u32::try_from(self.data_max.min(BYTES - offset)).unwrap(),
        })
        .collect()
    }

    /// One receive of at most `chunk` bytes; returns what is left.
    fn receive<'a>(&mut self, bytes: &'a [u8], chunk: usize) -> &'a [u8] {
        let mut space = ReadSpace::new();
        let coming = self.coming();
        self.receiver.read_space_ahead(&self.memory, coming.into_iter(), 1 << 20, &mut space);
        let (pieces, room) = space.seal();
        let taken = room.min(chunk).min(bytes.len());
        assert_ne!(taken, 0, "the receiver must always have room");
        let mut left = &bytes[..taken];
        for piece in pieces {
            let (here, others) = left.split_at(left.len().min(piece.len()));
            // SAFETY: the piece is as long as `here` at least, and nobody else uses it.
            unsafe { std::ptr::copy_nonoverlapping(here.as_ptr(), piece.base(), here.len()) };
            left = others;
        }
        space.fill(taken);
        space.clear();
        self.receiver.received(&self.memory, taken);
        self.look();
        &bytes[taken..]
    }

    fn look(&mut self) {
        loop {
            let step = self.receiver.step(&self.memory).unwrap();
            match step {
                Step::More => return,
                Step::Pdu { pdu: Pdu::Command(_), data_bytes } => {
                    self.seen.push(format!("command {data_bytes}"));
                    self.receiver.place(&self.memory, Place::Into { tag: CAPSULE, offset: 0 });
                }
                Step::Pdu { pdu: Pdu::Data(data), .. } => {
                    let tag = usize::from(data.ttag);
                    self.seen.push(format!("data {tag} {}", data.datao));
                    self.arrived[tag] = (data.datao + data.datal) as usize;
                    let place = Place::Into { tag: data.ttag.into(), offset: data.datao };
                    self.receiver.place(&self.memory, place);
                }
                Step::Payload { tag, intact } => {
                    assert!(intact);
                    if tag == CAPSULE {
                        let last = self.memory.tables.len() - 1;
                        self.seen.push(format!("{:?}", &self.memory.content(last)[..16]));
                    } else if self.arrived[tag as usize] == BYTES {
                        let whole = self.memory.content(tag as usize) == content_of(tag as usize);
                        self.seen.push(format!("payload {tag} {whole}"));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Everything of a stream; returns the bytes that had to be moved.
    fn all(&mut self, stream: &[u8], chunk: usize) -> usize {
        let mut rest = stream;
        while !rest.is_empty() {
            rest = self.receive(rest, chunk);
        }
        self.receiver.take_moved()
    }
}

fn expected(sent: &[Sent]) -> Vec<String> {
    let mut seen = Vec::new();
    for sent in sent {
        match *sent {
            Sent::Command(bytes) => {
                seen.push(format!("command {bytes}"));
                if bytes != 0 {
                    seen.push(format!("{:?}", &content_of(7)[..16]));
                }
            }
            Sent::Data(tag, from, to) => {
                seen.push(format!("data {tag} {from}"));
                if to == BYTES {
                    seen.push(format!("payload {tag} true"));
                }
            }
        }
    }
    seen
}

fn framer(header_digest: bool, data_digest: bool) -> Framer {
    Framer { header_digest, data_digest, alignment_bytes: 4 }
}

fn stream_of(framer: &Framer, sent: &[Sent]) -> Vec<u8> {
    sent.iter().flat_map(|sent| write(framer, sent)).collect()
}

const DIGESTS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

#[test]
fn what_comes_as_expected_is_not_moved() {
    for (header, data) in DIGESTS {
        let framer = framer(header, data);
        let sent: Vec<_> = (0..5).map(|tag| Sent::Data(tag, 0, BYTES)).collect();
        let stream = stream_of(&framer, &sent);
        let mut rig = Rig::new(&framer, 5, 131_072);
        assert!(rig.receive(&stream, usize::MAX).is_empty(), "one receive takes all");
        assert_eq!(rig.seen, expected(&sent));
        assert_eq!(rig.receiver.take_moved(), 0);
        assert_eq!(rig.displaced.reaching(), 0);
        // In PDUs of the largest size that is allowed.
        let split = |tag| [Sent::Data(tag, 0, 4096), Sent::Data(tag, 4096, BYTES)];
        let sent: Vec<_> = (0..5).flat_map(split).collect();
        let mut rig = Rig::new(&framer, 5, 4096);
        assert_eq!(rig.all(&stream_of(&framer, &sent), usize::MAX), 0);
        assert_eq!(rig.seen, expected(&sent));
    }
}

#[test]
fn a_command_at_any_place_is_found() {
    for (header, data) in DIGESTS {
        let framer = framer(header, data);
        for place in 0..=5 {
            for inside in [0, 16, 900, 5000] {
                let mut sent: Vec<_> = (0..5).map(|tag| Sent::Data(tag, 0, BYTES)).collect();
                sent.insert(place, Sent::Command(inside));
                let mut rig = Rig::new(&framer, 5, 131_072);
                let moved = rig.all(&stream_of(&framer, &sent), usize::MAX);
                assert_eq!(rig.seen, expected(&sent), "{header} {data} {place} {inside}");
                assert!(place == 5 || moved >= (5 - place) * BYTES);
                assert_eq!(rig.displaced.reaching(), 0);
            }
        }
    }
}

#[test]
fn commands_that_are_expected_move_nothing() {
    for (header, data) in DIGESTS {
        let framer = framer(header, data);
        let mut sent: Vec<_> = (0..5).map(|tag| Sent::Data(tag, 0, BYTES)).collect();
        for place in [4, 2, 2, 2, 0] {
            sent.insert(place, Sent::Command(0));
        }
        let mut rig = Rig::new(&framer, 5, 131_072);
        rig.commands = vec![1, 0, 3, 0, 1];
        assert!(rig.receive(&stream_of(&framer, &sent), usize::MAX).is_empty());
        assert_eq!(rig.seen, expected(&sent), "{header} {data}");
        assert_eq!(rig.receiver.take_moved(), 0);
        // One fewer than expected, and data in a capsule instead of another.
        let mut rig = Rig::new(&framer, 5, 131_072);
        rig.commands = vec![2, 0, 4, 0, 1];
        sent[3] = Sent::Command(300);
        assert!(rig.all(&stream_of(&framer, &sent), usize::MAX) > 4 * BYTES);
        assert_eq!(rig.seen, expected(&sent), "{header} {data}");
        assert_eq!(rig.displaced.reaching(), 0);
    }
}

#[test]
fn memory_for_what_is_displaced_is_bounded() {
    let framer = framer(false, false);
    let mut rigs: Vec<_> =
        (0..Displaced::RESERVED_MAX + 1).map(|_| Rig::new(&framer, 3, 131_072)).collect();
    let displaced = Rc::clone(&rigs[0].displaced);
    let mut spaces = Vec::new();
    for rig in &mut rigs {
        rig.receiver.look_ahead(&displaced);
        let (coming, mut space) = (rig.coming(), ReadSpace::new());
        let certain =
            rig.receiver.read_space_ahead(&rig.memory, coming.into_iter(), 1 << 20, &mut space);
        spaces.push(certain);
    }
    assert_eq!(spaces.pop(), Some(0), "an ordinary space");
    assert!(spaces.iter().all(|&certain| certain == 3 * (24 + BYTES)));
    // One that ends makes room for another.
    rigs[4].receiver.end();
    assert_eq!(displaced.reaching(), Displaced::RESERVED_MAX - 1);
    drop(rigs);
    assert_eq!(displaced.reaching(), 0);
}

/// What a host may send of three tags: in any order of the tags, in PDUs of any size that is
/// allowed, with commands in between.
fn any_sent() -> impl Strategy<Value = Vec<Sent>> {
    let cut = prop_oneof![Just(BYTES), 1..BYTES];
    let command = prop_oneof![
        3 => Just(None),
        1 => Just(Some(0_usize)),
        1 => (16..6000_usize).prop_map(Some)
    ];
    let steps = proptest::collection::vec((0..3_usize, cut, command), 3..14);
    steps.prop_map(|steps| {
        let (mut sent, mut arrived) = (Vec::new(), [0; 3]);
        for (tag, bytes, command) in steps {
            if let Some(bytes) = command {
                sent.push(Sent::Command(bytes));
            }
            let (from, to) = (arrived[tag], BYTES.min(arrived[tag] + bytes));
            if from != to {
                sent.push(Sent::Data(tag, from, to));
                arrived[tag] = to;
            }
        }
        sent
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_comes_goes_where_it_belongs(
        sent in any_sent(),
        header: bool,
        data: bool,
        chunk in prop_oneof![Just(usize::MAX), 1..9000_usize],
        data_max in prop_oneof![Just(131_072_usize), 500..7000_usize],
        commands in proptest::collection::vec(0..3_u32, 3),
    ) {
        let framer = framer(header, data);
        let mut rig = Rig::new(&framer, 3, data_max);
        rig.commands = commands;
        rig.all(&stream_of(&framer, &sent), chunk);
        prop_assert_eq!(&rig.seen, &expected(&sent));
        prop_assert!(!rig.receiver.is_inside_pdu());
        prop_assert_eq!(rig.displaced.reaching(), 0);
    }
}
