//! The log of a drive: every write with its data, every flush, every discard, in the format of
//! Linux' dm-log-writes, which QEMU's `blklogwrites` writes as well.
//!
//! One sector with the number of entries; then each entry in a sector of its own, followed by its
//! data unless it is a discard.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{SECTOR_BYTES, word};

/// Linux, `drivers/md/dm-log-writes.c`.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const SECTOR: u64 = SECTOR_BYTES as u64;

/// An entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first sector of 512 bytes, and how many.
    pub sector: u64,
    /// See `sector`.
    pub sectors: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Where its data are in the log, in bytes.
    data: u64,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A write that is in the drive's cache.
    Write,
    /// A write that was on the medium when it ended.
    WriteFua,
    /// Everything before is on the medium.
    Flush,
    /// The sectors are given up; they read as zeroes here.
    Discard,
}

/// A log that is read.
#[derive(Debug)]
pub struct Log {
    file: File,
    /// All entries.
    pub entries: Vec<Entry>,
}

impl Log {
    /// Opens a log and reads its entries, not their data.
    ///
    /// # Errors
    /// When it cannot be read, or is no log of sectors of 512 bytes.
    pub fn open(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        let file = File::open(path).with_context(name)?;
        let mut head = [0; SECTOR_BYTES];
        file.read_exact_at(&mut head, 0).with_context(name)?;
        let [magic, version, count] = [0, 8, 16].map(|at| word(&head, at).unwrap_or(0));
        let sector = word(&head, 24).unwrap_or(0) & 0xffff_ffff;
        ensure!(
            magic == MAGIC && version == VERSION && sector == SECTOR,
            "{}: no log of writes of version {VERSION} with sectors of {SECTOR} bytes: magic {magic:#x}, \
             version {version}, {sector} bytes",
            name()
        );
        let mut entries = Vec::new();
        let mut at = SECTOR;
        for number in 0..count {
            let read = file.read_exact_at(&mut head, at);
            read.with_context(|| format!("{}: entry {number} at byte {at}", name()))?;
            let [sector, sectors, flags] = [0, 8, 16].map(|at| word(&head, at).unwrap_or(0));
            let kind = match flags {
                0 => EntryKind::Write,
                FUA => EntryKind::WriteFua,
                FLUSH => EntryKind::Flush,
                DISCARD => EntryKind::Discard,
                _ => anyhow::bail!("{}: entry {number} has flags {flags:#x}", name()),
            };
            let is_plain_flush = kind != EntryKind::Flush || sectors == 0;
            ensure!(is_plain_flush, "{}: entry {number} is a flush with data", name());
            at += SECTOR;
            entries.push(Entry { sector, sectors, kind, data: at });
            if kind != EntryKind::Discard {
                at += sectors * SECTOR;
            }
        }
        Ok(Self { file, entries })
    }

    /// The data of an entry.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn data(&self, entry: &Entry) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(entry.sectors * SECTOR)?];
        if entry.kind != EntryKind::Discard {
            self.file.read_exact_at(&mut bytes, entry.data).context("the data of a log entry")?;
        }
        Ok(bytes)
    }
}

/// A log that is written.
#[derive(Debug)]
pub struct LogWriter {
    file: File,
    at: u64,
    count: u64,
}

impl LogWriter {
    /// Makes an empty log.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut log = Self { file, at: SECTOR, count: 0 };
        log.update()?;
        Ok(log)
    }

    fn update(&mut self) -> Result<()> {
        let words = [MAGIC, VERSION, self.count, SECTOR];
        self.put(0, &words)
    }

    fn put(&self, at: u64, words: &[u64]) -> Result<()> {
        let mut sector = [0; SECTOR_BYTES];
        for (to, word) in sector.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        Ok(self.file.write_all_at(&sector, at)?)
    }

    /// Adds a write of whole sectors.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, sector: u64, data: &[u8]) -> Result<()> {
        self.put(self.at, &[sector, (data.len() / SECTOR_BYTES) as u64, 0])?;
        self.file.write_all_at(data, self.at + SECTOR)?;
        self.at += SECTOR + data.len() as u64;
        self.count += 1;
        Ok(())
    }

    /// Adds a flush.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.put(self.at, &[0, 0, FLUSH])?;
        self.at += SECTOR;
        self.count += 1;
        self.update()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_read_and_other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::create(&path).unwrap();
        log.write(7, &[1; 1024]).unwrap();
        log.flush().unwrap();
        log.write(9, &[2; 512]).unwrap();
        log.flush().unwrap();
        // What comes behind the last flush is not counted yet.
        log.write(11, &[3; 512]).unwrap();
        let read = Log::open(&path).unwrap();
        let kinds: Vec<_> = read.entries.iter().map(|e| (e.sector, e.sectors, e.kind)).collect();
        let flush = (0, 0, EntryKind::Flush);
        let write = |sector, count| (sector, count, EntryKind::Write);
        assert_eq!(kinds, [write(7, 2), flush, write(9, 1), flush]);
        assert_eq!(read.data(&read.entries[0]).unwrap(), [1; 1024]);
        assert_eq!(read.data(&read.entries[2]).unwrap(), [2; 512]);
        std::fs::write(&path, [0; 4096]).unwrap();
        let error = Log::open(&path).unwrap_err().to_string();
        assert!(error.contains("no log of writes"), "{error}");
    }
}
