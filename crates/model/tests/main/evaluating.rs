//! Evaluation by itself: values that are missing, truth tables, questions and index keys.

use std::collections::BTreeMap;

use reactor_model::filter::{
    BoundFilter, CompiledFilter, Filter, FilterError, IndexKey, IsKeyword, Operand, Outcome, SchemaMismatch, Truth,
};
use reactor_model::relation::{Collation, Column, Relation, ReplicaIdentity, TypeInfo, TypeKind};
use reactor_model::tuple::{Datum, Tuple};

const INTERVAL: u32 = 1186;

/// `id int4, name text, done bool, wait interval, kind pair`, where only Postgres can compare `wait`.
fn relation() -> Relation {
    let column = |name: &str, type_oid, collation| Column {
        name: name.to_owned(),
        type_oid,
        type_mod: -1,
        primary_key: name == "id",
        identity_key: name == "id",
        collation,
    };
    let info = |name: &str, kind| TypeInfo { name: name.to_owned(), kind };
    let pair = TypeKind::Composite { attributes: vec![("a".to_owned(), 23), ("b".to_owned(), 25)] };
    Relation {
        oid: 1,
        table_oid: 1,
        schema: "public".to_owned(),
        table: "todos".to_owned(),
        columns: vec![
            column("id", 23, Collation::None),
            column("name", 25, Collation::Deterministic),
            column("done", 16, Collation::None),
            column("wait", INTERVAL, Collation::None),
            column("kind", 50_000, Collation::None),
        ],
        identity: ReplicaIdentity::Default,
        row_security: false,
        types: BTreeMap::from([
            (23, info("int4", TypeKind::Builtin)),
            (25, info("text", TypeKind::Builtin)),
            (16, info("bool", TypeKind::Builtin)),
            (INTERVAL, info("interval", TypeKind::Builtin)),
            (50_000, info("pair", pair)),
        ]),
    }
}

fn bind(filter: &str) -> Result<BoundFilter, FilterError> {
    let filter = Filter::parse(filter)?;
    let operands: Vec<_> = filter.conditions().iter().map(|condition| condition.operation.operand.clone()).collect();
    BoundFilter::bind(&filter, &relation(), &operands)
}

fn compile(filter: &str) -> CompiledFilter {
    bind(filter).expect("a filter that binds").compile(&relation()).expect("the same relation")
}

/// A row: `-` is NULL, `?` is unchanged, `!` is left out; fewer values than columns is an older row.
fn row(values: &'static str) -> Tuple {
    Tuple::from_values(values.split_whitespace().map(|value| match value {
        "-" => Datum::Null,
        "?" => Datum::Unchanged,
        "!" => Datum::Omitted,
        text => Datum::Text(text.as_bytes()),
    }))
}

#[track_caller]
fn check(filter: &str, values: &'static str, expected: Truth) {
    assert_eq!(compile(filter).evaluate(&row(values), None, None), Outcome::Known(expected), "{filter} on {values}");
}

#[test]
fn null_makes_a_condition_unknown_unless_it_is_asked_for() {
    for filter in ["id=eq.1", "id=not.eq.1", "id=neq.1", "id=in.(1,2)", "id=not.in.(1,2)", "id=gt.1", "name=like.%"] {
        check(filter, "- - - - -", Truth::Unknown);
    }
    check("id=is.null", "- - - - -", Truth::True);
    check("id=not.is.null", "- - - - -", Truth::False);
    check("id=isdistinct.1", "- - - - -", Truth::True);
    check("id=not.isdistinct.1", "- - - - -", Truth::False);
    check("done=is.true", "- - - - -", Truth::False);
    check("done=is.unknown", "- - - - -", Truth::True);
    check("done=not.is.false", "- - - - -", Truth::True);
    check("id=in.()", "- - - - -", Truth::False);
    check("kind=is.null", "- - - - -", Truth::True);
}

#[test]
fn booleans_are_tested_in_both_of_their_forms() {
    check("done=is.true", "1 a t - -", Truth::True);
    check("done=is.false", "1 a t - -", Truth::False);
    check("done=eq.true", "1 a t - -", Truth::True);
    check("done=eq.t", "1 a t - -", Truth::True);
    check("done=lt.true", "1 a f - -", Truth::True);
}

#[test]
fn a_value_that_was_not_sent_satisfies_nothing_that_needs_it() {
    for values in ["? ? ? ? ?", "! ! ! ! !"] {
        for filter in [
            "id=eq.1",
            "id=neq.1",
            "id=not.eq.1",
            "id=isdistinct.1",
            "name=not.like.a",
            "done=not.is.true",
            "kind=not.is.null",
        ] {
            check(filter, values, Truth::Unknown);
        }
        // It is known not to be NULL.
        check("id=is.null", values, Truth::False);
        check("id=not.is.null", values, Truth::True);
    }
}

