//! A function: its registers, its configuration space, its interrupts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::abi;
use super::{VfioError, VfioGroup, ioctl, ioctl_number, owned};
use crate::mmio::Mmio;
use crate::pci::PciAddress;

/// The command register of the configuration space.
const CONFIG_COMMAND: u64 = 4;
/// Bits of the command register: memory space and bus master.
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_BUS_MASTER: u16 = 1 << 2;

/// A function that this process drives.
#[derive(Debug)]
pub struct VfioDevice {
    address: PciAddress,
    fd: std::fs::File,
    group: Arc<VfioGroup>,
    flags: u32,
    config_offset: u64,
}

impl VfioDevice {
    /// Opens a function of an open group. The kernel resets it if it can. Blocks: not for a
    /// reactor.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn open(group: &Arc<VfioGroup>, address: PciAddress) -> Result<Self, VfioError> {
        let refused = |what| move |source| VfioError::Refused { address, what, source };
        let name = std::ffi::CString::new(address.to_string()).unwrap_or_default();
        // SAFETY: the request takes a string that ends with a zero byte, and does not change it.
        let fd =
            unsafe { ioctl(group.fd.as_fd(), abi::GROUP_GET_DEVICE_FD, name.as_ptr().cast_mut()) };
        let fd: OwnedFd = owned(fd.map_err(refused("the function"))?);
        let mut info = abi::DeviceInfo {
            argsz: abi::size_of_arg::<abi::DeviceInfo>(),
            ..abi::DeviceInfo::default()
        };
        // SAFETY: the request takes this structure, which tells its length.
        unsafe { ioctl(fd.as_fd(), abi::DEVICE_GET_INFO, &raw mut info) }
            .map_err(refused("what the function is"))?;
        let mut device = Self {
            address,
            fd: fd.into(),
            group: Arc::clone(group),
            flags: info.flags,
            config_offset: 0,
        };
        device.config_offset = device.region(abi::REGION_CONFIG)?.offset;
        Ok(device)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> PciAddress {
        self.address
    }

    /// Its group.
    #[must_use]
    pub fn group(&self) -> &Arc<VfioGroup> {
        &self.group
    }

    fn region(&self, index: u32) -> Result<abi::RegionInfo, VfioError> {
        let argsz = abi::size_of_arg::<abi::RegionInfo>();
        let mut region = abi::RegionInfo { argsz, index, ..abi::RegionInfo::default() };
        // SAFETY: the request takes this structure, which tells its length.
        let asked = unsafe { ioctl(self.fd.as_fd(), abi::DEVICE_GET_REGION_INFO, &raw mut region) };
        let (address, what) = (self.address, "a region of the function");
        asked.map(|_| region).map_err(|source| VfioError::Refused { address, what, source })
    }

    /// Maps the registers behind a base address register, 0 to 5.
    ///
    /// # Errors
    /// [`VfioError`].
    pub fn map_bar(&self, index: u32) -> Result<Mmio, VfioError> {
        let address = self.address;
        let region = self.region(index.min(5))?;
        let len = usize::try_from(region.size).unwrap_or(0);
        if region.flags & abi::REGION_CAN_MMAP == 0 || len == 0 {
            let what = "no mapping for the registers of this function";
            return Err(VfioError::Unsupported { address, what });
        }
        Mmio::map(self.fd.as_fd(), region.offset, len).map_err(|source| {
            let what = "a mapping of its registers";
            VfioError::Refused { address, what, source }
        })
    }

