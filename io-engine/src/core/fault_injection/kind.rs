//! What happens to an I/O.

use nix::errno::Errno;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoType, IoTypes};

use super::delay::Delay;
use super::operation::{ALL, Stage};

/// What a fault does to an I/O that it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It ends with an NVMe status.
    Status(NvmeStatus),
    /// It ends with the status that stands for an errno.
    Errno(i32),
    /// It ends as if there were no memory for it.
    NoMemory,
    /// It takes longer.
    Delay(Delay),
    /// It goes no further until it is released.
    Hang,
    /// Its data are random, or one byte of them is changed.
    Corrupt(Option<CorruptByte>),
    /// One bit of its data is turned over.
    BitFlip,
    /// Only its first sectors of 512 bytes are written; it ends well.
    Torn,
    /// It is not done, and ends well.
    Lost,
    /// It is written to another place; it ends well. With the distance in blocks, or anywhere.
    Misdirected(Option<u64>),
    /// It reads what was there before the last write.
    Stale,
    /// It is not done, and ends well.
    DroppedFlush,
    /// It changes places with others.
    Reorder(Reorder),
    /// The device is removed.
    Remove,
    /// What was not flushed is gone, and from then on everything fails.
    PowerCut,
}

/// The byte that a corruption changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptByte {
    /// Counted from the start of the I/O's data.
    pub offset_bytes: u64,
    /// What it is combined with by exclusive or; not 0.
    pub value: u8,
}

/// How I/O changes places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorder {
    /// So many of a core are gathered and then go on in another order.
    pub window: usize,
    /// Or as many as came in this time since the first, in microseconds.
    pub limit_us: u64,
}

impl Default for Reorder {
    fn default() -> Self {
        Self { window: 8, limit_us: 1000 }
    }
}

/// Kinds that change blocks in a way that can be lost.
const CHANGES: IoTypes = IoTypes::of(&[
    IoType::Write,
    IoType::WriteZeroes,
    IoType::Unmap,
    IoType::Copy,
    IoType::CompareAndWrite,
]);

/// Words without a parameter of their own, Mayastor's among them.
const WORDS: [(&str, Kind); 26] = [
    ("status", Kind::Status(NvmeStatus::DATA_TRANSFER_ERROR)),
    ("Status", Kind::Status(NvmeStatus::DATA_TRANSFER_ERROR)),
    ("status-lvol-nospace", Kind::Status(NvmeStatus::CAPACITY_EXCEEDED)),
    ("status-submit-read", Kind::Status(NvmeStatus::INTERNAL_ERROR)),
    ("status-submit-write", Kind::Status(NvmeStatus::INTERNAL_ERROR)),
    ("status-admin", Kind::Status(NvmeStatus::INTERNAL_ERROR)),
    ("nomem", Kind::NoMemory),
    ("no_memory", Kind::NoMemory),
    ("hang", Kind::Hang),
    ("data", Kind::Corrupt(None)),
    ("Data", Kind::Corrupt(None)),
    ("corrupt", Kind::Corrupt(None)),
    ("bit_flip", Kind::BitFlip),
    ("torn", Kind::Torn),
    ("torn_write", Kind::Torn),
    ("lost", Kind::Lost),
    ("lost_write", Kind::Lost),
    ("misdirected", Kind::Misdirected(None)),
    ("misdirected_write", Kind::Misdirected(None)),
    ("stale", Kind::Stale),
    ("stale_read", Kind::Stale),
    ("dropped_flush", Kind::DroppedFlush),
    ("remove", Kind::Remove),
    ("disconnect", Kind::Remove),
    ("power_cut", Kind::PowerCut),
    ("delay", Kind::Delay(Delay::Fixed(0))),
];

impl Kind {
    /// What may be written, for messages.
    pub(super) const ALLOWED: &'static str = "it has to be status, status-nvme-SCT-SC (both \
         hexadecimal), status-lvol-nospace, errno-NAME, nomem, delay, hang, data, bit_flip, torn, \
         lost, misdirected, stale, dropped_flush, reorder, remove or power_cut";

    /// Reads a word; its own parameters have their defaults. None when it is unknown.
    pub(super) fn parse(word: &str) -> Option<Self> {
        if let Some(status) = word.strip_prefix("status-nvme-") {
            return nvme_status(status).map(Self::Status);
        }
        if let Some(errno) = word.strip_prefix("errno-") {
            return errno_of(errno).map(Self::Errno);
        }
        if word == "reorder" {
            return Some(Self::Reorder(Reorder::default()));
        }
        WORDS.iter().find(|(known, _)| *known == word).map(|&(_, kind)| kind)
    }

