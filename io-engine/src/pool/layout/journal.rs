//! Records of the journal.
//!
//! A record is a header and entries, padded to whole blocks. Its digest covers all of it that
//! follows the digest. An entry is one transaction: extents of one volume, each with the digest of
//! every block that it maps; or the news that a transaction was given up.

use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::digest::{Digest, DigestKind, digest};
use super::super::mutant::Mutant;
use super::BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"IOEJRNL\n";
/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 128;
/// Blocks of a record at the most.
pub const RECORD_BLOCKS_MAX: u64 = 64;
const DIGESTED_FROM: usize = 40;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    digest: Digest,
    uuid: [u8; 16],
    epoch: U64,
    generation: U64,
    record: U64,
    position: U64,
    durable_record: U64,
    durable_txn: U64,
    length: U32,
    entries: U32,
    reserved: [u8; 16],
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    kind: u8,
    reserved: [u8; 3],
    extents: U32,
    dataset: U64,
    txn: U64,
    blocks: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawExtent {
    offset: U64,
    address: U64,
    count: U32,
    hole: U32,
}

const _: () = assert!(size_of::<RawEntry>() == 32);
const _: () = assert!(size_of::<RawExtent>() == 24);

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The pool.
    pub uuid: Uuid,
    /// The life of the pool in which it was written.
    pub epoch: u64,
    /// The checkpoint after which it was written.
    pub generation: u64,
    /// Its number, one more than the one before.
    pub record: u64,
    /// Where it begins, counted in blocks since the pool was made.
    pub position: u64,
    /// All records up to this one were on the medium when this one was written.
    pub durable_record: u64,
    /// All transactions up to this one were on the medium or given up when this one was written.
    pub durable_txn: u64,
    /// Its length in bytes, header included.
    pub length: u32,
    /// The number of its entries.
    pub entries: u32,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// Blocks of a volume are mapped anew.
    Map = 1,
    /// The transaction was given up: it never happened.
    Abort = 2,
}

/// Blocks of a volume and where they are from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first block in the volume.
    pub offset: u64,
    /// The number of blocks.
    pub count: u64,
    /// The first address; none for a hole.
    pub address: Option<u64>,
    /// The digest of each block; empty for a hole.
    pub digests: Vec<Digest>,
}

/// One transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// The volume.
    pub dataset: u64,
    /// Its number.
    pub txn: u64,
    /// What it maps.
    pub extents: Vec<Extent>,
}

/// Why a block begins no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// There is something else.
    Absent,
    /// It is not whole, or it makes no sense.
    Damaged,
}

/// The bytes that an entry takes with so many extents and mapped blocks.
#[must_use]
pub fn entry_bytes(extents: usize, digests: usize) -> usize {
    size_of::<RawEntry>() + extents * size_of::<RawExtent>() + digests * 32
}

impl Entry {
    /// Appends the entry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let raw = RawEntry {
            kind: self.kind as u8,
            reserved: [0; 3],
            extents: U32::new(u32::try_from(self.extents.len()).unwrap_or(u32::MAX)),
            dataset: U64::new(self.dataset),
            txn: U64::new(self.txn),
            blocks: U64::new(self.extents.iter().map(|extent| extent.count).sum()),
        };
        out.extend_from_slice(raw.as_bytes());
        for extent in &self.extents {
            let raw = RawExtent {
                offset: U64::new(extent.offset),
                address: U64::new(extent.address.unwrap_or(0)),
                count: U32::new(u32::try_from(extent.count).unwrap_or(u32::MAX)),
                hole: U32::new(u32::from(extent.address.is_none())),
            };
            out.extend_from_slice(raw.as_bytes());
            for digest in &extent.digests {
                out.extend_from_slice(digest);
            }
        }
    }

    /// Reads one entry and what follows it.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (raw, mut rest) = RawEntry::read_from_prefix(bytes).ok()?;
        let kind =
            [EntryKind::Map, EntryKind::Abort].into_iter().find(|kind| *kind as u8 == raw.kind)?;
        let mut extents = Vec::new();
        for _ in 0..raw.extents.get() {
            let (extent, after) = RawExtent::read_from_prefix(rest).ok()?;
            rest = after;
            let count = u64::from(extent.count.get());
            let hole = extent.hole.get() != 0;
            let mut digests = Vec::new();
            if !hole {
                let bytes = usize::try_from(count).ok()?.checked_mul(32)?;
                let (own, after) = rest.split_at_checked(bytes)?;
                digests = own.chunks_exact(32).filter_map(|d| d.try_into().ok()).collect();
                rest = after;
            }
            let address = (!hole).then(|| extent.address.get());
            extents.push(Extent { offset: extent.offset.get(), count, address, digests });
        }
        // The sum is redundant: an entry that contradicts itself was not written by a pool.
        let blocks = extents.iter().try_fold(0_u64, |sum, extent| sum.checked_add(extent.count))?;
        if blocks != raw.blocks.get() {
            return None;
        }
        Some((Self { kind, dataset: raw.dataset.get(), txn: raw.txn.get(), extents }, rest))
    }
}

