//! Devices with a volatile write cache: what is told of them, and that a shutdown flushes them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use super::bench::{Bench, ENABLE};
use crate::NvmeStatus;
use crate::bdev::{Bdev, BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoType, IoTypes};
use crate::nvme::spec::Sqe;
use crate::nvme::spec::feature::fid;
use crate::nvme::spec::identify::cns;
use crate::nvme::spec::opcode::admin as opcode;
use crate::reactor::Reactor;

/// What a device was asked, and whether its flushes fail.
#[derive(Default)]
struct Facts {
    flushes: AtomicU32,
    fails: AtomicBool,
}

#[derive(Clone)]
struct Cached(Arc<Facts>);

impl BdevOps for Cached {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[IoType::Read, IoType::Write, IoType::Flush])
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(self.clone()))
    }
}

impl BdevChannel for Cached {
    fn submit(&mut self, io: BdevIo) {
        if io.kind() == IoType::Flush {
            self.0.flushes.fetch_add(1, SeqCst);
        }
        let fails = self.0.fails.load(SeqCst);
        io.complete(if fails { NvmeStatus::WRITE_FAULT } else { NvmeStatus::SUCCESS });
    }
}

fn cached() -> (Arc<Bdev>, Arc<Facts>) {
    let facts = Arc::<Facts>::default();
    let info = BdevInfo {
        name: "cached".into(),
        aliases: Vec::new(),
        uuid: uuid::Uuid::from_u128(1),
        product_name: "Double".into(),
        driver_name: "double",
        block_len: 4096,
        phys_block_len: 4096,
        num_blocks: 16,
        alignment: 1,
        write_cache: true,
        read_only: false,
        limits: IoLimits::default(),
    };
    (Bdev::new(info, Box::new(Cached(Arc::clone(&facts)))), facts)
}

#[test]
fn a_write_cache_is_told_and_cannot_be_switched_off() {
    let bench = Bench::new();
    bench.export(cached().0);
    let (host, _) = bench.admin();
    let page = host.ask(Sqe::identify(cns::CONTROLLER, 0, 0), 4096).unwrap();
    assert_eq!(page[525], 7);
    // The device knows no unmap: dataset management is not offered.
    assert_eq!(page[520] & 1 << 2, 0);
    let feature = |command, value| {
        let mut sqe = Sqe::new(command, 0);
        sqe.cdw10.set(fid::VOLATILE_WRITE_CACHE.into());
        sqe.cdw11.set(value);
        host.run(sqe)
    };
    assert_eq!(feature(opcode::GET_FEATURES, 0), (NvmeStatus::SUCCESS, 1));
    assert!(feature(opcode::SET_FEATURES, 1).0.is_success());
    assert_eq!(feature(opcode::SET_FEATURES, 0).0, NvmeStatus::FEATURE_NOT_CHANGEABLE);
}

#[test]
fn a_shutdown_is_complete_when_the_caches_are_flushed() {
    let bench = Bench::new();
    let (device, facts) = cached();
    bench.export(device);
    let (host, _) = bench.admin();
    assert!(host.set_cc(ENABLE | 1 << 14).is_success());
    assert_eq!(host.property(0x1c, false), 1 << 2 | 1);
    bench.settle();
    assert_eq!((host.property(0x1c, false), facts.flushes.load(SeqCst)), (2 << 2 | 1, 1));
    // A flush that fails is told as a fatal status.
    facts.fails.store(true, SeqCst);
    assert!(host.set_cc(ENABLE & !1).is_success());
    assert!(host.set_cc(ENABLE).is_success());
    assert!(host.set_cc(ENABLE | 1 << 14).is_success());
    bench.settle();
    assert_eq!(host.property(0x1c, false), 2 << 2 | 3);
}
