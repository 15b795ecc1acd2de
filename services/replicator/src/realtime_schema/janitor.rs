//! The round that is made every hour, beside the session.

use std::convert::Infallible;
use std::time::Duration;

use reactor_pg::{PgError, PgTarget};
use tracing::{debug, warn};

use super::{Maintained, describe, maintain, server_time};
use crate::settings::ReplicatorSettings;

/// Between rounds. Partitions are three days ahead, so that many may fail.
const EVERY: Duration = Duration::from_secs(3600);
/// After a round that came to nothing, as while the database cannot be reached.
const RETRY: Duration = Duration::from_secs(60);
/// More than a round takes on a server that answers.
const ROUND_WITHIN: Duration = Duration::from_secs(300);
const APPLICATION_NAME: &str = "reactor-replicator-janitor";

/// Looks after the partitions of the messages for as long as it is polled: at once, then every hour.
///
/// Never begins where the schema is not to be installed. On a connection of its own, so that the session waits for no lock of it.
pub(crate) async fn keep_partitions(settings: &ReplicatorSettings) -> Infallible {
    if !settings.install_schema {
        std::future::pending::<()>().await;
    }
    let mut warned = None;
    loop {
        let mut next = EVERY;
        let failure = match tokio::time::timeout(ROUND_WITHIN, round(&settings.target)).await {
            Ok(Ok(maintained)) if maintained.failed.is_empty() => None,
            Ok(Ok(maintained)) => Some(describe(&maintained.failed)),
            // The session tells when the database cannot be reached.
            Ok(Err(error)) => {
                debug!(%error, "the partitions of realtime.messages were not looked after, trying again");
                next = RETRY;
                None
            }
            Err(_) => Some("no answer in time".to_owned()),
        };
        if failure.is_some() && failure != warned {
            warn!(
                reason = failure,
                "the partitions of realtime.messages are not as they should be, trying again every hour: let its owner look after them, or let the role be one"
            );
        }
        warned = failure;
        tokio::time::sleep(next.mul_f64(rand::random_range(0.9..1.1))).await;
    }
}

async fn round(target: &PgTarget) -> Result<Maintained, PgError> {
    let client = reactor_pg::connect(target, APPLICATION_NAME).await?;
    let sql = "select pg_is_in_recovery()";
    let rows = client.query_typed(sql, &[]).await?;
    // A standby gets what the primary does.
    if rows.first().map_or(Ok(true), |row| row.try_get(0))? {
        return Ok(Maintained::default());
    }
    let now = server_time(&client).await?;
    maintain(&client, now).await
}
