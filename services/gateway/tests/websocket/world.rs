//! Two gateways, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use reactor_bus::memory::{MemoryLog, MemoryLogConfig, MemoryPresence, MemoryPubSub};
use reactor_bus::{Backlog, ChangeLog};
use reactor_gateway::run::{Buses, Gateway, bind};
use reactor_model::envelope::{BatchBuilder, EncodedRelation, OldTuple};
use reactor_model::filter::{BoundFilter, Truth};
use reactor_model::relation::Collation;
use reactor_model::{
    ChangeKind, Code, Column, Datum, Epoch, Lsn, Position, Relation, ReplicaIdentity, TenantId, Tuple, TypeInfo,
    TypeKind,
};
use reactor_policy_engine::{
    AuthorizeRequest, Authorizer, AuthorizerError, ChannelAccess, ChannelRequest, ChannelRights, CheckRequest,
    ColumnMask, Comparison, Decision, Denial, Grant, Members, MembersRequest, PolicyVersion, PublishedTable,
    ReplayRequest, RowPolicy, StoredMessage, TablesRequest,
};
use reactor_runtime::config::Role;
use reactor_runtime::{Config, Readiness, Registry, ServiceContext, Shutdown};
use reactor_testkit::fixtures::JWT_SECRET;
use reactor_testkit::{token, wait};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) const SOON: Duration = Duration::from_secs(20);
const TEXT: u32 = 25;

/// What the authorizer says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    version: u64,
    /// Tables that may not be read.
    pub(crate) denied: BTreeSet<String>,
    /// What may be done in private channels, by topic.
    pub(crate) rights: BTreeMap<String, (ChannelAccess, ChannelAccess)>,
    /// What is stored, by topic.
    pub(crate) stored: BTreeMap<String, Vec<StoredMessage>>,
}

#[derive(Debug)]
pub(crate) struct Scripted {
    script: watch::Sender<Script>,
    /// Tables whose decisions are made, but wait before they are told, and whether one does.
    held: watch::Sender<BTreeMap<String, bool>>,
}

impl Scripted {
    /// Changes what is said, under a new version.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Script)) {
        self.script.send_modify(|script| {
            script.version += 1;
            change(script);
        });
    }

    /// Has decisions about a table wait.
    pub(crate) fn hold(&self, table: &str) {
        self.held.send_modify(|held| {
            held.insert(table.to_owned(), false);
        });
    }

    /// Waits until one about each of these tables does.
    pub(crate) async fn holds_all(&self) -> Result<()> {
        let mut held = self.held.subscribe();
        let holds = held.wait_for(|held| held.values().all(|holds| *holds));
        tokio::time::timeout(SOON, holds).await.context("nobody asks")??;
        Ok(())
    }

    /// Tells them.
    pub(crate) fn release(&self) {
        self.held.send_modify(BTreeMap::clear);
    }
}

