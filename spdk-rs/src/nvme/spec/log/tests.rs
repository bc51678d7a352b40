//! Log pages against bytes written down from the specification's tables.

use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::nvme::spec::{ReadError, text};

/// Puts bytes at an offset.
fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Two groups: group 1 optimized with namespaces 1 and 5, group 2 inaccessible with none.
fn ana_golden() -> Vec<u8> {
    let mut page = vec![0; 16 + 32 + 8 + 32];
    put(&mut page, 0, &[0x07, 0, 0, 0, 0, 0, 0, 0, 0x02, 0]);
    put(&mut page, 16, &[1, 0, 0, 0, 2, 0, 0, 0, 0x06]);
    page[16 + 16] = 0x01;
    put(&mut page, 48, &[1, 0, 0, 0, 5, 0, 0, 0]);
    put(&mut page, 56, &[2, 0, 0, 0, 0, 0, 0, 0, 0x07]);
    page[56 + 16] = 0x03;
    page
}

#[test]
fn ana_page_reads_as_the_specification_writes_it() {
    let golden = ana_golden();
    let page = AnaLog::read(&golden).expect("whole");
    assert_eq!((page.header().chgcnt.get(), page.header().ngrps.get()), (7, 2));
    let groups: Vec<_> = page.groups().map(|group| group.expect("whole")).collect();
    let summary: Vec<_> = groups
        .iter()
        .map(|g| (g.descriptor.grpid.get(), g.descriptor.state(), g.descriptor.chgcnt.get()))
        .collect();
    assert_eq!(summary, [(1, Some(AnaState::Optimized), 6), (2, Some(AnaState::Inaccessible), 7)]);
    assert_eq!(groups[0].nsids.iter().map(|n| n.get()).collect::<Vec<_>>(), [1, 5]);
    assert!(groups[1].nsids.is_empty());
}

#[test]
fn ana_page_is_written_as_the_specification_writes_it() {
    let mut written = Vec::new();
    let header = AnaLogHeader { chgcnt: 7.into(), ngrps: 2.into(), ..Default::default() };
    written.extend_from_slice(header.as_bytes());
    let first = AnaGroupDescriptor::new(1, 2, 6, AnaState::Optimized);
    written.extend_from_slice(first.as_bytes());
    written.extend_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    let second = AnaGroupDescriptor::new(2, 0, 7, AnaState::Inaccessible);
    written.extend_from_slice(second.as_bytes());
    assert_eq!(written, ana_golden());
}

#[test]
fn ana_page_that_is_cut_off_ends_in_an_error() {
    let golden = ana_golden();
    for len in 0..golden.len() {
        let read = AnaLog::read(&golden[..len]).map(|page| page.groups().collect::<Vec<_>>());
        match read {
            Err(error) => assert!(len < 16 && matches!(error, ReadError::Truncated { .. })),
            Ok(groups) => {
                let whole = usize::from(len >= 56);
                assert_eq!(groups.len(), whole + 1, "{len} bytes");
                assert!(groups[..whole].iter().all(Result::is_ok) && groups[whole].is_err());
            }
        }
    }
    let mut golden = golden;
    put(&mut golden, 20, &[0xff; 4]);
    let page = AnaLog::read(&golden).expect("header");
    assert!(page.groups().all(|group| group.is_err()));
    assert_eq!(page.groups().count(), 1);
}

#[test]
fn ana_states_have_their_numbers() {
    let numbers = [(1, true), (2, true), (3, false), (4, false), (0xf, false)];
    for (bits, serves) in numbers {
        let state = AnaState::from_bits(bits | 0xf0).expect("defined");
        assert_eq!((state.bits(), state.serves_io()), (bits, serves));
    }
    assert!(
        (0..16)
            .filter(|&bits| AnaState::from_bits(bits).is_none())
            .eq([0].into_iter().chain(5..15))
    );
}

/// A page with one entry: an NVM subsystem at 192.0.2.7 port 4420.
fn discovery_golden() -> Vec<u8> {
    let mut page = vec![0; 2048];
    put(&mut page, 0, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1]);
    let entry = &mut page[1024..];
    // TRTYPE TCP, ADRFAM IPv4, SUBTYPE NVM, TREQ not required and SQ flow control may be off.
    put(entry, 0, &[3, 1, 2, 0b110]);
    // PORTID 1, CNTLID FFFFh, ASQSZ 128, EFLAGS 0.
    put(entry, 4, &[1, 0, 0xff, 0xff, 128, 0, 0, 0]);
    entry[32..64].fill(b' ');
    put(entry, 32, b"4420");
    put(entry, 256, b"nqn.2019-05.io.example:a");
    entry[512..768].fill(b' ');
    put(entry, 512, b"192.0.2.7");
    entry[768] = 0;
    page
}

