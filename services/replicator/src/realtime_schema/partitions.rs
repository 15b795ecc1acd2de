//! Partitions by day: made ahead, dropped when they are old.

use reactor_pg::{Client, PgError};
use tokio_postgres::types::{ToSql, Type};
use tracing::{debug, info};

use super::{Failure, lock, unlock};

/// Rows of the default partition that one statement deletes.
const DELETED_AT_ONCE: u64 = 10_000;

/// What a round of care for the partitions has done.
#[derive(Debug, Default)]
pub struct Maintained {
    /// Partitions that were made.
    pub made: Vec<String>,
    /// Partitions that were dropped.
    pub dropped: Vec<String>,
    /// Rows that were deleted from the default partition.
    pub deleted: u64,
    /// What did not work.
    pub failed: Vec<Failure>,
}

/// The table whose partitions these are.
struct Parent {
    /// Its owner, when that is not who we are; quoted.
    owner: Option<String>,
    /// Name of its default partition; quoted.
    default: Option<String>,
    /// Rows from before are old.
    cutoff: String,
}

/// Makes the partitions from yesterday to three days ahead, and drops what is older than 72 hours at `now`, in seconds since 1970.
/// Nothing is done where the table is missing or partitioned otherwise.
///
/// Sets the connection's `lock_timeout`.
///
/// # Errors
/// [`PgError`] when the catalog cannot be read or somebody else is at it for too long.
pub async fn maintain(client: &Client, now: i64) -> Result<Maintained, PgError> {
    lock(client).await?;
    let maintained = make_and_drop(client, now).await;
    unlock(client).await?;
    maintained
}

async fn make_and_drop(client: &Client, now: i64) -> Result<Maintained, PgError> {
    let mut maintained = make_days(client, now).await?;
    let Some(parent) = parent(client, now).await? else { return Ok(maintained) };
    for row in client.query_typed(include_str!("sql/days_to_drop.sql"), &[(&parent.cutoff, Type::TEXT)]).await? {
        let name: String = row.try_get("name")?;
        match client.batch_execute(&format!("drop table realtime.{name}")).await.map_err(PgError::from) {
            Ok(()) => {
                info!(partition = name, "old messages dropped");
                maintained.dropped.push(name);
            }
            Err(error) => maintained.failed.push(Failure { what: format!("dropping realtime.{name}"), error }),
        }
    }
    if let Some(default) = &parent.default {
        match delete_old(client, default, &parent.cutoff).await {
            Ok(deleted) => maintained.deleted = deleted,
            Err(error) => maintained.failed.push(Failure { what: format!("deleting old rows of {default}"), error }),
        }
    }
    Ok(maintained)
}

async fn parent(client: &Client, now: i64) -> Result<Option<Parent>, PgError> {
    let rows = client.query_typed(include_str!("sql/parent.sql"), &[(&now, Type::INT8)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(Parent {
        owner: row.try_get("owner")?,
        default: row.try_get("default_partition")?,
        cutoff: row.try_get("cutoff")?,
    }))
}

/// Makes the partitions that are missing; the caller holds the lock.
pub(super) async fn make_days(client: &Client, now: i64) -> Result<Maintained, PgError> {
    let mut maintained = Maintained::default();
    let Some(parent) = parent(client, now).await? else { return Ok(maintained) };
    let sql = include_str!("sql/days_to_make.sql");
    for row in client.query_typed(sql, &[(&now, Type::INT8)]).await? {
        let (name, first, next): (String, String, String) =
            (row.try_get("name")?, row.try_get("first")?, row.try_get("next")?);
        match make_day(client, &parent, &name, (&first, &next)).await {
            Ok(()) => maintained.made.push(name),
            // Its rows stay in the default partition, or in one that somebody made for other days.
            Err(error) if matches!(error.sqlstate(), Some(DEFAULT_HAS_ROWS | OVERLAPS)) => {
                debug!(partition = name, %error, "a day has no partition of its own");
            }
            Err(error) => maintained.failed.push(Failure { what: format!("partition realtime.{name}"), error }),
        }
    }
    Ok(maintained)
}

/// SQLSTATE of an attachment that rows of the default partition are in the way of.
const DEFAULT_HAS_ROWS: &str = "23514";
/// SQLSTATE of bounds that another partition has.
const OVERLAPS: &str = "42P17";

/// Made by itself and then attached: unlike the making of a partition, that lets inserts go on.
async fn make_day(client: &Client, parent: &Parent, name: &str, (first, next): (&str, &str)) -> Result<(), PgError> {
    let owner = parent.owner.as_ref().map(|owner| format!("alter table realtime.{name} owner to {owner};"));
    // With row security and no policy of its own, a partition is read through the table only.
    let sql = format!(
        "create table realtime.{name} (like realtime.messages including all);
         alter table realtime.{name} enable row level security;
         {}
         alter table realtime.messages attach partition realtime.{name} for values from ('{first}') to ('{next}')",
        owner.unwrap_or_default()
    );
    Ok(client.batch_execute(&sql).await?)
}

/// Deletes what is old, some rows at a time.
async fn delete_old(client: &Client, partition: &str, cutoff: &str) -> Result<u64, PgError> {
    let sql = format!(
        "with old as (select ctid from {partition} where inserted_at < $1::text::timestamp limit {DELETED_AT_ONCE}),
              gone as (delete from {partition} where ctid = any(array(select ctid from old)) returning 1)
         select count(*) from gone"
    );
    let params: [(&(dyn ToSql + Sync), Type); 1] = [(&cutoff, Type::TEXT)];
    let mut deleted = 0;
    loop {
        let rows = client.query_typed(&sql, &params).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        deleted += count.unsigned_abs();
        if count.unsigned_abs() < DELETED_AT_ONCE {
            return Ok(deleted);
        }
    }
}
