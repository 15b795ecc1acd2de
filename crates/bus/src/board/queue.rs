//! What waits for one watcher: the newest of each entry that it has not been told of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::{Value, put_event};
use crate::{EntryId, PresenceEvent, lock};

/// Never longer than the entries that there are and those that the watcher was told of: an entry waits once, and not at
/// all when it came and went unread.
pub(super) struct Queue {
    state: Mutex<State>,
    reader: AtomicWaker,
}

struct State {
    /// The state at the start, to be read first.
    start: std::vec::IntoIter<PresenceEvent>,
    current_told: bool,
    /// In the order in which they began to wait.
    order: BTreeMap<u64, EntryId>,
    changes: HashMap<EntryId, Change>,
    last: u64,
    closed: bool,
}

struct Change {
    place: u64,
    /// Whether the watcher was told of the entry, as being there.
    known: bool,
    what: What,
}

enum What {
    Put(Value),
    /// With the revision that it had.
    Removed(u64),
}

impl Queue {
    pub(super) fn new(start: Vec<PresenceEvent>) -> Self {
        let state = State {
            start: start.into_iter(),
            current_told: false,
            order: BTreeMap::new(),
            changes: HashMap::new(),
            last: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), reader: AtomicWaker::new() }
    }

    /// `known`: whether the entry was there before.
    pub(super) fn put(&self, id: &EntryId, value: &Value, known: bool) {
        lock(&self.state).change(id, What::Put(value.clone()), known);
        self.reader.wake();
    }

    pub(super) fn remove(&self, id: &EntryId, revision: u64) {
        lock(&self.state).change(id, What::Removed(revision), true);
        self.reader.wake();
    }

    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.reader.wake();
    }

    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<PresenceEvent>> {
        // Before looking, so that what comes after the look wakes.
        self.reader.register(cx.waker());
        let mut state = lock(&self.state);
        match state.next() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl State {
    fn change(&mut self, id: &EntryId, what: What, known: bool) {
        let Some(change) = self.changes.get_mut(id) else {
            self.last += 1;
            self.order.insert(self.last, id.clone());
            self.changes.insert(id.clone(), Change { place: self.last, known, what });
            return;
        };
        let unheard_of = !change.known;
        let gone = matches!(what, What::Removed(_));
        change.what = what;
        if unheard_of && gone {
            self.order.remove(&change.place);
            self.changes.remove(id);
        }
    }

    fn next(&mut self) -> Option<PresenceEvent> {
        if let Some(event) = self.start.next() {
            return Some(event);
        }
        if !self.current_told {
            self.current_told = true;
            self.start = Vec::new().into_iter();
            return Some(PresenceEvent::Current);
        }
        let (_, id) = self.order.pop_first()?;
        let change = self.changes.remove(&id)?;
        Some(match change.what {
            What::Put(value) => put_event(id, value),
            What::Removed(revision) => PresenceEvent::Removed { id, revision },
        })
    }
}
