//! Sets: kept by the changes of their table, in order.

use reactor_model::filter::Truth;
use reactor_policy_engine::{MemberMode, MemberRow};

use super::*;

/// `members(id int4 primary key, user_id text, room_id text)`.
fn members(identity: ReplicaIdentity) -> Arc<Relation> {
    let todos = relation(identity);
    let mut members = Relation { oid: 2, table_oid: 2, table: "members".into(), ..(*todos).clone() };
    members.columns[1].name = "user_id".into();
    members.columns[2].name = "room_id".into();
    Arc::new(members)
}

/// `select room_id from members where user_id = user`.
fn rooms_of(user: &str) -> MemberSet {
    MemberSet {
        id: "s".into(),
        schema: "public".into(),
        table: "members".into(),
        table_oid: 2,
        keys: vec!["room_id".into()],
        identity: vec!["id".into()],
        condition: Predicate::Compare { operator: Comparator::Eq, left: column("user_id"), right: text(user) },
    }
}

/// `org_id in (…)`: rows of todos whose org is one of the user's rooms.
fn in_rooms_of(user: &str) -> SubscriptionKey {
    let member = Predicate::Member { set: 0, values: vec![column("org_id")], mode: MemberMode::In };
    SubscriptionKey { policy: policy(member, vec![rooms_of(user)]), ..everything() }
}

fn member_row(id: &str, room: &str) -> MemberRow {
    MemberRow { identity: vec![Some(id.into())], keys: vec![Some(room.into())] }
}

impl Fixture {
    /// Holds the sets of a subscription and loads them.
    fn load(&mut self, key: &SubscriptionKey, rows: &[MemberRow]) -> SetId {
        let (id, _) = self.hub.hold_set(&key.policy.sets()[0], |_, _| Vec::new());
        if self.hub.is_loading(id) {
            self.hub.install_set(id, rows).expect("it is kept");
        }
        id
    }

    fn join_with(&mut self, key: SubscriptionKey, rows: &[MemberRow]) -> Member {
        self.load(&key, rows);
        self.join(vec![(None, key)])
    }

    /// Changes of `members` at this position.
    fn members(&mut self, lsn: u64, changes: Vec<Change>) -> Delivered {
        self.deliver(&batch(&members(ReplicaIdentity::Default), 2, lsn, changes))
    }

    fn message(&mut self, lsn: u64, id: &str, room: &str) {
        self.deliver(&batch(&relation(ReplicaIdentity::Default), 1, lsn, vec![insert(id, room, "x")]));
    }
}

fn removed(id: &str) -> Change {
    let key = Tuple::from_values([Datum::Text(id.as_bytes()), Datum::Null, Datum::Null]);
    change(ChangeKind::Delete, OldImage::Key(key), None)
}

fn updated(id: &str, user: &str, room: &str) -> Change {
    change(ChangeKind::Update, OldImage::None, Some(row(id, user, room)))
}

#[test]
fn who_is_added_sees_the_next_message_and_who_is_removed_does_not() {
    let mut fixture = Fixture::new();
    let ann = fixture.join_with(in_rooms_of("ann"), &[member_row("1", "a")]);
    let bob = fixture.join_with(in_rooms_of("bob"), &[]);
    fixture.message(10, "1", "a");
    fixture.members(11, vec![insert("2", "bob", "a"), insert("3", "ann", "b")]);
    fixture.message(12, "2", "a");
    fixture.message(13, "3", "b");
    fixture.members(14, vec![removed("1")]);
    fixture.message(15, "4", "a");
    // The row of bob's membership moves to another room, then to ann.
    fixture.members(16, vec![updated("2", "bob", "c")]);
    fixture.message(17, "5", "a");
    fixture.message(18, "6", "c");
    fixture.members(19, vec![updated("2", "ann", "c")]);
    fixture.message(20, "7", "c");
    fixture.members(21, vec![change(ChangeKind::Truncate, OldImage::None, None)]);
    fixture.message(22, "8", "b");
    assert_eq!(ids(&ann), [1, 2, 3, 7]);
    assert_eq!(ids(&bob), [2, 4, 6]);
}

