//! The configuration as the services read it: every value checked, every unit in a type.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use reactor_model::TenantId;

use super::rules::PolicyRule;
use super::secret::Secret;
use super::sources::Entry;

/// Everything that can be set, with the defaults filled in.
///
/// Made by [`Config::load`] or [`Config::from_sources`](Config::from_sources). What a role does not use has its
/// default, whatever the sources say: a gateway never sees the address of the database.
#[derive(Clone)]
pub struct Config {
    /// The tenant that this process serves.
    pub tenant: TenantId,
    /// The tenant's database.
    pub database_url: Option<Secret<String>>,
    /// What else is known of the database.
    pub data: DataConfig,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where `/live`, `/ready`, `/metrics` and `/version` answer.
    pub admin_listen: SocketAddr,
    /// The bus of a cluster.
    pub nats: NatsConfig,
    /// The policy service and its clients.
    pub policy: PolicyConfig,
    /// Tokens.
    pub auth: AuthConfig,
    /// What clients get.
    pub realtime: RealtimeConfig,
    /// Publication and slot.
    pub replication: ReplicationConfig,
    /// How the process stops.
    pub shutdown: ShutdownConfig,
    /// Logs.
    pub log: LogConfig,
    /// Collector of traces (OTLP over gRPC); none are sent without it.
    pub otlp_endpoint: Option<String>,
    /// What looked wrong but does not prevent a start: unknown keys, names without effect.
    pub warnings: Vec<String>,
    pub(super) entries: Vec<Entry>,
}

/// By the same entries as [`Config::print`], because an address that is no secret as a whole may hold one.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.entries).finish()
    }
}

/// Of the database, beside its address.
#[derive(Clone, Debug)]
pub struct DataConfig {
    /// Schema of tables that are named without one.
    pub user_schema: String,
    /// File of PEM certificates that the database's certificate may be signed by, beside the public ones.
    pub ssl_root_cert: Option<PathBuf>,
}

/// How to reach NATS and what to ask of it.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// One or more addresses, separated by commas.
    pub url: Option<Secret<String>>,
    /// How many servers store each log.
    pub replicas: u32,
    /// Bound of each log in bytes.
    pub max_bytes: u64,
    /// A `.creds` file with the identity to use.
    pub creds_file: Option<PathBuf>,
}

/// What subscribers get of a DELETE whose old image lacks columns that a decision needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteEvents {
    /// The key columns only.
    Key,
    /// Nothing.
    Strict,
}

/// The policy service and how gateways ask it.
#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// Where the service answers over gRPC.
    pub listen: SocketAddr,
    /// Where gateways find it.
    pub url: Option<String>,
    /// How long a gateway waits for an answer.
    pub timeout: Duration,
    /// How old a decision may grow before it is asked again.
    pub recheck: Duration,
    /// What becomes of a DELETE that cannot be judged in full.
    pub delete_events: DeleteEvents,
    /// Whether the database is made to tell of its changes.
    pub event_trigger: bool,
    /// Who may read which rows, beside what the database says.
    pub rules: Vec<PolicyRule>,
}

/// How tokens are verified.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// Shared secret of HS256, HS384 and HS512 tokens.
    pub jwt_secret: Option<Secret<String>>,
    /// Where the public keys of other tokens are.
    pub jwks_url: Option<String>,
    /// Claims that must have exactly these values.
    pub jwt_claim_validators: BTreeMap<String, serde_json::Value>,
    /// Claim that lists the organisations of a token.
    pub org_claim: String,
    /// Column that names a row's organisation.
    pub org_column: String,
    /// OAuth2 password-grant address that `reactor auth login` asks.
    pub login_url: Option<String>,
    /// Secret of the tokens that manage tenants.
    pub api_jwt_secret: Option<Secret<String>>,
    /// Key that encrypts the tenants' secrets.
    pub secret_key: Option<Secret<[u8; 32]>>,
}

/// Which origins browsers may connect from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All of them.
    Any,
    /// These only.
    Listed(Vec<String>),
}

/// What clients get, and the bounds on it.
#[derive(Clone, Debug)]
pub struct RealtimeConfig {
    /// Whether subscriptions are served at all.
    pub enabled: bool,
    /// How often an idle connection gets a heartbeat.
    pub heartbeat: Duration,
    /// Subscriptions in one connection.
    pub max_subscriptions: usize,
    /// How far back a client can resume.
    pub replay_buffer: Duration,
    /// Largest event; a larger row is cut to its key columns.
    pub max_payload_bytes: usize,
    /// What may wait for one connection before it is closed as too slow.
    pub connection_queue_bytes: usize,
    /// Bound of the ring that resumes are answered from, per tenant.
    pub ring_bytes: usize,
    /// How long a connection may take nothing before it is closed as too slow.
    pub write_stall: Duration,
    /// Connections that a process takes; `None` is as many as there are file descriptors.
    pub max_connections: Option<usize>,
    /// Whether WebSocket frames are compressed for clients that offer it.
    pub websocket_compression: bool,
    /// Which origins browsers may connect from.
    pub cors_origins: CorsOrigins,
}

/// The replicator's publication and slot.
#[derive(Clone, Debug)]
pub struct ReplicationConfig {
    /// Publication to follow.
    pub publication: String,
    /// Whether to create the publication, for all tables, when it does not exist.
    pub create_publication: bool,
    /// Whether to install the schema `realtime` where it is missing.
    pub install_schema: bool,
    /// First part of the slot's name.
    pub slot_prefix: String,
    /// How long the slot stays behind what the log has stored; `None` is the mode's own default.
    pub confirm_lag: Option<Duration>,
    /// The most WAL that this delay may hold back.
    pub confirm_lag_max_bytes: u64,
    /// The most WAL that the slot may hold back before it is dropped and history starts anew.
    pub max_lag_bytes: Option<u64>,
}

/// How the process stops.
#[derive(Clone, Debug)]
pub struct ShutdownConfig {
    /// Over how long connections are closed.
    pub drain: Duration,
    /// How long the process works on after it has reported not to be ready.
    pub ready_delay: Duration,
}

/// Form of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// What is logged and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Level, or directives such as `info,reactor_gateway=debug`.
    pub filter: String,
    /// Form of the lines.
    pub format: LogFormat,
}
