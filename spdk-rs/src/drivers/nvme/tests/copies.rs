//! Data that a controller on this machine cannot have where they are.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;

use futures::future::join_all;

use super::pcie::Drive;
use super::*;
use crate::allocations;
use crate::bdev::{IoConsumer, IoRequest, IoType};
use crate::nvme::pcie::model::{BLOCK, Shape};

/// Memory that no controller was told of.
fn foreign() -> Memory {
    Memory::ordinary(16 << 20).unwrap()
}

fn filled(memory: &Memory, blocks: usize, value: u8) -> DmaBuf {
    let mut buf = memory.alloc(blocks * BLOCK).unwrap();
    buf.fill(value);
    buf
}

/// Takes buffers back.
#[derive(Default)]
struct Pump {
    ended: Cell<usize>,
    bufs: RefCell<Vec<IoBuf>>,
}

impl IoConsumer for Pump {
    fn io_done(&self, _: u64, status: NvmeStatus, buf: IoBuf, _: u64) {
        assert_eq!(status, NvmeStatus::SUCCESS);
        self.ended.set(self.ended.get() + 1);
        self.bufs.borrow_mut().push(buf);
    }
}

/// Sends I/Os with these buffers, all at once and again when all have ended; how often something
/// was allocated after the first two rounds.
fn allocated(
    drive: &Drive,
    handle: &Rc<IoHandle>,
    (kind, blocks): (IoType, u64),
    mut bufs: Vec<IoBuf>,
) -> u64 {
    let (pump, handle) = (Rc::<Pump>::default(), Rc::clone(handle));
    let (count, mut round, mut before) = (bufs.len(), 0, 0);
    pump.bufs.borrow_mut().reserve(count);
    let consumer: Rc<dyn IoConsumer> = Rc::<Pump>::clone(&pump);
    drive.host.reactor.block_on(std::future::poll_fn(move |cx| {
        cx.waker().wake_by_ref();
        if pump.ended.get() < round * count {
            return Poll::Pending;
        }
        match round {
            0 => {}
            6 => return Poll::Ready(allocations::count() - before),
            _ => std::mem::swap(&mut bufs, &mut *pump.bufs.borrow_mut()),
        }
        if round == 2 {
            before = allocations::count();
        }
        round += 1;
        let mut at = 0;
        while let Some(buf) = bufs.pop() {
            let request = IoRequest::new(kind, at, blocks, buf);
            assert!(handle.submit(request, &consumer, at).is_ok());
            at += blocks;
        }
        Poll::Pending
    }))
}

#[test]
fn copies_allocate_nothing() {
    let drive = Drive::new(Shape::default());
    let (host, handle, other) = (&drive.host, Rc::new(drive.attach(options())), foreign());
    for kind in [IoType::Write, IoType::Read] {
        let whole = (0..8).map(|i| IoBuf::One(filled(&other, 32, i))).collect();
        assert_eq!(allocated(&drive, &handle, (kind, 32), whole), 0, "{kind:?} of foreign memory");
        // Without SGLs these pieces cannot be described.
        let pieces = |i| (0..10).map(|_| filled(&host.memory, 3, i)).collect();
        let odd = (0..8).map(|i| SgList::new(pieces(i)).into()).collect();
        assert_eq!(allocated(&drive, &handle, (kind, 30), odd), 0, "{kind:?} of odd pieces");
    }
    drop(handle);
    drive.finish();
}

#[test]
fn copies_wait_for_their_turn() {
    // 128 KiB each, the most that a command transfers: four at a time have room.
    let drive = Drive::new(Shape::default());
    let (host, handle, other) = (&drive.host, drive.attach(options()), foreign());
    let large = |value: u8| filled(&other, 256, value);
    let writes: Vec<_> = (0..7).map(|i| handle.write(large(i), u64::from(i) * 256, 256)).collect();
    // A pair of commands that belong together, behind those that wait.
    let swap = handle.compare_and_write(filled(&other, 1, 0), filled(&other, 1, 99), 1999, 1);
    let done = host.reactor.block_on(join_all(writes));
    assert!(done.iter().all(|done| done.status.is_success()), "{done:?}");
    assert_eq!(host.reactor.block_on(swap).status, NvmeStatus::SUCCESS);
    let reads: Vec<_> = (0..7).map(|i| handle.read(large(0xee), i * 256, 256)).collect();
    let done = host.reactor.block_on(join_all(reads));
    for (value, done) in (0..).zip(done) {
        assert_eq!(done.status, NvmeStatus::SUCCESS);
        assert!(done.buf.into_one().unwrap().as_slice().iter().all(|&byte| byte == value));
    }
    host.expect(&handle, 1999, 1, 99);
    drop(handle);
    drive.finish();
}
