//! Every text that clients see in replies, `system` messages and closes, in one place. Applications compare some of them, so
//! they are what they are to the byte.

use std::fmt;

/// The postgres subscription is live.
pub const SUBSCRIBED: &str = "Subscribed to PostgreSQL";

/// Broadcasts of the database are being followed (`config.broadcast.replication_ready`).
pub const REPLICATION_READY: &str = "Replication connection established";

/// Sent on every joined topic before the connection is closed on purpose.
pub const DISCONNECT: &str = "Server requested disconnect";

/// Sent before a slow reader is closed.
pub const SLOW_CONSUMER: &str = "SlowConsumer: the connection reads too slowly and is closed";

/// `reason` of the reply for a topic that is not joined.
pub const UNMATCHED_TOPIC: &str = "unmatched topic";

/// `reason` of the reply to a track whose payload is no object.
pub const TRACK_NOT_A_MAP: &str = "Presence track payload must be a map";

/// `error` of the acknowledgement of a broadcast that is too large.
pub const PAYLOAD_TOO_LARGE: &str = "payload_size_exceeded";

/// `message` of the `system` message when the past is no longer to be had; the reason follows.
pub const RESYNC: &str = "resync: ";

/// What is wrong with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// It ended this many seconds ago.
    Expired {
        /// Whole seconds since then.
        seconds_ago: u64,
    },
    /// A claim that is needed is missing.
    MissingClaims,
    /// `exp` is no time.
    BadExpiry,
    /// Not a token at all.
    Malformed,
    /// The signature is not of a known key.
    BadSignature,
    /// No key to verify it with; names the key id where the token has one.
    NoSigner {
        /// The token's `kid`.
        kid: Option<String>,
    },
}

impl TokenRefusal {
    /// The name before the text in join replies.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } | Self::MissingClaims | Self::BadExpiry => "InvalidJWTToken",
            Self::Malformed => "MalformedJWT",
            Self::BadSignature => "JwtSignatureError",
            Self::NoSigner { .. } => "JwtSignerError",
        }
    }

    /// A name for metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "token_expired",
            Self::MissingClaims => "token_claims_missing",
            Self::BadExpiry => "token_expiry_invalid",
            Self::Malformed => "token_malformed",
            Self::BadSignature => "token_signature",
            Self::NoSigner { .. } => "token_key_unknown",
        }
    }
}

impl fmt::Display for TokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { seconds_ago } => write!(f, "Token has expired {seconds_ago} seconds ago"),
            Self::MissingClaims => f.write_str("Fields `role` and `exp` are required in JWT"),
            Self::BadExpiry => f.write_str("Token expiration time is invalid"),
            Self::Malformed => f.write_str("The token provided is not a valid JWT"),
            Self::BadSignature => f.write_str("Failed to validate JWT signature"),
            Self::NoSigner { kid } => {
                f.write_str("Failed to generate JWT signer")?;
                if let Some(kid) = kid {
                    write!(f, " for key ID (kid) {kid:?}")?;
                }
                f.write_str(", check your JWT secret or JWKS configuration")
            }
        }
    }
}

