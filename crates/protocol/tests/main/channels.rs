//! Joined channels: leaving, tokens, permissions, and the bare clients' way.

use std::time::Duration;

use reactor_protocol::session::{Access, ChangesRefusal, ChannelId, Counted, Rights};
use reactor_protocol::texts::{JoinRefusal, Shutdown, TokenRefusal};
use serde_json::{Value, json};

use crate::client::{APIKEY, Client};

const A: ChannelId = ChannelId(1);

fn joined(config: &str) -> Client {
    let mut client = Client::v2();
    client.send(&format!(r#"["1","1","realtime:a","phx_join",{{"config":{config}}}]"#)).expect("a join");
    client.answer_all(Rights::ALL);
    client.texts();
    client.actions();
    client
}

/// The frames of a channel that was shut down with this message.
fn shutdown(message: &str) -> [Value; 2] {
    let system = json!({"extension":"system","status":"error","message":message,"channel":"a"});
    [json!(["1", null, "realtime:a", "system", system]), json!(["1", "1", "realtime:a", "phx_close", {}])]
}

#[test]
fn leaving_is_answered_and_closed() {
    let mut client = joined("{}");
    client.send(r#"["1","9","realtime:a","phx_leave",{}]"#).expect("a leave");
    let ok = r#"{"status":"ok","response":{}}"#;
    let expected =
        [format!(r#"["1","9","realtime:a","phx_reply",{ok}]"#), r#"["1","1","realtime:a","phx_close",{}]"#.to_owned()];
    assert_eq!(client.texts(), expected);
    assert_eq!(client.actions(), ["#1 leave"]);
    client.send(r#"["1","10","realtime:a","phx_leave",{}]"#).expect("a leave");
    assert_eq!(client.texts(), [format!(r#"["1","10","realtime:a","phx_reply",{ok}]"#)]);
}

#[test]
fn a_stale_leave_does_not_leave() {
    let mut client = joined("{}");
    client.send(r#"["0","9","realtime:a","phx_leave",{}]"#).expect("a leave");
    assert_eq!(client.texts(), [r#"["0","9","realtime:a","phx_reply",{"status":"ok","response":{}}]"#]);
    assert_eq!(client.session.channel_count(), 1);
}

#[test]
fn topics_that_are_not_joined_are_unmatched() {
    let mut client = Client::v2();
    client.send(r#"["1","2","realtime:a","broadcast",{}]"#).expect("taken");
    let error = r#"{"status":"error","response":{"reason":"unmatched topic"}}"#;
    assert_eq!(client.texts(), [format!(r#"[null,"2","realtime:a","phx_reply",{error}]"#)]);
    client.send(r#"["1","3","phoenix","phx_join",{"config":{}}]"#).expect("taken");
    assert_eq!(client.texts(), [format!(r#"["1","3","phoenix","phx_reply",{error}]"#)]);
}

#[test]
fn heartbeats_are_answered() {
    let mut client = Client::v2();
    client.send(r#"[null,"26","phoenix","heartbeat",{}]"#).expect("a heartbeat");
    assert_eq!(client.texts(), [r#"[null,"26","phoenix","phx_reply",{"status":"ok","response":{}}]"#]);
    let mut old = Client::v1();
    old.send(r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#).expect("a heartbeat");
    assert_eq!(
        old.texts(),
        [r#"{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":null}"#]
    );
}

#[test]
fn a_new_token_is_decided_on_and_changes_are_subscribed_again() {
    let mut client = joined(r#"{"postgres_changes":[{"table":"t"}]}"#);
    for ignored in ["null", "\"sb_secret\"", &format!("\"{APIKEY}\"")] {
        client.send(&format!(r#"["1","2","realtime:a","access_token",{{"access_token":{ignored}}}]"#)).expect("taken");
    }
    assert!(client.actions().is_empty());
    client.send(r#"["1","2","realtime:a","access_token",{"access_token":"new"}]"#).expect("taken");
    client.send(r#"["1","2","realtime:a","access_token",{"access_token":"new"}]"#).expect("taken");
    assert_eq!(client.actions(), ["#1 authorize refresh a public new"]);
    let grant = client.grant("bob", 3600, Rights::ALL);
    client.decide(Ok(grant));
    assert_eq!(client.actions(), ["#1 changes bob public.t? since=None again=true Standard"]);
    client.answer_all(Rights::ALL);
    let sent = client.texts();
    assert!(sent.len() == 1 && sent[0].contains("Subscribed to PostgreSQL"), "{sent:?}");
}

#[test]
fn an_answer_to_an_older_token_is_ignored() {
    let mut client = joined(r#"{"postgres_changes":[{"table":"t"}]}"#);
    client.send(r#"["1","2","realtime:a","access_token",{"access_token":"one"}]"#).expect("taken");
    client.send(r#"["1","2","realtime:a","access_token",{"access_token":"two"}]"#).expect("taken");
    client.actions();
    assert!(!client.decide(Err(JoinRefusal::Token(TokenRefusal::Malformed))), "it is not waited for");
    assert!(client.actions().is_empty());
    let grant = client.grant("bob", 3600, Rights::ALL);
    client.decide(Ok(grant));
    assert_eq!(client.actions(), ["#1 changes bob public.t? since=None again=true Standard"]);
}

#[test]
fn a_refused_token_ends_the_channel() {
    let mut client = joined("{}");
    client.send(r#"["1","2","realtime:a","access_token",{"access_token":"bad"}]"#).expect("taken");
    client.decide(Err(JoinRefusal::Token(TokenRefusal::Malformed)));
    assert_eq!(client.values(), shutdown("The token provided is not a valid JWT"));
    assert_eq!(client.counted, [Counted::Join("ok"), Counted::Shutdown("token_malformed")]);
    assert!(client.closed.is_none());
}

fn join_legacy(client: &mut Client, topic: &str, token: &str) {
    let join = format!(r#"{{"topic":"{topic}","event":"phx_join","payload":{{"user_token":"{token}"}},"ref":"1"}}"#);
    client.send(&join).expect("a join");
    let grant = client.grant("ann", 7200, Rights::ALL);
    client.decide(Ok(grant));
    client.texts();
    client.actions();
}

#[test]
fn heartbeats_have_the_tokens_of_the_oldest_clients_verified() {
    let beat = r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"2"}"#;
    let mut client = Client::v1();
    for (topic, token) in [("realtime:public:a", "one"), ("realtime:public:b", "two"), ("realtime:public:c", "one")] {
        join_legacy(&mut client, topic, token);
    }
    // A channel with a config has its own times.
    client
        .send(r#"{"topic":"realtime:d","event":"phx_join","payload":{"config":{},"access_token":"four"},"ref":"1"}"#)
        .expect("a join");
    client.allow();
    client.send(beat).expect("a heartbeat");
    assert!(client.verified().is_empty(), "they were verified just now");
    client.advance(10);
    for expected in [vec!["one", "two"], vec![]] {
        client.send(beat).expect("a heartbeat");
        assert_eq!(client.verified(), expected, "each once, and not with every heartbeat");
    }
    client.advance(10);
    client.send(beat).expect("a heartbeat");
    let one = client.verifying.remove(0);
    client.texts();
    client.with(|session, now| session.handle_token_refused(&one, &TokenRefusal::BadSignature, now));
    let said = client.values();
    let system = |name: &str| {
        let message = "Failed to validate JWT signature";
        let payload = json!({"extension":"system","status":"error","message":message,"channel":name});
        json!({"topic":format!("realtime:{name}"),"event":"system","payload":payload,"ref":null})
    };
    assert_eq!([&said[0], &said[2]], [&system("public:a"), &system("public:c")]);
    assert!(said[1]["event"] == "phx_close" && said[3]["event"] == "phx_close" && said.len() == 4, "{said:?}");
    assert_eq!(client.session.channel_count(), 2);
    assert!(client.closed.is_none());
}

#[test]
fn tokens_are_verified_again_every_five_minutes() {
    let mut client = Client::v2();
    client.send(r#"["1","1","realtime:a","phx_join",{"config":{}}]"#).expect("a join");
    let grant = client.grant("ann", 7200, Rights::ALL);
    client.decide(Ok(grant));
    let wait = |client: &mut Client, seconds: u64| {
        for _ in 0..seconds / 30 {
            client.advance(30);
            client.assert_alive();
        }
    };
    wait(&mut client, 270);
    assert!(client.verified().is_empty());
    wait(&mut client, 30);
    assert_eq!(client.verified(), [APIKEY]);
    wait(&mut client, 300);
    assert_eq!(client.verified(), [APIKEY], "and again, though nobody answered");
    client.send(r#"["1","2","realtime:a","access_token",{"access_token":"new"}]"#).expect("taken");
    let grant = client.grant("ann", 7200, Rights::ALL);
    client.decide(Ok(grant));
    wait(&mut client, 270);
    assert!(client.verified().is_empty(), "the new one was verified later");
    wait(&mut client, 30);
    let new = client.verifying.remove(0);
    assert_eq!(new.expose(), "new");
    assert_eq!(format!("{new:?}"), "Token(…)");
    client.texts();
    let why = TokenRefusal::NoSigner { kid: None };
    client.with(|session, now| session.handle_token_refused(&new, &why, now));
    assert_eq!(client.values(), shutdown("Failed to generate JWT signer, check your JWT secret or JWKS configuration"));
    // Whoever is told late changes nothing.
    client.with(|session, now| session.handle_token_refused(&new, &why, now));
    assert!(client.texts().is_empty());
}

#[test]
fn a_token_that_is_too_long_is_as_good_as_none() {
    let mut client = Client::v2();
    let long = "x".repeat(16 * 1024 + 1);
    client
        .send(&format!(r#"["1","1","realtime:a","phx_join",{{"config":{{}},"access_token":"{long}"}}]"#))
        .expect("a join");
    assert_eq!(client.actions(), ["#1 authorize join a public "]);
    client.allow();
    client
        .send(&format!(r#"["1","2","realtime:a","access_token",{{"access_token":"{}"}}]"#, &long[1..]))
        .expect("taken");
    assert_eq!(client.actions().last(), Some(&format!("#1 authorize refresh a public {}", &long[1..])));
}

#[test]
fn a_refused_token_that_was_replaced_ends_nothing() {
    let mut client = Client::v1();
    join_legacy(&mut client, "realtime:public:a", "one");
    client.advance(20);
    client.send(r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"2"}"#).expect("a heartbeat");
    let old = client.verifying.remove(0);
    client
        .send(r#"{"topic":"realtime:public:a","event":"access_token","payload":{"access_token":"two"},"ref":"3"}"#)
        .expect("taken");
    client.allow();
    client.with(|session, now| session.handle_token_refused(&old, &TokenRefusal::BadSignature, now));
    assert_eq!(client.session.channel_count(), 1);
}

#[test]
fn an_expired_token_ends_the_channel_and_not_the_connection() {
    let mut client = Client::v2();
    client.send(r#"["1","1","realtime:a","phx_join",{"config":{}}]"#).expect("a join");
    let grant = client.grant("ann", 30, Rights::ALL);
    client.decide(Ok(grant));
    client.texts();
    assert_eq!(client.session.poll_timeout().map(|(_, why)| why), Some("token expiry"));
    client.advance(30);
    assert_eq!(client.values(), shutdown("Token has expired 0 seconds ago"));
    client.assert_alive();
}

#[test]
fn permissions_come_and_go() {
    let rights = |broadcast, presence| Rights {
        broadcast: Access { read: broadcast, write: true },
        presence: Access { read: presence, write: true },
    };
    let mut client = Client::v2();
    client
        .send(r#"["1","1","realtime:a","phx_join",{"config":{"private":true,"presence":{"enabled":true}}}]"#)
        .expect("a join");
    client.answer_all(rights(true, false));
    client.texts();
    client.actions();
    client.with(|session, now| session.handle_rights(A, rights(true, true), now));
    assert_eq!(client.actions(), ["#1 presence state=true"]);
    client.with(|session, now| session.handle_rights(A, rights(false, true), now));
    assert_eq!(client.values(), shutdown("You no longer have permission to read from this Channel topic: a"));
}

#[test]
fn the_shell_shuts_channels_down_by_name() {
    for (why, message) in [
        (Shutdown::TooManyMessages, "Too many messages per second"),
        (Shutdown::TooManyPresences, "Too many presence messages per second"),
        (Shutdown::Unreachable, "Realtime was unable to connect to the project database"),
    ] {
        let mut client = joined("{}");
        client.with(|session, now| session.handle_shutdown(A, &why, now));
        assert_eq!(client.values(), shutdown(message));
        assert_eq!(client.actions(), ["#1 leave"]);
    }
}

#[test]
fn what_becomes_of_row_changes_is_told() {
    let mut client = joined(r#"{"postgres_changes":[{"table":"t"}]}"#);
    let refusal = ChangesRefusal { message: "{:error, \"Too many database timeouts\"}".to_owned(), retrying: true };
    client.with(|session, now| session.handle_changes(A, Err(refusal), now));
    client.with(|session, _| session.handle_resync(A, "event_too_old"));
    let messages: Vec<Value> = client.values().into_iter().map(|frame| frame[4]["message"].clone()).collect();
    assert_eq!(messages, ["{:error, \"Too many database timeouts\"}", "resync: event_too_old"]);
}

#[test]
fn database_broadcasts_are_reported_ready_in_time_or_the_channel_ends() {
    let config = r#"{"broadcast":{"replication_ready":true}}"#;
    let mut client = joined(config);
    client.with(|session, _| session.handle_replication_ready(A));
    let system = r#"{"extension":"system","status":"ok","message":"Replication connection established","channel":"a"}"#;
    assert_eq!(client.texts(), [format!(r#"["1",null,"realtime:a","system",{system}]"#)]);
    let mut late = joined(config);
    for _ in 0..4 {
        late.advance(15);
        late.with(|session, now| session.handle_activity(now));
    }
    assert_eq!(late.values(), shutdown("Replication connection was not established in time"));
}

#[test]
fn bare_clients_are_recognised_and_answered_in_their_form() {
    let mut client = Client::v1();
    let send = |client: &mut Client, event: &str, payload: &str| {
        client
            .send(&format!(r#"{{"topic":"presence:doc-1","event":"{event}","payload":{payload},"ref":"1"}}"#))
            .expect("taken");
    };
    send(&mut client, "phx_join", r#"{"config":{"presence":{"key":"u1"}}}"#);
    client.allow();
    let ok = r#"{"status":"ok","response":{"postgres_changes":[]}}"#;
    assert_eq!(
        client.texts(),
        [format!(r#"{{"topic":"presence:doc-1","event":"phx_reply","payload":{ok},"ref":"1"}}"#)]
    );
    let joined =
        ["#1 authorize join presence:doc-1 public -", "#1 broadcast own=false replay=None", "#1 presence state=true"];
    assert_eq!(client.actions(), joined);
    send(&mut client, "presence_diff", r#"{"action":"track","data":{"user_id":"u1"}}"#);
    // A reply would be taken for that of the join, and tracked again.
    assert!(client.texts().is_empty());
    assert_eq!(client.actions(), [r#"#1 track u1 {"user_id":"u1"} update=false"#]);
    send(&mut client, "presence_diff", r#"{"action":"untrack"}"#);
    assert_eq!(client.actions(), ["#1 untrack"]);

    let mut list = Client::v1();
    let join = r#"{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"todos"}]}}"#;
    list.send(&format!(r#"{{"topic":"realtime:public:todos","event":"phx_join","payload":{join},"ref":"1"}}"#))
        .expect("a join");
    list.allow();
    assert_eq!(
        list.actions().last().map(String::as_str),
        Some("#1 changes ann public.todos? since=None again=false Bare")
    );
}

#[test]
fn both_spellings_of_a_topic_are_one_channel() {
    let mut client = Client::v2();
    client.send(r#"["1","1","realtime:chat:1","phx_join",{"config":{}}]"#).expect("a join");
    client.send(r#"["2","2","chat:1","phx_join",{"config":{}}]"#).expect("a join");
    assert_eq!(client.actions(), ["#1 authorize join chat:1 public -", "#2 authorize join chat:1 public -"]);
    client.allow();
    client.allow();
    let topics: Vec<Value> = client.values().into_iter().map(|frame| frame[2].clone()).collect();
    assert_eq!(topics, ["realtime:chat:1", "chat:1"]);
}

#[test]
fn identities_last_no_longer_than_their_tokens() {
    let mut client = Client::v2();
    client.send(r#"["1","1","realtime:a","phx_join",{"config":{}}]"#).expect("a join");
    let mut grant = client.grant("ann", 0, Rights::ALL);
    grant.expires = Duration::MAX;
    client.decide(Ok(grant));
    assert_eq!(client.session.poll_timeout().map(|(_, why)| why), Some("idle"), "no overflow");
}
