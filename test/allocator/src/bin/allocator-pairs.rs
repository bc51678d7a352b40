//! Allocates and frees, so many times, and says how long a pair took.
//! Usage: allocator-pairs none|magazine|request|shared|owner PAIRS
#![allow(clippy::disallowed_methods, reason = "a clock of its own, without the engine")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use io_engine_allocator::allocator::{
    Allocator, Block, BlockType, Magazine, SharedAllocator, Space,
};

const BLOCK: u64 = 4096;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, pairs] = args.as_slice() else { return usage() };
    let Ok(pairs) = pairs.parse::<u64>() else { return usage() };
    let space = Space::of_size(1 << 30);
    let mut owner = Allocator::new(space).expect("a space");
    let shared = SharedAllocator::new(owner.clone()).expect("memory");
    let mut magazine = Magazine::new(&shared);
    let start = Instant::now();
    match kind.as_str() {
        "magazine" => {
            for _ in 0..pairs {
                let block = black_box(magazine.allocate_block(BlockType::K4).expect("space"));
                magazine.free_block(&block).expect("a block");
            }
        }
        "none" => {
            for _ in 0..pairs {
                black_box(Block::new(0, BlockType::K4));
            }
        }
        "request" => {
            for _ in 0..pairs {
                let blocks = magazine.allocate(black_box(BLOCK)).expect("space");
                magazine.free(black_box(&blocks)).expect("a block");
            }
        }
        "shared" => {
            for _ in 0..pairs {
                let blocks = shared.allocate(black_box(BLOCK)).expect("space");
                shared.free(black_box(&blocks)).expect("a block");
            }
        }
        "owner" => {
            for _ in 0..pairs {
                let blocks = owner.allocate(black_box(BLOCK)).expect("space");
                owner.free(black_box(&blocks)).expect("a block");
            }
        }
        _ => return usage(),
    }
    let ns = start.elapsed().as_nanos() as f64;
    println!("{:.2}", ns / pairs.max(1) as f64);
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: allocator-pairs none|magazine|request|shared|owner PAIRS");
    ExitCode::FAILURE
}
