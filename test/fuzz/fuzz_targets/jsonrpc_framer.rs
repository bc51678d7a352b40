//! The cutter of JSON streams: what comes out does not depend on how the input was split, and it
//! refuses nothing that a JSON parser takes.
#![no_main]

use arbitrary::Arbitrary;
use jsonrpc::framing::{Framer, FramingError, MAX_DEPTH};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    value_bytes_max: u8,
    depth_max: u8,
    splits: [u8; 8],
    stream: &'a [u8],
}

type Cut = (Vec<Vec<u8>>, Option<FramingError>);

fn take(framer: &mut Framer, values: &mut Vec<Vec<u8>>) -> Option<FramingError> {
    loop {
        match framer.next_value() {
            Ok(Some(value)) => values.push(value.to_vec()),
            Ok(None) => return None,
            Err(error) => {
                assert_eq!(framer.next_value(), Err(error), "an error is final");
                return Some(error);
            }
        }
    }
}

fn cut(mut framer: Framer, stream: &[u8], splits: &[u8]) -> Cut {
    let (mut values, mut rest) = (Vec::new(), stream);
    for &len in splits.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(usize::from(len).clamp(1, rest.len()));
        rest = behind;
        framer.push(piece);
        if let Some(error) = take(&mut framer, &mut values) {
            return (values, Some(error));
        }
    }
    framer.finish();
    let error = take(&mut framer, &mut values);
    (values, error)
}

fuzz_target!(|input: Input<'_>| {
    let (bytes, depth) = (usize::from(input.value_bytes_max).max(1), u32::from(input.depth_max));
    let small = || Framer::new(bytes, depth);
    let whole = cut(small(), input.stream, &[u8::MAX]);
    assert_eq!(whole, cut(small(), input.stream, &[1]));
    assert_eq!(whole, cut(small(), input.stream, &input.splits));
    assert!(whole.0.iter().all(|value| (1..=bytes).contains(&value.len())));

    // Against a parser, without limits that bite: as far as it gets, the values are the same.
    let (values, error) = cut(Framer::new(usize::MAX, MAX_DEPTH), input.stream, &input.splits);
    let mut parser = serde_json::Deserializer::from_slice(input.stream).into_iter::<&RawValue>();
    let mut ours = values.iter();
    for parsed in parser.by_ref() {
        let Ok(parsed) = parsed else { return };
        match ours.next() {
            Some(value) => assert_eq!(value, parsed.get().as_bytes()),
            None => return assert!(matches!(error, Some(FramingError::TooDeep { .. }))),
        }
    }
    assert_eq!((ours.next(), error), (None, None), "the parser took everything");
});
