//! Configured rules, with and without row-level security.

use reactor_model::Code;
use reactor_policy_engine::{Authorizer as _, CheckedValue, RowPolicy};
use reactor_runtime::PolicyRule;
use reactor_testkit::Postgres;
use serde_json::json;

use crate::engine;
use crate::support::{ANN, AUTH, BOB, Db, Roles, With, request};

const SQL: &str = "
create table todos (id int primary key, owner uuid, email text, v text);
insert into todos values (1, '00000000-0000-0000-0000-00000000000a', 'ann@example', 'x'),
                         (2, '00000000-0000-0000-0000-00000000000b', null, 'x'),
                         (3, null, null, 'y');
create publication supabase_realtime for table todos;
create role {r}_user;
create role {r}_granted;
grant select on todos to {r}_granted;
";

fn rule(role: &str, using: Option<&str>) -> PolicyRule {
    let role = Some(role).filter(|role| *role != "*").map(str::to_owned);
    PolicyRule { role, schema: None, table: "todos".into(), using: using.map(str::to_owned) }
}

/// Rules for roles whose names begin with the database's, which is not known before it is made.
async fn db(sql: &str, rules: &[(&str, Option<&str>)]) -> (Db, Roles) {
    let server = Postgres::shared().await.unwrap();
    Db::with(server, &format!("{SQL}{sql}"), |settings| {
        settings.rules = rules.iter().map(|(role, using)| rule(role, *using)).collect();
    })
    .await
}

#[tokio::test]
async fn a_rule_permits_and_restricts() {
    let (db, roles) = db("", &[("*", Some("owner = auth.uid()")), ("nobody", Some("email = auth.email()"))]).await;
    let claims = json!({"sub": BOB, "email": "ann@example"});
    for (role, expected, by) in [
        (roles.name("user"), &["2"][..], "rule:1"),
        (roles.name("granted"), &["2"], "grant:select"),
        ("nobody".to_owned(), &["1", "2"], "rule:1"),
    ] {
        let ask = request(&role, "todos").with_claims(claims.clone());
        let (seen, judged) = db.seen(ask.clone()).await;
        assert_eq!(
            (seen.as_slice(), judged.asked()),
            (&expected.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()[..], 0)
        );
        assert_eq!(db.allowed(ask).await.rule, by);
    }
}

#[tokio::test]
async fn a_rule_without_a_condition_permits_every_row() {
    let (db, roles) = db("", &[("*", None)]).await;
    let grant = db.allowed(request(&roles.name("user"), "todos")).await;
    assert!(grant.policy.is_everything() && !grant.asks_postgres, "{:?}", grant.policy);
    assert_ne!(grant.policy, RowPolicy { check_key: Some(String::new()), ..RowPolicy::everything() });
}

#[tokio::test]
async fn row_level_security_applies_on_top() {
    let sql = format!("{AUTH} alter table todos enable row level security; create policy p on todos using (v = 'x');");
    let (db, roles) = db(&sql, &[("*", Some("owner is null or owner = auth.uid()"))]).await;
    let ask = request(&roles.name("user"), "todos").with_claims(json!({"sub": ANN}));
    assert_eq!(db.seen(ask).await.0, ["1"]);
}

#[tokio::test]
async fn rules_that_only_postgres_understands() {
    let (db, roles) = db("", &[("*", Some("md5(id::text) = md5('2') and (auth.jwt() ->> 'n')::int = 7"))]).await;
    let ask = |n: i32| request(&roles.name("user"), "todos").with_claims(json!({ "n": n }));
    let (seen, judged) = db.seen(ask(7)).await;
    assert_eq!((seen, judged.asked() > 0), (vec!["2".to_owned()], true), "{judged:?}");
    assert_eq!(db.seen(ask(8)).await.0, [""; 0]);
}

#[tokio::test]
async fn a_broken_rule_is_said() {
    let (db, roles) = db("", &[("*", Some("no_such_column = 1"))]).await;
    let denial = db.denied(request(&roles.name("user"), "todos")).await;
    assert_eq!(denial.code, Code::PolicyInvalid);
    assert!(denial.message.contains("no_such_column"), "{denial:?}");
}

#[tokio::test]
async fn a_role_that_does_not_exist_gets_no_others_rights() {
    let sql = "create table secret (v text); insert into secret values ('x');";
    for using in ["v in (select s.v from public.secret s)", "current_user <> '' or id = 1"] {
        let (db, _) = db(sql, &[("*", Some(using))]).await;
        let denial = db.denied(request("nobody", "todos")).await;
        assert_eq!(denial.code, Code::RoleUnusable, "{denial:?}");
    }
}

#[tokio::test]
async fn a_rule_counts_for_a_row_whose_values_are_not_all_known() {
    let sql = "alter table todos enable row level security; create policy p on todos using (true);";
    let (db, roles) = db(sql, &[("*", Some("todos.v = 'x' and md5(id::text) <> ''"))]).await;
    let principal = request(&roles.name("granted"), "todos").principal;
    let table = engine::Table::read(&engine::session(&db.url).await, "public", "todos").await;
    let rows = table.rows.iter().map(|values| {
        let mut row = engine::row(values, true);
        row.values[table.relation.column_index("v").unwrap()] = CheckedValue::Missing;
        row
    });
    let request = engine::check(&principal, &table.relation, rows.collect());
    assert_eq!(db.authorizer.check_rows(request).await.unwrap(), [true, true, false], "as they are now");
}
