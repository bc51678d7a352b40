//! Magazines: what they hold counts as free, and no block is in two places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use super::rng::Rng;
use super::*;

fn shared(size_bytes: u64) -> Arc<SharedAllocator> {
    SharedAllocator::new(of_size(size_bytes)).unwrap()
}

#[test]
fn what_a_magazine_holds_is_free() {
    let shared = shared(256 * MIB);
    let mut magazine = Magazine::new(&shared);
    let block = magazine.allocate(4096).unwrap();
    assert_eq!(block.into_vec(), [Block::new(0, BlockType::K4)], "the lowest first");
    assert_eq!(shared.remaining(), 256 * MIB - 4096);
    assert_eq!(shared.fragmentation().cached_bytes, 63 * 4096);
    let blocks: Vec<_> =
        (0..1000).map(|_| magazine.allocate_block(BlockType::K64).unwrap()).collect();
    assert_eq!(shared.remaining(), 256 * MIB - 4096 - 1000 * 64 * KIB);
    magazine.free(&blocks).unwrap();
    magazine.free_block(&Block::new(0, BlockType::K4)).unwrap();
    assert_eq!(shared.remaining(), 256 * MIB);
    assert!(shared.fragmentation().cached_bytes > 0);
    magazine.drain();
    assert_eq!(shared.fragmentation().cached_bytes, 0);
    assert_eq!(shared.fragmentation().free_blocks, [0, 0, 0, 256]);
}

#[test]
fn a_dropped_magazine_leaves_nothing_behind() {
    let shared = shared(8 * MIB);
    let mut magazine = Magazine::new(&shared);
    let block = magazine.allocate_block(BlockType::K4).unwrap();
    drop(magazine);
    assert_eq!(shared.fragmentation().cached_bytes, 0);
    shared.free(&[block]).unwrap();
    assert_eq!(shared.fragmentation().free_blocks, [0, 0, 0, 8]);
}

#[test]
fn wrong_blocks_are_refused_by_name() {
    let shared = shared(256 * MIB);
    let (mut one, mut two) = (Magazine::new(&shared), Magazine::new(&shared));
    let small = one.allocate_block(BlockType::K4).unwrap();
    let other = two.allocate_block(BlockType::K4).unwrap();
    let medium = one.allocate_block(BlockType::K64).unwrap();
    let large = one.allocate(2 * MIB).unwrap();
    let free = shared.remaining();
    let cached = Block::new(small.offset + 4096, BlockType::K4);
    let (start, end) = (0, 256 * MIB);
    let outside = Block::new(end, BlockType::K4);
    let odd = Block::new(small.offset + 512, BlockType::K4);
    let wrong = Block::new(medium.offset, BlockType::K4);
    let wide = Block::new(small.offset, BlockType::K64);
    let long = Block { size: 8192, ..small };
    for (block, error) in [
        (cached, BlockError::NotAllocated { block: cached }),
        (outside, BlockError::Outside { block: outside, start, end }),
        (odd, BlockError::Misaligned { block: odd, start }),
        (wrong, BlockError::WrongType { block: wrong, actual: medium }),
        (
            wide,
            BlockError::WrongType { block: wide, actual: Block::new(small.offset, BlockType::K4) },
        ),
        (long, BlockError::Size { block: long }),
    ] {
        assert_eq!(two.free_block(&block), Err(error));
        assert_eq!(shared.free(&[block]), Err(error));
        assert_eq!(two.free(&[small, block]), Err(error));
        assert_eq!(two.free(&[large[0], block, medium]), Err(error));
    }
    assert_eq!(two.free(&[small, other, small]), Err(BlockError::Repeated { block: small }));
    assert_eq!(shared.remaining(), free);
    // What one core was given another one frees.
    two.free(&[small, medium]).unwrap();
    one.free(&large).unwrap();
    for magazine in [&mut one, &mut two] {
        assert_eq!(magazine.free_block(&small), Err(BlockError::NotAllocated { block: small }));
        assert_eq!(magazine.free_block(&medium), Err(BlockError::NotAllocated { block: medium }));
        assert!(magazine.free(&large).is_err());
    }
    shared.free(&[other]).unwrap();
    assert_eq!(shared.remaining(), 256 * MIB);
}

