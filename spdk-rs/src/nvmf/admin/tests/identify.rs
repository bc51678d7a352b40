//! Identify.

use std::sync::Arc;

use zerocopy::FromBytes;

use crate::NvmeStatus;
use crate::env::Clock;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::identify::{
    ControllerList, IdentifyController, IdentifyNamespace, IdentifyNamespaceIndependent,
    NamespaceId, NamespaceIds, cns,
};
use crate::nvme::spec::opcode::admin as opcode;
use crate::nvmf::controller::tests::bench::{Bench, HOST, Host, NQN};

fn identify(host: &Host<'_>, cns: u8, nsid: u32) -> Result<Vec<u8>, NvmeStatus> {
    host.ask(Sqe::identify(cns, nsid, 0), 4096)
}

#[test]
fn a_controller_says_what_it_can() {
    let bench = Bench::new();
    bench.namespace("a");
    let (host, controller) = bench.admin();
    let page = identify(&host, cns::CONTROLLER, 0).unwrap();
    let page = IdentifyController::read_from_bytes(&page).unwrap();
    assert_eq!(page.subnqn().unwrap(), NQN);
    assert_eq!(&page.mn[..21], b"io-engine Controller ");
    assert_eq!(page.cntlid.get(), controller.cntlid());
    assert_eq!(
        (page.mdts, page.ioccsz.get(), page.iorcsz.get(), page.maxcmd.get()),
        (5, 260, 1, 128)
    );
    assert_eq!((page.nn.get(), page.cntrltype, page.sqes, page.cqes), (32, 1, 0x66, 0x44));
    assert_eq!((page.acl, page.aerl, page.elpe, page.kas.get()), (3, 3, 63, 10));
    // Compare, DSM, write zeroes, select, reservations, verify, copy.
    assert_eq!((page.oncs.get(), page.fuses.get()), (0x1bd, 1));
    // A memory device has no volatile cache; flushes may name all namespaces.
    assert_eq!(page.vwc, 6);
    assert_eq!((page.cmic, page.anacap, page.anagrpmax.get()), (0x0b, 0x1f, 32));
    assert_eq!((page.sgls.get(), page.oaes.get(), page.lpa), (0x30_0001, 0x900, 0x26));
    assert_eq!(page.tnvmcap.get(), 1 << 20);
}

#[test]
fn without_ana_nothing_is_said_of_it() {
    let bench = Bench::with(Clock::Real, |options| options.ana_reporting = false);
    bench.namespace("a");
    let (host, _) = bench.admin();
    let page = identify(&host, cns::CONTROLLER, 0).unwrap();
    let page = IdentifyController::read_from_bytes(&page).unwrap();
    assert_eq!((page.cmic, page.anacap, page.nanagrpid.get(), page.oaes.get()), (3, 0, 0, 0x100));
    let page = identify(&host, cns::NAMESPACE, 1).unwrap();
    assert_eq!(IdentifyNamespace::read_from_bytes(&page).unwrap().anagrpid.get(), 0);
}

#[test]
fn a_namespace_is_as_its_device() {
    let bench = Bench::new();
    bench.namespace("a");
    let (host, _) = bench.admin();
    let page = identify(&host, cns::NAMESPACE, 1).unwrap();
    let page = IdentifyNamespace::read_from_bytes(&page).unwrap();
    assert_eq!((page.nsze.get(), page.ncap.get(), page.lbaf[0].lbads), (2048, 2048, 9));
    // Eight blocks per physical block.
    assert_eq!((page.nsfeat, page.npwg.get(), page.nows.get()), (0x10, 7, 7));
    assert_eq!((page.nmic, page.rescap, page.anagrpid.get(), page.msrc), (1, 0xfe, 1, 127));
    assert_eq!(page.nguid, uuid::Uuid::from_u128(0x1234).into_bytes());
    let device = Arc::clone(bench.subsystem.namespace(1).unwrap().bdev());
    bench.run(async move { device.resize(4096).await });
    let page = identify(&host, cns::NAMESPACE, 1).unwrap();
    assert_eq!(IdentifyNamespace::read_from_bytes(&page).unwrap().nsze.get(), 4096);
    let page = identify(&host, cns::NAMESPACE_INDEPENDENT, 1).unwrap();
    let page = IdentifyNamespaceIndependent::read_from_bytes(&page).unwrap();
    assert_eq!((page.nmic, page.rescap, page.anagrpid.get(), page.nstat), (1, 0xfe, 1, 1));
}

