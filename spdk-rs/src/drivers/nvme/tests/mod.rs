//! The driver against a target that does as it is told, rightly or wrongly.

mod copies;
mod count;
mod events;
mod faults;
mod forward;
mod inject;
mod leaving;
mod manage;
mod paths;
mod pcie;
mod shadows;
mod target;
mod wrong_data;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use spdk_rs_sys::cpu::CoreId;
use target::{BLOCK, BLOCKS, FakeTarget, Fault};
use uuid::Uuid;

use super::{
    AttachOptions, ControllerState, MultipathMode, MultipathPolicy, NvmeDriver, NvmeError,
};
use crate::NvmeStatus;
use crate::bdev::{BdevCore, BdevDesc, IoBuf, IoHandle, OpenMode, Registry, SgList};
use crate::env::{DmaBuf, Memory};
use crate::nvme::TransportId;
use crate::nvme::controller::ControllerOptions;
use crate::reactor::{LocalReactor, ReactorConfig, ReactorHandle, sleep};

/// The subsystem's name.
const SUBNQN: &str = "nqn.2024-01.io.io-engine:fake";

/// A reactor with a driver.
struct Host {
    reactor: LocalReactor,
    memory: Memory,
    free_before: usize,
    registry: Arc<Registry>,
    driver: Arc<NvmeDriver>,
}

fn options() -> AttachOptions {
    let controller = ControllerOptions {
        ctrlr_loss_timeout_sec: -1,
        reconnect_delay_sec: 1,
        ..ControllerOptions::new("nqn.2014-08.org.nvmexpress:uuid:1", Uuid::from_u128(1))
    };
    let (multipath, policy) = (MultipathMode::Multipath, MultipathPolicy::ActivePassive);
    AttachOptions { controller, multipath, policy }
}

fn digests() -> AttachOptions {
    let mut options = options();
    (options.controller.hdgst, options.controller.ddgst) = (true, true);
    options
}

fn trid(target: &FakeTarget) -> TransportId {
    TransportId::tcp(target.address, SUBNQN).unwrap()
}

impl Host {
    fn new() -> Self {
        Self::with(Memory::ordinary(16 << 20).unwrap(), &[])
    }

    /// A driver on this reactor and others.
    fn with(memory: Memory, others: &[ReactorHandle]) -> Self {
        let free_before = memory.report().free_bytes;
        let reactor = LocalReactor::new(ReactorConfig::new(CoreId(0)), memory.clone()).unwrap();
        let registry = Registry::new();
        let reactors = [&[reactor.handle()], others].concat();
        let driver = NvmeDriver::new(&registry, &reactors);
        Self { reactor, memory, free_before, registry, driver }
    }

    fn try_attach(
        &self,
        name: &str,
        trid: TransportId,
        options: AttachOptions,
    ) -> Result<Vec<String>, NvmeError> {
        let (driver, name) = (Arc::clone(&self.driver), name.to_owned());
        self.reactor.block_on(async move { driver.attach(&name, &trid, &options).await })
    }

    fn attach(&self, target: &FakeTarget, options: AttachOptions) -> IoHandle {
        let names = self.try_attach("d", trid(target), options).unwrap();
        assert_eq!(names, ["dn1"]);
        self.open("dn1")
    }

