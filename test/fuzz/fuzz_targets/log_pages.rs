//! The log pages of variable length: ANA, discovery, changed namespaces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::spec::log::{AnaLog, ChangedNamespaces, DiscoveryLog};
use zerocopy::IntoBytes;

/// What was read, written again, is what the page begins with.
fn ana(data: &[u8]) {
    let Ok(page) = AnaLog::read(data) else { return assert!(data.len() < 16) };
    let mut written = page.header().as_bytes().to_vec();
    let (mut whole, mut errors) = (0, 0);
    for group in page.groups() {
        assert_eq!(errors, 0, "an error is final");
        match group {
            Ok(group) => {
                assert_eq!(group.nsids.len(), group.descriptor.nnsids.get() as usize);
                let _ = group.descriptor.state();
                written.extend_from_slice(group.descriptor.as_bytes());
                written.extend_from_slice(group.nsids.as_bytes());
                whole += 1;
            }
            Err(_) => errors += 1,
        }
    }
    assert_eq!(written, data[..written.len()]);
    assert_eq!(errors == 0, whole == page.header().ngrps.get());
}

fn discovery(data: &[u8]) {
    let Ok(page) = DiscoveryLog::read(data) else { return };
    assert_eq!(page.entries().len() as u64, page.header().numrec.get());
    assert!(1024 * (page.entries().len() + 1) <= data.len());
    for entry in page.entries() {
        let _ = (entry.subnqn(), entry.traddr(), entry.trsvcid(), entry.tsas_tcp());
    }
}

fn changed(data: &[u8]) {
    match ChangedNamespaces::read(data) {
        None => assert_eq!(data[..4], [0xff; 4]),
        Some(list) => {
            let nsids: Vec<u32> = list.collect();
            assert!(nsids.len() <= data.len() / 4 && !nsids.contains(&0));
            let page = ChangedNamespaces::of(nsids.iter().copied());
            let again = ChangedNamespaces::read(page.as_bytes()).map(Iterator::collect);
            assert_eq!(again, (nsids.len() <= 1024).then_some(nsids));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    ana(data);
    discovery(data);
    changed(data);
});
