//! The pool on a malloc device, in virtual time.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{Bdev, BdevDesc, IoHandle, OpenMode};
use spdk_rs::drivers::malloc::{self, MallocOptions};
use spdk_rs::env::cpu::CoreId;
use spdk_rs::env::{Clock, DmaBuf, Memory, VirtualClock};
use spdk_rs::reactor::{LocalReactor, Reactor, ReactorConfig, sleep};

use super::*;

mod management;

const MIB: u64 = 1 << 20;

fn reactor() -> LocalReactor {
    let clock = Clock::Virtual(VirtualClock::default());
    let config = ReactorConfig { clock, ring: false, ..ReactorConfig::new(CoreId(0)) };
    LocalReactor::new(config, Memory::ordinary(64 << 20).unwrap()).unwrap()
}

fn device(reactor: &LocalReactor, mib: u64) -> Arc<Bdev> {
    let options = MallocOptions {
        name: "disk".to_owned(),
        uuid: None,
        block_len: 512,
        phys_block_len: 512,
        num_blocks: mib * 2048,
    };
    malloc::create(reactor.memory(), options).unwrap()
}

fn open(bdev: &Arc<Bdev>) -> IoHandle {
    BdevDesc::open(bdev, OpenMode::ReadWrite, "test", None).unwrap().io_handle().unwrap()
}

fn options() -> PoolOptions {
    PoolOptions { name: "tank".to_owned(), ..PoolOptions::default() }
}

fn run<T: 'static>(mib: u64, test: impl AsyncFnOnce(Arc<Bdev>) -> T + 'static) -> T {
    let reactor = reactor();
    let bdev = device(&reactor, mib);
    reactor.block_on(async move { test(bdev).await })
}

async fn make(bdev: &Arc<Bdev>) -> Rc<Pool> {
    Pool::create(open(bdev), &options()).await.unwrap()
}

async fn import(bdev: &Arc<Bdev>) -> Rc<Pool> {
    Pool::import(open(bdev), &ImportOptions::default()).await.unwrap()
}

fn block(blocks: u64, fill: u8) -> DmaBuf {
    let bytes = usize::try_from(blocks).unwrap() * layout::BLOCK_BYTES;
    let mut buf = Reactor::current().unwrap().memory().alloc(bytes).unwrap();
    buf.fill(fill);
    buf
}

async fn write(volume: &Volume, at: u64, blocks: u64, fill: u8) {
    let (status, _) = volume.write(at, block(blocks, fill), false).await;
    assert_eq!(status, NvmeStatus::SUCCESS);
}

async fn read(volume: &Volume, at: u64) -> u8 {
    let (status, buf) = volume.read(at, block(1, 0xee)).await;
    assert_eq!(status, NvmeStatus::SUCCESS, "block {at}");
    let first = buf.as_slice()[0];
    assert!(buf.as_slice().iter().all(|byte| *byte == first));
    first
}

async fn clean(pool: &Rc<Pool>) {
    let report = pool.check().await;
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn what_is_written_is_read_before_and_after_an_import() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", 8 * MIB, &VolumeOptions::default()).await.unwrap();
        assert_eq!(read(&volume, 5).await, 0);
        write(&volume, 5, 1, 1).await;
        write(&volume, 60, 200, 2).await;
        assert_eq!((read(&volume, 5).await, read(&volume, 259).await), (1, 2));
        assert_eq!(volume.flush().await, NvmeStatus::SUCCESS);
        clean(&pool).await;
        write(&volume, 100, 1, 3).await;
        assert_eq!(volume.flush().await, NvmeStatus::SUCCESS);
        // Without an export: the journal is replayed.
        drop((pool, volume));
        let pool = import(&bdev).await;
        assert_eq!(pool.stats().recovery_transactions, 1);
        let volume = pool.volume("v").unwrap();
        assert_eq!((read(&volume, 5).await, read(&volume, 259).await), (1, 2));
        assert_eq!((read(&volume, 100).await, read(&volume, 260).await), (3, 0));
        clean(&pool).await;
        pool.export().await.unwrap();
        let pool = import(&bdev).await;
        assert_eq!(pool.stats().recovery_records, 0);
        assert_eq!(read(&pool.volume("v").unwrap(), 100).await, 3);
    });
}

