//! The wire versions: a module each, behind one trait. Nothing else asks which version a connection speaks.
//!
//! Decoding takes any bytes, never panics, and copies no payload: payloads are slices of the frame that came in.

mod binary;
mod frame;
mod v1;
mod v2;

use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

pub use frame::{Frame, FrameRefusal, Payload, Ref};

use crate::broadcast::{Encoding, UserBroadcast};

/// Bytes of the largest frame that is taken; a larger one closes the connection (1009).
pub const MAX_FRAME_BYTES: usize = 5_000_000;

/// Bytes of a topic: each joined one is kept, so it is bounded. Binary frames allow 255.
pub const MAX_TOPIC_BYTES: usize = 1024;

/// A version of the framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WireVersion {
    /// `vsn=1.0.0`: JSON objects.
    V1,
    /// `vsn=2.0.0`: JSON arrays and binary frames.
    V2,
}

impl WireVersion {
    /// What the `vsn` parameter asks for (1.0.0 when it is missing); `None` for a version that is refused, with status
    /// 403 and an empty body.
    #[must_use]
    pub fn from_vsn(vsn: Option<&str>) -> Option<Self> {
        let vsn = vsn.unwrap_or("1.0.0");
        let (version, patch) = match vsn.strip_prefix("1.0.") {
            Some(patch) => (Self::V1, patch),
            None => (Self::V2, vsn.strip_prefix("2.0.")?),
        };
        let is_number = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some(version)
    }

    /// Its codec.
    #[must_use]
    pub fn wire(self) -> &'static dyn Wire {
        match self {
            Self::V1 => &v1::V1,
            Self::V2 => &v2::V2,
        }
    }
}

/// One version's codec.
pub trait Wire: Sync + fmt::Debug {
    /// Reads a text frame.
    ///
    /// # Errors
    /// Why the frame is dropped; the connection goes on.
    fn decode_text(&self, text: &Bytes) -> Result<Frame, FrameRefusal>;

    /// Reads a binary frame.
    ///
    /// # Errors
    /// Why the frame is dropped; the connection goes on.
    fn decode_binary(&self, bytes: &Bytes) -> Result<Frame, FrameRefusal>;

    /// Writes a message whose payload is JSON.
    fn encode(&self, message: &Message<'_>) -> Encoded;

    /// Writes a user broadcast; `None` where this version cannot carry it, and then it is not delivered.
    fn encode_user_broadcast(&self, topic: &str, broadcast: &UserBroadcast) -> Option<Encoded>;
}

/// A frame of the server, ready for the socket. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub enum Encoded {
    /// A text frame; the bytes are UTF-8.
    Text(Bytes),
    /// A binary frame.
    Binary(Bytes),
}

impl Encoded {
    /// The frame's payload.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Encoded {
    /// Prints the size only: row values and payloads never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self, Self::Text(_)) { "Text" } else { "Binary" };
        write!(f, "{kind}({} bytes)", self.bytes().len())
    }
}

/// A message of the server. The payload's parts are written one after the other and make one JSON value, so that a part that
/// many messages share is rendered once.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// The channel's join reference; `None` in messages that many connections share.
    pub join_ref: Option<&'a Ref>,
    /// The reference of the request that this answers.
    pub reference: Option<&'a Ref>,
    /// The topic as the client joined it.
    pub topic: &'a str,
    /// The event.
    pub event: &'a str,
    /// The payload's parts.
    pub payload: &'a [&'a [u8]],
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("event", &self.event).finish_non_exhaustive()
    }
}

/// A user broadcast as a text frame; `None` for bytes, which text cannot carry.
fn encode_as_text(wire: &dyn Wire, topic: &str, broadcast: &UserBroadcast) -> Option<Encoded> {
    if broadcast.encoding == Encoding::Binary {
        return None;
    }
    let payload = broadcast.to_json();
    Some(wire.encode(&Message { join_ref: None, reference: None, topic, event: "broadcast", payload: &[&payload] }))
}

/// The slice of `whole` that `raw` borrows from.
fn payload_of(whole: &Bytes, raw: &RawValue) -> Bytes {
    let text = raw.get().as_bytes();
    let start = (text.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    match start.checked_add(text.len()) {
        Some(end) if end <= whole.len() => whole.slice(start..end),
        _ => Bytes::copy_from_slice(text),
    }
}

fn check_names(topic: &str) -> Result<(), FrameRefusal> {
    if topic.len() > MAX_TOPIC_BYTES { Err(FrameRefusal::BadMember("topic")) } else { Ok(()) }
}
