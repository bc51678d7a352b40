//! What only one of the drivers has to refuse.

use super::*;

#[test]
fn aio_refuses_the_page_cache_and_names_uring() {
    let dir = dir();
    let path = filled(dir.path(), 4096);
    let buffered = FileOptions { direct: Some(false), ..options(&path) };
    let error = create(Driver::Aio, buffered).unwrap_err().to_string();
    assert!(error.contains("uring://") || error.contains("AIO is not available"), "{error}");
    let deep = aio::AioOptions { depth: 0, ..aio::AioOptions::new(options(&path)) };
    let error = aio::create(&deep).unwrap_err().to_string();
    assert!(error.contains("the queue depth is 0; allowed: 1 to 65536"), "{error}");
}

#[test]
fn uring_on_a_core_without_a_ring_is_refused_and_names_aio() {
    let dir = dir();
    let path = filled(dir.path(), 4096);
    let Some(bdev) = made(Driver::Uring, options(&path)) else { return };
    let memory = Memory::ordinary(4 << 20).unwrap();
    let config = ReactorConfig { ring: false, ..ReactorConfig::new(CoreId(0)) };
    let _reactor = LocalReactor::new(config, memory).unwrap();
    let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None).unwrap();
    let error = desc.io_handle().err().unwrap().to_string();
    assert!(error.contains("switched off") && error.contains("aio://"), "{error}");
}

#[test]
fn the_slots_of_registered_files_are_given_back() {
    let dir = dir();
    let path = filled(dir.path(), 4096);
    let Some(bdev) = made(Driver::Uring, options(&path)) else { return };
    let reactor = reactor();
    // More often than there are slots.
    for _ in 0..600 {
        drop(open(&bdev));
    }
    let other = std::fs::File::open(&path).unwrap();
    let slot = reactor.ring().unwrap().register_file(std::os::fd::AsFd::as_fd(&other));
    assert!(slot.is_some());
    let handle = open(&bdev);
    let buf = reactor.memory().alloc(4096).unwrap();
    let blocks = 4096 / u64::from(bdev.info().block_len);
    assert!(reactor.block_on(handle.read(buf, 0, blocks)).status.is_success());
}

#[test]
fn a_malloc_device_is_not_rescanned() {
    let reactor = reactor();
    let options = crate::drivers::malloc::MallocOptions {
        name: "m0".into(),
        uuid: None,
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 16,
    };
    let bdev = crate::drivers::malloc::create(reactor.memory(), options).unwrap();
    let offload = reactor.offload().clone();
    let error = reactor.block_on(async move { aio::rescan(&bdev, &offload).await }).unwrap_err();
    assert!(error.to_string().contains("'m0' is of the driver malloc"), "{error}");
}
