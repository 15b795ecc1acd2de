//! Row policies arrive as they were; what is not understood of one is a question for Postgres.

#![allow(clippy::unwrap_used, reason = "this is a test as a whole")]

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use reactor_model::filter::{BoundFilter, Filter, Truth};
use reactor_policy_engine::{
    AuthorizeRequest, ColumnMask, Comparator, Decision, Grant, MemberMode, MemberSet, PolicyVersion, Predicate,
    Principal, RowPolicy, Scalar,
};
use reactor_proto::convert::{MAX_POLICY_BYTES, NotUnderstood, decision};
use reactor_proto::policy::v1;
use reactor_proto::policy::v1::predicate::Node;

fn request(claims: &str) -> AuthorizeRequest {
    AuthorizeRequest {
        tenant: "acme".parse().unwrap(),
        principal: Principal { role: "r".into(), permissions: BTreeSet::new(), claims_json: claims.into() },
        schema: "public".into(),
        table: "todos".into(),
        select: Vec::new(),
        filter: Filter::And(Vec::new()),
    }
}

fn grant(policy: RowPolicy) -> Grant {
    Grant {
        rule: "grant:select".into(),
        columns: ColumnMask::All,
        filter: BoundFilter::And(Vec::new()),
        policy,
        asks_postgres: false,
        org_scoped: false,
        row_security: true,
        table_oid: 7,
        policy_version: PolicyVersion(3),
        recheck_after: Duration::from_secs(30),
    }
}

/// What a gateway makes of the bytes of this grant.
fn received(grant: v1::Grant) -> Grant {
    let sent = v1::AuthorizeResponse { decision: Some(v1::authorize_response::Decision::AllowRows(grant)) };
    let response = v1::AuthorizeResponse::decode(&*sent.encode_to_vec()).unwrap();
    match decision(response, &request("{}")) {
        Ok(Decision::Allow(grant)) => grant,
        other => panic!("{other:?}"),
    }
}

/// What becomes of a policy of this node, beside one that is understood.
fn read(node: Option<Node>) -> Grant {
    let mut grant = v1::Grant::from(grant(RowPolicy::everything()));
    let parts = vec![v1::Predicate { node }, constant(v1::Truth::False.into())];
    let predicate = v1::Predicate { node: Some(Node::Any(v1::Predicates { parts })) };
    let sets = vec![set("good", &["a"], Predicate::Const(Truth::True)).into()];
    grant.policy = Some(v1::RowPolicy { predicate: Some(predicate), sets, check_key: None });
    received(grant)
}

/// That only this node became a question, and that it can be asked.
fn asks(what: &str, node: Option<Node>) {
    let grant = read(node);
    let expected = Predicate::Or(vec![Predicate::Ask, Predicate::Const(Truth::False)]);
    assert_eq!(grant.policy.predicate, expected, "{what}");
    assert!(grant.asks_postgres && grant.policy.check_key.is_some(), "{what}");
}

fn constant(truth: i32) -> v1::Predicate {
    v1::Predicate { node: Some(Node::Constant(truth)) }
}

fn set(id: &str, keys: &[&str], condition: Predicate) -> MemberSet {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    MemberSet {
        id: id.into(),
        schema: "public".into(),
        table: "members".into(),
        table_oid: 8,
        keys: texts(keys),
        identity: texts(&["id"]),
        condition,
    }
}

fn column(name: &str) -> Scalar {
    Scalar::Column { name: name.into(), type_oid: 25 }
}

fn wire(scalar: Scalar) -> Option<Box<v1::Scalar>> {
    match v1::RowPolicy::from(policy(Predicate::Bool(scalar))).predicate.unwrap().node {
        Some(Node::Boolean(scalar)) => Some(scalar),
        other => panic!("{other:?}"),
    }
}

fn policy(predicate: Predicate) -> RowPolicy {
    RowPolicy { predicate, sets: Vec::new(), check_key: None }
}

fn comparator() -> impl Strategy<Value = Comparator> {
    use Comparator::{Distinct, Eq, Ge, Gt, Le, Lt, Ne, NotDistinct};
    prop::sample::select(vec![Eq, Ne, Lt, Le, Gt, Ge, Distinct, NotDistinct])
}

fn truth_value() -> impl Strategy<Value = Truth> {
    prop::sample::select(vec![Truth::True, Truth::False, Truth::Unknown])
}

