//! What frames look like, and how connections come, fall back and go.

use serde_json::json;

use super::*;

#[test]
fn frames_carry_the_row_and_its_place() {
    let mut fixture = Fixture::new();
    let member = fixture.join(vec![(None, everything())]);
    fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 9, vec![insert("7", "acme", "a \"b\"")]));
    let events = received(&member);
    assert_eq!(events[0].event, "insert");
    assert_eq!(events[0].id.as_deref(), Some("00000001-0000000000000009-00000001"));
    let data: Value = serde_json::from_str(&events[0].data).expect("JSON");
    let expected = json!({"table":"todos","schema":"public","commit_timestamp":"1970-01-01T00:00:00.000000Z",
        "new":{"id":7,"org_id":"acme","title":"a \"b\""}});
    assert_eq!(data, expected);
}

#[test]
fn filters_orgs_and_masks_decide_who_gets_what() {
    let mut fixture = Fixture::new();
    let all = fixture.join(vec![(None, everything())]);
    let filtered = fixture.join(vec![(None, SubscriptionKey { filter: title_is("x"), ..everything() })]);
    let acme = fixture.join(vec![(None, SubscriptionKey { org: ActiveOrg::Org("acme".into()), ..everything() })]);
    let unchosen = fixture.join(vec![(None, SubscriptionKey { org: ActiveOrg::Unchosen, ..everything() })]);
    let updates = EventMask::parse(["update"]).expect("mask");
    let updates = fixture.join(vec![(None, SubscriptionKey { events: updates, ..everything() })]);
    let elsewhere = fixture.join(vec![(None, SubscriptionKey { table: "other".into(), ..everything() })]);
    let delivered = fixture.deliver(&batch(
        &relation(ReplicaIdentity::Default),
        1,
        9,
        vec![insert("1", "acme", "x"), insert("2", "acme", "y"), insert("3", "other", "x")],
    ));
    assert_eq!(delivered, Delivered { frames: 7, matched: 3, ..Delivered::default() });
    assert_eq!(ids(&all), [1, 2, 3]);
    assert_eq!(ids(&filtered), [1, 3]);
    assert_eq!(ids(&acme), [1, 2]);
    for nobody in [unchosen, updates, elsewhere] {
        assert_eq!(ids(&nobody), [0; 0]);
    }
}

#[test]
fn columns_outside_the_mask_never_leave() {
    let mut fixture = Fixture::new();
    let columns = ColumnMask::Only(BTreeSet::from(["id".to_owned(), "title".to_owned()]));
    let masked = fixture.join(vec![(None, SubscriptionKey { columns: columns.clone(), ..everything() })]);
    let selected =
        fixture.join(vec![(None, SubscriptionKey { columns, select: vec!["org_id".into()], ..everything() })]);
    let old = OldImage::Full(row("1", "secret", "a"));
    let update = change(ChangeKind::Update, old, Some(row("1", "secret", "b")));
    fixture.deliver(&batch(&relation(ReplicaIdentity::Full), 1, 9, vec![update]));
    assert_eq!(data(&masked)[0]["old"], json!({"id":1,"title":"a"}));
    assert_eq!(data(&selected)[0]["new"], json!({"id":1}));
}

#[test]
fn old_rows_are_as_much_as_the_identity_tells() {
    let mut fixture = Fixture::new();
    let member = fixture.join(vec![(None, everything())]);
    let acme = fixture.join(vec![(None, SubscriptionKey { org: ActiveOrg::Org("acme".into()), ..everything() })]);
    let key = Tuple::from_values([Datum::Text(b"1"), Datum::Null, Datum::Null]);
    let changes = vec![
        change(ChangeKind::Update, OldImage::None, Some(row("1", "acme", "b"))),
        change(ChangeKind::Update, OldImage::Key(key.clone()), Some(row("2", "acme", "b"))),
        change(ChangeKind::Delete, OldImage::Key(key), None),
    ];
    fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 9, changes));
    let got = data(&member);
    assert_eq!(got[0]["old"], json!({"id":1}));
    assert_eq!((&got[1]["old"], &got[1]["new"]["id"]), (&json!({"id":1}), &json!(2)));
    assert_eq!(got[2]["old"], json!({"id":1}));
    // The key does not tell the organisation, so nobody who is bound to one sees the delete.
    assert_eq!(data(&acme).len(), 2);
}

