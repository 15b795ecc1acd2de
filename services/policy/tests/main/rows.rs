//! Rows that Postgres judges.

use reactor_policy_engine::{Authorizer as _, AuthorizerError, CheckedRow, CheckedValue, Principal};
use serde_json::json;

use crate::engine::{self, Table};
use crate::support::{ANN, AUTH, Db, Roles, With, request};

const SQL: &str = "
create domain word as text check (value <> '');
create table notes (id int primary key, gone text, owner uuid, size int, v word,
                    twice int generated always as (size * 2) stored);
alter table notes drop column gone;
insert into notes (id, owner, size, v) values
    (1, '00000000-0000-0000-0000-00000000000a', 1, 'a \"b\" \\c, (d)'),
    (2, '00000000-0000-0000-0000-00000000000a', 0, 'b'),
    (3, '00000000-0000-0000-0000-00000000000b', 5, 'c');
alter table notes enable row level security;
create function tenth(int) returns int language plpgsql stable as $$ begin return 10 / $1; end $$;
create table keyless (owner uuid, size int);
alter table keyless enable row level security;
alter table keyless replica identity full;
create publication supabase_realtime for table notes, keyless;
create role {r}_user;
grant select on notes, keyless to {r}_user;
create policy p on notes to {r}_user using (owner = auth.uid() and tenth(size) > 1);
create policy p on keyless to {r}_user using (owner = auth.uid() and tenth(size) > 1);
";

struct Fixture {
    db: Db,
    principal: Principal,
    table: Table,
}

impl Fixture {
    async fn new(sql: &str, table: &str) -> (Self, Roles) {
        let (db, roles) = Db::new(&format!("{AUTH}{SQL}{sql}")).await;
        let principal = request(&roles.name("user"), table).with_claims(json!({"sub": ANN})).principal;
        let session = engine::session(&db.url).await;
        let table = Table::read(&session, "public", table).await;
        (Self { db, principal, table }, roles)
    }

    fn row(&self, index: usize, must_exist: bool) -> CheckedRow {
        engine::row(&self.table.rows[index], must_exist)
    }

    async fn check(&self, rows: Vec<CheckedRow>) -> Vec<bool> {
        let request = engine::check(&self.principal, &self.table.relation, rows);
        self.db.authorizer.check_rows(request).await.unwrap()
    }

    fn with(&self, index: usize, column: &str, value: CheckedValue) -> CheckedRow {
        let mut row = self.row(index, true);
        let column = self.table.relation.column_index(column).unwrap();
        row.values[column] = value;
        row
    }
}

fn text(value: &str) -> CheckedValue {
    CheckedValue::Text(value.to_owned())
}

