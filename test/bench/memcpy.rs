//! The yardstick of `malloc-memcpy`: a bare loop that copies blocks from random places of a large memory into a few buffers.
//!
//! Usage: memcpy MEMORY_MIB BLOCK_BYTES BUFFERS SECONDS huge|small
//! Prints one line: copies per second. It is compiled by the script with nothing but rustc.

use std::hint::black_box;
use std::time::{Duration, Instant};

const MADV_HUGEPAGE: i32 = 14;
const MADV_NOHUGEPAGE: i32 = 15;
const HUGE_PAGE: usize = 2 << 20;
/// Copies between two looks at the clock, which are then too rare to matter.
const COPIES_PER_LOOK: u64 = 4096;

unsafe extern "C" {
    fn madvise(address: *mut u8, length: usize, advice: i32) -> i32;
}

/// The same generator that a benchmark's inner loop can afford: a few instructions, no division.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * limit as u128) >> 64) as usize
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args[at].parse::<usize>().expect("a number");
    let (bytes, block, buffers) = (number(1) << 20, number(2), number(3));
    let duration = Duration::from_secs(number(4) as u64);
    let advice = if args[5] == "huge" { MADV_HUGEPAGE } else { MADV_NOHUGEPAGE };

    let mut memory: Vec<u8> = Vec::with_capacity(bytes + HUGE_PAGE);
    let aligned = memory.as_ptr().align_offset(HUGE_PAGE);
    // SAFETY: the range lies within the reserved memory, and the advice changes neither its content nor its validity.
    let advised = unsafe { madvise(memory.as_mut_ptr().wrapping_add(aligned), bytes, advice) };
    if advised != 0 {
        eprintln!("madvise was refused; the kernel's default decides about the page size");
    }
    // Written once, since reading untouched memory would read the one zero page of the kernel.
    memory.resize(aligned + bytes, 0x5a);
    let source = &memory[aligned..];
    let mut targets = vec![0_u8; block * buffers];
    let blocks = bytes / block;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);

    let began = Instant::now();
    let mut copies = 0_u64;
    let elapsed = loop {
        for copy in 0..COPIES_PER_LOOK {
            let from = random.below(blocks) * block;
            let to = (copy as usize % buffers) * block;
            targets[to..to + block].copy_from_slice(&source[from..from + block]);
            black_box(&targets);
        }
        copies += COPIES_PER_LOOK;
        let elapsed = began.elapsed();
        if elapsed >= duration {
            break elapsed;
        }
    };
    println!("{:.1}", copies as f64 / elapsed.as_secs_f64());
}
