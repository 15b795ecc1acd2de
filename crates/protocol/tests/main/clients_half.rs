//! The client's half: what it writes the server reads, and the other way round.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proptest::prelude::*;
use reactor_protocol::audience::{Audience, Style};
use reactor_protocol::broadcast::{Broadcast, Encoding, Envelope, UserBroadcast};
use reactor_protocol::client::{NotAFrame, ServerFrame, decode, encode, encode_broadcast, encode_frame};
use reactor_protocol::wire::{Encoded, Frame, FrameRefusal, Payload, Ref, WireVersion};
use serde_json::{Value, json};

use crate::bytes_of_any_kind::any_bytes;
use crate::vectors::{decode as read, list, text, vectors};

const VERSIONS: [WireVersion; 2] = [WireVersion::V1, WireVersion::V2];

/// Frames that are taken, and that no client writes.
const UNUSUAL: [&str; 4] = [
    "null ref, unknown keys, any order",
    "escapes in names",
    "trailing elements",
    "user broadcast push, another encoding is JSON",
];

/// What a client writes is, to the byte, what stock clients write.
#[test]
fn frames_are_written_as_in_the_vectors() {
    let mut written = 0;
    for vector in list(&vectors(), "decode").iter().filter(|vector| !UNUSUAL.contains(&text(vector, "name"))) {
        let version = WireVersion::from_vsn(Some(text(vector, "vsn"))).expect("a version");
        let (bytes, Ok(frame)) = read(vector) else { continue };
        let expected = if vector.get("text").is_some() { Encoded::Text(bytes) } else { Encoded::Binary(bytes) };
        assert_eq!(encode_frame(version, &frame), Some(expected), "{vector}");
        written += 1;
    }
    assert!(written >= 20, "{written}");
}

/// What a client reads of the server's frames is what was sent.
#[test]
fn frames_are_read_as_in_the_vectors() {
    let vectors = vectors();
    let frames = ["encode", "broadcast", "replay"].map(|kind| list(&vectors, kind).iter().map(move |it| (kind, it)));
    let mut read = 0;
    for (kind, vector) in frames.into_iter().flatten() {
        for (version, vsn) in VERSIONS.into_iter().zip(["1.0.0", "2.0.0"]) {
            let (frame, is_binary) = match &vector[vsn] {
                Value::Null => continue,
                Value::String(text) => (Encoded::Text(Bytes::copy_from_slice(text.as_bytes())), false),
                frame => match frame["text"].as_str() {
                    Some(text) => (Encoded::Text(Bytes::copy_from_slice(text.as_bytes())), false),
                    None => (Encoded::Binary(STANDARD.decode(text(frame, "binary")).expect("base64").into()), true),
                },
            };
            let seen = decode(version, &frame).expect("a frame of the server");
            let with_join_ref = version == WireVersion::V2 && !is_binary;
            let own = |name: &str| vector[name].as_str().map(str::to_owned);
            let expected = ServerFrame {
                join_ref: own("join_ref").filter(|_| with_join_ref),
                reference: own("ref"),
                topic: text(vector, "topic").to_owned(),
                event: if kind == "encode" { text(vector, "event").to_owned() } else { "broadcast".to_owned() },
                payload: match kind {
                    "encode" => serde_json::from_str(text(vector, "payload")).expect("JSON"),
                    "replay" => seen_payload(vector, Some(json!({"replayed": true, "id": vector["id"]}))),
                    _ => seen_broadcast(&vector["broadcast"]),
                },
            };
            assert_eq!(seen, expected, "{vector}");
            read += 1;
        }
    }
    assert!(read > 20, "{read}");
}

