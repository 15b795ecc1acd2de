//! The WAL that is read, and the slots to read it from.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use reactor_testkit::{Nats, Postgres};
use tokio_postgres::types::{PgLsn, Type};

use super::replicator;
use crate::deployment::quiet_postgres;
use crate::measure::process;

/// The publication that both programs read.
pub(crate) const PUBLICATION: &str = "bench";
/// The tenant of the replicator that makes the first slot.
const FIRST_TENANT: &str = "first";
/// How long a program that has ended may still hold its slot.
const RELEASE_WITHIN: Duration = Duration::from_secs(20);
/// How often a walsender's processor time is read; what it uses after the last time is missed.
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// The table, and a procedure that commits by itself, so that the writer waits for nobody.
const SCHEMA: &str = "
create table bench (
  id bigint generated always as identity primary key,
  org_id text not null,
  room_id bigint not null,
  title text,
  done boolean not null default false,
  created_at timestamptz not null default now(),
  body text not null
);
create publication bench for table bench;
create procedure write_rows(transactions int, rows int) language plpgsql as $$
begin
  for t in 1 .. transactions loop
    insert into bench (org_id, room_id, title, body)
      select 'acme', t % 1000, 'row ' || n || ' of ' || t, repeat(md5(n::text), 4) from generate_series(1, rows) n;
    commit;
  end loop;
end
$$;
";

/// A log position.
pub(crate) type Lsn = PgLsn;

/// What was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wal {
    pub(crate) rows_per_transaction: u32,
    pub(crate) transactions: u32,
    pub(crate) begin: Lsn,
    pub(crate) end: Lsn,
    /// Text of a row, on average.
    pub(crate) row_bytes: f64,
}

impl Wal {
    pub(crate) fn rows(&self) -> u32 {
        self.rows_per_transaction * self.transactions
    }

    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.end) - u64::from(self.begin)
    }
}

/// The Postgres that holds the WAL, and the slot that holds the place before it.
pub(crate) struct Source {
    pub(crate) postgres: Postgres,
    client: tokio_postgres::Client,
    first_slot: String,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("first_slot", &self.first_slot).finish_non_exhaustive()
    }
}

/// Whom a copy of the slot is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// A replicator, whose tenant is of this round only: it finds no log and no lease of another run.
    Replicator { round: u32 },
    /// `pg_recvlogical`.
    Receiver,
}

/// A copied slot.
#[derive(Clone, Debug)]
pub(crate) struct CopiedSlot {
    pub(crate) name: String,
    /// The tenant whose replicator takes it for its own.
    pub(crate) tenant: String,
}

/// Lets a replicator make its slot, stops it, and writes.
pub(crate) async fn write(rows_per_transaction: u32, transactions: u32) -> Result<(Source, Wal)> {
    let postgres = quiet_postgres().await?;
    postgres.execute(SCHEMA).await?;
    let client = postgres.connect().await?;
    replicator::make_slot(&postgres, &Nats::start().await?, FIRST_TENANT).await?;
    let row = client.query_one("select slot_name::text, confirmed_flush_lsn from pg_replication_slots", &[]).await;
    let row = row.context("the replicator made no slot")?;
    let (first_slot, begin): (String, Lsn) = (row.try_get(0)?, row.try_get(1)?);

    client.batch_execute("set synchronous_commit = off").await?;
    client.batch_execute(&format!("call write_rows({transactions}, {rows_per_transaction})")).await?;
    // The last commit reaches the disk, and with it all before it.
    client.batch_execute("set synchronous_commit = on; create table written ()").await?;
    let sql = "select pg_current_wal_flush_lsn(), avg(octet_length(bench::text))::float8 from bench";
    let row = client.query_one(sql, &[]).await?;
    let (end, row_bytes) = (row.try_get(0)?, row.try_get(1)?);
    let wal = Wal { rows_per_transaction, transactions, begin, end, row_bytes };
    Ok((Source { postgres, client, first_slot }, wal))
}

impl Source {
    /// A slot at the place before the WAL.
    pub(crate) async fn copy_slot(&self, slot: Slot) -> Result<CopiedSlot> {
        let copy = match slot {
            Slot::Replicator { round } => {
                let tenant = format!("round_{round}");
                let name = self.first_slot.replace(&format!("_{FIRST_TENANT}_"), &format!("_{tenant}_"));
                CopiedSlot { name, tenant }
            }
            Slot::Receiver => CopiedSlot { name: "receiver".to_owned(), tenant: String::new() },
        };
        let sql = "select pg_copy_logical_replication_slot($1, $2)";
        let parameters: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] =
            &[(&self.first_slot, Type::NAME), (&copy.name, Type::NAME)];
        self.client.query_typed(sql, parameters).await.context("cannot copy the slot")?;
        Ok(copy)
    }

    /// Keeps `seconds` at the processor time of the walsender that serves a slot, until this is dropped.
    pub(crate) async fn watch_walsender(&self, slot: &CopiedSlot, seconds: &Mutex<f64>) -> Result<()> {
        let mut walsender = None;
        loop {
            let Some(process) = walsender else {
                walsender = self.walsender(slot).await?;
                continue;
            };
            // When it has ended, what was read last stands.
            if let Ok(used) = process::cpu_seconds(process) {
                *seconds.lock().unwrap_or_else(PoisonError::into_inner) = used;
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }

    async fn walsender(&self, slot: &CopiedSlot) -> Result<Option<u32>> {
        tokio::time::sleep(WATCH_EVERY).await;
        let sql = "select active_pid from pg_replication_slots where slot_name = $1";
        let row = self.client.query_typed(sql, &[(&slot.name, Type::NAME)]).await?;
        let process: Option<i32> = row.first().context("the slot is gone")?.try_get(0)?;
        Ok(process.and_then(|process| u32::try_from(process).ok()))
    }

    pub(crate) async fn drop_slot(&self, slot: &CopiedSlot) -> Result<()> {
        reactor_testkit::wait::until(RELEASE_WITHIN, "the slot is dropped", || async {
            let sql = "select pg_drop_replication_slot($1)";
            self.client.query_typed(sql, &[(&slot.name, Type::NAME)]).await?;
            Ok(true)
        })
        .await
    }
}
