//! Who is where.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::BoxStream;
use reactor_bus::{BusError, Channel, EntryId, OwnerId, Presence, PresenceEvent, PresenceOwner, Scope, Watched};
use tokio::time::{Instant, timeout};

use super::pubsub::channel;
use super::{SOON, tenant};

/// In which the entries of an owner that died are gone for all.
pub(crate) const GONE_WITHIN: Duration = Duration::from_secs(15);

/// The same presences as two processes see them.
pub(crate) struct Rooms {
    pub(crate) first: Arc<dyn Presence>,
    pub(crate) second: Arc<dyn Presence>,
}

/// A watcher, and what it makes of what it is told.
pub(crate) struct View {
    events: BoxStream<'static, PresenceEvent>,
    pub(crate) entries: BTreeMap<EntryId, Bytes>,
    /// The newest that each entry had.
    revisions: BTreeMap<EntryId, u64>,
}

impl View {
    /// Begins, and reads up to the mark.
    pub(crate) async fn of(presence: &dyn Presence, watched: Watched<'_>) -> Self {
        let mut events = presence.watch(watched).await.unwrap();
        let mut entries = BTreeMap::new();
        let mut revisions = BTreeMap::new();
        loop {
            match timeout(SOON, events.next()).await.expect("no mark in time").expect("the watcher ended") {
                PresenceEvent::Put { id, value, revision } => {
                    assert!(entries.insert(id.clone(), value).is_none(), "an entry came twice in the state");
                    revisions.insert(id, revision);
                }
                PresenceEvent::Removed { id, .. } => panic!("{id:?} was removed in the state"),
                PresenceEvent::Current => return Self { events, entries, revisions },
            }
        }
    }

    pub(crate) async fn of_room(presence: &dyn Presence) -> Self {
        Self::of(presence, Watched::Channel(&channel("room"))).await
    }

    /// Revisions begin anew in a new store.
    pub(crate) fn forget_revisions(&mut self) {
        self.revisions.clear();
    }

    /// The next change; `None` when there is none in this time.
    pub(crate) async fn next(&mut self, within: Duration) -> Option<PresenceEvent> {
        let event = timeout(within, self.events.next()).await.ok()?.expect("the watcher ended");
        match &event {
            PresenceEvent::Put { id, value, revision } => {
                let before = self.revisions.insert(id.clone(), *revision);
                assert!(before.is_none_or(|before| *revision > before), "revision {revision} after {before:?}");
                self.entries.insert(id.clone(), value.clone());
            }
            PresenceEvent::Removed { id, .. } => {
                assert!(self.entries.remove(id).is_some(), "{id:?} was not there");
            }
            PresenceEvent::Current => panic!("a second mark"),
        }
        Some(event)
    }

    pub(crate) async fn put(&mut self) -> (EntryId, Bytes) {
        match self.next(SOON).await {
            Some(PresenceEvent::Put { id, value, .. }) => (id, value),
            other => panic!("no entry came but {other:?}"),
        }
    }

    pub(crate) async fn removed(&mut self) -> EntryId {
        match self.next(SOON).await {
            Some(PresenceEvent::Removed { id, .. }) => id,
            other => panic!("nothing was removed but {other:?}"),
        }
    }

    pub(crate) async fn silence(&mut self, lasting: Duration) {
        let event = self.next(lasting).await;
        assert!(event.is_none(), "unexpected: {event:?}");
    }

    /// Reads until there are as many.
    pub(crate) async fn until(&mut self, count: usize, within: Duration) {
        let deadline = Instant::now() + within;
        while self.entries.len() != count {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.next(left).await;
            assert!(event.is_some(), "{} entries and not {count} after {within:?}", self.entries.len());
        }
    }
}

pub(crate) fn owner(presence: &dyn Presence) -> Arc<dyn PresenceOwner> {
    presence.register(OwnerId::unique("gateway"))
}

pub(crate) fn id(owner: &dyn PresenceOwner, key: &str) -> EntryId {
    EntryId { channel: channel("room"), owner: owner.id().clone(), key: key.into() }
}

/// Puts `key` with itself as the value into the room.
pub(crate) async fn put(owner: &dyn PresenceOwner, key: &str) {
    owner.put(&channel("room"), key, key.to_owned().into()).await.unwrap();
}

/// Puts numbered entries into the room, all at once.
pub(crate) async fn fill(owner: &dyn PresenceOwner, count: usize) {
    let puts = (0..count).map(|number| owner.put(&channel("room"), &number.to_string(), number.to_string().into()));
    try_join_all(puts).await.unwrap();
}

const QUIET: Duration = Duration::from_millis(300);

