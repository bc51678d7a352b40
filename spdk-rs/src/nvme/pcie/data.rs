//! Where a command's data are: PRP entries and SGL descriptors (NVMe Base Specification 2.0,
//! sections 4.1.1 and 4.1.2).
#![allow(unsafe_code, reason = "lists are written into memory that the controller reads")]

use zerocopy::byteorder::little_endian::{U32, U64};

use super::function::DmaMap;
use crate::env::IoVec;
use crate::nvme::spec::identify::sgls;
use crate::nvme::spec::{SglDescriptor, Sqe};

/// Bytes of a memory page: CC.MPS is 0.
pub(super) const PAGE: usize = 4096;

/// Bytes that one command transfers at the most, whatever the controller allows: as many as one
/// page of PRP entries describes.
pub(crate) const TRANSFER_MAX: u64 = (PAGE * PAGE / 8) as u64;

/// The least memory of a list: room for the descriptors of every table of pieces, and for what
/// small commands send.
const LIST_BYTES_MIN: usize = 256;

/// PSDT 01b: the data pointer is an SGL.
const PSDT_SGL: u8 = 1 << 6;

/// SGL descriptor types: the last segment, in bits 7:4.
const SGL_LAST_SEGMENT: u8 = 0x30;

/// Bytes of the list of a command that transfers `bytes`.
pub(super) fn list_bytes(bytes: u64) -> usize {
    let bytes = usize::try_from(bytes.min(TRANSFER_MAX)).unwrap_or(PAGE);
    // The first entry is in the command, and data that do not start at a page have one more.
    let entries = bytes.div_ceil(PAGE);
    (entries * 8).next_power_of_two().clamp(LIST_BYTES_MIN, PAGE)
}

/// What a controller takes beside PRP entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SglSupport {
    /// Nothing, or it is the admin queue.
    None,
    /// SGLs of any alignment.
    Any,
    /// SGLs whose addresses and lengths are multiples of four.
    Dword,
}

impl SglSupport {
    /// As the field SGLS of a controller says.
    pub(super) fn of(field: u32) -> Self {
        if field & sgls::SUPPORTED != 0 {
            Self::Any
        } else if field & sgls::SUPPORTED_DWORD != 0 {
            Self::Dword
        } else {
            Self::None
        }
    }
}

/// Why data cannot be described as they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The controller does not reach them, or their pieces do not fit: they have to be copied.
    Copy,
    /// There are more than one command can describe.
    TooLong,
}

/// The memory of one command's list.
#[derive(Clone, Copy)]
pub(super) struct ListSlot {
    /// The process's address; aligned to its length.
    pub(super) at: *mut u8,
    /// The controller's address.
    pub(super) iova: u64,
    /// Bytes, a power of two and at most a page, so that no list crosses a page.
    pub(super) bytes: usize,
}

impl ListSlot {
    /// Writes an entry of 8 bytes.
    pub(super) fn put(self, index: usize, entry: u64) {
        debug_assert!(index < self.bytes / 8);
        #[expect(clippy::cast_ptr_alignment, reason = "a list starts at a multiple of 256")]
        let place = self.at.cast::<u64>().wrapping_add(index);
        // SAFETY: the slot's memory belongs to the command, and the index was checked against it.
        unsafe { place.write_volatile(entry.to_le()) };
    }
}

/// The data pointer of two PRP entries.
#[inline(always)]
pub(super) fn prp(first: u64, second: u64) -> SglDescriptor {
    let [a, b, c, d, e, f, g, h] = second.to_le_bytes();
    SglDescriptor {
        address: U64::new(first),
        length: U32::from_bytes([a, b, c, d]),
        rest: [e, f, g],
        identifier: h,
    }
}

/// Describes one piece that lies in two pages at the most; whether it does.
#[inline(always)]
pub(super) fn point_short(sqe: &mut Sqe, piece: &IoVec, dma: &DmaMap) -> bool {
    let Some(run) = dma.run(piece.base()) else { return false };
    let offset = usize::try_from(run.iova % PAGE as u64).unwrap_or(0);
    let end = offset + piece.len();
    if run.len < piece.len() || !offset.is_multiple_of(4) || end > 2 * PAGE {
        return false;
    }
    let second = if end > PAGE { run.iova - offset as u64 + PAGE as u64 } else { 0 };
    sqe.dptr = prp(run.iova, second);
    true
}

