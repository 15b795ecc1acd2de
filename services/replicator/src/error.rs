//! Why a session ended, and what follows from it.

use reactor_bus::BusError;
use reactor_model::EnvelopeError;
use reactor_pg::{PgError, PgErrorKind};
use reactor_runtime::shutdown::error_chain;

use crate::apply::ApplyError;
use crate::pgoutput::DecodeError;
use crate::publication::PublicationError;
use crate::source::SourceError;

/// A session could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Postgres.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The publication.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// The log.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The newest batch in the log cannot be read.
    #[error("the newest batch of the log cannot be read")]
    Log(#[from] EnvelopeError),
    /// A message of the stream cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The stream breaks its own rules, or cannot be carried.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Somebody else uses the slot.
    #[error("replication slot {slot} is in use by process {pid}: another replicator of this tenant is connected")]
    SlotInUse {
        /// The slot.
        slot: String,
        /// The server's process.
        pid: i32,
    },
    /// The slot cannot decode its next change: the publication did not exist then.
    #[error("the publication did not exist at the place that replication slot {slot} has to decode next")]
    PublicationMissingThen {
        /// The slot.
        slot: String,
    },
    /// The slot holds back more WAL than is allowed.
    #[error("replication slot {slot} holds back {bytes} bytes of log, more than allowed")]
    LagsTooFar {
        /// The slot.
        slot: String,
        /// What it holds back.
        bytes: u64,
    },
    /// Nothing was heard for too long.
    #[error("postgres has been silent for too long")]
    Silent,
    /// The session's thread could not be started, or panicked.
    #[error("the session's thread failed")]
    Thread,
}

impl From<PgError> for SessionError {
    fn from(error: PgError) -> Self {
        Self::Source(error.into())
    }
}

impl SessionError {
    /// Whether another writer is at work, so that the lease has to be taken again.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Bus(BusError::Fenced | BusError::LeaseLost))
    }

    /// One sentence for `/ready` and the log: what is wrong and, where that is known, how to mend it.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Source(SourceError::Pg(error)) | Self::Publication(PublicationError::Pg(error)) => pg_reason(error),
            other => error_chain(other),
        }
    }
}

fn pg_reason(error: &PgError) -> String {
    match error.kind() {
        PgErrorKind::Other => error.to_string(),
        PgErrorKind::Unreachable
        | PgErrorKind::Tls
        | PgErrorKind::AuthFailed
        | PgErrorKind::DatabaseMissing
        | PgErrorKind::NotLogical
        | PgErrorKind::NoReplicationRight
        | PgErrorKind::SlotsExhausted
        | PgErrorKind::TooManyConnections
        | PgErrorKind::Timeout => format!("{error}; {}", error.remedy()),
    }
}
