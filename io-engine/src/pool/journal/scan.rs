//! Reading the journal of an earlier life: where it ends, and whether that end is natural.

use super::super::PoolError;
use super::super::device::Device;
use super::super::digest::DigestKind;
use super::super::layout::{
    BLOCK_BYTES, Entry, Geometry, RECORD_BLOCKS_MAX, RecordHeader, entries, parse_record,
};
use super::super::mutant::Mutant;
use super::Start;
use uuid::Uuid;

/// Blocks that are read at once.
const WINDOW: u64 = 64;

/// What was found in the journal.
#[derive(Debug)]
pub(in super::super) struct Scan {
    /// Records that follow the superblock without a gap.
    pub(in super::super) records: u64,
    /// Where the next record would go.
    pub(in super::super) position: u64,
    /// The number of the next record.
    pub(in super::super) next_record: u64,
    /// All transactions up to this one were on the medium or given up.
    pub(in super::super) durable_txn: u64,
    /// The transactions in order.
    pub(in super::super) entries: Vec<Entry>,
}

/// What a block of the ring is to a recovery that expects a certain record there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The expected record.
    Next,
    /// Nothing that matters: an old record, a torn one, something else.
    Nothing,
    /// A record from behind the expected one; it says up to which record all were durable.
    Later { record: u64, durable_record: u64 },
    /// A record that was written after a newer superblock than the one that is known.
    Newer { generation: u64 },
}

/// What a recovery expects at a place.
struct Expected {
    uuid: Uuid,
    epoch: u64,
    generation: u64,
    record: u64,
    position: u64,
}

/// The decision about one whole record, by what it says of itself.
fn judge(found: &RecordHeader, expected: &Expected) -> Verdict {
    if found.uuid != expected.uuid {
        return Verdict::Nothing;
    }
    if found.generation > expected.generation {
        return Verdict::Newer { generation: found.generation };
    }
    if found.epoch != expected.epoch && !Mutant::NoEpochCheck.is_on() {
        return Verdict::Nothing;
    }
    if found.record == expected.record && found.position == expected.position {
        return Verdict::Next;
    }
    if Mutant::NoRecordNumberCheck.is_on() {
        return Verdict::Next;
    }
    if found.record > expected.record && found.position > expected.position {
        let (record, durable_record) = (found.record, found.durable_record);
        return Verdict::Later { record, durable_record };
    }
    Verdict::Nothing
}

/// The blocks of the ring, read a window at a time.
struct Ring<'a> {
    device: &'a Device,
    geometry: Geometry,
    window: Option<(u64, Vec<u8>)>,
}

impl Ring<'_> {
    /// The bytes of blocks from a position on; fewer where the device cannot read them.
    async fn blocks(&mut self, position: u64, count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for position in position..position + count {
            match self.block(position % self.geometry.journal_blocks).await {
                Some(block) => bytes.extend_from_slice(&block),
                None => break,
            }
        }
        bytes
    }

    async fn block(&mut self, index: u64) -> Option<Vec<u8>> {
        let first = index / WINDOW * WINDOW;
        if self.window.as_ref().is_none_or(|(at, _)| *at != first) {
            let count = WINDOW.min(self.geometry.journal_blocks - first);
            let start = self.geometry.journal_start();
            let bytes = match self.device.read_blocks(start + first, count).await {
                Ok(buf) => buf.as_slice().to_vec(),
                // One bad block must not hide its neighbours.
                Err(_) => self.one_by_one(start + first, count).await,
            };
            self.window = Some((first, bytes));
        }
        let (_, bytes) = self.window.as_ref()?;
        let at = usize::try_from(index - first).ok()? * BLOCK_BYTES;
        bytes.get(at..at + BLOCK_BYTES).map(<[u8]>::to_vec)
    }

    async fn one_by_one(&self, first: u64, count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for address in first..first + count {
            match self.device.read_blocks(address, 1).await {
                Ok(buf) => bytes.extend_from_slice(buf.as_slice()),
                Err(_) => bytes.extend_from_slice(&[0; BLOCK_BYTES]),
            }
        }
        bytes
    }

    /// The whole record that begins at a position, if one does.
    async fn record(&mut self, kind: DigestKind, position: u64) -> Option<(RecordHeader, Vec<u8>)> {
        let first = self.blocks(position, 1).await;
        let header = RecordHeader::parse(&first).ok()?;
        let count = header.blocks().min(RECORD_BLOCKS_MAX).min(self.geometry.journal_blocks);
        let bytes = if count == 1 { first } else { self.blocks(position, count).await };
        parse_record(kind, &bytes).ok().map(|header| (header, bytes))
    }
}

