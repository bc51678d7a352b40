//! VFIO: PCI functions in user space, their DMA confined by the IOMMU (the kernel's
//! Documentation/driver-api/vfio.rst).
//!
//! A group of functions that the IOMMU cannot tell apart has one address space. What is mapped
//! into it stays mapped until it is unmapped or until the group is closed, and its pages stay in
//! memory meanwhile, whatever the process does with its own mapping.
//!
//! Invariants:
//!
//! * A function keeps its group open, and a group its address space: no DMA mapping goes while a
//!   function that could use it is open.
//! * A group is opened once per process, however many functions of it are used.
//! * Functions without an IOMMU are opened only by who asks for it: such a device can read and
//!   write all memory of the machine, and so can a fault of this program.

mod abi;
mod device;
mod group;
mod iova_space;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use device::VfioDevice;
pub use group::VfioGroup;

use crate::pci::{PciAddress, PciError};

/// Why a function cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VfioError {
    /// It cannot be found, or is no NVMe controller.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// Another driver has it.
    #[error("{address}: bound to {driver}, not vfio-pci: io-engine pci bind {address}")]
    Driver {
        /// The function.
        address: PciAddress,
        /// Who has it.
        driver: String,
    },
    /// There is no IOMMU.
    #[error(
        "{address}: it is in no IOMMU group: switch the IOMMU on (firmware, and intel_iommu=on or \
         amd_iommu=on on the kernel's command line)"
    )]
    NoIommu {
        /// The function.
        address: PciAddress,
    },
    /// There is no IOMMU, and nobody said that this is all right.
    #[error(
        "{address}: without an IOMMU the device can overwrite all memory; that is done only when \
         asked for (noiommu=true)"
    )]
    Unsafe {
        /// The function.
        address: PciAddress,
    },
    /// Another function of its group has a kernel driver.
    #[error(
        "{address}: IOMMU group {group} is not viable: all its functions have to be bound to \
         vfio-pci, or to no driver"
    )]
    NotViable {
        /// The function.
        address: PciAddress,
        /// The group.
        group: u32,
    },
    /// The kernel's VFIO is another one.
    #[error("{address}: the kernel's VFIO has {what}")]
    Unsupported {
        /// The function.
        address: PciAddress,
        /// What is missing, in words.
        what: &'static str,
    },
    /// A file could not be opened.
    #[error("{address}: cannot open {path}{}", open_hint(source))]
    Open {
        /// The function.
        address: PciAddress,
        /// The file.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{address}: {what} was refused")]
    Refused {
        /// The function.
        address: PciAddress,
        /// What was asked for.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Memory could not be mapped for DMA.
    #[error("{address}: cannot map {len} bytes for DMA{}", map_hint(source))]
    Map {
        /// The function.
        address: PciAddress,
        /// How many bytes.
        len: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The IOMMU has no addresses left.
    #[error("{address}: the IOMMU has no {len} I/O addresses left; it allows {ranges}")]
    NoAddresses {
        /// The function.
        address: PciAddress,
        /// How many bytes.
        len: usize,
        /// The ranges that it allows.
        ranges: String,
    },
}

impl VfioError {
    /// Whether it may pass within seconds: the kernel is at the function at this moment, as while it
    /// resets it after an error of the bus.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let again = |source: &io::Error| source.kind() == io::ErrorKind::WouldBlock;
        matches!(self, Self::Refused { source, .. } if again(source))
    }
}

fn open_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EBUSY) => ": another process has it",
        Some(libc::EACCES | libc::EPERM) => ": its owner has to be this process's user, or root",
        Some(libc::ENOENT) => ": modprobe vfio-pci",
        _ => "",
    }
}

fn map_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => ": raise the limit of locked memory (ulimit -l)",
        _ => "",
    }
}

/// Calls an ioctl with a pointer to its argument.
///
/// # Safety
/// The argument is what the request takes, with as many bytes behind it as its `argsz` says.
unsafe fn ioctl<T>(fd: BorrowedFd<'_>, request: u64, arg: *mut T) -> io::Result<i32> {
    // SAFETY: the caller vouches for the argument; the descriptor is open.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, arg) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls an ioctl with a number.
fn ioctl_number(fd: BorrowedFd<'_>, request: u64, arg: u64) -> io::Result<i32> {
    // SAFETY: these requests take a plain number and touch no memory of the process.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, arg) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes over a descriptor that a system call returned.
fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made it, for this caller alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
