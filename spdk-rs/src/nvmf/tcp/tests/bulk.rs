//! Large writes, many at a time, from hosts that send in every order.

use super::host::{Digests, Got, Host, block, pattern};
use super::rig::Rig;
use crate::NvmeStatus;
use crate::nvme::spec::Sqe;
use crate::nvme::tcp::framing::{FatalStatus, R2t};
use crate::nvmf::tcp::TcpOptions;

const PLAIN: Digests = Digests { header: false, data: false };
const BOTH: Digests = Digests { header: true, data: true };
/// Bytes and blocks of a write, and how many there are at a time.
const BYTES: usize = 65_536;
const BLOCKS: u64 = 128;
const WRITES: usize = 24;

/// Writes that are asked for, with their data, in the order of the requests.
fn asked(host: &mut Host, seed: usize) -> Vec<(R2t, Vec<u8>)> {
    let mut cids = Vec::new();
    for at in 0..WRITES {
        cids.push(host.submit_moved(block(1, at as u64 * BLOCKS, 128), BYTES));
    }
    let ready: Vec<_> = (0..WRITES).map(|_| host.ready()).collect();
    let at = |r2t: &R2t| cids.iter().position(|&cid| cid == r2t.cccid).unwrap();
    ready.into_iter().map(|r2t| (r2t, pattern(BYTES, seed + at(&r2t)))).collect()
}

/// The bytes of the data PDUs of a write, each with at most `piece` bytes.
fn pdus(host: &Host, (r2t, data): &(R2t, Vec<u8>), piece: usize) -> Vec<u8> {
    let parts = data.chunks(piece).enumerate();
    parts
        .flat_map(|(at, part)| {
            let offset = at * piece;
            host.h2c(r2t, offset, part, offset + part.len() == data.len())
        })
        .collect()
}

fn expect_success(host: &mut Host, count: usize) {
    for _ in 0..count {
        assert_eq!(host.response().status(), NvmeStatus::SUCCESS);
    }
}

fn expect_content(host: &mut Host, seed: usize) {
    for at in 0..WRITES {
        assert!(host.read_blocks(at as u64 * BLOCKS, 128) == pattern(BYTES, seed + at), "{at}");
    }
}

#[test]
fn data_arrive_in_any_order_and_in_pieces_of_any_length() {
    let rig = Rig::new(TcpOptions::default());
    for digests in [PLAIN, BOTH] {
        let (_admin, mut io) = rig.host(digests, 64);
        for (round, piece) in [BYTES, 16_384, 5000].into_iter().enumerate() {
            for order in 0..3 {
                let seed = round * 100 + order * 30;
                let mut writes = asked(&mut io, seed);
                match order {
                    0 => {}
                    1 => writes.reverse(),
                    _ => writes.swap(3, 17),
                }
                let all: Vec<u8> =
                    writes.iter().flat_map(|write| pdus(&io, write, piece)).collect();
                io.send(&all);
                expect_success(&mut io, WRITES);
                expect_content(&mut io, seed);
            }
        }
    }
    rig.end();
}

#[test]
fn commands_in_between_are_served_wherever_they_come() {
    let rig = Rig::new(TcpOptions::default());
    let small = pattern(4096, 900);
    for digests in [PLAIN, BOTH] {
        let (_admin, mut io) = rig.host(digests, 64);
        for place in [0, 1, WRITES / 2, WRITES - 1] {
            let writes = asked(&mut io, place);
            let mut all = Vec::new();
            for (at, write) in writes.iter().enumerate() {
                if at == place {
                    let mut flush = Sqe::new(0, 1);
                    flush.cid.set(901);
                    all.extend(io.capsule(&flush, &[]));
                    let mut sqe = block(1, 8000, 8);
                    sqe.cid.set(902);
                    sqe.dptr = crate::nvme::spec::SglDescriptor::in_capsule(0, 4096);
                    all.extend(io.capsule(&sqe, &small));
                }
                all.extend(pdus(&io, write, BYTES));
            }
            io.send(&all);
            expect_success(&mut io, WRITES + 2);
            expect_content(&mut io, place);
            assert!(io.read_blocks(8000, 8) == small);
        }
    }
    rig.end();
}

