//! `conformance/vectors.json`, which the clients' tests read as well.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reactor_protocol::audience::{Audience, Style};
use reactor_protocol::broadcast::{Broadcast, Encoding, Envelope, UserBroadcast, Verbatim};
use reactor_protocol::replay::StoredBroadcast;
use reactor_protocol::wire::{Encoded, Frame, FrameRefusal, Message, Payload, Ref, WireVersion};
use serde_json::{Value, json};

pub(crate) fn vectors() -> Value {
    serde_json::from_str(include_str!("../../conformance/vectors.json")).expect("the vectors are JSON")
}

pub(crate) fn list<'a>(vectors: &'a Value, name: &str) -> &'a Vec<Value> {
    vectors.get(name).and_then(Value::as_array).expect("a list")
}

pub(crate) fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("{name} in {vector}"))
}

fn data(vector: &Value, name: &str) -> Bytes {
    STANDARD.decode(text(vector, name)).expect("base64").into()
}

pub(crate) fn decode(vector: &Value) -> (Bytes, Result<Frame, FrameRefusal>) {
    let wire = WireVersion::from_vsn(Some(text(vector, "vsn"))).expect("a version").wire();
    match vector.get("text").and_then(Value::as_str) {
        Some(text) => {
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            (bytes.clone(), wire.decode_text(&bytes))
        }
        None => {
            let bytes = data(vector, "binary");
            (bytes.clone(), wire.decode_binary(&bytes))
        }
    }
}

fn reference(reference: Option<&Ref>) -> Value {
    reference.map_or(Value::Null, |reference| serde_json::from_str(reference.as_json()).expect("JSON"))
}

fn frame_json(frame: &Frame) -> Value {
    let payload = match &frame.payload {
        Payload::Json(json) => serde_json::from_slice(json).expect("JSON"),
        Payload::Binary(data) => json!({"data": STANDARD.encode(data)}),
        Payload::Broadcast { event, metadata, encoding, payload } => json!({
            "user_event": event,
            "encoding": if *encoding == Encoding::Json { "json" } else { "binary" },
            "data": STANDARD.encode(payload),
            "metadata": metadata.as_ref().map(|metadata| String::from_utf8_lossy(metadata)),
        }),
    };
    json!({
        "join_ref": reference(frame.join_ref.as_ref()), "ref": reference(frame.reference.as_ref()),
        "topic": frame.topic, "event": frame.event, "payload": payload,
    })
}

#[test]
fn frames_of_clients_are_read_or_refused() {
    for vector in list(&vectors(), "decode") {
        let (_, decoded) = decode(vector);
        match decoded {
            Ok(frame) => assert_eq!(Some(&frame_json(&frame)), vector.get("frame"), "{vector}"),
            Err(refusal) => assert_eq!(refusal.name(), text(vector, "refused"), "{vector}"),
        }
    }
}

#[test]
fn frames_of_the_server_are_written() {
    for vector in list(&vectors(), "encode") {
        let of = |name| vector.get(name).and_then(Value::as_str).map(Ref::new);
        let (join_ref, reference) = (of("join_ref"), of("ref"));
        // The parts of a payload are cut anywhere.
        let payload = text(vector, "payload").as_bytes();
        let (head, tail) = payload.split_at(payload.len() / 2);
        for (version, name) in [(WireVersion::V1, "1.0.0"), (WireVersion::V2, "2.0.0")] {
            let message = Message {
                join_ref: join_ref.as_ref(),
                reference: reference.as_ref(),
                topic: text(vector, "topic"),
                event: text(vector, "event"),
                payload: &[head, tail],
            };
            let Encoded::Text(frame) = version.wire().encode(&message) else { panic!("text") };
            assert_eq!(std::str::from_utf8(&frame), Ok(text(vector, name)), "{vector}");
        }
    }
}

