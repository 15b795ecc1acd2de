//! Functions in SQL are followed.

use super::{Database, FunctionInfo, function, rule, show};

const INT: (&str, u32, &str) = ("a", 23, "integer");
const TEXT: (&str, u32, &str) = ("b", 25, "text");

fn with(functions: Vec<FunctionInfo>) -> Database {
    let mut database = Database::new();
    database.functions.extend(functions);
    database
}

#[test]
fn bodies_of_every_form_are_inlined() {
    for body in [
        "select $1 = 7",
        "SELECT a = 7;",
        "select is_seven.a = 7 -- it is",
        "RETURN (a = 7)",
        "BEGIN ATOMIC\n SELECT (a = 7);\nEND",
    ] {
        let parsed_body = body.starts_with(['R', 'B']);
        let database = with(vec![FunctionInfo { parsed_body, ..function("public.is_seven", &[INT], 16, body) }]);
        database.check("public.is_seven(n)", "n = 7", &[]);
        database.check("NOT public.is_seven(n)", "!n = 7", &[]);
        database.check("public.is_seven(7)", "$0", &["public.is_seven(7)"]);
    }
}

#[test]
fn arguments_take_the_types_of_parameters() {
    let mut database = with(vec![
        function("public.same", &[TEXT, ("c", 25, "text")], 16, "select b = c"),
        function("public.mine", &[("u", 2950, "uuid"), ("who", 2950, "uuid")], 16, "select u = who"),
        function("public.shout", &[TEXT], 25, "select upper(b)"),
        function("public.owner", &[("j", 3802, "jsonb")], 2950, "select (j ->> 'owner')::uuid"),
    ]);
    database.functions.push(super::native("upper", super::Volatility::Immutable));
    database.check("public.same(v, 'x')", "v::text = 'x'", &[]);
    database.check("public.mine(user_id, auth.uid())", "user_id = $0", &["auth.uid()"]);
    database.check("(public.shout(body) = 'A'::text)", "upper(body) = 'A'", &[]);
    database.check("(public.owner(meta) = auth.uid())", "(meta ->> 'owner')::uuid = $0", &["auth.uid()"]);
    database.check("public.same(n, 'x')", "ask", &[]);
}

#[test]
fn strict_functions_give_null_for_null() {
    let strict = FunctionInfo {
        strict: true,
        ..function("public.differs", &[INT, ("c", 23, "integer")], 16, "select $1 is distinct from $2")
    };
    let database = with(vec![strict]);
    database.check("public.differs(n, 5)", "(!n is null & n is distinct from 5)", &[]);
    database.check("(NOT public.differs(n, 5))", "!((!n is null & n is distinct from 5) | (n is null & unknown))", &[]);
    let strict = FunctionInfo { strict: true, ..function("public.a", &[TEXT], 25, "select coalesce($1, 'x')") };
    with(vec![strict]).check("(public.a(body) = 'x'::text)", "ask", &[]);
}

#[test]
fn names_are_looked_for_as_the_function_says() {
    let inner = function("app.one", &[INT], 16, "select $1 = 1");
    let outer = |settings: &[&str]| FunctionInfo {
        settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
        ..function("public.outer", &[INT], 16, "select one(a)")
    };
    with(vec![inner.clone(), outer(&["search_path=app, pg_temp"])]).check("public.outer(n)", "n = 1", &[]);
    with(vec![inner.clone(), outer(&["search_path=\"\""])]).check("public.outer(n)", "ask", &[]);
    with(vec![inner.clone(), outer(&[])]).check("public.outer(n)", "ask", &[]);
    with(vec![inner, outer(&["search_path=\"$user\", app"])]).check("public.outer(n)", "ask", &[]);
}

#[test]
fn what_a_function_reads_decides_whether_it_is_bound() {
    let database = with(vec![
        function("public.who", &[], 2950, "select auth.uid()"),
        FunctionInfo { security_definer: true, ..function("public.definer", &[], 2950, "select auth.uid()") },
        FunctionInfo { security_definer: true, ..function("public.current", &[], 19, "select current_user") },
        function("public.clock", &[], 1184, "select now()"),
        function("public.reads", &[], 2950, "select id from public.people limit 1"),
    ]);
    database.check("(user_id = public.who())", "user_id = $0", &["public.who()"]);
    database.check("(user_id = public.definer())", "user_id = $0", &["public.definer()"]);
    database.check("(body = (public.current())::text)", "ask", &[]);
    database.check("(at > public.clock())", "ask", &[]);
    database.check("(user_id = public.reads())", "ask", &[]);
}

