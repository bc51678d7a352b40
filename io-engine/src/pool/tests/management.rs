//! Parts of blocks, scrubs, labels, and the end of a pool.

use super::*;

/// Pseudorandom numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % end
    }
}

async fn write_bytes(volume: &Volume, offset: u64, bytes: &[u8]) {
    let span = Span::of(offset, bytes.len() as u64);
    let mut buf = block(span.blocks, 0xee);
    let end = buf.len() - span.tail;
    buf.as_mut_slice()[span.head..end].copy_from_slice(bytes);
    assert_eq!(volume.write_span(span, buf, false).await, NvmeStatus::SUCCESS);
}

async fn contents(volume: &Volume, blocks: u64) -> Vec<u8> {
    let (status, buf) = volume.read(0, block(blocks, 0xee)).await;
    assert_eq!(status, NvmeStatus::SUCCESS);
    buf.as_slice().to_vec()
}

async fn small_volume(pool: &Rc<Pool>, blocks: u64) -> Rc<Volume> {
    let options = VolumeOptions { block_len: 512, ..VolumeOptions::default() };
    pool.create_volume("small", blocks * 4096, &options).await.unwrap()
}

#[test]
fn parts_of_blocks_are_written_cleared_and_kept() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = small_volume(&pool, 16).await;
        let mut shadow = vec![0_u8; 16 * 4096];
        let mut random = Random(7);
        for round in 0..600_u64 {
            let sector = random.below(128);
            let sectors = 1 + random.below((128 - sector).min(20));
            let (offset, len) = (sector * 512, sectors * 512);
            let range = usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap();
            let span = Span::of(offset, len);
            match random.below(5) {
                0 => {
                    assert_eq!(volume.zero_span(span, false).await, NvmeStatus::SUCCESS);
                    shadow[range].fill(0);
                }
                1 => {
                    assert_eq!(volume.unmap_span(span).await, NvmeStatus::SUCCESS);
                    let first = range.start.next_multiple_of(4096);
                    let end = range.end / 4096 * 4096;
                    if first < end {
                        shadow[first..end].fill(0);
                    }
                }
                _ => {
                    let fill = u8::try_from(round % 255).unwrap() + 1;
                    shadow[range.clone()].fill(fill);
                    write_bytes(&volume, offset, &shadow[range]).await;
                }
            }
            if round % 50 == 0 {
                assert!(contents(&volume, 16).await == shadow, "round {round}");
            }
        }
        assert!(contents(&volume, 16).await == shadow);
        clean(&pool).await;
    });
}

#[test]
fn writes_to_parts_of_one_block_do_not_undo_each_other() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = small_volume(&pool, 4).await;
        let writes = (0..8_u8).map(|sector| {
            let volume = &volume;
            async move { write_bytes(volume, u64::from(sector) * 512, &[sector + 1; 512]).await }
        });
        futures::future::join_all(writes).await;
        let seen = contents(&volume, 1).await;
        let sectors: Vec<u8> = seen.chunks(512).map(|sector| sector[0]).collect();
        assert_eq!(sectors, [1, 2, 3, 4, 5, 6, 7, 8]);
    });
}

#[test]
fn a_part_of_a_damaged_block_is_not_written() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = small_volume(&pool, 4).await;
        write(&volume, 0, 1, 5).await;
        damage(&pool, &volume, 0).await;
        let span = Span::of(512, 512);
        let status = volume.write_span(span, block(1, 9), false).await;
        assert_eq!(status, NvmeStatus::UNRECOVERED_READ_ERROR.with_do_not_retry(true));
        // The whole block can be replaced.
        write(&volume, 0, 1, 6).await;
        assert_eq!(read(&volume, 0).await, 6);
    });
}

#[test]
fn snapshots_take_no_parts_of_blocks() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = small_volume(&pool, 4).await;
        let snapshot = pool.snapshot(&volume, "s").await.unwrap();
        let span = Span::of(512, 512);
        let written = snapshot.write_span(span, block(1, 9), false).await;
        assert_eq!(written, NvmeStatus::WRITE_PROTECTED);
        assert_eq!(snapshot.zero_span(span, false).await, NvmeStatus::WRITE_PROTECTED);
    });
}

/// Overwrites the block that a block of a volume lies in.
async fn damage(pool: &Rc<Pool>, volume: &Volume, at: u64) {
    let ptrs = pool.pointers(volume.dataset(), at, 1).await.unwrap();
    pool.device.write_bytes(ptrs[0].address(), &[0x55; 4096]).await.unwrap();
}

async fn scrubbed(pool: &Rc<Pool>) -> ScrubStatus {
    while pool.scrub_status().state == ScrubState::Running {
        sleep(Duration::from_millis(10)).await;
    }
    pool.scrub_status()
}

