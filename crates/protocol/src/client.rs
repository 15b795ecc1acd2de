//! The client's half of the framing: for load generators, the command line and tests.
//!
//! What a client sends is written as the stock clients write it: in `vsn=2.0.0` broadcasts are binary frames.

use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::broadcast::Encoding;
use crate::json as text;
use crate::wire::{Encoded, Frame, Message, Payload, Ref, WireVersion};

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
    let payload = Bytes::from(payload.to_string());
    let frame = Frame {
        join_ref: join_ref.map(Ref::new),
        reference: reference.map(Ref::new),
        topic: topic.to_owned(),
        event: event.to_owned(),
        payload: Payload::Json(payload.clone()),
    };
    text_frame(version, &frame, &payload)
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
    encode_frame(
        version,
        &Frame {
            join_ref: Some(Ref::new(join_ref)),
            reference: Some(Ref::new(reference)),
            topic: topic.to_owned(),
            event: "broadcast".to_owned(),
            payload: Payload::Broadcast {
                event: event.to_owned(),
                metadata: None,
                encoding: Encoding::Json,
                payload: payload.to_string().into(),
            },
        },
    )
}

/// Writes a frame as the server reads it; `None` where the version has no form for it: bytes over `vsn=1.0.0`, and names, metadata or
/// references of a binary frame that are no texts or longer than 255 bytes.
#[must_use]
pub fn encode_frame(version: WireVersion, frame: &Frame) -> Option<Encoded> {
    let Frame { join_ref, reference, topic, event, payload } = frame;
    let (kind, names, encoding, data) = match (version, payload) {
        (_, Payload::Json(json)) => return Some(text_frame(version, frame, json)),
        (WireVersion::V1, Payload::Binary(_) | Payload::Broadcast { .. }) => return None,
        (WireVersion::V2, Payload::Binary(data)) => (0, vec![event.as_bytes()], None, data),
        (WireVersion::V2, Payload::Broadcast { event, metadata, encoding, payload }) => {
            let metadata = metadata.as_deref().unwrap_or_default();
            (3, vec![event.as_bytes(), metadata], Some(u8::from(*encoding == Encoding::Json)), payload)
        }
    };
    let references = [plain(join_ref.as_ref())?, plain(reference.as_ref())?];
    let head = [references[0].as_bytes(), references[1].as_bytes(), topic.as_bytes()];
    let parts: Vec<&[u8]> = head.into_iter().chain(names).collect();
    let mut out = vec![kind];
    for part in &parts {
        out.push(u8::try_from(part.len()).ok()?);
    }
    out.extend(encoding);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(data);
    Some(Encoded::Binary(out.into()))
}

fn text_frame(version: WireVersion, frame: &Frame, payload: &[u8]) -> Encoded {
    let message = Message {
        join_ref: frame.join_ref.as_ref(),
        reference: frame.reference.as_ref(),
        topic: &frame.topic,
        event: &frame.event,
        payload: &[payload],
    };
    match (version, version.wire().encode(&message), &frame.join_ref) {
        // The server never writes this member; clients do.
        (WireVersion::V1, Encoded::Text(text), Some(join_ref)) => {
            let members = text.strip_suffix(b"}").unwrap_or(&text);
            Encoded::Text([members, b",\"join_ref\":", join_ref.as_json().as_bytes(), b"}"].concat().into())
        }
        (_, encoded, _) => encoded,
    }
}

/// The text of a reference; none is the empty one. `None` for a number.
fn plain(reference: Option<&Ref>) -> Option<String> {
    reference.map_or(Some(String::new()), |reference| serde_json::from_str(reference.as_json()).ok())
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
