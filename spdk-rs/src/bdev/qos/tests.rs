//! Limits on a virtual clock, where a second of load is over in a moment and every figure is exact.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::QosLimits;
use crate::NvmeStatus;
use crate::bdev::{
    Bdev, BdevCore, BdevDesc, IoBuf, IoConsumer, IoHandle, IoRequest, IoType, OpenMode, Registry,
};
use crate::drivers::null;
use crate::env::{Clock, Memory, VirtualClock};
use crate::reactor::{LocalReactor, Reactor, ReactorConfig, sleep};
use spdk_rs_sys::cpu::CoreId;

const MIB: u64 = 1 << 20;

fn reactor() -> LocalReactor {
    let config = ReactorConfig {
        clock: Clock::Virtual(VirtualClock::default()),
        ring: false,
        ..ReactorConfig::new(CoreId(0))
    };
    LocalReactor::new(config, Memory::ordinary(64 << 20).unwrap()).unwrap()
}

fn device() -> Arc<Bdev> {
    null::create(null::NullOptions {
        name: "n0".into(),
        uuid: None,
        block_len: 4096,
        phys_block_len: 4096,
        num_blocks: 1024,
    })
}

fn open(bdev: &Arc<Bdev>) -> IoHandle {
    BdevDesc::open(bdev, OpenMode::ReadWrite, "test", None).unwrap().io_handle().unwrap()
}

fn limits(rw_ios_per_sec: u64) -> QosLimits {
    QosLimits { rw_ios_per_sec, ..QosLimits::default() }
}

/// I/Os of one kind that ended, of workers that go on until they are told to stop.
struct Load {
    ended: Rc<Cell<u64>>,
    stop: Rc<Cell<bool>>,
}

impl Load {
    fn start(reactor: &Reactor, bdev: &Arc<Bdev>, kind: IoType, workers: u32, blocks: u64) -> Self {
        let load = Self { ended: Rc::default(), stop: Rc::default() };
        for _ in 0..workers {
            let (handle, memory) = (open(bdev), reactor.memory().clone());
            let (ended, stop) = (Rc::clone(&load.ended), Rc::clone(&load.stop));
            reactor.spawn("load", async move {
                let len = usize::try_from(blocks * 4096).unwrap();
                let mut buf: IoBuf = memory.alloc(len).unwrap().into();
                while !stop.get() {
                    let done = handle.submit_async(IoRequest::new(kind, 0, blocks, buf)).await;
                    assert!(done.status.is_success());
                    ended.set(ended.get() + 1);
                    buf = done.buf;
                }
            });
        }
        load
    }

    fn count(&self) -> u64 {
        self.ended.get()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.set(true);
    }
}

/// Lets virtual time pass.
fn pass(reactor: &LocalReactor, time: Duration) {
    reactor.block_on(async move { sleep(time).await });
}

fn set(reactor: &LocalReactor, bdev: &Arc<Bdev>, settings: QosLimits) {
    let bdev = Arc::clone(bdev);
    reactor.block_on(async move { bdev.set_qos_limits(settings).await });
}

fn assert_near(found: u64, wanted: u64) {
    let off = found.abs_diff(wanted);
    assert!(off * 100 <= wanted * 3, "{found} is more than 3 % from {wanted}");
}

#[test]
fn a_limit_of_ios_is_met_at_any_depth_and_rate() {
    for (rate, workers) in [(1_000, 1), (1_000, 64), (25_000, 32), (400_000, 128)] {
        let reactor = reactor();
        let bdev = device();
        set(&reactor, &bdev, limits(rate));
        let load = Load::start(&reactor, &bdev, IoType::Read, workers, 1);
        pass(&reactor, Duration::from_secs(1));
        assert_near(load.count(), rate);
    }
}

#[test]
fn limits_of_bytes_are_met_in_each_direction_alone_and_together() {
    let reactor = reactor();
    let bdev = device();
    let settings = QosLimits { r_bytes_per_sec: 40 * MIB, ..QosLimits::default() };
    set(&reactor, &bdev, QosLimits { w_bytes_per_sec: 10 * MIB, ..settings });
    let reads = Load::start(&reactor, &bdev, IoType::Read, 16, 4);
    let writes = Load::start(&reactor, &bdev, IoType::Write, 16, 16);
    pass(&reactor, Duration::from_secs(2));
    assert_near(reads.count() * 4 * 4096, 80 * MIB);
    assert_near(writes.count() * 16 * 4096, 20 * MIB);

    set(&reactor, &bdev, QosLimits { rw_bytes_per_sec: 10 * MIB, ..QosLimits::default() });
    let before = (reads.count(), writes.count());
    pass(&reactor, Duration::from_secs(2));
    let (read, written) =
        ((reads.count() - before.0) * 4 * 4096, (writes.count() - before.1) * 16 * 4096);
    assert_near(read + written, 20 * MIB);
    // They take turns, and a write is four times as long.
    assert!(read * 3 < written && written < read * 5, "{read} {written}");
}

