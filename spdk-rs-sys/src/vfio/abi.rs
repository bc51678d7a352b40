//! The kernel's structures and request numbers (`include/uapi/linux/vfio.h`).

/// Requests are `_IO(';', 100 + n)`.
const fn request(number: u64) -> u64 {
    0x3b00 | (100 + number)
}

pub(super) const GET_API_VERSION: u64 = request(0);
pub(super) const CHECK_EXTENSION: u64 = request(1);
pub(super) const SET_IOMMU: u64 = request(2);
pub(super) const GROUP_GET_STATUS: u64 = request(3);
pub(super) const GROUP_SET_CONTAINER: u64 = request(4);
pub(super) const GROUP_GET_DEVICE_FD: u64 = request(6);
pub(super) const DEVICE_GET_INFO: u64 = request(7);
pub(super) const DEVICE_GET_REGION_INFO: u64 = request(8);
pub(super) const DEVICE_GET_IRQ_INFO: u64 = request(9);
pub(super) const DEVICE_SET_IRQS: u64 = request(10);
pub(super) const DEVICE_RESET: u64 = request(11);
pub(super) const IOMMU_GET_INFO: u64 = request(12);
pub(super) const IOMMU_MAP_DMA: u64 = request(13);
pub(super) const IOMMU_UNMAP_DMA: u64 = request(14);

pub(super) const API_VERSION: i32 = 0;
pub(super) const TYPE1_V2_IOMMU: u64 = 3;
pub(super) const NO_IOMMU: u64 = 8;

/// The group can be used: no function of it has a kernel driver.
pub(super) const GROUP_VIABLE: u32 = 1;
/// The function can be reset.
pub(super) const DEVICE_CAN_RESET: u32 = 1;
/// The region can be mapped.
pub(super) const REGION_CAN_MMAP: u32 = 1 << 2;
/// The information has the sizes of pages.
pub(super) const IOMMU_HAS_CAPS: u32 = 1 << 1;
/// The capability that lists the usable ranges of I/O addresses.
pub(super) const IOMMU_CAP_RANGES: u16 = 1;
/// The device may read.
pub(super) const DMA_READ: u32 = 1;
/// The device may write.
pub(super) const DMA_WRITE: u32 = 2;

/// The configuration space among the regions; 0 to 5 are the base address registers.
pub(super) const REGION_CONFIG: u32 = 7;
/// MSI-X among the kinds of interrupts.
pub(super) const IRQ_MSIX: u32 = 2;
/// The event of an error of the bus that is not corrected (AER).
pub(super) const IRQ_ERROR: u32 = 3;
/// The event by which the kernel asks for the function.
pub(super) const IRQ_REQUEST: u32 = 4;
/// Interrupts by eventfd.
pub(super) const IRQ_EVENTFD: u32 = 1;
/// The data are nothing: with a count of 0, the interrupts go.
pub(super) const IRQ_DATA_NONE: u32 = 1;
/// The data are eventfds.
pub(super) const IRQ_DATA_EVENTFD: u32 = 1 << 2;
/// What the data tell is what is triggered.
pub(super) const IRQ_ACTION_TRIGGER: u32 = 1 << 5;

#[repr(C)]
#[derive(Default)]
pub(super) struct GroupStatus {
    pub(super) argsz: u32,
    pub(super) flags: u32,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct DeviceInfo {
    pub(super) argsz: u32,
    pub(super) flags: u32,
    pub(super) num_regions: u32,
    pub(super) num_irqs: u32,
    pub(super) cap_offset: u32,
    pub(super) pad: u32,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct RegionInfo {
    pub(super) argsz: u32,
    pub(super) flags: u32,
    pub(super) index: u32,
    pub(super) cap_offset: u32,
    pub(super) size: u64,
    pub(super) offset: u64,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct IrqInfo {
    pub(super) argsz: u32,
    pub(super) flags: u32,
    pub(super) index: u32,
    pub(super) count: u32,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct DmaMap {
    pub(super) argsz: u32,
    pub(super) flags: u32,
    pub(super) vaddr: u64,
    pub(super) iova: u64,
    pub(super) size: u64,
}

#[repr(C)]
#[derive(Default)]
pub(super) struct DmaUnmap {
    pub(super) argsz: u32,
    pub(super) flags: u32,
    pub(super) iova: u64,
    pub(super) size: u64,
}

/// Bytes of `struct vfio_iommu_type1_info` before its capabilities.
pub(super) const IOMMU_INFO_LEN: usize = 24;

const _: () = assert!(size_of::<DeviceInfo>() == 24);
const _: () = assert!(size_of::<RegionInfo>() == 32);
const _: () = assert!(size_of::<DmaMap>() == 32);
const _: () = assert!(size_of::<DmaUnmap>() == 24);

/// The length of a structure, for its `argsz`.
pub(super) fn size_of_arg<T>() -> u32 {
    // They are some tens of bytes long.
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}