/// Describes one piece.
pub(super) fn point_one(
    sqe: &mut Sqe,
    piece: &IoVec,
    dma: &DmaMap,
    slot: ListSlot,
) -> Result<(), Unfit> {
    if point_short(sqe, piece, dma) {
        return Ok(());
    }
    point_pages(sqe, std::slice::from_ref(piece), dma, slot)
}

/// Describes the pieces of a table: by PRP entries where every page but the first starts and every
/// page but the last ends with a page, else by an SGL.
pub(super) fn point_many(
    sqe: &mut Sqe,
    pieces: &[IoVec],
    dma: &DmaMap,
    slot: ListSlot,
    sgl: SglSupport,
) -> Result<(), Unfit> {
    match point_pages(sqe, pieces, dma, slot) {
        Err(Unfit::Copy) if sgl != SglSupport::None => point_sgl(sqe, pieces, dma, slot, sgl),
        other => other,
    }
}

/// Describes pieces by PRP entries.
fn point_pages(sqe: &mut Sqe, pieces: &[IoVec], dma: &DmaMap, slot: ListSlot) -> Result<(), Unfit> {
    let (mut first, mut second, mut count) = (0, 0, 0_usize);
    // Where the data so far end in a page: the next ones have to start at a page.
    let mut ragged = false;
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let run = dma.run(rest.base()).ok_or(Unfit::Copy)?;
            let offset = usize::try_from(run.iova % PAGE as u64).unwrap_or(0);
            if ragged || (count != 0 && offset != 0) || !offset.is_multiple_of(4) {
                return Err(Unfit::Copy);
            }
            match count {
                0 => first = run.iova,
                1 => second = run.iova,
                _ => {}
            }
            if count != 0 {
                if count > slot.bytes / 8 {
                    return Err(Unfit::TooLong);
                }
                slot.put(count - 1, run.iova);
            }
            count += 1;
            let here = rest.len().min(PAGE - offset);
            if run.len < here {
                return Err(Unfit::Copy);
            }
            ragged = offset + here != PAGE;
            rest = rest.advanced(here);
        }
    }
    let second = if count > 2 { slot.iova } else { second };
    sqe.dptr = prp(first, second);
    Ok(())
}

