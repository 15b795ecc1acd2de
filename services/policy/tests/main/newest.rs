//! The newest version of Postgres, whose catalog differs from that of the oldest.

use reactor_model::Code;
use reactor_model::filter::Operand;
use reactor_model::filter::Truth::{False, True};
use reactor_policy_engine::ColumnMask;
use reactor_testkit::{Postgres, PostgresOptions};

use crate::support::{Db, With, operand, request};

const SQL: &str = "
create table todos (
    id int primary key, title text collate pg_c_utf8, took interval, twice int generated always as (id * 2) stored,
    once int generated always as (id) virtual);
create table outside (id int primary key);
create publication supabase_realtime for table todos with (publish_generated_columns = stored);
create role {r}_reader; create role {r}_partly;
grant select on todos, outside to {r}_reader;
grant select (id, title) on todos to {r}_partly;
";

#[tokio::test]
async fn decisions_and_comparisons_on_postgres_18() {
    let server = Postgres::start_with(PostgresOptions::version(18)).await.unwrap();
    let (db, roles) = Db::on(&server, SQL).await;
    let (reader, partly) = (roles.name("reader"), roles.name("partly"));
    assert_eq!(db.allowed(request(&reader, "todos")).await.columns, ColumnMask::All);
    assert!(matches!(db.allowed(request(&partly, "todos")).await.columns, ColumnMask::Only(only) if only.len() == 2));
    assert_eq!(db.denied(request(&reader, "outside")).await.code, Code::TableUnknown);
    let grant = db.allowed(request(&reader, "todos").with_filter("took.eq.90 minutes")).await;
    assert_eq!(operand(&grant.filter), &Operand::Text("01:30:00".into()));
    db.allowed(request(&reader, "todos").with_filter("twice.eq.4")).await;
    assert_eq!(db.denied(request(&reader, "todos").with_filter("once.eq.4")).await.code, Code::BadFilter);
    assert_eq!(db.denied(request(&reader, "todos").with_filter("id.eq.x")).await.code, Code::BadFilter);
    assert_eq!(db.compare("todos", "title.ilike.Ä%", &["äpfel", "x"]).await, [True, False]);
    assert_eq!(db.compare("todos", "took.eq.1 day", &["24:00:00", "2 days"]).await, [True, False]);
}
