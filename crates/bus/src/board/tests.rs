use std::collections::BTreeMap;

use futures::{FutureExt as _, StreamExt as _};
use proptest::prelude::*;

use super::*;
use crate::Scope;

fn channel(topic: &str) -> Channel {
    Channel::new("acme".parse().unwrap(), Scope::Public, topic)
}

fn owner(name: &str) -> OwnerId {
    OwnerId::from_token(name).unwrap()
}

fn id(owner_name: &str, key: &str) -> EntryId {
    EntryId { channel: channel("room"), owner: owner(owner_name), key: key.into() }
}

fn value(text: &str, revision: u64) -> Value {
    Value { bytes: text.to_owned().into(), revision }
}

fn put(id: EntryId, text: &str, revision: u64) -> PresenceEvent {
    put_event(id, value(text, revision))
}

fn removed(id: EntryId, revision: u64) -> PresenceEvent {
    PresenceEvent::Removed { id, revision }
}

fn watch(board: &Arc<Board>) -> Watcher<()> {
    board.watch(Watched::Channel(&channel("room")), ())
}

fn read(watcher: &mut Watcher<()>) -> Vec<PresenceEvent> {
    std::iter::from_fn(|| watcher.next().now_or_never().flatten()).collect()
}

#[test]
fn the_state_comes_first_then_changes() {
    let board = Arc::new(Board::default());
    board.put(id("a", "1"), value("x", 1));
    let mut watcher = watch(&board);
    board.put(id("a", "1"), value("y", 2));
    board.put(id("b", "1"), value("z", 3));
    let expected =
        [put(id("a", "1"), "x", 1), PresenceEvent::Current, put(id("a", "1"), "y", 2), put(id("b", "1"), "z", 3)];
    assert_eq!(read(&mut watcher), expected);
    board.remove(&id("a", "1"));
    board.remove(&id("a", "1"));
    assert_eq!(read(&mut watcher), [removed(id("a", "1"), 2)]);
}

#[test]
fn the_same_bytes_are_no_change() {
    let board = Arc::new(Board::default());
    let mut watcher = watch(&board);
    board.put(id("a", "1"), value("x", 1));
    assert_eq!(read(&mut watcher).len(), 2);
    board.put(id("a", "1"), value("x", 2));
    assert_eq!(read(&mut watcher), []);
    board.remove_owner(&owner("a"));
    assert_eq!(read(&mut watcher), [removed(id("a", "1"), 2)]);
}

#[test]
fn what_comes_and_goes_unread_is_not_told_and_leaves_nothing() {
    let board = Arc::new(Board::default());
    let mut watcher = watch(&board);
    for number in 0..1_000 {
        let id = id("a", &number.to_string());
        board.put(id.clone(), value("x", number));
        board.remove(&id);
    }
    assert_eq!(read(&mut watcher), [PresenceEvent::Current]);
    board.put(id("a", "1"), value("x", 1));
    assert_eq!(read(&mut watcher).len(), 1);
    board.remove(&id("a", "1"));
    board.put(id("a", "1"), value("y", 2));
    assert_eq!(read(&mut watcher), [put(id("a", "1"), "y", 2)]);
}

#[test]
fn owners_are_replaced_and_aged() {
    let board = Arc::new(Board::default());
    board.put(id("a", "1"), value("x", 1));
    board.put(id("a", "2"), value("x", 2));
    board.put(id("b", "1"), value("x", 3));
    let mut watcher = watch(&board);
    read(&mut watcher);
    board.replace_owner(&owner("a"), HashMap::from([(id("a", "2"), value("x", 2)), (id("a", "3"), value("x", 4))]));
    assert_eq!(read(&mut watcher), [removed(id("a", "1"), 1), put(id("a", "3"), "x", 4)]);
    board.remove_older(&owner("a"), 4);
    assert_eq!(read(&mut watcher), [removed(id("a", "2"), 2)]);
    board.forget_revisions();
    board.remove_older(&owner("b"), 1);
    assert_eq!(read(&mut watcher), [removed(id("b", "1"), 0)]);
}

#[test]
fn nothing_stays_of_what_is_gone() {
    let board = Arc::new(Board::default());
    let watchers = (watch(&board), board.watch(Watched::Tenant(&"acme".parse().unwrap()), ()));
    board.put(id("a", "1"), value("x", 1));
    board.remove_owner(&owner("a"));
    drop(watchers);
    let state = crate::lock(&board.state);
    assert!(state.rooms.is_empty() && state.owners.is_empty() && state.tenants.is_empty());
}

#[test]
fn a_closed_board_ends_its_watchers() {
    let board = Arc::new(Board::default());
    let mut watcher = watch(&board);
    drop(board);
    assert_eq!(watcher.next().now_or_never(), Some(Some(PresenceEvent::Current)));
    assert_eq!(watcher.next().now_or_never(), Some(None));
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Remove(u8),
    RemoveOwner,
    Read(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8, 0..3u8).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0..6u8).prop_map(Step::Remove),
        1 => Just(Step::RemoveOwner),
        3 => (1..4usize).prop_map(Step::Read),
    ]
}

proptest! {
    /// Whatever is read when, the watcher's own view follows the rules and ends as the board.
    #[test]
    fn a_watcher_converges(steps in prop::collection::vec(step(), 0..60), joins_at in 0..30usize) {
        let board = Arc::new(Board::default());
        let mut truth = BTreeMap::new();
        let mut view = BTreeMap::new();
        let mut watcher = None;
        let mut revision = 0;
        let read_one = |watcher: &mut Watcher<()>, view: &mut BTreeMap<EntryId, Bytes>| {
            match watcher.next().now_or_never().flatten() {
                Some(PresenceEvent::Put { id, value, .. }) => { view.insert(id, value); true }
                Some(PresenceEvent::Removed { id, .. }) => { assert!(view.remove(&id).is_some()); true }
                Some(PresenceEvent::Current) => true,
                None => false,
            }
        };
        for (number, step) in steps.into_iter().enumerate() {
            if number == joins_at {
                watcher = Some(watch(&board));
            }
            match step {
                Step::Put(key, text) => {
                    revision += 1;
                    board.put(id("a", &key.to_string()), value(&text.to_string(), revision));
                    truth.insert(id("a", &key.to_string()), Bytes::from(text.to_string()));
                }
                Step::Remove(key) => {
                    board.remove(&id("a", &key.to_string()));
                    truth.remove(&id("a", &key.to_string()));
                }
                Step::RemoveOwner => {
                    board.remove_owner(&owner("a"));
                    truth.clear();
                }
                Step::Read(count) => {
                    if let Some(watcher) = &mut watcher {
                        for _ in 0..count {
                            read_one(watcher, &mut view);
                        }
                    }
                }
            }
        }
        if let Some(watcher) = &mut watcher {
            while read_one(watcher, &mut view) {}
            prop_assert_eq!(view, truth);
        }
    }
}