    fn open(&self, name: &str) -> IoHandle {
        let bdev = self.registry.find(name).unwrap();
        let desc = BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None).unwrap();
        desc.io_handle().unwrap()
    }

    fn buf(&self, blocks: usize, value: u8) -> DmaBuf {
        let mut buf = self.memory.alloc(blocks * BLOCK).unwrap();
        buf.fill(value);
        buf
    }

    fn write(&self, handle: &IoHandle, at: u64, blocks: usize, value: u8) -> NvmeStatus {
        let future = handle.write(self.buf(blocks, value), at, blocks as u64);
        self.reactor.block_on(future).status
    }

    /// Reads blocks, which have to hold one value.
    fn expect(&self, handle: &IoHandle, at: u64, blocks: usize, value: u8) {
        let future = handle.read(self.buf(blocks, !value), at, blocks as u64);
        let done = self.reactor.block_on(future);
        assert_eq!(done.status, NvmeStatus::SUCCESS);
        let found = done.buf.into_one().unwrap();
        assert!(found.as_slice().iter().all(|&byte| byte == value), "at {at}");
    }

    /// Turns the reactor until something is so.
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        // The test runner ends a test that takes for ever; this says what it waited for.
        for _ in 0..3000 {
            if holds() {
                return;
            }
            self.reactor.block_on(sleep(Duration::from_millis(5)));
        }
        panic!("{what} did not come to be");
    }

    /// Reports an event once the host listens, which it does not at once after a connection or an
    /// event.
    fn hears(&self, target: &FakeTarget, event: u32) {
        self.until("a listener", || target.shared.is_listened_to());
        target.shared.event(event);
    }

    fn state(&self) -> ControllerState {
        self.driver.controllers(None)[0].paths[0].state
    }

    fn reconnects(&self) -> u64 {
        self.driver.controllers(None)[0].paths[0].reconnects
    }

    fn trouble(&self) -> String {
        self.driver.controllers(None)[0].paths[0].trouble.clone().unwrap_or_default()
    }

    fn detach_all(&self) {
        let driver = Arc::clone(&self.driver);
        self.reactor.block_on(async move {
            for info in driver.controllers(None) {
                driver.detach(&info.name, None).await.unwrap();
            }
        });
    }

    /// Detaches all and ends the reactor: slots, devices and buffers have to be back.
    fn finish(self) {
        self.detach_all();
        assert!(self.registry.all().is_empty(), "{:?}", self.registry.all());
        assert_eq!(BdevCore::of(&self.reactor).slots_in_use(), 0);
        let Self { reactor, memory, free_before, .. } = self;
        drop(reactor);
        assert_eq!(memory.report().free_bytes, free_before, "buffers are missing");
    }
}

#[test]
fn data_go_there_and_back() {
    for options in [options(), digests()] {
        let (target, host) = (FakeTarget::start(), Host::new());
        let handle = host.attach(&target, options);
        let bdev = handle.bdev().clone();
        assert_eq!((bdev.num_blocks(), bdev.info().block_len), (BLOCKS, 512));
        assert_eq!(bdev.info().uuid, Uuid::from_u128(1));
        assert_eq!(bdev.info().product_name, "NVMe disk");
        assert!(bdev.info().write_cache);
        assert_eq!(bdev.info().limits.blocks_max, 64, "MDTS 3 is 32 KiB");
        // Inside the capsule, asked for in parts, and more than one command.
        for (at, blocks, value) in [(0, 1, 1), (10, 8, 2), (100, 9, 3), (200, 64, 4), (300, 500, 5)]
        {
            assert_eq!(host.write(&handle, at, blocks, value), NvmeStatus::SUCCESS);
            host.expect(&handle, at, blocks, value);
        }
        // Pieces.
        let bufs = (0..20).map(|i| host.buf(3, i)).collect();
        let status = host.reactor.block_on(handle.write(SgList::new(bufs), 1000, 60)).status;
        assert_eq!(status, NvmeStatus::SUCCESS);
        for i in 0..20 {
            host.expect(&handle, 1000 + 3 * u64::from(i), 3, i);
        }
        let bufs = (0..20).map(|_| host.buf(3, 99)).collect();
        let done = host.reactor.block_on(handle.read(SgList::new(bufs), 1000, 60));
        let list = done.ok().unwrap().into_list().unwrap();
        for (value, buf) in (0..).zip(list.bufs()) {
            assert!(buf.as_slice().iter().all(|&byte| byte == value));
        }
        drop((handle, list));
        host.finish();
    }
}

#[test]
fn every_kind_of_io_reaches_the_target() {
    use crate::nvme::spec::opcode::nvm;
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    assert_eq!(host.write(&handle, 0, 4, 7), NvmeStatus::SUCCESS);
    let status = |future: crate::bdev::IoFuture| host.reactor.block_on(future).status;
    assert_eq!(status(handle.flush()), NvmeStatus::SUCCESS);
    assert_eq!(status(handle.compare(host.buf(4, 7), 0, 4)), NvmeStatus::SUCCESS);
    assert_eq!(status(handle.compare(host.buf(4, 8), 0, 4)), NvmeStatus::COMPARE_FAILURE);
    assert_eq!(status(handle.write_zeroes(0, 2)), NvmeStatus::SUCCESS);
    host.expect(&handle, 0, 2, 0);
    host.expect(&handle, 2, 2, 7);
    assert_eq!(status(handle.unmap(0, 2000)), NvmeStatus::SUCCESS);
    let swapped = handle.compare_and_write(host.buf(1, 7), host.buf(1, 9), 2, 1);
    assert_eq!(status(swapped), NvmeStatus::SUCCESS);
    host.expect(&handle, 2, 1, 9);
    let count = |opcode| target.shared.count(opcode);
    assert_eq!((count(nvm::FLUSH), count(nvm::WRITE_ZEROES)), (1, 1));
    assert_eq!(count(nvm::DATASET_MANAGEMENT), 1, "one command for all of it");
    assert_eq!(count(nvm::COMPARE), 3);
    drop(handle);
    host.finish();
}

