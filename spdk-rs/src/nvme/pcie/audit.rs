//! Debug builds look at every address of data that a command names before the controller does: an
//! address that was not mapped for it is a fault of this program, which the IOMMU would stop and
//! tell nobody, and which without one overwrites what is there.
#![allow(unsafe_code, reason = "lists are read where they were written")]

use zerocopy::{FromBytes, IntoBytes};

use super::data::{ListSlot, PAGE};
use super::function::DmaMap;
use crate::nvme::spec::{SglDescriptor, Sqe};

/// SGL descriptor types, in bits 7:4: a data block, and the last segment.
const SGL_DATA_BLOCK: u8 = 0;
const SGL_LAST_SEGMENT: u8 = 3;

/// Looks at the data pointer of a command that transfers `bytes`.
///
/// # Panics
/// When it names memory that the controller does not reach, or a list that is another command's.
pub(super) fn check(sqe: &Sqe, bytes: usize, dma: &DmaMap, slot: ListSlot) {
    if bytes == 0 {
        return;
    }
    if sqe.psdt() == 0 {
        check_pages(sqe, bytes, dma, slot);
    } else {
        check_sgl(&sqe.dptr, bytes, dma, slot);
    }
}

fn within(dma: &DmaMap, iova: u64, len: usize, what: &str) {
    assert!(
        dma.covers(iova, len),
        "{what} names {len} bytes at {iova:#x}, which are not mapped for the controller"
    );
}

/// The part of a command's list that it names, at the front of a page.
fn list(iova: u64, len: usize, dma: &DmaMap, slot: ListSlot) -> [u8; PAGE] {
    within(dma, iova, len, "the list");
    let offset = iova.wrapping_sub(slot.iova);
    let fits =
        |offset: &usize| offset.checked_add(len).is_some_and(|end| end <= slot.bytes.min(PAGE));
    let inside = usize::try_from(offset).ok().filter(fits);
    let Some(offset) = inside else {
        panic!("the list of {len} bytes at {iova:#x} is not the command's own");
    };
    let mut bytes = [0; PAGE];
    let from = slot.at.wrapping_add(offset);
    // SAFETY: the range is inside the slot, whose memory belongs to the command, and no longer than
    // a page.
    unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len) };
    bytes
}

fn word(bytes: &[u8]) -> u64 {
    u64::read_from_bytes(bytes).map_or(0, u64::from_le)
}

fn check_pages(sqe: &Sqe, bytes: usize, dma: &DmaMap, slot: ListSlot) {
    let pointer = sqe.dptr.as_bytes();
    let (first, second) = (word(&pointer[..8]), word(&pointer[8..]));
    let offset = usize::try_from(first % PAGE as u64).unwrap_or(0);
    let here = bytes.min(PAGE - offset);
    within(dma, first, here, "PRP entry 1");
    let mut left = bytes - here;
    match left.div_ceil(PAGE) {
        0 => {}
        1 => within(dma, second, left, "PRP entry 2"),
        pages => {
            for entry in list(second, pages * 8, dma, slot)[..pages * 8].chunks(8) {
                within(dma, word(entry), left.min(PAGE), "an entry of the PRP list");
                left -= left.min(PAGE);
            }
        }
    }
}

