//! What is read, and what refusals say.

use serde::Deserialize as _;
use serde_json::json;
use uuid::Uuid;

use super::def::{choice_any_case, int, not_done, only, optional, required, words};
use super::*;

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    blocks: u64,
    uuid: Option<Uuid>,
    size: Option<u32>,
    on: bool,
}

impl Request for Sample {
    const PARAMS: Defs = &[
        &[
            required("name", Kind::Name, "Name."),
            required("blocks", int(1, 100), "Size in blocks."),
            optional("uuid", Kind::Uuid, "UUID."),
        ],
        &[
            optional("size", Kind::OneOf(&[512, 4096]), "Size of a block in bytes."),
            optional("on", Kind::Bool, "Whether it is on.").or_bool(false),
            only("md_size", "0", "there is no metadata"),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            name: params.required::<Name>("name")?.0,
            blocks: params.required("blocks")?,
            uuid: params.optional("uuid")?,
            size: params.optional("size")?,
            on: params.required("on")?,
        })
    }
}

fn sample(params: &Value) -> Result<Sample, String> {
    let given = Given::deserialize(params).map_err(|error| error.to_string())?;
    read(&given).map_err(|error| error.to_string())
}

#[test]
fn a_request_is_read_whole() {
    let full = json!({"name": "a", "blocks": 100, "size": 4096, "on": true, "md_size": 0,
        "uuid": "0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60"});
    let full = sample(&full).expect("full");
    assert_eq!((full.name.as_str(), full.blocks, full.size), ("a", 100, Some(4096)));
    assert!(full.on && full.uuid.is_some());
    let least = sample(&json!({"name": "a", "blocks": 1})).expect("least");
    assert_eq!((least.uuid, least.size, least.on), (None, None, false));
}

#[test]
fn refusals_name_parameter_value_and_what_is_allowed() {
    for (params, words) in [
        (json!({}), "parameter `name` is missing: it has to be a string of 1 to 255"),
        (json!({"name": "a"}), "parameter `blocks` is missing: it has to be a whole number"),
        (json!({"name": 5, "blocks": 1}), "parameter `name` cannot be 5: it has to be a str"),
        (json!({"name": "", "blocks": 1}), "parameter `name` cannot be \"\""),
        (json!({"name": "a\n", "blocks": 1}), "without control characters"),
        (json!({"name": null, "blocks": 1}), "parameter `name` cannot be null"),
        (json!({"name": "a", "blocks": 0}), "cannot be 0: it has to be a whole number from 1"),
        (json!({"name": "a", "blocks": 101}), "from 1 to 100"),
        (json!({"name": "a", "blocks": -1}), "cannot be -1"),
        (json!({"name": "a", "blocks": 1.5}), "cannot be 1.5"),
        (json!({"name": "a", "blocks": "1"}), "cannot be \"1\""),
        (json!({"name": "a", "blocks": 1, "size": 513}), "one of 512, 4096"),
        (json!({"name": "a", "blocks": 1, "on": 1}), "`on` cannot be 1: it has to be true or"),
        (json!({"name": "a", "blocks": 1, "uuid": "x"}), "`uuid` cannot be \"x\""),
        (json!({"name": "a", "blocks": 1, "uuid": Uuid::nil()}), "other than nil"),
        (
            json!({"name": "a", "blocks": 1, "md_size": 8}),
            "parameter `md_size` cannot be 8: there is no metadata; leave it out or give 0",
        ),
        (json!({"name": "a", "block": 1}), "unknown parameter `block`; allowed are name, blocks"),
        (json!({"x": 1}), "unknown parameter `x`; allowed are name, blocks, uuid, size, on"),
        (json!({"name": "a", "blocks": 1, "x": 1, "y": 2}), "unknown parameter `x`, `y`"),
        (json!([1]), "an object of parameters"),
        (json!("a"), "an object of parameters"),
    ] {
        let error = sample(&params).expect_err(&params.to_string());
        assert!(error.contains(words), "{params}: {error}");
    }
}

