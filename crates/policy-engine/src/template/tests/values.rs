//! Comparisons, connectives and the values that they are over.

use super::{Database, check};

const UID: &str = "auth.uid()";

#[test]
fn columns_compare_with_bindings_and_literals() {
    check("(user_id = auth.uid())", "user_id = $0", &[UID]);
    check("(auth.uid() = user_id)", "$0 = user_id", &[UID]);
    check("(( SELECT auth.uid() AS uid) = user_id)", "$0 = user_id", &["(SELECT auth.uid() AS uid)"]);
    check("(n = 5)", "n = 5", &[]);
    check("(n = '-5'::integer)", "n = -5", &[]);
    check("n = -5", "n = -5", &[]);
    check("(room_id > '5000000000'::bigint)", "room_id > 5000000000", &[]);
    check("(room_id <= n)", "room_id <= n", &[]);
    check("(body <> 'x'::text)", "body <> 'x'", &[]);
    check("((v)::text = 'x'::text)", "v::text = 'x'", &[]);
    check("(v = 'x')", "v::text = 'x'", &[]);
    check(
        "(user_id = '6f1d0a3c-0000-4000-8000-000000000000'::uuid)",
        "user_id = $0",
        &["'6f1d0a3c-0000-4000-8000-000000000000'::uuid"],
    );
    check(
        "user_id = '6f1d0a3c-0000-4000-8000-000000000000'",
        "user_id = $0",
        &["'6f1d0a3c-0000-4000-8000-000000000000'::uuid"],
    );
    check("(m = 'happy'::public.mood)", "m = $0", &["'happy'::public.mood"]);
    check("m = 'happy'", "m = 'happy'", &[]);
    check("(amount = 1.50)", "amount = $0", &["1.50"]);
    check("(amount = 1)", "amount = '1'", &[]);
    check("((n)::numeric = 1.5)", "n::numeric = $0", &["1.5"]);
    check("(pad = 'a'::bpchar)", "pad = $0", &["'a'::bpchar"]);
    check("(w = 'a'::text)", "w = 'a'", &[]);
    check("((w)::text = 'a'::text)", "w = 'a'", &[]);
    check(
        "(at > '2020-01-01 00:00:00+00'::timestamp with time zone)",
        "at > $0",
        &["'2020-01-01 00:00:00+00'::timestamp with time zone"],
    );
    check("(code < 'b'::text)", "code < 'b'", &[]);
}

#[test]
fn three_valued_connectives() {
    check("((n = 1) AND (room_id = 2) AND ok)", "(n = 1 & room_id = 2 & ok)", &[]);
    check("((n = 1) OR (NOT ok))", "(n = 1 | !ok)", &[]);
    check("NOT (n = 1 AND ok)", "!(n = 1 & ok)", &[]);
    check("(ok IS TRUE)", "ok is true", &[]);
    check("(ok IS NOT FALSE)", "ok is not false", &[]);
    check("((n = 1) IS UNKNOWN)", "n = 1 is unknown", &[]);
    check("((n = 1) IS NULL)", "n = 1 is unknown", &[]);
    check("(body IS NULL)", "body is null", &[]);
    check("(body IS NOT NULL)", "!body is null", &[]);
    check("body isnull or body notnull", "(body is null | !body is null)", &[]);
    check("(n IS DISTINCT FROM 1)", "n is distinct from 1", &[]);
    check("(n IS NOT DISTINCT FROM NULL::integer)", "n is null", &[]);
    check("(ok = true)", "ok = 't'", &[]);
    check("((n = 1) = ok)", "[n = 1] = ok", &[]);
    check("true", "true", &[]);
    check("false", "false", &[]);
    check("NULL::boolean", "unknown", &[]);
    check("(false OR (n = 1))", "n = 1", &[]);
    check("(n = NULL)", "unknown", &[]);
}

#[test]
fn lists_ranges_arrays_and_patterns() {
    check("n in (1, 2)", "(n = 1 | n = 2)", &[]);
    check("n not in (1, null)", "!(n = 1 | unknown)", &[]);
    check("(body = ANY (ARRAY['a'::text, 'b'::text]))", "body = any($0)", &["ARRAY[('a'::text), ('b'::text)]"]);
    check(
        "((v)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
        "v::text = any($0)",
        &["(ARRAY[('a'::character varying), ('b'::character varying)])::text[]"],
    );
    check(
        "(m = ANY (ARRAY['sad'::public.mood, 'happy'::public.mood]))",
        "m = any($0)",
        &["ARRAY[('sad'::public.mood), ('happy'::public.mood)]"],
    );
    check("(n <> ALL ('{1,2}'::integer[]))", "n <> all($0)", &["'{1,2}'::integer[]"]);
    check("n = any ('{1,2}')", "n = any($0)", &["'{1,2}'::integer[]"]);
    check("(auth.uid() = ANY (readers))", "$0 = any(readers)", &[UID]);
    check("((n >= 1) AND (n <= 5))", "(n >= 1 & n <= 5)", &[]);
    check("n between 1 and 5", "(n >= 1 & n <= 5)", &[]);
    check("n not between 1 and 5 and ok", "(!(n >= 1 & n <= 5) & ok)", &[]);
    check("(body ~~ 'a%'::text)", "body ~~ 'a%'", &[]);
    check("(body !~~* 'a%'::text)", "!body ~~* 'a%'", &[]);
    check("body not like 'a%' and v ilike '%b'", "(!body ~~ 'a%' & v::text ~~* '%b')", &[]);
    let mut database = Database::new();
    database.expressions.push(("pg_catalog.like_escape('a'::text, 'b'::text)", 25));
    database.expressions.push(("pg_catalog.like_escape('a$%', '$')", 25));
    database.check("body like 'a$%' escape '$'", "body ~~ $0", &["pg_catalog.like_escape('a$%', '$')"]);
}

