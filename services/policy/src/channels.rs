//! Private channels: what a principal may do there, by the row policies of `realtime.messages`, and what was sent there.

use std::sync::Arc;

use reactor_pg::{Client, PgError, PgErrorKind};
use reactor_policy_engine::{
    AuthorizerError, ChannelAccess, ChannelRequest, PersistRequest, PublishedTable, ReplayRequest, StoredMessage,
    StoredPayload, TablesRequest,
};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use crate::acting::{Acting, SET, is_about};
use crate::policies::{ROLE_PATH, SEARCH_PATH};
use crate::session::Session;

/// The most messages of one replay.
const MAX_REPLAYED: u32 = 25;

/// Probes of one channel, before they are taken back.
const PROBES: &str = "insert into realtime.messages (topic, extension, private)
 values ($1, 'broadcast', true), ($1, 'presence', true) returning id::text, extension";
const SEEN: &str = "select extension from realtime.messages where id = any ($1::text[]::uuid[])";
const SENT: &str = "insert into realtime.messages (topic, extension, private) values ($1, $2, true)";
const ROLE: &str = "select pg_catalog.set_config('role', $1, true)";
const TABLES: &str = "select schemaname::text, tablename::text from pg_catalog.pg_publication_tables
 where pubname = $1 and ($2::text is null or schemaname = $2) and ($3::text is null or tablename = $3) order by 1, 2";

const STORED: &str = "select id::text, event, payload::text, binary_payload from realtime.messages
 where topic = $1 and private is true and extension = 'broadcast' and event is not null
   and inserted_at >= pg_catalog.to_timestamp($2::float8 / 1000) at time zone 'utc'
   and inserted_at < (pg_catalog.now() at time zone 'utc') + interval '1 minute'
 order by inserted_at desc limit $3";

/// One connection on which channels are probed, one after the other.
pub(crate) struct Channels {
    session: Session,
    turn: Arc<Mutex<()>>,
}

/// What a principal may do with broadcasts, and with presences.
pub(crate) type Rights = (ChannelAccess, ChannelAccess);

impl Channels {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, turn: Arc::default() }
    }

    /// What the principal may do in the channel; nothing when the policies raise an error for it.
    pub(crate) async fn rights(&self, request: ChannelRequest) -> Result<Rights, AuthorizerError> {
        self.in_turn(|client, turn| probe(client, turn, request)).await
    }

    /// Stores a broadcast, if policy allows the principal the extension `persistence`.
    pub(crate) async fn persist(&self, request: PersistRequest) -> Result<bool, AuthorizerError> {
        self.in_turn(|client, turn| store(client, turn, request)).await
    }

    /// Makes an exchange when it has its turn.
    async fn in_turn<T, F>(
        &self,
        exchange: impl FnOnce(Arc<Client>, OwnedMutexGuard<()>) -> F,
    ) -> Result<T, AuthorizerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, PgError>> + Send + 'static,
    {
        let turn = Arc::clone(&self.turn);
        let answer = self.session.ask_shared(async move |client| {
            let turn = turn.lock_owned().await;
            // In a task of its own, which comes to the end of the transaction even when nobody waits any more.
            let early = |_| Err(PgError::new(PgErrorKind::Other, "an exchange about a channel ended early"));
            tokio::spawn(exchange(client, turn)).await.unwrap_or_else(early)
        });
        answer.await
    }
}

/// Stored for those who come later only.
const STORE: &str =
    "insert into realtime.messages (id, topic, extension, event, payload, binary_payload, private, skip_broadcast)
 values ($1::text::uuid, $2, 'broadcast', $3, $4::text::jsonb, $5, true, true)";

async fn store(client: Arc<Client>, _turn: OwnedMutexGuard<()>, request: PersistRequest) -> Result<bool, PgError> {
    let stored = store_within(&client, &request).await;
    client.batch_execute(if matches!(stored, Ok(true)) { "commit" } else { "rollback" }).await?;
    stored.map_err(PgError::from)
}

async fn store_within(client: &Client, request: &PersistRequest) -> Result<bool, Error> {
    let (topic, message) = (&request.channel.topic, &request.message);
    if !begin(client, &request.channel).await? || message.event.contains('\0') {
        return Ok(false);
    }
    client.batch_execute("savepoint acting").await?;
    if !act(client, &request.channel.principal.role).await? {
        return Ok(false);
    }
    let may = attempt(client, SENT, &[(topic, Type::TEXT), (&"persistence", Type::TEXT)]).await?.is_some();
    if !may {
        return Ok(false);
    }
    client.batch_execute("rollback to savepoint acting").await?;
    let (json, bytes) = match &message.payload {
        StoredPayload::Json(text) => (Some(text), None),
        StoredPayload::Binary(bytes) => (None, Some(bytes)),
    };
    let params: [(&(dyn ToSql + Sync), Type); 5] = [
        (&message.id, Type::TEXT),
        (topic, Type::TEXT),
        (&message.event, Type::TEXT),
        (&json, Type::TEXT),
        (&bytes, Type::BYTEA),
    ];
    attempt_for_good(client, STORE, &params).await
}

