//! Commands, registers and PDUs against bytes written down from the specification's tables.

use zerocopy::{FromBytes, IntoBytes};

use super::fabrics::*;
use super::nvm::*;
use super::opcode::{admin, fctype, nvm as io};
use super::pdu::*;
use super::register::*;
use super::reservation::*;
use super::*;
use crate::NvmeStatus;

/// What a Linux host sends to connect an admin queue of 32 entries with a timeout of 5 s.
fn connect_command() -> Vec<u8> {
    let mut golden = vec![0x7f, 0x40, 0x01, 0x20, 0x01];
    golden.resize(24, 0);
    // The SGL: offset 0, 1024 bytes, in the capsule.
    golden.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0x01]);
    // RECFMT, QID, SQSIZE, CATTR and a reserved byte, KATO.
    golden.extend([0, 0, 0, 0, 0x1f, 0, 0x04, 0, 0x88, 0x13, 0, 0]);
    golden.resize(64, 0);
    golden
}

#[test]
fn connect_as_a_host_sends_it() {
    let golden = connect_command();
    let sqe = Sqe::read_from_bytes(&golden).expect("64 bytes");
    assert!(sqe.is_fabrics() && sqe.fctype() == fctype::CONNECT);
    assert_eq!(sqe.direction(), DataDirection::HostToController);
    assert_eq!(sqe.dptr.kind(), SglKind::InCapsule);
    let connect = Connect::of(&sqe);
    let cattr = ConnectAttributes(0).with_disable_sq_flow_control(true);
    assert_eq!(connect, Connect { recfmt: 0, qid: 0, sqsize: 31, cattr, kato: 5000 });
    let mut written = connect.to_sqe();
    written.cid.set(0x2001);
    assert_eq!(written.as_bytes(), golden);
    let other = Connect { recfmt: 0x0102, qid: 0x0304, sqsize: 0x0506, cattr, kato: 0 };
    assert_eq!(Connect::of(&other.to_sqe()), other);
    assert_eq!(other.to_sqe().as_bytes()[40..48], [2, 1, 4, 3, 6, 5, 4, 0]);
}

#[test]
fn connect_data_as_a_host_sends_them() {
    let mut golden = vec![0x5a; 16];
    golden.extend([0xff, 0xff]);
    golden.resize(256, 0);
    golden.extend(b"nqn.2019-05.io.example:subsystem");
    golden.resize(512, 0);
    golden.extend(b"nqn.2014-08.org.nvmexpress:uuid:1");
    golden.resize(1024, 0);
    let data = ConnectData::new(
        [0x5a; 16],
        0xffff,
        "nqn.2019-05.io.example:subsystem",
        "nqn.2014-08.org.nvmexpress:uuid:1",
    );
    assert_eq!(data.as_bytes(), golden);
    let read = ConnectData::read_from_bytes(&golden).expect("1024 bytes");
    assert_eq!((read.cntlid.get(), read.hostid), (0xffff, [0x5a; 16]));
    assert_eq!(read.subnqn(), Ok("nqn.2019-05.io.example:subsystem"));
    assert_eq!(read.hostnqn(), Ok("nqn.2014-08.org.nvmexpress:uuid:1"));
}

#[test]
fn nqns_are_checked_before_they_are_texts() {
    let long = "n".repeat(text::NQN_LEN_MAX);
    let mut data = ConnectData::new([1; 16], 0, &long, "");
    assert_eq!(data.subnqn(), Ok(&*long));
    assert_eq!(data.hostnqn(), Err(ReadError::Text { what: "connect HOSTNQN" }));
    data.subnqn[text::NQN_LEN_MAX] = b'n';
    assert!(data.subnqn().is_err());
    data.subnqn = [b'n'; 256];
    assert!(data.subnqn().is_err());
    data.subnqn[0] = 0xff;
    data.subnqn[1] = 0;
    assert!(data.subnqn().is_err());
    let cut = ConnectData::new([1; 16], 0, &"n".repeat(300), "h");
    assert_eq!(cut.subnqn(), Ok(&*long));
}

#[test]
fn connect_results_name_the_controller_or_the_fault() {
    assert_eq!(ConnectSuccess(0).with_cntlid(0x0102).0, 0x0102);
    assert!(ConnectSuccess(0x2_0000).atr() && ConnectSuccess(0x4_0000).ascr());
    assert_eq!(ConnectInvalid::command(connect_offset::SQSIZE).0, 44);
    assert_eq!(ConnectInvalid::data(connect_offset::HOSTNQN).0, 0x1_0000 | 512);
    let status = FabricsStatus(NvmeStatus::CONNECT_INVALID_PARAMETERS);
    assert_eq!(status.to_string(), "connect invalid parameters (SCT 0x1, SC 0x82)");
    assert_eq!(
        FabricsStatus(NvmeStatus::ANA_INACCESSIBLE).to_string(),
        NvmeStatus::ANA_INACCESSIBLE.to_string()
    );
}

