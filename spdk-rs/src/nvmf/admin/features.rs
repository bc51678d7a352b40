//! Get Features and Set Features (sections 5.15 and 5.27).

use std::collections::BTreeMap;
use std::rc::Rc;

use zerocopy::{FromBytes, IntoBytes};

use super::{AdminQueue, Answer, capabilities};
use crate::NvmeStatus;
use crate::nvme::spec::NSID_ALL;
use crate::nvme::spec::feature::{
    GetFeaturesCdw10, HostBehavior, HostIdentifier, NumberOfQueues, PowerManagement,
    ReservationMask, ReservationPersistence, SetFeaturesCdw10, TemperatureThreshold, capability,
    fid, select,
};
use crate::nvme::spec::identify::oaes;
use crate::nvmf::controller::ReservationEvent;
use crate::nvmf::request::Request;
use crate::nvmf::subsystem::SubsystemKind;

/// The values of a controller's features. None of them can be saved.
#[derive(Clone, Debug)]
pub(in crate::nvmf) struct Features {
    arbitration: u32,
    power: u32,
    /// Over and under temperature threshold of the composite temperature.
    temperature: [u16; 2],
    error_recovery: u32,
    write_atomicity: u32,
    events: u32,
    behavior: HostBehavior,
    /// Reservation notification masks by namespace.
    reservation_masks: BTreeMap<u32, u32>,
}

impl Features {
    /// The defaults: every notice that there is is wanted.
    pub(in crate::nvmf) fn new(kind: SubsystemKind) -> Self {
        let events = match kind {
            SubsystemKind::Nvm => oaes::NAMESPACE_ATTRIBUTE | oaes::ANA_CHANGE,
            SubsystemKind::Discovery => oaes::DISCOVERY_LOG,
        };
        Self {
            arbitration: 6,
            power: 0,
            temperature: [u16::MAX, 0],
            error_recovery: 0,
            write_atomicity: 0,
            events,
            behavior: HostBehavior::default(),
            reservation_masks: BTreeMap::new(),
        }
    }

    /// The notices that are wanted.
    pub(in crate::nvmf) fn notices(&self) -> u32 {
        self.events
    }

    /// Whether a notice on a reservation is wanted.
    pub(in crate::nvmf) fn wants_reservation(&self, event: ReservationEvent) -> bool {
        let mask = self.reservation_masks.get(&event.nsid).copied().unwrap_or(0);
        mask >> event.kind as u8 & 1 == 0
    }
}

/// Whether a feature exists for controllers of a kind, and what can be done with it.
fn capabilities_of(kind: SubsystemKind, feature: u8) -> Option<u32> {
    let changeable = capability::CHANGEABLE;
    match (kind, feature) {
        (_, fid::ASYNC_EVENTS | fid::KEEP_ALIVE_TIMER) => Some(changeable),
        (SubsystemKind::Discovery, _) => None,
        (_, fid::VOLATILE_WRITE_CACHE | fid::HOST_IDENTIFIER) => Some(0),
        (_, fid::RESERVATION_MASK | fid::RESERVATION_PERSISTENCE) => {
            Some(changeable | capability::NAMESPACE_SPECIFIC)
        }
        (
            _,
            fid::ARBITRATION
            | fid::POWER_MANAGEMENT
            | fid::TEMPERATURE_THRESHOLD
            | fid::ERROR_RECOVERY
            | fid::NUMBER_OF_QUEUES
            | fid::WRITE_ATOMICITY
            | fid::HOST_BEHAVIOR
            | fid::IO_COMMAND_SET_PROFILE,
        ) => Some(changeable),
        _ => None,
    }
}

/// Executes a Get Features.
pub(super) fn get(admin: &Rc<AdminQueue>, request: &Request) -> Result<Answer, NvmeStatus> {
    let sqe = request.sqe();
    let fields = GetFeaturesCdw10(sqe.cdw10.get());
    let kind = admin.controller.subsystem().kind();
    let known = capabilities_of(kind, fields.fid()).ok_or(NvmeStatus::INVALID_FIELD)?;
    let defaults = Features::new(kind);
    let get = |features: &Features, current| {
        value(admin, features, current, fields.fid(), sqe.nsid.get(), sqe.cdw11.get())
    };
    match fields.sel() {
        select::CURRENT => get(&admin.features.borrow(), true),
        // What cannot be saved has its default as its saved value.
        select::DEFAULT | select::SAVED => get(&defaults, false),
        select::CAPABILITIES => Ok(known.into()),
        _ => Err(NvmeStatus::INVALID_FIELD),
    }
}

