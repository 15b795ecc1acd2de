//! Broadcasts that are stored for those who come later.

use bytes::Bytes;
use rand::Rng;
use reactor_policy_engine::{AuthorizerError, ChannelRequest, PersistRequest, Principal, StoredMessage, StoredPayload};
use reactor_protocol::broadcast::{Broadcast, Encoding};
use reactor_protocol::session::ChannelName;
use reactor_protocol::uuid;

use crate::transport::App;

/// What is stored of a broadcast, which is given the id of its row, so that nobody sees it twice. `None` for one without an event of
/// its own.
pub(super) fn message_to_store(broadcast: &mut Broadcast) -> Option<StoredMessage> {
    let Broadcast::User(user) = broadcast else { return None };
    let id = uuid::text(rand::rng().random(), 4);
    user.metadata = Some(Bytes::from(format!("{{\"id\":\"{id}\"}}")));
    let payload = match user.encoding {
        Encoding::Json => StoredPayload::Json(String::from_utf8(user.payload.to_vec()).ok()?),
        Encoding::Binary => StoredPayload::Binary(user.payload.to_vec()),
    };
    Some(StoredMessage { id, event: user.event.to_string(), payload })
}

/// Has a broadcast stored; false when policy does not allow it.
pub(super) async fn persist(
    app: &App,
    principal: &Principal,
    name: &ChannelName,
    headers: &str,
    message: StoredMessage,
) -> Result<bool, AuthorizerError> {
    let channel = ChannelRequest {
        tenant: app.feed.tenant().clone(),
        principal: principal.clone(),
        topic: name.name.to_string(),
        headers_json: headers.to_owned(),
    };
    let stored = app.feed.authorizer().persist(PersistRequest { channel, message }).await;
    if let Err(error) = &stored {
        tracing::debug!(%error, "a broadcast was not stored");
    }
    stored
}

#[cfg(test)]
mod tests {
    use reactor_protocol::broadcast::UserBroadcast;

    use super::*;

    #[test]
    fn a_stored_broadcast_carries_its_id() {
        let user = UserBroadcast::new("e", Encoding::Json, Bytes::from_static(b"{}")).expect("JSON");
        let mut broadcast = Broadcast::User(user);
        let message = message_to_store(&mut broadcast).expect("a message");
        assert_eq!(broadcast.id(), Some(message.id.as_str()));
        assert_eq!((message.id.len(), message.id.as_bytes()[14]), (36, b'4'));
        assert_eq!(message.payload, StoredPayload::Json("{}".to_owned()));
    }
}
