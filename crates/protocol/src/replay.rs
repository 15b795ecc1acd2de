//! Broadcasts of the past, and how they meet those of the present without a gap or a repetition.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::broadcast::{Broadcast, Encoding, UserBroadcast};
use crate::json;

/// Rows of one replay: what `limit` is clamped to, and its default.
pub const MAX_REPLAYED: u32 = 25;

/// Live broadcasts that wait for a replay to be read. Past this, or past [`MAX_WAITING_BYTES`], the gate says so.
pub const MAX_WAITING: usize = 1000;

/// Bytes of the payloads that wait.
pub const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;

/// A row of `realtime.messages`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredBroadcast {
    /// The row's id.
    pub id: String,
    /// The user's event.
    pub event: Box<str>,
    /// How the payload is to be read.
    pub encoding: Encoding,
    /// The payload. JSON text comes from a `jsonb` column.
    pub payload: Bytes,
}

impl StoredBroadcast {
    fn metadata(&self) -> Vec<u8> {
        let mut out = b"{\"replayed\":true,\"id\":".to_vec();
        json::write_string(&mut out, &self.id);
        out.push(b'}');
        out
    }

    pub(crate) fn to_user_broadcast(&self) -> UserBroadcast {
        UserBroadcast {
            event: self.event.clone(),
            encoding: self.encoding,
            payload: self.payload.clone(),
            metadata: Some(self.metadata().into()),
        }
    }

    /// The object of a text frame; `None` for binary payloads.
    pub(crate) fn to_json(&self) -> Option<Vec<u8>> {
        (self.encoding == Encoding::Json && json::is_json(&self.payload)).then(|| self.to_user_broadcast().to_json())
    }
}

impl fmt::Debug for StoredBroadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredBroadcast({}, {} bytes)", self.id, self.payload.len())
    }
}

/// Stands before one member of a channel: holds live broadcasts back while the past is read, then lets all pass that the
/// past did not have. The member is registered with the fan-out before the past is read, so nothing falls between.
#[derive(Debug)]
pub struct ReplayGate {
    waiting: Option<VecDeque<Broadcast>>,
    waiting_bytes: usize,
    /// Ids that were replayed; at most [`MAX_REPLAYED`].
    seen: Vec<String>,
}

/// What to do with a live broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Deliver it.
    Deliver,
    /// It waits, or was replayed already.
    Hold,
    /// Too much waits, and a message would be lost: answer the replay with an error.
    Overflow,
}

impl Default for ReplayGate {
    fn default() -> Self {
        Self { waiting: Some(VecDeque::new()), waiting_bytes: 0, seen: Vec::new() }
    }
}

impl ReplayGate {
    /// A live broadcast comes by.
    pub fn offer(&mut self, broadcast: &Broadcast) -> Pass {
        let Some(waiting) = &mut self.waiting else {
            let is_seen = broadcast.id().is_some_and(|id| self.seen.iter().any(|seen| seen == id));
            return if is_seen { Pass::Hold } else { Pass::Deliver };
        };
        self.waiting_bytes += broadcast.payload_bytes();
        if waiting.len() >= MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
            return Pass::Overflow;
        }
        waiting.push_back(broadcast.clone());
        Pass::Hold
    }

    /// The past was delivered: gives back what waited and was not in it, in order. From now on broadcasts pass.
    pub fn open(&mut self, replayed: Vec<String>) -> Vec<Broadcast> {
        self.seen = replayed;
        let waiting = self.waiting.take().unwrap_or_default();
        let seen = &self.seen;
        waiting.into_iter().filter(|live| live.id().is_none_or(|id| !seen.iter().any(|known| known == id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(id: &str) -> Broadcast {
        Broadcast::from_database("e", Encoding::Json, Bytes::from_static(b"{}"), id).expect("JSON")
    }

    #[test]
    fn past_and_present_meet_without_gap_or_repetition() {
        let mut gate = ReplayGate::default();
        assert_eq!([gate.offer(&live("b")), gate.offer(&live("c"))], [Pass::Hold; 2]);
        let waited: Vec<_> = gate.open(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(waited.iter().filter_map(Broadcast::id).collect::<Vec<_>>(), ["c"]);
        assert_eq!([gate.offer(&live("a")), gate.offer(&live("d"))], [Pass::Hold, Pass::Deliver]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut gate = ReplayGate::default();
        for _ in 0..MAX_WAITING {
            assert_eq!(gate.offer(&live("x")), Pass::Hold);
        }
        assert_eq!(gate.offer(&live("x")), Pass::Overflow);
    }
}
