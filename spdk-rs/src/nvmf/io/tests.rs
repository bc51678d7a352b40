//! I/O commands: what they do, and what each error ends in.

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::limits::{COPY_RANGE_BLOCKS_MAX, COPY_RANGES_MAX};
use crate::NvmeStatus;
use crate::bdev::{Bdev, IoBuf, IoType, OpenMode};
use crate::drivers::malloc;
use crate::nvme::spec::nvm::{CopyRange32, DsmRange, dsm_attribute};
use crate::nvme::spec::opcode::nvm;
use crate::nvme::spec::{NSID_ALL, Sqe};
use crate::nvmf::core_view::{AnaState, CoreView};
use crate::nvmf::qpair::tests::device::{self, ALL, Control};
use crate::nvmf::qpair::tests::rig::{Host, LISTENER, Rig, SUBSYSTEM};

const WRITE: OpenMode = OpenMode::ReadWrite;
const FUA: u32 = 1 << 30;
const OK: NvmeStatus = NvmeStatus::SUCCESS;
/// A media error that a device may report.
const BROKEN: NvmeStatus = NvmeStatus::UNRECOVERED_READ_ERROR;

fn block(opcode: u8, slba: u64, blocks: u32) -> Sqe {
    Sqe::block(opcode, 1, slba, blocks)
}

fn with12(mut sqe: Sqe, bits: u32) -> Sqe {
    sqe.cdw12.set(sqe.cdw12.get() | bits);
    sqe
}

/// A device of 1024 blocks that records, as namespace 1.
fn export(rig: &Rig) -> (Arc<Bdev>, Arc<Control>) {
    let (bdev, control) = device::create(rig.reactor.memory(), 1024, ALL);
    rig.add(1, &bdev, WRITE);
    (bdev, control)
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..=250).cycle().take(len).map(|byte: u8| byte ^ seed).collect()
}

#[test]
fn what_is_written_is_read() {
    let rig = Rig::new();
    let (_bdev, _) = export(&rig);
    let host = rig.host();
    let data = pattern(8192, 0x33);
    assert_eq!(host.status(block(nvm::WRITE, 8, 16), &data), OK);
    let answer = host.run(block(nvm::READ, 8, 16), &[]);
    assert_eq!((answer.status(), answer.data, answer.lent), (OK, data, false));
}

#[test]
fn the_fields_of_read_and_write_are_checked() {
    let rig = Rig::new();
    let (_bdev, control) = export(&rig);
    let host = rig.host();
    for opcode in [nvm::READ, nvm::WRITE, nvm::COMPARE] {
        let status = |sqe: Sqe, len: usize| {
            let data = if opcode == nvm::READ { vec![] } else { vec![0; len] };
            let cid = host.send_len(sqe, &data, len);
            host.wait(cid).status()
        };
        let length = NvmeStatus::DATA_SGL_LENGTH_INVALID;
        assert_eq!(status(block(opcode, 0, 2), 512), length);
        assert_eq!(status(block(opcode, 0, 1), 1024), length);
        assert_eq!(status(block(opcode, 0, 1), 0), length);
        let range = NvmeStatus::LBA_OUT_OF_RANGE;
        assert_eq!(status(block(opcode, 1024, 1), 512), range);
        assert_eq!(status(block(opcode, 1023, 2), 1024), range);
        assert_eq!(status(block(opcode, u64::MAX, 2), 1024), range);
        // Beyond what a command may carry, whatever the SGL says.
        assert_eq!(status(block(opcode, 0, 257), 257 * 512), NvmeStatus::INVALID_FIELD);
        for bit in 26..30 {
            let protected = with12(block(opcode, 0, 1), 1 << bit);
            let status = status(protected, 512);
            assert_eq!(status, NvmeStatus::INVALID_PROTECTION_INFORMATION);
        }
        let mut metadata = block(opcode, 0, 1);
        metadata.mptr.set(0x1000);
        assert_eq!(status(metadata, 512), NvmeStatus::INVALID_FIELD);
        for nsid in [0, 2, NSID_ALL] {
            let sqe = Sqe::block(opcode, nsid, 0, 1);
            assert_eq!(status(sqe, 512), NvmeStatus::INVALID_NAMESPACE);
        }
        assert!(control.seen().is_empty(), "nothing reaches the device");
        // Limited retry is a hint.
        assert_eq!(status(with12(block(opcode, 0, 1), 1 << 31), 512), OK);
        let _ = control.seen();
    }
    for opcode in [nvm::WRITE_UNCORRECTABLE, nvm::ZONE_APPEND, nvm::CANCEL, 0x7e, 0xff] {
        assert_eq!(host.status(block(opcode, 0, 1), &[]), NvmeStatus::INVALID_OPCODE);
    }
}

