//! The binary frames of `vsn=2.0.0`: a kind, lengths of one byte each, the strings, and the data to the end.
//!
//! Read: 0 (push) and 3 (user broadcast push). Written: 4 (user broadcast). Kinds 1 and 2 are never sent: the stock client
//! reads no binary frame but 4.

use bytes::{Buf, BufMut, Bytes};

use super::{Frame, FrameRefusal, Payload, Ref};
use crate::broadcast::{Encoding, UserBroadcast};
use crate::json;

const PUSH: u8 = 0;
const USER_BROADCAST_PUSH: u8 = 3;
const USER_BROADCAST: u8 = 4;

/// Reads a frame of a client.
pub(super) fn decode(bytes: &Bytes) -> Result<Frame, FrameRefusal> {
    let mut rest = bytes.clone();
    match rest.try_get_u8().map_err(|_| FrameRefusal::Truncated)? {
        PUSH => {
            let [join_ref, reference, topic, event] = lengths(&mut rest)?;
            Ok(Frame {
                join_ref: reference_of(&mut rest, join_ref)?,
                reference: reference_of(&mut rest, reference)?,
                topic: text(&mut rest, topic, "topic")?,
                event: text(&mut rest, event, "event")?,
                payload: Payload::Binary(rest),
            })
        }
        USER_BROADCAST_PUSH => {
            let [join_ref, reference, topic, event, metadata, encoding] = lengths(&mut rest)?;
            let join_ref = reference_of(&mut rest, join_ref)?;
            let reference = reference_of(&mut rest, reference)?;
            let topic = text(&mut rest, topic, "topic")?;
            let event = text(&mut rest, event, "event")?;
            let metadata = take(&mut rest, metadata)?;
            let metadata = (!metadata.is_empty()).then_some(metadata);
            if metadata.as_ref().is_some_and(|json| !json::is_json(json) || !json::is_object(json)) {
                return Err(FrameRefusal::BadMember("metadata"));
            }
            let encoding = if encoding == 0 { Encoding::Binary } else { Encoding::Json };
            let payload = Payload::Broadcast { event, metadata, encoding, payload: rest };
            Ok(Frame { join_ref, reference, topic, event: "broadcast".to_owned(), payload })
        }
        _ => Err(FrameRefusal::UnknownKind),
    }
}

/// Writes a user broadcast; `None` when a string is longer than its length can say.
pub(super) fn encode_user_broadcast(topic: &str, broadcast: &UserBroadcast) -> Option<Bytes> {
    let metadata: &[u8] = broadcast.metadata.as_deref().unwrap_or_default();
    let strings = [topic.as_bytes(), broadcast.event.as_bytes(), metadata];
    let mut out =
        Vec::with_capacity(5 + strings.iter().map(|part| part.len()).sum::<usize>() + broadcast.payload.len());
    out.put_u8(USER_BROADCAST);
    for part in strings {
        out.put_u8(u8::try_from(part.len()).ok()?);
    }
    out.put_u8(match broadcast.encoding {
        Encoding::Binary => 0,
        Encoding::Json => 1,
    });
    strings.iter().for_each(|part| out.put_slice(part));
    out.put_slice(&broadcast.payload);
    Some(out.into())
}

fn lengths<const N: usize>(rest: &mut Bytes) -> Result<[u8; N], FrameRefusal> {
    let mut lengths = [0; N];
    rest.try_copy_to_slice(&mut lengths).map_err(|_| FrameRefusal::Truncated)?;
    Ok(lengths)
}

fn take(rest: &mut Bytes, len: u8) -> Result<Bytes, FrameRefusal> {
    let len = usize::from(len);
    if rest.len() < len { Err(FrameRefusal::Truncated) } else { Ok(rest.split_to(len)) }
}

fn text(rest: &mut Bytes, len: u8, name: &'static str) -> Result<String, FrameRefusal> {
    String::from_utf8(take(rest, len)?.into()).map_err(|_| FrameRefusal::BadMember(name))
}

/// An empty reference is none.
fn reference_of(rest: &mut Bytes, len: u8) -> Result<Option<Ref>, FrameRefusal> {
    let text = text(rest, len, "ref")?;
    Ok((!text.is_empty()).then(|| Ref::new(&text)))
}
