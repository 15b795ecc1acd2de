//! What is left to Postgres, and whether it is known which claims that reads.

use super::{Database, FunctionInfo, Volatility, check, function, native, policy, show};

/// The atom is left to Postgres, beside another that is not.
fn asks(sql: &str) {
    asks_in(&Database::new(), sql);
}

fn asks_in(database: &Database, sql: &str) {
    let template = database.policy(&format!("(n = 1) AND {sql}"));
    assert_eq!(show(&template.predicate), "(n = 1 & ask)", "{sql}");
}

#[test]
fn types_that_are_not_judged_here() {
    asks("(p = p)");
    asks("(sq IS NULL)");
    asks("((raw ->> 'a'::text) = 'x'::text)");
    asks("((meta -> 'a'::text) < '1'::jsonb)");
    asks("(body = v COLLATE \"C\")");
    asks("(v)::character varying(2) = 'x'");
    asks("((n)::text)::public.word = 'x'::text");
    asks("((n)::public.unheard = 'x'::text)");
    asks("(user_id = body)");
    asks("(at > day)");
    asks("(n = room_id::real)");
    asks("(meta || meta = meta)");
    asks("readers = readers");
    asks("(readers && ARRAY[]::uuid[])");
    asks("(n + 1) = 2");
    asks("(n = ANY (readers))");
}

#[test]
fn orders_of_unknown_collations() {
    asks("(body < 'b'::text)");
    asks("(ci = 'b'::text)");
    asks("(ci ~~ 'b'::text)");
    asks("(lower(ci) = 'b'::text)");
    asks("(code < body)");
    asks("((meta ->> 'a'::text) < 'b'::text)");
    asks("(body >= ALL (ARRAY['a'::text]))");
    check("(code >= ANY (ARRAY['a'::text]))", "code >= any($0)", &["ARRAY[('a'::text)]"]);
}

#[test]
fn operators_functions_and_syntax_that_are_not_followed() {
    asks("(body OPERATOR(public.=) 'x'::text)");
    check("(body OPERATOR(pg_catalog.=) 'x'::text)", "body = 'x'", &[]);
    asks("(body ~ 'x'::text)");
    asks("(length(body) = 3)");
    asks("(at < now())");
    asks("(at < CURRENT_TIMESTAMP)");
    asks("(at < (now() AT TIME ZONE 'utc'::text))");
    asks("(day = 'today'::date)");
    asks("(n = (random() * 5)::integer)");
    asks("public.unheard(n)");
    asks("(EXTRACT(year FROM at) = 2020)");
    asks("(nullif(body, 'x') = 'y')");
    asks("(messages.* IS NOT NULL)");
    asks("(messages IS NOT NULL)");
    asks("(ctid = '(0,1)'::tid)");
    asks("(unheard = 1)");
    asks("(n, room_id) = (1, 2)");
    asks("(WITH x AS (SELECT 1) SELECT true FROM x)");
    asks("(SELECT true FROM public.m UNION SELECT false)");
    asks("(ok, ok)");
}

#[test]
fn functions_that_may_be_anything() {
    let mut database = Database::new();
    let other = |name: &str, language: &str| FunctionInfo {
        language: language.to_owned(),
        ..function(name, &[("a", 23, "integer")], 16, "select true")
    };
    database.functions.push(other("public.in_plpgsql", "plpgsql"));
    database.functions.push(other("public.overloaded", "sql"));
    database.functions.push(FunctionInfo {
        arguments: other("public.x", "sql")
            .arguments
            .iter()
            .map(|a| super::Argument { type_oid: 25, ..a.clone() })
            .collect(),
        ..other("public.overloaded", "sql")
    });
    database.functions.push(FunctionInfo { variadic: true, ..other("public.many", "sql") });
    database.functions.push(FunctionInfo { executable: false, ..other("public.forbidden", "sql") });
    database.functions.push(FunctionInfo { settings: vec!["role=x".to_owned()], ..other("public.set_role", "sql") });
    database.functions.push(FunctionInfo { defaults: 1, ..other("public.defaulted", "sql") });
    database.functions.push(FunctionInfo { plain: false, ..other("public.aggregate", "sql") });
    database.functions.push(function("public.again", &[("a", 23, "integer")], 16, "select public.again($1)"));
    database.functions.push(function("public.two", &[("a", 23, "integer")], 16, "select true; select $1 = 1"));
    database.functions.push(native("lower", Volatility::Immutable));
    database.functions.push(other("public.lower", "sql"));
    for name in ["in_plpgsql", "overloaded", "many", "set_role", "aggregate", "again", "two"] {
        asks_in(&database, &format!("public.{name}(n)"));
    }
    // Postgres checks the right before it reads any row.
    assert_eq!(show(&database.policy("(ok OR public.forbidden(n))").predicate), "raise");
    let mut source = super::rule("n = 1 and lower(body) = 'x'");
    assert_eq!(show(&database.compile(&source).predicate), "(n = 1 & ask)");
    source.rules = vec!["n = 1 and pg_catalog.lower(body) = 'x'".to_owned()];
    assert_eq!(show(&database.compile(&source).predicate), "(n = 1 & lower(body) = 'x')");
}

