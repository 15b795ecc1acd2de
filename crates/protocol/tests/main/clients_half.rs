//! The client's half: what it writes the server reads, and the other way round.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use reactor_protocol::audience::{Audience, Style};
use reactor_protocol::broadcast::{Broadcast, Encoding};
use reactor_protocol::client::{NotAFrame, decode, encode, encode_broadcast};
use reactor_protocol::wire::{Encoded, Payload, Ref, WireVersion};
use serde_json::{Value, json};

const VERSIONS: [WireVersion; 2] = [WireVersion::V1, WireVersion::V2];

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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(4), Just(1)], 0..40)) {
        let bytes = Bytes::from(bytes);
        for version in VERSIONS {
            let _ = decode(version, &Encoded::Text(bytes.clone()));
            let _ = decode(version, &Encoded::Binary(bytes.clone()));
        }
    }
}