#[test]
fn truncation_reaches_the_tables_subscribers() {
    let mut fixture = Fixture::new();
    let filtered = fixture.join(vec![(None, SubscriptionKey { filter: title_is("x"), ..everything() })]);
    let inserts = EventMask::parse(["insert"]).expect("mask");
    let inserts = fixture.join(vec![(None, SubscriptionKey { events: inserts, ..everything() })]);
    fixture.deliver(&batch(
        &relation(ReplicaIdentity::Default),
        1,
        9,
        vec![change(ChangeKind::Truncate, OldImage::None, None)],
    ));
    assert_eq!(data(&filtered), [json!({"table":"todos","schema":"public"})]);
    assert!(data(&inserts).is_empty());
}

#[test]
fn named_subscriptions_share_one_frame_per_change() {
    let mut fixture = Fixture::new();
    let only_title = SubscriptionKey { select: vec!["title".into()], filter: title_is("x"), ..everything() };
    let member = fixture.join(vec![
        (Some("all"), SubscriptionKey { select: vec!["org_id".into()], ..everything() }),
        (Some("x"), only_title),
    ]);
    fixture.deliver(&batch(
        &relation(ReplicaIdentity::Default),
        1,
        9,
        vec![insert("1", "acme", "x"), insert("2", "acme", "y")],
    ));
    let got = data(&member);
    assert_eq!(got.len(), 2);
    assert_eq!(
        (&got[0]["subscriptions"], &got[0]["new"]),
        (&json!(["all", "x"]), &json!({"id":1,"org_id":"acme","title":"x"}))
    );
    assert_eq!((&got[1]["subscriptions"], &got[1]["new"]), (&json!(["all"]), &json!({"id":2,"org_id":"acme"})));
}

#[test]
fn large_rows_are_cut_to_their_keys_with_a_way_to_fetch_them() {
    let mut fixture = Fixture::new();
    let member = fixture.join(vec![(None, everything())]);
    let omitted = Tuple::from_values([Datum::Text(b"2"), Datum::Null, Datum::Omitted]);
    let changes =
        vec![insert("1", "acme", &"x".repeat(300)), change(ChangeKind::Insert, OldImage::None, Some(omitted))];
    fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 9, changes));
    for (got, id) in data(&member).iter().zip([1, 2]) {
        assert_eq!(got["new"], json!({"id": id}));
        assert_eq!(got["truncated"], json!(true));
        assert_eq!(got["fetch"], json!(format!("/data/v1/todos?id=eq.{id}")));
    }
}

#[test]
fn unchanged_values_come_from_the_old_image_or_are_absent() {
    let mut fixture = Fixture::new();
    let member = fixture.join(vec![(None, everything())]);
    let new = Tuple::from_values([Datum::Text(b"1"), Datum::Text(b"acme"), Datum::Unchanged]);
    let changes = vec![
        change(ChangeKind::Update, OldImage::Full(row("1", "acme", "kept")), Some(new.clone())),
        change(ChangeKind::Update, OldImage::None, Some(new)),
    ];
    fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 9, changes));
    let got = data(&member);
    assert_eq!(got[0]["new"]["title"], json!("kept"));
    assert_eq!(got[1]["new"], json!({"id":1,"org_id":"acme"}));
}

#[test]
fn what_was_seen_is_not_delivered_again() {
    let mut fixture = Fixture::new();
    let member = fixture.join(vec![(None, everything())]);
    let relation = relation(ReplicaIdentity::Default);
    let both = batch(&relation, 1, 9, vec![insert("1", "a", "x"), insert("2", "a", "x")]);
    let mut first = both.clone();
    first.changes.truncate(1);
    first.last = first.changes[0].position;
    fixture.deliver(&first);
    fixture.deliver(&both);
    assert_eq!(ids(&member), [1, 2]);
}

