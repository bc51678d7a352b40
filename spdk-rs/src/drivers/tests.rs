//! The file drivers on real files: each test runs on both, where the kernel has them.

mod block_device;
mod create;
mod full;
mod io;
mod random;
mod single;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use spdk_rs_sys::cpu::CoreId;
use tempfile::TempDir;

use super::common::{FileBdevError, FileOptions};
use super::{aio, uring};
use crate::bdev::{Bdev, BdevCore, BdevDesc, IoHandle, OpenMode};
use crate::env::Memory;
use crate::reactor::{LocalReactor, Reactor, ReactorConfig};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    Aio,
    Uring,
}

const BOTH: [Driver; 2] = [Driver::Aio, Driver::Uring];

fn create(driver: Driver, options: FileOptions) -> Result<Arc<Bdev>, FileBdevError> {
    match driver {
        Driver::Aio => aio::create(&aio::AioOptions::new(options)),
        Driver::Uring => uring::create(&uring::UringOptions::new(options)),
    }
}

/// The device, or none with a line that says why not, where the kernel or the file system lacks
/// what the driver needs.
fn made(driver: Driver, options: FileOptions) -> Option<Arc<Bdev>> {
    match create(driver, options) {
        Ok(bdev) => Some(bdev),
        Err(
            error @ (FileBdevError::NoAio(_)
            | FileBdevError::NoUring(_)
            | FileBdevError::AioNeedsDirect { .. }),
        ) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{driver:?}: {error:?}"),
    }
}

/// A directory on a disk, where direct I/O is likely to work.
fn dir() -> TempDir {
    let exe = std::env::current_exe().unwrap();
    tempfile::tempdir_in(exe.parent().unwrap()).unwrap()
}

/// A file of bytes that tell their place.
fn filled(dir: &Path, len: usize) -> PathBuf {
    let path = dir.join("disk");
    std::fs::write(&path, pattern(0, len)).unwrap();
    std::fs::File::open(&path).unwrap().sync_all().unwrap();
    path
}

/// The bytes of a filled file from `off` on.
fn pattern(off: usize, len: usize) -> Vec<u8> {
    (off..off + len).map(|at| u8::try_from((at / 512 * 31 + at) % 251 + 1).unwrap()).collect()
}

fn options(path: &Path) -> FileOptions {
    FileOptions::new("d0", path)
}

fn reactor() -> LocalReactor {
    let memory = Memory::ordinary(64 << 20).unwrap();
    LocalReactor::new(ReactorConfig::new(CoreId(0)), memory).unwrap()
}

fn open(bdev: &Arc<Bdev>) -> IoHandle {
    BdevDesc::open(bdev, OpenMode::ReadWrite, "test", None).unwrap().io_handle().unwrap()
}

/// Turns until nothing is in flight.
fn settle(reactor: &Rc<Reactor>) {
    while BdevCore::of(reactor).slots_in_use() != 0 {
        reactor.turn();
    }
    // One more turn lets go of channels that have become idle.
    reactor.block_on(crate::reactor::yield_now());
}

/// Bytes that a file takes on its disk.
fn allocated(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}
