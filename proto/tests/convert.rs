//! What goes over the wire arrives as it was, and what is not understood is refused.

#![allow(clippy::unwrap_used, reason = "this is a test as a whole")]

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use prost::Message;
use reactor_model::Code;
use reactor_model::filter::{
    BoundCondition, BoundFilter, Condition, Filter, IsKeyword, Operand, Operation, Operator, Truth,
};
use reactor_policy_engine::{
    AuthorizeRequest, ColumnMask, Comparison, Decision, Denial, Grant, PolicyVersion, Principal, RowPolicy,
};
use reactor_proto::convert::{NotUnderstood, decision, truth};
use reactor_proto::policy::v1;

fn operation() -> impl Strategy<Value = Operation> {
    let keyword = prop::sample::select(vec![IsKeyword::Null, IsKeyword::True, IsKeyword::False, IsKeyword::Unknown]);
    let operand = prop_oneof![
        ".*".prop_map(Operand::Text),
        vec(".*", 0..4).prop_map(Operand::List),
        keyword.prop_map(Operand::Keyword),
    ];
    (prop::sample::select(Operator::ALL.to_vec()), operand)
        .prop_map(|(operator, operand)| Operation { operator, operand })
}

fn condition() -> impl Strategy<Value = Condition> {
    (".*", any::<bool>(), operation()).prop_map(|(column, negated, operation)| Condition { column, negated, operation })
}

fn filter() -> impl Strategy<Value = Filter> {
    condition().prop_map(Filter::Condition).prop_recursive(3, 16, 4, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Filter::And), vec(inner, 0..4).prop_map(Filter::Or)]
    })
}

fn bound(filter: Filter) -> BoundFilter {
    match filter {
        Filter::And(parts) => BoundFilter::And(parts.into_iter().map(bound).collect()),
        Filter::Or(parts) => BoundFilter::Or(parts.into_iter().map(bound).collect()),
        Filter::Condition(condition) => {
            BoundFilter::Condition(BoundCondition { condition, type_oid: 25, type_mod: -1 })
        }
    }
}

fn request() -> AuthorizeRequest {
    AuthorizeRequest {
        tenant: "acme".parse().unwrap(),
        principal: Principal { role: "r".into(), permissions: BTreeSet::new(), claims_json: "{}".into() },
        schema: "public".into(),
        table: "todos".into(),
        select: Vec::new(),
        filter: Filter::And(Vec::new()),
    }
}

fn names() -> impl Strategy<Value = BTreeSet<String>> {
    btree_set(".*", 0..4)
}

proptest! {
    #[test]
    fn requests_round_trip(
        filter in filter(), role in ".*", permissions in names(), select in vec(".*", 0..3), table in ".*",
    ) {
        let request = AuthorizeRequest {
            tenant: "acme".parse().unwrap(),
            principal: Principal { role, permissions, claims_json: "{}".into() },
            schema: "public".into(),
            table,
            select,
            filter,
        };
        let bytes = v1::AuthorizeRequest::from(request.clone()).encode_to_vec();
        let back = AuthorizeRequest::try_from(v1::AuthorizeRequest::decode(&*bytes).unwrap());
        prop_assert_eq!(back, Ok(request));
    }

    #[test]
    fn decisions_round_trip(filter in filter(), only in prop::option::of(names()), version in any::<u64>()) {
        let allowed = Decision::Allow(Grant {
            rule: "grant:select".into(),
            columns: only.map_or(ColumnMask::All, ColumnMask::Only),
            filter: bound(filter),
            policy: RowPolicy::everything(),
            asks_postgres: version % 2 == 0,
            org_scoped: version % 3 == 0,
            row_security: version % 5 == 0,
            table_oid: 7,
            policy_version: PolicyVersion(version),
            recheck_after: Duration::from_millis(1500),
        });
        let bytes = v1::AuthorizeResponse::from(allowed.clone()).encode_to_vec();
        prop_assert_eq!(decision(v1::AuthorizeResponse::decode(&*bytes).unwrap(), &request()), Ok(allowed));
    }

    #[test]
    fn comparisons_round_trip(operation in operation(), value in ".*") {
        let comparison = Comparison {
            schema: "public".into(), table: "todos".into(), column: "title".into(), operation, value,
        };
        let bytes = v1::Comparison::from(comparison.clone()).encode_to_vec();
        prop_assert_eq!(Comparison::try_from(v1::Comparison::decode(&*bytes).unwrap()), Ok(comparison));
    }
}

#[test]
fn denials_round_trip_and_unknown_codes_still_deny() {
    for code in Code::ALL {
        let denial = Decision::Deny(Denial { code: *code, message: "m".into(), hint: "h".into() });
        assert_eq!(decision(denial.clone().into(), &request()), Ok(denial));
    }
    let newer = v1::Denial { code: "not_yet_known".into(), message: "m".into(), hint: "h".into() };
    let response = v1::AuthorizeResponse { decision: Some(v1::authorize_response::Decision::Deny(newer)) };
    assert!(
        matches!(decision(response, &request()), Ok(Decision::Deny(denial)) if denial.code == Code::PermissionDenied)
    );
}

#[test]
fn what_a_newer_side_adds_is_no_answer() {
    assert_eq!(decision(v1::AuthorizeResponse { decision: None }, &request()), Err(NotUnderstood("decision")));
    // A oneof with a field that this version does not know decodes as an empty one.
    assert_eq!(BoundFilter::try_from(v1::BoundFilter { node: None }), Err(NotUnderstood("filter node")));
    let operation = v1::Operation { operator: 99, operand: Some(v1::operation::Operand::Text("x".into())) };
    assert_eq!(Operation::try_from(operation), Err(NotUnderstood("operator")));
    let parts = vec![v1::Filter { node: None }];
    let within = v1::Filter { node: Some(v1::filter::Node::All(v1::Filters { parts })) };
    assert_eq!(Filter::try_from(within), Err(NotUnderstood("filter node")));
    assert_eq!(truth(99), Truth::Unknown);
}

#[test]
fn debug_shows_no_claims_and_no_values() {
    let principal = v1::Principal { role: "r".into(), permissions: vec![], claims_json: "secret".into() };
    let comparison = v1::Comparison { column: "c".into(), value: "secret".into(), ..Default::default() };
    assert!(!format!("{principal:?} {comparison:?}").contains("secret"));
}
