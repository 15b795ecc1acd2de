//! What comes before the stream: the checks, the log's end, the slot, and where to begin.

use std::sync::Arc;
use std::time::Duration;

use reactor_bus::ChangeLog;
use reactor_model::envelope::BatchHead;
use reactor_model::{Epoch, Lsn, Position, TenantId};
use reactor_pg::{Client, PgError, PgErrorKind};
use tracing::{error, info, warn};

use crate::apply::Start;
use crate::attempt::{Context, Memory};
use crate::error::SessionError;
use crate::messages;
use crate::publication;
use crate::realtime_schema;
use crate::slot::{self, Circumstances, SlotNames, SlotState};
use crate::source::{self, ReplicationConnection, ReplicationStream, SlotOptions, SourceError, StartOptions};

const APPLICATION_NAME: &str = "reactor-replicator";
/// How long a slot may stay in use by a predecessor that is on its way out.
const PREDECESSOR_WITHIN: Duration = Duration::from_secs(2);
const PREDECESSOR_POLL: Duration = Duration::from_millis(100);
/// After this, waiting for older transactions is worth telling.
const SLOT_CREATION_PATIENCE: Duration = Duration::from_secs(2);

/// Everything that a session runs on.
pub(crate) struct Prepared {
    pub(crate) catalog: Arc<Client>,
    pub(crate) stream: ReplicationStream,
    pub(crate) names: SlotNames,
    pub(crate) slot: String,
    pub(crate) start: Start,
    /// Sequence of the newest batch in the log.
    pub(crate) last_seq: u64,
    /// Where this session ends, because the next one follows the messages' publication too.
    pub(crate) messages_from: Option<Lsn>,
}

/// The server, as far as it matters here.
struct Server {
    version: u32,
    is_standby: bool,
}

/// The newest batch of the log.
struct Newest {
    seq: u64,
    head: Option<BatchHead>,
}

pub(crate) async fn prepare(context: &Context, memory: &mut Memory) -> Result<Prepared, SessionError> {
    let settings = &context.settings;
    let catalog = Arc::new(reactor_pg::connect(&settings.target, APPLICATION_NAME).await?);
    let server = server(&catalog).await?;
    publication::ensure(&catalog, &settings.publication, settings.create_publication).await?;
    let has_messages = messages::ensure(context, memory, &catalog, server.is_standby).await?;
    let names = SlotNames::new(&settings.slot_prefix, &settings.tenant);
    bound_slots(context, memory, &catalog, &names).await?;
    let newest = newest(&*context.log, &settings.tenant).await?;

    let mut replication = source::connect(&settings.target, APPLICATION_NAME).await?;
    let live_from = replication.identify().await?.wal_end;
    let circumstances = Circumstances { newest: newest.head, wal_end: live_from, doomed: None };
    let slot = claim(context, memory, &catalog, &mut replication, &server, &names, circumstances).await?;
    let start = start_at(newest.head, slot.epoch, slot.confirmed.unwrap_or(live_from), live_from);
    if newest.head.is_some_and(|head| head.epoch == slot.epoch) && !start.continues {
        warn!(slot = slot.name, "the log has lost changes that the slot no longer holds");
    }

    let messages_from = memory.messages.joins_at(server.version, &start).filter(|_| has_messages);
    let mut publications = vec![settings.publication.as_str()];
    if has_messages && messages_from.is_none() {
        publications.push(realtime_schema::PUBLICATION);
    }
    let options =
        StartOptions { server_version: server.version, publications: &publications, from: start.previous.lsn };
    start_streaming(context, &catalog, &mut replication, &slot.name, options).await?;
    info!(slot = slot.name, from = %start.previous.lsn, live_from = %live_from, "streaming");
    let stream = replication.into_stream();
    Ok(Prepared { catalog, stream, names, slot: slot.name, start, last_seq: newest.seq, messages_from })
}

/// Where the stream and the chain of batches go on.
pub(crate) fn start_at(newest: Option<BatchHead>, epoch: Epoch, confirmed: Lsn, live_from: Lsn) -> Start {
    let anew = Start { epoch, live_from, previous: Position::before(confirmed), confirmed, continues: false };
    match newest {
        // What is confirmed never passes what is stored, unless the log has lost its end.
        Some(head) if head.epoch == epoch && head.last.lsn >= confirmed => {
            Start { previous: head.last, continues: true, ..anew }
        }
        Some(_) | None => anew,
    }
}

