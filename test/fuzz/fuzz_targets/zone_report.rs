//! Reports of zones, whole or cut off, with counts that are true or not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::spec::zns::ZoneReport;

fuzz_target!(|data: &[u8]| {
    let Ok(report) = ZoneReport::read(data) else {
        assert!(data.len() < 64);
        return;
    };
    let word = |at: usize| data[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let room = (data.len() - 64) / 64;
    assert_eq!(Some(report.nr_zones), word(0));
    assert_eq!(report.zones.len() as u64, report.nr_zones.min(room as u64));
    for (index, descriptor) in report.zones.iter().enumerate() {
        let at = 64 + index * 64;
        let Ok(zone) = descriptor.zone() else {
            assert!(matches!(data[at + 1] >> 4, 0 | 5..=0xc));
            continue;
        };
        assert_eq!(zone.state.bits(), data[at + 1] >> 4);
        assert_eq!(Some(zone.capacity_blocks), word(at + 8));
        assert_eq!(Some(zone.first_block), word(at + 16));
        assert!(zone.write_pointer.is_none_or(|place| Some(place) == word(at + 24)));
    }
});
