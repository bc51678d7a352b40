//! Tables of good and bad URIs, and the two properties: no panic, and a round trip.

use proptest::prelude::*;

use uuid::Uuid;

use super::*;

fn uri(text: &str) -> BdevUri {
    BdevUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> String {
    BdevUri::parse(text).expect_err(text).to_string()
}

#[test]
fn takes_good_uris_apart() {
    let table = [
        ("malloc:///disk0?size_mb=64", "malloc", None, None, "/disk0"),
        ("MALLOC:///Disk0", "malloc", None, None, "/Disk0"),
        ("malloc:/disk0", "malloc", None, None, "/disk0"),
        ("aio:///dev/disk/by-id/a%20b", "aio", None, None, "/dev/disk/by-id/a b"),
        ("uring:///tmp/caf\u{e9}", "uring", None, None, "/tmp/café"),
        ("pcie:///0000:01:00.0/1", "pcie", None, None, "/0000:01:00.0/1"),
        ("nvmf://h:4420/nqn.2014-08.org:x", "nvmf", Some("h"), Some(4420), "/nqn.2014-08.org:x"),
        ("nvmf+tcp://10.0.0.1/nqn", "nvmf+tcp", Some("10.0.0.1"), None, "/nqn"),
        ("nvmf://[fe80::1]:1/nqn", "nvmf", Some("fe80::1"), Some(1), "/nqn"),
        ("bdev:///a/b", "bdev", None, None, "/a/b"),
    ];
    for (text, scheme, host, port, path) in table {
        let uri = uri(text);
        assert_eq!((uri.scheme(), uri.host(), uri.port()), (scheme, host, port), "{text}");
        assert_eq!(uri.path(), path, "{text}");
    }
}

#[test]
fn names_and_paths() {
    assert_eq!(uri("malloc:///disk0").name(), Ok("disk0"));
    assert_eq!(uri("aio:///dev/sdb").file_path(), Ok("/dev/sdb"));
    let no_name = UriError::NoName { scheme: "malloc".into() };
    assert_eq!(uri("malloc:///").name(), Err(no_name.clone()));
    assert_eq!(uri("malloc://").name(), Err(no_name));
    assert_eq!(uri("aio:///tmp/").file_path(), Err(UriError::NoName { scheme: "aio".into() }));
    let missing_slash = uri("aio://dev/sdb").file_path().expect_err("a host").to_string();
    assert!(missing_slash.contains("did you mean aio:///dev/sdb?"), "{missing_slash}");
    assert!(uri("malloc://disk0").name().is_err());
}

#[test]
fn refuses_what_it_would_have_to_guess() {
    for (text, reason) in [
        ("", "no scheme"),
        ("/dev/sdb", "no scheme"),
        ("disk0", "no scheme"),
        ("malloc:disk0", "`malloc:` has to be followed by"),
        ("file:///tmp/disk", "aio:///path"),
        ("http:.", "aio:///path"),
        ("aio:///a\nb", "control character"),
        ("aio:///a%00b", "control character"),
        ("aio:///a ", "blank"),
        ("aio:///a%zz", "two hexadecimal digits"),
        ("aio:///a%4", "two hexadecimal digits"),
        ("aio:///a%ff", "UTF-8"),
        ("aio:///a/../b", "symbolic links"),
        ("aio:///a/%2E%2e/b", "symbolic links"),
        ("aio:///a%2f.%2fb", "symbolic links"),
        ("aio://../b", "symbolic links"),
        ("aio:///a#b", "%23"),
        ("nvmf://.:1/nqn", "the host is"),
        ("nvmf://a%20b/nqn", "the host is"),
        ("nvmf://me@h/nqn", "user name"),
        ("nvmf://h:70000/nqn", "port"),
        ("malloc:///a?size_mb", "`size_mb` has no value"),
        ("malloc:///a?=4", "no parameter name"),
        ("malloc:///a?b=1&&c=2", "no value"),
        ("malloc:///a?size_mb=1&size_mb=2", "given twice, as `1` and as `2`"),
        ("malloc:///a?size_mb=1&size%5fmb=1", "given twice"),
    ] {
        let error = refusal(text);
        assert!(error.contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn unknown_scheme_lists_the_known_ones() {
    let error = uri("mallok:///x").unknown_scheme(&["malloc", "null", "aio"]).to_string();
    assert_eq!(error, "unknown scheme `mallok`; known are malloc, null, aio");
}

#[test]
fn parameters_are_typed() {
    let uri = uri("x:///n?size_mb=64&blk_size=4k&uuid=0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60\
                   &thin=true&size=1GiB&disk=nvmf+tcp://h:1/q%3Fa%3D1%26b=2&mode=b");
    let mut params = uri.params();
    assert_eq!(params.take_u64("size_mb", 1..=1024), Ok(Some(64)));
    assert_eq!(params.take_block_size(&[512, 4096]), Ok(Some(4096)));
    let uuid = Uuid::parse_str("0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60").expect("a UUID");
    assert_eq!(params.take_uuid("uuid"), Ok(Some(uuid)));
    assert_eq!(params.take_bool("thin"), Ok(Some(true)));
    assert_eq!(params.take_size("size", 0..=u64::MAX), Ok(Some(1 << 30)));
    assert_eq!(params.take_str("disk"), Some("nvmf+tcp://h:1/q?a=1&b=2"));
    assert_eq!(params.take_choice("mode", &[("a", 1), ("b", 2)]), Ok(Some(2)));
    assert_eq!(params.take_u64("absent", 0..=0), Ok(None));
    assert_eq!(params.finish(), Ok(()));
}

#[test]
fn bad_values_name_the_parameter_the_value_and_what_is_allowed() {
    let take = |text: &str, read: fn(&mut Params<'_>) -> Option<UriError>| {
        let uri = uri(text);
        read(&mut uri.params()).unwrap_or_else(|| panic!("{text} was taken")).to_string()
    };
    let size_mb: fn(&mut Params<'_>) -> _ = |p| p.take_u64("size_mb", 1..=1024).err();
    for value in ["0", "1025", "-1", "+1", "1.5", "", "0x10", "99999999999999999999"] {
        let error = take(&format!("x:///n?size_mb={value}"), size_mb);
        assert!(error.contains(&format!("`size_mb` cannot be `{value}`")), "{error}");
        assert!(error.contains("from 1 to 1024"), "{error}");
    }
    let error = take("x:///n?blk_size=520", |p| p.take_block_size(&[512, 4096]).err());
    assert!(error.contains("`520`") && error.contains("512, 4096"), "{error}");
    let error = take("x:///n?size=2M", |p| p.take_size("size", 4096..=1 << 20).err());
    assert!(error.contains("from 4KiB to 1MiB"), "{error}");
    let error = take("x:///n?size=2MB", |p| p.take_size("size", 0..=u64::MAX).err());
    assert!(error.contains("`MB`"), "{error}");
    let error = take("x:///n?uuid=abc", |p| p.take_uuid("uuid").err());
    assert!(error.contains("`uuid` cannot be `abc`"), "{error}");
    let nil = format!("x:///n?uuid={}", Uuid::nil());
    assert!(take(&nil, |p| p.take_uuid("uuid").err()).contains("nil"));
    let error = take("x:///n?thin=maybe", |p| p.take_bool("thin").err());
    assert!(error.contains("true, 1, false or 0"), "{error}");
    let error = take("x:///n?mode=c", |p| p.take_choice("mode", &[("a", 1), ("b", 2)]).err());
    assert!(error.contains("one of a, b"), "{error}");
}

#[test]
fn left_over_parameters_are_refused_with_the_allowed_ones() {
    let uri = uri("malloc:///a?size_mb=1&blksize=512&foo=1");
    let mut params = uri.params();
    assert_eq!(params.take_u64("size_mb", 1..=2), Ok(Some(1)));
    assert_eq!(params.take_block_size(&[512]), Ok(None));
    let error = params.finish().expect_err("two are left").to_string();
    let expected =
        "unknown parameter `blksize`, `foo` for `malloc:`; allowed are size_mb, blk_size";
    assert_eq!(error, expected);
    assert!(uri.params().finish().expect_err("all are left").to_string().ends_with("are none"));
}

#[test]
fn one_of_a_group() {
    let group = ["size_mb", "num_blocks"];
    let both = uri("malloc:///a?size_mb=1&num_blocks=2");
    let error = both.params().require_one_of(&group).expect_err("both").to_string();
    assert!(error.contains("`size_mb`, `num_blocks` exclude each other"), "{error}");
    let none = uri("malloc:///a");
    let error = none.params().require_one_of(&group).expect_err("none").to_string();
    assert!(error.contains("`malloc:` needs the parameter size_mb or num_blocks"), "{error}");
    assert_eq!(none.params().at_most_one_of(&group), Ok(None));
    let one = uri("malloc:///a?num_blocks=2");
    assert_eq!(one.params().require_one_of(&group), Ok("num_blocks"));
}

/// Text that a path segment or a parameter may hold: anything without control characters.
fn text() -> impl Strategy<Value = String> {
    "[\\PC&&[^/\\\\]]{1,12}".prop_filter("not a dot segment", |text| {
        text != "." && text != ".." && !text.chars().any(char::is_control)
    })
}

prop_compose! {
    fn any_uri()(
        scheme in "[a-z][a-z0-9+.-]{0,8}".prop_filter("special in the URL rules", |scheme| {
            !["http", "https", "ws", "wss", "ftp", "file"].contains(&scheme.as_str())
        }),
        host in proptest::option::of("[a-z0-9-]{1,10}"),
        port in proptest::option::of(1_u16..),
        segments in proptest::collection::vec(text(), 1..4),
        params in proptest::collection::btree_map(text(), text(), 0..4),
    ) -> BdevUri {
        let port = host.as_ref().and(port);
        let path = format!("/{}", segments.join("/"));
        BdevUri { scheme, host, port, path, params: params.into_iter().collect() }
    }
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(uri in any_uri()) {
        prop_assert_eq!(BdevUri::parse(&uri.to_string()), Ok(uri));
    }

    #[test]
    fn whatever_is_accepted_round_trips(
        text in "(malloc|aio|nvmf|http|file|x)(:|:/|://|:///)[a-z0-9.:/%?&=@#\\[\\]\\\\| é+-]{0,24}"
    ) {
        if let Ok(uri) = BdevUri::parse(&text) {
            prop_assert_eq!(BdevUri::parse(&uri.to_string()), Ok(uri));
        }
    }

    #[test]
    fn never_panics(text in any::<String>()) {
        if let Ok(uri) = BdevUri::parse(&text) {
            let _ = (uri.name(), uri.file_path(), uri.params().finish());
        }
    }
}
