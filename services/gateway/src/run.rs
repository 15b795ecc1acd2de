//! Putting a gateway together, and taking it apart in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use anyhow::Context;
use reactor_bus::nats::{NatsBus, NatsConfig};
use reactor_bus::{ChangeLog, Presence, PubSub};
use reactor_policy_engine::Authorizer;
use reactor_protocol::session::SessionSettings;
use reactor_runtime::config::{CorsOrigins, DeleteEvents};
use reactor_runtime::{Config, ServiceContext};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{JwksCache, TokenVerifier, VerifierSettings};
use crate::authz::{CachingAuthorizer, RemoteAuthorizer};
use crate::feed::{Feed, FeedSettings};
use crate::hub::MatchSettings;
use crate::metrics::Metrics;
use crate::transport::{App, AppSettings, router, serve};
use crate::ws::database;
use crate::ws::topics::Topics;

/// How long closed connections may take to write out what they have queued.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);

/// The gateway of a cluster: on NATS, asking the policy service.
///
/// # Errors
/// What keeps it from starting: an address in use, or a setting that cannot be used.
pub async fn service(context: ServiceContext) -> anyhow::Result<()> {
    let config = &context.config;
    let listener = bind(config.listen).await?;
    let bus = Arc::new(NatsBus::connect(nats_config(config)?).await.context("cannot set up NATS")?);
    let policy_url = config.policy.url.as_deref().context("no address of the policy service")?;
    let remote = RemoteAuthorizer::new(policy_url, config.policy.timeout)?;
    let authorizer = Arc::new(CachingAuthorizer::new(Arc::new(remote), config.policy.recheck));
    let buses = Buses { log: Arc::clone(&bus) as _, messages: Arc::clone(&bus) as _, presences: bus };
    let gateway = Arc::new(Gateway::new(&context, buses, authorizer)?);
    gateway.run(listener, context.shutdown.draining()).await;
    Ok(())
}

/// Binds the clients' address.
///
/// # Errors
/// When it is in use or not this machine's.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(%address, "listening for clients");
    Ok(listener)
}

fn nats_config(config: &Config) -> anyhow::Result<NatsConfig> {
    let url = config.nats.url.as_ref().context("no NATS address")?;
    Ok(NatsConfig {
        name: "reactor-gateway".to_owned(),
        replicas: usize::try_from(config.nats.replicas).unwrap_or(1),
        retention: config.realtime.replay_buffer,
        credentials_file: config.nats.creds_file.clone(),
        ..NatsConfig::new(url.expose().clone())
    })
}

/// What connects a gateway with the others.
#[derive(Clone, Debug)]
pub struct Buses {
    /// The changes of the database.
    pub log: Arc<dyn ChangeLog>,
    /// Broadcasts.
    pub messages: Arc<dyn PubSub>,
    /// Presences.
    pub presences: Arc<dyn Presence>,
}

/// A gateway that is ready to serve.
#[derive(Debug)]
pub struct Gateway {
    app: Arc<App>,
    write_stall: Duration,
}

