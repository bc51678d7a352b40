//! Which I/O addresses a piece of memory gets.
//!
//! The process's own addresses are taken where the IOMMU is wide enough for them; otherwise the
//! first free run of the ranges that it allows.

use std::ops::RangeInclusive;

/// I/O addresses given by the allocator start at multiples of this many bytes, so that memory in
/// huge pages keeps them in the IOMMU's tables.
const ALIGN: u64 = 2 << 20;

/// What is assumed of an IOMMU that does not tell: 39 bits, as the narrowest have, without the
/// window of interrupt messages.
const ASSUMED: [RangeInclusive<u64>; 2] = [0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1];

/// The addresses of one IOMMU domain.
#[derive(Debug)]
pub(super) struct IovaSpace {
    ranges: Vec<RangeInclusive<u64>>,
    /// What is in use: first address and length, by address.
    used: Vec<(u64, u64)>,
}

impl IovaSpace {
    /// The space of an IOMMU that allows these ranges; none when it does not tell.
    pub(super) fn new(ranges: Option<Vec<RangeInclusive<u64>>>) -> Self {
        let ranges = ranges.filter(|ranges| !ranges.is_empty());
        Self { ranges: ranges.unwrap_or_else(|| ASSUMED.to_vec()), used: Vec::new() }
    }

    /// Takes addresses for memory at a virtual address.
    pub(super) fn take(&mut self, vaddr: u64, len: u64) -> Option<u64> {
        let iova = if self.is_free(vaddr, len) { Some(vaddr) } else { self.first_fit(len) }?;
        let at = self.used.partition_point(|(used, _)| *used < iova);
        self.used.insert(at, (iova, len));
        Some(iova)
    }

    /// Gives addresses back.
    pub(super) fn give(&mut self, iova: u64) {
        self.used.retain(|(used, _)| *used != iova);
    }

    fn is_free(&self, iova: u64, len: u64) -> bool {
        let Some(last) = len.checked_sub(1).and_then(|more| iova.checked_add(more)) else {
            return false;
        };
        let allowed = self.ranges.iter().any(|r| r.contains(&iova) && r.contains(&last));
        // Address 0 is left alone: a device that was told nothing would use it.
        allowed
            && iova != 0
            && self.used.iter().all(|(used, used_len)| last < *used || used + (used_len - 1) < iova)
    }

    fn first_fit(&self, len: u64) -> Option<u64> {
        let starts = self.ranges.iter().map(|range| *range.start());
        let ends = self.used.iter().filter_map(|(used, len)| used.checked_add(*len));
        let candidates =
            starts.chain(ends).filter_map(|start| start.max(1).checked_next_multiple_of(ALIGN));
        candidates.filter(|iova| self.is_free(*iova, len)).min()
    }

    /// The ranges in words.
    pub(super) fn describe(&self) -> String {
        let each = self.ranges.iter().map(|r| format!("{:#x} to {:#x}", r.start(), r.end()));
        each.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_wide_iommu_gets_virtual_addresses() {
        let mut space = IovaSpace::new(Some(vec![0..=(1 << 48) - 1]));
        assert_eq!(space.take(0x7f12_3450_0000, 4 * MIB), Some(0x7f12_3450_0000));
        // What is mapped twice gets other addresses the second time.
        assert_eq!(space.take(0x7f12_3460_0000, MIB), Some(2 * MIB));
        space.give(0x7f12_3450_0000);
        assert_eq!(space.take(0x7f12_3460_0000, MIB), Some(0x7f12_3460_0000));
    }

    #[test]
    fn a_narrow_iommu_gets_the_first_that_fit() {
        let mut space = IovaSpace::new(Some(vec![0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1]));
        let vaddr = 0x7f00_0000_0000;
        assert_eq!(space.take(vaddr, MIB), Some(2 * MIB));
        assert_eq!(space.take(vaddr, 3 * MIB), Some(4 * MIB));
        assert_eq!(space.take(vaddr, 4 << 30), Some(0xff00_0000), "not across the hole");
        space.give(4 * MIB);
        assert_eq!(space.take(vaddr, 4 * MIB), Some(4 * MIB));
        assert_eq!(space.take(vaddr, 1 << 40), None);
        assert_eq!(space.take(vaddr, 0), None);
        assert!(space.describe().contains("0x0 to 0xfedfffff"));
    }

    #[test]
    fn an_iommu_that_does_not_tell_is_narrow() {
        let mut space = IovaSpace::new(None);
        assert_eq!(space.take(1 << 40, MIB), Some(2 * MIB));
        assert_eq!(space.take(0xfee0_0000, MIB), Some(4 * MIB));
        assert_eq!(space.take(u64::MAX - 4095, 8192), Some(6 * MIB));
    }
}
