//! The server against peers that behave and peers that do not, over real sockets.

use std::future::pending;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicU64;

use jsonrpsee::RpcModule;
use jsonrpsee::core::RpcResult;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::client::{Client, ClientError};

mod hostile;
mod lifecycle;

/// What the methods below share.
#[derive(Debug, Default)]
struct Shop {
    calls: AtomicU64,
    /// `wait` waits for this.
    gate: Notify,
    /// `wait` tells this that it began.
    begun: Notify,
}

/// A module with a method of every kind of behaviour.
fn module(shop: &Arc<Shop>) -> RpcModule<Shop> {
    let mut module = RpcModule::from_arc(Arc::clone(shop));
    module
        .register_method("echo", |params, shop, _| {
            shop.calls.fetch_add(1, Ordering::Relaxed);
            params.parse::<Value>()
        })
        .unwrap();
    module
        .register_async_method("echo_async", |params, shop, _| async move {
            shop.calls.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            params.parse::<Value>()
        })
        .unwrap();
    module
        .register_async_method("wait", |_, shop, _| async move {
            shop.begun.notify_one();
            shop.gate.notified().await;
            shop.calls.fetch_add(1, Ordering::Relaxed);
            RpcResult::Ok("waited")
        })
        .unwrap();
    module
        .register_method("exists", |_, _, _| {
            RpcResult::<()>::Err(codes::from_errno(17, "File exists"))
        })
        .unwrap();
    module.register_method::<RpcResult<()>, _>("panic", |_, _, _| panic!("on purpose")).unwrap();
    module
        .register_async_method::<RpcResult<()>, _, _>("panic_async", |_, _, _| async move {
            tokio::task::yield_now().await;
            panic!("on purpose, later")
        })
        .unwrap();
    module
        .register_method("bytes", |params, _, _| RpcResult::Ok("x".repeat(params.one::<usize>()?)))
        .unwrap();
    module
        .register_method("calls", |_, shop, _| RpcResult::Ok(shop.calls.load(Ordering::Relaxed)))
        .unwrap();
    module
        .register_method("peer", |_, _, extensions| {
            let peer = extensions.get::<PeerCredentials>().unwrap();
            let known = extensions.get::<ConnectionId>().is_some();
            RpcResult::Ok(json!({ "uid": peer.uid, "pid": peer.pid, "connection": known }))
        })
        .unwrap();
    module
        .register_subscription("subscribe", "event", "unsubscribe", |_, pending, _, _| async move {
            pending.accept().await.map(drop).map_err(Into::into)
        })
        .unwrap();
    module
}

/// A server in the background.
struct Running {
    path: PathBuf,
    shop: Arc<Shop>,
    stats: Arc<ServerStats>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServerError>>,
    _dir: TempDir,
}

impl Running {
    fn start(limits: Limits) -> Self {
        let dir = tempdir().unwrap();
        let path = dir.path().join("rpc.sock");
        let shop = Arc::default();
        let server = Server::bind(&path, module(&shop), limits).unwrap();
        let stats = server.stats();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async { drop(stopped.await) }));
        Self { path, shop, stats, stop: Some(stop), task, _dir: dir }
    }

    async fn stream(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    /// Sends `input`, ends the sending side, and returns everything that came back.
    async fn talk(&self, input: impl AsRef<[u8]>) -> String {
        let mut stream = self.stream().await;
        stream.write_all(input.as_ref()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut output = String::new();
        stream.read_to_string(&mut output).await.unwrap();
        output
    }

    async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// The user of this process.
fn my_uid() -> u32 {
    std::fs::metadata("/proc/self").unwrap().uid()
}

/// Waits until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(1)).await;
    }
}

fn request(id: impl std::fmt::Display, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

fn result(id: impl std::fmt::Display, result: impl std::fmt::Display) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n")
}

/// The values of an output with their error codes; 0 for a result.
fn codes_of(output: &str) -> Vec<i64> {
    serde_json::Deserializer::from_str(output)
        .into_iter::<Value>()
        .map(|value| value.unwrap()["error"]["code"].as_i64().unwrap_or(0))
        .collect()
}

