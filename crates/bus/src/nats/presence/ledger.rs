//! Which entries count: those of owners that have a lease. No IO, no clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::feed::Item;
use super::names::Change;
use crate::board::{Board, Value};
use crate::{EntryId, OwnerId};

/// How long an owner without a lease is shown after the connection to the stream came back. Leases lapse while the
/// server is away, and their owners need a moment to return as well.
const GRACE: Duration = Duration::from_secs(5);
/// When several owners have leases and nothing is heard of any for this long, more than two renewals of each are missing: it
/// is the store that stood still, as servers do while they choose a leader. That is as if the server had been away.
const STANDSTILL: Duration = Duration::from_secs(5);

/// Puts on the board what is read from the stream.
pub(super) struct Ledger {
    board: Arc<Board>,
    owners: HashMap<OwnerId, Owner>,
    /// While the whole state is being read.
    reading: Option<Reading>,
    /// Whether the whole state was ever read.
    complete: bool,
    /// When something was last read.
    heard: Instant,
    grace_until: Option<Instant>,
}

#[derive(Default)]
struct Owner {
    standing: Standing,
    /// Entries of before this revision are void.
    since: u64,
    /// Entries that were read while it had no lease. The owner may be about to come back, and writes all anew when it
    /// does; or somebody sweeps them.
    aside: Entries,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    /// Has a lease.
    Alive,
    /// Has none, and is shown until then all the same.
    Held(Instant),
    #[default]
    Unseen,
}

type Entries = HashMap<EntryId, Value>;

#[derive(Default)]
struct Reading {
    another: bool,
    leases: HashMap<OwnerId, u64>,
    entries: HashMap<OwnerId, Entries>,
}

impl Ledger {
    pub(super) fn new(board: Arc<Board>, now: Instant) -> Self {
        Self { board, owners: HashMap::new(), reading: None, complete: false, heard: now, grace_until: None }
    }

    pub(super) fn handle(&mut self, item: Item, now: Instant) {
        let silence = now.saturating_duration_since(std::mem::replace(&mut self.heard, now));
        if silence >= STANDSTILL
            && self.owners.values().filter(|owner| owner.standing == Standing::Alive).nth(1).is_some()
        {
            self.grace_until = Some(now + GRACE);
        }
        match (item, &mut self.reading) {
            (Item::Begin { another }, reading) => {
                // One that was cut off may have been in another store already.
                let another = another || reading.as_ref().is_some_and(|reading| reading.another);
                *reading = Some(Reading { another, ..Reading::default() });
            }
            (Item::Change(change, _), Some(reading)) => reading.note(change),
            (Item::Change(change, _), None) => self.apply(change, now),
            (Item::Complete, reading) => {
                if let Some(reading) = reading.take() {
                    self.adopt(reading, now);
                }
            }
        }
    }

    /// When [`Ledger::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let held = self.owners.values().filter_map(|owner| match owner.standing {
            Standing::Held(until) => Some(until),
            Standing::Alive | Standing::Unseen => None,
        });
        held.min()
    }

    /// Takes down owners whose grace is over.
    pub(super) fn expire(&mut self, now: Instant) {
        for (id, owner) in &mut self.owners {
            if matches!(owner.standing, Standing::Held(until) if until <= now) {
                owner.standing = Standing::Unseen;
                self.board.remove_owner(id);
            }
        }
    }

    fn apply(&mut self, change: Change, now: Instant) {
        match change {
            Change::Owner { .. } => {}
            Change::OwnerGone(owner) => self.forget(&owner),
            Change::Lease { owner, since } => self.revive(owner, since),
            Change::LeaseGone { owner, lapsed } => match self.grace_until {
                Some(until) if lapsed && now < until => self.hold(&owner, until),
                // What comes back writes all of it anew.
                _ => self.forget(&owner),
            },
            Change::Put(id, value) => {
                let owner = self.owners.entry(id.owner.clone()).or_default();
                match owner.standing {
                    Standing::Alive => self.board.put(id, value),
                    Standing::Held(_) | Standing::Unseen => drop(owner.aside.insert(id, value)),
                }
            }
            Change::Removed(id) => {
                self.board.remove(&id);
                if let Some(owner) = self.owners.get_mut(&id.owner) {
                    owner.aside.remove(&id);
                }
            }
        }
    }

    /// There is a lease. What was put aside counts from now on.
    fn revive(&mut self, id: OwnerId, since: u64) {
        let owner = self.owners.entry(id.clone()).or_default();
        owner.standing = Standing::Alive;
        for (entry, value) in owner.aside.drain().filter(|(_, value)| value.revision >= since) {
            self.board.put(entry, value);
        }
        if since > owner.since {
            owner.since = since;
            self.board.remove_older(&id, since);
        }
    }

    fn hold(&mut self, id: &OwnerId, until: Instant) {
        if let Some(owner) = self.owners.get_mut(id)
            && owner.standing == Standing::Alive
        {
            owner.standing = Standing::Held(until);
        }
    }

    fn forget(&mut self, id: &OwnerId) {
        self.board.remove_owner(id);
        self.owners.remove(id);
    }

    /// The whole state was read: what is different on the board is changed.
    fn adopt(&mut self, mut reading: Reading, now: Instant) {
        if reading.another {
            self.board.forget_revisions();
        }
        let grace = self.complete.then(|| now + GRACE);
        let mut before = std::mem::take(&mut self.owners);
        for (id, since) in reading.leases {
            let entries = reading.entries.remove(&id).unwrap_or_default();
            before.remove(&id);
            if since == 0 {
                // It is writing its entries anew, and says when it has.
                for (entry, value) in entries {
                    self.board.put(entry, value);
                }
            } else {
                let valid = entries.into_iter().filter(|(_, value)| value.revision >= since);
                self.board.replace_owner(&id, valid.collect());
            }
            self.owners.insert(id, Owner { standing: Standing::Alive, since, aside: Entries::new() });
        }
        for (id, owner) in before {
            let standing = match (owner.standing, grace) {
                (Standing::Alive, Some(until)) => Standing::Held(until),
                (standing @ Standing::Held(_), _) => standing,
                (Standing::Alive, None) | (Standing::Unseen, _) => Standing::Unseen,
            };
            let aside = reading.entries.remove(&id).unwrap_or_default();
            if standing != Standing::Unseen || !aside.is_empty() {
                self.owners.insert(id, Owner { standing, since: 0, aside });
            }
        }
        for (id, aside) in reading.entries {
            self.owners.insert(id, Owner { aside, ..Owner::default() });
        }
        self.grace_until = grace;
        self.complete = true;
    }
}

