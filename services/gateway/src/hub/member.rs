//! Connections as the fan-out sees them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use reactor_model::EventId;
use reactor_policy_engine::Principal;
use reactor_protocol::audience::Audience;
use reactor_protocol::sse;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::key::{ConnId, NamedSubscriptions};
use crate::error::ApiError;
use crate::outbox::Outbox;
use crate::ws::deflate::Compression;

/// A connection as the fan-out sees it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id.
    pub conn: ConnId,
    /// Where its frames go.
    pub outbox: Arc<Outbox>,
    /// Cancelled when the connection has been closed here, so that its task ends.
    pub ended: CancellationToken,
    /// Told when the connection was left behind.
    pub behind: Arc<Behind>,
    /// Who it is.
    pub principal: Arc<Principal>,
    /// Its subscriptions.
    pub subscriptions: NamedSubscriptions,
    /// How it is told.
    pub wire: Wire,
}

/// How a member is told of changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// As events of a stream.
    Events,
    /// As frames of a WebSocket connection's channel.
    Socket(Arc<SocketWire>),
}

/// What the frames of a channel depend on. Equal ones get equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SocketWire {
    /// The channel's audience.
    pub audience: Audience,
    /// By index of the subscription the id by which the client knows it; several may have the same.
    pub ids: Box<[u32]>,
    /// What the connection has agreed on.
    pub compression: Compression,
}

impl Member {
    /// Closes the connection with a named reason, and the time in milliseconds after which to come back, if that matters. Of a
    /// WebSocket connection, only this membership ends.
    pub fn close(&self, error: &ApiError, retry_ms: Option<u64>) {
        if let Wire::Socket(_) = self.wire {
            let _ = self.behind.refused.set(error.clone());
            self.ended.cancel();
            return;
        }
        let mut last = BytesMut::new();
        if let Some(retry_ms) = retry_ms {
            sse::write_retry(&mut last, retry_ms);
        }
        sse::write_event(&mut last, "error", None, error.json().as_bytes());
        self.outbox.finish(Some(last.freeze()));
        self.ended.cancel();
    }
}

/// Why the fan-out left a connection behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its queue had no room for the next batch.
    Slow,
    /// A decision is about another version of its table.
    Decision,
    /// A subscription may need answers of Postgres, which its lane does not get.
    Asks,
    /// A set that a policy needs is not known any more, or not yet.
    Sets,
    /// History was lost, for this reason: a WebSocket client is told, and goes on after the place.
    Lost(&'static str),
}

/// Where the fan-out left a connection behind, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// It has everything up to here.
    pub after: EventId,
    /// Why.
    pub cause: Cause,
}

/// Tells a connection's task that the fan-out left it behind.
#[derive(Debug, Default)]
pub struct Behind {
    left: Mutex<Option<Left>>,
    told: Notify,
    /// Why a membership of a WebSocket connection was ended.
    refused: OnceLock<ApiError>,
}

impl Behind {
    pub(super) fn leave(&self, left: Left) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        self.told.notify_one();
    }

    /// Why the membership was ended, if it was.
    #[must_use]
    pub fn refusal(&self) -> Option<&ApiError> {
        self.refused.get()
    }

    /// Waits until the connection is left behind.
    pub async fn wait(&self) -> Left {
        loop {
            if let Some(left) = self.left.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return left;
            }
            self.told.notified().await;
        }
    }
}

/// Why positions before now cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resync {
    /// `too_old`, `epoch_changed`, `gap`, `ahead`, `unknown_id`, `schema_changed` or `policy_unavailable`. A WebSocket client's
    /// channel is also told `subscription_failed`.
    pub reason: &'static str,
    /// Oldest position from which a client could resume.
    pub oldest: Option<EventId>,
    /// Position from which the stream goes on.
    pub newest: EventId,
}

impl Resync {
    /// The SSE frame.
    #[must_use]
    pub fn frame(&self) -> Bytes {
        let oldest = self.oldest.map(|id| id.to_string());
        let data = serde_json::json!({"reason": self.reason, "oldest": oldest, "newest": self.newest.to_string()});
        let mut out = BytesMut::new();
        sse::write_event(&mut out, "resync", Some(&self.newest), data.to_string().as_bytes());
        out.freeze()
    }
}
