//! Who is in a channel, as all gateways say, and which clients here are told.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use reactor_bus::{BusError, EntryId, PresenceEvent, Watched};
use reactor_protocol::audience::Audience;
use reactor_protocol::broadcast::Origin;
use reactor_protocol::presence::{Meta, PresenceDiff, Presences, Slot};
use reactor_protocol::wire::Ref;
use reactor_runtime::Backoff;

use super::Topic;
use crate::ws::frame::Shared;
use crate::ws::inbox::Port;

/// First and longest pause between attempts to watch.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Changes that are told in one difference.
const MAX_JOINED: usize = 1024;

/// A client that is told of presences.
#[derive(Debug)]
pub struct Watcher {
    /// Its connection.
    pub port: Arc<Port>,
    /// The reference of its join.
    pub join_ref: Option<Ref>,
    /// Whether it gets the state first.
    pub state: bool,
}

/// The presences of a channel and who is told.
#[derive(Debug, Default)]
pub(in crate::ws) struct Room {
    presences: Presences,
    /// Whether the state is complete.
    is_current: bool,
    members: BTreeMap<Audience, BTreeMap<Origin, Arc<Port>>>,
    /// Clients that wait for the state to be complete.
    waiting: Vec<(Audience, Origin, Watcher)>,
}

impl Room {
    fn admit(&mut self, audience: Audience, origin: Origin, watcher: Watcher) -> u64 {
        let snapshot = self.presences.snapshot();
        let told = snapshot.pending.map_or(0, |diff| self.tell(&diff));
        if watcher.state {
            let state = audience.encode_presence_state(watcher.join_ref.as_ref(), &snapshot.state);
            watcher.port.send_message(&state);
        }
        self.members.entry(audience).or_default().insert(origin, watcher.port);
        told
    }

    /// Tells members of a difference; how many were told.
    fn tell(&self, diff: &PresenceDiff) -> u64 {
        let mut told = 0;
        for (audience, members) in &self.members {
            let shared = Shared::new(audience.encode_presence_diff(diff));
            told += members.values().filter(|port| port.send_shared(&shared)).count() as u64;
        }
        told
    }

    fn take(&mut self, event: PresenceEvent) {
        match event {
            PresenceEvent::Put { id, value, .. } => match (slot(&id), decode(value)) {
                (Some(slot), Some((key, meta))) => self.presences.upsert(slot, &key, meta),
                _ => tracing::warn!("a presence cannot be read"),
            },
            PresenceEvent::Removed { id, .. } => {
                if let Some(slot) = slot(&id) {
                    self.presences.remove(slot);
                }
            }
            PresenceEvent::Current => self.is_current = true,
        }
    }

    /// Tells what has changed, once the state is complete.
    fn settle(&mut self) -> u64 {
        if !self.is_current {
            return 0;
        }
        let mut told = self.presences.take_diff().map_or(0, |diff| self.tell(&diff));
        for (audience, origin, watcher) in std::mem::take(&mut self.waiting) {
            told += self.admit(audience, origin, watcher);
        }
        told
    }
}

