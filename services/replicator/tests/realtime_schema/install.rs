//! What is made, what is left as it is, and what happens without the rights.

use anyhow::{Result, ensure};
use reactor_pg::PgTarget;
use reactor_replicator::ReplicatorSettings;
use reactor_replicator::realtime_schema::{install, maintain};
use reactor_testkit::Postgres;

use super::{ROLES, column, messages, partitions, server};
use crate::support::{Replicator, settings};

/// Everything that the catalog has of the schema, to see whether it has been touched.
const CATALOG: &str = "
    select 'class ' || relname || ' ' || oid || ' ' || xmin from pg_class where relnamespace = 'realtime'::regnamespace
    union all select 'proc ' || proname || ' ' || oid || ' ' || xmin from pg_proc where pronamespace = 'realtime'::regnamespace
    union all select 'schema ' || xmin from pg_namespace where nspname = 'realtime'
    union all select 'publication ' || pubname || ' ' || oid || ' ' || xmin from pg_publication
    union all select 'published ' || prrelid || ' ' || xmin from pg_publication_rel order by 1";

async fn installs(version: u32) -> Result<()> {
    let postgres = server(version).await?;
    let url = postgres.create_database("fresh").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    let sql = postgres.connect_to("fresh").await?;
    let mut expected = column(
        &sql,
        "select 'messages_' || to_char(day, 'YYYY_MM_DD') from generate_series((now() at time zone 'utc')::date - 1, (now() at time zone 'utc')::date + 3, interval '1 day') day",
    )
    .await?;
    expected.push("messages_default".to_owned());
    assert_eq!(partitions(&sql).await?, expected);
    let unprotected = "select relname::text from pg_class where relnamespace = 'realtime'::regnamespace and relkind in ('r', 'p') and not relrowsecurity";
    assert_eq!(column(&sql, unprotected).await?, Vec::<String>::new());
    let published = "select concat_ws(' ', pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, puballtables) from pg_publication
                      where pubname = 'supabase_realtime_messages_publication'";
    assert_eq!(column(&sql, published).await?, ["t f f f t f"]);
    let signatures = "select p.oid::regprocedure || ' ' || pg_get_function_arguments(p.oid) from pg_proc p
                       where pronamespace = 'realtime'::regnamespace order by 1";
    assert_eq!(
        column(&sql, signatures).await?,
        [
            "realtime.broadcast_changes(text,text,text,text,text,record,record,text) topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record, level text DEFAULT 'ROW'::text",
            "realtime.send(jsonb,text,text,boolean) payload jsonb, event text, topic text, private boolean DEFAULT true",
            "realtime.send_binary(bytea,text,text,boolean) payload bytea, event text, topic text, private boolean DEFAULT true",
            "realtime.topic() ",
        ]
    );
    let granted = "select concat_ws(' ', rolname, has_schema_privilege(oid, 'realtime', 'usage'), has_schema_privilege(oid, 'realtime', 'create'),
                          has_table_privilege(oid, 'realtime.messages', 'select'), has_table_privilege(oid, 'realtime.messages', 'insert'),
                          has_table_privilege(oid, 'realtime.messages', 'update'))
                     from pg_roles where rolname in ('anon', 'authenticated', 'service_role') order by 1";
    assert_eq!(column(&sql, granted).await?, ["anon t f t t f", "authenticated t f t t f", "service_role t f t t f"]);
    let before = column(&sql, CATALOG).await?;
    let again = install(&sql, 0).await?;
    ensure!(again.made.is_empty() && again.failed.is_empty() && again.published_at.is_none(), "{again:?}");
    let stopped = replicator.stop().await?;
    let replicator = stopped.start_again();
    replicator.ready().await?;
    assert_eq!(column(&sql, CATALOG).await?, before, "a second installation touches nothing");
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_fresh_database_gets_everything_once_on_postgres_15() -> Result<()> {
    installs(15).await
}