#[test]
fn a_key_that_changes_and_a_value_that_is_there_twice() {
    let mut fixture = Fixture::new();
    let ann = fixture.join_with(in_rooms_of("ann"), &[member_row("1", "a"), member_row("2", "a")]);
    fixture.members(10, vec![removed("1")]);
    fixture.message(11, "1", "a");
    let old = Tuple::from_values([Datum::Text(b"2"), Datum::Null, Datum::Null]);
    fixture.members(12, vec![change(ChangeKind::Update, OldImage::Key(old), Some(row("9", "ann", "a")))]);
    fixture.message(13, "2", "a");
    fixture.members(14, vec![removed("2")]);
    fixture.message(15, "3", "a");
    fixture.members(16, vec![removed("9")]);
    fixture.message(17, "4", "a");
    assert_eq!(ids(&ann), [1, 2, 3]);
}

#[test]
fn nulls_and_absence_are_as_in_sql() {
    let negated = |mode| {
        let member = Predicate::Member { set: 0, values: vec![column("org_id")], mode };
        let not = Predicate::Not(Box::new(member));
        SubscriptionKey { policy: policy(not, vec![rooms_of("ann")]), ..everything() }
    };
    let null = MemberRow { identity: vec![Some("2".into())], keys: vec![None] };
    let mut fixture = Fixture::new();
    let not_in = fixture.join_with(negated(MemberMode::In), &[member_row("1", "a"), null]);
    let not_exists = fixture.join_with(negated(MemberMode::Exists), &[]);
    fixture.message(10, "1", "a");
    fixture.message(11, "2", "b");
    fixture.members(12, vec![removed("2")]);
    fixture.message(13, "3", "b");
    assert_eq!(ids(&not_in), [3]);
    assert_eq!(ids(&not_exists), [2, 3]);
}

#[test]
fn a_set_is_loaded_before_its_connection_joins_and_dropped_with_its_last() {
    let mut fixture = Fixture::new();
    let key = in_rooms_of("ann");
    let member = fixture.member(vec![(None, key.clone())]);
    assert_eq!(fixture.hub.attach(member.clone()), Err(NotLoaded));
    let (id, _) = fixture.hub.hold_set(&key.policy.sets()[0], |_, _| Vec::new());
    assert_eq!(fixture.hub.attach(member.clone()), Err(NotLoaded));
    // What happens while it is read is not lost, whether the reading saw it or not.
    fixture.members(10, vec![insert("1", "ann", "a"), insert("2", "ann", "b"), insert("3", "bob", "c")]);
    fixture.members(11, vec![removed("1")]);
    fixture.hub.install_set(id, &[member_row("1", "a")]).expect("it is kept");
    fixture.hub.attach(member.clone()).expect("it is loaded");
    let again = fixture.load(&key, &[]);
    assert_eq!(again, id, "equal sets are one");
    for (lsn, room) in [(12, "a"), (13, "b"), (14, "c")] {
        fixture.message(lsn, &lsn.to_string(), room);
    }
    assert_eq!(ids(&member), [13]);
    fixture.hub.detach(member.conn);
    fixture.hub.release_set(id);
    assert!(!fixture.hub.is_empty());
    fixture.hub.release_set(id);
    assert!(fixture.hub.is_empty());
}

#[test]
fn what_is_in_the_log_but_was_not_seen_yet_is_applied_to_what_was_read() {
    let mut fixture = Fixture::new();
    let key = in_rooms_of("ann");
    let decoded =
        Arc::new(batch(&members(ReplicaIdentity::Default), 2, 5, vec![insert("1", "ann", "a"), removed("2")]));
    fixture.hub.set_head(EventId { epoch: Epoch(1), position: decoded.last });
    let (id, _) = fixture.hub.hold_set(&key.policy.sets()[0], |_, _| vec![Arc::clone(&decoded)]);
    fixture.hub.install_set(id, &[member_row("2", "b")]).expect("it is kept");
    let ann = fixture.join(vec![(None, key)]);
    fixture.message(12, "1", "a");
    fixture.message(13, "2", "b");
    assert_eq!(ids(&ann), [1]);
}