#[test]
fn an_unchanged_value_is_taken_from_the_full_old_image() {
    let filter = compile("name=eq.a");
    for (values, old, expected) in [
        ("1 ? t - -", "1 a t - -", Truth::True),
        ("1 b t - -", "1 a t - -", Truth::False),
        ("1 ! t - -", "1 a t - -", Truth::Unknown),
        ("1 ? t - -", "1 ! t - -", Truth::Unknown),
    ] {
        let (image, old) = (row(values), row(old));
        assert_eq!(filter.evaluate(&image, Some(&old), None), Outcome::Known(expected), "{values}");
    }
}

#[test]
fn a_column_that_the_image_does_not_hold_is_unknown_in_every_way() {
    let key = [true, false, false, false, false];
    for (filter, expected) in [
        ("id=eq.1", Truth::True),
        ("name=is.null", Truth::Unknown),
        ("name=not.is.null", Truth::Unknown),
        ("name=isdistinct.a", Truth::Unknown),
        ("name=in.()", Truth::Unknown),
        ("or=(name.eq.a,id.eq.1)", Truth::True),
        ("id=eq.1,name=eq.a", Truth::Unknown),
    ] {
        assert_eq!(compile(filter).evaluate(&row("1 - - - -"), None, Some(&key)), Outcome::Known(expected), "{filter}");
    }
    check("kind=is.null", "1 a", Truth::Unknown);
    assert_eq!(compile("id=eq.1").evaluate(&row("1"), None, Some(&[])), Outcome::Known(Truth::Unknown));
}

#[test]
fn groups_follow_three_valued_logic() {
    check("", "- - - - -", Truth::True);
    for (filter, expected) in [
        ("id=eq.1,name=eq.a", Truth::True),
        ("id=eq.1,name=eq.b", Truth::False),
        ("id=eq.1,done=eq.true", Truth::Unknown),
        ("done=eq.true,id=eq.2", Truth::False),
        ("or=(id.eq.2,name.eq.b)", Truth::False),
        ("or=(id.eq.2,done.eq.true)", Truth::Unknown),
        ("or=(done.eq.true,id.eq.1)", Truth::True),
        ("or=(and(id.eq.1,name.eq.b),and(id.eq.1,name.eq.a))", Truth::True),
        ("or=(id.eq.2,name.eq.a),id=eq.1", Truth::True),
    ] {
        check(filter, "1 a - - -", expected);
    }
}

/// Columns that are asked about, `None` when nothing is.
fn asked(filter: &str, values: &'static str) -> Option<Vec<String>> {
    let (compiled, row) = (compile(filter), row(values));
    match compiled.evaluate(&row, None, None) {
        Outcome::Known(_) => None,
        Outcome::Ask(questions) => {
            Some(questions.iter().map(|question| question.condition.condition.column.clone()).collect())
        }
    }
}

#[test]
fn questions_are_asked_only_where_they_matter() {
    let wait = Some(vec!["wait".to_owned()]);
    assert_eq!(asked("wait=eq.00:00:01", "1 a t 00:00:01 -"), wait);
    assert_eq!(asked("wait=eq.00:00:01", "1 a t - -"), None);
    assert_eq!(asked("wait=eq.00:00:01,id=eq.1", "1 a t 00:00:01 -"), wait);
    assert_eq!(asked("wait=eq.00:00:01,id=eq.2", "1 a t 00:00:01 -"), None);
    assert_eq!(asked("wait=eq.00:00:01,id=eq.2", "- a t 00:00:01 -"), None);
    assert_eq!(asked("or=(wait.eq.00:00:01,id.eq.1)", "1 a t 00:00:01 -"), None);
    assert_eq!(asked("or=(wait.eq.00:00:01,id.eq.2)", "1 a t 00:00:01 -"), wait);
    assert_eq!(
        asked("or=(and(wait.eq.00:00:01,id.eq.2),name.gt.b)", "1 a t 00:00:01 -"),
        Some(vec!["name".to_owned()])
    );
    assert_eq!(asked("kind=is.null", "1 a t - (,)"), Some(vec!["kind".to_owned()]));
    assert_eq!(asked("name=ilike.A%", "1 a t - -"), None);
    assert_eq!(asked("name=ilike.A%", "1 é t - -"), Some(vec!["name".to_owned()]));
}

#[test]
fn answers_are_of_the_operation_without_its_not() {
    let row = row("1 a t 00:00:01 -");
    for (answer, plain, negated) in [
        (Some(Truth::True), Truth::True, Truth::False),
        (Some(Truth::False), Truth::False, Truth::True),
        (Some(Truth::Unknown), Truth::Unknown, Truth::Unknown),
        (None, Truth::Unknown, Truth::Unknown),
    ] {
        let decide = |filter: &str| compile(filter).evaluate_with(&row, None, None, &mut |_, _| answer);
        assert_eq!(decide("wait=eq.1s"), plain);
        assert_eq!(decide("wait=not.eq.1s"), negated);
        assert_eq!(decide("wait=neq.1s"), plain);
    }
    let unasked =
        compile("wait=eq.1s,id=eq.2").evaluate_with(&row, None, None, &mut |_, _| panic!("no question matters"));
    assert_eq!(unasked, Truth::False);
}

