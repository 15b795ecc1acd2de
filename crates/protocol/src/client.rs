//! The client's half of the framing: for load generators, the command line and tests.
//!
//! What a client sends is written as the stock clients write it: in `vsn=2.0.0` broadcasts are binary frames.

use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::json as text;
use crate::wire::{Encoded, WireVersion};

/// A frame of the server as a client reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerFrame {
    /// The join that it belongs to; `None` in messages that many share, and always over `vsn=1.0.0`.
    pub join_ref: Option<String>,
    /// The request that it answers.
    pub reference: Option<String>,
    /// The topic.
    pub topic: String,
    /// The event.
    pub event: String,
    /// The payload. The bytes of a binary broadcast are in base64 at `payload`, with `"encoding":"binary"` beside them.
    pub payload: Value,
}

/// The bytes are not a frame of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a frame of a server")]
pub struct NotAFrame;

/// Writes a frame with a JSON payload.
#[must_use]
pub fn encode(
    version: WireVersion,
    join_ref: Option<&str>,
    reference: Option<&str>,
    topic: &str,
    event: &str,
    payload: &Value,
) -> Encoded {
    let value = match version {
        WireVersion::V1 => {
            let mut frame = json!({"topic": topic, "event": event, "payload": payload, "ref": reference});
            if let (Some(join_ref), Some(frame)) = (join_ref, frame.as_object_mut()) {
                frame.insert("join_ref".to_owned(), Value::from(join_ref));
            }
            frame
        }
        WireVersion::V2 => json!([join_ref, reference, topic, event, payload]),
    };
    Encoded::Text(value.to_string().into())
}

/// Writes a broadcast of JSON; `None` when a name is longer than a binary frame can say.
#[must_use]
pub fn encode_broadcast(
    version: WireVersion,
    join_ref: &str,
    reference: &str,
    topic: &str,
    event: &str,
    payload: &Value,
) -> Option<Encoded> {
    if version == WireVersion::V1 {
        let payload = json!({"type": "broadcast", "event": event, "payload": payload});
        return Some(encode(version, Some(join_ref), Some(reference), topic, "broadcast", &payload));
    }
    let names = [join_ref, reference, topic, event];
    let mut out = vec![3];
    for name in names {
        out.push(u8::try_from(name.len()).ok()?);
    }
    // No metadata; JSON.
    out.extend_from_slice(&[0, 1]);
    names.iter().for_each(|name| out.extend_from_slice(name.as_bytes()));
    out.extend_from_slice(payload.to_string().as_bytes());
    Some(Encoded::Binary(out.into()))
}

/// Reads a frame.
///
/// # Errors
/// [`NotAFrame`] for anything that the server does not send.
pub fn decode(version: WireVersion, frame: &Encoded) -> Result<ServerFrame, NotAFrame> {
    match (version, frame) {
        (WireVersion::V1, Encoded::Text(text)) => {
            let mut value: Value = serde_json::from_slice(text).map_err(|_| NotAFrame)?;
            let mut take = |name| value.get_mut(name).map(Value::take).ok_or(NotAFrame);
            parts(Value::Null, take("ref")?, take("topic")?, take("event")?, take("payload")?)
        }
        (WireVersion::V2, Encoded::Text(text)) => {
            let parsed: [Value; 5] = serde_json::from_slice(text).map_err(|_| NotAFrame)?;
            let [join_ref, reference, topic, event, payload] = parsed;
            parts(join_ref, reference, topic, event, payload)
        }
        (WireVersion::V2, Encoded::Binary(bytes)) => decode_user_broadcast(bytes).ok_or(NotAFrame),
        (WireVersion::V1, Encoded::Binary(_)) => Err(NotAFrame),
    }
}

fn parts(
    join_ref: Value,
    reference: Value,
    topic: Value,
    event: Value,
    payload: Value,
) -> Result<ServerFrame, NotAFrame> {
    let optional = |value| match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(NotAFrame),
    };
    let (Value::String(topic), Value::String(event)) = (topic, event) else { return Err(NotAFrame) };
    Ok(ServerFrame { join_ref: optional(join_ref)?, reference: optional(reference)?, topic, event, payload })
}

/// Kind 4, the only binary frame of the server.
fn decode_user_broadcast(bytes: &Bytes) -> Option<ServerFrame> {
    let (header, rest) = bytes.split_first_chunk::<5>()?;
    let [4, topic, event, metadata, encoding] = *header else { return None };
    let (topic, rest) = rest.split_at_checked(usize::from(topic))?;
    let (event, rest) = rest.split_at_checked(usize::from(event))?;
    let (metadata, data) = rest.split_at_checked(usize::from(metadata))?;
    let name = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    let mut payload = json!({"type": "broadcast", "event": name(event)?});
    let members = payload.as_object_mut()?;
    if encoding == 0 {
        members.insert("payload".to_owned(), base64::engine::general_purpose::STANDARD.encode(data).into());
        members.insert("encoding".to_owned(), "binary".into());
    } else {
        members.insert("payload".to_owned(), serde_json::from_slice(data).ok()?);
    }
    if !metadata.is_empty() {
        members.insert("meta".to_owned(), serde_json::from_slice(metadata).ok().filter(|_| text::is_object(metadata))?);
    }
    Some(ServerFrame { join_ref: None, reference: None, topic: name(topic)?, event: "broadcast".to_owned(), payload })
}
