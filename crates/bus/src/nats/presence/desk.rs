//! What an owner wants to be stored, and how far that has come. No IO.
//!
//! Each entry is written until its newest value is; values that were replaced before they were written never are. So
//! there is one way for a new entry, a failed write and a lost store.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use crate::{EntryId, lock};

/// Shared by the owner's handle and the task that writes. As long as the entries that the owner has, and the removals
/// that are not stored yet.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    slots: HashMap<EntryId, Slot>,
    /// Entries to be written, each once.
    queue: VecDeque<EntryId>,
    last_version: u64,
    /// Slots that have not been written since everything was to be written anew.
    unconfirmed: usize,
    left: bool,
}

struct Slot {
    content: Content,
    /// Of the newest content.
    version: u64,
    queued: bool,
    confirmed: bool,
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

/// What a slot is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// The encoded entry.
    pub(super) payload: Bytes,
    pub(super) removed: bool,
}

/// Something to be written.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: EntryId,
    pub(super) content: Content,
    pub(super) version: u64,
}

impl Desk {
    /// Resolves when this content, or what replaced it, is stored. `None` when the owner has left.
    pub(super) fn set(&self, id: EntryId, content: Content) -> Option<oneshot::Receiver<()>> {
        let (stored, waiting) = oneshot::channel();
        let mut state = lock(&self.state);
        if state.left {
            return None;
        }
        let known = state.slots.contains_key(&id);
        if content.removed && !known {
            // There is nothing to remove.
            let _ = stored.send(());
            return Some(waiting);
        }
        state.set(id, content, stored);
        drop(state);
        self.changed.notify_one();
        Some(waiting)
    }

    /// Nothing more is taken.
    pub(super) fn leave(&self) {
        lock(&self.state).left = true;
    }

    /// Resolves when something was set since it resolved last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn next_job(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        while let Some(id) = state.queue.pop_front() {
            if let Some(slot) = state.slots.get_mut(&id) {
                slot.queued = false;
                let (content, version) = (slot.content.clone(), slot.version);
                return Some(Job { id, content, version });
            }
        }
        None
    }

    /// This version is stored.
    pub(super) fn stored(&self, id: &EntryId, version: u64) {
        lock(&self.state).stored(id, version);
    }

    /// It is unknown whether it is stored: it is written again.
    pub(super) fn failed(&self, id: &EntryId) {
        lock(&self.state).enqueue(id);
    }

    /// Everything is to be written anew. Writes that are on the way must not be reported any more.
    pub(super) fn write_all_anew(&self) {
        let mut state = lock(&self.state);
        let ids: Vec<EntryId> = state.slots.keys().cloned().collect();
        state.unconfirmed = ids.len();
        for id in ids {
            state.enqueue(&id);
            if let Some(slot) = state.slots.get_mut(&id) {
                slot.confirmed = false;
            }
        }
    }

    /// Whether all has been written since everything was to be written anew.
    pub(super) fn is_settled(&self) -> bool {
        lock(&self.state).unconfirmed == 0
    }
}

impl State {
    fn set(&mut self, id: EntryId, content: Content, stored: oneshot::Sender<()>) {
        self.last_version += 1;
        let version = self.last_version;
        let fresh = || Slot { content: content.clone(), version, queued: false, confirmed: true, waiting: Vec::new() };
        let slot = self.slots.entry(id.clone()).or_insert_with(fresh);
        slot.content = content;
        slot.version = version;
        // Of those who no longer wait, none is kept.
        slot.waiting.retain(|(_, waiting)| !waiting.is_closed());
        slot.waiting.push((version, stored));
        self.enqueue(&id);
    }

    fn enqueue(&mut self, id: &EntryId) {
        if let Some(slot) = self.slots.get_mut(id)
            && !slot.queued
        {
            slot.queued = true;
            self.queue.push_back(id.clone());
        }
    }

    fn stored(&mut self, id: &EntryId, version: u64) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if !slot.confirmed {
            slot.confirmed = true;
            self.unconfirmed -= 1;
        }
        for (_, waiting) in slot.waiting.extract_if(.., |(wanted, _)| *wanted <= version) {
            // Nobody may be waiting any more.
            let _ = waiting.send(());
        }
        if slot.content.removed && slot.version == version {
            self.slots.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, OwnerId, Scope};

    fn id(key: &str) -> EntryId {
        let channel = Channel::new("acme".parse().unwrap(), Scope::Public, "room");
        EntryId { channel, owner: OwnerId::from_token("gw-1").unwrap(), key: key.into() }
    }

    fn content(text: &'static str) -> Content {
        Content { payload: text.into(), removed: false }
    }

    fn removal() -> Content {
        Content { payload: Bytes::new(), removed: true }
    }

    #[test]
    fn each_entry_is_written_once_with_its_newest_value() {
        let desk = Desk::default();
        let mut first = desk.set(id("1"), content("a")).unwrap();
        desk.set(id("2"), content("b")).unwrap();
        let mut second = desk.set(id("1"), content("c")).unwrap();
        let job = desk.next_job().unwrap();
        assert_eq!((job.id.clone(), job.content), (id("1"), content("c")));
        assert_eq!(desk.next_job().unwrap().id, id("2"));
        assert!(desk.next_job().is_none());
        assert!(first.try_recv().is_err());
        desk.stored(&job.id, job.version);
        first.try_recv().unwrap();
        second.try_recv().unwrap();
    }

    #[test]
    fn a_value_that_came_while_another_was_on_the_way_is_written_too() {
        let desk = Desk::default();
        desk.set(id("1"), content("a")).unwrap();
        let job = desk.next_job().unwrap();
        let mut second = desk.set(id("1"), removal()).unwrap();
        desk.stored(&job.id, job.version);
        assert!(second.try_recv().is_err());
        let job = desk.next_job().unwrap();
        assert!(job.content.removed);
        desk.stored(&job.id, job.version);
        second.try_recv().unwrap();
        assert!(lock(&desk.state).slots.is_empty());
    }

    #[test]
    fn what_failed_is_written_again() {
        let desk = Desk::default();
        desk.set(id("1"), content("a")).unwrap();
        let job = desk.next_job().unwrap();
        desk.failed(&job.id);
        desk.failed(&job.id);
        assert_eq!(desk.next_job().unwrap().version, job.version);
        assert!(desk.next_job().is_none());
    }

    #[test]
    fn it_is_settled_when_all_is_written_anew() {
        let desk = Desk::default();
        for key in ["1", "2"] {
            desk.set(id(key), content("a")).unwrap();
            let job = desk.next_job().unwrap();
            desk.stored(&job.id, job.version);
        }
        assert!(desk.is_settled());
        desk.write_all_anew();
        desk.set(id("3"), content("a")).unwrap();
        desk.set(id("2"), removal()).unwrap();
        assert!(!desk.is_settled());
        for _ in 0..3 {
            let job = desk.next_job().unwrap();
            desk.stored(&job.id, job.version);
        }
        assert!(desk.is_settled());
        assert_eq!(lock(&desk.state).slots.len(), 2);
    }

    #[test]
    fn removing_nothing_writes_nothing() {
        let desk = Desk::default();
        desk.set(id("1"), removal()).unwrap().try_recv().unwrap();
        assert!(desk.next_job().is_none());
        desk.leave();
        assert!(desk.set(id("1"), content("a")).is_none());
    }
}