#[test]
fn a_status_of_the_device_reaches_the_host() {
    let rig = Rig::new();
    let (_bdev, control) = export(&rig);
    let host = rig.host();
    control.fail(IoType::Read, 3, BROKEN);
    let answer = host.run(block(nvm::READ, 0, 8), &[]);
    assert_eq!((answer.status(), answer.data.len()), (BROKEN, 0));
    assert_eq!(host.status(block(nvm::READ, 4, 8), &[]), OK);
    assert_eq!(host.status(block(nvm::VERIFY, 0, 8), &[]), BROKEN);
    control.fail(IoType::Write, 3, NvmeStatus::WRITE_FAULT);
    assert_eq!(host.status(block(nvm::WRITE, 3, 1), &[0; 512]), NvmeStatus::WRITE_FAULT);
}

#[test]
fn fua_and_flush_reach_the_device() {
    let rig = Rig::new();
    let (_bdev, control) = export(&rig);
    let host = rig.host();
    let flush = (IoType::Flush, false, 0, 1024);
    assert_eq!(host.status(with12(block(nvm::WRITE, 1, 1), FUA), &[1; 512]), OK);
    assert_eq!(control.seen(), [(IoType::Write, true, 1, 1)]);
    assert_eq!(host.status(block(nvm::WRITE, 1, 1), &[1; 512]), OK);
    assert_eq!(control.seen(), [(IoType::Write, false, 1, 1)]);
    assert_eq!(host.status(Sqe::new(nvm::FLUSH, 1), &[]), OK);
    assert_eq!(control.seen(), [flush]);
    assert_eq!(host.run(with12(block(nvm::READ, 1, 1), FUA), &[]).data, [1; 512]);
    assert_eq!(control.seen(), [flush, (IoType::Read, false, 1, 1)]);
    assert_eq!(host.status(with12(block(nvm::WRITE_ZEROES, 1, 1), FUA), &[]), OK);
    assert_eq!(control.seen(), [(IoType::WriteZeroes, false, 1, 1), flush]);
    // A flush that fails is a failure of what asked for it.
    control.fail(IoType::Flush, 0, NvmeStatus::WRITE_FAULT);
    assert_eq!(host.status(Sqe::new(nvm::FLUSH, 1), &[]), NvmeStatus::WRITE_FAULT);
    let sqe = with12(block(nvm::WRITE_ZEROES, 1, 1), FUA);
    assert_eq!(host.status(sqe, &[]), NvmeStatus::WRITE_FAULT);
    let sqe = with12(block(nvm::READ, 1, 1), FUA);
    let answer = host.run(sqe, &[]);
    assert_eq!((answer.status(), answer.data.len()), (NvmeStatus::WRITE_FAULT, 0));
}

#[test]
fn a_flush_of_all_namespaces_reaches_each() {
    let rig = Rig::new();
    let (_one, first) = export(&rig);
    let (two, second) = device::create(rig.reactor.memory(), 16, ALL);
    rig.add(5, &two, WRITE);
    let without = device::create(rig.reactor.memory(), 16, &[IoType::Read, IoType::Write]).0;
    rig.add(6, &without, WRITE);
    let host = rig.host();
    assert_eq!(host.status(Sqe::new(nvm::FLUSH, NSID_ALL), &[]), OK);
    assert_eq!(first.seen(), [(IoType::Flush, false, 0, 1024)]);
    assert_eq!(second.seen(), [(IoType::Flush, false, 0, 16)]);
    // A device that loses nothing and knows no flush has nothing to do.
    assert_eq!(host.status(Sqe::new(nvm::FLUSH, 6), &[]), OK);
    second.fail(IoType::Flush, 0, NvmeStatus::WRITE_FAULT);
    assert_eq!(host.status(Sqe::new(nvm::FLUSH, NSID_ALL), &[]), NvmeStatus::WRITE_FAULT);
    assert_eq!(first.seen().len(), 1, "the others are flushed all the same");
    assert_eq!(host.status(Sqe::new(nvm::FLUSH, 0), &[]), NvmeStatus::INVALID_NAMESPACE);
}

