//! Commits at scheduled times, whatever becomes of them: an open loop, so that a slow system is not asked less.

use std::time::Duration;

use anyhow::{Context, Result};
use reactor_runtime::clock;
use reactor_testkit::Postgres;
use tokio_postgres::{Client, Statement};

/// The table that is written to.
pub(crate) const TABLE: &str = "bench";

/// Makes it, with the role that reads it.
pub(crate) const TABLE_SQL: &str = "
create role authenticated nologin;
grant usage on schema public to authenticated;
create table bench (
  id bigint generated always as identity primary key,
  room_id bigint not null,
  body text not null
);
grant select on bench to authenticated;
";

/// Text of one row, in bytes; with the other columns a row is about 250.
const BODY_BYTES: usize = 230;

/// A connection that inserts rows.
#[derive(Debug)]
pub(crate) struct Writer {
    client: Client,
    one: Statement,
    many: Statement,
    body: String,
}

/// How well the schedule was kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) commits: u64,
    /// Commits that were sent more than 2 ms after their time.
    pub(crate) late: u64,
}

impl Writer {
    pub(crate) async fn connect(postgres: &Postgres) -> Result<Self> {
        Self::connect_to(postgres, TABLE, "n").await
    }

    /// Writes to another table like it, with this as the room of the nth row of a transaction.
    pub(crate) async fn connect_to(postgres: &Postgres, table: &str, room: &str) -> Result<Self> {
        let client = postgres.connect().await?;
        let one = client.prepare(&format!("insert into {table} (room_id, body) values (7, $1)")).await?;
        let many = format!("insert into {table} (room_id, body) select {room}, $1 from generate_series(1, $2::int) n");
        let many = client.prepare(&many).await?;
        Ok(Self { client, one, many, body: "x".repeat(BODY_BYTES) })
    }

    /// One transaction of `rows` rows.
    pub(crate) async fn commit(&self, rows: i32) -> Result<()> {
        self.client.execute(&self.many, &[&self.body, &rows]).await.context("cannot write")?;
        Ok(())
    }

    /// Single rows at `rate` a second for this long.
    pub(crate) async fn keep_schedule(&self, rate: u32, during: Duration) -> Result<Kept> {
        let begun = clock::now();
        let mut kept = Kept::default();
        loop {
            let due = Duration::from_secs(1).mul_f64(f64::from(u32::try_from(kept.commits)?) / f64::from(rate));
            if due >= during {
                return Ok(kept);
            }
            tokio::time::sleep_until((begun + due).into()).await;
            kept.late += u64::from((clock::now() - begun).saturating_sub(due) > Duration::from_millis(2));
            self.client.execute(&self.one, &[&self.body]).await.context("cannot write")?;
            kept.commits += 1;
        }
    }
}
