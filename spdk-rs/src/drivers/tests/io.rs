//! Data, and what else a device does with its blocks.

use super::*;
use crate::NvmeStatus;
use crate::bdev::{IoRequest, IoType, SgList};

#[test]
fn what_is_written_is_read_and_is_in_the_file() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), 4 << 20);
        let Some(bdev) = made(driver, options(&path)) else { continue };
        let reactor = reactor();
        let handle = open(&bdev);
        let memory = reactor.memory().clone();
        let block = bdev.info().block_len as usize;
        reactor.block_on(async move {
            // One block, then 30 pieces of different lengths, then 1 MiB at once.
            let lens: Vec<_> = (0..30).map(|piece| (piece % 5 + 1) * block).collect();
            for pieces in [vec![block], lens, vec![1 << 20]] {
                let total: usize = pieces.iter().sum();
                let bufs = || pieces.iter().map(|&len| memory.alloc(len).unwrap()).collect();
                let mut list = SgList::new(bufs());
                for (index, &len) in pieces.iter().enumerate() {
                    let value = u8::try_from(200 + index).unwrap();
                    list.buf_mut(index).unwrap()[..len].fill(value);
                }
                let blocks = (total / block) as u64;
                handle.write(list, 3, blocks).await.ok().unwrap();
                let read = handle.read(SgList::new(bufs()), 3, blocks).await.ok().unwrap();
                let read = read.into_list().unwrap();
                for (index, buf) in read.bufs().iter().enumerate() {
                    let value = u8::try_from(200 + index).unwrap();
                    assert!(buf.as_slice().iter().all(|&byte| byte == value));
                }
                handle.flush().await.ok().unwrap();
                let content: Vec<_> =
                    read.bufs().iter().flat_map(|buf| buf.as_slice().to_vec()).collect();
                let file = std::fs::read(&path).unwrap();
                assert!(file[3 * block..3 * block + total] == content[..]);
                assert!(file[..3 * block] == pattern(0, 3 * block)[..]);
            }
        });
        let stats = bdev.stats();
        assert_eq!((stats.of(IoType::Flush).ops, stats.of(IoType::Write).ops), (3, 3));
    }
}

#[test]
fn single_buffers_go_from_and_to_the_place_named() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), 1 << 20);
        let Some(bdev) = made(driver, options(&path)) else { continue };
        let reactor = reactor();
        let handle = open(&bdev);
        let block = bdev.info().block_len as usize;
        let mut buf = reactor.memory().alloc(2 * block).unwrap();
        buf.fill(0);
        reactor.block_on(async move {
            let last = handle.num_blocks() - 2;
            let done = handle.read(buf, last, 2).await.ok().unwrap();
            let mut buf = done.into_one().unwrap();
            assert!(buf.as_slice() == &pattern((1 << 20) - 2 * block, 2 * block)[..]);
            buf.fill(7);
            handle.write_fua(buf, 10, 2).await.ok().unwrap();
            let file = std::fs::read(&path).unwrap();
            let mut expected = pattern(0, 1 << 20);
            expected[10 * block..12 * block].fill(7);
            assert!(file == expected);
        });
    }
}

#[test]
fn unmapped_blocks_read_zero_and_go_back_to_the_file_system() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), 4 << 20);
        let Some(bdev) = made(driver, options(&path)) else { continue };
        if !bdev.native_io_types().contains(IoType::Unmap) {
            println!("skipped: this file system has no holes");
            continue;
        }
        let reactor = reactor();
        let handle = open(&bdev);
        let memory = reactor.memory().clone();
        let blocks_of = |bytes: u64| bytes / u64::from(bdev.info().block_len);
        let (from, count) = (blocks_of(1 << 20), blocks_of(2 << 20));
        let before = allocated(&path);
        reactor.block_on(async move {
            handle.unmap(from, count).await.ok().unwrap();
            let buf = memory.alloc(2 << 20).unwrap();
            let read = handle.read(buf, from, count).await.ok().unwrap();
            assert!(read.into_one().unwrap().as_slice().iter().all(|&byte| byte == 0));
            handle.flush().await.ok().unwrap();
        });
        assert!(allocated(&path) + (2 << 20) <= before);
        let file = std::fs::read(&path).unwrap();
        assert_eq!(file.len(), 4 << 20);
        assert!(file[..1 << 20] == pattern(0, 1 << 20)[..]);
        assert!(file[3 << 20..] == pattern(3 << 20, 1 << 20)[..]);
    }
}

#[test]
fn zeroes_are_written_with_and_without_force_unit_access() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), 1 << 20);
        let Some(bdev) = made(driver, options(&path)) else { continue };
        let reactor = reactor();
        let handle = open(&bdev);
        let block = bdev.info().block_len as usize;
        reactor.block_on(async move {
            handle.write_zeroes(5, 100).await.ok().unwrap();
            let none = crate::bdev::IoBuf::None;
            let request = IoRequest::new(IoType::WriteZeroes, 200, 7, none).fua(true);
            handle.submit_async(request).await.ok().unwrap();
        });
        let mut expected = pattern(0, 1 << 20);
        expected[5 * block..105 * block].fill(0);
        expected[200 * block..207 * block].fill(0);
        assert!(std::fs::read(&path).unwrap() == expected);
    }
}

