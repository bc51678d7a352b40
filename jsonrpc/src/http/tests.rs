//! The server on a real socket, with requests written by hand.

use std::sync::atomic::AtomicUsize;

use jsonrpsee::RpcModule;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::codes;

mod hostile;
mod pages;
mod websocket;

const TOKEN: &str = "0123456789abcdef";

/// How long anything here may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the methods of the test share.
#[derive(Default)]
struct Facts {
    changes: AtomicUsize,
    /// `slow` has ended.
    slow: AtomicUsize,
    closed: std::sync::atomic::AtomicBool,
}

/// A site whose methods only read when their names begin with `get`.
struct TestSite(Arc<Facts>);

impl Site for TestSite {
    fn page<'a>(&'a self, path: &'a str) -> SiteFuture<'a, Option<Page>> {
        Box::pin(async move {
            match path {
                "/" => Some(Page::new("text/html; charset=utf-8", "<p>front")),
                "/sick" => Some(Page::text(503, "sick")),
                "/long" => Some(Page::new("text/plain", vec![b'x'; 32 << 20])),
                _ => None,
            }
        })
    }

    fn closed(&self) -> Option<&'static str> {
        self.0.closed.load(Ordering::Relaxed).then_some("it starts")
    }

    fn only_reads(&self, method: &str, params: Option<&str>) -> bool {
        method.starts_with("get") && !params.is_some_and(|params| params.contains("change"))
    }
}

fn module(facts: &Arc<Facts>) -> RpcModule<Arc<Facts>> {
    let mut module = RpcModule::new(Arc::clone(facts));
    module.register_method("get_sync", |params, _, _| params.parse::<Value>().unwrap()).unwrap();
    module
        .register_async_method(
            "get",
            |params, _, _| async move { params.parse::<Value>().unwrap() },
        )
        .unwrap();
    module
        .register_async_method("change", |_, facts, _| async move {
            facts.changes.fetch_add(1, Ordering::Relaxed) + 1
        })
        .unwrap();
    module
        .register_async_method::<Value, _, _>("get_panic", |_, _, _| async { panic!("on purpose") })
        .unwrap();
    module.register_method::<Value, _>("get_sync_panic", |_, _, _| panic!("on purpose")).unwrap();
    module
        .register_async_method("get_slow", |_, facts, _| async move {
            sleep(Duration::from_millis(300)).await;
            facts.slow.fetch_add(1, Ordering::Relaxed);
            true
        })
        .unwrap();
    module
        .register_subscription("get_ticks", "tick", "end_ticks", |_, pending, _, _| async move {
            let sink = pending.accept().await.unwrap();
            for tick in 0..3 {
                let message = serde_json::value::to_raw_value(&tick).unwrap();
                sink.send(message).await.unwrap();
            }
            Ok(())
        })
        .unwrap();
    module
}

/// A running server.
struct Rig {
    address: SocketAddr,
    facts: Arc<Facts>,
    stats: Arc<HttpStats>,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), HttpError>>,
}

impl Rig {
    async fn start(token: bool) -> Self {
        Self::with(token, HttpLimits::default()).await
    }