/// A feature's value in `features`. What is kept elsewhere is the current one, or its default.
fn value(
    admin: &AdminQueue,
    features: &Features,
    current: bool,
    feature: u8,
    nsid: u32,
    cdw11: u32,
) -> Result<Answer, NvmeStatus> {
    let controller = &admin.controller;
    let value = match feature {
        fid::ARBITRATION => features.arbitration,
        fid::POWER_MANAGEMENT => features.power,
        fid::TEMPERATURE_THRESHOLD => {
            features.temperature[threshold_index(TemperatureThreshold(cdw11))?].into()
        }
        fid::ERROR_RECOVERY => features.error_recovery,
        fid::WRITE_ATOMICITY => features.write_atomicity,
        fid::ASYNC_EVENTS => features.events & allowed_events(admin),
        fid::VOLATILE_WRITE_CACHE => write_cache(admin)?,
        fid::NUMBER_OF_QUEUES => queues(if current {
            controller.io_queues_allotted()
        } else {
            controller.io_queues_max()
        }),
        fid::KEEP_ALIVE_TIMER => {
            if current {
                admin.kato_ms()
            } else {
                0
            }
        }
        fid::IO_COMMAND_SET_PROFILE => 0,
        fid::HOST_BEHAVIOR => return Ok(features.behavior.as_bytes().to_vec().into()),
        fid::HOST_IDENTIFIER => {
            if !HostIdentifier(cdw11).exhid() {
                return Err(NvmeStatus::HOST_ID_INCONSISTENT);
            }
            return Ok(controller.host().id.0.to_vec().into());
        }
        fid::RESERVATION_MASK => {
            controller.subsystem().namespace(nsid).ok_or(NvmeStatus::INVALID_NAMESPACE)?;
            features.reservation_masks.get(&nsid).copied().unwrap_or(0)
        }
        fid::RESERVATION_PERSISTENCE => {
            let found = controller.subsystem().namespace(nsid);
            let namespace = found.ok_or(NvmeStatus::INVALID_NAMESPACE)?;
            u32::from(current && namespace.reservations().persists())
        }
        _ => return Err(NvmeStatus::INVALID_FIELD),
    };
    Ok(value.into())
}

/// The event configuration that can be set: health warnings, and the notices there are.
fn allowed_events(admin: &AdminQueue) -> u32 {
    0xff | capabilities::notices(admin.controller.subsystem())
}

/// The same number of submission and completion queues, 0's based.
fn queues(count: u16) -> u32 {
    let count = count.saturating_sub(1);
    NumberOfQueues(0).with_submission(count).with_completion(count).0
}

/// The index of a threshold: 0 over, 1 under. There is the composite temperature only.
fn threshold_index(fields: TemperatureThreshold) -> Result<usize, NvmeStatus> {
    match (fields.tmpsel(), fields.thsel()) {
        (0 | 0xf, kind @ 0..=1) => Ok(kind.into()),
        _ => Err(NvmeStatus::INVALID_FIELD),
    }
}

/// Bit 0: enabled. Without a cache there is no such feature.
fn write_cache(admin: &AdminQueue) -> Result<u32, NvmeStatus> {
    let namespaces = admin.controller.subsystem().namespaces();
    if capabilities::has_write_cache(&namespaces) { Ok(1) } else { Err(NvmeStatus::INVALID_FIELD) }
}

/// Executes a Set Features, but for what has to wait.
pub(super) fn set(admin: &Rc<AdminQueue>, request: &Request) -> Result<Answer, NvmeStatus> {
    let sqe = request.sqe();
    let fields = SetFeaturesCdw10(sqe.cdw10.get());
    let kind = admin.controller.subsystem().kind();
    capabilities_of(kind, fields.fid()).ok_or(NvmeStatus::INVALID_FIELD)?;
    if fields.sv() {
        return Err(NvmeStatus::FEATURE_NOT_SAVEABLE);
    }
    let (nsid, value) = (sqe.nsid.get(), sqe.cdw11.get());
    match fields.fid() {
        fid::NUMBER_OF_QUEUES => return set_queues(admin, NumberOfQueues(value)),
        fid::KEEP_ALIVE_TIMER => admin.set_kato(value),
        fid::VOLATILE_WRITE_CACHE => {
            // The devices cannot switch their caches: only what is so already can be set.
            if write_cache(admin)? != value {
                return Err(NvmeStatus::FEATURE_NOT_CHANGEABLE);
            }
        }
        // Set by Connect.
        fid::HOST_IDENTIFIER => return Err(NvmeStatus::COMMAND_SEQUENCE_ERROR),
        fid::IO_COMMAND_SET_PROFILE if value & 0x1ff != 0 => {
            return Err(NvmeStatus::IO_COMMAND_SETS_REJECTED);
        }
        fid::IO_COMMAND_SET_PROFILE => {}
        fid::HOST_BEHAVIOR => admin.features.borrow_mut().behavior = behavior(request.data())?,
        fid::RESERVATION_MASK => set_reservation_mask(admin, nsid, value)?,
        fid::ASYNC_EVENTS => {
            if value & !allowed_events(admin) != 0 {
                return Err(NvmeStatus::INVALID_FIELD);
            }
            admin.features.borrow_mut().events = value;
        }
        other => set_value(&mut admin.features.borrow_mut(), other, nsid, value)?,
    }
    Ok(Answer::default())
}

