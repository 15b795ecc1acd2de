//! The schema `realtime`: its installation, its partitions, and messages on their way into the log.

mod install;
mod join;
mod partitions;
mod send;

use anyhow::{Context, Result};
use reactor_model::tuple::Datum;
use reactor_model::{Batch, ChangeKind};
use reactor_testkit::{Postgres, PostgresOptions, wait};
use tokio_postgres::Client;

use crate::support::{Replicator, SOON};

/// The roles that Supabase's databases have.
const ROLES: &str = "do $$ declare name text; begin
    foreach name in array array['anon', 'authenticated', 'service_role'] loop
        if not exists (select from pg_roles where rolname = name) then execute format('create role %I', name); end if;
    end loop; end $$";

/// A server of either version.
async fn server(version: u32) -> Result<Postgres> {
    let postgres = Postgres::start_with(PostgresOptions::version(version)).await?;
    postgres.execute(ROLES).await?;
    Ok(postgres)
}

/// A stored message, as text: `topic event public|private payload` or, for bytes, `topic event public|private \x…`.
fn messages_of(batch: &Batch) -> Result<Vec<String>> {
    let Some(relation) = &batch.relation else { return Ok(Vec::new()) };
    if (relation.schema.as_str(), relation.table.as_str()) != ("realtime", "messages") {
        return Ok(Vec::new());
    }
    let mut messages = Vec::new();
    for change in &batch.changes {
        anyhow::ensure!(change.kind == ChangeKind::Insert, "{:?} of a message", change.kind);
        let new = change.new.as_ref().context("a row")?;
        let text = |name: &str| {
            let columns = relation.columns.iter().zip(new.iter());
            columns.filter(|(column, _)| column.name == name).find_map(|(_, datum)| match datum {
                Datum::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
                _ => None,
            })
        };
        let private = if text("private").as_deref() == Some("t") { "private" } else { "public" };
        let payload = text("payload").or_else(|| text("binary_payload")).unwrap_or_default();
        let (topic, event) = (text("topic").unwrap_or_default(), text("event").unwrap_or_default());
        messages.push(format!("{topic} {event} {private} {payload}"));
    }
    Ok(messages)
}

/// Waits until the log has `count` messages, and gives them; more are an error.
async fn messages(replicator: &Replicator, count: usize) -> Result<Vec<String>> {
    let (messages, batches) = wait::value(SOON, "messages in the log", || async {
        let batches = replicator.batches().await?;
        let mut messages = Vec::new();
        for batch in &batches {
            messages.extend(messages_of(batch)?);
        }
        anyhow::ensure!(messages.len() >= count, "{messages:?}; {:?}", replicator.status.unready_reason());
        Ok(Some((messages, batches)))
    })
    .await?;
    crate::support::check_chain(&batches)?;
    anyhow::ensure!(messages.len() == count, "{messages:#?}");
    Ok(messages)
}

/// The first column of all rows, as text.
async fn column(client: &Client, sql: &str) -> Result<Vec<String>> {
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Names of the partitions of the table of messages.
async fn partitions(client: &Client) -> Result<Vec<String>> {
    let sql = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
                where i.inhparent = 'realtime.messages'::regclass order by 1";
    column(client, sql).await
}
