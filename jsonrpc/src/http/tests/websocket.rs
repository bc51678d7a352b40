//! `/rpc` as a WebSocket (RFC 6455).

use super::*;

/// A client whose frames are written by hand.
struct Socket(TcpStream);

impl Socket {
    async fn open(rig: &Rig, headers: &str) -> Result<Self, (u16, String)> {
        let mut stream = rig.connect().await;
        let hello = format!(
            "GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(hello.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let status = head[9..12].parse().unwrap();
        if status == 101 { Ok(Self(stream)) } else { Err((status, head)) }
    }

    async fn send(&mut self, value: &Value) {
        let text = value.to_string();
        let length = u16::try_from(text.len()).unwrap();
        // A final text frame with 16 bits of length, masked with zeroes.
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next text message; nothing at the end.
    async fn receive(&mut self) -> Option<Value> {
        loop {
            let read = async {
                let mut head = [0; 2];
                self.0.read_exact(&mut head).await.ok()?;
                let length = match head[1] {
                    126 => self.0.read_u16().await.ok()?.into(),
                    127 => usize::try_from(self.0.read_u64().await.ok()?).ok()?,
                    short => short.into(),
                };
                let mut text = vec![0; length];
                self.0.read_exact(&mut text).await.ok()?;
                Some((head[0] & 0xf, text))
            };
            match timeout(PATIENCE, read).await.expect("a frame")? {
                (1, text) => return Some(serde_json::from_slice(&text).unwrap()),
                (8, _) => return None,
                _ => {}
            }
        }
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(&request(json!(9), method, params)).await;
        self.receive().await.expect("an answer")
    }
}

#[tokio::test]
async fn calls_and_subscriptions() {
    let rig = Rig::start(true).await;
    let mut socket = Socket::open(&rig, "").await.unwrap();
    assert_eq!(socket.call("get", json!([5])).await["result"], json!([5]));
    let subscription = socket.call("get_ticks", json!([])).await["result"].clone();
    for tick in 0..3 {
        let message = socket.receive().await.unwrap();
        assert_eq!(
            (&message["method"], &message["params"]["result"]),
            (&json!("tick"), &json!(tick))
        );
        assert_eq!(message["params"]["subscription"], subscription);
    }
    let (_, body) = rig.post("", &request(json!(1), "get_ticks", json!([])).to_string()).await;
    assert!(body.contains("error"), "a POST has nowhere to send more to: {body}");
    rig.end().await;
}

#[tokio::test]
async fn the_token_counts_from_the_beginning_on() {
    let rig = Rig::start(true).await;
    let mut anyone = Socket::open(&rig, "").await.unwrap();
    assert_eq!(anyone.call("change", json!([])).await["error"]["code"], -13);
    let mut trusted = Socket::open(&rig, &bearer(TOKEN)).await.unwrap();
    assert_eq!(trusted.call("change", json!([])).await["result"], 1);
    trusted.send(&json!({ "jsonrpc": "2.0", "method": "change" })).await;
    assert_eq!(trusted.receive().await.unwrap()["error"]["code"], codes::INVALID_REQUEST);
    for (headers, status) in
        [(bearer("0123456789abcdeF"), 401), ("Origin: http://evil.example\r\n".to_owned(), 403)]
    {
        let refused = Socket::open(&rig, &headers).await.err().expect("refused");
        assert_eq!(refused.0, status, "{headers}");
    }
    assert_eq!(rig.facts.changes.load(Ordering::Relaxed), 1);
    rig.end().await;
}

#[tokio::test]
async fn a_websocket_is_a_connection_and_ends_with_the_server() {
    let limits = HttpLimits { max_connections: 1, ..HttpLimits::default() };
    let rig = Rig::with(true, limits).await;
    let mut socket = Socket::open(&rig, "").await.unwrap();
    assert_eq!(socket.call("get", json!([1])).await["result"], json!([1]));
    let mut second = rig.connect().await;
    assert_eq!(read_answer(&mut second).await.0, 503);
    rig.end().await;
    assert_eq!(socket.receive().await, None);
}

#[tokio::test]
async fn a_silent_websocket_is_closed() {
    let limits = HttpLimits { idle_timeout: Duration::from_millis(200), ..HttpLimits::default() };
    let rig = Rig::with(true, limits).await;
    let mut socket = Socket::open(&rig, "").await.unwrap();
    // Pings come, and are not answered.
    assert_eq!(socket.receive().await, None);
    rig.end().await;
}
