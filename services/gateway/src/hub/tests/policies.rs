//! Policies: who gets which changes, and in which form.

use reactor_model::filter::Truth;
use serde_json::json;

use super::*;

/// What a member got: the event's name and the data without its table and time.
fn told(member: &Member) -> Vec<(String, Value)> {
    let short = |event: &SseEvent| {
        let mut data: Value = serde_json::from_str(&event.data).expect("JSON");
        let fields = data.as_object_mut().expect("object");
        fields.retain(|name, _| !["table", "schema", "commit_timestamp"].contains(&name.as_str()));
        (event.event.clone(), data)
    };
    received(member).iter().map(short).collect()
}

fn key_of(id: &str) -> Tuple {
    Tuple::from_values([Datum::Text(id.as_bytes()), Datum::Null, Datum::Null])
}

fn update(old: OldImage, owner: &str) -> Change {
    change(ChangeKind::Update, old, Some(row("1", "acme", owner)))
}

fn full(owner: &str) -> OldImage {
    OldImage::Full(row("1", "acme", owner))
}

fn whole(owner: &str) -> Value {
    json!({"id":1,"org_id":"acme","title":owner})
}

/// What a change does to a subscriber that may see rows whose title is `me`.
fn check(identity: ReplicaIdentity, key: SubscriptionKey, change: Change, expected: &[(&str, Value)]) {
    let name = format!("{:?} {:?} leave={}", change.kind, change.old, key.leave);
    let mut fixture = Fixture::new();
    let member = fixture.join(vec![(None, key)]);
    fixture.deliver(&batch(&relation(identity), 1, 9, vec![change]));
    let expected: Vec<_> = expected.iter().map(|(event, data)| ((*event).to_owned(), data.clone())).collect();
    assert_eq!(told(&member), expected, "{name}");
}

#[test]
fn changes_come_in_the_form_that_policy_allows() {
    use ReplicaIdentity::{Default, Full};
    let mine = || under(owner_is("me"));
    let leaving = || SubscriptionKey { leave: true, ..mine() };
    let delete = |old| change(ChangeKind::Delete, old, None);
    let key = || json!({"id":1});
    check(Full, mine(), insert("1", "acme", "me"), &[("insert", json!({"new": whole("me")}))]);
    check(Full, mine(), insert("1", "acme", "you"), &[]);
    check(Full, mine(), update(full("me"), "me"), &[("update", json!({"old": whole("me"), "new": whole("me")}))]);
    check(Full, mine(), update(full("you"), "me"), &[("update", json!({"old": key(), "new": whole("me")}))]);
    check(Full, mine(), update(full("me"), "you"), &[]);
    check(Full, leaving(), update(full("me"), "you"), &[("leave", json!({"old": key()}))]);
    check(Full, leaving(), update(full("you"), "you"), &[]);
    check(Default, mine(), update(OldImage::None, "me"), &[("update", json!({"old": key(), "new": whole("me")}))]);
    check(Default, leaving(), update(OldImage::None, "you"), &[]);
    check(Full, mine(), delete(full("me")), &[("delete", json!({"old": whole("me")}))]);
    check(Full, mine(), delete(full("you")), &[]);
    check(Default, mine(), delete(OldImage::Key(key_of("1"))), &[("delete", json!({"old": key()}))]);
    let only = |event| SubscriptionKey { events: EventMask::parse([event]).expect("mask"), ..leaving() };
    check(Full, only("insert"), update(full("me"), "you"), &[]);
    check(Full, only("delete"), update(full("me"), "you"), &[("leave", json!({"old": key()}))]);
    check(Full, only("delete"), update(full("me"), "me"), &[]);
    check(Full, only("delete"), update(full("you"), "me"), &[]);
    let org = |leave| SubscriptionKey { org: ActiveOrg::Org("acme".into()), leave, ..everything() };
    let moved = |from, to| change(ChangeKind::Update, OldImage::Full(row("1", from, "x")), Some(row("1", to, "x")));
    check(Full, org(true), moved("acme", "other"), &[("leave", json!({"old": key()}))]);
    check(
        Full,
        org(false),
        moved("other", "acme"),
        &[("update", json!({"old": key(), "new": {"id":1,"org_id":"acme","title":"x"}}))],
    );
    let filtered = SubscriptionKey { filter: title_is("me"), leave: true, ..everything() };
    check(Full, filtered, update(full("me"), "you"), &[("leave", json!({"old": key()}))]);
}

