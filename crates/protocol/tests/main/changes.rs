//! The data of row changes, to the byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use reactor_model::relation::Collation;
use reactor_model::{
    Change, ChangeKind, Column, Datum, Epoch, Lsn, OldImage, Position, Relation, ReplicaIdentity, Tuple, TypeInfo,
    TypeKind,
};
use reactor_protocol::audience::{Audience, Style};
use reactor_protocol::changes::{self, ChangeError, ChangeShape, OldRow};
use reactor_protocol::wire::WireVersion;

const EPOCH: Epoch = Epoch(0xab);
const MAX: usize = 1_000_000;
const ID: &str = "000000ab-00000000016b3748-00000003";
const COLUMNS: &str = r#"[{"name":"id","type":"int8"},{"name":"title","type":"text"},{"name":"tags","type":"_text"}]"#;

fn relation(keyed: bool) -> Relation {
    let column = |name: &str, type_oid, key: bool| Column {
        name: name.to_owned(),
        type_oid,
        type_mod: -1,
        primary_key: key,
        identity_key: key,
        collation: Collation::None,
    };
    let builtin = |name: &str| TypeInfo { name: name.to_owned(), kind: TypeKind::Builtin };
    let array = TypeInfo { name: "_text".to_owned(), kind: TypeKind::Array { element: 25, delimiter: ',' } };
    Relation {
        oid: 1,
        table_oid: 1,
        schema: "public".to_owned(),
        table: "todos".to_owned(),
        columns: vec![column("id", 20, keyed), column("title", 25, false), column("tags", 1009, false)],
        identity: ReplicaIdentity::Default,
        row_security: false,
        types: BTreeMap::from([(20, builtin("int8")), (25, builtin("text")), (1009, array)]),
    }
}

fn row<'a>(id: &'a str, title: Option<&'a str>, tags: Option<&'a str>) -> Tuple {
    let text = |value: Option<&'a str>| value.map_or(Datum::Null, |value| Datum::Text(value.as_bytes()));
    Tuple::from_values([Datum::Text(id.as_bytes()), text(title), text(tags)])
}

fn change(kind: ChangeKind, old: OldImage, new: Option<Tuple>) -> Change {
    let position = Position { lsn: Lsn(0x016b_3748), ordinal: 3 };
    Change { position, commit_time_us: 1_763_511_760_877_123, kind, old, new }
}

fn whole() -> ChangeShape {
    ChangeShape { shown: vec![0, 1, 2], keys: vec![0], old: OldRow::Whole, leave: false }
}

fn check(change: &Change, shape: &ChangeShape, style: Style, expected: &str) {
    let data = changes::encode(EPOCH, change, &relation(true), shape, style, MAX).expect("data");
    let kind = if shape.leave { "DELETE" } else { changes::type_name(change.kind) };
    let head = format!(
        r#"{{"schema":"public","table":"todos","type":"{kind}","commit_timestamp":"2025-11-19T00:22:40.877Z","#
    );
    assert_eq!(std::str::from_utf8(&data), Ok(format!("{head}{expected}}}").as_str()));
}