#[test]
fn zeroes_and_deallocation() {
    let rig = Rig::new();
    let (_bdev, control) = export(&rig);
    let host = rig.host();
    assert_eq!(host.status(block(nvm::WRITE, 0, 8), &[9; 4096]), OK);
    let deac = 1 << 25;
    assert_eq!(host.status(with12(block(nvm::WRITE_ZEROES, 2, 2), deac), &[]), OK);
    let data = host.run(block(nvm::READ, 0, 8), &[]).data;
    assert!(data[1024..2048].iter().all(|&byte| byte == 0), "zeroes also when deallocated");
    assert_eq!((data[1023], data[2048]), (9, 9));
    let range = NvmeStatus::LBA_OUT_OF_RANGE;
    assert_eq!(host.status(block(nvm::WRITE_ZEROES, 1020, 5), &[]), range);
    let _ = control.seen();

    let ranges = |list: &[(u64, u32)]| -> Vec<u8> {
        list.iter()
            .flat_map(|&(slba, blocks)| DsmRange::new(slba, blocks).as_bytes().to_vec())
            .collect()
    };
    let dsm = |count, attributes| Sqe::dataset_management(1, count, attributes);
    let three = ranges(&[(4, 1), (7, 0), (100, 50)]);
    assert_eq!(host.status(dsm(3, dsm_attribute::DEALLOCATE), &three), OK);
    assert_eq!(control.seen(), [(IoType::Unmap, false, 4, 1), (IoType::Unmap, false, 100, 50)]);
    // Hints do nothing.
    assert_eq!(host.status(dsm(3, dsm_attribute::INTEGRAL_READ), &three), OK);
    assert!(control.seen().is_empty());
    // Hosts may send more data than there are ranges, but not less.
    let mut page = ranges(&[(4, 1)]);
    page.resize(4096, 0xff);
    assert_eq!(host.status(dsm(1, dsm_attribute::DEALLOCATE), &page), OK);
    let short = host.status(dsm(4, dsm_attribute::DEALLOCATE), &three);
    assert_eq!(short, NvmeStatus::DATA_SGL_LENGTH_INVALID);
    let _ = control.seen();
    // All ranges are checked before anything is given back.
    for bad in [(1024, 1), (1000, 25), (u64::MAX, 1), (1, u32::MAX)] {
        let list = ranges(&[(4, 1), bad]);
        assert_eq!(host.status(dsm(2, dsm_attribute::DEALLOCATE), &list), range);
    }
    assert!(control.seen().is_empty());
    let all = ranges(&(0..256).map(|at| (at * 2, 1)).collect::<Vec<_>>());
    assert_eq!(host.status(dsm(256, dsm_attribute::DEALLOCATE), &all), OK);
    assert_eq!(control.seen().len(), 256);
    control.fail(IoType::Unmap, 500, NvmeStatus::WRITE_FAULT);
    let failed = host.status(dsm(256, dsm_attribute::DEALLOCATE), &all);
    assert_eq!(failed, NvmeStatus::WRITE_FAULT);
}

#[test]
fn compare_and_verify() {
    let rig = Rig::new();
    let (_bdev, control) = export(&rig);
    let host = rig.host();
    let data = pattern(2048, 1);
    assert_eq!(host.status(block(nvm::WRITE, 0, 4), &data), OK);
    assert_eq!(host.status(block(nvm::COMPARE, 0, 4), &data), OK);
    let mut other = data.clone();
    other[2047] ^= 1;
    assert_eq!(host.status(block(nvm::COMPARE, 0, 4), &other), NvmeStatus::COMPARE_FAILURE);
    let _ = control.seen();
    assert_eq!(host.status(block(nvm::VERIFY, 0, 600), &[]), OK);
    let pieces: Vec<_> = control.seen().iter().map(|seen| (seen.2, seen.3)).collect();
    assert_eq!(pieces, [(0, 256), (256, 256), (512, 88)], "in bounded pieces");
    let range = NvmeStatus::LBA_OUT_OF_RANGE;
    assert_eq!(host.status(block(nvm::VERIFY, 1000, 25), &[]), range);
    // Also when its first pieces are inside.
    assert_eq!(host.status(block(nvm::VERIFY, 700, 400), &[]), range);
    assert!(control.seen().is_empty());
}

