//! What goes wrong with Postgres, sorted by what an operator can do about it.

use std::error::Error as _;
use std::fmt;

use tokio_postgres::error::{DbError, SqlState};

/// The sort of a [`PgError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PgErrorKind {
    /// No server there, it is starting or stopping, or the connection broke.
    Unreachable,
    /// TLS could not be agreed on, or the certificate is not good.
    Tls,
    /// User, password or `pg_hba.conf` refuse.
    AuthFailed,
    /// No such database.
    DatabaseMissing,
    /// `wal_level` is not `logical`.
    NotLogical,
    /// The role may not replicate.
    NoReplicationRight,
    /// No replication slot or WAL sender is free.
    SlotsExhausted,
    /// `max_connections` is reached.
    TooManyConnections,
    /// The server did not answer within the deadline.
    Timeout,
    /// Anything else.
    Other,
}

impl PgErrorKind {
    /// What to do about it, in one sentence.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Unreachable => "check that Postgres runs, and that host and port of the database URL are right",
            Self::Tls => "check sslmode and sslrootcert of the database URL, and the server's certificate",
            Self::AuthFailed => "check user and password of the database URL, and pg_hba.conf of the server",
            Self::DatabaseMissing => "create the database, or name an existing one in the database URL",
            Self::NotLogical => "set wal_level = logical in postgresql.conf and restart Postgres",
            Self::NoReplicationRight => "let the role replicate: ALTER ROLE <role> REPLICATION",
            Self::SlotsExhausted => {
                "drop replication slots that are not used, or raise max_replication_slots and max_wal_senders and restart Postgres"
            }
            Self::TooManyConnections => "raise max_connections, or close connections that are not used",
            Self::Timeout => "check the load of Postgres and the network between",
            Self::Other => "see the message and the log of Postgres",
        }
    }

    /// Whether the same attempt may succeed later without anybody changing a setting.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::SlotsExhausted | Self::TooManyConnections | Self::Timeout)
    }

    /// A short name for metric labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::AuthFailed => "auth_failed",
            Self::DatabaseMissing => "database_missing",
            Self::NotLogical => "not_logical",
            Self::NoReplicationRight => "no_replication_right",
            Self::SlotsExhausted => "slots_exhausted",
            Self::TooManyConnections => "too_many_connections",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }
}

/// An error of Postgres or of the way to it. Its text holds no row values and no password.
#[derive(Debug)]
pub struct PgError {
    kind: PgErrorKind,
    sqlstate: Option<String>,
    message: String,
}

impl PgError {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: PgErrorKind, message: impl Into<String>) -> Self {
        Self { kind, sqlstate: None, message: message.into() }
    }

    /// Sorts an `ErrorResponse` by its fields, for connections that speak the protocol themselves.
    #[must_use]
    pub fn from_response(sqlstate: &str, message: &str, routine: Option<&str>) -> Self {
        let state = SqlState::from_code(sqlstate);
        let kind = classify(&state, message, routine);
        // Data and constraint errors quote values.
        let quotes_values = kind == PgErrorKind::Other && (sqlstate.starts_with("22") || sqlstate.starts_with("23"));
        let message = if quotes_values { "a value was refused".to_owned() } else { message.to_owned() };
        Self { kind, sqlstate: Some(sqlstate.to_owned()), message }
    }

    /// The sort of this error.
    #[must_use]
    pub fn kind(&self) -> PgErrorKind {
        self.kind
    }

    /// The five characters that Postgres sent, if it was Postgres.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// What to do about it, in one sentence.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        self.kind.remedy()
    }

    /// Whether the same attempt may succeed later without anybody changing a setting.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.kind.is_transient()
    }

    pub(crate) fn tls(error: impl fmt::Display) -> Self {
        Self::new(PgErrorKind::Tls, error.to_string())
    }
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.sqlstate {
            Some(state) => write!(f, " (SQLSTATE {state})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for PgError {}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            return Self::from(db);
        }
        let text = error.to_string();
        let chain = error.source().map(|source| format!("{text}: {source}")).unwrap_or_else(|| text.clone());
        let kind = if text.contains("TLS") {
            PgErrorKind::Tls
        } else if error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()) {
            PgErrorKind::Unreachable
        } else if text.contains("authentication") || chain.contains("password missing") {
            PgErrorKind::AuthFailed
        } else if text.contains("connecting to server") || text.contains("timeout") {
            PgErrorKind::Unreachable
        } else {
            PgErrorKind::Other
        };
        Self::new(kind, chain)
    }
}

