//! Writing: data to new blocks and a record with their digests to the journal, at the same time;
//! then the map is changed.

use std::borrow::Cow;
use std::rc::Rc;

use futures::future::join_all;
use spdk_rs::NvmeStatus;
use spdk_rs::env::DmaBuf;

use super::super::dataset::Dataset;
use super::super::digest::Digest;
use super::super::journal::{Appended, blocks_for};
use super::super::layout::{BLOCK_BYTES, Entry, EntryKind, Extent, FANOUT_BITS, entry_bytes};
use super::super::mutant::Mutant;
use super::super::space::Run;
use super::super::stats::Counters;
use super::super::tree::Leaf;
use super::super::{Pool, PoolError};
use super::admit::{Admitted, Needs};
use super::blocks_in;

/// Buffers and the blocks of a volume to which they are written.
pub(super) type Pieces = Vec<(u64, DmaBuf)>;

/// A transaction that gives another one up needs one block of the journal.
const ABORT_BLOCKS: u64 = 1;

/// Blocks of 4 KiB that one write may have, whatever the journal: 1 MiB.
const WRITE_BLOCKS_MAX: u64 = 256;

impl Pool {
    /// Blocks of 4 KiB that one write, which is one atomic change, can have at the most: what fits
    /// one transaction of the journal, and at most 1 MiB.
    #[must_use]
    pub fn write_blocks_max(&self) -> u64 {
        let most = self.journal.txn_blocks_max();
        let fits = |blocks: &u64| needs_of(&[(0, *blocks)]).journal_blocks <= most;
        (1..=WRITE_BLOCKS_MAX).rev().find(fits).unwrap_or(1)
    }

    pub(super) async fn write(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        pieces: Pieces,
        fua: bool,
    ) -> (Result<(), PoolError>, Pieces) {
        let begun = Counters::now();
        let _operation = self.digester.operation();
        let ranges: Vec<(u64, u64)> =
            pieces.iter().map(|(at, buf)| (*at, at.saturating_add(blocks_in(buf)))).collect();
        if let Err(error) = self.check_pieces(dataset, &pieces, &ranges) {
            return (Err(error), pieces);
        }
        let admitted = match self.admit(dataset, &ranges, needs_of(&ranges)).await {
            Ok(admitted) => admitted,
            Err(error) => return (Err(error), pieces),
        };
        let (mut result, pieces) = self.write_admitted(dataset, admitted, pieces).await;
        if result.is_ok() && fua && !Mutant::NoFlushOnFua.is_on() {
            result = self.flush().await;
        }
        self.consider_checkpoint();
        let bytes = pieces.iter().map(|(_, buf)| buf.len() as u64).sum();
        self.counters.write(begun, bytes);
        (result, pieces)
    }

