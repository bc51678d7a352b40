//! The superblock: where everything begins.

use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::super::digest::{Digest, DigestKind, digest};
use super::super::mutant::Mutant;
use super::{
    BLOCK_BYTES, BlockPtr, FEATURES_INCOMPATIBLE, FEATURES_READ_ONLY, FORMAT_VERSION, Geometry,
};

const MAGIC: [u8; 8] = *b"IOEPOOL\n";
const NAME_BYTES: usize = 256;

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    digest_kind: u8,
    table_height: u8,
    name_len: u8,
    clean: u8,
    compatible: U64,
    read_only: U64,
    incompatible: U64,
    uuid: [u8; 16],
    generation: U64,
    epoch: U64,
    total_blocks: U64,
    journal_blocks: U64,
    journal_position: U64,
    next_record: U64,
    next_txn: U64,
    next_dataset: U64,
    table_slots: U64,
    /// Devices of the pool and which of them this is: one so far.
    devices: U32,
    device_index: U32,
    table_root: BlockPtr,
    space_root: BlockPtr,
    name: [u8; NAME_BYTES],
}

const DIGEST_AT: usize = BLOCK_BYTES - 32;
const _: () = assert!(size_of::<Raw>() <= DIGEST_AT);
const _: () = assert!(size_of::<Raw>() == 8 + 8 + 24 + 16 + 72 + 8 + 128 + NAME_BYTES);

/// A superblock in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The pool's UUID.
    pub uuid: Uuid,
    /// The pool's name, 1 to 255 bytes.
    pub name: String,
    /// How blocks are digested.
    pub digest: DigestKind,
    /// Features of the format that may be ignored.
    pub compatible: u64,
    /// Features without which the pool can only be read.
    pub read_only: u64,
    /// Counts checkpoints.
    pub generation: u64,
    /// Counts imports: journal records of another epoch are not of this life of the pool.
    pub epoch: u64,
    /// Sizes.
    pub geometry: Geometry,
    /// Where the journal goes on, counted in blocks since the pool was made.
    pub journal_position: u64,
    /// The number of the next journal record.
    pub next_record: u64,
    /// The number of the next transaction.
    pub next_txn: u64,
    /// The number of the next volume or snapshot.
    pub next_dataset: u64,
    /// Levels of the table of volumes.
    pub table_height: u8,
    /// Places in the table that were ever used.
    pub table_slots: u64,
    /// The table of volumes.
    pub table_root: BlockPtr,
    /// The space tree.
    pub space_root: BlockPtr,
    /// Whether the pool was exported, so that nothing is to be replayed.
    pub clean: bool,
}

/// Why a block is no superblock that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuperblockError {
    /// The block is something else.
    Absent,
    /// The block was a superblock; it does not match its digest, or makes no sense.
    Damaged,
    /// The format is not known: which part, what was found, what would be allowed.
    Format(&'static str, String, String),
}

