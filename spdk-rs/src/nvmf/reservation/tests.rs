//! Reservations: the state machine, the table of rights, what persists, and commands of hosts.

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

/// What a column of the table stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Stranger,
    Registrant,
    Holder,
}

/// A type of reservation, and who may read and write.
type Row = (ReservationType, [(Who, bool, bool); 3]);

/// "Command Behavior in the Presence of a Reservation": per type, for a host that is not
/// registered, for a registrant and for the holder, whether reads and writes are allowed.
#[rustfmt::skip]
const TABLE: [Row; 6] = {
    use Who::{Holder, Registrant, Stranger};
    [
        (WriteExclusive,                 [(Stranger, true,  false), (Registrant, true,  false), (Holder, true, true)]),
        (ExclusiveAccess,                [(Stranger, false, false), (Registrant, false, false), (Holder, true, true)]),
        (WriteExclusiveRegistrantsOnly,  [(Stranger, true,  false), (Registrant, true,  true),  (Holder, true, true)]),
        (ExclusiveAccessRegistrantsOnly, [(Stranger, false, false), (Registrant, true,  true),  (Holder, true, true)]),
        (WriteExclusiveAllRegistrants,   [(Stranger, true,  false), (Registrant, true,  true),  (Holder, true, true)]),
        (ExclusiveAccessAllRegistrants,  [(Stranger, false, false), (Registrant, true,  true),  (Holder, true, true)]),
    ]
};

/// The command groups of the specification.
const READS: &[u8] = &[nvm::READ, nvm::COMPARE, nvm::VERIFY];
const WRITES: &[u8] = &[
    nvm::WRITE,
    nvm::WRITE_ZEROES,
    nvm::WRITE_UNCORRECTABLE,
    nvm::DATASET_MANAGEMENT,
    nvm::COPY,
    nvm::FLUSH,
];
const FREE: &[u8] = &[
    nvm::RESERVATION_REGISTER,
    nvm::RESERVATION_REPORT,
    nvm::RESERVATION_ACQUIRE,
    nvm::RESERVATION_RELEASE,
];

#[test]
fn the_table_of_rights() {
    for (kind, rows) in TABLE {
        let mut state = three();
        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        let access = state.access();
        assert!(access.is_reserved());
        for (who, reads, writes) in rows {
            let id = match who {
                Who::Holder => 1,
                Who::Registrant => 2,
                Who::Stranger => 9,
            };
            let may = |opcode: &u8| access.permits(&host(id), Access::of(*opcode));
            for opcode in READS {
                assert_eq!(may(opcode), reads, "{kind:?} {who:?} reads by {opcode:#x}");
            }
            for opcode in WRITES {
                assert_eq!(may(opcode), writes, "{kind:?} {who:?} writes by {opcode:#x}");
            }
            assert!(FREE.iter().all(may));
        }
    }
    let free = three().access();
    assert!(!free.is_reserved());
    assert!(READS.iter().chain(WRITES).all(|&opcode| free.permits(&host(9), Access::of(opcode))));
}

#[test]
fn registering_and_replacing_keys() {
    let mut state = ReservationState::default();
    assert_eq!(state.reg(1, rrega::REGISTER, 0, 0), Err(INVALID));
    assert_eq!(state.reg(1, rrega::REGISTER, 99, 10), Ok(Effects::default()));
    assert_eq!(state.reg(1, rrega::REGISTER, 0, 10), Ok(Effects::default()), "the same key again");
    assert_eq!(state.reg(1, rrega::REGISTER, 0, 11), Err(CONFLICT));
    assert_eq!(state.reg(1, rrega::REPLACE, 9, 11), Err(CONFLICT));
    assert_eq!(state.reg(1, rrega::REPLACE, 10, 0), Err(INVALID));
    assert!(state.reg(1, rrega::REPLACE, 10, 11).is_ok());
    assert_eq!(state.reg(2, rrega::REPLACE, 0, 20), Err(CONFLICT), "no registrant");
    assert_eq!(state.reg(1, 3, 0, 0), Err(INVALID));
    assert_eq!(state.generation, 3, "successful commands count");
    // Ignoring the existing key.
    let ignoring = |state: &mut ReservationState, id, action, new: u64| {
        let data = RegisterData { crkey: 999.into(), nrkey: new.into() };
        let control = RegisterControl(0).with_rrega(action).with_iekey(true);
        state.register(host(id), control, &data, false)
    };
    assert!(ignoring(&mut state, 1, rrega::REPLACE, 12).is_ok());
    assert!(ignoring(&mut state, 2, rrega::REPLACE, 20).is_ok(), "without regard to registration");
    assert_eq!(ignoring(&mut state, 3, rrega::UNREGISTER, 0), Err(CONFLICT));
    assert_eq!(state.reg(1, rrega::UNREGISTER, 9, 0), Err(CONFLICT));
    assert!(state.reg(1, rrega::UNREGISTER, 12, 0).is_ok());
    assert!(ignoring(&mut state, 2, rrega::UNREGISTER, 0).is_ok());
    assert_eq!(state.ids(), [0; 0]);
}

