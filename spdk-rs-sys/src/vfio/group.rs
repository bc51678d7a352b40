//! A group of functions with its address space.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd};
#[expect(clippy::disallowed_types, reason = "groups are opened by the control plane")]
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use super::abi;
use super::iova_space::IovaSpace;
use super::{VfioError, ioctl, ioctl_number};
use crate::pci::{Pci, PciAddress, PciFunction, VFIO_DRIVER};

/// Bytes that an IOMMU may need to describe itself; more are not asked for.
const IOMMU_INFO_MAX: usize = 64 << 10;

/// A group of functions that share an address space, open.
#[derive(Debug)]
pub struct VfioGroup {
    pub(super) fd: File,
    container: File,
    no_iommu: bool,
    #[expect(clippy::disallowed_types, reason = "memory is mapped when a device is opened")]
    space: Mutex<Space>,
}

#[derive(Debug)]
struct Space {
    addresses: IovaSpace,
    maps: Vec<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    vaddr: u64,
    len: u64,
    iova: u64,
}

#[expect(clippy::disallowed_types, reason = "groups are opened by the control plane")]
type Groups = Mutex<BTreeMap<u32, Weak<VfioGroup>>>;

/// The groups that this process has open: the kernel lets each be opened once.
fn groups() -> MutexGuard<'static, BTreeMap<u32, Weak<VfioGroup>>> {
    static GROUPS: Groups = Groups::new(BTreeMap::new());
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl VfioGroup {
    /// Opens the group of a function that `vfio-pci` has, with a type 1 (version 2) IOMMU. Blocks:
    /// not for a reactor.
    ///
    /// # Errors
    /// [`VfioError`]; [`VfioError::Unsafe`] without an IOMMU unless `allow_no_iommu` says that this
    /// is all right.
    pub fn open(
        pci: &Pci,
        address: PciAddress,
        allow_no_iommu: bool,
    ) -> Result<Arc<Self>, VfioError> {
        let function = pci.controller(address)?;
        if function.driver.as_deref() != Some(VFIO_DRIVER) {
            let driver = function.driver.unwrap_or_else(|| "no driver".to_owned());
            return Err(VfioError::Driver { address, driver });
        }
        let group = function.iommu_group.ok_or(VfioError::NoIommu { address })?;
        if function.no_iommu && !allow_no_iommu {
            return Err(VfioError::Unsafe { address });
        }
        let mut groups = groups();
        if let Some(open) = groups.get(&group).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let opened = Arc::new(Self::open_new(&function, group)?);
        groups.retain(|_, group| group.strong_count() > 0);
        groups.insert(group, Arc::downgrade(&opened));
        Ok(opened)
    }

    fn open_new(function: &PciFunction, group: u32) -> Result<Self, VfioError> {
        let (address, no_iommu) = (function.address, function.no_iommu);
        let refused = |what| move |source| VfioError::Refused { address, what, source };
        let unsupported = |what| Err(VfioError::Unsupported { address, what });
        let name = if no_iommu { format!("noiommu-{group}") } else { group.to_string() };
        let container = open("/dev/vfio/vfio".to_owned(), address)?;
        let fd = open(format!("/dev/vfio/{name}"), address)?;
        if ioctl_number(container.as_fd(), abi::GET_API_VERSION, 0).ok() != Some(abi::API_VERSION) {
            return unsupported("another version of its interface");
        }
        let kind = if no_iommu { abi::NO_IOMMU } else { abi::TYPE1_V2_IOMMU };
        if !matches!(ioctl_number(container.as_fd(), abi::CHECK_EXTENSION, kind), Ok(1)) {
            return unsupported("no type 1 IOMMU: modprobe vfio_iommu_type1");
        }
        let mut status =
            abi::GroupStatus { argsz: abi::size_of_arg::<abi::GroupStatus>(), flags: 0 };
        // SAFETY: the request takes this structure, which tells its length.
        unsafe { ioctl(fd.as_fd(), abi::GROUP_GET_STATUS, &raw mut status) }
            .map_err(refused("the status of its group"))?;
        if status.flags & abi::GROUP_VIABLE == 0 {
            return Err(VfioError::NotViable { address, group });
        }
        let mut container_fd = container.as_raw_fd();
        // SAFETY: the request takes a pointer to a descriptor.
        unsafe { ioctl(fd.as_fd(), abi::GROUP_SET_CONTAINER, &raw mut container_fd) }
            .map_err(refused("an address space for its group"))?;
        ioctl_number(container.as_fd(), abi::SET_IOMMU, kind)
            .map_err(refused("an IOMMU for its group"))?;
        let ranges = if no_iommu { None } else { iova_ranges(&container).ok().flatten() };
        let addresses = IovaSpace::new(ranges);
        #[expect(clippy::disallowed_types, reason = "see the field")]
        let space = Mutex::new(Space { addresses, maps: Vec::new() });
        Ok(Self { fd, container, no_iommu, space })
    }

    /// Whether there is no IOMMU: the devices use physical addresses, and nothing confines them.
    #[must_use]
    pub fn is_no_iommu(&self) -> bool {
        self.no_iommu
    }

    fn space(&self) -> MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the devices of the group read and write memory, and returns the I/O address of its
    /// first byte. The same memory is mapped once. Without an IOMMU there is nothing to map and
    /// the address means nothing. Blocks: every page is brought in and pinned.
    ///
    /// # Errors
    /// [`VfioError::Map`], [`VfioError::NoAddresses`]; `address` is who asks.
    ///
    /// # Safety
    /// The memory is mapped, page aligned, and not used through references for as long as a device
    /// was told to write to it.
    pub unsafe fn map(
        &self,
        address: PciAddress,
        start: *mut u8,
        len: usize,
    ) -> Result<u64, VfioError> {
        let (vaddr, size) = (start as u64, len as u64);
        if self.no_iommu {
            return Ok(vaddr);
        }
        let mut space = self.space();
        let same = |map: &&Mapping| map.vaddr == vaddr && map.len == size;
        if let Some(known) = space.maps.iter().find(same) {
            return Ok(known.iova);
        }
        let iova = space.addresses.take(vaddr, size).ok_or_else(|| {
            let ranges = space.addresses.describe();
            VfioError::NoAddresses { address, len, ranges }
        })?;
        let flags = abi::DMA_READ | abi::DMA_WRITE;
        let argsz = abi::size_of_arg::<abi::DmaMap>();
        let mut map = abi::DmaMap { argsz, flags, vaddr, iova, size };
        // SAFETY: the request takes this structure; the caller vouches for the memory.
        let mapped = unsafe { ioctl(self.container.as_fd(), abi::IOMMU_MAP_DMA, &raw mut map) };
        if let Err(source) = mapped {
            space.addresses.give(iova);
            return Err(VfioError::Map { address, len, source });
        }
        space.maps.push(Mapping { vaddr, len: size, iova });
        Ok(iova)
    }

    /// Takes memory away from the devices of the group, by the address that [`VfioGroup::map`]
    /// returned. What is not mapped is none of its business.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn unmap(&self, iova: u64) -> io::Result<()> {
        let mut space = self.space();
        let Some(at) = space.maps.iter().position(|map| map.iova == iova) else { return Ok(()) };
        let (argsz, size) = (abi::size_of_arg::<abi::DmaUnmap>(), space.maps[at].len);
        let mut unmap = abi::DmaUnmap { argsz, flags: 0, iova, size };
        // SAFETY: the request takes this structure, and takes away what was given here.
        unsafe { ioctl(self.container.as_fd(), abi::IOMMU_UNMAP_DMA, &raw mut unmap) }?;
        space.maps.remove(at);
        space.addresses.give(iova);
        Ok(())
    }
}