impl Reading {
    fn note(&mut self, change: Change) {
        match change {
            Change::Owner { .. } => {}
            Change::OwnerGone(owner) => {
                self.leases.remove(&owner);
                self.entries.remove(&owner);
            }
            Change::Lease { owner, since } => {
                self.leases.insert(owner, since);
            }
            Change::LeaseGone { owner, .. } => {
                self.leases.remove(&owner);
            }
            Change::Put(id, value) => {
                self.entries.entry(id.owner.clone()).or_default().insert(id, value);
            }
            Change::Removed(id) => {
                if let Some(entries) = self.entries.get_mut(&id.owner) {
                    entries.remove(&id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;
    use crate::board::Watcher;
    use crate::{Channel, PresenceEvent, Scope, Watched};

    struct Bench {
        ledger: Ledger,
        watcher: Watcher<()>,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let board = Arc::new(Board::default());
            let watcher = board.watch(Watched::Tenant(&"acme".parse().unwrap()), ());
            let now = Instant::now();
            let mut bench = Self { ledger: Ledger::new(board, now), watcher, now };
            bench.read();
            bench
        }

        fn say(&mut self, change: Change) {
            self.ledger.handle(Item::Change(change, 0), self.now);
        }

        /// Reads the whole state.
        fn state(&mut self, another: bool, changes: Vec<Change>) {
            self.ledger.handle(Item::Begin { another }, self.now);
            for change in changes {
                self.say(change);
            }
            self.ledger.handle(Item::Complete, self.now);
        }

        fn after(&mut self, secs: u64) {
            self.now += Duration::from_secs(secs);
            self.ledger.expire(self.now);
        }

        /// What watchers were told, as `+` or `-` and `owner/key`.
        fn read(&mut self) -> Vec<String> {
            let events = std::iter::from_fn(|| self.watcher.next().now_or_never().flatten());
            let mut told: Vec<String> = events
                .filter_map(|event| match event {
                    PresenceEvent::Put { id, value, .. } => {
                        Some(format!("+{}/{}={}", id.owner, id.key, String::from_utf8_lossy(&value)))
                    }
                    PresenceEvent::Removed { id, .. } => Some(format!("-{}/{}", id.owner, id.key)),
                    PresenceEvent::Current => None,
                })
                .collect();
            told.sort();
            told
        }
    }

    fn owner(name: &str) -> OwnerId {
        OwnerId::from_token(name).unwrap()
    }

    fn id(name: &str, key: &str) -> EntryId {
        let channel = Channel::new("acme".parse().unwrap(), Scope::Public, "room");
        EntryId { channel, owner: owner(name), key: key.into() }
    }

    fn put(name: &str, key: &str, revision: u64) -> Change {
        Change::Put(id(name, key), Value { bytes: "x".into(), revision })
    }

    fn lease(name: &str, since: u64) -> Change {
        Change::Lease { owner: owner(name), since }
    }

    fn lapse(name: &str) -> Change {
        Change::LeaseGone { owner: owner(name), lapsed: true }
    }

    #[test]
    fn only_owners_with_a_lease_are_shown() {
        let mut bench = Bench::new();
        bench.state(false, vec![put("a", "1", 3), put("b", "1", 4), lease("a", 1)]);
        assert_eq!(bench.read(), ["+a/1=x"]);
        bench.say(lease("b", 2));
        assert_eq!(bench.read(), ["+b/1=x"]);
        bench.say(lapse("a"));
        bench.say(put("a", "2", 9));
        assert_eq!(bench.read(), ["-a/1"]);
        bench.say(Change::OwnerGone(owner("a")));
        bench.say(lapse("a"));
        assert!(!bench.ledger.owners.contains_key(&owner("a")));
    }

    #[test]
    fn a_lease_that_lapsed_while_the_server_was_away_has_a_grace() {
        let mut bench = Bench::new();
        bench.state(false, vec![put("a", "1", 3), put("b", "1", 4), lease("a", 1), lease("b", 2)]);
        bench.read();
        bench.after(60);
        bench.state(false, vec![put("a", "1", 3), put("b", "1", 4), lease("b", 2)]);
        bench.say(lapse("b"));
        assert_eq!(bench.read(), Vec::<String>::new());
        bench.after(3);
        bench.say(lease("a", 0));
        bench.after(3);
        assert_eq!(bench.read(), ["-b/1"]);
        assert_eq!(bench.ledger.deadline(), None);
    }

    #[test]
    fn leases_that_lapsed_while_the_store_stood_still_have_a_grace() {
        let mut bench = Bench::new();
        bench.state(false, vec![put("a", "1", 3), put("b", "1", 4), lease("a", 1), lease("b", 2)]);
        bench.read();
        bench.after(10);
        bench.say(lapse("a"));
        bench.say(lapse("b"));
        bench.after(2);
        bench.say(lease("a", 0));
        assert_eq!(bench.read(), Vec::<String>::new());
        bench.after(4);
        assert_eq!(bench.read(), ["-b/1"]);
    }

    #[test]
    fn a_lease_that_lapses_while_others_are_heard_of_has_none() {
        let mut bench = Bench::new();
        bench.state(false, vec![put("a", "1", 3), put("b", "1", 4), lease("a", 1), lease("b", 2)]);
        bench.read();
        for _ in 0..5 {
            bench.after(2);
            bench.say(lease("a", 1));
        }
        bench.say(lapse("b"));
        assert_eq!(bench.read(), ["-b/1"]);
        // The only one that is left may be silent because it is gone.
        bench.after(10);
        bench.say(lapse("a"));
        assert_eq!(bench.read(), ["-a/1"]);
    }

    #[test]
    fn an_owner_that_left_has_no_grace() {
        let mut bench = Bench::new();
        bench.state(false, vec![put("a", "1", 3), lease("a", 1)]);
        bench.state(false, vec![put("a", "1", 3), lease("a", 1)]);
        bench.read();
        bench.say(Change::LeaseGone { owner: owner("a"), lapsed: false });
        assert_eq!(bench.read(), ["-a/1"]);
    }

    #[test]
    fn what_an_owner_does_not_write_anew_is_void_when_it_says_so() {
        let mut bench = Bench::new();
        bench.state(false, vec![put("a", "1", 3), put("a", "2", 4), lease("a", 1)]);
        bench.read();
        bench.state(false, vec![put("a", "1", 3), put("a", "2", 4)]);
        bench.say(lease("a", 0));
        bench.say(put("a", "2", 11));
        assert_eq!(bench.read(), Vec::<String>::new());
        bench.say(lease("a", 10));
        assert_eq!(bench.read(), ["-a/1"]);
    }

    #[test]
    fn an_empty_store_is_filled_anew_without_a_word() {
        let mut bench = Bench::new();
        bench.state(
            false,
            vec![put("a", "1", 300), put("a", "2", 400), put("b", "1", 500), lease("a", 100), lease("b", 100)],
        );
        bench.read();
        bench.state(true, vec![]);
        bench.say(lease("a", 0));
        bench.say(put("a", "1", 3));
        assert_eq!(bench.read(), Vec::<String>::new());
        bench.say(lease("a", 2));
        assert_eq!(bench.read(), ["-a/2"]);
        bench.after(10);
        assert_eq!(bench.read(), ["-b/1"]);
    }

    #[test]
    fn a_state_that_is_cut_off_changes_nothing() {
        let mut bench = Bench::new();
        bench.state(false, vec![put("a", "1", 300), lease("a", 100)]);
        bench.read();
        bench.ledger.handle(Item::Begin { another: true }, bench.now);
        bench.say(put("a", "7", 1));
        bench.ledger.handle(Item::Begin { another: false }, bench.now);
        bench.say(put("a", "1", 3));
        bench.say(lease("a", 2));
        assert_eq!(bench.read(), Vec::<String>::new());
        bench.ledger.handle(Item::Complete, bench.now);
        assert_eq!(bench.read(), Vec::<String>::new());
    }

    #[test]
    fn what_was_removed_meanwhile_is_gone() {
        let mut bench = Bench::new();
        bench.state(false, vec![put("a", "1", 3), put("a", "2", 4), lease("a", 1)]);
        bench.read();
        bench.state(false, vec![put("a", "2", 4), Change::Removed(id("a", "1")), lease("a", 1)]);
        assert_eq!(bench.read(), ["-a/1"]);
    }
}
