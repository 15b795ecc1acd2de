//! Partitions over the days, with the time passed in.

use anyhow::{Result, ensure};
use reactor_replicator::ReplicatorSettings;
use reactor_replicator::realtime_schema::{install, maintain};
use reactor_testkit::Postgres;
use tokio_postgres::Client;

use super::{column, messages, partitions, server};
use crate::support::{Replicator, settings};

/// 2030-01-10 12:00 UTC.
const NOON: i64 = 1_894_276_800;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Without a janitor, whose days are those of the clock.
fn without_janitor(url: &str) -> ReplicatorSettings {
    ReplicatorSettings { install_schema: false, ..settings(url) }
}

fn names(days: &[&str]) -> Vec<String> {
    days.iter().map(|day| format!("messages_2030_01_{day}")).collect()
}

async fn days(client: &Client) -> Result<Vec<String>> {
    Ok(partitions(client).await?.into_iter().filter(|name| name != "messages_default").collect())
}

async fn over_the_days(version: u32) -> Result<()> {
    let postgres = server(version).await?;
    postgres.create_database("days").await?;
    let sql = postgres.connect_to("days").await?;
    // The day of a row is that of UTC whatever the session says.
    sql.batch_execute("set timezone = 'Asia/Tokyo'").await?;
    let nothing = maintain(&sql, NOON).await?;
    ensure!(nothing.made.is_empty() && nothing.failed.is_empty(), "nothing to look after yet: {nothing:?}");
    let installed = install(&sql, NOON).await?;
    ensure!(installed.failed.is_empty(), "{installed:?}");
    assert_eq!(days(&sql).await?, names(&["09", "10", "11", "12", "13"]));

    let again = maintain(&sql, NOON).await?;
    ensure!(again.made.is_empty() && again.dropped.is_empty() && again.failed.is_empty(), "{again:?}");
    let late = maintain(&sql, NOON + 12 * HOUR - 1).await?;
    ensure!(late.made.is_empty(), "still the same day: {late:?}");
    let next = maintain(&sql, NOON + 12 * HOUR).await?;
    assert_eq!((next.made, next.dropped), (names(&["14"]), Vec::new()));

    // The last row of the 9th may be of 23:59:59.999999, so that it goes at midnight of the 13th.
    let midnight = NOON + 12 * HOUR + 2 * DAY;
    let early = maintain(&sql, midnight - 1).await?;
    ensure!(early.dropped.is_empty() && early.failed.is_empty(), "{early:?}");
    let in_time = maintain(&sql, midnight).await?;
    assert_eq!((in_time.made, in_time.dropped), (names(&["16"]), names(&["09"])));
    assert_eq!(days(&sql).await?, names(&["10", "11", "12", "13", "14", "15", "16"]));

    // After an absence.
    let back = maintain(&sql, NOON + 15 * DAY).await?;
    assert_eq!(back.made, names(&["24", "25", "26", "27", "28"]));
    assert_eq!(back.dropped, names(&["10", "11", "12", "13", "14", "15", "16"]));
    ensure!(back.failed.is_empty(), "{back:?}");
    Ok(())
}

#[tokio::test]
async fn days_are_made_ahead_and_dropped_after_72_hours_on_postgres_15() -> Result<()> {
    over_the_days(15).await
}

#[tokio::test]
async fn days_are_made_ahead_and_dropped_after_72_hours_on_postgres_18() -> Result<()> {
    over_the_days(18).await
}

