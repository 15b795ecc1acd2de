//! The schema `realtime` of the tenant's database: messages that are sent from SQL, and the functions that send them.
//!
//! A message is a row of `realtime.messages`. It is in the write-ahead log with the transaction that sent it, so that the one
//! slot that changes come from brings it too, in commit order, whoever is connected at the time.
//!
//! Databases that have the schema already, as those of Supabase do, keep what they have: only what is missing is added.

mod install;
mod janitor;
mod partitions;
mod state;

use reactor_pg::{Client, PgError};
use tokio_postgres::types::Type;

pub use install::{Installed, install};
pub(crate) use janitor::keep_partitions;
pub use partitions::{Maintained, maintain};
pub(crate) use state::State;

/// The schema.
pub const SCHEMA: &str = "realtime";
/// The table of messages.
pub const TABLE: &str = "messages";
/// The publication that has the table of messages and nothing else, under the name that it has everywhere.
pub const PUBLICATION: &str = "supabase_realtime_messages_publication";

/// A part that could not be made or dropped.
#[derive(Debug)]
pub struct Failure {
    /// What it is.
    pub what: String,
    /// Why not.
    pub error: PgError,
}

/// One sentence about all failures, without the values that errors could quote.
#[must_use]
pub fn describe(failures: &[Failure]) -> String {
    let parts: Vec<String> = failures.iter().map(|failure| format!("{}: {}", failure.what, failure.error)).collect();
    parts.join("; ")
}

/// Key of the advisory lock under which the schema is changed: "realtime" in ASCII.
const LOCK_KEY: i64 = i64::from_be_bytes(*b"realtime");
/// How long a statement waits for locks of others. What waits for an exclusive lock holds up everybody behind it.
const LOCK_TIMEOUT: &str = "set lock_timeout = '1s'";

/// Takes the lock of the schema for this connection.
///
/// # Errors
/// [`PgError`], also when somebody holds it for too long.
async fn lock(client: &Client) -> Result<(), PgError> {
    client.batch_execute(LOCK_TIMEOUT).await?;
    client.query_typed("select pg_advisory_lock($1)", &[(&LOCK_KEY, Type::INT8)]).await?;
    Ok(())
}

/// Gives it back.
async fn unlock(client: &Client) -> Result<(), PgError> {
    client.query_typed("select pg_advisory_unlock($1)", &[(&LOCK_KEY, Type::INT8)]).await?;
    Ok(())
}

/// The server's clock, which rows have their times from, in seconds since 1970.
///
/// # Errors
/// [`PgError`].
pub(crate) async fn server_time(client: &Client) -> Result<i64, PgError> {
    let rows = client.query_typed("select extract(epoch from now())::int8", &[]).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.try_get(0))?)
}

/// Whether a slot can stream the messages' publication beside the tenant's: it is there, and no list of columns makes the
/// server refuse the two together.
///
/// # Errors
/// [`PgError`] when the catalog cannot be read.
pub(crate) async fn is_published_beside(client: &Client, publication: &str) -> Result<bool, PgError> {
    if publication == PUBLICATION {
        return Ok(false);
    }
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&publication, Type::NAME), (&PUBLICATION, Type::NAME)];
    let rows = client.query_typed(BESIDE, &params).await?;
    Ok(rows.first().map_or(Ok(false), |row| row.try_get(0))?)
}

const BESIDE: &str = "
select exists (select from pg_publication where pubname = $2)
   and not exists (select from pg_publication p join pg_publication_rel r on r.prpubid = p.oid
                     join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
                    where p.pubname in ($1, $2) and r.prattrs is not null
                      and n.nspname = 'realtime' and c.relname like 'messages%')";

/// Whether the name is that of a partition of the table of messages.
pub(crate) fn is_partition(schema: &str, table: &str) -> bool {
    let Some(rest) = table.strip_prefix(TABLE).filter(|_| schema == SCHEMA) else { return false };
    let is_day = rest.len() == 11
        && rest.bytes().enumerate().all(|(at, byte)| match at {
            0 | 5 | 8 => byte == b'_',
            _ => byte.is_ascii_digit(),
        });
    is_day || rest == "_default"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_told_by_their_names() {
        for (schema, table, expected) in [
            ("realtime", "messages_2026_01_31", true),
            ("realtime", "messages_default", true),
            ("realtime", "messages", false),
            ("realtime", "messages_2026_01_3", false),
            ("realtime", "messages_2026-01-31", false),
            ("realtime", "messages_2026_01_311", false),
            ("public", "messages_2026_01_31", false),
        ] {
            assert_eq!(is_partition(schema, table), expected, "{schema}.{table}");
        }
    }
}
