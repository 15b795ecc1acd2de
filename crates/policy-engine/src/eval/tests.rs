//! Tables of rows and verdicts: values that are missing, truth tables, index keys.

use std::collections::BTreeMap;

use reactor_model::filter::{SchemaMismatch, Truth};
use reactor_model::oid;
use reactor_model::relation::{Collation, Column, Relation, ReplicaIdentity, TypeInfo, TypeKind};
use reactor_model::tuple::{Datum, Tuple};

use super::*;
use crate::program::{Comparator, MemberMode, Scalar};

const MOOD: u32 = 50_001;
const INTERVAL: u32 = 1186;

/// `id int4, name text, done bool, wait interval, doc jsonb, mood mood`.
pub(super) fn relation() -> Relation {
    let column = |name: &str, type_oid, collation| Column {
        name: name.to_owned(),
        type_oid,
        type_mod: -1,
        primary_key: name == "id",
        identity_key: name == "id",
        collation,
    };
    let info = |name: &str, kind| TypeInfo { name: name.to_owned(), kind };
    Relation {
        oid: 1,
        table_oid: 1,
        schema: "public".to_owned(),
        table: "todos".to_owned(),
        columns: vec![
            column("id", oid::INT4, Collation::None),
            column("name", oid::TEXT, Collation::Deterministic),
            column("done", oid::BOOL, Collation::None),
            column("wait", INTERVAL, Collation::None),
            column("doc", oid::JSONB, Collation::None),
            column("mood", MOOD, Collation::None),
        ],
        identity: ReplicaIdentity::Default,
        row_security: false,
        types: BTreeMap::from([
            (oid::INT4, info("int4", TypeKind::Builtin)),
            (oid::TEXT, info("text", TypeKind::Builtin)),
            (oid::BOOL, info("bool", TypeKind::Builtin)),
            (INTERVAL, info("interval", TypeKind::Builtin)),
            (oid::JSONB, info("jsonb", TypeKind::Builtin)),
            (MOOD, info("mood", TypeKind::Enum { labels: vec!["sad".to_owned(), "ok".to_owned()] })),
        ]),
    }
}

/// One set with a row for each of these keys; `-` is NULL.
struct Keys(&'static [&'static str]);

impl Sets for Keys {
    fn lookup(&self, _: usize, values: &[Option<&[u8]>]) -> Lookup {
        let found = self.0.iter().any(|key| values == [Some(key.as_bytes())]);
        Lookup { found, any_row: !self.0.is_empty(), any_null_key: self.0.contains(&"-") }
    }
}

fn column(name: &str) -> Scalar {
    let relation = relation();
    let index = relation.column_index(name).expect("a column");
    Scalar::Column { name: name.to_owned(), type_oid: relation.columns[index].type_oid }
}

fn literal(type_oid: u32, text: &str) -> Scalar {
    Scalar::Literal { type_oid, text: Some(text.to_owned()) }
}

fn null(type_oid: u32) -> Scalar {
    Scalar::Literal { type_oid, text: None }
}

fn cast(operand: Scalar, type_oid: u32) -> Scalar {
    Scalar::Cast { operand: Box::new(operand), type_oid }
}

fn compare(operator: Comparator, left: Scalar, right: Scalar) -> Predicate {
    Predicate::Compare { operator, left, right }
}

fn id_is(text: &str) -> Predicate {
    compare(Comparator::Eq, column("id"), literal(oid::INT4, text))
}

fn name_is(text: &str) -> Predicate {
    compare(Comparator::Eq, column("name"), literal(oid::TEXT, text))
}

fn name_as_int_is(text: &str) -> Predicate {
    compare(Comparator::Eq, cast(column("name"), oid::INT4), literal(oid::INT4, text))
}

fn not(operand: Predicate) -> Predicate {
    Predicate::Not(Box::new(operand))
}

fn member(values: Vec<Scalar>, mode: MemberMode) -> Predicate {
    Predicate::Member { set: 0, values, mode }
}

/// A row: `-` is NULL, `?` is unchanged; fewer values than columns is an older row.
fn row(values: &'static str) -> Tuple {
    Tuple::from_values(values.split_whitespace().map(|value| match value {
        "-" => Datum::Null,
        "?" => Datum::Unchanged,
        text => Datum::Text(text.as_bytes()),
    }))
}

fn compile(predicate: &Predicate) -> CompiledPredicate {
    predicate.compile(&relation()).expect("columns of the relation")
}