fn seen_broadcast(form: &Value) -> Value {
    if let Some(object) = form["verbatim"].as_str() {
        return serde_json::from_str(object).expect("JSON");
    }
    if let Some(batch) = form.get("batch") {
        let payload: Value = serde_json::from_str(text(batch, "payload")).expect("JSON");
        return json!({"type": "broadcast", "event": batch["event"], "payload": payload});
    }
    let meta = form.get("database").map(|row| json!({"id": row["id"]}));
    seen_payload(form.get("database").unwrap_or(&form["user"]), meta)
}

/// A user's event as a client sees it.
fn seen_payload(of: &Value, meta: Option<Value>) -> Value {
    let mut seen = json!({"type": "broadcast", "event": of["event"]});
    if of["encoding"] == "json" {
        seen["payload"] = serde_json::from_slice(&STANDARD.decode(text(of, "data")).expect("base64")).expect("JSON");
    } else {
        (seen["payload"], seen["encoding"]) = (of["data"].clone(), json!("binary"));
    }
    if let Some(meta) = meta {
        seen["meta"] = meta;
    }
    seen
}

#[test]
fn the_server_reads_what_a_client_writes() {
    for version in VERSIONS {
        let Encoded::Text(frame) = encode(version, Some("1"), Some("2"), "realtime:é", "e\"", &json!({"a": 1})) else {
            panic!("text")
        };
        let frame = version.wire().decode_text(&frame).expect("a frame");
        assert_eq!((frame.topic.as_str(), frame.event.as_str()), ("realtime:é", "e\""));
        assert_eq!((frame.join_ref, frame.reference), (Some(Ref::new("1")), Some(Ref::new("2"))));
        assert_eq!(frame.payload, Payload::Json(Bytes::from_static(b"{\"a\":1}")));
        let frame = match encode_broadcast(version, "1", "2", "t", "e", &json!([1])).expect("short names") {
            Encoded::Text(text) => version.wire().decode_text(&text),
            Encoded::Binary(bytes) => version.wire().decode_binary(&bytes),
        };
        assert_eq!(frame.expect("a frame").event, "broadcast");
    }
    assert_eq!(encode_broadcast(WireVersion::V2, "1", "2", "t", &"e".repeat(256), &Value::Null), None);
}

#[test]
fn a_client_reads_what_the_server_writes() {
    let broadcast =
        Broadcast::from_database("e", Encoding::Json, Bytes::from_static(b"{\"a\":1}"), "id").expect("JSON");
    for version in VERSIONS {
        let audience = Audience { version, style: Style::Standard, topic: Arc::from("t") };
        let frame = decode(version, &audience.encode_broadcast(&broadcast).expect("a frame")).expect("a frame");
        assert_eq!((frame.topic.as_str(), frame.event.as_str()), ("t", "broadcast"));
        assert_eq!(frame.payload, json!({"type":"broadcast","event":"e","payload":{"a":1},"meta":{"id":"id"}}));
    }
    let binary = Broadcast::from_database("e", Encoding::Binary, Bytes::from_static(b"\xff"), "id").expect("bytes");
    let audience = Audience { version: WireVersion::V2, style: Style::Standard, topic: Arc::from("t") };
    let frame = decode(WireVersion::V2, &audience.encode_broadcast(&binary).expect("a frame")).expect("a frame");
    assert_eq!((frame.payload["payload"].as_str(), frame.payload["encoding"].as_str()), (Some("/w=="), Some("binary")));
    assert_eq!(decode(WireVersion::V1, &Encoded::Binary(Bytes::new())), Err(NotAFrame));
}