/// Expressions over these truth values.
fn scalar(truths: BoxedStrategy<Predicate>) -> BoxedStrategy<Scalar> {
    let leaf = prop_oneof![
        (".*", any::<u32>()).prop_map(|(name, type_oid)| Scalar::Column { name, type_oid }),
        (any::<u32>(), prop::option::of(".*")).prop_map(|(type_oid, text)| Scalar::Literal { type_oid, text }),
        truths.prop_map(|truth| Scalar::Truth(Box::new(truth))),
    ];
    let nested = leaf.prop_recursive(3, 12, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new).boxed();
        let json = (boxed.clone(), boxed.clone(), any::<bool>()).boxed();
        prop_oneof![
            (boxed.clone(), any::<u32>()).prop_map(|(operand, type_oid)| Scalar::Cast { operand, type_oid }),
            (boxed.clone(), boxed.clone()).prop_map(|(left, right)| Scalar::Concat(left, right)),
            vec(inner, 0..4).prop_map(Scalar::Coalesce),
            boxed.clone().prop_map(Scalar::Lower),
            boxed.prop_map(Scalar::Upper),
            json.clone().prop_map(|(json, key, as_text)| Scalar::JsonGet { json, key, as_text }),
            json.prop_map(|(json, path, as_text)| Scalar::JsonPath { json, path, as_text }),
        ]
    });
    nested.boxed()
}

fn predicate(leaf: BoxedStrategy<Predicate>) -> BoxedStrategy<Predicate> {
    let nested =
        leaf.prop_recursive(3, 12, 3, |inner| {
            let operand = scalar(inner.clone()).boxed();
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Predicate::And),
                vec(inner.clone(), 0..4).prop_map(Predicate::Or),
                inner.clone().prop_map(|negated| Predicate::Not(Box::new(negated))),
                (inner, truth_value(), any::<bool>()).prop_map(|(operand, value, negated)| Predicate::Is {
                    operand: Box::new(operand),
                    value,
                    negated
                }),
                (comparator(), operand.clone(), operand.clone())
                    .prop_map(|(operator, left, right)| Predicate::Compare { operator, left, right }),
                operand.clone().prop_map(Predicate::IsNull),
                (comparator(), operand.clone(), operand.clone(), any::<bool>())
                    .prop_map(|(operator, left, array, all)| Predicate::Quantified { operator, left, array, all }),
                (operand.clone(), operand.clone(), any::<bool>())
                    .prop_map(|(text, pattern, insensitive)| Predicate::Like { text, pattern, insensitive }),
                operand.prop_map(Predicate::Bool),
            ]
        });
    nested.boxed()
}

/// Leaves that need no set and no answer.
fn plain() -> BoxedStrategy<Predicate> {
    prop_oneof![truth_value().prop_map(Predicate::Const), Just(Predicate::Raise)].boxed()
}

/// Leaves that look up the sets of [`policies`]: the n-th has n keys.
fn lookup() -> BoxedStrategy<Predicate> {
    let mode = prop::sample::select(vec![MemberMode::Exists, MemberMode::In]);
    let member = (0..3_usize, mode).prop_map(|(set, mode)| {
        let values = (0..set).map(|index| column(&index.to_string())).collect();
        Predicate::Member { set, values, mode }
    });
    prop_oneof![plain(), member].boxed()
}

fn policies(leaf: BoxedStrategy<Predicate>) -> impl Strategy<Value = RowPolicy> {
    let conditions = vec(predicate(plain()), 3);
    (predicate(leaf), conditions, prop::option::of(".*")).prop_map(|(predicate, conditions, check_key)| {
        let keys = ["a", "b"];
        let sets = conditions.into_iter().enumerate();
        let sets = sets.map(|(index, condition)| set(&index.to_string(), &keys[..index], condition)).collect();
        RowPolicy { predicate, sets, check_key }
    })
}

proptest! {
    #[test]
    fn policies_round_trip(policy in policies(lookup())) {
        let sent = grant(policy);
        prop_assert_eq!(received(sent.clone().into()), sent);
    }

    #[test]
    fn policies_that_ask_round_trip(policy in policies(prop_oneof![lookup(), Just(Predicate::Ask)].boxed())) {
        let sent = RowPolicy { predicate: Predicate::And(vec![policy.predicate, Predicate::Ask]), ..policy };
        let got = received(grant(sent.clone()).into());
        prop_assert_eq!(got.policy.predicate, sent.predicate);
        prop_assert_eq!(got.policy.sets, sent.sets);
        prop_assert!(got.asks_postgres && got.policy.check_key.is_some());
        prop_assert!(sent.check_key.is_none() || got.policy.check_key == sent.check_key);
    }
}

#[test]
fn a_grant_that_says_nothing_about_rows_is_no_answer() {
    use v1::authorize_response::Decision::{Allow, AllowRows};
    let older = || v1::Grant { policy: None, ..grant(RowPolicy::everything()).into() };
    for response in [Allow(older()), AllowRows(older())] {
        let response = v1::AuthorizeResponse { decision: Some(response) };
        assert_eq!(decision(response, &request("{}")), Err(NotUnderstood("grant without a row policy")));
    }
}