async fn server(catalog: &Client) -> Result<Server, SessionError> {
    let sql = "select current_setting('server_version_num')::int4, current_setting('wal_level'), pg_is_in_recovery()";
    let rows = catalog.query_typed(sql, &[]).await.map_err(PgError::from)?;
    let row = rows.first().ok_or(SourceError::Protocol("no row"))?;
    let read = || -> Result<(i32, String, bool), tokio_postgres::Error> {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
    };
    let (version, wal_level, is_standby) = read().map_err(PgError::from)?;
    if wal_level != "logical" {
        let message = format!("wal_level is {wal_level}, and changes are sent only with wal_level = logical");
        return Err(PgError::new(PgErrorKind::NotLogical, message).into());
    }
    Ok(Server { version: u32::try_from(version / 10_000).unwrap_or(0), is_standby })
}

async fn newest(log: &dyn ChangeLog, tenant: &TenantId) -> Result<Newest, SessionError> {
    log.open(tenant).await?;
    let bounds = log.bounds(tenant).await?;
    let stored = if bounds.first > bounds.last { None } else { log.get(tenant, bounds.last).await? };
    let head = stored.map(|stored| BatchHead::decode(&stored.payload)).transpose()?;
    Ok(Newest { seq: bounds.last, head })
}

/// Drops what holds back too much. Before the log is asked for anything: while it cannot be reached, the server's disk
/// fills.
async fn bound_slots(
    context: &Context,
    memory: &mut Memory,
    catalog: &Client,
    names: &SlotNames,
) -> Result<(), SessionError> {
    for state in slot::list(catalog, names).await? {
        let bytes = state.retained_bytes;
        context.status.set_retained(bytes);
        if context.settings.max_lag_bytes.is_some_and(|max| bytes > max) {
            warn!(slot = state.name, bytes, "dropping replication slot: it holds back more log than allowed");
            drop_when_free(context, catalog, &state.name).await?;
            memory.history_lost = true;
        }
    }
    Ok(())
}

/// Finds or makes the slot, and drops those that cannot go on.
async fn claim(
    context: &Context,
    memory: &mut Memory,
    catalog: &Client,
    replication: &mut ReplicationConnection,
    server: &Server,
    names: &SlotNames,
    circumstances: Circumstances<'_>,
) -> Result<SlotState, SessionError> {
    let newest_epoch = circumstances.newest.map(|head| head.epoch);
    let slots = slot::list(catalog, names).await?;
    let choice = slot::choose(slots, Circumstances { doomed: memory.doomed_slot.as_deref(), ..circumstances });
    for (state, why) in &choice.drop {
        warn!(slot = state.name, reason = why, "dropping replication slot");
        drop_when_free(context, catalog, &state.name).await?;
    }
    memory.doomed_slot = None;
    memory.history_lost |= choice.loses_history;
    let slot = match choice.keep {
        Some(slot) => slot,
        None => create(context, memory, replication, server, names).await?,
    };
    if std::mem::take(&mut memory.history_lost) || newest_epoch.is_some_and(|epoch| epoch != slot.epoch) {
        context.status.metrics().history_lost.inc();
        error!(slot = slot.name, epoch = %slot.epoch, "history was lost: a new epoch begins, every subscriber is told to resync");
    }
    Ok(slot)
}

async fn create(
    context: &Context,
    memory: &mut Memory,
    replication: &mut ReplicationConnection,
    server: &Server,
    names: &SlotNames,
) -> Result<SlotState, SessionError> {
    // Kept over attempts, so that one that was broken off does not leave a slot behind under a name of its own.
    let epoch = *memory.next_epoch.get_or_insert_with(|| Epoch(rand::random()));
    let name = names.name(epoch);
    let options = SlotOptions { server_version: server.version, failover: !server.is_standby };
    let create = create_with(replication, &name, options);
    tokio::pin!(create);
    let confirmed = tokio::select! {
        biased;
        created = &mut create => created?,
        () = tokio::time::sleep(SLOT_CREATION_PATIENCE) => {
            context.status.set_unready(
                "the replication slot is being created: postgres waits for transactions that began before; end them if it lasts",
            );
            create.as_mut().await?
        }
    };
    memory.next_epoch = None;
    info!(slot = name, at = %confirmed, "replication slot created");
    Ok(SlotState {
        name: name.clone(),
        epoch,
        active_pid: None,
        invalid: None,
        confirmed: Some(confirmed),
        retained_bytes: 0,
    })
}