impl Gateway {
    /// Builds a gateway over its buses and an authorizer. Must be called within a runtime.
    ///
    /// # Errors
    /// When the JWKS client cannot be set up.
    pub fn new(context: &ServiceContext, buses: Buses, authorizer: Arc<dyn Authorizer>) -> anyhow::Result<Self> {
        let config = &context.config;
        let Buses { log, messages, presences } = buses;
        let metrics = Arc::new(Metrics::new(&context.metrics));
        let bus = Arc::clone(&log);
        context.readiness.add("bus", move || bus.unavailable());
        let policy = Arc::clone(&authorizer);
        context.readiness.add("policy", move || policy.unavailable());
        let matching = Arc::new(MatchSettings {
            org_column: config.auth.org_column.clone(),
            max_payload_bytes: config.realtime.max_payload_bytes,
            strict_deletes: config.policy.delete_events == DeleteEvents::Strict,
        });
        let settings = FeedSettings { tenant: config.tenant.clone(), ring_bytes: config.realtime.ring_bytes, matching };
        let feed = Feed::new(settings, log, authorizer, Arc::clone(&metrics));
        let topics = Topics::new(config.tenant.clone(), messages, presences, Arc::clone(&metrics));
        let (heard, counted) = (Arc::clone(&topics), Arc::clone(&metrics));
        feed.observe(Box::new(move |batch, after| database::deliver(&heard, batch, after, &counted)));
        let followed = Arc::clone(&feed);
        context.readiness.add("feed", move || followed.unavailable());
        let app = App {
            settings: app_settings(config),
            verifier: verifier(config)?,
            feed,
            readiness: context.readiness.clone(),
            metrics,
            refuse: CancellationToken::new(),
            drain: CancellationToken::new(),
            connections: TaskTracker::new(),
            next_conn: AtomicU64::new(1),
            has_decided: AtomicBool::new(false),
            topics,
            session: Arc::new(SessionSettings::default()),
        };
        Ok(Self { app: Arc::new(app), write_stall: config.realtime.write_stall })
    }

    /// Serves until `leave` is cancelled, then refuses new requests, closes connections spread over the drain window with a
    /// hint when to come back, and waits until they have gone or the window and a flush deadline have passed.
    pub async fn run(self: Arc<Self>, listener: TcpListener, leave: CancellationToken) {
        let app = &self.app;
        let stop_feed = CancellationToken::new();
        let feed = tokio::spawn(Arc::clone(&app.feed).run(stop_feed.clone()));
        let sockets = TaskTracker::new();
        let accepting = serve(listener, router(Arc::clone(app)), self.write_stall, app.refuse.clone(), sockets.clone());
        tokio::join!(accepting, async {
            leave.cancelled().await;
            app.refuse.cancel();
        });
        tracing::info!(connections = app.connections.len(), "closing connections");
        app.drain.cancel();
        app.connections.close();
        sockets.close();
        let gone = async {
            app.connections.wait().await;
            sockets.wait().await;
        };
        let deadline = app.settings.drain_window + FLUSH_DEADLINE;
        if tokio::time::timeout(deadline, gone).await.is_err() {
            let cut = sockets.len();
            app.metrics.cut.inc_by(cut as u64);
            tracing::warn!(cut, "connections were cut at the end of the drain window");
        }
        if tokio::time::timeout(FLUSH_DEADLINE, app.topics.leave()).await.is_err() {
            tracing::warn!("presences could not be taken back in time; they end by themselves");
        }
        stop_feed.cancel();
        if feed.await.is_err() {
            tracing::error!("the feed had ended before the gateway did");
        }
    }
}

fn app_settings(config: &Config) -> AppSettings {
    AppSettings {
        enabled: config.realtime.enabled,
        heartbeat: config.realtime.heartbeat,
        max_subscriptions: config.realtime.max_subscriptions,
        queue_bytes: config.realtime.connection_queue_bytes,
        max_connections: config.realtime.max_connections.unwrap_or(0),
        websocket_compression: config.realtime.websocket_compression,
        cors_origins: match &config.realtime.cors_origins {
            CorsOrigins::Any => Vec::new(),
            CorsOrigins::Listed(origins) => origins.clone(),
        },
        drain_window: config.shutdown.drain,
    }
}

fn verifier(config: &Config) -> anyhow::Result<TokenVerifier> {
    let jwks = config.auth.jwks_url.clone().map(JwksCache::new).transpose().context("cannot set up the JWKS client")?;
    Ok(TokenVerifier::new(VerifierSettings {
        secret: config.auth.jwt_secret.as_ref().map(|secret| secret.expose().as_bytes().to_vec()),
        jwks,
        validators: config.auth.jwt_claim_validators.clone(),
        org_claim: config.auth.org_claim.clone(),
    }))
}
