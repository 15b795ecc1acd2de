//! Broadcasts between clients: what they hold, and how they travel between gateways.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};

use crate::json;

/// How a user's payload is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Any bytes; reaches connections with binary frames only.
    Binary,
    /// JSON text.
    Json,
}

/// A broadcast in one of its two forms; the form decides what each wire version gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// The JSON object of a text push or of a REST batch, delivered as it is.
    Verbatim(Verbatim),
    /// An event with its payload: binary pushes, the REST endpoint for one message, and the database.
    User(UserBroadcast),
}

/// A JSON object.
#[derive(Clone, PartialEq, Eq)]
pub struct Verbatim(Bytes);

/// An event with its payload.
#[derive(Clone, PartialEq, Eq)]
pub struct UserBroadcast {
    /// The user's event.
    pub event: Box<str>,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// The payload: JSON text, or any bytes.
    pub payload: Bytes,
    /// A JSON object, `{"id":"…"}` for messages of the database.
    pub metadata: Option<Bytes>,
}

/// The payload is not JSON of the form that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not JSON of the form that is needed")]
pub struct NotJson;

impl Verbatim {
    /// Takes a JSON object.
    ///
    /// # Errors
    /// [`NotJson`] when it is something else: the stock serializers only carry objects.
    pub fn new(object: Bytes) -> Result<Self, NotJson> {
        if json::is_object(&object) && json::is_json(&object) { Ok(Self(object)) } else { Err(NotJson) }
    }

    /// Takes a payload that a decoder found to be JSON.
    pub(crate) fn of_frame(json: Bytes) -> Result<Self, NotJson> {
        if json::is_object(&json) { Ok(Self(json)) } else { Err(NotJson) }
    }

    /// The object.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl UserBroadcast {
    /// An event without metadata.
    ///
    /// # Errors
    /// [`NotJson`] when the payload should be JSON and is not.
    pub fn new(event: &str, encoding: Encoding, payload: Bytes) -> Result<Self, NotJson> {
        if encoding == Encoding::Json && !json::is_json(&payload) {
            return Err(NotJson);
        }
        Ok(Self { event: event.into(), encoding, payload, metadata: None })
    }

    /// The object that text frames carry: `event`, `payload`, `type`, and `meta` where there is metadata.
    #[must_use]
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload.len() + self.event.len() + 64);
        out.extend_from_slice(b"{\"event\":");
        json::write_string(&mut out, &self.event);
        out.extend_from_slice(b",\"payload\":");
        out.extend_from_slice(&self.payload);
        out.extend_from_slice(b",\"type\":\"broadcast\"");
        if let Some(metadata) = &self.metadata {
            out.extend_from_slice(b",\"meta\":");
            out.extend_from_slice(metadata);
        }
        out.push(b'}');
        out
    }
}

impl Broadcast {
    /// A message of a REST batch. `payload` is a JSON object.
    ///
    /// # Errors
    /// [`NotJson`] when it is not.
    pub fn batch(event: &str, payload: Bytes) -> Result<Self, NotJson> {
        let payload = Verbatim::new(payload)?.0;
        let mut out = Vec::with_capacity(payload.len() + event.len() + 48);
        out.extend_from_slice(b"{\"payload\":");
        out.extend_from_slice(&payload);
        out.extend_from_slice(b",\"event\":");
        json::write_string(&mut out, event);
        out.extend_from_slice(b",\"type\":\"broadcast\"}");
        Ok(Self::Verbatim(Verbatim(out.into())))
    }

    /// A message of `realtime.send` or `realtime.send_binary`, with its row's id.
    ///
    /// # Errors
    /// [`NotJson`] when the payload should be JSON and is not.
    pub fn from_database(event: &str, encoding: Encoding, payload: Bytes, id: &str) -> Result<Self, NotJson> {
        let mut broadcast = UserBroadcast::new(event, encoding, payload)?;
        let mut metadata = b"{\"id\":".to_vec();
        json::write_string(&mut metadata, id);
        metadata.push(b'}');
        broadcast.metadata = Some(metadata.into());
        Ok(Self::User(broadcast))
    }

