//! Addresses as a device sees them.
//!
//! Behind an IOMMU the process chooses the addresses, and its own virtual ones are the natural
//! choice. Without one a device needs physical addresses; these are known to a privileged process
//! only, and stand still only for reserved huge pages.
//!
//! Invariants:
//!
//! * A physical address is given out only for memory that the kernel never moves: pinning with
//!   mlock(2) keeps a page in memory, but not in its place.
//! * [`IovaMap::translate`] answers with the length up to which the I/O addresses run on, so that
//!   a request can be cut where they do not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::hugepage::{MemoryError, PageKind, Region, base_page_size};
use crate::os;

/// What a device is told as an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IovaMode {
    /// The process's virtual address; an IOMMU translates it.
    Va,
    /// The physical address.
    Pa,
    /// None: no device reads or writes the process's memory.
    None,
}

impl IovaMode {
    /// The mode that suits this machine and memory: virtual addresses where there is an IOMMU,
    /// physical ones where the process may know them and the memory stands still.
    #[must_use]
    pub fn detect(region: &Region) -> Self {
        if iommu_present() {
            Self::Va
        } else if region.page_kind().is_reserved() && os::privileges().sys_admin {
            Self::Pa
        } else {
            Self::None
        }
    }
}

/// Whether the kernel drives an IOMMU.
#[must_use]
pub fn iommu_present() -> bool {
    std::fs::read_dir("/sys/kernel/iommu_groups").is_ok_and(|mut groups| groups.next().is_some())
}

/// Why there is no I/O address.
#[derive(Debug, thiserror::Error)]
pub enum IovaError {
    /// The kernel hides physical addresses from the process.
    #[error("physical addresses are hidden from this process: it needs CAP_SYS_ADMIN")]
    Hidden,
    /// The page is not in memory.
    #[error("the page at {address:#x} is not in memory: touch it first")]
    Absent {
        /// The virtual address.
        address: u64,
    },
    /// Physical addresses of memory that the kernel may move.
    #[error("{kind} may be moved by the kernel: physical addresses need reserved huge pages")]
    Movable {
        /// The kind of pages that the memory has.
        kind: PageKind,
    },
    /// The memory could not be given pages.
    #[error("cannot give pages to the memory")]
    Populate(#[from] MemoryError),
    /// The page map cannot be read.
    #[error("cannot read /proc/self/pagemap")]
    PageMap(#[source] io::Error),
}

/// Reader of `/proc/self/pagemap`, see the kernel's pagemap document.
#[derive(Debug)]
struct PageMap {
    file: File,
}

impl PageMap {
    /// Bits 0 to 54 of an entry: the page frame number.
    const FRAME_MASK: u64 = (1 << 55) - 1;
    /// Bit 63 of an entry: the page is in memory.
    const PRESENT: u64 = 1 << 63;

    fn open() -> Result<Self, IovaError> {
        File::open("/proc/self/pagemap").map(|file| Self { file }).map_err(IovaError::PageMap)
    }

    /// The physical address of a virtual one.
    fn physical(&self, address: u64) -> Result<u64, IovaError> {
        let page = base_page_size() as u64;
        let mut entry = [0; 8];
        let result = self.file.read_exact_at(&mut entry, address / page * 8);
        result.map_err(IovaError::PageMap)?;
        decode(u64::from_ne_bytes(entry), address, page)
    }
}

/// The physical address that an entry of the page map tells.
fn decode(entry: u64, address: u64, page: u64) -> Result<u64, IovaError> {
    if entry & PageMap::PRESENT == 0 {
        return Err(IovaError::Absent { address });
    }
    // The kernel shows frame 0 to those who may not know the number.
    match entry & PageMap::FRAME_MASK {
        0 => Err(IovaError::Hidden),
        frame => Ok(frame * page + address % page),
    }
}

/// The physical address of a byte of this process. It holds only as long as the kernel does not
/// move the page: for good with reserved huge pages, for a moment with any other.
///
/// # Errors
///
/// [`IovaError::Hidden`] without `CAP_SYS_ADMIN`, [`IovaError::Absent`] for a page that was never
/// touched or is swapped out.
pub fn translate(ptr: *const u8) -> Result<u64, IovaError> {
    PageMap::open()?.physical(ptr as u64)
}

/// An I/O address and how far it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovaRange {
    /// The address for the device.
    pub iova: u64,
    /// Bytes from there on that are contiguous for the device.
    pub len: usize,
}

/// The I/O addresses of a region. It does not keep the region mapped.
#[derive(Clone, Debug)]
pub struct IovaMap {
    mode: IovaMode,
    start: usize,
    len: usize,
    page_bytes: usize,
    /// With physical addresses: of each page the address, and the bytes that run on from its start.
    pages: Vec<IovaRange>,
}

impl IovaMap {
    /// Looks up the I/O addresses of a region. Physical addresses demand that every page is in
    /// memory, so with [`IovaMode::Pa`] the region is populated.
    ///
    /// # Errors
    ///
    /// [`IovaError`]; only [`IovaMode::Pa`] can fail.
    pub fn new(region: &Region, mode: IovaMode) -> Result<Self, IovaError> {
        let (start, len) = (region.as_ptr() as usize, region.len());
        let page_bytes = region.page_kind().page_bytes();
        let mut pages = Vec::new();
        if mode == IovaMode::Pa {
            if !region.page_kind().is_reserved() {
                return Err(IovaError::Movable { kind: region.page_kind() });
            }
            region.populate(0..len)?;
            let map = PageMap::open()?;
            let addresses = (0..len / page_bytes).map(|page| (start + page * page_bytes) as u64);
            let physical: Result<Vec<u64>, _> =
                addresses.map(|address| map.physical(address)).collect();
            pages = join_pages(&physical?, page_bytes);
        }
        Ok(Self { mode, start, len, page_bytes, pages })
    }