    fn command(&self) -> io::Result<u16> {
        let mut bytes = [0; 2];
        self.fd.read_exact_at(&mut bytes, self.config_offset + CONFIG_COMMAND)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Lets the function begin transfers of its own, or stops it: one that is stopped reads and
    /// writes no memory from the return of this on (PCI Local Bus 3.0, section 6.2.2). Reading its
    /// registers back has what was under way arrive first.
    ///
    /// # Errors
    /// The error of the kernel; a function that was removed has no configuration space.
    pub fn set_bus_master(&self, on: bool) -> io::Result<()> {
        let now = self.command()?;
        let wanted =
            COMMAND_MEMORY | if on { now | COMMAND_BUS_MASTER } else { now & !COMMAND_BUS_MASTER };
        let at = self.config_offset + CONFIG_COMMAND;
        self.fd.write_all_at(&wanted.to_le_bytes(), at)?;
        let took = self.command()? & COMMAND_BUS_MASTER != 0;
        if took == on { Ok(()) } else { Err(io::Error::other("the function does not heed it")) }
    }

    /// Resets the function. Blocks for a tenth of a second or more: not for a reactor.
    ///
    /// # Errors
    /// The error of the kernel; `Unsupported` when there is no way to reset it alone.
    pub fn reset(&self) -> io::Result<()> {
        if self.flags & abi::DEVICE_CAN_RESET == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        ioctl_number(self.fd.as_fd(), abi::DEVICE_RESET, 0).map(drop)
    }

    /// How many MSI-X vectors can signal an eventfd.
    #[must_use]
    pub fn msix_vectors(&self) -> u32 {
        self.interrupts(abi::IRQ_MSIX)
    }

    /// How many interrupts of a kind can signal an eventfd.
    fn interrupts(&self, index: u32) -> u32 {
        let argsz = abi::size_of_arg::<abi::IrqInfo>();
        let mut irq = abi::IrqInfo { argsz, index, ..abi::IrqInfo::default() };
        // SAFETY: the request takes this structure, which tells its length.
        let asked = unsafe { ioctl(self.fd.as_fd(), abi::DEVICE_GET_IRQ_INFO, &raw mut irq) };
        if asked.is_ok() && irq.flags & abi::IRQ_EVENTFD != 0 { irq.count } else { 0 }
    }

    /// Has the MSI-X vectors from 0 on signal these eventfds; none switches MSI-X off.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn set_msix(&self, events: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.set_events(abi::IRQ_MSIX, events)
    }

    /// Has an eventfd signalled when the kernel wants the function back: it is being unplugged, or
    /// taken from `vfio-pci`. The kernel waits, and asks again every ten seconds, until the
    /// function is closed.
    ///
    /// # Errors
    /// The error of the kernel; `Unsupported` when it has no such event.
    pub fn set_request_event(&self, event: BorrowedFd<'_>) -> io::Result<()> {
        if self.interrupts(abi::IRQ_REQUEST) == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.set_events(abi::IRQ_REQUEST, &[event])
    }

    /// Has an eventfd signalled at an error of the bus that concerns the function and was not
    /// corrected (PCI Express Advanced Error Reporting). What the function does then is not to be
    /// relied on.
    ///
    /// # Errors
    /// The error of the kernel; `Unsupported` when the function has no such event.
    pub fn set_error_event(&self, event: BorrowedFd<'_>) -> io::Result<()> {
        if self.interrupts(abi::IRQ_ERROR) == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.set_events(abi::IRQ_ERROR, &[event])
    }

    /// Has interrupts of a kind signal eventfds, from the first on; none switches them off.
    fn set_events(&self, index: u32, events: &[BorrowedFd<'_>]) -> io::Result<()> {
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let data = if events.is_empty() { abi::IRQ_DATA_NONE } else { abi::IRQ_DATA_EVENTFD };
        let argsz = 20_u32.saturating_add(count.saturating_mul(4));
        // argsz, flags, index, start, count, and a descriptor per interrupt.
        let mut words = vec![argsz, data | abi::IRQ_ACTION_TRIGGER, index, 0, count];
        words.extend(events.iter().map(|event| event.as_raw_fd().cast_unsigned()));
        // SAFETY: the request reads as many bytes as the first word says, which there are.
        unsafe { ioctl(self.fd.as_fd(), abi::DEVICE_SET_IRQS, words.as_mut_ptr()) }.map(drop)
    }
}
