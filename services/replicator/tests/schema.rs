//! Tables and publications that change while they are followed.

use anyhow::Result;
use reactor_testkit::Postgres;

use crate::support::{Replicator, settings};

/// Every statement that changes a shape, with rows in between.
const CHANGES: &str = "
    insert into t values (1, 'a');
    alter table t add column extra int default 7;
    insert into t values (2, 'b');
    alter table t rename column name to title;
    insert into t values (3, 'c');
    alter table t drop column title;
    insert into t values (4);
    alter table t alter column extra type text;
    insert into t values (5, 'five');
    alter table t rename to u;
    insert into u values (6);
    alter table u set schema other;
    insert into other.u values (7);
    begin; insert into other.u values (8); alter table other.u add column late bool; insert into other.u values (9); commit;
    drop table other.u;
    create table t (other text primary key);
    insert into t values ('new');";

const LINES: [&str; 10] = [
    "insert public.t new[id=1 name=a]",
    "insert public.t new[id=2 name=b extra=7]",
    "insert public.t new[id=3 title=c extra=7]",
    "insert public.t new[id=4 extra=7]",
    "insert public.t new[id=5 extra=five]",
    "insert public.u new[id=6 extra=7]",
    "insert other.u new[id=7 extra=7]",
    "insert other.u new[id=8 extra=7]",
    "insert other.u new[id=9 extra=7 late=null]",
    "insert public.t new[other=new]",
];

const TABLES: &str = "create schema other; create table t (id int primary key, name text);";

#[tokio::test]
async fn changes_of_shape_are_followed_live() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("shape_live").await?;
    let sql = postgres.connect_to("shape_live").await?;
    sql.batch_execute(TABLES).await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    let mut rows = 0;
    for statement in CHANGES.split(";\n") {
        sql.batch_execute(statement).await?;
        rows += statement.matches("insert").count();
        replicator.lines(rows).await?;
    }
    assert_eq!(replicator.lines(LINES.len()).await?, LINES);
    let batches = replicator.batches().await?;
    let relations: Vec<_> = batches.iter().filter_map(|batch| batch.relation.clone()).collect();
    assert!(relations.iter().all(|relation| !relation.row_security));
    assert!(relations.iter().all(|relation| relation.columns[0].primary_key), "the key is known at every step");
    replicator.finish(postgres).await
}

#[tokio::test]
async fn changes_of_shape_are_followed_when_the_catalog_is_ahead() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("shape_late").await?;
    let sql = postgres.connect_to("shape_late").await?;
    sql.batch_execute(TABLES).await?;
    let stopped = Replicator::streaming(settings(&url)).await?.stop().await?;
    sql.batch_execute(CHANGES).await?;
    let replicator = stopped.start_again();
    assert_eq!(replicator.lines(LINES.len()).await?, LINES);
    let batches = replicator.batches().await?;
    let relations: Vec<_> = batches.iter().filter_map(|batch| batch.relation.clone()).collect();
    assert!(relations[0].row_security, "rows of a table that is gone are not delivered unchecked");
    assert!(relations.iter().all(|relation| relation.columns[0].primary_key));
    assert_eq!(relations[0].types[&23].name, "int4");
    replicator.finish(postgres).await
}

#[tokio::test]
async fn what_the_catalog_says_about_a_table_is_carried() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("described").await?;
    let sql = postgres.connect_to("described").await?;
    sql.batch_execute(
        "create type mood as enum ('sad', 'glad');
         create table t (id int primary key, mood mood, tags text[]); alter table t replica identity full;",
    )
    .await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    sql.batch_execute("insert into t values (1, 'glad', '{a}')").await?;
    replicator.lines(1).await?;
    sql.batch_execute("alter table t enable row level security; insert into t values (2, 'sad', null)").await?;
    replicator.lines(2).await?;
    let batches = replicator.batches().await?;
    let relations: Vec<_> = batches.iter().filter_map(|batch| batch.relation.clone()).collect();
    assert_eq!(relations.iter().map(|relation| relation.row_security).collect::<Vec<_>>(), [false, true]);
    let keys: Vec<(bool, bool)> =
        relations[0].columns.iter().map(|column| (column.primary_key, column.identity_key)).collect();
    assert_eq!(keys, [(true, true), (false, true), (false, true)]);
    let mood = &relations[0].types[&relations[0].columns[1].type_oid];
    assert_eq!(mood.name, "mood");
    replicator.finish(postgres).await
}

#[tokio::test]
async fn tables_that_come_later_are_picked_up() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("later").await?;
    let sql = postgres.connect_to("later").await?;
    sql.batch_execute("create table a (id int); create table b (id int); create publication changes for table a")
        .await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    sql.batch_execute("insert into a values (1); insert into b values (1)").await?;
    replicator.lines(1).await?;
    sql.batch_execute("alter publication changes add table b; insert into b values (2)").await?;
    replicator.lines(2).await?;
    sql.batch_execute(
        "drop publication changes; create publication changes for all tables; create table c (id int); insert into c values (3)",
    )
    .await?;
    let expected = ["insert public.a new[id=1]", "insert public.b new[id=2]", "insert public.c new[id=3]"];
    assert_eq!(replicator.lines(3).await?, expected);
    replicator.finish(postgres).await
}

#[tokio::test]
async fn a_publication_that_is_missing_is_told_and_waited_for() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("unpublished").await?;
    let sql = postgres.connect_to("unpublished").await?;
    sql.batch_execute("create table t (id int)").await?;
    let mut without = settings(&url);
    without.create_publication = false;
    without.publication = "it's \"odd\"".to_owned();
    let replicator = Replicator::start(without);
    let reason = replicator.unready_with("does not exist").await?;
    assert!(reason.contains("REACTOR_PUBLICATION_CREATE=true"), "{reason}");
    sql.batch_execute("create publication \"it's \"\"odd\"\"\" for table t").await?;
    replicator.ready().await?;
    sql.batch_execute("insert into t values (1)").await?;
    assert_eq!(replicator.lines(1).await?, ["insert public.t new[id=1]"]);
    replicator.finish(postgres).await
}

#[tokio::test]
async fn changes_from_a_time_without_the_publication_begin_a_new_epoch() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("republished").await?;
    let sql = postgres.connect_to("republished").await?;
    sql.batch_execute("create table t (id int)").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    sql.batch_execute("insert into t values (1)").await?;
    replicator.lines(1).await?;
    let before = replicator.status.epoch();
    let stopped = replicator.stop().await?;
    sql.batch_execute("drop publication changes; insert into t values (2); create publication changes for all tables")
        .await?;
    let replicator = stopped.start_again();
    reactor_testkit::wait::until(crate::support::SOON, "a new epoch", || async {
        Ok(replicator.status.unready_reason().is_none()
            && replicator.status.epoch().is_some_and(|now| Some(now) != before))
    })
    .await?;
    sql.batch_execute("insert into t values (3)").await?;
    let lines = replicator.lines(2).await?;
    assert_eq!(lines, ["insert public.t new[id=1]", "insert public.t new[id=3]"]);
    assert_eq!(replicator.metric("reactor_replicator_history_lost_total"), Some(1.0));
    replicator.finish(postgres).await
}
