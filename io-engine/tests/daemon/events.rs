//! Events as they come, over a WebSocket (RFC 6455).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::Daemon;

/// A client whose frames are written by hand.
struct Socket(TcpStream);

impl Socket {
    fn open(daemon: &Daemon) -> Self {
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains("the HTTP server listens"));
        let (_, address) = line.and_then(|line| line.split_once("address=")).expect("an address");
        let mut stream = TcpStream::connect(address.trim()).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
        let hello = "GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(hello.as_bytes()).expect("it reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    fn send(&mut self, method: &str, params: &Value) {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let text = request.to_string();
        // A final text frame with 16 bits of length, masked with zeroes.
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(u16::try_from(text.len()).expect("short").to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.0.write_all(&frame).expect("it reads");
    }

    /// The next text message; nothing at the end.
    fn receive(&mut self) -> Option<Value> {
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).ok()?;
            let mut length = usize::from(head[1]);
            if length == 126 {
                let mut long = [0; 2];
                self.0.read_exact(&mut long).ok()?;
                length = u16::from_be_bytes(long).into();
            }
            let mut text = vec![0; length];
            self.0.read_exact(&mut text).ok()?;
            match head[0] & 0xf {
                1 => return Some(serde_json::from_slice(&text).expect("JSON")),
                8 => return None,
                _ => {}
            }
        }
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.send(method, params);
        self.receive().expect("an answer")
    }

    /// The next event.
    fn event(&mut self) -> Value {
        let message = self.receive().expect("a message");
        assert_eq!(message["method"], "notify_event", "{message}");
        message["params"]["result"].clone()
    }
}

#[test]
fn events_are_sent_as_they_come() {
    let daemon = Daemon::start(&["--http", "0", "--bdev", "null:///n0?size_mb=8"]);
    let (mut all, mut sizes) = (Socket::open(&daemon), Socket::open(&daemon));
    let subscribed = all.call("notify_subscribe", &json!({ "id": 0 }));
    let number = subscribed["result"].clone();
    assert!(number.is_u64() || number.is_string(), "{subscribed}");
    let before = all.event();
    assert_eq!((&before["type"], &before["ctx"]), (&json!("bdev_register"), &json!("n0")));
    assert!(before["time_us"].as_u64() > Some(0), "{before}");
    let subscribed = sizes.call("notify_subscribe", &json!({ "types": ["bdev_resize"] }));
    assert_eq!(subscribed.get("error"), None, "{subscribed}");
    daemon.call("bdev_create", json!({ "uri": "null:///n1?size_mb=8" }));
    daemon.call("bdev_null_resize", json!({ "name": "n1", "new_size": 9 }));
    for kind in ["bdev_register", "bdev_resize"] {
        assert_eq!(all.event()["type"], kind);
    }
    let resized = sizes.event();
    assert_eq!((&resized["type"], &resized["id"]), (&json!("bdev_resize"), &json!(2)));
    // The same as a question gives.
    let asked = daemon.call("notify_get_notifications", json!({ "id": 2 }));
    assert_eq!(asked[0], resized);
    assert_eq!(all.call("notify_unsubscribe", &json!([number]))["result"], true);
    daemon.call("bdev_null_delete", json!({ "name": "n1" }));
    assert_eq!(all.call("spdk_get_version", &json!({})).get("error"), None, "an answer, no event");
    daemon.end(Signal::SIGTERM);
    assert_eq!(sizes.receive(), None, "it ends with the daemon");
}

#[test]
fn a_subscription_is_checked_as_a_call_and_needs_a_websocket() {
    let daemon = Daemon::start(&["--http", "0"]);
    let mut socket = Socket::open(&daemon);
    for (params, words) in [
        (json!({ "types": ["melted"] }), "bdev_register"),
        (json!({ "types": [] }), "`types`"),
        (json!({ "id": -1 }), "`id`"),
        (json!({ "ctx": "n0" }), "unknown parameter `ctx`"),
    ] {
        let error = socket.call("notify_subscribe", &params)["error"].clone();
        assert_eq!(error["code"], -32602, "{error}");
        assert!(error["message"].as_str().expect("words").contains(words), "{error}");
    }
    assert_eq!(daemon.refuses("notify_subscribe", Value::Null).0, -32601);
    let described = daemon.call("rpc.discover", Value::Null);
    let methods = described["methods"].as_array().expect("a list");
    let method = methods.iter().find(|method| method["name"] == "notify_subscribe");
    assert_eq!(method.expect("it is described")["x-transport"], "websocket");
    daemon.end(Signal::SIGTERM);
}
