//! Who is in a channel: a key has one meta for each connection that tracks itself under it.
//!
//! Entries come from several gateways, in any order between them, and one gateway's may skip what was replaced meanwhile. Each
//! is in a slot of its own, of which its gateway is the only writer, so the merge of all is the same whatever the order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::audience::Style;
use crate::broadcast::Origin;
use crate::json;

/// One meta: what a client tracks, and the reference that the server gave it.
#[derive(Clone, PartialEq, Eq)]
pub struct Meta {
    /// The reference, unique for each track and update.
    pub phx_ref: Box<str>,
    /// The reference that an update replaces.
    pub previous: Option<Box<str>>,
    /// What the client tracks: a JSON object without `phx_ref` and `phx_ref_prev`.
    pub data: Bytes,
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meta({}, {} bytes)", self.phx_ref, self.data.len())
    }
}

/// Metas by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceList {
    by_key: BTreeMap<Arc<str>, Vec<Arc<Meta>>>,
}

/// What changed since the last difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceDiff {
    /// Metas that came.
    pub joins: PresenceList,
    /// Metas that went.
    pub leaves: PresenceList,
}

/// What a joiner gets, and what the members before it get first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Changes that the members so far have not been told: they get this, the joiner does not.
    pub pending: Option<PresenceDiff>,
    /// The complete state: the joiner's first message. The next difference fits it.
    pub state: PresenceList,
}

/// Where an entry stands: one for each channel of each session that tracks itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// The gateway whose entry this is.
    pub owner: u64,
    /// The session's channel ([`crate::session::Action::Track`]).
    pub origin: Origin,
}

/// The presences of one channel, merged from all gateways.
#[derive(Debug, Default)]
pub struct Presences {
    by_key: BTreeMap<Arc<str>, Vec<Entry>>,
    keys: BTreeMap<Slot, Arc<str>>,
    pending: PresenceDiff,
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    meta: Arc<Meta>,
}

impl PresenceList {
    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Each key with its metas.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Arc<Meta>])> {
        self.by_key.iter().map(|(key, metas)| (&**key, metas.as_slice()))
    }

    fn add(&mut self, key: &Arc<str>, meta: &Arc<Meta>) {
        self.by_key.entry(Arc::clone(key)).or_default().push(Arc::clone(meta));
    }

    /// Takes a meta out; whether it was there.
    fn take(&mut self, key: &str, phx_ref: &str) -> bool {
        let Some(metas) = self.by_key.get_mut(key) else { return false };
        let Some(index) = metas.iter().position(|meta| &*meta.phx_ref == phx_ref) else { return false };
        metas.remove(index);
        if metas.is_empty() {
            self.by_key.remove(key);
        }
        true
    }

    /// Appends the list as JSON: `{key:{"metas":[…]}}`, and for bare clients `{key:[…]}`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, style: Style) {
        let (open, close): (&[u8], &[u8]) = match style {
            Style::Bare => (b":[", b"]"),
            Style::Standard | Style::Legacy => (b":{\"metas\":[", b"]}"),
        };
        out.push(b'{');
        let mut first_key = true;
        for (key, metas) in &self.by_key {
            json::separate(out, &mut first_key);
            json::write_string(out, key);
            out.extend_from_slice(open);
            let mut first = true;
            for meta in metas {
                json::separate(out, &mut first);
                meta.write(out);
            }
            out.extend_from_slice(close);
        }
        out.push(b'}');
    }
}

impl Meta {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"phx_ref\":");
        json::write_string(out, &self.phx_ref);
        if let Some(previous) = &self.previous {
            out.extend_from_slice(b",\"phx_ref_prev\":");
            json::write_string(out, previous);
        }
        match self.data.strip_prefix(b"{") {
            Some(rest) if rest.len() > 1 => {
                out.push(b',');
                out.extend_from_slice(rest);
            }
            _ => out.push(b'}'),
        }
    }
}

impl Presences {
    /// A slot's entry. What is known already changes nothing; another meta takes the place of the slot's last.
    pub fn upsert(&mut self, slot: Slot, key: &str, meta: Meta) {
        if self.keys.get(&slot).is_some_and(|known| self.has(known, slot, &meta.phx_ref) && **known == *key) {
            return;
        }
        self.remove(slot);
        let key = self.by_key.get_key_value(key).map_or_else(|| Arc::from(key), |(known, _)| Arc::clone(known));
        let meta = Arc::new(meta);
        self.keys.insert(slot, Arc::clone(&key));
        self.by_key.entry(Arc::clone(&key)).or_default().push(Entry { slot, meta: Arc::clone(&meta) });
        // Gone and back before anybody was told: a gateway whose lease lapsed for a moment.
        if !self.pending.leaves.take(&key, &meta.phx_ref) {
            self.pending.joins.add(&key, &meta);
        }
    }

    /// A slot is empty. One that is unknown changes nothing.
    pub fn remove(&mut self, slot: Slot) {
        let Some(key) = self.keys.remove(&slot) else { return };
        let Some(entries) = self.by_key.get_mut(&key) else { return };
        let Some(index) = entries.iter().position(|entry| entry.slot == slot) else { return };
        let entry = entries.remove(index);
        if entries.is_empty() {
            self.by_key.remove(&key);
        }
        // A meta that nobody was told of leaves without a word.
        if !self.pending.joins.take(&key, &entry.meta.phx_ref) {
            self.pending.leaves.add(&key, &entry.meta);
        }
    }

    /// What changed since this was last asked; for every member. `None` when nothing did.
    pub fn take_diff(&mut self) -> Option<PresenceDiff> {
        let diff = std::mem::take(&mut self.pending);
        (!diff.joins.is_empty() || !diff.leaves.is_empty()).then_some(diff)
    }

    /// For a new member. The caller adds the member after it has sent what is pending to the others.
    pub fn snapshot(&mut self) -> Snapshot {
        let pending = self.take_diff();
        let mut state = PresenceList::default();
        for (key, entries) in &self.by_key {
            entries.iter().for_each(|entry| state.add(key, &entry.meta));
        }
        Snapshot { pending, state }
    }

    /// Whether nobody is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    fn has(&self, key: &str, slot: Slot, phx_ref: &str) -> bool {
        let mut entries = self.by_key.get(key).into_iter().flatten();
        entries.any(|entry| entry.slot == slot && *entry.meta.phx_ref == *phx_ref)
    }
}

#[cfg(test)]
mod tests;
