//! What the code needs of a PCI function, and how VFIO gives it.
#![allow(unsafe_code, reason = "memory is mapped for a device by address")]

use std::io;
use std::sync::Arc;

use spdk_rs_sys::event::EventFd;
use spdk_rs_sys::iova::{IovaMap, IovaMode, IovaRange};
use spdk_rs_sys::mmio::Mmio;
use spdk_rs_sys::pci::{Pci, PciAddress, PciError};
use spdk_rs_sys::vfio::{VfioDevice, VfioError, VfioGroup};

use crate::env::Memory;
use crate::nvme::controller::LinkError;

/// The memory of the process as a controller sees it.
pub(super) enum DmaMap {
    /// One run: the I/O address is the process's and a difference.
    Linear {
        /// The process's address of the first byte.
        start: usize,
        /// Bytes.
        len: usize,
        /// What is added, wrapping.
        delta: u64,
    },
    /// Physical addresses, page by page.
    Pages(IovaMap),
}

impl DmaMap {
    /// The I/O address of a byte, and how far the addresses run on; none when the controller cannot
    /// reach it.
    #[inline(always)]
    pub(super) fn run(&self, at: *const u8) -> Option<IovaRange> {
        match self {
            Self::Linear { start, len, delta } => {
                let offset = at.addr().wrapping_sub(*start);
                let reached = offset < *len;
                let iova = (at.addr() as u64).wrapping_add(*delta);
                reached.then(|| IovaRange { iova, len: len - offset })
            }
            Self::Pages(map) => map.translate(at),
        }
    }

    /// Whether all of a run of I/O addresses is mapped for the controller.
    #[cfg(debug_assertions)]
    pub(super) fn covers(&self, iova: u64, bytes: usize) -> bool {
        match self {
            Self::Linear { start, len, delta } => {
                let offset = iova.wrapping_sub((*start as u64).wrapping_add(*delta));
                let room = (*len as u64).checked_sub(offset);
                room.is_some_and(|room| bytes as u64 <= room)
            }
            Self::Pages(map) => map.covers(iova, bytes),
        }
    }

    /// The I/O address of memory that is one run for the controller.
    #[inline(always)]
    pub(super) fn whole(&self, at: *const u8, len: usize) -> Option<u64> {
        self.run(at).filter(|run| run.len >= len).map(|run| run.iova)
    }
}

/// A PCI function that is an NVMe controller.
pub(super) trait Function: Send + Sync {
    /// Its registers (BAR 0).
    fn registers(&self) -> &Arc<Mmio>;

    /// Maps what is behind a base address register, 0 to 5. Blocks.
    ///
    /// # Errors
    /// [`LinkError::Device`] when there is nothing that can be mapped.
    fn bar(&self, index: u8) -> Result<Arc<Mmio>, LinkError>;

    /// The memory that it may reach.
    fn dma(&self) -> &Arc<DmaMap>;

    /// Lets it read and write memory, or stops it. When this has stopped it, no transfer is under
    /// way any more.
    ///
    /// # Errors
    /// What the kernel says; also when the function is gone.
    fn set_bus_master(&self, on: bool) -> io::Result<()>;

    /// Resets it. Blocks.
    ///
    /// # Errors
    /// What the kernel says.
    fn reset(&self) -> io::Result<()>;

    /// What completions of the admin queue signal, if they do.
    fn admin_event(&self) -> Option<&EventFd>;

    /// Whether the kernel has asked for the function back since this was asked last: it is to be
    /// unplugged, or to go to another driver.
    fn is_wanted_back(&self) -> bool;

    /// Whether the kernel has told of an error of the bus since this was asked last: what the
    /// function did or does is not to be relied on.
    fn has_failed(&self) -> bool;
}

/// A function behind VFIO.
struct VfioFunction {
    device: VfioDevice,
    registers: Arc<Mmio>,
    dma: Arc<DmaMap>,
    event: Option<EventFd>,
    request: Option<EventFd>,
    error: Option<EventFd>,
    /// The mapping ends after the device that uses it.
    _memory: Memory,
}

impl Function for VfioFunction {
    fn registers(&self) -> &Arc<Mmio> {
        &self.registers
    }

    fn bar(&self, index: u8) -> Result<Arc<Mmio>, LinkError> {
        if index == 0 {
            return Ok(Arc::clone(&self.registers));
        }
        let mapped = self.device.map_bar(index.into());
        mapped.map(Arc::new).map_err(|error| device_error(&error))
    }

    fn dma(&self) -> &Arc<DmaMap> {
        &self.dma
    }

    fn set_bus_master(&self, on: bool) -> io::Result<()> {
        self.device.set_bus_master(on)
    }

    fn reset(&self) -> io::Result<()> {
        self.device.reset()
    }

    fn admin_event(&self) -> Option<&EventFd> {
        self.event.as_ref()
    }

    fn is_wanted_back(&self) -> bool {
        was_signalled(self.request.as_ref())
    }

    fn has_failed(&self) -> bool {
        was_signalled(self.error.as_ref())
    }
}

