//! Processes, the event client and the proxy, against servers of a few lines.

use std::time::Duration;

use reactor_testkit::{Direction, ProcessOptions, SseRequest, TcpProxy, fixtures, sse, token};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(10);

/// Answers one connection with `answer` and keeps it open until the client has gone.
async fn answer_once(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
    });
    url
}

#[tokio::test]
async fn events_are_read_with_their_ids() {
    let url = answer_once(concat!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-accel-buffering: no\r\n\r\n",
        "retry: 1500\n\nevent: ready\nid: 1\ndata: {}\n\n: comment\n\nevent: heartbeat\nid: 2\ndata: {\"ts\":1}\n\n",
        "event: insert\nid: 3\ndata: {\"new\":{\"id\":7}}\n\n"
    ))
    .await;
    let mut client = SseRequest::get(url).token("x").query("filter", "a=eq.b c").open().await.unwrap();
    assert_eq!(client.headers()["x-accel-buffering"], "no");
    assert_eq!(client.next(SOON).await.unwrap().event, "ready");
    assert_eq!(client.retry(), Some(1500));
    let insert = client.expect("insert", SOON).await.unwrap();
    assert_eq!(sse::data(&insert).unwrap()["new"]["id"], 7);
    assert_eq!(client.last_id(), Some("3"));
    client.expect_silence(Duration::from_millis(50)).await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_told() {
    let url = answer_once("HTTP/1.1 403 Forbidden\r\ncontent-length: 12\r\n\r\n{\"code\":\"x\"}").await;
    assert_eq!(SseRequest::get(url).refused().await.unwrap(), (403, json!({"code": "x"})));
}

#[test]
fn a_token_has_three_parts_and_no_claim_of_its_own() {
    let claims = token::member("authenticated", "u", &["acme"]);
    assert_eq!(claims["orgs"], json!(["acme"]));
    let signed = token::token(fixtures::JWT_SECRET, &json!(claims)).unwrap();
    assert_eq!(signed.split('.').count(), 3);
}

#[tokio::test]
async fn a_process_is_started_asked_stopped_and_started_again() {
    let script =
        "trap 'echo bye; exit 0' TERM; echo $GREETING; echo oops >&2; while :; do read -t 0.05 _ </dev/zero; done";
    let process = ProcessOptions::other("/bin/bash").args(["-c", script]).env("GREETING", "hello").start().unwrap();
    process.wait_for_output("oops", SOON).await.unwrap();
    assert_eq!(process.stdout().unwrap(), "hello\n");
    process.stop(SOON).await.unwrap();
    assert_eq!(process.stdout().unwrap(), "hello\nbye\n");
    process.start_again().unwrap();
    assert!(process.is_running().unwrap());
    process.kill().await.unwrap();
    assert!(!process.is_running().unwrap());
}

/// A server that sends back what it gets, and a proxy in front of it.
async fn echo() -> TcpProxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = TcpProxy::start(listener.local_addr().unwrap()).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    proxy
}

async fn ping(stream: &mut tokio::net::TcpStream) -> std::io::Result<Duration> {
    let start = tokio::time::Instant::now();
    stream.write_all(b"ping").await?;
    stream.read_exact(&mut [0; 4]).await?;
    Ok(start.elapsed())
}

#[tokio::test]
async fn the_proxy_delays_holds_cuts_and_refuses() {
    let proxy = echo().await;
    let mut stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut stream).await.unwrap();
    proxy.set_delay(Duration::from_millis(50));
    assert!(ping(&mut stream).await.unwrap() >= Duration::from_millis(100));
    proxy.set_delay(Duration::ZERO);
    proxy.hold(Direction::ToClient, true);
    stream.write_all(b"held").await.unwrap();
    let mut held = [0; 4];
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut held)).await.is_err());
    proxy.hold(Direction::ToClient, false);
    stream.read_exact(&mut held).await.unwrap();
    proxy.cut();
    assert!(tokio::time::timeout(SOON, ping(&mut stream)).await.unwrap().is_err());
    let mut second = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    ping(&mut second).await.unwrap();
    proxy.refuse(true);
    // The kernel completes the connection; the reset comes with the first exchange at the latest.
    if let Ok(mut third) = tokio::net::TcpStream::connect(proxy.address()).await {
        assert!(tokio::time::timeout(SOON, ping(&mut third)).await.unwrap().is_err());
    }
}

#[tokio::test]
async fn the_proxy_passes_the_end_of_a_stream_on() {
    let proxy = echo().await;
    let mut stream = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(b"all of it").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "all of it");
}