#[test]
fn copies() {
    let rig = Rig::new();
    let (_bdev, control) = export(&rig);
    let host = rig.host();
    let data = pattern(4096, 2);
    assert_eq!(host.status(block(nvm::WRITE, 0, 8), &data), OK);
    let ranges = |list: &[(u64, u32)]| -> Vec<u8> {
        list.iter().flat_map(|&(slba, n)| CopyRange32::new(slba, n).as_bytes().to_vec()).collect()
    };
    let copy = |to, count| Sqe::copy(1, to, count, 0);
    let _ = control.seen();
    let sqe = with12(copy(100, 2), FUA);
    assert_eq!(host.status(sqe, &ranges(&[(4, 4), (0, 2)])), OK);
    let flush = (IoType::Flush, false, 0, 1024);
    let expected = [(IoType::Copy, false, 100, 4), (IoType::Copy, false, 104, 2), flush];
    assert_eq!(control.seen(), expected);
    let copied = host.run(block(nvm::READ, 100, 6), &[]).data;
    assert_eq!(copied, [&data[2048..], &data[..1024]].concat());
    // Dword 0 tells which range failed.
    control.fail(IoType::Copy, 205, BROKEN);
    let answer = host.run(copy(200, 3), &ranges(&[(0, 4), (4, 4), (8, 4)]));
    assert_eq!((answer.status(), answer.cqe.result.get()), (BROKEN, 1));
    let _ = control.seen();
    let status = |sqe, data: &[u8]| host.status(sqe, data);
    let limit = NvmeStatus::COMMAND_SIZE_LIMIT_EXCEEDED;
    let many = ranges(&vec![(0, 1); 129]);
    assert_eq!(status(copy(0, COPY_RANGES_MAX + 1), &many), limit);
    assert_eq!(status(copy(0, 1), &ranges(&[(0, u32::from(COPY_RANGE_BLOCKS_MAX) + 1)])), limit);
    assert_eq!(status(copy(0, 17), &ranges(&[(0, 65535); 17])), limit);
    let range = NvmeStatus::LBA_OUT_OF_RANGE;
    assert_eq!(status(copy(0, 1), &ranges(&[(1020, 5)])), range);
    assert_eq!(status(copy(1020, 2), &ranges(&[(0, 3), (0, 2)])), range);
    assert_eq!(status(copy(0, 2), &ranges(&[(0, 1)])), NvmeStatus::DATA_SGL_LENGTH_INVALID);
    assert_eq!(status(Sqe::copy(1, 0, 1, 1), &[0; 40]), NvmeStatus::INVALID_FIELD);
    for bit in [12, 29] {
        let protected = with12(copy(0, 1), 1 << bit);
        let status = status(protected, &ranges(&[(0, 1)]));
        assert_eq!(status, NvmeStatus::INVALID_PROTECTION_INFORMATION);
    }
    assert!(control.seen().is_empty());
}

fn fused(mut sqe: Sqe, part: u8) -> Sqe {
    sqe.flags |= part;
    sqe
}

/// Sends a compare and a write as a pair; returns both statuses.
fn pair(host: &Host<'_>, compare: Sqe, old: &[u8], write: Sqe, new: &[u8]) -> [NvmeStatus; 2] {
    let first = host.send(fused(compare, 1), old);
    let second = host.send(fused(write, 2), new);
    [host.wait(first).status(), host.wait(second).status()]
}

#[test]
fn compare_and_write_is_one_operation() {
    let rig = Rig::new();
    let (_bdev, control) = export(&rig);
    let host = rig.host();
    let (compare, write) = (block(nvm::COMPARE, 3, 2), block(nvm::WRITE, 3, 2));
    let (old, new) = (vec![0; 1024], vec![5; 1024]);
    assert_eq!(pair(&host, compare, &old, write, &new), [OK, OK]);
    assert_eq!(host.run(block(nvm::READ, 3, 2), &[]).data, new);
    let failed = [NvmeStatus::COMPARE_FAILURE, NvmeStatus::ABORTED_FAILED_FUSED];
    assert_eq!(pair(&host, compare, &old, write, &old), failed);
    assert_eq!(host.run(block(nvm::READ, 3, 2), &[]).data, new, "nothing was written");
    // Force unit access of the write reaches the medium.
    let _ = control.seen();
    assert_eq!(pair(&host, compare, &new, with12(write, FUA), &old), [OK, OK]);
    assert_eq!(control.seen().last(), Some(&(IoType::Flush, false, 0, 1024)));
    control.fail(IoType::Write, 4, NvmeStatus::WRITE_FAULT);
    let failed = [NvmeStatus::ABORTED_FAILED_FUSED, NvmeStatus::WRITE_FAULT];
    assert_eq!(pair(&host, compare, &old, write, &new), failed);
}

