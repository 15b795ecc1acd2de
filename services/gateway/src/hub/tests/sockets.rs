//! Members on WebSocket connections: which frames they get, and what they share with others.

use reactor_protocol::audience::{Audience, Style};
use reactor_protocol::client;
use reactor_protocol::wire::{Encoded, WireVersion};
use serde_json::json;

use super::*;
use crate::ws::deflate::{self, Compression};

/// A channel with these subscriptions, whose bindings are numbered from 1.
fn join(fixture: &mut Fixture, topic: &str, style: Style, keys: Vec<SubscriptionKey>) -> Member {
    join_with(fixture, topic, style, keys, Compression::None)
}

fn join_with(
    fixture: &mut Fixture,
    topic: &str,
    style: Style,
    keys: Vec<SubscriptionKey>,
    compression: Compression,
) -> Member {
    let ids = (1..).take(keys.len()).collect();
    let audience = Audience { version: WireVersion::V1, style, topic: topic.into() };
    let mut member = fixture.member(keys.into_iter().map(|key| (None, key)).collect());
    member.wire = Wire::Socket(Arc::new(SocketWire { audience, ids, compression }));
    fixture.hub.attach(member.clone()).expect("its sets are loaded");
    member
}

/// The bytes of one write; all frames here are short texts or of the next size.
fn written(member: &Member) -> Vec<u8> {
    match member.outbox.poll_take(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(bytes)) => bytes.to_vec(),
        Poll::Ready(None) | Poll::Pending => Vec::new(),
    }
}

/// Bytes before the payload of a frame that is not masked.
fn plain_head(frame: &[u8]) -> usize {
    if frame.get(1) == Some(&126) { 4 } else { 2 }
}

/// By frame its event and payload.
fn frames(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let mut frames = Vec::new();
    while let [0x81, length, rest @ ..] = bytes {
        let (length, rest) = match (*length, rest) {
            (126, [high, low, rest @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            (length, rest) => (usize::from(length), rest),
        };
        let (text, rest) = rest.split_at(length);
        let frame = client::decode(WireVersion::V1, &Encoded::Text(text.to_vec().into())).expect("a frame");
        frames.push((frame.event, frame.payload));
        bytes = rest;
    }
    frames
}

#[test]
fn equal_channels_get_equal_bytes_beside_streams() {
    let mut fixture = Fixture::new();
    let events = fixture.join(vec![(None, everything())]);
    let same = [(); 2].map(|()| join(&mut fixture, "realtime:a", Style::Standard, vec![everything()]));
    let other = join(&mut fixture, "realtime:b", Style::Bare, vec![everything()]);
    let legacy = join(&mut fixture, "realtime:public:todos", Style::Legacy, vec![everything()]);
    let relation = relation(ReplicaIdentity::Default);
    let delivered = fixture.deliver(&batch(&relation, 1, 1, vec![insert("1", "acme", "x"), insert("2", "acme", "y")]));
    assert_eq!((delivered.frames, delivered.matched), (10, 2));
    assert_eq!(ids(&events), [1, 2]);
    let [one, two] = same.each_ref().map(written);
    assert_eq!(one, two);
    let told = frames(&one);
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].0.as_str(), &told[0].1["ids"]), ("postgres_changes", &json!([1])));
    assert_eq!(told[1].1["data"]["record"]["id"], 2);
    assert_eq!(frames(&written(&other))[0].1["data"]["new"]["title"], "x");
    let (event, payload) = &frames(&written(&legacy))[0];
    assert_eq!((event.as_str(), &payload["record"]["id"]), ("INSERT", &json!(1)));
}

#[test]
fn channels_of_connections_that_compress_share_frames_of_their_own() {
    let mut fixture = Fixture::new();
    let plain = join(&mut fixture, "realtime:a", Style::Standard, vec![everything()]);
    let same = [(); 2].map(|()| {
        let keys = vec![everything()];
        join_with(&mut fixture, "realtime:a", Style::Standard, keys, Compression::Deflate)
    });
    let title = "x".repeat(1000);
    let delivered =
        fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 1, vec![insert("1", "acme", &title)]));
    assert_eq!(delivered.frames, 3);
    let [one, two] = same.each_ref().map(written);
    assert_eq!(one, two);
    let (head, plain) = (plain_head(&one), written(&plain));
    let inflated = deflate::inflate(one.get(head..).expect("a payload").into(), 10_000).expect("good");
    assert_eq!((one.first(), Some(&inflated[..])), (Some(&0xc1), plain.get(plain_head(&plain)..)));
}

#[test]
fn bindings_that_show_the_same_share_a_frame() {
    let mut fixture = Fixture::new();
    let narrow = SubscriptionKey { select: vec!["id".into()], ..everything() };
    let inserts = SubscriptionKey { events: EventMask::only(ChangeKind::Insert), ..everything() };
    let deletes = SubscriptionKey { events: EventMask::only(ChangeKind::Delete), ..everything() };
    let keys = vec![everything(), inserts, deletes, narrow];
    let same = [(); 2].map(|()| join(&mut fixture, "realtime:a", Style::Standard, keys.clone()));
    let relation = relation(ReplicaIdentity::Default);
    fixture.deliver(&batch(&relation, 1, 1, vec![insert("1", "acme", "x")]));
    let [one, two] = same.each_ref().map(written);
    assert_eq!(one, two);
    let told: Vec<Value> = frames(&one).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!((&told[0]["ids"], &told[1]["ids"], told.len()), (&json!([1, 2]), &json!([4]), 2));
    assert_eq!(told[1]["data"]["record"], json!({"id": 1}));
}

#[test]
fn of_a_row_whose_key_may_not_be_read_nothing_is_shown() {
    let mut fixture = Fixture::new();
    let masked = SubscriptionKey { columns: ColumnMask::Only(["title".to_owned()].into()), ..everything() };
    let member = join(&mut fixture, "realtime:a", Style::Standard, vec![masked]);
    fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 1, vec![insert("1", "acme", "x")]));
    let data = frames(&written(&member)).remove(0).1["data"].take();
    assert_eq!((&data["errors"], &data["record"]), (&json!(["Error 401: Unauthorized"]), &json!({})));
}

#[test]
fn a_channel_is_told_of_lost_history_by_its_own_connection() {
    let mut fixture = Fixture::new();
    let member = join(&mut fixture, "realtime:a", Style::Standard, vec![everything()]);
    let newest = EventId { epoch: Epoch(1), position: Position::before(Lsn(9)) };
    fixture.hub.resync(&Resync { reason: "gap", oldest: None, newest });
    assert_eq!(written(&member), b"");
    let left = futures::FutureExt::now_or_never(member.behind.wait());
    assert_eq!(left, Some(Left { after: newest, cause: Cause::Lost("gap") }));
    assert!(fixture.hub.is_empty());
    // A refusal ends the membership and leaves the connection alone.
    let member = join(&mut fixture, "realtime:a", Style::Standard, vec![everything()]);
    let error = crate::error::ApiError::of(Code::SchemaChanged);
    member.close(&error, None);
    assert!(member.ended.is_cancelled());
    assert_eq!(member.behind.refusal(), Some(&error));
    assert_eq!(member.outbox.push(vec![1].into()), crate::outbox::Push::Queued);
}
