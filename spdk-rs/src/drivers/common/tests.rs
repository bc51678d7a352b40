//! Judging results, and zeroing by hand.

use std::cell::RefCell;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use nix::libc;
use spdk_rs_sys::cpu::CoreId;

use super::space;
use super::*;
use crate::NvmeStatus;
use crate::bdev::{
    Bdev, BdevChannel, BdevDesc, BdevInfo, BdevIo, BdevOps, IoBuf, IoLimits, IoRequest, IoType,
    IoTypes, OpenMode, SgList,
};
use crate::env::Memory;
use crate::reactor::{LocalReactor, Reactor, ReactorConfig};

thread_local! {
    /// Results that the device gives, and what it was asked for: offset, flags, bytes by piece.
    static RESULTS: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
    static ASKED: RefCell<Vec<(u64, i32, Vec<usize>)>> = const { RefCell::new(Vec::new()) };
}

/// A device that answers by a script.
struct Scripted;

impl BdevOps for Scripted {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[IoType::Read, IoType::Write, IoType::Flush])
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(Scripted))
    }
}

impl BdevChannel for Scripted {
    fn submit(&mut self, mut io: BdevIo) {
        Progress::begin(&mut io, 512, 0);
        for result in RESULTS.take() {
            let transfer = Transfer::rest_of(&mut io, 512);
            let lens = match transfer.pieces {
                Pieces::One(iov) => vec![iov.len()],
                Pieces::Many { count, .. } => {
                    io.iovs()[io.iovs().len() - count..].iter().map(|iov| iov.len()).collect()
                }
            };
            ASKED.with_borrow_mut(|asked| asked.push((transfer.offset, transfer.rw_flags, lens)));
            if let Outcome::Done(status) = Progress::settle(&mut io, result, 512) {
                return io.complete(status);
            }
        }
        // The script ended and the I/O has not.
        io.complete(NvmeStatus::NOT_READY);
    }
}

/// What an I/O of 8 blocks at block 4 ends in, and what the device was asked for meanwhile.
fn run(kind: IoType, fua: bool, script: &[i64]) -> (NvmeStatus, Vec<(u64, i32, Vec<usize>)>) {
    let memory = Memory::ordinary(4 << 20).unwrap();
    let reactor = LocalReactor::new(ReactorConfig::new(CoreId(0)), memory).unwrap();
    let info = BdevInfo {
        name: "scripted".into(),
        aliases: Vec::new(),
        uuid: uuid::Uuid::nil(),
        product_name: "test".into(),
        driver_name: "scripted",
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 64,
        alignment: 512,
        write_cache: true,
        read_only: false,
        limits: IoLimits::default(),
    };
    RESULTS.set(script.to_vec());
    ASKED.take();
    let bdev = Bdev::new(info, Box::new(Scripted));
    let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None).unwrap();
    let handle = desc.io_handle().unwrap();
    let lens = [1024, 512, 2560];
    let bufs = lens.iter().map(|&len| reactor.memory().alloc(len).unwrap()).collect();
    let buf = if kind == IoType::Flush { IoBuf::None } else { SgList::new(bufs).into() };
    let request = IoRequest::new(kind, 4, 8, buf).fua(fua);
    let status = reactor.block_on(handle.submit_async(request)).status;
    (status, ASKED.take())
}

#[test]
fn a_short_transfer_is_continued_where_it_stopped() {
    let (eintr, eagain) = (-i64::from(libc::EINTR), -i64::from(libc::EAGAIN));
    let (status, asked) = run(IoType::Write, true, &[eintr, 1024, eagain, 512, 700, 2560 - 512]);
    assert!(status.is_success());
    let sync = libc::RWF_DSYNC;
    assert_eq!(
        asked,
        [
            (2048, sync, vec![1024, 512, 2560]),
            (2048, sync, vec![1024, 512, 2560]),
            (3072, sync, vec![512, 2560]),
            (3072, sync, vec![512, 2560]),
            (3584, sync, vec![2560]),
            // Of 700 bytes one whole unit counts.
            (4096, sync, vec![2048]),
        ]
    );
}

#[test]
fn only_writes_with_force_unit_access_are_synchronous() {
    for (kind, fua, flags) in
        [(IoType::Write, true, libc::RWF_DSYNC), (IoType::Write, false, 0), (IoType::Read, true, 0)]
    {
        let (status, asked) = run(kind, fua, &[4096]);
        assert!(status.is_success());
        assert_eq!(asked[0].1, flags);
    }
}

#[test]
fn no_headway_is_a_failure() {
    let errno = |errno: i32| -i64::from(errno);
    for (kind, script, status) in [
        (IoType::Read, vec![0], NvmeStatus::UNRECOVERED_READ_ERROR),
        (IoType::Write, vec![0], NvmeStatus::WRITE_FAULT),
        (IoType::Read, vec![2048, 0], NvmeStatus::UNRECOVERED_READ_ERROR),
        (IoType::Read, vec![2048, 100], NvmeStatus::UNRECOVERED_READ_ERROR),
        (IoType::Write, vec![2048, errno(libc::ENOSPC)], NvmeStatus::CAPACITY_EXCEEDED),
        (IoType::Write, vec![errno(libc::EIO)], NvmeStatus::WRITE_FAULT),
        (IoType::Read, vec![errno(libc::EIO)], NvmeStatus::UNRECOVERED_READ_ERROR),
        (IoType::Flush, vec![errno(libc::EIO)], NvmeStatus::WRITE_FAULT),
        (IoType::Flush, vec![0], NvmeStatus::SUCCESS),
        (IoType::Read, vec![errno(libc::EAGAIN); 2000], NvmeStatus::NOT_READY),
    ] {
        let (ended, asked) = run(kind, false, &script);
        assert_eq!(ended, status, "{kind} {:?}", &script[..1]);
        assert!(asked.len() < 1100, "bounded");
    }
}

#[test]
fn zeroes_can_be_written_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, vec![1; 1 << 20]).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    space::write_zeroes(&file, 512, 600 << 10).unwrap();
    let data = std::fs::read(&path).unwrap();
    let zero = 512..512 + (600 << 10);
    assert!(data.iter().enumerate().all(|(at, &byte)| (byte == 0) == zero.contains(&at)));
    // Like a write it makes the file longer.
    space::write_zeroes(&file, 1 << 20, 1024).unwrap();
    assert_eq!(file.metadata().unwrap().len(), (1 << 20) + 1024);
    space::punch_and_extend(&file, 0, (1 << 20) + 4096).unwrap();
    let mut data = vec![1; (1 << 20) + 4096];
    file.read_exact_at(&mut data, 0).unwrap();
    assert!(data.iter().all(|&byte| byte == 0));
}