#[test]
fn halves_that_do_not_match_are_refused() {
    let rig = Rig::new();
    let (_bdev, control) = export(&rig);
    let host = rig.host();
    let data = vec![0; 512];
    let (compare, write) = (block(nvm::COMPARE, 3, 1), block(nvm::WRITE, 3, 1));
    let invalid = [NvmeStatus::INVALID_FIELD; 2];
    assert_eq!(pair(&host, compare, &data, block(nvm::WRITE, 4, 1), &data), invalid);
    let longer = block(nvm::WRITE, 3, 2);
    assert_eq!(pair(&host, compare, &data, longer, &[0; 1024]), invalid);
    let elsewhere = Sqe::block(nvm::WRITE, 2, 3, 1);
    assert_eq!(pair(&host, compare, &data, elsewhere, &data), [NvmeStatus::INVALID_NAMESPACE; 2]);
    let read = block(nvm::READ, 3, 1);
    let wrong = [NvmeStatus::ABORTED_MISSING_FUSED, NvmeStatus::INVALID_OPCODE];
    assert_eq!(pair(&host, compare, &data, read, &[]), wrong);
    // A second half alone, a first half of another kind, a reserved value.
    assert_eq!(host.status(fused(write, 2), &data), NvmeStatus::ABORTED_MISSING_FUSED);
    assert_eq!(host.status(fused(write, 1), &data), NvmeStatus::INVALID_OPCODE);
    assert_eq!(host.status(fused(write, 3), &data), NvmeStatus::INVALID_FIELD);
    assert!(control.seen().is_empty());
    // A first half whose partner is another command, or another first half.
    let alone = host.send(fused(compare, 1), &data);
    let plain = host.send(block(nvm::READ, 3, 1), &[]);
    assert_eq!(host.wait(alone).status(), NvmeStatus::ABORTED_MISSING_FUSED);
    assert_eq!(host.wait(plain).status(), OK);
    let alone = host.send(fused(compare, 1), &data);
    assert_eq!(pair(&host, compare, &data, write, &data), [OK, OK]);
    assert_eq!(host.wait(alone).status(), NvmeStatus::ABORTED_MISSING_FUSED);
    // One that is aborted, and the partner that comes too late.
    let alone = host.send(fused(compare, 1), &data);
    let aborted = crate::nvmf::AbortOutcome::Aborted;
    assert_eq!(host.qpair.abort(alone), aborted);
    assert_eq!(host.wait(alone).status(), NvmeStatus::ABORTED_BY_REQUEST);
    assert_eq!(host.status(fused(write, 2), &data), NvmeStatus::ABORTED_MISSING_FUSED);
}

#[test]
fn paths_that_do_not_lead_to_the_namespace() {
    let rig = Rig::new();
    let (_bdev, control) = export(&rig);
    let host = rig.host();
    let view = CoreView::of(&rig.reactor).find(SUBSYSTEM).unwrap();
    let states = [
        (AnaState::Inaccessible, NvmeStatus::ANA_INACCESSIBLE),
        (AnaState::PersistentLoss, NvmeStatus::ANA_PERSISTENT_LOSS),
        (AnaState::Change, NvmeStatus::ANA_TRANSITION),
    ];
    for (state, status) in states {
        view.set_ana_state(LISTENER, 1, state);
        assert_eq!(host.status(block(nvm::READ, 0, 1), &[]), status);
        assert!(!status.do_not_retry(), "another path may serve it");
        assert_eq!(host.status(Sqe::new(nvm::FLUSH, NSID_ALL), &[]), status);
    }
    assert!(control.seen().is_empty());
    // Another group, another listener: no matter.
    view.set_ana_state(LISTENER, 1, AnaState::NonOptimized);
    view.set_ana_state(LISTENER, 2, AnaState::Inaccessible);
    view.set_ana_state(crate::nvmf::ListenerId(99), 1, AnaState::Inaccessible);
    assert_eq!(host.status(block(nvm::READ, 0, 1), &[]), OK);
    view.namespace(1).unwrap().set_ana_group(2);
    assert_eq!(host.status(block(nvm::READ, 0, 1), &[]), NvmeStatus::ANA_INACCESSIBLE);
}

