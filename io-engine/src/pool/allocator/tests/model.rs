//! Random requests against a set of intervals.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::rng::Rng;
use super::*;

/// What is allocated, and nothing cleverer than that.
struct Model {
    start: u64,
    end: u64,
    allocated: BTreeMap<u64, Block>,
}

impl Model {
    fn of(space: Space) -> Self {
        let least = BlockType::holding(space.alignment).bytes();
        let start = space.base_offset.next_multiple_of(space.alignment);
        let room = space.base_offset + space.size_bytes - start;
        Self { start, end: start + room / least * least, allocated: BTreeMap::new() }
    }

    fn is_free(&self, from: u64, to: u64) -> bool {
        let before = self.allocated.range(..to).next_back();
        to <= self.end && before.is_none_or(|(_, block)| block.offset + block.size <= from)
    }

    /// The places of a class that are free.
    fn places(&self, class: BlockType) -> usize {
        let bytes = class.bytes();
        let count = (self.end - self.start) / bytes;
        let places = (0..count).map(|place| self.start + place * bytes);
        places.filter(|from| self.is_free(*from, from + bytes)).count()
    }

    fn used(&self) -> u64 {
        self.allocated.values().map(|block| block.size).sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u64),
    /// Frees a run of the allocated blocks, from one of them on.
    Free(usize, usize),
    /// Frees a block that may be anything.
    FreeWild(u64, usize),
}

fn sizes() -> impl Strategy<Value = u64> {
    let border = (0..BlockType::COUNT, -1_i64..=1)
        .prop_map(|(class, off)| (BlockType::ALL[class].bytes()).saturating_add_signed(off));
    prop_oneof![border, 0..=3 * MIB, 1..=4096_u64]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => sizes().prop_map(Step::Allocate),
        3 => (any::<usize>(), 1..8_usize).prop_map(|(at, count)| Step::Free(at, count)),
        1 => (0..1500_u64, 0..BlockType::COUNT).prop_map(|(at, class)| Step::FreeWild(at, class)),
    ];
    proptest::collection::vec(step, 1..150)
}

fn spaces() -> impl Strategy<Value = Space> {
    (0..40_u64, 1..1400_u64, 0..=20_u32).prop_filter_map("a block fits", |(base, units, shift)| {
        let space =
            Space { base_offset: base * 512, size_bytes: units * 4096, alignment: 1 << shift };
        Allocator::new(space).is_ok().then_some(space)
    })
}

fn check(allocator: &Allocator, model: &Model) {
    let free = model.end - model.start - model.used();
    assert_eq!(allocator.remaining(), free);
    let figures = allocator.fragmentation();
    assert_eq!(figures.free_bytes, free);
    // A place of a class is free when it is, or is part of, a free block of the same or a larger
    // class.
    let mut places = 0;
    for class in BlockType::ALL.into_iter().rev() {
        places *= match class {
            BlockType::K4 => 16,
            _ => 4,
        };
        places += usize::try_from(figures.free_blocks[class.index()]).unwrap();
        assert_eq!(places, model.places(class), "{class}");
    }
}

fn allocate(allocator: &mut Allocator, model: &mut Model, space: Space, size: u64) {
    let class = BlockType::holding(size).max(BlockType::holding(space.alignment));
    let count = usize::try_from(size.div_ceil(class.bytes())).unwrap();
    let fits = size > 0 && model.places(class) >= count;
    match allocator.allocate(size) {
        Ok(blocks) => {
            assert!(fits);
            assert_eq!(blocks.len(), count);
            for block in &blocks {
                assert_eq!(*block, Block::new(block.offset, class));
                assert_eq!(block.offset % space.alignment, 0);
                assert!(block.offset >= model.start);
                assert!(model.is_free(block.offset, block.offset + block.size), "{block}");
                model.allocated.insert(block.offset, *block);
            }
        }
        Err(_) => assert!(!fits, "{size}"),
    }
}

