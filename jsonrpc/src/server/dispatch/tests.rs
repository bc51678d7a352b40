use serde_json::json;

use super::*;

fn member_error(text: &str) -> String {
    Request::parse(text).unwrap_err().to_string()
}

#[test]
fn a_request_is_read_with_its_id_as_written() {
    for id in [
        "1",
        "-1",
        "1.50",
        "1e400",
        "123456789012345678901234567890",
        "\"a\\u0041\"",
        "\"\"",
        "null",
    ] {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"m","id": {id} }}"#);
        assert_eq!(Request::parse(&text).unwrap().id, Some(id));
        assert_eq!(salvaged_id(&text), id);
    }
    let notification = Request::parse(r#"{"method":"m","jsonrpc":"2.0"}"#).unwrap();
    assert_eq!((notification.id, notification.params), (None, None));
}

#[test]
fn parameters_are_an_object_an_array_or_nothing() {
    let parse = |params: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"m","params":{params}}}"#);
        Request::parse(&text).map(|request| request.params.map(str::to_owned))
    };
    assert_eq!(parse("{\"a\": 1}").unwrap().as_deref(), Some("{\"a\": 1}"));
    assert_eq!(parse("[]").unwrap().as_deref(), Some("[]"));
    assert_eq!(parse("null").unwrap(), None);
    for wrong in ["1", "\"x\"", "true"] {
        assert!(parse(wrong).unwrap_err().to_string().contains("params"), "{wrong}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    assert!(member_error(r#"{"method":"m"}"#).contains("\"jsonrpc\" is missing"));
    for version in ["\"1.0\"", "2.0", "null"] {
        let text = format!(r#"{{"jsonrpc":{version},"method":"m"}}"#);
        assert!(member_error(&text).contains("must be \"2.0\""), "{version}");
    }
    assert!(member_error(r#"{"jsonrpc":"2.0"}"#).contains("\"method\" is missing"));
    assert!(member_error(r#"{"jsonrpc":"2.0","method":1}"#).contains("must be a string"));
    assert!(member_error(r#"{"jsonrpc":"2.0","method":"m","id":[1]}"#).contains("\"id\""));
    assert!(member_error(r#"{"jsonrpc":"2.0","method":"m","parms":{}}"#).contains("parms"));
    assert!(member_error(r#"{"jsonrpc":"2.0","method":"m","method":"n"}"#).contains("duplicate"));
    assert!(member_error("[1]").contains("object"));
}

#[test]
fn an_escaped_version_and_method_are_understood() {
    let text = r#"{"jsonrpc":"2\u002e0","method":"\u006d"}"#;
    assert_eq!(Request::parse(text).unwrap().method, "m");
}

#[test]
fn an_id_is_salvaged_only_where_it_is_one() {
    assert_eq!(salvaged_id(r#"{"id":7,"nonsense":true}"#), "7");
    for text in [r#"{"id":[7]}"#, r#"{"id":true}"#, "{}", "[7]", r#"{"id":1,"id":2}"#] {
        assert_eq!(salvaged_id(text), "null", "{text}");
    }
}

#[test]
fn bad_json_is_told_from_a_bad_request() {
    assert_eq!(diagnose("{\"a\":1}", "why").code(), codes::INVALID_REQUEST);
    assert_eq!(diagnose("{\"a\":01}", "why").code(), codes::PARSE_ERROR);
    // The request is wrong before the JSON is: still a parse error.
    assert_eq!(diagnose("{\"jsonrpc\":1,,}", "why").code(), codes::PARSE_ERROR);
}

#[test]
fn a_batch_is_limited_exactly() {
    assert_eq!(parse_batch("[1,2,3]", 3).unwrap().len(), 3);
    assert!(parse_batch("[1,2,3]", 2).is_err());
    assert!(parse_batch("[1,2", 5).is_err());
}

#[test]
fn the_id_is_put_into_responses_of_any_form() {
    let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
    let usual = r#"{"jsonrpc":"2.0","id":null,"result":{"id":null}}"#;
    assert_eq!(
        with_id(raw(usual), "-5").unwrap(),
        r#"{"jsonrpc":"2.0","id":-5,"result":{"id":null}}"#
    );
    assert_eq!(with_id(raw(usual), "null").unwrap(), usual);
    let other = r#"{ "id":0, "result": null, "jsonrpc":"2.0"}"#;
    assert_eq!(
        with_id(raw(other), "\"x\"").unwrap(),
        r#"{"jsonrpc":"2.0","id":"x","result":null}"#
    );
    let error = r#"{"error":{"code":1,"message":""},"id":0}"#;
    assert!(with_id(raw(error), "1").unwrap().ends_with(r#""error":{"code":1,"message":""}}"#));
    for none in ["{}", "7", r#"{"result":1,"error":{}}"#] {
        assert_eq!(with_id(raw(none), "1"), None, "{none}");
    }
}

#[test]
fn jsonrpsee_writes_responses_in_the_form_that_is_fast_to_change() {
    let response = MethodResponse::response(
        Id::Null,
        jsonrpsee::ResponsePayload::success(json!({"a": 1})),
        1024,
    );
    assert!(response.as_ref().starts_with(r#"{"jsonrpc":"2.0","id":null,"#), "{response}");
}

#[test]
fn an_error_answer_is_a_response() {
    let error = codes::from_errno(-17, "bdev \"a\" exists");
    assert_eq!(
        Reply::error("1e2", &error).json,
        r#"{"jsonrpc":"2.0","id":1e2,"error":{"code":-17,"message":"bdev \"a\" exists"}}"#
    );
}