#[test]
fn a_call_in_a_body_that_runs_as_its_owner_is_made_by_the_owner() {
    let who = function("public.who", &[], 25, "select current_user::text");
    let sub = function("public.sub", &[], 25, "select current_setting('request.jwt.claim.sub', true)");
    let mine = |inner: &str, security_definer| FunctionInfo {
        security_definer,
        ..function("public.mine", &[TEXT], 16, &format!("select $1 = public.{inner}()"))
    };
    with(vec![who.clone(), mine("who", true)]).check("public.mine(body)", "ask", &[]);
    with(vec![who, mine("who", false)]).check("public.mine(body)", "body = $0", &["public.who()"]);
    with(vec![sub, mine("sub", true)]).check("public.mine(body)", "body = $0", &["public.sub()"]);
}

#[test]
fn a_call_in_a_body_with_a_search_path_is_made_by_that_path() {
    let path =
        |path: &str, called: FunctionInfo| FunctionInfo { settings: vec![format!("search_path={path}")], ..called };
    let one = |schema: &str| function(&format!("{schema}.one"), &[INT], 16, "select $1 = 1");
    let middle = function("public.middle", &[INT], 16, "select one(a)");
    let outer = function("public.outer", &[INT], 16, "select public.middle($1)");
    let all = |outer| vec![one("app"), one("public"), middle.clone(), outer];
    with(all(outer.clone())).check("public.outer(n)", "n = 1", &[]);
    with(all(path("app", outer.clone()))).check("public.outer(n)", "ask", &[]);
    with(all(path("\"\"", outer.clone()))).check("public.outer(n)", "ask", &[]);
    // One that sets its own is not concerned.
    let own = path("app", middle.clone());
    with(vec![one("app"), own, path("\"\"", outer)]).check("public.outer(n)", "n = 1", &[]);
    // Nor is an argument, which is evaluated outside.
    let first = path("app", function("public.first", &[INT], 16, "select $1 = 1"));
    let next = function("public.next", &[INT], 23, "select same(a)");
    let same = function("public.same", &[INT], 23, "select $1");
    with(vec![first, next, same]).check("public.first(public.next(n))", "n = 1", &[]);
    let bound = function("public.who", &[], 25, "select pick()");
    let pick = function("public.pick", &[], 25, "select current_setting('request.jwt.claim.sub', true)");
    let is = function("public.is", &[TEXT], 16, "select $1 = public.who()");
    let all = |is| vec![bound.clone(), pick.clone(), is];
    with(all(is.clone())).check("public.is(body)", "body = $0", &["public.who()"]);
    with(all(path("app", is.clone()))).check("public.is(body)", "ask", &[]);
    // What is in `pg_catalog` is the same by every path, unless another schema has one of the name.
    let sub = function("public.who", &[], 25, "select current_setting('request.jwt.claim.sub', true)");
    let all = |schema: &str| {
        let other = function(&format!("{schema}.current_setting"), &[INT], 25, "select 'x'");
        vec![sub.clone(), path("app", is.clone()), other]
    };
    with(all("other")).check("public.is(body)", "body = $0", &["public.who()"]);
    with(all("app")).check("public.is(body)", "ask", &[]);
    with(all("public")).check("public.is(body)", "ask", &[]);
}

#[test]
fn rules_know_the_claims_functions_of_databases_that_lack_them() {
    let mut database = Database::new();
    database.functions.retain(|function| function.schema != "auth");
    let template = database.compile(&rule("user_id = auth.uid() and auth.role() = 'x' -- mine"));
    let claims = "nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb";
    assert_eq!(show(&template.predicate), "(user_id = $0 & $1)");
    assert_eq!(template.bindings[0].sql, format!("(nullif({claims} ->> 'sub', '')::uuid)"));
    assert_eq!(template.bindings[1].sql, format!("({claims} ->> 'role') = 'x'"));
    assert_eq!(
        template.sql,
        format!("((user_id = (nullif({claims} ->> 'sub', '')::uuid)) AND (({claims} ->> 'role') = 'x'))")
    );
    let with_functions = Database::new().compile(&rule("user_id = auth.uid()"));
    assert_eq!(with_functions.sql, "(user_id = auth.uid())");
}
