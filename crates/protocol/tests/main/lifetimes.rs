//! Connections as a whole: idleness, closing, draining.

use reactor_protocol::session::Rights;
use reactor_protocol::texts::Close;
use reactor_protocol::wire::FrameRefusal;

use crate::client::Client;

fn joined() -> Client {
    let mut client = Client::v2();
    client.send(r#"["1","1","realtime:a","phx_join",{"config":{}}]"#).expect("a join");
    client.answer_all(Rights::ALL);
    client.texts();
    client
}

#[test]
fn an_idle_connection_is_closed() {
    let mut client = joined();
    client.advance(59);
    client.with(|session, now| session.handle_activity(now));
    client.advance(59);
    assert!(client.closed.is_none());
    client.advance(1);
    assert_eq!(client.closed, Some(Close::Idle));
    assert_eq!(client.send(r#"[null,"1","phoenix","heartbeat",{}]"#), Err(FrameRefusal::Closed));
}

#[test]
fn a_connection_that_left_its_last_channel_is_closed_later() {
    let mut client = joined();
    client.send(r#"["1","2","realtime:a","phx_leave",{}]"#).expect("a leave");
    for _ in 0..20 {
        client.assert_alive();
        client.advance(29);
    }
    client.assert_alive();
    client.advance(20);
    assert_eq!(client.closed, Some(Close::Idle));
    // One that never joined is not.
    let mut client = Client::v2();
    for _ in 0..30 {
        client.assert_alive();
        client.advance(29);
    }
    assert!(client.closed.is_none());
}

#[test]
fn every_channel_is_told_before_a_restart() {
    let mut client = joined();
    client.send(r#"["2","2","realtime:b","phx_join",{"config":{}}]"#).expect("a join");
    client.answer_all(Rights::ALL);
    client.texts();
    client.with(|session, _| session.handle_disconnect());
    let system = r#"{"extension":"system","status":"ok","message":"Server requested disconnect"}"#;
    let expected = ["realtime:a", "realtime:b"].map(|topic| format!(r#"[null,null,"{topic}","system",{system}]"#));
    assert_eq!(client.texts(), expected);
    assert_eq!(client.closed, Some(Close::Restart));
    assert_eq!(Close::Restart.code_and_reason().0, 1012);
    client.close();
    assert_eq!(client.member_count(), 0);
}

#[test]
fn a_slow_reader_is_told_and_closed() {
    let mut client = joined();
    client.with(|session, _| session.handle_slow_consumer());
    let sent = client.texts();
    assert!(sent.len() == 1 && sent[0].contains("SlowConsumer"), "{sent:?}");
    assert_eq!(client.closed.map(Close::code_and_reason), Some((1013, "slow consumer")));
}

#[test]
fn frames_that_are_too_large_close_the_connection() {
    let mut client = Client::v2();
    client.send(&" ".repeat(5_000_001)).expect_err("too large");
    assert_eq!(client.closed.map(Close::code_and_reason), Some((1009, "frame too large")));
}

#[test]
fn a_malformed_frame_changes_nothing() {
    let mut client = joined();
    for frame in ["", "{", "[1]", r#"{"topic":"a"}"#, r#"["1","1","realtime:a"]"#] {
        assert_eq!(client.send(frame), Err(FrameRefusal::NotJson), "{frame}");
    }
    assert!(client.texts().is_empty());
    client.assert_alive();
    assert_eq!(client.session.channel_count(), 1);
}

#[test]
fn a_session_is_small() {
    // Ten thousand idle connections with a channel each are kept by one process.
    let session = size_of::<reactor_protocol::session::Session<std::sync::Arc<str>>>();
    assert!(session <= 256, "{session} bytes");
}