impl Authorizer for Scripted {
    fn authorize(&self, request: AuthorizeRequest) -> BoxFuture<'_, Result<Decision, AuthorizerError>> {
        let script = self.script.borrow().clone();
        let deny = |code, message: &str| Decision::Deny(Denial { code, message: message.into(), hint: String::new() });
        let decision = if script.denied.contains(&request.table) {
            deny(Code::PermissionDenied, "the role may not read it")
        } else if request.table == "nothing" {
            deny(Code::TableUnknown, "there is no such table")
        } else {
            Decision::Allow(Grant {
                rule: "grant:select".into(),
                columns: ColumnMask::All,
                filter: BoundFilter::And(Vec::new()),
                asks_postgres: false,
                policy: RowPolicy::everything(),
                org_scoped: false,
                row_security: false,
                table_oid: 0,
                policy_version: PolicyVersion(script.version),
                recheck_after: Duration::from_secs(600),
            })
        };
        async move {
            let table = &request.table;
            self.held.send_if_modified(|held| held.get_mut(table).is_some_and(|holds| !std::mem::replace(holds, true)));
            let _ = self.held.subscribe().wait_for(|held| !held.contains_key(table)).await;
            Ok(decision)
        }
        .boxed()
    }

    fn compare(&self, _: TenantId, _: Vec<Comparison>) -> BoxFuture<'_, Result<Vec<Truth>, AuthorizerError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn check_rows(&self, _: CheckRequest) -> BoxFuture<'_, Result<Vec<bool>, AuthorizerError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn members(&self, _: MembersRequest) -> BoxFuture<'_, Result<Members, AuthorizerError>> {
        async { Ok(Members::Changed) }.boxed()
    }

    fn tables(&self, _: TablesRequest) -> BoxFuture<'_, Result<Vec<PublishedTable>, AuthorizerError>> {
        let table = |schema: &str, table: &str| PublishedTable { schema: schema.into(), table: table.into() };
        async move { Ok(vec![table("public", "notes"), table("public", "todos"), table("realtime", "messages")]) }
            .boxed()
    }

    fn channel_rights(&self, request: ChannelRequest) -> BoxFuture<'_, Result<ChannelRights, AuthorizerError>> {
        let script = self.script.borrow();
        let (broadcast, presence) = script.rights.get(&request.topic).copied().unwrap_or_default();
        let policy_version = PolicyVersion(script.version);
        async move { Ok(ChannelRights { broadcast, presence, policy_version }) }.boxed()
    }

    fn replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<Vec<StoredMessage>, AuthorizerError>> {
        let stored = self.script.borrow().stored.get(&request.topic).cloned().unwrap_or_default();
        async move { Ok(stored) }.boxed()
    }

    fn watch(&self, _: TenantId) -> BoxStream<'static, PolicyVersion> {
        let versions = futures::stream::unfold((self.script.subscribe(), true), |(mut script, is_first)| async move {
            if !is_first {
                script.changed().await.ok()?;
            }
            let version = PolicyVersion(script.borrow_and_update().version);
            Some((version, (script, false)))
        });
        versions.boxed()
    }

    fn unavailable(&self) -> Option<String> {
        None
    }
}

