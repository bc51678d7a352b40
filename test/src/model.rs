//! Random I/O of every kind against a shadow copy.
//!
//! Up to [`DEPTH_MAX`] I/Os are in flight, on ranges that do not overlap, so that the order in
//! which a device does them must not matter. A seed decides everything but that order.

use std::ops::Range;

use anyhow::{Context as _, Result, anyhow, ensure};
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoBuf, IoCompletion, IoRequest, IoType, SgList};
use spdk_rs::env::DmaBuf;

use crate::fixture::Dut;
use crate::rng::Rng;

/// I/Os in flight at the most.
pub const DEPTH_MAX: usize = 16;
/// The part of the device that is used: small, so that ranges meet often.
const AREA_BYTES: usize = 4 << 20;
/// The largest I/O: more than one step of emulation, many parts of a driver with limits.
const IO_BYTES_MAX: usize = 600 << 10;
/// Pieces of a list of buffers at the most.
const PIECES_MAX: u64 = 40;

/// What the device should hold.
struct Shadow {
    bytes: Vec<u8>,
    /// Blocks that were unmapped and not written since: they may read as before or as zeroes.
    unmapped: Vec<bool>,
    block_len: usize,
}

/// An I/O on its way.
struct InFlight {
    number: u64,
    kind: IoType,
    target: Range<usize>,
    source: Range<usize>,
    expected: NvmeStatus,
    /// What the target holds when the I/O has succeeded.
    after: Option<Vec<u8>>,
}

type Ended = (InFlight, IoCompletion);

struct Model<'a> {
    dut: &'a Dut,
    random: Rng,
    shadow: Shadow,
    busy: Vec<Range<usize>>,
    supports_unmap: bool,
    /// Blocks that a compare-and-write may have, where that is limited: a remote device has as many
    /// as its controller changes as one.
    atomic_blocks: Option<usize>,
    /// How often each kind was done: a run that left one out would prove less than it says.
    done: [u64; IoType::COUNT],
}

/// Does `count` random I/Os, then reads everything back.
///
/// # Errors
/// What went wrong, with the number of the I/O.
pub async fn run(dut: Dut, seed: u64, count: u64) -> Result<()> {
    let blocks = (AREA_BYTES / dut.block_len).min(usize::try_from(dut.num_blocks)?);
    let mut model = Model {
        random: Rng::new(seed),
        shadow: Shadow {
            bytes: vec![0; blocks * dut.block_len],
            unmapped: vec![false; blocks],
            block_len: dut.block_len,
        },
        busy: Vec::new(),
        supports_unmap: dut.handle.get_device().io_type_supported(IoType::Unmap),
        atomic_blocks: (dut.handle.get_device().driver_name() == "nvme").then_some(1),
        done: [0; IoType::COUNT],
        dut: &dut,
    };
    let all = dut.blocks_of(AREA_BYTES).min(dut.num_blocks);
    let status = dut.handle.write_zeroes_async(0, all).await.status;
    ensure!(status.is_success(), "zeroing the area: {status}");
    let mut in_flight: FuturesUnordered<LocalBoxFuture<'static, Ended>> = FuturesUnordered::new();
    let mut depth = DEPTH_MAX;
    for number in 0..count {
        if model.random.one_in(64) {
            depth = 1 + model.random.index(DEPTH_MAX);
        }
        while in_flight.len() >= depth {
            model.end(in_flight.next().await)?;
        }
        let next = loop {
            match model.next(number)? {
                Some(next) => break next,
                None => model.end(in_flight.next().await)?,
            }
        };
        in_flight.push(next);
    }
    while !in_flight.is_empty() {
        model.end(in_flight.next().await)?;
    }
    model.read_back().await?;
    for kind in IoType::ALL.into_iter().filter(|kind| model.is_used(*kind)) {
        ensure!(model.done[kind as usize] > 0 || count < 1000, "no {kind} in {count} I/Os");
    }
    Ok(())
}

impl Shadow {
    fn bytes_of(&self, range: &Range<usize>) -> Range<usize> {
        range.start * self.block_len..range.end * self.block_len
    }

    fn get(&self, range: &Range<usize>) -> &[u8] {
        &self.bytes[self.bytes_of(range)]
    }

    fn any_unmapped(&self, range: &Range<usize>) -> bool {
        self.unmapped[range.clone()].iter().any(|&unmapped| unmapped)
    }

    fn set(&mut self, range: &Range<usize>, data: &[u8]) {
        let bytes = self.bytes_of(range);
        self.bytes[bytes].copy_from_slice(data);
        self.unmapped[range.clone()].fill(false);
    }