#[tokio::test]
async fn requests_are_answered_in_order_with_their_ids() {
    let server = Running::start(Limits::default());
    let input = request(1, "echo_async", "[1]")
        + &request("\"b\"", "echo", r#"{"k":"v"}"#)
        + "\n \t"
        + &request("123456789012345678901234567890", "echo", "[]")
        + &request("-1.50", "echo_async", "[null]")
        + &request("null", "echo", "null");
    let expected = result(1, "[1]")
        + &result("\"b\"", r#"{"k":"v"}"#)
        + &result("123456789012345678901234567890", "[]")
        + &result("-1.50", "[null]")
        + &result("null", "null");
    assert_eq!(server.talk(input).await, expected);
    server.stop().await;
}

#[tokio::test]
async fn notifications_are_executed_and_not_answered() {
    let server = Running::start(Limits::default());
    let input = concat!(
        r#"{"jsonrpc":"2.0","method":"echo","params":[1]}"#,
        r#"{"jsonrpc":"2.0","method":"exists"}{"jsonrpc":"2.0","method":"no_such"}"#,
        r#"{"jsonrpc":"2.0","method":"panic"}"#,
        r#"[{"jsonrpc":"2.0","method":"echo"}]"#,
        r#"{"jsonrpc":"2.0","method":"calls","id":9}"#,
    );
    assert_eq!(server.talk(input).await, result(9, 2));
    server.stop().await;
}

#[tokio::test]
async fn batches_are_answered_as_one_array() {
    let server = Running::start(Limits::default());
    let batch = format!(
        r#"[{}, 1, {{"jsonrpc":"2.0","method":"echo"}}, {{"id":5}}, {}]"#,
        request(1, "echo", "[1]"),
        request(2, "exists", "null")
    );
    let output = server.talk(batch).await;
    assert_eq!(output.lines().count(), 1, "{output}");
    let answers: Vec<Value> = serde_json::from_str(&output).unwrap();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0], json!({"jsonrpc":"2.0","id":1,"result":[1]}));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&Value::Null, &json!(-32600)));
    assert_eq!((&answers[2]["id"], &answers[2]["error"]["code"]), (&json!(5), &json!(-32600)));
    assert_eq!((&answers[3]["id"], &answers[3]["error"]["code"]), (&json!(2), &json!(-17)));
    server.stop().await;
}

#[tokio::test]
async fn a_bad_batch_is_answered_once_and_the_connection_lives() {
    let server = Running::start(Limits { max_batch_requests: 2, ..Limits::default() });
    let output = server.talk("[] [1,2,3] [1,2] 7 \"x\" null").await;
    let values: Vec<Value> =
        serde_json::Deserializer::from_str(&output).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(values[0]["error"]["code"], codes::INVALID_REQUEST);
    assert_eq!(values[0]["id"], Value::Null);
    assert_eq!(values[1]["error"]["code"], codes::BATCH_TOO_LARGE);
    assert_eq!(values[2].as_array().unwrap().len(), 2);
    assert_eq!(codes_of(&output)[3..], [-32600, -32600, -32600]);
    server.stop().await;
}

