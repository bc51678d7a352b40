//! Log pages.

use std::sync::Arc;

use zerocopy::FromBytes;

use crate::NvmeStatus;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::log::{
    CommandsSupportedAndEffects, DiscoveryLog, ErrorEntry, GetLogPage, SmartHealth,
    SupportedLogPages, lid,
};
use crate::nvme::spec::opcode::{admin as opcode, nvm};
use crate::nvmf::controller::tests::bench::{Bench, HOST, Host, NQN, address};
use crate::nvmf::subsystem::Nqn;
use crate::nvmf::target::Referral;

fn log(host: &Host<'_>, page: GetLogPage) -> Result<Vec<u8>, NvmeStatus> {
    host.ask(page.to_sqe(0xffff_ffff), u32::try_from(page.bytes).unwrap())
}

#[test]
fn every_page_that_is_supported_can_be_read_and_no_other() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    let discovery = bench.discovery(HOST);
    for (host, expected) in [
        (&host, &[0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x0c, 0x80][..]),
        (&discovery, &[0x00, 0x01, 0x70][..]),
    ] {
        let page = log(host, GetLogPage::new(lid::SUPPORTED_LOG_PAGES, 1024)).unwrap();
        let page = SupportedLogPages::read_from_bytes(&page).unwrap();
        for lid in 0..=0xff {
            let told = page.lids[usize::from(lid)].get() & 1 == 1;
            assert_eq!(told, expected.contains(&lid), "{lid:#x}");
            let read = log(host, GetLogPage::new(lid, 4)).map(|page| page.len());
            assert_eq!(read, if told { Ok(4) } else { Err(NvmeStatus::INVALID_LOG_PAGE) });
        }
    }
}

#[test]
fn lengths_and_offsets_are_checked() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    let smart = GetLogPage::new(lid::SMART, 512);
    assert_eq!(host.ask(smart.to_sqe(0), 508), Err(NvmeStatus::DATA_SGL_LENGTH_INVALID));
    assert_eq!(host.ask(smart.to_sqe(1), 512), Err(NvmeStatus::INVALID_FIELD));
    let index = GetLogPage { offset_is_index: true, ..smart };
    assert_eq!(log(&host, index), Err(NvmeStatus::INVALID_FIELD));
    assert_eq!(log(&host, GetLogPage { offset: 516, ..smart }), Err(NvmeStatus::INVALID_FIELD));
    let tail = log(&host, GetLogPage { offset: 144, bytes: 16, ..smart });
    assert_eq!(tail, Ok(vec![0; 16]));
    let huge = GetLogPage { bytes: 1 << 34, ..smart };
    assert_eq!(host.ask(huge.to_sqe(0), 131_072), Err(NvmeStatus::DATA_SGL_LENGTH_INVALID));
}

#[test]
fn failed_commands_are_in_the_error_log_and_counted() {
    let bench = Bench::new();
    let (host, _) = bench.admin();
    assert_eq!(host.run(Sqe::new(0xc0, 5)).0, NvmeStatus::INVALID_OPCODE);
    let page = log(&host, GetLogPage::new(lid::ERROR, 64)).unwrap();
    let entry = ErrorEntry::read_from_bytes(&page).unwrap();
    assert_eq!((entry.error_count.get(), entry.opcode, entry.nsid.get()), (1, 0xc0, 5));
    assert_eq!(entry.status.get() >> 1, NvmeStatus::INVALID_OPCODE.bits());
    let page = log(&host, GetLogPage::new(lid::SMART, 512)).unwrap();
    assert_eq!(SmartHealth::read_from_bytes(&page).unwrap().error_entries.get(), 1);
}

