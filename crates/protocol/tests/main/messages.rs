//! Broadcasts and presences of clients.

use bytes::Bytes;
use reactor_protocol::session::{Access, PublishRefused, Rights, SessionSettings};
use reactor_protocol::wire::{FrameRefusal, WireVersion};
use serde_json::{Value, json};

use crate::client::Client;

fn joined(config: &str, rights: Rights, settings: SessionSettings) -> Client {
    let mut client = Client::new(WireVersion::V2, settings);
    client.send(&format!(r#"["1","1","realtime:a","phx_join",{{"config":{config}}}]"#)).expect("a join");
    client.answer_all(rights);
    client.texts();
    client.actions();
    client
}

fn public(config: &str) -> Client {
    joined(config, Rights::ALL, SessionSettings::default())
}

const READ_ONLY: Rights =
    Rights { broadcast: Access { read: true, write: false }, presence: Access { read: true, write: false } };

fn kind3(event: &str, metadata: &str, encoding: u8, payload: &[u8]) -> Bytes {
    let length = |text: &str| u8::try_from(text.len()).expect("short");
    let mut frame = vec![3, 1, 1, length("realtime:a"), length(event), length(metadata), encoding];
    for part in ["1", "5", "realtime:a", event, metadata] {
        frame.extend_from_slice(part.as_bytes());
    }
    frame.extend_from_slice(payload);
    frame.into()
}

#[test]
fn broadcasts_are_published_and_acknowledged_when_the_bus_has_them() {
    let mut client = public(r#"{"broadcast":{"ack":true}}"#);
    client.send(r#"[null,"5","realtime:a","broadcast",{"type":"broadcast","event":"e","payload":{}}]"#).expect("taken");
    let actions = client.actions();
    assert_eq!(actions.len(), 1);
    assert!(
        actions[0].starts_with("#1 publish a private=false ack=true persist=false Verbatim(Verbatim("),
        "{actions:?}"
    );
    assert!(client.texts().is_empty());
    let tickets = std::mem::take(&mut client.tickets);
    let refused = [PublishRefused::Bus, PublishRefused::StoringNotAllowed, PublishRefused::NotStored];
    for outcome in [Ok(None), Ok(Some("id")), Err(PublishRefused::TooLarge)].into_iter().chain(refused.map(Err)) {
        client.with(|session, _| session.handle_published(&tickets[0], outcome));
    }
    let unable = json!({"status":"error","response":{"reason":"unable to publish"}});
    let replies: Vec<Value> = client.values().into_iter().map(|frame| json!([frame[0], frame[1], frame[4]])).collect();
    assert_eq!(
        replies,
        [
            json!(["1", "5", {"status":"ok","response":{}}]),
            json!(["1", "5", {"status":"ok","response":{"id":"id"}}]),
            json!(["1", "5", {"status":"error","response":{"error":"payload_size_exceeded"}}]),
            json!(["1", "5", unable]),
            json!(["1", "5", unable]),
            json!(["1", "5", unable]),
        ]
    );
}

#[test]
fn without_ack_nothing_is_said() {
    let mut client = public("{}");
    client.send(r#"["1","5","realtime:a","broadcast",{"event":"e"}]"#).expect("taken");
    assert!(client.tickets.is_empty());
    assert_eq!(client.actions().len(), 1);
    assert!(client.texts().is_empty());
}

#[test]
fn binary_pushes_are_published() {
    let mut client = joined(r#"{"private":true,"broadcast":{"ack":true}}"#, Rights::ALL, SessionSettings::default());
    client.feed(false, &kind3("e", r#"{"persist":{"ttl":60}}"#, 1, b"{}")).expect("taken");
    client.feed(false, &kind3("e", r#"{"persist":true}"#, 0, b"\xff")).expect("taken");
    client.feed(false, &kind3("e", "", 1, b"{")).expect_err("not JSON");
    assert_eq!(
        client.actions(),
        [
            "#1 publish a private=true ack=true persist=true User(UserBroadcast(Json, 2 bytes))",
            "#1 publish a private=true ack=true persist=true User(UserBroadcast(Binary, 1 bytes))",
        ]
    );
}

#[test]
fn only_objects_are_forwarded_as_text() {
    let mut client = public("{}");
    client.send(r#"["1","5","realtime:a","broadcast","text"]"#).expect_err("no object");
    client.send(r#"["1","5","realtime:a","broadcast",[1]]"#).expect_err("no object");
    assert!(client.actions().is_empty());
}

#[test]
fn large_broadcasts_are_refused() {
    let settings = SessionSettings { max_payload_bytes: 10, ..SessionSettings::default() };
    let mut client = joined(r#"{"broadcast":{"ack":true}}"#, Rights::ALL, settings);
    let sent = client.send(r#"["1","5","realtime:a","broadcast",{"event":"too large"}]"#);
    assert_eq!(sent, Err(FrameRefusal::TooLarge));
    assert!(client.actions().is_empty());
    let error = r#"{"status":"error","response":{"error":"payload_size_exceeded"}}"#;
    assert_eq!(client.texts(), [format!(r#"["1","5","realtime:a","phx_reply",{error}]"#)]);
}

#[test]
fn without_permission_broadcasts_vanish() {
    let mut client = joined(r#"{"private":true,"broadcast":{"ack":true}}"#, READ_ONLY, SessionSettings::default());
    let sent = client.send(r#"["1","5","realtime:a","broadcast",{"event":"e"}]"#);
    assert_eq!(sent, Err(FrameRefusal::NotAllowed));
    assert!(client.actions().is_empty());
    assert!(client.texts().is_empty());
}

fn presence(client: &mut Client, payload: &str) -> Vec<Value> {
    client.send(&format!(r#"["1","6","realtime:a","presence",{payload}]"#)).expect("taken");
    client.values().into_iter().map(|frame| frame[4].clone()).collect()
}

#[test]
fn presences_are_tracked_updated_and_untracked() {
    let mut client = public(r#"{"presence":{"enabled":true,"key":"k"}}"#);
    let ok = [json!({"status":"ok","response":{}})];
    let track = r#"{"type":"presence","event":"TRACK","payload":{"user":"a","phx_ref":"mine"}}"#;
    assert_eq!(presence(&mut client, track), ok);
    assert_eq!(presence(&mut client, track), ok);
    assert_eq!(presence(&mut client, r#"{"event":"track","payload":{"user":"b"}}"#), ok);
    assert_eq!(presence(&mut client, r#"{"event":"untrack"}"#), ok);
    assert_eq!(presence(&mut client, r#"{"event":"untrack"}"#), ok);
    assert_eq!(presence(&mut client, r#"{"type":"presence"}"#), ok, "no event is no call");
    assert_eq!(
        client.actions(),
        [r#"#1 track k {"user":"a"} update=false"#, r#"#1 track k {"user":"b"} update=true"#, "#1 untrack"]
    );
}

#[test]
fn presence_calls_are_refused_by_form() {
    let mut client = public(r#"{"presence":{"enabled":true}}"#);
    let not_a_map = json!({"status":"error","response":{"reason":"Presence track payload must be a map"}});
    assert_eq!(presence(&mut client, r#"{"event":"track","payload":"x"}"#), [not_a_map]);
    let refused = json!({"status":"error","response":{}});
    assert_eq!(presence(&mut client, r#"{"event":"dance"}"#), std::slice::from_ref(&refused));
    let mut private = joined(r#"{"private":true}"#, READ_ONLY, SessionSettings::default());
    assert_eq!(presence(&mut private, r#"{"event":"track"}"#), [refused]);
}

#[test]
fn tracking_switches_presence_on() {
    let mut client = Client::v2();
    client
        .send(r#"["1","1","realtime:a","phx_join",{"config":{"presence":{"enabled":false,"key":"k"}}}]"#)
        .expect("a join");
    client.answer_all(Rights::ALL);
    assert_eq!(client.actions().last().map(String::as_str), Some("#1 presence state=false"));
    presence(&mut client, r#"{"event":"track"}"#);
    assert_eq!(client.actions(), ["#1 presence state=true", "#1 track k {} update=false"]);
}

#[test]
fn a_presence_ends_with_its_channel() {
    let leave = |end: &dyn Fn(&mut Client)| {
        let mut client = public(r#"{"presence":{"enabled":true,"key":"k"}}"#);
        presence(&mut client, r#"{"event":"track"}"#);
        client.actions();
        end(&mut client);
        assert_eq!(client.actions(), ["#1 untrack", "#1 leave"]);
    };
    leave(&|client| client.send(r#"["1","9","realtime:a","phx_leave",{}]"#).expect("a leave"));
    leave(&Client::close);
}

#[test]
fn presence_calls_are_limited_by_window() {
    let mut client = public(r#"{"presence":{"enabled":true,"key":"k"}}"#);
    for call in 0..5 {
        presence(&mut client, &format!(r#"{{"event":"track","payload":{{"n":{call}}}}}"#));
    }
    client.advance(30);
    assert_eq!(presence(&mut client, r#"{"event":"untrack"}"#).len(), 1, "another window");
    for call in 0..4 {
        presence(&mut client, &format!(r#"{{"event":"track","payload":{{"n":{call}}}}}"#));
    }
    let end = presence(&mut client, r#"{"event":"track"}"#);
    assert_eq!(end[0]["message"], "Client presence rate limit exceeded");
    assert_eq!(client.session.channel_count(), 0);
}

#[test]
fn large_presences_end_the_channel() {
    let settings = SessionSettings { max_payload_bytes: 40, ..SessionSettings::default() };
    let mut client = joined("{}", Rights::ALL, settings);
    let end = presence(&mut client, r#"{"event":"track","payload":{"long":"xxxxxxxxxxxxxxxxxxxxxxxxxxx"}}"#);
    assert_eq!(end[0]["message"], "Track message size exceeded");
}

#[test]
fn keys_are_made_up_where_none_is_given() {
    let mut client = Client::v2();
    client
        .send(r#"["1","1","realtime:a","phx_join",{"config":{"presence":{"enabled":true,"key":""}}}]"#)
        .expect("a join");
    client.answer_all(Rights::ALL);
    client.actions();
    presence(&mut client, r#"{"event":"track"}"#);
    let action = client.actions().remove(0);
    let key = action.split(' ').nth(2).expect("a key");
    assert_eq!(key.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
}

#[test]
fn unknown_events_are_not_answered() {
    let mut client = public("{}");
    let refusal = client.send(r#"["1","5","realtime:a","dance",{}]"#).expect_err("unknown");
    assert_eq!(refusal.name(), "unknown_event");
    assert!(client.texts().is_empty());
}
