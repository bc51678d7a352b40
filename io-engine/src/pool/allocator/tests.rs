//! Tests of the allocator against naive models.
#![cfg(not(loom))]

mod magazine;
mod model;
mod rng;

use super::*;

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;

fn of_size(size_bytes: u64) -> Allocator {
    Allocator::new(Space::of_size(size_bytes)).unwrap()
}

#[test]
fn a_request_gets_blocks_of_the_class_that_holds_it() {
    let mut allocator = of_size(64 * MIB);
    for (size, class, count) in [
        (1, BlockType::K4, 1),
        (4 * KIB, BlockType::K4, 1),
        (4 * KIB + 1, BlockType::K64, 1),
        (64 * KIB, BlockType::K64, 1),
        (64 * KIB + 1, BlockType::K256, 1),
        (256 * KIB, BlockType::K256, 1),
        (256 * KIB + 1, BlockType::M1, 1),
        (MIB - 1, BlockType::M1, 1),
        (MIB, BlockType::M1, 1),
        (MIB + 1, BlockType::M1, 2),
        (10 * MIB, BlockType::M1, 10),
    ] {
        let before = allocator.remaining();
        let blocks = allocator.allocate(size).unwrap();
        assert_eq!(blocks.len(), count, "{size}");
        assert!(blocks.iter().all(|block| block.block_type == class), "{size}");
        assert!(blocks.iter().all(|block| block.size == class.bytes()), "{size}");
        assert!(blocks.iter().all(|block| block.offset % class.bytes() == 0), "{size}");
        assert_eq!(allocator.remaining(), before - class.bytes() * count as u64);
    }
}

#[test]
fn parts_join_again() {
    let mut allocator = of_size(MIB);
    let small: Vec<_> = (0..256).map(|_| allocator.allocate(4096).unwrap()[0]).collect();
    assert_eq!((small[0].offset, small[255].offset), (0, MIB - 4096));
    assert_eq!(allocator.remaining(), 0);
    assert!(matches!(allocator.allocate(1), Err(AllocError::NoSpace { largest_bytes: 0, .. })));
    allocator.free(&small[..17]).unwrap();
    assert_eq!(allocator.fragmentation().free_blocks, [1, 1, 0, 0]);
    allocator.free(&small[17..64]).unwrap();
    assert_eq!(allocator.fragmentation().free_blocks, [0, 0, 1, 0]);
    assert_eq!(allocator.fragmentation().split_share, 1.0);
    allocator.free(&small[64..]).unwrap();
    assert_eq!(allocator.fragmentation().free_blocks, [0, 0, 0, 1]);
    assert_eq!(allocator.fragmentation().largest, Some(BlockType::M1));
    assert_eq!(allocator.fragmentation().split_share, 0.0);
    assert_eq!(allocator.allocate(MIB).unwrap().into_vec(), [Block::new(0, BlockType::M1)]);
}

#[test]
fn a_block_is_not_split_while_a_smaller_one_is_free() {
    let mut allocator = of_size(3 * MIB);
    let whole = allocator.allocate(MIB).unwrap();
    let small = allocator.allocate(4096).unwrap();
    allocator.free(&whole).unwrap();
    let next = allocator.allocate(4096).unwrap();
    assert_eq!(next[0].offset, small[0].offset + 4096);
    assert_eq!(allocator.fragmentation().free_blocks[BlockType::M1.index()], 2);
    assert_eq!(allocator.allocate(64 * KIB).unwrap()[0].offset, MIB + 64 * KIB);
}

#[test]
fn what_is_not_allocated_is_refused_by_name() {
    let space = Space { base_offset: MIB, size_bytes: 4 * MIB, alignment: 512 };
    let mut allocator = Allocator::new(space).unwrap();
    let small = allocator.allocate(4096).unwrap()[0];
    let medium = allocator.allocate(64 * KIB).unwrap()[0];
    let large = allocator.allocate(2 * MIB).unwrap();
    let before = allocator.clone();
    let (start, end) = (MIB, 5 * MIB);
    let at = |offset| Block::new(offset, BlockType::K4);
    let wrong_size = Block { size: 8192, ..small };
    let cases = [
        (wrong_size, BlockError::Size { block: wrong_size }),
        (at(0), BlockError::Outside { block: at(0), start, end }),
        (at(end), BlockError::Outside { block: at(end), start, end }),
        (at(u64::MAX), BlockError::Outside { block: at(u64::MAX), start, end }),
        (at(start + 512), BlockError::Misaligned { block: at(start + 512), start }),
        (at(start + 4096), BlockError::NotAllocated { block: at(start + 4096) }),
        (at(medium.offset), BlockError::WrongType { block: at(medium.offset), actual: medium }),
        (at(end - 4096), BlockError::NotAllocated { block: at(end - 4096) }),
        (at(4 * MIB + 4096), BlockError::NotAllocated { block: at(4 * MIB + 4096) }),
    ];
    for (block, error) in cases {
        assert_eq!(allocator.free(&[block]), Err(error));
        assert!(error.to_string().contains(&format!("at {}", block.offset)), "{error}");
        // Not even the good ones before and after it.
        assert_eq!(allocator.free(&[small, block, medium]), Err(error));
    }
    let wide = Block::new(start, BlockType::K64);
    assert_eq!(allocator.free(&[wide]), Err(BlockError::WrongType { block: wide, actual: small }));
    let twice = BlockError::Repeated { block: medium };
    assert_eq!(allocator.free(&[medium, small, medium]), Err(twice));
    assert_eq!(allocator.remaining(), before.remaining());
    allocator.free(&large).unwrap();
    assert_eq!(allocator.free(&large), Err(BlockError::NotAllocated { block: large[0] }));
    allocator.free(&[small, medium]).unwrap();
    assert_eq!(allocator.free(&[small]), Err(BlockError::NotAllocated { block: small }));
    assert_eq!(allocator.remaining(), allocator.capacity());
}

