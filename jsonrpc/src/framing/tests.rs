use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// Everything that comes out of `input` when it arrives in the pieces that `cuts` makes, and how it
/// ended.
fn frames(input: &[u8], cuts: &[usize], max: usize, depth: u32) -> (Vec<Vec<u8>>, FramerEnd) {
    let mut framer = Framer::new(max, depth);
    let mut out = Vec::new();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(input.len());
    let mut from = 0;
    for to in cuts {
        framer.push(&input[from..to]);
        from = to;
        if let Err(error) = take_all(&mut framer, &mut out) {
            return (out, Some(error));
        }
    }
    framer.finish();
    let end = take_all(&mut framer, &mut out).err();
    (out, end)
}

type FramerEnd = Option<FramingError>;

fn take_all(framer: &mut Framer, out: &mut Vec<Vec<u8>>) -> Result<(), FramingError> {
    while let Some(value) = framer.next_value()? {
        out.push(value.to_vec());
    }
    Ok(())
}

fn whole(input: &str) -> (Vec<String>, FramerEnd) {
    let (values, end) = frames(input.as_bytes(), &[], 1 << 20, 64);
    (values.into_iter().map(|value| String::from_utf8(value).unwrap()).collect(), end)
}

/// What serde_json's stream reader makes of the same input: the valid values, and whether it ended
/// cleanly.
fn oracle(input: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut out = Vec::new();
    for value in serde_json::Deserializer::from_slice(input).into_iter::<&RawValue>() {
        match value {
            Ok(value) => out.push(value.get().as_bytes().to_vec()),
            Err(_) => return (out, false),
        }
    }
    (out, true)
}

/// The framer's values up to the first that does not parse, and whether all was well.
fn framed_and_parsed(input: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, bool) {
    let (values, end) = frames(input, cuts, 1 << 20, MAX_DEPTH);
    let mut out = Vec::new();
    for value in values {
        if serde_json::from_slice::<&RawValue>(&value).is_err() {
            return (out, false);
        }
        out.push(value);
    }
    (out, end.is_none())
}