/// Reads the journal from where a superblock says it begins.
///
/// # Errors
/// When a record that was durable is damaged, when the superblock is not the newest, or when an
/// entry makes no sense.
pub(in super::super) async fn scan(
    device: &Device,
    uuid: Uuid,
    kind: DigestKind,
    geometry: Geometry,
    start: Start,
) -> Result<Scan, PoolError> {
    let mut ring = Ring { device, geometry, window: None };
    let mut scan = Scan {
        records: 0,
        position: start.position,
        next_record: start.next_record,
        durable_txn: start.next_txn.saturating_sub(1),
        entries: Vec::new(),
    };
    let end = start.position + geometry.journal_blocks;
    while scan.position < end {
        let expected = expect(uuid, &start, &scan);
        let Some((header, bytes)) = ring.record(kind, scan.position).await else { break };
        if judge(&header, &expected) != Verdict::Next || scan.position + header.blocks() > end {
            break;
        }
        let Some(found) = entries(&header, &bytes) else {
            let problem = format!("journal record {} is whole but makes no sense", header.record);
            return Err(PoolError::Inconsistent(problem));
        };
        scan.entries.extend(found);
        scan.durable_txn = scan.durable_txn.max(header.durable_txn);
        scan.records += 1;
        scan.position += header.blocks();
        scan.next_record += 1;
    }
    if !Mutant::NoDamageCheck.is_on() {
        check_end(&mut ring, kind, &scan, &expect(uuid, &start, &scan), start.position).await?;
    }
    Ok(scan)
}

fn expect(uuid: Uuid, start: &Start, scan: &Scan) -> Expected {
    let (epoch, generation) = (start.epoch, start.generation);
    Expected { uuid, epoch, generation, record: scan.next_record, position: scan.position }
}

/// Whether the end of the journal is a natural one: no later record says that the missing one was
/// on the medium.
async fn check_end(
    ring: &mut Ring<'_>,
    kind: DigestKind,
    scan: &Scan,
    expected: &Expected,
    start: u64,
) -> Result<(), PoolError> {
    for position in scan.position..start + ring.geometry.journal_blocks {
        let Some((header, _)) = ring.record(kind, position).await else { continue };
        match judge(&header, expected) {
            Verdict::Newer { generation } => {
                return Err(PoolError::StaleSuperblock {
                    device: ring.device.name().to_owned(),
                    found: expected.generation,
                    journal: generation,
                });
            }
            Verdict::Later { record, durable_record } if durable_record >= expected.record => {
                let index = scan.position % ring.geometry.journal_blocks;
                return Err(PoolError::JournalDamaged {
                    record: expected.record,
                    address: ring.geometry.journal_start() + index,
                    later: record,
                });
            }
            Verdict::Later { .. } | Verdict::Next | Verdict::Nothing => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way in which a record can differ from the expected one.
    #[test]
    fn the_table_of_decisions() {
        let expected = Expected {
            uuid: Uuid::from_u128(1),
            epoch: 5,
            generation: 7,
            record: 100,
            position: 1000,
        };
        for uuid in [1, 2] {
            for epoch in [4, 5, 6] {
                for generation in [6, 7, 8] {
                    for record in [99, 100, 101] {
                        for position in [999, 1000, 1001] {
                            let found = RecordHeader {
                                uuid: Uuid::from_u128(uuid),
                                epoch,
                                generation,
                                record,
                                position,
                                durable_record: 98,
                                durable_txn: 0,
                                length: 128,
                                entries: 0,
                            };
                            let verdict = judge(&found, &expected);
                            let right = if uuid != 1 {
                                Verdict::Nothing
                            } else if generation == 8 {
                                Verdict::Newer { generation }
                            } else if epoch != 5 {
                                Verdict::Nothing
                            } else if record == 100 && position == 1000 {
                                Verdict::Next
                            } else if record == 101 && position == 1001 {
                                Verdict::Later { record, durable_record: 98 }
                            } else {
                                Verdict::Nothing
                            };
                            assert_eq!(verdict, right, "{found:?}");
                        }
                    }
                }
            }
        }
    }
}
