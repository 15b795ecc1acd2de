//! Questions about channels and published tables.

use reactor_policy_engine::{
    ChannelAccess, ChannelRequest, ChannelRights, PersistRequest, PolicyVersion, PublishedTable, ReplayRequest,
    StoredMessage, StoredPayload, TablesRequest,
};

use super::{NotUnderstood, Result, principal, required, tenant};
use crate::policy::v1;

impl From<TablesRequest> for v1::TablesRequest {
    fn from(request: TablesRequest) -> Self {
        Self { tenant: request.tenant.to_string(), schema: request.schema, table: request.table }
    }
}

impl TryFrom<v1::TablesRequest> for TablesRequest {
    type Error = NotUnderstood;

    fn try_from(request: v1::TablesRequest) -> Result<Self> {
        Ok(Self { tenant: tenant(&request.tenant)?, schema: request.schema, table: request.table })
    }
}

impl From<PublishedTable> for v1::PublishedTable {
    fn from(table: PublishedTable) -> Self {
        Self { schema: table.schema, table: table.table }
    }
}

impl From<v1::PublishedTable> for PublishedTable {
    fn from(table: v1::PublishedTable) -> Self {
        Self { schema: table.schema, table: table.table }
    }
}

impl From<ChannelRequest> for v1::ChannelRightsRequest {
    fn from(request: ChannelRequest) -> Self {
        let ChannelRequest { tenant, principal, topic, headers_json } = request;
        Self { tenant: tenant.to_string(), principal: Some(principal.into()), topic, headers_json }
    }
}

impl TryFrom<v1::ChannelRightsRequest> for ChannelRequest {
    type Error = NotUnderstood;

    fn try_from(request: v1::ChannelRightsRequest) -> Result<Self> {
        Ok(Self {
            tenant: tenant(&request.tenant)?,
            principal: principal(request.principal)?,
            topic: request.topic,
            headers_json: request.headers_json,
        })
    }
}

impl From<ChannelAccess> for v1::ChannelAccess {
    fn from(access: ChannelAccess) -> Self {
        Self { read: access.read, write: access.write }
    }
}

impl From<ChannelRights> for v1::ChannelRightsResponse {
    fn from(rights: ChannelRights) -> Self {
        Self {
            broadcast: Some(rights.broadcast.into()),
            presence: Some(rights.presence.into()),
            policy_version: rights.policy_version.0,
        }
    }
}

impl TryFrom<v1::ChannelRightsResponse> for ChannelRights {
    type Error = NotUnderstood;

    fn try_from(rights: v1::ChannelRightsResponse) -> Result<Self> {
        let access = |access: v1::ChannelAccess| ChannelAccess { read: access.read, write: access.write };
        Ok(Self {
            broadcast: access(required(rights.broadcast, "broadcast")?),
            presence: access(required(rights.presence, "presence")?),
            policy_version: PolicyVersion(rights.policy_version),
        })
    }
}

impl From<ReplayRequest> for v1::ReplayRequest {
    fn from(request: ReplayRequest) -> Self {
        let ReplayRequest { tenant, topic, since_ms, limit } = request;
        Self { tenant: tenant.to_string(), topic, since_ms, limit }
    }
}

impl TryFrom<v1::ReplayRequest> for ReplayRequest {
    type Error = NotUnderstood;

    fn try_from(request: v1::ReplayRequest) -> Result<Self> {
        let v1::ReplayRequest { tenant: name, topic, since_ms, limit } = request;
        Ok(Self { tenant: tenant(&name)?, topic, since_ms, limit })
    }
}

impl From<PersistRequest> for v1::PersistRequest {
    fn from(request: PersistRequest) -> Self {
        Self { channel: Some(request.channel.into()), message: Some(request.message.into()) }
    }
}

impl TryFrom<v1::PersistRequest> for PersistRequest {
    type Error = NotUnderstood;

    fn try_from(request: v1::PersistRequest) -> Result<Self> {
        let channel = required(request.channel, "channel")?.try_into()?;
        Ok(Self { channel, message: required(request.message, "message")?.try_into()? })
    }
}

impl From<StoredMessage> for v1::StoredMessage {
    fn from(message: StoredMessage) -> Self {
        let payload = match message.payload {
            StoredPayload::Json(text) => v1::stored_message::Payload::Json(text),
            StoredPayload::Binary(bytes) => v1::stored_message::Payload::Binary(bytes),
        };
        Self { id: message.id, event: message.event, payload: Some(payload) }
    }
}

impl TryFrom<v1::StoredMessage> for StoredMessage {
    type Error = NotUnderstood;

    fn try_from(message: v1::StoredMessage) -> Result<Self> {
        let payload = match required(message.payload, "payload")? {
            v1::stored_message::Payload::Json(text) => StoredPayload::Json(text),
            v1::stored_message::Payload::Binary(bytes) => StoredPayload::Binary(bytes),
        };
        Ok(Self { id: message.id, event: message.event, payload })
    }
}