#[test]
fn a_delete_that_cannot_be_judged_is_withheld_when_that_is_wanted() {
    for (strict, expected) in [(true, 0), (false, 1)] {
        let mut fixture = Fixture::with(false, strict);
        let mine = fixture.join(vec![(None, under(owner_is("me")))]);
        let mut in_org = under(owner_is("me"));
        in_org.org = ActiveOrg::Org("acme".into());
        let in_org = fixture.join(vec![(None, in_org)]);
        let filtered = SubscriptionKey { filter: title_is("me"), ..under(owner_is("me")) };
        let filtered = fixture.join(vec![(None, filtered)]);
        let all = fixture.join(vec![(None, everything())]);
        let delete = change(ChangeKind::Delete, OldImage::Key(key_of("1")), None);
        fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 9, vec![delete]));
        assert_eq!(told(&mine).len(), expected);
        assert_eq!((told(&in_org).len(), told(&filtered).len(), told(&all).len()), (0, 0, 1));
    }
}

#[test]
fn what_policy_cannot_tell_is_withheld_from_that_subscriber_alone_and_counted() {
    let mut fixture = Fixture::new();
    let raising = Predicate::Or(vec![Predicate::Not(Box::new(owner_is("you"))), Predicate::Raise]);
    let raising = fixture.join(vec![(None, under(raising))]);
    let mine = fixture.join(vec![(None, under(owner_is("me")))]);
    let all = fixture.join(vec![(None, everything())]);
    let lacking = Tuple::from_values([Datum::Text(b"3"), Datum::Null, Datum::Unchanged]);
    let changes = vec![
        insert("1", "a", "me"),
        insert("2", "a", "you"),
        change(ChangeKind::Update, OldImage::None, Some(lacking)),
    ];
    let delivered = fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 9, changes));
    assert_eq!(ids(&raising), [1]);
    assert_eq!(ids(&mine), [1]);
    assert_eq!(ids(&all), [1, 2, 3]);
    let Withheld { raised, missing, unanswered } = delivered.withheld;
    assert_eq!((raised + missing, unanswered), (3, 0));
    assert!(raised >= 1 && missing >= 1);
}

#[test]
fn nothing_at_all_is_seen_by_a_policy_that_is_false() {
    let mut fixture = Fixture::new();
    let nobody = fixture.join(vec![(None, under(Predicate::Const(Truth::False)))]);
    let changes = vec![
        insert("1", "a", "me"),
        update(full("me"), "you"),
        change(ChangeKind::Delete, OldImage::Key(key_of("1")), None),
    ];
    fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 9, changes));
    assert!(told(&nobody).is_empty());
}

#[test]
fn a_row_that_leaves_one_subscription_and_stays_in_another_is_two_frames_and_one_id() {
    let mut fixture = Fixture::new();
    let of = |filter| SubscriptionKey { filter, leave: true, ..everything() };
    let member = fixture.join(vec![(Some("me"), of(title_is("me"))), (Some("you"), of(title_is("you")))]);
    fixture.deliver(&batch(&relation(ReplicaIdentity::Full), 1, 9, vec![update(full("me"), "you")]));
    let events = received(&member);
    let kinds: Vec<_> = events.iter().map(|event| (event.event.as_str(), event.id.is_some())).collect();
    assert_eq!(kinds, [("leave", false), ("update", true)]);
    let names = |event: &SseEvent| serde_json::from_str::<Value>(&event.data).expect("JSON")["subscriptions"].clone();
    assert_eq!((names(&events[0]), names(&events[1])), (json!(["me"]), json!(["you"])));
}

