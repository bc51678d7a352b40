//! Reads that are lent memory: on every way an I/O can take.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use spdk_rs_sys::cpu::CoreId;

use super::super::*;
use crate::NvmeStatus;
use crate::drivers::{malloc, null};
use crate::env::Memory;
use crate::reactor::{LocalReactor, PollMode, ReactorConfig};

fn reactor() -> LocalReactor {
    let config = ReactorConfig { mode: PollMode::Busy, ..ReactorConfig::new(CoreId(0)) };
    LocalReactor::new(config, Memory::ordinary(8 << 20).unwrap()).unwrap()
}

fn malloc(reactor: &LocalReactor) -> (Arc<Bdev>, IoHandle) {
    let options = malloc::MallocOptions {
        name: "m0".into(),
        uuid: None,
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 64,
    };
    let bdev = malloc::create(reactor.memory(), options).unwrap();
    let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None).unwrap();
    let handle = desc.io_handle().unwrap();
    (bdev, handle)
}

fn lending(kind: IoType, offset: u64, blocks: u64, buf: IoBuf) -> IoRequest {
    let mut request = IoRequest::new(kind, offset, blocks, buf);
    request.flags |= IoFlags::LEND;
    request
}

#[derive(Default)]
struct Ends(RefCell<Vec<(NvmeStatus, IoBuf)>>);

impl IoConsumer for Ends {
    fn io_done(&self, _: u64, status: NvmeStatus, buf: IoBuf, _: u64) {
        self.0.borrow_mut().push((status, buf));
    }
}

impl Ends {
    /// Submits one I/O.
    fn submit(self: &Rc<Self>, handle: &IoHandle, request: IoRequest) -> Result<(), NvmeStatus> {
        let consumer: Rc<dyn IoConsumer> = Rc::<Self>::clone(self);
        handle.submit(request, &consumer, 0).map_err(|refused| refused.status)
    }

    fn one(&self) -> (NvmeStatus, IoBuf) {
        let mut ends = self.0.take();
        assert_eq!(ends.len(), 1);
        ends.remove(0)
    }
}

#[test]
fn a_loan_is_the_devices_memory_and_comes_back() {
    let reactor = reactor();
    let (bdev, handle) = malloc(&reactor);
    let ends = Rc::new(Ends::default());
    assert!(handle.lends(64));
    let read = |at| lending(IoType::Read, at, 8, IoBuf::None);
    ends.submit(&handle, read(0)).unwrap();
    ends.submit(&handle, read(8)).unwrap();
    reactor.turn();
    let loans = ends.0.take();
    let bases: Vec<_> = loans.iter().map(|(_, buf)| buf.io_vecs()[0].base().addr()).collect();
    assert_eq!(bases[1] - bases[0], 4096, "neighbours on the medium are neighbours in memory");
    assert!(loans.iter().all(|(status, buf)| status.is_success() && buf.len() == 4096));
    drop(loans);
    assert_eq!(bdev.stats().of(IoType::Read).bytes, 8192);
    // The form with a future, and a batch.
    let future = handle.submit_async(read(0));
    let done = reactor.block_on(future);
    assert!(matches!(done.ok().unwrap(), IoBuf::Lent(lent) if lent.len() == 4096));
    let consumer: Rc<dyn IoConsumer> = Rc::<Ends>::clone(&ends);
    handle.submit_batch(&mut vec![(read(0), 1)], &consumer).unwrap();
    reactor.turn();
    assert!(matches!(ends.one(), (NvmeStatus::SUCCESS, IoBuf::Lent(_))));
}

#[test]
fn what_cannot_be_lent_is_refused() {
    let reactor = reactor();
    let (_bdev, handle) = malloc(&reactor);
    let ends = Rc::new(Ends::default());
    let status = |request| ends.submit(&handle, request).unwrap_err();
    let read = |at, blocks| lending(IoType::Read, at, blocks, IoBuf::None);
    assert_eq!(status(read(60, 5)), NvmeStatus::LBA_OUT_OF_RANGE);
    assert_eq!(status(read(0, 0)), NvmeStatus::DATA_SGL_LENGTH_INVALID);
    assert_eq!(status(lending(IoType::Write, 0, 1, IoBuf::None)), NvmeStatus::INVALID_FIELD);
    let plain = IoRequest::new(IoType::Read, 0, 1, IoBuf::None);
    assert_eq!(status(plain), NvmeStatus::DATA_SGL_LENGTH_INVALID);
    let options = null::NullOptions {
        name: "n0".into(),
        uuid: None,
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 16,
    };
    let null = null::create(options);
    let desc = BdevDesc::open(&null, OpenMode::Read, "test", None).unwrap();
    let handle = desc.io_handle().unwrap();
    assert!(!handle.lends(1));
    assert_eq!(ends.submit(&handle, read(0, 1)).unwrap_err(), NvmeStatus::INVALID_FIELD);
}

