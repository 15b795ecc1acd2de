//! The table of all settings. Files, variables, flags, checks, `--help` and `docs/config.md` all follow from it.

use super::kind::Kind;
use super::role::Role;
use super::supabase::Form;

/// A name that is accepted for a variable beside its own, and how its value differs.
#[derive(Clone, Copy, Debug)]
pub struct Alias {
    /// Name of the variable.
    pub name: &'static str,
    pub(super) form: Form,
}

impl Alias {
    /// How its value differs, for the documentation.
    pub(crate) fn note(&self) -> &'static str {
        match self.form {
            Form::Same => "",
            Form::Port => ": a port, on every address",
            Form::LogLevel => ": `debug`, `info`, `notice`, `warning`, `error`, `critical`, `alert` or `emergency`",
            Form::ArrayOfOne => ": a JSON array with one name",
            Form::KeyFromText => ": any text, whose SHA-256 is the key",
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Path in `reactor.toml`.
    pub key: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Other variables that are read when `env` is not set, in this order.
    pub aliases: &'static [Alias],
    /// Flag, without the dashes.
    pub flag: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// Used when nothing sets it.
    pub default: Option<&'static str>,
    /// What it does, as one or two sentences.
    pub help: &'static str,
    /// Whether its value must not be printed.
    pub secret: bool,
    /// The roles that use it.
    pub roles: &'static [Role],
}

impl Setting {
    const fn new(key: &'static str, env: &'static str, flag: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { key, env, aliases: &[], flag, kind, default: None, help, secret: false, roles: Role::ALL }
    }

