//! `reactor realtime subscribe` against a server that misbehaves as it is told.

use anyhow::{Context, Result};
use reactor_testkit::{Process, ProcessOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::command::{WITHIN, finish, reactor, run};
use crate::script::{Answer, Script};

const READY: &str = "retry: 10\n\nevent: ready\nid: 0000000a-0000000000000001-00000000\ndata: {\"ts\":\"x\"}\n\n";

fn id(number: u32) -> String {
    format!("0000000a-0000000000000010-{number:08x}")
}

/// An insert with this number.
fn insert(number: u32) -> String {
    format!("event: insert\nid: {}\ndata: {{\"table\":\"t\",\"new\":{{\"n\":{number}}}}}\n\n", id(number))
}

fn subscribe(script: &Script, args: &[&str]) -> Command {
    let url = script.url();
    reactor(&[&["realtime", "subscribe", "t", "--token", "tok", "--url", &url], args].concat())
}

fn lines(stdout: &str) -> Result<Vec<Value>> {
    stdout.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn numbers(stdout: &str) -> Result<Vec<u64>> {
    Ok(lines(stdout)?.iter().filter_map(|line| line["data"]["new"]["n"].as_u64()).collect())
}

#[tokio::test]
async fn a_broken_connection_is_resumed_after_the_last_event() -> Result<()> {
    let script = Script::start([
        Answer::events(&format!("{READY}{}{}", insert(1), insert(2))),
        Answer::refusal("503 Service Unavailable", r#"{"code":"not_ready","message":"wait a little"}"#),
        // In the middle of an event.
        Answer::events(&format!("{READY}{}event: heartbeat\nid: {}\ndata: {{}}\n\nevent: ins", insert(3), id(9))),
        Answer::raw(b"\x16\x03nonsense"),
        Answer::events(&format!("{READY}{}", insert(4))),
    ])
    .await?;
    let ran = run(subscribe(&script, &["--json", "--count", "4", "--org", "acme", "--events", "insert"])).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(numbers(&ran.stdout)?, [1, 2, 3, 4]);
    let events: Vec<Value> = lines(&ran.stdout)?.into_iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["ready", "insert", "insert", "ready", "insert", "ready", "insert"]);
    assert_eq!(
        lines(&ran.stdout)?[1],
        json!({"event": "insert", "id": id(1), "data": {"table": "t", "new": {"n": 1}}})
    );

    let asked = script.asked();
    let resumed: Vec<Option<&str>> = asked.iter().map(|asked| asked.header("last-event-id")).collect();
    assert_eq!(resumed, [None, Some(id(2).as_str()), Some(&id(2)), Some(&id(9)), Some(&id(9))]);
    assert_eq!(asked[0].line, "GET /data/v1/t/subscribe?events=insert HTTP/1.1");
    assert_eq!(asked[0].header("authorization"), Some("Bearer tok"));
    assert_eq!(asked[0].header("x-reactor-org"), Some("acme"));
    assert_eq!(asked[0].header("accept"), Some("text/event-stream"));
    for part in
        ["the server closed the connection", "not_ready: wait a little", "connecting again", "after the last event"]
    {
        assert!(ran.stderr.contains(part), "{part} is not in {}", ran.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_mended_is_told_once() -> Result<()> {
    let refusal = |code: &str| format!(r#"{{"code":"{code}","message":"the message","hint":"the hint"}}"#);
    for (answer, parts) in [
        (
            Answer::refusal("401 Unauthorized", &refusal("token_expired")),
            &["401", "token_expired", "the message", "the hint"][..],
        ),
        (Answer::refusal("403 Forbidden", &refusal("permission_denied")), &["403", "permission_denied", "the hint"]),
        (Answer::refusal("404 Not Found", &refusal("table_unknown")), &["404", "table_unknown"]),
        (Answer::refusal("400 Bad Request", &refusal("bad_filter")), &["400", "bad_filter", "the message"]),
        (Answer::refusal("503 Service Unavailable", &refusal("realtime_disabled")), &["503", "realtime_disabled"]),
        (Answer::status("404 Not Found", "content-type: text/html\r\n", "<h1>nginx</h1>"), &["404", "nginx"]),
        (
            Answer::status("200 OK", "content-type: text/html\r\n", "<h1>welcome</h1>"),
            &["not an event stream", "text/html"],
        ),
        (
            Answer::events(&format!("{READY}event: error\ndata: {}\n\n", refusal("token_expired"))),
            &["token_expired", "the hint"],
        ),
    ] {
        let script = Script::start([answer]).await?;
        let ran = run(subscribe(&script, &[])).await?;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        for part in parts {
            assert!(ran.stderr.contains(part), "{part} is not in {}", ran.stderr);
        }
        assert_eq!(script.asked().len(), 1, "{ran:?}");
    }
    Ok(())
}

#[tokio::test]
async fn errors_that_pass_are_followed_by_another_connection() -> Result<()> {
    let script = Script::start([
        Answer::events(&format!(
            "{READY}{}event: error\ndata: {{\"code\":\"draining\",\"message\":\"bye\"}}\n\n",
            insert(1)
        ))
        .held(),
        Answer::refusal("429 Too Many Requests", r#"{"code":"too_many_connections"}"#),
        Answer::status("502 Bad Gateway", "", "<html>"),
        Answer::events(&format!("{READY}event: error\ndata: {{\"code\":\"a_new_one\"}}\n\n")),
        Answer::events(&format!("{READY}{}", insert(2))),
    ])
    .await?;
    let ran = run(subscribe(&script, &["--json", "--count", "2"])).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(numbers(&ran.stdout)?, [1, 2]);
    assert!(ran.stderr.contains("draining: bye"), "{}", ran.stderr);
    Ok(())
}

#[tokio::test]
async fn a_silent_connection_is_opened_anew() -> Result<()> {
    let script = Script::start([
        Answer::events(&format!("{READY}{}", insert(1))).held(),
        Answer::events(&format!("{READY}{}", insert(2))).held(),
    ])
    .await?;
    let ran = run(subscribe(&script, &["--json", "--count", "2", "--idle-timeout", "0.3"])).await?;
    assert_eq!((ran.code, numbers(&ran.stdout)?), (Some(0), vec![1, 2]), "{ran:?}");
    assert!(ran.stderr.contains("nothing came for 0.3 s"), "{}", ran.stderr);
    Ok(())
}

#[tokio::test]
async fn without_reconnecting_the_end_is_the_end() -> Result<()> {
    let script = Script::start([Answer::events(&format!("{READY}{}", insert(1)))]).await?;
    let ran = run(subscribe(&script, &["--no-reconnect", "--last-event-id", "begin"])).await?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains(&format!("--last-event-id {}", id(1))), "{}", ran.stderr);
    assert_eq!(script.asked()[0].header("last-event-id"), Some("begin"));
    let human: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(human.len(), 2, "{human:?}");
    assert!(
        human[1].contains("insert")
            && human[1].contains("10/1")
            && human[1].ends_with(r#"{"table":"t","new":{"n":1}}"#),
        "{human:?}"
    );
    Ok(())
}

#[tokio::test]
async fn time_and_heartbeats_are_options() -> Result<()> {
    let beat = format!("{READY}event: heartbeat\nid: {}\ndata: {{\"ts\":\"now\"}}\n\n", id(1));
    for (args, code, heartbeats) in [
        (&["--timeout", "1"][..], 0, 0),
        (&["--timeout", "1", "--count", "1"], 124, 0),
        (&["--timeout", "1", "--verbose"], 0, 1),
    ] {
        let script = Script::start([Answer::events(&beat).held()]).await?;
        let ran = run(subscribe(&script, args)).await?;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(code), ""), "{args:?}");
        assert_eq!(ran.stdout.matches("heartbeat").count(), heartbeats, "{args:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_who_goes_away_ends_it_quietly() -> Result<()> {
    let many: String = (1..=20_000).map(insert).collect();
    let script = Script::start([Answer::events(&format!("{READY}{many}")).held()]).await?;
    let mut child = subscribe(&script, &["--json"]).spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().context("a pipe")?);
    let mut line = String::new();
    tokio::time::timeout(WITHIN, stdout.read_line(&mut line)).await??;
    assert!(line.contains("ready"), "{line}");
    drop(stdout);
    let ran = finish(child).await?;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    Ok(())
}

#[tokio::test]
async fn ctrl_c_ends_it_quietly() -> Result<()> {
    let script = Script::start([Answer::events(READY).held()]).await?;
    let url = script.url();
    let options = ProcessOptions::other(env!("CARGO_BIN_EXE_reactor"));
    let process: Process = options.args(["realtime", "subscribe", "t", "--token", "tok", "--url", &url]).start()?;
    process.wait_for_output("ready", WITHIN).await?;
    process.interrupt()?;
    let status = process.wait(WITHIN).await?;
    assert_eq!((status.code(), process.stderr()?.as_str()), (Some(130), ""));
    Ok(())
}

#[tokio::test]
async fn token_and_address_come_from_the_environment() -> Result<()> {
    let script = Script::start([Answer::events(&format!("{READY}{}", insert(1)))]).await?;
    let mut command = reactor(&["realtime", "subscribe", "t", "--count", "1"]);
    command.env("REACTOR_TOKEN", "from-env").env("REACTOR_URL", script.url()).env("REACTOR_ORG", "acme");
    let ran = run(command).await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    script.wait_for_requests(1).await?;
    assert_eq!(script.asked()[0].header("authorization"), Some("Bearer from-env"));
    assert_eq!(script.asked()[0].header("x-reactor-org"), Some("acme"));

    let mut command = reactor(&["realtime", "subscribe", "t"]);
    command.env("HOME", "/nonexistent");
    let ran = run(command).await?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("no token"), "{}", ran.stderr);
    Ok(())
}