#[test]
fn numbers_of_namespaces_are_checked() {
    let bench = Bench::new();
    bench.namespace("a");
    let (host, _) = bench.admin();
    for what in [cns::NAMESPACE, cns::NAMESPACE_CSI, cns::NAMESPACE_INDEPENDENT] {
        assert!(identify(&host, what, 1).is_ok());
        assert_eq!(identify(&host, what, 32), Ok(vec![0; 4096]), "could be, is not");
        for nsid in [0, 33, 0xffff_ffff] {
            assert_eq!(identify(&host, what, nsid), Err(NvmeStatus::INVALID_NAMESPACE));
        }
    }
    for what in [cns::NAMESPACE_IDS, cns::NAMESPACE_CONTROLLERS] {
        assert!(identify(&host, what, 1).is_ok());
        assert_eq!(identify(&host, what, 2), Err(NvmeStatus::INVALID_NAMESPACE));
    }
    for nsid in [0xffff_fffe, 0xffff_ffff] {
        let list = identify(&host, cns::ACTIVE_NAMESPACES, nsid);
        assert_eq!(list, Err(NvmeStatus::INVALID_NAMESPACE));
    }
}

#[test]
fn lists() {
    let bench = Bench::new();
    for name in ["a", "b", "c"] {
        bench.namespace(name);
    }
    let (host, _) = bench.admin();
    let (_other, second) = bench.admin();
    let active = |after| identify(&host, cns::ACTIVE_NAMESPACES, after).unwrap()[..16].to_vec();
    assert_eq!(active(0), [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(active(2)[..8], [3, 0, 0, 0, 0, 0, 0, 0]);
    let page = identify(&host, cns::NAMESPACE_IDS, 2).unwrap();
    let ids: Vec<_> = NamespaceIds::new(&page).map(Result::unwrap).collect();
    let uuid = uuid::Uuid::from_u128(0x1234).into_bytes();
    assert_eq!(ids, [NamespaceId::Nguid(uuid), NamespaceId::Uuid(uuid), NamespaceId::Csi(0)]);
    let page = identify(&host, cns::CONTROLLERS, 0).unwrap();
    assert_eq!(ControllerList::read(&page).unwrap().len(), 2);
    let mut from = Sqe::identify(cns::CONTROLLERS, 0, 0);
    from.cdw10.set(from.cdw10.get() | u32::from(second.cntlid()) << 16);
    let page = host.ask(from, 4096).unwrap();
    assert_eq!(ControllerList::read(&page).unwrap()[0].get(), second.cntlid());
    assert_eq!(ControllerList::read(&page).unwrap().len(), 1);
    let page = host.ask(Sqe::identify(cns::IO_COMMAND_SETS, 0, 0), 4096);
    assert_eq!(page, Err(NvmeStatus::INVALID_FIELD), "controller 0 is another one");
    let mut own = Sqe::identify(cns::IO_COMMAND_SETS, 0, 0);
    own.cdw10.set(own.cdw10.get() | 0xffff << 16);
    assert_eq!(host.ask(own, 4096).unwrap()[..9], [1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_is_not_known_is_refused_and_less_than_a_page_is_less() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    for what in [0x04, 0x10, 0x11, 0x14, 0x15, 0x16, 0x17, 0x18, 0x1a, 0xff] {
        assert_eq!(identify(&host, what, 1), Err(NvmeStatus::INVALID_FIELD), "{what:#x}");
    }
    for what in [cns::NAMESPACE_CSI, cns::CONTROLLER_CSI, cns::ACTIVE_NAMESPACES_CSI] {
        let zoned = host.ask(Sqe::identify(what, 1, 2), 4096);
        assert_eq!(zoned, Err(NvmeStatus::INVALID_FIELD));
    }
    assert_eq!(identify(&host, cns::CONTROLLER_CSI, 0), Ok(vec![0; 4096]));
    assert_eq!(host.ask(Sqe::identify(cns::CONTROLLER, 0, 0), 100).unwrap().len(), 100);
}

#[test]
fn a_discovery_controller_is_one() {
    let bench = Bench::new();
    let host = bench.discovery(HOST);
    let page = identify(&host, cns::CONTROLLER, 0).unwrap();
    let page = IdentifyController::read_from_bytes(&page).unwrap();
    assert_eq!(
        (page.cntrltype, page.nn.get(), page.oaes.get(), page.oncs.get()),
        (2, 0, 1 << 31, 0)
    );
    assert_eq!(page.subnqn().unwrap(), "nqn.2014-08.org.nvmexpress.discovery");
    assert_eq!(identify(&host, cns::ACTIVE_NAMESPACES, 0), Err(NvmeStatus::INVALID_FIELD));
    assert_eq!(host.run(Sqe::new(opcode::ABORT, 0)).0, NvmeStatus::INVALID_OPCODE);
    assert!(host.run(Sqe::new(opcode::KEEP_ALIVE, 0)).0.is_success());
}

#[test]
fn commands_that_do_not_exist_and_fused_ones_are_refused() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    for command in (0..=0xff).filter(|command| *command != 0x7f) {
        let known = [0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18].contains(&command);
        if !known {
            let status = host.run(Sqe::new(command, 0)).0;
            assert_eq!(status, NvmeStatus::INVALID_OPCODE, "{command:#x}");
        }
    }
    let mut fused = Sqe::new(opcode::KEEP_ALIVE, 0);
    fused.flags = 1;
    assert_eq!(host.run(fused).0, NvmeStatus::INVALID_FIELD);
}