#[test]
fn a_flush_is_free_only_without_a_volatile_cache() {
    let (target, host) = (FakeTarget::start(), Host::new());
    target.shared.write_cache.store(false, std::sync::atomic::Ordering::SeqCst);
    let handle = host.attach(&target, options());
    assert!(!handle.bdev().info().write_cache);
    assert_eq!(host.reactor.block_on(handle.flush()).status, NvmeStatus::SUCCESS);
    assert_eq!(target.shared.count(crate::nvme::spec::opcode::nvm::FLUSH), 0);
    drop(handle);
    host.finish();
}

#[test]
fn io_waits_for_the_queue_and_for_room_in_it() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let mut options = options();
    options.controller.io_queue_size = 4;
    let handle = host.attach(&target, options);
    // The channel is open, its queue is not yet.
    let writes: Vec<_> = (0..50).map(|i| handle.write(host.buf(1, i), u64::from(i), 1)).collect();
    let all = futures::future::join_all(writes);
    let done = host.reactor.block_on(all);
    assert!(done.iter().all(|done| done.status.is_success()));
    drop(done);
    (0..50).for_each(|i| host.expect(&handle, u64::from(i), 1, i));
    drop(handle);
    host.finish();
}

#[test]
fn commands_are_passed_on() {
    use crate::bdev::{IoType, NvmeCommand};
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    let run = |kind, command: NvmeCommand, buf: IoBuf| {
        host.reactor.block_on(handle.nvme_command(kind, &command, buf))
    };
    let buf = host.memory.alloc(4096).unwrap();
    let identify = NvmeCommand::new(0x06).with_cdw(10, 1);
    let done = run(IoType::NvmeAdmin, identify, buf.into());
    assert_eq!(done.status, NvmeStatus::SUCCESS);
    assert_eq!(done.buf.into_one().unwrap().as_slice()[77], 3, "MDTS");
    let write = NvmeCommand::new(0x01).with_cdw(10, 5);
    assert_eq!(run(IoType::NvmeIo, write, host.buf(1, 6).into()).status, NvmeStatus::SUCCESS);
    host.expect(&handle, 5, 1, 6);
    for (kind, opcode) in
        [(IoType::NvmeIo, 0xff), (IoType::NvmeAdmin, 0x0c), (IoType::NvmeIo, 0x7f)]
    {
        let done = run(kind, NvmeCommand::new(opcode), IoBuf::None);
        assert_eq!(done.status, NvmeStatus::INVALID_OPCODE, "{opcode:#x}");
    }
    drop(handle);
    host.finish();
}

#[test]
fn names_and_options_are_checked() {
    let (target, host) = (FakeTarget::start(), Host::new());
    let handle = host.attach(&target, options());
    let again = host.try_attach("d", trid(&target), options());
    assert!(matches!(again, Err(NvmeError::Taken { .. })), "{again:?}");
    let other = TransportId::tcp(target.address, "nqn.2024-01.io.io-engine:other").unwrap();
    let other = host.try_attach("d", other, options());
    assert!(matches!(other, Err(NvmeError::OtherSubsystem { .. })), "{other:?}");
    let named = host.try_attach("", trid(&target), options());
    assert!(matches!(named, Err(NvmeError::BadName { .. })), "{named:?}");
    let mut wrong = options();
    wrong.controller.io_queue_size = 0;
    assert!(matches!(host.try_attach("e", trid(&target), wrong), Err(NvmeError::Options(_))));
    // The same namespace under another name: its UUID is taken, and nothing is left behind.
    let twin = host.try_attach("e", trid(&target), options());
    assert!(twin.unwrap_err().to_string().contains("UUID"));
    assert_eq!(host.driver.controllers(None).len(), 1);
    let info = handle.bdev().ops().driver_info();
    assert_eq!(info["nvme"][0]["trid"]["subnqn"], SUBNQN);
    assert_eq!(info["nvme"][0]["vs"]["nvme_version"], "1.4");
    assert_eq!(info["mp_policy"], "active_passive");
    drop(handle);
    host.finish();
}