/// Two gateways of a tenant.
pub(crate) struct World {
    pub(crate) authorizer: Arc<Scripted>,
    /// Where clients connect.
    pub(crate) gateways: Vec<SocketAddr>,
    pub(crate) metrics: Vec<Registry>,
    log: Arc<MemoryLog>,
    tenant: TenantId,
    written: AtomicU64,
    leave: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.leave.cancel();
    }
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts with further settings.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let mut env = BTreeMap::from([
            ("REACTOR_DATA_DATABASE_URL", "postgres://nobody@localhost/nothing"),
            ("REACTOR_JWT_SECRET", JWT_SECRET),
            ("REACTOR_LISTEN", "127.0.0.1:0"),
            ("REACTOR_DRAIN_SECS", "1"),
        ]);
        env.extend(settings.iter().copied());
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let config = Arc::new(Config::from_sources(None, &env, &BTreeMap::new(), Role::Serve)?);
        let log = MemoryLogConfig { retention: SOON, max_bytes: 1 << 20, max_payload_bytes: 1 << 18 };
        let log = Arc::new(MemoryLog::new(log));
        log.open(&config.tenant).await?;
        let messages = Arc::new(MemoryPubSub::new(1 << 20, Backlog::default()));
        let presences = Arc::new(MemoryPresence::new(1 << 20));
        let script = watch::Sender::new(Script { version: 1, ..Script::default() });
        let authorizer = Arc::new(Scripted { script, held: watch::Sender::default() });
        let leave = CancellationToken::new();
        let (mut gateways, mut metrics) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let shutdown = Shutdown::default();
            let context = ServiceContext {
                config: Arc::clone(&config),
                metrics: Registry::default(),
                readiness: Readiness::new(&shutdown),
                shutdown,
            };
            let buses = Buses {
                log: Arc::clone(&log) as _,
                messages: Arc::clone(&messages) as _,
                presences: Arc::clone(&presences) as _,
            };
            let gateway = Arc::new(Gateway::new(&context, buses, Arc::clone(&authorizer) as _)?);
            let listener = bind(config.listen).await?;
            gateways.push(listener.local_addr()?);
            metrics.push(context.metrics.clone());
            tokio::spawn(gateway.run(listener, leave.clone()));
        }
        let tenant = config.tenant.clone();
        let world = Self { authorizer, gateways, metrics, log, tenant, written: AtomicU64::new(0), leave };
        world.insert("notes", "0", "the first").await?;
        Ok(world)
    }

    /// Has both gateways leave.
    pub(crate) fn leave(&self) {
        self.leave.cancel();
    }

    /// A gauge or counter of a gateway.
    pub(crate) async fn wait_for_metric(&self, gateway: usize, line: &str) -> Result<()> {
        let registry = self.metrics.get(gateway).context("no such gateway")?;
        wait::until(SOON, line, || async { Ok(registry.render().lines().any(|found| found == line)) }).await
    }

    /// Inserts a row `(id text primary key, title text)`; its event id.
    pub(crate) async fn insert(&self, table: &str, id: &str, title: &str) -> Result<String> {
        self.write("public", table, &[("id", true), ("title", false)], &[&[Some(id), Some(title)]]).await
    }

    /// Inserts a row of stored broadcasts.
    pub(crate) async fn store(&self, topic: &str, private: bool, event: &str, payload: &str, id: &str) -> Result<()> {
        self.store_all(topic, private, event, payload, &[id]).await
    }

    /// Inserts a row of stored broadcasts in a batch that begins with rows that were written last.
    pub(crate) async fn store_all(
        &self,
        topic: &str,
        private: bool,
        event: &str,
        payload: &str,
        ids: &[&str],
    ) -> Result<()> {
        let columns = ["topic", "extension", "payload", "event", "private", "id", "binary_payload", "skip_broadcast"]
            .map(|name| (name, name == "id"));
        let private = if private { "t" } else { "f" };
        let texts = ids.iter().map(|id| [topic, "broadcast", payload, event, private, *id, "", "f"]);
        let rows: Vec<_> = texts.map(|row| row.map(|text| Some(text).filter(|text| !text.is_empty()))).collect();
        let rows: Vec<&[Option<&str>]> = rows.iter().map(<[_; 8]>::as_slice).collect();
        self.write("realtime", "messages", &columns, &rows).await?;
        Ok(())
    }

    /// Writes the last of the rows, each a transaction; those before it are in the log already.
    async fn write(
        &self,
        schema: &str,
        table: &str,
        columns: &[(&str, bool)],
        rows: &[&[Option<&str>]],
    ) -> Result<String> {
        let column = |(name, key): &(&str, bool)| Column {
            name: (*name).into(),
            type_oid: TEXT,
            type_mod: -1,
            primary_key: *key,
            identity_key: *key,
            collation: Collation::Bytes,
        };
        let relation = EncodedRelation::new(Arc::new(Relation {
            oid: 1,
            table_oid: 1,
            schema: schema.into(),
            table: table.into(),
            columns: columns.iter().map(column).collect(),
            identity: ReplicaIdentity::Default,
            row_security: false,
            types: BTreeMap::from([(TEXT, TypeInfo { name: "text".into(), kind: TypeKind::Builtin })]),
        }));
        let lsn = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        let at = |lsn: u64| if lsn == 0 { Position::default() } else { Position { lsn: Lsn(lsn), ordinal: 1 } };
        let position = at(lsn);
        let previous = lsn - rows.len() as u64;
        let mut builder = BatchBuilder::new(Epoch(1), at(previous), Lsn(0), Some(&relation));
        for (lsn, row) in (previous + 1..).zip(rows) {
            let values: Vec<Datum<'_>> =
                row.iter().map(|text| text.map_or(Datum::Null, |text| Datum::Text(text.as_bytes()))).collect();
            builder.push(ChangeKind::Insert, at(lsn), 0, OldTuple::None, Some(Tuple::from_values(values).as_bytes()));
        }
        self.log.append(&self.tenant, schema, table, builder.finish(true), lsn - 1).await?.await?;
        Ok(reactor_model::EventId { epoch: Epoch(1), position }.to_string())
    }
}

/// A token of a role that ends in an hour.
pub(crate) fn user() -> String {
    until(token::now() + 3600)
}

/// A token that ends at a time.
pub(crate) fn until(exp: u64) -> String {
    token::token(JWT_SECRET, &json!({"role": "authenticated", "sub": "u", "exp": exp})).expect("a token")
}