#[test]
fn a_file_cut_while_open_fails_reads_behind_its_end() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), 1 << 20);
        let Some(bdev) = made(driver, options(&path)) else { continue };
        let reactor = reactor();
        let handle = open(&bdev);
        let memory = reactor.memory().clone();
        let block = u64::from(bdev.info().block_len);
        // The end lies inside a block.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(20 * block + 100).unwrap();
        reactor.block_on(async move {
            let len = usize::try_from(block).unwrap();
            let buf = |blocks: usize| memory.alloc(blocks * len).unwrap();
            let gone = handle.read(buf(4), 40, 4).await;
            assert_eq!(gone.status, NvmeStatus::UNRECOVERED_READ_ERROR);
            let across = handle.read(buf(8), 16, 8).await;
            assert_eq!(across.status, NvmeStatus::UNRECOVERED_READ_ERROR);
            let list = SgList::new((0..8).map(|_| buf(1)).collect());
            let across = handle.read(list, 16, 8).await;
            assert_eq!(across.status, NvmeStatus::UNRECOVERED_READ_ERROR);
            handle.read(buf(20), 0, 20).await.ok().unwrap();
            // Writes make it longer again, zeroes as well as data.
            handle.write_zeroes(40, 8).await.ok().unwrap();
            let read = handle.read(buf(8), 40, 8).await.ok().unwrap();
            assert!(read.into_one().unwrap().as_slice().iter().all(|&byte| byte == 0));
            let mut data = buf(2);
            data.fill(9);
            handle.write(data, 100, 2).await.ok().unwrap();
            let read = handle.read(buf(2), 100, 2).await.ok().unwrap();
            assert!(read.into_one().unwrap().as_slice().iter().all(|&byte| byte == 9));
        });
    }
}

#[test]
fn what_the_layer_above_emulates_works_over_files() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), 1 << 20);
        let Some(bdev) = made(driver, options(&path)) else { continue };
        let reactor = reactor();
        let handle = open(&bdev);
        let memory = reactor.memory().clone();
        let block = bdev.info().block_len as usize;
        reactor.block_on(async move {
            let mut buf = memory.alloc(4 * block).unwrap();
            buf.as_mut_slice().copy_from_slice(&pattern(8 * block, 4 * block));
            let done = handle.compare(buf, 8, 4).await;
            assert!(done.status.is_success());
            let buf = done.buf.into_one().unwrap();
            assert_eq!(handle.compare(buf, 9, 4).await.status, NvmeStatus::COMPARE_FAILURE);
            handle.copy(100, 8, 4).await.ok().unwrap();
            handle.reset().await.ok().unwrap();
            assert_eq!(
                handle.unmap(handle.num_blocks(), 1).await.status,
                NvmeStatus::LBA_OUT_OF_RANGE
            );
        });
        let file = std::fs::read(&path).unwrap();
        assert!(file[100 * block..104 * block] == pattern(8 * block, 4 * block)[..]);
    }
}

#[test]
fn a_read_only_device_reads_and_refuses_the_rest() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), 1 << 20);
        let read_only = || FileOptions { read_only: true, ..options(&path) };
        let Some(bdev) = made(driver, read_only()) else { continue };
        let reactor = reactor();
        assert!(BdevDesc::open(&bdev, OpenMode::ReadWrite, "writer", None).is_err());
        let desc = BdevDesc::open(&bdev, OpenMode::Read, "reader", None).unwrap();
        let handle = desc.io_handle().unwrap();
        let buf = reactor.memory().alloc(4096).unwrap();
        let blocks = 4096 / u64::from(bdev.info().block_len);
        reactor.block_on(async move {
            let buf = handle.read(buf, 0, blocks).await.ok().unwrap().into_one().unwrap();
            assert!(buf.as_slice() == &pattern(0, 4096)[..]);
            handle.flush().await.ok().unwrap();
            let refused = handle.write(buf, 0, blocks).await;
            assert_eq!(refused.status, NvmeStatus::WRITE_TO_READ_ONLY);
        });
        assert_eq!(bdev.ops().driver_info()[bdev.info().driver_name]["readonly"], true);
        // Readers share a file, a writer does not come in.
        let second = create(driver, read_only()).unwrap();
        assert!(matches!(create(driver, options(&path)), Err(FileBdevError::Open(_))));
        drop((second, bdev));
    }
}

#[test]
fn a_handle_dropped_with_io_in_flight_frees_everything_in_the_end() {
    for driver in BOTH {
        let dir = dir();
        let path = filled(dir.path(), 4 << 20);
        let Some(bdev) = made(driver, options(&path)) else { continue };
        let reactor = reactor();
        let handle = open(&bdev);
        let block = u64::from(bdev.info().block_len);
        for part in 0..32_u64 {
            let mut buf = reactor.memory().alloc(64 << 10).unwrap();
            buf.fill(77);
            drop(handle.write(buf, part * (64 << 10) / block, (64 << 10) / block));
        }
        drop(handle.write_zeroes(0, 8));
        drop(handle.flush());
        drop(handle);
        settle(&reactor);
        drop(bdev);
        // The channel went with its last I/O, and the lock of the file with the device.
        let bdev = create(driver, options(&path)).unwrap();
        let file = std::fs::read(&path).unwrap();
        assert!(file[usize::try_from(8 * block).unwrap()..2 << 20].iter().all(|&byte| byte == 77));
        drop(bdev);
    }
}