pub(crate) async fn the_state_comes_first_and_then_changes(rooms: &Rooms) {
    let a = owner(&*rooms.first);
    put(&*a, "1").await;
    let mut near = View::of_room(&*rooms.first).await;
    let mut far = View::of_room(&*rooms.second).await;
    far.until(1, SOON).await;
    near.until(1, SOON).await;
    a.put(&channel("room"), "1", "new".into()).await.unwrap();
    put(&*a, "2").await;
    a.remove(&channel("room"), "1").await.unwrap();
    for view in [&mut near, &mut far] {
        // An entry that changed before it was read may come once.
        while view.entries != BTreeMap::from([(id(&*a, "2"), Bytes::from("2"))]) {
            assert!(view.next(SOON).await.is_some(), "{:?}", view.entries);
        }
        view.silence(QUIET).await;
    }
}

pub(crate) async fn changes_come_in_order_with_owner_and_revision(rooms: &Rooms) {
    let a = owner(&*rooms.first);
    let mut view = View::of_room(&*rooms.second).await;
    for number in 0..50 {
        let value = Bytes::from(number.to_string());
        a.put(&channel("room"), "1", value.clone()).await.unwrap();
        assert_eq!(view.put().await, (id(&*a, "1"), value));
    }
    // Without waiting, the newest is what it ends with, and none comes after a newer one.
    let puts: Vec<_> = (0..200).map(|number| a.put(&channel("room"), "1", number.to_string().into())).collect();
    let mut last = None;
    while last != Some(199) {
        let (_, value) = view.put().await;
        let number = std::str::from_utf8(&value).unwrap().parse::<u32>().unwrap();
        assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
        last = Some(number);
    }
    try_join_all(puts).await.unwrap();
    a.remove(&channel("room"), "1").await.unwrap();
    assert_eq!(view.removed().await, id(&*a, "1"));
}

pub(crate) async fn the_same_value_again_is_no_change(rooms: &Rooms) {
    let a = owner(&*rooms.first);
    let mut view = View::of_room(&*rooms.second).await;
    put(&*a, "1").await;
    put(&*a, "1").await;
    assert_eq!(view.put().await.0, id(&*a, "1"));
    view.silence(QUIET).await;
}

pub(crate) async fn one_key_of_two_owners_is_two_entries(rooms: &Rooms) {
    let (a, b) = (owner(&*rooms.first), owner(&*rooms.second));
    let mut view = View::of_room(&*rooms.first).await;
    put(&*a, "user").await;
    put(&*b, "user").await;
    view.until(2, SOON).await;
    a.remove(&channel("room"), "user").await.unwrap();
    assert_eq!(view.removed().await, id(&*a, "user"));
    view.silence(QUIET).await;
    assert_eq!(View::of_room(&*rooms.second).await.entries.into_keys().collect::<Vec<_>>(), [id(&*b, "user")]);
}

pub(crate) async fn thousands_of_entries_are_one_state(rooms: &Rooms) {
    let (a, b) = (owner(&*rooms.first), owner(&*rooms.second));
    // So that both processes know the tenant, and one more does not.
    let mut early = View::of_room(&*rooms.first).await;
    tokio::join!(fill(&*a, 2_500), fill(&*b, 2_500));
    early.until(5_000, SOON).await;
    let late = View::of_room(&*rooms.second).await;
    assert_eq!(late.entries.len(), 5_000);
    assert_eq!(late.entries, early.entries);
}

pub(crate) async fn channels_are_apart_and_a_tenant_sees_all(rooms: &Rooms) {
    let a = owner(&*rooms.first);
    let channels = [
        channel("room"),
        Channel::new(tenant(), Scope::Private, "room"),
        channel("room.1"),
        Channel::new("other".parse().unwrap(), Scope::Public, "room"),
    ];
    let mut all = View::of(&*rooms.second, Watched::Tenant(&tenant())).await;
    let mut room = View::of_room(&*rooms.second).await;
    for channel in &channels {
        a.put(channel, "1", "x".into()).await.unwrap();
    }
    assert_eq!(room.put().await.0, id(&*a, "1"));
    room.silence(QUIET).await;
    all.until(3, SOON).await;
    all.silence(QUIET).await;
    let state = View::of(&*rooms.first, Watched::Tenant(&tenant())).await;
    assert_eq!(state.entries, all.entries);
}

