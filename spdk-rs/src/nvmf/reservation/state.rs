//! The state machine of a namespace's reservations.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::super::core_view::HostId;
use super::access::AccessView;
use crate::NvmeStatus;
use crate::nvme::spec::reservation::{
    AcquireControl, AcquireData, RegisterControl, RegisterData, RegisteredControllerExtended,
    ReleaseControl, ReleaseData, ReservationStatus, ReservationStatusExtended, ReservationType,
    cptpl, racqa, rrega, rrela,
};

/// Registrants of a namespace at the most; one more meets a reservation conflict.
pub const REGISTRANTS_MAX: usize = 256;

/// Number of a controller that is made for a connection and has no fixed one.
const CNTLID_DYNAMIC: u16 = 0xffff;

/// A host and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registrant {
    pub(super) host: HostId,
    pub(super) key: u64,
}

/// What a host is told of (reservation notification log page, type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum NoticeKind {
    /// Another host has ended its registration.
    RegistrationPreempted = 1,
    /// The reservation was released.
    ReservationReleased = 2,
    /// The reservation and all registrations were cleared.
    ReservationPreempted = 3,
}

/// What one host is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The host.
    pub host: HostId,
    /// What has happened.
    pub kind: NoticeKind,
}

/// What follows from a command besides the new state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Who is told what.
    pub notices: Vec<Notice>,
    /// Hosts whose commands are to be aborted.
    pub abort: Vec<HostId>,
}

/// The reservations of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReservationState {
    pub(super) generation: u32,
    pub(super) persists: bool,
    pub(super) registrants: Vec<Registrant>,
    pub(super) held: Option<(ReservationType, HostId)>,
}

type Result<T> = std::result::Result<T, NvmeStatus>;

impl ReservationState {
    /// Whether the state persists through a loss of power.
    #[must_use]
    pub fn persists(&self) -> bool {
        self.persists
    }

    /// What commands are checked against.
    #[must_use]
    pub fn access(&self) -> AccessView {
        let mut registrants: Vec<_> = self.registrants.iter().map(|one| one.host).collect();
        registrants.sort_unstable();
        AccessView { held: self.held, registrants }
    }

    /// Reservation Register (section 7.3). `can_persist` tells whether there is a place for what
    /// persists.
    ///
    /// # Errors
    /// [`NvmeStatus::INVALID_FIELD`] for reserved values, [`NvmeStatus::RESERVATION_CONFLICT`]
    /// for a wrong key; nothing has changed then.
    pub fn register(
        &mut self,
        host: HostId,
        control: RegisterControl,
        data: &RegisterData,
        can_persist: bool,
    ) -> Result<Effects> {
        let persists = self.persists_after(control.cptpl(), can_persist)?;
        let (current, new) = (data.crkey.get(), data.nrkey.get());
        let mut effects = Effects::default();
        match control.rrega() {
            rrega::REGISTER => self.add(host, new)?,
            rrega::UNREGISTER => {
                let own = self.find(host).ok_or(NvmeStatus::RESERVATION_CONFLICT)?;
                if !control.iekey() && own.key != current {
                    return Err(NvmeStatus::RESERVATION_CONFLICT);
                }
                self.unregister(host, &mut effects);
            }
            rrega::REPLACE => self.replace(host, control.iekey(), current, new)?,
            _ => return Err(NvmeStatus::INVALID_FIELD),
        }
        self.persists = persists;
        self.generation = self.generation.wrapping_add(1);
        Ok(effects)
    }

    /// Whether the state persists after a change (CPTPL).
    fn persists_after(&self, change: u8, can_persist: bool) -> Result<bool> {
        match change {
            cptpl::NO_CHANGE => Ok(self.persists),
            cptpl::CLEAR => Ok(false),
            cptpl::SET if can_persist => Ok(true),
            _ => Err(NvmeStatus::INVALID_FIELD),
        }
    }