#[test]
fn registrants_are_bounded() {
    let mut state = ReservationState::default();
    for at in 0..REGISTRANTS_MAX as u128 + 1 {
        let data = RegisterData { crkey: 0.into(), nrkey: 5.into() };
        let id = HostId((at + 1).to_le_bytes());
        let done = state.register(id, RegisterControl(0), &data, false);
        assert_eq!(done.is_ok(), at < REGISTRANTS_MAX as u128);
    }
}

#[test]
fn unregistering_ends_the_reservation_of_its_holder() {
    for kind in TYPES {
        let mut state = three();
        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        assert_eq!(state.reg(2, rrega::UNREGISTER, 20, 0), Ok(Effects::default()));
        assert!(state.held.is_some());
        let effects = state.reg(1, rrega::UNREGISTER, 10, 0).unwrap();
        let told = match kind {
            WriteExclusiveRegistrantsOnly | ExclusiveAccessRegistrantsOnly => {
                vec![notice(3, ReservationReleased)]
            }
            _ => vec![],
        };
        assert_eq!(effects.notices, told, "{kind:?}");
        assert_eq!(state.held.is_some(), kind.all_registrants());
        state.reg(3, rrega::UNREGISTER, 30, 0).unwrap();
        assert!(state.held.is_none());
    }
}

#[test]
fn acquiring() {
    for kind in TYPES {
        let mut state = three();
        let generation = state.generation;
        assert_eq!(state.acq(9, racqa::ACQUIRE, kind, 0), Err(CONFLICT), "a stranger");
        let wrong = AcquireData { crkey: 5.into(), prkey: 0.into() };
        let control = AcquireControl(0).with_rtype(kind.bits());
        assert_eq!(state.acquire(host(1), control, &wrong), Err(CONFLICT));
        for control in [
            control.with_iekey(true),
            control.with_racqa(3),
            AcquireControl(0),
            AcquireControl(0).with_rtype(7),
        ] {
            assert_eq!(state.acquire(host(1), control, &wrong), Err(INVALID));
        }
        assert_eq!(state.held, None);
        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        assert_eq!(state.acq(1, racqa::ACQUIRE, kind, 0), Ok(Effects::default()), "once more");
        for other in TYPES.into_iter().filter(|&other| other != kind) {
            assert_eq!(state.acq(1, racqa::ACQUIRE, other, 0), Err(CONFLICT), "another type");
        }
        let second = state.acq(2, racqa::ACQUIRE, kind, 0);
        assert_eq!(second.is_ok(), kind.all_registrants(), "{kind:?}: whoever is a holder may");
        assert_eq!(state.generation, generation);
    }
}

