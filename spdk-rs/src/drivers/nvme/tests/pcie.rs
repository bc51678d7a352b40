//! Controllers on this machine: the driver over a controller that is a program.
#![allow(clippy::disallowed_types, reason = "a listener may be called on any thread")]

use std::sync::Mutex;

use spdk_rs_sys::pci::PciFilter;

use super::*;
use crate::bdev::{DeviceEvent, EventListener};
use crate::nvme::pcie::model::{self, Fault, Model, Seen, Shape};
use crate::nvme::spec::identify::sgls;
use crate::nvme::spec::opcode::{admin, nvm};
use crate::reactor::PollerHandle;

pub(super) struct Drive {
    pub(super) model: Arc<Model>,
    pub(super) host: Host,
    _poller: PollerHandle,
}

pub(super) fn trid_of(model: &Model) -> TransportId {
    TransportId::pcie(model.address)
}

/// Commands that take longer are aborted, then the controller is reset.
pub(super) fn impatient() -> AttachOptions {
    let mut options = options();
    options.multipath = MultipathMode::Disable;
    options.controller.timeout_us = 100_000;
    options.controller.action_on_timeout = crate::nvme::controller::TimeoutAction::Abort;
    options
}

impl Drive {
    pub(super) fn new(shape: Shape) -> Self {
        let host = Host::new();
        let (model, poller) = Model::start(&host.memory, &host.reactor, shape);
        Self { model, host, _poller: poller }
    }

    pub(super) fn attach(&self, options: AttachOptions) -> IoHandle {
        let names = self.host.try_attach("p", trid_of(&self.model), options).unwrap();
        assert_eq!(names, ["pn1"]);
        self.host.open("pn1")
    }

    pub(super) fn refused(&self, options: AttachOptions) -> String {
        self.host.try_attach("p", trid_of(&self.model), options).unwrap_err().to_string()
    }

    /// Ends all, and what the controller has seen.
    pub(super) fn finish(self) -> Seen {
        let Self { model, host, _poller: poller } = self;
        host.detach_all();
        let seen = model.seen();
        drop(poller);
        host.finish();
        assert_eq!(seen.strayed, 0, "an address that was not mapped");
        seen
    }
}

fn pattern(host: &Host, bytes: usize, seed: usize) -> DmaBuf {
    let mut buf = host.memory.alloc(bytes).unwrap();
    for (index, byte) in buf.as_mut_slice().iter_mut().enumerate() {
        *byte = u8::try_from((index / 3 + index * seed) % 251).unwrap();
    }
    buf
}

#[test]
fn data_of_every_length_go_there_and_back() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    assert_eq!(handle.bdev().info().limits.blocks_max, 256, "MDTS 5 is 128 KiB");
    for (at, blocks) in [(0, 1), (8, 8), (16, 9), (40, 16), (100, 17), (200, 256), (600, 1000)] {
        let wrote = pattern(host, blocks * model::BLOCK, blocks);
        let expected = wrote.as_slice().to_vec();
        let status = host.reactor.block_on(handle.write(wrote, at, blocks as u64)).status;
        assert_eq!(status, NvmeStatus::SUCCESS, "{blocks} at {at}");
        let read = handle.read(host.buf(blocks, 0xee), at, blocks as u64);
        let read = host.reactor.block_on(read);
        assert_eq!(read.status, NvmeStatus::SUCCESS);
        assert!(read.buf.into_one().unwrap().as_slice() == expected, "{blocks} at {at}");
    }
    drop(handle);
    assert_eq!(drive.finish().sgl, 0);
}