impl Topic {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches the channel's presences for ever.
    pub(super) async fn watch_on(self: Arc<Self>) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            match self.topics.presence.watch(Watched::Channel(&self.channel)).await {
                Ok(events) => self.watch_once(events).await,
                Err(error) => tracing::debug!(%error, "presences cannot be watched yet"),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn watch_once(&self, mut events: BoxStream<'static, PresenceEvent>) {
        while let Some(event) = events.next().await {
            let mut room = self.room();
            room.take(event);
            // What is there already goes in one difference.
            for _ in 0..MAX_JOINED {
                let Some(Some(event)) = events.next().now_or_never() else { break };
                room.take(event);
            }
            let told = room.settle();
            drop(room);
            self.topics.metrics.ws.presences_told.inc_by(told);
        }
    }

    /// Tells a client of presences from now on.
    pub fn attend(&self, origin: Origin, audience: &Audience, watcher: Watcher) {
        let mut room = self.room();
        if room.is_current {
            room.admit(audience.clone(), origin, watcher);
        } else {
            room.waiting.retain(|(_, other, _)| *other != origin);
            room.waiting.push((audience.clone(), origin, watcher));
        }
    }

    /// Tells a client no more.
    pub fn unattend(&self, origin: Origin, audience: &Audience) {
        let mut room = self.room();
        room.waiting.retain(|(_, other, _)| *other != origin);
        if let Some(members) = room.members.get_mut(audience) {
            members.remove(&origin);
            if members.is_empty() {
                room.members.remove(audience);
            }
        }
    }

    /// Puts a client's presence into the channel.
    pub fn track(&self, origin: Origin, key: &str, meta: &Meta) {
        let put = self.topics.owner.put(&self.channel, &entry_key(origin), encode(key, meta));
        // What cannot be stored now is stored later; only what can never be is told at once.
        if let Some(Err(error @ BusError::TooLarge(_))) = put.now_or_never() {
            tracing::warn!(%error, "a presence is too large for the bus");
        }
    }

    /// Takes a client's presence out of the channel.
    pub fn untrack(&self, origin: Origin) {
        drop(self.topics.owner.remove(&self.channel, &entry_key(origin)));
    }
}

fn entry_key(origin: Origin) -> String {
    format!("{:016x}-{:x}", origin.session, origin.channel)
}

fn slot(id: &EntryId) -> Option<Slot> {
    let (session, channel) = id.key.split_once('-')?;
    let session = u64::from_str_radix(session, 16).ok()?;
    let channel = u32::from_str_radix(channel, 16).ok()?;
    // Only told apart within this process.
    let mut hasher = DefaultHasher::new();
    id.owner.as_str().hash(&mut hasher);
    Some(Slot { owner: hasher.finish(), origin: Origin { session, channel } })
}

const VERSION: u8 = 1;

/// Layout, big-endian: version `u8`, lengths of key, reference and previous reference `u32` each, these three, the data.
fn encode(key: &str, meta: &Meta) -> Bytes {
    let previous = meta.previous.as_deref().unwrap_or_default();
    let texts = [key, &meta.phx_ref, previous];
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let mut out = Vec::with_capacity(13 + bytes + meta.data.len());
    out.put_u8(VERSION);
    for text in texts {
        out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    }
    for text in texts {
        out.put_slice(text.as_bytes());
    }
    out.put_slice(&meta.data);
    out.into()
}

fn decode(mut value: Bytes) -> Option<(String, Meta)> {
    if value.try_get_u8().ok()? != VERSION {
        return None;
    }
    let mut lengths = [0; 3];
    for length in &mut lengths {
        *length = usize::try_from(value.try_get_u32().ok()?).ok()?;
    }
    let mut texts = lengths.into_iter().map(|length| {
        if value.len() < length {
            return None;
        }
        String::from_utf8(value.split_to(length).into()).ok()
    });
    let (key, phx_ref, previous) = (texts.next()??, texts.next()??, texts.next()??);
    drop(texts);
    let previous = (!previous.is_empty()).then(|| previous.into());
    Some((key, Meta { phx_ref: phx_ref.into(), previous, data: value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_back() {
        for previous in [None, Some("R0".into())] {
            let meta = Meta { phx_ref: "R1".into(), previous, data: Bytes::from_static(br#"{"a":1}"#) };
            assert_eq!(decode(encode("ä", &meta)), Some(("ä".to_owned(), meta)));
        }
        assert_eq!(decode(Bytes::from_static(b"\x01\0\0\0\x09")), None);
        let origin = Origin { session: u64::MAX - 3, channel: 77 };
        let id = EntryId {
            channel: reactor_bus::Channel::new("acme".parse().expect("a name"), reactor_bus::Scope::Public, "t"),
            owner: reactor_bus::OwnerId::unique("g"),
            key: entry_key(origin).into(),
        };
        assert_eq!(slot(&id).map(|slot| slot.origin), Some(origin));
    }
}