/// Whether an event was signalled since it was asked last.
fn was_signalled(event: Option<&EventFd>) -> bool {
    event.is_some_and(|event| matches!(event.drain(), Ok(1..)))
}

/// An error with its causes, in words.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        words = format!("{words}: {cause}");
        next = cause.source();
    }
    words
}

/// A function that is not there, told from one that cannot be used.
fn group_error(error: &VfioError) -> LinkError {
    match error {
        VfioError::Pci(PciError::Absent { .. }) => LinkError::Absent { why: words(error) },
        _ => device_error(error),
    }
}

fn device_error(error: &dyn std::error::Error) -> LinkError {
    LinkError::Device { why: words(error) }
}

/// Why a function cannot be opened.
pub(super) enum OpenError {
    /// The kernel is at it: it may be so for some seconds.
    Passing(LinkError),
    /// It will be so the next time.
    Lasting(LinkError),
}

impl From<LinkError> for OpenError {
    fn from(error: LinkError) -> Self {
        Self::Lasting(error)
    }
}

/// Opens a function and lets it reach the engine's memory. Blocks: not for a reactor.
pub(super) fn open(
    address: PciAddress,
    memory: &Memory,
    allow_no_iommu: bool,
) -> Result<Box<dyn Function>, OpenError> {
    #[cfg(test)]
    if let Some(model) = super::model::find(address) {
        return Ok(model);
    }
    let group = VfioGroup::open(&Pci::system(), address, allow_no_iommu)
        .map_err(|error| group_error(&error))?;
    let device = VfioDevice::open(&group, address).map_err(|error| {
        let kind = if error.is_passing() { OpenError::Passing } else { OpenError::Lasting };
        kind(device_error(&error))
    })?;
    let dma = if group.is_no_iommu() {
        tracing::warn!(%address, "no IOMMU: this device can read and write all memory");
        let map = memory.iova_map(IovaMode::Pa).map_err(|error| device_error(&error))?;
        DmaMap::Pages(map)
    } else {
        let (start, len) = memory.arena_range();
        // SAFETY: the arena stays mapped for as long as the function, which keeps it; buffers are
        // owned by the command that hands them to the controller.
        let iova = unsafe { group.map(address, start, len) };
        let iova = iova.map_err(|error| device_error(&error))?;
        let delta = iova.wrapping_sub(start.addr() as u64);
        DmaMap::Linear { start: start.addr(), len, delta }
    };
    let registers = Arc::new(device.map_bar(0).map_err(|error| device_error(&error))?);
    let (event, dma) = (admin_event(&device), Arc::new(dma));
    let (request, error) = (request_event(&device), error_event(&device));
    let _memory = memory.clone();
    let function = VfioFunction { device, registers, dma, event, request, error, _memory };
    Ok(Box::new(function))
}

/// Vector 0 as an eventfd; without it, events are found when somebody looks.
fn admin_event(device: &VfioDevice) -> Option<EventFd> {
    use std::os::fd::AsFd as _;
    if device.msix_vectors() == 0 {
        return None;
    }
    let event = EventFd::new().ok()?;
    match device.set_msix(&[event.as_fd()]) {
        Ok(()) => Some(event),
        Err(error) => {
            tracing::info!(address = %device.address(), %error, "no interrupt for events");
            None
        }
    }
}

/// What the kernel signals when it wants the function back; without it, whoever unplugs the device
/// waits until the controller is detached.
fn request_event(device: &VfioDevice) -> Option<EventFd> {
    use std::os::fd::AsFd as _;
    let event = EventFd::new().ok()?;
    match device.set_request_event(event.as_fd()) {
        Ok(()) => Some(event),
        Err(error) => {
            tracing::info!(address = %device.address(), %error, "not told when it is to go");
            None
        }
    }
}

/// What the kernel signals at an error of the bus; without it such an error is found by what it does
/// to the controller.
fn error_event(device: &VfioDevice) -> Option<EventFd> {
    use std::os::fd::AsFd as _;
    let event = EventFd::new().ok()?;
    match device.set_error_event(event.as_fd()) {
        Ok(()) => Some(event),
        Err(error) => {
            tracing::debug!(address = %device.address(), %error, "not told of errors of the bus");
            None
        }
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn only_mapped_memory_has_an_address() {
        let map = DmaMap::Linear { start: 0x7000_0000, len: 0x1000, delta: 0x9000_0000_u64 };
        let at = |address: usize| std::ptr::without_provenance::<u8>(address);
        assert_eq!(map.run(at(0x7000_0000)), Some(IovaRange { iova: 0x1_0000_0000, len: 4096 }));
        assert_eq!(map.whole(at(0x7000_0ff0), 16), Some(0x1_0000_0ff0));
        assert_eq!(map.whole(at(0x7000_0ff0), 17), None);
        assert_eq!(map.run(at(0x7000_1000)), None);
        assert_eq!(map.run(at(0x6fff_ffff)), None);
        let low =
            DmaMap::Linear { start: 0x7000_0000, len: 1, delta: 0_u64.wrapping_sub(0x6fff_0000) };
        assert_eq!(low.run(at(0x7000_0000)).map(|run| run.iova), Some(0x1_0000));
    }
}