#[test]
fn snapshots_and_clones_keep_what_they_had_and_space_returns_exactly() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let empty = pool.remaining_bytes();
        let volume = pool.create_volume("v", 4 * MIB, &VolumeOptions::default()).await.unwrap();
        write(&volume, 0, 300, 1).await;
        let first = pool.snapshot(&volume, "s1").await.unwrap();
        write(&volume, 10, 20, 2).await;
        let second = pool.snapshot(&volume, "s2").await.unwrap();
        write(&volume, 15, 1, 3).await;
        let clone = pool.clone_volume(&first, "c").await.unwrap();
        write(&clone, 299, 1, 4).await;
        assert_eq!(clone.write_zeroes(0, 5, false).await, NvmeStatus::SUCCESS);
        let seen = [read(&first, 15).await, read(&second, 15).await, read(&volume, 15).await];
        assert_eq!(seen, [1, 2, 3]);
        assert_eq!((read(&clone, 299).await, read(&clone, 0).await), (4, 0));
        assert_eq!((read(&first, 299).await, read(&first, 0).await), (1, 1));
        clean(&pool).await;
        for order in [["s1", "v", "s2", "c"], ["c", "s2", "s1", "v"], ["v", "c", "s1", "s2"]] {
            let bytes = copy_of(&bdev).await;
            let pool = import(&bytes).await;
            for name in order {
                pool.delete_volume(name).await.unwrap();
                pool.reclaimed().await.unwrap();
                clean(&pool).await;
            }
            assert_eq!(pool.remaining_bytes(), empty, "{order:?}");
        }
    });
}

/// Another device with the same content.
async fn copy_of(bdev: &Arc<Bdev>) -> Arc<Bdev> {
    let reactor = Reactor::current().unwrap();
    let copy = malloc::create(
        reactor.memory(),
        MallocOptions {
            name: "copy".to_owned(),
            uuid: None,
            block_len: 512,
            phys_block_len: 512,
            num_blocks: bdev.num_blocks(),
        },
    )
    .unwrap();
    let (from, to) = (open(bdev), open(&copy));
    for at in (0..bdev.num_blocks()).step_by(2048) {
        let buf = from.dma_malloc(1 << 20).unwrap();
        let done = from.read(buf, at, 2048).await;
        let done = to.write(done.ok().unwrap(), at, 2048).await;
        assert!(done.status.is_success());
    }
    copy
}

#[test]
fn a_full_pool_refuses_and_can_be_emptied() {
    run(8, async |bdev| {
        let pool = make(&bdev).await;
        let empty = pool.remaining_bytes();
        let volume = pool.create_volume("v", 64 * MIB, &VolumeOptions::default()).await.unwrap();
        let mut at = 0;
        loop {
            let (status, _) = volume.write(at, block(7, 5), false).await;
            if status == NvmeStatus::CAPACITY_EXCEEDED {
                break;
            }
            assert_eq!(status, NvmeStatus::SUCCESS);
            at += 7;
        }
        assert!(at > 1500, "{at}");
        // What is there can be overwritten, again and again.
        for round in 0..50 {
            let (status, _) = volume.write(round * 7, block(1, 6), false).await;
            assert_eq!(status, NvmeStatus::SUCCESS, "{round}");
        }
        clean(&pool).await;
        assert_eq!(read(&volume, at - 1).await, 5);
        assert_eq!(volume.unmap(0, 16_384).await, NvmeStatus::SUCCESS);
        pool.delete_volume("v").await.unwrap();
        pool.reclaimed().await.unwrap();
        clean(&pool).await;
        assert_eq!(pool.remaining_bytes(), empty);
    });
}

