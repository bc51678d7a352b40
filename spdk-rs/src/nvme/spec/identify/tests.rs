//! Fields of the Identify data against byte positions as the specification tabulates them.

use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::nvme::spec::{ReadError, text};

/// Bytes without a pattern, so that a field that is off by any distance reads something else.
fn noise() -> Vec<u8> {
    let mut state = 0x1234_5678_9abc_def1_u64;
    (0..IDENTIFY_LEN)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32).to_le_bytes()[0]
        })
        .collect()
}

/// The little endian number in bytes `last:first`.
fn number(image: &[u8], last: usize, first: usize) -> u128 {
    image[first..=last].iter().rev().fold(0, |value, &byte| value << 8 | u128::from(byte))
}

/// A field: last byte, first byte, name and how the structure gives it.
type Field<T> = (usize, usize, &'static str, fn(&T) -> u128);

fn check<T: FromBytes>(fields: &[Field<T>]) {
    let image = noise();
    let value = T::read_from_bytes(&image).expect("4096 bytes");
    for (last, first, name, get) in fields {
        assert_eq!(get(&value), number(&image, *last, *first), "{name} at {last}:{first}");
    }
}

fn bytes(field: &[u8]) -> u128 {
    number(field, field.len() - 1, 0)
}

#[test]
fn controller_fields_are_where_the_specification_has_them() {
    check::<IdentifyController>(&[
        (1, 0, "VID", |c| c.vid.get().into()),
        (3, 2, "SSVID", |c| c.ssvid.get().into()),
        (19, 4, "SN, first 16", |c| bytes(&c.sn[..16])),
        (63, 48, "MN, last 16", |c| bytes(&c.mn[24..])),
        (71, 64, "FR", |c| bytes(&c.fr)),
        (72, 72, "RAB", |c| c.rab.into()),
        (75, 73, "IEEE", |c| bytes(&c.ieee)),
        (76, 76, "CMIC", |c| c.cmic.into()),
        (77, 77, "MDTS", |c| c.mdts.into()),
        (79, 78, "CNTLID", |c| c.cntlid.get().into()),
        (83, 80, "VER", |c| c.ver.get().into()),
        (87, 84, "RTD3R", |c| c.rtd3r.get().into()),
        (91, 88, "RTD3E", |c| c.rtd3e.get().into()),
        (95, 92, "OAES", |c| c.oaes.get().into()),
        (99, 96, "CTRATT", |c| c.ctratt.get().into()),
        (101, 100, "RRLS", |c| c.rrls.get().into()),
        (111, 111, "CNTRLTYPE", |c| c.cntrltype.into()),
        (127, 112, "FGUID", |c| bytes(&c.fguid)),
        (129, 128, "CRDT1", |c| c.crdt1.get().into()),
        (131, 130, "CRDT2", |c| c.crdt2.get().into()),
        (133, 132, "CRDT3", |c| c.crdt3.get().into()),
        (253, 253, "NVMSR", |c| c.nvmsr.into()),
        (255, 255, "MEC", |c| c.mec.into()),
        (257, 256, "OACS", |c| c.oacs.get().into()),
        (258, 258, "ACL", |c| c.acl.into()),
        (259, 259, "AERL", |c| c.aerl.into()),
        (260, 260, "FRMW", |c| c.frmw.into()),
        (261, 261, "LPA", |c| c.lpa.into()),
        (262, 262, "ELPE", |c| c.elpe.into()),
        (263, 263, "NPSS", |c| c.npss.into()),
        (264, 264, "AVSCC", |c| c.avscc.into()),
        (267, 266, "WCTEMP", |c| c.wctemp.get().into()),
        (269, 268, "CCTEMP", |c| c.cctemp.get().into()),
        (295, 280, "TNVMCAP", |c| c.tnvmcap.get()),
        (311, 296, "UNVMCAP", |c| c.unvmcap.get()),
        (321, 320, "KAS", |c| c.kas.get().into()),
        (331, 328, "SANICAP", |c| c.sanicap.get().into()),
        (339, 338, "NSETIDMAX", |c| c.nsetidmax.get().into()),
        (341, 340, "ENDGIDMAX", |c| c.endgidmax.get().into()),
        (342, 342, "ANATT", |c| c.anatt.into()),
        (343, 343, "ANACAP", |c| c.anacap.into()),
        (347, 344, "ANAGRPMAX", |c| c.anagrpmax.get().into()),
        (351, 348, "NANAGRPID", |c| c.nanagrpid.get().into()),
        (357, 356, "DOMAINID", |c| c.domainid.get().into()),
    ]);
}

#[test]
fn controller_fields_of_queues_and_fabrics_are_where_the_specification_has_them() {
    check::<IdentifyController>(&[
        (512, 512, "SQES", |c| c.sqes.into()),
        (513, 513, "CQES", |c| c.cqes.into()),
        (515, 514, "MAXCMD", |c| c.maxcmd.get().into()),
        (519, 516, "NN", |c| c.nn.get().into()),
        (521, 520, "ONCS", |c| c.oncs.get().into()),
        (523, 522, "FUSES", |c| c.fuses.get().into()),
        (524, 524, "FNA", |c| c.fna.into()),
        (525, 525, "VWC", |c| c.vwc.into()),
        (527, 526, "AWUN", |c| c.awun.get().into()),
        (529, 528, "AWUPF", |c| c.awupf.get().into()),
        (530, 530, "ICSVSCC", |c| c.icsvscc.into()),
        (531, 531, "NWPC", |c| c.nwpc.into()),
        (533, 532, "ACWU", |c| c.acwu.get().into()),
        (535, 534, "OCFS", |c| c.ocfs.get().into()),
        (539, 536, "SGLS", |c| c.sgls.get().into()),
        (543, 540, "MNAN", |c| c.mnan.get().into()),
        (559, 544, "MAXDNA", |c| c.maxdna.get()),
        (563, 560, "MAXCNA", |c| c.maxcna.get().into()),
        (783, 768, "SUBNQN, first 16", |c| bytes(&c.subnqn[..16])),
        (1795, 1792, "IOCCSZ", |c| c.ioccsz.get().into()),
        (1799, 1796, "IORCSZ", |c| c.iorcsz.get().into()),
        (1801, 1800, "ICDOFF", |c| c.icdoff.get().into()),
        (1802, 1802, "FCATT", |c| c.fcatt.into()),
        (1803, 1803, "MSDBD", |c| c.msdbd.into()),
        (1805, 1804, "OFCS", |c| c.ofcs.get().into()),
        (1806, 1806, "DCTYPE", |c| c.dctype.into()),
        (2049, 2048, "PSD0 MP", |c| c.psd[0].mp.get().into()),
        (2055, 2052, "PSD0 ENLAT", |c| c.psd[0].enlat.get().into()),
        (2091, 2088, "PSD1 EXLAT", |c| c.psd[1].exlat.get().into()),
        (2101, 2100, "PSD1 ACTP", |c| (c.psd[1].actp.get()).into()),
        (3075, 3072, "vendor specific", |c| bytes(&c.vendor[..4])),
    ]);
    check::<IdentifyControllerNvm>(&[
        (0, 0, "VSL", |c| c.vsl.into()),
        (1, 1, "WZSL", |c| c.wzsl.into()),
        (2, 2, "WUSL", |c| c.wusl.into()),
        (3, 3, "DMRL", |c| c.dmrl.into()),
        (7, 4, "DMRSL", |c| c.dmrsl.get().into()),
        (15, 8, "DMSL", |c| c.dmsl.get().into()),
    ]);
}

#[test]
fn namespace_fields_are_where_the_specification_has_them() {
    check::<IdentifyNamespace>(&[
        (7, 0, "NSZE", |n| n.nsze.get().into()),
        (15, 8, "NCAP", |n| n.ncap.get().into()),
        (23, 16, "NUSE", |n| n.nuse.get().into()),
        (24, 24, "NSFEAT", |n| n.nsfeat.into()),
        (25, 25, "NLBAF", |n| n.nlbaf.into()),
        (26, 26, "FLBAS", |n| n.flbas.into()),
        (27, 27, "MC", |n| n.mc.into()),
        (28, 28, "DPC", |n| n.dpc.into()),
        (29, 29, "DPS", |n| n.dps.into()),
        (30, 30, "NMIC", |n| n.nmic.into()),
        (31, 31, "RESCAP", |n| n.rescap.into()),
        (32, 32, "FPI", |n| n.fpi.into()),
        (33, 33, "DLFEAT", |n| n.dlfeat.into()),
        (35, 34, "NAWUN", |n| n.nawun.get().into()),
        (37, 36, "NAWUPF", |n| n.nawupf.get().into()),
        (39, 38, "NACWU", |n| n.nacwu.get().into()),
        (41, 40, "NABSN", |n| n.nabsn.get().into()),
        (43, 42, "NABO", |n| n.nabo.get().into()),
        (45, 44, "NABSPF", |n| n.nabspf.get().into()),
        (47, 46, "NOIOB", |n| n.noiob.get().into()),
        (63, 48, "NVMCAP", |n| n.nvmcap.get()),
        (65, 64, "NPWG", |n| n.npwg.get().into()),
        (67, 66, "NPWA", |n| n.npwa.get().into()),
        (69, 68, "NPDG", |n| n.npdg.get().into()),
        (71, 70, "NPDA", |n| n.npda.get().into()),
        (73, 72, "NOWS", |n| n.nows.get().into()),
        (75, 74, "MSSRL", |n| n.mssrl.get().into()),
        (79, 76, "MCL", |n| n.mcl.get().into()),
        (80, 80, "MSRC", |n| n.msrc.into()),
        (95, 92, "ANAGRPID", |n| n.anagrpid.get().into()),
        (99, 99, "NSATTR", |n| n.nsattr.into()),
        (101, 100, "NVMSETID", |n| n.nvmsetid.get().into()),
        (103, 102, "ENDGID", |n| n.endgid.get().into()),
        (119, 104, "NGUID", |n| bytes(&n.nguid)),
        (127, 120, "EUI64", |n| bytes(&n.eui64)),
        (129, 128, "LBAF0 MS", |n| n.lbaf[0].ms.get().into()),
        (130, 130, "LBAF0 LBADS", |n| n.lbaf[0].lbads.into()),
        (131, 131, "LBAF0 RP", |n| n.lbaf[0].rp.into()),
        (382, 382, "LBAF63 LBADS", |n| n.lbaf[63].lbads.into()),
        (387, 384, "vendor specific", |n| bytes(&n.vendor[..4])),
    ]);
    check::<IdentifyNamespaceIndependent>(&[
        (0, 0, "NSFEAT", |n| n.nsfeat.into()),
        (1, 1, "NMIC", |n| n.nmic.into()),
        (2, 2, "RESCAP", |n| n.rescap.into()),
        (3, 3, "FPI", |n| n.fpi.into()),
        (7, 4, "ANAGRPID", |n| n.anagrpid.get().into()),
        (8, 8, "NSATTR", |n| n.nsattr.into()),
        (11, 10, "NVMSETID", |n| n.nvmsetid.get().into()),
        (13, 12, "ENDGID", |n| n.endgid.get().into()),
        (14, 14, "NSTAT", |n| n.nstat.into()),
    ]);
    check::<IdentifyNamespaceNvm>(&[
        (7, 0, "LBSTM", |n| n.lbstm.get().into()),
        (8, 8, "PIC", |n| n.pic.into()),
        (15, 12, "ELBAF0", |n| n.elbaf[0].get().into()),
        (267, 264, "ELBAF63", |n| n.elbaf[63].get().into()),
    ]);
}

#[test]
fn formats_are_found_by_both_parts_of_their_index() {
    let mut namespace = IdentifyNamespace::default();
    namespace.lbaf[0] = LbaFormat::new(9, 0);
    namespace.lbaf[0x2b] = LbaFormat::new(12, 8);
    assert_eq!(namespace.format().block_bytes(), Some(512));
    namespace.flbas = 0b0101_1011;
    assert_eq!(Flbas(namespace.flbas).index(), 0x2b);
    assert!(Flbas(namespace.flbas).extended());
    assert_eq!(namespace.format().block_bytes(), Some(4096));
    assert_eq!(LbaFormat::new(8, 0).block_bytes(), None);
    assert_eq!(LbaFormat::new(32, 0).block_bytes(), None);
}

#[test]
fn limits_of_a_controller() {
    let mut controller = IdentifyController::default();
    assert_eq!(controller.data_transfer_max_bytes(0), None);
    assert_eq!(controller.in_capsule_data_bytes(), 0);
    controller.mdts = 5;
    controller.ioccsz.set((64 + 4096) / 16);
    assert_eq!(controller.data_transfer_max_bytes(0), Some(128 * 1024));
    assert_eq!(controller.in_capsule_data_bytes(), 4096);
    controller.mdts = 255;
    assert_eq!(controller.data_transfer_max_bytes(255), None);
    assert_eq!(controller.subnqn(), Err(ReadError::Text { what: "SUBNQN" }));
    text::set_terminated(&mut controller.subnqn, "nqn.2019-05.io.example:a");
    assert_eq!(controller.subnqn(), Ok("nqn.2019-05.io.example:a"));
    controller.subnqn = [b'a'; 256];
    assert!(controller.subnqn().is_err());
    text::set_padded(&mut controller.sn, "S1");
    assert_eq!(&controller.sn[..4], b"S1  ");
    assert_eq!(text::padded(&controller.sn), b"S1");
}

#[test]
fn namespace_ids_as_a_controller_sends_them() {
    let mut golden = vec![0x04, 0x01, 0, 0, 0x00];
    golden.extend([0x01, 0x08, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    golden.extend([0x02, 0x10, 0, 0]);
    golden.extend([0xa5; 16]);
    golden.extend([0x03, 0x10, 0, 0]);
    golden.extend(0..16);
    golden.extend([0x77, 0x02, 0, 0, 0xaa, 0xbb]);
    let ids = [
        NamespaceId::Csi(csi::NVM),
        NamespaceId::Eui64([1, 2, 3, 4, 5, 6, 7, 8]),
        NamespaceId::Nguid([0xa5; 16]),
        NamespaceId::Uuid([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        NamespaceId::Other { kind: 0x77, id: &[0xaa, 0xbb] },
    ];
    let mut written = Vec::new();
    ids.iter().for_each(|id| id.append_to(&mut written));
    assert_eq!(written, golden);
    let expected: Vec<_> = ids.iter().map(|&id| Ok(id)).collect();
    assert_eq!(NamespaceIds::new(&golden).collect::<Vec<_>>(), expected);
    golden.resize(IDENTIFY_LEN, 0);
    assert_eq!(NamespaceIds::new(&golden).collect::<Vec<_>>(), expected);
}

#[test]
fn namespace_ids_that_are_wrong_end_the_list() {
    fn read(bytes: &[u8]) -> Vec<Result<NamespaceId<'_>, ReadError>> {
        // An end that is not final would never come.
        NamespaceIds::new(bytes).take(8).collect()
    }
    assert_eq!(read(&[]), []);
    let what = "namespace identification descriptor";
    assert_eq!(read(&[2, 16, 0]), [Err(ReadError::Truncated { what, needed: 4, have: 3 })]);
    let truncated = Err(ReadError::Truncated { what, needed: 16, have: 1 });
    assert_eq!(read(&[4, 1, 0, 0, 2, 2, 16, 0, 0, 9]), [Ok(NamespaceId::Csi(2)), truncated]);
    let wrong = |value| Err(ReadError::Value { what: "NIDL", value });
    assert_eq!(read(&[3, 1, 0, 0, 9, 4, 1, 0, 0, 1]), [wrong(1)]);
    assert_eq!(read(&[9, 0, 0, 0, 4, 1, 0, 0, 1]), [], "no identifier ends the list");
    let unknown = Ok(NamespaceId::Other { kind: 0, id: &[7] });
    assert_eq!(read(&[0, 1, 0, 0, 7, 4, 1, 0, 0, 1]), [unknown, Ok(NamespaceId::Csi(1))]);
}

#[test]
fn lists_end_where_they_say() {
    let list = NamespaceList::of([1, 2, 0x0102_0304]);
    assert_eq!(list.as_bytes()[8..16], [4, 3, 2, 1, 0, 0, 0, 0]);
    assert_eq!(ActiveNamespaces::new(list.as_bytes()).collect::<Vec<_>>(), [1, 2, 0x0102_0304]);
    let full = NamespaceList::of(1..=2000);
    assert_eq!(ActiveNamespaces::new(full.as_bytes()).count(), NamespaceList::LEN_MAX);
    assert_eq!(ActiveNamespaces::new(&[7, 0, 0, 0, 8, 0]).collect::<Vec<_>>(), [7]);
    assert_eq!(ActiveNamespaces::new(&[7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0]).count(), 1);

    let list = ControllerList::of([1, 0x0203]);
    assert_eq!(list.as_bytes()[..8], [2, 0, 1, 0, 3, 2, 0, 0]);
    let ids: Vec<u16> =
        ControllerList::read(list.as_bytes()).expect("whole").iter().map(|id| id.get()).collect();
    assert_eq!(ids, [1, 0x0203]);
    assert_eq!(ControllerList::of(0..3000).count.get(), 2047);
    assert!(ControllerList::read(&[0xff, 0xff, 1, 0]).is_err());
}

#[test]
fn the_command_names_what_it_asks_for() {
    let sqe = Sqe::identify(cns::CONTROLLER_CSI, 0x11, csi::ZONED);
    let bytes = sqe.as_bytes();
    assert_eq!((bytes[0], bytes[4], bytes[40], bytes[47]), (0x06, 0x11, 0x06, 0x02));
    assert_eq!(IdentifyCdw10(0x1234_0012).cntid(), 0x1234);
    assert_eq!(cns::name(cns::IO_COMMAND_SETS), Some("I/O command set combinations"));
    assert_eq!(cns::name(0xff), None);
}
