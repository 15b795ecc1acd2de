//! Slots that are older than the messages' publication.

use std::time::Duration;

use anyhow::{Result, ensure};
use reactor_replicator::ReplicatorSettings;
use reactor_replicator::realtime_schema::{PUBLICATION, install};
use tokio_postgres::Client;

use super::{messages, server};
use crate::support::{Replicator, SOON, settings};

/// Sends until a message has come, since the publication may have to be waited for; gives how many came.
async fn send_until_one_comes(replicator: &Replicator, sql: &Client) -> Result<()> {
    reactor_testkit::wait::until(SOON, "a message in the log", || async {
        sql.batch_execute("select realtime.send('{\"id\": 0}', 'e', 'room')").await?;
        for batch in replicator.batches().await? {
            if !super::messages_of(&batch)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    })
    .await
}

/// Numbers of the rows of `t` in the log, in order.
async fn rows(replicator: &Replicator) -> Result<Vec<String>> {
    let batches = replicator.batches().await?;
    crate::support::check_chain(&batches)?;
    let lines: Vec<String> = batches.iter().flat_map(crate::support::lines_of).collect();
    let rows = lines.iter().filter_map(|line| line.strip_prefix("insert public.t new[id="));
    Ok(rows.map(|rest| rest.trim_end_matches(']').to_owned()).collect())
}

fn numbers(count: usize) -> Vec<String> {
    (1..=count).map(|id| id.to_string()).collect()
}

/// A slot that has to decode changes from before the schema was installed, in quiet and in busy times.
async fn installed_later(version: u32, is_busy: bool) -> Result<()> {
    let postgres = server(version).await?;
    let url = postgres.create_database("later").await?;
    let sql = postgres.connect_to("later").await?;
    sql.batch_execute("create table t (id int); create publication changes for table t").await?;
    // As without a confirmation: all of it is decoded again.
    let without = ReplicatorSettings { install_schema: false, ..settings(&url) };
    let replicator = Replicator::streaming(without).await?;
    sql.batch_execute("insert into t values (1)").await?;
    replicator.lines(1).await?;
    let epoch = replicator.status.epoch();
    let mut stopped = replicator.stop().await?;
    sql.batch_execute("insert into t values (2); insert into t values (3)").await?;
    stopped.settings.install_schema = true;
    let replicator = stopped.start_again();
    let (mut count, mut sent) = (3, Vec::new());
    if is_busy {
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            count += 1;
            sql.batch_execute(&format!("insert into t values ({count})")).await?;
            // From the moment on that there is a function to send with, whatever is sent comes.
            if sql.batch_execute(&format!("select realtime.send('{{\"id\": {count}}}', 'e', 'room')")).await.is_ok() {
                sent.push(format!("room e private {{\"id\": {count}}}"));
            }
        }
        ensure!(!sent.is_empty());
        assert_eq!(messages(&replicator, sent.len()).await?, sent);
    }
    replicator.ready().await?;
    send_until_one_comes(&replicator, &sql).await?;
    count += 1;
    sql.batch_execute(&format!("insert into t values ({count})")).await?;
    reactor_testkit::wait::until(SOON, "all rows", || async { Ok(rows(&replicator).await?.len() >= count) }).await?;
    assert_eq!(rows(&replicator).await?, numbers(count), "each once, in order");
    assert_eq!(replicator.status.epoch(), epoch, "no history ends");
    assert_eq!(replicator.metric("reactor_replicator_history_lost_total"), Some(0.0));
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn installed_later_nothing_is_lost_on_postgres_15() -> Result<()> {
    installed_later(15, false).await?;
    installed_later(15, true).await
}

#[tokio::test]
async fn installed_later_nothing_is_lost_on_postgres_18() -> Result<()> {
    installed_later(18, false).await?;
    installed_later(18, true).await
}

/// As by an administrator, while the slot holds changes from before: where the publication begins is not known then.
#[tokio::test]
async fn installed_by_others_nothing_is_lost() -> Result<()> {
    for version in [15, 18] {
        let postgres = server(version).await?;
        let url = postgres.create_database("others").await?;
        let sql = postgres.connect_to("others").await?;
        sql.batch_execute("create table t (id int); create publication changes for table t").await?;
        let without = ReplicatorSettings { install_schema: false, ..settings(&url) };
        let replicator = Replicator::streaming(without).await?;
        let epoch = replicator.status.epoch();
        let stopped = replicator.stop().await?;
        sql.batch_execute("insert into t values (1)").await?;
        let installed = install(&sql, 0).await?;
        ensure!(installed.failed.is_empty() && installed.published_at.is_some(), "{installed:?}");
        sql.batch_execute("insert into t values (2)").await?;
        let replicator = stopped.start_again();
        reactor_testkit::wait::until(SOON, "all rows", || async { Ok(rows(&replicator).await?.len() >= 2) }).await?;
        replicator.ready().await?;
        send_until_one_comes(&replicator, &sql).await?;
        sql.batch_execute("insert into t values (3)").await?;
        reactor_testkit::wait::until(SOON, "all rows", || async { Ok(rows(&replicator).await?.len() >= 3) }).await?;
        assert_eq!(rows(&replicator).await?, numbers(3));
        assert_eq!(replicator.status.epoch(), epoch);
        assert_eq!(replicator.metric("reactor_replicator_session_errors_total"), Some(0.0));
        replicator.stop().await?;
    }
    Ok(())
}

/// A transaction that has written before the publication was made, and commits after it.
#[tokio::test]
async fn a_transaction_from_before_the_publication_is_not_lost() -> Result<()> {
    for version in [15, 18] {
        let postgres = server(version).await?;
        let url = postgres.create_database("running").await?;
        let (sql, runs) = (postgres.connect_to("running").await?, postgres.connect_to("running").await?);
        sql.batch_execute("create table t (id int); create publication changes for table t").await?;
        let without = ReplicatorSettings { install_schema: false, ..settings(&url) };
        let replicator = Replicator::streaming(without).await?;
        let epoch = replicator.status.epoch();
        runs.batch_execute("begin; insert into t values (2)").await?;
        let mut stopped = replicator.stop().await?;
        sql.batch_execute("insert into t values (1)").await?;
        stopped.settings.install_schema = true;
        let replicator = stopped.start_again();
        if version == 15 {
            // The second session follows both, and has decoded nothing yet.
            reactor_testkit::wait::until(SOON, "the second session", || async {
                Ok(replicator.metric("reactor_replicator_sessions_total") == Some(2.0))
            })
            .await?;
        }
        replicator.ready().await?;
        runs.batch_execute("commit").await?;
        sql.batch_execute("insert into t values (3)").await?;
        reactor_testkit::wait::until(SOON, "all rows", || async { Ok(rows(&replicator).await?.len() >= 3) }).await?;
        assert_eq!(rows(&replicator).await?, numbers(3));
        assert_eq!(replicator.status.epoch(), epoch);
        reactor_testkit::wait::until(SOON, "the last message", || async {
            sql.batch_execute("select realtime.send('{\"id\": 0}', 'last', 'room')").await?;
            let batches = replicator.batches().await?;
            let found = batches.iter().map(super::messages_of).collect::<Result<Vec<_>>>()?;
            Ok(found.iter().flatten().any(|message| message.starts_with("room last")))
        })
        .await?;
        ensure!(replicator.metric("reactor_replicator_history_lost_total") == Some(0.0));
        replicator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_messages_publication_that_is_dropped_is_made_again_and_no_history_ends() -> Result<()> {
    for version in [15, 18] {
        let postgres = server(version).await?;
        let url = postgres.create_database("dropped").await?;
        let sql = postgres.connect_to("dropped").await?;
        sql.batch_execute("create table t (id int); create publication changes for table t").await?;
        let replicator = Replicator::streaming(settings(&url)).await?;
        let epoch = replicator.status.epoch();
        sql.batch_execute("select realtime.send('{\"id\": 1}', 'e', 'room'); insert into t values (1)").await?;
        messages(&replicator, 1).await?;
        sql.batch_execute(&format!("drop publication {PUBLICATION}; insert into t values (2)")).await?;
        reactor_testkit::wait::until(SOON, "the row", || async { Ok(rows(&replicator).await?.len() >= 2) }).await?;
        let replicator = replicator.stop().await?.start_again();
        replicator.ready().await?;
        reactor_testkit::wait::until(SOON, "messages again", || async {
            sql.batch_execute("select realtime.send('{\"id\": 2}', 'again', 'room')").await?;
            let batches = replicator.batches().await?;
            let found = batches.iter().map(super::messages_of).collect::<Result<Vec<_>>>()?;
            Ok(found.iter().flatten().any(|message| message.starts_with("room again")))
        })
        .await?;
        sql.batch_execute("insert into t values (3)").await?;
        reactor_testkit::wait::until(SOON, "all rows", || async { Ok(rows(&replicator).await?.len() >= 3) }).await?;
        assert_eq!(rows(&replicator).await?, numbers(3));
        assert_eq!(replicator.status.epoch(), epoch);
        replicator.stop().await?;
    }
    Ok(())
}
