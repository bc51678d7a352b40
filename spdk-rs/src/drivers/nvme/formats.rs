//! The LBA formats that a namespace can have.

use crate::nvme::spec::identify::{IdentifyNamespace, LbaFormat};

/// The formats that a namespace can have: those in the table, up to the number of them.
fn table(data: &IdentifyNamespace) -> impl Iterator<Item = (u8, LbaFormat)> {
    let count = usize::from(data.nlbaf) + 1;
    let there = data.lbaf.iter().take(count).copied();
    (0..64).zip(there).filter(|(_, format)| format.lbads != 0)
}

/// The index of the fastest format with blocks of so many bytes and no metadata.
pub(super) fn best_format(data: &IdentifyNamespace, bytes: u32) -> Option<u8> {
    let fits =
        |(_, format): &(u8, LbaFormat)| format.block_bytes() == Some(bytes) && format.ms.get() == 0;
    let best = table(data).filter(fits).min_by_key(|(_, format)| format.rp & 3);
    best.map(|(index, _)| index)
}

/// The formats in words.
pub(super) fn formats(data: &IdentifyNamespace) -> String {
    let words = table(data).map(|(index, format)| match format.ms.get() {
        0 => format!("{index}: 2^{} bytes", format.lbads),
        metadata => format!("{index}: 2^{} bytes and {metadata} of metadata", format.lbads),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_format_without_metadata_is_chosen() {
        let mut data = IdentifyNamespace { nlbaf: 3, ..Default::default() };
        data.lbaf[0] = LbaFormat::new(9, 0);
        data.lbaf[1] = LbaFormat::new(12, 8);
        data.lbaf[2] = LbaFormat { rp: 2, ..LbaFormat::new(12, 0) };
        data.lbaf[3] = LbaFormat { rp: 1, ..LbaFormat::new(12, 0) };
        // Beyond the number of formats.
        data.lbaf[4] = LbaFormat::new(12, 0);
        assert_eq!((best_format(&data, 512), best_format(&data, 4096)), (Some(0), Some(3)));
        assert_eq!(best_format(&data, 8192), None);
        assert!(formats(&data).contains("1: 2^12 bytes and 8 of metadata"), "{}", formats(&data));
    }
}
