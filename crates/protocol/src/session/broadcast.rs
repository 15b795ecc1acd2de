//! Client event `broadcast`.

use bytes::Bytes;
use serde_json::Value;

use super::Session;
use super::action::{Action, Publish, Ticket};
use super::output::too_large;
use crate::broadcast::{Broadcast, UserBroadcast, Verbatim};
use crate::json;
use crate::wire::{Frame, FrameRefusal, Payload};

impl<I: Clone> Session<I> {
    /// Without permission to send there is no reply, not even with `ack`: that is what clients of this protocol expect.
    pub(super) fn on_broadcast(&mut self, index: usize, frame: &Frame) -> Result<(), FrameRefusal> {
        let session = self.ids.session;
        let Some(channel) = self.channels.get(index) else { return Ok(()) };
        let Some(member) = &channel.member else { return Ok(()) };
        if !member.rights.broadcast.write {
            return Err(FrameRefusal::NotAllowed);
        }
        if frame.payload.len() > self.settings.max_payload_bytes {
            if channel.ack {
                self.out.reply_error(channel.answering(frame.reference.as_ref()), &too_large());
            }
            return Err(FrameRefusal::TooLarge);
        }
        let (broadcast, persist) = read(&frame.payload)?;
        let ticket = channel.ack.then(|| Ticket { channel: channel.id, reference: frame.reference.clone() });
        self.out.act(Action::Publish(Publish {
            channel: channel.id,
            identity: member.identity.clone(),
            name: channel.name.clone(),
            origin: channel.origin(session),
            broadcast,
            persist: persist && channel.name.private,
            ticket,
        }));
        Ok(())
    }
}

/// A text push is an object and goes on as it is; a binary one loses its metadata, which is for the server.
fn read(payload: &Payload) -> Result<(Broadcast, bool), FrameRefusal> {
    match payload {
        Payload::Json(json) => {
            let object = Verbatim::of_frame(json.clone()).map_err(|_| FrameRefusal::BadPayload)?;
            Ok((Broadcast::Verbatim(object), false))
        }
        Payload::Broadcast { event, metadata, encoding, payload } => {
            let broadcast =
                UserBroadcast::new(event, *encoding, payload.clone()).map_err(|_| FrameRefusal::BadPayload)?;
            Ok((Broadcast::User(broadcast), metadata.as_ref().is_some_and(is_stored)))
        }
        Payload::Binary(_) => Err(FrameRefusal::BadPayload),
    }
}

/// Whether it has `{"persist":true}` or `{"persist":{…}}`.
fn is_stored(metadata: &Bytes) -> bool {
    let metadata: Value = serde_json::from_slice(metadata).unwrap_or_default();
    match metadata.get("persist") {
        Some(Value::Object(_)) => true,
        flag => json::flexible_bool(flag) == Some(true),
    }
}