#[tokio::test]
async fn a_fresh_database_gets_everything_once_on_postgres_18() -> Result<()> {
    installs(18).await
}

/// As a database has it whose schema somebody else made, some years ago: without what came later, with partitions published by
/// their own names, and with functions of its own.
const FOREIGN: &str = "
    create schema realtime;
    create table realtime.messages (
        topic text not null, extension text not null, payload jsonb, event text, private boolean default false,
        updated_at timestamp not null default now(), inserted_at timestamp not null default now(),
        id uuid not null default gen_random_uuid(), primary key (id, inserted_at)) partition by range (inserted_at);
    create table realtime.messages_2020_01_01 partition of realtime.messages for values from ('2020-01-01') to ('2020-01-02');
    create function realtime.topic() returns text language sql stable as $$ select 'foreign'::text $$;
    create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void language sql as
        $$ insert into realtime.messages (payload, event, topic, private, extension) values (payload, 'foreign', topic, private, 'broadcast') $$;
    create function realtime.send(payload text) returns void language sql as 'select';
    create publication supabase_realtime_messages_publication for table realtime.messages;
    alter schema realtime owner to keeper; alter table realtime.messages owner to keeper;
    alter function realtime.topic() owner to keeper;
    alter publication supabase_realtime_messages_publication owner to keeper;";

async fn keeps_what_there_is(version: u32) -> Result<()> {
    let postgres = server(version).await?;
    let url = postgres.create_database("foreign").await?;
    postgres.execute("create role keeper").await?;
    postgres.execute_in("foreign", "grant create on database \"foreign\" to keeper").await?;
    postgres.execute_in("foreign", FOREIGN).await?;
    let sql = postgres.connect_to("foreign").await?;
    let before =
        column(&sql, "select prosrc from pg_proc where pronamespace = 'realtime'::regnamespace order by 1").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    let after =
        column(&sql, "select prosrc from pg_proc where pronamespace = 'realtime'::regnamespace order by 1").await?;
    ensure!(before.iter().all(|body| after.contains(body)) && after.len() == 5, "{after:?}");
    let options = "select concat_ws(' ', pubdelete, pubviaroot) from pg_publication where pubname like 'supabase%'";
    assert_eq!(column(&sql, options).await?, ["t f"]);
    let columns =
        "select attname::text from pg_attribute where attrelid = 'realtime.messages'::regclass and attnum > 8";
    assert_eq!(column(&sql, columns).await?, ["binary_payload", "skip_broadcast"]);
    // The janitor comes as soon as the lease is held; here its round is made by hand, so as not to wait for it.
    maintain(&sql, now(&sql).await?).await?;
    let names = partitions(&sql).await?;
    ensure!(names.len() == 6 && !names.contains(&"messages_2020_01_01".to_owned()), "{names:?}");
    let owners = "select distinct pg_get_userbyid(relowner)::text from pg_class where relname like 'messages\\_2%' and relkind = 'r'";
    assert_eq!(column(&sql, owners).await?, ["keeper"]);
    sql.batch_execute(
        "select realtime.send('{\"a\": 1}', 'e', 'room'); select realtime.send_binary('\\x00ff', 'e', 'room')",
    )
    .await?;
    assert_eq!(messages(&replicator, 2).await?, ["room foreign private {\"a\": 1}", "room e private \\x00ff"]);
    replicator.stop().await?;
    Ok(())
}

async fn now(client: &tokio_postgres::Client) -> Result<i64> {
    Ok(client.query_one("select extract(epoch from now())::int8", &[]).await?.get(0))
}

#[tokio::test]
async fn what_others_made_is_kept_and_completed_on_postgres_15() -> Result<()> {
    keeps_what_there_is(15).await
}

#[tokio::test]
async fn what_others_made_is_kept_and_completed_on_postgres_18() -> Result<()> {
    keeps_what_there_is(18).await
}

