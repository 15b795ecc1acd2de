//! What is constant for Postgres's planner, and what is evaluated in its place although it is the same for all rows.

use super::{Database, Volatility, check, function, policy, show};
use crate::template::{BoundValue, FunctionInfo};

const BOOL: u32 = 16;

fn bound(database: &Database, sql: &str, value: &str) -> String {
    let values = [BoundValue::Value(Some(value.to_owned()))];
    show(&database.policy(sql).bind(&values, || "key".to_owned()).predicate)
}

#[test]
fn literals_leave_out_what_stands_before_them() {
    for (sql, expected) in [
        ("((body)::integer = 1 OR true)", "true"),
        ("(length(body) = 1 OR true)", "true"),
        ("((body)::integer = 1 AND false OR ok)", "ok"),
        ("(NOT ((body)::integer = 1 AND false))", "true"),
        ("((body)::integer = NULL::integer OR ok)", "ok"),
        ("((body)::integer::text || NULL::text = 'x'::text OR ok)", "ok"),
        // In a condition nothing is seen for NULL, as for false.
        ("((body)::integer = 1 AND NULL::boolean OR ok)", "ok"),
        ("(((body)::integer = 1 AND NULL::boolean) IS TRUE OR ok)", "((body::integer = 1 & unknown) is true | ok)"),
        ("(NOT ((body)::integer = 1 AND NULL::boolean))", "!(body::integer = 1 & unknown)"),
        ("((body)::integer IS DISTINCT FROM NULL::integer OR ok)", "(!body::integer is null | ok)"),
        // The planner does not look into arrays.
        ("((body)::integer = ANY (NULL::integer[]) OR ok)", "(body::integer = any(null) | ok)"),
    ] {
        check(sql, expected, &[]);
    }
}

#[test]
fn what_the_planner_does_not_know_keeps_its_place() {
    let mut database = Database::new();
    database.expressions.push(("coalesce((auth.role() = ('x'::text)), false)", BOOL));
    let role = "(auth.role() = 'x'::text)";
    for (sql, value, expected) in [
        (format!("((body)::integer = 1 OR {role})"), "t", "(body::integer = 1 | true)"),
        (format!("({role} OR (body)::integer = 1)"), "t", "true"),
        (format!("(ok OR {role})"), "t", "true"),
        (format!("(length(body) = 1 OR {role} OR ok)"), "t", "(ask | true)"),
        (format!("(((body)::integer = 1 AND {role}) OR ok)"), "f", "((body::integer = 1 & false) | ok)"),
        (format!("((ok AND {role}) OR (n = 1))"), "f", "n = 1"),
        (format!("((body)::integer = 1 AND {role})"), "f", "false"),
        ("((body)::integer = 1 OR (SELECT true))".to_owned(), "t", "(body::integer = 1 | true)"),
        (
            "((body)::integer = 1 OR COALESCE((auth.role() = 'x'::text), false))".to_owned(),
            "t",
            "(body::integer = 1 | true)",
        ),
        ("((n = ANY ('{}'::integer[])) AND (body)::integer = 1 OR ok)".to_owned(), "{}", "ok"),
        (
            "((body)::integer = 1 AND (n = ANY ('{}'::integer[])) OR ok)".to_owned(),
            "{}",
            "((body::integer = 1 & false) | ok)",
        ),
    ] {
        assert_eq!(bound(&database, &sql, value), expected, "{sql}");
    }
    let null = database.policy("((body)::integer = (auth.jwt() ->> 'n'::text)::integer)");
    let null = null.bind(&[BoundValue::Value(None)], || "key".to_owned());
    assert_eq!(show(&null.predicate), "body::integer = null");
}

#[test]
fn functions_are_constant_as_they_are_declared() {
    let of = |volatility, body: &str| FunctionInfo { volatility, ..function("public.open", &[], BOOL, body) };
    let with = |function| {
        let mut database = Database::new();
        database.functions.push(function);
        database
    };
    let sql = "((body)::integer = 1 OR public.open())";
    // An immutable function is evaluated by the planner, whatever it does.
    let claims = "select auth.role() = 'x'";
    assert_eq!(bound(&with(of(Volatility::Immutable, claims)), sql, "t"), "true");
    assert_eq!(bound(&with(of(Volatility::Stable, claims)), sql, "t"), "(body::integer = 1 | true)");
    let definer = FunctionInfo { security_definer: true, ..of(Volatility::Stable, "select true") };
    assert_eq!(bound(&with(definer), sql, "t"), "(body::integer = 1 | true)");
    // Whether its body takes its place is not told.
    assert_eq!(show(&with(of(Volatility::Stable, "select true")).policy(sql).predicate), "ask");
    let nothing_before = "(ok OR public.open())";
    assert_eq!(bound(&with(of(Volatility::Stable, "select true")), nothing_before, "t"), "true");
}

#[test]
fn arguments_that_raise_do_so_before_a_body_that_may_not_need_them() {
    let mut database = Database::new();
    database.functions.push(function("public.fits", &[("a", 23, "integer")], BOOL, "select a = 1"));
    database.functions.push(function("public.lazy", &[("a", 23, "integer")], BOOL, "select false or a = 1 and a > 0"));
    database.functions.push(function("public.none", &[("a", 23, "integer")], BOOL, "select false"));
    database.check("public.fits((body)::integer)", "body::integer = 1", &[]);
    database.check("public.lazy((body)::integer)", "ask", &[]);
    database.check("public.lazy(n)", "(n = 1 & n > 0)", &[]);
    database.check("public.none(n)", "ask", &[]);
}

#[test]
fn what_all_alternatives_have_in_common_is_evaluated_first() {
    check("(((n = 1) AND ok) OR ((room_id = 1) AND ok))", "(ok & (n = 1 | room_id = 1))", &[]);
    check("((((body)::integer = 1) AND ok) OR ok)", "ok", &[]);
    check("((ok AND (n = 1)) OR (ok AND (n = 1)))", "(ok & n = 1)", &[]);
    check("((length(body) = 1 AND ok) OR (length(v) = 1 AND ok))", "(ok & (ask | ask))", &[]);
    check("(length(body) = 1 OR length(v) = 1)", "(ask | ask)", &[]);
    check("(((n = 1) AND ok) OR (room_id = 1))", "((n = 1 & ok) | room_id = 1)", &[]);
    let mut source = policy("((n = 1) AND ok)");
    source.permissive.push("(ok AND (n = 2))".to_owned());
    assert_eq!(show(&Database::new().compile(&source).predicate), "(ok & (n = 1 | n = 2))");
}
