//! The record of what is allocated, on a volume of a pool.

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoRequest, IoType};

use super::*;
#[cfg(feature = "fault-injection")]
use crate::core::fault_injection::InjectionSpec;

const GIB: u64 = 1 << 30;
/// Bytes of a volume that one change of the record is for at the most.
#[cfg(feature = "fault-injection")]
const PIECE: u64 = 4 * GIB;
/// Where the second of two changes is written.
#[cfg(feature = "fault-injection")]
const SECOND: std::ops::Range<u64> = 4 * KIB + MIB..4 * KIB + 2 * MIB;

/// A pool's volume as a store, on a disk that is a file.
fn on_volume(engine: &Engine, file: &std::path::Path, create: bool) -> Blocking {
    on_volume_of("24M", engine, file, create)
}

fn on_volume_of(size: &str, engine: &Engine, file: &std::path::Path, create: bool) -> Blocking {
    let disk = format!("aio:///{}?blk_size=512&name=d", file.display());
    let escaped = disk.replace(':', "%3A").replace('/', "%2F").replace('?', "%3F");
    let disk = escaped.replace('&', "%26").replace('=', "%3D");
    let create = if create { "&create=true&journal_mb=1" } else { "" };
    let uri = format!("pool:///t?disk={disk}{create}");
    block_on(bdev::create(engine, &uri)).expect("a pool");
    open(size, engine)
}

fn open(size: &str, engine: &Engine) -> Blocking {
    let volume = format!("vol:///v?pool=t&size={size}&thin=true");
    Blocking::create(engine, &CreateOptions::new(volume)).expect("a store")
}

fn a_file(megabytes: u64) -> (tempfile::TempDir, std::path::PathBuf) {
    // Beside the test itself, which unlike /tmp is seldom in memory: AIO needs direct I/O.
    let program = std::env::current_exe().expect("a path");
    let dir = tempfile::tempdir_in(program.parent().expect("a directory")).expect("a directory");
    let path = dir.path().join("disk");
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(megabytes * MIB).expect("a length");
    (dir, path)
}

#[test]
fn what_is_allocated_on_a_volume_is_known_after_a_restart() {
    let (dir, path) = a_file(32);
    let first = engine();
    let blocking = on_volume(&first, &path, true);
    let store = blocking.store();
    assert!(store.is_recorded());
    assert_eq!(store.capacity(), 23 * MIB, "the first mebibyte is the record");
    let sizes = [1, 64 * KIB, 200 * KIB, 3 * MIB, 5000, 1];
    let mut blocks: Vec<Block> =
        sizes.iter().flat_map(|size| blocking.allocate_blocks(*size).expect("space")).collect();
    let data = store.buffer_of(&[5; 4096]).expect("a buffer");
    blocking.write(&blocks[0], 0, data).expect("written");
    let freed = blocks.remove(3);
    blocking.free_blocks(&[freed]).expect("freed");
    blocking.free_blocks(&[freed]).expect_err("freed before");
    blocking.free_blocks(&[blocks[0], blocks[0]]).expect_err("the same block twice");
    let remaining = store.get_stats().remaining;
    blocks.sort_unstable();
    assert_eq!(store.allocated(0, 100), blocks);
    assert_eq!(store.allocated(blocks[1].offset, 2), blocks[1..3]);
    blocking.flush().expect("flushed");
    // Power fails: nothing is closed or exported.
    let copy = dir.path().join("copy");
    std::fs::copy(&path, &copy).expect("a copy");
    let second = engine();
    let again = on_volume(&second, &copy, false);
    assert_eq!(again.store().allocated(0, 100), blocks);
    assert_eq!(again.store().get_stats().remaining, remaining);
    let buf = again.store().buffer(4096).expect("a buffer");
    assert_eq!(again.read(&blocks[0], 0, buf).expect("read").as_slice(), [5; 4096]);
    let more = again.allocate_blocks(4096).expect("space")[0];
    assert!(!blocks.contains(&more));
    again.free_blocks(&[blocks.clone(), vec![more]].concat()).expect("freed");
    assert_eq!(again.store().get_stats().remaining, 23 * MIB);
    again.close(&second).expect("closed");
    let handle = CreateOptions { alignment: 64 * KIB, ..CreateOptions::new("t/v") };
    let error = Blocking::create(&second, &handle).expect_err("another alignment");
    assert!(error.to_string().contains("the volume has blocks with 4096"), "{error}");
    let handle = CreateOptions { total_size: 8 * MIB, ..CreateOptions::new("t/v") };
    let error = Blocking::create(&second, &handle).expect_err("another size");
    assert!(error.to_string().contains("blocks up to 25165824"), "{error}");
}

