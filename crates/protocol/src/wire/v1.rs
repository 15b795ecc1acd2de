//! `vsn=1.0.0`: one JSON object a frame, text only.
//!
//! What is sent has exactly `topic`, `event`, `payload` and `ref`; never `join_ref`.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Encoded, Frame, FrameRefusal, Message, Payload, Ref, Wire, check_names, encode_as_text, payload_of};
use crate::broadcast::UserBroadcast;
use crate::json;

#[derive(Debug)]
pub(super) struct V1;

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(borrow, rename = "ref")]
    reference: &'a RawValue,
    #[serde(borrow, default)]
    join_ref: Option<&'a RawValue>,
}

impl Wire for V1 {
    fn decode_text(&self, text: &Bytes) -> Result<Frame, FrameRefusal> {
        // A derived reader would take an array of the members as well.
        if !json::is_object(text) {
            return Err(FrameRefusal::NotJson);
        }
        let object: Object<'_> = serde_json::from_slice(text).map_err(|_| FrameRefusal::NotJson)?;
        check_names(&object.topic)?;
        let join_ref = object.join_ref.map_or(Ok(None), |raw| Ref::read(raw, "join_ref"))?;
        Ok(Frame {
            join_ref,
            reference: Ref::read(object.reference, "ref")?,
            payload: Payload::Json(payload_of(text, object.payload)),
            topic: object.topic.into_owned(),
            event: object.event.into_owned(),
        })
    }

    fn decode_binary(&self, _bytes: &Bytes) -> Result<Frame, FrameRefusal> {
        Err(FrameRefusal::NoBinary)
    }

    fn encode(&self, message: &Message<'_>) -> Encoded {
        let payload_bytes: usize = message.payload.iter().map(|part| part.len()).sum();
        let mut out = Vec::with_capacity(payload_bytes + message.topic.len() + message.event.len() + 64);
        out.extend_from_slice(b"{\"topic\":");
        json::write_string(&mut out, message.topic);
        out.extend_from_slice(b",\"event\":");
        json::write_string(&mut out, message.event);
        out.extend_from_slice(b",\"payload\":");
        message.payload.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b",\"ref\":");
        out.extend_from_slice(message.reference.map_or("null", Ref::as_json).as_bytes());
        out.push(b'}');
        Encoded::Text(out.into())
    }

    fn encode_user_broadcast(&self, topic: &str, broadcast: &UserBroadcast) -> Option<Encoded> {
        encode_as_text(self, topic, broadcast)
    }
}