#[test]
fn a_wrong_pdu_between_data_ends_the_connection_with_its_status() {
    let rig = Rig::new(TcpOptions::default());
    for place in [0, 5, WRITES - 1] {
        let (_admin, mut io) = rig.host(PLAIN, 64);
        let writes = asked(&mut io, 0);
        let mut all = Vec::new();
        for (at, write) in writes.iter().enumerate() {
            let mut bytes = pdus(&io, write, BYTES);
            if at == place {
                // The transfer tag.
                bytes[10..12].copy_from_slice(&u16::MAX.to_le_bytes());
            }
            all.extend(bytes);
        }
        // The target may end it while some of this is on its way.
        let _ = std::io::Write::write_all(&mut io.socket, &all);
        let mut terminated = false;
        loop {
            match io.next() {
                Got::Terminated(fes, fei, _) => {
                    let status = FatalStatus::from_bits(fes);
                    assert_eq!((status, fei), (Some(FatalStatus::InvalidHeaderField), 10));
                    terminated = true;
                }
                Got::Response(cqe) => assert_eq!(cqe.status(), NvmeStatus::SUCCESS),
                Got::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(terminated);
    }
    assert_eq!(rig.transport.stats().terminated, 3);
    rig.end();
}

#[test]
fn a_wrong_digest_between_right_ones_fails_its_command_alone() {
    let rig = Rig::new(TcpOptions::default());
    let (admin, mut io) = rig.host(BOTH, 64);
    let writes = asked(&mut io, 0);
    let mut all: Vec<Vec<u8>> = writes.iter().map(|write| pdus(&io, write, BYTES)).collect();
    all[7][1000] ^= 1;
    io.send(&all.concat());
    let mut failed = Vec::new();
    for _ in 0..WRITES {
        let cqe = io.response();
        if cqe.status() != NvmeStatus::SUCCESS {
            assert_eq!(cqe.status(), NvmeStatus::TRANSIENT_TRANSPORT_ERROR);
            failed.push(cqe.cid.get());
        }
    }
    assert_eq!(failed, [writes[7].0.cccid]);
    drop((admin, io));
    rig.end();
}

#[test]
fn a_connection_is_cut_anywhere_and_nothing_is_lost() {
    let rig = Rig::new(TcpOptions::default());
    let whole = 24 + BYTES;
    for cut in [0, 10, whole / 2, 3 * whole, 3 * whole + 20, 10 * whole + 500] {
        let (admin, mut io) = rig.host(PLAIN, 64);
        let writes = asked(&mut io, 0);
        let all: Vec<u8> = writes.iter().flat_map(|write| pdus(&io, write, BYTES)).collect();
        io.send(&all[..cut]);
        drop((admin, io));
        rig.until_connections(0);
    }
    rig.end();
}

#[test]
fn half_of_the_data_holds_up_nobody() {
    let rig = Rig::new(TcpOptions::default());
    let (admin, mut io) = rig.host(PLAIN, 64);
    let (second, mut other) = rig.host(PLAIN, 64);
    let writes = asked(&mut io, 50);
    let all: Vec<u8> = writes.iter().flat_map(|write| pdus(&io, write, BYTES)).collect();
    // Whole PDUs, of which the answers come although far more was asked for.
    let half = 5 * (24 + BYTES);
    io.send(&all[..half]);
    expect_success(&mut io, 5);
    other.check();
    // A command behind a few bytes.
    io.send(&all[half..half + 24 + BYTES]);
    io.submit(Sqe::new(0, 1), &[]);
    expect_success(&mut io, 2);
    io.send(&all[half + 24 + BYTES..]);
    expect_success(&mut io, WRITES - 6);
    expect_content(&mut io, 50);
    drop((admin, io, second, other));
    rig.end();
}

#[test]
fn an_abort_of_a_command_whose_data_are_awaited_leaves_its_memory_alone() {
    let rig = Rig::new(TcpOptions::default());
    let (mut admin, mut io) = rig.host(PLAIN, 64);
    let writes = asked(&mut io, 10);
    let mut abort = Sqe::new(0x08, 0);
    abort.cdw10.set(u32::from(writes[4].0.cccid) << 16 | 1);
    admin.submit(abort, &[]);
    assert!(admin.response().status().is_success());
    let all: Vec<u8> = writes.iter().flat_map(|write| pdus(&io, write, BYTES)).collect();
    io.send(&all);
    for _ in 0..WRITES {
        let cqe = io.response();
        assert!(cqe.status().is_success() || cqe.cid.get() == writes[4].0.cccid);
    }
    io.check();
    drop((admin, io));
    rig.end();
}
