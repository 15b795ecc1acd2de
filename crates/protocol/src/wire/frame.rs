//! What a client's frame is read into, and why one is dropped.

use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::broadcast::Encoding;
use crate::json;

/// Bytes of a `ref` or `join_ref`, as JSON: what the binary frames allow, with room for escapes.
const MAX_REF_BYTES: usize = 512;

/// A reference as the client wrote it: the JSON text of a string or a number, given back as it came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ref(Box<str>);

impl Ref {
    /// The reference with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut out = Vec::new();
        json::write_string(&mut out, text);
        Self(String::from_utf8(out).unwrap_or_default().into())
    }

    /// The reference as JSON.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Reads a member that is a string, a number or null.
    pub(super) fn read(raw: &RawValue, name: &'static str) -> Result<Option<Self>, FrameRefusal> {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'n') => Ok(None),
            Some(b'"' | b'-' | b'0'..=b'9') if text.len() <= MAX_REF_BYTES => Ok(Some(Self(text.into()))),
            _ => Err(FrameRefusal::BadMember(name)),
        }
    }
}

/// A frame of a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The reference of the join that the client believes in.
    pub join_ref: Option<Ref>,
    /// The reference to answer with.
    pub reference: Option<Ref>,
    /// The topic.
    pub topic: String,
    /// The event.
    pub event: String,
    /// The payload.
    pub payload: Payload,
}

impl fmt::Debug for Frame {
    /// Leaves the payload out: it may hold tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("topic", &self.topic).field("event", &self.event).finish_non_exhaustive()
    }
}

/// What a frame of a client carries.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// JSON text.
    Json(Bytes),
    /// The bytes of a plain binary push (kind 0).
    Binary(Bytes),
    /// A user broadcast (kind 3).
    Broadcast {
        /// The user's event.
        event: String,
        /// A JSON object, or nothing.
        metadata: Option<Bytes>,
        /// How the payload is to be read.
        encoding: Encoding,
        /// The user's payload.
        payload: Bytes,
    },
}

impl Payload {
    /// Bytes that count against limits.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes.len(),
            Self::Broadcast { payload, .. } => payload.len(),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// Why a frame is dropped. The connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameRefusal {
    /// Not UTF-8, or not JSON of the version's form.
    #[error("not a JSON frame of this version")]
    NotJson,
    /// A member has another type, or is too long.
    #[error("`{0}` is missing, of another type, or too long")]
    BadMember(&'static str),
    /// A version without binary frames.
    #[error("this version has no binary frames")]
    NoBinary,
    /// The first byte names no kind that clients send.
    #[error("unknown kind of binary frame")]
    UnknownKind,
    /// A binary frame ends before what its header announces.
    #[error("binary frame ends early")]
    Truncated,
    /// The payload is not what the event needs.
    #[error("the event's payload is not of its form")]
    BadPayload,
    /// The channel has no such event.
    #[error("unknown event")]
    UnknownEvent,
    /// A broadcast in a channel whose client may not send there. It is not told.
    #[error("the client may not send broadcasts to this channel")]
    NotAllowed,
    /// A broadcast that is larger than is taken.
    #[error("the broadcast is larger than is taken")]
    TooLarge,
    /// More frames came before the join was answered than are kept.
    #[error("too many frames before the join was answered")]
    TooEarly,
    /// The connection is closed or about to be.
    #[error("the connection is closed")]
    Closed,
}

impl FrameRefusal {
    /// A name for metrics and for the vectors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::BadMember(_) => "bad_member",
            Self::NoBinary => "no_binary",
            Self::UnknownKind => "unknown_kind",
            Self::Truncated => "truncated",
            Self::BadPayload => "bad_payload",
            Self::UnknownEvent => "unknown_event",
            Self::NotAllowed => "not_allowed",
            Self::TooLarge => "too_large",
            Self::TooEarly => "too_early",
            Self::Closed => "closed",
        }
    }

    /// The operational code that it is logged and counted under.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotJson | Self::BadMember(_) | Self::UnknownKind | Self::Truncated => "MalformedWebSocketMessage",
            Self::BadPayload | Self::NotAllowed | Self::TooLarge => "UnableToHandleBroadcast",
            Self::NoBinary | Self::UnknownEvent | Self::TooEarly | Self::Closed => "UnknownErrorOnWebSocketMessage",
        }
    }
}