#[test]
fn discovery_page_reads_as_the_specification_writes_it() {
    let golden = discovery_golden();
    let page = DiscoveryLog::read(&golden).expect("whole");
    assert_eq!((page.header().genctr.get(), page.entries().len()), (0x2a, 1));
    let entry = &page.entries()[0];
    assert_eq!(
        (entry.trtype, entry.adrfam, entry.subtype),
        (trtype::TCP, adrfam::IPV4, subtype::NVM)
    );
    assert_eq!(entry.treq, treq::NOT_REQUIRED | treq::SQ_FLOW_CONTROL_DISABLE);
    assert_eq!((entry.portid.get(), entry.cntlid.get()), (1, cntlid::DYNAMIC));
    assert_eq!((entry.asqsz.get(), entry.eflags.get()), (128, 0));
    assert_eq!(entry.trsvcid(), Ok("4420"));
    assert_eq!(entry.subnqn(), Ok("nqn.2019-05.io.example:a"));
    assert_eq!(entry.traddr(), Ok("192.0.2.7"));
    assert_eq!(entry.tsas_tcp().sectype, sectype::NONE);
}

#[test]
fn discovery_page_is_written_as_the_specification_writes_it() {
    let header = DiscoveryLogHeader { genctr: 0x2a.into(), numrec: 1.into(), ..Default::default() };
    let mut entry = DiscoveryEntry {
        trtype: trtype::TCP,
        adrfam: adrfam::IPV4,
        subtype: subtype::NVM,
        treq: treq::NOT_REQUIRED | treq::SQ_FLOW_CONTROL_DISABLE,
        portid: 1.into(),
        cntlid: cntlid::DYNAMIC.into(),
        asqsz: 128.into(),
        ..Default::default()
    };
    text::set_padded(&mut entry.trsvcid, "4420");
    text::set_terminated(&mut entry.subnqn, "nqn.2019-05.io.example:a");
    text::set_padded(&mut entry.traddr, "192.0.2.7");
    assert_eq!([header.as_bytes(), entry.as_bytes()].concat(), discovery_golden());
}

#[test]
fn discovery_page_must_be_whole() {
    let mut golden = discovery_golden();
    assert!(DiscoveryLog::read(&golden[..1023]).is_err());
    assert!(DiscoveryLog::read(&golden[..2047]).is_err());
    golden[16] = 1;
    let wrong = ReadError::Value { what: "RECFMT", value: 1 };
    assert_eq!(DiscoveryLog::read(&golden).err(), Some(wrong));
    golden[16] = 0;
    put(&mut golden, 8, &[0xff; 8]);
    assert!(DiscoveryLog::read(&golden).is_err());
}

#[test]
fn get_log_page_splits_length_and_offset() {
    let sqe = GetLogPage {
        lsp: 1,
        rae: true,
        lsi: 0x0605,
        offset: 0x0807_0605_0403_0201,
        offset_is_index: true,
        csi: 2,
        ..GetLogPage::new(lid::ANA, 0x4_0000 * 4 + 8)
    }
    .to_sqe(0xffff_ffff);
    let bytes = sqe.as_bytes();
    assert_eq!(bytes[0], 0x02);
    // 40002h dwords: NUMDL 1, NUMDU 4.
    assert_eq!(bytes[40..48], [0x0c, 0x81, 0x01, 0x00, 0x04, 0x00, 0x05, 0x06]);
    assert_eq!(bytes[48..60], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x80, 0x02]);
    let read = GetLogPage::of(&sqe);
    assert_eq!((read.bytes, read.offset), (0x4_0000 * 4 + 8, 0x0807_0605_0403_0201));
    assert_eq!(read.to_sqe(0xffff_ffff), sqe);
    assert_eq!(GetLogPage::new(lid::SMART, 1).bytes, 4);
    let all = GetLogPage { bytes: u64::MAX, ..GetLogPage::new(0, 4) }.to_sqe(1);
    assert_eq!(GetLogPage::of(&all).bytes, 1 << 34);
}

