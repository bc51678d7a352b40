//! Parts of a device: their places, what they pass on, and what they follow.

use std::sync::atomic::{AtomicU64, Ordering};

use spdk_rs_sys::cpu::CoreId;

use super::*;
use crate::NvmeStatus;
use crate::bdev::{ClaimError, Interceptor, InterceptorFactory, IoBuf, IoFuture, IoRequest};
use crate::drivers::malloc;
use crate::env::{Clock, Memory, VirtualClock};
use crate::reactor::{LocalReactor, ReactorConfig};

const BLOCKS: u64 = 4096 + 3;

struct Rig {
    registry: Arc<Registry>,
    base: Arc<Bdev>,
    reactor: LocalReactor,
}

impl Rig {
    /// A malloc device of 2 MiB and 3 blocks on a reactor with virtual time.
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
            num_blocks: BLOCKS,
        };
        let base = malloc::create(&memory, options).unwrap();
        let registry = Registry::new();
        registry.register(&base).unwrap();
        Self { registry, base, reactor }
    }

    fn split(&self, count: u32, size: PartSize) -> Result<Vec<Arc<Bdev>>, SplitError> {
        let (registry, handle) = (Arc::clone(&self.registry), self.reactor.handle());
        self.reactor.block_on(async move { create(&registry, &handle, "base", count, size).await })
    }

    fn buf(&self, blocks: usize, byte: u8) -> IoBuf {
        let mut buf = self.reactor.memory().alloc(blocks * 512).unwrap();
        buf.fill(byte);
        buf.into()
    }

    fn status(&self, io: IoFuture) -> NvmeStatus {
        self.reactor.block_on(async move { io.await.status })
    }

    /// Whether a block holds one byte value only.
    fn holds(&self, handle: &IoHandle, block: u64, byte: u8) -> bool {
        self.status(handle.compare(self.buf(1, byte), block, 1)).is_success()
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

fn names(parts: &[Arc<Bdev>]) -> Vec<&str> {
    parts.iter().map(|part| part.name()).collect()
}

#[test]
fn parts_lie_side_by_side_and_share_nothing() {
    let rig = Rig::new();
    let parts = rig.split(4, PartSize::Even).unwrap();
    assert_eq!(names(&parts), ["basep0", "basep1", "basep2", "basep3"]);
    let handles: Vec<IoHandle> = parts.iter().map(|part| open(part, OpenMode::ReadWrite)).collect();
    for (part, byte) in handles.iter().zip(1..) {
        assert_eq!(part.bdev().num_blocks(), 1024);
        for block in [0, 1023] {
            assert!(rig.status(part.write(rig.buf(1, byte), block, 1)).is_success());
        }
        let beyond = part.write(rig.buf(2, 99), 1023, 2);
        assert_eq!(rig.status(beyond), NvmeStatus::LBA_OUT_OF_RANGE);
    }
    let base = open(&rig.base, OpenMode::Read);
    for (index, byte) in (0..4).zip(1..) {
        assert!(rig.holds(&base, index * 1024, byte), "the first block of part {index}");
        assert!(rig.holds(&base, index * 1024 + 1023, byte), "the last block of part {index}");
        assert!(rig.holds(&handles[usize::try_from(index).unwrap()], 1023, byte), "{index}");
    }
    assert!(rig.status(handles[2].copy(5, 0, 1)).is_success());
    assert!(rig.holds(&base, 2048 + 5, 3), "both places of a copy are the part's");
}

/// Counts the writes that are to be on the medium.
struct CountForced(Arc<AtomicU64>);

impl InterceptorFactory for CountForced {
    fn make(&self) -> Box<dyn Interceptor> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

impl Interceptor for CountForced {
    fn submission(&self, io: BdevIo) -> Option<BdevIo> {
        self.0.fetch_add(u64::from(io.fua()), Ordering::Relaxed);
        Some(io)
    }
}

#[test]
fn flush_and_fua_reach_the_device_below() {
    let rig = Rig::new();
    let parts = rig.split(2, PartSize::Even).unwrap();
    let (forced, base) = (Arc::new(AtomicU64::new(0)), Arc::clone(&rig.base));
    let look = Arc::new(CountForced(Arc::clone(&forced)));
    rig.reactor.block_on(async move { base.add_interceptor(look).await });
    let part = open(&parts[1], OpenMode::ReadWrite);
    assert!(rig.status(part.flush()).is_success());
    let write = IoRequest::new(IoType::Write, 7, 1, rig.buf(1, 5)).fua(true);
    assert!(rig.status(part.submit_async(write)).is_success());
    for kind in [IoType::Flush, IoType::Write] {
        assert_eq!(rig.base.stats().of(kind).ops, 1, "{kind}");
    }
    assert_eq!(forced.load(Ordering::Relaxed), 1);
}

/// A device that says it can do everything.
struct DoesAll;

impl BdevOps for DoesAll {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&IoType::ALL)
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[test]
fn what_names_places_of_its_own_is_not_passed() {
    let rig = Rig::new();
    let info = BdevInfo { name: "all".into(), uuid: Uuid::from_u128(7), ..rig.base.info().clone() };
    rig.registry.register(&Bdev::new(info, Box::new(DoesAll))).unwrap();
    let (registry, handle) = (Arc::clone(&rig.registry), rig.reactor.handle());
    let parts = rig.reactor.block_on(async move {
        create(&registry, &handle, "all", 2, PartSize::Even).await.unwrap()
    });
    let missing: Vec<IoType> =
        IoType::ALL.into_iter().filter(|kind| !parts[0].io_types().contains(*kind)).collect();
    assert_eq!(
        missing,
        [
            IoType::NvmeAdmin,
            IoType::NvmeIo,
            IoType::ZoneManagement,
            IoType::ZoneAppend,
            IoType::ZoneReport
        ]
    );
}

#[test]
fn sizes_are_as_asked_for_or_refused() {
    let rig = Rig::new();
    for (count, size, part) in [
        (3, PartSize::MiB(1), 2048),
        (2, PartSize::Blocks(BLOCKS / 2), 2049),
        (5000, PartSize::Blocks(3), 3),
    ] {
        let parts = rig.split(count, size).unwrap();
        let room = (BLOCKS / part).min(u64::from(COUNT_MAX.min(count)));
        assert_eq!(parts.len() as u64, room, "{size:?}");
        assert!(parts.iter().all(|bdev| bdev.num_blocks() == part), "{size:?}");
        drop(parts);
        let (registry, base) = (Arc::clone(&rig.registry), Arc::clone(&rig.base));
        rig.reactor.block_on(async move { delete(&registry, &base).await.unwrap() });
        assert!(rig.base.claims().is_empty(), "{size:?}");
    }
    for (count, size) in [
        (5000, PartSize::Even),
        (1, PartSize::MiB(3)),
        (1, PartSize::MiB(u64::MAX)),
        (1, PartSize::Blocks(0)),
    ] {
        let error = rig.split(count, size).expect_err("refused");
        assert!(matches!(error, SplitError::Room { .. }), "{error}");
        assert!(error.to_string().contains("1 to 4099"), "{error}");
    }
    assert!(rig.base.claims().is_empty() && parts_of(&rig.registry, &rig.base).is_empty());
}

#[test]
fn the_device_below_is_claimed_until_the_last_part_is_gone() {
    let rig = Rig::new();
    let parts = rig.split(2, PartSize::Even).unwrap();
    let refused = BdevDesc::open(&rig.base, OpenMode::ReadWrite, "other", None).map(drop);
    assert!(matches!(refused, Err(ClaimError::Claimed { .. })), "{refused:?}");
    assert!(matches!(
        rig.split(2, PartSize::Even),
        Err(SplitError::Layer(LayerError::Registry(_)))
    ));
    assert_eq!(parts_of(&rig.registry, &rig.base).len(), 2);
    let of = part_of(&parts[1]).expect("a part");
    assert_eq!((of.base.name(), of.count, of.size), ("base", 2, PartSize::Even));
    drop((parts, of));
    let registry = Arc::clone(&rig.registry);
    rig.reactor.block_on(async move { registry.unregister("basep0").await.unwrap() });
    assert_eq!(rig.base.claims().len(), 1);
    let registry = Arc::clone(&rig.registry);
    rig.reactor.block_on(async move { registry.unregister("basep1").await.unwrap() });
    assert!(rig.base.claims().is_empty());
}

#[test]
fn names_that_are_taken_leave_the_device_as_it_was() {
    let rig = Rig::new();
    let other = crate::drivers::null::create(crate::drivers::null::NullOptions {
        name: "basep1".into(),
        uuid: None,
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 8,
    });
    rig.registry.register(&other).unwrap();
    let refused = rig.split(2, PartSize::Even).expect_err("taken");
    assert!(refused.to_string().contains("basep1"), "{refused}");
    assert!(rig.base.claims().is_empty() && rig.registry.find("basep0").is_err());
}

#[test]
fn parts_go_with_the_device_below() {
    let rig = Rig::new();
    let parts = rig.split(3, PartSize::Even).unwrap();
    let registry = Arc::clone(&rig.registry);
    rig.reactor.block_on(async move { registry.unregister("base").await.unwrap() });
    rig.turns(100);
    assert!(parts.iter().all(|part| part.is_removed()));
    assert!(rig.registry.all().is_empty());
}

#[test]
fn parts_keep_their_size_and_their_identity() {
    let rig = Rig::new();
    let uuids: Vec<Uuid> =
        rig.split(2, PartSize::Even).unwrap().iter().map(|part| part.info().uuid).collect();
    let base = Arc::clone(&rig.base);
    rig.reactor.block_on(async move { base.resize(3 * BLOCKS).await });
    rig.turns(20);
    let parts = parts_of(&rig.registry, &rig.base);
    assert!(parts.iter().all(|part| part.num_blocks() == BLOCKS / 2));
    assert_ne!(uuids[0], uuids[1]);
    assert_eq!(parts.iter().map(|part| part.info().uuid).collect::<Vec<_>>(), uuids);
}

#[test]
fn a_device_with_zones_has_no_parts() {
    let rig = Rig::new();
    rig.registry.register(&crate::bdev::zoned_double()).unwrap();
    let (registry, handle) = (Arc::clone(&rig.registry), rig.reactor.handle());
    let made = rig
        .reactor
        .block_on(async move { create(&registry, &handle, "z", 2, PartSize::Even).await });
    let refused = made.unwrap_err().to_string();
    assert!(refused.contains("parts cannot be on the zoned device 'z'"), "{refused}");
}