fn run(space: Space, steps: Vec<Step>) {
    let (mut allocator, mut model) = (Allocator::new(space).unwrap(), Model::of(space));
    assert_eq!(allocator.capacity(), model.end - model.start);
    for step in steps {
        match step {
            Step::Allocate(size) => allocate(&mut allocator, &mut model, space, size),
            Step::Free(at, count) if !model.allocated.is_empty() => {
                let skip = at % model.allocated.len();
                let blocks: Vec<_> =
                    model.allocated.values().skip(skip).take(count).copied().collect();
                allocator.free(&blocks).unwrap();
                let first = BlockError::NotAllocated { block: blocks[0] };
                assert_eq!(allocator.free(&blocks), Err(first));
                model.allocated.retain(|_, block| !blocks.contains(block));
            }
            Step::Free(..) => {}
            Step::FreeWild(at, class) => {
                let block = Block::new(at * 4096, BlockType::ALL[class]);
                let known = model.allocated.get(&block.offset) == Some(&block);
                assert_eq!(allocator.free(&[block]).is_ok(), known, "{block}");
                if known {
                    model.allocated.remove(&block.offset);
                }
            }
        }
        check(&allocator, &model);
    }
    let mut blocks = Vec::new();
    allocator.for_each_allocated(|block| blocks.push(block));
    assert!(blocks.iter().eq(model.allocated.values()));
    let mut again = Allocator::from_allocated(space, blocks.iter().copied()).unwrap();
    check(&again, &model);
    again.free(&blocks).unwrap();
    assert_eq!(again.remaining(), again.capacity());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]
    #[test]
    fn it_does_what_a_set_of_intervals_does(space in spaces(), steps in steps()) {
        run(space, steps);
    }
}

/// Random requests in a space that is kept 99 per cent full; a map of the units finds overlaps.
fn churn(operations: u64, seed: u64) {
    let size = 512 * MIB + 20 * KIB;
    let (mut allocator, mut rng) = (of_size(size), Rng(seed));
    let mut taken = vec![false; usize::try_from(size / 4096).unwrap()];
    let mut held: Vec<Block> = Vec::new();
    let mut refused = 0_u64;
    let units = |block: &Block| {
        let first = usize::try_from(block.offset / 4096).unwrap();
        first..first + usize::try_from(block.size / 4096).unwrap()
    };
    for operation in 0..operations {
        let full = allocator.remaining() < size / 100;
        if full || (operation % 3 == 0 && !held.is_empty()) {
            let block = held.swap_remove(rng.below(held.len()));
            allocator.free(&[block]).unwrap();
            taken[units(&block)].fill(false);
            continue;
        }
        let size = match rng.below(100) {
            0..60 => 1 + rng.next() % 4096,
            60..85 => 4097 + rng.next() % (60 * KIB),
            85..97 => 64 * KIB + 1 + rng.next() % (192 * KIB),
            _ => 256 * KIB + 1 + rng.next() % (2 * MIB),
        };
        let Ok(blocks) = allocator.allocate(size) else {
            refused += 1;
            continue;
        };
        for block in &blocks {
            let units = &mut taken[units(block)];
            assert!(units.iter().all(|taken| !*taken), "{block} overlaps");
            units.fill(true);
            held.push(*block);
        }
    }
    assert!(refused > 0, "the space was full");
    let used: u64 = held.iter().map(|block| block.size).sum();
    assert_eq!(allocator.remaining(), size - used);
    allocator.free(&held).unwrap();
    assert_eq!(allocator.remaining(), size);
    // The tail of 20 KiB is five blocks of 4 KiB.
    assert_eq!(allocator.fragmentation().free_blocks, [5, 0, 0, 512]);
}

#[test]
fn many_requests_leak_nothing() {
    churn(300_000, 1);
}

#[test]
fn ten_million_requests_leak_nothing() {
    churn(10_000_000, 2);
}
