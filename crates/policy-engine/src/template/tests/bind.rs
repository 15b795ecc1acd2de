//! Templates with values.

use super::{Database, policy, rule, show, table};
use crate::RowPolicy;
use crate::template::BoundValue;

fn text(value: &str) -> BoundValue {
    BoundValue::Value(Some(value.to_owned()))
}

const NULL: BoundValue = BoundValue::Value(None);

fn bind(database: &Database, sql: &str, values: &[BoundValue]) -> RowPolicy {
    database.policy(sql).bind(values, || "key".to_owned())
}

fn check(sql: &str, values: &[BoundValue], expected: &str) {
    assert_eq!(show(&bind(&Database::new(), sql, values).predicate), expected, "{sql} with {values:?}");
}

#[test]
fn values_take_the_place_of_bindings() {
    check("(user_id = auth.uid())", &[text("u")], "user_id = 'u'");
    check("(user_id = auth.uid())", &[NULL], "unknown");
    check("(user_id = auth.uid())", &[BoundValue::Raised], "raise");
    check("(user_id = auth.uid())", &[], "raise");
    check("(user_id IS DISTINCT FROM auth.uid())", &[NULL], "!user_id is null");
    check("(COALESCE(user_id, auth.uid()) IS NULL)", &[text("u")], "coalesce(user_id, 'u') is null");
}

#[test]
fn constants_fold() {
    let role = "(auth.role() = 'x'::text)";
    check(&format!("({role} AND ok)"), &[text("t")], "ok");
    check(&format!("({role} AND ok)"), &[text("f")], "false");
    check(&format!("({role} AND ok)"), &[NULL], "(unknown & ok)");
    check(&format!("({role} OR ok)"), &[text("t")], "true");
    check(&format!("({role} OR ok)"), &[text("f")], "ok");
    check(&format!("((NOT {role}) OR (n = 1) OR ok)"), &[text("f")], "(n = 1 | ok)");
    check(&format!("(({role} AND ok) IS NOT TRUE)"), &[text("f")], "true");
    check(&format!("(({role} AND ok) IS NOT TRUE)"), &[text("t")], "ok is not true");
    check(&format!("({role} OR ok)"), &[BoundValue::Raised], "raise");
    check(&format!("(ok OR {role})"), &[BoundValue::Raised], "(ok | raise)");
    check(&format!("(ok AND {role} AND (n = 1))"), &[BoundValue::Raised], "(ok & raise)");
    check(&format!("COALESCE(({role} AND ok), false)"), &[text("t")], "coalesce([ok], 'f')");
    check("(body = ANY (ARRAY['a'::text]))", &[text("{}")], "false");
    check("(body <> ALL (ARRAY['a'::text]))", &[text("{}")], "true");
    check("(body = ANY (ARRAY['a'::text]))", &[NULL], "unknown");
    check("(body ~~ auth.role())", &[NULL], "unknown");
}

#[test]
fn whoever_sees_everything_or_nothing_asks_nothing() {
    let everything = bind(&Database::new(), "(ok OR (auth.role() = 'x'::text))", &[text("t")]);
    assert!(everything.is_everything());
    assert_eq!(everything.check_key, None);
    let some = bind(&Database::new(), "(user_id = auth.uid())", &[text("u")]);
    assert_eq!(some.check_key.as_deref(), Some("key"));
}

#[test]
fn policies_combine() {
    let database = Database::new();
    let mut source = policy("ok");
    source.permissive.push("(n = 1)".to_owned());
    source.restrictive = vec!["(room_id = 1)".to_owned(), "(n = 2)".to_owned()];
    source.rules = vec!["n = 3 -- three".to_owned(), "n = 4".to_owned()];
    let template = database.compile(&source);
    assert_eq!(show(&template.predicate), "((ok | n = 1) & room_id = 1 & n = 2 & (n = 3 | n = 4))");
    assert_eq!(template.sql, "((ok) or ((n = 1))) and ((room_id = 1)) and ((n = 2)) and ((n = 3) or (n = 4))");
    source.permissive.clear();
    let template = database.compile(&source);
    assert_eq!(show(&template.predicate), "false");
    assert_eq!(template.sql, "false and ((room_id = 1)) and ((n = 2)) and ((n = 3) or (n = 4))");
    let mut source = rule("n = 3");
    assert_eq!(show(&database.compile(&source).predicate), "n = 3");
    source.rules.clear();
    let template = database.compile(&source);
    assert_eq!((show(&template.predicate).as_str(), template.sql.as_str()), ("true", "true"));
}

#[test]
fn sets_that_are_not_needed_go() {
    let mut database = Database::new();
    database.tables.push(table(2, "a", &["id int*", "user_id uuid", "room_id int8"]));
    database.tables.push(table(3, "b", &["id int*", "user_id uuid", "room_id int8"]));
    let sql = "(((auth.role() = 'x'::text) AND (EXISTS ( SELECT 1 FROM public.a WHERE (a.room_id = messages.room_id)))) OR \
               (EXISTS ( SELECT 1 FROM public.b WHERE ((b.user_id = auth.uid()) AND (b.room_id = messages.room_id)))))";
    let template = database.policy(sql);
    assert_eq!(show(&template.predicate), "(($0 & set0(room_id)) | set1(room_id))");
    let bind = |values: &[BoundValue]| {
        let policy = template.bind(values, String::new);
        (
            show(&policy.predicate),
            policy.sets.iter().map(|set| (set.table.clone(), show(&set.condition))).collect::<Vec<_>>(),
        )
    };
    let set = |table: &str, condition: &str| (table.to_owned(), condition.to_owned());
    let (both, only_b) = ("(set0(room_id) | set1(room_id))".to_owned(), "set0(room_id)".to_owned());
    assert_eq!(bind(&[text("t"), text("u")]), (both, vec![set("a", "true"), set("b", "user_id = 'u'")]));
    assert_eq!(bind(&[text("f"), text("u")]), (only_b.clone(), vec![set("b", "user_id = 'u'")]));
    assert_eq!(bind(&[text("t"), NULL]), (only_b, vec![set("a", "true")]));
    assert_eq!(bind(&[text("f"), BoundValue::Raised]).0, "raise");
}