#[test]
fn smart_and_error_fields_are_where_the_specification_has_them() {
    let image: Vec<u8> = (0..512_u32).map(|at| (at * 7 + at / 32).to_le_bytes()[0]).collect();
    let number = |last: usize, first: usize| {
        image[first..=last].iter().rev().fold(0_u128, |value, &b| value << 8 | u128::from(b))
    };
    let smart = SmartHealth::read_from_bytes(&image).expect("512 bytes");
    assert_eq!(u128::from(smart.critical_warning), number(0, 0));
    assert_eq!(u128::from(smart.temperature.get()), number(2, 1));
    assert_eq!(u128::from(smart.available_spare), number(3, 3));
    assert_eq!(u128::from(smart.percentage_used), number(5, 5));
    assert_eq!(smart.data_units_read.get(), number(47, 32));
    assert_eq!(smart.data_units_written.get(), number(63, 48));
    assert_eq!(smart.host_reads.get(), number(79, 64));
    assert_eq!(smart.host_writes.get(), number(95, 80));
    assert_eq!(smart.power_on_hours.get(), number(143, 128));
    assert_eq!(smart.error_entries.get(), number(191, 176));
    assert_eq!(u128::from(smart.sensors[7].get()), number(215, 214));
    assert_eq!(u128::from(smart.thermal_time[1].get()), number(231, 228));

    let error = ErrorEntry::read_from_bytes(&image[..64]).expect("64 bytes");
    assert_eq!(u128::from(error.error_count.get()), number(7, 0));
    assert_eq!(u128::from(error.sqid.get()), number(9, 8));
    assert_eq!(u128::from(error.cid.get()), number(11, 10));
    assert_eq!(u128::from(error.status.get()), number(13, 12));
    assert_eq!(u128::from(error.location.get()), number(15, 14));
    assert_eq!(u128::from(error.lba.get()), number(23, 16));
    assert_eq!(u128::from(error.nsid.get()), number(27, 24));
    assert_eq!(u128::from(error.trtype), number(29, 29));
    assert_eq!(u128::from(error.command_specific.get()), number(39, 32));
    assert_eq!(u128::from(error.transport_specific.get()), number(41, 40));

    let note = ReservationNotification::read_from_bytes(&image[..64]).expect("64 bytes");
    assert_eq!(u128::from(note.lpc.get()), number(7, 0));
    assert_eq!((u128::from(note.kind), u128::from(note.available)), (number(8, 8), number(9, 9)));
    assert_eq!(u128::from(note.nsid.get()), number(15, 12));

    let slots = FirmwareSlots::read_from_bytes(&image).expect("512 bytes");
    assert_eq!((slots.afi, &slots.frs[6][..]), (image[0], &image[56..64]));
}

#[test]
fn effects_are_by_opcode() {
    let mut page = CommandsSupportedAndEffects::default();
    page.acs[0x06].set(CommandEffects(0).with_csupp(true).0);
    page.iocs[0x01].set(CommandEffects(0).with_csupp(true).with_lbcc(true).with_cse(1).0);
    let bytes = page.as_bytes();
    assert_eq!(bytes[24..28], [1, 0, 0, 0]);
    assert_eq!(bytes[1028..1032], [3, 0, 1, 0]);
    assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 3);
    assert_eq!(CommandEffects(0x000f_001f).cse(), 7);
    assert!(CommandEffects(0x0008_0000).uss() && CommandEffects(0x8000_0000).csp() == 0x800);
    assert!(SupportedLogPage(1).lsupp() && SupportedLogPage(2).ios());
}

#[test]
fn too_many_changed_namespaces_are_one_entry() {
    let some = ChangedNamespaces::of([3, 9]);
    let read = ChangedNamespaces::read(some.as_bytes()).expect("listed");
    assert_eq!(read.collect::<Vec<_>>(), [3, 9]);
    let full = ChangedNamespaces::of(1..=1024);
    assert_eq!(ChangedNamespaces::read(full.as_bytes()).expect("listed").count(), 1024);
    let many = ChangedNamespaces::of(1..=1025);
    assert_eq!(many.as_bytes()[..8], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert!(ChangedNamespaces::read(many.as_bytes()).is_none());
}