    fn add(&mut self, host: HostId, key: u64) -> Result<()> {
        if key == 0 {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        match self.find(host) {
            Some(own) if own.key == key => Ok(()),
            Some(_) => Err(NvmeStatus::RESERVATION_CONFLICT),
            None if self.registrants.len() >= REGISTRANTS_MAX => {
                Err(NvmeStatus::RESERVATION_CONFLICT)
            }
            None => {
                self.registrants.push(Registrant { host, key });
                Ok(())
            }
        }
    }

    /// A host may replace its key without regard to whether it has one when it says so (IEKEY).
    fn replace(&mut self, host: HostId, ignore: bool, current: u64, new: u64) -> Result<()> {
        if new == 0 {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        match self.registrants.iter_mut().find(|one| one.host == host) {
            Some(own) if ignore || own.key == current => {
                own.key = new;
                Ok(())
            }
            None if ignore => self.add(host, new),
            _ => Err(NvmeStatus::RESERVATION_CONFLICT),
        }
    }

    /// Ends a registration, and the reservation with it when its host alone holds it.
    fn unregister(&mut self, host: HostId, effects: &mut Effects) {
        self.registrants.retain(|one| one.host != host);
        let Some((kind, holder)) = self.held else { return };
        let ends =
            if kind.all_registrants() { self.registrants.is_empty() } else { holder == host };
        if ends {
            self.held = None;
            if kind.registrants() {
                self.notify_others(host, NoticeKind::ReservationReleased, effects);
            }
        }
    }

    /// Reservation Acquire (section 7.2).
    ///
    /// # Errors
    /// As [`ReservationState::register`].
    pub fn acquire(
        &mut self,
        host: HostId,
        control: AcquireControl,
        data: &AcquireData,
    ) -> Result<Effects> {
        let kind = ReservationType::from_bits(control.rtype()).filter(|_| !control.iekey());
        let kind = kind.ok_or(NvmeStatus::INVALID_FIELD)?;
        let action = control.racqa();
        if action > racqa::PREEMPT_AND_ABORT {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        self.check_key(host, data.crkey.get())?;
        if action != racqa::ACQUIRE {
            return self.preempt(host, kind, data.prkey.get(), action == racqa::PREEMPT_AND_ABORT);
        }
        match self.held {
            None => self.held = Some((kind, host)),
            Some((held, _)) if self.holds(host) && held == kind => {}
            Some(_) => return Err(NvmeStatus::RESERVATION_CONFLICT),
        }
        Ok(Effects::default())
    }

    /// Section 8.19.7: takes the registrations with a key away, and the reservation with them
    /// when they hold it.
    fn preempt(
        &mut self,
        host: HostId,
        kind: ReservationType,
        key: u64,
        abort: bool,
    ) -> Result<Effects> {
        let before = self.held;
        let matches = |one: &Registrant| one.key == key;
        // Who goes, and whether the reservation becomes the host's.
        let (goes, takes): (Vec<HostId>, bool) = match before {
            Some((held, _)) if held.all_registrants() && key == 0 => {
                (self.hosts(|one| one.host != host), true)
            }
            Some((held, holder))
                if !held.all_registrants()
                    && self.find(holder).is_some_and(|one| matches(&one)) =>
            {
                (self.hosts(|one| matches(one) && one.host != host), true)
            }
            _ if key == 0 => return Err(NvmeStatus::INVALID_FIELD),
            _ => (self.hosts(matches), false),
        };
        if goes.is_empty() && !takes {
            return Err(NvmeStatus::RESERVATION_CONFLICT);
        }
        self.registrants.retain(|one| !goes.contains(&one.host));
        if takes {
            self.held = Some((kind, host));
        } else if self.registrants.is_empty() {
            // The last of "all registrants" has ended its own registration.
            self.held = None;
        }
        self.generation = self.generation.wrapping_add(1);
        let mut effects = Effects::default();
        let others = goes.iter().filter(|gone| **gone != host);
        let told = |&host| Notice { host, kind: NoticeKind::RegistrationPreempted };
        effects.notices.extend(others.clone().map(told));
        if takes && before.is_some_and(|(held, _)| held != kind) {
            self.notify_others(host, NoticeKind::ReservationReleased, &mut effects);
        }
        if abort {
            effects.abort.extend(others);
        }
        Ok(effects)
    }

    /// Reservation Release (section 7.4).
    ///
    /// # Errors
    /// As [`ReservationState::register`].
    pub fn release(
        &mut self,
        host: HostId,
        control: ReleaseControl,
        data: &ReleaseData,
    ) -> Result<Effects> {
        let action = control.rrela();
        if control.iekey() || action > rrela::CLEAR {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        self.check_key(host, data.crkey.get())?;
        let mut effects = Effects::default();
        if action == rrela::CLEAR {
            self.notify_others(host, NoticeKind::ReservationPreempted, &mut effects);
            self.registrants.clear();
            self.held = None;
            self.generation = self.generation.wrapping_add(1);
            return Ok(effects);
        }
        // Without a reservation, or as a registrant that does not hold it: no effect, no error.
        let Some((kind, _)) = self.held.filter(|_| self.holds(host)) else { return Ok(effects) };
        if kind.bits() != control.rtype() {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        self.held = None;
        if kind.registrants() {
            self.notify_others(host, NoticeKind::ReservationReleased, &mut effects);
        }
        Ok(effects)
    }

    /// The extended reservation status data structure (section 7.5).
    #[must_use]
    pub fn report(&self) -> Vec<u8> {
        let status = ReservationStatus {
            generation: U32::new(self.generation),
            rtype: self.held.map_or(0, |(kind, _)| kind.bits()),
            regctl: U16::new(u16::try_from(self.registrants.len()).unwrap_or(u16::MAX)),
            ptpls: u8::from(self.persists),
            ..ReservationStatus::default()
        };
        let header = ReservationStatusExtended { status, ..ReservationStatusExtended::default() };
        let mut report = header.as_bytes().to_vec();
        for one in &self.registrants {
            let entry = RegisteredControllerExtended {
                cntlid: U16::new(CNTLID_DYNAMIC),
                rcsts: u8::from(self.holds(one.host)),
                rkey: U64::new(one.key),
                hostid: one.host.0,
                ..RegisteredControllerExtended::default()
            };
            report.extend_from_slice(entry.as_bytes());
        }
        report
    }

    fn find(&self, host: HostId) -> Option<Registrant> {
        self.registrants.iter().find(|one| one.host == host).copied()
    }

    fn hosts(&self, is: impl Fn(&Registrant) -> bool) -> Vec<HostId> {
        self.registrants.iter().filter(|one| is(one)).map(|one| one.host).collect()
    }

    fn check_key(&self, host: HostId, key: u64) -> Result<()> {
        let own = self.find(host).filter(|own| own.key == key);
        own.map(drop).ok_or(NvmeStatus::RESERVATION_CONFLICT)
    }

    fn holds(&self, host: HostId) -> bool {
        self.held.is_some_and(|(kind, holder)| {
            if kind.all_registrants() { self.find(host).is_some() } else { holder == host }
        })
    }

    fn notify_others(&self, host: HostId, kind: NoticeKind, effects: &mut Effects) {
        let others = self.registrants.iter().filter(|one| one.host != host);
        effects.notices.extend(others.map(|one| Notice { host: one.host, kind }));
    }
}
