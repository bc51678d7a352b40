//! Block devices: loop devices over files, which takes the rights to make them.

use std::process::Command;

use super::*;
use crate::bdev::{IoBuf, IoRequest, IoType};

/// A loop device that goes when it is dropped.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path, sector: u32) -> Option<Self> {
        let made = Command::new("losetup")
            .args(["--find", "--show", "--direct-io=on", "--sector-size", &sector.to_string()])
            .arg(file)
            .output();
        match made {
            Ok(made) if made.status.success() => {
                Some(Self(String::from_utf8(made.stdout).unwrap().trim().into()))
            }
            Ok(made) => {
                println!("skipped: {}", String::from_utf8_lossy(&made.stderr));
                None
            }
            Err(error) => {
                println!("skipped: losetup: {error}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

#[test]
fn a_block_device_does_all_that_a_file_does() {
    let dir = dir();
    let path = filled(dir.path(), 8 << 20);
    let Some(device) = Loop::over(&path, 512) else { return };
    for driver in BOTH {
        let Some(bdev) = made(driver, options(&device.0)) else { continue };
        assert_eq!((bdev.size_bytes(), bdev.info().block_len), (8 << 20, 512));
        assert!(create(driver, options(&device.0)).is_err(), "opened exclusively");
        let types = bdev.native_io_types();
        assert!(types.contains(IoType::WriteZeroes));
        let reactor = reactor();
        let handle = open(&bdev);
        let memory = reactor.memory().clone();
        reactor.block_on(async move {
            let mut buf = memory.alloc(1 << 20).unwrap();
            buf.fill(0xd1);
            handle.write_fua(buf, 0, 2048).await.ok().unwrap();
            let zeroes = IoRequest::new(IoType::WriteZeroes, 8, 16, IoBuf::None).fua(true);
            handle.submit_async(zeroes).await.ok().unwrap();
            if types.contains(IoType::Unmap) {
                handle.unmap(1024, 1024).await.ok().unwrap();
            }
            handle.flush().await.ok().unwrap();
            let buf = memory.alloc(1 << 20).unwrap();
            let buf = handle.read(buf, 0, 2048).await.ok().unwrap().into_one().unwrap();
            let zero = |from: usize, to: usize| {
                buf.as_slice()[from * 512..to * 512].iter().all(|&byte| byte == 0)
            };
            assert!(zero(8, 24) && !zero(0, 8) && !zero(24, 1024));
            // A loop device punches holes into its file, which read as zero.
            assert!(!types.contains(IoType::Unmap) || zero(1024, 2048));
        });
    }
}

#[test]
fn a_block_below_the_logical_one_is_refused() {
    let dir = dir();
    let path = filled(dir.path(), 8 << 20);
    let Some(device) = Loop::over(&path, 4096) else { return };
    for driver in BOTH {
        let small = FileOptions { block_len: Some(512), ..options(&device.0) };
        match create(driver, small) {
            Err(error @ FileBdevError::BlockLen { .. }) => {
                assert!(error.to_string().contains("from 4096 to 65536"), "{error}");
            }
            Err(FileBdevError::NoAio(_) | FileBdevError::NoUring(_)) => {}
            other => panic!("{other:?}"),
        }
        let Some(bdev) = made(driver, options(&device.0)) else { continue };
        assert_eq!(bdev.info().block_len, 4096);
    }
}

#[test]
fn a_block_device_that_grew_is_rescanned() {
    let dir = dir();
    let path = filled(dir.path(), 1 << 20);
    let Some(device) = Loop::over(&path, 512) else { return };
    for (driver, size) in BOTH.into_iter().zip([2 << 20, 4 << 20]) {
        let Some(bdev) = made(driver, options(&device.0)) else { continue };
        let reactor = reactor();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
        let grown = Command::new("losetup").arg("--set-capacity").arg(&device.0).status().unwrap();
        assert!(grown.success());
        let (offload, found) = (reactor.offload().clone(), Arc::clone(&bdev));
        let blocks =
            reactor.block_on(async move { uring::rescan(&found, &offload).await.unwrap() });
        assert_eq!(blocks * 512, size);
        assert_eq!(bdev.size_bytes(), size);
    }
}
