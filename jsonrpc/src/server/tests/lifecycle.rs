//! Start and end of a server.

use super::*;

#[tokio::test]
async fn the_socket_is_private_and_removed_at_the_end() {
    let server = Running::start(Limits::default());
    let path = server.path.clone();
    let mode = std::fs::symlink_metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let dir = server.path.parent().unwrap().to_owned();
    server.shop.gate.notify_one();
    let Running { mut stop, task, _dir, .. } = server;
    stop.take().unwrap().send(()).unwrap();
    task.await.unwrap().unwrap();
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0);
    let error = Client::connect(&path).await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
}

#[tokio::test]
async fn a_second_server_is_refused_and_the_first_lives() {
    let server = Running::start(Limits::default());
    let error = Server::bind(&server.path, module(&Arc::default()), Limits::default()).unwrap_err();
    assert!(matches!(error, ServerError::InUse { .. }), "{error}");
    let mut client = Client::connect(&server.path).await.unwrap();
    assert_eq!(client.call("echo", None).await.unwrap(), Value::Null);
    server.stop().await;
}

#[tokio::test]
async fn a_bad_limit_is_refused_before_the_path_is_touched() {
    let dir = tempdir().unwrap();
    let limits = Limits { max_depth: 1000, ..Limits::default() };
    let error = Server::bind(&dir.path().join("s"), module(&Arc::default()), limits).unwrap_err();
    assert!(error.to_string().contains("max_depth: 1000"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn clients_that_connect_before_run_are_served_then() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("s");
    let server = Server::bind(&path, module(&Arc::default()), Limits::default()).unwrap();
    let mut client = Client::connect(server.path()).await.unwrap();
    let task = tokio::spawn(server.run(pending()));
    assert_eq!(client.call("echo", None).await.unwrap(), Value::Null);
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(!path.exists(), "a server that was dropped while it ran left its socket");
}

#[tokio::test]
async fn shutdown_answers_what_is_in_execution_and_begins_nothing() {
    let server = Running::start(Limits::default());
    let mut stream = server.stream().await;
    let input = request(1, "wait", "[]") + &request(2, "echo", "[]");
    stream.write_all(input.as_bytes()).await.unwrap();
    server.shop.begun.notified().await;
    let idle = server.stream().await;
    let (shop, stats) = (Arc::clone(&server.shop), Arc::clone(&server.stats));
    let path = server.path.clone();
    let stopping = tokio::spawn(server.stop());
    until(|| !path.exists()).await;
    shop.gate.notify_one();
    let mut output = String::new();
    stream.read_to_string(&mut output).await.unwrap();
    assert_eq!(output, result(1, "\"waited\""));
    stopping.await.unwrap();
    assert_eq!((stats.connections(), stats.requests()), (0, 1));
    drop(idle);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever_and_methods_still_finish() {
    let limits = Limits { shutdown_grace: Duration::from_millis(20), ..Limits::default() };
    let server = Running::start(limits);
    let mut stream = server.stream().await;
    stream.write_all(request(1, "wait", "[]").as_bytes()).await.unwrap();
    server.shop.begun.notified().await;
    let shop = Arc::clone(&server.shop);
    server.stop().await;
    shop.gate.notify_one();
    until(|| shop.calls.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn a_method_outlives_the_peer_that_called_it() {
    let server = Running::start(Limits::default());
    let mut stream = server.stream().await;
    stream.write_all(request(1, "wait", "[]").as_bytes()).await.unwrap();
    server.shop.begun.notified().await;
    drop(stream);
    server.shop.gate.notify_one();
    until(|| server.shop.calls.load(Ordering::Relaxed) == 1).await;
    until(|| server.stats.connections() == 0).await;
    server.stop().await;
}
