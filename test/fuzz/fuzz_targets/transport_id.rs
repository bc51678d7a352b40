//! The five strings of a transport identifier: what is accepted, written again, is the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::TransportId;
use spdk_rs::nvmf::Nqn;

fuzz_target!(|text: &str| {
    let mut parts = text.split('\n');
    let mut next = || parts.next().unwrap_or_default();
    let (trtype, adrfam, traddr, trsvcid, subnqn) = (next(), next(), next(), next(), next());
    let parse = |family| TransportId::parse(trtype, family, traddr, trsvcid, subnqn);
    if let Ok(id) = parse(adrfam) {
        let family = id.adrfam().name();
        let again = TransportId::parse("TCP", family, &id.traddr(), &id.trsvcid(), &id.subnqn);
        assert_eq!(again.as_ref(), Ok(&id), "{id}");
        assert!(adrfam.is_empty() || family.eq_ignore_ascii_case(adrfam));
        assert_ne!(id.address.port(), 0);
    }
    // Every name that a target can have can be connected to.
    if Nqn::new(subnqn).is_ok() {
        assert!(TransportId::parse("tcp", "", "192.0.2.1", "4420", subnqn).is_ok());
    }
});