impl Superblock {
    /// The block.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut name = [0; NAME_BYTES];
        let len = self.name.len().min(NAME_BYTES - 1);
        name[..len].copy_from_slice(&self.name.as_bytes()[..len]);
        let raw = Raw {
            magic: MAGIC,
            version: U32::new(FORMAT_VERSION),
            digest_kind: self.digest as u8,
            table_height: self.table_height,
            name_len: u8::try_from(len).unwrap_or(u8::MAX),
            clean: u8::from(self.clean),
            compatible: U64::new(self.compatible),
            read_only: U64::new(self.read_only),
            incompatible: U64::new(FEATURES_INCOMPATIBLE),
            uuid: *self.uuid.as_bytes(),
            generation: U64::new(self.generation),
            epoch: U64::new(self.epoch),
            total_blocks: U64::new(self.geometry.total_blocks),
            journal_blocks: U64::new(self.geometry.journal_blocks),
            journal_position: U64::new(self.journal_position),
            next_record: U64::new(self.next_record),
            next_txn: U64::new(self.next_txn),
            next_dataset: U64::new(self.next_dataset),
            table_slots: U64::new(self.table_slots),
            devices: U32::new(1),
            device_index: U32::new(0),
            table_root: self.table_root,
            space_root: self.space_root,
            name,
        };
        let mut block = vec![0; BLOCK_BYTES];
        block[..size_of::<Raw>()].copy_from_slice(raw.as_bytes());
        let own: Digest = digest(DigestKind::Sha256, &block[..DIGEST_AT]);
        block[DIGEST_AT..].copy_from_slice(&own);
        block
    }

    /// Reads a block.
    ///
    /// # Errors
    /// [`SuperblockError`].
    pub fn parse(block: &[u8]) -> Result<Self, SuperblockError> {
        let (raw, _) = Raw::read_from_prefix(block).map_err(|_| SuperblockError::Absent)?;
        if raw.magic != MAGIC || block.len() != BLOCK_BYTES {
            return Err(SuperblockError::Absent);
        }
        let own = digest(DigestKind::Sha256, &block[..DIGEST_AT]);
        if block[DIGEST_AT..] != own && !Mutant::NoSuperblockDigest.is_on() {
            return Err(SuperblockError::Damaged);
        }
        raw.known()?;
        let name = std::str::from_utf8(&raw.name[..usize::from(raw.name_len)]);
        let digest_kind = DigestKind::from_byte(raw.digest_kind);
        let (Ok(name), Some(digest_kind)) = (name, digest_kind) else {
            return Err(SuperblockError::Damaged);
        };
        let (total_blocks, journal_blocks) = (raw.total_blocks.get(), raw.journal_blocks.get());
        let geometry = Geometry { total_blocks, journal_blocks };
        if !geometry.is_possible() || raw.table_height == 0 || raw.table_height > 8 {
            return Err(SuperblockError::Damaged);
        }
        Ok(Self {
            uuid: Uuid::from_bytes(raw.uuid),
            name: name.to_owned(),
            digest: digest_kind,
            compatible: raw.compatible.get(),
            read_only: raw.read_only.get(),
            generation: raw.generation.get(),
            epoch: raw.epoch.get(),
            geometry,
            journal_position: raw.journal_position.get(),
            next_record: raw.next_record.get(),
            next_txn: raw.next_txn.get(),
            next_dataset: raw.next_dataset.get(),
            table_height: raw.table_height,
            table_slots: raw.table_slots.get(),
            table_root: raw.table_root,
            space_root: raw.space_root,
            clean: raw.clean != 0,
        })
    }

    /// Features that forbid writing here, if there are any.
    #[must_use]
    pub fn unknown_read_only(&self) -> u64 {
        self.read_only & !FEATURES_READ_ONLY
    }
}

impl Raw {
    /// Whether this build knows the format.
    fn known(&self) -> Result<(), SuperblockError> {
        let wrong = |what, found: String, allowed: String| {
            Err(SuperblockError::Format(what, found, allowed))
        };
        if self.version.get() != FORMAT_VERSION {
            return wrong("version", self.version.to_string(), FORMAT_VERSION.to_string());
        }
        let unknown = self.incompatible.get() & !FEATURES_INCOMPATIBLE;
        if unknown != 0 {
            return wrong(
                "features",
                format!("{unknown:#x}"),
                format!("{FEATURES_INCOMPATIBLE:#x}"),
            );
        }
        if self.devices.get() != 1 || self.device_index.get() != 0 {
            return wrong("number of devices", self.devices.to_string(), "1".to_owned());
        }
        if DigestKind::from_byte(self.digest_kind).is_none() {
            let found = self.digest_kind.to_string();
            return wrong("digest", found, "1 (sha256), 2 (blake3), 3 (crc32c)".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Superblock {
        Superblock {
            uuid: Uuid::from_u128(7),
            name: "tank".to_owned(),
            digest: DigestKind::Sha256,
            compatible: 0,
            read_only: 0,
            generation: 3,
            epoch: 2,
            geometry: Geometry { total_blocks: 2048, journal_blocks: 64 },
            journal_position: 5,
            next_record: 6,
            next_txn: 7,
            next_dataset: 8,
            table_height: 1,
            table_slots: 9,
            table_root: BlockPtr::HOLE,
            space_root: BlockPtr::HOLE,
            clean: true,
        }
    }

    #[test]
    fn it_comes_back_as_it_was_and_every_bit_counts() {
        let block = example().encode();
        assert_eq!(Superblock::parse(&block), Ok(example()));
        for byte in 0..BLOCK_BYTES {
            let mut broken = block.clone();
            broken[byte] ^= 1 << (byte % 8);
            assert!(Superblock::parse(&broken).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut block = example().encode();
        block[8] = 9;
        let own = digest(DigestKind::Sha256, &block[..DIGEST_AT]);
        block[DIGEST_AT..].copy_from_slice(&own);
        let expected = SuperblockError::Format("version", "9".to_owned(), "1".to_owned());
        assert_eq!(Superblock::parse(&block), Err(expected));
    }
}
