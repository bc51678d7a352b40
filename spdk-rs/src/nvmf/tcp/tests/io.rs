//! Data there and back again.

use std::collections::HashMap;

use super::host::{Digests, Got, Host, block, pattern};
use super::rig::{BLOCKS, Rig};
use crate::NvmeStatus;
use crate::nvmf::tcp::TcpOptions;

const PLAIN: Digests = Digests { header: false, data: false };
const ALL: [Digests; 4] = [
    PLAIN,
    Digests { header: true, data: false },
    Digests { header: false, data: true },
    Digests { header: true, data: true },
];

#[test]
fn a_host_connects_identifies_writes_and_reads() {
    let rig = Rig::new(TcpOptions::default());
    for digests in ALL {
        let (mut admin, mut io) = rig.host(digests, 128);
        let controller = admin.identify(1, 0);
        assert_eq!(&controller[24..44], b"io-engine Controller");
        // IOCCSZ: 64 bytes of command and 4096 of data, in units of 16.
        let ioccsz = u32::from_le_bytes(controller[1792..1796].try_into().unwrap());
        assert_eq!(ioccsz, (64 + 4096) / 16);
        let namespace = admin.identify(0, 1);
        assert_eq!(u64::from_le_bytes(namespace[..8].try_into().unwrap()), BLOCKS);
        // In the capsule: one block, and as much as fits.
        for (slba, len) in [(0, 512), (10, 4096)] {
            let data = pattern(len, 3);
            assert_eq!(io.write_inside(slba, &data), NvmeStatus::SUCCESS);
            assert!(io.read_blocks(slba, len / 512) == data, "{digests:?}");
        }
        // Asked for: in one PDU, and in many, larger than the connection's buffer.
        for (slba, piece) in [(1000, 131_072), (2000, 4096), (3000, 1000)] {
            let data = pattern(131_072, piece);
            let cid = io.submit_moved(block(1, slba, 256), data.len());
            let r2t = io.ready();
            assert_eq!((r2t.cccid, r2t.offset, r2t.length), (cid, 0, 131_072));
            io.give(&r2t, &data, piece);
            let cqe = io.response();
            assert_eq!((cqe.cid.get(), cqe.status()), (cid, NvmeStatus::SUCCESS));
            assert!(io.read_blocks(slba, 256) == data, "{digests:?}, pieces of {piece}");
        }
    }
    rig.end();
}

#[test]
fn data_are_aligned_as_the_host_wants() {
    let rig = Rig::new(TcpOptions::default());
    for hpda in [1, 7, 31] {
        for digests in [PLAIN, ALL[3]] {
            let (_admin, cntlid) = rig.admin(digests);
            let mut io = Host::greeted(rig.address, digests, hpda);
            io.connect(1, 31, cntlid).ok().unwrap();
            // The host checks where the data begin.
            io.check();
        }
    }
    rig.end();
}

#[test]
fn many_transfers_are_under_way_at_once_and_end_in_any_order() {
    let rig = Rig::new(TcpOptions { io_unit_bytes: 16_384, ..TcpOptions::default() });
    for digests in [PLAIN, ALL[3]] {
        let (_admin, mut io) = rig.host(digests, 64);
        assert_eq!(io.maxh2c, 16_384);
        let data: Vec<_> = (0..20).map(|at| pattern(65_536, at)).collect();
        let mut asked = HashMap::new();
        for at in 0..20_u64 {
            let cid = io.submit_moved(block(1, at * 128, 128), 65_536);
            asked.insert(cid, at);
        }
        let mut ready: Vec<_> = (0..20).map(|_| io.ready()).collect();
        // One PDU of each in turn, the last command first.
        ready.reverse();
        for part in 0..4 {
            for r2t in &ready {
                let (from, to) = (part * 16_384, (part + 1) * 16_384);
                let content = &data[usize::try_from(asked[&r2t.cccid]).unwrap()][from..to];
                let bytes = io.h2c(r2t, from, content, part == 3);
                io.send(&bytes);
            }
        }
        for _ in 0..20 {
            let cqe = io.response();
            assert_eq!(cqe.status(), NvmeStatus::SUCCESS);
            assert!(asked.contains_key(&cqe.cid.get()));
        }
        for (at, content) in data.iter().enumerate() {
            assert!(io.read_blocks(at as u64 * 128, 128) == *content);
        }
    }
    rig.end();
}

#[test]
fn a_batch_of_small_commands_is_answered_whole() {
    let rig = Rig::new(TcpOptions::default());
    let (admin, mut io) = rig.host(PLAIN, 128);
    for at in 0..128_u64 {
        io.submit(block(1, at * 8, 8), &pattern(4096, usize::try_from(at).unwrap()));
    }
    for _ in 0..128 {
        assert_eq!(io.response().status(), NvmeStatus::SUCCESS);
    }
    let cids: Vec<_> = (0..128).map(|at| io.submit_moved(block(2, at * 8, 8), 4096)).collect();
    let mut left: HashMap<_, _> = cids.into_iter().zip(0..).collect();
    while !left.is_empty() {
        match io.next() {
            Got::Data { cid, bytes, success: true, .. } => {
                let at = left.remove(&cid).unwrap();
                assert!(bytes == pattern(4096, at));
            }
            other => panic!("{other:?}"),
        }
    }
    drop((admin, io));
    rig.end();
}

