//! The client against scripted servers.

use serde_json::json;
use tempfile::{TempDir, tempdir};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::*;

/// A server that takes one connection, reads once, and answers with fixed bytes; it keeps the
/// connection if `hold`.
fn script(answer: &'static str, hold: bool) -> (TempDir, PathBuf, JoinHandle<String>) {
    let dir = tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut chunk = vec![0; 4096];
        let length = stream.read(&mut chunk).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        if hold {
            std::future::pending::<()>().await;
        }
        String::from_utf8(chunk[..length].to_vec()).unwrap()
    });
    (dir, path, task)
}

async fn call_scripted(answer: &'static str) -> Result<Value, ClientError> {
    let (_dir, path, _task) = script(answer, false);
    Client::connect(&path).await?.call("m", None).await
}

#[tokio::test]
async fn requests_have_the_form_of_the_dialect() {
    let (_dir, path, task) = script(r#"{"jsonrpc":"2.0","id":1,"result":null}"#, false);
    let mut client = Client::connect(&path).await.unwrap();
    assert_eq!(client.call("m", Some(json!({"a": 1}))).await.unwrap(), Value::Null);
    let sent = task.await.unwrap();
    assert_eq!(sent, "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{\"a\":1},\"id\":1}\n");
}

#[tokio::test]
async fn nobody_there_is_told_with_the_remedy() {
    let dir = tempdir().unwrap();
    let missing = dir.path().join("missing");
    let dead = dir.path().join("dead");
    drop(UnixListener::bind(&dead).unwrap());
    for path in [missing, dead] {
        let error = Client::connect(&path).await.unwrap_err();
        assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("--rpc-socket"), "{text}");
    }
    let error = Client::connect(Path::new(&"x".repeat(200))).await.unwrap_err();
    assert!(matches!(error, ClientError::Io { action: "connect", .. }), "{error}");
}

#[tokio::test]
async fn errors_keep_code_message_and_data() {
    let answer = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-19,"message":"No such device","data":{"name":"a"}}}"#;
    match call_scripted(answer).await.unwrap_err() {
        ClientError::Rpc { code: -19, message, data: Some(data) } => {
            assert_eq!((message.as_str(), data), ("No such device", json!({"name": "a"})));
        }
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_error_about_the_connection_is_an_answer_too() {
    let answer = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32009,"message":"busy"}}"#;
    assert!(matches!(call_scripted(answer).await, Err(ClientError::Rpc { code: -32009, .. })));
}

#[tokio::test]
async fn what_is_no_answer_is_a_protocol_error() {
    for (answer, expected) in [
        ("", "closed the connection"),
        ("{\"jsonrpc\"", "closed the connection"),
        ("]", "not JSON"),
        ("{\"a\":,}", "not JSON"),
        ("7 ", "no response"),
        (r#"{"id":1}"#, "either a result or an error"),
        (r#"{"id":2,"result":1}"#, "for request 2, not 1"),
        (r#"{"id":null,"result":1}"#, "for request null, not 1"),
        (r#"{"id":2,"error":{"code":1,"message":""}}"#, "for request 2, not 1"),
    ] {
        let error = call_scripted(answer).await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{answer}: {error}");
        assert!(error.to_string().contains(expected), "{answer}: {error}");
    }
}

#[tokio::test]
async fn a_call_that_timed_out_spoils_the_connection() {
    let (_dir, path, task) = script("", true);
    let mut client = Client::connect(&path).await.unwrap();
    client.set_timeout(Some(Duration::from_millis(20)));
    let error = client.call("slow", None).await.unwrap_err();
    assert!(matches!(&error, ClientError::Timeout { what, .. } if what == "slow"), "{error}");
    let error = client.call("next", None).await.unwrap_err();
    assert!(error.to_string().contains("connect again"), "{error}");
    task.abort();
}

#[tokio::test]
async fn a_refusal_is_read_though_the_request_could_not_be_sent() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let mut client = Client::connect(&path).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let answer = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32009,"message":"busy"}}"#;
    stream.write_all(answer.as_bytes()).await.unwrap();
    drop(stream);
    let error = client.call("m", None).await.unwrap_err();
    assert!(matches!(error, ClientError::Rpc { code: -32009, .. }), "{error}");
}

#[tokio::test]
async fn batch_outcomes_come_in_the_order_of_the_calls() {
    let answer = r#"[{"id":3,"result":"c"},{"id":1,"result":"a"},{"id":2,"error":{"code":-1,"message":"b"}}]"#;
    let (_dir, path, _task) = script(answer, false);
    let mut client = Client::connect(&path).await.unwrap();
    let calls = [("a", None), ("b", None), ("c", None), ("d", None)];
    let outcomes = client.batch(&calls).await.unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap(), "a");
    assert!(matches!(outcomes[1], Err(ClientError::Rpc { code: -1, .. })));
    assert_eq!(outcomes[2].as_ref().unwrap(), "c");
    assert!(outcomes[3].as_ref().unwrap_err().to_string().contains("no answer to request 4"));
}

