//! The properties of a controller (section 3.1.3), as far as they exist on fabrics.

use crate::NvmeStatus;
use crate::nvme::spec::register::{css, offset, shst};
use crate::nvme::spec::{Cap, Cc, Csts, Vs};

/// The version that controllers conform to.
pub(in crate::nvmf) const VERSION: Vs = Vs::V2_0;

/// The longest time to become ready or to be disabled, in 500 ms: what is in flight has to end.
const READY_TIMEOUT: u8 = 30;

/// IOSQES and IOCQES of the NVM command set.
const ENTRY_SIZES: (u8, u8) = (6, 4);

/// What a write to CC asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that has to be done.
    None,
    /// Enable.
    Enable,
    /// Reset: end what is in flight, delete the I/O queues.
    Disable,
    /// Shut down.
    ShutDown,
}

/// The registers, but for what depends on the I/O queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registers {
    cap: Cap,
    cc: Cc,
    /// A shutdown is under way, for as long as it has to wait for its flushes.
    pub(super) flushing: bool,
    /// A flush of the shutdown has failed.
    pub(super) fatal: bool,
}

impl Registers {
    pub(super) fn new(queue_depth_max: u32) -> Self {
        let entries = u16::try_from(queue_depth_max.clamp(2, 65_536) - 1).unwrap_or(u16::MAX);
        let cap = Cap(0)
            .with_mqes(entries)
            .with_cqr(true)
            .with_to(READY_TIMEOUT)
            .with_css(css::NVM | css::IO_COMMAND_SETS)
            .with_crms(1);
        Self { cap, cc: Cc(0), flushing: false, fatal: false }
    }

    pub(super) fn cc(&self) -> Cc {
        self.cc
    }

    /// Whether I/O queues may be connected.
    pub(super) fn takes_io_queues(&self) -> bool {
        self.cc.en() && self.cc.shn() == 0 && (self.cc.iosqes(), self.cc.iocqes()) == ENTRY_SIZES
    }

    /// Whether the host has disabled the controller or shut it down.
    pub(super) fn is_idle(&self) -> bool {
        !self.cc.en() || self.cc.shn() != 0
    }

    /// Controller status; `io_queues` tells whether there still are some.
    pub(super) fn csts(&self, io_queues: bool) -> Csts {
        let shst = match (self.cc.shn(), self.flushing || io_queues) {
            (0, _) => shst::NORMAL,
            (_, true) => shst::OCCURRING,
            (_, false) => shst::COMPLETE,
        };
        Csts(0).with_rdy(self.cc.en() || io_queues).with_cfs(self.fatal).with_shst(shst)
    }

    /// A property of `bytes` bytes (4 or 8) at an offset.
    pub(super) fn get(&self, at: u32, bytes: u8, io_queues: bool) -> Result<u64, NvmeStatus> {
        let (value, width) = match at {
            offset::CAP => (self.cap.0, 8),
            offset::VS => (VERSION.0.into(), 4),
            offset::CC => (self.cc.0.into(), 4),
            offset::CSTS => (self.csts(io_queues).0.into(), 4),
            // CRWMT alone: there is no ready state independent of the media.
            offset::CRTO => (READY_TIMEOUT.into(), 4),
            _ => return Err(NvmeStatus::INVALID_FIELD),
        };
        if bytes == width { Ok(value) } else { Err(NvmeStatus::INVALID_FIELD) }
    }