/// Why a join is refused. The text is the `reason` of the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinRefusal {
    /// The topic names no channel.
    TopicRequired,
    /// The topic is that of heartbeats, which cannot be joined.
    Unmatched,
    /// The server is leaving.
    Restarting,
    /// No such tenant. Closes the connection.
    TenantUnknown,
    /// The tenant is switched off.
    TenantSuspended,
    /// The tenant has private channels only.
    PrivateOnly,
    /// The tenant has too many connections.
    TooManyConnections,
    /// The tenant has too many joins. Closes the connection.
    TooManyJoins,
    /// The connection has too many channels.
    TooManyChannels,
    /// The token.
    Token(TokenRefusal),
    /// The policies let the role read neither broadcasts nor presences of the topic.
    Unauthorized {
        /// The channel's name, without `realtime:`.
        name: String,
    },
    /// No connection was free for the policies' question.
    PoolExhausted,
    /// The database refuses connections.
    NoConnections,
    /// The database cannot be reached, or nobody answers who may read.
    Unreachable,
    /// The server is coming up.
    Initializing,
    /// The database took too long.
    QueryCanceled,
    /// `realtime.messages` has no partition for today.
    MissingPartition,
    /// Another part of the cluster did not answer.
    RpcTimeout,
    /// Replay was asked of a public channel.
    ReplayOfPublic,
    /// Replay was asked without a time.
    ReplayParams,
    /// The past could not be read.
    ReplayFailed,
    /// `wait`: the subscription was not made in time.
    SubscribeTimeout {
        /// The time that the client gave it.
        millis: u128,
    },
    /// `wait`: the subscription cannot be made.
    SubscribeFailed {
        /// What would be in the `system` message.
        message: String,
    },
    /// Anything else.
    Unknown,
}

impl JoinRefusal {
    /// Whether the connection is closed after the reply.
    #[must_use]
    pub const fn closes(&self) -> bool {
        matches!(self, Self::TenantUnknown | Self::TooManyJoins)
    }

    /// A name for metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TopicRequired => "topic_required",
            Self::Unmatched => "unmatched",
            Self::Restarting => "restarting",
            Self::TenantUnknown => "tenant_unknown",
            Self::TenantSuspended => "tenant_suspended",
            Self::PrivateOnly => "private_only",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyJoins => "too_many_joins",
            Self::TooManyChannels => "too_many_channels",
            Self::Token(token) => token.name(),
            Self::Unauthorized { .. } => "unauthorized",
            Self::PoolExhausted => "pool_exhausted",
            Self::NoConnections => "no_connections",
            Self::Unreachable => "unreachable",
            Self::Initializing => "initializing",
            Self::QueryCanceled => "query_canceled",
            Self::MissingPartition => "missing_partition",
            Self::RpcTimeout => "rpc_timeout",
            Self::ReplayOfPublic => "replay_of_public",
            Self::ReplayParams => "replay_params",
            Self::ReplayFailed => "replay_failed",
            Self::SubscribeTimeout { .. } => "subscribe_timeout",
            Self::SubscribeFailed { .. } => "subscribe_failed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for JoinRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TopicRequired => "TopicNameRequired: You must provide a topic name",
            Self::Unmatched => UNMATCHED_TOPIC,
            Self::Restarting => "RealtimeRestarting: Realtime is restarting, please standby",
            Self::TenantUnknown => "TenantNotFound: Tenant with the given ID does not exist",
            Self::TenantSuspended => "RealtimeDisabledForTenant: Realtime disabled for this tenant",
            Self::PrivateOnly => "PrivateOnly: This project only allows private channels",
            Self::TooManyConnections => "ConnectionRateLimitReached: Too many connected users",
            Self::TooManyJoins => "ClientJoinRateLimitReached: Too many joins per second",
            Self::TooManyChannels => "ChannelRateLimitReached: Too many channels",
            Self::Token(token) => return write!(f, "{}: {token}", token.code()),
            Self::Unauthorized { name } => {
                return write!(f, "Unauthorized: You do not have permissions to read from this Channel topic: {name}");
            }
            Self::PoolExhausted => "IncreaseConnectionPool: Please increase your connection pool size",
            Self::NoConnections => {
                "DatabaseLackOfConnections: Database can't accept more connections, Realtime won't connect"
            }
            Self::Unreachable => "UnableToConnectToProject: Realtime was unable to connect to the project database",
            Self::Initializing => "InitializingProjectConnection: Realtime is initializing the project connection",
            Self::QueryCanceled => "QueryCanceled: Query was cancelled, please try again",
            Self::MissingPartition => "MissingPartition: Realtime was unable to find the expected messages partition",
            Self::RpcTimeout => "TimeoutOnRpcCall: Node request timeout",
            Self::ReplayOfPublic => "UnableToReplayMessages: Replay is not allowed for public channels",
            Self::ReplayParams => "UnableToReplayMessages: Replay params are not valid",
            Self::ReplayFailed => "UnableToReplayMessages: Realtime was unable to replay messages",
            Self::SubscribeTimeout { millis } => {
                return write!(
                    f,
                    "PostgresChangesSubscribeTimeout: Postgres changes were not subscribed within {millis} ms"
                );
            }
            Self::SubscribeFailed { message } => return write!(f, "RealtimeDisabledForConfiguration: {message}"),
            Self::Unknown => "Unknown Error on Channel",
        };
        f.write_str(text)
    }
}