#[test]
fn an_older_gateway_finds_no_decision_in_one_about_some_rows() {
    use v1::authorize_response::Decision::{Allow, AllowRows};
    let sent = |policy| v1::AuthorizeResponse::from(Decision::Allow(grant(policy))).decision.unwrap();
    assert!(matches!(sent(RowPolicy::everything()), Allow(_)));
    for restricting in [Truth::False, Truth::Unknown].map(Predicate::Const).into_iter().chain([Predicate::Ask]) {
        assert!(matches!(sent(policy(restricting)), AllowRows(_)));
    }
}

#[test]
fn a_node_that_is_not_known_asks() {
    asks("a predicate without a node", None);
    let operand = || Some(Box::new(constant(v1::Truth::True.into())));
    for unknown in [0, 99, -1] {
        asks("a truth value", Some(Node::Constant(unknown)));
        asks(
            "a tested truth value",
            Some(Node::Is(Box::new(v1::IsTruth { operand: operand(), value: unknown, negated: true }))),
        );
        let (left, right) = (wire(column("a")), wire(column("b")));
        let compare = v1::Compare { comparator: unknown, left: left.clone(), right: right.clone() };
        asks("a comparator", Some(Node::Compare(Box::new(compare))));
        let quantified = v1::Quantified { comparator: unknown, left, array: right, all: false };
        asks("a comparator with an array", Some(Node::Quantified(Box::new(quantified))));
        let member = v1::Member { set: 0, values: vec![*wire(column("a")).unwrap()], mode: unknown };
        asks("a mode", Some(Node::Member(member)));
    }
    let read = read(Some(Node::Not(Box::new(v1::Predicate { node: None }))));
    let not = Predicate::Not(Box::new(Predicate::Ask));
    assert_eq!(read.policy.predicate, Predicate::Or(vec![not, Predicate::Const(Truth::False)]));
    assert!(read.asks_postgres && read.policy.check_key.is_some());
}

#[test]
fn an_expression_that_is_not_known_asks_where_it_is_used() {
    let unknown = v1::Scalar { node: None };
    let comparator = v1::Comparator::Eq.into();
    let nested = v1::scalar::Node::Coalesce(v1::Scalars { parts: vec![*wire(column("a")).unwrap(), unknown.clone()] });
    for bad in [Some(unknown), Some(v1::Scalar { node: Some(nested) }), None] {
        let bad = bad.map(Box::new);
        let good = || wire(column("a"));
        asks("left", Some(Node::Compare(Box::new(v1::Compare { comparator, left: bad.clone(), right: good() }))));
        asks("right", Some(Node::Compare(Box::new(v1::Compare { comparator, left: good(), right: bad.clone() }))));
        let pattern = v1::Like { text: good(), pattern: bad.clone(), insensitive: false };
        asks("a pattern", Some(Node::Like(Box::new(pattern))));
        let Some(bad) = bad else { continue };
        asks("IS NULL", Some(Node::IsNull(bad.clone())));
        asks("a boolean", Some(Node::Boolean(bad.clone())));
        let member = v1::Member { set: 0, values: vec![*bad], mode: v1::MemberMode::In.into() };
        asks("a member", Some(Node::Member(member)));
    }
    // A binding has no value outside the service that made it.
    let bound = policy(Predicate::IsNull(Scalar::Bound { index: 0, type_oid: 25 }));
    assert_eq!(received(grant(bound).into()).policy.predicate, Predicate::Ask);
}

#[test]
fn members_of_sets_that_are_not_understood_ask() {
    let value = || column("a");
    let member = |set, values| Predicate::Member { set, values, mode: MemberMode::In };
    let sent = RowPolicy {
        predicate: Predicate::Or(vec![
            member(0, vec![value()]),
            member(1, vec![value()]),
            member(2, vec![value()]),
            member(2, vec![]),
            member(3, vec![value()]),
            member(usize::MAX, vec![value()]),
        ]),
        sets: vec![
            set("asks", &["a"], Predicate::Ask),
            set("members", &["a"], member(2, vec![value()])),
            set("good", &["a"], Predicate::Const(Truth::True)),
        ],
        check_key: Some("key".into()),
    };
    let got = received(grant(sent).into());
    let ask = || Predicate::Ask;
    let expected = Predicate::Or(vec![ask(), ask(), member(0, vec![value()]), ask(), ask(), ask()]);
    assert_eq!(got.policy.predicate, expected);
    assert_eq!(got.policy.sets, [set("good", &["a"], Predicate::Const(Truth::True))]);
    assert_eq!(got.policy.check_key.as_deref(), Some("key"));
    assert!(got.asks_postgres);
}

