//! Who gets equal bytes: the parts of a joined channel that delivered frames depend on.
//!
//! A fan-out keeps its members grouped by [`Audience`], encodes once for each group, and shares the bytes. None of these
//! frames has a join reference, except those that a new member gets alone.

use std::sync::Arc;

use bytes::Bytes;
use reactor_model::ChangeKind;

use crate::broadcast::Broadcast;
use crate::changes::type_name;
use crate::presence::{PresenceDiff, PresenceList};
use crate::replay::StoredBroadcast;
use crate::wire::{Encoded, Message, Ref, WireVersion};

/// Which generation of clients a channel was joined by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Style {
    /// Today's client libraries.
    Standard,
    /// A bare WebSocket: a join without `join_ref` whose config has no `broadcast`. Its changes also have `eventType`,
    /// `new` and `old`; its presences are arrays of metas.
    Bare,
    /// A join without `config`: a topic names the table, a change is an event of its own.
    Legacy,
}

/// What a channel's delivered frames depend on. Equal audiences get equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Audience {
    /// The framing.
    pub version: WireVersion,
    /// Payload forms.
    pub style: Style,
    /// The topic as the client joined it, with or without `realtime:`.
    pub topic: Arc<str>,
}

impl Audience {
    /// A broadcast; `None` when this audience cannot be given it (binary payloads over `vsn=1.0.0`).
    #[must_use]
    pub fn encode_broadcast(&self, broadcast: &Broadcast) -> Option<Encoded> {
        match broadcast {
            Broadcast::Verbatim(object) => Some(self.push(None, "broadcast", &[object.as_bytes()])),
            Broadcast::User(user) => self.version.wire().encode_user_broadcast(&self.topic, user),
        }
    }

    /// A broadcast of the past, for a channel that asked for replay; `None` as for [`Self::encode_broadcast`].
    #[must_use]
    pub fn encode_replayed(&self, join_ref: Option<&Ref>, stored: &StoredBroadcast) -> Option<Encoded> {
        match stored.to_json() {
            Some(object) => Some(self.push(join_ref, "broadcast", &[&object])),
            None => self.version.wire().encode_user_broadcast(&self.topic, &stored.to_user_broadcast()),
        }
    }

    /// The state that a new member gets once, before any difference.
    #[must_use]
    pub fn encode_presence_state(&self, join_ref: Option<&Ref>, state: &PresenceList) -> Encoded {
        let mut out = Vec::new();
        state.write(&mut out, self.style);
        self.push(join_ref, "presence_state", &[&out])
    }

    /// A difference.
    #[must_use]
    pub fn encode_presence_diff(&self, diff: &PresenceDiff) -> Encoded {
        let mut out = Vec::new();
        out.extend_from_slice(b"{\"joins\":");
        diff.joins.write(&mut out, self.style);
        out.extend_from_slice(b",\"leaves\":");
        diff.leaves.write(&mut out, self.style);
        out.push(b'}');
        self.push(None, "presence_diff", &[&out])
    }

    /// A row change for members whose matching bindings have these ids. `data` is [`crate::changes::encode`]'s for this
    /// audience's [`Style`].
    #[must_use]
    pub fn encode_change(&self, ids: &[u32], kind: ChangeKind, data: &Bytes) -> Encoded {
        if self.style == Style::Legacy {
            return self.push(None, type_name(kind), &[data]);
        }
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        let ids = ids.join(",");
        self.push(None, "postgres_changes", &[b"{\"ids\":[", ids.as_bytes(), b"],\"data\":", data, b"}"])
    }

    pub(crate) fn push(&self, join_ref: Option<&Ref>, event: &str, payload: &[&[u8]]) -> Encoded {
        self.version.wire().encode(&Message { join_ref, reference: None, topic: &self.topic, event, payload })
    }
}

/// The name of the channel that a topic means: the topic without `realtime:`.
#[must_use]
pub fn channel_name(topic: &str) -> &str {
    topic.strip_prefix("realtime:").unwrap_or(topic)
}
