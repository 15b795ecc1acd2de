//! By which rule a role may read, and which columns.

use reactor_model::Code;
use reactor_policy_engine::ColumnMask;

use crate::support::{Db, With, request};

const SQL: &str = "
create schema private;
create table todos (id int primary key, title text, secret text);
create table orgs (id int primary key, org_id text);
create table private.notes (id int primary key);
create table public.\"Odd name\" (\"Odd column\" int primary key);
create publication supabase_realtime for all tables;
create role {r}_reader; create role {r}_member; create role {r}_apart noinherit; create role {r}_nobody;
create role {r}_partly; create role {r}_owner;
grant select on todos, private.notes, \"Odd name\" to {r}_reader;
grant {r}_reader to {r}_member, {r}_apart;
grant select (id, title) on todos to {r}_partly;
alter table todos owner to {r}_owner;
grant select on orgs to public;
";

fn only(columns: &[&str]) -> ColumnMask {
    ColumnMask::Only(columns.iter().map(|column| (*column).to_owned()).collect())
}

#[tokio::test]
async fn grants_of_table_and_columns() {
    let (db, roles) = Db::new(SQL).await;
    let grant = db.allowed(request(&roles.name("reader"), "todos")).await;
    assert_eq!((grant.rule.as_str(), grant.columns), ("grant:select", ColumnMask::All));
    let grant = db.allowed(request(&roles.name("member"), "todos")).await;
    assert_eq!(grant.columns, ColumnMask::All, "inherited");
    assert_eq!(db.allowed(request(&roles.name("owner"), "todos")).await.columns, ColumnMask::All);
    assert_eq!(db.allowed(request("postgres", "todos")).await.columns, ColumnMask::All, "a superuser");
    let grant = db.allowed(request(&roles.name("partly"), "todos")).await;
    assert_eq!((grant.rule.as_str(), grant.columns), ("grant:columns", only(&["id", "title"])));
    assert_eq!(db.allowed(request(&roles.name("nobody"), "orgs")).await.rule, "grant:select", "to PUBLIC");
    let grant = db.allowed(request(&roles.name("reader"), "Odd name").with_select(&["Odd column"])).await;
    assert_eq!(grant.columns, ColumnMask::All);
}

#[tokio::test]
async fn without_a_grant_it_is_denied() {
    let (db, roles) = Db::new(SQL).await;
    let denied = async |role: &str| {
        let denial = db.denied(request(role, "todos")).await;
        assert_eq!(denial.code, Code::PermissionDenied);
        denial
    };
    let denial = denied(&roles.name("nobody")).await;
    assert!(denial.message.contains("public.todos"), "{denial:?}");
    assert!(denial.hint.contains("GRANT SELECT"), "{denial:?}");
    denied(&roles.name("apart")).await;
    assert!(denied("no such role'; --").await.message.contains("does not exist"));
    let denial = db.denied(request(&roles.name("reader"), "notes").in_schema("private")).await;
    assert_eq!(denial.code, Code::PermissionDenied, "SELECT without USAGE on the schema reads nothing");
    assert!(denial.hint.contains("GRANT USAGE ON SCHEMA private"), "{denial:?}");
    db.run(&format!("grant usage on schema private to {}", roles.name("reader"))).await;
    db.allowed(request(&roles.name("reader"), "notes").in_schema("private")).await;
}

#[tokio::test]
async fn permissions_of_the_token() {
    let (db, roles) = Db::new(SQL).await;
    let nobody = roles.name("nobody");
    for permission in ["data:todos:read", "data:public.todos:read", "data:*:read"] {
        let grant = db.allowed(request(&nobody, "todos").with_permission(permission)).await;
        assert_eq!((grant.rule, grant.columns), (format!("permission:{permission}"), ColumnMask::All));
    }
    db.allowed(request("role of the application", "todos").with_permission("data:todos:read")).await;
    for permission in ["data:orgs2:read", "data:todos:write", "data:private.todos:read", "todos", "data:*"] {
        assert_eq!(db.denied(request(&nobody, "todos").with_permission(permission)).await.code, Code::PermissionDenied);
    }
    let notes = || request(&nobody, "notes").in_schema("private");
    assert_eq!(db.denied(notes().with_permission("data:notes:read")).await.code, Code::PermissionDenied);
    db.allowed(notes().with_permission("data:private.notes:read")).await;
    let whole = db.allowed(request(&roles.name("partly"), "todos").with_permission("data:todos:read")).await;
    assert_eq!(whole.columns, ColumnMask::All, "the token's permission is for the whole table");
}

#[tokio::test]
async fn changes_of_grants_are_seen_and_change_the_version() {
    let (db, roles) = Db::new(SQL).await;
    let asked = || request(&roles.name("partly"), "todos");
    let first = db.allowed(asked()).await;
    db.run(&format!("grant select (secret) on todos to {}", roles.name("partly"))).await;
    db.settled().await;
    let second = db.allowed(asked()).await;
    assert_eq!(second.columns, only(&["id", "secret", "title"]));
    assert_ne!(second.policy_version, first.policy_version);
    db.run(&format!("revoke select (id, title, secret) on todos from {}", roles.name("partly"))).await;
    assert_eq!(db.denied(asked()).await.code, Code::PermissionDenied);
}

#[tokio::test]
async fn the_org_column_is_noticed() {
    let (db, roles) = Db::new(SQL).await;
    assert!(db.allowed(request(&roles.name("nobody"), "orgs")).await.org_scoped);
    assert!(!db.allowed(request(&roles.name("reader"), "todos")).await.org_scoped);
}
