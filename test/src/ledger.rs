//! What a writer knows of a device: which writes are durable, and which may or may not be there.
//!
//! Each block of 4 KiB carries the number of the write that it came with. After a crash a block has to
//! show the last write that was flushed, or a later one; and a write is there as a whole or not at
//! all.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

use crate::rng::Rng;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 4096;

/// A write that is not known to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its number; later ones are higher.
    pub seq: u64,
    /// The first block.
    pub block: usize,
    /// The number of blocks.
    pub count: usize,
    /// Whether it has completed.
    pub completed: bool,
}

impl Pending {
    fn blocks(&self) -> std::ops::Range<usize> {
        self.block..self.block + self.count
    }
}

/// What is known of the blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The number of the last durable write of each block; 0 for none.
    durable: Vec<u64>,
    pending: Vec<Pending>,
    next_seq: u64,
}

/// What a look at the device found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Writes that were not flushed and are there.
    pub there: usize,
    /// Writes that were not flushed and are not there, or not any more.
    pub absent: usize,
}

impl Ledger {
    /// Nothing was written.
    #[must_use]
    pub fn new(blocks: usize) -> Self {
        Self { durable: vec![0; blocks], pending: Vec::new(), next_seq: 1 }
    }

    /// The number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.durable.len()
    }

    /// A write is about to be submitted. It must not overlap one that has not completed.
    pub fn begin(&mut self, block: usize, count: usize) -> Pending {
        let write = Pending { seq: self.next_seq, block, count, completed: false };
        self.next_seq += 1;
        self.pending.push(write);
        write
    }

    /// Whether blocks are being written.
    #[must_use]
    pub fn is_busy(&self, block: usize, count: usize) -> bool {
        let open = self.pending.iter().filter(|write| !write.completed);
        open.into_iter()
            .any(|write| write.block < block + count && block < write.block + write.count)
    }

    /// A write has completed; with `fua` it is durable.
    pub fn complete(&mut self, seq: u64, fua: bool) {
        if let Some(write) = self.pending.iter_mut().find(|write| write.seq == seq) {
            write.completed = true;
        }
        if fua {
            self.flushed(&[seq]);
        }
    }

    /// The writes that a flush covers which is submitted now.
    #[must_use]
    pub fn covered(&self) -> Vec<u64> {
        self.pending.iter().filter(|write| write.completed).map(|write| write.seq).collect()
    }

    /// A flush that covers these writes has completed.
    pub fn flushed(&mut self, covered: &[u64]) {
        let durable = &mut self.durable;
        self.pending.retain(|write| {
            let now = covered.contains(&write.seq);
            if now {
                durable[write.blocks()].iter_mut().for_each(|seq| *seq = write.seq.max(*seq));
            }
            !now
        });
    }

    /// Compares what the blocks show with what is known, and takes it over: what was seen after a crash
    /// stays.
    ///
    /// # Errors
    /// When a durable write is lost, a write is there in part, or a block shows something else.
    pub fn verify(&mut self, seen: &[u64]) -> Result<Verdict> {
        ensure!(seen.len() == self.durable.len(), "{} blocks were seen", seen.len());
        for (block, (&seen, &durable)) in seen.iter().zip(&self.durable).enumerate() {
            let mut unflushed = self.pending.iter().filter(|write| write.blocks().contains(&block));
            if seen != durable && !unflushed.any(|write| write.seq == seen) {
                bail!("block {block} shows write {seen}; write {durable} was flushed");
            }
        }
        let mut verdict = Verdict::default();
        for write in &self.pending {
            let shown = &seen[write.blocks()];
            let there = shown.contains(&write.seq);
            if there && shown.iter().any(|seq| *seq < write.seq) {
                bail!("{write:?} is there in part: its blocks show {shown:?}");
            }
            *(if there { &mut verdict.there } else { &mut verdict.absent }) += 1;
        }
        self.durable.copy_from_slice(seen);
        self.pending.clear();
        Ok(verdict)
    }

    /// The ledger as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{} {}\n", self.durable.len(), self.next_seq);
        for (block, seq) in self.durable.iter().enumerate().filter(|(_, seq)| **seq > 0) {
            let _ = writeln!(text, "durable {block} {seq}");
        }
        for Pending { seq, block, count, completed } in &self.pending {
            let _ = writeln!(text, "pending {seq} {block} {count} {}", u8::from(*completed));
        }
        text
    }

    /// Reads what [`Ledger::to_text`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_text(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let mut ledger = Self::new(0);
        let first = numbers(lines.next().context("an empty ledger")?)?;
        let [blocks, next_seq] = first[..] else { bail!("no ledger") };
        (ledger.durable, ledger.next_seq) = (vec![0; usize::try_from(blocks)?], next_seq);
        for line in lines {
            let (kind, rest) = line.split_once(' ').context("a line without a word")?;
            match (kind, &numbers(rest)?[..]) {
                ("durable", &[block, seq]) => {
                    let place = ledger.durable.get_mut(usize::try_from(block)?);
                    *place.with_context(|| format!("no block {block}"))? = seq;
                }
                ("pending", &[seq, block, count, completed]) => ledger.pending.push(Pending {
                    seq,
                    block: usize::try_from(block)?,
                    count: usize::try_from(count)?,
                    completed: completed == 1,
                }),
                _ => bail!("no line of a ledger: {line}"),
            }
        }
        Ok(ledger)
    }
}

