//! Making a device of a file: what is refused, what is created, what is found out.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use super::*;
use crate::NvmeStatus;
use crate::bdev::{DeviceEvent, EventListener};
use crate::drivers::common::rescan;

/// All the words of an error, with its causes.
fn words(error: &FileBdevError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[test]
fn bad_files_are_refused_by_name() {
    let dir = dir();
    let path = filled(dir.path(), 4096 + 512);
    let empty = dir.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    let missing = dir.path().join("missing");
    for driver in BOTH {
        let refused = |options: FileOptions| match create(driver, options) {
            Err(error) => words(&error),
            Ok(bdev) => panic!("{driver:?}: {bdev:?} was made"),
        };
        let blocks =
            |path: &Path, block_len| FileOptions { block_len: Some(block_len), ..options(path) };
        for (options, part) in [
            (options(&missing), "does not exist"),
            (options(dir.path()), "is a directory"),
            (options(Path::new("/dev/null")), "is a character device"),
            (options(&empty), "has 0 bytes, which is less than one block"),
            (blocks(&path, 65_536), "has 4608 bytes, which is less than one block of 65536"),
            (blocks(&path, 4096), "has 4608 bytes, which is not a multiple of the block size 4096"),
            (
                blocks(&path, 0),
                "the block size is 0 bytes; allowed: a power of two from 512 to 65536",
            ),
            (blocks(&path, 520), "the block size is 520 bytes"),
            (blocks(&path, 256), "the block size is 256 bytes"),
            (blocks(&path, 131_072), "the block size is 131072 bytes"),
        ] {
            let text = refused(options.clone());
            if text.contains("io_uring is not available") || text.contains("AIO is not") {
                continue;
            }
            assert!(text.contains(part), "{driver:?}: {text:?} lacks {part:?}");
            assert!(text.contains(options.path.to_str().unwrap()), "{text:?} lacks the path");
        }
    }
    assert!(!missing.exists());
}

#[test]
fn a_file_is_created_once_and_refused_with_another_size() {
    for driver in BOTH {
        let dir = dir();
        let path = dir.path().join("new");
        let sized = |size| FileOptions { create_size: Some(size), ..options(&path) };
        let Some(bdev) = made(driver, sized(1 << 20)) else { continue };
        assert_eq!(bdev.size_bytes(), 1 << 20);
        assert!(allocated(&path) >= 1 << 20, "the space is reserved");
        assert!(bdev.info().write_cache);
        let uuid = bdev.info().uuid;
        drop(bdev);
        let again = create(driver, sized(1 << 20)).unwrap();
        assert_eq!(again.info().uuid, uuid, "the identity is that of the file");
        drop(again);
        let given = Uuid::from_u128(5);
        let named = create(driver, FileOptions { uuid: Some(given), ..options(&path) }).unwrap();
        assert_eq!(named.info().uuid, given);
        drop(named);
        let error = words(&create(driver, sized(2 << 20)).unwrap_err());
        assert!(error.contains("1048576") && error.contains("2097152"), "{error}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
    }
}

#[test]
fn what_cannot_be_created_leaves_nothing_behind() {
    for driver in BOTH {
        let dir = dir();
        let path = dir.path().join("new");
        let sized = |size| FileOptions { create_size: Some(size), ..options(&path) };
        for size in [0, 100, 1000, i64::MAX as u64 & !511] {
            assert!(create(driver, sized(size)).is_err(), "{size}");
            assert!(!path.exists(), "{driver:?} left a file of {size} bytes");
        }
        let read_only = FileOptions { read_only: true, ..sized(1 << 20) };
        assert!(create(driver, read_only).is_err());
        assert!(!path.exists());
    }
}

#[test]
fn a_file_in_use_is_refused() {
    let dir = dir();
    let path = filled(dir.path(), 1 << 20);
    for first in BOTH {
        let Some(bdev) = made(first, options(&path)) else { continue };
        for second in BOTH {
            let error = match create(second, options(&path)) {
                Err(FileBdevError::NoAio(_) | FileBdevError::NoUring(_)) => continue,
                Err(error) => words(&error),
                Ok(bdev) => panic!("{bdev:?} was made twice"),
            };
            assert!(error.contains("in use"), "{error}");
        }
        drop(bdev);
    }
}

#[test]
fn a_rescan_finds_growth_and_shrinking() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), 1 << 20);
        let Some(bdev) = made(driver, options(&path)) else { continue };
        let reactor = reactor();
        let seen = Arc::new(AtomicU64::new(0));
        let listener: EventListener = {
            let seen = Arc::clone(&seen);
            Arc::new(move |_, event| {
                if let DeviceEvent::Resized { now, .. } = event {
                    seen.store(*now, Ordering::Relaxed);
                }
            })
        };
        let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", Some(listener)).unwrap();
        let handle = desc.io_handle().unwrap();
        let memory = reactor.memory().clone();
        let (offload, device) = (reactor.offload().clone(), Arc::clone(&bdev));
        let block = u64::from(bdev.info().block_len);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        reactor.block_on(async move {
            let buf = || memory.alloc(4096).unwrap();
            let (at, blocks) = ((1 << 20) / block, 4096 / block);
            let beyond = handle.write(buf(), at, blocks).await;
            assert_eq!(beyond.status, NvmeStatus::LBA_OUT_OF_RANGE);
            file.set_len(2 << 20).unwrap();
            assert_eq!(rescan(&device, &offload).await.unwrap(), (2 << 20) / block);
            handle.write(buf(), at, blocks).await.ok().unwrap();
            file.set_len(512 << 10).unwrap();
            rescan(&device, &offload).await.unwrap();
            let beyond = handle.read(buf(), at, blocks).await;
            assert_eq!(beyond.status, NvmeStatus::LBA_OUT_OF_RANGE);
            file.set_len(1000).unwrap();
            assert!(rescan(&device, &offload).await.is_err());
            assert_eq!(device.num_blocks(), (512 << 10) / block, "unchanged after an error");
        });
        assert_eq!(seen.load(Ordering::Relaxed), (512 << 10) / block);
    }
}