#[test]
fn a_scrub_reads_every_block_once_and_names_what_is_damaged() {
    run(32, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", 1 << 40, &VolumeOptions::default()).await.unwrap();
        write(&volume, 0, 200, 1).await;
        let snapshot = pool.snapshot(&volume, "s").await.unwrap();
        write(&volume, 100, 10, 2).await;
        write(&volume, (1 << 28) - 1, 1, 3).await;
        pool.start_scrub(0).unwrap();
        assert!(pool.start_scrub(0).unwrap_err().to_string().contains("a scrub is under way"));
        let status = scrubbed(&pool).await;
        assert_eq!((status.state, status.percent), (ScrubState::Done, 100));
        assert_eq!(status.scrubbed_bytes, (200 + 10 + 1) * 4096);
        assert_eq!((status.damaged_blocks, status.passed_bytes), (0, 2 << 40));
        damage(&pool, &snapshot, 70).await;
        damage(&pool, &volume, 105).await;
        pool.start_scrub(0).unwrap();
        let status = scrubbed(&pool).await;
        let named: Vec<_> =
            status.damaged.iter().map(|one| (one.volume.as_str(), one.block, one.blocks)).collect();
        assert_eq!(named, [("v", 105, 1), ("s", 70, 1)]);
        assert_eq!(status.damaged_blocks, 2);
        assert!(status.damaged[0].problem.contains("does not match its digest"));
    });
}

#[test]
fn a_scrub_keeps_to_its_rate_and_can_be_stopped() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", 8 * MIB, &VolumeOptions::default()).await.unwrap();
        write(&volume, 0, 256, 1).await;
        let clock = || Reactor::current().unwrap().clock().clone();
        let begun = clock().ticks();
        pool.start_scrub(512 << 10).unwrap();
        assert_eq!(scrubbed(&pool).await.state, ScrubState::Done);
        let took = clock().duration_of(clock().ticks() - begun);
        assert!((1.9..2.3).contains(&took.as_secs_f64()), "1 MiB took {took:?}");
        pool.start_scrub(1).unwrap();
        sleep(Duration::from_secs(1)).await;
        pool.stop_scrub();
        let status = scrubbed(&pool).await;
        assert_eq!((status.state, status.scrubbed_bytes), (ScrubState::Stopped, 64 * 4096));
        // An export does not wait for a slow scrub either.
        pool.start_scrub(1).unwrap();
        pool.export().await.unwrap();
        assert_eq!(scrubbed(&pool).await.state, ScrubState::Stopped);
    });
}

#[test]
fn a_wiped_device_holds_no_pool_and_nothing_of_the_old_one_comes_back() {
    run(16, async |bdev| {
        let uuid = Some(Uuid::from_u128(1));
        let options = PoolOptions { uuid, ..options() };
        let pool = Pool::create(open(&bdev), &options).await.unwrap();
        let volume = pool.create_volume("v", MIB, &VolumeOptions::default()).await.unwrap();
        write(&volume, 0, 1, 1).await;
        let label = Pool::label(open(&bdev)).await.unwrap();
        assert_eq!((label.name.as_str(), label.uuid.as_u128(), label.clean), ("tank", 1, false));
        pool.export().await.unwrap();
        assert!(Pool::label(open(&bdev)).await.unwrap().clean);
        Pool::wipe(open(&bdev)).await.unwrap();
        let gone = Pool::label(open(&bdev)).await.unwrap_err();
        assert!(matches!(gone, PoolError::NotAPool { .. }), "{gone}");
        Pool::create(open(&bdev), &options).await.unwrap();
        let pool = import(&bdev).await;
        assert_eq!((pool.volumes().len(), pool.stats().recovery_records), (0, 0));
        clean(&pool).await;
    });
}

#[test]
fn a_thick_volume_has_its_space_and_a_decoupled_one_is_found_fast() {
    run(16, async |bdev| {
        let pool = make(&bdev).await;
        let volume = pool.create_volume("v", 1 << 44, &VolumeOptions::default()).await.unwrap();
        write(&volume, 1 << 31, 3, 1).await;
        let snapshot = pool.snapshot(&volume, "s").await.unwrap();
        let clone = pool.clone_volume(&snapshot, "c").await.unwrap();
        // 2^32 blocks of holes are not looked at one by one.
        pool.decouple(&clone).await.unwrap();
        assert_eq!(read(&clone, (1 << 31) + 2).await, 1);
        let refused = pool.make_thick(&clone).await.unwrap_err();
        assert!(matches!(refused, PoolError::NoSpace { .. }), "{refused}");
        let small = pool.create_volume("t", MIB, &VolumeOptions::default()).await.unwrap();
        let before = pool.available_bytes();
        pool.make_thick(&small).await.unwrap();
        assert!(before - pool.available_bytes() >= MIB);
        clean(&pool).await;
    });
}

#[test]
fn one_write_fits_the_journal_however_small() {
    run(16, async |bdev| {
        for journal_bytes in [16 * 4096, 64 * 4096] {
            let made = PoolOptions { journal_bytes: Some(journal_bytes), force: true, ..options() };
            let pool = Pool::create(open(&bdev), &made).await.unwrap();
            let volume = pool.create_volume("v", 4 * MIB, &VolumeOptions::default()).await.unwrap();
            let most = pool.write_blocks_max();
            assert!((100..=256).contains(&most), "{most}");
            write(&volume, 0, most, 1).await;
            assert_eq!(read(&volume, most - 1).await, 1);
        }
    });
}
