//! Settings that are bound by themselves, and policies that are judged by them alone.

use reactor_model::tuple::{Datum, Tuple};

use super::*;
use crate::eval::RowImage;

const ANN: &str = "00000000-0000-0000-0000-00000000000a";

fn database() -> Database {
    let mut database = Database::new();
    database.functions.extend([
        function("realtime.topic", &[], 25, "select nullif(current_setting('realtime.topic', true), '')::text;"),
        function(
            "auth.claims",
            &[],
            3802,
            "select coalesce(nullif(current_setting('request.jwt.claim', true), ''),
                             nullif(current_setting('request.jwt.claims', true), ''))::jsonb",
        ),
        function("public.may", &[("t", 25, "text")], 16, "select realtime.topic() = t"),
    ]);
    database
}

fn compiled(sql: &str) -> Template {
    let (database, source) = (database(), policy(sql));
    let mut knowledge = Knowledge::default();
    for _ in 0..MAX_ROUNDS {
        match compile_by_settings(&source, &knowledge) {
            Ok(template) => return template,
            Err(needs) => needs.into_iter().for_each(|need| {
                let fact = database.answer(&need);
                knowledge.learn(need, fact);
            }),
        }
    }
    panic!("still needs more after {MAX_ROUNDS} rounds");
}

fn named(binding: &Binding) -> String {
    match &binding.setting {
        None => binding.sql.clone(),
        Some(Setting { name, empty_is_null, json }) => {
            format!("{name}{}{}", if *empty_is_null { "?" } else { "" }, if *json { " json" } else { "" })
        }
    }
}

#[test]
fn settings_are_bound_by_themselves() {
    let check = |sql: &str, expected: &str, bindings: &[&str]| {
        let template = compiled(sql);
        assert_eq!(show(&template.predicate), expected, "{sql}");
        assert_eq!(template.bindings.iter().map(named).collect::<Vec<_>>(), bindings, "{sql}");
    };
    check("(realtime.topic() = 'a'::text)", "$0 = 'a'", &["realtime.topic?"]);
    check("(( SELECT realtime.topic() AS topic) = body)", "$0 = body", &["realtime.topic?"]);
    check("(current_setting('Realtime.Topic'::text) = body)", "$0 = body", &["realtime.topic"]);
    check("public.may('a'::text)", "$0 = 'a'", &["realtime.topic?"]);
    check("(realtime.topic() ~~ 'room:%'::text)", "$0 ~~ 'room:%'", &["realtime.topic?"]);
    check(
        "(realtime.topic() = ('user:'::text || (auth.uid())::text))",
        "$0 = ('user:' || coalesce($1, ($2 ->> 'sub'))::uuid::text)",
        &["realtime.topic?", "request.jwt.claim.sub?", "request.jwt.claims? json"],
    );
    check(
        "((auth.claims() ->> 'org'::text) = body)",
        "(coalesce($0, $1) ->> 'org') = body",
        &["request.jwt.claim? json", "request.jwt.claims? json"],
    );
    check(
        "(body = ANY (ARRAY['a'::text, 'b'::text]) AND (auth.role() = 'x'::text))",
        "(body = any($0) & $1 = 'x')",
        &["ARRAY[('a'::text), ('b'::text)]", "request.jwt.claim.role"],
    );
}

#[test]
fn what_is_not_known_by_settings_alone_is_left_to_postgres() {
    for sql in [
        "(split_part(realtime.topic(), ':'::text, 1) = 'a'::text)",
        "(nullif(realtime.topic(), 'x'::text) = 'a'::text)",
        "(nullif(current_setting('realtime.topic'::text), ''::text) = 'a'::text)",
        "(current_setting(body) = 'a'::text)",
        "(current_setting('search_path'::text, true) = body)",
        "(current_setting(('a'::text || 'b'::text), true) = 'a'::text)",
        "((current_setting('request.headers'::text, true))::json ->> 'x'::text) = 'a'::text",
        "(EXISTS ( SELECT 1 FROM public.members m WHERE (m.user_id = auth.uid())))",
        "(random() > 0.5)",
        "(n > 1 AND random() > 0.5)",
    ] {
        assert!(Standalone::new(compiled(sql)).is_none(), "{sql}: {:?}", compiled(sql).predicate);
    }
}

