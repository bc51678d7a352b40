//! Many I/Os at once against a model of the content.

use futures::future::join_all;

use super::*;
use crate::bdev::{IoBuf, IoRequest, IoType, SgList};
use crate::env::Memory;

/// Workers, each of which has one I/O in flight and a part of the device of its own.
const WORKERS: u64 = 64;
const ROUNDS: u32 = 60;
const PART_BYTES: usize = 64 << 10;

/// The generator of `Reactor::random`, for each worker its own.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}

async fn work(handle: IoHandle, memory: Memory, block: usize, worker: u64, seed: u64) -> Vec<u8> {
    let mut random = Random(seed ^ (worker + 1) << 32);
    let start = usize::try_from(worker).unwrap() * PART_BYTES;
    let mut model = pattern(start, PART_BYTES);
    let part_blocks = (PART_BYTES / block) as u64;
    for _ in 0..ROUNDS {
        let at = random.below(part_blocks);
        let count = 1 + random.below((part_blocks - at).min(24));
        let (lba, range) = (start as u64 / block as u64 + at, {
            let from = usize::try_from(at).unwrap() * block;
            from..from + usize::try_from(count).unwrap() * block
        });
        // A transfer of up to three pieces.
        let pieces = |random: &mut Random| {
            let (mut rest, mut bufs) = (count, Vec::new());
            while rest > 0 {
                let last = bufs.len() == 2;
                let blocks = if last { rest } else { 1 + random.below(rest) };
                rest -= blocks;
                bufs.push(memory.alloc(usize::try_from(blocks).unwrap() * block).unwrap());
            }
            SgList::new(bufs)
        };
        match random.below(10) {
            0..4 => {
                let mut list = pieces(&mut random);
                let value = u8::try_from(random.below(255)).unwrap() + 1;
                for index in 0..list.bufs().len() {
                    list.buf_mut(index).unwrap().fill(value);
                }
                let request = IoRequest::new(IoType::Write, lba, count, list.into());
                let request = request.fua(random.below(8) == 0);
                handle.submit_async(request).await.ok().unwrap();
                model[range].fill(value);
            }
            4..8 => {
                let list = pieces(&mut random);
                let read = handle.read(list, lba, count).await.ok().unwrap();
                let read = read.into_list().unwrap();
                let data: Vec<_> = read.bufs().iter().flat_map(|b| b.as_slice().to_vec()).collect();
                assert!(data == model[range], "worker {worker} at block {lba}, seed {seed}");
            }
            8 => {
                let fua = random.below(4) == 0;
                let request = IoRequest::new(IoType::WriteZeroes, lba, count, IoBuf::None);
                handle.submit_async(request.fua(fua)).await.ok().unwrap();
                model[range].fill(0);
            }
            _ if handle.bdev().native_io_types().contains(IoType::Unmap) => {
                handle.unmap(lba, count).await.ok().unwrap();
                model[range].fill(0);
            }
            _ => handle.flush().await.ok().map(|_| ()).unwrap(),
        }
    }
    model
}

fn verify(bdev: &Arc<Bdev>, path: &Path, seed: u64) {
    let reactor = reactor();
    let block = bdev.info().block_len as usize;
    let handle = open(bdev);
    let memory = reactor.memory().clone();
    let parts = reactor.block_on(async move {
        let workers =
            (0..WORKERS).map(|worker| work(handle.clone(), memory.clone(), block, worker, seed));
        let parts = join_all(workers).await;
        handle.flush().await.ok().unwrap();
        parts
    });
    assert!(std::fs::read(path).unwrap() == parts.concat(), "seed {seed}");
    assert_eq!(BdevCore::of(&reactor).slots_in_use(), 0);
}

#[test]
fn random_io_at_depth_64_leaves_what_the_model_says() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), PART_BYTES * usize::try_from(WORKERS).unwrap());
        let Some(bdev) = made(driver, options(&path)) else { continue };
        verify(&bdev, &path, 0x51ed_2701);
    }
}

#[test]
fn a_context_of_depth_three_serves_64_at_once() {
    let dir = dir();
    let path = filled(dir.path(), PART_BYTES * usize::try_from(WORKERS).unwrap());
    let shallow = aio::AioOptions { depth: 3, ..aio::AioOptions::new(options(&path)) };
    match aio::create(&shallow) {
        Ok(bdev) => verify(&bdev, &path, 42),
        Err(error) => println!("skipped: {error}"),
    }
}

#[test]
fn buffered_uring_leaves_what_the_model_says() {
    let dir = dir();
    let path = filled(dir.path(), PART_BYTES * usize::try_from(WORKERS).unwrap());
    let Some(bdev) = made(Driver::Uring, FileOptions { direct: Some(false), ..options(&path) })
    else {
        return;
    };
    assert_eq!(bdev.ops().driver_info()["uring"]["direct"], false);
    assert!(bdev.info().write_cache);
    verify(&bdev, &path, 7);
}

#[test]
fn polled_completions_leave_what_the_model_says_or_the_device_refuses_them() {
    let dir = dir();
    let path = filled(dir.path(), PART_BYTES * usize::try_from(WORKERS).unwrap());
    let polled = uring::UringOptions { file: options(&path), iopoll: Some(true) };
    match uring::create(&polled) {
        Ok(bdev) => {
            verify(&bdev, &path, 11);
            println!("{}", bdev.ops().driver_info());
        }
        Err(error) => println!("skipped: {error}"),
    }
}