#[test]
fn sizes_change_and_what_was_cut_off_does_not_come_back() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", MIB, &VolumeOptions::default()).await.unwrap();
        write(&volume, 0, 256, 1).await;
        pool.resize_volume(&volume, MIB / 2).await.unwrap();
        let (status, _) = volume.read(128, block(1, 0)).await;
        assert_eq!(status, NvmeStatus::INVALID_FIELD);
        pool.resize_volume(&volume, 1 << 40).await.unwrap();
        assert_eq!((read(&volume, 127).await, read(&volume, 128).await), (1, 0));
        write(&volume, (1 << 28) - 1, 1, 2).await;
        clean(&pool).await;
        pool.export().await.unwrap();
        let pool = import(&bdev).await;
        let volume = pool.volume("v").unwrap();
        assert_eq!((read(&volume, 127).await, read(&volume, (1 << 28) - 1).await), (1, 2));
        clean(&pool).await;
    });
}

#[test]
fn what_was_cut_off_is_freed_after_a_restart_and_before_anything_is_in_its_way() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let empty = pool.remaining_bytes();
        for name in ["a", "b", "c", "d"] {
            let volume = pool.create_volume(name, MIB, &VolumeOptions::default()).await.unwrap();
            write(&volume, 0, 256, 1).await;
            // A cut between the new size and the freeing of what lies behind it leaves this.
            let own = volume.dataset();
            own.size_blocks.set(10);
            own.tail.set(256);
            own.touch();
        }
        pool.checkpoint().await.unwrap();
        clean(&pool).await;
        let other = import(&copy_of(&bdev).await).await;
        other.reclaimed().await.unwrap();
        clean(&other).await;
        assert_eq!(other.volumes()[0].mapped_bytes, 10 * 4096);
        let volume = |name| pool.volume(name).unwrap();
        pool.snapshot(&volume("a"), "s").await.unwrap();
        assert_eq!(pool.volumes().last().unwrap().mapped_bytes, 10 * 4096);
        pool.resize_volume(&volume("b"), MIB).await.unwrap();
        assert_eq!((read(&volume("b"), 9).await, read(&volume("b"), 10).await), (1, 0));
        pool.make_thick(&volume("c")).await.unwrap();
        assert_eq!(pool.thick.borrow()[0].reservation(), 0);
        clean(&pool).await;
        for name in ["d", "a", "s", "b", "c"] {
            pool.delete_volume(name).await.unwrap();
        }
        pool.reclaimed().await.unwrap();
        clean(&pool).await;
        assert_eq!(pool.remaining_bytes(), empty);
    });
}

#[test]
fn a_change_waits_for_memory() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", MIB, &VolumeOptions::default()).await.unwrap();
        write(&volume, 0, 4, 1).await;
        let memory = Reactor::current().unwrap().memory().clone();
        let mut taken = Vec::new();
        for bytes in [1 << 20, 4096] {
            while let Ok(buf) = memory.alloc(bytes) {
                taken.push(buf);
            }
        }
        let given_back = async {
            sleep(Duration::from_millis(20)).await;
            taken.clear();
        };
        let (done, ()) = futures::join!(pool.checkpoint(), given_back);
        done.unwrap();
        assert_eq!(pool.is_read_only(), None);
        assert_eq!(read(&volume, 3).await, 1);
    });
}

#[test]
fn nodes_are_read_ahead_of_a_sequential_read() {
    run(64, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", 32 * MIB, &VolumeOptions::default()).await.unwrap();
        for at in 0..32 {
            write(&volume, at * 256, 256, 1).await;
        }
        pool.export().await.unwrap();
        let pool = import(&bdev).await;
        let before = pool.stats();
        let volume = pool.volume("v").unwrap();
        for at in 0..256 {
            let (status, _) = volume.read(at * 32, block(32, 0)).await;
            assert_eq!(status, NvmeStatus::SUCCESS);
            // A device takes some time, in which the next nodes come.
            sleep(Duration::from_millis(1)).await;
        }
        let stats = pool.stats();
        // 128 lowest nodes, of which the first is needed before it is known that more will be.
        assert!(stats.nodes_read_ahead >= 126, "{stats:?}");
        assert!(stats.nodes_read - before.nodes_read <= 8, "{stats:?}");
        clean(&pool).await;
    });
}

