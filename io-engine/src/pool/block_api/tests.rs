//! The block API on memory and files, with an engine of its own.

use std::sync::Arc;

use spdk_rs::bdev::ClaimError;
use spdk_rs::env::cpu::{CoreId, CoreSet};
use spdk_rs::env::{HugePolicy, MemoryBacking, MemoryOptions};
use spdk_rs::reactor::{PollMode, RuntimeOptions};

use super::*;
use crate::bdev;
use crate::core::{CoreError, Engine, EngineOptions};
use crate::pool::allocator::{AllocError, Block, BlockError, BlockType};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn engine() -> Arc<Engine> {
    let backing = MemoryBacking { huge: HugePolicy::Never, ..Default::default() };
    let cores = std::iter::once(CoreId(0)).collect::<CoreSet>();
    let options = EngineOptions {
        memory: MemoryOptions { size_bytes: 16 << 20, backing },
        runtime: RuntimeOptions { cores, mode: PollMode::default(), ring: true },
    };
    Engine::start(&options).expect("an engine")
}

fn malloc(engine: &Engine, name: &str, mib: u64) -> Blocking {
    let options = CreateOptions::new(format!("malloc:///{name}?size_mb={mib}&blk_size=512"));
    Blocking::create(engine, &options).expect("a store")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    futures::executor::block_on(work)
}

#[test]
fn what_is_written_is_read() {
    let engine = engine();
    let blocking = malloc(&engine, "m", 8);
    let store = Arc::clone(blocking.store());
    assert_eq!((store.name(), store.capacity(), store.alignment()), ("m", 8 * MIB, 4096));
    let blocks = blocking.allocate_blocks(2 * MIB + 1).expect("space");
    assert_eq!(blocks.len(), 3);
    let small = blocking.allocate_blocks(1).expect("space")[0];
    for (number, block) in (1_u8..).zip(blocks.iter().chain([&small])) {
        let mut data = store.buffer(usize::try_from(block.size).unwrap()).expect("a buffer");
        data.fill(number);
        blocking.write(block, 0, data).expect("written");
    }
    let part = store.buffer_of(&[9; 512]).expect("a buffer");
    blocking.write(&blocks[1], MIB - 512, part).expect("written");
    for (number, block) in (1_u8..).zip(blocks.iter().chain([&small])) {
        let buf = store.buffer(usize::try_from(block.size).unwrap()).expect("a buffer");
        let read = blocking.read(block, 0, buf).expect("read");
        let (body, end) = read.as_slice().split_at(read.len() - 512);
        assert!(body.iter().all(|byte| *byte == number), "{block}");
        let last = if number == 2 { 9 } else { number };
        assert!(end.iter().all(|byte| *byte == last), "{block}");
    }
    let stats = store.get_stats();
    assert_eq!(stats.remaining, 5 * MIB - 4 * KIB);
    assert_eq!(stats.declared, PerfMetrics::default());
    for (name, value) in stats.measured.named() {
        assert!(value > 0.0 && value.is_finite(), "{name} {value}");
    }
    blocking.free_blocks(&blocks).expect("freed");
    assert_eq!(store.get_stats().remaining, 8 * MIB - 4 * KIB);
    blocking.close(&engine).expect("closed");
    assert!(engine.device_lookup("m").is_err(), "the device that was made for it is gone");
    let buf = store.buffer(512).expect("a buffer");
    let error = blocking.read(&small, 0, buf).expect_err("closed");
    assert!(matches!(error, BlockApiError::Closed { .. }), "{error}");
}

