//! What becomes of a medium that is damaged in one place, when everything on it was flushed.
//!
//! The store may refuse it, or fail to read some of it. What it returns must be right: damage must
//! not pass for an old state. Only the last write is left out, since a journal whose last record
//! is damaged cannot be told from one that ends before it.

use super::recovery::recover;
use super::scenario::{Ran, Running};
use crate::device::image::Image;
use crate::device::recording::CutMode;
use crate::device::{BLOCK_BYTES, SECTOR_BYTES, to_usize};
use crate::oracle::{Circumstances, Failure, Rule};
use crate::plan::{Name, Op};
use crate::rng::Rng;

/// The operations that bring everything to the medium, and then write block after block, each by
/// itself. Names without a volume are passed over.
#[must_use]
pub fn closing_ops() -> Vec<Op> {
    let flushes = Name::all().map(Op::Flush);
    let writes = Name::all().flat_map(|name| [Op::Wait, Op::Write(name, (0, 1), true)]);
    [Op::Wait].into_iter().chain(flushes).chain(writes).chain([Op::Wait]).collect()
}

/// Damages a block: bits, a sector, or all of it, by what was there before or what is elsewhere.
fn damaged(image: &Image, older: &Image, block: usize, rng: &mut Rng) -> Image {
    let mut damaged = image.clone();
    let at = (block * BLOCK_BYTES) as u64;
    let mut bytes = vec![0; BLOCK_BYTES];
    match rng.below(5) {
        0 => older.read(at, &mut bytes),
        1 => {
            let elsewhere = image.random_written_byte(rng).unwrap_or(0);
            image.read(elsewhere / BLOCK_BYTES as u64 * BLOCK_BYTES as u64, &mut bytes);
        }
        2 => {
            image.read(at, &mut bytes);
            let sector = rng.index(BLOCK_BYTES / SECTOR_BYTES) * SECTOR_BYTES;
            bytes[sector..sector + SECTOR_BYTES].fill(0);
        }
        _ => {
            let bit = 1 << rng.below(8);
            damaged.flip(at + rng.below(BLOCK_BYTES as u64), bit);
            return damaged;
        }
    }
    damaged.write(at, &bytes);
    damaged
}

impl Running<'_> {
    /// Damages the medium in one place after the other.
    pub(super) fn damage(&mut self, ran: &Ran) -> Result<(), Failure> {
        let Some(last) = ran.history.last_write_submitted() else { return Ok(()) };
        let mut cursor = ran.recording.cursor();
        cursor.advance(self.rng.index(last));
        let older = cursor.cut(CutMode::Nothing, 0);
        cursor.advance(last);
        let before = cursor.cut(CutMode::All, 0);
        cursor.advance(ran.recording.events.len());
        let image = cursor.cut(CutMode::All, 0);
        for _ in 0..self.budget.damages {
            let Some(place) = image.random_written_byte(&mut self.rng) else { return Ok(()) };
            let block = to_usize(place) / BLOCK_BYTES;
            if image.shares_block(&before, block) {
                let seed = self.rng.next_u64();
                let image = damaged(&image, &older, block, &mut self.rng);
                self.judge_damage(ran, image, seed)
                    .map_err(|failure| failure.at(format!("block {block} was damaged")))?;
            }
        }
        Ok(())
    }

    fn judge_damage(&mut self, ran: &Ran, image: Image, seed: u64) -> Result<(), Failure> {
        let options = self.recovery_options(seed, false);
        let found = match recover(self.kind, self.memory, image, &options) {
            Ok(found) => found.observed,
            Err(failure) if failure.rule == Rule::Import => {
                self.totals.refused += 1;
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let circumstances =
            Circumstances { all_completed: true, errors_allowed: true, lied: false };
        ran.history.check(ran.history.end(), &found, circumstances)?;
        self.totals.cuts += 1;
        Ok(())
    }
}