#[test]
fn it_is_known_which_claims_postgres_will_read() {
    let database = Database::new();
    let check = |sql: &str, opaque: bool, bindings: &[&str]| {
        let template = database.policy(sql);
        let found: Vec<&str> = template.bindings.iter().map(|binding| binding.sql.as_str()).collect();
        assert_eq!((template.opaque, found.as_slice()), (opaque, bindings), "{sql}");
    };
    check("(at < now())", false, &[]);
    check("(at < (now() AT TIME ZONE 'utc'::text))", false, &[]);
    check("(body ~ (auth.uid())::text)", false, &["(auth.uid()::text)::text"]);
    check("(length(body) > length((auth.uid())::text))", false, &["(pg_catalog.length((auth.uid()::text)))::text"]);
    check("(public.unheard(body))", true, &[]);
    check("(SELECT true FROM public.m UNION SELECT false)", true, &[]);
    check("((((", true, &[]);
    check("(n = 1)", false, &[]);
}

#[test]
fn too_deep_too_long_too_much() {
    let database = Database::new();
    let deep = format!("{}n = 1{}", "(".repeat(200), ")".repeat(200));
    let chain = vec!["body"; 500].join(" || ");
    let long = format!("body = '{}'", "x".repeat(100_000));
    let nots = format!("{} ok", "NOT ".repeat(5000));
    for sql in [deep, format!("({chain}) = 'x'"), long, nots] {
        assert_eq!(show(&database.policy(&sql).predicate), "ask");
    }
    let many = vec!["(n = 1)"; 1000].join(" AND ");
    assert!(matches!(database.policy(&many).predicate, crate::Predicate::And(parts) if parts.len() == 1000));
    let mut source = policy("n = 1");
    source.permissive = vec!["n = ".to_owned()];
    assert_eq!(show(&database.compile(&source).predicate), "ask");
}

#[test]
fn functions_that_call_each_other_come_to_an_end() {
    let mut database = Database::new();
    let name = |index: usize| format!("public.f{index}");
    for index in 0..60 {
        let (next, both) = (name(index + 1), name(index + 100));
        let argument = [("a", 23, "integer")];
        database.functions.push(function(&name(index), &argument, 16, &format!("select not (((({next}(a)))))")));
        let body = format!("select {}(a) or {}(a)", name(index + 101), name(index + 101));
        database.functions.push(function(&both, &argument, 16, &body));
    }
    let mut knowledge = super::Knowledge::default();
    for start in ["public.f0(n)", "public.f100(n)"] {
        let source = policy(start);
        for _ in 0..100 {
            let Err(needs) = super::compile(&source, &knowledge) else { break };
            needs.into_iter().for_each(|need| {
                let fact = database.answer(&need);
                knowledge.learn(need, fact);
            });
        }
        let template = super::compile_with_what_is_known(&source, &knowledge);
        let mut asks = 0;
        count_asks(&template.predicate, &mut asks);
        assert!(asks > 0, "{start}");
    }
}

fn count_asks(predicate: &crate::Predicate, asks: &mut usize) {
    match predicate {
        crate::Predicate::Ask => *asks += 1,
        crate::Predicate::And(parts) | crate::Predicate::Or(parts) => {
            parts.iter().for_each(|part| count_asks(part, asks));
        }
        crate::Predicate::Not(operand) => count_asks(operand, asks),
        _ => {}
    }
}