#[test]
fn a_failed_request_takes_nothing() {
    let mut allocator = of_size(3 * MIB + 68 * KIB);
    assert_eq!(allocator.allocate(0), Err(AllocError::Zero));
    let error = allocator.allocate(3 * MIB + 1).unwrap_err();
    let words = error.to_string();
    assert!(words.contains("3145729 bytes in blocks of 1 MiB"), "{words}");
    assert!(words.contains("3215360 bytes are free"), "{words}");
    assert_eq!(allocator.remaining(), allocator.capacity());
    let all = allocator.allocate(3 * MIB).unwrap();
    assert_eq!(all.len(), 3);
    assert!(allocator.allocate(65 * KIB).is_err());
    assert_eq!(allocator.allocate(64 * KIB).unwrap()[0].offset, 3 * MIB);
    assert_eq!(allocator.allocate(4 * KIB).unwrap()[0].offset, 3 * MIB + 64 * KIB);
    assert_eq!(allocator.remaining(), 0);
}

#[test]
fn spaces_are_checked() {
    let space = |base_offset, size_bytes, alignment| {
        let made = Allocator::new(Space { base_offset, size_bytes, alignment });
        made.map(|allocator| allocator.capacity()).map_err(|error| error.to_string())
    };
    let refused = |made: Result<u64, String>, words: &str| {
        let error = made.unwrap_err();
        assert!(error.contains(words), "{error}");
    };
    refused(space(0, 0, 4096), "0 bytes: the size has to be a multiple of 4096");
    refused(space(0, 4097, 4096), "4097 bytes");
    refused(space(0, 8192, 3), "3 bytes: it has to be a power of two");
    refused(space(0, 8192, 2 * MIB), "2097152 bytes");
    refused(space(u64::MAX - 100, 8192, 1), "it has to end by");
    refused(space(0, 1 << 60, 4096), "the largest has 281474976710656");
    refused(space(0, 64 * KIB, 8192 * 16), "holds no block: it needs at least 262144 bytes from 0");
    refused(space(512, 4096, 4096), "from 4096 on");
    assert_eq!(space(0, 4096, 1), Ok(4096));
    assert_eq!(space(512, 4096, 512), Ok(4096));
    assert_eq!(space(512, 12288, 4096), Ok(8192));
    assert_eq!(space(4096, 196 * KIB, 8192), Ok(192 * KIB));
    assert_eq!(space(4096, 192 * KIB, 8192), Ok(128 * KIB), "a cut-off block is none");
}

#[test]
fn the_alignment_holds_for_offsets_and_sizes() {
    let space = Space { base_offset: 4096, size_bytes: 3 * MIB, alignment: 16 * KIB };
    let mut allocator = Allocator::new(space).unwrap();
    let tail = allocator.allocate(100).unwrap()[0];
    assert_eq!((tail.block_type, tail.offset % (16 * KIB)), (BlockType::K64, 0));
    let small = Block::new(16 * KIB, BlockType::K4);
    let least = BlockType::K64;
    assert_eq!(allocator.free(&[small]), Err(BlockError::TooSmall { block: small, least }));
}

#[test]
fn a_large_space_costs_little() {
    let mut allocator = of_size(4 << 40);
    let block = allocator.allocate(1).unwrap();
    assert_eq!(allocator.remaining(), (4 << 40) - 4096);
    allocator.free(&block).unwrap();
    let all = allocator.allocate(1 << 40).unwrap();
    assert_eq!(all.len(), 1 << 20);
    allocator.free(&all).unwrap();
    assert_eq!(allocator.remaining(), 4 << 40);
}

#[test]
fn it_is_rebuilt_from_what_is_allocated() {
    let space = Space { base_offset: 4096, size_bytes: 6 * MIB, alignment: 4096 };
    let mut allocator = Allocator::new(space).unwrap();
    let sizes = [1, 65536, 200_000, MIB, 2 * MIB, 4096, 5000];
    let mut blocks: Vec<Block> =
        sizes.iter().flat_map(|size| allocator.allocate(*size).unwrap().into_vec()).collect();
    let mut seen = Vec::new();
    allocator.for_each_allocated(|block| seen.push(block));
    blocks.sort();
    assert_eq!(seen, blocks);
    blocks.reverse();
    let mut again = Allocator::from_allocated(space, blocks.iter().copied()).unwrap();
    assert_eq!(again.fragmentation(), allocator.fragmentation());
    assert_eq!(again.allocate(4096), allocator.allocate(4096));
    for (block, actual) in [
        (blocks[0], blocks[0]),
        (Block::new(4096, BlockType::M1), Block::new(4096, BlockType::K4)),
        (Block::new(4096, BlockType::K64), Block::new(4096, BlockType::K4)),
    ] {
        let error = again.reserve(&block).unwrap_err();
        assert_eq!(error, BlockError::Overlap { block, actual });
    }
    let outside = Block::new(0, BlockType::K4);
    let error = Allocator::from_allocated(space, [outside]).unwrap_err();
    assert!(matches!(error, RebuildError::Block(BlockError::Outside { .. })), "{error}");
    let twice = Allocator::from_allocated(space, [blocks[0], blocks[0]]).unwrap_err();
    assert!(matches!(twice, RebuildError::Block(BlockError::Overlap { .. })), "{twice}");
    again.free(&blocks).unwrap();
}