#[test]
fn properties_as_a_host_sends_them() {
    let get = Property::get(offset::CAP, true);
    assert_eq!(get.as_bytes()[..6], [0x7f, 0x40, 0, 0, 0x04, 0]);
    assert_eq!(get.as_bytes()[40..48], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(get.direction(), DataDirection::None);
    let set = Property::set(offset::CC, false, 0x0046_0001);
    assert_eq!(set.as_bytes()[4], 0x00);
    let golden = [0, 0, 0, 0, 0x14, 0, 0, 0, 0x01, 0, 0x46, 0, 0, 0, 0, 0];
    assert_eq!(set.as_bytes()[40..56], golden);
    let read = Property::of(&set);
    assert_eq!((read.bytes(), read.offset, read.value), (Some(4), 0x14, 0x0046_0001));
    assert_eq!(Property { attrib: 2, ..read }.bytes(), None);
    let wide = Property::of(&Property::set(0x28, true, 0x0102_0304_0506_0708));
    assert_eq!((wide.bytes(), wide.value), (Some(8), 0x0102_0304_0506_0708));
    let disconnect = Disconnect { recfmt: 0 }.to_sqe();
    assert_eq!((disconnect.as_bytes()[0], disconnect.as_bytes()[4]), (0x7f, 0x08));
    assert_eq!(Disconnect::of(&disconnect).recfmt, 0);
}

#[test]
fn registers_have_their_bits() {
    // 128 entries, contiguous, 15 s, NVM command set, pages of 4 KiB: 0x0000_0020_1e01_007f.
    let cap = Cap(0).with_mqes(127).with_cqr(true).with_to(30).with_css(css::NVM);
    assert_eq!(cap.0, 0x0000_0020_1e01_007f);
    let cap = Cap(0x1bd5_6153_4506_1234);
    assert_eq!((cap.mqes(), cap.cqr(), cap.ams(), cap.to()), (0x1234, false, 3, 0x45));
    assert_eq!((cap.dstrd(), cap.nssrs(), cap.css(), cap.bps()), (3, true, 0x0a, true));
    assert_eq!((cap.cps(), cap.mpsmin(), cap.mpsmax()), (1, 5, 0xd));
    assert_eq!((cap.pmrs(), cap.cmbs(), cap.nsss(), cap.crms()), (true, true, false, 3));
    assert_eq!((Vs::V1_4.major(), Vs::V1_4.minor(), Vs(0x1_0301).tertiary()), (1, 4, 1));
    let cc = Cc(0x0146_5b31);
    assert_eq!((cc.en(), cc.css(), cc.mps(), cc.ams()), (true, 3, 6, 3));
    assert_eq!((cc.shn(), cc.iosqes(), cc.iocqes(), cc.crime()), (shn::NORMAL, 6, 4, true));
    let csts = Csts(0b101_1001);
    assert_eq!((csts.rdy(), csts.cfs(), csts.shst()), (true, false, shst::COMPLETE));
    assert_eq!((csts.nssro(), csts.pp(), csts.st()), (true, false, true));
    assert_eq!(Cc(0).with_css(0xff).0, 0x70, "a value is cut off at the width of its field");
    assert_eq!(Cc(u32::MAX).with_css(0).0, !0x70, "the other fields stay");
}

#[test]
fn block_commands_have_their_fields() {
    let sqe = Sqe::block(io::WRITE, 3, 0x1122_3344_5566_7788, 8);
    let bytes = sqe.as_bytes();
    assert_eq!((bytes[0], bytes[4]), (1, 3));
    assert_eq!(bytes[40..52], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 7, 0, 0, 0]);
    let mut sqe = sqe;
    sqe.cdw12.set(0xe800_ffff);
    sqe.cdw13.set(0x1234_00d5);
    sqe.cdw14.set(0x0102_0304);
    sqe.cdw15.set(0xaaaa_bbbb);
    let view = BlockCommand(&sqe);
    assert_eq!((view.slba(), view.blocks()), (0x1122_3344_5566_7788, 65536));
    let control = view.control();
    assert_eq!(
        (control.lr(), control.fua(), control.prinfo()),
        (true, true, prinfo::ACTION | prinfo::CHECK_APPLICATION)
    );
    assert_eq!((control.deac(), control.stc()), (false, false));
    assert!(BlockControl(0x0200_0000).deac() && BlockControl(0x0100_0000).stc());
    assert_eq!(BlockControl(0x00f0_0000).dtype(), 0xf);
    let hints = view.hints();
    assert_eq!((hints.frequency(), hints.latency()), (5, 1));
    assert_eq!((hints.sequential(), hints.incompressible(), hints.dspec()), (true, true, 0x1234));
    assert_eq!((view.reference_tag(), view.application_tag()), (0x0102_0304, 0xbbbb));
    assert_eq!(view.application_tag_mask(), 0xaaaa);
    for (asked, got) in [(0, 1), (1, 1), (65536, 65536), (u32::MAX, 65536)] {
        assert_eq!(BlockCommand(&Sqe::block(io::READ, 1, 0, asked)).blocks(), got);
    }
}

