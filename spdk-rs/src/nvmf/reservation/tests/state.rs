//! The state machine: register, acquire, release, preempt, report.

use super::*;

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