#[test]
fn transfers_are_checked() {
    let engine = engine();
    let blocking = malloc(&engine, "m", 4);
    let store = blocking.store();
    let block = blocking.allocate_blocks(64 * KIB).expect("space")[0];
    let try_write = |block: &Block, offset: u64, len: usize| {
        let buf = store.buffer(len).expect("a buffer");
        blocking.write(block, offset, buf).map(drop)
    };
    for (offset, len) in [(1, 512), (0, 100), (511, 513)] {
        let error = try_write(&block, offset, len).expect_err("unaligned");
        let words = format!("{len} bytes at {offset} of a block: device 'm' does multiples of 512");
        assert!(error.to_string().contains(&words), "{error}");
    }
    for (offset, len) in [(64 * KIB, 512), (0, 65 << 10), (u64::MAX - 511, 512)] {
        let error = try_write(&block, offset, len).expect_err("beyond");
        assert!(matches!(error, BlockApiError::Beyond { .. }), "{error}");
    }
    let free = Block::new(MIB, BlockType::K4);
    let wrong = Block::new(block.offset, BlockType::K4);
    for other in [free, wrong, Block { size: 2 * MIB, ..block }] {
        let error = try_write(&other, 0, 512).expect_err("no block");
        assert!(matches!(error, BlockApiError::Block(_)), "{error}");
    }
    try_write(&block, 64 * KIB - 512, 512).expect("the last of it");
    blocking.free_blocks(&[block]).expect("freed");
    let error = try_write(&block, 0, 512).expect_err("freed");
    assert!(matches!(error, BlockApiError::Block(BlockError::NotAllocated { .. })), "{error}");
    let error = blocking.allocate_blocks(5 * MIB).expect_err("too much");
    assert!(matches!(error, BlockApiError::Alloc(AllocError::NoSpace { .. })), "{error}");
}

#[test]
fn the_device_is_claimed_and_given_up() {
    let engine = engine();
    let name = block_on(bdev::create(&engine, "malloc:///m?size_mb=4")).expect("a device");
    let options = CreateOptions { total_size: MIB, ..CreateOptions::new(&name) };
    let blocking = Blocking::create(&engine, &options).expect("a store");
    assert_eq!(blocking.store().capacity(), MIB);
    let device = engine.device_lookup("m").expect("the device");
    for again in ["m", "bdev:///m"] {
        let error = Blocking::create(&engine, &CreateOptions::new(again)).expect_err("claimed");
        let BlockApiError::Core(CoreError::Claim(ClaimError::Claimed { holder, .. })) = &error
        else {
            panic!("{error}");
        };
        assert_eq!(holder, "block API");
    }
    assert!(device.open(true, "test").is_err());
    blocking.close(&engine).expect("closed");
    assert!(matches!(blocking.close(&engine), Err(BlockApiError::Closed { .. })));
    assert!(device.open(true, "test").is_ok());
    assert!(engine.device_lookup("m").is_ok(), "a device that was there stays");
}

#[test]
fn a_file_becomes_a_store() {
    let engine = engine();
    // Beside the test itself, which unlike /tmp is seldom in memory: AIO needs direct I/O.
    let program = std::env::current_exe().expect("a path");
    let dir = tempfile::tempdir_in(program.parent().expect("a directory")).expect("a directory");
    let path = dir.path().join("file");
    let name = path.to_str().expect("text");
    let options = CreateOptions { total_size: 4 * MIB, ..CreateOptions::new(name) };
    for round in 0_u8..2 {
        let blocking = Blocking::create(&engine, &options).expect("a store");
        let store = blocking.store();
        assert_eq!(std::fs::metadata(&path).expect("a file").len(), 4 * MIB);
        // What is allocated is forgotten: the same block comes again, with its old content.
        let block = blocking.allocate_blocks(4096).expect("space")[0];
        assert_eq!(block.offset, 0);
        let buf = blocking.read(&block, 0, store.buffer(4096).expect("a buffer")).expect("read");
        assert!(buf.as_slice().iter().all(|byte| *byte == round));
        blocking.write(&block, 0, store.buffer_of(&[1; 4096]).expect("a buffer")).expect("written");
        blocking.close(&engine).expect("closed");
    }
}

