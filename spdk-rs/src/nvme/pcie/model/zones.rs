//! The model's zones: a namespace of another I/O command set, with the rules of its writes.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U32, U64};

use super::{BLOCKS, Model, State};
use crate::NvmeStatus;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::opcode::nvm;
use crate::nvme::spec::zns::{
    IdentifyControllerZoned, IdentifyNamespaceZoned, LbaFormatExtension, SEQUENTIAL_WRITE_REQUIRED,
    ZoneAction, ZoneDescriptor, ZoneReceiveCommand, ZoneReportHeader, ZoneSendCommand, ZoneState,
};

/// Blocks from one zone to the next, and those that can be written.
pub(crate) const ZONE: u64 = 1024;
pub(crate) const CAPACITY: u64 = 1000;
/// Zones that can be open, and active.
const OPEN_MAX: u32 = 2;
const ACTIVE_MAX: u32 = 3;

/// A zone: where its next write has to begin, behind its first block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zone {
    state: ZoneState,
    written: u64,
}

/// The zones of a namespace.
pub(super) fn all() -> Vec<Zone> {
    vec![Zone { state: ZoneState::Empty, written: 0 }; BLOCKS / usize::try_from(ZONE).unwrap()]
}

/// The data that tell of zones: of a namespace, and of the controller.
pub(super) fn namespace() -> Vec<u8> {
    let mut data = IdentifyNamespaceZoned::default();
    data.mor.set(OPEN_MAX - 1);
    data.mar = U32::new(ACTIVE_MAX - 1);
    data.lbafe[0] = LbaFormatExtension { zsze: U64::new(ZONE), ..Default::default() };
    data.as_bytes().to_vec()
}

pub(super) fn controller() -> Vec<u8> {
    // Appends of 8 KiB.
    IdentifyControllerZoned { zasl: 1, ..Default::default() }.as_bytes().to_vec()
}

fn is_open(zone: &Zone) -> bool {
    matches!(zone.state, ZoneState::ImplicitlyOpen | ZoneState::ExplicitlyOpen)
}

fn is_active(zone: &Zone) -> bool {
    is_open(zone) || zone.state == ZoneState::Closed
}

/// Whether one more zone may be open, which was closed or not.
fn room(zones: &[Zone], closed: bool) -> Result<(), NvmeStatus> {
    if !closed && zones.iter().filter(|zone| is_active(zone)).count() >= ACTIVE_MAX as usize {
        return Err(NvmeStatus::TOO_MANY_ACTIVE_ZONES.with_do_not_retry(true));
    }
    if zones.iter().filter(|zone| is_open(zone)).count() >= OPEN_MAX as usize {
        return Err(NvmeStatus::TOO_MANY_OPEN_ZONES.with_do_not_retry(true));
    }
    Ok(())
}

/// Takes a write to a zone: where it goes. `at` is none for an append.
fn take(zones: &mut [Zone], at: Option<u64>, zone: u64, blocks: u64) -> Result<u64, NvmeStatus> {
    let index = usize::try_from(zone / ZONE).unwrap();
    let Zone { state, written } = zones[index];
    match state {
        ZoneState::Full => return Err(NvmeStatus::ZONE_FULL),
        ZoneState::ReadOnly => return Err(NvmeStatus::ZONE_READ_ONLY),
        ZoneState::Offline => return Err(NvmeStatus::ZONE_OFFLINE),
        ZoneState::Empty | ZoneState::Closed => room(zones, state == ZoneState::Closed)?,
        ZoneState::ImplicitlyOpen | ZoneState::ExplicitlyOpen => {}
    }
    let first = zone / ZONE * ZONE;
    let place = first + written;
    if at.unwrap_or(place) + blocks > first + CAPACITY {
        return Err(NvmeStatus::ZONE_BOUNDARY_ERROR);
    }
    if at.is_some_and(|at| at != place) {
        return Err(NvmeStatus::ZONE_INVALID_WRITE);
    }
    let zone = &mut zones[index];
    zone.written += blocks;
    zone.state = match zone.state {
        _ if zone.written == CAPACITY => ZoneState::Full,
        ZoneState::ExplicitlyOpen => ZoneState::ExplicitlyOpen,
        _ => ZoneState::ImplicitlyOpen,
    };
    Ok(place)
}