#[test]
fn releasing_and_clearing() {
    for kind in TYPES {
        let mut state = three();
        assert_eq!(state.rel(1, rrela::RELEASE, kind.bits()), Ok(Effects::default()), "none held");
        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        assert_eq!(state.rel(9, rrela::RELEASE, kind.bits()), Err(CONFLICT), "a stranger");
        assert_eq!(state.rel(1, 2, kind.bits()), Err(INVALID));
        let other = TYPES.into_iter().find(|&other| other != kind).unwrap();
        assert_eq!(state.rel(1, rrela::RELEASE, other.bits()), Err(INVALID));
        let iekey = ReleaseControl(0).with_rtype(kind.bits()).with_iekey(true);
        assert_eq!(state.release(host(1), iekey, &ReleaseData::default()), Err(INVALID));
        if !kind.all_registrants() {
            let none = state.rel(2, rrela::RELEASE, kind.bits());
            assert_eq!(none, Ok(Effects::default()), "a registrant that does not hold it");
        }
        assert!(state.held.is_some());
        let effects = state.rel(1, rrela::RELEASE, kind.bits()).unwrap();
        let told = [notice(2, ReservationReleased), notice(3, ReservationReleased)];
        let told: &[_] = if kind.registrants() { &told } else { &[] };
        assert_eq!((effects.notices.as_slice(), state.held), (told, None), "{kind:?}");

        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        let generation = state.generation;
        let effects = state.rel(2, rrela::CLEAR, 0).unwrap();
        let told = [notice(1, ReservationPreempted), notice(3, ReservationPreempted)];
        assert_eq!(effects.notices, told);
        assert_eq!((state.held, state.ids(), state.generation), (None, vec![], generation + 1));
    }
}

#[test]
fn preempting_without_a_reservation_unregisters() {
    let mut state = three();
    assert_eq!(state.acq(1, racqa::PREEMPT, WriteExclusive, 0), Err(INVALID));
    assert_eq!(state.acq(1, racqa::PREEMPT, WriteExclusive, 77), Err(CONFLICT), "nobody's key");
    let effects = state.acq(1, racqa::PREEMPT, WriteExclusive, 20).unwrap();
    assert_eq!(effects.notices, [notice(2, RegistrationPreempted)]);
    assert_eq!((effects.abort, state.held, state.ids()), (vec![], None, vec![1, 3]));
}

#[test]
fn preempting_the_holder_takes_the_reservation() {
    for (kind, new) in TYPES.into_iter().flat_map(|kind| TYPES.map(|new| (kind, new))) {
        if kind.all_registrants() {
            continue;
        }
        let mut state = three();
        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        assert_eq!(state.acq(2, racqa::PREEMPT, new, 0), Err(INVALID));
        let generation = state.generation;
        let effects = state.acq(2, racqa::PREEMPT_AND_ABORT, new, 10).unwrap();
        let mut told = vec![notice(1, RegistrationPreempted)];
        if kind != new {
            told.push(notice(3, ReservationReleased));
        }
        assert_eq!((effects.notices, effects.abort), (told, vec![host(1)]), "{kind:?} {new:?}");
        assert_eq!((state.held, state.ids()), (Some((new, host(2))), vec![2, 3]));
        assert_eq!(state.generation, generation + 1);
        // Another key than the holder's: registrations only.
        let effects = state.acq(2, racqa::PREEMPT, kind, 30).unwrap();
        if !new.all_registrants() {
            assert_eq!(effects.notices, [notice(3, RegistrationPreempted)]);
            assert_eq!((state.held, state.ids()), (Some((new, host(2))), vec![2]));
        }
        // The holder preempts itself: a new type in one step.
        let mut state = three();
        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        state.acq(1, racqa::PREEMPT, new, 10).unwrap();
        assert_eq!((state.held, state.ids()), (Some((new, host(1))), vec![1, 2, 3]));
    }
}

#[test]
fn preempting_all_registrants() {
    for kind in [WriteExclusiveAllRegistrants, ExclusiveAccessAllRegistrants] {
        let mut state = three();
        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        assert_eq!(state.acq(2, racqa::PREEMPT, WriteExclusive, 77), Err(CONFLICT));
        let effects = state.acq(2, racqa::PREEMPT, WriteExclusive, 10).unwrap();
        assert_eq!(effects.notices, [notice(1, RegistrationPreempted)]);
        assert_eq!(state.held.map(|(kind, _)| kind), Some(kind), "a key ends registrations only");
        let effects = state.acq(2, racqa::PREEMPT, WriteExclusive, 0).unwrap();
        assert_eq!(effects.notices, [notice(3, RegistrationPreempted)]);
        assert_eq!((state.held, state.ids()), (Some((WriteExclusive, host(2))), vec![2]));
        // The last one ends its own registration.
        let mut state = three();
        state.acq(1, racqa::ACQUIRE, kind, 0).unwrap();
        state.acq(1, racqa::PREEMPT, kind, 20).unwrap();
        state.acq(1, racqa::PREEMPT, kind, 30).unwrap();
        state.acq(1, racqa::PREEMPT, kind, 10).unwrap();
        assert_eq!((state.held, state.ids()), (None, vec![]));
    }
}