    /// The id of the database's row that this came from.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        let Self::User(broadcast) = self else { return None };
        let metadata = std::str::from_utf8(broadcast.metadata.as_ref()?).ok()?;
        metadata.strip_prefix("{\"id\":\"")?.strip_suffix("\"}")
    }

    /// Bytes that count against limits.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Verbatim(object) => object.0.len(),
            Self::User(broadcast) => broadcast.payload.len(),
        }
    }
}

impl fmt::Debug for Verbatim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verbatim({} bytes)", self.0.len())
    }
}

impl fmt::Debug for UserBroadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserBroadcast({:?}, {} bytes)", self.encoding, self.payload.len())
    }
}

/// The one channel of one connection that a broadcast came from: that channel alone is spared its own message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The session's id, unique in the cluster.
    pub session: u64,
    /// The channel's number in the session.
    pub channel: u32,
}

/// A broadcast on its way between gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Where it came from; `None` for REST and the database.
    pub origin: Option<Origin>,
    /// What it holds.
    pub broadcast: Broadcast,
}

/// The bytes are not an envelope that this reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed broadcast envelope")]
pub struct MalformedEnvelope;

const VERSION: u8 = 1;
const TAG_VERBATIM: u8 = b'V';
const TAG_JSON: u8 = b'J';
const TAG_BINARY: u8 = b'B';

impl Envelope {
    /// Layout, big-endian: version `u8`, form `u8`, has-origin `u8`, session `u64`, channel `u32`, then for user
    /// broadcasts event length `u32`, metadata length `u32`, event, metadata; then the payload to the end.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let origin = self.origin.unwrap_or(Origin { session: 0, channel: 0 });
        let mut out = Vec::with_capacity(self.broadcast.payload_bytes() + 96);
        out.put_u8(VERSION);
        let tag = match &self.broadcast {
            Broadcast::Verbatim(_) => TAG_VERBATIM,
            Broadcast::User(broadcast) if broadcast.encoding == Encoding::Json => TAG_JSON,
            Broadcast::User(_) => TAG_BINARY,
        };
        out.put_u8(tag);
        out.put_u8(u8::from(self.origin.is_some()));
        out.put_u64(origin.session);
        out.put_u32(origin.channel);
        match &self.broadcast {
            Broadcast::Verbatim(object) => out.put_slice(&object.0),
            Broadcast::User(broadcast) => {
                let metadata = broadcast.metadata.as_deref().unwrap_or_default();
                out.put_u32(u32::try_from(broadcast.event.len()).unwrap_or(u32::MAX));
                out.put_u32(u32::try_from(metadata.len()).unwrap_or(u32::MAX));
                out.put_slice(broadcast.event.as_bytes());
                out.put_slice(metadata);
                out.put_slice(&broadcast.payload);
            }
        }
        out.into()
    }

    /// Reads an envelope; payloads are slices of `bytes`. That JSON is JSON is trusted: the writer checked it.
    ///
    /// # Errors
    /// [`MalformedEnvelope`] for another version, or bytes that end early.
    pub fn decode(bytes: &Bytes) -> Result<Self, MalformedEnvelope> {
        Self::read(bytes.clone()).ok_or(MalformedEnvelope)
    }

    fn read(mut rest: Bytes) -> Option<Self> {
        if rest.try_get_u8().ok()? != VERSION {
            return None;
        }
        let tag = rest.try_get_u8().ok()?;
        let has_origin = rest.try_get_u8().ok()? != 0;
        let origin = Origin { session: rest.try_get_u64().ok()?, channel: rest.try_get_u32().ok()? };
        let encoding = match tag {
            TAG_VERBATIM => None,
            TAG_JSON => Some(Encoding::Json),
            TAG_BINARY => Some(Encoding::Binary),
            _ => return None,
        };
        let broadcast = match encoding {
            None => Broadcast::Verbatim(Verbatim(rest)),
            Some(encoding) => {
                let event = usize::try_from(rest.try_get_u32().ok()?).ok()?;
                let metadata = usize::try_from(rest.try_get_u32().ok()?).ok()?;
                if rest.len() < event.checked_add(metadata)? {
                    return None;
                }
                let event = String::from_utf8(rest.split_to(event).into()).ok()?.into();
                let metadata = Some(rest.split_to(metadata)).filter(|metadata| !metadata.is_empty());
                Broadcast::User(UserBroadcast { event, encoding, payload: rest, metadata })
            }
        };
        Some(Self { origin: has_origin.then_some(origin), broadcast })
    }
}