#[test]
fn a_volume_with_other_data_becomes_no_store_and_a_magazine_has_no_record() {
    let (_dir, path) = a_file(32);
    let engine = engine();
    let blocking = on_volume(&engine, &path, true);
    let store = Arc::clone(blocking.store());
    let reactor = engine.runtime().first().expect("a reactor").clone();
    let work = reactor.spawn(move |_| async move {
        let handle = store.handle().await.expect("a handle");
        let refused = handle.allocate_blocks(4096).expect_err("no record");
        let block = store.allocate_blocks(4096).await.expect("space")[0];
        let data = store.buffer_of(&[1; 4096]).expect("a buffer");
        handle.write(&block, 0, data).await.expect("written");
        handle.free_blocks(&[block]).expect_err("no record");
        refused.to_string()
    });
    let refused = block_on(work).expect("an answer");
    assert!(refused.contains("recorded"), "{refused}");
    blocking.close(&engine).expect("closed");
    block_on(bdev::create(&engine, "vol:///w?pool=t&size=4M")).expect("a volume");
    let device = engine.device_lookup("t/w").expect("the volume");
    let descriptor = device.open(true, "test").expect("open");
    let memory = engine.memory().clone();
    let reactor = engine.runtime().first().expect("a reactor").clone();
    let work = reactor.spawn(move |_| async move {
        let io = descriptor.get_io_handle().expect("a handle");
        let mut buf = memory.alloc(4096).expect("a buffer");
        buf.fill(7);
        let request =
            IoRequest::new(IoType::Write, 0, 4096 / io.get_device().block_len(), buf.into());
        io.submit_async(request).await.status
    });
    assert!(block_on(work).expect("an answer").is_success());
    let error = Blocking::create(&engine, &CreateOptions::new("t/w")).expect_err("other data");
    assert!(error.to_string().contains("other data"), "{error}");
}

/// Lets writes of the volume fail that touch a range of its bytes.
#[cfg(feature = "fault-injection")]
fn inject(engine: &Engine, range: std::ops::Range<u64>, parameters: &str) {
    let block_len = engine.device_lookup("t/v").expect("the volume").block_len();
    let (offset, count) = (range.start / block_len, (range.end - range.start) / block_len);
    let uri =
        format!("inject://t/v?op=write&type=status&offset={offset}&num_blk={count}&{parameters}");
    let spec = InjectionSpec::parse(&uri).expect("an injection");
    block_on(engine.faults().add(spec)).expect("injected");
}

/// What somebody finds who has the device and nothing else.
fn after_a_power_cut(path: &std::path::Path, size: &str) -> Vec<Block> {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).expect("a copy");
    let engine = engine();
    on_volume_of(size, &engine, &copy, false).store().allocated(0, usize::MAX)
}

#[cfg(feature = "fault-injection")]
#[test]
fn a_change_that_fails_in_its_second_half_is_undone() {
    let (_dir, path) = a_file(64);
    let engine = engine();
    let blocking = on_volume_of("16G", &engine, &path, true);
    let store = blocking.store();
    let capacity = store.capacity();
    inject(&engine, SECOND, "retries=1");
    let error = blocking.allocate_blocks(5 * GIB).expect_err("a write of the record failed");
    assert!(matches!(error, BlockApiError::Record { kind: IoType::Write, .. }), "{error}");
    assert_eq!((store.allocated(0, 1), store.get_stats().remaining), (vec![], capacity));
    assert_eq!(after_a_power_cut(&path, "16G"), []);
    let blocks = blocking.allocate_blocks(5 * GIB).expect("the record is known, and so is space");
    assert!(blocks.iter().any(|block| block.offset >= PIECE + MIB), "not in two changes");
    inject(&engine, SECOND, "retries=1");
    let error = blocking.free_blocks(&blocks).expect_err("a write of the record failed");
    assert!(matches!(error, BlockApiError::Record { .. }), "{error}");
    let sorted = |mut blocks: Vec<Block>| {
        blocks.sort_unstable();
        blocks
    };
    assert_eq!(store.allocated(0, usize::MAX), sorted(blocks.clone()));
    assert_eq!(after_a_power_cut(&path, "16G"), sorted(blocks.clone()));
    blocking.free_blocks(&blocks).expect("freed");
    assert_eq!(store.get_stats().remaining, capacity);
    assert_eq!(after_a_power_cut(&path, "16G"), []);
}

