//! The disk behind the block device layer.

use std::rc::Rc;

use spdk_rs::bdev::{BdevDesc, IoHandle, OpenMode};
use spdk_rs::env::{DmaBuf, Memory, VirtualClock};
use spdk_rs::reactor::{LocalReactor, ReactorConfig};
use spdk_rs_sys::cpu::CoreId;

use super::*;
use crate::device::recording::{Cut, CutMode};

fn reactor() -> LocalReactor {
    let config = ReactorConfig {
        clock: Clock::Virtual(VirtualClock::default()),
        ring: false,
        ..ReactorConfig::new(CoreId(0))
    };
    LocalReactor::new(config, Memory::ordinary(8 << 20).unwrap()).unwrap()
}

fn open(options: &DeviceOptions) -> (IoHandle, Control) {
    let (bdev, control) = create(Image::new(1 << 20), options);
    let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None).unwrap();
    (desc.io_handle().unwrap(), control)
}

fn buf(reactor: &Rc<Reactor>, value: u8) -> DmaBuf {
    let mut buf = reactor.memory().alloc(4096).unwrap();
    buf.fill(value);
    buf
}

/// Writes, reads back, flushes; the status of each.
fn exercise(reactor: &Rc<Reactor>, handle: &IoHandle, control: &Control) -> [NvmeStatus; 3] {
    control.arm(true);
    let (handle, data, place) = (handle.clone(), buf(reactor, 7), buf(reactor, 0));
    reactor.block_on(async move {
        let written = handle.write(data, 8, 8).await.status;
        let read = handle.read(place, 8, 8).await;
        let flushed = handle.flush().await.status;
        [written, read.status, flushed]
    })
}

#[test]
fn what_is_written_is_read_with_and_without_delays() {
    for delay_max_ns in [0, 2000] {
        let reactor = reactor();
        let (handle, control) = open(&DeviceOptions { delay_max_ns, ..DeviceOptions::default() });
        let (write, place) = (buf(&reactor, 7), buf(&reactor, 0));
        let own = control.clone();
        reactor.block_on(async move {
            handle.write(write, 8, 8).await.ok().unwrap();
            let found = handle.read(place, 8, 8).await.ok().unwrap().into_one().unwrap();
            assert!(found.as_slice().iter().all(|&byte| byte == 7));
            assert_eq!(own.events(), 2);
            handle.flush().await.ok().unwrap();
            handle.write_zeroes(8, 4).await.ok().unwrap();
            let found = handle.read(found, 8, 8).await.ok().unwrap().into_one().unwrap();
            assert!(found.as_slice()[..2048].iter().all(|&byte| byte == 0));
            handle.unmap(12, 4).await.ok().unwrap();
        });
        assert_eq!(control.events(), 8);
        let recording = control.take_recording();
        let end = recording.cut(Cut { at_event: 8, mode: CutMode::All, seed: 0 });
        assert_eq!(end.digest(), control.contents().digest());
    }
}

#[test]
fn completions_come_out_of_order() {
    let reactor = reactor();
    let (handle, control) = open(&DeviceOptions { seed: 3, ..DeviceOptions::default() });
    let writes: Vec<_> = (0..16).map(|at| handle.write(buf(&reactor, 1), at * 8, 8)).collect();
    reactor.block_on(async move {
        for write in writes {
            write.await.ok().unwrap();
        }
    });
    let recording = control.take_recording();
    let ends: Vec<u64> = recording
        .events
        .iter()
        .filter_map(|event| match event {
            Event::WriteCompleted { id, .. } => Some(*id),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 16);
    assert!(!ends.is_sorted(), "{ends:?}");
}

#[test]
fn each_fault_does_what_it_is_called_and_no_more_often_than_its_budget() {
    for kind in FaultKind::ALL {
        let reactor = reactor();
        let faults = FaultPlan::default().with(kind, 1000, 1);
        let (handle, control) = open(&DeviceOptions { faults, ..DeviceOptions::default() });
        let first = exercise(&reactor, &handle, &control);
        assert_eq!(control.injected(kind), 1, "{kind:?}");
        let failed = first.map(|status| !status.is_success());
        let expected = match kind {
            FaultKind::WriteError => [true, false, false],
            FaultKind::ReadError => [false, true, false],
            FaultKind::FlushError => [false, false, true],
            FaultKind::Removal => [true, true, true],
            _ => [false; 3],
        };
        assert_eq!(failed, expected, "{kind:?}");
        if kind != FaultKind::Removal {
            let second = exercise(&reactor, &handle, &control);
            assert!(second.iter().all(|status| status.is_success()), "{kind:?}");
        }
    }
}

#[test]
fn lies_are_in_the_recording() {
    let changed = |kind| {
        let reactor = reactor();
        let faults = FaultPlan::default().with(kind, 1000, 1);
        let (handle, control) = open(&DeviceOptions { faults, ..DeviceOptions::default() });
        let _ = exercise(&reactor, &handle, &control);
        let recording = control.take_recording();
        let at_event = recording.events.len();
        let cut = recording.cut(Cut { at_event, mode: CutMode::Nothing, seed: 0 });
        let mut expected = Image::new(1 << 20);
        expected.write(4096, &[7; 4096]);
        cut.digest() != expected.digest()
    };
    assert!(changed(FaultKind::LostWrite));
    assert!(changed(FaultKind::MisdirectedWrite));
    assert!(changed(FaultKind::BitRot));
    assert!(!changed(FaultKind::StaleRead));
}