async fn create_with(
    replication: &mut ReplicationConnection,
    name: &str,
    options: SlotOptions,
) -> Result<Lsn, SourceError> {
    match replication.create_slot(name, options).await {
        Err(SourceError::Pg(error)) if options.failover && cannot_fail_over(&error) => {
            replication.create_slot(name, SlotOptions { failover: false, ..options }).await
        }
        other => other,
    }
}

/// A server that knows the option may still be built or set up without it.
fn cannot_fail_over(error: &PgError) -> bool {
    matches!(error.sqlstate(), Some("42601" | "0A000" | "22023"))
}

async fn start_streaming(
    context: &Context,
    catalog: &Client,
    replication: &mut ReplicationConnection,
    slot: &str,
    options: StartOptions<'_>,
) -> Result<(), SessionError> {
    let begun = tokio::time::Instant::now();
    loop {
        match replication.start(slot, options).await {
            Err(SourceError::Pg(error)) if error.sqlstate() == Some(IN_USE) => {
                wait_for_predecessor(context, catalog, slot, begun).await?;
            }
            other => return Ok(other?),
        }
    }
}

async fn drop_when_free(context: &Context, catalog: &Client, slot: &str) -> Result<(), SessionError> {
    let begun = tokio::time::Instant::now();
    loop {
        match slot::drop_slot(catalog, slot).await {
            Ok(()) => return Ok(()),
            // Somebody else has dropped it.
            Err(error) if error.sqlstate() == Some("42704") => return Ok(()),
            Err(error) if error.sqlstate() == Some(IN_USE) => {
                wait_for_predecessor(context, catalog, slot, begun).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// SQLSTATE of what somebody uses.
const IN_USE: &str = "55006";

/// A predecessor that died or lost its lease may not have let go of the slot. For a while it is waited for; then, when
/// the lease proves that it is none any more, its session is ended.
async fn wait_for_predecessor(
    context: &Context,
    catalog: &Client,
    slot: &str,
    begun: tokio::time::Instant,
) -> Result<(), SessionError> {
    if begun.elapsed() < PREDECESSOR_WITHIN {
        tokio::time::sleep(PREDECESSOR_POLL).await;
        return Ok(());
    }
    let names = SlotNames::new(&context.settings.slot_prefix, &context.settings.tenant);
    let states = slot::list(catalog, &names).await?;
    let Some(pid) = states.into_iter().find(|state| state.name == slot).and_then(|state| state.active_pid) else {
        return Ok(());
    };
    let in_use = SessionError::SlotInUse { slot: slot.to_owned(), pid };
    if !context.may_terminate || begun.elapsed() > 3 * PREDECESSOR_WITHIN {
        return Err(in_use);
    }
    warn!(slot, pid, "ending the session of a predecessor that holds the slot without the lease");
    slot::terminate(catalog, pid).await?;
    tokio::time::sleep(PREDECESSOR_POLL).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(epoch: u32, lsn: u64, ordinal: u32) -> BatchHead {
        let last = Position { lsn: Lsn(lsn), ordinal };
        BatchHead { epoch: Epoch(epoch), previous: Position::default(), last, ends_transaction: true }
    }

    #[test]
    fn goes_on_behind_the_newest_batch_or_begins_anew() {
        let start = |newest| start_at(newest, Epoch(1), Lsn(100), Lsn(500));
        let anew = Start {
            epoch: Epoch(1),
            live_from: Lsn(500),
            previous: Position::before(Lsn(100)),
            confirmed: Lsn(100),
            continues: false,
        };
        assert_eq!(start(None), anew);
        assert_eq!(start(Some(head(2, 300, 1))), anew, "another epoch");
        assert_eq!(start(Some(head(1, 99, 7))), anew, "the log lost its end");
        for (lsn, ordinal) in [(100, 0), (100, 3), (300, 2)] {
            let previous = Position { lsn: Lsn(lsn), ordinal };
            assert_eq!(start(Some(head(1, lsn, ordinal))), Start { previous, continues: true, ..anew });
        }
    }
}
