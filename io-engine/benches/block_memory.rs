//! What a write through the block API to a device in memory costs, beside a copy of the same bytes
//! to the same memory's size by itself: `cargo bench -p io-engine --bench block_memory`.
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::error::Error;
use std::sync::Arc;

use futures::executor::block_on;
use io_engine::core::{Engine, EngineOptions};
use io_engine::pool::allocator::Block;
use io_engine::pool::block_api::{BlockStore, Blocking, CreateOptions};
use spdk_rs::env::cpu::{CoreId, CoreSet};
use spdk_rs::env::pci::PciFilter;
use spdk_rs::env::{HugePolicy, MemoryBacking, MemoryOptions};
use spdk_rs::reactor::{PollMode, Reactor, RuntimeOptions};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// Bytes that a round writes: more than caches hold.
const ROUND: u64 = 128 * MIB;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let backing = MemoryBacking { huge: HugePolicy::Never, ..Default::default() };
    let options = EngineOptions {
        memory: MemoryOptions { size_bytes: 16 << 20, backing },
        runtime: RuntimeOptions {
            cores: std::iter::once(CoreId(0)).collect::<CoreSet>(),
            mode: PollMode::default(),
            ring: true,
        },
        pci: PciFilter::default(),
    };
    let engine = Engine::start(&options)?;
    let blocking =
        Blocking::create(&engine, &CreateOptions::new("malloc:///m?size_mb=256&blk_size=512"))?;
    let store = Arc::clone(blocking.store());
    let reactor = engine.runtime().first().ok_or("no reactor")?.clone();
    block_on(reactor.spawn(move |reactor| async move {
        for size in [4 * KIB, 64 * KIB, MIB] {
            measure(&reactor, &store, size).await?;
        }
        Ok(())
    }))?
}

/// Writes a round twice, the second time by the clock, and then copies as many bytes.
async fn measure(reactor: &Reactor, store: &Arc<BlockStore>, size: u64) -> Outcome<()> {
    let handle = store.handle().await?;
    let count = ROUND / size;
    let mut blocks: Vec<Block> = Vec::new();
    for _ in 0..count {
        blocks.extend_from_slice(&handle.allocate_blocks(size)?);
    }
    let bytes = usize::try_from(size)?;
    let mut buf = store.buffer(bytes)?;
    let mut ns = 0.0;
    for _ in 0..2 {
        let start = reactor.clock().ticks();
        for block in &blocks {
            buf = handle.write(block, 0, buf).await?;
        }
        ns = per_write(reactor, start, count);
    }
    let mut copy = vec![0_u8; usize::try_from(ROUND)?];
    copy.fill(1);
    let start = reactor.clock().ticks();
    for place in copy.chunks_exact_mut(bytes) {
        place.copy_from_slice(std::hint::black_box(buf.as_slice()));
    }
    let bare = per_write(reactor, start, count);
    std::hint::black_box(&copy);
    println!(
        "{size:>8} bytes: {ns:.0} ns a write, {:.1} GB/s; a copy {bare:.0} ns, ratio {:.2}",
        size as f64 / ns,
        bare / ns
    );
    handle.free_blocks(&blocks)?;
    Ok(())
}

fn per_write(reactor: &Reactor, start: u64, count: u64) -> f64 {
    let clock = reactor.clock();
    clock.duration_of(clock.ticks() - start).as_nanos() as f64 / count as f64
}
