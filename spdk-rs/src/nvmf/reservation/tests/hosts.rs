//! Commands of hosts on their connections.

use super::*;

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
