//! Rights in private channels as Postgres finds them: rows are inserted and looked for as the principal, and taken back.
//!
//! The transaction is begun and known to be one before anything is inserted. All else is sent in one flight.

use std::sync::Arc;

use reactor_pg::{Client, PgError};
use reactor_policy_engine::{ChannelAccess, ChannelRequest};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::Rights;
use crate::acting::{Acting, SET, is_about};
use crate::policies::RoleInfo;

/// Rows of one channel, before they are taken back. Which they are is remembered for the statement that looks for them.
const PROBES: &str = "with probes as (
   insert into realtime.messages (topic, extension, private)
   values ($1, 'broadcast', true), ($1, 'presence', true) returning id)
 select pg_catalog.set_config('reactor.probes', pg_catalog.array_agg(id)::text, true) from probes";
const SEEN: &str =
    "select extension from realtime.messages where id = any (pg_catalog.current_setting('reactor.probes')::uuid[])";
/// What may be inserted by whoever may send.
pub(super) const SENT: &str = "insert into realtime.messages (topic, extension, private) values ($1, $2, true)";
const ROLE: &str = "select pg_catalog.set_config('role', $1, true)";

/// What the principal may do in the channel.
pub(super) async fn probe(client: Arc<Client>, role: RoleInfo, request: ChannelRequest) -> Result<Rights, PgError> {
    if let Err(error) = begin(&client, &role, &request).await {
        client.batch_execute("rollback").await?;
        return Err(error.into());
    }
    let (topic, role) = (&request.topic, &request.principal.role);
    let topic: (&(dyn ToSql + Sync), Type) = (topic, Type::TEXT);
    let broadcast = [topic.clone(), (&"broadcast", Type::TEXT)];
    let presence = [topic.clone(), (&"presence", Type::TEXT)];
    let (topic, role) = ([topic], [(role as &(dyn ToSql + Sync), Type::TEXT)]);
    let back = || client.batch_execute("rollback to savepoint attempt");
    // Nothing of this was ever there, whatever fails on the way.
    let (probes, acted, saved, seen, seen_back, broadcast, broadcast_back, presence, ended) = futures::join!(
        client.query_typed(PROBES, &topic),
        client.query_typed(ROLE, &role),
        client.batch_execute("savepoint attempt"),
        client.query_typed(SEEN, &[]),
        back(),
        client.query_typed(SENT, &broadcast),
        back(),
        client.query_typed(SENT, &presence),
        client.batch_execute("rollback"),
    );
    ended?;
    probes?;
    if attempted(acted)?.is_none() {
        return Ok(Rights::default());
    }
    for step in [saved, seen_back, broadcast_back] {
        step?;
    }
    let mut rights = (
        ChannelAccess { read: false, write: attempted(broadcast)?.is_some() },
        ChannelAccess { read: false, write: attempted(presence)?.is_some() },
    );
    for row in attempted(seen)?.unwrap_or_default() {
        match row.try_get::<_, &str>(0)? {
            "broadcast" => rights.0.read = true,
            _ => rights.1.read = true,
        }
    }
    Ok(rights)
}

/// Begins a transaction with the principal's settings, as ourselves, for whom no policy counts.
pub(super) async fn begin(client: &Client, role: &RoleInfo, request: &ChannelRequest) -> Result<(), Error> {
    let (names, values) = settings(request, role);
    let settings: [(&(dyn ToSql + Sync), Type); 2] = [(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)];
    let (begun, set) = futures::join!(client.batch_execute("begin read write"), client.query_typed(SET, &settings));
    begun?;
    set.map(|_| ())
}

/// The settings of the transaction but for the role.
pub(super) fn settings(request: &ChannelRequest, role: &RoleInfo) -> (Vec<String>, Vec<String>) {
    let (mut names, mut values) = Acting::new(&request.principal, true, &role.search_path).settings();
    for (name, value) in [("realtime.topic", &request.topic), ("request.headers", &request.headers_json)] {
        names.push(name.to_owned());
        values.push(value.clone());
    }
    (names, values)
}

/// Acts as the role from now on; false when we may not.
pub(super) async fn act(client: &Client, role: &str) -> Result<bool, Error> {
    Ok(attempted(client.query_typed(ROLE, &[(&role, Type::TEXT)]).await)?.is_some())
}

/// What a statement found; `None` when it was refused or raised an error.
pub(super) fn attempted(outcome: Result<Vec<Row>, Error>) -> Result<Option<Vec<Row>>, Error> {
    match outcome {
        Ok(rows) => Ok(Some(rows)),
        Err(error) if is_about(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