#[tokio::test]
async fn connections_leave_when_a_set_is_not_known_any_more() {
    let mut altered = (*members(ReplicaIdentity::Default)).clone();
    altered.columns[2].name = "chat_id".into();
    let mut secured = (*members(ReplicaIdentity::Default)).clone();
    secured.row_security = true;
    let unsent = Tuple::from_values([Datum::Text(b"1"), Datum::Unchanged, Datum::Text(b"a")]);
    let unsent = change(ChangeKind::Update, OldImage::None, Some(unsent));
    for (table, fingerprint, change) in [
        (Arc::new(altered), 3, insert("2", "bob", "a")),
        (Arc::new(secured), 4, insert("2", "bob", "a")),
        (members(ReplicaIdentity::Default), 2, unsent),
    ] {
        let mut fixture = Fixture::new();
        let ann = fixture.join_with(in_rooms_of("ann"), &[member_row("1", "a")]);
        let all = fixture.join(vec![(None, everything())]);
        fixture.members(10, vec![insert("5", "carl", "a")]);
        fixture.message(11, "1", "a");
        let delivered = fixture.deliver(&batch(&table, fingerprint, 12, vec![change]));
        assert_eq!(delivered.behind, [Cause::Sets]);
        fixture.message(13, "2", "a");
        assert_eq!((ids(&ann), ids(&all)), (vec![1], vec![1, 2]));
        let left = ann.behind.wait().await;
        assert_eq!((left.after.position.lsn, left.cause), (Lsn(11), Cause::Sets));
        assert_eq!(fixture.hub.attach(ann), Err(NotLoaded));
    }
}

#[test]
fn lost_history_takes_the_sets_with_it() {
    let mut fixture = Fixture::new();
    fixture.join_with(in_rooms_of("ann"), &[member_row("1", "a")]);
    fixture.join(vec![(None, everything())]);
    let newest = EventId { epoch: Epoch(1), position: Position { lsn: Lsn(50), ordinal: 0 } };
    let delivered = fixture.hub.resync(&Resync { reason: "gap", oldest: None, newest });
    assert_eq!((delivered.frames, delivered.behind), (2, vec![Cause::Sets]));
}

#[test]
fn a_set_that_grows_too_large_is_given_up() {
    let mut fixture = Fixture::new();
    let key = in_rooms_of("ann");
    let rows: Vec<_> = (0..MAX_SET_ROWS).map(|id| member_row(&id.to_string(), "a")).collect();
    fixture.join_with(key, &rows);
    let delivered = fixture.members(10, vec![insert("x", "ann", "b")]);
    assert_eq!(delivered.behind, [Cause::Sets]);
}

#[test]
fn of_equal_rows_it_is_not_guessed_which_was_the_last() {
    let mut keyless = (*members(ReplicaIdentity::Full)).clone();
    keyless.columns.iter_mut().for_each(|column| column.primary_key = false);
    let keyless = Arc::new(keyless);
    let identity = || vec!["id".to_owned(), "user_id".into(), "room_id".into()];
    let set = MemberSet { identity: identity(), ..rooms_of("ann") };
    let held = |id: &str, room: &str| MemberRow {
        identity: [id, "ann", room].map(|text| Some(text.to_owned())).to_vec(),
        keys: vec![Some(room.to_owned())],
    };
    let member = Predicate::Member { set: 0, values: vec![column("org_id")], mode: MemberMode::Exists };
    let key = SubscriptionKey { policy: policy(member, vec![set]), ..everything() };
    let mut fixture = Fixture::new();
    let ann = fixture.join_with(key, &[held("1", "a"), held("2", "b"), held("2", "b")]);
    let gone = |id, room| change(ChangeKind::Delete, OldImage::Full(row(id, "ann", room)), None);
    assert!(fixture.deliver(&batch(&keyless, 2, 10, vec![gone("1", "a")])).behind.is_empty());
    fixture.message(11, "1", "a");
    fixture.message(12, "2", "b");
    assert_eq!(ids(&ann), [2]);
    assert_eq!(fixture.deliver(&batch(&keyless, 2, 13, vec![gone("2", "b")])).behind, [Cause::Sets]);
}

