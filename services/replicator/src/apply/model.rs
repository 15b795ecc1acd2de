//! What goes into the machine and comes out of it, beside batches and statuses.

use std::time::Duration;

use reactor_model::{Epoch, Lsn, Position};

/// Bounds that the surroundings set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest batch that the log takes.
    pub max_payload_bytes: usize,
    /// How long the flushed LSN trails what is stored.
    pub confirm_lag: Duration,
    /// How far it may trail at most.
    pub confirm_lag_max_bytes: u64,
}

/// Where a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The history that the slot stands for.
    pub epoch: Epoch,
    /// End of the server's log now.
    pub live_from: Lsn,
    /// What the first batch names as the position before it. Changes at or before it are stored already.
    pub previous: Position,
    /// What the slot has confirmed.
    pub confirmed: Lsn,
    /// Whether `previous` is what the log holds (else a mark says that history begins there).
    pub continues: bool,
}

/// Where a message stood in the stream.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Its place in the server's log.
    pub wal_start: Lsn,
    /// When the server sent it, µs since 1970 by the server's clock.
    pub sent_us: i64,
}

/// The four positions of a session, each at most the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lsns {
    /// Read from Postgres.
    pub received: Lsn,
    /// Handed to the log.
    pub published: Lsn,
    /// Stored by the log.
    pub acked: Lsn,
    /// Confirmed to Postgres.
    pub flushed: Lsn,
}

/// Counters of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Changes put into batches.
    pub rows: u64,
    /// Changes that the log had already.
    pub skipped: u64,
    /// Changes that lost values to the bus's maximum payload.
    pub oversize: u64,
    /// Batches handed to the log, marks included.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The stream breaks its own rules, or cannot be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A change, commit or begin where there can be none.
    #[error("replication message out of place")]
    OutOfPlace,
    /// A change of a relation that was not described before.
    #[error("change of relation {0}, which the stream has not described")]
    UnknownRelation(u32),
    /// A row has another number of columns than its relation.
    #[error("row with another number of columns than relation {0}")]
    ColumnCount(u32),
    /// More changes in one transaction than an ordinal can count.
    #[error("transaction with too many changes")]
    TooManyChanges,
    /// A change exceeds the bus's maximum payload even without its values.
    #[error("a change does not fit the bus's maximum payload even without its values: raise the maximum payload")]
    DoesNotFit,
    /// An ack without a batch in flight.
    #[error("acknowledgement without a batch in flight")]
    UnexpectedAck,
}
