//! Peers that send nonsense, too much, or never read.

use super::*;

#[tokio::test]
async fn what_is_not_json_is_answered_and_the_connection_closed() {
    let server = Running::start(Limits::default());
    let good = request(1, "echo", "[1]");
    for bad in [
        "garbage".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "{]".to_owned(),
        "}".to_owned(),
        r#"{"jsonrpc":"2.0",,}"#.to_owned(),
        r#"{"a":01}"#.to_owned(),
        "[1,]".to_owned(),
        "{\"half".to_owned(),
        "[".repeat(65),
        "{\"a\":\"\u{1}\"}".to_owned(),
    ] {
        let mut stream = server.stream().await;
        let input = good.clone() + &bad + &good;
        stream.write_all(input.as_bytes()).await.unwrap();
        // Only the end of the stream tells the server that the half-sent one stays half.
        stream.shutdown().await.unwrap();
        let mut output = String::new();
        stream.read_to_string(&mut output).await.unwrap();
        assert!(output.starts_with(&result(1, "[1]")), "{bad}: {output}");
        assert_eq!(codes_of(&output), [0, codes::PARSE_ERROR.into()], "{bad}: {output}");
        assert!(output.contains(r#""id":null"#), "{bad}: {output}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_connection_closes_after_a_parse_error_though_the_peer_keeps_its_side_open() {
    let server = Running::start(Limits::default());
    let mut stream = server.stream().await;
    stream.write_all(b"]").await.unwrap();
    let mut output = String::new();
    stream.read_to_string(&mut output).await.unwrap();
    assert_eq!(codes_of(&output), [i64::from(codes::PARSE_ERROR)]);
    until(|| server.stats.connections() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn invalid_utf8_is_a_parse_error() {
    let server = Running::start(Limits::default());
    let mut input = br#"{"jsonrpc":"2.0","id":1,"method":"echo","params":["#.to_vec();
    input.extend_from_slice(b"\"\xff\"]}");
    assert_eq!(codes_of(&server.talk(input).await), [i64::from(codes::PARSE_ERROR)]);
    server.stop().await;
}

#[tokio::test]
async fn deep_parameters_are_the_methods_matter_within_the_limit() {
    let server = Running::start(Limits { max_depth: 127, ..Limits::default() });
    let deep = "[".repeat(126) + &"]".repeat(126);
    let output = server.talk(request(1, "echo", &deep)).await;
    assert_eq!(output, result(1, &deep));
    let deeper = "[".repeat(127) + &"]".repeat(127);
    let output = server.talk(request(1, "echo", &deeper)).await;
    assert_eq!(codes_of(&output), [i64::from(codes::PARSE_ERROR)]);
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_long_is_answered_even_while_it_is_sent() {
    let server = Running::start(Limits { max_request_bytes: 100_000, ..Limits::default() });
    let fits = "x".repeat(99_000);
    let output = server.talk(request(1, "echo", &format!("[\"{fits}\"]"))).await;
    assert_eq!(codes_of(&output), [0]);
    // Far more than the socket's buffers hold: without lingering, the peer's writing would fail.
    let long = "x".repeat(4 << 20);
    let output = server.talk(request(1, "echo", &format!("[\"{long}\"]"))).await;
    assert_eq!(codes_of(&output), [i64::from(codes::REQUEST_TOO_LARGE)]);
    assert!(output.contains("100000 bytes"), "{output}");
    server.stop().await;
}

#[tokio::test]
async fn a_large_request_in_small_pieces_is_understood() {
    let server = Running::start(Limits::default());
    let text = request(1, "echo", &format!("[\"{}\"]", "y".repeat(1 << 20)));
    let mut stream = server.stream().await;
    let (mut read, mut write) = stream.split();
    let send = async {
        for piece in text.as_bytes().chunks(97) {
            write.write_all(piece).await.unwrap();
        }
        write.shutdown().await.unwrap();
    };
    let mut output = String::new();
    let (_, received) = tokio::join!(send, read.read_to_string(&mut output));
    received.unwrap();
    assert_eq!(codes_of(&output), [0]);
    server.stop().await;
}

#[tokio::test]
async fn a_half_sent_request_waits_and_its_peers_end_ends_it() {
    let server = Running::start(Limits::default());
    let text = request(1, "echo", "[1]");
    let mut stream = server.stream().await;
    stream.write_all(&text.as_bytes()[..20]).await.unwrap();
    until(|| server.stats.connections() == 1).await;
    let mut other = Client::connect(&server.path).await.unwrap();
    assert_eq!(other.call("calls", None).await.unwrap(), json!(0));
    stream.write_all(&text.as_bytes()[20..]).await.unwrap();
    let mut answer = vec![0; result(1, "[1]").len()];
    stream.read_exact(&mut answer).await.unwrap();
    stream.write_all(&text.as_bytes()[..20]).await.unwrap();
    drop(stream);
    until(|| server.stats.connections() == 1).await;
    server.stop().await;
}

/// Sends requests with answers of `bytes` bytes until no more can be sent, and reads nothing.
async fn flood(stream: &UnixStream, bytes: usize) {
    let text = request(1, "bytes", &format!("[{bytes}]"));
    let (mut sent, mut idle) = (0, 0);
    // Unanswered requests fill the socket's buffer sooner or later; that nothing moves for a while
    // shows it.
    while idle < 20 {
        let rest = &text.as_bytes()[sent % text.len()..];
        match stream.try_write(rest) {
            Ok(length) => (sent, idle) = (sent + length, 0),
            Err(_) => {
                idle += 1;
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

#[tokio::test]
async fn a_peer_that_never_reads_holds_bounded_memory() {
    let limits = Limits { max_buffered_bytes: 100_000, ..Limits::default() };
    let server = Running::start(limits);
    let stream = server.stream().await;
    flood(&stream, 10_000).await;
    let held = server.stats.buffered_bytes();
    // The limit, and one answer that waits for room.
    assert!((50_000..=100_000 + 11_000).contains(&held), "{held} bytes are held");
    let executed = server.stats.requests();
    flood(&stream, 10_000).await;
    assert_eq!(
        server.stats.requests(),
        executed,
        "requests were executed without room for answers"
    );

    let mut other = Client::connect(&server.path).await.unwrap();
    assert_eq!(other.call("echo", Some(json!([1]))).await.unwrap(), json!([1]));
    drop(stream);
    until(|| server.stats.buffered_bytes() == 0 && server.stats.connections() == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn a_batch_of_large_answers_holds_bounded_memory() {
    let limits = Limits { max_buffered_bytes: 100_000, ..Limits::default() };
    let server = Running::start(limits);
    let mut stream = server.stream().await;
    let batch = vec![request(1, "bytes", "[50000]"); 200].join(",");
    stream.write_all(format!("[{batch}]").as_bytes()).await.unwrap();
    until(|| server.stats.buffered_bytes() > 100_000).await;
    sleep(Duration::from_millis(20)).await;
    assert!(server.stats.buffered_bytes() <= 100_000 + 51_000);
    assert!(server.stats.requests() < 200);
    stream.shutdown().await.unwrap();
    let mut output = String::new();
    stream.read_to_string(&mut output).await.unwrap();
    assert_eq!(serde_json::from_str::<Vec<Value>>(&output).unwrap().len(), 200);
    server.stop().await;
}

#[tokio::test]
async fn one_answer_longer_than_the_buffer_is_delivered() {
    let server = Running::start(Limits { max_buffered_bytes: 1000, ..Limits::default() });
    let input = request(1, "bytes", "[3000000]") + &request(2, "echo", "[]");
    let output = server.talk(input).await;
    assert_eq!(codes_of(&output), [0, 0]);
    assert!(output.len() > 3_000_000);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_for_too_long_is_disconnected() {
    let limits = Limits { write_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Running::start(limits);
    let stream = server.stream().await;
    let text = request(1, "bytes", "[5000000]");
    stream.writable().await.unwrap();
    stream.try_write(text.as_bytes()).unwrap();
    until(|| server.stats.stalled() == 1 && server.stats.connections() == 0).await;
    assert_eq!(server.stats.buffered_bytes(), 0);
    server.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_and_closed() {
    let server = Running::start(Limits::default());
    let mut clients = Vec::new();
    for number in 0..64 {
        let mut client = Client::connect(&server.path).await.unwrap();
        assert_eq!(client.call("echo", Some(json!([number]))).await.unwrap(), json!([number]));
        clients.push(client);
    }
    let mut extra = Client::connect(&server.path).await.unwrap();
    let error = extra.call("echo", None).await.unwrap_err();
    assert!(matches!(error, ClientError::Rpc { code: -32009, .. }), "{error}");
    assert!(error.to_string().contains("64 connections"), "{error}");
    assert_eq!((server.stats.connections(), server.stats.refused()), (64, 1));

    clients.pop();
    until(|| server.stats.connections() == 63).await;
    let mut next = Client::connect(&server.path).await.unwrap();
    assert_eq!(next.call("echo", None).await.unwrap(), Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn users_who_are_not_listed_are_refused() {
    let me = my_uid();
    let allowed = Limits { allow_uids: Some(vec![me]), ..Limits::default() };
    let server = Running::start(allowed);
    Client::connect(&server.path).await.unwrap().call("echo", None).await.unwrap();
    server.stop().await;

    let denied = Limits { allow_uids: Some(vec![me.wrapping_add(1)]), ..Limits::default() };
    let server = Running::start(denied);
    let error = Client::connect(&server.path).await.unwrap().call("echo", None).await.unwrap_err();
    assert!(matches!(error, ClientError::Rpc { code: -13, .. }), "{error}");
    assert_eq!(server.stats.requests(), 0);
    server.stop().await;
}
