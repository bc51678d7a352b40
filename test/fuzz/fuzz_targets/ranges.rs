//! The ranges of dataset management and copy.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::spec::nvm::{CopyRanges, DsmRange};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    format: u8,
    count: u32,
    data: &'a [u8],
}

/// The little endian number of the bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn dsm(count: u32, data: &[u8]) {
    let Ok(ranges) = DsmRange::read(data, count) else {
        return assert!(data.len() / 16 < count as usize);
    };
    assert_eq!(ranges.len(), count as usize);
    for (range, raw) in ranges.iter().zip(data.chunks_exact(16)) {
        assert_eq!(u64::from(range.blocks.get()), number(&raw[4..8]));
        assert_eq!(range.slba.get(), number(&raw[8..16]));
    }
}

fn copy(format: u8, count: u32, data: &[u8]) {
    let len = if format & 1 == 0 { 32 } else { 40 };
    let Ok(ranges) = CopyRanges::read(data, format, count) else {
        return assert!(format > 3 || data.len() / len < count as usize);
    };
    assert_eq!((ranges.len(), ranges.is_empty()), (count as usize, count == 0));
    assert_eq!(ranges.iter().count(), ranges.len());
    assert_eq!(ranges.get(ranges.len()), None);
    for (range, raw) in ranges.iter().zip(data.chunks_exact(len)) {
        assert_eq!(range.slba, number(&raw[8..16]));
        assert_eq!(u64::from(range.blocks), number(&raw[16..18]) + 1);
        assert_eq!(range.nsid.map(u64::from), (format > 1).then(|| number(&raw[..4])));
    }
}

fuzz_target!(|input: Input<'_>| {
    // Counts near the size of the data are the ones that matter.
    for count in [input.count, input.count % 257] {
        dsm(count, input.data);
        copy(input.format, count, input.data);
        copy(input.format % 4, count, input.data);
    }
});
