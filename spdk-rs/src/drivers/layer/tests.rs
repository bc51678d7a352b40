//! Devices over a device: what they pass on, and what they follow.

use std::time::Duration;

use spdk_rs_sys::cpu::CoreId;

use super::*;
use crate::NvmeStatus;
use crate::bdev::{IoBuf, IoFuture, IoRequest, IoType, SgList};
use crate::drivers::delay::{self, Latencies, Latency};
use crate::drivers::{malloc, passthru};
use crate::env::{Clock, Memory, VirtualClock};
use crate::reactor::{LocalReactor, ReactorConfig};

struct Rig {
    registry: Arc<Registry>,
    base: Arc<Bdev>,
    reactor: LocalReactor,
}

impl Rig {
    /// A malloc device of 128 blocks on a reactor with virtual time.
    fn new() -> Self {
        let memory = Memory::ordinary(16 << 20).unwrap();
        let clock = Clock::Virtual(VirtualClock::default());
        let config = ReactorConfig { clock, ring: false, ..ReactorConfig::new(CoreId(0)) };
        let reactor = LocalReactor::new(config, memory.clone()).unwrap();
        let options = malloc::MallocOptions {
            name: "base".into(),
            uuid: None,
            block_len: 512,
            phys_block_len: 512,
            num_blocks: 128,
        };
        let base = malloc::create(&memory, options).unwrap();
        let registry = Registry::new();
        registry.register(&base).unwrap();
        Self { registry, base, reactor }
    }

    fn passthru(&self) -> Arc<Bdev> {
        passthru::create(&self.registry, &self.reactor.handle(), "base", "p", None).unwrap()
    }

    fn delay(&self, latencies: Latencies) -> Arc<Bdev> {
        let (registry, handle) = (Arc::clone(&self.registry), self.reactor.handle());
        self.reactor.block_on(async move {
            delay::create(&registry, &handle, "base", "d", None, latencies).await.unwrap()
        })
    }

    fn buf(&self, blocks: usize, byte: u8) -> IoBuf {
        let mut buf = self.reactor.memory().alloc(blocks * 512).unwrap();
        buf.fill(byte);
        buf.into()
    }

    fn status(&self, io: IoFuture) -> NvmeStatus {
        self.reactor.block_on(async move { io.await.status })
    }

    fn turns(&self, count: usize) {
        self.reactor.block_on(async move {
            for _ in 0..count {
                crate::reactor::yield_now().await;
            }
        });
    }
}

fn open(bdev: &Arc<Bdev>, mode: OpenMode) -> IoHandle {
    BdevDesc::open(bdev, mode, "test", None).unwrap().io_handle().unwrap()
}

#[test]
fn every_io_is_passed_on_as_it_is() {
    let rig = Rig::new();
    let layer = rig.passthru();
    assert_eq!(layer.native_io_types().iter().count(), rig.base.io_types().iter().count());
    let (above, below) = (open(&layer, OpenMode::ReadWrite), open(&rig.base, OpenMode::Read));
    assert!(rig.status(above.write(rig.buf(4, 7), 8, 4)).is_success());
    assert!(rig.status(below.compare(rig.buf(4, 7), 8, 4)).is_success());
    assert!(rig.status(above.copy(20, 8, 4)).is_success());
    assert!(rig.status(above.compare(rig.buf(4, 7), 20, 4)).is_success());
    assert_eq!(rig.status(above.compare(rig.buf(4, 6), 20, 4)), NvmeStatus::COMPARE_FAILURE);
    assert!(rig.status(above.write_zeroes(20, 2)).is_success());
    assert!(rig.status(below.compare(rig.buf(2, 0), 20, 2)).is_success());
    let one = || rig.reactor.memory().alloc(512).unwrap();
    let (mut old, mut new) = (one(), one());
    old.fill(7);
    new.fill(9);
    assert!(rig.status(above.compare_and_write(old, new, 8, 1)).is_success());
    assert!(rig.status(below.compare(rig.buf(1, 9), 8, 1)).is_success());
    assert!(rig.status(above.flush()).is_success());
    assert!(rig.status(above.reset()).is_success());
    assert!(rig.status(above.unmap(0, 128)).is_success());
    // In many pieces, more than a part can have.
    let pieces = (0..20).map(|_| one()).collect();
    let list = IoRequest::new(IoType::Read, 0, 20, SgList::new(pieces).into());
    assert!(rig.status(above.submit_async(list)).is_success());
    let stats = rig.base.stats();
    assert_eq!((stats.of(IoType::Write).ops, stats.of(IoType::Reset).ops), (1, 1));
    drop((above, below));
}