/// Finishes a record: `block` has room for the header, then the entries, and is padded to whole
/// blocks; `header.length` says how much of it counts.
///
/// # Panics
/// When `block` is shorter than its header says.
pub fn encode(header: &RecordHeader, kind: DigestKind, block: &mut [u8]) {
    let mut raw = RawHeader {
        magic: MAGIC,
        digest: [0; 32],
        uuid: *header.uuid.as_bytes(),
        epoch: U64::new(header.epoch),
        generation: U64::new(header.generation),
        record: U64::new(header.record),
        position: U64::new(header.position),
        durable_record: U64::new(header.durable_record),
        durable_txn: U64::new(header.durable_txn),
        length: U32::new(header.length),
        entries: U32::new(header.entries),
        reserved: [0; 16],
    };
    block[..HEADER_BYTES].copy_from_slice(raw.as_bytes());
    raw.digest = digest(kind, &block[DIGESTED_FROM..header.length as usize]);
    block[..HEADER_BYTES].copy_from_slice(raw.as_bytes());
}

impl RecordHeader {
    /// Reads the header of a record without looking at its digest.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn parse(block: &[u8]) -> Result<Self, RecordError> {
        let (raw, _) = RawHeader::read_from_prefix(block).map_err(|_| RecordError::Absent)?;
        if raw.magic != MAGIC {
            return Err(RecordError::Absent);
        }
        let length = raw.length.get();
        let most = RECORD_BLOCKS_MAX * BLOCK_BYTES as u64;
        if (length as usize) < HEADER_BYTES || u64::from(length) > most {
            return Err(RecordError::Damaged);
        }
        Ok(Self {
            uuid: Uuid::from_bytes(raw.uuid),
            epoch: raw.epoch.get(),
            generation: raw.generation.get(),
            record: raw.record.get(),
            position: raw.position.get(),
            durable_record: raw.durable_record.get(),
            durable_txn: raw.durable_txn.get(),
            length,
            entries: raw.entries.get(),
        })
    }

    /// Blocks that the record takes.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        u64::from(self.length).div_ceil(BLOCK_BYTES as u64)
    }
}

/// Reads a record from all of its blocks and verifies its digest.
///
/// # Errors
/// [`RecordError`].
pub fn parse_record(kind: DigestKind, blocks: &[u8]) -> Result<RecordHeader, RecordError> {
    let header = RecordHeader::parse(blocks)?;
    let covered = blocks.get(DIGESTED_FROM..header.length as usize).ok_or(RecordError::Damaged)?;
    let found = blocks.get(8..DIGESTED_FROM).ok_or(RecordError::Damaged)?;
    if digest(kind, covered) != found && !Mutant::NoRecordDigest.is_on() {
        return Err(RecordError::Damaged);
    }
    Ok(header)
}

/// The entries of a record whose digest was verified; none when they make no sense.
#[must_use]
pub fn entries(header: &RecordHeader, blocks: &[u8]) -> Option<Vec<Entry>> {
    let mut rest = blocks.get(HEADER_BYTES..header.length as usize)?;
    let mut entries = Vec::new();
    for _ in 0..header.entries {
        let (entry, after) = Entry::parse(rest)?;
        entries.push(entry);
        rest = after;
    }
    rest.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (RecordHeader, Vec<Entry>, Vec<u8>) {
        let entries = vec![
            Entry {
                kind: EntryKind::Map,
                dataset: 5,
                txn: 9,
                extents: vec![
                    Extent {
                        offset: 1,
                        count: 2,
                        address: Some(70),
                        digests: vec![[1; 32], [2; 32]],
                    },
                    Extent { offset: 9, count: 100, address: None, digests: Vec::new() },
                ],
            },
            Entry { kind: EntryKind::Abort, dataset: 5, txn: 8, extents: Vec::new() },
        ];
        let mut bytes = vec![0; HEADER_BYTES];
        entries.iter().for_each(|entry| entry.encode(&mut bytes));
        let header = RecordHeader {
            uuid: Uuid::from_u128(1),
            epoch: 2,
            generation: 3,
            record: 4,
            position: 5,
            durable_record: 6,
            durable_txn: 7,
            length: u32::try_from(bytes.len()).expect("small"),
            entries: 2,
        };
        bytes.resize(BLOCK_BYTES, 0);
        encode(&header, DigestKind::Sha256, &mut bytes);
        (header, entries, bytes)
    }

    #[test]
    fn it_comes_back_as_it_was_and_every_bit_counts() {
        let (header, list, bytes) = example();
        assert_eq!(parse_record(DigestKind::Sha256, &bytes), Ok(header.clone()));
        assert_eq!(entries(&header, &bytes), Some(list));
        for byte in 0..header.length as usize {
            let mut broken = bytes.clone();
            broken[byte] ^= 1 << (byte % 8);
            assert!(parse_record(DigestKind::Sha256, &broken).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn an_entry_that_contradicts_its_sum_is_refused() {
        let (header, list, mut bytes) = example();
        assert_eq!(entries(&header, &bytes), Some(list));
        bytes[HEADER_BYTES + std::mem::offset_of!(RawEntry, blocks)] += 1;
        assert_eq!(entries(&header, &bytes), None);
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let (header, _, bytes) = example();
        for length in [0, 127, 4097, u32::MAX] {
            let header = RecordHeader { length, ..header.clone() };
            assert_eq!(entries(&header, &bytes), None, "{length}");
        }
        assert_eq!(RecordHeader::parse(&bytes[..100]), Err(RecordError::Absent));
    }
}