#[test]
fn a_decoupled_clone_stands_alone() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", MIB, &VolumeOptions::default()).await.unwrap();
        write(&volume, 0, 200, 1).await;
        let snapshot = pool.snapshot(&volume, "s").await.unwrap();
        let clone = pool.clone_volume(&snapshot, "c").await.unwrap();
        write(&clone, 7, 1, 2).await;
        pool.decouple(&clone).await.unwrap();
        clean(&pool).await;
        pool.delete_volume("v").await.unwrap();
        pool.delete_volume("s").await.unwrap();
        pool.reclaimed().await.unwrap();
        clean(&pool).await;
        assert_eq!((read(&clone, 7).await, read(&clone, 199).await), (2, 1));
        assert_eq!(pool.volumes().len(), 1);
    });
}

#[test]
fn superblocks_can_be_lost_but_for_one_and_rot_is_named() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", MIB, &VolumeOptions::default()).await.unwrap();
        write(&volume, 0, 1, 1).await;
        let places = pool.geometry.get().superblocks();
        pool.export().await.unwrap();
        let error = Pool::create(open(&bdev), &options()).await.err().unwrap();
        assert!(matches!(error, PoolError::HoldsPool { .. }), "{error}");
        let device = Device::new(open(&bdev)).unwrap();
        for kept in places {
            let copy = copy_of(&bdev).await;
            let device = Device::new(open(&copy)).unwrap();
            for place in places.into_iter().filter(|place| *place != kept) {
                device.write_bytes(place, &[0x55; 4096]).await.unwrap();
            }
            let pool = import(&copy).await;
            assert_eq!(read(&pool.volume("v").unwrap(), 0).await, 1, "kept {kept}");
        }
        let pool = import(&bdev).await;
        let ptrs = pool.pointers(pool.volume("v").unwrap().dataset(), 0, 1).await.unwrap();
        device.write_bytes(ptrs[0].address(), &[0x55; 4096]).await.unwrap();
        let volume = pool.volume("v").unwrap();
        let (status, _) = volume.read(0, block(1, 0)).await;
        assert_eq!((status.sct(), status.sc()), (2, 0x81));
        let report = pool.check().await;
        assert_eq!(report.error_count, 1, "{report:?}");
        assert!(report.errors[0].contains("'v': block 0"), "{report:?}");
        for place in places {
            device.write_bytes(place, &[0; 4096]).await.unwrap();
        }
        let error = Pool::import(open(&bdev), &ImportOptions::default()).await.err().unwrap();
        assert!(matches!(error, PoolError::NotAPool { .. }), "{error}");
    });
}

#[test]
fn many_volumes_grow_the_table_and_names_are_unique() {
    run(64, async |bdev| {
        let pool = make(&bdev).await;
        let empty = pool.remaining_bytes();
        for number in 0..70 {
            let name = format!("v{number}");
            let volume = pool.create_volume(&name, MIB, &VolumeOptions::default()).await.unwrap();
            write(&volume, number, 1, u8::try_from(number).unwrap()).await;
        }
        let error = pool.create_volume("v3", MIB, &VolumeOptions::default()).await.err().unwrap();
        assert!(error.to_string().contains("'v3' is taken"), "{error}");
        clean(&pool).await;
        drop(pool);
        let pool = import(&bdev).await;
        for number in 0..70 {
            let volume = pool.volume(&format!("v{number}")).unwrap();
            assert_eq!(u64::from(read(&volume, number).await), number);
            pool.delete_volume(&volume.name()).await.unwrap();
        }
        pool.reclaimed().await.unwrap();
        clean(&pool).await;
        // One more level of the table is left.
        assert!(empty - pool.remaining_bytes() <= 2 * 4096);
    });
}

#[test]
fn concurrent_writes_of_one_place_happen_one_after_the_other() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", MIB, &VolumeOptions::default()).await.unwrap();
        let writes = (1..=40).map(|fill| {
            let volume = Rc::clone(&volume);
            async move { write(&volume, u64::from(fill) % 3, 5, fill).await }
        });
        futures::future::join_all(writes).await;
        let seen: Vec<u8> = [read(&volume, 2).await, read(&volume, 4).await].to_vec();
        assert_eq!(seen, [40, 40]);
        assert_eq!(volume.flush().await, NvmeStatus::SUCCESS);
        let pool = import(&bdev).await;
        assert_eq!(read(&pool.volume("v").unwrap(), 4).await, 40);
        clean(&pool).await;
    });
}
