//! The callback forms and batches: every accepted I/O ends once, and never inside its submission.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Result, anyhow, bail, ensure};
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoBuf, IoCompletion, IoConsumer, IoRequest, IoType, Refused};
use spdk_rs::reactor::yield_now;

use crate::fixture::Dut;

/// Collects completions by tag, and notes what must not happen.
#[derive(Default)]
struct Ends {
    by_tag: RefCell<BTreeMap<u64, IoCompletion>>,
    submitting: Cell<bool>,
    wrong: Cell<Option<&'static str>>,
}

impl IoConsumer for Ends {
    fn io_done(&self, tag: u64, status: NvmeStatus, buf: IoBuf, latency_ticks: u64) {
        let done = IoCompletion { status, buf, latency_ticks, result: 0 };
        if self.submitting.get() {
            self.wrong.set(Some("a callback came inside the submission"));
        }
        if self.by_tag.borrow_mut().insert(tag, done).is_some() {
            self.wrong.set(Some("an I/O ended twice"));
        }
    }
}

impl Ends {
    /// Submits, and checks that nothing ends meanwhile.
    fn submit<T>(&self, submit: impl FnOnce() -> T) -> T {
        self.submitting.set(true);
        let result = submit();
        self.submitting.set(false);
        result
    }

    async fn take(&self, tag: u64) -> Result<IoCompletion> {
        while !self.by_tag.borrow().contains_key(&tag) {
            yield_now().await;
        }
        self.check()?;
        self.by_tag.borrow_mut().remove(&tag).ok_or_else(|| anyhow!("no completion {tag}"))
    }

    fn check(&self) -> Result<()> {
        self.wrong.get().map_or(Ok(()), |wrong| Err(anyhow!(wrong)))
    }
}

fn accepted(result: Result<(), Box<Refused>>) -> Result<()> {
    result.map_err(|refused| anyhow!("refused: {}", refused.status))
}

/// Each callback form once, and a refusal that has no callback.
pub async fn callback_forms(dut: Dut) -> Result<()> {
    let ends = Rc::new(Ends::default());
    let done: Rc<dyn IoConsumer> = Rc::<Ends>::clone(&ends);
    let (handle, pattern) = (&dut.handle, |seed| dut.pattern(4, seed).map(IoBuf::from));
    let buf = pattern(1)?;
    accepted(ends.submit(|| handle.writev_blocks(buf, 2, 4, &done, 1)))?;
    ensure!(ends.take(1).await?.status.is_success(), "write");
    let buf = pattern(9)?;
    accepted(ends.submit(|| handle.readv_blocks(buf, 2, 4, &done, 2)))?;
    let read = ends.take(2).await?.ok()?;
    let read = read.into_one().ok_or_else(|| anyhow!("the read lost its buffer"))?;
    dut.same(2, read.as_slice(), dut.pattern(4, 1)?.as_slice())?;
    let (equal, other) = (pattern(1)?, pattern(2)?);
    accepted(ends.submit(|| handle.comparev_blocks(equal, 2, 4, &done, 3)))?;
    dut.compared(&ends.take(3).await?, true)?;
    accepted(ends.submit(|| handle.comparev_blocks(other, 2, 4, &done, 4)))?;
    dut.compared(&ends.take(4).await?, false)?;
    accepted(ends.submit(|| handle.write_zeroes(3, 2, &done, 5)))?;
    ensure!(ends.take(5).await?.status.is_success(), "write zeroes");
    dut.expect_zeroes(3, 2).await?;
    accepted(ends.submit(|| handle.flush_io(&done, 6)))?;
    ensure!(ends.take(6).await?.status.is_success(), "flush");
    accepted(ends.submit(|| handle.reset(&done, 7)))?;
    ensure!(ends.take(7).await?.status.is_success(), "reset");
    let unmap = ends.submit(|| handle.unmap_blocks(2, 4, &done, 8));
    if handle.get_device().io_type_supported(IoType::Unmap) {
        accepted(unmap)?;
        ensure!(ends.take(8).await?.status.is_success(), "unmap");
    } else {
        let status = unmap.map_or_else(|refused| refused.status, |()| NvmeStatus::SUCCESS);
        ensure!(status == NvmeStatus::INVALID_OPCODE, "unmap: {status}");
    }
    let buf = pattern(1)?;
    let beyond = ends.submit(|| handle.writev_blocks(buf, dut.num_blocks, 4, &done, 9));
    let Err(refused) = beyond else { bail!("a write beyond the end was accepted") };
    ensure!(refused.status == NvmeStatus::LBA_OUT_OF_RANGE, "beyond the end: {refused:?}");
    ensure!(refused.buf.len() == 4 * dut.block_len, "the refused buffer did not come back");
    dut.read(0, 1).await?;
    ends.check()?;
    ensure!(ends.by_tag.borrow().is_empty(), "a refused I/O had a callback");
    Ok(())
}

/// A batch of all kinds; then one with a refusal in its middle: what is before it runs, what is
/// behind it stays with the caller.
pub async fn batch(dut: Dut) -> Result<()> {
    const COUNT: u64 = 48;
    let ends = Rc::new(Ends::default());
    let done: Rc<dyn IoConsumer> = Rc::<Ends>::clone(&ends);
    let large = dut.blocks_of(160 << 10);
    let write = |i: u64| -> Result<(IoRequest, u64)> {
        // Small ones and some that a driver with limits takes in parts.
        let blocks = if i % 16 == 5 { large } else { 1 + i % 3 };
        let buf = dut.pattern(blocks, i)?.into();
        Ok((IoRequest::new(IoType::Write, i * large, blocks, buf), i))
    };
    let mut requests = (0..COUNT).map(write).collect::<Result<Vec<_>>>()?;
    requests.push((IoRequest::new(IoType::Flush, 0, dut.num_blocks, IoBuf::None), COUNT));
    let refused = ends.submit(|| dut.handle.submit_batch(&mut requests, &done));
    ensure!(refused.is_ok() && requests.is_empty(), "the batch was not taken whole: {refused:?}");
    for tag in 0..=COUNT {
        let end = ends.take(tag).await?;
        ensure!(end.status.is_success(), "I/O {tag}: {}", end.status);
        if tag < COUNT {
            let buf = end.buf.into_one().ok_or_else(|| anyhow!("I/O {tag} lost its buffer"))?;
            let blocks = (buf.len() / dut.block_len) as u64;
            dut.expect(tag * large, blocks, tag).await?;
        }
    }
    let mut requests = (0..6).map(write).collect::<Result<Vec<_>>>()?;
    requests[3].0.offset_blocks = dut.num_blocks;
    let fourth = ends.submit(|| dut.handle.submit_batch(&mut requests, &done));
    let Err((refused, tag)) = fourth else { bail!("a batch beyond the end was accepted") };
    let expected = (NvmeStatus::LBA_OUT_OF_RANGE, 3);
    ensure!((refused.status, tag) == expected, "the fourth should be refused: {refused:?}, {tag}");
    let left: Vec<_> = requests.iter().map(|(_, tag)| *tag).collect();
    ensure!(left == [4, 5], "left with the caller: {left:?}");
    for tag in 0..3 {
        ensure!(ends.take(tag).await?.status.is_success(), "I/O {tag} before the refused one");
    }
    dut.read(0, 1).await?;
    ends.check()?;
    ensure!(ends.by_tag.borrow().is_empty(), "an I/O ended that was not submitted");
    Ok(())
}