#[tokio::test]
async fn without_the_rights_changes_flow_all_the_same() -> Result<()> {
    for version in [15, 18] {
        let postgres = server(version).await?;
        postgres.create_database("poor").await?;
        postgres.execute("create role poor login replication").await?;
        postgres.execute_in("poor", "create table t (id int); create publication changes for table t").await?;
        let url = postgres.url_as("poor", "poor");
        let client = reactor_pg::connect(&PgTarget::parse(&url)?, "test").await?;
        let installed = install(&client, 0).await?;
        let what: Vec<&str> = installed.failed.iter().map(|failure| failure.what.as_str()).collect();
        assert_eq!(what, ["schema realtime"], "the rest follows from that");
        let text = reactor_replicator::realtime_schema::describe(&installed.failed);
        ensure!(text.contains("permission denied for database poor"), "{text}");
        let replicator = Replicator::streaming(settings(&url)).await?;
        postgres.execute_in("poor", "insert into t values (1)").await?;
        assert_eq!(replicator.lines(1).await?, ["insert public.t new[id=1]"]);
        // With what is missing granted, it is made at the next start.
        let stopped = replicator.stop().await?;
        postgres.execute_in("poor", "grant create on database poor to poor").await?;
        let replicator = stopped.start_again();
        replicator.ready().await?;
        postgres.execute_in("poor", "select realtime.send('{\"id\": 1}', 'e', 'room')").await?;
        assert_eq!(messages(&replicator, 1).await?, ["room e private {\"id\": 1}"]);
        replicator.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn foreign_tables_without_the_rights_on_them_are_left_alone() -> Result<()> {
    let postgres = server(15).await?;
    postgres.create_database("lent").await?;
    postgres.execute("create role keeper; create role guest login replication").await?;
    postgres.execute_in("lent", "grant create on database lent to keeper").await?;
    postgres.execute_in("lent", FOREIGN).await?;
    postgres.execute_in("lent", "create publication changes for all tables").await?;
    let replicator = Replicator::streaming(settings(&postgres.url_as("guest", "lent"))).await?;
    let sql = postgres.connect_to("lent").await?;
    assert_eq!(partitions(&sql).await?, ["messages_2020_01_01"]);
    sql.batch_execute("insert into realtime.messages (topic, extension, event, inserted_at) values ('room', 'broadcast', 'e', '2020-01-01')")
        .await?;
    assert_eq!(messages(&replicator, 1).await?, ["room e public "], "messages are streamed, by its own publication");
    replicator.stop().await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_made_where_it_is_not_wanted() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("unwanted").await?;
    let unwanted = ReplicatorSettings { install_schema: false, ..settings(&url) };
    let replicator = Replicator::streaming(unwanted).await?;
    let sql = postgres.connect_to("unwanted").await?;
    assert_eq!(
        column(&sql, "select nspname::text from pg_namespace where nspname = 'realtime'").await?,
        Vec::<String>::new()
    );
    replicator.finish(postgres).await
}

#[tokio::test]
async fn roles_that_come_later_are_granted_at_the_next_start_and_revoked_rights_stay_revoked() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database("roles").await?;
    let replicator = Replicator::streaming(settings(&url)).await?;
    let stopped = replicator.stop().await?;
    postgres.execute(ROLES).await?;
    let replicator = stopped.start_again();
    replicator.ready().await?;
    let sql = postgres.connect_to("roles").await?;
    let granted = "select rolname::text from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
                      and has_table_privilege(oid, 'realtime.messages', 'insert') order by 1";
    assert_eq!(column(&sql, granted).await?, ["anon", "authenticated", "service_role"]);
    sql.batch_execute("revoke all on realtime.messages from anon").await?;
    let replicator = replicator.stop().await?.start_again();
    replicator.ready().await?;
    assert_eq!(column(&sql, granted).await?, ["authenticated", "service_role"]);
    replicator.stop().await?;
    Ok(())
}