#[test]
fn texts_json_and_casts() {
    check("((body || '-x'::text) = 'a-x'::text)", "(body || '-x') = 'a-x'", &[]);
    check("(((v)::text || body) = 'a'::text)", "(v::text || body) = 'a'", &[]);
    check("(body = ('a:'::text || user_id))", "body = ('a:' || user_id::text)", &[]);
    check("((n || ('-'::text || v)) = body)", "(n::text || ('-' || v::text)) = body", &[]);
    check("(('a'::text || ok) = body)", "ask", &[]);
    check("((v || n) = body)", "ask", &[]);
    check("(lower(body) = 'a'::text)", "lower(body) = 'a'", &[]);
    check("(upper((v)::text) = 'A'::text)", "upper(v::text) = 'A'", &[]);
    check("(COALESCE(body, 'none'::text) = 'none'::text)", "coalesce(body, 'none') = 'none'", &[]);
    check("coalesce(ok, false)", "coalesce(ok, 'f')", &[]);
    check("COALESCE((n = 1), false)", "coalesce([n = 1], 'f')", &[]);
    check("((meta ->> 'a'::text) = 'x'::text)", "(meta ->> 'a') = 'x'", &[]);
    check("(((meta -> 'a'::text) ->> 0) = 'x'::text)", "((meta -> 'a') ->> 0) = 'x'", &[]);
    check("(meta -> 'a' ->> 'b') = 'x'", "((meta -> 'a') ->> 'b') = 'x'", &[]);
    check("((meta #>> '{a,b}'::text[]) = 'x'::text)", "(meta #>> $0) = 'x'", &["'{a,b}'::text[]"]);
    check("((meta #> '{a}') = '1'::jsonb)", "(meta #> $0) = $1", &["'{a}'::text[]", "'1'::jsonb"]);
    check("(((meta ->> 'user'::text))::uuid = auth.uid())", "(meta ->> 'user')::uuid = $0", &[UID]);
    check("(((meta ->> 'n'::text))::integer > 3)", "(meta ->> 'n')::integer > 3", &[]);
    check("((user_id)::text = 'x'::text)", "user_id::text = 'x'", &[]);
    check("((m)::text = 'sad'::text)", "m::text = 'sad'", &[]);
    check("(((meta ->> 'flag'::text))::boolean)", "(meta ->> 'flag')::boolean", &[]);
    check("cast(n as text) = '1'", "n::text = '1'", &[]);
    check("((at)::date = '2020-01-01'::date)", "ask", &[]);
}

#[test]
fn parts_without_columns_are_bound_as_a_whole() {
    check("(auth.role() = 'authenticated'::text)", "$0", &["auth.role() = ('authenticated'::text)"]);
    check(
        "((user_id)::text = ((current_setting('request.jwt.claims'::text, true))::json ->> 'sub'::text))",
        "user_id::text = $0",
        &["(pg_catalog.current_setting(('request.jwt.claims'::text), true)::json) ->> ('sub'::text)"],
    );
    check(
        "(user_id = (((auth.jwt() -> 'app'::text) ->> 'org'::text))::uuid)",
        "user_id = $0",
        &["((auth.jwt() -> ('app'::text)) ->> ('org'::text))::uuid"],
    );
    check("((CURRENT_USER = 'x'::name) AND ok)", "($0 & ok)", &["current_user = ('x'::name)"]);
    check("((auth.uid() IS NOT NULL) OR ok)", "($0 | ok)", &["auth.uid() IS NOT NULL"]);
    let mut database = Database::new();
    let teams = "pg_catalog.jsonb_array_elements_text((auth.jwt() -> ('teams'::text)))";
    let array = format!("ARRAY(SELECT {teams} AS x)");
    let rows = format!("ARRAY(SELECT t.value FROM {teams} AS t(value))");
    database.expressions = vec![(array.clone().leak(), 1009), (rows.clone().leak(), 1009)];
    let of_claims = "jsonb_array_elements_text((auth.jwt() -> 'teams'::text))";
    database.check(&format!("(body = ANY (ARRAY( SELECT {of_claims} AS x)))"), "body = any($0)", &[&array]);
    database.check(&format!("(body = ANY ( SELECT {of_claims} AS x))"), "body = any($0)", &[&array]);
    database.check(&format!("(body IN ( SELECT {of_claims} AS x))"), "body = any($0)", &[&array]);
    database.check(&format!("(body IN ( SELECT t.value FROM {of_claims} t(value)))"), "body = any($0)", &[&rows]);
    database.check(&format!("(body = {of_claims})"), "ask", &["(auth.jwt() -> ('teams'::text))::text"]);
}

#[test]
fn the_branches_of_case_exclude_each_other() {
    check(
        "CASE WHEN ok THEN (n = 1) ELSE (n = 2) END",
        "((ok is true & n = 1) | (ok is not true & n = 2)) is true",
        &[],
    );
    check(
        "CASE body WHEN 'a'::text THEN true WHEN 'b'::text THEN ok END",
        "(body = 'a' is true | (body = 'a' is not true & body = 'b' is true & ok) | \
         (body = 'a' is not true & body = 'b' is not true & unknown)) is true",
        &[],
    );
}
