//! Questions about channels and published tables, which WebSocket clients need beside subscriptions to one table.

use std::fmt;

use reactor_model::TenantId;

use crate::{PolicyVersion, Principal};

/// Which published tables match? Asked for `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TablesRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// The schema; `None` for all.
    pub schema: Option<String>,
    /// The table; `None` for all.
    pub table: Option<String>,
}

/// A table that is published.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublishedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
}

/// What may this principal do in this private channel?
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ChannelRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// Who.
    pub principal: Principal,
    /// The channel's name, without `realtime:`.
    pub topic: String,
    /// Headers of the request that begin with `x-`, as a JSON object, for policies that read `request.headers`.
    pub headers_json: String,
}

impl fmt::Debug for ChannelRequest {
    /// Without the headers, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelRequest").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// What may be done with one extension of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelAccess {
    /// Receive.
    pub read: bool,
    /// Send.
    pub write: bool,
}

/// What a principal may do in a private channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelRights {
    /// Broadcasts.
    pub broadcast: ChannelAccess,
    /// Presences.
    pub presence: ChannelAccess,
    /// The version of the catalog that was read.
    pub policy_version: PolicyVersion,
}

/// Which broadcasts does the database have of a private channel? The principal's right to read them was asked before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// The channel's name, without `realtime:`.
    pub topic: String,
    /// Stored at or after this time, ms since 1970.
    pub since_ms: i64,
    /// The newest this many.
    pub limit: u32,
}

/// Store a broadcast, if this principal may have that done.
#[derive(Clone, PartialEq, Eq)]
pub struct PersistRequest {
    /// Who sends to which channel.
    pub channel: ChannelRequest,
    /// What is stored, under an id that nobody else has.
    pub message: StoredMessage,
}

impl fmt::Debug for PersistRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PersistRequest").field("channel", &self.channel).field("message", &self.message).finish()
    }
}

/// A broadcast of the database.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its id.
    pub id: String,
    /// Its event.
    pub event: String,
    /// Its payload.
    pub payload: StoredPayload,
}

/// The payload of a stored broadcast.
#[derive(Clone, PartialEq, Eq)]
pub enum StoredPayload {
    /// JSON text.
    Json(String),
    /// Any bytes.
    Binary(Vec<u8>),
}

impl fmt::Debug for StoredMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredMessage").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(text) => write!(f, "Json({} bytes)", text.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
        }
    }
}
