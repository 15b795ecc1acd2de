//! Joins: what they ask for, how they are answered and refused.

use reactor_protocol::session::{Access, ChangesRefusal, Counted, ReplayRefused, Rights, SessionSettings};
use reactor_protocol::texts::{Close, JoinRefusal, TokenRefusal};
use reactor_protocol::wire::{FrameRefusal, WireVersion};
use serde_json::{Value, json};

use crate::client::Client;

fn reasons(client: &mut Client) -> Vec<String> {
    let values = client.values();
    values.iter().filter_map(|frame| Some(frame.get(4)?.pointer("/response/reason")?.as_str()?.to_owned())).collect()
}

#[test]
fn a_join_is_answered_before_anything_is_delivered() {
    let mut client = Client::v2();
    let entry = r#"{"event":"*","schema":"public","table":"todos","filter":"id=eq.1","select":["id","title"]}"#;
    let config = format!(
        r#"{{"broadcast":{{"ack":false,"self":"TRUE"}},"presence":{{"enabled":true,"key":"user-1"}},"postgres_changes":[{entry}],"private":false}}"#
    );
    let join =
        format!(r#"["1","1","realtime:room1","phx_join",{{"config":{config},"access_token":"jwt","version":"x"}}]"#);
    client.send(&join).expect("a join");
    assert_eq!(client.actions(), ["#1 authorize join room1 public jwt"]);
    assert!(client.texts().is_empty());
    client.allow();
    let sent = client.values();
    let id = sent[0].pointer("/4/response/postgres_changes/0/id").and_then(Value::as_u64).expect("an id");
    let echo =
        json!({"event":"*","schema":"public","table":"todos","filter":"id=eq.1","select":["id","title"],"id":id});
    let reply = json!({"status":"ok","response":{"postgres_changes":[echo]}});
    assert_eq!(sent, [json!(["1", "1", "realtime:room1", "phx_reply", reply])]);
    assert_eq!(
        client.actions(),
        [
            "#1 broadcast own=true replay=None",
            "#1 presence state=true",
            "#1 changes ann public.todos?id=eq.1 since=None again=false Standard",
        ]
    );
    client.answer_all(Rights::ALL);
    let system =
        r#"{"extension":"postgres_changes","status":"ok","message":"Subscribed to PostgreSQL","channel":"room1"}"#;
    assert_eq!(client.texts(), [format!(r#"["1",null,"realtime:room1","system",{system}]"#)]);
    assert_eq!(client.actions(), ["#1 start"]);
}

#[test]
fn the_reply_of_version_1_has_no_join_ref() {
    let mut client = Client::v1();
    client.send(r#"{"topic":"realtime:a","event":"phx_join","payload":{"config":{"broadcast":null}},"ref":"1","join_ref":"1"}"#).expect("a join");
    client.allow();
    assert_eq!(
        client.texts(),
        [
            r#"{"topic":"realtime:a","event":"phx_reply","payload":{"status":"ok","response":{"postgres_changes":[]}},"ref":"1"}"#
        ]
    );
}

#[test]
fn refusals_are_named() {
    let join =
        |topic: &str, private: bool| format!(r#"["1","1","{topic}","phx_join",{{"config":{{"private":{private}}}}}]"#);
    let mut client = Client::new(
        WireVersion::V2,
        SessionSettings { private_only: true, max_channels: 1, ..SessionSettings::default() },
    );
    client.send(&join("realtime:", true)).expect("taken");
    client.send(&join("", true)).expect("taken");
    client.send(&join("realtime:a", false)).expect("taken");
    client.send(&join("realtime:a", true)).expect("taken");
    client.send(&join("realtime:b", true)).expect("taken");
    client.decide(Err(JoinRefusal::Unauthorized { name: "a".to_owned() }));
    client.session.begin_drain();
    client.send(&join("realtime:c", true)).expect("taken");
    assert_eq!(
        reasons(&mut client),
        [
            "TopicNameRequired: You must provide a topic name",
            "TopicNameRequired: You must provide a topic name",
            "PrivateOnly: This project only allows private channels",
            "ChannelRateLimitReached: Too many channels",
            "Unauthorized: You do not have permissions to read from this Channel topic: a",
            "RealtimeRestarting: Realtime is restarting, please standby",
        ]
    );
    assert_eq!(client.session.channel_count(), 0);
    let names = ["topic_required", "topic_required", "private_only", "too_many_channels", "unauthorized", "restarting"];
    assert_eq!(client.counted, names.map(Counted::Join));
}

#[test]
fn refused_tokens_are_named() {
    let check = |refusal: TokenRefusal, reason: &str| {
        let mut client = Client::v2();
        client.send(r#"["1","1","realtime:a","phx_join",{"config":{}}]"#).expect("a join");
        client.decide(Err(JoinRefusal::Token(refusal)));
        assert_eq!(reasons(&mut client), [reason]);
    };
    check(TokenRefusal::MissingClaims, "InvalidJWTToken: Fields `role` and `exp` are required in JWT");
    check(TokenRefusal::BadExpiry, "InvalidJWTToken: Token expiration time is invalid");
    check(TokenRefusal::Malformed, "MalformedJWT: The token provided is not a valid JWT");
    check(TokenRefusal::BadSignature, "JwtSignatureError: Failed to validate JWT signature");
    let text = "JwtSignerError: Failed to generate JWT signer for key ID (kid) \"k1\", check your JWT secret or JWKS configuration";
    check(TokenRefusal::NoSigner { kid: Some("k1".to_owned()) }, text);
    let mut client = Client::v2();
    client.send(r#"["1","1","realtime:a","phx_join",{"config":{}}]"#).expect("a join");
    let mut grant = client.grant("ann", 0, Rights::ALL);
    grant.expires -= std::time::Duration::from_secs(4);
    client.decide(Ok(grant));
    assert_eq!(reasons(&mut client), ["InvalidJWTToken: Token has expired 4 seconds ago"]);
}

#[test]
fn some_refusals_close_the_connection() {
    for refusal in [JoinRefusal::TenantUnknown, JoinRefusal::TooManyJoins] {
        let mut client = Client::v2();
        client.send(r#"["1","1","realtime:a","phx_join",{"config":{}}]"#).expect("a join");
        client.decide(Err(refusal));
        assert_eq!(client.texts().len(), 1);
        assert_eq!(client.closed, Some(Close::Away));
    }
}

#[test]
fn a_refusal_can_be_held_back() {
    let delay = std::time::Duration::from_secs(5);
    let mut client =
        Client::new(WireVersion::V2, SessionSettings { refusal_delay: delay, ..SessionSettings::default() });
    client.send(r#"["1","1","realtime:","phx_join",{"config":{}}]"#).expect("a join");
    client.advance(4);
    assert!(client.texts().is_empty());
    client.advance(1);
    assert_eq!(client.texts().len(), 1);
}

#[test]
fn a_second_join_takes_the_place_of_the_first() {
    let mut client = Client::v2();
    client.send(r#"["1","1","realtime:a","phx_join",{"config":{}}]"#).expect("a join");
    client.allow();
    client.texts();
    client.actions();
    client.send(r#"["2","2","realtime:a","phx_join",{"config":{}}]"#).expect("a join");
    assert_eq!(client.texts(), [r#"["1","1","realtime:a","phx_close",{}]"#]);
    assert_eq!(client.actions(), ["#1 leave", "#2 authorize join a public -"]);
    client.allow();
    let ok = r#"{"status":"ok","response":{"postgres_changes":[]}}"#;
    assert_eq!(client.texts(), [format!(r#"["2","2","realtime:a","phx_reply",{ok}]"#)]);
}

#[test]
fn a_replay_comes_right_after_the_reply() {
    let mut client = Client::v2();
    client
        .send(r#"["1","1","realtime:a","phx_join",{"config":{"private":true,"broadcast":{"replay":{"since":5,"limit":99}}}}]"#)
        .expect("a join");
    client.allow();
    assert!(client.texts().is_empty(), "the reply waits for the past");
    let actions = client.actions();
    assert!(
        actions.contains(&"#1 broadcast own=false replay=Some(Replay { since_ms: 5, limit: 25 })".to_owned()),
        "{actions:?}"
    );
    let stored = reactor_protocol::replay::StoredBroadcast {
        id: "i1".to_owned(),
        event: "e".into(),
        encoding: reactor_protocol::broadcast::Encoding::Json,
        payload: bytes::Bytes::from_static(b"{}"),
    };
    client.with(|session, now| session.handle_replay(reactor_protocol::session::ChannelId(1), Ok(vec![stored]), now));
    let sent = client.texts();
    assert!(sent[0].contains("phx_reply"), "{sent:?}");
    assert_eq!(
        sent[1],
        r#"["1",null,"realtime:a","broadcast",{"event":"e","payload":{},"type":"broadcast","meta":{"replayed":true,"id":"i1"}}]"#
    );
    assert_eq!(client.actions().first().map(String::as_str), Some(r#"#1 open ["i1"]"#));
}

#[test]
fn replays_are_refused_by_name() {
    let check = |config: &str, fails: bool, reason: &str| {
        let mut client = Client::v2();
        client.send(&format!(r#"["1","1","realtime:a","phx_join",{{"config":{config}}}]"#)).expect("a join");
        client.allow();
        if fails {
            let channel = reactor_protocol::session::ChannelId(1);
            client.with(|session, now| session.handle_replay(channel, Err(ReplayRefused), now));
        }
        assert_eq!(reasons(&mut client), [reason]);
        assert_eq!(client.member_count(), 0);
    };
    let public = r#"{"broadcast":{"replay":{"since":5}}}"#;
    check(public, false, "UnableToReplayMessages: Replay is not allowed for public channels");
    let timeless = r#"{"private":true,"broadcast":{"replay":{"limit":5}}}"#;
    check(timeless, false, "UnableToReplayMessages: Replay params are not valid");
    let valid = r#"{"private":true,"broadcast":{"replay":{"since":5}}}"#;
    check(valid, true, "UnableToReplayMessages: Realtime was unable to replay messages");
}

#[test]
fn a_join_can_wait_for_its_row_changes() {
    let join = r#"["1","1","realtime:a","phx_join",{"config":{"postgres_changes":[{"table":"t"}],"postgres_changes_options":{"wait":true,"timeout":90000,"since":"x"}}}]"#;
    let mut client = Client::v2();
    client.send(join).expect("a join");
    client.allow();
    assert!(client.texts().is_empty());
    assert_eq!(
        client.actions().last().map(String::as_str),
        Some("#1 changes ann public.t? since=Some(\"x\") again=false Standard")
    );
    client.answer_all(Rights::ALL);
    let sent = client.values();
    assert_eq!(sent.iter().map(|frame| frame[3].as_str().expect("event")).collect::<Vec<_>>(), ["phx_reply", "system"]);
    assert!(client.actions().contains(&"#1 start".to_owned()));

    let mut late = Client::v2();
    late.send(join).expect("a join");
    late.allow();
    late.advance(20);
    let reason = "PostgresChangesSubscribeTimeout: Postgres changes were not subscribed within 20000 ms";
    assert_eq!(reasons(&mut late), [reason]);

    let mut refused = Client::v2();
    refused.send(join).expect("a join");
    refused.allow();
    let refusal = ChangesRefusal { message: "no".to_owned(), retrying: false };
    let channel = reactor_protocol::session::ChannelId(1);
    refused.with(|session, now| session.handle_changes(channel, Err(refusal), now));
    assert_eq!(reasons(&mut refused), ["RealtimeDisabledForConfiguration: no"]);
    assert_eq!(refused.member_count(), 0);
}

#[test]
fn bad_row_changes_are_told_and_the_join_goes_on() {
    let mut client = Client::v2();
    client
        .send(r#"["1","1","realtime:a","phx_join",{"config":{"postgres_changes":[{"table":"t","filter":"wrong"}]}}]"#)
        .expect("a join");
    client.allow();
    let sent = client.values();
    let system = json!({"extension":"postgres_changes","status":"error","message":"Error parsing `filter` params: [\"wrong\"]","channel":"a"});
    assert_eq!(sent[1], json!(["1", null, "realtime:a", "system", system]));
    assert!(!client.actions().iter().any(|action| action.contains("changes")));
}

#[test]
fn private_channels_need_something_to_read() {
    let read = |broadcast, presence| Rights {
        broadcast: Access { read: broadcast, write: false },
        presence: Access { read: presence, write: false },
    };
    let join = |presence: bool| {
        format!(
            r#"["1","1","realtime:a","phx_join",{{"config":{{"private":true,"presence":{{"enabled":{presence}}}}}}}]"#
        )
    };
    let check = |presence: bool, rights: Rights, expected: &[&str]| {
        let mut client = Client::v2();
        client.send(&join(presence)).expect("a join");
        client.actions();
        client.answer_all(rights);
        let actions = client.actions();
        assert_eq!(actions, expected, "{rights:?}");
    };
    check(false, read(true, true), &["#1 broadcast own=false replay=None"]);
    check(true, read(true, true), &["#1 broadcast own=false replay=None", "#1 presence state=true"]);
    check(true, read(false, true), &["#1 presence state=true"]);
    check(false, read(false, true), &["#1 leave"]);
    check(true, read(true, false), &["#1 broadcast own=false replay=None"]);
}

#[test]
fn joins_without_config_name_a_table_by_their_topic() {
    let check = |topic: &str, expected: &str| {
        let mut client = Client::v1();
        let join = format!(r#"{{"topic":"{topic}","event":"phx_join","payload":{{"user_token":"jwt"}},"ref":"1"}}"#);
        client.send(&join).expect("a join");
        client.allow();
        let actions = client.actions();
        assert_eq!(actions.first().map(|action| action.ends_with("public jwt")), Some(true), "{actions:?}");
        assert_eq!(actions.last(), Some(&format!("#1 changes ann {expected} since=None again=false Legacy")));
    };
    check("realtime:*", "*.*?");
    check("realtime:public", "public.*?");
    check("realtime:public:todos", "public.todos?");
    check("realtime:public:todos:id=eq.1", "public.todos?id=eq.1");
    check("realtime:public:todos:at=eq.10:30", "public.todos?at=eq.10:30");
}

#[test]
fn frames_before_the_answer_are_taken_after_it() {
    let mut client = Client::v2();
    client.send(r#"["1","1","realtime:a","phx_join",{"config":{"broadcast":{"ack":true}}}]"#).expect("a join");
    client.send(r#"["1","2","realtime:a","broadcast",{"type":"broadcast","event":"e","payload":{}}]"#).expect("kept");
    assert_eq!(client.actions().len(), 1);
    client.allow();
    let actions = client.actions();
    assert!(actions.last().is_some_and(|action| action.starts_with("#1 publish a")), "{actions:?}");
    for _ in 0..100 {
        client.send(r#"["2","2","realtime:b","broadcast",{}]"#).expect("no such topic");
    }
    client.send(r#"["2","2","realtime:b","phx_join",{"config":{}}]"#).expect("a join");
    let kept = (0..200).filter(|_| client.send(r#"["2","2","realtime:b","broadcast",[]]"#).is_ok()).count();
    assert_eq!(kept, 100);
    client.counted.clear();
    client.allow();
    let dropped = client.counted.iter().filter(|counted| **counted == Counted::Dropped(FrameRefusal::BadPayload));
    assert_eq!(dropped.count(), 100, "what cannot be taken then is counted");
}

#[test]
fn a_join_that_cannot_be_read_is_refused() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let mut client = Client::v2();
    client.send(&format!(r#"["1","1","realtime:a","phx_join",{{"config":{deep}}}]"#)).expect("a join");
    assert_eq!(reasons(&mut client), ["Unknown Error on Channel"]);
}
