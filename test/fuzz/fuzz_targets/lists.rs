//! Lists of namespaces and of controllers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::spec::identify::{ActiveNamespaces, ControllerList, NamespaceList};
use zerocopy::IntoBytes;

fuzz_target!(|data: &[u8]| {
    let nsids: Vec<u32> = ActiveNamespaces::new(data).collect();
    let naive: Vec<u32> = data
        .chunks_exact(4)
        .map(|entry| u32::from_le_bytes(entry.try_into().expect("four bytes")))
        .take_while(|&nsid| nsid != 0)
        .collect();
    assert_eq!(nsids, naive);
    let list = NamespaceList::of(nsids.iter().copied());
    assert!(ActiveNamespaces::new(list.as_bytes()).eq(nsids.into_iter().take(1024)));

    if let Ok(cntlids) = ControllerList::read(data) {
        assert_eq!(cntlids.len(), usize::from(u16::from_le_bytes([data[0], data[1]])));
        assert_eq!(cntlids.as_bytes(), &data[2..2 + 2 * cntlids.len()]);
        let list = ControllerList::of(cntlids.iter().map(|id| id.get()));
        let again = ControllerList::read(list.as_bytes()).expect("own writing");
        assert_eq!(again, &cntlids[..cntlids.len().min(2047)]);
    }
});