#[test]
fn pieces_go_by_prp_by_sgl_or_by_copy() {
    for (field, expected) in [(0, 0), (sgls::SUPPORTED, 2), (sgls::SUPPORTED_DWORD, 2)] {
        let drive = Drive::new(Shape { sgls: field, ..Shape::default() });
        let (host, handle) = (&drive.host, drive.attach(options()));
        // Whole pages need no SGL; odd pieces do.
        for (pieces, blocks) in [(4, 8), (10, 3)] {
            let bufs = (0..pieces).map(|i| host.buf(blocks, i)).collect();
            let all = u64::from(pieces) * blocks as u64;
            let status = host.reactor.block_on(handle.write(SgList::new(bufs), 0, all)).status;
            assert_eq!(status, NvmeStatus::SUCCESS);
            for i in 0..pieces {
                host.expect(&handle, u64::from(i) * blocks as u64, blocks, i);
            }
            let bufs = (0..pieces).map(|_| host.buf(blocks, 99)).collect();
            let done = host.reactor.block_on(handle.read(SgList::new(bufs), 0, all));
            let list = done.ok().unwrap().into_list().unwrap();
            for (value, buf) in (0..).zip(list.bufs()) {
                assert!(buf.as_slice().iter().all(|&byte| byte == value));
            }
        }
        drop(handle);
        assert_eq!(drive.finish().sgl, expected);
    }
}

#[test]
fn every_kind_of_io_reaches_the_drive() {
    // A flush is sent whatever the controller says of its cache.
    for cache in [true, false] {
        let drive = Drive::new(Shape { cache, ..Shape::default() });
        let (host, handle) = (&drive.host, drive.attach(options()));
        let status = |future: crate::bdev::IoFuture| host.reactor.block_on(future).status;
        assert_eq!(host.write(&handle, 0, 4, 7), NvmeStatus::SUCCESS);
        assert_eq!(status(handle.write_fua(host.buf(4, 7), 0, 4)), NvmeStatus::SUCCESS);
        assert_eq!(status(handle.flush()), NvmeStatus::SUCCESS);
        assert_eq!(status(handle.compare(host.buf(4, 7), 0, 4)), NvmeStatus::SUCCESS);
        assert_eq!(status(handle.compare(host.buf(4, 8), 0, 4)), NvmeStatus::COMPARE_FAILURE);
        assert_eq!(status(handle.write_zeroes(0, 2)), NvmeStatus::SUCCESS);
        host.expect(&handle, 0, 2, 0);
        // The ranges of an unmap are not in memory that the controller reaches.
        assert_eq!(status(handle.unmap(2, 1)), NvmeStatus::SUCCESS);
        host.expect(&handle, 2, 1, 0);
        host.expect(&handle, 3, 1, 7);
        let swapped = handle.compare_and_write(host.buf(1, 7), host.buf(1, 9), 3, 1);
        assert_eq!(status(swapped), NvmeStatus::SUCCESS);
        host.expect(&handle, 3, 1, 9);
        let count = |opcode| drive.model.count(opcode);
        assert_eq!((handle.bdev().info().write_cache, count(nvm::FLUSH)), (cache, 1));
        assert_eq!((count(nvm::DATASET_MANAGEMENT), count(nvm::COMPARE)), (1, 3));
        drop(handle);
        assert_eq!(drive.finish().fua, 1);
    }
}

#[test]
fn a_turn_rings_one_doorbell_and_rings_wrap() {
    let drive = Drive::new(Shape::default());
    let mut options = options();
    options.controller.io_queue_size = 8;
    let (host, handle) = (&drive.host, drive.attach(options));
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    let before = drive.model.seen().doorbells;
    let writes: Vec<_> = (0..70).map(|i| handle.write(host.buf(1, i), i.into(), 1)).collect();
    let done = host.reactor.block_on(futures::future::join_all(writes));
    assert!(done.iter().all(|done| done.status.is_success()));
    let rung = drive.model.seen().doorbells - before;
    assert!(rung <= 20, "{rung} doorbells for 70 commands, 7 at a time");
    drop(done);
    (0..70).for_each(|i| host.expect(&handle, i.into(), 1, i));
    drop(handle);
    let seen = drive.finish();
    assert_eq!((seen.shutdowns, seen.left, seen.enabled), (1, 0, 1), "queues go, then it is told");
}