fn check_frame(frame: Option<Encoded>, expected: Option<&Value>, vector: &Value) {
    let got = match &frame {
        None => Value::Null,
        Some(Encoded::Text(text)) => json!({"text": String::from_utf8_lossy(text)}),
        Some(Encoded::Binary(bytes)) => json!({"binary": STANDARD.encode(bytes)}),
    };
    assert_eq!(Some(&got), expected, "{vector}");
}

fn encoding(vector: &Value) -> Encoding {
    if text(vector, "encoding") == "json" { Encoding::Json } else { Encoding::Binary }
}

fn broadcast(form: &Value) -> Broadcast {
    if let Some(object) = form.get("verbatim").and_then(Value::as_str) {
        let object = Bytes::copy_from_slice(object.as_bytes());
        return Broadcast::Verbatim(Verbatim::new(object).expect("an object"));
    }
    if let Some(batch) = form.get("batch") {
        let payload = Bytes::copy_from_slice(text(batch, "payload").as_bytes());
        return Broadcast::batch(text(batch, "event"), payload).expect("an object");
    }
    if let Some(row) = form.get("database") {
        return Broadcast::from_database(text(row, "event"), encoding(row), data(row, "data"), text(row, "id"))
            .expect("JSON");
    }
    let user = form.get("user").expect("a form");
    Broadcast::User(UserBroadcast::new(text(user, "event"), encoding(user), data(user, "data")).expect("JSON"))
}

fn audience(version: WireVersion, topic: &str) -> Audience {
    Audience { version, style: Style::Standard, topic: Arc::from(topic) }
}

#[test]
fn broadcasts_reach_each_version_in_its_form() {
    for vector in list(&vectors(), "broadcast") {
        let broadcast = broadcast(vector.get("broadcast").expect("a form"));
        // As it comes from another gateway.
        let envelope = Envelope { origin: None, broadcast };
        let broadcast = Envelope::decode(&envelope.encode()).expect("own encoding").broadcast;
        for (version, name) in [(WireVersion::V1, "1.0.0"), (WireVersion::V2, "2.0.0")] {
            let frame = audience(version, text(vector, "topic")).encode_broadcast(&broadcast);
            check_frame(frame, vector.get(name), vector);
        }
    }
}

#[test]
fn replayed_broadcasts_say_so() {
    for vector in list(&vectors(), "replay") {
        let stored = StoredBroadcast {
            id: text(vector, "id").to_owned(),
            event: text(vector, "event").into(),
            encoding: encoding(vector),
            payload: data(vector, "data"),
        };
        let join_ref = Ref::new(text(vector, "join_ref"));
        for (version, name) in [(WireVersion::V1, "1.0.0"), (WireVersion::V2, "2.0.0")] {
            let frame = audience(version, text(vector, "topic")).encode_replayed(Some(&join_ref), &stored);
            check_frame(frame, vector.get(name), vector);
        }
    }
}

#[test]
fn versions_are_asked_for_by_vsn() {
    for (vsn, version) in [
        (None, Some(WireVersion::V1)),
        (Some("1.0.0"), Some(WireVersion::V1)),
        (Some("2.0.0"), Some(WireVersion::V2)),
        (Some("2.0.7"), Some(WireVersion::V2)),
        (Some("1.1.0"), None),
        (Some("3.0.0"), None),
        (Some("2"), None),
        (Some("2.0."), None),
        (Some(""), None),
    ] {
        assert_eq!(WireVersion::from_vsn(vsn), version, "{vsn:?}");
    }
}

#[test]
fn references_come_back_as_they_came() {
    let frame = WireVersion::V1
        .wire()
        .decode_text(&Bytes::from_static(br#"{"topic":"t","event":"e","payload":{},"ref":12,"join_ref":"\u0031"}"#));
    let frame = frame.expect("numbers are taken");
    assert_eq!(frame.reference.as_ref().map(Ref::as_json), Some("12"));
    assert_eq!(frame.join_ref.as_ref().map(Ref::as_json), Some(r#""\u0031""#));
}