    const fn aliases(mut self, aliases: &'static [Alias]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn default(mut self, text: &'static str) -> Self {
        self.default = Some(text);
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn roles(mut self, roles: &'static [Role]) -> Self {
        self.roles = roles;
        self
    }

    /// The setting with this path.
    #[must_use]
    pub fn named(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

const fn same(name: &'static str) -> Alias {
    Alias { name, form: Form::Same }
}

const fn in_form(name: &'static str, form: Form) -> Alias {
    Alias { name, form }
}

const HTTP: &[&str] = &["http", "https"];
const NATS: &[&str] = &["nats", "tls", "ws", "wss"];
const DATABASE: &[Role] = &[Role::Serve, Role::Replicator, Role::Policy, Role::Tool];
const REPLICATION: &[Role] = &[Role::Serve, Role::Replicator, Role::Tool];
const EDGE: &[Role] = &[Role::Serve, Role::Gateway, Role::Tool];
const BUS: &[Role] = &[Role::Gateway, Role::Replicator, Role::Tool];
const DECISIONS: &[Role] = &[Role::Serve, Role::Gateway, Role::Policy, Role::Tool];
const POLICY: &[Role] = &[Role::Serve, Role::Policy, Role::Tool];
const SERVICES: &[Role] = &[Role::Serve, Role::Gateway, Role::Replicator, Role::Policy];
const HOUR: f64 = 3600.0;
const DAY: f64 = 86_400.0;

/// Every setting, grouped as in the file.
pub static SETTINGS: &[Setting] = &[
    Setting::new("tenant", "REACTOR_TENANT", "tenant", Kind::Tenant, "The tenant that this process serves.")
        .aliases(&[same("SELF_HOST_TENANT_NAME")])
        .default("default"),
    Setting::new("listen", "REACTOR_LISTEN", "listen", Kind::Address, "Where clients connect.")
        .aliases(&[in_form("PORT", Form::Port)])
        .default("0.0.0.0:4000")
        .roles(EDGE),
    Setting::new(
        "admin_listen",
        "REACTOR_ADMIN_LISTEN",
        "admin-listen",
        Kind::Address,
        "Where `/live`, `/ready`, `/metrics` and `/version` answer.",
    )
    .default("0.0.0.0:4001")
    .roles(SERVICES),
    Setting::new(
        "data.database_url",
        "REACTOR_DATA_DATABASE_URL",
        "database-url",
        Kind::DatabaseUrl,
        "The tenant's database. `sslmode` in its query says whether TLS is used.",
    )
    .secret()
    .roles(DATABASE),
    Setting::new(
        "data.ssl_root_cert",
        "REACTOR_DATA_SSL_ROOT_CERT",
        "database-ssl-root-cert",
        Kind::Path,
        "PEM file of certificates that may sign the database's, beside the public ones.",
    )
    .aliases(&[same("DB_SSL_CA_CERT")])
    .roles(DATABASE),
    Setting::new(
        "data.user_schema",
        "REACTOR_DATA_USER_SCHEMA",
        "user-schema",
        Kind::PgName,
        "Schema of tables that a request names without one.",
    )
    .default("public")
    .roles(DECISIONS),
    Setting::new(
        "data.migrations_dir",
        "REACTOR_DATA_MIGRATIONS_DIR",
        "migrations-dir",
        Kind::Path,
        "Migrations of the Data service, which shares this file. Read by that service only.",
    )
    .roles(&[]),
    Setting::new(
        "nats.url",
        "REACTOR_NATS_URL",
        "nats-url",
        Kind::Urls(NATS),
        "NATS servers of the cluster, separated by commas. JetStream must be on.",
    )
    .secret()
    .roles(BUS),
    Setting::new(
        "nats.creds_file",
        "REACTOR_NATS_CREDS_FILE",
        "nats-creds-file",
        Kind::Path,
        "Credentials file (`.creds`) with which to log in to NATS.",
    )
    .roles(BUS),
    Setting::new(
        "nats.replicas",
        "REACTOR_NATS_REPLICAS",
        "nats-replicas",
        Kind::Count { min: 1, max: 5 },
        "How many NATS servers store each log. 3 where there are three or more.",
    )
    .default("1")
    .roles(BUS),
    Setting::new(
        "nats.max_bytes_mb",
        "REACTOR_NATS_MAX_BYTES_MB",
        "nats-max-bytes-mb",
        Kind::Count { min: 1, max: 1 << 30 },
        "Largest size of each log; what passes it shortens the replay window.",
    )
    .default("1024")
    .roles(BUS),
    Setting::new(
        "policy.listen",
        "REACTOR_POLICY_LISTEN",
        "policy-listen",
        Kind::Address,
        "Where the policy service answers gateways over gRPC.",
    )
    .default("0.0.0.0:4100")
    .roles(&[Role::Policy]),
    Setting::new(
        "policy.url",
        "REACTOR_POLICY_URL",
        "policy-url",
        Kind::Url(HTTP),
        "Where gateways find the policy service.",
    )
    .roles(&[Role::Gateway, Role::Tool]),
    Setting::new(
        "policy.timeout_ms",
        "REACTOR_POLICY_TIMEOUT_MS",
        "policy-timeout-ms",
        Kind::Millis { min: 1, max: 60_000 },
        "How long an answer of the policy service is waited for. No answer is a deny.",
    )
    .default("2000")
    .roles(&[Role::Gateway, Role::Tool]),
    Setting::new(
        "policy.recheck_secs",
        "REACTOR_POLICY_RECHECK_SECS",
        "policy-recheck-secs",
        Kind::Seconds { min: 0.1, max: HOUR },
        "How long a decision is good for while no new one can be had. It is asked again after a sixth of that.",
    )
    .default("30")
    .roles(DECISIONS),
    Setting::new(
        "policy.delete_events",
        "REACTOR_POLICY_DELETE_EVENTS",
        "policy-delete-events",
        Kind::Choice(&["key", "strict"]),
        "What becomes of a DELETE whose old row lacks columns that a decision needs: `key` delivers its key columns, `strict` withholds it.",
    )
    .default("key")
    .roles(DECISIONS),
    Setting::new(
        "policy.event_trigger",
        "REACTOR_POLICY_EVENT_TRIGGER",
        "policy-event-trigger",
        Kind::Switch,
        "Whether an event trigger is put into the database, so that a change of policies counts at once and not after a second. Needs a superuser.",
    )
    .default("false")
    .roles(POLICY),
    Setting::new(
        "policy.rules",
        "REACTOR_POLICY_RULES",
        "policy-rules",
        Kind::Rules,
        "Who may read which rows, beside the grants and policies of the database.",
    )
    .default("[]")
    .roles(POLICY),
    Setting::new(
        "auth.jwt_secret",
        "REACTOR_JWT_SECRET",
        "jwt-secret",
        Kind::Text,
        "Shared secret of HS256, HS384 and HS512 tokens.",
    )
    .aliases(&[same("JWT_SECRET")])
    .secret()
    .roles(EDGE),
    Setting::new(
        "auth.jwks_url",
        "REACTOR_JWKS_URL",
        "jwks-url",
        Kind::Url(HTTP),
        "Where the public keys of RS*, ES* and EdDSA tokens are.",
    )
    .roles(EDGE),
    Setting::new(
        "auth.jwt_claim_validators",
        "REACTOR_JWT_CLAIM_VALIDATORS",
        "jwt-claim-validators",
        Kind::JsonObject,
        "Claims that must have exactly these values, as a JSON object (or a table in the file).",
    )
    .aliases(&[same("JWT_CLAIM_VALIDATORS")])
    .default("{}")
    .roles(EDGE),
    Setting::new(
        "auth.org_claim",
        "REACTOR_ORG_CLAIM",
        "org-claim",
        Kind::Text,
        "Claim that lists the organisations of a token.",
    )
    .default("orgs")
    .roles(EDGE),
    Setting::new(
        "auth.org_column",
        "REACTOR_ORG_COLUMN",
        "org-column",
        Kind::PgName,
        "Column that names a row's organisation, in the tables that have it.",
    )
    .default("org_id")
    .roles(DECISIONS),
    Setting::new(
        "auth.login_url",
        "REACTOR_LOGIN_URL",
        "login-url",
        Kind::Url(HTTP),
        "OAuth2 password-grant address that `reactor auth login` asks.",
    )
    .roles(&[Role::Tool]),
    Setting::new(
        "auth.api_jwt_secret",
        "REACTOR_API_JWT_SECRET",
        "api-jwt-secret",
        Kind::Text,
        "Secret of the tokens that manage tenants.",
    )
    .aliases(&[same("API_JWT_SECRET")])
    .secret()
    .roles(EDGE),
    Setting::new(
        "auth.secret_key",
        "REACTOR_SECRET_KEY",
        "secret-key",
        Kind::Key,
        "Key that encrypts the tenants' secrets: base64 of 32 bytes.",
    )
    .aliases(&[same("DB_ENC_KEY_GCM"), in_form("DB_ENC_KEY", Form::KeyFromText)])
    .secret(),
    Setting::new(
        "realtime.enabled",
        "REACTOR_REALTIME_ENABLED",
        "realtime-enabled",
        Kind::Switch,
        "Whether subscriptions are served at all.",
    )
    .default("true")
    .roles(EDGE),
    Setting::new(
        "realtime.heartbeat_interval_secs",
        "REACTOR_REALTIME_HEARTBEAT_SECS",
        "heartbeat-secs",
        Kind::Seconds { min: 0.1, max: HOUR },
        "How often an idle connection gets a heartbeat, so that proxies keep it open.",
    )
    .default("30")
    .roles(EDGE),
    Setting::new(
        "realtime.max_subscriptions_per_connection",
        "REACTOR_REALTIME_MAX_SUBSCRIPTIONS",
        "max-subscriptions",
        Kind::Count { min: 1, max: 10_000 },
        "Subscriptions in one SSE connection.",
    )
    .default("20")
    .roles(EDGE),
    Setting::new(
        "realtime.replay_buffer_secs",
        "REACTOR_REALTIME_REPLAY_BUFFER_SECS",
        "replay-buffer-secs",
        Kind::Seconds { min: 1.0, max: DAY },
        "How far back a client can resume.",
    )
    .default("300")
    .roles(SERVICES),
    Setting::new(
        "realtime.max_payload_bytes",
        "REACTOR_REALTIME_MAX_PAYLOAD_BYTES",
        "max-payload-bytes",
        Kind::Count { min: 1024, max: 16 << 20 },
        "Largest SSE event. A larger row carries its key columns and an address to fetch it from.",
    )
    .default("65536")
    .roles(EDGE),
    Setting::new(
        "realtime.connection_queue_bytes",
        "REACTOR_REALTIME_CONNECTION_QUEUE_BYTES",
        "connection-queue-bytes",
        Kind::Count { min: 4096, max: 1 << 30 },
        "What may wait for one connection. More closes it as too slow; it can resume.",
    )
    .default("1048576")
    .roles(EDGE),
    Setting::new(
        "realtime.ring_bytes",
        "REACTOR_REALTIME_RING_BYTES",
        "ring-bytes",
        Kind::Count { min: 1 << 20, max: 64 << 30 },
        "Memory per tenant that resumes are answered from; older positions are read from the log.",
    )
    .default("67108864")
    .roles(EDGE),
    Setting::new(
        "realtime.write_stall_secs",
        "REACTOR_REALTIME_WRITE_STALL_SECS",
        "write-stall-secs",
        Kind::Seconds { min: 0.1, max: HOUR },
        "How long a connection may take nothing of what waits for it before it is closed as too slow.",
    )
    .default("30")
    .roles(EDGE),
    Setting::new(
        "realtime.max_connections",
        "REACTOR_REALTIME_MAX_CONNECTIONS",
        "max-connections",
        Kind::Count { min: 0, max: 10_000_000 },
        "Connections that one process takes; 0 is no limit.",
    )
    .aliases(&[same("MAX_CONNECTIONS")])
    .default("10000")
    .roles(EDGE),
    Setting::new(
        "realtime.websocket_compression",
        "REACTOR_REALTIME_WEBSOCKET_COMPRESSION",
        "websocket-compression",
        Kind::Switch,
        "Whether WebSocket frames are compressed (`permessage-deflate`) for clients that offer it. Saves half to two thirds of the bytes of JSON from a kilobyte on, for 20 µs and more of processor time for each distinct frame, however many get it.",
    )
    .default("false")
    .roles(EDGE),
    Setting::new(
        "realtime.cors_origins",
        "REACTOR_REALTIME_CORS_ORIGINS",
        "cors-origins",
        Kind::Origins,
        "Origins that browsers may connect from, separated by commas (or an array in the file).",
    )
    .default("*")
    .roles(EDGE),
    Setting::new(
        "realtime.install_schema",
        "REACTOR_REALTIME_INSTALL_SCHEMA",
        "install-schema",
        Kind::Switch,
        "Whether the schema `realtime` (messages, `realtime.send` and its like) is installed in the database where it is missing. Without the rights to, that is told once and nothing else suffers.",
    )
    .default("true")
    .roles(REPLICATION),
    Setting::new(
        "replication.publication",
        "REACTOR_PUBLICATION",
        "publication",
        Kind::PgName,
        "Publication whose tables are followed.",
    )
    .aliases(&[in_form("PUBLICATIONS", Form::ArrayOfOne)])
    .default("supabase_realtime")
    .roles(REPLICATION),
    Setting::new(
        "replication.create_publication",
        "REACTOR_PUBLICATION_CREATE",
        "create-publication",
        Kind::Switch,
        "Create the publication `FOR ALL TABLES` when it does not exist.",
    )
    .default("false")
    .roles(REPLICATION),
    Setting::new(
        "replication.slot_prefix",
        "REACTOR_REPLICATION_SLOT_PREFIX",
        "slot-prefix",
        Kind::SlotPrefix,
        "First part of the slot's name; the tenant and an epoch follow.",
    )
    .aliases(&[same("SLOT_NAME")])
    .default("reactor")
    .roles(REPLICATION),
    Setting::new(
        "replication.confirm_lag_secs",
        "REACTOR_REPLICATION_CONFIRM_LAG_SECS",
        "confirm-lag-secs",
        Kind::Seconds { min: 0.0, max: DAY },
        "How long the slot stays behind what the log has stored, so that a log which loses its newest part is filled again. Not set: 130 in a cluster, because NATS syncs every 120 s; the replay window in a single process. 0 where NATS has `sync_interval: always`.",
    )
    .roles(REPLICATION),
    Setting::new(
        "replication.confirm_lag_max_mb",
        "REACTOR_REPLICATION_CONFIRM_LAG_MAX_MB",
        "confirm-lag-max-mb",
        Kind::Count { min: 1, max: 1 << 30 },
        "The most WAL that this delay holds back.",
    )
    .default("1024")
    .roles(REPLICATION),
    Setting::new(
        "replication.max_lag_mb",
        "REACTOR_MAX_REPLICATION_LAG_MB",
        "max-replication-lag-mb",
        Kind::Count { min: 1, max: 1 << 30 },
        "When the slot holds back more WAL than this, it is dropped, a new one begins, and every client must read its data again. Not set: never.",
    )
    .aliases(&[same("MAX_REPLICATION_LAG_MB")])
    .roles(REPLICATION),
    Setting::new(
        "shutdown.ready_delay_secs",
        "REACTOR_READY_DELAY_SECS",
        "ready-delay-secs",
        Kind::Seconds { min: 0.0, max: HOUR },
        "How long the process works on after SIGTERM while `/ready` fails, so that load balancers notice first.",
    )
    .default("0")
    .roles(SERVICES),
    Setting::new(
        "shutdown.drain_secs",
        "REACTOR_DRAIN_SECS",
        "drain-secs",
        Kind::Seconds { min: 0.0, max: HOUR },
        "Over how long connections are closed after that. The process ends 5 s later at the latest.",
    )
    .default("10")
    .roles(SERVICES),
    Setting::new(
        "log.filter",
        "REACTOR_LOG",
        "log",
        Kind::LogFilter,
        "What is logged: a level, or directives such as `info,reactor_gateway=debug`.",
    )
    .aliases(&[in_form("LOG_LEVEL", Form::LogLevel)])
    .default("info"),
    Setting::new(
        "log.format",
        "REACTOR_LOG_FORMAT",
        "log-format",
        Kind::Choice(&["auto", "json", "pretty"]),
        "Form of the lines; `auto` is `pretty` on a terminal and `json` elsewhere.",
    )
    .default("auto"),
    Setting::new(
        "telemetry.otlp_endpoint",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "otlp-endpoint",
        Kind::Url(HTTP),
        "Collector that traces are sent to (OTLP over gRPC). Not set: none are sent.",
    ),
];