#[tokio::test]
async fn rows_are_judged_as_they_are_and_as_they_were() {
    let (fixture, _) = Fixture::new("", "notes").await;
    let all = |must_exist| (0..3).map(|index| fixture.row(index, must_exist)).collect::<Vec<_>>();
    assert_eq!(fixture.check(all(true)).await, [true, false, false], "one raises, one is another's");
    assert_eq!(fixture.check(all(false)).await, [true, false, false]);
    assert_eq!(fixture.db.counted(r#"reactor_policy_rows_total{result="raised"}"#), 2);
    assert_eq!(fixture.db.counted(r#"reactor_policy_rows_total{result="visible"}"#), 2);
    // Its image is not another row's.
    let other = fixture.with(2, "owner", text(ANN));
    assert_eq!(fixture.check(vec![other]).await, [false], "visible by its values, but not as it is now");
    fixture.db.run("update notes set size = 100 where id = 1").await;
    assert_eq!(fixture.check(all(true)).await[..1], [false], "out of sight meanwhile");
    assert_eq!(fixture.check(all(false)).await[..1], [true], "an old image is judged by its values");
    fixture.db.run("delete from notes where id = 1").await;
    assert_eq!(fixture.check(all(true)).await[..1], [false], "gone meanwhile");
    assert_eq!(fixture.check(all(false)).await[..1], [true]);
    assert_eq!(fixture.check(Vec::new()).await, [false; 0]);
}

#[tokio::test]
async fn rows_that_raise_hold_up_no_others() {
    let (fixture, _) = Fixture::new("", "notes").await;
    let rows: Vec<CheckedRow> = (0..100).map(|index| fixture.row(usize::from(index % 10 == 3), false)).collect();
    let expected: Vec<bool> = (0..100).map(|index| index % 10 != 3).collect();
    assert_eq!(fixture.check(rows).await, expected);
}

#[tokio::test]
async fn missing_values() {
    let (fixture, _) = Fixture::new("", "notes").await;
    let unneeded = fixture.with(0, "v", CheckedValue::Missing);
    let generated = fixture.with(0, "twice", CheckedValue::Missing);
    let needed = fixture.with(0, "size", CheckedValue::Missing);
    let without_key = fixture.with(0, "id", CheckedValue::Missing);
    assert_eq!(fixture.check(vec![unneeded, generated]).await, [true, true]);
    assert_eq!(fixture.check(vec![needed.clone()]).await, [true], "what is there now decides");
    let removed = CheckedRow { must_exist: false, ..needed };
    assert_eq!(fixture.check(vec![removed]).await, [false], "nothing is there that could decide");
    assert_eq!(fixture.check(vec![without_key]).await, [false]);
}

#[tokio::test]
async fn the_whole_row_and_domains() {
    let sql = "create function fits(notes) returns bool language plpgsql stable as
                   $$ begin return $1.v = 'a \"b\" \\c, (d)' and $1.twice = 2; end $$;
               drop policy p on notes;
               create policy whole on notes using (fits(notes) and exists (select from pg_class c where c.oid > 0 and notes.id > 0));";
    let (fixture, _) = Fixture::new(sql, "notes").await;
    let all = (0..3).map(|index| fixture.row(index, true)).collect();
    assert_eq!(fixture.check(all).await, [true, false, false]);
    assert_eq!(fixture.check(vec![fixture.with(0, "v", CheckedValue::Missing)]).await, [true]);
    assert_eq!(fixture.check(vec![fixture.with(0, "v", text("b"))]).await, [false]);
}

#[tokio::test]
async fn tables_without_a_key_are_judged_by_values() {
    let (fixture, _) =
        Fixture::new("insert into keyless values ('00000000-0000-0000-0000-00000000000a', 1)", "keyless").await;
    assert_eq!(fixture.check(vec![fixture.row(0, true)]).await, [true]);
    fixture.db.run("delete from keyless").await;
    assert_eq!(fixture.check(vec![fixture.row(0, true)]).await, [true]);
}

#[tokio::test]
async fn another_table_of_the_name_and_roles_without_rights() {
    let (fixture, roles) = Fixture::new("create role {r}_other;", "notes").await;
    let mut request = engine::check(&fixture.principal, &fixture.table.relation, vec![fixture.row(0, true)]);
    request.table_oid += 1;
    assert_eq!(fixture.db.authorizer.check_rows(request).await.unwrap(), [false]);
    let mut request = engine::check(&fixture.principal, &fixture.table.relation, vec![fixture.row(0, true)]);
    request.principal.role = roles.name("other");
    assert_eq!(fixture.db.authorizer.check_rows(request).await.unwrap(), [false], "no policy is for it");
}

#[tokio::test]
async fn a_policy_that_takes_too_long_is_no_answer() {
    let sql = "create function slow(int) returns bool language plpgsql stable as $$ begin perform pg_sleep(30); return true; end $$;
               create policy slow on notes as restrictive using (slow(id));";
    let (db, roles) =
        Db::with(reactor_testkit::Postgres::shared().await.unwrap(), &format!("{AUTH}{SQL}{sql}"), |settings| {
            settings.query_deadline = std::time::Duration::from_millis(300);
        })
        .await;
    let principal = request(&roles.name("user"), "notes").with_claims(json!({"sub": ANN})).principal;
    let table = Table::read(&engine::session(&db.url).await, "public", "notes").await;
    let fixture = Fixture { db, principal, table };
    let began = tokio::time::Instant::now();
    let request = engine::check(&fixture.principal, &fixture.table.relation, vec![fixture.row(0, true)]);
    assert!(matches!(fixture.db.authorizer.check_rows(request).await, Err(AuthorizerError::Timeout)));
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(fixture.db.counted(r#"reactor_policy_rows_total{result="timeout"}"#), 1);
    // The connection is of use again.
    fixture.db.run("drop policy slow on notes").await;
    assert_eq!(fixture.check(vec![fixture.row(0, true)]).await, [true]);
}