#[test]
fn inserts_updates_and_deletes_have_their_rows() {
    let insert = change(ChangeKind::Insert, OldImage::None, Some(row("1", Some("a"), Some("{x,y}"))));
    let record = r#"{"id":1,"title":"a","tags":["x","y"]}"#;
    let tail = format!(r#""errors":null,"event_id":"{ID}""#);
    check(&insert, &whole(), Style::Standard, &format!(r#""columns":{COLUMNS},"record":{record},{tail}"#));
    // Without a changed key Postgres sends no old image: its key is that of the new row.
    let update = change(ChangeKind::Update, OldImage::None, Some(row("1", None, None)));
    let record = r#"{"id":1,"title":null,"tags":null}"#;
    check(
        &update,
        &whole(),
        Style::Standard,
        &format!(r#""columns":{COLUMNS},"record":{record},"old_record":{{"id":1}},{tail}"#),
    );
    let old = OldImage::Full(row("1", Some("old"), None));
    let update = change(ChangeKind::Update, old.clone(), Some(row("1", None, None)));
    let old_record = r#"{"id":1,"title":"old","tags":null}"#;
    check(
        &update,
        &whole(),
        Style::Standard,
        &format!(r#""columns":{COLUMNS},"record":{record},"old_record":{old_record},{tail}"#),
    );
    let delete = change(ChangeKind::Delete, OldImage::Key(row("7", None, None)), None);
    check(&delete, &whole(), Style::Legacy, &format!(r#""columns":{COLUMNS},"old_record":{{"id":7}},{tail}"#));
    // A protected row that was deleted shows its key only.
    let keys = ChangeShape { old: OldRow::Keys, ..whole() };
    let delete = change(ChangeKind::Delete, old, None);
    check(&delete, &keys, Style::Standard, &format!(r#""columns":{COLUMNS},"old_record":{{"id":1}},{tail}"#));
}

#[test]
fn bare_clients_also_get_what_libraries_make_of_it() {
    let tail = format!(r#""errors":null,"event_id":"{ID}""#);
    let shape = ChangeShape { shown: vec![0], ..whole() };
    let columns = r#"[{"name":"id","type":"int8"}]"#;
    let insert = change(ChangeKind::Insert, OldImage::None, Some(row("1", None, None)));
    let bare = r#""eventType":"INSERT","new":{"id":1},"old":{}"#;
    check(&insert, &shape, Style::Bare, &format!(r#""columns":{columns},"record":{{"id":1}},{tail},{bare}"#));
    let delete = change(ChangeKind::Delete, OldImage::Key(row("1", None, None)), None);
    let bare = r#""eventType":"DELETE","new":{},"old":{"id":1}"#;
    check(&delete, &shape, Style::Bare, &format!(r#""columns":{columns},"old_record":{{"id":1}},{tail},{bare}"#));
}

#[test]
fn a_row_that_leaves_shows_its_key() {
    let leave = ChangeShape { leave: true, ..whole() };
    let update =
        change(ChangeKind::Update, OldImage::Full(row("1", Some("was"), None)), Some(row("1", Some("is"), None)));
    let expected =
        format!(r#""columns":{COLUMNS},"old_record":{{"id":1}},"errors":null,"event_id":"{ID}","leave":true"#);
    check(&update, &leave, Style::Standard, &expected);
    let bare = r#""eventType":"DELETE","new":{},"old":{"id":1}"#;
    check(&update, &leave, Style::Bare, &format!("{expected},{bare}"));
}

#[test]
fn unchanged_values_come_from_the_old_row_or_not_at_all() {
    let new = || Tuple::from_values([Datum::Text(b"1"), Datum::Unchanged, Datum::Null]);
    let data = |old| {
        let update = change(ChangeKind::Update, old, Some(new()));
        let data = changes::encode(EPOCH, &update, &relation(true), &whole(), Style::Standard, MAX).expect("data");
        serde_json::from_slice::<serde_json::Value>(&data).expect("JSON")["record"].to_string()
    };
    assert_eq!(data(OldImage::None), r#"{"id":1,"tags":null}"#);
    let full = data(OldImage::Full(row("1", Some("kept"), None)));
    assert!(full.contains(r#""title":"kept""#), "{full}");
}

#[test]
fn errors_take_the_rows_place() {
    let json = |data: Option<Bytes>| serde_json::from_slice::<serde_json::Value>(&data.expect("data")).expect("JSON");
    let insert = change(ChangeKind::Insert, OldImage::None, Some(row("1", Some("a"), None)));
    let data = json(changes::encode(EPOCH, &insert, &relation(false), &whole(), Style::Standard, MAX));
    assert_eq!(data["errors"], serde_json::json!(["Error 400: Bad Request, no primary key"]));
    assert_eq!((data["record"].to_string(), data["columns"].to_string()), ("{}".to_owned(), "[]".to_owned()));
    let data = json(changes::encode_error(EPOCH, &insert, &relation(true), Style::Bare, ChangeError::Unauthorized));
    assert_eq!(data["errors"], serde_json::json!(["Error 401: Unauthorized"]));
    assert_eq!(data["new"].to_string(), "{}");
    let truncate = change(ChangeKind::Truncate, OldImage::None, None);
    assert_eq!(changes::encode(EPOCH, &truncate, &relation(true), &whole(), Style::Standard, MAX), None);
}

#[test]
fn large_rows_keep_their_small_values() {
    let long = "x".repeat(100);
    let too_large = r#"["Error 413: Payload Too Large"]"#;
    let json = |change: &Change, max| {
        let data = changes::encode(EPOCH, change, &relation(true), &whole(), Style::Standard, max).expect("data");
        serde_json::from_slice::<serde_json::Value>(&data).expect("JSON")
    };
    let insert = change(ChangeKind::Insert, OldImage::None, Some(row("1", Some(&long), Some("{}"))));
    let data = json(&insert, 50);
    assert_eq!(data["errors"].to_string(), too_large);
    assert_eq!(data["record"], serde_json::json!({"id":1,"tags":[]}));
    assert_eq!(data["columns"].as_array().map(Vec::len), Some(3));
    // Too large for the bus: the value was left out on the way.
    let omitted = Tuple::from_values([Datum::Text(b"1"), Datum::Omitted, Datum::Null]);
    let data = json(&change(ChangeKind::Insert, OldImage::None, Some(omitted)), MAX);
    assert_eq!(data["errors"].to_string(), too_large);
    assert_eq!(data["record"], serde_json::json!({"id":1,"tags":null}));
}

#[test]
fn only_what_would_be_shown_can_be_too_large() {
    let omitted = || Tuple::from_values([Datum::Text(b"1"), Datum::Omitted, Datum::Null]);
    let unchanged = Tuple::from_values([Datum::Text(b"1"), Datum::Unchanged, Datum::Null]);
    let keys = ChangeShape { old: OldRow::Keys, ..whole() };
    for (shape, new, is_too_large) in [
        (ChangeShape { leave: true, ..whole() }, omitted(), false),
        (keys.clone(), row("1", Some("a"), None), false),
        (whole(), row("1", Some("a"), None), true),
        // What was too large in the old row stands in the new one, too.
        (keys, unchanged, true),
    ] {
        let update = change(ChangeKind::Update, OldImage::Full(omitted()), Some(new));
        let data = changes::encode(EPOCH, &update, &relation(true), &shape, Style::Standard, MAX).expect("data");
        let data: serde_json::Value = serde_json::from_slice(&data).expect("JSON");
        assert_eq!(data["errors"].is_array(), is_too_large, "{data}");
    }
}

#[test]
fn frames_differ_by_audience_only() {
    let audience = |version, style| Audience { version, style, topic: Arc::from("realtime:a") };
    let data = Bytes::from_static(b"{\"x\":1}");
    let text = |version, style| {
        let frame = audience(version, style).encode_change(&[3, 1], ChangeKind::Insert, &data);
        String::from_utf8(frame.bytes().to_vec()).expect("UTF-8")
    };
    assert_eq!(
        text(WireVersion::V2, Style::Standard),
        r#"[null,null,"realtime:a","postgres_changes",{"ids":[3,1],"data":{"x":1}}]"#
    );
    assert_eq!(
        text(WireVersion::V1, Style::Bare),
        r#"{"topic":"realtime:a","event":"postgres_changes","payload":{"ids":[3,1],"data":{"x":1}},"ref":null}"#
    );
    assert_eq!(
        text(WireVersion::V1, Style::Legacy),
        r#"{"topic":"realtime:a","event":"INSERT","payload":{"x":1},"ref":null}"#
    );
}