fn judge(predicate: &Predicate, values: &'static str, keys: &'static [&'static str]) -> Verdict {
    let image = row(values);
    compile(predicate).evaluate(&RowImage { image: &image, fallback: None, held: None }, &Keys(keys))
}

#[track_caller]
fn check(predicate: &Predicate, values: &'static str, expected: Verdict) {
    assert_eq!(judge(predicate, values, &[]), expected, "{predicate:?} on {values}");
}

#[test]
fn comparisons_know_null() {
    for (values, equal, unequal, distinct) in [
        ("1", Verdict::True, Verdict::False, Verdict::False),
        ("2", Verdict::False, Verdict::True, Verdict::True),
        ("-", Verdict::Unknown, Verdict::Unknown, Verdict::True),
        ("", Verdict::Missing, Verdict::Missing, Verdict::Missing),
        ("?", Verdict::Missing, Verdict::Missing, Verdict::Missing),
    ] {
        let one = || literal(oid::INT4, "1");
        check(&compare(Comparator::Eq, column("id"), one()), values, equal);
        check(&compare(Comparator::Ne, one(), column("id")), values, unequal);
        check(&not(compare(Comparator::Eq, column("id"), one())), values, unequal);
        check(&compare(Comparator::Distinct, column("id"), one()), values, distinct);
    }
    check(&compare(Comparator::Lt, literal(oid::INT4, "9"), column("id")), "10", Verdict::True);
    check(&compare(Comparator::NotDistinct, column("id"), null(oid::INT4)), "-", Verdict::True);
    check(&compare(Comparator::Eq, column("id"), null(oid::INT4)), "", Verdict::Unknown);
    check(&Predicate::IsNull(column("id")), "?", Verdict::False);
    check(&Predicate::IsNull(column("id")), "", Verdict::Missing);
}

#[test]
fn what_cannot_be_known_is_asked() {
    for predicate in [
        compare(Comparator::Eq, column("wait"), literal(INTERVAL, "00:00:01")),
        compare(Comparator::Lt, column("name"), literal(oid::TEXT, "a")),
        compare(Comparator::Eq, column("id"), literal(oid::TEXT, "1")),
        compare(Comparator::Gt, column("doc"), literal(oid::JSONB, "1")),
        compare(Comparator::Lt, column("mood"), literal(MOOD, "new")),
        compare(Comparator::Eq, cast(column("name"), INTERVAL), literal(INTERVAL, "00:00:01")),
        compare(Comparator::Eq, column("id"), Scalar::Bound { index: 0, type_oid: oid::INT4 }),
        Predicate::Bool(column("id")),
        Predicate::Ask,
    ] {
        check(&predicate, "1 a t 00:00:01 1 sad", Verdict::Ask);
        assert!(compile(&predicate).may_ask(), "{predicate:?}");
    }
}

#[test]
fn the_order_of_parts_decides_between_errors_and_falsehood() {
    let (raises, no, yes, ask) = (name_as_int_is("1"), id_is("2"), id_is("1"), Predicate::Ask);
    let parts = |parts: &[&Predicate]| parts.iter().map(|part| (*part).clone()).collect::<Vec<_>>();
    let and = |list: &[&Predicate]| Predicate::And(parts(list));
    let or = |list: &[&Predicate]| Predicate::Or(parts(list));
    let values = "1 x";
    check(&and(&[]), values, Verdict::True);
    check(&or(&[]), values, Verdict::False);
    check(&and(&[&no, &raises]), values, Verdict::False);
    check(&and(&[&raises, &no]), values, Verdict::Raised);
    check(&and(&[&yes, &ask]), values, Verdict::Ask);
    check(&or(&[&yes, &raises]), values, Verdict::True);
    check(&or(&[&raises, &yes]), values, Verdict::Raised);
    check(&or(&[&no, &ask]), values, Verdict::Ask);
    check(&not(raises.clone()), values, Verdict::Raised);
    check(&not(or(&[&no, &ask])), values, Verdict::Ask);
    check(&or(&[&and(&[&raises, &Predicate::Const(Truth::False)]), &yes]), values, Verdict::Raised);
    check(&or(&[&no, &Predicate::Raise, &yes]), values, Verdict::Raised);
}

#[test]
fn what_is_asked_may_raise_before_what_decides() {
    let (raises, no, yes, ask) = (name_as_int_is("1"), id_is("2"), id_is("1"), Predicate::Ask);
    // What is in lower case outside ASCII is not known, but is never an error.
    let lower = compare(Comparator::Eq, Scalar::Lower(Box::new(column("name"))), literal(oid::TEXT, "é"));
    let and = |list: &[&Predicate]| Predicate::And(list.iter().map(|part| (*part).clone()).collect());
    let or = |list: &[&Predicate]| Predicate::Or(list.iter().map(|part| (*part).clone()).collect());
    let values = "1 É";
    check(&lower, values, Verdict::Ask);
    check(&or(&[&yes, &ask]), values, Verdict::True);
    check(&or(&[&ask, &yes]), values, Verdict::Ask);
    check(&or(&[&lower, &yes]), values, Verdict::True);
    check(&or(&[&and(&[&ask, &yes]), &yes]), values, Verdict::Ask);
    check(&or(&[&ask, &Predicate::Const(Truth::True)]), values, Verdict::Ask);
    assert!(compile(&or(&[&ask, &Predicate::Const(Truth::True)])).may_ask());
    check(&or(&[&lower, &Predicate::Const(Truth::True)]), values, Verdict::True);
    assert!(!compile(&or(&[&lower, &Predicate::Const(Truth::True)])).may_ask());
    // Of a whole conjunction it does not matter why it is not true.
    check(&and(&[&ask, &no]), values, Verdict::False);
    check(&and(&[&ask, &raises]), values, Verdict::Raised);
    assert!(!compile(&and(&[&ask, &Predicate::Const(Truth::False)])).may_ask());
    check(&or(&[&no, &and(&[&ask, &no])]), values, Verdict::False);
    // Before an alternative it does.
    check(&or(&[&and(&[&ask, &no]), &no]), values, Verdict::Ask);
    check(&or(&[&and(&[&ask, &raises]), &yes]), values, Verdict::Ask);
    check(&or(&[&and(&[&lower, &no]), &yes]), values, Verdict::True);
    check(&not(and(&[&ask, &no])), values, Verdict::Ask);
    check(&not(and(&[&lower, &no])), values, Verdict::True);
    // A part that is unknown does not keep those after it from raising, one that is false does.
    let unknown = Predicate::Const(Truth::Unknown);
    check(&or(&[&and(&[&and(&[&lower, &unknown]), &raises]), &yes]), values, Verdict::Ask);
    check(&or(&[&and(&[&lower, &unknown]), &yes]), values, Verdict::True);
    let is_true = Predicate::Is { operand: Box::new(and(&[&lower, &unknown])), value: Truth::True, negated: false };
    check(&not(is_true), values, Verdict::True);
}

#[test]
fn missing_values_matter_only_where_they_decide() {
    let missing = name_is("a");
    let with = |other: Predicate| [missing.clone(), other];
    check(&Predicate::And(with(id_is("1")).into()), "1", Verdict::Missing);
    check(&Predicate::And(with(id_is("2")).into()), "1", Verdict::False);
    check(&Predicate::And(with(Predicate::Ask).into()), "1", Verdict::Ask);
    let as_int = || name_as_int_is("1");
    check(&Predicate::Or(vec![as_int(), id_is("1")]), "1", Verdict::Missing);
    check(&Predicate::Or(vec![id_is("1"), as_int()]), "1", Verdict::True);
    check(&Predicate::And(vec![as_int(), id_is("2")]), "1", Verdict::False);
    check(&not(Predicate::And(vec![as_int(), id_is("2")])), "1", Verdict::Missing);
    check(&Predicate::And(with(Predicate::Raise).into()), "1", Verdict::Raised);
    check(&not(Predicate::And(with(Predicate::Raise).into())), "1", Verdict::Missing);
    check(&Predicate::Or(with(id_is("1")).into()), "1", Verdict::True);
    check(&Predicate::Or(with(id_is("2")).into()), "1", Verdict::Missing);
    check(&Predicate::Or(with(Predicate::Raise).into()), "1", Verdict::Missing);
}

#[test]
fn an_unknown_conjunct_needs_no_answer_but_where_the_value_counts() {
    let conjunction = Predicate::And(vec![Predicate::Ask, id_is("1")]);
    check(&conjunction, "-", Verdict::Unknown);
    check(&not(conjunction.clone()), "-", Verdict::Ask);
    let is_unknown = Predicate::Is { operand: Box::new(conjunction), value: Truth::Unknown, negated: false };
    check(&is_unknown, "-", Verdict::Ask);
}

#[test]
fn old_images_lend_unchanged_values() {
    let predicate = compile(&name_is("a"));
    let (image, old) = (row("1 ?"), row("1 a"));
    let judge = |fallback, held| predicate.evaluate(&RowImage { image: &image, fallback, held }, &Keys(&[]));
    assert_eq!(judge(Some(&old), None), Verdict::True);
    assert_eq!(judge(None, None), Verdict::Missing);
    assert_eq!(judge(Some(&old), Some(&[true, false])), Verdict::Missing);
}

#[test]
fn arrays_are_searched() {
    let within =
        |operator, left, array: &str, all| Predicate::Quantified { operator, left, array: literal(1007, array), all };
    let any = |array| within(Comparator::Eq, column("id"), array, false);
    check(&any("{3,1,2}"), "1", Verdict::True);
    check(&any("{3,NULL}"), "1", Verdict::Unknown);
    check(&any("{3}"), "1", Verdict::False);
    check(&any("{}"), "-", Verdict::False);
    check(&any("{3}"), "-", Verdict::Unknown);
    let none = |array| within(Comparator::Ne, column("id"), array, true);
    check(&none("{3,1}"), "1", Verdict::False);
    check(&none("{3,NULL}"), "1", Verdict::Unknown);
    check(&none("{3,2}"), "1", Verdict::True);
    check(&none("{}"), "-", Verdict::True);
    check(&within(Comparator::Gt, column("id"), "{9,20}", false), "10", Verdict::True);
    check(&within(Comparator::Gt, column("id"), "{9,20}", true), "10", Verdict::False);
    check(&within(Comparator::Gt, column("id"), "{9,NULL}", true), "10", Verdict::Unknown);
    let moods = Predicate::Quantified {
        operator: Comparator::Eq,
        left: column("mood"),
        array: literal(50_002, "{ok,sad}"),
        all: false,
    };
    check(&moods, "- - - - - ok", Verdict::True);
}

#[test]
fn sets_know_null() {
    let check = |mode, values, keys, expected| {
        assert_eq!(judge(&member(vec![column("id")], mode), values, keys), expected, "{mode:?} {values} in {keys:?}");
    };
    for (values, keys, exists, within) in [
        ("1", &["1", "-"][..], Verdict::True, Verdict::True),
        ("2", &["1", "-"], Verdict::False, Verdict::Unknown),
        ("2", &["1"], Verdict::False, Verdict::False),
        ("-", &["1"], Verdict::False, Verdict::Unknown),
        ("-", &[], Verdict::False, Verdict::False),
        ("?", &["1"], Verdict::Missing, Verdict::Missing),
    ] {
        check(MemberMode::Exists, values, keys, exists);
        check(MemberMode::In, values, keys, within);
    }
    assert_eq!(judge(&member(Vec::new(), MemberMode::Exists), "1", &["1"]), Verdict::True);
    assert_eq!(judge(&member(Vec::new(), MemberMode::Exists), "1", &[]), Verdict::False);
    let pair = || vec![column("id"), column("name")];
    assert_eq!(judge(&member(pair(), MemberMode::In), "1 -", &["1"]), Verdict::Ask);
    assert_eq!(judge(&member(pair(), MemberMode::In), "1 a", &["1"]), Verdict::False);
    let raising = || vec![cast(column("name"), oid::INT4)];
    assert_eq!(judge(&member(raising(), MemberMode::Exists), "1 x", &["1"]), Verdict::Ask);
}

#[test]
fn case_is_known_for_ascii_only() {
    let lower = compare(Comparator::Eq, Scalar::Lower(Box::new(column("name"))), literal(oid::TEXT, "ab"));
    check(&lower, "1 aB", Verdict::True);
    check(&lower, "1 é", Verdict::Ask);
    // In Turkish the small letter of I is ı.
    check(&lower, "1 I", Verdict::Ask);
    let like = |insensitive, pattern| Predicate::Like {
        text: column("name"),
        pattern: literal(oid::TEXT, pattern),
        insensitive,
    };
    check(&like(false, "a%"), "1 ab", Verdict::True);
    check(&like(false, "a%"), "1 Ab", Verdict::False);
    check(&like(false, "_"), "1 é", Verdict::True);
    check(&like(true, "A%"), "1 ab", Verdict::True);
    check(&like(true, "a%"), "1 é", Verdict::Ask);
    check(&like(false, "a\\"), "1 ab", Verdict::Ask);
    assert!(!compile(&like(false, "a%")).may_ask());
    assert!(compile(&like(true, "a%")).may_ask());
}

#[test]
fn constants_are_evaluated_before_any_row() {
    let uuid = cast(literal(oid::TEXT, "A0EEBC999C0B4EF8BB6D6BB9BD380A11"), oid::UUID);
    let predicate = compare(Comparator::Eq, cast(column("name"), oid::UUID), uuid);
    check(&predicate, "1 {a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", Verdict::True);
    let raises = compare(Comparator::Eq, column("id"), cast(literal(oid::TEXT, "x"), oid::INT4));
    check(&raises, "1", Verdict::Raised);
    let get = |json, key| Scalar::JsonGet { json: Box::new(json), key: Box::new(key), as_text: true };
    let name = get(literal(oid::JSONB, r#"{"a": "x"}"#), literal(oid::TEXT, "a"));
    check(&compare(Comparator::Eq, column("name"), name), "1 x", Verdict::True);
    let first = get(column("doc"), literal(oid::INT4, "0"));
    check(&compare(Comparator::Eq, first, literal(oid::TEXT, "7")), "1 a t - [7]", Verdict::True);
}

#[test]
fn a_row_that_is_seen_has_one_of_the_index_keys() {
    let keys = |predicate: &Predicate| compile(predicate).index_keys();
    let value = |column, text: &str| IndexKey::Value { column, text: text.as_bytes().into() };
    let set = || IndexKey::Set { column: 0, set: 0 };
    let list = |array| Predicate::Quantified {
        operator: Comparator::Eq,
        left: column("id"),
        array: literal(1007, array),
        all: false,
    };
    let in_set = || member(vec![column("id")], MemberMode::Exists);
    let done = || Predicate::Bool(column("done"));
    for (predicate, expected) in [
        (id_is("1"), vec![value(0, "1")]),
        (list("{2,1,NULL}"), vec![value(0, "1"), value(0, "2")]),
        (done(), vec![value(2, "t")]),
        (not(done()), vec![value(2, "f")]),
        (in_set(), vec![set()]),
        (Predicate::And(vec![in_set(), list("{2,1}")]), vec![value(0, "1"), value(0, "2")]),
        (Predicate::And(vec![list("{2,1}"), Predicate::Ask, name_is("a")]), vec![value(1, "a")]),
        (Predicate::Or(vec![name_is("a"), in_set()]), vec![value(1, "a"), set()]),
        (Predicate::Or(Vec::new()), Vec::new()),
        (compare(Comparator::Eq, column("id"), null(oid::INT4)), Vec::new()),
        (compare(Comparator::Eq, cast(column("id"), oid::INT8), literal(oid::INT8, "1")), vec![value(0, "1")]),
        (compare(Comparator::NotDistinct, column("id"), literal(oid::INT4, "1")), vec![value(0, "1")]),
    ] {
        assert_eq!(keys(&predicate), Some(expected), "{predicate:?}");
    }
    for predicate in [
        Predicate::Const(Truth::True),
        Predicate::Ask,
        not(id_is("1")),
        not(in_set()),
        not(Predicate::And(vec![id_is("1"), name_is("a")])),
        Predicate::IsNull(column("id")),
        Predicate::Or(vec![id_is("1"), Predicate::Ask]),
        compare(Comparator::Distinct, column("id"), literal(oid::INT4, "1")),
        member(vec![column("id"), column("name")], MemberMode::Exists),
    ] {
        assert_eq!(keys(&predicate), None, "{predicate:?}");
    }
}

#[test]
fn the_columns_of_all_parts_are_read() {
    let predicate = Predicate::Or(vec![
        Predicate::And(vec![name_is("a"), compare(Comparator::Eq, cast(column("id"), oid::TEXT), column("name"))]),
        member(vec![Scalar::Coalesce(vec![column("done"), literal(oid::BOOL, "true")])], MemberMode::In),
    ]);
    assert_eq!(compile(&predicate).columns().into_iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn another_type_or_no_column_is_a_mismatch() {
    for change in
        [|column: &mut Column| column.name = "nr".to_owned(), |column: &mut Column| column.type_oid = oid::INT8]
    {
        let mut changed = relation();
        changed.columns.iter_mut().take(1).for_each(change);
        let predicate = Predicate::Or(vec![Predicate::Const(Truth::True), id_is("1")]);
        assert_eq!(predicate.compile(&changed).map(|_| ()), Err(SchemaMismatch { column: "id".to_owned() }));
    }
}

#[test]
fn deep_predicates_are_left_to_postgres() {
    let mut predicate = id_is("1");
    for _ in 0..1000 {
        predicate = Predicate::Is { operand: Box::new(predicate), value: Truth::True, negated: false };
    }
    check(&predicate, "1", Verdict::Ask);
}
