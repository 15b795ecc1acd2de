//! Rows to be judged and rows of sets arrive as they were, in messages that fit.

#![allow(clippy::unwrap_used, reason = "this is a test as a whole")]

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use reactor_model::filter::Truth;
use reactor_policy_engine::{
    CheckRequest, CheckedRow, CheckedValue, MemberRow, MemberSet, Members, MembersRequest, Predicate, Principal,
};
use reactor_proto::convert::{MAX_SET_BYTES, MembersReader, NotUnderstood, member_parts};
use reactor_proto::policy::v1;

const MIB: usize = 1024 * 1024;

fn principal() -> Principal {
    Principal { role: "r".into(), permissions: BTreeSet::new(), claims_json: "{\"sub\":\"secret\"}".into() }
}

fn check(columns: Vec<String>, rows: Vec<CheckedRow>) -> CheckRequest {
    CheckRequest {
        tenant: "acme".parse().unwrap(),
        principal: principal(),
        schema: "public".into(),
        table: "todos".into(),
        table_oid: 7,
        columns,
        rows,
    }
}

fn set() -> MemberSet {
    MemberSet {
        id: "s".into(),
        schema: "public".into(),
        table: "members".into(),
        table_oid: 8,
        keys: vec!["team".into()],
        identity: vec!["id".into(), "day".into()],
        condition: Predicate::Const(Truth::True),
    }
}

fn members(condition: Predicate) -> MembersRequest {
    MembersRequest {
        tenant: "acme".parse().unwrap(),
        principal: principal(),
        schema: "public".into(),
        table: "todos".into(),
        set: MemberSet { condition, ..set() },
    }
}

fn row(bytes: usize) -> MemberRow {
    MemberRow { identity: vec![Some("x".repeat(bytes)), None], keys: vec![Some("team".into())] }
}

/// What a gateway reads of these messages; `None` when there should be more of them.
fn read(parts: Vec<v1::MembersResponse>) -> Result<Option<Members>, NotUnderstood> {
    let mut reader = MembersReader::new(&set());
    for part in parts {
        if let Some(members) = reader.add(v1::MembersResponse::decode(&*part.encode_to_vec()).unwrap())? {
            return Ok(Some(members));
        }
    }
    Ok(None)
}

fn value() -> impl Strategy<Value = CheckedValue> {
    prop_oneof![Just(CheckedValue::Missing), Just(CheckedValue::Null), ".*".prop_map(CheckedValue::Text)]
}

proptest! {
    #[test]
    fn rows_round_trip(columns in vec(".*", 3), rows in vec((vec(value(), 3), any::<bool>()), 0..4)) {
        let rows = rows.into_iter().map(|(values, must_exist)| CheckedRow { values, must_exist }).collect();
        let request = check(columns, rows);
        let bytes = v1::CheckRowsRequest::from(request.clone()).encode_to_vec();
        prop_assert_eq!(v1::CheckRowsRequest::decode(&*bytes).unwrap().try_into(), Ok(request));
    }

    #[test]
    fn sets_round_trip(texts in vec(vec(prop::option::of(".*"), 3), 0..5)) {
        let row = |texts: Vec<Option<String>>| MemberRow { identity: texts[..2].to_vec(), keys: texts[2..].to_vec() };
        let rows: Vec<_> = texts.into_iter().map(row).collect();
        prop_assert_eq!(read(member_parts(Members::Rows(rows.clone()))), Ok(Some(Members::Rows(rows))));
    }
}

#[test]
fn requests_for_members_round_trip_when_they_are_understood() {
    let request = members(Predicate::Raise);
    assert_eq!(v1::MembersRequest::from(request.clone()).try_into(), Ok(request));
    let newer = v1::MembersRequest::from(members(Predicate::Ask));
    assert_eq!(MembersRequest::try_from(newer), Err(NotUnderstood("set")));
}

#[test]
fn a_row_that_is_not_understood_is_no_question() {
    let good = check(vec!["a".into()], vec![CheckedRow { values: vec![CheckedValue::Null], must_exist: true }]);
    let sent = |change: fn(&mut v1::CheckRowsRequest)| {
        let mut message = v1::CheckRowsRequest::from(good.clone());
        change(&mut message);
        CheckRequest::try_from(message).err()
    };
    assert_eq!(sent(|_| {}), None);
    assert_eq!(sent(|message| message.rows[0].values[0].value = None), Some(NotUnderstood("value")));
    let other_number = Some(NotUnderstood("row with another number of values"));
    assert_eq!(sent(|message| message.rows[0].values.clear()), other_number);
    assert_eq!(sent(|message| message.columns.clear()), other_number);
    assert_eq!(sent(|message| message.principal = None), Some(NotUnderstood("principal")));
}

#[test]
fn large_sets_travel_in_several_messages_that_fit() {
    let rows: Vec<_> = (0..5000).map(|_| row(1000)).collect();
    let parts = member_parts(Members::Rows(rows.clone()));
    assert!(parts.len() > 3);
    assert!(parts.iter().all(|part| part.encoded_len() < 2 * MIB));
    assert_eq!(read(parts), Ok(Some(Members::Rows(rows))));
    assert_eq!(
        read(member_parts(Members::Rows(vec![row(2 * MIB)]))),
        Ok(Some(Members::TooMany)),
        "a row of two messages"
    );
    let too_long = (0..2 * MAX_SET_BYTES / MIB).map(|_| row(MIB / 2)).chain([row(1)]).collect();
    assert_eq!(read(member_parts(Members::Rows(too_long))), Ok(Some(Members::TooMany)));
}

#[test]
fn a_part_is_not_taken_for_the_set() {
    for other in [Members::TooMany, Members::Changed, Members::Rows(Vec::new())] {
        assert_eq!(read(member_parts(other.clone())), Ok(Some(other)));
    }
    let mut parts = member_parts(Members::Rows((0..5).map(|_| row(MIB / 2)).collect()));
    parts.pop();
    assert_eq!(read(parts), Ok(None), "the last part is missing");
    assert_eq!(read(vec![v1::MembersResponse { part: None }]), Err(NotUnderstood("part of a set")));
    let short = MemberRow { identity: vec![None], ..row(1) };
    assert_eq!(read(member_parts(Members::Rows(vec![short]))), Err(NotUnderstood("row of a set")));
}

#[test]
fn debug_shows_no_claims_and_no_values() {
    let secret = || Some("secret".to_owned());
    let values = vec![CheckedValue::Text("secret".into())];
    let check = v1::CheckRowsRequest::from(check(vec!["a".into()], vec![CheckedRow { values, must_exist: true }]));
    let literal = reactor_policy_engine::Scalar::Literal { type_oid: 25, text: secret() };
    let members = v1::MembersRequest::from(members(Predicate::IsNull(literal)));
    let rows = Members::Rows(vec![MemberRow { identity: vec![secret(), secret()], keys: vec![secret()] }]);
    let mut reader = MembersReader::new(&set());
    let parts = member_parts(rows);
    let shown = format!("{check:?} {members:?} {parts:?}");
    reader.add(v1::MembersResponse { part: parts.into_iter().next().and_then(|part| part.part) }).unwrap();
    assert!(!format!("{shown} {reader:?}").contains("secret"));
}