#[test]
fn only_the_same_principal_shares_a_key_that_the_gateway_made() {
    let key = |claims: &str, table_oid| {
        let sent = v1::Grant::from(Grant { table_oid, ..grant(policy(Predicate::Ask)) });
        let response = v1::AuthorizeResponse { decision: Some(v1::authorize_response::Decision::AllowRows(sent)) };
        match decision(response, &request(claims)) {
            Ok(Decision::Allow(grant)) => grant.policy.check_key.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(key("{\"sub\":\"anna\"}", 1), key("{\"sub\":\"anna\"}", 1));
    assert_ne!(key("{\"sub\":\"anna\"}", 1), key("{\"sub\":\"berta\"}", 1));
    assert_ne!(key("{\"sub\":\"anna\"}", 1), key("{\"sub\":\"anna\"}", 2));
    assert!(!key("{\"sub\":\"anna\"}", 1).contains("anna"));
}

/// `levels` nodes of each kind within each other.
fn deep(levels: usize) -> [Predicate; 4] {
    let nest = |leaf: Predicate, wrap: fn(Predicate) -> Predicate| (0..levels).fold(leaf, |inner, _| wrap(inner));
    let text = (0..levels).fold(column("a"), |inner, _| Scalar::Lower(Box::new(inner)));
    let joined = (0..levels).fold(column("a"), |inner, _| Scalar::Coalesce(vec![inner]));
    [
        nest(Predicate::Raise, |inner| Predicate::And(vec![inner])),
        nest(Predicate::Raise, |inner| Predicate::Bool(Scalar::Truth(Box::new(inner)))),
        Predicate::IsNull(text),
        Predicate::IsNull(joined),
    ]
}

#[test]
fn what_is_nested_too_deep_asks() {
    for predicate in deep(20) {
        assert_eq!(received(grant(policy(predicate.clone())).into()).policy.predicate, predicate);
    }
    for levels in [30, 42, 43, 44, 45, 60, 100, 1000] {
        for predicate in deep(levels) {
            let nothing_lost = |got: &Grant| got.policy.predicate == predicate;
            let got = received(grant(policy(predicate.clone())).into());
            assert!(nothing_lost(&got) || got.asks_postgres && got.policy.check_key.is_some(), "{levels}");
            // A set's condition is a message deeper; the set is left out, and whoever looks it up asks.
            let member = Predicate::Member { set: 0, values: vec![], mode: MemberMode::Exists };
            let sent =
                RowPolicy { predicate: member.clone(), sets: vec![set("s", &[], predicate.clone())], check_key: None };
            let got = received(grant(sent.clone()).into());
            assert!(
                got.policy == sent || got.policy.predicate == Predicate::Ask && got.policy.sets.is_empty(),
                "{levels}"
            );
        }
    }
}

#[test]
fn a_message_that_is_nested_deeper_than_any_that_is_sent_is_refused() {
    let nested = (0..100)
        .fold(constant(v1::Truth::True.into()), |inner, _| v1::Predicate { node: Some(Node::Not(Box::new(inner))) });
    let policy = v1::RowPolicy { predicate: Some(nested), sets: Vec::new(), check_key: None };
    assert!(v1::RowPolicy::decode(&*policy.encode_to_vec()).is_err());
}

#[test]
fn what_is_too_large_asks() {
    let literal = Scalar::Literal { type_oid: 25, text: Some("x".repeat(MAX_POLICY_BYTES)) };
    let sent = RowPolicy {
        predicate: Predicate::IsNull(literal),
        sets: vec![set("s", &[], Predicate::Const(Truth::True))],
        check_key: None,
    };
    let got = received(grant(sent).into());
    assert_eq!((got.policy.predicate, got.policy.sets.len(), got.asks_postgres), (Predicate::Ask, 0, true));
    assert!(got.policy.check_key.is_some());
}

#[test]
fn debug_shows_no_literals() {
    let literal = Scalar::Literal { type_oid: 25, text: Some("secret".into()) };
    let json = Scalar::JsonGet { json: Box::new(literal.clone()), key: Box::new(literal.clone()), as_text: true };
    let like = Predicate::Like { text: json, pattern: literal, insensitive: true };
    let sent = RowPolicy { predicate: like.clone(), sets: vec![set("s", &[], like)], check_key: None };
    let response = v1::AuthorizeResponse::from(Decision::Allow(grant(sent)));
    assert!(!format!("{response:?}").contains("secret"));
    assert!(!format!("{:?}", decision(response, &request("secret"))).contains("secret"));
}