#[test]
fn a_response_follows_the_data_when_asked_to() {
    let rig = Rig::new(TcpOptions { c2h_success: false, ..TcpOptions::default() });
    let (admin, mut io) = rig.host(PLAIN, 32);
    let cid = io.submit_moved(block(2, 0, 8), 4096);
    assert!(matches!(io.next(), Got::Data { success: false, last: true, .. }));
    let cqe = io.response();
    assert_eq!((cqe.cid.get(), cqe.status()), (cid, NvmeStatus::SUCCESS));
    // An error has no data.
    io.submit_moved(block(2, BLOCKS, 1), 512);
    assert_eq!(io.response().status(), NvmeStatus::LBA_OUT_OF_RANGE);
    drop((admin, io));
    rig.end();
}

#[test]
fn a_data_digest_error_fails_the_command_and_nothing_else() {
    let rig = Rig::new(TcpOptions::default());
    let (admin, mut io) = rig.host(ALL[3], 32);
    let (old, new) = (pattern(4096, 1), pattern(4096, 2));
    assert_eq!(io.write_inside(0, &old), NvmeStatus::SUCCESS);
    // In the capsule.
    let mut sqe = block(1, 0, 8);
    sqe.cid.set(500);
    sqe.dptr = crate::nvme::spec::SglDescriptor::in_capsule(0, 4096);
    let mut bytes = io.capsule(&sqe, &new);
    bytes[1000] ^= 1;
    io.send(&bytes);
    let cqe = io.response();
    assert_eq!((cqe.cid.get(), cqe.status()), (500, NvmeStatus::TRANSIENT_TRANSPORT_ERROR));
    // In the second of four data PDUs; the others come all the same.
    io.submit_moved(block(1, 0, 8), 4096);
    let r2t = io.ready();
    for part in 0..4 {
        let range = part * 1024..(part + 1) * 1024;
        let mut bytes = io.h2c(&r2t, range.start, &new[range.clone()], part == 3);
        if part == 1 {
            let last = bytes.len() - 1;
            bytes[last] ^= 0x80;
        }
        io.send(&bytes);
    }
    assert_eq!(io.response().status(), NvmeStatus::TRANSIENT_TRANSPORT_ERROR);
    assert!(io.read_blocks(0, 8) == old);
    io.check();
    drop((admin, io));
    rig.end();
}

#[test]
fn the_two_commands_of_a_fused_pair_stay_together() {
    let rig = Rig::new(TcpOptions::default());
    let (admin, mut io) = rig.host(PLAIN, 32);
    let (old, new) = (pattern(512, 1), pattern(512, 2));
    assert_eq!(io.write_inside(5, &old), NvmeStatus::SUCCESS);
    // The data of both are asked for, those of the second come first, and another command's
    // come in between.
    let fused = |opcode: u8, part: u8| {
        let mut sqe = block(opcode, 5, 1);
        sqe.flags |= part;
        sqe
    };
    for (expected, written, outcome) in [
        (&old, &new, [NvmeStatus::SUCCESS, NvmeStatus::SUCCESS]),
        (&old, &old, [NvmeStatus::COMPARE_FAILURE, NvmeStatus::ABORTED_FAILED_FUSED]),
    ] {
        let compare = io.submit_moved(fused(5, 1), 512);
        let write = io.submit_moved(fused(1, 2), 512);
        let other = io.submit_moved(block(1, 90, 1), 512);
        let ready: HashMap<_, _> = (0..3).map(|_| io.ready()).map(|r2t| (r2t.cccid, r2t)).collect();
        io.give(&ready[&write], written, 512);
        io.give(&ready[&other], &old, 512);
        let cqe = io.response();
        assert_eq!((cqe.cid.get(), cqe.status()), (other, NvmeStatus::SUCCESS));
        io.give(&ready[&compare], expected, 512);
        let mut ends = HashMap::new();
        for _ in 0..2 {
            let cqe = io.response();
            ends.insert(cqe.cid.get(), cqe.status());
        }
        let same = |status: NvmeStatus, cid| {
            assert_eq!((status.sct(), status.sc()), (ends[&cid].sct(), ends[&cid].sc()));
        };
        same(outcome[0], compare);
        same(outcome[1], write);
    }
    assert!(io.read_blocks(5, 1) == new);
    // The first is complete before the second comes, and an older command's data come in between.
    let older = io.submit_moved(block(1, 90, 1), 512);
    let r2t = io.ready();
    let compare = io.submit(fused(5, 1), &new);
    io.give(&r2t, &old, 512);
    assert_eq!(io.response().cid.get(), older);
    let write = io.submit(fused(1, 2), &old);
    for cid in [compare, write] {
        let cqe = io.response();
        assert_eq!((cqe.cid.get(), cqe.status()), (cid, NvmeStatus::SUCCESS));
    }
    assert!(io.read_blocks(5, 1) == old);
    assert_eq!(io.write_inside(5, &new), NvmeStatus::SUCCESS);
    // A first half without its second.
    let lonely = io.submit(fused(5, 1), &new);
    let next = io.submit_moved(block(2, 5, 1), 512);
    let cqe = io.response();
    assert_eq!(cqe.cid.get(), lonely);
    assert_eq!(cqe.status(), NvmeStatus::ABORTED_MISSING_FUSED);
    assert!(io.data(next) == new);
    drop((admin, io));
    rig.end();
}

#[test]
fn a_host_connects_over_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: there is no IPv6 here");
        return;
    }
    let rig = Rig::with(TcpOptions::default(), 64 << 20, 1, "[::1]:0");
    let (admin, mut io) = rig.host(PLAIN, 32);
    io.check();
    drop((admin, io));
    rig.end();
}