#[test]
fn reports() {
    let mut state = three();
    state.acq(2, racqa::ACQUIRE, ExclusiveAccess, 0).unwrap();
    let bytes = state.report();
    let report = ReservationReport::read(&bytes, true).unwrap();
    let status = report.status;
    assert_eq!((status.generation.get(), status.rtype, status.regctl.get()), (3, 2, 3));
    assert_eq!((status.ptpls, bytes.len()), (0, 64 * 4));
    let Registrants::Extended(list) = report.registrants else { panic!("the extended form") };
    let holders: Vec<_> = list.iter().map(|one| one.rcsts).collect();
    assert_eq!(holders, [0, 1, 0]);
    assert_eq!((list[2].rkey.get(), list[2].hostid, list[2].cntlid.get()), (30, [3; 16], 0xffff));
    state.rel(2, rrela::RELEASE, 2).unwrap();
    state.acq(2, racqa::ACQUIRE, WriteExclusiveAllRegistrants, 0).unwrap();
    let bytes = state.report();
    let report = ReservationReport::read(&bytes, true).unwrap();
    let Registrants::Extended(list) = report.registrants else { panic!("the extended form") };
    assert!(list.iter().all(|one| one.rcsts == 1), "every registrant is a holder");
}

proptest! {
    /// Whatever commands come: the holder is registered, keys are not zero, hosts are there once,
    /// and a command that fails changes nothing.
    #[test]
    fn invariants(commands in prop::collection::vec((0..3u8, 1..5u8, any::<u32>(), 0..5u64, 0..5u64), 0..60)) {
        let mut state = ReservationState::default();
        for (command, id, bits, one, two) in commands {
            let before = state.clone();
            let done = match command {
                0 => {
                    let data = RegisterData { crkey: one.into(), nrkey: two.into() };
                    state.register(host(id), RegisterControl(bits), &data, bits & 1 == 0)
                }
                1 => {
                    let data = AcquireData { crkey: one.into(), prkey: two.into() };
                    let control = AcquireControl(bits & 0xb | (bits >> 8 & 7) << 8);
                    state.acquire(host(id), control, &data)
                }
                _ => {
                    let control = ReleaseControl(bits & 0x9 | (bits >> 8 & 7) << 8);
                    state.release(host(id), control, &ReleaseData { crkey: one.into() })
                }
            };
            if done.is_err() {
                prop_assert_eq!(&state, &before);
            }
            let mut ids = state.ids();
            ids.dedup();
            prop_assert_eq!(ids.len(), state.registrants.len());
            prop_assert!(state.registrants.iter().all(|one| one.key != 0));
            if let Some((kind, holder)) = state.held {
                let registered = state.registrants.iter().any(|one| one.host == holder);
                prop_assert!(registered || kind.all_registrants() && !ids.is_empty());
            }
            for notice in done.map(|effects| effects.notices).unwrap_or_default() {
                prop_assert!(notice.host != host(id), "nobody is told of what it did itself");
            }
        }
    }
}