/// Text of up to so many bytes, as names are.
fn name(max: usize) -> impl Strategy<Value = String> {
    prop_oneof![4 => "\\PC{0,12}", 1 => "[a-z\"\\\\\n]{0,40}", 1 => "[tü🦀]{60,90}"]
        .prop_filter("too long", move |text: &String| text.len() <= max)
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Bytes> {
    prop::collection::btree_map("[a-z]{1,6}", json_value(), 1..3)
        .prop_map(|map| Bytes::from(Value::Object(map.into_iter().collect()).to_string()))
}

/// Any frame that a client can send in a version.
fn frames(version: WireVersion) -> impl Strategy<Value = Frame> {
    let json = json_value().prop_map(|value| Payload::Json(value.to_string().into()));
    let bytes = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let metadata = prop::option::of(object().prop_filter("too long", |metadata| metadata.len() <= 255));
    let is_json = any::<bool>().prop_map(|json| if json { Encoding::Json } else { Encoding::Binary });
    let broadcast = (name(255), metadata, is_json, bytes.clone())
        .prop_map(|(event, metadata, encoding, payload)| Payload::Broadcast { event, metadata, encoding, payload });
    let payload = match version {
        WireVersion::V1 => json.boxed(),
        WireVersion::V2 => prop_oneof![json, bytes.prop_map(Payload::Binary), broadcast].boxed(),
    };
    // An empty reference of a binary frame is none.
    let reference = || prop::option::of("[0-9a-zé\"]{1,9}").prop_map(|text| text.map(|text| Ref::new(&text)));
    (reference(), reference(), name(255), name(255), payload).prop_map(
        |(join_ref, reference, topic, event, payload)| {
            let event = if matches!(payload, Payload::Broadcast { .. }) { "broadcast".to_owned() } else { event };
            Frame { join_ref, reference, topic, event, payload }
        },
    )
}

fn read_by_server(version: WireVersion, frame: &Encoded) -> Result<Frame, FrameRefusal> {
    match frame {
        Encoded::Text(text) => version.wire().decode_text(text),
        Encoded::Binary(bytes) => version.wire().decode_binary(bytes),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_server_reads_every_frame_as_it_was_meant(first in frames(WireVersion::V1), second in frames(WireVersion::V2)) {
        for (version, frame) in [(WireVersion::V1, first), (WireVersion::V2, second)] {
            let written = encode_frame(version, &frame).expect("it has a form");
            prop_assert_eq!(read_by_server(version, &written), Ok(frame));
        }
    }

    /// What is read of any bytes is read again of what is written of it.
    #[test]
    fn what_is_read_can_be_written(bytes in any_bytes()) {
        let bytes = Bytes::from(bytes);
        for version in VERSIONS {
            for sent in [Encoded::Text(bytes.clone()), Encoded::Binary(bytes.clone())] {
                if let Ok(frame) = read_by_server(version, &sent) {
                    let written = encode_frame(version, &frame).expect("it had a form");
                    prop_assert_eq!(read_by_server(version, &written), Ok(frame));
                }
            }
        }
        if let Ok(envelope) = Envelope::decode(&bytes) {
            prop_assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
        }
    }

    #[test]
    fn a_client_reads_every_broadcast_as_it_was_meant(
        topic in name(255), event in name(255), value in json_value(), id in "[0-9a-f-]{0,36}", stored in any::<bool>(),
    ) {
        let payload = Bytes::from(value.to_string());
        let broadcast = match stored {
            true => Broadcast::from_database(&event, Encoding::Json, payload, &id),
            false => UserBroadcast::new(&event, Encoding::Json, payload).map(Broadcast::User),
        };
        let broadcast = broadcast.expect("JSON");
        let mut expected = json!({"type": "broadcast", "event": event, "payload": value});
        if stored {
            expected["meta"] = json!({"id": id});
        }
        for version in VERSIONS {
            let audience = Audience { version, style: Style::Standard, topic: topic.as_str().into() };
            let frame = decode(version, &audience.encode_broadcast(&broadcast).expect("a frame")).expect("a frame");
            prop_assert_eq!((&frame.topic, &frame.payload), (&topic, &expected));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(4), Just(1)], 0..40)) {
        let bytes = Bytes::from(bytes);
        for version in VERSIONS {
            let _ = decode(version, &Encoded::Text(bytes.clone()));
            let _ = decode(version, &Encoded::Binary(bytes.clone()));
        }
    }
}
