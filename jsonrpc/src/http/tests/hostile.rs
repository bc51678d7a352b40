//! Peers that send too much, too slowly, or read nothing.

use super::*;

fn short() -> HttpLimits {
    let soon = Duration::from_millis(200);
    HttpLimits {
        max_request_bytes: 1000,
        max_batch_requests: 2,
        max_connections: 2,
        header_timeout: soon,
        body_timeout: soon,
        write_timeout: soon,
        ..HttpLimits::default()
    }
}

#[tokio::test]
async fn requests_that_are_too_long_are_refused() {
    let rig = Rig::with(true, short()).await;
    let long = json!(["x".repeat(2000)]);
    let long = request(json!(1), "get", long).to_string();
    let (status, body) = rig.post("", &long).await;
    assert!(status == 413 && body.contains("1000 bytes"), "{status} {body}");
    let chunked = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    assert_eq!(rig.raw(chunked).await.0, 413);
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    assert_eq!(rig.raw(head).await.0, 431);
    let one = request(json!(1), "get", json!([]));
    let (_, body) = rig.post("", &json!([one, one, one]).to_string()).await;
    assert!(body.contains(&codes::BATCH_TOO_LARGE.to_string()), "{body}");
    rig.end().await;
}

#[tokio::test]
async fn responses_that_are_too_long_become_errors() {
    let limits = HttpLimits { max_response_bytes: 1024, ..HttpLimits::default() };
    let rig = Rig::with(true, limits).await;
    let answer = rig.call(request(json!(1), "get", json!(["x".repeat(2000)]))).await;
    assert_eq!(answer["error"]["code"], codes::RESPONSE_TOO_LARGE);
    rig.end().await;
}

#[tokio::test]
async fn slow_peers_are_given_up() {
    let rig = Rig::with(true, short()).await;
    let mut silent = rig.connect().await;
    let mut halfway = rig.connect().await;
    halfway.write_all(b"GET / HTTP/1.1\r\nHost: local").await.unwrap();
    assert_ne!(read_answer(&mut halfway).await.0, 200);
    assert_ne!(read_answer(&mut silent).await.0, 200);
    let unfinished = post("", "{").replace("Content-Length: 1", "Content-Length: 100");
    let (status, _, _) = rig.raw(unfinished).await;
    assert_eq!(status, 408);
    rig.end().await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_disconnected() {
    let rig = Rig::with(true, short()).await;
    let mut stream = rig.connect().await;
    stream.write_all(b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let stalled = async {
        while rig.stats.stalled() == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, stalled).await.expect("it is disconnected");
    rig.end().await;
}

#[tokio::test]
async fn connections_are_limited() {
    let limits = HttpLimits { max_connections: 2, ..HttpLimits::default() };
    let rig = Rig::with(true, limits).await;
    let (one, two) = (rig.connect().await, rig.connect().await);
    while rig.stats.accepted() < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let mut three = rig.connect().await;
    let (status, head, _) = read_answer(&mut three).await;
    assert!(status == 503 && head.contains("retry-after"), "{head}");
    assert_eq!(rig.stats.refused(), 1);
    drop((one, two));
    let call = request(json!(1), "get", json!([])).to_string();
    let served = async {
        while rig.post("", &call).await.0 != 200 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, served).await.expect("places are given back");
    rig.end().await;
}
