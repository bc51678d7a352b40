//! Submission queues in the controller's own memory (controller memory buffer, NVMe Base
//! Specification 2.0, section 8.5): the controller does not have to fetch commands from the host.

use std::rc::Rc;
use std::sync::Arc;

use spdk_rs_sys::mmio::Mmio;

use super::controller::PcieController;
use super::data::PAGE;
use super::function::DmaMap;
use crate::nvme::controller::LinkError;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::register::{Cmbloc, Cmbsz, offset};
use crate::reactor::Reactor;

/// CMBMSC: the capabilities can be read (CRE), and the memory is addressed (CMSE).
const CAPABILITIES: u64 = 1;
const ADDRESSED: u64 = 1 << 1;

/// CMBSTS: the address is not taken (CBAI).
const ADDRESS_INVALID: u32 = 1;

/// Addresses of interrupts, which are no memory (Intel 64 SDM volume 3, section 11.11).
const INTERRUPTS: std::ops::Range<u64> = 0xfee0_0000..0xfef0_0000;

/// The controller's memory.
pub(super) struct ControllerMemory {
    window: Arc<Mmio>,
    /// Where it begins in the window.
    start: usize,
    bytes: usize,
    /// What the controller calls its first byte.
    address: u64,
}

/// Room for a submission queue.
pub(super) struct SqRoom {
    window: Arc<Mmio>,
    start: usize,
    pub(super) address: u64,
}

impl SqRoom {
    /// Writes an entry.
    pub(super) fn write(&self, index: u16, sqe: &Sqe) {
        let start = self.start + usize::from(index) * size_of::<Sqe>();
        let bytes = zerocopy::IntoBytes::as_bytes(sqe);
        for (word, bytes) in bytes.as_chunks::<8>().0.iter().enumerate() {
            self.window.write64(start + word * 8, u64::from_le_bytes(*bytes));
        }
    }
}

impl ControllerMemory {
    /// Switches the controller's memory on and maps it.
    ///
    /// # Errors
    /// [`LinkError::Device`] when it has none that submission queues can be in.
    pub(super) async fn open(
        reactor: &Rc<Reactor>,
        controller: &Arc<PcieController>,
    ) -> Result<Self, LinkError> {
        let refuse = |why: &str| {
            let why = format!("{}: cmb_sqs cannot be done: {why}", controller.address);
            Err(LinkError::Device { why })
        };
        if !controller.cap().cmbs() {
            return refuse("the controller has no memory buffer (CAP.CMBS)");
        }
        let registers = Arc::clone(controller.function().registers());
        registers.write64(at(offset::CMBMSC), CAPABILITIES);
        let place = Cmbloc(registers.read32(at(offset::CMBLOC)));
        let size = Cmbsz(registers.read32(at(offset::CMBSZ)));
        if !size.sqs() {
            return refuse("its memory is not for submission queues (CMBSZ.SQS)");
        }
        let unit = 4096_usize << (4 * u32::from(size.szu()).min(6));
        let start = usize::try_from(place.ofst()).ok().and_then(|count| count.checked_mul(unit));
        let bytes = usize::try_from(size.sz()).ok().and_then(|count| count.checked_mul(unit));
        let (own, bar) = (Arc::clone(controller), place.bir());
        let mapped = reactor.offload().call(move || own.function().bar(bar)).await;
        let window = match mapped {
            Ok(window) => window?,
            Err(_) => return refuse("it could not be mapped"),
        };
        let (Some(start), Some(bytes)) = (start, bytes) else {
            return refuse("its size is out of range (CMBSZ)");
        };
        // The size may be more than the window shows of it (section 3.1.3.12).
        let bytes = bytes.min(window.len().saturating_sub(start));
        if bytes < PAGE {
            return refuse("its memory is outside of its window (CMBLOC)");
        }
        let Some(address) = free_address(controller.function().dma(), bytes as u64) else {
            return refuse("it needs an IOMMU, which leaves addresses free for its memory");
        };
        registers.write64(at(offset::CMBMSC), address | ADDRESSED | CAPABILITIES);
        if registers.read32(at(offset::CMBSTS)) & ADDRESS_INVALID != 0 {
            return refuse("it does not take the address of its memory (CMBSTS.CBAI)");
        }
        Ok(Self { window, start, bytes, address })
    }

    /// How much of it there is.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Room for the submission queue of a number from 1 on, all of `bytes` bytes.
    pub(super) fn room(&self, qid: u16, bytes: usize) -> Option<SqRoom> {
        // A queue starts at a page (section 5.5).
        let each = bytes.next_multiple_of(PAGE);
        let offset = usize::from(qid).checked_sub(1)?.checked_mul(each)?;
        if offset.checked_add(each)? > self.bytes {
            return None;
        }
        let (start, address) = (self.start + offset, self.address + offset as u64);
        Some(SqRoom { window: Arc::clone(&self.window), start, address })
    }
}

/// An offset of the specification as registers are addressed.
const fn at(offset: u32) -> usize {
    offset as usize
}

/// An address for the controller's memory that none of the host's has.
fn free_address(dma: &DmaMap, bytes: u64) -> Option<u64> {
    let DmaMap::Linear { start, len, delta } = dma else { return None };
    let end = (*start as u64).wrapping_add(*delta).checked_add(*len as u64)?;
    let first = end.checked_next_multiple_of(1 << 20)?;
    let last = first.checked_add(bytes)?;
    if first < INTERRUPTS.end && last > INTERRUPTS.start {
        return Some(INTERRUPTS.end);
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_nobody_elses() {
        let behind = |start: usize, len: usize| {
            free_address(&DmaMap::Linear { start, len, delta: 0 }, 16 << 20)
        };
        assert_eq!(behind(0x7f00_0000_0000, 0x1000), Some(0x7f00_0010_0000));
        assert_eq!(behind(0xfd00_0000, 0x180_0000), Some(0xfef0_0000), "not over interrupts");
        assert_eq!(behind(0xfef0_0000, 0x10_0000), Some(0xff00_0000));
        assert_eq!(behind(usize::MAX - 0xfff, 0xfff), None);
    }
}