pub(crate) async fn any_name_is_taken(rooms: &Rooms) {
    let a = owner(&*rooms.first);
    let long = "ä".repeat(300);
    let names = ["", "_", "*", ">", "a.b", " ", "\r\n", "\0", "=41", "/ab", "名前", &long];
    let mut all = View::of(&*rooms.second, Watched::Tenant(&tenant())).await;
    for topic in names {
        for key in names {
            a.put(&channel(topic), key, format!("{topic}\n{key}").into()).await.unwrap();
        }
    }
    all.until(names.len() * names.len(), SOON).await;
    for (id, value) in &all.entries {
        assert_eq!(*value, format!("{}\n{}", id.channel.topic, id.key));
    }
    for topic in names {
        let view = View::of(&*rooms.first, Watched::Channel(&channel(topic))).await;
        assert_eq!(view.entries.len(), names.len(), "{topic}");
        for key in names {
            a.remove(&channel(topic), key).await.unwrap();
        }
    }
    all.until(0, SOON).await;
}

pub(crate) async fn too_large_values_are_refused(rooms: &Rooms) {
    let a = owner(&*rooms.first);
    let most = rooms.first.max_value_bytes();
    let refused = a.put(&channel("room"), "1", vec![b'x'; most + 1].into()).await;
    assert!(matches!(refused, Err(BusError::TooLarge(_))), "{refused:?}");
    a.put(&channel("room"), "1", vec![b'x'; most - 500].into()).await.unwrap();
    assert_eq!(View::of_room(&*rooms.second).await.entries.len(), 1);
}

pub(crate) async fn removing_what_is_not_there_is_no_error(rooms: &Rooms) {
    let a = owner(&*rooms.first);
    a.remove(&channel("room"), "1").await.unwrap();
    put(&*a, "1").await;
    a.remove(&channel("room"), "1").await.unwrap();
    a.remove(&channel("room"), "1").await.unwrap();
    assert!(View::of_room(&*rooms.second).await.entries.is_empty());
}

pub(crate) async fn an_owner_that_leaves_takes_all_with_it(rooms: &Rooms) {
    let (a, b) = (owner(&*rooms.first), owner(&*rooms.second));
    let mut view = View::of_room(&*rooms.second).await;
    fill(&*a, 100).await;
    put(&*b, "b").await;
    view.until(101, SOON).await;
    a.leave().await.unwrap();
    view.until(1, Duration::from_secs(2)).await;
    let refused = a.put(&channel("room"), "1", "x".into()).await;
    assert!(matches!(refused, Err(BusError::Unavailable(..))), "{refused:?}");
    assert_eq!(View::of_room(&*rooms.first).await.entries.into_keys().collect::<Vec<_>>(), [id(&*b, "b")]);
}

pub(crate) async fn an_owner_that_dies_is_gone_for_all(rooms: &Rooms) {
    let (a, b) = (owner(&*rooms.first), owner(&*rooms.second));
    let mut views = [View::of_room(&*rooms.first).await, View::of_room(&*rooms.second).await];
    fill(&*a, 100).await;
    put(&*b, "b").await;
    for view in &mut views {
        view.until(101, SOON).await;
    }
    drop(a);
    let died = Instant::now();
    for view in &mut views {
        view.until(1, GONE_WITHIN.saturating_sub(died.elapsed())).await;
        view.silence(QUIET).await;
    }
    assert_eq!(View::of_room(&*rooms.first).await.entries.into_keys().collect::<Vec<_>>(), [id(&*b, "b")]);
}

/// Watchers that begin while everything changes end with the same as all others.
pub(crate) async fn joining_while_others_come_and_go(rooms: &Rooms) {
    let owners = [owner(&*rooms.first), owner(&*rooms.second)];
    let churn = owners.iter().enumerate().map(|(number, owner)| async move {
        for round in 0..40 {
            let puts = (0..25).map(|key| owner.put(&channel("room"), &key.to_string(), round.to_string().into()));
            let puts = try_join_all(puts);
            let removals = (0..25).filter(|key| (key + round + number) % 2 == 0);
            let removals = try_join_all(removals.map(|key| owner.remove(&channel("room"), &key.to_string())));
            tokio::try_join!(puts, removals).unwrap();
        }
    });
    let join = async {
        let mut views = Vec::new();
        for number in 0..30 {
            let presence = if number % 2 == 0 { &rooms.first } else { &rooms.second };
            views.push(View::of_room(&**presence).await);
        }
        views
    };
    let (_, mut views) = tokio::join!(futures::future::join_all(churn), join);
    put(&*owners[0], "last of the first").await;
    put(&*owners[1], "last of the second").await;
    for view in &mut views {
        while !(view.entries.contains_key(&id(&*owners[0], "last of the first"))
            && view.entries.contains_key(&id(&*owners[1], "last of the second")))
        {
            assert!(view.next(SOON).await.is_some());
        }
    }
    let whole = View::of_room(&*rooms.first).await.entries;
    for view in &views {
        assert_eq!(view.entries, whole);
    }
}