#[test]
fn full_means_full() {
    let shared = shared(4 * MIB);
    let (mut one, mut two) = (Magazine::new(&shared), Magazine::new(&shared));
    let mut blocks = vec![one.allocate_block(BlockType::K4).unwrap()];
    let all = 4 * MIB / 4096;
    while let Ok(block) = two.allocate_block(BlockType::K4) {
        blocks.push(block);
    }
    let left = shared.remaining();
    let error = two.allocate(1).unwrap_err();
    let AllocError::NoSpace { cached_bytes, remaining_bytes, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((cached_bytes, remaining_bytes), (left, left), "{error}");
    while let Ok(block) = one.allocate_block(BlockType::K4) {
        blocks.push(block);
    }
    assert_eq!((blocks.len() as u64, shared.remaining()), (all, 0));
    two.free(&blocks).unwrap();
    // What the own magazine and the depot hold is joined when a larger block is asked for.
    assert_eq!(two.allocate(4 * MIB).unwrap().len(), 4);
    assert_eq!(shared.remaining(), 0);
}

#[test]
fn a_rebuilt_allocator_knows_who_has_what() {
    let space = Space::of_size(4 * MIB);
    let blocks = [Block::new(0, BlockType::K4), Block::new(64 * KIB, BlockType::K64)];
    let inner = Allocator::from_allocated(space, blocks).unwrap();
    let shared = SharedAllocator::new(inner).unwrap();
    let mut magazine = Magazine::new(&shared);
    assert!(magazine.free_block(&Block::new(4096, BlockType::K4)).is_err());
    magazine.free(&blocks).unwrap();
    assert_eq!(shared.remaining(), 4 * MIB);
}

#[test]
fn alignment_leaves_out_the_small_classes() {
    let space = Space { base_offset: 0, size_bytes: 8 * MIB, alignment: 128 * KIB };
    let shared = SharedAllocator::new(Allocator::new(space).unwrap()).unwrap();
    let mut magazine = Magazine::new(&shared);
    let block = magazine.allocate_block(BlockType::K4).unwrap();
    assert_eq!(block.block_type, BlockType::K256);
    magazine.free_block(&block).unwrap();
    assert_eq!(shared.remaining(), 8 * MIB);
}

/// Cores that allocate, free, and hand blocks to their neighbour; a map of the units finds a block
/// that two have.
#[test]
fn cores_share_a_small_space() {
    const CORES: usize = 4;
    let shared = shared(6 * MIB);
    let taken: Arc<Vec<AtomicBool>> = Arc::new((0..1536).map(|_| AtomicBool::new(false)).collect());
    let (ends, mut inboxes): (Vec<_>, Vec<_>) =
        (0..CORES).map(|_| mpsc::channel::<Block>()).unzip();
    let mut workers = Vec::new();
    for core in 0..CORES {
        let (shared, taken) = (Arc::clone(&shared), Arc::clone(&taken));
        let (next, inbox) = (ends[(core + 1) % CORES].clone(), inboxes.remove(0));
        workers.push(thread::spawn(move || {
            let (mut magazine, mut rng) = (Magazine::new(&shared), Rng(core as u64 + 1));
            let mut held = Vec::new();
            let mark = |block: &Block, to: bool| {
                for unit in block.offset / 4096..(block.offset + block.size) / 4096 {
                    let was = taken[usize::try_from(unit).unwrap()].swap(to, Ordering::Relaxed);
                    assert_ne!(was, to, "{block}");
                }
            };
            for _ in 0..20_000 {
                held.extend(inbox.try_iter());
                let size = [4096, 4096, 4096, 65536, 262_144, MIB][rng.below(6)];
                if let Ok(blocks) = magazine.allocate(size) {
                    blocks.iter().for_each(|block| mark(block, true));
                    held.extend(&blocks);
                }
                while held.len() > 60 || (rng.below(2) == 0 && !held.is_empty()) {
                    let block = held.swap_remove(rng.below(held.len()));
                    if rng.below(4) == 0 && next.send(block).is_ok() {
                        continue;
                    }
                    mark(&block, false);
                    magazine.free(&[block]).unwrap();
                }
            }
            drop(next);
            held.extend(inbox.try_iter());
            (held, inbox)
        }));
    }
    drop(ends);
    let ended: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    let held: Vec<Block> =
        ended.into_iter().flat_map(|(held, inbox)| held.into_iter().chain(inbox)).collect();
    let used: u64 = held.iter().map(|block| block.size).sum();
    assert_eq!(shared.remaining(), 6 * MIB - used);
    shared.free(&held).unwrap();
    assert_eq!(shared.fragmentation().free_blocks, [0, 0, 0, 6]);
}
