//! Namespace identification descriptors: what was read, written again, reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::spec::identify::NamespaceIds;

fuzz_target!(|data: &[u8]| {
    let (mut written, mut read) = (Vec::new(), Vec::new());
    let mut ids = NamespaceIds::new(data);
    for id in ids.by_ref() {
        match id {
            Ok(id) => {
                id.append_to(&mut written);
                read.push(id);
            }
            Err(_) => break,
        }
    }
    assert_eq!(ids.next(), None, "the end and an error are final");
    assert!(written.len() <= data.len());
    let again: Vec<_> = NamespaceIds::new(&written).map(|id| id.expect("own writing")).collect();
    assert_eq!(read, again);
});
