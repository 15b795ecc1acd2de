//! Tables and columns that cannot be subscribed to, and what is said about it.

use reactor_model::Code;
use reactor_policy_engine::Authorizer as _;
use reactor_policy_engine::AuthorizerError;

use crate::support::{Db, With, request};

const SQL: &str = "
create table todos (id int primary key, title text, secret text, made int generated always as (id + 1) stored);
create table outside (id int primary key);
create table parts (id int primary key, v text) partition by range (id);
create table low partition of parts for values from (0) to (10);
create view a_view as select * from todos;
create publication supabase_realtime for table todos, low;
create role {r}_reader;
grant select on all tables in schema public to {r}_reader;
create role {r}_partly;
grant select (id, title) on todos to {r}_partly;
";

#[tokio::test]
async fn tables_that_are_not_there_or_not_published() {
    let (db, roles) = Db::new(SQL).await;
    let unknown = async |table: &str, message: &str, hint: &str| {
        let denial = db.denied(request(&roles.name("reader"), table)).await;
        assert_eq!(denial.code, Code::TableUnknown, "{denial:?}");
        assert!(denial.message.contains(message), "{denial:?}");
        assert!(denial.hint.contains(hint), "{denial:?}");
    };
    unknown("nothing", "public.nothing", "check schema").await;
    unknown("TODOS", "public.\"TODOS\"", "check schema").await;
    unknown("outside", "not in the publication", "ALTER PUBLICATION supabase_realtime ADD TABLE public.outside").await;
    unknown("a_view", "a view", "table").await;
    unknown("low", "a partition", "subscribe to public.parts").await;
    db.allowed(request(&roles.name("reader"), "parts")).await;
    db.run("drop publication supabase_realtime").await;
    unknown("todos", "no publication", "CREATE PUBLICATION supabase_realtime").await;
}

#[tokio::test]
async fn columns_of_select() {
    let (db, roles) = Db::new(SQL).await;
    let (reader, partly) = (roles.name("reader"), roles.name("partly"));
    db.allowed(request(&reader, "todos").with_select(&["id", "secret"])).await;
    db.allowed(request(&partly, "todos").with_select(&["id", "title"])).await;
    let denial = db.denied(request(&reader, "todos").with_select(&["id", "titel"])).await;
    assert_eq!(denial.code, Code::BadRequest);
    assert!(denial.message.contains("`titel`") && denial.hint.contains("title"), "{denial:?}");
    let denial = db.denied(request(&partly, "todos").with_select(&["secret"])).await;
    assert_eq!(denial.code, Code::PermissionDenied);
    assert!(denial.message.contains("`secret`") && denial.message.contains("select"), "{denial:?}");
    let denial = db.denied(request(&partly, "todos").with_select(&["nothing"])).await;
    assert!(!denial.hint.contains("secret"), "hidden columns are not named: {denial:?}");
    let denial = db.denied(request(&reader, "todos").with_select(&["made"])).await;
    assert_eq!(denial.code, Code::BadRequest);
    assert!(denial.message.contains("not in the publication"), "{denial:?}");
}

#[tokio::test]
async fn columns_of_the_filter() {
    let (db, roles) = Db::new(SQL).await;
    let (reader, partly) = (roles.name("reader"), roles.name("partly"));
    db.allowed(request(&reader, "todos").with_filter("secret.eq.x")).await;
    db.allowed(request(&partly, "todos").with_filter("title.eq.x")).await;
    let denial = db.denied(request(&reader, "todos").with_filter("titel.eq.x")).await;
    assert_eq!(denial.code, Code::BadFilter);
    assert!(denial.message.contains("`titel`"), "{denial:?}");
    let denial = db.denied(request(&partly, "todos").with_filter("secret.eq.x")).await;
    assert_eq!(denial.code, Code::PermissionDenied, "a filter on a hidden column would tell what is in it");
    assert!(denial.message.contains("`secret`") && denial.message.contains("filter"), "{denial:?}");
    assert_eq!(db.denied(request(&reader, "todos").with_filter("made.eq.1")).await.code, Code::BadFilter);
}

#[tokio::test]
async fn another_tenant_gets_no_answer() {
    let (db, roles) = Db::new(SQL).await;
    let mut other = request(&roles.name("reader"), "todos");
    other.tenant = "other".parse().unwrap();
    assert!(matches!(db.authorizer.authorize(other).await, Err(AuthorizerError::UnknownTenant)));
    let answer = db.authorizer.compare("other".parse().unwrap(), Vec::new()).await;
    assert!(matches!(answer, Err(AuthorizerError::UnknownTenant)));
}