#[test]
fn a_parameter_given_twice_is_refused() {
    let error = serde_json::from_str::<Given>(r#"{"a": 1, "b": 2, "a": 3}"#).expect_err("twice");
    assert!(error.to_string().contains("parameter \"a\" is given twice"), "{error}");
    for nothing in ["null", "{}", "[]"] {
        let given = serde_json::from_str::<Given>(nothing).expect(nothing);
        assert_eq!(given, Given::default());
    }
}

#[derive(Debug, PartialEq)]
struct Outer {
    inner: Option<Sample>,
    far: Option<i64>,
    word: Option<u8>,
    list: Vec<u64>,
}

const WORDS: [(&str, u8); 2] = [("One", 1), ("Two", 2)];
const SMALL: Kind = int(0, 9);

impl Request for Outer {
    const PARAMS: Defs = &[&[
        optional("inner", Kind::Object(Sample::PARAMS), "A sample."),
        optional("far", int(-1, 7), "A number."),
        optional("word", choice_any_case(&words(&WORDS)), "A word."),
        optional("list", Kind::List { item: &SMALL, min: 1, max: 3 }, "Some numbers."),
        not_done("key", "there is no lock"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            inner: params.optional_object("inner")?,
            far: params.optional("far")?,
            word: params.optional_choice("word", &WORDS)?,
            list: params.optional("list")?.unwrap_or_default(),
        })
    }
}

#[test]
fn objects_have_parameters_of_their_own() {
    let outer = |text: &str| -> Result<Outer, String> {
        let given: Given = serde_json::from_str(text).map_err(|error| error.to_string())?;
        read(&given).map_err(|error| error.to_string())
    };
    let full = r#"{"inner": {"name": "a", "blocks": 2}, "far": -1, "word": "tWO", "list": [3]}"#;
    let full = outer(full).expect("full");
    assert_eq!(full.inner.expect("inner").blocks, 2);
    assert_eq!((full.far, full.word, full.list), (Some(-1), Some(2), vec![3]));
    for (text, words) in [
        (r#"{"inner": 5}"#, "`inner` cannot be 5: it has to be an object of name, blocks"),
        (r#"{"inner": {}}"#, "in `inner`: parameter `name` is missing"),
        (r#"{"inner": {"x": 1}}"#, "in `inner`: unknown parameter `x`; allowed are name"),
        (r#"{"inner": {"name": "a", "blocks": 0}}"#, "in `inner`: parameter `blocks` cannot"),
        (r#"{"inner": {"name": "a", "name": "b"}}"#, "parameter \"name\" is given twice"),
        (r#"{"inner": [{"a": 1, "a": 1}]}"#, "parameter \"a\" is given twice"),
        (r#"{"far": -2}"#, "`far` cannot be -2: it has to be a whole number from -1 to 7"),
        (r#"{"far": 8}"#, "`far` cannot be 8"),
        (r#"{"word": "Three"}"#, "`word` cannot be \"Three\": it has to be one of One, Two"),
        (r#"{"list": []}"#, "`list` cannot be []: it has to be a list of 1 to 3, each a whole"),
        (r#"{"list": [1, 2, 3, 4]}"#, "a list of 1 to 3"),
        (r#"{"list": [1, 10]}"#, "`list` cannot be 10: it has to be a whole number from 0 to 9"),
        (r#"{"word": 1}"#, "`word` cannot be 1"),
        (r#"{"key": "secret"}"#, "`key` is not supported: there is no lock; leave it out"),
    ] {
        let error = outer(text).expect_err(text);
        assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
    }
}

#[test]
fn long_values_are_cut() {
    let long = "é".repeat(1000);
    let error = sample(&json!({"name": "a", "blocks": long, long.clone(): 1})).expect_err("long");
    assert!(error.len() < 600, "{error}");
}