#[test]
fn ranges_of_dataset_management_and_copy() {
    let golden = [0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(DsmRange::new(256, 8).as_bytes(), golden);
    let read = DsmRange::read(&golden, 1).expect("one");
    assert_eq!((read[0].slba.get(), read[0].blocks.get()), (256, 8));
    assert!(DsmRange::read(&golden, 2).is_err());
    let sqe = Sqe::dataset_management(1, 256, dsm_attribute::DEALLOCATE);
    assert_eq!(sqe.as_bytes()[40..48], [255, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!((DsmCommand(&sqe).ranges(), DsmCommand(&sqe).attributes()), (256, 4));

    let sqe = Sqe::copy(1, 0x1_0000_0002, 2, 1);
    assert_eq!(sqe.as_bytes()[40..52], [2, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0]);
    let view = CopyCommand(&sqe);
    assert_eq!((view.sdlba(), view.ranges(), view.control().format()), (0x1_0000_0002, 2, 1));
    let control = CopyControl(0xd0a0_c000);
    assert_eq!((control.lr(), control.fua(), control.prinfow()), (true, true, 4));
    assert_eq!((control.dtype(), control.prinfor()), (0xa, 0xc));

    // NSID 5, SLBA 0x10, NLB 7 (8 blocks), SOPT 3.
    let mut range = vec![5, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 3, 0];
    range.resize(80, 0xee);
    let source = |nsid, options| CopySource { nsid, slba: 0x10, blocks: 8, options };
    for (format, len, expected) in [
        (0, 32, source(None, 0)),
        (1, 40, source(None, 0)),
        (2, 32, source(Some(5), 3)),
        (3, 40, source(Some(5), 3)),
    ] {
        let ranges = CopyRanges::read(&range, format, 1).expect("one");
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [expected], "format {format}");
        assert_eq!((ranges.len(), ranges.is_empty(), ranges.get(1)), (1, false, None));
        assert!(CopyRanges::read(&range[..len], format, 1).is_ok());
        assert!(CopyRanges::read(&range[..len - 1], format, 1).is_err());
    }
    let wrong = ReadError::Value { what: "copy descriptor format", value: 4 };
    assert_eq!(CopyRanges::read(&range, 4, 1).err(), Some(wrong));
    assert_eq!(
        CopyRange32::new(0x10, 8).as_bytes()[8..24],
        range[8..22].iter().copied().chain([0, 0]).collect::<Vec<_>>()
    );
}

#[test]
fn reservation_commands_and_reports() {
    let register = RegisterControl(0xc000_000a);
    assert_eq!(
        (register.rrega(), register.iekey(), register.cptpl()),
        (rrega::REPLACE, true, cptpl::SET)
    );
    let acquire = AcquireControl(0x0000_0301);
    assert_eq!((acquire.racqa(), acquire.rtype()), (racqa::PREEMPT, 3));
    let release = ReleaseControl(0x0000_0109);
    assert_eq!((release.rrela(), release.iekey(), release.rtype()), (rrela::CLEAR, true, 1));
    let sqe = Sqe::reservation_report(1, 4096, true);
    assert_eq!(sqe.as_bytes()[40..48], [0xff, 3, 0, 0, 1, 0, 0, 0]);
    assert_eq!((ReportCommand(&sqe).bytes(), ReportCommand(&sqe).extended()), (4096, true));

    // Generation 9, exclusive access, one controller, persistent.
    let mut report = vec![9, 0, 0, 0, 2, 1, 0, 0, 0, 1];
    report.resize(24, 0);
    // Controller 7 holds it; host 1122334455667788h, key 42.
    report.extend([7, 0, 1, 0, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 42]);
    report.resize(48, 0);
    let read = ReservationReport::read(&report, false).expect("whole");
    assert_eq!((read.status.generation.get(), read.status.ptpls), (9, 1));
    assert_eq!(
        ReservationType::from_bits(read.status.rtype),
        Some(ReservationType::ExclusiveAccess)
    );
    let Registrants::Short([one]) = read.registrants else { panic!("{read:?}") };
    assert_eq!((one.cntlid.get(), one.rcsts, one.rkey.get()), (7, 1, 42));
    assert_eq!(u64::from_le_bytes(one.hostid), 0x1122_3344_5566_7788);
    assert!(ReservationReport::read(&report[..47], false).is_err());
    assert!(ReservationReport::read(&report, true).is_err());

    report.truncate(24);
    report.resize(64, 0);
    report.extend([7, 0, 1, 0, 0, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0]);
    report.extend([0x5a; 16]);
    report.resize(128, 0);
    let read = ReservationReport::read(&report, true).expect("whole");
    let Registrants::Extended([one]) = read.registrants else { panic!("{read:?}") };
    assert_eq!((one.cntlid.get(), one.rkey.get(), one.hostid), (7, 42, [0x5a; 16]));
    assert!(ReservationReport::read(&report[..127], true).is_err());
}

#[test]
fn reservation_types_say_who_has_access() {
    let rows = [
        (1, false, false, false),
        (2, true, false, false),
        (3, false, true, false),
        (4, true, true, false),
        (5, false, true, true),
        (6, true, true, true),
    ];
    for (bits, reads, registrants, all) in rows {
        let kind = ReservationType::from_bits(bits).expect("defined");
        assert_eq!(
            (kind.bits(), kind.excludes_reads(), kind.registrants(), kind.all_registrants()),
            (bits, reads, registrants, all)
        );
    }
    assert_eq!((ReservationType::from_bits(0), ReservationType::from_bits(7)), (None, None));
}

#[test]
fn events_have_their_bits() {
    let event = aer::AsyncEvent::new(aer::event_type::NOTICE, aer::notice::ANA_CHANGE, 0x0c);
    assert_eq!(event.result(), 0x000c_0302);
    assert_eq!((event.kind(), event.info(), event.lid()), (2, 3, 0x0c));
    let config = feature::AsyncEventConfig(0x8000_0901);
    assert!(config.discovery_log() && config.ana_change() && config.namespace_attribute());
    assert_eq!(config.critical_warnings(), log::critical_warning::SPARE);
    let queues = feature::NumberOfQueues(0x0003_0007);
    assert_eq!((queues.submission(), queues.completion()), (7, 3));
}

#[test]
fn connection_pdus_as_a_host_and_a_controller_send_them() {
    let mut golden = vec![0x00, 0x00, 0x80, 0x00, 0x80, 0, 0, 0, 0, 0, 0x05, 0x03, 0x0f, 0, 0, 0];
    golden.resize(128, 0);
    let request = IcReq {
        header: CommonHeader::new(pdu_type::ICREQ, 0, hlen::IC, 0, 128),
        hpda: 5,
        dgst: dgst::HEADER | dgst::DATA,
        maxr2t: 15.into(),
        ..Default::default()
    };
    assert_eq!(request.as_bytes(), golden);
    golden[0] = 0x01;
    golden[12..16].copy_from_slice(&[0x00, 0x00, 0x02, 0x00]);
    let response = IcResp::read_from_bytes(&golden).expect("128 bytes");
    assert_eq!((response.cpda, response.dgst, response.maxh2cdata.get()), (5, 3, 131_072));
    let mut golden = vec![0x02, 0, 0x18, 0, 0x20, 0, 0, 0, 0x01, 0, 0x04, 0x03, 0x02, 0x01];
    golden.resize(24, 0);
    let term = TermReq::read_from_bytes(&golden).expect("24 bytes");
    assert_eq!((term.fes.get(), term.fei.get()), (fes::INVALID_HEADER_FIELD, 0x0102_0304));
    assert_eq!(term.header.plen.get(), 32);
}

#[test]
fn capsules_as_a_host_and_a_controller_send_them() {
    // A connect capsule: 72 bytes of header, 1024 bytes of data at offset 72.
    let mut golden = vec![0x04, 0x00, 0x48, 0x48, 0x48, 0x04, 0x00, 0x00];
    golden.extend(connect_command());
    let sqe = Sqe::read_from_bytes(&connect_command()).expect("64 bytes");
    let plen = u32::from(hlen::CAPSULE_CMD) + CONNECT_DATA_LEN;
    let header = CommonHeader::new(pdu_type::CAPSULE_CMD, 0, hlen::CAPSULE_CMD, 72, plen);
    assert_eq!(CapsuleCmd { header, sqe }.as_bytes(), golden);
    // Controller 1, SQHD 1, CID 0x2001, success.
    let golden =
        [5, 0, 0x18, 0, 0x18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x01, 0x20, 0, 0];
    let capsule = CapsuleResp {
        header: CommonHeader::new(pdu_type::CAPSULE_RESP, 0, hlen::CAPSULE_RESP, 0, 24),
        cqe: Cqe::new(0x2001, 1, NvmeStatus::SUCCESS, 1),
    };
    assert_eq!(capsule.as_bytes(), golden);
}

#[test]
fn data_pdus_as_a_host_and_a_controller_send_them() {
    // 4096 bytes at offset 8192 with both digests: PDO 28, PLEN 28 + 4096 + 4.
    let golden = [
        0x06, 0x07, 0x18, 0x1c, 0x20, 0x10, 0, 0, 0x34, 0x12, 0x78, 0x56, 0, 0x20, 0, 0, 0, 0x10,
        0, 0, 0, 0, 0, 0,
    ];
    let data = H2cData::read_from_bytes(&golden).expect("24 bytes");
    assert!(data.header.has(pdu_flag::HDGST) && data.header.has(pdu_flag::DDGST));
    assert!(data.header.has(pdu_flag::LAST) && !data.header.has(pdu_flag::SUCCESS));
    assert_eq!((data.header.pdo, data.header.plen.get()), (28, 28 + 4096 + DIGEST_LEN));
    assert_eq!((data.cccid.get(), data.ttag.get()), (0x1234, 0x5678));
    assert_eq!((data.datao.get(), data.datal.get()), (8192, 4096));
    let data = C2hData::read_from_bytes(&golden).expect("24 bytes");
    assert_eq!((data.cccid.get(), data.datao.get(), data.datal.get()), (0x1234, 8192, 4096));
    let r2t = R2t::read_from_bytes(&golden).expect("24 bytes");
    assert_eq!((r2t.cccid.get(), r2t.ttag.get()), (0x1234, 0x5678));
    assert_eq!((r2t.r2to.get(), r2t.r2tl.get()), (8192, 4096));
    let lengths: Vec<_> = (0..=10).map(hlen::of).collect();
    let (ic, data) = (Some(128), Some(24));
    assert_eq!(lengths, [ic, ic, data, data, Some(72), data, data, data, None, data, None]);
}

#[test]
fn opcodes_tell_the_direction_of_their_data() {
    use DataDirection::{ControllerToHost, HostToController, None};
    let rows = [
        (admin::GET_LOG_PAGE, ControllerToHost),
        (admin::IDENTIFY, ControllerToHost),
        (admin::GET_FEATURES, ControllerToHost),
        (admin::SET_FEATURES, HostToController),
        (admin::ASYNC_EVENT_REQUEST, None),
        (admin::KEEP_ALIVE, None),
        (io::FLUSH, None),
        (io::WRITE, HostToController),
        (io::READ, ControllerToHost),
        (io::COMPARE, HostToController),
        (io::WRITE_ZEROES, None),
        (io::DATASET_MANAGEMENT, HostToController),
        (io::VERIFY, None),
        (io::RESERVATION_REGISTER, HostToController),
        (io::RESERVATION_REPORT, ControllerToHost),
        (io::RESERVATION_ACQUIRE, HostToController),
        (io::RESERVATION_RELEASE, HostToController),
        (io::COPY, HostToController),
    ];
    for (opcode, direction) in rows {
        assert_eq!(Sqe::new(opcode, 1).direction(), direction, "{opcode:#x}");
    }
    let rows = [
        (fctype::PROPERTY_SET, None),
        (fctype::CONNECT, HostToController),
        (fctype::PROPERTY_GET, None),
        (fctype::AUTHENTICATION_SEND, HostToController),
        (fctype::AUTHENTICATION_RECEIVE, ControllerToHost),
        (fctype::DISCONNECT, None),
    ];
    for (kind, direction) in rows {
        assert_eq!(Sqe::fabrics(kind).direction(), direction, "{kind:#x}");
    }
}