/// Why a joined channel is ended: the `message` of a `system` error, which `phx_close` follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// The tenant's message rate.
    TooManyMessages,
    /// The tenant's presence rate.
    TooManyPresences,
    /// The connection's presence rate.
    ClientPresenceRate,
    /// A tracked payload that is too large.
    TrackTooLarge,
    /// The token ended, or its replacement is refused.
    Token(TokenRefusal),
    /// The new token may not read the channel.
    Unauthorized {
        /// The channel's name, without `realtime:`.
        name: String,
    },
    /// A permission to read is gone.
    PermissionLost {
        /// The channel's name, without `realtime:`.
        name: String,
    },
    /// The database cannot be reached, or nobody answers who may read.
    Unreachable,
    /// The database took too long.
    QueryCanceled,
    /// Another part of the cluster did not answer.
    RpcTimeout,
    /// The broadcasts of the database were not followed in time.
    ReplicationTimeout,
}

impl Shutdown {
    /// A name for metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TooManyMessages => "too_many_messages",
            Self::TooManyPresences => "too_many_presences",
            Self::ClientPresenceRate => "client_presence_rate",
            Self::TrackTooLarge => "track_too_large",
            Self::Token(token) => token.name(),
            Self::Unauthorized { .. } => "unauthorized",
            Self::PermissionLost { .. } => "permission_lost",
            Self::Unreachable => "unreachable",
            Self::QueryCanceled => "query_canceled",
            Self::RpcTimeout => "rpc_timeout",
            Self::ReplicationTimeout => "replication_timeout",
        }
    }
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TooManyMessages => "Too many messages per second",
            Self::TooManyPresences => "Too many presence messages per second",
            Self::ClientPresenceRate => "Client presence rate limit exceeded",
            Self::TrackTooLarge => "Track message size exceeded",
            Self::Token(token) => return token.fmt(f),
            Self::Unauthorized { name } => {
                return write!(f, "You do not have permissions to read from this Channel topic: {name}");
            }
            Self::PermissionLost { name } => {
                return write!(f, "You no longer have permission to read from this Channel topic: {name}");
            }
            Self::Unreachable => "Realtime was unable to connect to the project database",
            Self::QueryCanceled => "Query was cancelled, please try again",
            Self::RpcTimeout => "Node request timeout",
            Self::ReplicationTimeout => "Replication connection was not established in time",
        };
        f.write_str(text)
    }
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// No frame came for the idle time, or no channel was joined for long.
    Idle,
    /// A refusal that ends the connection.
    Away,
    /// The frame was larger than is allowed.
    FrameTooLarge,
    /// The server leaves, or the tenant changed.
    Restart,
    /// The reader is too slow.
    SlowConsumer,
}

impl Close {
    /// The close code and reason.
    #[must_use]
    pub const fn code_and_reason(self) -> (u16, &'static str) {
        match self {
            Self::Idle => (1000, "idle"),
            Self::Away => (1001, ""),
            Self::FrameTooLarge => (1009, "frame too large"),
            Self::Restart => (1012, "service restart"),
            Self::SlowConsumer => (1013, "slow consumer"),
        }
    }
}
