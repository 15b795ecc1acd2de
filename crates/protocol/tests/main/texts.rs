//! What clients read, to the byte: applications compare these texts. And the names that metrics have for them.

use std::collections::BTreeSet;

use reactor_protocol::texts::{Close, JoinRefusal, Shutdown, TokenRefusal};

fn tokens() -> [(TokenRefusal, &'static str, &'static str); 7] {
    let signer = "Failed to generate JWT signer, check your JWT secret or JWKS configuration";
    let signer_of_key =
        "Failed to generate JWT signer for key ID (kid) \"k\", check your JWT secret or JWKS configuration";
    [
        (TokenRefusal::Expired { seconds_ago: 3 }, "InvalidJWTToken", "Token has expired 3 seconds ago"),
        (TokenRefusal::MissingClaims, "InvalidJWTToken", "Fields `role` and `exp` are required in JWT"),
        (TokenRefusal::BadExpiry, "InvalidJWTToken", "Token expiration time is invalid"),
        (TokenRefusal::Malformed, "MalformedJWT", "The token provided is not a valid JWT"),
        (TokenRefusal::BadSignature, "JwtSignatureError", "Failed to validate JWT signature"),
        (TokenRefusal::NoSigner { kid: None }, "JwtSignerError", signer),
        (TokenRefusal::NoSigner { kid: Some("k".to_owned()) }, "JwtSignerError", signer_of_key),
    ]
}

#[test]
fn joins_are_refused_in_these_words() {
    let name = || "room:1".to_owned();
    for (refusal, text) in [
        (JoinRefusal::TopicRequired, "TopicNameRequired: You must provide a topic name"),
        (JoinRefusal::Unmatched, "unmatched topic"),
        (JoinRefusal::Restarting, "RealtimeRestarting: Realtime is restarting, please standby"),
        (JoinRefusal::TenantUnknown, "TenantNotFound: Tenant with the given ID does not exist"),
        (JoinRefusal::TenantSuspended, "RealtimeDisabledForTenant: Realtime disabled for this tenant"),
        (JoinRefusal::PrivateOnly, "PrivateOnly: This project only allows private channels"),
        (JoinRefusal::TooManyConnections, "ConnectionRateLimitReached: Too many connected users"),
        (JoinRefusal::TooManyJoins, "ClientJoinRateLimitReached: Too many joins per second"),
        (JoinRefusal::TooManyChannels, "ChannelRateLimitReached: Too many channels"),
        (
            JoinRefusal::Unauthorized { name: name() },
            "Unauthorized: You do not have permissions to read from this Channel topic: room:1",
        ),
        (JoinRefusal::PoolExhausted, "IncreaseConnectionPool: Please increase your connection pool size"),
        (
            JoinRefusal::NoConnections,
            "DatabaseLackOfConnections: Database can't accept more connections, Realtime won't connect",
        ),
        (JoinRefusal::Unreachable, "UnableToConnectToProject: Realtime was unable to connect to the project database"),
        (JoinRefusal::Initializing, "InitializingProjectConnection: Realtime is initializing the project connection"),
        (JoinRefusal::QueryCanceled, "QueryCanceled: Query was cancelled, please try again"),
        (
            JoinRefusal::MissingPartition,
            "MissingPartition: Realtime was unable to find the expected messages partition",
        ),
        (JoinRefusal::RpcTimeout, "TimeoutOnRpcCall: Node request timeout"),
        (JoinRefusal::ReplayOfPublic, "UnableToReplayMessages: Replay is not allowed for public channels"),
        (JoinRefusal::ReplayParams, "UnableToReplayMessages: Replay params are not valid"),
        (JoinRefusal::ReplayFailed, "UnableToReplayMessages: Realtime was unable to replay messages"),
        (
            JoinRefusal::SubscribeTimeout { millis: 15_000 },
            "PostgresChangesSubscribeTimeout: Postgres changes were not subscribed within 15000 ms",
        ),
        (JoinRefusal::SubscribeFailed { message: "why".to_owned() }, "RealtimeDisabledForConfiguration: why"),
        (JoinRefusal::Unknown, "Unknown Error on Channel"),
    ] {
        assert_eq!(refusal.to_string(), text);
        assert_eq!(refusal.closes(), matches!(refusal, JoinRefusal::TenantUnknown | JoinRefusal::TooManyJoins));
        check_name(refusal.name());
    }
    for (token, code, text) in tokens() {
        let refusal = JoinRefusal::Token(token);
        assert_eq!(refusal.to_string(), format!("{code}: {text}"));
        check_name(refusal.name());
    }
}

#[test]
fn channels_end_in_these_words() {
    let name = || "room:1".to_owned();
    let mut names = BTreeSet::new();
    for (shutdown, text) in [
        (Shutdown::TooManyMessages, "Too many messages per second"),
        (Shutdown::TooManyPresences, "Too many presence messages per second"),
        (Shutdown::ClientPresenceRate, "Client presence rate limit exceeded"),
        (Shutdown::TrackTooLarge, "Track message size exceeded"),
        (
            Shutdown::Unauthorized { name: name() },
            "You do not have permissions to read from this Channel topic: room:1",
        ),
        (
            Shutdown::PermissionLost { name: name() },
            "You no longer have permission to read from this Channel topic: room:1",
        ),
        (Shutdown::Unreachable, "Realtime was unable to connect to the project database"),
        (Shutdown::QueryCanceled, "Query was cancelled, please try again"),
        (Shutdown::RpcTimeout, "Node request timeout"),
        (Shutdown::ReplicationTimeout, "Replication connection was not established in time"),
    ] {
        assert_eq!(shutdown.to_string(), text);
        check_name(shutdown.name());
        assert!(names.insert(shutdown.name()), "{text}");
    }
    for (token, _, text) in tokens() {
        let shutdown = Shutdown::Token(token);
        assert_eq!(shutdown.to_string(), text);
        check_name(shutdown.name());
    }
}

#[test]
fn closes_have_their_codes() {
    for (close, code) in [
        (Close::Idle, 1000),
        (Close::Away, 1001),
        (Close::FrameTooLarge, 1009),
        (Close::Restart, 1012),
        (Close::SlowConsumer, 1013),
    ] {
        assert_eq!(close.code_and_reason().0, code);
    }
}

fn check_name(name: &str) {
    assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
}