#[test]
fn a_transaction_is_judged_by_the_sets_at_its_end() {
    let mut fixture = Fixture::new();
    let ann = fixture.join_with(in_rooms_of("ann"), &[member_row("1", "a")]);
    let part = |batch: Batch, ordinal: u32, ends| {
        let mut batch = batch;
        batch.changes.iter_mut().for_each(|change| change.position.ordinal += ordinal);
        batch.last = batch.changes.last().expect("a change").position;
        Batch { ends_transaction: ends, ..batch }
    };
    let todos = relation(ReplicaIdentity::Default);
    let table = members(ReplicaIdentity::Default);
    // A message, and only then she leaves the room and joins another; then a message there.
    let first =
        fixture.deliver(&part(batch(&todos, 1, 10, vec![insert("1", "a", "x"), insert("2", "b", "x")]), 0, false));
    assert_eq!(first, Delivered::default());
    fixture.deliver(&part(batch(&table, 2, 10, vec![removed("1"), insert("2", "ann", "b")]), 2, false));
    fixture.deliver(&part(batch(&todos, 1, 10, vec![insert("3", "b", "x")]), 4, true));
    assert_eq!(ids(&ann), [2, 3]);
    assert_eq!(fixture.hub.head().map(|head| head.position.ordinal), Some(5));
}

#[test]
fn a_table_that_is_judged_by_a_set_over_itself() {
    let mut fixture = Fixture::new();
    let member = Predicate::Member { set: 0, values: vec![column("room_id")], mode: MemberMode::Exists };
    let key = SubscriptionKey {
        table: "members".into(),
        table_oid: 2,
        policy: policy(member, vec![rooms_of("ann")]),
        ..everything()
    };
    let ann = fixture.join_with(key, &[]);
    let mut both = batch(
        &members(ReplicaIdentity::Default),
        2,
        10,
        vec![
            insert("1", "bob", "a"),
            insert("2", "ann", "a"),
            insert("3", "bob", "b"),
            updated("2", "carl", "a"),
            insert("4", "bob", "a"),
        ],
    );
    // Two transactions: in the first she comes, in the second she goes.
    for (change, (lsn, ordinal)) in both.changes.iter_mut().zip([(10, 1), (10, 2), (10, 3), (11, 1), (11, 2)]) {
        change.position = Position { lsn: Lsn(lsn), ordinal };
    }
    both.last = both.changes[4].position;
    fixture.deliver(&both);
    assert_eq!(ids(&ann), [1, 2]);
}

#[test]
fn several_keys_and_none() {
    let member = |values| Predicate::Member { set: 0, values, mode: MemberMode::Exists };
    let two = MemberSet { keys: vec!["user_id".into(), "room_id".into()], ..rooms_of("ann") };
    let two =
        SubscriptionKey { policy: policy(member(vec![column("title"), column("org_id")]), vec![two]), ..everything() };
    let any = MemberSet { keys: Vec::new(), condition: Predicate::Const(Truth::True), ..rooms_of("ann") };
    let any = SubscriptionKey { policy: policy(member(Vec::new()), vec![any]), ..everything() };
    let mut fixture = Fixture::new();
    let both = MemberRow { identity: vec![Some("1".into())], keys: vec![Some("x".into()), Some("a".into())] };
    let two = fixture.join_with(two, &[both]);
    let any = fixture.join_with(any, &[]);
    fixture.message(10, "1", "a");
    fixture.message(11, "2", "xa");
    fixture.members(12, vec![insert("7", "zoe", "z")]);
    fixture.message(13, "3", "b");
    assert_eq!(ids(&two), [1]);
    assert_eq!(ids(&any), [3]);
}

#[test]
fn what_is_held_is_not_printed() {
    let mut fixture = Fixture::new();
    let key =
        SubscriptionKey { org: ActiveOrg::Org("hidden".into()), filter: title_is("hidden"), ..in_rooms_of("hidden") };
    let member = fixture.join_with(key, &[member_row("hidden-1", "hidden")]);
    let delivered =
        fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 10, vec![insert("1", "hidden", "hidden")]));
    assert_eq!(delivered.frames, 1, "it waits in the outbox");
    fixture.members(11, vec![insert("2", "hidden", "hidden-too")]);
    let BoundFilter::Condition(condition) = title_is("hidden") else { unreachable!("it is one") };
    let mut questions = Questions::default();
    questions.comparisons.insert((condition.clone(), "hidden".into()));
    questions.ask_row("hidden", &principal(), RowPlace { change: 0, old: false });
    let mut answers = Answers::default();
    answers.insert(condition, "hidden".into(), Truth::True);
    answers.insert_row("hidden", RowPlace { change: 0, old: false }, true);
    let printed = format!("{:?} {member:?} {questions:?} {answers:?}", fixture.hub);
    assert!(printed.contains("KeptTable(1 sets, 2 rows") && !printed.contains("hidden"), "{printed}");
}
