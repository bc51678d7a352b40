//! The layouts of the zoned command set, byte by byte.

use zerocopy::{FromBytes, IntoBytes};

use super::*;

#[test]
fn commands_on_the_wire() {
    let send = Sqe::zone_send(3, 0x1_0000_8000, ZoneAction::Reset, true);
    assert_eq!((send.opcode, send.nsid.get()), (0x79, 3));
    assert_eq!((send.cdw10.get(), send.cdw11.get(), send.cdw13.get()), (0x8000, 1, 0x104));
    let view = ZoneSendCommand(&send);
    assert_eq!((view.slba(), view.control().select_all()), (0x1_0000_8000, true));
    let report = Sqe::zone_report(3, 0x8000, 4096);
    assert_eq!((report.opcode, report.cdw12.get(), report.cdw13.get()), (0x7a, 1023, 0x1_0000));
    assert_eq!(ZoneReceiveCommand(&report).bytes(), 4096);
    let append = Sqe::zone_append(3, 0x8000, 8);
    assert_eq!((append.opcode, append.cdw10.get(), append.cdw12.get()), (0x7d, 0x8000, 7));
    assert_eq!(ZoneAppendCommand(&append).blocks(), 8);
    assert_eq!(ZoneAppendCommand(&append).zslba(), 0x8000);
    let numbers = ZoneAction::ALL.map(|action| (action.bits(), action.name()));
    let words = [(1, "close"), (2, "finish"), (3, "open"), (4, "reset"), (5, "offline")];
    assert_eq!(numbers, words);
    assert_eq!(ZoneAction::from_bits(0x10), None, "what needs data is no action of a zone");
}

/// The bytes of a descriptor: a zone at block 8000h with 6000h blocks, opened by a write,
/// written up to block 8010h, with a recommendation to reset it.
fn golden() -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[..4].copy_from_slice(&[0x02, 0x20, 0x04, 0x00]);
    bytes[9] = 0x60;
    bytes[17] = 0x80;
    bytes[24..26].copy_from_slice(&[0x10, 0x80]);
    bytes
}

#[test]
fn a_report_is_read_as_far_as_it_is_whole() {
    let mut data = vec![0; 64];
    data[0] = 3;
    data.extend(golden());
    data.extend(golden());
    data.extend([0xff; 63]);
    let report = ZoneReport::read(&data).unwrap();
    assert_eq!((report.nr_zones, report.zones.len()), (3, 2));
    let zone = report.zones[1];
    assert_eq!(zone.kind(), SEQUENTIAL_WRITE_REQUIRED);
    assert_eq!(zone.state(), Ok(ZoneState::ImplicitlyOpen));
    assert_eq!((zone.zslba.get(), zone.zcap.get(), zone.wp.get()), (0x8000, 0x6000, 0x8010));
    assert_eq!(zone.za, za::RESET_RECOMMENDED);
    assert_eq!(zone.as_bytes(), golden());
    // A count that is larger than the bytes, or than an address.
    data[..8].fill(0xff);
    assert_eq!(ZoneReport::read(&data).unwrap().zones.len(), 2);
    data[..8].fill(0);
    assert!(ZoneReport::read(&data).unwrap().zones.is_empty());
    assert!(ZoneReport::read(&data[..63]).is_err());
}

#[test]
fn states_have_their_numbers() {
    for bits in 0..16_u8 {
        let zone = ZoneDescriptor { zs: bits << 4 | 0xf, ..Default::default() };
        match ZoneState::from_bits(bits) {
            Some(state) => {
                assert_eq!((state.bits(), zone.state()), (bits, Ok(state)));
            }
            None => assert!(zone.state().is_err() && matches!(bits, 0 | 5..=0xc)),
        }
    }
    assert_eq!(ZoneState::Full.name(), "full");
    assert!(!ZoneState::Full.has_write_pointer() && ZoneState::Closed.has_write_pointer());
}

#[test]
fn what_identifies_zones_is_where_it_should_be() {
    let mut bytes = [0; 4096];
    bytes[0] = 1;
    bytes[2] = 1;
    bytes[4..8].copy_from_slice(&13_u32.to_le_bytes());
    bytes[8..12].fill(0xff);
    bytes[2816 + 16..2816 + 24].copy_from_slice(&0x8000_u64.to_le_bytes());
    bytes[2816 + 24] = 2;
    let data = IdentifyNamespaceZoned::ref_from_bytes(&bytes).unwrap();
    assert_eq!((data.zoc.get(), data.ozcs.get()), (zoc::VARIABLE_CAPACITY, ozcs::READ_ACROSS));
    assert_eq!((data.mar.get(), data.mor.get()), (13, u32::MAX));
    assert_eq!((data.lbafe[1].zsze.get(), data.lbafe[1].zdes), (0x8000, 2));
    bytes[0] = 5;
    assert_eq!(IdentifyControllerZoned::ref_from_bytes(&bytes).unwrap().zasl, 5);
}
