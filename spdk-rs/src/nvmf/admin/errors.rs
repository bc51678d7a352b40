//! The error information log page (section 5.16.1.2): the last commands that failed.

use std::collections::VecDeque;

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use crate::nvme::spec::log::{ErrorEntry, trtype};
use crate::nvmf::service::FailedCommand;

/// Entries that are kept (ELPE + 1).
pub(in crate::nvmf) const ERROR_ENTRIES: usize = 64;

/// An entry does not point to a place in the command.
const NO_LOCATION: u16 = 0xffff;

/// The last errors of a controller.
#[derive(Debug, Default)]
pub(in crate::nvmf) struct ErrorLog {
    /// The newest first.
    entries: VecDeque<ErrorEntry>,
    /// Errors since the controller exists.
    count: u64,
}

impl ErrorLog {
    /// Notes a command of a queue that failed.
    pub(in crate::nvmf) fn note(&mut self, sqid: u16, command: FailedCommand) {
        self.count += 1;
        self.entries.truncate(ERROR_ENTRIES - 1);
        self.entries.push_front(ErrorEntry {
            error_count: U64::new(self.count),
            sqid: U16::new(sqid),
            cid: U16::new(command.cid),
            status: U16::new(command.status.bits() << 1),
            location: U16::new(NO_LOCATION),
            nsid: U32::new(command.nsid),
            trtype: trtype::TCP,
            opcode: command.opcode,
            ..ErrorEntry::default()
        });
    }

    /// Counts commands that failed and are not told of one by one.
    pub(in crate::nvmf) fn skip(&mut self, count: u64) {
        self.count += count;
    }

    /// Errors since the controller exists.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The log page: as many entries as there can be, empty ones at the end.
    pub(super) fn page(&self) -> Vec<u8> {
        let mut page: Vec<u8> =
            self.entries.iter().flat_map(|entry| entry.as_bytes().iter().copied()).collect();
        page.resize(ERROR_ENTRIES * size_of::<ErrorEntry>(), 0);
        page
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromBytes;

    use super::*;
    use crate::NvmeStatus;

    #[test]
    fn the_newest_error_comes_first_and_old_ones_go() {
        let mut log = ErrorLog::default();
        for cid in 0..70 {
            let status = NvmeStatus::INVALID_FIELD;
            log.note(3, FailedCommand { cid, opcode: 6, nsid: 7, status });
        }
        let page = log.page();
        assert_eq!((page.len(), log.count(), log.entries.len()), (4096, 70, 64));
        let first = ErrorEntry::ref_from_prefix(&page).unwrap().0;
        assert_eq!((first.error_count.get(), first.cid.get(), first.sqid.get()), (70, 69, 3));
        assert_eq!((first.status.get(), first.nsid.get(), first.opcode), (0x8004, 7, 6));
        let last = ErrorEntry::ref_from_suffix(&page).unwrap().1;
        assert_eq!(last.error_count.get(), 7);
    }

    #[test]
    fn an_empty_page_is_zero() {
        assert!(ErrorLog::default().page().iter().all(|&byte| byte == 0));
    }
}
