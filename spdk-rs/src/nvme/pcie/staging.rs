//! Memory for data that a controller cannot have where they are: they are copied, page by page.
//!
//! Every queue pair has its own pages from its beginning to its end, so that copying allocates
//! nothing. A command takes as many as its data need, wherever they lie, and gives them back at its
//! end; when too few are free it waits, as for room in the queue.
#![allow(unsafe_code, reason = "data are copied by address")]

use super::controller::PcieController;
use super::data::{ListSlot, PAGE, prp};
use super::pair::pieces;
use crate::env::{DmaBuf, IoVec, Memory};
use crate::nvme::controller::LinkError;
use crate::nvme::controller::queue::CommandData;
use crate::nvme::spec::Sqe;

/// Pages of an I/O queue at the least, however little one command transfers: 512 KiB.
const IO_PAGES_MIN: usize = 128;

/// No page.
const NONE: u16 = u16::MAX;

/// The pages of a queue pair.
pub(super) struct Staging {
    memory: DmaBuf,
    /// The controller's address of every page.
    iovas: Box<[u64]>,
    /// The page behind every page: of those that are free, or of the same command.
    next: Box<[u16]>,
    /// The first one that is free.
    free: u16,
    free_pages: usize,
    /// What a command needs at the most.
    pages_max: usize,
    /// By the index of the command.
    held: Box<[Held]>,
}

/// What a command has.
#[derive(Clone, Copy)]
struct Held {
    first: u16,
    last: u16,
    pages: usize,
    /// Where what the controller wrote goes; nowhere for data that were sent.
    back: CommandData,
}

const NOTHING: Held = Held { first: NONE, last: NONE, pages: 0, back: CommandData::None };

impl Staging {
    /// Pages for the queue `qid` with `commands` commands of `transfer_max` bytes at the most: an I/O
    /// queue's are enough for two of the largest, since fused commands come in pairs.
    pub(super) fn new(
        memory: &Memory,
        controller: &PcieController,
        (qid, commands): (u16, usize),
        transfer_max: usize,
    ) -> Result<Self, LinkError> {
        let pages_max = transfer_max.div_ceil(PAGE).max(1);
        let pages = if qid == 0 { pages_max } else { (2 * pages_max).max(IO_PAGES_MIN) };
        let memory = memory.alloc_aligned(pages * PAGE, PAGE)?;
        let dma = controller.function().dma();
        let iova = |page: usize| {
            dma.whole(memory.as_ptr().wrapping_add(page * PAGE), PAGE).ok_or_else(|| {
                let why =
                    format!("{PAGE} bytes of buffer memory are out of the controller's reach");
                LinkError::Device { why }
            })
        };
        let iovas = (0..pages).map(iova).collect::<Result<_, _>>()?;
        let behind = |page: usize| u16::try_from(page + 1).ok().filter(|_| page + 1 < pages);
        let next = (0..pages).map(|page| behind(page).unwrap_or(NONE)).collect();
        let held = vec![NOTHING; commands].into_boxed_slice();
        Ok(Self { memory, iovas, next, free: 0, free_pages: pages, pages_max, held })
    }

    /// Commands that find enough pages, whatever their data are.
    pub(super) fn room(&self) -> usize {
        self.free_pages / self.pages_max
    }

    /// Takes pages for the command of an index; false when too few are free. For data that come,
    /// `back` tells where they go in the end.
    pub(super) fn take(&mut self, index: u16, bytes: usize, back: CommandData) -> bool {
        let pages = bytes.div_ceil(PAGE);
        if pages == 0 || pages > self.free_pages {
            return false;
        }
        let first = self.free;
        let mut last = first;
        for _ in 1..pages {
            last = self.next[usize::from(last)];
        }
        self.free = self.next[usize::from(last)];
        self.free_pages -= pages;
        self.held[usize::from(index)] = Held { first, last, pages, back };
        true
    }

    /// Copies the data of a command into its pages.
    pub(super) fn copy_out(&mut self, index: u16, table: &[IoVec]) {
        self.runs(self.held[usize::from(index)].first, table, |piece, page, len| {
            // SAFETY: the command owns the memory that its table names, and the pages are another
            // one.
            unsafe { std::ptr::copy_nonoverlapping(piece, page, len) };
        });
    }

    /// Fills the pages of a command with zeroes: what a short answer leaves is nobody else's.
    pub(super) fn clear(&mut self, index: u16) {
        let Held { mut first, pages, .. } = self.held[usize::from(index)];
        for _ in 0..pages {
            let at = usize::from(first) * PAGE;
            self.memory.as_mut_slice()[at..at + PAGE].fill(0);
            first = self.next[usize::from(first)];
        }
    }

    /// Describes the pages of a command by PRP entries. Its list has room for all but the first.
    pub(super) fn describe(&self, index: u16, sqe: &mut Sqe, slot: ListSlot) {
        let Held { first, pages, .. } = self.held[usize::from(index)];
        let iova = |page: u16| self.iovas[usize::from(page)];
        let mut page = first;
        for entry in 0..pages - 1 {
            page = self.next[usize::from(page)];
            slot.put(entry, iova(page));
        }
        let second = match pages {
            1 => 0,
            2 => iova(page),
            _ => slot.iova,
        };
        sqe.dptr = prp(iova(first), second);
    }

    /// Takes the pages of a command back; copies what the controller wrote when that is `valid`.
    pub(super) fn give_back(&mut self, index: u16, valid: bool) {
        let Held { first, last, pages, back } =
            std::mem::replace(&mut self.held[usize::from(index)], NOTHING);
        if valid {
            self.runs(first, pieces(&back), |piece, page, len| {
                // SAFETY: as in `copy_out`; the command has not ended for its owner.
                unsafe { std::ptr::copy_nonoverlapping(page, piece, len) };
            });
        }
        if let Some(next) = self.next.get_mut(usize::from(last)) {
            *next = self.free;
            self.free = first;
            self.free_pages += pages;
        }
    }

    /// Calls `f` with the piece's address, the page's and the length of every run of bytes that is
    /// in one of both.
    fn runs(&self, first: u16, table: &[IoVec], mut f: impl FnMut(*mut u8, *mut u8, usize)) {
        let (mut page, mut used) = (first, 0);
        for piece in table {
            let mut rest = *piece;
            while !rest.is_empty() {
                if used == PAGE {
                    (page, used) = (self.next[usize::from(page)], 0);
                }
                let here = rest.len().min(PAGE - used);
                let offset = usize::from(page) * PAGE + used;
                debug_assert!(offset + here <= self.memory.len());
                f(rest.base(), self.memory.as_ptr().cast_mut().wrapping_add(offset), here);
                used += here;
                rest = rest.advanced(here);
            }
        }
    }
}

/// Copies what a table names to a run of bytes.
pub(super) fn copy_out(iovs: &[IoVec], mut to: &mut [u8]) {
    for iov in iovs {
        let (here, rest) = to.split_at_mut(iov.len().min(to.len()));
        // SAFETY: the command owns the memory that its table names, and the copy is another one.
        unsafe { std::ptr::copy_nonoverlapping(iov.base(), here.as_mut_ptr(), here.len()) };
        to = rest;
    }
}