#[test]
fn io_survives_what_a_broken_controller_does() {
    let faults = [
        Fault::Lose,
        Fault::Hold,
        Fault::BogusCid,
        Fault::BogusHead,
        Fault::BogusQueue,
        Fault::Twice,
        Fault::Garbage,
    ];
    for fault in faults {
        let drive = Drive::new(Shape::default());
        let (host, handle) = (&drive.host, drive.attach(impatient()));
        assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
        drive.model.inject(fault);
        let writes: Vec<_> = (0..20).map(|i| handle.write(host.buf(1, i), i.into(), 1)).collect();
        let done = host.reactor.block_on(futures::future::join_all(writes));
        let bad: Vec<_> = done.iter().filter(|done| !done.status.is_success()).collect();
        assert!(bad.is_empty(), "{fault:?}: {bad:?}");
        assert!(drive.model.is_through());
        drop(done);
        (0..20).for_each(|i| host.expect(&handle, i.into(), 1, i));
        let reset = !matches!(fault, Fault::Lose | Fault::Hold);
        if reset {
            host.until("a reset", || drive.model.seen().enabled >= 2);
            host.until("a connection", || host.state() == ControllerState::Enabled);
        } else {
            assert!(drive.model.seen().aborts >= 1, "{fault:?}");
        }
        drop(handle);
        drive.finish();
    }
}

/// The steps of time-outs that were told since the last look.
fn steps(heard: &Mutex<Vec<DeviceEvent>>) -> Vec<String> {
    let step = |event: DeviceEvent| match event {
        DeviceEvent::CommandTimeout { qid: 1, action, .. } => Some(format!("late, {action}")),
        DeviceEvent::CommandAbort { qid: 1, outcome, .. } => Some(outcome.to_owned()),
        DeviceEvent::ControllerReset { reason } => Some(format!("reset: {reason}")),
        DeviceEvent::Unreachable => Some("given up".to_owned()),
        _ => None,
    };
    heard.lock().unwrap().drain(..).filter_map(step).collect()
}

#[test]
fn each_step_of_a_time_out_is_told() {
    let drive = Drive::new(Shape::default());
    let mut options = impatient();
    options.controller.ctrlr_loss_timeout_sec = 0;
    options.controller.reconnect_delay_sec = 0;
    let (host, handle) = (&drive.host, drive.attach(options));
    let (desc, heard) = events_of(host, "pn1");
    drive.model.inject(Fault::Hold);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    assert_eq!(steps(&heard), ["late, abort", "aborted"]);
    // The abort is not answered either.
    drive.model.inject(Fault::Hold);
    drive.model.inject(Fault::Deaf(admin::ABORT));
    assert_eq!(host.write(&handle, 0, 1, 2), NvmeStatus::SUCCESS);
    let told = steps(&heard);
    assert_eq!(told[..2], ["late, abort", "reset: a command took too long"], "{told:?}");
    assert!(told.contains(&"failed".to_owned()), "{told:?}");
    // Nor does it come back.
    drive.model.inject(Fault::Hold);
    drive.model.inject(Fault::Deaf(admin::ABORT));
    drive.model.inject(Fault::NeverReady);
    assert_eq!(host.write(&handle, 0, 1, 3), NvmeStatus::INTERNAL_PATH_ERROR);
    let told = steps(&heard);
    assert_eq!(told[..2], ["late, abort", "reset: a command took too long"], "{told:?}");
    assert!(told.contains(&"given up".to_owned()), "{told:?}");
    drop((desc, handle));
    drive.finish();
}

#[test]
fn a_controller_that_fails_is_reset_and_io_goes_on() {
    for fault in [Fault::Fatal, Fault::Gone] {
        let drive = Drive::new(Shape::default());
        let (host, handle) = (&drive.host, drive.attach(options()));
        assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
        drive.model.inject(fault);
        let write = handle.write(host.buf(1, 5), 9, 1);
        host.until("the failure", || host.state() != ControllerState::Enabled);
        drive.model.repair();
        assert_eq!(host.reactor.block_on(write).status, NvmeStatus::SUCCESS, "{fault:?}");
        host.expect(&handle, 9, 1, 5);
        drop(handle);
        drive.finish();
    }
}

#[test]
fn a_controller_that_stays_gone_fails_its_io() {
    let drive = Drive::new(Shape::default());
    let mut options = options();
    options.controller.ctrlr_loss_timeout_sec = 0;
    options.controller.reconnect_delay_sec = 0;
    let (host, handle) = (&drive.host, drive.attach(options));
    drive.model.inject(Fault::Gone);
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::INTERNAL_PATH_ERROR);
    assert_eq!(host.state(), ControllerState::Failed);
    assert!(host.trouble().contains("all ones"), "{}", host.trouble());
    drop(handle);
    drive.finish();
}