    pub(super) fn check_pieces(
        &self,
        dataset: &Dataset,
        pieces: &Pieces,
        ranges: &[(u64, u64)],
    ) -> Result<(), PoolError> {
        if dataset.snapshot || dataset.read_only.get() {
            let (pool, name) = (self.name.clone(), dataset.name.borrow().clone());
            return Err(PoolError::ReadOnly { pool, reason: format!("'{name}' is read-only") });
        }
        for ((at, buf), &(start, end)) in pieces.iter().zip(ranges) {
            if buf.len() % BLOCK_BYTES != 0 {
                return Err(PoolError::Parameter {
                    parameter: "length of the data",
                    value: format!("{} bytes at block {at}", buf.len()),
                    allowed: "a multiple of 4096 bytes".to_owned(),
                });
            }
            self.check_range(dataset, start, end.saturating_sub(start))?;
        }
        let mut sorted = ranges.to_vec();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            None => Ok(()),
            Some(pair) => Err(PoolError::Parameter {
                parameter: "ranges of a transaction",
                value: format!("{:?} and {:?}", pair[0], pair[1]),
                allowed: "ranges that do not overlap".to_owned(),
            }),
        }
    }

    /// Writes pieces for which there is room. Gives them back in the same order.
    pub(super) async fn write_admitted(
        self: &Rc<Self>,
        dataset: &Rc<Dataset>,
        mut admitted: Admitted<'_>,
        pieces: Pieces,
    ) -> (Result<(), PoolError>, Pieces) {
        let blocks = std::mem::take(&mut admitted.blocks);
        let runs = match self.space.take(&self.device, blocks).await {
            Ok(runs) => runs,
            Err(error) => return (Err(error), pieces),
        };
        let (pieces, digests) = self.digests_of(pieces).await;
        let extents = extents_of(&pieces, &runs, &digests);
        let journal_blocks = std::mem::take(&mut admitted.journal_blocks) - ABORT_BLOCKS;
        admitted.journal_blocks = ABORT_BLOCKS;
        let mut entry = Entry { kind: EntryKind::Map, dataset: dataset.id, txn: 0, extents };
        let Appended { txn, written } = self.journal.append(&mut entry, journal_blocks);
        let data = self.write_data(&runs, pieces);
        let (recorded, (stored, pieces)) = if Mutant::AckBeforeRecord.is_on() {
            (Ok(Ok(())), data.await)
        } else {
            futures::join!(written, data)
        };
        let recorded = recorded.unwrap_or(Err(NvmeStatus::INTERNAL_ERROR));
        if let Err(status) = recorded {
            return (self.stop_without_journal(status), pieces);
        }
        if let Err(error) = stored {
            let gave_up = self.give_up(dataset, txn, &runs, &mut admitted).await;
            return (gave_up.and(Err(error)), pieces);
        }
        self.apply(dataset, txn, &entry.extents, &admitted.leaves);
        self.journal.resolve(txn);
        (Ok(()), pieces)
    }

    async fn digests_of(&self, pieces: Pieces) -> (Pieces, Vec<Digest>) {
        let (mut back, mut digests) = (Vec::with_capacity(pieces.len()), Vec::new());
        for (at, buf) in pieces {
            let (buf, mut own) = self.digester.digests(buf).await;
            back.push((at, buf));
            if digests.is_empty() { digests = own } else { digests.append(&mut own) }
        }
        (back, digests)
    }

    /// Changes the map.
    pub(super) fn apply(
        &self,
        dataset: &Dataset,
        txn: u64,
        extents: &[Extent],
        leaves: &[Vec<Leaf>],
    ) {
        for extent in extents {
            let covers = |leaves: &&Vec<Leaf>| {
                let first = leaves.first().map_or(u64::MAX, |(index, _)| *index);
                let last = leaves.last().map_or(0, |(index, _)| *index);
                (first..=last).contains(&(extent.offset >> FANOUT_BITS))
                    && last >= (extent.offset + extent.count - 1) >> FANOUT_BITS
            };
            let Some(leaves) = leaves.iter().find(covers) else { continue };
            for (block, ptr) in (extent.offset..).zip(extent.ptrs(txn)) {
                self.map_block(dataset, block, ptr, leaves, txn, true);
            }
        }
    }

    /// Writes to the journal that a transaction never happened: its data could not be written.
    async fn give_up(
        self: &Rc<Self>,
        dataset: &Dataset,
        txn: u64,
        runs: &[Run],
        admitted: &mut Admitted<'_>,
    ) -> Result<(), PoolError> {
        let mut entry =
            Entry { kind: EntryKind::Abort, dataset: dataset.id, txn, extents: Vec::new() };
        let reserved = std::mem::take(&mut admitted.journal_blocks);
        let written = self.journal.append(&mut entry, reserved).written.await;
        if let Err(status) = written.unwrap_or(Err(NvmeStatus::INTERNAL_ERROR)) {
            return self.stop_without_journal(status);
        }
        for &(address, count) in runs {
            self.space.free(address, count);
        }
        self.journal.resolve(txn);
        Ok(())
    }

    /// Writes pieces to runs of addresses.
    async fn write_data(
        &self,
        runs: &[Run],
        mut pieces: Pieces,
    ) -> (Result<(), PoolError>, Pieces) {
        if Mutant::AckBeforeData.is_on() {
            return (Ok(()), pieces);
        }
        // The usual case: one piece that lies together.
        if let [(address, _)] = *runs
            && pieces.len() == 1
            && let Some((at, buf)) = pieces.pop()
        {
            let (status, buf) = self.device.write(address, buf).await;
            pieces.push((at, buf));
            return (status.ok().map_err(|s| PoolError::device("write", address, s)), pieces);
        }
        let all: Vec<&[u8]> = pieces.iter().map(|(_, buf)| buf.as_slice()).collect();
        let joined: Cow<'_, [u8]> = match all[..] {
            [one] => one.into(),
            _ => all.concat().into(),
        };
        let mut rest = &*joined;
        let mut writes = Vec::with_capacity(runs.len());
        for &(address, count) in runs {
            let len = usize::try_from(count).unwrap_or(0) * BLOCK_BYTES;
            let (own, after) = rest.split_at(len.min(rest.len()));
            rest = after;
            writes.push(self.device.write_bytes(address, own));
        }
        let result = join_all(writes).await.into_iter().collect();
        drop(joined);
        (result, pieces)
    }
}

/// What a write of ranges needs. Each block may come to lie for itself.
pub(super) fn needs_of(ranges: &[(u64, u64)]) -> Needs {
    let blocks = ranges.iter().map(|(start, end)| end - start).sum();
    let count = usize::try_from(blocks).unwrap_or(usize::MAX >> 8);
    let journal_blocks = blocks_for(entry_bytes(count, count)) + ABORT_BLOCKS;
    Needs { blocks, journal_blocks, frees: false, tail: false }
}

/// Which blocks go where, neighbours together.
fn extents_of(pieces: &Pieces, runs: &[Run], digests: &[Digest]) -> Vec<Extent> {
    let mut extents = Vec::with_capacity(runs.len());
    let mut runs = runs.iter().copied();
    let mut digests = digests.iter().copied();
    let mut run = runs.next().unwrap_or((0, 0));
    for (at, buf) in pieces {
        let (mut offset, end) = (*at, at + blocks_in(buf));
        while offset < end {
            if run.1 == 0 {
                run = runs.next().unwrap_or((0, end - offset));
            }
            let count = run.1.min(end - offset);
            let own = digests.by_ref().take(usize::try_from(count).unwrap_or(0)).collect();
            extents.push(Extent { offset, count, address: Some(run.0), digests: own });
            run = (run.0 + count, run.1 - count);
            offset += count;
        }
    }
    extents
}