    /// Checks what was read. An unmapped block may be zero; what it read as, it goes on to hold.
    fn check(&mut self, range: &Range<usize>, found: &[u8]) -> Result<()> {
        for (block, data) in range.clone().zip(found.chunks(self.block_len)) {
            let one = block..block + 1;
            let zeroed = self.unmapped[block] && data.iter().all(|&byte| byte == 0);
            ensure!(zeroed || self.get(&one) == data, "wrong data in block {block}");
            if self.unmapped[block] {
                self.set(&one, data);
            }
        }
        Ok(())
    }
}

impl Model<'_> {
    fn is_used(&self, kind: IoType) -> bool {
        kind == IoType::Unmap && self.supports_unmap
            || kind == IoType::Reset && self.atomic_blocks.is_none()
            || matches!(
                kind,
                IoType::Read
                    | IoType::Write
                    | IoType::WriteZeroes
                    | IoType::Flush
                    | IoType::Compare
                    | IoType::CompareAndWrite
                    | IoType::Copy
            )
    }

    /// Starts a random I/O; none when no free range was found.
    fn next(&mut self, number: u64) -> Result<Option<LocalBoxFuture<'static, Ended>>> {
        let kind = self.pick_kind();
        let none = 0..0;
        let (target, source) = match kind {
            IoType::Flush | IoType::Reset => (none.clone(), none),
            _ => {
                let limit = self.atomic_blocks.filter(|_| kind == IoType::CompareAndWrite);
                let Some(target) = self.pick_range(limit) else { return Ok(None) };
                let source = if kind == IoType::Copy {
                    let Some(source) = self.pick_range(Some(target.len())) else { return Ok(None) };
                    source
                } else {
                    none
                };
                (target, source)
            }
        };
        // What may hold two things can neither be compared nor copied to somewhere known.
        let unknown = match kind {
            IoType::Compare | IoType::CompareAndWrite => self.shadow.any_unmapped(&target),
            IoType::Copy => self.shadow.any_unmapped(&source),
            _ => false,
        };
        let kind = if unknown { IoType::Write } else { kind };
        let source = if unknown { 0..0 } else { source };
        self.busy.extend([target.clone(), source.clone()]);
        let mut io =
            InFlight { number, kind, target, source, expected: NvmeStatus::SUCCESS, after: None };
        let request = self.request(&mut io)?;
        let ended = self.dut.handle.submit_async(request);
        Ok(Some(Box::pin(async move { (io, ended.await) })))
    }

    fn pick_kind(&mut self) -> IoType {
        match self.random.below(100) {
            0..30 => IoType::Read,
            30..60 => IoType::Write,
            60..67 => IoType::WriteZeroes,
            67..74 if self.supports_unmap => IoType::Unmap,
            67..80 => IoType::Compare,
            80..86 => IoType::CompareAndWrite,
            86..93 => IoType::Copy,
            93..99 => IoType::Flush,
            // A reset of a remote controller ends what is in flight with an unknown outcome, and
            // what may not be done twice is not repeated: no shadow could follow.
            _ if self.atomic_blocks.is_some() => IoType::Flush,
            _ => IoType::Reset,
        }
    }

    /// A range that nobody uses: mostly small, sometimes as large as they come.
    fn pick_range(&mut self, blocks: Option<usize>) -> Option<Range<usize>> {
        let all = self.shadow.unmapped.len();
        let block_len = self.dut.block_len;
        for _ in 0..8 {
            let bytes_max = if self.random.one_in(12) { IO_BYTES_MAX } else { 16 << 10 };
            let blocks_max = (bytes_max / block_len).clamp(1, all);
            let blocks = blocks.unwrap_or_else(|| 1 + self.random.index(blocks_max));
            let start = self.random.index(all - blocks + 1);
            let range = start..start + blocks;
            let meets = |other: &Range<usize>| other.start < range.end && range.start < other.end;
            if !self.busy.iter().any(meets) {
                return Some(range);
            }
        }
        None
    }

    /// The request of an I/O, and what must come of it.
    fn request(&mut self, io: &mut InFlight) -> Result<IoRequest> {
        let bytes = io.target.len() * self.dut.block_len;
        let old = self.shadow.get(&io.target).to_vec();
        let mut fua = false;
        let buf = match io.kind {
            IoType::Read => self.buffers(&vec![0xa5; bytes])?,
            IoType::Write => {
                fua = self.random.one_in(8);
                let mut data = old;
                self.random.fill(&mut data);
                let buf = self.buffers(&data)?;
                io.after = Some(data);
                buf
            }
            IoType::Compare => {
                let mut data = old;
                self.maybe_spoil(&mut data, io);
                self.buffers(&data)?
            }
            IoType::CompareAndWrite => {
                let mut new = old.clone();
                self.random.fill(&mut new);
                let mut expected = old;
                self.maybe_spoil(&mut expected, io);
                let pair = vec![self.one(&expected)?, self.one(&new)?];
                io.after = Some(new);
                SgList::new(pair).into()
            }
            IoType::WriteZeroes => {
                io.after = Some(vec![0; bytes]);
                IoBuf::None
            }
            IoType::Copy => {
                io.after = Some(self.shadow.get(&io.source).to_vec());
                IoBuf::None
            }
            _ => IoBuf::None,
        };
        let (offset, blocks) = (io.target.start as u64, io.target.len() as u64);
        let blocks = if io.kind == IoType::Flush { self.dut.num_blocks } else { blocks };
        let mut request = IoRequest::new(io.kind, offset, blocks, buf).fua(fua);
        request.source_blocks = io.source.start as u64;
        Ok(request)
    }

    /// Changes one byte in half of the cases: the compare must then fail.
    fn maybe_spoil(&mut self, data: &mut [u8], io: &mut InFlight) {
        if self.random.one_in(2) {
            let at = self.random.index(data.len());
            data[at] ^= 1 << self.random.below(8);
            io.expected = NvmeStatus::COMPARE_FAILURE;
        }
    }

    fn one(&self, data: &[u8]) -> Result<DmaBuf> {
        let mut buf = self.dut.handle.dma_malloc(data.len())?;
        buf.as_mut_slice().copy_from_slice(data);
        Ok(buf)
    }

    /// One buffer, or a list of pieces of random lengths, in whole blocks.
    fn buffers(&mut self, data: &[u8]) -> Result<IoBuf> {
        let block_len = self.dut.block_len;
        if self.random.one_in(2) {
            return Ok(self.one(data)?.into());
        }
        let longest = (data.len() / block_len / 4).max(1);
        let (mut pieces, mut rest) = (Vec::new(), data);
        while !rest.is_empty() {
            let last = pieces.len() as u64 + 1 == PIECES_MAX;
            let len = ((1 + self.random.index(longest)) * block_len).min(rest.len());
            let (piece, others) = rest.split_at(if last { rest.len() } else { len });
            pieces.push(self.one(piece)?);
            rest = others;
        }
        Ok(SgList::new(pieces).into())
    }

    /// Checks an I/O that has ended, and what it read.
    fn end(&mut self, ended: Option<Ended>) -> Result<()> {
        let (io, done) = ended.ok_or_else(|| anyhow!("no free range with nothing in flight"))?;
        let name = || format!("I/O {}, {} of blocks {:?}", io.number, io.kind, io.target);
        ensure!(done.status == io.expected, "{}: {}", name(), done.status);
        for range in [&io.target, &io.source] {
            let at = self.busy.iter().position(|busy| busy == range);
            self.busy.swap_remove(at.ok_or_else(|| anyhow!("{}: ended twice", name()))?);
        }
        self.done[io.kind as usize] += 1;
        if !done.status.is_success() {
            return Ok(());
        }
        match (io.kind, &io.after) {
            (IoType::Read, _) => {
                let found = match done.buf {
                    IoBuf::One(buf) => buf.as_slice().to_vec(),
                    IoBuf::List(list) => {
                        list.bufs().iter().flat_map(|buf| buf.as_slice()).copied().collect()
                    }
                    IoBuf::None | IoBuf::Lent(_) => {
                        anyhow::bail!("{}: the buffer is gone", name())
                    }
                };
                self.shadow.check(&io.target, &found).with_context(name)?;
            }
            (IoType::Unmap, _) => self.shadow.unmapped[io.target.clone()].fill(true),
            (_, Some(after)) => self.shadow.set(&io.target, after),
            _ => {}
        }
        Ok(())
    }

    /// Reads the whole area at the end.
    async fn read_back(&mut self) -> Result<()> {
        let all = self.shadow.unmapped.len();
        let step = IO_BYTES_MAX / self.dut.block_len;
        for start in (0..all).step_by(step) {
            let range = start..all.min(start + step);
            let found = self.dut.read(range.start as u64, range.len() as u64).await?;
            self.shadow.check(&range, found.as_slice()).context("at the end")?;
        }
        Ok(())
    }
}