#[test]
fn a_table_that_changes_closes_only_whom_it_must() {
    let mut fixture = Fixture::new();
    let plain = fixture.join(vec![(None, everything())]);
    let filtered = fixture.join(vec![(None, SubscriptionKey { filter: title_is("x"), ..everything() })]);
    let before = relation(ReplicaIdentity::Default);
    fixture.deliver(&batch(&before, 1, 9, vec![insert("1", "a", "x")]));
    let mut after = (*before).clone();
    after.columns.truncate(2);
    let row = Tuple::from_values([Datum::Text(b"2"), Datum::Text(b"a")]);
    let delivered =
        fixture.deliver(&batch(&Arc::new(after), 2, 10, vec![change(ChangeKind::Insert, OldImage::None, Some(row))]));
    assert_eq!(delivered.closed, [Code::SchemaChanged]);
    assert_eq!(ids(&plain), [1, 2]);
    let last = received(&filtered).pop().expect("error event");
    assert_eq!(last.event, "error");
    assert!(last.data.contains("schema_changed") && filtered.ended.is_cancelled());
}

#[tokio::test]
async fn nobody_gets_rows_of_a_table_that_has_row_security_by_a_decision_without_it() {
    let mut fixture = Fixture::new();
    let undecided = fixture.join(vec![(None, SubscriptionKey { row_security: false, ..everything() })]);
    let decided = fixture.join(vec![(None, everything())]);
    let plain = relation(ReplicaIdentity::Default);
    fixture.deliver(&batch(&plain, 1, 9, vec![insert("1", "a", "x")]));
    let secured = Arc::new(Relation { row_security: true, ..(*plain).clone() });
    let delivered = fixture.deliver(&batch(&secured, 2, 10, vec![insert("2", "a", "x")]));
    assert_eq!(delivered.behind, [Cause::Decision]);
    assert_eq!(ids(&undecided), [1]);
    assert_eq!(ids(&decided), [1, 2]);
    let after = EventId { epoch: Epoch(1), position: Position { lsn: Lsn(9), ordinal: 1 } };
    assert_eq!(undecided.behind.wait().await, Left { after, cause: Cause::Decision });
    assert!(!undecided.ended.is_cancelled());
    // One that joins with such a decision is sent away before the next batch.
    let late = fixture.join(vec![(None, SubscriptionKey { row_security: false, ..everything() })]);
    assert_eq!(fixture.deliver(&batch(&secured, 2, 11, vec![insert("3", "a", "x")])).behind, [Cause::Decision]);
    assert!(received(&late).is_empty());
}

#[tokio::test]
async fn a_slow_connection_is_left_behind_alone() {
    let mut fixture = Fixture::new();
    let slow = fixture.join(vec![(None, everything())]);
    let quick = fixture.join(vec![(None, everything())]);
    let relation = relation(ReplicaIdentity::Default);
    let mut behind = Vec::new();
    for lsn in 1..100 {
        behind.extend(fixture.deliver(&batch(&relation, 1, lsn, vec![insert("1", "a", "x")])).behind);
        assert_eq!(received(&quick).len(), 1);
    }
    assert_eq!(behind, [Cause::Slow]);
    let Left { after, cause: Cause::Slow } = slow.behind.wait().await else { panic!("slow") };
    let last = received(&slow).pop().expect("what was queued stays");
    assert_eq!(last.id, Some(EventId { position: Position { ordinal: 1, ..after.position }, ..after }.to_string()));
    assert!(!slow.ended.is_cancelled());
}

#[test]
fn leaving_removes_every_trace() {
    let mut fixture = Fixture::new();
    let member = fixture
        .join(vec![(Some("a"), everything()), (Some("b"), SubscriptionKey { filter: title_is("x"), ..everything() })]);
    assert!(fixture.hub.detach(member.conn));
    assert!(!fixture.hub.detach(member.conn));
    assert!(fixture.hub.is_empty());
    fixture.deliver(&batch(&relation(ReplicaIdentity::Default), 1, 9, vec![insert("1", "a", "x")]));
    assert!(received(&member).is_empty());
}
