//! Device URIs: what is printed parses back to an equal value, and every parameter is taken or
//! refused.
#![no_main]

use io_engine::bdev::{BdevUri, plan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let parsed = BdevUri::parse(text);
    if let Ok(uri) = &parsed {
        let printed = uri.to_string();
        let again = BdevUri::parse(&printed).expect("what is printed is a URI");
        assert_eq!(*uri, again, "{printed}");
        assert_eq!(printed, again.to_string());
        let _ = (uri.host(), uri.port(), uri.path(), uri.name(), uri.file_path());
        let mut params = uri.params();
        let _ = params.take_size("size_mb", 1..=u64::MAX);
        let _ = params.take_u64("num_blocks", 0..=u64::MAX);
        let _ = params.take_block_size(&[512, 4096]);
        let _ = params.take_uuid("uuid");
        let _ = params.take_bool("resize");
        let _ = params.finish();
    }
    // A plan opens nothing; it only exists for a text that is a URI.
    assert!(plan(text).is_err() || parsed.is_ok());
});
