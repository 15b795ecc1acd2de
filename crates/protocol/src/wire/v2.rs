//! `vsn=2.0.0`: one JSON array `[join_ref, ref, topic, event, payload]` a frame, and binary frames.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    Encoded, Frame, FrameRefusal, Message, Payload, Ref, Wire, binary, check_names, encode_as_text, payload_of,
};
use crate::broadcast::UserBroadcast;
use crate::json;

#[derive(Debug)]
pub(super) struct V2;

struct Array<'a> {
    join_ref: &'a RawValue,
    reference: &'a RawValue,
    topic: Text<'a>,
    event: Text<'a>,
    payload: &'a RawValue,
}

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl Wire for V2 {
    fn decode_text(&self, text: &Bytes) -> Result<Frame, FrameRefusal> {
        let array: Array<'_> = serde_json::from_slice(text).map_err(|_| FrameRefusal::NotJson)?;
        check_names(&array.topic.0)?;
        Ok(Frame {
            join_ref: Ref::read(array.join_ref, "join_ref")?,
            reference: Ref::read(array.reference, "ref")?,
            payload: Payload::Json(payload_of(text, array.payload)),
            topic: array.topic.0.into_owned(),
            event: array.event.0.into_owned(),
        })
    }

    fn decode_binary(&self, bytes: &Bytes) -> Result<Frame, FrameRefusal> {
        binary::decode(bytes)
    }

    fn encode(&self, message: &Message<'_>) -> Encoded {
        let payload_bytes: usize = message.payload.iter().map(|part| part.len()).sum();
        let mut out = Vec::with_capacity(payload_bytes + message.topic.len() + message.event.len() + 48);
        out.push(b'[');
        out.extend_from_slice(message.join_ref.map_or("null", Ref::as_json).as_bytes());
        out.push(b',');
        out.extend_from_slice(message.reference.map_or("null", Ref::as_json).as_bytes());
        out.push(b',');
        json::write_string(&mut out, message.topic);
        out.push(b',');
        json::write_string(&mut out, message.event);
        out.push(b',');
        message.payload.iter().for_each(|part| out.extend_from_slice(part));
        out.push(b']');
        Encoded::Text(out.into())
    }

    /// Names that the binary header cannot hold are no reason to lose a JSON broadcast: it goes as text.
    fn encode_user_broadcast(&self, topic: &str, broadcast: &UserBroadcast) -> Option<Encoded> {
        let encoded = binary::encode_user_broadcast(topic, broadcast).map(Encoded::Binary);
        encoded.or_else(|| encode_as_text(self, topic, broadcast))
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ArrayVisitor;
        impl<'de> Visitor<'de> for ArrayVisitor {
            type Value = Array<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of join_ref, ref, topic, event and payload")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let short = || serde::de::Error::custom("fewer than five elements");
                let array = Array {
                    join_ref: seq.next_element()?.ok_or_else(short)?,
                    reference: seq.next_element()?.ok_or_else(short)?,
                    topic: seq.next_element()?.ok_or_else(short)?,
                    event: seq.next_element()?.ok_or_else(short)?,
                    payload: seq.next_element()?.ok_or_else(short)?,
                };
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(array)
            }
        }
        deserializer.deserialize_seq(ArrayVisitor)
    }
}