/// What a policy says of a row whose `body` is `a`, with these settings. Any other value is unknown.
fn judged(sql: &str, settings: &[(&str, &str)]) -> Option<bool> {
    let standalone = Standalone::new(compiled(sql))?;
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let value = |binding: &Binding| match &binding.setting {
        Some(setting) => setting.read(&settings),
        None => Some(BoundValue::Value(Some("{a,b}".to_owned()))),
    };
    let values = standalone.bindings().iter().map(value).collect::<Option<Vec<_>>>()?;
    let relation = messages();
    let is_body = |column: &Column| column.name == "body";
    let row = Tuple::from_values(
        relation.columns.iter().map(|column| if is_body(column) { Datum::Text(b"a") } else { Datum::Null }),
    );
    let held: Vec<bool> = relation.columns.iter().map(is_body).collect();
    let images = [RowImage { image: &row, fallback: None, held: Some(&held) }];
    standalone.judge(&values, &relation, &images).map(|truths| truths == [true])
}

#[test]
fn policies_are_judged_by_settings_and_row() {
    let topic = "realtime.topic";
    for (sql, settings, expected) in [
        ("true", &[][..], Some(true)),
        ("(realtime.topic() = body)", &[(topic, "a")][..], Some(true)),
        ("(realtime.topic() = body)", &[(topic, "b")], Some(false)),
        ("(realtime.topic() IS NULL)", &[(topic, "")], Some(true)),
        ("(realtime.topic() = body)", &[], None),
        ("(body = ANY (ARRAY['a'::text, 'b'::text]))", &[], Some(true)),
        ("(realtime.topic() ~~ 'room:%'::text)", &[(topic, "room:1")], Some(true)),
        ("(body ~~ (realtime.topic() || '%'::text))", &[(topic, "a")], Some(true)),
        ("(id > 1)", &[], None),
        ("((id > 1) OR (body = 'a'::text))", &[], Some(true)),
        (
            "((auth.claims() ->> 'org'::text) = body)",
            &[("request.jwt.claim", ""), ("request.jwt.claims", r#"{"x":[1], "org":"a"}"#)],
            Some(true),
        ),
        (
            "(realtime.topic() = ('user:'::text || (auth.uid())::text))",
            &[
                (topic, &format!("user:{ANN}")),
                ("request.jwt.claim.sub", &ANN.to_uppercase()),
                ("request.jwt.claims", r#"{"sub":"x"}"#),
            ],
            Some(true),
        ),
    ] {
        assert_eq!(judged(sql, settings), expected, "{sql} with {settings:?}");
    }
}

#[test]
fn what_may_raise_is_left_to_postgres_wherever_it_stands() {
    let claims =
        |sub: &'static str| [("request.jwt.claim.sub", sub), ("request.jwt.claims", "{}"), ("realtime.topic", "a\\")];
    for (sql, sub) in [
        ("(auth.uid() = user_id)", "no uuid"),
        ("((body = 'b'::text) AND (auth.uid() IS NOT NULL))", "no uuid"),
        ("((body = 'a'::text) OR (auth.uid() IS NULL))", "no uuid"),
        ("((body = 'a'::text) OR ((body)::uuid IS NULL))", ANN),
        ("(COALESCE(body, ((auth.uid())::text)) = 'a'::text)", "no uuid"),
        ("((body = 'a'::text) OR (body ~~ realtime.topic()))", ANN),
        ("((body = 'a'::text) OR (body ~~ (auth.claims() ->> 'like'::text)))", ANN),
    ] {
        assert_eq!(judged(sql, &claims(sub)), None, "{sql}");
    }
    assert_eq!(judged("((body = 'a'::text) OR (auth.uid() IS NULL))", &claims(ANN)), Some(true));
    let broken = [("request.jwt.claim.sub", ANN), ("request.jwt.claims", "{"), ("realtime.topic", "a")];
    assert_eq!(judged("((body = 'a'::text) OR (auth.uid() IS NULL))", &broken), None);
}