#[test]
fn what_persists_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ptpl.json");
    let device = uuid::Uuid::from_u128(5);
    let load = || persist::load(&path, device);
    assert_eq!(load().unwrap(), ReservationState::default(), "no file yet");
    for kind in TYPES {
        let mut state = three();
        state.acq(2, racqa::ACQUIRE, kind, 0).unwrap();
        state.persists = true;
        persist::store(&path, &state, device).unwrap();
        state.generation = 0;
        assert_eq!(load().unwrap(), state);
        state.persists = false;
        persist::store(&path, &state, device).unwrap();
        assert_eq!(load().unwrap(), ReservationState::default());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ptpl.json");
    let device = uuid::Uuid::from_u128(5);
    let mut state = three();
    state.acq(2, racqa::ACQUIRE, WriteExclusive, 0).unwrap();
    state.persists = true;
    persist::store(&path, &state, device).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let error = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let words = persist::load(&path, device).unwrap_err().to_string();
        assert!(words.contains("ptpl.json"), "{words}");
        words
    };
    let host2 = uuid::Uuid::from_bytes([2; 16]).to_string();
    let host9 = uuid::Uuid::from_bytes([9; 16]).to_string();
    let changes = [
        ("\"ptpl\": true", "\"ptpl\": 1", "ptpl has to be a boolean"),
        ("\"rtype\": 1", "\"rtype\": 7", "rtype has to be"),
        ("\"rtype\": 1", "\"rtype\": 257", "rtype has to be"),
        ("\"rkey\": 20", "\"rkey\": 0", "rkey has to be"),
        ("\"rkey\": 20", "\"rkey\": -1", "rkey has to be"),
        ("\"registrants\": [", "\"registrants\": [1,", "rkey has to be"),
    ];
    for (from, to, words) in changes {
        assert!(good.contains(from), "{from} in {good}");
        assert!(error(&good.replace(from, to)).contains(words));
    }
    let holder = format!("\"holder_uuid\": \"{host2}\"");
    let moved = good.replace(&holder, &format!("\"holder_uuid\": \"{host9}\""));
    assert!(error(&moved).contains("holder_uuid has to be one of the registrants"));
    let host3 = uuid::Uuid::from_bytes([3; 16]).to_string();
    assert!(error(&good.replace(&host3, &host2)).contains("once"));
    assert!(error("{").contains("no JSON"));
    assert!(error("[]").contains("ptpl"));
    std::fs::write(&path, &good).unwrap();
    let other = persist::load(&path, uuid::Uuid::from_u128(6)).unwrap_err();
    assert!(matches!(other, PersistError::Device { .. }), "{other}");
    std::fs::write(&path, " \n").unwrap();
    assert_eq!(persist::load(&path, device).unwrap(), ReservationState::default());
    let missing = folder.path().join("no/such/file");
    assert!(persist::store(&missing, &state, device).is_err());
}

/// Commands as a host sends them.
impl Host<'_> {
    fn register(&self, control: RegisterControl, old: u64, new: u64) -> NvmeStatus {
        let mut sqe = Sqe::new(nvm::RESERVATION_REGISTER, 1);
        sqe.cdw10.set(control.0);
        let data = RegisterData { crkey: old.into(), nrkey: new.into() };
        self.status(sqe, data.as_bytes())
    }

    fn acquire_sqe(action: u8, kind: ReservationType) -> Sqe {
        let mut sqe = Sqe::new(nvm::RESERVATION_ACQUIRE, 1);
        sqe.cdw10.set(AcquireControl(0).with_racqa(action).with_rtype(kind.bits()).0);
        sqe
    }

    fn acquire(&self, action: u8, kind: ReservationType, key: u64, preempted: u64) -> NvmeStatus {
        let data = AcquireData { crkey: key.into(), prkey: preempted.into() };
        self.status(Self::acquire_sqe(action, kind), data.as_bytes())
    }

    fn release(&self, action: u8, kind: ReservationType, key: u64) -> NvmeStatus {
        let mut sqe = Sqe::new(nvm::RESERVATION_RELEASE, 1);
        sqe.cdw10.set(ReleaseControl(0).with_rrela(action).with_rtype(kind.bits()).0);
        self.status(sqe, ReleaseData { crkey: key.into() }.as_bytes())
    }
}

fn read(slba: u64) -> Sqe {
    Sqe::block(nvm::READ, 1, slba, 1)
}

fn write(slba: u64) -> Sqe {
    Sqe::block(nvm::WRITE, 1, slba, 1)
}

