//! What the functions do, and how it arrives.

use anyhow::{Context, Result, ensure};
use reactor_model::Position;
use reactor_replicator::realtime_schema::{PUBLICATION, install};
use reactor_testkit::Postgres;

use super::{column, messages, server};
use crate::support::{Replicator, settings};

const TRIGGER: &str = "
    create table todos (id int primary key, title text);
    create function tell() returns trigger language plpgsql security definer as $$ begin
        perform realtime.broadcast_changes('todos:' || coalesce(new.id, old.id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
        return null; end $$;
    create trigger tell after insert or update or delete on todos for each row execute function tell();";

async fn functions(version: u32) -> Result<()> {
    let postgres = server(version).await?;
    let url = postgres.create_database("sent").await?;
    let sql = postgres.connect_to("sent").await?;
    sql.batch_execute("create publication changes; set timezone = 'Asia/Tokyo'; set search_path = ''").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    sql.batch_execute("set search_path = public").await?;
    sql.batch_execute(TRIGGER).await?;
    sql.batch_execute("set search_path = ''").await?;
    for statement in [
        "begin; select realtime.send('{\"id\": \"mine\", \"a\": [1]}', 'first', 'room');
                select realtime.send_binary('\\x00ff', 'second', 'room', false);
                select realtime.send('{\"id\": 3}', 'third', 'room', false); commit",
        "insert into public.todos values (1, 'a')",
        "update public.todos set title = 'b'",
        "delete from public.todos",
        "begin; select realtime.send('{}', 'never', 'room'); rollback",
    ] {
        sql.batch_execute(statement).await?;
    }
    let found = messages(&replicator, 6).await?;
    assert_eq!(
        found[..3],
        [
            "room first private {\"a\": [1], \"id\": \"mine\"}",
            "room second public \\x00ff",
            "room third public {\"id\": 3}"
        ]
    );
    let positions = replicator.positions().await?;
    assert_eq!(positions.iter().map(|position| position.ordinal).collect::<Vec<_>>(), [1, 2, 3, 1, 1, 1]);
    for (message, expected) in found[3..].iter().zip([
        "INSERT {\"table\": \"todos\", \"record\": {\"id\": 1, \"title\": \"a\"}, \"schema\": \"public\", \"operation\": \"INSERT\", \"old_record\": null}",
        "UPDATE {\"table\": \"todos\", \"record\": {\"id\": 1, \"title\": \"b\"}, \"schema\": \"public\", \"operation\": \"UPDATE\", \"old_record\": {\"id\": 1, \"title\": \"a\"}}",
        "DELETE {\"table\": \"todos\", \"record\": null, \"schema\": \"public\", \"operation\": \"DELETE\", \"old_record\": {\"id\": 1, \"title\": \"b\"}}",
    ]) {
        let (event, payload) = expected.split_once(' ').context("an event")?;
        let got = message.strip_prefix(&format!("todos:1 {event} private ")).context("the topic")?.to_owned();
        let same = format!("select ('{got}'::jsonb - 'id' = '{payload}'::jsonb)::text, length('{got}'::jsonb ->> 'id')");
        let row = sql.query_one(&same, &[]).await?;
        assert_eq!((row.get::<_, String>(0).as_str(), row.get(1)), ("true", 36), "{got}");
    }
    // Rows of one transaction read back in their order, with times of UTC.
    let stored = "select event from realtime.messages where topic = 'room' order by inserted_at";
    assert_eq!(column(&sql, stored).await?, ["first", "second", "third"]);
    let recent = "select (abs(extract(epoch from now() at time zone 'utc' - max(inserted_at))) < 600)::text from realtime.messages";
    assert_eq!(column(&sql, recent).await?, ["true"]);
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn functions_and_triggers_send_in_order_on_postgres_15() -> Result<()> {
    functions(15).await
}

#[tokio::test]
async fn functions_and_triggers_send_in_order_on_postgres_18() -> Result<()> {
    functions(18).await
}

#[tokio::test]
async fn what_cannot_be_sent_is_a_warning_and_undoes_nothing() -> Result<()> {
    let postgres = server(15).await?;
    let url = postgres.create_database("warned").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    let sql = postgres.connect_to("warned").await?;
    sql.batch_execute("create table kept (id int); grant all on kept to authenticated").await?;
    sql.batch_execute(
        "begin; insert into kept values (1);
         select realtime.send('{}', 'e', null);
         select realtime.send('3', 'e', 'room');
         select realtime.send_binary('x', 'e', null);
         set local role authenticated;
         select realtime.send('{}', 'refused', 'room');
         insert into kept values (2); commit",
    )
    .await?;
    assert_eq!(replicator.lines(2).await?, ["insert public.kept new[id=1]", "insert public.kept new[id=2]"]);
    let log = postgres.log()?;
    assert_eq!(log.matches("WARNING:  WarnSendingBroadcastMessage: ").count(), 4, "{log}");
    ensure!(log.contains("new row violates row-level security policy for table \"messages\""), "{log}");

    // With a policy that asks for the topic.
    sql.batch_execute(
        "create policy send on realtime.messages for insert to authenticated with check (realtime.topic() = 'mine');
         set role authenticated; select realtime.send('{\"id\": 1}', 'e', 'other'), realtime.send('{\"id\": 2}', 'e', 'mine'); reset role",
    )
    .await?;
    assert_eq!(messages(&replicator, 1).await?, ["mine e private {\"id\": 2}"]);

    let broadcast = |operation: &str, level: &str| {
        format!(
            "select realtime.broadcast_changes('t', 'e', '{operation}', 't', 's', null::record, null::record, '{level}')"
        )
    };
    for (operation, level, expected) in [
        ("INSERT", "STATEMENT", "Failed to process the row: function can only be triggered for each row"),
        ("TRUNCATE", "ROW", "Failed to process the row: Unexpected operation type: TRUNCATE"),
    ] {
        let refused = sql.batch_execute(&broadcast(operation, level)).await;
        let text = refused.err().and_then(|error| error.as_db_error().map(|error| error.message().to_owned()));
        ensure!(text.as_deref().is_some_and(|text| text.starts_with(expected)), "{text:?}");
    }
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn messages_come_in_commit_order_among_other_changes() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("woven").await?;
    let (first, second) = (postgres.connect_to("woven").await?, postgres.connect_to("woven").await?);
    first.batch_execute("create table t (id int)").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    first.batch_execute("begin; select realtime.send('{\"id\": 1}', 'early', 'room')").await?;
    second
        .batch_execute("begin; insert into t values (1); select realtime.send('{\"id\": 2}', 'e', 'room'); commit")
        .await?;
    first
        .batch_execute("insert into t values (2); select realtime.send('{\"id\": 3}', 'late', 'room'); commit")
        .await?;
    let lines = replicator.lines(5).await?;
    let kinds: Vec<&str> = lines.iter().map(|line| line.split(' ').nth(1).unwrap_or_default()).collect();
    assert_eq!(kinds, ["public.t", "realtime.messages", "realtime.messages", "public.t", "realtime.messages"]);
    let events: Vec<String> = messages(&replicator, 3)
        .await?
        .iter()
        .filter_map(|message| message.split(' ').nth(1).map(str::to_owned))
        .collect();
    assert_eq!(events, ["e", "early", "late"]);
    replicator.finish(postgres).await
}

#[tokio::test]
async fn with_any_publication_of_the_tenant_each_message_comes_once() -> Result<()> {
    for (version, database, publication) in [
        (15, "all", "create publication changes for all tables"),
        (15, "all_root", "create publication changes for all tables with (publish_via_partition_root = true)"),
        (18, "all_18", "create publication changes for all tables"),
        (15, "none", "create publication changes"),
        (15, "own", "create publication changes for tables in schema public, table t"),
    ] {
        let postgres = server(version).await?;
        let url = postgres.create_database(database).await?;
        let sql = postgres.connect_to(database).await?;
        sql.batch_execute(&format!("create table t (id int primary key); {publication}")).await?;
        let replicator = Replicator::streaming(settings(&url)).await?;
        sql.batch_execute("insert into t values (1); select realtime.send('{\"id\": 1}', 'e', 'room')").await?;
        assert_eq!(messages(&replicator, 1).await?, ["room e private {\"id\": 1}"], "{database}");
        let others = usize::from(database != "none");
        replicator.lines(1 + others).await?;
        let batches = replicator.batches().await?;
        let named =
            batches.iter().filter_map(|batch| batch.relation.as_ref()).filter(|relation| relation.schema == "realtime");
        ensure!(named.clone().count() == 1 && named.clone().all(|relation| relation.table == "messages"), "{database}");
        // Partitions that come and go are no changes.
        sql.batch_execute(
            "create table realtime.x partition of realtime.messages for values from ('2010-01-01') to ('2010-01-02'); drop table realtime.x;
             select realtime.send('{\"id\": 2}', 'e', 'room')",
        )
        .await?;
        replicator.lines(2 + others).await?;
        replicator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn with_the_messages_publication_as_the_tenants_own_it_is_named_once() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("same").await?;
    let mut same = settings(&url);
    same.publication = PUBLICATION.to_owned();
    let replicator = Replicator::streaming(same).await?;
    postgres.execute_in("same", "select realtime.send('{\"id\": 1}', 'e', 'room')").await?;
    messages(&replicator, 1).await?;
    replicator.finish(postgres).await
}

#[tokio::test]
async fn sent_while_nobody_replicates_they_come_once_after_a_restart() -> Result<()> {
    for version in [15, 18] {
        let postgres = server(version).await?;
        let url = postgres.create_database("absent").await?;
        let sql = postgres.connect_to("absent").await?;
        let replicator = Replicator::streaming(settings(&url)).await?;
        sql.batch_execute("select realtime.send('{\"id\": 1}', 'e', 'room')").await?;
        messages(&replicator, 1).await?;
        let epoch = replicator.status.epoch();
        let stopped = replicator.stop().await?;
        sql.batch_execute("begin; select realtime.send('{\"id\": 2}', 'e', 'room'); select realtime.send('{\"id\": 3}', 'e', 'room'); commit")
            .await?;
        let replicator = stopped.start_again();
        replicator.ready().await?;
        messages(&replicator, 3).await?;
        let stopped = replicator.kill().await;
        let replicator = stopped.start_again();
        replicator.ready().await?;
        sql.batch_execute("select realtime.send('{\"id\": 4}', 'e', 'room')").await?;
        let found = messages(&replicator, 4).await?;
        let expected: Vec<String> = (1..=4).map(|id| format!("room e private {{\"id\": {id}}}")).collect();
        assert_eq!(found, expected);
        assert_eq!(replicator.status.epoch(), epoch);
        let positions = replicator.positions().await?;
        ensure!(positions.iter().all(|position| *position > Position::default()));
        replicator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_list_of_columns_that_the_server_would_refuse_beside_is_streamed_alone() -> Result<()> {
    for version in [15, 18] {
        let postgres = server(version).await?;
        let url = postgres.create_database("listed").await?;
        let sql = postgres.connect_to("listed").await?;
        install(&sql, 0).await?;
        sql.batch_execute(
            "create table t (id int primary key);
             create publication changes for table t, realtime.messages (topic, event, payload, id, inserted_at)
             with (publish_via_partition_root = true)",
        )
        .await?;
        let replicator = Replicator::streaming(settings(&url)).await?;
        sql.batch_execute("insert into t values (1); select realtime.send('{\"id\": 1}', 'e', 'room')").await?;
        replicator.lines(2).await?;
        assert_eq!(messages(&replicator, 1).await?, ["room e public {\"id\": 1}"], "what the list has");
        replicator.stop().await?;
    }
    Ok(())
}