    /// The word in URIs and listings.
    #[must_use]
    pub fn name(self) -> String {
        let word = match self {
            Self::Status(NvmeStatus::DATA_TRANSFER_ERROR) => "status",
            // It says not to retry, which numbers do not.
            Self::Status(NvmeStatus::CAPACITY_EXCEEDED) => "status-lvol-nospace",
            Self::Status(status) => {
                return format!("status-nvme-{:x}-{:x}", status.sct(), status.sc());
            }
            Self::Errno(errno) => match Errno::from_raw(errno) {
                Errno::UnknownErrno => return format!("errno-{errno}"),
                named => return format!("errno-{named:?}"),
            },
            Self::NoMemory => "nomem",
            Self::Delay(_) => "delay",
            Self::Hang => "hang",
            Self::Corrupt(_) => "data",
            Self::BitFlip => "bit_flip",
            Self::Torn => "torn",
            Self::Lost => "lost",
            Self::Misdirected(_) => "misdirected",
            Self::Stale => "stale",
            Self::DroppedFlush => "dropped_flush",
            Self::Reorder(_) => "reorder",
            Self::Remove => "remove",
            Self::PowerCut => "power_cut",
        };
        word.to_owned()
    }

    /// The I/O that it can happen to at a stage.
    #[must_use]
    pub fn can_happen_to(self, stage: Stage) -> IoTypes {
        let write = IoTypes::of(&[IoType::Write]);
        let read = IoTypes::of(&[IoType::Read]);
        let at = |submission, completion| match stage {
            Stage::Submission => submission,
            Stage::Completion => completion,
        };
        match self {
            Self::Corrupt(_) | Self::BitFlip => at(write, read),
            Self::Torn | Self::Misdirected(_) => at(write, IoTypes::default()),
            Self::Lost => at(CHANGES, IoTypes::default()),
            Self::Stale => at(IoTypes::default(), read),
            Self::DroppedFlush => at(IoTypes::of(&[IoType::Flush]), IoTypes::default()),
            _ => ALL,
        }
    }

    /// Whether it happens once and for all.
    #[must_use]
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Remove | Self::PowerCut)
    }

    /// Whether it happens to I/O that has failed, too.
    pub(super) const fn can_happen_to_failures(self) -> bool {
        !matches!(self, Self::Corrupt(_) | Self::BitFlip | Self::Stale)
    }

    /// Whether every change of the device is watched, besides the I/O that it happens to.
    pub(super) const fn watches_changes(self) -> bool {
        matches!(self, Self::Stale | Self::PowerCut)
    }

    /// Whether a kind of I/O is a change that is watched.
    pub(super) const fn is_change(kind: IoType) -> bool {
        CHANGES.contains(kind)
    }
}

/// Reads `SCT-SC`, both hexadecimal.
fn nvme_status(text: &str) -> Option<NvmeStatus> {
    let (sct, sc) = text.split_once('-')?;
    let hex = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u8::from_str_radix(text, 16).ok()).flatten()
    };
    let (sct, sc) = (hex(sct).filter(|&sct| sct <= 7)?, hex(sc)?);
    let status = NvmeStatus::new(sct, sc);
    (!status.is_success()).then_some(status)
}

/// Reads an errno by its name or its number.
fn errno_of(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=4095).contains(&number).then_some(number);
    }
    let named = |number: &i32| {
        let errno = Errno::from_raw(*number);
        errno != Errno::UnknownErrno && format!("{errno:?}") == text
    };
    (1..=200).find(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        let with_numbers =
            ["status-nvme-2-81", "status-nvme-7-ff", "errno-EIO", "errno-ENOSPC", "reorder"];
        for word in WORDS.iter().map(|(word, _)| *word).chain(with_numbers) {
            let kind = Kind::parse(word).expect(word);
            assert_eq!(Kind::parse(&kind.name()), Some(kind), "{word}");
        }
        assert_eq!(
            Kind::parse("status-nvme-2-81"),
            Some(Kind::Status(NvmeStatus::UNRECOVERED_READ_ERROR))
        );
        assert_eq!(Kind::parse("errno-5"), Some(Kind::Errno(5)));
    }

    #[test]
    fn what_is_no_fault_is_no_kind() {
        let wrong = [
            "",
            "statuses",
            "status-nvme-0-0",
            "status-nvme-8-1",
            "status-nvme-1",
            "status-nvme-1-100",
            "status-nvme-+1-1",
            "errno-0",
            "errno-EWHAT",
            "errno-UnknownErrno",
            "Torn",
        ];
        for word in wrong {
            assert_eq!(Kind::parse(word), None, "{word}");
        }
    }

    #[test]
    fn every_kind_happens_to_something() {
        for (word, kind) in WORDS {
            let somewhere = [Stage::Submission, Stage::Completion]
                .iter()
                .any(|&stage| kind.can_happen_to(stage) != IoTypes::default());
            assert!(somewhere, "{word}");
        }
    }
}
