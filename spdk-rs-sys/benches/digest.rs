//! How fast one core digests blocks of 4 KiB, for every implementation and number of blocks at once.
//!
//! `cargo bench -p spdk-rs-sys --bench digest -- SECONDS ROUNDS COUNT…` prints one line per
//! measurement: the name, the number of blocks at once, the round, and bytes per second. `memcpy`
//! copies the same blocks, as a yardstick of the machine and the moment; `sha256` is what the engine
//! does, by choice among the variants named below it. `test/bench/digest` makes a table of it.

#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::hint::black_box;

use spdk_rs_sys::digest::{Sha256Impl, sha256_blocks, sha256_blocks_with};
use spdk_rs_sys::tsc;

const BLOCK_BYTES: usize = 4096;
/// Blocks in memory. Their 256 KiB do not fit into the first cache and do fit into the second, as
/// with data that has just arrived.
const BLOCKS: usize = 64;

/// What is measured: digests, or copies, of some blocks to as many places.
type Work = Box<dyn FnMut(&[&[u8]], &mut [[u8; 32]])>;

fn main() {
    // Cargo adds `--bench` to the arguments.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let seconds: f64 = args.first().map_or(0.1, |text| text.parse().expect("SECONDS is a number"));
    let rounds: usize = args.get(1).map_or(3, |text| text.parse().expect("ROUNDS is a number"));
    let mut counts: Vec<usize> =
        args.iter().skip(2).map(|text| text.parse().expect("COUNT is a number")).collect();
    if counts.is_empty() {
        counts = vec![1, 2, 4, 8, 16, 64];
    }
    assert!(counts.iter().all(|count| (1..=BLOCKS).contains(count)), "COUNT is 1 to {BLOCKS}");

    let memory = random_bytes(BLOCKS * BLOCK_BYTES);
    let mut works = works();
    for round in 0..rounds {
        for &count in &counts {
            for (name, work) in &mut works {
                println!("{name} {count} {round} {:.0}", rate(work, &memory, count, seconds));
            }
        }
    }
}

fn works() -> Vec<(&'static str, Work)> {
    let mut works: Vec<(&'static str, Work)> =
        vec![("memcpy", copier()), ("sha256", Box::new(sha256_blocks))];
    for with in Sha256Impl::ALL.into_iter().filter(|with| with.available()) {
        let work = move |blocks: &[&[u8]], out: &mut [[u8; 32]]| {
            sha256_blocks_with(with, blocks, out).expect("it is available");
        };
        works.push((with.name(), Box::new(work)));
    }
    works.push(("blake3", each(|block| blake3::hash(block).into())));
    works.push((
        "crc32c",
        each(|block| {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&crc_fast::crc32_iscsi(block).to_le_bytes());
            digest
        }),
    ));
    works
}

/// The other digests of a pool take one block after the other.
fn each(digest: impl Fn(&[u8]) -> [u8; 32] + 'static) -> Work {
    Box::new(move |blocks, out| {
        for (place, block) in out.iter_mut().zip(blocks) {
            *place = digest(block);
        }
    })
}

fn copier() -> Work {
    let mut target = vec![0; BLOCKS * BLOCK_BYTES];
    Box::new(move |blocks, _| {
        for (to, block) in target.chunks_exact_mut(BLOCK_BYTES).zip(blocks) {
            to.copy_from_slice(block);
        }
        black_box(&target);
    })
}

/// Bytes per second of `work` on groups of `count` blocks, over about `seconds`.
fn rate(work: &mut Work, memory: &[u8], count: usize, seconds: f64) -> f64 {
    let blocks: Vec<&[u8]> = memory.chunks_exact(BLOCK_BYTES).collect();
    let mut digests = vec![[0; 32]; count];
    let hz = tsc::ticks_hz() as f64;
    let began = tsc::ticks();
    let mut bytes = 0;
    loop {
        for group in blocks.chunks_exact(count) {
            work(black_box(group), &mut digests);
            black_box(&digests);
            bytes += count * BLOCK_BYTES;
        }
        let elapsed = tsc::ticks().wrapping_sub(began) as f64 / hz;
        if elapsed >= seconds {
            return bytes as f64 / elapsed;
        }
    }
}

/// Bytes without a pattern (xorshift64).
fn random_bytes(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[7]
        })
        .collect()
}
