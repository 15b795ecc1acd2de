//! Whatever the bytes: decoders give a frame or a refusal, and sessions go on.

use bytes::Bytes;
use proptest::prelude::*;
use reactor_protocol::broadcast::{Broadcast, Encoding, Envelope, Origin, UserBroadcast, Verbatim};
use reactor_protocol::session::{Rights, SessionSettings};
use reactor_protocol::wire::{Encoded, WireVersion};
use serde_json::Value;

use crate::client::Client;
use crate::vectors::{decode, vectors};

/// The bytes of a valid frame with some of them changed, cut or doubled.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let seeds: Vec<Vec<u8>> =
        vectors()["decode"].as_array().expect("a list").iter().map(|v| decode(v).0.to_vec()).collect();
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    (prop::sample::select(seeds), prop::collection::vec(change, 0..6)).prop_map(|(mut bytes, changes)| {
        for (index, byte, what) in changes {
            if bytes.is_empty() {
                bytes.push(byte);
                continue;
            }
            let at = index.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => bytes.insert(at, byte),
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    })
}

pub(crate) fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => mutated(), 1 => prop::collection::vec(any::<u8>(), 0..64)]
}

fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\é]{0,6}".prop_map(Value::from),
        prop::sample::select(vec!["track", "untrack", "true", "TRUE", "sb_x", "*", "public", "id=eq.1"])
            .prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "config",
        "broadcast",
        "presence",
        "postgres_changes",
        "private",
        "ack",
        "self",
        "replay",
        "since",
        "limit",
        "key",
        "enabled",
        "event",
        "payload",
        "action",
        "data",
        "access_token",
        "user_token",
        "schema",
        "table",
        "filter",
        "select",
        "postgres_changes_options",
        "wait",
        "timeout",
        "type",
    ]);
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
    .prop_map(|value| value.to_string())
}

fn frames() -> impl Strategy<Value = String> {
    let event = prop::sample::select(vec![
        "phx_join",
        "phx_join",
        "phx_leave",
        "broadcast",
        "presence",
        "presence_diff",
        "access_token",
        "heartbeat",
        "x",
    ]);
    let topic = prop::sample::select(vec!["realtime:a", "a", "realtime:public:t:id=eq.1", "phoenix", "realtime:", ""]);
    let reference = prop::sample::select(vec!["null", "\"1\"", "\"2\"", "3"]);
    (reference.clone(), reference, topic, event, json_text()).prop_map(
        |(join_ref, reference, topic, event, payload)| {
            format!("[{join_ref},{reference},\"{topic}\",\"{event}\",{payload}]")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoders_never_panic(bytes in any_bytes()) {
        let bytes = Bytes::from(bytes);
        for version in [WireVersion::V1, WireVersion::V2] {
            let _ = version.wire().decode_text(&bytes);
            let _ = version.wire().decode_binary(&bytes);
        }
        let _ = Envelope::decode(&bytes);
    }

    #[test]
    fn sessions_outlive_any_bytes(inputs in prop::collection::vec((any::<bool>(), any_bytes()), 0..20)) {
        for version in [WireVersion::V1, WireVersion::V2] {
            let mut client = Client::new(version, SessionSettings::default());
            for (is_text, bytes) in &inputs {
                let _ = client.feed(*is_text, &Bytes::copy_from_slice(bytes));
                client.answer_all(Rights::ALL);
            }
            client.assert_alive();
        }
    }

    /// Every text frame that comes out is JSON of the version's form, members are as many as the session says, and all are
    /// let go in the end.
    #[test]
    fn sessions_answer_any_frames_in_form(inputs in prop::collection::vec((frames(), any::<bool>(), 0..3u8), 0..40)) {
        let mut client = Client::new(WireVersion::V2, SessionSettings { max_presence_calls: 1000, ..SessionSettings::default() });
        for (text, answer, wait) in inputs {
            let _ = client.feed(true, &Bytes::from(text));
            if answer {
                client.answer_all(Rights::ALL);
            }
            client.advance(u64::from(wait));
        }
        for frame in client.take_sent() {
            if let Encoded::Text(text) = frame {
                let value: Value = serde_json::from_slice(&text).expect("JSON");
                prop_assert_eq!(value.as_array().map(Vec::len), Some(5));
            }
        }
        client.assert_alive();
        client.close();
        prop_assert_eq!(client.member_count(), 0);
    }

    #[test]
    fn envelopes_round_trip(
        session in any::<u64>(), channel in any::<u32>(), has_origin in any::<bool>(),
        event in ".{0,8}", payload in prop::collection::vec(any::<u8>(), 0..40), form in 0..3u8,
    ) {
        let origin = has_origin.then_some(Origin { session, channel });
        let broadcast = match form {
            0 => Broadcast::Verbatim(Verbatim::new(Bytes::from_static(b"{\"a\":1}")).expect("an object")),
            1 => Broadcast::User(UserBroadcast::new(&event, Encoding::Binary, payload.into()).expect("bytes")),
            _ => Broadcast::from_database(&event, Encoding::Json, Bytes::from_static(b"[1]"), "id").expect("JSON"),
        };
        let envelope = Envelope { origin, broadcast };
        let bytes = envelope.encode();
        prop_assert_eq!(Envelope::decode(&bytes), Ok(envelope));
    }
}