    async fn with(token: bool, limits: HttpLimits) -> Self {
        let token = match token {
            true => Some(token::tests_token(TOKEN)),
            false => None,
        };
        let address = "127.0.0.1:0".parse().unwrap();
        let hosts = vec!["known.example".to_owned()];
        let server = HttpServer::bind(HttpOptions { address, token, hosts, limits }).unwrap();
        let (address, stats, facts) = (server.address(), server.stats(), Arc::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let (methods, site) = (module(&facts), Arc::new(TestSite(Arc::clone(&facts))));
        let ended = tokio::spawn(server.run(methods, site, async {
            let _ = stopped.await;
        }));
        Self { address, facts, stats, stop: Some(stop), ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request as it is, and reads until the server closes the connection.
    async fn raw(&self, request: impl AsRef<[u8]>) -> (u16, String, String) {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_answer(&mut stream).await
    }

    async fn post(&self, headers: &str, body: &str) -> (u16, String) {
        let (status, _, body) = self.raw(post(headers, body)).await;
        (status, body)
    }

    /// The answer to a call, with the token.
    async fn call(&self, request: Value) -> Value {
        let (status, body) = self.post(&bearer(TOKEN), &request.to_string()).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn end(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(PATIENCE, self.ended).await.unwrap().unwrap().unwrap();
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

/// The status, the head and the body.
async fn read_answer(stream: &mut TcpStream) -> (u16, String, String) {
    let mut bytes = Vec::new();
    // A reset after the answer is the end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer");
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn request(id: Value, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

#[tokio::test]
async fn calls_and_batches_are_answered() {
    let rig = Rig::start(true).await;
    for method in ["get", "get_sync"] {
        let answer = rig.call(request(json!("x"), method, json!({ "a": 1 }))).await;
        assert_eq!(answer, json!({ "jsonrpc": "2.0", "id": "x", "result": { "a": 1 } }));
    }
    let answer = rig.call(request(json!(1), "melt", json!({}))).await;
    assert_eq!(answer["error"]["code"], codes::METHOD_NOT_FOUND);
    let batch = json!([
        request(json!(1), "get", json!([1])),
        request(Value::Null, "change", json!([])),
        { "jsonrpc": "2.0", "method": "change" },
        5,
    ]);
    let answer = rig.call(batch).await;
    assert_eq!((&answer[0]["result"], &answer[1]["result"]), (&json!([1]), &json!(1)));
    assert_eq!(answer[2]["error"]["code"], codes::INVALID_REQUEST);
    assert_eq!(answer[3]["error"]["code"], codes::INVALID_REQUEST);
    assert_eq!(rig.facts.changes.load(Ordering::Relaxed), 1, "and one that is none is not done");
    assert_eq!(rig.stats.calls(), 4);
    rig.end().await;
}

#[tokio::test]
async fn what_could_not_be_answered_is_not_done() {
    let rig = Rig::start(true).await;
    for id in [Some("-1"), Some("1.5"), Some("18446744073709551616"), None] {
        let id = id.map_or(String::new(), |id| format!(r#","id":{id}"#));
        let text = format!(r#"{{"jsonrpc":"2.0","method":"change"{id}}}"#);
        let (status, body) = rig.post(&bearer(TOKEN), &text).await;
        assert_eq!(status, 200);
        assert!(body.contains("-32600") && body.contains("whole number"), "{text}: {body}");
    }
    assert_eq!(rig.facts.changes.load(Ordering::Relaxed), 0);
    let (_, body) = rig.post(&bearer(TOKEN), "{").await;
    assert!(body.contains("-32700"), "{body}");
    rig.end().await;
}

#[tokio::test]
async fn a_change_needs_the_token() {
    let rig = Rig::start(true).await;
    let change = request(json!(1), "change", json!([])).to_string();
    let (status, body) = rig.post("", &change).await;
    assert_eq!(status, 200);
    assert!(body.contains("-13") && body.contains("needs the bearer token"), "{body}");
    let hidden =
        json!([request(json!(1), "get", json!([])), request(json!(2), "change", json!([]))]);
    let (_, body) = rig.post("", &hidden.to_string()).await;
    let answers: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&answers[0]["result"], &answers[1]["error"]["code"]), (&json!([]), &json!(-13)));
    let by_params = request(json!(1), "get", json!({ "mode": "change" })).to_string();
    assert!(rig.post("", &by_params).await.1.contains("-13"));
    assert_eq!(rig.facts.changes.load(Ordering::Relaxed), 0);
    for wrong in [
        &bearer("0123456789abcdeF"),
        &bearer(""),
        &format!("Authorization: Basic {TOKEN}\r\n"),
        &format!("{}{}", bearer(TOKEN), bearer(TOKEN)),
        "Authorization: \r\n",
    ] {
        let (status, head, body) = rig.raw(post(wrong, &change)).await;
        assert_eq!(status, 401, "{wrong}: {body}");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
    }
    assert_eq!(rig.facts.changes.load(Ordering::Relaxed), 0);
    for right in [bearer(TOKEN), format!("authorization: bearer  {TOKEN}\r\n")] {
        assert!(rig.post(&right, &change).await.1.contains("\"result\":"), "{right}");
    }
    assert_eq!(rig.facts.changes.load(Ordering::Relaxed), 2);
    rig.end().await;
}

#[tokio::test]
async fn without_a_token_nothing_can_be_changed() {
    let rig = Rig::start(false).await;
    let change = request(json!(1), "change", json!([])).to_string();
    let (_, body) = rig.post("", &change).await;
    assert!(body.contains("-13") && body.contains("--http-token-file"), "{body}");
    assert_eq!(rig.post(&bearer(TOKEN), &change).await.0, 401, "there is none to be right");
    let get = request(json!(1), "get", json!([7])).to_string();
    assert!(rig.post("", &get).await.1.contains("[7]"));
    assert_eq!(rig.facts.changes.load(Ordering::Relaxed), 0);
    assert_eq!(rig.stats.forbidden(), 2);
    rig.end().await;
}

#[tokio::test]
async fn a_panic_costs_one_answer() {
    let rig = Rig::start(true).await;
    for method in ["get_panic", "get_sync_panic"] {
        let answer = rig.call(request(json!(3), method, json!([]))).await;
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(3), &json!(-32603)));
    }
    assert_eq!(rig.stats.panics(), 2);
    assert_eq!(rig.call(request(json!(4), "get", json!([1]))).await["result"], json!([1]));
    rig.end().await;
}

#[tokio::test]
async fn a_method_runs_to_its_end_when_its_caller_is_gone() {
    let rig = Rig::start(true).await;
    let mut stream = rig.connect().await;
    let slow = post("", &request(json!(1), "get_slow", json!([])).to_string());
    stream.write_all(slow.as_bytes()).await.unwrap();
    while rig.stats.calls() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    drop(stream);
    let done = async {
        while rig.facts.slow.load(Ordering::Relaxed) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, done).await.expect("the method ends");
    rig.end().await;
}

#[tokio::test]
async fn the_end_waits_for_answers_and_not_for_idle_peers() {
    let rig = Rig::start(true).await;
    let mut idle = rig.connect().await;
    let mut busy = rig.connect().await;
    let slow = post("", &request(json!(1), "get_slow", json!([])).to_string());
    busy.write_all(slow.as_bytes()).await.unwrap();
    while rig.stats.calls() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let address = rig.address;
    rig.end().await;
    assert!(read_answer(&mut busy).await.2.contains("\"result\":true"));
    assert_eq!(read_answer(&mut idle).await.0, 0);
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let rig = Rig::start(false).await;
    let limits = HttpLimits::default();
    let options = HttpOptions { address: rig.address, token: None, hosts: Vec::new(), limits };
    let error = HttpServer::bind(options.clone()).unwrap_err().to_string();
    assert!(error.contains(&rig.address.to_string()) && error.contains("cannot listen"), "{error}");
    let limits = HttpLimits { max_connections: 0, ..HttpLimits::default() };
    let error = HttpServer::bind(HttpOptions { limits, ..options }).unwrap_err().to_string();
    assert!(error.contains("max_connections"), "{error}");
    rig.end().await;
}
