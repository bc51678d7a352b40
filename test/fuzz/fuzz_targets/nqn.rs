//! NQNs, in fields of 256 bytes and as text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spdk_rs::nvme::spec::text;
use spdk_rs::nvmf::Nqn;

fn field(bytes: &[u8]) {
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
}

/// What is a name can be sent, and comes back as it is.
fn name(text: &str) {
    let Ok(name) = Nqn::new(text) else { return };
    assert!(name.as_str() == text && text.starts_with("nqn."));
    let mut field = [0xa5; 256];
    text::set_terminated(&mut field, text);
    assert_eq!(text::nqn("field", &field), Ok(text));
}

fuzz_target!(|bytes: &[u8]| {
    field(bytes);
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    if let Ok(text) = std::str::from_utf8(text) {
        name(text);
    }
});