#[tokio::test]
async fn rows_without_a_day_are_in_the_default_partition_and_leave_it_when_they_are_old() -> Result<()> {
    for version in [15, 18] {
        let postgres = server(version).await?;
        let url = postgres.create_database("default").await?;
        let sql = postgres.connect_to("default").await?;
        install(&sql, NOON).await?;
        let replicator = Replicator::streaming(without_janitor(&url)).await?;
        let insert = "insert into realtime.messages (topic, extension, event, inserted_at) values ";
        sql.batch_execute(&format!(
            "{insert} ('late', 'broadcast', 'e', '2030-01-15 10:00'), ('later', 'broadcast', 'e', '2030-01-16 00:00')"
        ))
        .await?;
        assert_eq!(messages(&replicator, 2).await?, ["late e public ", "later e public "], "none is lost");
        let left = "select topic from only realtime.messages_default order by inserted_at";
        assert_eq!(column(&sql, left).await?, ["late", "later"]);

        let maintained = maintain(&sql, NOON + 4 * DAY).await?;
        ensure!(maintained.failed.is_empty(), "{maintained:?}");
        assert_eq!(maintained.made, names(&["14", "17"]), "days that have rows there already stay there");
        sql.batch_execute(&format!("{insert} ('more', 'broadcast', 'e', '2030-01-15 11:00')")).await?;
        messages(&replicator, 3).await?;
        assert_eq!(column(&sql, left).await?, ["late", "more", "later"]);

        let maintained = maintain(&sql, NOON + 8 * DAY).await?;
        assert_eq!((maintained.deleted, maintained.failed.len()), (2, 0), "11:00 of the 15th is 73 hours ago");
        assert_eq!(column(&sql, left).await?, ["later"]);
        replicator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn whoever_holds_the_table_is_not_pushed_and_the_next_round_comes() -> Result<()> {
    let postgres = Postgres::shared().await?;
    postgres.create_database("held").await?;
    let (sql, reader) = (postgres.connect_to("held").await?, postgres.connect_to("held").await?);
    install(&sql, NOON).await?;
    reader.batch_execute("begin; select * from realtime.messages").await?;
    let held = maintain(&sql, NOON + 5 * DAY).await?;
    ensure!(held.dropped.is_empty() && !held.failed.is_empty(), "{held:?}");
    ensure!(held.failed.iter().all(|failure| failure.error.sqlstate() == Some("55P03")), "{held:?}");
    reader.batch_execute("commit").await?;
    let free = maintain(&sql, NOON + 5 * DAY).await?;
    ensure!(free.failed.is_empty() && free.dropped == names(&["09", "10", "11"]), "{free:?}");
    Ok(())
}

/// Partitions that go before their rows have been decoded, with a publication that has them by their own names.
#[tokio::test]
async fn messages_of_a_partition_that_is_gone_are_messages_still() -> Result<()> {
    for (version, via_root) in [(15, false), (15, true), (18, false)] {
        let postgres = server(version).await?;
        let url = postgres.create_database("gone").await?;
        let sql = postgres.connect_to("gone").await?;
        install(&sql, NOON).await?;
        sql.batch_execute(&format!(
            "alter publication supabase_realtime_messages_publication set (publish_via_partition_root = {via_root})"
        ))
        .await?;
        sql.batch_execute("create table t (id int); create publication changes for table t").await?;
        let replicator = Replicator::streaming(without_janitor(&url)).await?;
        let insert = "insert into realtime.messages (topic, extension, event, inserted_at) values";
        sql.batch_execute(&format!("{insert} ('room', 'broadcast', 'live', '2030-01-09')")).await?;
        messages(&replicator, 1).await?;
        let stopped = replicator.stop().await?;
        sql.batch_execute(&format!(
            "{insert} ('room', 'broadcast', 'a', '2030-01-09'), ('room', 'broadcast', 'b', '2030-01-10')"
        ))
        .await?;
        let dropped = maintain(&sql, NOON + 5 * DAY).await?.dropped;
        assert_eq!(dropped, names(&["09", "10", "11"]));
        let replicator = stopped.start_again();
        replicator.ready().await?;
        sql.batch_execute(&format!("{insert} ('room', 'broadcast', 'c', '2030-01-15')")).await?;
        let expected = ["room live public ", "room a public ", "room b public ", "room c public "];
        assert_eq!(messages(&replicator, 4).await?, expected);
        let batches = replicator.batches().await?;
        let relations: Vec<_> = batches.iter().filter_map(|batch| batch.relation.clone()).collect();
        ensure!(relations.iter().all(|relation| relation.row_security && relation.table_oid == relations[0].table_oid));
        replicator.stop().await?;
    }
    Ok(())
}