/// Whether a Set Features has to wait for a file.
pub(super) fn is_slow(request: &Request) -> bool {
    SetFeaturesCdw10(request.sqe().cdw10.get()).fid() == fid::RESERVATION_PERSISTENCE
}

/// Executes a Set Features on the persistence of reservations, of one namespace or of all.
pub(super) fn set_persistence(admin: &Rc<AdminQueue>, request: Request) {
    let sqe = request.sqe();
    let (nsid, value) = (sqe.nsid.get(), ReservationPersistence(sqe.cdw11.get()));
    let subsystem = admin.controller.subsystem();
    let chosen: Vec<_> = match nsid {
        NSID_ALL => subsystem.namespaces(),
        one => subsystem.namespace(one).into_iter().collect(),
    };
    let refused = if admin.is_discovery() {
        Some(NvmeStatus::INVALID_FIELD)
    } else if SetFeaturesCdw10(sqe.cdw10.get()).sv() {
        Some(NvmeStatus::FEATURE_NOT_SAVEABLE)
    } else if chosen.is_empty() {
        Some(NvmeStatus::INVALID_NAMESPACE)
    } else {
        None
    };
    if let Some(status) = refused {
        return admin.refuse(request, status);
    }
    let owner = Rc::clone(admin);
    admin.spawn(async move {
        let mut result = Ok(());
        for namespace in chosen {
            result = result.and(namespace.reservations().set_persists(value.ptpl()).await);
        }
        match result {
            Ok(()) => request.finish(NvmeStatus::SUCCESS),
            Err(status) => owner.refuse(request, status),
        }
    });
}

/// Sets a feature that is only a number.
fn set_value(
    features: &mut Features,
    feature: u8,
    nsid: u32,
    value: u32,
) -> Result<(), NvmeStatus> {
    if !matches!(nsid, 0 | NSID_ALL) {
        return Err(NvmeStatus::FEATURE_NOT_NAMESPACE_SPECIFIC);
    }
    match feature {
        fid::ARBITRATION => features.arbitration = value & 0xffff_ff07,
        // There is one power state.
        fid::POWER_MANAGEMENT if PowerManagement(value).ps() == 0 => features.power = value & 0xff,
        fid::TEMPERATURE_THRESHOLD => {
            let fields = TemperatureThreshold(value);
            features.temperature[threshold_index(fields)?] = fields.tmpth();
        }
        // Deallocated blocks are no errors (DULBE).
        fid::ERROR_RECOVERY if value & 1 << 16 == 0 => features.error_recovery = value & 0xffff,
        fid::WRITE_ATOMICITY => features.write_atomicity = value & 1,
        _ => return Err(NvmeStatus::INVALID_FIELD),
    }
    Ok(())
}

fn set_queues(admin: &AdminQueue, wanted: NumberOfQueues) -> Result<Answer, NvmeStatus> {
    let least = wanted.submission().min(wanted.completion());
    if wanted.submission() == u16::MAX || wanted.completion() == u16::MAX {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    let allotted = admin.controller.allot_io_queues(least + 1);
    allotted.map(|count| queues(count).into()).ok_or(NvmeStatus::COMMAND_SEQUENCE_ERROR)
}

fn behavior(data: &[u8]) -> Result<HostBehavior, NvmeStatus> {
    let (behavior, _) =
        HostBehavior::read_from_prefix(data).map_err(|_| NvmeStatus::DATA_SGL_LENGTH_INVALID)?;
    let flags = [behavior.acre, behavior.etdas, behavior.lbafee];
    if flags.iter().any(|&flag| flag > 1) {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    Ok(behavior)
}

fn set_reservation_mask(admin: &AdminQueue, nsid: u32, value: u32) -> Result<(), NvmeStatus> {
    let known = ReservationMask(0).with_regpre(true).with_resrel(true).with_respre(true).0;
    if value & !known != 0 {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    let subsystem = admin.controller.subsystem();
    let masks = &mut admin.features.borrow_mut().reservation_masks;
    if nsid == NSID_ALL {
        masks.extend(subsystem.namespaces().iter().map(|namespace| (namespace.nsid(), value)));
        return Ok(());
    }
    subsystem.namespace(nsid).ok_or(NvmeStatus::INVALID_NAMESPACE)?;
    masks.insert(nsid, value);
    Ok(())
}