impl From<&DbError> for PgError {
    fn from(error: &DbError) -> Self {
        Self::from_response(error.code().code(), error.message(), error.routine())
    }
}

/// The text of messages depends on the server's language, so the name of the C routine is looked at too.
fn classify(state: &SqlState, message: &str, routine: Option<&str>) -> PgErrorKind {
    let routine = routine.unwrap_or_default();
    let wal_sender = message.contains("max_wal_senders") || routine == "InitWalSnd" || routine == "InitWalSenderSlot";
    match *state {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => PgErrorKind::AuthFailed,
        SqlState::INVALID_CATALOG_NAME => PgErrorKind::DatabaseMissing,
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
            if message.contains("wal_level") || routine == "CheckLogicalDecodingRequirements" =>
        {
            PgErrorKind::NotLogical
        }
        SqlState::INSUFFICIENT_PRIVILEGE
            if message.contains("replication")
                || message.contains("WAL sender")
                || message.contains("walsender")
                || routine == "CheckSlotPermissions"
                || routine == "InitPostgres" =>
        {
            PgErrorKind::NoReplicationRight
        }
        SqlState::CONFIGURATION_LIMIT_EXCEEDED => PgErrorKind::SlotsExhausted,
        SqlState::TOO_MANY_CONNECTIONS if wal_sender => PgErrorKind::SlotsExhausted,
        SqlState::TOO_MANY_CONNECTIONS => PgErrorKind::TooManyConnections,
        SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => PgErrorKind::Timeout,
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => PgErrorKind::Unreachable,
        _ if state.code().starts_with("08") => PgErrorKind::Unreachable,
        _ => PgErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_sorted_by_what_can_be_done() {
        let check = |state: &str, message: &str, routine: Option<&str>, kind: PgErrorKind| {
            let error = PgError::from_response(state, message, routine);
            assert_eq!(error.kind(), kind, "{state} {message}");
            assert!(!error.remedy().is_empty());
        };
        check("28P01", "password authentication failed for user \"u\"", None, PgErrorKind::AuthFailed);
        check("28000", "no pg_hba.conf entry for host", None, PgErrorKind::AuthFailed);
        check("3D000", "database \"x\" does not exist", None, PgErrorKind::DatabaseMissing);
        check("55000", "logical decoding requires wal_level >= logical", None, PgErrorKind::NotLogical);
        check("55000", "…", Some("CheckLogicalDecodingRequirements"), PgErrorKind::NotLogical);
        check("55000", "replication slot is invalid", None, PgErrorKind::Other);
        check("42501", "permission denied to start WAL sender", None, PgErrorKind::NoReplicationRight);
        check("42501", "permission denied for table t", None, PgErrorKind::Other);
        check("53400", "all replication slots are in use", None, PgErrorKind::SlotsExhausted);
        check("53300", "sorry, too many clients already", None, PgErrorKind::TooManyConnections);
        check("53300", "… exceeds max_wal_senders (currently 0)", None, PgErrorKind::SlotsExhausted);
        check("57P03", "the database system is starting up", None, PgErrorKind::Unreachable);
        check("57014", "canceling statement due to statement timeout", None, PgErrorKind::Timeout);
    }

    #[test]
    fn values_do_not_get_out() {
        let error = PgError::from_response("22P02", "invalid input syntax for type integer: \"secret\"", None);
        assert_eq!(error.to_string(), "a value was refused (SQLSTATE 22P02)");
    }
}