/// Describes pieces by an SGL of data blocks.
fn point_sgl(
    sqe: &mut Sqe,
    pieces: &[IoVec],
    dma: &DmaMap,
    slot: ListSlot,
    sgl: SglSupport,
) -> Result<(), Unfit> {
    let mut count = 0_usize;
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let run = dma.run(rest.base()).ok_or(Unfit::Copy)?;
            let here = run.len.min(rest.len());
            let odd = !(run.iova | here as u64).is_multiple_of(4);
            let length = u32::try_from(here).map_err(|_| Unfit::TooLong)?;
            // Many short pieces can be one copy, when they are no more than a command may have.
            if (odd && sgl == SglSupport::Dword) || count == slot.bytes / 16 {
                return Err(Unfit::Copy);
            }
            // A data block: address, length, type 0.
            slot.put(2 * count, run.iova);
            slot.put(2 * count + 1, length.into());
            count += 1;
            rest = rest.advanced(here);
        }
    }
    let length = u32::try_from(count * 16).map_err(|_| Unfit::TooLong)?;
    sqe.flags |= PSDT_SGL;
    sqe.dptr = SglDescriptor {
        address: U64::new(slot.iova),
        length: U32::new(length),
        rest: [0; 3],
        identifier: SGL_LAST_SEGMENT,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    const START: usize = 0x10_0000;
    const DELTA: u64 = 0x4000_0000;

    fn dma() -> DmaMap {
        DmaMap::Linear { start: START, len: 1 << 20, delta: DELTA }
    }

    /// A piece at an offset of the memory that the controller reaches.
    fn piece(offset: usize, len: usize) -> IoVec {
        IoVec::new(std::ptr::without_provenance_mut(START + offset), len)
    }

    fn iova(offset: u64) -> u64 {
        START as u64 + DELTA + offset
    }

    /// Describes pieces with a list of 32 entries: both PRP entries, and the list.
    fn pages(pieces: &[IoVec]) -> Result<(u64, u64, [u64; 32]), Unfit> {
        let (mut list, mut sqe) = ([0_u64; 32], Sqe::default());
        let slot = ListSlot { at: list.as_mut_ptr().cast(), iova: 77 << 12, bytes: 256 };
        match pieces {
            [one] => point_one(&mut sqe, one, &dma(), slot)?,
            many => point_many(&mut sqe, many, &dma(), slot, SglSupport::None)?,
        }
        let word =
            |at: usize| u64::from_le_bytes(sqe.dptr.as_bytes()[at..at + 8].try_into().unwrap());
        assert_eq!(sqe.psdt(), 0);
        Ok((word(0), word(8), list))
    }

    #[test]
    fn pages_of_one_piece() {
        let two = |pieces: &[IoVec]| pages(pieces).map(|(first, second, _)| (first, second));
        assert_eq!(two(&[piece(0, 512)]), Ok((iova(0), 0)));
        assert_eq!(two(&[piece(512, 3584)]), Ok((iova(512), 0)), "to the end of the page");
        assert_eq!(two(&[piece(512, 3585)]), Ok((iova(512), iova(4096))));
        assert_eq!(two(&[piece(0, 8192)]), Ok((iova(0), iova(4096))));
        let (first, second, list) = pages(&[piece(0, 8193)]).unwrap();
        assert_eq!((first, second, list[0], list[1]), (iova(0), 77 << 12, iova(4096), iova(8192)));
        // 33 pages are the most that an entry and a list of 32 describe.
        assert_eq!(pages(&[piece(4, 32 * 4096)]).unwrap().2[31], iova(32 * 4096));
        assert_eq!(two(&[piece(4, 33 * 4096)]), Err(Unfit::TooLong));
        assert_eq!(two(&[piece(2, 512)]), Err(Unfit::Copy), "not aligned to four bytes");
        assert_eq!(two(&[piece((1 << 20) - 512, 513)]), Err(Unfit::Copy), "beyond the end");
        assert_eq!(two(&[piece(1 << 20, 1)]), Err(Unfit::Copy), "outside");
    }

    #[test]
    fn pages_of_many_pieces() {
        let (first, second, list) =
            pages(&[piece(512, 3584), piece(8192, 4096), piece(0, 100)]).unwrap();
        assert_eq!((first, second), (iova(512), 77 << 12));
        assert_eq!(list[..2], [iova(8192), iova(0)]);
        let unfit = |pieces: &[IoVec]| pages(pieces).map(drop);
        assert_eq!(unfit(&[piece(0, 512), piece(8192, 512)]), Err(Unfit::Copy), "a ragged end");
        assert_eq!(unfit(&[piece(0, 4096), piece(4608, 512)]), Err(Unfit::Copy), "an offset");
    }

    #[test]
    fn odd_pieces_of_an_sgl() {
        let point = |pieces: &[IoVec], support| {
            let (mut list, mut sqe) = ([0_u64; 32], Sqe::default());
            let slot = ListSlot { at: list.as_mut_ptr().cast(), iova: 77 << 12, bytes: 256 };
            let pointed = point_many(&mut sqe, pieces, &dma(), slot, support);
            pointed.map(|()| (sqe.psdt(), sqe.dptr, list))
        };
        let odd = [piece(0, 512), piece(1024, 1022)];
        let (psdt, dptr, list) = point(&odd, SglSupport::Any).unwrap();
        assert_eq!((psdt, dptr.address.get(), dptr.length.get()), (1, 77 << 12, 32));
        assert_eq!(dptr.identifier, 0x30);
        assert_eq!(list[..4], [iova(0), 512, iova(1024), 1022]);
        assert_eq!(point(&odd, SglSupport::Dword), Err(Unfit::Copy));
        let many: Vec<_> = (0..17).map(|i| piece(i * 1024, 512)).collect();
        assert!(point(&many[..16], SglSupport::Dword).is_ok());
        assert_eq!(point(&many, SglSupport::Dword), Err(Unfit::Copy), "more than the list holds");
        assert_eq!(SglSupport::of(2), SglSupport::Dword);
    }

    #[test]
    fn lists_are_as_long_as_transfers_need() {
        assert_eq!(list_bytes(4096), 256);
        assert_eq!(list_bytes(128 << 10), 256);
        assert_eq!(list_bytes((128 << 10) + 1), 512);
        assert_eq!(list_bytes(u64::MAX), PAGE);
    }
}