#[test]
fn whether_it_may_ask_is_known_before_any_row() {
    for (filter, expected) in [
        ("", false),
        ("id=eq.1,name=eq.a,name=like.a%,name=match.^a", false),
        ("name=gt.a", true),
        ("name=ilike.a", true),
        ("or=(id.eq.1,wait.eq.1s)", true),
        ("wait=is.null", false),
        ("kind=is.null", true),
        ("name=match.\\d", true),
    ] {
        assert_eq!(compile(filter).may_ask(), expected, "{filter}");
    }
}

#[test]
fn a_row_that_satisfies_has_one_of_the_index_keys() {
    let keys = |filter: &str| compile(filter).index_keys();
    let values = |texts: &[(usize, &str)]| {
        Some(
            texts
                .iter()
                .map(|(column, text)| IndexKey::Value { column: *column, text: text.as_bytes().into() })
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(keys("id=eq.1"), values(&[(0, "1")]));
    assert_eq!(keys("id=not.neq.1"), values(&[(0, "1")]));
    assert_eq!(keys("id=not.isdistinct.1"), values(&[(0, "1")]));
    assert_eq!(keys("done=is.true"), values(&[(2, "t")]));
    assert_eq!(keys("done=eq.true"), values(&[(2, "t")]));
    assert_eq!(keys("id=in.(2,1),name=gt.a"), values(&[(0, "1"), (0, "2")]));
    assert_eq!(keys("id=in.(2,1),name=eq.a"), values(&[(1, "a")]));
    assert_eq!(keys("or=(id.eq.1,name.eq.a,id.eq.1)"), values(&[(0, "1"), (1, "a")]));
    assert_eq!(keys("or=(id.eq.1,and(name.eq.a,id.gt.3))"), values(&[(0, "1"), (1, "a")]));
    for filter in [
        "",
        "id=neq.1",
        "id=not.eq.1",
        "id=gt.1",
        "wait=eq.1s",
        "id=isdistinct.1",
        "id=is.null",
        "or=(id.eq.1,id.gt.2)",
        "done=not.is.true",
    ] {
        assert_eq!(keys(filter), None, "{filter}");
    }
}

#[test]
fn the_columns_of_all_conditions_are_read() {
    let columns = |filter: &str| compile(filter).columns().into_iter().collect::<Vec<_>>();
    assert_eq!(columns(""), [0; 0]);
    assert_eq!(columns("or=(name.eq.a,and(done.is.true,id.gt.1,id.lt.2))"), [0, 1, 2]);
}

#[test]
fn another_type_or_no_column_needs_a_new_binding() {
    let bound = bind("id=eq.1").expect("a filter that binds");
    let mismatch = Err(SchemaMismatch { column: "id".to_owned() });
    for change in [
        |column: &mut Column| column.name = "nr".to_owned(),
        |column: &mut Column| column.type_oid = 20,
        |column: &mut Column| column.type_mod = 5,
    ] {
        let mut changed = relation();
        changed.columns.iter_mut().take(1).for_each(change);
        assert_eq!(bound.compile(&changed).map(|_| ()), mismatch);
    }
    let mut moved = relation();
    moved.columns.reverse();
    let compiled = bound.compile(&moved).expect("the column has only moved");
    assert_eq!(compiled.evaluate(&row("- - t a 1"), None, None), Outcome::Known(Truth::True));
}

#[test]
fn what_does_not_fit_the_table_is_refused_with_its_name() {
    let message = |filter: &str| bind(filter).expect_err("a filter that does not bind").to_string();
    assert_eq!(message("nr=eq.1"), "unknown column `nr` in the filter: `public.todos` has no such column");
    assert_eq!(
        message("id=like.1"),
        "operator `like` does not apply to column `id` of type `int4`: it needs a text column"
    );
    assert_eq!(
        message("id=is.true"),
        "operator `is` does not apply to column `id` of type `int4`: true, false and unknown need a boolean column; only null applies"
    );
    assert_eq!(message("name=ilike.a\\"), "filter on column `name`: LIKE pattern must not end with escape character");
    let filter = Filter::parse("id=eq.1").expect("a filter");
    for operands in [&[][..], &[Operand::Keyword(IsKeyword::Null)], &[Operand::List(Vec::new())]] {
        assert!(matches!(BoundFilter::bind(&filter, &relation(), operands), Err(FilterError::OperandsDiffer { .. })));
    }
}
