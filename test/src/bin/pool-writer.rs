//! Writes to a device until it is gone, and knows afterwards what has to be there.
//!
//! `pool-writer URI LEDGER SECONDS`: reads the first blocks of the device and compares them with the
//! ledger, a file, if there is one; then writes and flushes for so many seconds, or until an I/O
//! fails; then saves the ledger. Ends with 1 when something is missing, torn or wrong.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command prints its results")]

use std::cell::RefCell;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use futures::StreamExt as _;
use futures::executor::block_on;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use io_engine::bdev;
use io_engine::core::BlockDeviceHandle;
use io_engine_test::fixture;
use io_engine_test::ledger::{self, BLOCK_BYTES, Ledger};
use io_engine_test::rng::Rng;
use spdk_rs::bdev::{IoBuf, IoRequest, IoType};
use spdk_rs::reactor::Reactor;

/// Blocks that are written, from the first on.
const BLOCKS: usize = 2048;
/// Blocks of one write at the most: 128 KiB, what the engine's NVMe-oF target takes as one command. A
/// larger write is several for the pool, and then not atomic as a whole.
const COUNT_MAX: usize = 32;
/// I/Os at once.
const DEPTH: usize = 8;
/// One of so many writes has FUA, and one I/O of so many is a flush.
const FUA_ONE_IN: u64 = 16;
const FLUSH_ONE_IN: u64 = 12;

struct Writer {
    handle: Box<dyn BlockDeviceHandle>,
    /// Blocks of the device per block of the ledger.
    ratio: u64,
    ledger: RefCell<Ledger>,
}

/// What a load came to.
#[derive(Default)]
struct Load {
    writes: u64,
    flushes: u64,
    /// Why it ended before its time.
    failure: Option<String>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [uri, path, seconds] = &args[..] else { bail!("usage: pool-writer URI LEDGER SECONDS") };
    let (path, seconds) = (Path::new(path), seconds.parse()?);
    let ledger = match std::fs::read_to_string(path) {
        Ok(text) => Ledger::from_text(&text).with_context(|| path.display().to_string())?,
        Err(_) => Ledger::new(BLOCKS),
    };
    let engine = fixture::engine(1)?;
    let name = block_on(bdev::create(&engine, uri)).with_context(|| uri.clone())?;
    let device = engine.device_lookup(&name)?;
    let ratio = BLOCK_BYTES as u64 / device.block_len();
    let desc = device.open(true, "pool-writer")?;
    let reactor = engine.runtime().first().ok_or_else(|| anyhow!("no reactor"))?.clone();
    let work = reactor.spawn(move |_| async move {
        let writer = Writer { handle: desc.into_handle()?, ratio, ledger: RefCell::new(ledger) };
        writer.verify().await?;
        let load = writer.load(Duration::from_secs(seconds)).await?;
        Ok::<_, anyhow::Error>((writer.ledger.into_inner(), load))
    });
    let (ledger, load) = block_on(work)??;
    std::fs::write(path, ledger.to_text())?;
    let Load { writes, flushes, failure } = load;
    let end = failure.unwrap_or_else(|| "its time was over".to_owned());
    println!("{writes} writes, {flushes} flushes until {end}");
    Ok(())
}

impl Writer {
    /// Reads everything and compares it with the ledger.
    async fn verify(&self) -> Result<()> {
        let mut seen = Vec::with_capacity(BLOCKS);
        let blocks = self.ledger.borrow().blocks();
        for first in (0..blocks).step_by(COUNT_MAX) {
            let buf = self.handle.dma_malloc(COUNT_MAX * BLOCK_BYTES)?;
            let (at, count) = (first as u64 * self.ratio, COUNT_MAX as u64 * self.ratio);
            let done = self.handle.readv_blocks_async(buf.into(), at, count).await;
            ensure!(done.status.is_success(), "read of block {first}: {}", done.status);
            let IoBuf::One(buf) = done.buf else { bail!("the buffer did not come back") };
            for (block, bytes) in (first..).zip(buf.as_slice().chunks(BLOCK_BYTES)) {
                seen.push(ledger::read_back(bytes, block)?);
            }
        }
        // What is seen now stays only if it is durable.
        let flushed = self.handle.flush_io_async().await;
        ensure!(flushed.status.is_success(), "flush: {}", flushed.status);
        let verdict = self.ledger.borrow_mut().verify(&seen)?;
        println!("all is there; of what was not flushed, {verdict:?}");
        Ok(())
    }

    /// Writes and flushes, several at a time.
    async fn load(&self, time: Duration) -> Result<Load> {
        let mut load = Load::default();
        let reactor = Reactor::current().ok_or_else(|| anyhow!("no reactor"))?;
        let clock = reactor.clock();
        let end = clock.ticks().saturating_add(clock.ticks_in(time));
        let mut random = Rng::new(clock.ticks());
        let mut running: FuturesUnordered<LocalBoxFuture<'_, Result<()>>> = FuturesUnordered::new();
        loop {
            while running.len() < DEPTH && load.failure.is_none() && clock.ticks() < end {
                if random.one_in(FLUSH_ONE_IN) {
                    load.flushes += 1;
                    running.push(Box::pin(self.flush()));
                } else {
                    load.writes += 1;
                    running.push(Box::pin(self.write(&mut random)?));
                }
            }
            match running.next().await {
                Some(Ok(())) => {}
                Some(Err(error)) => load.failure = load.failure.or(Some(error.to_string())),
                None => return Ok(load),
            }
        }
    }

    /// A write of its own range.
    fn write(&self, random: &mut Rng) -> Result<impl Future<Output = Result<()>> + use<'_>> {
        let (block, count) = loop {
            let count = 1 + random.index(COUNT_MAX);
            let block = random.index(BLOCKS - count + 1);
            if !self.ledger.borrow().is_busy(block, count) {
                break (block, count);
            }
        };
        let fua = random.one_in(FUA_ONE_IN);
        let mut buf = self.handle.dma_malloc(count * BLOCK_BYTES)?;
        let write = self.ledger.borrow_mut().begin(block, count);
        for (block, bytes) in (block..).zip(buf.as_mut_slice().chunks_mut(BLOCK_BYTES)) {
            ledger::fill(bytes, block, write.seq);
        }
        let (at, blocks) = (block as u64 * self.ratio, count as u64 * self.ratio);
        let request = IoRequest::new(IoType::Write, at, blocks, buf.into()).fua(fua);
        let io = self.handle.submit_async(request);
        Ok(async move {
            let done = io.await;
            ensure!(done.status.is_success(), "{}", done.status);
            self.ledger.borrow_mut().complete(write.seq, fua);
            Ok(())
        })
    }

    async fn flush(&self) -> Result<()> {
        let covered = self.ledger.borrow().covered();
        let done = self.handle.flush_io_async().await;
        ensure!(done.status.is_success(), "{}", done.status);
        self.ledger.borrow_mut().flushed(&covered);
        Ok(())
    }
}
