//! The kernel's announcements of devices.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::env::uevent::Uevent;

fuzz_target!(|data: &[u8]| {
    let Ok(event) = Uevent::parse(data) else { return };
    // What was read, written again, is what was given.
    let mut text = format!("{}@{}\0", event.action.name(), event.devpath);
    for (key, value) in event.pairs() {
        assert_eq!(event.value(key), Some(*value));
        text.push_str(&format!("{key}={value}\0"));
    }
    assert_eq!(text.as_bytes(), data);
    assert_eq!(event.value("SUBSYSTEM"), Some(event.subsystem));
    if let Some(address) = event.nvme_controller() {
        assert_eq!(event.subsystem, "pci");
        let slot = event.value("PCI_SLOT_NAME").and_then(|slot| slot.parse().ok());
        assert_eq!(slot, Some(address));
    }
});
