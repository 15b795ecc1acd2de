//! Adding what is missing, one part after the other.

use reactor_model::Lsn;
use reactor_pg::{Client, PgError};
use tracing::info;

use super::{Failure, PUBLICATION, State, lock, partitions, unlock};

/// What an installation has done.
#[derive(Debug, Default)]
pub struct Installed {
    /// The parts that were made.
    pub made: Vec<&'static str>,
    /// The parts that are missing still.
    pub failed: Vec<Failure>,
    /// When the publication was made: a position at or behind the commit that did.
    pub published_at: Option<Lsn>,
}

/// One part of the schema.
struct Part {
    what: &'static str,
    is_missing: fn(&State) -> bool,
    /// Run as one transaction.
    sql: fn(&State) -> String,
}

const THE_TABLE: &str = "table realtime.messages";
const THE_PUBLICATION: &str = "publication of realtime.messages";

/// Each is made only where it is missing, so that nothing of others is replaced. The functions come after the publication: what
/// they send is published from the first message on.
static PARTS: &[Part] = &[
    Part { what: "schema realtime", is_missing: |state| !state.schema, sql: |_| "create schema realtime".to_owned() },
    Part {
        what: THE_TABLE,
        is_missing: |state| state.schema && state.kind.is_none(),
        sql: |_| include_str!("sql/messages.sql").to_owned(),
    },
    Part {
        what: "columns of realtime.messages",
        is_missing: |state| state.lacks_column("binary_payload") || state.lacks_column("skip_broadcast"),
        sql: |_| {
            "alter table realtime.messages add column if not exists binary_payload bytea,
                                           add column if not exists skip_broadcast boolean not null default false"
                .to_owned()
        },
    },
    Part {
        what: "default partition of realtime.messages",
        is_missing: |state| state.by_day && !state.has_default,
        sql: |_| {
            "create table realtime.messages_default partition of realtime.messages default;
             alter table realtime.messages_default enable row level security"
                .to_owned()
        },
    },
    Part {
        what: THE_PUBLICATION,
        is_missing: |state| state.has_table() && !state.publication,
        // Of partitions under their root's name, so that a partition that has gone since needs no looking up.
        sql: |_| {
            format!(
                "create publication {PUBLICATION} for table realtime.messages
                 with (publish = 'insert', publish_via_partition_root = true)"
            )
        },
    },
    Part {
        what: "realtime.messages in its publication",
        is_missing: |state| state.has_table() && state.publication && !state.published,
        sql: |_| format!("alter publication {PUBLICATION} add table realtime.messages"),
    },
    Part {
        what: "function realtime.topic",
        is_missing: |state| state.lacks_function("topic()"),
        sql: |_| include_str!("sql/topic.sql").to_owned(),
    },
    Part {
        what: "function realtime.send",
        is_missing: |state| state.lacks_function("send(3802,25,25,16)"),
        sql: |_| include_str!("sql/send.sql").to_owned(),
    },
    Part {
        what: "function realtime.send_binary",
        is_missing: |state| state.lacks_function("send_binary(17,25,25,16)"),
        sql: |_| include_str!("sql/send_binary.sql").to_owned(),
    },
    Part {
        what: "function realtime.broadcast_changes",
        is_missing: |state| state.lacks_function("broadcast_changes(25,25,25,25,25,2249,2249,25)"),
        sql: |_| include_str!("sql/broadcast_changes.sql").to_owned(),
    },
    Part {
        what: "grants to the usual roles",
        is_missing: |state| state.has_table() && !state.roles.is_empty(),
        sql: |state| {
            let roles = state.roles.join(", ");
            format!("grant usage on schema realtime to {roles}; grant select, insert on realtime.messages to {roles}")
        },
    },
];

impl State {
    /// Whether an installation would find nothing to do.
    pub(crate) fn is_complete(&self) -> bool {
        !PARTS.iter().any(|part| (part.is_missing)(self))
    }
}

/// Adds what is missing of the schema, at `now` in seconds since 1970. A part that cannot be made is no obstacle to the others.
///
/// Waits for whoever does the same at the time. Sets the connection's `lock_timeout`.
///
/// # Errors
/// [`PgError`] when the catalog cannot be read or somebody else is at it for too long.
pub async fn install(client: &Client, now: i64) -> Result<Installed, PgError> {
    lock(client).await?;
    let installed = add_missing(client, now).await;
    unlock(client).await?;
    installed
}

async fn add_missing(client: &Client, now: i64) -> Result<Installed, PgError> {
    let mut installed = Installed::default();
    for part in PARTS {
        // Read anew each time: what one part makes, others need.
        let state = State::read(client).await?;
        if !(part.is_missing)(&state) {
            continue;
        }
        match client.batch_execute(&(part.sql)(&state)).await.map_err(PgError::from) {
            Ok(()) => {
                info!(part = part.what, "made in the database");
                installed.made.push(part.what);
            }
            Err(error) => {
                installed.failed.push(Failure { what: part.what.to_owned(), error });
                continue;
            }
        }
        match part.what {
            // Before there is a default partition, whose rows would be in their way.
            THE_TABLE => installed.failed.extend(partitions::make_days(client, now).await?.failed),
            THE_PUBLICATION => installed.published_at = Some(wal_end(client).await?),
            _ => {}
        }
    }
    Ok(installed)
}

async fn wal_end(client: &Client) -> Result<Lsn, PgError> {
    let rows = client.query_typed("select pg_current_wal_insert_lsn()::text", &[]).await?;
    let text: String = rows.first().map_or(Ok(String::new()), |row| row.try_get(0))?;
    // Always one; the very end is the careful answer to anything else.
    Ok(text.parse().unwrap_or(Lsn(u64::MAX)))
}