#[test]
fn health_counts_what_the_devices_did() {
    let bench = Bench::new();
    bench.namespace("a");
    let (host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    for _ in 0..3 {
        assert!(io.bring(Sqe::new(nvm::WRITE, 1), &[7; 512]).0.is_success());
    }
    assert_eq!(io.ask(Sqe::new(nvm::READ, 1), 512).unwrap(), [7; 512]);
    let page = log(&host, GetLogPage::new(lid::SMART, 512)).unwrap();
    let page = SmartHealth::read_from_bytes(&page).unwrap();
    assert_eq!((page.host_reads.get(), page.host_writes.get()), (1, 3));
    assert_eq!((page.data_units_read.get(), page.data_units_written.get()), (1, 1));
    assert_eq!((page.media_errors.get(), page.available_spare), (0, 100));
}

#[test]
fn the_effects_page_is_what_is_executed() {
    let bench = Bench::new();
    bench.namespace("a");
    let (host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 1);
    let page = log(&host, GetLogPage::new(lid::COMMAND_EFFECTS, 4096)).unwrap();
    let page = CommandsSupportedAndEffects::read_from_bytes(&page).unwrap();
    for command in (0..=0xffu8).filter(|&command| command != opcode::ASYNC_EVENT_REQUEST) {
        let told = page.acs[usize::from(command)].get() & 1 == 1;
        let run = host.run(Sqe::new(command, 0)).0 != NvmeStatus::INVALID_OPCODE;
        // A fabrics command of type 0 is Property Set.
        assert_eq!(told, run, "admin command {command:#x}");
    }
    for command in (0..=0xffu8).filter(|&command| command != 0x7f) {
        let told = page.iocs[usize::from(command)].get() & 1 == 1;
        let run = io.run(Sqe::new(command, 1)).0 != NvmeStatus::INVALID_OPCODE;
        assert_eq!(told, run, "I/O command {command:#x}");
    }
    assert_eq!(page.iocs[usize::from(nvm::WRITE)].get(), 3);
}

#[test]
fn ana_groups_without_their_namespaces() {
    let bench = Bench::new();
    bench.namespace("a");
    bench.namespace("b");
    let subsystem = Arc::clone(&bench.subsystem);
    bench.run(async move { subsystem.set_namespace_ana_group(2, 1).await.unwrap() });
    let (host, _) = bench.admin();
    let whole = log(&host, GetLogPage::new(lid::ANA, 64)).unwrap();
    assert_eq!((whole[8], whole[16], whole[20]), (1, 1, 2));
    assert_eq!((whole[48], whole[52]), (1, 2));
    let groups = GetLogPage { lsp: 1, ..GetLogPage::new(lid::ANA, 64) };
    let groups = log(&host, groups).unwrap();
    assert_eq!((groups[8], groups[16], groups[20], groups[48]), (1, 1, 0, 0));
}

#[test]
fn discovery_names_what_the_host_may_see() {
    let bench = Bench::new();
    let target = Arc::clone(&bench.target);
    bench.run(async move {
        let hidden = Nqn::new("nqn.2016-06.io.spdk:hidden").unwrap();
        let options = crate::nvmf::subsystem::SubsystemOptions::new(hidden);
        let hidden = target.create_subsystem(options).await.unwrap();
        hidden.add_listener(address(0)).await.unwrap();
        let referral =
            Referral { address: address(9), nqn: Nqn::discovery(), secure_channel: true };
        target.add_referral(referral.clone()).await.unwrap();
        assert!(target.add_referral(referral).await.is_err());
    });
    let host = bench.discovery(HOST);
    let page = log(&host, GetLogPage::new(lid::DISCOVERY, 8192)).unwrap();
    let read = DiscoveryLog::read(&page).unwrap();
    assert_eq!(read.header().genctr.get(), bench.target.generation());
    let told: Vec<_> = read
        .entries()
        .iter()
        .map(|entry| (entry.subtype, entry.subnqn().unwrap(), entry.traddr().unwrap(), entry.treq))
        .collect();
    let discovery = "nqn.2014-08.org.nvmexpress.discovery";
    let expected =
        [(3, discovery, "127.0.0.1", 0), (2, NQN, "127.0.0.1", 0), (1, discovery, "127.0.0.1", 1)];
    assert_eq!(told, expected);
    let own = &read.entries()[1];
    assert_eq!(own.trsvcid().unwrap(), bench.listener.address().address.port().to_string());
    assert_eq!((own.trtype, own.adrfam, own.cntlid.get(), own.asqsz.get()), (3, 1, 0xffff, 32));
    assert_eq!(read.entries()[2].trsvcid().unwrap(), "9");
    let target = Arc::clone(&bench.target);
    bench.run(async move { target.remove_referral(address(9), &Nqn::discovery()).await.unwrap() });
    let header = log(&host, GetLogPage::new(lid::DISCOVERY, 16)).unwrap();
    assert_eq!(header[8], 2);
}

#[test]
fn io_that_failed_is_in_the_error_log() {
    let bench = Bench::new();
    let (host, controller) = bench.admin();
    let io = bench.io(controller.cntlid(), 5);
    let sqe = Sqe::new(nvm::READ, 77);
    assert_eq!(io.run(sqe).0, NvmeStatus::INVALID_NAMESPACE);
    bench.settle();
    let page = log(&host, GetLogPage::new(lid::ERROR, 64)).unwrap();
    let entry = ErrorEntry::read_from_bytes(&page).unwrap();
    assert_eq!((entry.error_count.get(), entry.sqid.get(), entry.nsid.get()), (1, 5, 77));
    assert_eq!(entry.opcode, nvm::READ);
    assert_eq!(entry.status.get() >> 1, NvmeStatus::INVALID_NAMESPACE.bits());
    // More than fit on the way are counted.
    let cids: Vec<_> = (0..100).map(|_| io.send(sqe, &[], 0)).collect();
    cids.into_iter().for_each(|cid| drop(io.wait(cid)));
    bench.settle();
    let smart = log(&host, GetLogPage::new(lid::SMART, 512)).unwrap();
    assert_eq!(SmartHealth::read_from_bytes(&smart).unwrap().error_entries.get(), 101);
}