    /// Writes CC. Nothing has changed after an error.
    pub(super) fn set_cc(&mut self, value: u32) -> Result<Change, NvmeStatus> {
        let (old, new) = (self.cc, Cc(value));
        let known = Cc(0).with_en(true).with_css(7).with_mps(15).with_ams(7).with_shn(3);
        let known = known.with_iosqes(15).with_iocqes(15).0;
        let fixed = |cc: Cc| (cc.css(), cc.mps(), cc.ams());
        let stays = old.en() && new.en();
        if value & !known != 0
            || new.shn() == 3
            || stays && fixed(old) != fixed(new)
            || new.en() && !(matches!(new.css(), 0 | 6 | 7) && new.mps() == 0 && new.ams() == 0)
        {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        self.cc = new;
        let change = match (old.en(), new.en()) {
            (false, true) => Change::Enable,
            (true, false) => Change::Disable,
            _ if old.shn() == 0 && new.shn() != 0 => Change::ShutDown,
            _ => Change::None,
        };
        if matches!(change, Change::Enable | Change::Disable) {
            self.fatal = false;
            if change == Change::Disable {
                // A reset ends a shutdown.
                self.cc = self.cc.with_shn(0);
            }
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What Linux writes: enable, all command sets, entry sizes.
    const LINUX: u32 = 0x0046_0061;

    #[test]
    fn capabilities_are_those_of_the_transport() {
        let registers = Registers::new(128);
        let cap = Cap(registers.get(0, 8, false).unwrap());
        assert_eq!((cap.mqes(), cap.cqr(), cap.css(), cap.to()), (127, true, 0x41, 30));
        assert_eq!(cap.0, 0x0800_0820_1e01_007f);
        assert_eq!(registers.get(8, 4, false), Ok(0x2_0000));
        assert_eq!(Registers::new(65_536).cap.mqes(), 65_535);
    }

    #[test]
    fn sizes_and_offsets_are_checked() {
        let registers = Registers::new(128);
        for (at, bytes) in [(0, 4), (8, 8), (0x14, 8), (0x1c, 8), (0x20, 4), (0x28, 8), (3, 4)] {
            assert_eq!(registers.get(at, bytes, false), Err(NvmeStatus::INVALID_FIELD), "{at:#x}");
        }
    }

    #[test]
    fn enable_then_reset() {
        let mut registers = Registers::new(128);
        assert!(registers.is_idle());
        assert_eq!(registers.set_cc(LINUX), Ok(Change::Enable));
        assert!(registers.takes_io_queues());
        assert_eq!(registers.csts(false).0, 1);
        assert_eq!(registers.set_cc(LINUX), Ok(Change::None));
        assert_eq!(registers.set_cc(LINUX & !1), Ok(Change::Disable));
        assert_eq!(registers.csts(true).0, 1, "ready until the I/O queues are gone");
        assert_eq!(registers.csts(false).0, 0);
        assert!(!registers.takes_io_queues());
    }

    #[test]
    fn shutdown_takes_until_the_queues_are_gone_and_all_is_flushed() {
        let mut registers = Registers::new(128);
        registers.set_cc(LINUX).unwrap();
        assert_eq!(registers.set_cc(LINUX | 1 << 14), Ok(Change::ShutDown));
        assert_eq!(registers.set_cc(LINUX | 1 << 14), Ok(Change::None));
        registers.flushing = true;
        assert_eq!(registers.csts(false).shst(), shst::OCCURRING);
        registers.flushing = false;
        assert_eq!(registers.csts(true).shst(), shst::OCCURRING);
        assert_eq!(registers.csts(false).shst(), shst::COMPLETE);
        assert!(!registers.takes_io_queues());
        assert_eq!(registers.set_cc(LINUX & !1), Ok(Change::Disable));
        assert_eq!(registers.csts(false).0, 0);
        assert_eq!(registers.set_cc(LINUX), Ok(Change::Enable));
    }

    #[test]
    fn entry_sizes_may_be_set_late() {
        let mut registers = Registers::new(128);
        assert_eq!(registers.set_cc(1), Ok(Change::Enable));
        assert!(!registers.takes_io_queues());
        assert_eq!(registers.set_cc(0x0046_0001), Ok(Change::None));
        assert!(registers.takes_io_queues());
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        for wrong in [LINUX | 2, LINUX | 1 << 24, LINUX | 3 << 14, LINUX | 1 << 7, LINUX | 1 << 11]
        {
            let mut registers = Registers::new(128);
            assert_eq!(registers.set_cc(wrong), Err(NvmeStatus::INVALID_FIELD), "{wrong:#x}");
            assert_eq!(registers.cc().0, 0);
        }
        let mut registers = Registers::new(128);
        assert_eq!(registers.set_cc(1 << 4 | 1), Err(NvmeStatus::INVALID_FIELD));
        registers.set_cc(LINUX).unwrap();
        assert_eq!(registers.set_cc(LINUX & !0x70), Err(NvmeStatus::INVALID_FIELD));
    }

    proptest! {
        #[test]
        fn any_writes_leave_a_state_that_the_status_agrees_with(
            writes in prop::collection::vec(any::<u32>().prop_map(|v| v & 0x00ff_c0f1), 1..20),
        ) {
            let mut registers = Registers::new(64);
            for value in writes {
                let before = registers.cc();
                match registers.set_cc(value) {
                    Ok(_) => prop_assert_eq!(registers.cc().en(), Cc(value).en()),
                    Err(_) => prop_assert_eq!(registers.cc(), before),
                }
                prop_assert_eq!(registers.csts(false).rdy(), registers.cc().en());
            }
        }
    }
}