    /// What the addresses are.
    #[must_use]
    pub fn mode(&self) -> IovaMode {
        self.mode
    }

    /// The I/O address of a byte of the region; `None` outside the region and without a mode.
    #[inline]
    #[must_use]
    pub fn translate(&self, ptr: *const u8) -> Option<IovaRange> {
        let offset = (ptr as usize).checked_sub(self.start).filter(|offset| *offset < self.len)?;
        match self.mode {
            IovaMode::Va => Some(IovaRange { iova: ptr as u64, len: self.len - offset }),
            IovaMode::Pa => {
                let page = self.pages.get(offset / self.page_bytes)?;
                let inside = offset % self.page_bytes;
                Some(IovaRange { iova: page.iova + inside as u64, len: page.len - inside })
            }
            IovaMode::None => None,
        }
    }

    /// Whether all of a run of I/O addresses belongs to the region. Looks at every page: not for
    /// an I/O path.
    #[must_use]
    pub fn covers(&self, iova: u64, len: usize) -> bool {
        let inside = |start: u64, room: usize| {
            iova.checked_sub(start)
                .and_then(|offset| (room as u64).checked_sub(offset))
                .is_some_and(|rest| len as u64 <= rest)
        };
        match self.mode {
            IovaMode::Va => inside(self.start as u64, self.len),
            IovaMode::Pa => self.pages.iter().any(|page| inside(page.iova, page.len)),
            IovaMode::None => false,
        }
    }
}

/// Computes how far the addresses run on from each page.
fn join_pages(physical: &[u64], page_bytes: usize) -> Vec<IovaRange> {
    let mut pages: Vec<IovaRange> =
        physical.iter().map(|iova| IovaRange { iova: *iova, len: page_bytes }).collect();
    for index in (1..pages.len()).rev() {
        let next = pages[index];
        let page = &mut pages[index - 1];
        if page.iova + page_bytes as u64 == next.iova {
            page.len += next.len;
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hugepage::{HUGE_2M, HugePolicy, MemoryOptions, zeroed_region};

    #[test]
    fn page_map_entries_are_decoded() {
        let present = PageMap::PRESENT;
        assert_eq!(decode(present | 0x1234, 0x7000_0ABC, 4096).unwrap(), 0x123_4ABC);
        // Flags such as soft-dirty (bit 55) and exclusive (bit 56) are no part of the address.
        assert_eq!(decode(present | 3 << 55 | 5, 0, 4096).unwrap(), 5 * 4096);
        assert!(matches!(decode(present, 0, 4096), Err(IovaError::Hidden)));
        assert!(matches!(decode(1 << 62 | 7, 0x5000, 4096), Err(IovaError::Absent { .. })));
    }

    #[test]
    fn untouched_memory_has_no_physical_address() {
        let region = zeroed_region(1 << 20).unwrap();
        let error = translate(region.as_ptr()).unwrap_err();
        assert!(matches!(error, IovaError::Absent { .. }), "{error}");
        let touched = 7_u8;
        match translate(&raw const touched) {
            Ok(address) => assert!(address > 0),
            Err(IovaError::Hidden) => println!("skipped: no CAP_SYS_ADMIN"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn virtual_addresses_are_contiguous_to_the_end() {
        let region = zeroed_region(1 << 20).unwrap();
        let map = IovaMap::new(&region, IovaMode::Va).unwrap();
        assert_eq!(map.mode(), IovaMode::Va);
        let start = region.as_ptr();
        for offset in [0, 1, 5000, (1 << 20) - 1] {
            let ptr = start.wrapping_add(offset);
            let expected = IovaRange { iova: ptr as u64, len: (1 << 20) - offset };
            assert_eq!(map.translate(ptr), Some(expected));
        }
        assert_eq!(map.translate(start.wrapping_add(1 << 20)), None);
        assert_eq!(map.translate(start.wrapping_sub(1)), None);
        let none = IovaMap::new(&region, IovaMode::None).unwrap();
        assert_eq!(none.translate(start), None);
    }

    #[test]
    fn movable_memory_has_no_physical_map() {
        let region = zeroed_region(1 << 20).unwrap();
        let error = IovaMap::new(&region, IovaMode::Pa).unwrap_err();
        assert!(matches!(error, IovaError::Movable { .. }), "{error}");
        assert_ne!(IovaMode::detect(&region), IovaMode::Pa);
    }

    #[test]
    fn runs_of_pages_are_joined() {
        let pages = join_pages(&[0x10_0000, 0x20_0000, 0x30_0000, 0x80_0000], 0x10_0000);
        let lengths: Vec<usize> = pages.iter().map(|page| page.len).collect();
        assert_eq!(lengths, [0x30_0000, 0x20_0000, 0x10_0000, 0x10_0000]);
        let backwards = join_pages(&[0x20_0000, 0x10_0000], 0x10_0000);
        assert!(backwards.iter().all(|page| page.len == 0x10_0000));
    }

    #[test]
    fn reserved_pages_have_physical_addresses() {
        let options = MemoryOptions { huge: HugePolicy::Require, ..MemoryOptions::default() };
        let region = match Region::map(2 * HUGE_2M, &options) {
            Ok(region) => region,
            Err(error) => return println!("skipped: {error}"),
        };
        let map = match IovaMap::new(&region, IovaMode::Pa) {
            Err(IovaError::Hidden) => return println!("skipped: no CAP_SYS_ADMIN"),
            map => map.unwrap(),
        };
        for offset in [0, 4096, HUGE_2M - 1, HUGE_2M, 2 * HUGE_2M - 1] {
            let ptr = region.as_ptr().wrapping_add(offset);
            let range = map.translate(ptr).unwrap();
            assert_eq!(range.iova, translate(ptr).unwrap());
            assert!(range.len >= 1 && range.len <= 2 * HUGE_2M - offset);
            assert_eq!(range.iova % HUGE_2M as u64, (offset % HUGE_2M) as u64);
        }
    }
}
