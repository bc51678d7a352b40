//! The answers to reservation reports, of both layouts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::spec::reservation::{Registrants, ReservationReport, ReservationType};

fuzz_target!(|data: &[u8]| {
    for (extended, header, entry) in [(false, 24, 24), (true, 64, 64)] {
        let Ok(report) = ReservationReport::read(data, extended) else {
            let count = data.get(5..7).map_or(0, |raw| u16::from_le_bytes([raw[0], raw[1]]));
            assert!(data.len() < header + entry * usize::from(count));
            continue;
        };
        let _ = ReservationType::from_bits(report.status.rtype);
        let count = usize::from(report.status.regctl.get());
        let rkey = |at: usize| data[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        match report.registrants {
            Registrants::Short(list) => {
                assert!(!extended && list.len() == count);
                for (at, one) in list.iter().enumerate() {
                    assert_eq!(Some(one.rkey.get()), rkey(24 + at * 24 + 16));
                }
            }
            Registrants::Extended(list) => {
                assert!(extended && list.len() == count);
                for (at, one) in list.iter().enumerate() {
                    assert_eq!(Some(one.rkey.get()), rkey(64 + at * 64 + 8));
                }
            }
        }
    }
});
