//! The messages' publication beside the tenant's: installed, and from where on the slot can stream it.
//!
//! A slot decodes each change with the catalog as it was at the time, and a server before version 18 breaks off where a
//! publication did not exist yet. So a slot that is older than the messages' publication streams up to its making without it,
//! and then both: no epoch ends and no change is lost.

use std::time::Duration;

use reactor_model::Lsn;
use reactor_pg::{Client, PgError};
use tracing::warn;

use crate::apply::Start;
use crate::attempt::{Context, Memory};
use crate::realtime_schema::{self, Installed, State};

const APPLICATION_NAME: &str = "reactor-replicator-install";
/// More than an installation takes, waits for locks included. Changes of rows wait for it.
const INSTALL_WITHIN: Duration = Duration::from_secs(20);
/// The first version whose servers pass over a publication that does not exist at the place that they decode.
const PASSES_OVER_MISSING: u32 = 18;

/// What is known of the messages' publication from one session to the next.
#[derive(Debug, Default)]
pub(crate) struct MessagesMemory {
    /// Before this it did not exist.
    from: Option<Lsn>,
    /// Whether a session broke off because it did not exist.
    was_missing: bool,
    /// What was warned of last.
    warned: Option<String>,
}

impl MessagesMemory {
    /// Where a session that begins at `start` must end because the publication did not exist before; `None` when it can stream it
    /// from the beginning.
    pub(crate) fn joins_at(&mut self, server_version: u32, start: &Start) -> Option<Lsn> {
        if std::mem::take(&mut self.was_missing) {
            self.from = Some(start.live_from);
        }
        self.from.filter(|from| server_version < PASSES_OVER_MISSING && start.previous.lsn < *from)
    }

    /// A session came to a place where the publication did not exist: it was made by others, or a transaction was running
    /// when it was made.
    pub(crate) fn handle_missing(&mut self) {
        warn!(
            publication = realtime_schema::PUBLICATION,
            "the slot has to decode changes from before the publication: until it has, messages of realtime.messages are not delivered"
        );
        self.was_missing = true;
    }

    /// Warns of a reason once.
    fn tell(&mut self, reason: Option<String>) {
        if let Some(reason) = &reason
            && self.warned.as_ref() != Some(reason)
        {
            warn!(
                reason,
                "the schema realtime is not complete, so that messages from the database may not work; changes of rows are not affected. Grant what is missing and restart, or set REACTOR_REALTIME_INSTALL_SCHEMA=false"
            );
        }
        self.warned = reason;
    }
}

/// Installs the schema when that is wanted, and says whether there is a publication to stream beside the tenant's.
///
/// # Errors
/// [`PgError`] when the catalog cannot be read. An installation that fails is told and no error.
pub(crate) async fn ensure(
    context: &Context,
    memory: &mut Memory,
    catalog: &Client,
    is_standby: bool,
) -> Result<bool, PgError> {
    if context.settings.install_schema && !is_standby && !State::read(catalog).await?.is_complete() {
        let reason = match tokio::time::timeout(INSTALL_WITHIN, install(context)).await {
            Ok(Ok(installed)) => {
                memory.messages.from = installed.published_at.or(memory.messages.from);
                (!installed.failed.is_empty()).then(|| realtime_schema::describe(&installed.failed))
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        memory.messages.tell(reason);
    }
    realtime_schema::is_published_beside(catalog, &context.settings.publication).await
}

/// On a connection of its own: one that is given up while it waits gives its locks back.
async fn install(context: &Context) -> Result<Installed, PgError> {
    let client = reactor_pg::connect(&context.settings.target, APPLICATION_NAME).await?;
    let now = realtime_schema::server_time(&client).await?;
    realtime_schema::install(&client, now).await
}

#[cfg(test)]
mod tests {
    use reactor_model::{Epoch, Position};

    use super::*;

    fn start(previous: u64) -> Start {
        Start {
            epoch: Epoch(1),
            live_from: Lsn(500),
            previous: Position::before(Lsn(previous)),
            confirmed: Lsn(100),
            continues: true,
        }
    }

    #[test]
    fn an_older_slot_goes_up_to_the_making_and_then_has_both() {
        let mut memory = MessagesMemory { from: Some(Lsn(300)), ..MessagesMemory::default() };
        assert_eq!(memory.joins_at(15, &start(299)), Some(Lsn(300)));
        assert_eq!(memory.joins_at(15, &start(300)), None);
        assert_eq!(memory.joins_at(18, &start(299)), None);
        assert_eq!(MessagesMemory::default().joins_at(15, &start(0)), None);
    }

    #[test]
    fn where_it_was_missing_it_joins_at_the_end_of_the_log() {
        let mut memory = MessagesMemory::default();
        memory.handle_missing();
        assert_eq!(memory.joins_at(15, &start(499)), Some(Lsn(500)));
        assert_eq!(memory.joins_at(15, &start(500)), None);
    }
}