#[tokio::test]
async fn errors_of_methods_pass_through() {
    let server = Running::start(Limits::default());
    let mut client = Client::connect(&server.path).await.unwrap();
    let error = client.call("exists", None).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Rpc { code: -17, message, data: None } if message == "File exists"),
        "{error}"
    );
    let error = client.call("no_such", None).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Rpc { code: -32601, message, .. } if message == "Method not found")
    );
    assert!(error.to_string().contains("no_such"), "{error}");
    let error = client.call("bytes", Some(json!({"a": 1}))).await.unwrap_err();
    assert!(matches!(error, ClientError::Rpc { code: -32602, .. }), "{error}");
    for method in ["subscribe", "unsubscribe"] {
        let error = client.call(method, None).await.unwrap_err();
        assert!(error.to_string().contains("subscriptions are not available"), "{error}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_panic_costs_one_answer() {
    let server = Running::start(Limits::default());
    let mut client = Client::connect(&server.path).await.unwrap();
    for method in ["panic", "panic_async"] {
        let error = client.call(method, None).await.unwrap_err();
        assert!(matches!(error, ClientError::Rpc { code: -32603, .. }), "{error}");
        assert!(!error.to_string().contains("on purpose"), "the cause belongs in the log: {error}");
        assert_eq!(client.call("echo", Some(json!([1]))).await.unwrap(), json!([1]));
    }
    assert_eq!((server.stats.panics(), server.stats.requests()), (2, 4));
    server.stop().await;
}

#[tokio::test]
async fn a_response_that_is_too_long_becomes_an_error() {
    let server = Running::start(Limits { max_response_bytes: 2000, ..Limits::default() });
    let mut client = Client::connect(&server.path).await.unwrap();
    let error = client.call("bytes", Some(json!([2000]))).await.unwrap_err();
    assert!(matches!(error, ClientError::Rpc { code: -32008, .. }), "{error}");
    assert_eq!(
        client.call("bytes", Some(json!([1000]))).await.unwrap().as_str().unwrap().len(),
        1000
    );
    server.stop().await;
}

#[tokio::test]
async fn methods_know_their_caller() {
    let server = Running::start(Limits::default());
    let mut client = Client::connect(&server.path).await.unwrap();
    let peer = client.call("peer", None).await.unwrap();
    let me = my_uid();
    assert_eq!(peer, json!({ "uid": me, "pid": std::process::id(), "connection": true }));
    server.stop().await;
}

#[tokio::test]
async fn a_slow_method_delays_its_own_connection_only() {
    let server = Running::start(Limits::default());
    let mut slow = server.stream().await;
    let input = request(1, "wait", "[]") + &request(2, "echo", "[2]");
    slow.write_all(input.as_bytes()).await.unwrap();
    server.shop.begun.notified().await;
    let mut quick = Client::connect(&server.path).await.unwrap();
    assert_eq!(quick.call("calls", None).await.unwrap(), json!(0), "a request overtook another");
    server.shop.gate.notify_one();
    slow.shutdown().await.unwrap();
    let mut output = String::new();
    slow.read_to_string(&mut output).await.unwrap();
    assert_eq!(output, result(1, "\"waited\"") + &result(2, "[2]"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_works_on_a_multi_thread_runtime() {
    let server = Running::start(Limits::default());
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let path = server.path.clone();
        tasks.spawn(async move {
            let mut client = Client::connect(&path).await.unwrap();
            for turn in 0..50 {
                let params = json!([number, turn]);
                let method = if turn % 2 == 0 { "echo" } else { "echo_async" };
                assert_eq!(client.call(method, Some(params.clone())).await.unwrap(), params);
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    assert_eq!((server.stats.accepted(), server.stats.requests()), (16, 800));
    server.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn splitting_the_stream_changes_no_answer(
        picks in prop::collection::vec(0_usize..8, 1..8),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let pieces = [
            request(1, "echo", r#"["a}\"{",{"b":[]}]"#),
            request("\"é\"", "echo_async", "{}"),
            "{\"jsonrpc\":\"2.0\",\"method\":\"echo\"}\n".to_owned(),
            "[]".to_owned(),
            format!("[{},{}]", request(1, "exists", "[]"), request(2, "echo", "[]")),
            "{} ".to_owned(),
            "17 ".to_owned(),
            "{\"jsonrpc\":\"2.0\",,}".to_owned(),
        ];
        let input: String = picks.iter().map(|pick| pieces[*pick].as_str()).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        cuts.sort_unstable();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (whole, split) = runtime.block_on(async {
            let server = Running::start(Limits::default());
            let whole = server.talk(&input).await;
            let mut stream = server.stream().await;
            let mut from = 0;
            for to in cuts.into_iter().chain([input.len()]) {
                // After a parse error the server stops reading, and may have closed.
                if stream.write_all(&input.as_bytes()[from..to]).await.is_err() {
                    break;
                }
                from = to;
                tokio::task::yield_now().await;
            }
            drop(stream.shutdown().await);
            let mut split = String::new();
            stream.read_to_string(&mut split).await.unwrap();
            server.stop().await;
            (whole, split)
        });
        prop_assert_eq!(whole, split);
    }
}
