//! NQNs, in fields of 256 bytes and as text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::spec::text;

fuzz_target!(|bytes: &[u8]| {
    let mut field = [0xa5; 256];
    let len = bytes.len().min(256);
    field[..len].copy_from_slice(&bytes[..len]);
    if let Ok(name) = text::nqn("field", &field) {
        assert!((1..=text::NQN_LEN_MAX).contains(&name.len()));
        assert_eq!(field[name.len()], 0);
        assert!(!name.contains('\0'));
        let mut copy = [0xa5; 256];
        text::set_terminated(&mut copy, name);
        assert_eq!(text::nqn("copy", &copy), Ok(name));
    }
    let padded = text::padded(&field);
    assert!(!padded.ends_with(b" ") && !padded.contains(&0));
});
