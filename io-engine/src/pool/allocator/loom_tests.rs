//! Every order of what two cores do, as far as it can be seen. See the module for the command.

use std::sync::Arc;

use loom::thread;

use super::{Allocator, Block, BlockError, BlockType, Magazine, SharedAllocator, Space};

const K4: BlockType = BlockType::K4;

/// A space of so few blocks that the cores always meet in the depot: a batch is one block.
fn shared(blocks: u64) -> Arc<SharedAllocator> {
    let inner = Allocator::new(Space::of_size(blocks * K4.bytes())).unwrap();
    SharedAllocator::new(inner).unwrap()
}

#[test]
fn loom_no_block_is_handed_out_twice() {
    loom::model(|| {
        let shared = shared(2);
        let mut here = Magazine::new(&shared);
        let mut there = Magazine::new(&shared);
        let other = thread::spawn(move || there.allocate_block(K4).ok());
        let mine = here.allocate_block(K4).ok();
        let theirs = other.join().unwrap();
        assert!(mine.is_some() && theirs.is_some());
        assert_ne!(mine, theirs);
        assert_eq!(shared.remaining(), 0);
    });
}

#[test]
fn loom_of_two_that_free_a_block_one_succeeds() {
    loom::model(|| {
        let shared = shared(4);
        let mut here = Magazine::new(&shared);
        let mut there = Magazine::new(&shared);
        let block = here.allocate_block(K4).unwrap();
        let other = thread::spawn(move || {
            let freed = there.free_block(&block);
            (there, freed)
        });
        let mine = here.free_block(&block);
        let (there, theirs) = other.join().unwrap();
        let refused = Err(BlockError::NotAllocated { block });
        assert!(
            (mine == Ok(()) && theirs == refused) || (mine == refused && theirs == Ok(())),
            "{mine:?} {theirs:?}"
        );
        assert_eq!(shared.remaining(), 4 * K4.bytes());
        drop((here, there));
        assert_eq!(shared.fragmentation().cached_bytes, 0);
        assert_eq!(shared.remaining(), 4 * K4.bytes());
    });
}

#[test]
fn loom_blocks_move_between_cores() {
    loom::model(|| {
        let shared = shared(3);
        let (mut here, mut there) = (Magazine::new(&shared), Magazine::new(&shared));
        let block = here.allocate_block(K4).unwrap();
        let other = thread::spawn(move || {
            there.free_block(&block).unwrap();
            let again = there.allocate_block(K4).unwrap();
            drop(there);
            again
        });
        let mine: Vec<Block> = (0..2).filter_map(|_| here.allocate_block(K4).ok()).collect();
        let theirs = other.join().unwrap();
        assert!(!mine.contains(&theirs));
        assert_eq!(shared.remaining(), (2 - mine.len() as u64) * K4.bytes());
        here.free(&mine).unwrap();
        here.free_block(&theirs).unwrap();
        assert_eq!(shared.remaining(), 3 * K4.bytes());
    });
}

#[test]
fn loom_a_list_is_freed_wholly_or_not_at_all() {
    loom::model(|| {
        let shared = shared(4);
        let (mut here, mut there) = (Magazine::new(&shared), Magazine::new(&shared));
        let blocks = [here.allocate_block(K4).unwrap(), here.allocate_block(K4).unwrap()];
        let other = thread::spawn(move || {
            let freed = there.free_block(&blocks[1]).is_ok();
            drop(there);
            freed
        });
        let mine = here.free(&blocks).is_ok();
        let theirs = other.join().unwrap();
        assert_ne!(mine, theirs);
        if !mine {
            here.free_block(&blocks[0]).unwrap();
        }
        assert_eq!(shared.remaining(), 4 * K4.bytes());
    });
}

#[test]
fn loom_the_shared_path_meets_a_magazine() {
    loom::model(|| {
        let shared = shared(16);
        let mut here = Magazine::new(&shared);
        let block = here.allocate_block(K4).unwrap();
        let there = Arc::clone(&shared);
        let other = thread::spawn(move || there.allocate(BlockType::K64.bytes()).is_ok());
        here.free_block(&block).unwrap();
        drop(here);
        let whole = other.join().unwrap();
        let used = if whole { BlockType::K64.bytes() } else { 0 };
        assert_eq!(shared.remaining(), BlockType::K64.bytes() - used);
    });
}