fn numbers(text: &str) -> Result<Vec<u64>> {
    Ok(text.split(' ').map(str::parse).collect::<Result<_, _>>()?)
}

/// Fills a block with what a write puts there.
pub fn fill(bytes: &mut [u8], block: usize, seq: u64) {
    Rng::new(seq ^ (block as u64) << 40).fill(bytes);
    bytes[..8].copy_from_slice(&seq.to_le_bytes());
}

/// The write whose block this is; 0 for zeroes.
///
/// # Errors
/// When it is no block of a write.
pub fn read_back(bytes: &[u8], block: usize) -> Result<u64> {
    let seq = u64::from_le_bytes(bytes[..8].try_into()?);
    let mut expected = vec![0; bytes.len()];
    if seq > 0 {
        fill(&mut expected, block, seq);
    }
    ensure!(bytes == expected, "block {block} says that it is of write {seq}, and is not");
    Ok(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_has_to_be_there() {
        let mut ledger = Ledger::new(4);
        let first = ledger.begin(0, 2);
        assert!(ledger.is_busy(1, 2) && !ledger.is_busy(2, 2));
        ledger.complete(first.seq, false);
        let covered = ledger.covered();
        let second = ledger.begin(1, 2);
        ledger.complete(second.seq, false);
        ledger.flushed(&covered);
        let again = Ledger::from_text(&ledger.to_text()).expect("read back");
        assert_eq!(again, ledger);
        let verify = |seen: [u64; 4]| ledger.clone().verify(&seen);
        assert_eq!(verify([1, 2, 2, 0]).expect("there").there, 1);
        assert_eq!(verify([1, 1, 0, 0]).expect("absent").absent, 1);
        assert!(verify([0, 2, 2, 0]).is_err(), "lost");
        assert!(verify([1, 2, 0, 0]).is_err(), "in part");
        assert!(verify([1, 1, 0, 3]).is_err(), "something else");
        let third = ledger.begin(3, 1);
        ledger.complete(third.seq, true);
        assert!(ledger.clone().verify(&[1, 2, 2, 0]).is_err(), "FUA is durable");
        ledger.verify(&[1, 2, 2, 3]).expect("all");
        assert!(ledger.verify(&[1, 1, 0, 3]).is_err(), "what was seen stays");
    }

    #[test]
    fn blocks_tell_their_write_and_place() {
        let mut bytes = [0; BLOCK_BYTES];
        assert_eq!(read_back(&bytes, 5).expect("zeroes"), 0);
        fill(&mut bytes, 5, 7);
        assert_eq!(read_back(&bytes, 5).expect("a write"), 7);
        assert!(read_back(&bytes, 6).is_err());
        bytes[4000] ^= 1;
        assert!(read_back(&bytes, 5).is_err());
    }
}