#[test]
fn a_buffer_that_was_brought_is_used() {
    let reactor = reactor();
    let (_bdev, handle) = malloc(&reactor);
    let ends = Rc::new(Ends::default());
    let free = reactor.memory().report().free_bytes;
    let mut buf = reactor.memory().alloc(512).unwrap();
    buf.fill(9);
    ends.submit(&handle, lending(IoType::Read, 0, 1, buf.into())).unwrap();
    reactor.turn();
    let (status, buf) = ends.one();
    assert!(status.is_success());
    assert_eq!(buf.into_one().unwrap().as_slice(), [0; 512]);
    // The flag of a flush means nothing.
    ends.submit(&handle, lending(IoType::Flush, 0, 64, IoBuf::None)).unwrap();
    reactor.turn();
    assert!(matches!(ends.one(), (NvmeStatus::SUCCESS, IoBuf::None)));
    assert_eq!(reactor.memory().report().free_bytes, free - 4096, "the cache has the buffer");
    let two = (0..2).map(|_| reactor.memory().alloc(512).unwrap()).collect();
    let list = IoBuf::List(SgList::new(two));
    ends.submit(&handle, lending(IoType::Read, 0, 2, list)).unwrap();
    reactor.turn();
    assert!(matches!(ends.one(), (NvmeStatus::SUCCESS, IoBuf::List(_))));
}

/// Changes what was read.
struct Stamp;

impl InterceptorFactory for Stamp {
    fn make(&self) -> Box<dyn Interceptor> {
        Box::new(Stamp)
    }
}

impl Interceptor for Stamp {
    fn completion(&self, mut io: BdevIo, status: NvmeStatus) -> Option<(BdevIo, NvmeStatus)> {
        io.fill(0xee);
        Some((io, status))
    }
}

#[test]
fn an_interceptor_that_comes_while_a_read_is_held_back_gets_a_buffer() {
    let reactor = reactor();
    let (bdev, handle) = malloc(&reactor);
    let ends = Rc::new(Ends::default());
    let channel = BdevCore::of(&reactor).find(&bdev).unwrap();
    channel.hold();
    ends.submit(&handle, lending(IoType::Read, 0, 1, IoBuf::None)).unwrap();
    reactor.turn();
    assert!(ends.0.borrow().is_empty(), "all I/O is held back");
    let device = Arc::clone(&bdev);
    let id = reactor.block_on(async move { device.add_interceptor(Arc::new(Stamp)).await });
    assert!(!handle.lends(1));
    channel.release();
    reactor.turn();
    let (status, buf) = ends.one();
    assert!(status.is_success());
    assert_eq!(buf.into_one().unwrap().as_slice(), [0xee; 512]);
    let device = Arc::clone(&bdev);
    reactor.block_on(async move { device.remove_interceptor(id).await });
    // Held back without an interceptor, it is lent all the same.
    channel.hold();
    ends.submit(&handle, lending(IoType::Read, 0, 1, IoBuf::None)).unwrap();
    channel.release();
    reactor.turn();
    assert!(matches!(ends.one(), (NvmeStatus::SUCCESS, IoBuf::Lent(_))));
    // Without memory for the buffer the read ends in a status that passes.
    channel.hold();
    ends.submit(&handle, lending(IoType::Read, 0, 1, IoBuf::None)).unwrap();
    let device = Arc::clone(&bdev);
    reactor.block_on(async move { device.add_interceptor(Arc::new(Stamp)).await });
    let mut all = Vec::new();
    while let Ok(buf) = reactor.memory().alloc(4096) {
        all.push(buf);
    }
    channel.release();
    reactor.turn();
    assert!(matches!(ends.one(), (NvmeStatus::NOT_READY, IoBuf::None)));
}