/// What has happened to a device.
pub(super) fn events_of(host: &Host, name: &str) -> (Arc<BdevDesc>, Arc<Mutex<Vec<DeviceEvent>>>) {
    let heard: Arc<Mutex<Vec<DeviceEvent>>> = Arc::default();
    let bdev = host.registry.find(name).unwrap();
    let own = Arc::clone(&heard);
    let listener: EventListener = Arc::new(move |_, event| own.lock().unwrap().push(event.clone()));
    (BdevDesc::open(&bdev, OpenMode::Read, "listener", Some(listener)).unwrap(), heard)
}

#[test]
fn resets_lose_nothing() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    for round in 0..3_u8 {
        if round == 2 {
            // One that cannot be disabled is stopped, and its function reset.
            drive.model.inject(Fault::StaysReady);
        }
        let writes: Vec<_> =
            (0..40).map(|i| handle.write(host.buf(1, i ^ round), i.into(), 1)).collect();
        let driver = Arc::clone(&host.driver);
        let reset = async move { driver.reset("p", None).await };
        let all = futures::future::join(futures::future::join_all(writes), reset);
        let (done, reset) = host.reactor.block_on(all);
        reset.unwrap();
        assert!(done.iter().all(|done| done.status.is_success()));
        drop(done);
        (0..40).for_each(|i| host.expect(&handle, i.into(), 1, i ^ round));
    }
    drop(handle);
    let seen = drive.finish();
    assert_eq!((seen.enabled, seen.resets), (4, 1));
}

#[test]
fn a_controller_that_does_not_start_is_refused_with_the_reason() {
    let cases = [
        (Fault::NeverReady, "did not become ready within 500ms"),
        (Fault::FatalAtStart, "fatal error (CSTS.CFS)"),
        (
            Fault::Fails(admin::IDENTIFY, NvmeStatus::INTERNAL_ERROR),
            "refused 'identify controller'",
        ),
    ];
    for (fault, words) in cases {
        let drive = Drive::new(Shape::default());
        drive.model.inject(fault);
        let refused = drive.refused(options());
        assert!(refused.contains(words), "{fault:?}: {refused}");
        // It is free for the next attempt, which finds it working.
        drop(drive.attach(options()));
        drive.finish();
    }
    let drive = Drive::new(Shape::default());
    let mut options = options();
    options.controller.fabrics_connect_timeout_us = 50_000;
    drive.model.inject(Fault::Deaf(admin::IDENTIFY));
    let refused = drive.refused(options.clone());
    assert!(refused.contains("no answer to 'identify controller'"), "{refused}");
    drop(drive.attach(options));
    drive.finish();
}

#[test]
fn a_controller_has_one_user() {
    let drive = Drive::new(Shape::default());
    let handle = drive.attach(options());
    let again = drive.refused(options());
    assert!(again.contains("a PCIe controller is the only path of its name"), "{again}");
    drop(handle);
    drive.finish();
}

#[test]
fn a_controller_that_is_not_to_be_used_is_refused() {
    let drive = Drive::new(Shape::default());
    let filter = PciFilter { blocked: vec![drive.model.address], ..PciFilter::default() };
    assert!(drive.host.driver.set_pci_filter(filter));
    assert!(!drive.host.driver.set_pci_filter(PciFilter::default()), "the first one stays");
    let refused = drive.refused(options());
    assert!(refused.contains("is blocked (--pci-blocked)"), "{refused}");
    assert!(drive.host.driver.controllers(None).is_empty());
    assert_eq!(drive.finish().enabled, 0);
}

#[test]
fn an_i_o_queue_that_cannot_be_made_is_tried_again() {
    let drive = Drive::new(Shape::default());
    drive.model.inject(Fault::Fails(admin::CREATE_IO_SQ, NvmeStatus::INTERNAL_ERROR));
    let (host, handle) = (&drive.host, drive.attach(options()));
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    assert!(drive.model.is_through());
    drop(handle);
    assert_eq!(drive.finish().enabled, 1, "without a reset");
}

