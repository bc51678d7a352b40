//! Reads whose instructions are counted: `test/bench/callgrind-pcie` runs this under callgrind, which
//! counts inside of the functions that the script names and of those that they call, and so neither
//! the model nor the test.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;

use super::pcie::Drive;
use super::*;
use crate::bdev::{IoConsumer, IoRequest, IoType};
use crate::nvme::pcie::model::Shape;

/// Reads at a time.
const DEPTH: usize = 32;
/// How often all of them are read, unless `IO_ENGINE_COUNT_ROUNDS` says otherwise.
const ROUNDS: usize = 20;

#[derive(Default)]
struct Reader {
    ended: Cell<usize>,
    bufs: RefCell<Vec<DmaBuf>>,
}

impl IoConsumer for Reader {
    fn io_done(&self, _: u64, status: NvmeStatus, buf: IoBuf, _: u64) {
        assert_eq!(status, NvmeStatus::SUCCESS);
        self.ended.set(self.ended.get() + 1);
        self.bufs.borrow_mut().extend(buf.into_one());
    }
}

/// What callgrind counts as the submission, with all that is below.
#[inline(never)]
fn submit_reads(handle: &IoHandle, bufs: &mut Vec<DmaBuf>, consumer: &Rc<dyn IoConsumer>) {
    let mut at = 0;
    while let Some(buf) = bufs.pop() {
        let request = IoRequest::new(IoType::Read, at, 8, IoBuf::One(buf));
        assert!(handle.submit(request, consumer, at).is_ok());
        at += 8;
    }
}

#[test]
fn reads_of_a_page_at_depth_32() {
    let rounds = std::env::var("IO_ENGINE_COUNT_ROUNDS").ok();
    let rounds = rounds.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    assert_eq!(host.write(&handle, 0, 8 * DEPTH, 7), NvmeStatus::SUCCESS);
    let reader: Rc<Reader> = Rc::default();
    let consumer: Rc<dyn IoConsumer> = Rc::<Reader>::clone(&reader);
    let mut bufs: Vec<_> = (0..DEPTH).map(|_| host.buf(8, 0)).collect();
    reader.bufs.borrow_mut().reserve(DEPTH);
    for round in 1..=rounds {
        submit_reads(&handle, &mut bufs, &consumer);
        let (reader, all) = (Rc::clone(&reader), round * DEPTH);
        let done = Rc::clone(&reader);
        host.reactor.block_on(std::future::poll_fn(move |cx| {
            if done.ended.get() == all {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        std::mem::swap(&mut bufs, &mut *reader.bufs.borrow_mut());
    }
    assert!(bufs.iter().all(|buf| buf.as_slice().iter().all(|&byte| byte == 7)));
    drop((bufs, consumer, reader, handle));
    drive.finish();
}
