//! What is read, and that nothing makes the parser fall.

use proptest::prelude::*;

use super::{Expr, MAX_TEXT_BYTES, parse_body, parse_expression};

/// Policies as they are in use.
const POLICIES: &[&str] = &[
    "(( SELECT auth.uid() AS uid) = user_id)",
    "((auth.jwt() ->> 'email'::text) ~~ '%@example.com'::text)",
    "(EXISTS ( SELECT 1 FROM public.members m WHERE ((m.room_id = messages.room_id) AND (m.user_id = auth.uid()))))",
    "(org_id IN ( SELECT (jsonb_array_elements_text((auth.jwt() -> 'orgs'::text)))::uuid AS x))",
    "CASE WHEN (kind = ANY (ARRAY['a'::text, 'b'::text])) THEN true ELSE (NOT hidden) END",
    "(NOT (user_id IS DISTINCT FROM (((current_setting('request.jwt.claims'::text, true))::json ->> 'sub'::text))::uuid))",
    "a between 1 and 2 and b like E'x\\\\%' escape '$' or \"Odd Name\".\"a\"\"b\" is not null",
    "x::timestamp(3) with time zone > '2020-01-01' and y[1] <> all ($tag$ {1,2} $tag$::int[])",
    "extract(epoch from at) > 1e3 /* a /* nested */ comment */ and (row(1, 2) = (a, b)) -- end",
    "date '2020-01-01' <= d and cast(x as double precision) = .5 and c operator(pg_catalog.=) 3 collate \"C\"",
];

const BODIES: &[&str] = &[
    "select coalesce(nullif(current_setting('a', true), ''), 'x')::uuid;",
    "BEGIN ATOMIC\n SELECT (f.x = 1);\nEND",
    "RETURN ($1 = x)",
];

#[test]
fn policies_in_use_are_understood() {
    for text in POLICIES {
        assert!(parse_expression(text).is_ok(), "{text}");
    }
    for text in BODIES {
        assert!(parse_body(text).is_ok(), "{text}");
    }
}

#[test]
fn operators_bind_as_in_postgres() {
    let same = |text: &str, grouped: &str| {
        assert_eq!(parse_expression(text), parse_expression(grouped), "{text}");
        assert!(parse_expression(text).is_ok(), "{text}");
    };
    same("a or b and not c = d is null", "a or (b and (not ((c = d) is null)))");
    same("a || b like c || d", "(a || b) like (c || d)");
    same("a -> 'x' ->> 'y' = 'z'", "((a -> 'x') ->> 'y') = 'z'");
    same("a + b * c ^ d || e", "(a + (b * (c ^ d))) || e");
    same("- a :: int + b", "(- (a :: int)) + b");
    same("a -1 = b", "(a - 1) = b");
    same("a between b + 1 and c and d", "(a between (b + 1) and c) and d");
    same("not a in (1) or b", "(not (a in (1))) or b");
    same("a is distinct from b + 1 and c", "(a is distinct from (b + 1)) and c");
    same("a = b is true", "(a = b) is true");
    same("a < all (b) and c", "(a < all (b)) and c");
    same("a != b", "a <> b");
    same("a=-1", "a = (- 1)");
    same("a <= b and c", "(a <= b) and c");
    same("x at time zone 'utc' > y", "(x at time zone 'utc') > y");
    same("A.B = \"a\".\"b\"", "a.b = a.b");
    same("a /* x */ = -- y\n b", "a = b");
}

#[test]
fn what_postgres_refuses_or_nobody_writes_is_not_understood() {
    for text in [
        "",
        "a = b = c",
        "a is",
        "a b",
        "a =",
        "(a",
        "a)",
        "'a",
        "\"a",
        "$x",
        "1a",
        "a => b",
        "a, b",
        "b'1'",
        "u&'a'",
        "n'a'",
        "'a' 'b'",
        "E'\\x41'",
        "select 1",
        "from",
        "a similar to b",
        "case end",
        "case a else b end",
        "a between symmetric b and c",
        "count(*) over ()",
        "\0",
        "'\0'",
    ] {
        assert!(parse_expression(text).is_err(), "{text}");
    }
    for text in
        ["select 1; select 2", "insert into a values (1)", "with a as (select 1) select 1", "select 1 union select 2"]
    {
        assert!(parse_body(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_not_understood_stays_within_its_group() {
    let with_opaque = |text: &str| match parse_expression(text) {
        Ok(Expr::And(parts)) => parts.get(1) == Some(&Expr::Opaque),
        _ => false,
    };
    assert!(with_opaque("a and (b c)"));
    assert!(with_opaque("a and (select b from c join d on true)"));
    assert!(with_opaque("a and (with b as (select 1) select 2)"));
    assert!(with_opaque("a and f(b order by c)"));
    assert!(with_opaque("a and substring(b from 1)"));
    assert!(with_opaque("a and exists (select 1 union select 2)"));
    assert!(with_opaque("a and (values (1))"));
    assert!(!with_opaque("a and (b c"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_makes_it_fall(text in "\\PC{0,200}") {
        let _ = parse_expression(&text);
        let _ = parse_body(&text);
    }

    #[test]
    fn no_sequence_of_tokens_makes_it_fall(
        tokens in proptest::collection::vec(prop::sample::select(vec![
            "(", ")", "[", "]", ",", ".", "::", "not", "and", "or", "is", "null", "in", "select", "from", "where", "case",
            "when", "then", "end", "a", "\"B\"", "'c'", "1", "=", "->", "-", "any", "array", "exists", "cast", "as", "int",
            "between", "like", "distinct", "$1", "*", "coalesce", "row", "operator", "collate", "at", "time", "zone",
        ]), 0..400),
    ) {
        let text = tokens.join(" ");
        let _ = parse_expression(&text);
        let _ = parse_body(&text);
    }

    #[test]
    fn no_change_of_a_policy_makes_it_fall(
        which in 0..POLICIES.len(), at in any::<prop::sample::Index>(), drop in 0_usize..20, insert in "\\PC{0,8}",
    ) {
        let characters: Vec<char> = POLICIES[which].chars().collect();
        let at = at.index(characters.len());
        let rest = characters.iter().skip(at + drop);
        let text: String = characters.iter().take(at).chain(insert.chars().collect::<Vec<_>>().iter()).chain(rest).collect();
        let _ = parse_expression(&text);
    }
}

#[test]
fn depth_and_length_are_bounded() {
    for part in
        ["(", "not ", "- ", "array[", "f(", "case when ", "a = (select ", "exists (select (", "cast(", "a in (("]
    {
        let _ = parse_expression(&part.repeat(MAX_TEXT_BYTES / part.len()));
    }
    for part in [" || a", " -> 'a'", "::int", "[1]", " + 1", " and a", " or a"] {
        let _ = parse_expression(&format!("a{}", part.repeat(5_000)));
    }
    assert!(parse_expression(&" ".repeat(MAX_TEXT_BYTES + 1)).is_err());
    assert!(parse_expression(&format!("a{}", " and a".repeat(3_000))).is_ok());
}