#[test]
fn the_base_is_claimed_and_followed() {
    let rig = Rig::new();
    let layer = rig.passthru();
    let refused = BdevDesc::open(&rig.base, OpenMode::ReadWrite, "test", None).map(drop);
    assert!(refused.unwrap_err().to_string().contains("passthru device 'p'"));
    let again = passthru::create(&rig.registry, &rig.reactor.handle(), "base", "q", None);
    assert!(matches!(again.map(drop), Err(LayerError::Claim(_))));
    let taken = passthru::create(&rig.registry, &rig.reactor.handle(), "p", "base", None);
    assert!(matches!(taken.map(drop), Err(LayerError::Registry(_))));
    let base = Arc::clone(&rig.base);
    rig.reactor.block_on(async move { base.resize(256).await });
    rig.turns(5);
    assert_eq!(layer.num_blocks(), 256);
    let handle = open(&layer, OpenMode::ReadWrite);
    let registry = Arc::clone(&rig.registry);
    rig.reactor.block_on(async move { registry.unregister("base").await.map(drop) }).unwrap();
    rig.turns(10);
    assert!(layer.is_removed() && rig.registry.all().is_empty());
    assert_eq!(rig.status(handle.write(rig.buf(1, 1), 0, 1)), NvmeStatus::INVALID_NAMESPACE);
}

#[test]
fn a_layer_that_goes_gives_its_base_back() {
    let rig = Rig::new();
    drop(rig.passthru());
    let registry = Arc::clone(&rig.registry);
    rig.reactor.block_on(async move { registry.unregister("p").await.map(drop) }).unwrap();
    drop(open(&rig.base, OpenMode::ReadWrite));
    let again = rig.passthru();
    assert_eq!(again.info().uuid, {
        let name = format!("{}:p", passthru::DRIVER);
        Uuid::new_v5(&rig.base.info().uuid, name.as_bytes())
    });
}

#[test]
fn reads_and_writes_take_their_latency_and_others_do_not() {
    let rig = Rig::new();
    let layer = rig.delay(Latencies { avg_read_us: 100, p99_read_us: 100, ..Latencies::default() });
    let handle = open(&layer, OpenMode::ReadWrite);
    let took = |io: IoFuture| rig.reactor.block_on(async move { io.await.latency_ticks });
    let read = |us: u64| {
        let ticks = took(handle.read(rig.buf(1, 0), 0, 1));
        assert!((us * 1000..us * 1000 + 10_000).contains(&ticks), "{ticks} for {us} µs");
    };
    read(100);
    assert!(took(handle.write(rig.buf(1, 0), 0, 1)) < 10_000);
    assert!(took(handle.flush()) < 10_000);
    for (_, which) in Latency::ALL {
        assert!(delay::update(&layer, which, 5_000));
    }
    read(5_000);
    assert!(took(handle.write(rig.buf(1, 0), 0, 1)) >= 5_000_000);
    assert!(!delay::update(&rig.base, Latency::AvgRead, 1));
}

#[test]
fn one_in_a_hundred_takes_longer() {
    let rig = Rig::new();
    let latencies = Latencies { avg_write_us: 1, p99_write_us: 1000, ..Latencies::default() };
    let handle = open(&rig.delay(latencies), OpenMode::ReadWrite);
    let mut long = 0;
    for _ in 0..1000 {
        let io = handle.write(rig.buf(1, 0), 0, 1);
        let ticks = rig.reactor.block_on(async move { io.await.latency_ticks });
        long += usize::from(ticks >= 1_000_000);
    }
    assert!((2..30).contains(&long), "{long} of 1000");
}

#[test]
fn a_reset_ends_what_is_delayed() {
    let rig = Rig::new();
    let latencies =
        Latencies { avg_read_us: 1_000_000, p99_read_us: 1_000_000, ..Latencies::default() };
    let handle = open(&rig.delay(latencies), OpenMode::ReadWrite);
    let read = handle.read(rig.buf(1, 0), 0, 1);
    let reset = {
        let handle = handle.clone();
        async move {
            crate::reactor::sleep(Duration::from_millis(1)).await;
            handle.reset().await.status
        }
    };
    let both = rig.reactor.block_on(async move { futures::join!(read, reset) });
    assert_eq!((both.0.status, both.1), (NvmeStatus::ABORTED_SQ_DELETION, NvmeStatus::SUCCESS));
    assert!(both.0.latency_ticks < 1_000_000_000);
}