#[test]
fn hosts_meet_each_others_reservations() {
    let rig = Rig::new();
    let (bdev, control) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, OpenMode::ReadWrite);
    let (one, two) = (rig.host_of(1, 16), rig.host_of(2, 16));
    let plain = RegisterControl(0);
    assert_eq!(one.acquire(racqa::ACQUIRE, WriteExclusive, 10, 0), CONFLICT);
    assert_eq!([one.register(plain, 0, 10), two.register(plain, 0, 20)], [OK, OK]);
    assert_eq!(one.acquire(racqa::ACQUIRE, WriteExclusive, 10, 0), OK);
    let _ = control.seen();
    assert_eq!(two.status(write(0), &[0; 512]), CONFLICT);
    assert_eq!(two.status(Sqe::new(nvm::FLUSH, NSID_ALL), &[]), CONFLICT);
    assert_eq!(two.status(Sqe::block(nvm::WRITE_ZEROES, 1, 0, 1), &[]), CONFLICT);
    // Half of a fused pair may, the other may not: neither does.
    let mut compare = Sqe::block(nvm::COMPARE, 1, 0, 1);
    compare.flags |= 1;
    let mut second = write(0);
    second.flags |= 2;
    let (compare, second) = (two.send(compare, &[0; 512]), two.send(second, &[1; 512]));
    assert_eq!([two.wait(compare).status(), two.wait(second).status()], [CONFLICT; 2]);
    assert!(control.seen().is_empty());
    assert_eq!([two.status(read(0), &[]), one.status(write(0), &[0; 512])], [OK; 2]);
    // A new namespace view, as on a core that opens it later, knows of the reservation.
    let third = rig.host_of(3, 16);
    assert_eq!(third.status(write(0), &[0; 512]), CONFLICT);
    assert_eq!(two.acquire(racqa::PREEMPT, ExclusiveAccess, 20, 10), OK);
    assert_eq!([one.status(read(0), &[]), two.status(write(0), &[0; 512])], [CONFLICT, OK]);
    let notices: Vec<_> = std::iter::from_fn(|| rig.notices.pop()).collect();
    assert_eq!(notices.len(), 1);
    assert_eq!((notices[0].host, notices[0].kind), (host(1), RegistrationPreempted));
    assert_eq!((notices[0].nsid, notices[0].subsystem), (1, crate::nvmf::SubsystemId(7)));
    assert_eq!(two.release(rrela::RELEASE, ExclusiveAccess, 20), OK);
    assert_eq!([one.status(write(0), &[0; 512]), third.status(write(0), &[0; 512])], [OK; 2]);
}

#[test]
fn reservation_commands_are_checked() {
    let rig = Rig::new();
    let (bdev, _) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, OpenMode::ReadWrite);
    let (one, nobody) = (rig.host_of(1, 16), rig.host_of(0, 16));
    assert_eq!(nobody.register(RegisterControl(0), 0, 1), INVALID, "who is it?");
    let short = NvmeStatus::DATA_SGL_LENGTH_INVALID;
    assert_eq!(one.status(Sqe::new(nvm::RESERVATION_REGISTER, 1), &[0; 15]), short);
    assert_eq!(one.status(Sqe::new(nvm::RESERVATION_ACQUIRE, 1), &[0; 8]), short);
    assert_eq!(one.status(Sqe::new(nvm::RESERVATION_RELEASE, 1), &[]), short);
    let missing = Sqe::new(nvm::RESERVATION_REGISTER, 2);
    assert_eq!(one.status(missing, &[0; 16]), NvmeStatus::INVALID_NAMESPACE);
    // Without a file nothing persists.
    for change in [1, cptpl::SET] {
        let control = RegisterControl(0).with_cptpl(change);
        assert_eq!(one.register(control, 0, 10), INVALID);
    }
    assert_eq!(one.register(RegisterControl(0).with_cptpl(cptpl::CLEAR), 0, 10), OK);
    let report = |bytes, extended| one.run(Sqe::reservation_report(1, bytes, extended), &[]);
    assert_eq!(report(4096, false).status(), NvmeStatus::HOST_ID_INCONSISTENT);
    assert_eq!(report(8192, true).status(), short, "more than the SGL has room for");
    let answer = report(128, true);
    let found = ReservationReport::read(&answer.data, true).unwrap();
    assert_eq!((answer.data.len(), found.status.regctl.get()), (128, 1));
    assert_eq!(report(24, true).data.len(), 24, "cut where the host says");
}