fn open(path: String, address: PciAddress) -> Result<File, VfioError> {
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    opened.map_err(|source| VfioError::Open { address, path, source })
}

/// The ranges of I/O addresses that the IOMMU allows; none when it does not tell.
fn iova_ranges(container: &File) -> io::Result<Option<Vec<RangeInclusive<u64>>>> {
    let mut len = abi::IOMMU_INFO_LEN;
    loop {
        // Words, so that the structure is aligned.
        let mut words = vec![0_u64; len.div_ceil(8)];
        words[0] = len as u64;
        // SAFETY: the request fills as many bytes as the first four say, which there are.
        unsafe { ioctl(container.as_fd(), abi::IOMMU_GET_INFO, words.as_mut_ptr()) }?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let wanted = field(&bytes, 0).unwrap_or(0) as usize;
        if wanted <= len || wanted > IOMMU_INFO_MAX {
            return Ok(read_ranges(&bytes));
        }
        len = wanted;
    }
}

fn field(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn wide_field(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Walks the capabilities of `struct vfio_iommu_type1_info` to the list of ranges.
fn read_ranges(bytes: &[u8]) -> Option<Vec<RangeInclusive<u64>>> {
    if field(bytes, 4)? & abi::IOMMU_HAS_CAPS == 0 {
        return None;
    }
    let mut at = field(bytes, 16)? as usize;
    // A chain that leads back would have no end.
    for _ in 0..bytes.len() {
        if at == 0 {
            return None;
        }
        let [id, _version] = [field(bytes, at)? & 0xffff, field(bytes, at)? >> 16];
        if id == u32::from(abi::IOMMU_CAP_RANGES) {
            let count = field(bytes, at + 8)? as usize;
            let range = |index: usize| {
                let start = at + 16 + index * 16;
                Some(wide_field(bytes, start)?..=wide_field(bytes, start + 8)?)
            };
            return (0..count).map(range).collect();
        }
        at = field(bytes, at + 4)? as usize;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_from_the_capabilities() {
        let mut bytes = vec![0_u8; 96];
        let mut put = |at: usize, value: u64, len: usize| {
            bytes[at..at + len].copy_from_slice(&value.to_ne_bytes()[..len]);
        };
        put(4, 3, 4);
        put(16, 24, 4);
        // Capability 3, of 12 bytes, then the list of two ranges.
        put(24, 3 | 1 << 16, 4);
        put(28, 40, 4);
        put(40, 1 | 1 << 16, 4);
        put(48, 2, 4);
        put(56, 0, 8);
        put(64, 0xfedf_ffff, 8);
        put(72, 0xfef0_0000, 8);
        put(80, 0x7f_ffff_ffff, 8);
        let ranges = read_ranges(&bytes).unwrap();
        assert_eq!(ranges, [0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]);
        assert_eq!(read_ranges(&bytes[..80]), None, "cut off");
        bytes[28..32].copy_from_slice(&24_u32.to_ne_bytes());
        assert_eq!(read_ranges(&bytes), None, "a chain that leads back");
        bytes[4] = 1;
        assert_eq!(read_ranges(&bytes), None, "no capabilities");
    }

    #[test]
    fn a_function_of_another_driver_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("sys/bus/pci/devices/0000:01:00.0");
        std::fs::create_dir_all(&device).unwrap();
        for (name, text) in [("class", "0x010802"), ("vendor", "0x1b36"), ("device", "0x0010")] {
            std::fs::write(device.join(name), text).unwrap();
        }
        let (pci, address) = (Pci::at(dir.path()), "0000:01:00.0".parse().unwrap());
        let refusal = || VfioGroup::open(&pci, address, false).unwrap_err().to_string();
        assert!(refusal().contains("bound to no driver, not vfio-pci"), "{}", refusal());
        std::os::unix::fs::symlink("../../drivers/nvme", device.join("driver")).unwrap();
        let expected = "0000:01:00.0: bound to nvme, not vfio-pci: io-engine pci bind 0000:01:00.0";
        assert_eq!(refusal(), expected);
        std::fs::remove_file(device.join("driver")).unwrap();
        std::os::unix::fs::symlink("../../drivers/vfio-pci", device.join("driver")).unwrap();
        assert!(refusal().contains("in no IOMMU group"), "{}", refusal());
        let group = dir.path().join("groups/9");
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("name"), "vfio-noiommu\n").unwrap();
        std::os::unix::fs::symlink(&group, device.join("iommu_group")).unwrap();
        assert!(refusal().contains("only when asked for (noiommu=true)"), "{}", refusal());
    }
}
