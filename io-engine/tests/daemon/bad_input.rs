//! Bad input made by a generator that walks the definitions of all methods, as the daemon
//! publishes them: every refusal names the place, and the state is the same afterwards.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::Daemon;

/// The code of parameters that are refused.
const INVALID_PARAMS: i64 = -32602;

/// One connection that is talked to in raw text.
struct Raw(BufReader<UnixStream>);

impl Raw {
    fn new(daemon: &Daemon) -> Self {
        let stream = UnixStream::connect(daemon.socket()).expect("connected");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a time-out");
        Self(BufReader::new(stream))
    }

    /// Sends bytes and reads a line of answer.
    fn ask(&mut self, bytes: &[u8]) -> Value {
        self.0.get_mut().write_all(bytes).expect("sent");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("answered");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Calls a method with parameters as text: the code and the words of the error, if it is one.
    fn call(&mut self, method: &str, params: &str) -> Option<(i64, String)> {
        let request =
            format!(r#"{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": {params}}}"#);
        let answer = self.ask(request.as_bytes());
        let error = answer.get("error")?;
        let words = error["message"].as_str().expect("words").to_owned();
        Some((error["code"].as_i64().expect("a code"), words))
    }

    fn refused(&mut self, method: &str, params: &str) -> (i64, String) {
        let error = self.call(method, params);
        error.unwrap_or_else(|| panic!("{method} {params:.200} succeeded"))
    }
}

/// A value that a schema allows.
fn sample(schema: &Value) -> Value {
    if let Some(value) = schema.get("const") {
        return value.clone();
    }
    for list in ["enum", "examples"] {
        if let Some(first) = schema.get(list).and_then(|list| list.get(0)) {
            return first.clone();
        }
    }
    match schema["type"].as_str().expect("a type") {
        "string" if schema["format"] == "uuid" => "5b1e6b9c-6a2f-4d0c-8b59-0c8d1f6f0a11".into(),
        "string" => "no-such-thing".into(),
        "boolean" => false.into(),
        "number" => 1.into(),
        "integer" => schema["minimum"].clone(),
        "array" => json!([sample(&schema["items"])]),
        "object" => least(schema),
        other => panic!("a sample of {other}"),
    }
}

/// An object with what is required.
fn least(schema: &Value) -> Value {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let members = required.iter().map(|name| {
        let name = name.as_str().expect("a name");
        (name.to_owned(), sample(&schema["properties"][name]))
    });
    Value::Object(members.collect())
}

/// The schema of a method's parameters as one object.
fn schema_of(method: &Value) -> Value {
    let mut schema = json!({"type": "object", "properties": {}, "required": []});
    for param in method["params"].as_array().expect("a list") {
        let name = param["name"].as_str().expect("a name");
        schema["properties"][name] = param["schema"].clone();
        if param["required"] == true {
            schema["required"].as_array_mut().expect("a list").push(name.into());
        }
    }
    schema
}

/// Objects that lack one thing, or have one thing wrong or too much, as text, and the parameter
/// that a refusal has to name.
fn broken(schema: &Value) -> Vec<(String, String)> {
    let whole = least(schema);
    let with = |name: &str, text: &str| {
        let mut object = whole.clone();
        object.as_object_mut().expect("an object").remove(name);
        let rest = object.to_string();
        let rest = rest[1..rest.len() - 1].to_owned();
        let comma = if rest.is_empty() { "" } else { ", " };
        format!("{{{rest}{comma}\"{name}\": {text}}}")
    };
    let mut all = vec![(with("no_such_parameter", "1"), "no_such_parameter".to_owned())];
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().expect("a name");
        let mut object = whole.clone();
        object.as_object_mut().expect("an object").remove(name);
        all.push((object.to_string(), name.to_owned()));
    }
    let properties = schema["properties"].as_object().expect("an object");
    for (name, schema) in properties {
        let long = format!("\"{}\"", "x".repeat(300));
        for text in [
            "null",
            "-1",
            "1.5",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
            "1e300",
            "\"\"",
            "\"\\u0000\"",
            &long,
            "true",
            "[]",
            "[null]",
            "{}",
            "{\"zz\": 1}",
        ] {
            let value: Value = serde_json::from_str(text).expect("JSON");
            let validator = jsonschema::validator_for(schema).expect("a schema");
            if !validator.is_valid(&value) {
                all.push((with(name, text), name.clone()));
            }
        }
        let inside = |inner: &Value| -> Vec<(String, String)> { broken(inner) };
        if schema["type"] == "object" && schema.get("properties").is_some() {
            all.extend(inside(schema).into_iter().map(|(text, at)| (with(name, &text), at)));
        }
        let items = &schema["items"];
        if items["type"] == "object" {
            let items = inside(items).into_iter();
            all.extend(items.map(|(text, at)| (with(name, &format!("[{text}]")), at)));
        }
    }
    all
}

/// A daemon with something that bad input could break.
fn populated() -> Daemon {
    let daemon =
        Daemon::start(&["--bdev", "malloc:///m?size_mb=1", "--bdev", "null:///n?size_mb=1"]);
    let nqn = "nqn.2016-06.io.spdk:here";
    daemon.call("nvmf_create_transport", json!({"trtype": "TCP"}));
    daemon.call("nvmf_create_subsystem", json!({"nqn": nqn, "allow_any_host": true}));
    daemon.call("nvmf_subsystem_add_ns", json!({"nqn": nqn, "namespace": {"bdev_name": "m"}}));
    daemon
}

fn methods(daemon: &Daemon) -> Vec<Value> {
    let document = daemon.call("rpc.discover", Value::Null);
    document["methods"].as_array().expect("a list").clone()
}

#[test]
fn everything_that_a_definition_excludes_is_refused_by_name() {
    let daemon = populated();
    let before = daemon.call("save_config", Value::Null);
    let mut raw = Raw::new(&daemon);
    let mut count = 0;
    for method in methods(&daemon) {
        let name = method["name"].as_str().expect("a name");
        // It is over at once, or not for this socket, and says so whatever it is given.
        if method["x-callable"] == "startup" || method["x-transport"] == "websocket" {
            continue;
        }
        for (params, at) in broken(&schema_of(&method)) {
            let (code, words) = raw.refused(name, &params);
            assert_eq!(code, INVALID_PARAMS, "{name} {params:.300}: {words}");
            let named = words.contains(&format!("`{at}`"));
            assert!(named, "{name} {params:.300}: {words} does not name `{at}`");
            count += 1;
        }
        for params in ["[1]", "5", "\"x\"", "true", r#"{"a": 1, "a": 2}"#] {
            let (code, words) = raw.refused(name, params);
            // What is neither an object nor a list is no request at all.
            assert!([INVALID_PARAMS, -32600].contains(&code), "{name} {params}: {words} ({code})");
        }
        for refused in method["x-refused-parameters"].as_array().into_iter().flatten() {
            let refused = refused["name"].as_str().expect("a name");
            let (code, words) = raw.refused(name, &json!({ refused: 1 }).to_string());
            assert_eq!(code, INVALID_PARAMS, "{name}");
            assert!(words.contains(&format!("`{refused}` is not supported")), "{name}: {words}");
        }
    }
    assert!(count > 3000, "{count} requests are all that the definitions give");
    assert_eq!(daemon.call("save_config", Value::Null), before);
    daemon.end(Signal::SIGTERM);
}

#[test]
fn names_of_nothing_and_names_that_are_taken_change_nothing() {
    let daemon = populated();
    let before = daemon.call("save_config", Value::Null);
    let mut raw = Raw::new(&daemon);
    // What makes something, or ends the process, is not called with parameters that it takes.
    let acts = [
        "create",
        "_add_",
        "attach",
        "_set_",
        "start",
        "save",
        "load",
        "log_",
        "kill",
        "enable",
        "disable",
        "subscribe",
        "inject",
    ];
    let mut refused = 0;
    for method in methods(&daemon) {
        let name = method["name"].as_str().expect("a name");
        let schema = schema_of(&method);
        let asks = schema["required"].as_array().is_some_and(|list| !list.is_empty());
        if !asks || acts.iter().any(|word| name.contains(word)) {
            continue;
        }
        if let Some((code, words)) = raw.call(name, &least(&schema).to_string()) {
            assert!(code < 0 && !words.is_empty(), "{name}: {words} ({code})");
            assert!(!words.contains("panic"), "{name}: {words}");
            refused += 1;
        }
    }
    assert!(refused > 30, "{refused} methods refuse what is not there");
    let uuid = &before["subsystems"][1]["config"][0]["params"]["uuid"];
    for (method, params, code) in [
        ("bdev_malloc_create", json!({"name": "m", "num_blocks": 8, "block_size": 512}), -17),
        ("bdev_null_create", json!({"name": "m", "num_blocks": 8, "block_size": 512}), -17),
        (
            "bdev_null_create",
            json!({"name": "o", "num_blocks": 8, "block_size": 512, "uuid": uuid}),
            -17,
        ),
        ("bdev_create", json!({"uri": "null:///n?size_mb=2"}), -17),
        ("bdev_malloc_delete", json!({"name": "n"}), -19),
        ("nvmf_create_transport", json!({"trtype": "TCP"}), -32603),
        ("nvmf_create_subsystem", json!({"nqn": "nqn.2016-06.io.spdk:here"}), -32603),
        ("pool_create", json!({"name": "p", "disk": "m"}), -16),
    ] {
        let (got, words) = raw.refused(method, &params.to_string());
        assert_eq!(got, code, "{method} {params}: {words}");
    }
    assert_eq!(daemon.call("save_config", Value::Null), before);
    daemon.end(Signal::SIGTERM);
}

#[test]
fn text_that_is_hardly_a_request() {
    let daemon = populated();
    let before = daemon.call("save_config", Value::Null);
    // A stream without framing ends with the first text that is no JSON.
    for (bytes, code) in [
        (b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"bdev_\xff\xfe\"}".to_vec(), -32700),
        (format!("{{\"params\": {}", "[".repeat(100)).into_bytes(), -32700),
        (format!("{}{}", "[".repeat(200), "]".repeat(200)).into_bytes(), -32700),
        (b"{\"jsonrpc\": \"2.0\", \"id\": 1,, \"method\": \"a\"}".to_vec(), -32700),
    ] {
        let answer = Raw::new(&daemon).ask(&bytes);
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    let deep = format!("{{\"name\": {}1{}}}", "[".repeat(40), "]".repeat(40));
    let mut raw = Raw::new(&daemon);
    let (code, words) = raw.refused("bdev_null_delete", &deep);
    assert!(code == INVALID_PARAMS && words.contains("`name`"), "{words}");
    let (code, words) = raw.refused("bdev_null_resize", r#"{"name": "n", "new_size": 1e999}"#);
    assert!(code == INVALID_PARAMS || code == -32700, "{words} ({code})");

    let one = r#"{"jsonrpc": "2.0", "id": 7, "method": "bdev_null_delete", "params": {"nam": 1}}"#;
    let batch = format!("[{}]", vec![one; 10_000].join(","));
    let mut raw = Raw::new(&daemon);
    let stream = raw.0.get_ref().try_clone().expect("the same stream");
    // Answers are read while requests are still being sent: neither side waits for the other.
    let answers = std::thread::scope(|scope| {
        scope.spawn(move || (&stream).write_all(batch.as_bytes()).expect("sent"));
        raw.ask(b"")
    });
    let answers = answers.as_array().expect("a list");
    assert_eq!(answers.len(), 10_000);
    for answer in answers {
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(INVALID_PARAMS)));
    }
    assert_eq!(daemon.call("save_config", Value::Null), before);
    daemon.end(Signal::SIGTERM);
}
