//! The gateway's URLs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reactor_model::Code;
use reactor_policy_engine::{AuthorizeRequest, AuthorizerError, Decision, Denial};
use reactor_protocol::session::SessionSettings;
use reactor_runtime::{Readiness, clock};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};
use tracing::Instrument;

use super::body::{OpenConnection, OutboxBody};
use super::request::{SubscribeRequest, Wanted};
use crate::auth::{ActiveOrg, Identity, TokenVerifier, active_org};
use crate::connection::{self, Connection, Link, Standing};
use crate::error::ApiError;
use crate::feed::Feed;
use crate::hub::{ConnId, EventMask, Member, Wire};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::subscription::{Subscription, keys, lane};
use crate::ws::topics::Topics;
use crate::ws::upgrade::upgrade;
use crate::ws::{identify, rest};

/// Largest request body: twenty subscriptions with long filters are far below it.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// How long a request is held while the process, its bus or its policy service comes up: browsers never try again after an
/// answer other than 200, so that a restart must not be answered with a refusal.
const HOLD: Duration = Duration::from_secs(10);
/// The same for policy once it has answered: what is away then is down rather than late.
const HOLD_FOR_POLICY: Duration = Duration::from_secs(3);
/// Between attempts of a request that is held.
const HOLD_PAUSE: Duration = Duration::from_millis(100);
/// How long browsers may remember the answer to a preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(3600);

/// Limits and times of the client side.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// Whether subscriptions are taken at all.
    pub enabled: bool,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Subscriptions of one connection.
    pub max_subscriptions: usize,
    /// Bytes that may wait for one connection.
    pub queue_bytes: usize,
    /// Connections of this process; 0 for no limit of its own.
    pub max_connections: usize,
    /// Whether WebSocket frames are compressed for clients that offer it.
    pub websocket_compression: bool,
    /// Origins that browsers may connect from; empty for all.
    pub cors_origins: Vec<String>,
    /// Over how long connections are closed when the server leaves.
    pub drain_window: Duration,
}

/// What the handlers share.
#[derive(Debug)]
pub struct App {
    /// Limits and times.
    pub settings: AppSettings,
    /// Verifies tokens.
    pub verifier: TokenVerifier,
    /// The tenant's feed.
    pub feed: Arc<Feed>,
    /// Why the process cannot serve, if so.
    pub readiness: Readiness,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Cancelled when the server takes nothing new.
    pub refuse: CancellationToken,
    /// Cancelled when connections are to be closed.
    pub drain: CancellationToken,
    /// Connections under way.
    pub connections: TaskTracker,
    /// Ids given out.
    pub next_conn: AtomicU64,
    /// Whether policy has ever answered.
    pub has_decided: AtomicBool,
    /// Channels that WebSocket clients have joined.
    pub topics: Arc<Topics>,
    /// What a WebSocket connection may do.
    pub session: Arc<SessionSettings>,
}

/// The routes over an app.
pub fn router(app: Arc<App>) -> Router {
    let cors = cors(&app.settings.cors_origins);
    Router::new()
        .route("/data/v1/{table}/subscribe", get(subscribe_table))
        .route("/realtime/v1/subscribe", post(subscribe_many))
        .route("/data/v1/health", get(health))
        .route("/realtime/v1/websocket", get(upgrade))
        .route("/socket/websocket", get(upgrade))
        .merge(broadcasts())
        .fallback(async || ApiError::of(Code::NotFound))
        .method_not_allowed_fallback(async || ApiError::of(Code::MethodNotAllowed))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(cors)
        .with_state(app)
}

/// Broadcasts over HTTP, whose bodies may be larger.
fn broadcasts() -> Router<Arc<App>> {
    let mut router = Router::new();
    for prefix in ["/realtime/v1", ""] {
        router = router
            .route(&format!("{prefix}/api/broadcast"), post(rest::batch))
            .route(&format!("{prefix}/api/broadcast/{{topic}}/events/{{event}}"), post(rest::single));
    }
    router.layer(DefaultBodyLimit::max(rest::MAX_BODY_BYTES))
}