#[test]
fn values_follow_each_other_with_or_without_space() {
    let (values, end) = whole(" {\"a\":[1,{}]}[2]\r\n\"x\\\"}\"17 true\tnull");
    assert_eq!(values, [r#"{"a":[1,{}]}"#, "[2]", r#""x\"}""#, "17", "true", "null"]);
    assert_eq!(end, None);
}

#[test]
fn a_number_waits_for_its_delimiter() {
    let mut framer = Framer::new(100, 8);
    framer.push(b"12");
    assert_eq!(framer.next_value(), Ok(None));
    framer.push(b"3");
    assert_eq!(framer.next_value(), Ok(None));
    framer.push(b" ");
    assert_eq!(framer.next_value(), Ok(Some(&b"123"[..])));
}

#[test]
fn a_stream_that_ends_inside_a_value_is_incomplete() {
    for input in ["{", "[1,", "\"abc", "\"abc\\", "{\"a\":\"}"] {
        assert_eq!(whole(input), (vec![], Some(FramingError::Incomplete)), "{input}");
    }
    assert_eq!(whole(" \n"), (vec![], None));
}

#[test]
fn brackets_must_match() {
    assert_eq!(whole("[}").1, Some(FramingError::Mismatched { found: '}' }));
    assert_eq!(whole("{\"a\":[1}").1, Some(FramingError::Mismatched { found: '}' }));
    assert_eq!(
        whole("{}]"),
        (vec!["{}".to_owned()], Some(FramingError::Mismatched { found: ']' }))
    );
}

#[test]
fn bytes_that_json_cannot_hold_fail_at_once() {
    assert_eq!(whole("GET / HTTP/1.1").1, Some(FramingError::UnexpectedByte { byte: b'G' }));
    assert_eq!(whole("{x").1, Some(FramingError::UnexpectedByte { byte: b'x' }));
    assert_eq!(whole("[1\u{0}").1, Some(FramingError::UnexpectedByte { byte: 0 }));
}

#[test]
fn depth_is_limited_exactly() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert_eq!(whole(&nested(64)).1, None);
    assert_eq!(whole(&nested(65)).1, Some(FramingError::TooDeep { limit: 64 }));
    let mixed = "{\"a\":[".repeat(63) + &"]}".repeat(63);
    let (values, end) = frames(mixed.as_bytes(), &[], 1 << 20, 1000);
    assert_eq!((values.len(), end), (1, None), "126 levels, under a limit clamped to 127");
}

#[test]
fn size_is_limited_exactly() {
    for (input, max, fits) in [
        ("[1,2]", 5, true),
        ("[1,2]", 4, false),
        ("\"abc\"", 5, true),
        ("\"abc\"", 4, false),
        ("123 ", 3, true),
        ("123 ", 2, false),
        ("123", 3, true),
        ("    [1]    [2]", 3, true),
    ] {
        let (_, end) = frames(input.as_bytes(), &[], max, 8);
        let expected = (!fits).then_some(FramingError::TooLarge { limit: max });
        assert_eq!(end, expected, "{input} with {max}");
    }
}

#[test]
fn an_error_is_final_and_frees_the_buffer() {
    let mut framer = Framer::new(100, 8);
    framer.push(b"]");
    let error = framer.next_value().unwrap_err();
    framer.push(b"{}");
    assert_eq!(framer.next_value(), Err(error));
    assert_eq!(framer.pending_bytes(), 0);
}

#[test]
fn endless_white_space_takes_no_memory() {
    let mut framer = Framer::new(100, 8);
    for _ in 0..1000 {
        framer.push(&[b' '; 1000]);
        assert_eq!(framer.next_value(), Ok(None));
    }
    assert!(framer.buf.len() <= 2000, "{} bytes are held", framer.buf.len());
}

#[test]
fn the_buffer_of_a_large_value_is_given_back() {
    let mut framer = Framer::new(1 << 24, 8);
    let large = format!("\"{}\"", "x".repeat(4 << 20));
    framer.push(large.as_bytes());
    assert_eq!(framer.next_value().unwrap().map(<[u8]>::len), Some(large.len()));
    assert_eq!(framer.next_value(), Ok(None));
    assert!(framer.buf.capacity() <= KEEP_BYTES);
}

/// Fragments that make interesting streams when strung together, valid and not.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "{", "}", "[", "]", "\"", "\\", ",", ":", " ", "\n", "1", "-", "0.5e+3", "true", "nul", "null",
            "false", "\"a\"", "\"\\\"\"", "\"\\u00e9\"", "{}", "[]", "[1,2]", "{\"k\":[\"}\"]}", "é", "\"é\"",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..3),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Any JSON value as text.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<String>().prop_map(|value| serde_json::to_string(&value).unwrap()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|list| format!("[{}]", list.join(" ,"))),
            prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|list| {
                let members: Vec<String> = list
                    .into_iter()
                    .map(|(key, value)| {
                        format!("{}: {value}", serde_json::to_string(&key).unwrap())
                    })
                    .collect();
                format!("{{{}}}", members.join(",\n"))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_the_stream_reader_of_serde_json(
        input in stream(), cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        prop_assert_eq!(framed_and_parsed(&input, &cuts), oracle(&input));
    }

    #[test]
    fn splitting_changes_nothing(
        input in stream(), cuts in prop::collection::vec(any::<usize>(), 0..20), max in 1_usize..30,
    ) {
        prop_assert_eq!(frames(&input, &cuts, max, 3), frames(&input, &[], max, 3));
    }

    #[test]
    fn valid_values_come_out_as_they_went_in(
        values in prop::collection::vec(json(), 0..6), cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let (out, end) = frames(values.join("\n").as_bytes(), &cuts, 1 << 20, MAX_DEPTH);
        prop_assert_eq!(end, None);
        let expected: Vec<Vec<u8>> = values.into_iter().map(String::into_bytes).collect();
        prop_assert_eq!(out, expected);
    }
}