/// Does what is asked for with one zone.
fn act(zones: &mut [Zone], index: usize, action: ZoneAction) -> Result<(), NvmeStatus> {
    use ZoneState as S;
    let state = zones[index].state;
    let next = match (action, state) {
        (ZoneAction::Open, S::ExplicitlyOpen | S::ImplicitlyOpen) => S::ExplicitlyOpen,
        (ZoneAction::Open, S::Empty | S::Closed) => {
            room(zones, state == S::Closed)?;
            S::ExplicitlyOpen
        }
        (ZoneAction::Close, S::ExplicitlyOpen | S::ImplicitlyOpen | S::Closed) => S::Closed,
        (ZoneAction::Finish, S::ReadOnly | S::Offline) => {
            return Err(NvmeStatus::ZONE_INVALID_TRANSITION);
        }
        (ZoneAction::Finish, _) => S::Full,
        (ZoneAction::Reset, S::ReadOnly | S::Offline) => {
            return Err(NvmeStatus::ZONE_INVALID_TRANSITION);
        }
        (ZoneAction::Reset, _) => {
            zones[index].written = 0;
            S::Empty
        }
        _ => return Err(NvmeStatus::ZONE_INVALID_TRANSITION),
    };
    zones[index].state = next;
    Ok(())
}

impl Model {
    /// What the rules of zones make of a command: the place of a write, if it is one.
    pub(super) fn admit(
        state: &mut State,
        sqe: &Sqe,
        blocks: u64,
    ) -> Result<Option<u64>, NvmeStatus> {
        let at = sqe.cdw10_11();
        let Some(zones) = state.zones.get_mut(&sqe.nsid.get()) else { return Ok(None) };
        match sqe.opcode {
            nvm::WRITE | nvm::WRITE_ZEROES => take(zones, Some(at), at, blocks).map(Some),
            nvm::ZONE_APPEND if !at.is_multiple_of(ZONE) => Err(NvmeStatus::INVALID_FIELD),
            nvm::ZONE_APPEND => take(zones, None, at, blocks).map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn zone_command(&self, state: &mut State, sqe: &Sqe) -> Result<(), NvmeStatus> {
        let Some(zones) = state.zones.get_mut(&sqe.nsid.get()) else {
            return Err(NvmeStatus::INVALID_OPCODE);
        };
        if sqe.opcode == nvm::ZONE_MANAGEMENT_RECEIVE {
            let data = report(zones, &ZoneReceiveCommand(sqe));
            self.deliver(state, sqe, &data);
            return Ok(());
        }
        let send = ZoneSendCommand(sqe);
        let action =
            ZoneAction::from_bits(send.control().zsa()).ok_or(NvmeStatus::INVALID_FIELD)?;
        if send.control().select_all() {
            // Those that are in no state for it stay as they are.
            for index in 0..zones.len() {
                let _ = act(zones, index, action);
            }
            return Ok(());
        }
        if !send.slba().is_multiple_of(ZONE) {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        act(zones, usize::try_from(send.slba() / ZONE).unwrap(), action)
    }
}

/// A report that is as long as the command wants it.
fn report(zones: &[Zone], command: &ZoneReceiveCommand<'_>) -> Vec<u8> {
    assert!(command.control().partial(), "the count is that of the report");
    let bytes = usize::try_from(command.bytes()).unwrap();
    let first = usize::try_from(command.slba() / ZONE).unwrap();
    let there = zones.iter().enumerate().skip(first).take(bytes / 64 - 1);
    let descriptors: Vec<ZoneDescriptor> = there
        .map(|(index, zone)| ZoneDescriptor {
            zt: SEQUENTIAL_WRITE_REQUIRED,
            zs: zone.state.bits() << 4,
            zcap: U64::new(CAPACITY),
            zslba: U64::new(index as u64 * ZONE),
            wp: U64::new(index as u64 * ZONE + zone.written),
            ..Default::default()
        })
        .collect();
    let nr_zones = U64::new(descriptors.len() as u64);
    let mut data = ZoneReportHeader { nr_zones, ..Default::default() }.as_bytes().to_vec();
    descriptors.iter().for_each(|zone| data.extend(zone.as_bytes()));
    data.resize(bytes, 0);
    data
}