#[tokio::test]
async fn typed_calls_convert_both_ways() {
    let (_dir, path, task) = script(r#"{"id":1,"result":[1,2]}"#, false);
    let mut client = Client::connect(&path).await.unwrap();
    assert_eq!(client.call_as::<Vec<u8>>("m", &("a", 1)).await.unwrap(), [1, 2]);
    assert!(task.await.unwrap().contains(r#""params":["a",1]"#));
}

#[tokio::test]
async fn raw_requests_pass_unchanged_and_raw_answers_come_back() {
    let answer = r#"{"jsonrpc":"2.0", "id":1e400, "result":0.10}"#;
    let (_dir, path, task) = script(answer, false);
    let mut client = Client::connect(&path).await.unwrap();
    let request = r#"{"jsonrpc":"2.0", "id":100, "method":"m"}"#;
    assert_eq!(client.call_raw(request).await.unwrap().unwrap().get(), answer);
    assert_eq!(task.await.unwrap(), format!("{request}\n"));
    for (bad, expected) in [("{", "not JSON"), ("7", "must be an object"), ("{}{}", "not JSON")] {
        let text = client.call_raw(bad).await.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn only_valid_notifications_expect_no_answer() {
    assert!(!expects_answer(&json!({"jsonrpc": "2.0", "method": "m"})));
    assert!(!expects_answer(&json!({"jsonrpc": "2.0", "method": "m", "params": null})));
    for answered in [
        json!({"jsonrpc": "2.0", "method": "m", "id": null}),
        json!({"jsonrpc": "2.0", "method": "m", "params": 1}),
        json!({"jsonrpc": "2.0", "method": "m", "parms": []}),
        json!({"jsonrpc": "1.0", "method": "m"}),
        json!({"method": "m"}),
        json!({"jsonrpc": "2.0"}),
        json!(1),
    ] {
        assert!(expects_answer(&answered), "{answered}");
    }
}

#[test]
fn the_blocking_client_needs_no_runtime_and_minds_none() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut chunk = [0; 4096];
            assert!(io::Read::read(&mut stream, &mut chunk).unwrap() > 0);
            io::Write::write_all(&mut stream, br#"{"id":1,"result":"here"}"#).unwrap();
        }
        listener
    });
    let after = Duration::from_secs(60);
    assert_eq!(blocking::call(&path, "m", None, after).unwrap(), "here");
    let raw = r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#;
    assert!(blocking::call_raw(&path, raw, after).unwrap().is_some());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let inside = runtime.block_on(async { blocking::call(&path, "m", None, after) });
    assert_eq!(inside.unwrap(), "here");

    let listener = server.join().unwrap();
    let error = blocking::call(&path, "m", None, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    drop(listener);
    let error = blocking::call(&path, "m", None, after).unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
}
