//! Reservations: the state machine, the table of rights, what persists, and commands of hosts.

mod files;
mod hosts;
mod rights;
mod state;

use std::sync::atomic::Ordering::SeqCst;

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::persist;
use super::*;
use crate::NvmeStatus;
use crate::bdev::OpenMode;
use crate::nvme::spec::opcode::nvm;
use crate::nvme::spec::reservation::{
    AcquireControl, AcquireData, RegisterControl, RegisterData, Registrants, ReleaseControl,
    ReleaseData, ReservationReport, ReservationType, cptpl, racqa, rrega, rrela,
};
use crate::nvme::spec::{NSID_ALL, Sqe};
use crate::nvmf::HostId;
use crate::nvmf::io::Access;
use crate::nvmf::qpair::tests::device::{self, ALL};
use crate::nvmf::qpair::tests::rig::{Host, Rig};
use NoticeKind::{RegistrationPreempted, ReservationPreempted, ReservationReleased};
use ReservationType::{
    ExclusiveAccess, ExclusiveAccessAllRegistrants, ExclusiveAccessRegistrantsOnly, WriteExclusive,
    WriteExclusiveAllRegistrants, WriteExclusiveRegistrantsOnly,
};

const OK: NvmeStatus = NvmeStatus::SUCCESS;
const CONFLICT: NvmeStatus = NvmeStatus::RESERVATION_CONFLICT;
const INVALID: NvmeStatus = NvmeStatus::INVALID_FIELD;

const TYPES: [ReservationType; 6] = [
    WriteExclusive,
    ExclusiveAccess,
    WriteExclusiveRegistrantsOnly,
    ExclusiveAccessRegistrantsOnly,
    WriteExclusiveAllRegistrants,
    ExclusiveAccessAllRegistrants,
];

fn host(id: u8) -> HostId {
    HostId([id; 16])
}

fn notice(id: u8, kind: NoticeKind) -> Notice {
    Notice { host: host(id), kind }
}

/// A state in which hosts 1, 2 and 3 have keys 10, 20 and 30.
fn three() -> ReservationState {
    let mut state = ReservationState::default();
    for id in 1..=3 {
        state.reg(id, rrega::REGISTER, 0, u64::from(id) * 10).unwrap();
    }
    state
}

impl ReservationState {
    fn reg(&mut self, id: u8, action: u8, old: u64, new: u64) -> Result<Effects, NvmeStatus> {
        let data = RegisterData { crkey: old.into(), nrkey: new.into() };
        self.register(host(id), RegisterControl(0).with_rrega(action), &data, true)
    }

    fn acq(
        &mut self,
        id: u8,
        action: u8,
        kind: ReservationType,
        preempted: u64,
    ) -> Result<Effects, NvmeStatus> {
        let key = u64::from(id) * 10;
        let data = AcquireData { crkey: key.into(), prkey: preempted.into() };
        let control = AcquireControl(0).with_racqa(action).with_rtype(kind.bits());
        self.acquire(host(id), control, &data)
    }

    fn rel(&mut self, id: u8, action: u8, kind: u8) -> Result<Effects, NvmeStatus> {
        let data = ReleaseData { crkey: (u64::from(id) * 10).into() };
        let control = ReleaseControl(0).with_rrela(action).with_rtype(kind);
        self.release(host(id), control, &data)
    }

    fn ids(&self) -> Vec<u8> {
        self.access().registrants.iter().map(|host| host.0[0]).collect()
    }
}