fn check_sgl(pointer: &SglDescriptor, bytes: usize, dma: &DmaMap, slot: ListSlot) {
    let len = |one: &SglDescriptor| usize::try_from(one.length.get()).unwrap_or(usize::MAX);
    match pointer.identifier >> 4 {
        SGL_DATA_BLOCK => within(dma, pointer.address.get(), len(pointer), "the SGL descriptor"),
        SGL_LAST_SEGMENT => {
            let segment = list(pointer.address.get(), len(pointer), dma, slot);
            let mut all = 0;
            for entry in segment[..len(pointer)].chunks(16) {
                let Ok(one) = SglDescriptor::read_from_bytes(entry) else { continue };
                within(dma, one.address.get(), len(&one), "a descriptor of the SGL");
                all += len(&one);
            }
            assert_eq!(all, bytes, "the SGL describes another length than the command's data");
        }
        other => panic!("an SGL descriptor of the type {other:#x} as data pointer"),
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::byteorder::little_endian::{U32, U64};

    use super::super::data::prp;
    use super::*;

    /// What is mapped: 16 pages.
    const IOVA: u64 = 0x10_0000;
    const LEN: usize = 16 * PAGE;

    /// Looks at a command with a list in the last page of what is mapped.
    fn looked_at(dptr: SglDescriptor, sgl: bool, bytes: usize, entries: &[u64]) -> String {
        let mut memory = vec![0_u64; LEN / 8];
        let (start, len) = (memory.as_mut_ptr().expose_provenance(), LEN);
        let dma = DmaMap::Linear { start, len, delta: IOVA.wrapping_sub(start as u64) };
        let at = LEN / 8 - 32;
        memory[at..at + entries.len()].copy_from_slice(entries);
        let slot = ListSlot {
            at: memory[at..].as_mut_ptr().cast(),
            iova: IOVA + at as u64 * 8,
            bytes: 256,
        };
        let mut sqe = Sqe { dptr, ..Sqe::default() };
        sqe.flags |= if sgl { 1 << 6 } else { 0 };
        let look = std::panic::AssertUnwindSafe(|| check(&sqe, bytes, &dma, slot));
        match std::panic::catch_unwind(look) {
            Ok(()) => "fine".to_owned(),
            Err(why) => why.downcast_ref::<String>().cloned().unwrap_or_default(),
        }
    }

    const LIST: u64 = IOVA + (LEN as u64) - 256;
    const END: u64 = IOVA + LEN as u64;

    #[test]
    fn pages_outside_of_what_is_mapped_are_caught() {
        let look =
            |first, second, bytes, list: &[u64]| looked_at(prp(first, second), false, bytes, list);
        assert_eq!(look(IOVA, 0, PAGE, &[]), "fine");
        assert_eq!(look(END - 512, 0, 512, &[]), "fine");
        assert!(look(END, 0, 4, &[]).starts_with("PRP entry 1 names 4 bytes at 0x110000"));
        assert!(look(END - 512, 0, 513, &[]).starts_with("PRP entry 2 names 1 bytes at 0x0"));
        assert!(look(IOVA - 4, 0, 4, &[]).starts_with("PRP entry 1"));
        assert_eq!(look(0, 0, 0, &[]), "fine", "no data, no pointer");
        assert_eq!(look(IOVA + 512, IOVA + 4096, PAGE, &[]), "fine");
        assert!(look(IOVA + 512, END, PAGE, &[]).starts_with("PRP entry 2 names 512 bytes"));
        let two = [IOVA + 4096, IOVA + 8192];
        assert_eq!(look(IOVA, LIST, 3 * PAGE, &two), "fine");
        let one_outside = [IOVA + 4096, END];
        let words = look(IOVA, LIST, 3 * PAGE, &one_outside);
        assert!(
            words.starts_with("an entry of the PRP list names 4096 bytes at 0x110000"),
            "{words}"
        );
        assert!(look(IOVA, END, 3 * PAGE, &two).starts_with("the list names 16 bytes"));
        let words = look(IOVA, LIST - 8, 3 * PAGE, &two);
        assert!(words.ends_with("is not the command's own"), "{words}");
    }

    #[test]
    fn descriptors_outside_of_what_is_mapped_are_caught() {
        let pointer = |address, length, identifier| SglDescriptor {
            address: U64::new(address),
            length: U32::new(length),
            rest: [0; 3],
            identifier,
        };
        let look = |pointer, bytes, list: &[u64]| looked_at(pointer, true, bytes, list);
        let segment = pointer(LIST, 32, 0x30);
        assert_eq!(look(segment, 768, &[IOVA, 512, IOVA + 5, 256]), "fine");
        let words = look(segment, 768, &[IOVA, 512, END - 255, 256]);
        assert!(words.starts_with("a descriptor of the SGL names 256 bytes"), "{words}");
        let words = look(segment, 769, &[IOVA, 512, IOVA, 256]);
        assert!(words.contains("another length"), "{words}");
        assert_eq!(look(pointer(IOVA, 768, 0), 768, &[]), "fine");
        assert!(look(pointer(END, 1, 0), 1, &[]).starts_with("the SGL descriptor"));
        assert!(look(pointer(IOVA, 1, 0x40), 1, &[]).contains("type 0x4"));
    }
}