#[test]
fn questions_are_put_once_for_all_with_the_same_key_and_no_answer_is_a_no() {
    let mut fixture = Fixture::with(true, false);
    let asking = Predicate::Or(vec![owner_is("me"), Predicate::Ask]);
    let first = fixture.join(vec![(None, under(asking.clone()))]);
    let second = fixture.join(vec![(None, SubscriptionKey { select: vec!["id".into()], ..under(asking.clone()) })]);
    let other = RowPolicy { predicate: asking.clone(), sets: Vec::new(), check_key: Some("other".into()) };
    let other = fixture.join(vec![(None, SubscriptionKey { policy: SharedPolicy::new(other), ..everything() })]);
    let keyless = RowPolicy { predicate: asking, sets: Vec::new(), check_key: None };
    let keyless = fixture.join(vec![(None, SubscriptionKey { policy: SharedPolicy::new(keyless), ..everything() })]);
    let changes = vec![
        insert("1", "a", "me"),
        insert("2", "a", "you"),
        insert("3", "a", "you"),
        change(ChangeKind::Delete, OldImage::Key(key_of("4")), None),
    ];
    let batch = Arc::new(batch(&relation(ReplicaIdentity::Default), 1, 9, changes));
    let (questions, _) = fixture.hub.questions(&batch, 0..4, &Answers::default());
    let asked: BTreeMap<_, Vec<_>> =
        questions.rows.iter().map(|(key, rows)| (key.as_str(), rows.places.iter().copied().collect())).collect();
    let places = vec![RowPlace { change: 1, old: false }, RowPlace { change: 2, old: false }];
    assert_eq!(asked, BTreeMap::from([("k", places.clone()), ("other", places)]));
    let mut answers = Answers::default();
    answers.insert_row("k", RowPlace { change: 1, old: false }, true);
    answers.insert_row("k", RowPlace { change: 2, old: false }, false);
    answers.insert_row("other", RowPlace { change: 2, old: false }, true);
    assert!(fixture.hub.questions(&batch, 0..4, &answers).0.rows.keys().eq(["other"]));
    let delivered = fixture.hub.deliver_part(&batch, 0..4, &answers);
    let new_ids = |member: &Member| -> Vec<Value> {
        told(member).iter().map(|(_, data)| data.get("new").unwrap_or(&data["old"])["id"].clone()).collect()
    };
    assert_eq!(new_ids(&first), [1, 2, 4]);
    assert_eq!(new_ids(&second), [1, 2, 4]);
    assert_eq!(new_ids(&other), [1, 3, 4]);
    assert_eq!(new_ids(&keyless), [1, 4]);
    assert_eq!(delivered.withheld.unanswered, 3);
}

#[test]
fn who_needs_answers_is_not_served_where_there_are_none() {
    let mut fixture = Fixture::new();
    let asking = fixture.join(vec![(None, under(Predicate::Or(vec![owner_is("me"), Predicate::Ask])))]);
    let delivered = fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 9, vec![insert("1", "a", "me")]));
    assert_eq!(delivered.behind, [Cause::Asks]);
    assert!(received(&asking).is_empty());
}

#[test]
fn a_policy_about_another_type_of_its_column_is_asked_for_again() {
    let mut fixture = Fixture::new();
    let member = fixture.join(vec![(None, under(owner_is("me")))]);
    let mut altered = (*relation(ReplicaIdentity::Default)).clone();
    altered.columns[2].type_oid = INT4;
    let delivered = fixture.deliver(&batch(&Arc::new(altered), 2, 9, vec![insert("1", "a", "me")]));
    assert_eq!(delivered.behind, [Cause::Decision]);
    assert!(received(&member).is_empty());
}
