//! Private channels: what a principal may do there, by the row policies of `realtime.messages`, and what was sent there.

mod compiled;
mod messages;
mod pool;
mod probe;

use std::sync::Arc;
use std::time::Instant;

use reactor_pg::{Client, PgError};
use reactor_policy_engine::{
    AuthorizerError, ChannelAccess, ChannelRequest, PersistRequest, PolicyVersion, PublishedTable, ReplayRequest,
    StoredMessage, StoredPayload, TablesRequest,
};
use reactor_runtime::clock;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};
use tracing::debug;

use crate::access::Catalog;
use crate::acting::Actors;
use crate::policies::RoleInfo;
use crate::session::{Health, Session};
use crate::settings::PolicySettings;
use compiled::Compiled;
use messages::{Messages, MessagesCache};
use pool::{NoExchange, Pool};
use probe::{SENT, act, attempted, begin, probe};

/// The most messages of one replay.
const MAX_REPLAYED: u32 = 25;

const TABLES: &str = "select schemaname::text, tablename::text from pg_catalog.pg_publication_tables
 where pubname = $1 and ($2::text is null or schemaname = $2) and ($3::text is null or tablename = $3) order by 1, 2";

const STORED: &str = "select id::text, event, payload::text, binary_payload from realtime.messages
 where topic = $1 and private is true and extension = 'broadcast' and event is not null
   and inserted_at >= pg_catalog.to_timestamp($2::float8 / 1000) at time zone 'utc'
   and inserted_at < (pg_catalog.now() at time zone 'utc') + interval '1 minute'
 order by inserted_at desc limit $3";

/// What is asked about private channels, and the connections for it.
pub(crate) struct Channels {
    pool: Pool,
    messages: MessagesCache,
    compiled: Compiled,
}

/// What a principal may do with broadcasts, and with presences.
pub(crate) type Rights = (ChannelAccess, ChannelAccess);

/// How rights were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    /// By the policies, without Postgres.
    Compiled,
    /// By trying it in Postgres.
    Probed,
    /// Not at all: too many were waiting.
    Full,
    /// Not at all: the catalog could not be read.
    Lost,
}

/// Where the catalog is read, and as of which version.
pub(crate) struct At<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) session: &'a Session,
    pub(crate) actors: &'a Actors,
    pub(crate) version: PolicyVersion,
}

impl Channels {
    pub(crate) fn new(sessions: impl IntoIterator<Item = Session>, settings: &PolicySettings) -> Self {
        Self {
            pool: Pool::new(sessions, settings.query_deadline),
            messages: MessagesCache::new(settings),
            compiled: Compiled::new(&settings.publication),
        }
    }

    pub(crate) fn health(&self) -> Vec<Health> {
        self.pool.health()
    }

    /// Forgets what was read of the catalog.
    pub(crate) fn clear(&self) {
        self.messages.clear();
        self.compiled.clear();
    }

    /// What the principal may do in the channel, and how that was found; nothing when the policies raise an error for it.
    pub(crate) async fn rights(&self, at: &At<'_>, request: ChannelRequest) -> (Road, Result<Rights, AuthorizerError>) {
        // No text of Postgres has such a character.
        if request.topic.contains('\0') {
            return (Road::Compiled, Ok(Rights::default()));
        }
        let role = match self.compiled(at, &request).await {
            Ok(Found::Rights(rights)) => return (Road::Compiled, Ok(rights)),
            Ok(Found::Role(role)) => role,
            Err(error) => return (Road::Lost, Err(error)),
        };
        match self.pool.exchange(|client| probe(client, role, request)).await {
            Ok(rights) => (Road::Probed, Ok(rights)),
            Err(NoExchange::Full) => (Road::Full, Err(NoExchange::Full.into())),
            Err(reason) => (Road::Probed, Err(reason.into())),
        }
    }

    /// Stores a broadcast, if policy allows the principal the extension `persistence`.
    pub(crate) async fn persist(&self, at: &At<'_>, request: PersistRequest) -> Result<bool, AuthorizerError> {
        let (topic, role) = (&request.channel.topic, &request.channel.principal.role);
        let role = self.messages(at, role, None).await?.access.role.clone();
        if topic.contains('\0') || !role.exists {
            return Ok(false);
        }
        Ok(self.pool.exchange(|client| store(client, role, request)).await?)
    }

    /// The rights by the policies alone, or the role that must be probed. A right that is missing is looked for once more in
    /// what the catalog says after the question was asked: whoever was given it a moment ago has it.
    async fn compiled(&self, at: &At<'_>, request: &ChannelRequest) -> Result<Found, AuthorizerError> {
        let asked = clock::now();
        let mut messages = self.messages(at, &request.principal.role, None).await?;
        loop {
            let role = &messages.access.role;
            let rights = if role.exists {
                self.compiled.rights((at.session, at.actors), &messages, request).await.unwrap_or_else(|error| {
                    debug!(%error, "the policies of private channels could not be compiled");
                    None
                })
            } else {
                Some(Rights::default())
            };
            let Some(rights) = rights else { return Ok(Found::Role(role.clone())) };
            if rights == (ALL, ALL) || messages.read_at >= asked {
                return Ok(Found::Rights(rights));
            }
            messages = self.messages(at, &request.principal.role, Some(asked)).await?;
        }
    }

    /// The table for the role, with all that was done before `since`.
    async fn messages(
        &self,
        at: &At<'_>,
        role: &str,
        since: Option<Instant>,
    ) -> Result<Arc<Messages>, AuthorizerError> {
        let no_table = || AuthorizerError::Unavailable("the database has no table realtime.messages".to_owned());
        self.messages.read(at, role, since).await?.ok_or_else(no_table)
    }
}

/// What was found without a probe.
enum Found {
    Rights(Rights),
    Role(RoleInfo),
}

const ALL: ChannelAccess = ChannelAccess { read: true, write: true };

/// Stored for those who come later only.
const STORE: &str =
    "insert into realtime.messages (id, topic, extension, event, payload, binary_payload, private, skip_broadcast)
 values ($1::text::uuid, $2, 'broadcast', $3, $4::text::jsonb, $5, true, true)";

async fn store(client: Arc<Client>, role: RoleInfo, request: PersistRequest) -> Result<bool, PgError> {
    let stored = store_within(&client, &role, &request).await;
    client.batch_execute(if matches!(stored, Ok(true)) { "commit" } else { "rollback" }).await?;
    stored.map_err(PgError::from)
}

async fn store_within(client: &Client, role: &RoleInfo, request: &PersistRequest) -> Result<bool, Error> {
    let (topic, message) = (&request.channel.topic, &request.message);
    if message.event.contains('\0') {
        return Ok(false);
    }
    begin(client, role, &request.channel).await?;
    client.batch_execute("savepoint acting").await?;
    if !act(client, &request.channel.principal.role).await? {
        return Ok(false);
    }
    let sent = client.query_typed(SENT, &[(topic, Type::TEXT), (&"persistence", Type::TEXT)]).await;
    if attempted(sent)?.is_none() {
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
    Ok(attempted(client.query_typed(STORE, &params).await)?.is_some())
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