#[test]
fn a_limit_on_reads_holds_no_write() {
    let reactor = reactor();
    let bdev = device();
    set(&reactor, &bdev, QosLimits { r_bytes_per_sec: MIB, ..QosLimits::default() });
    let reads = Load::start(&reactor, &bdev, IoType::Read, 8, 1);
    let writes = Load::start(&reactor, &bdev, IoType::Write, 8, 1);
    pass(&reactor, Duration::from_millis(100));
    assert!(reads.count() < 30 && writes.count() > 10_000, "{} {}", reads.count(), writes.count());
}

#[test]
fn a_limit_changes_under_load_and_is_lifted() {
    let reactor = reactor();
    let bdev = device();
    set(&reactor, &bdev, limits(1_000));
    let load = Load::start(&reactor, &bdev, IoType::Write, 32, 1);
    let mut before = 0;
    for rate in [1_000, 50_000, 2_000] {
        set(&reactor, &bdev, limits(rate));
        assert_eq!(bdev.qos_limits(), limits(rate));
        pass(&reactor, Duration::from_secs(1));
        assert_near(load.count() - before, rate);
        before = load.count();
    }
    set(&reactor, &bdev, QosLimits::default());
    pass(&reactor, Duration::from_millis(10));
    assert!(load.count() - before > 5_000, "{}", load.count() - before);
    drop(load);
    pass(&reactor, Duration::from_millis(1));
    assert_eq!(BdevCore::of(&reactor).slots_in_use(), 0);
}

struct Order(RefCell<Vec<(u64, NvmeStatus)>>);

impl IoConsumer for Order {
    fn io_done(&self, tag: u64, status: NvmeStatus, _: IoBuf, _: u64) {
        self.0.borrow_mut().push((tag, status));
    }
}

/// Submits writes from several handles of the core, tagged in order.
fn submit(reactor: &Reactor, bdev: &Arc<Bdev>, count: u64) -> Rc<Order> {
    let order = Rc::new(Order(RefCell::default()));
    let consumer: Rc<dyn IoConsumer> = Rc::<Order>::clone(&order);
    let handles = [open(bdev), open(bdev)];
    for tag in 0..count {
        let buf = reactor.memory().alloc(4096).unwrap();
        let request = IoRequest::new(IoType::Write, 0, 1, buf.into());
        let handle = &handles[usize::from(tag % 2 == 1)];
        handle.submit(request, &consumer, tag).unwrap();
    }
    order
}

#[test]
fn queues_of_a_core_are_served_in_the_order_of_their_ios() {
    let reactor = reactor();
    let bdev = device();
    set(&reactor, &bdev, limits(1_000));
    let order = submit(&reactor, &bdev, 20);
    pass(&reactor, Duration::from_millis(5));
    assert!((4..=8).contains(&order.0.borrow().len()), "{}", order.0.borrow().len());
    pass(&reactor, Duration::from_millis(30));
    let tags: Vec<u64> = order.0.borrow().iter().map(|(tag, _)| *tag).collect();
    assert_eq!(tags, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_reset_does_not_wait_for_what_waits_and_loses_none_of_it() {
    let reactor = reactor();
    let bdev = device();
    set(&reactor, &bdev, limits(1_000));
    let order = submit(&reactor, &bdev, 10);
    let handle = open(&bdev);
    let clock = reactor.clock().clone();
    let took = reactor.block_on(async move {
        let started = clock.ticks();
        handle.reset().await.ok().unwrap();
        clock.ticks() - started
    });
    assert!(took < 1_000_000 && order.0.borrow().len() < 4, "{took} ns");
    pass(&reactor, Duration::from_millis(20));
    assert_eq!(order.0.borrow().len(), 10);
    assert!(order.0.borrow().iter().all(|(_, status)| status.is_success()));
}

#[test]
fn a_removal_fails_what_waits() {
    let reactor = reactor();
    let bdev = device();
    let registry = Registry::new();
    registry.register(&bdev).unwrap();
    set(&reactor, &bdev, limits(1_000));
    let order = submit(&reactor, &bdev, 10);
    reactor.block_on(async move { registry.unregister("n0").await.map(drop) }).unwrap();
    pass(&reactor, Duration::from_micros(10));
    let failed = |(_, status): &&(u64, NvmeStatus)| *status == NvmeStatus::INVALID_NAMESPACE;
    let order = order.0.borrow();
    assert_eq!(order.len(), 10);
    assert!(order.iter().filter(failed).count() >= 8);
    assert_eq!(BdevCore::of(&reactor).slots_in_use(), 0);
}

#[test]
fn what_carries_no_data_is_free_and_a_long_io_is_paid_for() {
    let reactor = reactor();
    let bdev = device();
    set(&reactor, &bdev, QosLimits { rw_bytes_per_sec: MIB, ..limits(1_000) });
    let handle = open(&bdev);
    let memory = reactor.memory().clone();
    let clock = reactor.clock().clone();
    let took = reactor.block_on(async move {
        for _ in 0..100 {
            handle.flush().await.ok().unwrap();
        }
        let flushed = clock.ticks();
        assert!(flushed < 1_000_000, "flushes are not limited: {flushed} ns");
        for _ in 0..3 {
            handle.write(memory.alloc(1 << 20).unwrap(), 0, 256).await.ok().unwrap();
        }
        clock.ticks() - flushed
    });
    // The first goes at once, and each pays for the next.
    assert_near(took, 2_000_000_000);
}
