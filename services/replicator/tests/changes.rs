//! What a change looks like in the log.

use anyhow::Result;
use reactor_model::{ChangeKind, Position};
use reactor_testkit::{Postgres, PostgresOptions};

use crate::support::{Replicator, settings};

async fn every_kind(postgres: &Postgres, database: &str) -> Result<()> {
    let url = postgres.create_database(database).await?;
    let sql = postgres.connect_to(database).await?;
    sql.batch_execute(
        "create table todos (id bigint primary key, title text, note text);
         create table logs (line text);
         alter table logs replica identity full;
         insert into todos values (0, 'before', null);",
    )
    .await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    let long = "string_agg(md5(i::text), '') from generate_series(1, 200) i";
    for statements in [
        &format!("insert into todos select 1, 'a', {long}"),
        "begin; update todos set title = 'b' where id = 1; update todos set id = 2 where id = 1;
         insert into logs values ('x'); commit",
        "update logs set line = null",
        "delete from todos where id = 2",
        "delete from logs",
        "insert into logs values ('y')",
        "truncate todos, logs",
        "begin; insert into logs values ('never'); rollback",
        "insert into todos values (3, E'tab\\t\"quote\" ä', '')",
    ] {
        sql.batch_execute(statements).await?;
    }
    let lines = replicator.lines(11).await?;
    assert_eq!(
        lines,
        [
            "insert public.todos new[id=1 title=a note=6400 bytes]",
            "update public.todos new[id=1 title=b note=unchanged]",
            "update public.todos key[id=1 title=null note=null] new[id=2 title=b note=unchanged]",
            "insert public.logs new[line=x]",
            "update public.logs old[line=x] new[line=null]",
            "delete public.todos key[id=2 title=null note=null]",
            "delete public.logs old[line=null]",
            "insert public.logs new[line=y]",
            "truncate public.todos",
            "truncate public.logs",
            "insert public.todos new[id=3 title=tab\t\"quote\" ä note=]",
        ]
    );
    let ordinals: Vec<u32> = replicator.positions().await?.iter().map(|position| position.ordinal).collect();
    assert_eq!(ordinals, [1, 1, 2, 3, 1, 1, 1, 1, 1, 2, 1]);
    let batches = replicator.batches().await?;
    let mark = &batches[0];
    assert!(mark.relation.is_none() && mark.previous == mark.last && mark.last.ordinal == 0);
    assert!(batches.iter().all(|batch| Some(batch.epoch) == replicator.status.epoch()));
    replicator.finish(postgres).await
}

#[tokio::test]
async fn every_kind_of_change_on_postgres_15() -> Result<()> {
    every_kind(Postgres::shared().await?, "kinds").await
}

#[tokio::test]
async fn every_kind_of_change_on_postgres_18() -> Result<()> {
    let postgres = Postgres::start_with(PostgresOptions::version(18)).await?;
    every_kind(&postgres, "kinds").await
}

#[tokio::test]
async fn values_have_one_text_form_whatever_the_database_says() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("forms").await?;
    let sql = postgres.connect_to("forms").await?;
    sql.batch_execute(
        "alter database forms set timezone = 'Asia/Tokyo'; alter database forms set datestyle = 'German';
         alter database forms set intervalstyle = 'sql_standard'; alter database forms set bytea_output = 'escape';
         alter database forms set extra_float_digits = -5;
         create table forms (at timestamptz, long interval, raw bytea, pi float8);",
    )
    .await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    sql.execute(
        "insert into forms values ('2024-02-03 04:05:06+00', '1 day 2 hours', '\\x00ff', 0.1::float8 + 0.2)",
        &[],
    )
    .await?;
    let form =
        "insert public.forms new[at=2024-02-03 04:05:06+00 long=1 day 02:00:00 raw=\\x00ff pi=0.30000000000000004]";
    assert_eq!(replicator.lines(1).await?, [form]);
    replicator.finish(postgres).await
}

#[tokio::test]
async fn partitions_come_under_their_roots_name() -> Result<()> {
    let postgres = Postgres::shared().await?;
    for (database, publication) in [
        ("by_root", "create publication changes for all tables with (publish_via_partition_root = true)"),
        ("by_leaf", "create publication changes for all tables"),
    ] {
        let url = postgres.create_database(database).await?;
        let sql = postgres.connect_to(database).await?;
        sql.batch_execute(publication).await?;
        sql.batch_execute(
            "create schema s; create table s.events (day int, text text, primary key (day)) partition by range (day);
             create table low partition of s.events for values from (0) to (10) partition by range (day);
             create table lowest partition of low for values from (0) to (5);
             create table high (text text, day int not null);
             alter table s.events attach partition high for values from (10) to (20);",
        )
        .await?;
        let replicator = Replicator::streaming(settings(&url)).await?;
        sql.batch_execute(
            "insert into s.events values (1, 'a'), (11, 'b'); update s.events set day = 12 where day = 11;",
        )
        .await?;
        let lines = replicator.lines(3).await?;
        let mut starts: Vec<&str> = lines.iter().filter_map(|line| line.split(" new[").next()).collect();
        starts.sort_unstable();
        assert!(starts[0].starts_with("insert s.events") && starts[1].starts_with("insert s.events"), "{lines:?}");
        assert!(starts[2].starts_with("update s.events key["), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("day=12") && line.contains("text=b")), "{lines:?}");
        replicator.finish(postgres).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_row_larger_than_the_bus_takes_travels_without_its_large_values() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("large").await?;
    let sql = postgres.connect_to("large").await?;
    sql.batch_execute("create table large (id int primary key, a text, b text)").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    sql.batch_execute(
        "insert into large values (1, repeat('a', 3000000), 'small'), (2, repeat('a', 600000), repeat('b', 500000)),
                                  (3, 'x', 'y');",
    )
    .await?;
    let expected = [
        "insert public.large new[id=1 a=omitted b=small]",
        "insert public.large new[id=2 a=omitted b=500000 bytes]",
        "insert public.large new[id=3 a=x b=y]",
    ];
    assert_eq!(replicator.lines(3).await?, expected);
    assert_eq!(replicator.metric("reactor_replicator_oversize_rows_total"), Some(2.0));
    replicator.finish(postgres).await
}

#[tokio::test]
async fn transactions_come_in_the_order_in_which_they_committed() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("orders").await?;
    let (first, second) = (postgres.connect_to("orders").await?, postgres.connect_to("orders").await?);
    first.batch_execute("create table t (id int primary key, by text)").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    first.batch_execute("begin; insert into t values (1, 'first')").await?;
    second.batch_execute("begin; insert into t values (2, 'second'); commit").await?;
    first.batch_execute("insert into t values (3, 'first'); commit").await?;
    let lines = replicator.lines(3).await?;
    let ids: Vec<&str> = lines.iter().filter_map(|line| line.split(['=', ' ']).nth(3)).collect();
    assert_eq!(ids, ["2", "1", "3"]);
    let (positions, batches) = (replicator.positions().await?, replicator.batches().await?);
    assert_eq!(positions.iter().map(|position| position.ordinal).collect::<Vec<_>>(), [1, 1, 2]);
    let changes: Vec<_> = batches.iter().flat_map(|batch| &batch.changes).collect();
    assert!(changes.iter().all(|change| change.kind == ChangeKind::Insert));
    assert!(changes[0].commit_time_us < changes[1].commit_time_us);
    assert!(changes.iter().all(|change| change.position > Position::before(batches[0].live_from)));
    replicator.finish(postgres).await
}