fn cors(origins: &[String]) -> CorsLayer {
    let listed: Vec<HeaderValue> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let origin = if origins.is_empty() { AllowOrigin::any() } else { AllowOrigin::list(listed) };
    CorsLayer::new()
        .allow_origin(origin)
        // Mirrored, since a wildcard does not cover Authorization.
        .allow_headers(AllowHeaders::mirror_request())
        .allow_methods(AllowMethods::list([http::Method::GET, http::Method::POST, http::Method::OPTIONS]))
        .expose_headers([header::RETRY_AFTER, rest::REQUEST_ID])
        .max_age(PREFLIGHT_MAX_AGE)
}

async fn health(State(app): State<Arc<App>>) -> Response {
    let mut reasons = app.readiness.reasons();
    if !app.settings.enabled {
        reasons.push("realtime is switched off".to_owned());
    }
    let (status, body) = if reasons.is_empty() {
        (StatusCode::OK, serde_json::json!({"status": "ok", "realtime": "ok"}))
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            serde_json::json!({"status": "unavailable", "realtime": "unavailable", "reasons": reasons}),
        )
    };
    (status, [(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
}

async fn subscribe_table(
    State(app): State<Arc<App>>,
    table: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = parse_query(query.as_deref());
    let request = match table {
        Ok(Path(table)) => SubscribeRequest::from_query(table, &headers, &query),
        Err(_) => Err(ApiError::new(Code::BadRequest, "the table's name in the path is not valid UTF-8")),
    };
    app.respond(request).await
}

async fn subscribe_many(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let query = parse_query(query.as_deref());
    let request = match body {
        Ok(body) => SubscribeRequest::from_body(&body, &headers, &query, app.settings.max_subscriptions),
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let message = format!("the body is larger than {MAX_BODY_BYTES} bytes");
            Err(ApiError::new(Code::PayloadTooLarge, message))
        }
        Err(_) => Err(ApiError::new(Code::BadRequest, "the body could not be read")),
    };
    app.respond(request).await
}

fn parse_query(query: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

impl App {
    async fn respond(self: &Arc<Self>, request: Result<SubscribeRequest, ApiError>) -> Response {
        let accepted = match request {
            Ok(request) => self.accept(request).await,
            Err(error) => Err(error),
        };
        match accepted {
            Ok(response) => response,
            Err(error) => {
                self.metrics.refused.with_label_values(&[error.code.as_str()]).inc();
                error.into_response()
            }
        }
    }

    /// Checks a request in the order of cost: server state, token, organisation, policy, limits; then opens the connection.
    async fn accept(self: &Arc<Self>, request: SubscribeRequest) -> Result<Response, ApiError> {
        if !self.settings.enabled {
            return Err(ApiError::of(Code::RealtimeDisabled));
        }
        if self.refuse.is_cancelled() {
            return Err(ApiError::of(Code::Draining));
        }
        let identity = identify::verify(&self.verifier, request.token.as_deref().unwrap_or_default()).await?;
        let org = active_org(identity.orgs.as_deref(), request.org.as_deref())
            .map_err(|()| ApiError::of(Code::OrgForbidden))?;
        let held_until = clock::now() + HOLD;
        let mut status = self.feed.status();
        let able = status.wait_for(|status| status.head.is_some() && status.following);
        if tokio::time::timeout_at(held_until.into(), able).await.is_err() {
            let reason = self.feed.unavailable().unwrap_or_default();
            return Err(ApiError::new(Code::NotReady, reason));
        }
        let asked = request.subscriptions.into_iter().map(|wanted| self.authorize(wanted, &identity, &org));
        let subscriptions = futures::future::try_join_all(asked).await?;
        let open = self.open_connection()?;
        Ok(self.connect(identity, subscriptions, request.start, open))
    }

    async fn authorize(&self, wanted: Wanted, identity: &Identity, org: &ActiveOrg) -> Result<Subscription, ApiError> {
        let Wanted { name, schema, table, events, leave, select, filter } = wanted;
        let request = AuthorizeRequest {
            tenant: self.feed.tenant().clone(),
            principal: identity.principal.clone(),
            schema,
            table,
            select,
            filter,
        };
        Ok(self.subscribe(request, name, events, leave, org).await??)
    }

    /// Decides on a subscription.
    pub(crate) async fn subscribe(
        &self,
        request: AuthorizeRequest,
        name: Option<Arc<str>>,
        events: EventMask,
        leave: bool,
        org: &ActiveOrg,
    ) -> Result<Result<Subscription, Denial>, AuthorizerError> {
        let grant = match self.decide(&request).await? {
            Decision::Allow(grant) => grant,
            Decision::Deny(denial) => return Ok(Err(denial)),
        };
        self.has_decided.store(true, Ordering::Relaxed);
        if grant.org_scoped && *org == ActiveOrg::Unchosen {
            let message = "the token has several organisations and the request names none of them".to_owned();
            let code = Code::OrgForbidden;
            return Ok(Err(Denial { code, message, hint: code.remedy().to_owned() }));
        }
        Ok(Ok(Subscription { name, events, leave, request, org: org.clone(), grant, asks_instead: false }))
    }

    /// A connection with subscriptions that were just decided on, in no lane yet.
    pub(crate) fn connection(
        &self,
        identity: Identity,
        subscriptions: Vec<Subscription>,
        outbox: Arc<Outbox>,
        wire: Wire,
    ) -> Connection {
        let member = Member {
            conn: ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed)),
            outbox,
            ended: CancellationToken::new(),
            behind: Arc::default(),
            principal: Arc::new(identity.principal.clone()),
            subscriptions: keys(&subscriptions),
            wire,
        };
        let lane = lane(&subscriptions);
        let sets = self.feed.hold_sets(&member.subscriptions, lane);
        Connection {
            link: Link { member, lane, sets, feed: Arc::clone(&self.feed) },
            state: Standing::new(&subscriptions),
            subscriptions,
            identity,
            heartbeat: self.settings.heartbeat,
            drain: self.drain.clone(),
            drain_window: self.settings.drain_window,
            metrics: Arc::clone(&self.metrics),
        }
    }

    async fn decide(&self, request: &AuthorizeRequest) -> Result<Decision, AuthorizerError> {
        let hold = if self.has_decided.load(Ordering::Relaxed) { HOLD_FOR_POLICY } else { HOLD };
        let held_until = clock::now() + hold;
        loop {
            match self.feed.authorizer().authorize(request.clone()).await {
                Err(AuthorizerError::Unavailable(_)) if clock::now() + HOLD_PAUSE < held_until => {
                    tokio::time::sleep(HOLD_PAUSE).await;
                }
                decided => return decided,
            }
        }
    }

    pub(crate) fn open_connection(&self) -> Result<OpenConnection, ApiError> {
        let gauge = self.metrics.connections.clone();
        gauge.inc();
        let open = OpenConnection { gauge };
        let limit = i64::try_from(self.settings.max_connections).unwrap_or(i64::MAX);
        if limit != 0 && self.metrics.connections.get() > limit {
            return Err(ApiError::of(Code::TooManyConnections));
        }
        Ok(open)
    }

    fn connect(
        self: &Arc<Self>,
        identity: Identity,
        subscriptions: Vec<Subscription>,
        start: connection::Start,
        open: OpenConnection,
    ) -> Response {
        let outbox = Arc::new(Outbox::new(self.settings.queue_bytes));
        let connection = self.connection(identity, subscriptions, Arc::clone(&outbox), Wire::Events);
        let (conn, ended) = (connection.link.member.conn, connection.link.member.ended.clone());
        let span = tracing::info_span!("connection", tenant = %self.feed.tenant(), conn = conn.0);
        self.connections.spawn(connection.run(start).instrument(span));
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-cache, no-transform"),
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ];
        (StatusCode::OK, headers, Body::new(OutboxBody::new(outbox, ended, open))).into_response()
    }
}