#[test]
fn a_preempt_and_abort_leaves_nothing_in_flight() {
    let rig = Rig::with_memory(2 << 20);
    let (bdev, control) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, OpenMode::ReadWrite);
    let (one, two) = (rig.host_of(1, 16), rig.host_of(2, 16));
    assert_eq!(one.register(RegisterControl(0), 0, 10), OK);
    assert_eq!(two.register(RegisterControl(0), 0, 20), OK);
    control.hold.store(true, SeqCst);
    let begun = one.send(write(3), &[1; 512]);
    let data = AcquireData { crkey: 20.into(), prkey: 10.into() };
    let preempt = Host::acquire_sqe(racqa::PREEMPT_AND_ABORT, WriteExclusive);
    let mut all = Vec::new();
    let command = rig.reactor.memory().alloc(4096).unwrap();
    while let Ok(buf) = rig.reactor.memory().alloc(4096) {
        all.push(buf);
    }
    let waiting = one.send(read(0), &[]);
    drop(command);
    let preempt = two.send(preempt, data.as_bytes());
    // The buffer that became free went to the command, so the read has none still.
    two.turns(1);
    let aborted = one.wait(waiting).status();
    assert_eq!(aborted, NvmeStatus::ABORTED_PREEMPT);
    two.turns(50);
    assert!(two.answer(preempt).is_none(), "a write is still in flight");
    control.hold.store(false, SeqCst);
    assert_eq!(two.wait(preempt).status(), OK);
    assert_eq!(one.answer(begun).map(|answer| answer.status()), Some(OK), "and ended before");
}

#[test]
fn a_preempt_and_abort_waits_for_a_connection_that_is_closed() {
    let rig = Rig::new();
    let (bdev, control) = device::create(rig.reactor.memory(), 64, ALL);
    rig.add(1, &bdev, OpenMode::ReadWrite);
    let (one, two) = (rig.host_of(1, 16), rig.host_of(2, 16));
    assert_eq!(one.register(RegisterControl(0), 0, 10), OK);
    assert_eq!(two.register(RegisterControl(0), 0, 20), OK);
    control.hold.store(true, SeqCst);
    one.send(write(3), &[1; 512]);
    one.close();
    let data = AcquireData { crkey: 20.into(), prkey: 10.into() };
    let preempt = Host::acquire_sqe(racqa::PREEMPT_AND_ABORT, WriteExclusive);
    let preempt = two.send(preempt, data.as_bytes());
    two.turns(50);
    assert!(two.answer(preempt).is_none(), "the write of the host that is gone may still happen");
    control.hold.store(false, SeqCst);
    assert_eq!(two.wait(preempt).status(), OK);
}

#[test]
fn reservations_persist_when_a_host_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ptpl.json");
    for round in 0..2 {
        let rig = Rig::new();
        let (bdev, _) = device::create(rig.reactor.memory(), 64, ALL);
        rig.add_with_file(1, &bdev, OpenMode::ReadWrite, Some(path.clone()));
        let (one, two) = (rig.host_of(1, 16), rig.host_of(2, 16));
        if round == 0 {
            assert_eq!(one.register(RegisterControl(0), 0, 10), OK);
            assert!(!path.exists(), "nothing persists yet");
            let control = RegisterControl(0).with_rrega(rrega::REPLACE).with_cptpl(cptpl::SET);
            assert_eq!(one.register(control, 10, 11), OK);
            assert_eq!(one.acquire(racqa::ACQUIRE, ExclusiveAccess, 11, 0), OK);
        }
        assert_eq!([one.status(read(0), &[]), two.status(read(0), &[])], [OK, CONFLICT], "{round}");
        if round == 1 {
            // A file that cannot be written: the command fails and changes nothing.
            std::fs::create_dir(folder.path().join("ptpl.json.new")).unwrap();
            let failed = one.release(rrela::RELEASE, ExclusiveAccess, 11);
            assert_eq!(failed, NvmeStatus::INTERNAL_ERROR);
            assert_eq!(two.status(read(0), &[]), CONFLICT);
            std::fs::remove_dir(folder.path().join("ptpl.json.new")).unwrap();
            let control = RegisterControl(0).with_rrega(rrega::REPLACE).with_cptpl(cptpl::CLEAR);
            assert_eq!(one.register(control, 11, 12), OK);
            let device = bdev.info().uuid;
            assert_eq!(persist::load(&path, device).unwrap(), ReservationState::default());
        }
    }
}