#[test]
fn options_are_checked_before_anything_is_made() {
    let engine = engine();
    let base = CreateOptions::new("malloc:///m?size_mb=1");
    let nan = PerfMetrics { iops: f64::NAN, ..Default::default() };
    for (options, words) in [
        (CreateOptions { io_depth: 0, ..base.clone() }, "io_depth 0: it has to be from 1"),
        (CreateOptions { total_size: 5, ..base.clone() }, "total_size 5: it has to be a multiple"),
        (CreateOptions { total_size: 2 * MIB, ..base.clone() }, "device 'm' has 1048576 bytes"),
        (CreateOptions { alignment: 3, ..base.clone() }, "at least the device's block size, 512"),
        (CreateOptions { alignment: 768, ..base.clone() }, "768 bytes: it has to be a power"),
        (CreateOptions { declared: nan, ..base.clone() }, "iops NaN: it has to be a number"),
        (CreateOptions::new("nothing"), "'nothing'"),
        (CreateOptions::new("melt:///m"), "melt"),
        (CreateOptions::new("/nowhere/file"), "/nowhere/file"),
    ] {
        let error = Blocking::create(&engine, &options).expect_err(words);
        let told = crate::rpc::errors::with_causes(&error);
        assert!(told.contains(words), "{told}");
        assert!(engine.device_lookup("m").is_err(), "{words}: the device is removed again");
    }
}

#[test]
fn a_reactor_uses_a_handle_and_waits_for_nobody() {
    let engine = engine();
    let blocking = malloc(&engine, "m", 4);
    let store = Arc::clone(blocking.store());
    assert!(matches!(block_on(store.handle()), Err(BlockApiError::WrongThread(_))));
    let reactor = engine.runtime().first().expect("a reactor").clone();
    let work = reactor.spawn(move |_| async move {
        let handle = blocking.store().handle().await.expect("a handle");
        let block = handle.allocate_blocks(4096).expect("space")[0];
        let data = handle.store().buffer_of(&[7; 4096]).expect("a buffer");
        let error = blocking.write(&block, 0, data).expect_err("a reactor");
        assert!(matches!(error, BlockApiError::WrongThread(_)), "{error}");
        let mut data = handle.store().buffer(4096).expect("a buffer");
        data.fill(7);
        let mut buf = handle.write(&block, 0, data).await.expect("written");
        buf.fill(0);
        let buf = handle.read(&block, 0, buf).await.expect("read");
        assert_eq!(buf.as_slice(), [7; 4096]);
        handle.free_blocks(&[block]).expect("freed");
        handle.free_blocks(&[block]).expect_err("freed");
        let held = handle.store().fragmentation().cached_bytes;
        handle.drain();
        held
    });
    assert!(block_on(work).expect("an answer") > 0, "the magazine held blocks");
    assert_eq!(store.fragmentation().cached_bytes, 0);
    assert_eq!(store.get_stats().remaining, 4 * MIB);
}

#[test]
fn more_than_the_depth_waits() {
    let engine = engine();
    let options = CreateOptions { io_depth: 2, ..CreateOptions::new("malloc:///m?size_mb=4") };
    let blocking = Blocking::create(&engine, &options).expect("a store");
    let store = Arc::clone(blocking.store());
    let block = blocking.allocate_blocks(4096).expect("space")[0];
    let taken = block_on(store.take_permits(2)).expect("permits");
    let (tell, told) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        let data = blocking.store().buffer(4096).expect("a buffer");
        let written = blocking.write(&block, 0, data);
        tell.send(written.is_ok()).expect("somebody listens");
        blocking
    });
    let waited = told.recv_timeout(std::time::Duration::from_millis(100));
    assert!(waited.is_err(), "two I/Os are in flight");
    drop(taken);
    assert!(told.recv().expect("an answer"));
    let blocking = writer.join().expect("no panic");
    blocking.close(&engine).expect("nothing is left in flight");
}

mod record;
