//! The presences that are known in this process, and who watches them. No IO, no clock.

mod queue;

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::Stream;
use reactor_model::TenantId;

use crate::{Channel, EntryId, OwnerId, PresenceEvent, Watched, lock};
use queue::Queue;

/// An entry's value and the revision at which it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) bytes: Bytes,
    pub(crate) revision: u64,
}

/// Entries by channel, with their watchers. One lock: a watcher begins between two changes.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rooms: HashMap<Channel, Room>,
    owners: HashMap<OwnerId, HashSet<EntryId>>,
    /// Watchers of whole tenants.
    tenants: HashMap<TenantId, Watchers>,
    last_watcher: u64,
}

type Watchers = HashMap<u64, Arc<Queue>>;

/// One channel.
#[derive(Default)]
struct Room {
    entries: HashMap<EntryId, Value>,
    watchers: Watchers,
}

impl Board {
    /// Sets an entry; watchers are told when it is new or its bytes are.
    pub(crate) fn put(&self, id: EntryId, value: Value) {
        lock(&self.state).put(id, value);
    }

    pub(crate) fn remove(&self, id: &EntryId) {
        lock(&self.state).remove(id);
    }

    pub(crate) fn remove_owner(&self, owner: &OwnerId) {
        lock(&self.state).retain(owner, |_, _| false);
    }

    /// Removes the owner's entries that were set before this revision.
    pub(crate) fn remove_older(&self, owner: &OwnerId, revision: u64) {
        lock(&self.state).retain(owner, |_, value| value.revision >= revision);
    }

    /// Makes the owner's entries these.
    pub(crate) fn replace_owner(&self, owner: &OwnerId, entries: HashMap<EntryId, Value>) {
        let mut state = lock(&self.state);
        state.retain(owner, |id, _| entries.contains_key(id));
        for (id, value) in entries {
            state.put(id, value);
        }
    }

    /// Takes every revision for older than any that comes: the store that they were from is no more.
    pub(crate) fn forget_revisions(&self) {
        let mut state = lock(&self.state);
        for value in state.rooms.values_mut().flat_map(|room| room.entries.values_mut()) {
            value.revision = 0;
        }
    }

    /// What is there, and from then on what changes. `guard` lives as long as the watcher.
    pub(crate) fn watch<G: Unpin>(self: &Arc<Self>, watched: Watched<'_>, guard: G) -> Watcher<G> {
        let mut state = lock(&self.state);
        state.last_watcher += 1;
        let number = state.last_watcher;
        let (queue, place) = match watched {
            Watched::Channel(channel) => {
                let room = state.rooms.entry(channel.clone()).or_default();
                let queue = Arc::new(Queue::new(room.events().collect()));
                room.watchers.insert(number, Arc::clone(&queue));
                (queue, Place::Channel(channel.clone()))
            }
            Watched::Tenant(tenant) => {
                let rooms = state.rooms.iter().filter(|(channel, _)| channel.tenant == *tenant);
                let queue = Arc::new(Queue::new(rooms.flat_map(|(_, room)| room.events()).collect()));
                state.tenants.entry(tenant.clone()).or_default().insert(number, Arc::clone(&queue));
                (queue, Place::Tenant(tenant.clone()))
            }
        };
        drop(state);
        Watcher { queue, board: Arc::downgrade(self), place, number, _guard: guard }
    }

    /// Every watcher reads what waits for it, and then the end.
    pub(crate) fn close(&self) {
        let state = lock(&self.state);
        let rooms = state.rooms.values().flat_map(|room| room.watchers.values());
        for queue in rooms.chain(state.tenants.values().flat_map(Watchers::values)) {
            queue.close();
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn put(&mut self, id: EntryId, value: Value) {
        let room = self.rooms.entry(id.channel.clone()).or_default();
        let before = room.entries.insert(id.clone(), value.clone());
        if before.as_ref().is_none_or(|before| before.bytes != value.bytes) {
            let known = before.is_some();
            for queue in watchers(room, &self.tenants, &id.channel.tenant) {
                queue.put(&id, &value, known);
            }
        }
        if before.is_none() {
            self.owners.entry(id.owner.clone()).or_default().insert(id);
        }
    }

    fn remove(&mut self, id: &EntryId) {
        if let Some(entries) = self.owners.get_mut(&id.owner) {
            entries.remove(id);
            if entries.is_empty() {
                self.owners.remove(&id.owner);
            }
        }
        self.take_down(id);
    }

    fn retain(&mut self, owner: &OwnerId, keep: impl Fn(&EntryId, &Value) -> bool) {
        let Some(entries) = self.owners.remove(owner) else { return };
        let mut kept = HashSet::new();
        for id in entries {
            let value = self.rooms.get(&id.channel).and_then(|room| room.entries.get(&id));
            if value.is_some_and(|value| keep(&id, value)) {
                kept.insert(id);
            } else {
                self.take_down(&id);
            }
        }
        if !kept.is_empty() {
            self.owners.insert(owner.clone(), kept);
        }
    }

    /// Removes it from its room and tells the watchers.
    fn take_down(&mut self, id: &EntryId) {
        let Some(room) = self.rooms.get_mut(&id.channel) else { return };
        if let Some(value) = room.entries.remove(id) {
            for queue in watchers(room, &self.tenants, &id.channel.tenant) {
                queue.remove(id, value.revision);
            }
        }
        self.close_if_empty(&id.channel);
    }

    fn unwatch(&mut self, place: &Place, number: u64) {
        match place {
            Place::Channel(channel) => {
                if let Some(room) = self.rooms.get_mut(channel) {
                    room.watchers.remove(&number);
                }
                self.close_if_empty(channel);
            }
            Place::Tenant(tenant) => {
                if let Some(watchers) = self.tenants.get_mut(tenant) {
                    watchers.remove(&number);
                    if watchers.is_empty() {
                        self.tenants.remove(tenant);
                    }
                }
            }
        }
    }

    fn close_if_empty(&mut self, channel: &Channel) {
        if self.rooms.get(channel).is_some_and(|room| room.entries.is_empty() && room.watchers.is_empty()) {
            self.rooms.remove(channel);
        }
    }
}

impl Room {
    fn events(&self) -> impl Iterator<Item = PresenceEvent> {
        self.entries.iter().map(|(id, value)| put_event(id.clone(), value.clone()))
    }
}

/// Those of the room and those of its tenant.
fn watchers<'a>(
    room: &'a Room,
    tenants: &'a HashMap<TenantId, Watchers>,
    tenant: &TenantId,
) -> impl Iterator<Item = &'a Arc<Queue>> {
    room.watchers.values().chain(tenants.get(tenant).into_iter().flat_map(Watchers::values))
}

fn put_event(id: EntryId, value: Value) -> PresenceEvent {
    PresenceEvent::Put { id, value: value.bytes, revision: value.revision }
}

/// Where a watcher is registered.
enum Place {
    Channel(Channel),
    Tenant(TenantId),
}

/// One watcher's stream.
pub(crate) struct Watcher<G> {
    queue: Arc<Queue>,
    board: Weak<Board>,
    place: Place,
    number: u64,
    _guard: G,
}

impl<G: Unpin> Stream for Watcher<G> {
    type Item = PresenceEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PresenceEvent>> {
        self.queue.poll_next(cx)
    }
}

impl<G> Drop for Watcher<G> {
    fn drop(&mut self) {
        if let Some(board) = self.board.upgrade() {
            lock(&board.state).unwatch(&self.place, self.number);
        }
    }
}

#[cfg(test)]
mod tests;
