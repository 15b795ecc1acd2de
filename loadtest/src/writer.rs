//! A table that is written to.

use anyhow::{Context, Result};
use reactor_testkit::Postgres;
use tokio_postgres::{Client, Statement};

use crate::source::Source;

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
}

impl Source for Writer {
    async fn send(&mut self, rows: u32) -> Result<()> {
        let sent = match rows {
            1 => self.client.execute(&self.one, &[&self.body]).await,
            rows => self.client.execute(&self.many, &[&self.body, &i32::try_from(rows)?]).await,
        };
        sent.map(|_| ()).context("cannot write")
    }
}
