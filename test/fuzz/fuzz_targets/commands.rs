//! The fields of commands: any entry can be looked at in every way, and what a view read, written
//! again, reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::spec::fabrics::{Connect, ConnectData, Disconnect, FabricsStatus, Property};
use spdk_rs::nvme::spec::log::GetLogPage;
use spdk_rs::nvme::spec::nvm::{BlockCommand, CopyCommand, DsmCommand};
use spdk_rs::nvme::spec::opcode::{admin, fctype, nvm};
use spdk_rs::nvme::spec::reservation::ReportCommand;
use spdk_rs::nvme::spec::{Cqe, Sqe, identify};
use zerocopy::FromBytes;

fn command(sqe: &Sqe) {
    let _ = (sqe.direction(), sqe.fused(), sqe.psdt(), sqe.dptr.kind(), sqe.fctype());
    let _ = (admin::name(sqe.opcode), nvm::name(sqe.opcode), fctype::name(sqe.fctype()));
    let _ = identify::cns::name(identify::IdentifyCdw10(sqe.cdw10.get()).cns());
    let log = GetLogPage::of(sqe);
    assert_eq!(GetLogPage::of(&log.to_sqe(sqe.nsid.get())), log);
    assert!((4..=1 << 34).contains(&log.bytes) && log.bytes % 4 == 0);
    let connect = Connect::of(sqe);
    assert_eq!(Connect::of(&connect.to_sqe()), connect);
    let disconnect = Disconnect::of(sqe);
    assert_eq!(Disconnect::of(&disconnect.to_sqe()), disconnect);
    let property = Property::of(sqe);
    if let Some(bytes) = property.bytes() {
        let set = Property::of(&Property::set(property.offset, bytes == 8, property.value));
        assert_eq!(
            (set.offset, set.bytes(), set.value),
            (property.offset, Some(bytes), property.value)
        );
    }
    let block = BlockCommand(sqe);
    let again = Sqe::block(sqe.opcode, sqe.nsid.get(), block.slba(), block.blocks());
    assert_eq!(BlockCommand(&again).slba(), block.slba());
    assert_eq!(BlockCommand(&again).blocks(), block.blocks());
    let _ = format!("{:?} {:?}", block.control(), block.hints());
    assert!((1..=256).contains(&DsmCommand(sqe).ranges()));
    assert!((1..=256).contains(&CopyCommand(sqe).ranges()));
    assert!((4..=1 << 34).contains(&ReportCommand(sqe).bytes()));
}

fuzz_target!(|data: &[u8]| {
    if let Ok((sqe, _)) = Sqe::ref_from_prefix(data) {
        command(sqe);
    }
    if let Ok((cqe, _)) = Cqe::ref_from_prefix(data) {
        let _ =
            format!("{} {} {:?}", cqe.status(), FabricsStatus(cqe.status()), cqe.status().errno());
    }
    if let Ok((connect, _)) = ConnectData::ref_from_prefix(data) {
        if let (Ok(subnqn), Ok(hostnqn)) = (connect.subnqn(), connect.hostnqn()) {
            let again = ConnectData::new(connect.hostid, connect.cntlid.get(), subnqn, hostnqn);
            assert_eq!((again.subnqn(), again.hostnqn()), (Ok(subnqn), Ok(hostnqn)));
        }
    }
});