fn memory_device(rig: &Rig) -> Arc<Bdev> {
    let options = malloc::MallocOptions {
        name: "m".into(),
        uuid: None,
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 1024,
    };
    malloc::create(rig.reactor.memory(), options).unwrap()
}

fn lending_host(rig: &Rig) -> Host<'_> {
    let host = rig.connection(true);
    assert_eq!(host.connect(1, 15, 1).status(), OK);
    host
}

#[test]
fn a_memory_device_lends_what_is_read() {
    let rig = Rig::new();
    let bdev = memory_device(&rig);
    rig.add(1, &bdev, WRITE);
    let (host, plain) = (lending_host(&rig), rig.host());
    let data = pattern(4096, 7);
    assert_eq!(host.status(block(nvm::WRITE, 16, 8), &data), OK);
    let free = rig.reactor.memory().report().free_bytes;
    *host.wire.keep.borrow_mut() = Some(Vec::new());
    let answer = host.run(block(nvm::READ, 16, 8), &[]);
    assert_eq!((answer.status(), &answer.data, answer.lent), (OK, &data, true));
    assert_eq!(rig.reactor.memory().report().free_bytes, free, "no buffer was needed");
    let answer = plain.run(block(nvm::READ, 16, 8), &[]);
    assert_eq!((answer.data, answer.lent), (data, false));
    // The same checks as for every read, and the same statistics.
    let beyond = host.run(block(nvm::READ, 1024, 1), &[]);
    assert_eq!(beyond.status(), NvmeStatus::LBA_OUT_OF_RANGE);
    assert_eq!(bdev.stats().of(IoType::Read).bytes, 8192);
    // The device goes away; the memory stays while it is lent.
    let registry = crate::bdev::Registry::new();
    registry.register(&bdev).unwrap();
    rig.reactor.block_on(async move { registry.unregister("m").await }).unwrap();
    assert_eq!(host.status(block(nvm::READ, 0, 1), &[]), NvmeStatus::INVALID_NAMESPACE);
    let view = CoreView::of(&rig.reactor).find(SUBSYSTEM).unwrap();
    rig.reactor.block_on(view.remove_namespace(1));
    host.turns(2);
    drop(bdev);
    let kept = host.wire.keep.take().unwrap();
    assert!(matches!(kept[0], IoBuf::Lent(_)));
    assert_eq!(kept[0].len(), 4096);
    host.wire.respond_again(&kept[0], &pattern(4096, 7));
}

#[test]
fn an_interceptor_sees_a_buffer_of_its_own() {
    use crate::bdev::{BdevIo, Interceptor, InterceptorFactory};
    struct Flip;
    impl InterceptorFactory for Flip {
        fn make(&self) -> Box<dyn Interceptor> {
            Box::new(Flip)
        }
    }
    impl Interceptor for Flip {
        fn completion(&self, mut io: BdevIo, status: NvmeStatus) -> Option<(BdevIo, NvmeStatus)> {
            assert_eq!(io.iovs().len(), 1, "there is a buffer");
            io.fill(0xee);
            Some((io, status))
        }
    }
    let rig = Rig::new();
    let bdev = memory_device(&rig);
    rig.add(1, &bdev, WRITE);
    let host = lending_host(&rig);
    assert!(host.run(block(nvm::READ, 0, 1), &[]).lent);
    let device = Arc::clone(&bdev);
    let id = rig.reactor.block_on(async move { device.add_interceptor(Arc::new(Flip)).await });
    let answer = host.run(block(nvm::READ, 0, 1), &[]);
    assert_eq!((answer.data, answer.lent), (vec![0xee; 512], false));
    let device = Arc::clone(&bdev);
    rig.reactor.block_on(async move { device.remove_interceptor(id).await });
    assert!(host.run(block(nvm::READ, 0, 1), &[]).lent, "the medium itself was not changed");
    assert_eq!(host.run(block(nvm::READ, 0, 1), &[]).data, [0; 512]);
}
