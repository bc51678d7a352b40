//! What an error device does when it is told to.

use spdk_rs_sys::cpu::CoreId;

use super::*;
use crate::bdev::{BdevDesc, IoBuf, IoCompletion, IoFuture, IoHandle, OpenMode};
use crate::drivers::malloc;
use crate::env::Memory;
use crate::reactor::{LocalReactor, PollMode, ReactorConfig};

struct Rig {
    bdev: Arc<Bdev>,
    handle: IoHandle,
    base: IoHandle,
    reactor: LocalReactor,
}

impl Rig {
    fn new() -> Self {
        let memory = Memory::ordinary(16 << 20).unwrap();
        // A turn with nothing to do must not sleep: there is nobody to wake it.
        let config = ReactorConfig { mode: PollMode::Busy, ..ReactorConfig::new(CoreId(0)) };
        let reactor = LocalReactor::new(config, memory.clone()).unwrap();
        let options = malloc::MallocOptions {
            name: "m".into(),
            uuid: None,
            block_len: 512,
            phys_block_len: 512,
            num_blocks: 128,
        };
        let base = malloc::create(&memory, options).unwrap();
        let registry = Registry::new();
        registry.register(&base).unwrap();
        let handle = reactor.handle();
        let bdev = reactor
            .block_on(async move { create(&registry, &handle, "m", None, None).await })
            .unwrap();
        let open = |bdev, mode| BdevDesc::open(bdev, mode, "test", None).unwrap();
        let base = open(&base, OpenMode::Read).io_handle().unwrap();
        let handle = open(&bdev, OpenMode::ReadWrite).io_handle().unwrap();
        Self { bdev, handle, base, reactor }
    }

    fn inject(&self, kinds: &[IoType], kind: ErrorKind, num: u64, queue_depth: u64) {
        assert!(inject(&self.bdev, kinds, &ErrorOptions { kind, num, queue_depth }));
    }

    fn buf(&self, byte: u8) -> IoBuf {
        let mut buf = self.reactor.memory().alloc(1024).unwrap();
        buf.fill(byte);
        buf.into()
    }

    fn end(&self, io: IoFuture) -> IoCompletion {
        self.reactor.block_on(io)
    }

    fn write(&self) -> NvmeStatus {
        self.end(self.handle.write(self.buf(1), 0, 2)).status
    }

    fn read(&self) -> NvmeStatus {
        self.end(self.handle.read(self.buf(0), 0, 2)).status
    }

    fn pending(&self) -> u64 {
        let facts = self.bdev.ops().driver_info();
        facts["pending"].as_u64().unwrap()
    }
}

const FAILED: NvmeStatus = NvmeStatus::INTERNAL_ERROR;
const OK: NvmeStatus = NvmeStatus::SUCCESS;

#[test]
fn so_many_of_a_type_fail() {
    let rig = Rig::new();
    assert_eq!(rig.bdev.name(), "EE_m");
    rig.inject(&[IoType::Write], ErrorKind::Fail(FAILED), 2, 0);
    assert_eq!([rig.read(), rig.write(), rig.write(), rig.write()], [OK, FAILED, FAILED, OK]);
    let status = NvmeStatus::new(2, 0x81);
    rig.inject(&IO_TYPES, ErrorKind::Fail(status), 1, 0);
    assert_eq!([rig.read(), rig.write(), rig.read()], [status, status, OK]);
    assert_eq!(rig.end(rig.handle.flush()).status, status);
    assert_eq!(rig.end(rig.handle.unmap(0, 1)).status, status);
    rig.inject(&[IoType::Read], ErrorKind::Fail(status), 100, 0);
    assert!(clear(&rig.bdev));
    assert_eq!(rig.read(), OK);
    assert!(!clear(rig.base.bdev()));
}

#[test]
fn what_is_pending_waits_to_be_resumed_or_reset() {
    let rig = Rig::new();
    rig.inject(&[IoType::Write], ErrorKind::Pending, 10, 0);
    let (one, other) = (rig.handle.write(rig.buf(3), 0, 2), rig.handle.write(rig.buf(4), 2, 2));
    (0..10).for_each(|_| rig.reactor.turn());
    assert_eq!(rig.pending(), 2);
    let bdev = Arc::clone(&rig.bdev);
    assert_eq!(rig.reactor.block_on(async move { resume_pending(&bdev).await }), Some(()));
    assert_eq!([rig.end(one).status, rig.end(other).status], [OK, OK]);
    assert_eq!((rig.pending(), rig.write()), (0, OK));
    rig.inject(&[IoType::Read], ErrorKind::Pending, 1, 0);
    let read = rig.handle.read(rig.buf(0), 0, 2);
    assert_eq!(rig.end(rig.handle.reset()).status, OK);
    assert_eq!(rig.end(read).status, NvmeStatus::ABORTED_SQ_DELETION);
    assert_eq!(rig.pending(), 0);
}

#[test]
fn one_byte_is_changed_on_its_way() {
    let rig = Rig::new();
    let corrupt = ErrorKind::Corrupt { offset_bytes: 700, value: 0x81 };
    rig.inject(&[IoType::Write], corrupt, 1, 0);
    let written = rig.end(rig.handle.write(rig.buf(0x11), 0, 2));
    let kept = written.ok().unwrap().into_one().unwrap();
    assert!(kept.as_slice().iter().all(|&byte| byte == 0x11), "the consumer's buffer is whole");
    let differing = |handle: &IoHandle| {
        let found = rig.end(handle.read(rig.buf(0), 0, 2)).ok().unwrap().into_one().unwrap();
        let bytes = found.as_slice().iter().enumerate();
        bytes.filter(|(_, byte)| **byte != 0x11).map(|(at, &byte)| (at, byte)).collect::<Vec<_>>()
    };
    assert_eq!(differing(&rig.base), [(700, 0x90)]);
    assert_eq!(rig.end(rig.handle.write(rig.buf(0x11), 0, 2)).status, OK);
    rig.inject(&[IoType::Read], corrupt, 1, 0);
    assert_eq!(differing(&rig.handle), [(700, 0x90)]);
    assert_eq!(differing(&rig.handle), []);
    assert_eq!(differing(&rig.base), []);
}

#[test]
fn it_begins_at_a_depth() {
    let rig = Rig::new();
    rig.inject(&[IoType::Read], ErrorKind::Fail(FAILED), 10, 2);
    assert_eq!(rig.read(), OK);
    let reads: Vec<_> = (0..4).map(|_| rig.handle.read(rig.buf(0), 0, 2)).collect();
    let statuses: Vec<_> = reads.into_iter().map(|read| rig.end(read).status).collect();
    assert_eq!(statuses, [OK, OK, FAILED, FAILED]);
}