/// Runs a statement; false when it is refused for its values.
async fn attempt_for_good(client: &Client, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<bool, Error> {
    match client.query_typed(sql, params).await {
        Ok(_) => Ok(true),
        Err(error) if is_about(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn probe(client: Arc<Client>, _turn: OwnedMutexGuard<()>, request: ChannelRequest) -> Result<Rights, PgError> {
    let rights = probe_within(&client, &request).await;
    // Nothing of this was ever there.
    client.batch_execute("rollback").await?;
    rights.map_err(PgError::from)
}

async fn probe_within(client: &Client, request: &ChannelRequest) -> Result<Rights, Error> {
    let nothing = (ChannelAccess::default(), ChannelAccess::default());
    let topic = &request.topic;
    if !begin(client, request).await? {
        return Ok(nothing);
    }
    let probes = client.query_typed(PROBES, &[(topic, Type::TEXT)]).await?;
    let ids = probes.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    if !act(client, &request.principal.role).await? {
        return Ok(nothing);
    }
    let (mut broadcast, mut presence) = nothing;
    let seen = attempt(client, SEEN, &[(&ids, Type::TEXT_ARRAY)]).await?.unwrap_or_default();
    for row in &seen {
        match row.try_get::<_, &str>(0)? {
            "broadcast" => broadcast.read = true,
            _ => presence.read = true,
        }
    }
    broadcast.write = attempt(client, SENT, &[(topic, Type::TEXT), (&"broadcast", Type::TEXT)]).await?.is_some();
    presence.write = attempt(client, SENT, &[(topic, Type::TEXT), (&"presence", Type::TEXT)]).await?.is_some();
    Ok((broadcast, presence))
}

/// Begins a transaction with the principal's settings, as ourselves, for whom no policy counts; false when there is no such role, and
/// then nothing was begun.
async fn begin(client: &Client, request: &ChannelRequest) -> Result<bool, Error> {
    let (topic, role) = (&request.topic, &request.principal.role);
    if topic.contains('\0') {
        return Ok(false);
    }
    let role_info = client.query_typed(ROLE_PATH, &[(role, Type::TEXT)]).await?;
    let Some(role_info) = role_info.first() else { return Ok(false) };
    let search_path: Option<String> = role_info.try_get(0)?;
    client.batch_execute("begin read write").await?;
    let acting = Acting::new(&request.principal, true, search_path.as_deref().unwrap_or(SEARCH_PATH));
    let (mut names, mut values) = acting.settings();
    for (name, value) in [("realtime.topic", topic), ("request.headers", &request.headers_json)] {
        names.push(name.to_owned());
        values.push(value.clone());
    }
    client.query_typed(SET, &[(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)]).await?;
    Ok(true)
}

/// Acts as the role from now on; false when we may not.
async fn act(client: &Client, role: &str) -> Result<bool, Error> {
    match client.query_typed(ROLE, &[(&role, Type::TEXT)]).await {
        Ok(_) => Ok(true),
        Err(error) if is_about(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Runs a statement and takes it back; `None` when it was refused or raised an error.
async fn attempt(
    client: &Client,
    sql: &str,
    params: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Option<Vec<Row>>, Error> {
    client.batch_execute("savepoint attempt").await?;
    let outcome = client.query_typed(sql, params).await;
    client.batch_execute("rollback to savepoint attempt").await?;
    match outcome {
        Ok(rows) => Ok(Some(rows)),
        Err(error) if is_about(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The published tables that match.
pub(crate) async fn tables(
    client: &Client,
    publication: &str,
    request: &TablesRequest,
) -> Result<Vec<PublishedTable>, PgError> {
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&publication, Type::TEXT), (&request.schema, Type::TEXT), (&request.table, Type::TEXT)];
    let rows = client.query_typed(TABLES, &params).await?;
    let table = |row: &Row| Ok(PublishedTable { schema: row.try_get(0)?, table: row.try_get(1)? });
    rows.iter().map(table).collect::<Result<_, Error>>().map_err(PgError::from)
}

/// The newest stored broadcasts, the oldest of them first.
pub(crate) async fn stored(client: &Client, request: &ReplayRequest) -> Result<Vec<StoredMessage>, PgError> {
    if request.topic.contains('\0') {
        return Ok(Vec::new());
    }
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^52")]
    let since = request.since_ms as f64;
    let limit = i64::from(request.limit.min(MAX_REPLAYED));
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&request.topic, Type::TEXT), (&since, Type::FLOAT8), (&limit, Type::INT8)];
    let rows = client.query_typed(STORED, &params).await?;
    rows.iter().rev().map(message).collect::<Result<_, Error>>().map_err(PgError::from)
}

fn message(row: &Row) -> Result<StoredMessage, Error> {
    let payload = match row.try_get::<_, Option<Vec<u8>>>(3)? {
        Some(bytes) => StoredPayload::Binary(bytes),
        None => StoredPayload::Json(row.try_get::<_, Option<String>>(2)?.unwrap_or_else(|| "{}".to_owned())),
    };
    Ok(StoredMessage { id: row.try_get(0)?, event: row.try_get(1)?, payload })
}