#[test]
fn reads_of_one_page_at_depth_32() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    for i in 0..32 {
        assert_eq!(host.write(&handle, u64::from(i) * 8, 8, i), NvmeStatus::SUCCESS);
    }
    for _ in 0..64 {
        let reads = (0..32_u8).map(|i| handle.read(host.buf(8, 0xff), u64::from(i) * 8, 8));
        let done = host.reactor.block_on(futures::future::join_all(reads.collect::<Vec<_>>()));
        for (i, done) in (0..).zip(done) {
            assert_eq!(done.status, NvmeStatus::SUCCESS);
            let found = done.buf.into_one().unwrap();
            assert_eq!((found.as_slice()[0], found.as_slice()[4095]), (i, i));
        }
    }
    drop(handle);
    assert_eq!(drive.finish().commands[&nvm::READ], 64 * 32);
}

#[test]
fn events_are_heard() {
    let drive = Drive::new(Shape::default());
    let (host, handle) = (&drive.host, drive.attach(options()));
    let admin_before = drive.model.seen().doorbells;
    drive.model.event(0x0004_0002);
    host.until("the new look at the namespaces", || {
        drive.model.seen().doorbells > admin_before + 3
    });
    assert_eq!(host.write(&handle, 0, 1, 1), NvmeStatus::SUCCESS);
    drop(handle);
    drive.finish();
}

/// Reads and writes, some of them alone and some many at a time.
pub(super) fn mixed_load(host: &Host, handle: &IoHandle) {
    for round in 0..40_u8 {
        assert_eq!(host.write(handle, 0, 1, round), NvmeStatus::SUCCESS);
        host.expect(handle, 0, 1, round);
        let writes = (0..50).map(|i| handle.write(host.buf(1, i ^ round), i.into(), 1));
        let writes = futures::future::join_all(writes.collect::<Vec<_>>());
        assert!(host.reactor.block_on(writes).iter().all(|done| done.status.is_success()));
        (0..50).for_each(|i| host.expect(handle, i.into(), 1, i ^ round));
        if round % 8 == 0 {
            // The controller stops looking.
            host.reactor.block_on(sleep(Duration::from_millis(2)));
        }
    }
}

#[test]
fn submission_queues_are_in_the_controllers_memory() {
    let wanted = |memory: usize, entries: u16| {
        let drive = Drive::new(Shape { memory, ..Shape::default() });
        let mut options = options();
        options.controller.cmb_sqs = true;
        options.controller.io_queue_size = entries;
        let (host, handle) = (&drive.host, drive.attach(options));
        mixed_load(host, &handle);
        let driver = Arc::clone(&host.driver);
        host.reactor.block_on(async move { driver.reset("p", None).await }).unwrap();
        mixed_load(host, &handle);
        drop(handle);
        drive.finish()
    };
    let seen = wanted(64 << 10, 5);
    let io: u32 = seen.commands.values().sum();
    assert_eq!(seen.from_own_memory, io, "every I/O command, and no command of the admin queue");
    // Too little memory for a queue: it is elsewhere.
    assert_eq!(wanted(4096, 128).from_own_memory, 0);
    let drive = Drive::new(Shape::default());
    let mut options = options();
    options.controller.cmb_sqs = true;
    let refused = drive.refused(options.clone());
    assert!(
        refused.contains("cmb_sqs cannot be done") && refused.contains("CAP.CMBS"),
        "{refused}"
    );
    options.controller.cmb_sqs = false;
    drop(drive.attach(options));
    drive.finish();
}

#[test]
fn without_sgls_pieces_are_copied() {
    let drive = Drive::new(Shape { sgls: sgls::SUPPORTED, ..Shape::default() });
    let mut options = options();
    options.controller.sgl = false;
    let (host, handle) = (&drive.host, drive.attach(options));
    let bufs = (0..10).map(|i| host.buf(3, i)).collect();
    let status = host.reactor.block_on(handle.write(SgList::new(bufs), 0, 30)).status;
    assert_eq!(status, NvmeStatus::SUCCESS);
    (0..10).for_each(|i| host.expect(&handle, u64::from(i) * 3, 3, i));
    drop(handle);
    assert_eq!(drive.finish().sgl, 0);
}
