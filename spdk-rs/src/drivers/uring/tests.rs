//! The steps of operations on space, seen from their results.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use nix::libc;
use spdk_rs_sys::cpu::CoreId;

use super::client::{Home, STAGE_OFFLOAD, STAGE_RING, STAGE_SYNC};
use crate::NvmeStatus;
use crate::bdev::{
    Bdev, BdevChannel, BdevDesc, BdevInfo, BdevIo, BdevOps, IoBuf, IoLimits, IoRequest, IoType,
    IoTypes, OpenMode,
};
use crate::drivers::common::{Buffered, FileDevice, FileOptions, Progress};
use crate::env::Memory;
use crate::reactor::{LocalReactor, Reactor, ReactorConfig};

thread_local! {
    static TAKEN: RefCell<Option<BdevIo>> = const { RefCell::new(None) };
}

/// A device that hands its I/O to the test.
struct Taker;

impl BdevOps for Taker {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[IoType::Read, IoType::Write, IoType::Unmap, IoType::WriteZeroes])
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(Taker))
    }
}

impl BdevChannel for Taker {
    fn submit(&mut self, mut io: BdevIo) {
        Progress::begin(&mut io, 512, 0);
        TAKEN.set(Some(io));
    }
}

fn home(path: &std::path::Path) -> Home {
    std::fs::write(path, [0; 4096]).unwrap();
    let options = FileOptions { direct: Some(false), ..FileOptions::new("d", path) };
    let device = Arc::new(FileDevice::open(&options, Buffered::Allowed).unwrap());
    let (queue, unmap_offloaded, zero_offloaded) =
        (RefCell::default(), Cell::new(false), Cell::new(false));
    Home { device, queue, unmap_offloaded, zero_offloaded }
}

/// Feeds results to an I/O: the steps that it takes, and the status that it ends with.
fn steps(kind: IoType, fua: bool, results: &[i32]) -> (Vec<u64>, NvmeStatus) {
    let dir = tempfile::tempdir().unwrap();
    let home = home(&dir.path().join("file"));
    let memory = Memory::ordinary(4 << 20).unwrap();
    let reactor = LocalReactor::new(ReactorConfig::new(CoreId(0)), memory).unwrap();
    let info = BdevInfo {
        name: "taker".into(),
        aliases: Vec::new(),
        uuid: uuid::Uuid::nil(),
        product_name: "test".into(),
        driver_name: "taker",
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 8,
        alignment: 1,
        write_cache: true,
        read_only: false,
        limits: IoLimits::default(),
    };
    let bdev = Bdev::new(info, Box::new(Taker));
    let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None).unwrap();
    let handle = desc.io_handle().unwrap();
    let done = handle.submit_async(IoRequest::new(kind, 0, 8, IoBuf::None).fua(fua));
    let mut io = TAKEN.take().unwrap();
    let mut stages = Vec::new();
    for (index, &result) in results.iter().enumerate() {
        stages.push(Progress::stage(&mut io));
        home.settle(io, result);
        match home.queue.borrow_mut().pop() {
            Some(next) => io = next,
            None => {
                assert_eq!(index + 1, results.len(), "it ended early");
                return (stages, reactor.block_on(done).status);
            }
        }
    }
    panic!("it did not end: {io:?}");
}

#[test]
fn zeroes_with_force_unit_access_are_synced_before_they_complete() {
    let zeroes = |fua, results: &[i32]| steps(IoType::WriteZeroes, fua, results);
    let (eio, eintr) = (-libc::EIO, -libc::EINTR);
    assert_eq!(zeroes(false, &[0]), (vec![STAGE_RING], NvmeStatus::SUCCESS));
    let both = vec![STAGE_RING, STAGE_SYNC];
    assert_eq!(zeroes(true, &[0, 0]), (both.clone(), NvmeStatus::SUCCESS));
    assert_eq!(zeroes(true, &[0, eio]), (both, NvmeStatus::WRITE_FAULT));
    let again = vec![STAGE_RING, STAGE_RING, STAGE_SYNC];
    assert_eq!(zeroes(true, &[eintr, 0, 0]), (again, NvmeStatus::SUCCESS));
}

#[test]
fn what_the_ring_lacks_goes_to_a_helper_thread_once() {
    for kind in [IoType::Unmap, IoType::WriteZeroes] {
        for lacking in [libc::EOPNOTSUPP, libc::EINVAL] {
            // The helper thread makes it durable itself.
            let (stages, status) = steps(kind, true, &[-lacking, 0]);
            assert_eq!((stages, status), (vec![STAGE_RING, STAGE_OFFLOAD], NvmeStatus::SUCCESS));
            let (_, status) = steps(kind, false, &[-lacking, -libc::EOPNOTSUPP]);
            assert_eq!(status, NvmeStatus::INVALID_OPCODE);
        }
    }
}