#[cfg(feature = "fault-injection")]
#[test]
fn a_change_that_cannot_be_undone_ends_changes_until_the_store_is_created_again() {
    let (_dir, path) = a_file(64);
    let engine = engine();
    let blocking = on_volume_of("16G", &engine, &path, true);
    let kept = blocking.allocate_blocks(4096).expect("space")[0];
    // The first of two changes succeeds, and nothing from then on.
    inject(&engine, 0..SECOND.end, "after=1");
    let error = blocking.allocate_blocks(5 * GIB).expect_err("a write of the record failed");
    assert!(matches!(error, BlockApiError::Record { .. }), "{error}");
    block_on(engine.faults().clear(None));
    for error in [
        blocking.allocate_blocks(4096).expect_err("the record is unknown"),
        blocking.free_blocks(&[kept]).expect_err("the record is unknown"),
    ] {
        assert!(matches!(error, BlockApiError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("created again"), "{error}");
    }
    assert_eq!(blocking.store().allocated(0, 9), [kept], "what is in use stays in use");
    blocking.close(&engine).expect("closed");
    let again = open("16G", &engine);
    // The half that was written: nobody has these blocks, and they can be freed.
    let blocks = again.store().allocated(0, usize::MAX);
    assert!(blocks.contains(&kept) && blocks.len() > 1000, "{} blocks", blocks.len());
    again.free_blocks(&blocks).expect("freed");
    assert_eq!(again.store().get_stats().remaining, again.store().capacity());
}

#[test]
fn a_full_pool_refuses_to_allocate_and_frees_all_the_same() {
    let (_dir, path) = a_file(32);
    let engine = engine();
    let blocking = on_volume_of("16G", &engine, &path, true);
    let store = blocking.store();
    // The record grows a block at a time, with the first allocation of each 16 MiB.
    let first = blocking.allocate_blocks(15 * MIB).expect("space");
    let second = blocking.allocate_blocks(25 * MIB).expect("space");
    let blocks = [first, second].concat();
    let mut full = None;
    for block in &blocks {
        let mut data = store.buffer(64 << 10).expect("a buffer");
        data.fill(3);
        for part in 0..16 {
            match blocking.write(block, part * 64 * KIB, data) {
                Ok(back) => data = back,
                Err(error) => {
                    full = Some(error);
                    break;
                }
            }
        }
        if full.is_some() {
            break;
        }
    }
    let full = full.expect("the volume promises more than the pool has");
    let is_full = |error: &BlockApiError| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            text += &inner.to_string();
            source = inner.source();
        }
        text.contains(&NvmeStatus::CAPACITY_EXCEEDED.to_string())
    };
    assert!(is_full(&full), "{full}");
    let remaining = store.get_stats().remaining;
    let error = blocking.allocate_blocks(GIB).expect_err("no room for the record");
    assert!(is_full(&error), "{error}");
    assert_eq!(store.get_stats().remaining, remaining);
    let mut sorted = blocks.clone();
    sorted.sort_unstable();
    assert_eq!(store.allocated(0, usize::MAX), sorted);
    assert_eq!(after_a_power_cut(&path, "16G"), sorted);
    blocking.free_blocks(&blocks).expect("freed, with the space that this gives");
    assert_eq!(after_a_power_cut(&path, "16G"), []);
    blocking.allocate_blocks(GIB).expect("there is room again");
}
