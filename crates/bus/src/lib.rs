//! What carries changes, broadcasts and presences between the services, and who may write.
//!
//! Four small traits, each with an implementation in memory (one process) and on NATS; both pass the
//! suite in `tests/bus/suite`. Nothing above this crate knows which one it runs on.

mod board;
mod buffer;
mod channel;
pub mod memory;
pub mod nats;

pub use buffer::Backlog;
pub use channel::{Channel, EntryId, OwnerId, Scope};

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use reactor_model::TenantId;

/// Locks, also after another holder panicked: every change under these locks is complete or not begun.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One stored batch with its place in the tenant's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Sequence in the log: consecutive, from 1, private to the bus.
    pub seq: u64,
    /// The encoded batch (`reactor_model::Batch`).
    pub payload: Bytes,
}

/// The sequences that a log holds now. Empty when `first > last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Oldest sequence that has not been trimmed.
    pub first: u64,
    /// Newest sequence ever stored; 0 in a new log.
    pub last: u64,
}

/// Resolves to the sequence when the batch is stored.
pub type Ack = BoxFuture<'static, Result<u64, BusError>>;

/// A tenant's durable, ordered log of batches, kept for the replay window.
pub trait ChangeLog: Send + Sync + fmt::Debug {
    /// Largest payload in bytes that [`ChangeLog::append`] takes.
    fn max_payload_bytes(&self) -> usize;

    /// Begins a writer's session: creates the tenant's log when it does not exist, and applies the retention to it.
    /// Only writers call it.
    fn open<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<(), BusError>>;

    /// What the log holds now; [`BusError::NoLog`] when it does not exist.
    fn bounds<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<Bounds, BusError>>;

    /// Hands a batch over in call order; the returned [`Ack`] resolves when it is stored.
    ///
    /// `expected_last` is the sequence that must be the newest when this one is stored, so that a writer that has
    /// been replaced cannot write: [`BusError::Fenced`]. Appends may be pipelined: the next call may be made before
    /// the ack of the one before. An append is stored only behind the one that this writer handed over before it.
    ///
    /// After any failure but [`BusError::TooLarge`] it is unknown what of the pipeline is stored, and nothing more is
    /// taken: the writer calls [`ChangeLog::open`] again, and goes on behind the newest of [`ChangeLog::bounds`].
    fn append<'a>(
        &'a self,
        tenant: &'a TenantId,
        schema: &'a str,
        table: &'a str,
        payload: Bytes,
        expected_last: u64,
    ) -> BoxFuture<'a, Result<Ack, BusError>>;

    /// The batch at `seq`; `None` when it was trimmed or is not there yet.
    fn get<'a>(&'a self, tenant: &'a TenantId, seq: u64) -> BoxFuture<'a, Result<Option<Stored>, BusError>>;

    /// Every batch after `after`, in order, as they are stored, without end.
    ///
    /// Ends with an error when the connection is lost for good, when a sequence was trimmed before it could be read
    /// ([`BusError::Trimmed`]), or when the log was made anew ([`BusError::Reset`]); the caller follows again.
    ///
    /// A log whose newest batches were lost in a crash and which has grown again may hold others at sequences that the
    /// caller has seen. The bus cannot tell; the position that each batch names as the one before it does.
    fn follow<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Stored, BusError>>, BusError>>;

    /// Why the bus cannot be used right now, for `/ready`; `None` when it can.
    fn unavailable(&self) -> Option<String>;
}

/// The right to be the only writer of something, held by renewing it.
pub trait Leases: Send + Sync + fmt::Debug {
    /// Takes the lease when nobody holds it; `None` when somebody does. It lapses `ttl` after the last renewal
    /// (an implementation may use one fixed ttl for all leases).
    fn try_acquire<'a>(
        &'a self,
        key: &'a str,
        holder: &'a str,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Option<Lease>, BusError>>;

    /// Renews; [`BusError::LeaseLost`] when it lapsed or was taken.
    ///
    /// After [`BusError::Unavailable`] the lease may still be held: try again. A holder that has not renewed for as
    /// long as the lease lives must take it for lost.
    fn renew<'a>(&'a self, lease: &'a mut Lease) -> BoxFuture<'a, Result<(), BusError>>;

    /// Gives it up at once, so that another need not wait for it to lapse.
    fn release(&self, lease: Lease) -> BoxFuture<'_, Result<(), BusError>>;

    /// Whether holders in other processes are kept out as well. Only then may a holder end the database session of a
    /// predecessor.
    fn spans_processes(&self) -> bool;
}

/// A lease that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is for.
    pub key: String,
    /// Who holds it.
    pub holder: String,
    /// The implementation's proof of holding it.
    pub revision: u64,
}

/// Resolves when the bus has taken what was handed over; dropping it changes nothing about that.
pub type Taken = BoxFuture<'static, Result<(), BusError>>;

/// Messages to whoever listens to a channel now. Nothing is kept.
pub trait PubSub: Send + Sync + fmt::Debug {
    /// Largest payload in bytes that [`PubSub::publish`] takes.
    fn max_message_bytes(&self) -> usize;

    /// Hands a message over; messages that were handed over one after the other reach each subscription in that order,
    /// also those of this publisher's own process.
    ///
    /// The [`Taken`] resolves when the bus has the message and will deliver it to every active subscription that it
    /// can reach. After an error it is unknown whether the message will be delivered, but for [`BusError::TooLarge`].
    fn publish<'a>(&'a self, channel: &'a Channel, payload: Bytes) -> BoxFuture<'a, Result<Taken, BusError>>;

    /// Everything that is published to the channel after this has resolved. Dropping the stream ends the subscription;
    /// the stream ends by itself only when the bus is closed.
    ///
    /// In a cluster of bus servers, those that publishers are connected to learn of a new subscription a moment later.
    fn subscribe<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<BoxStream<'static, Received>, BusError>>;
}

/// What comes out of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message's payload.
    Message(Bytes),
    /// The reader was behind by more than the [`Backlog`]: this many messages were dropped at this place.
    Lagged(u64),
    /// Messages may have been lost on the way since the gap before, or the start. The subscription is active again:
    /// nothing is missing after this.
    Gap,
}

/// Who is where: entries that live as long as their owner, and everybody's view of them.
///
/// An owner is one run of one process. It shows that it lives by one write in an interval, whatever the number of its
/// entries; those of an owner that stops doing so are gone for all within 15 seconds.
pub trait Presence: Send + Sync + fmt::Debug {
    /// Largest value in bytes that [`PresenceOwner::put`] takes. Names of channel and entry count as well.
    fn max_value_bytes(&self) -> usize;

    /// Begins an owner. It keeps itself alive in the background until it leaves; dropping it is like a crash.
    ///
    /// Needs no connection: what is put before there is one is written when there is. Must be called inside a runtime.
    fn register(&self, owner: OwnerId) -> Arc<dyn PresenceOwner>;

    /// First a [`PresenceEvent::Put`] for each entry that is there, then [`PresenceEvent::Current`], then what changes,
    /// without a hole between. Resolves when the state is known, and fails with [`BusError::Unavailable`] when it
    /// cannot be known yet.
    ///
    /// The stream stays true over lost connections: what changed meanwhile comes as changes. It does not end before the
    /// bus is closed. A reader that is behind gets the newest of each entry and not what it replaced, so that what
    /// waits for it is bounded by the entries that there are and those that it was told of.
    fn watch<'a>(&'a self, watched: Watched<'a>) -> BoxFuture<'a, Result<BoxStream<'static, PresenceEvent>, BusError>>;
}

/// The entries of one process. Their number is for the caller to bound.
pub trait PresenceOwner: Send + Sync + fmt::Debug {
    /// The owner that its entries carry.
    fn id(&self) -> &OwnerId;

    /// Sets an entry. Entries of two owners are two, also under one key.
    ///
    /// Calls take effect in their order. Unless the answer is [`BusError::TooLarge`], the entry is kept and written
    /// until [`PresenceOwner::remove`]: after lost connections, a lapse of the owner or a loss of the store as well. So
    /// [`BusError::Unavailable`] says only that it has not been stored yet.
    fn put(&self, channel: &Channel, key: &str, value: Bytes) -> Taken;

    /// Removes an entry, with the same guarantee. An entry that is not there is no error.
    fn remove(&self, channel: &Channel, key: &str) -> Taken;

    /// Removes every entry at once and ends the owner: what is put later is refused.
    fn leave(&self) -> BoxFuture<'_, Result<(), BusError>>;
}

/// What to watch.
#[derive(Clone, Copy, Debug)]
pub enum Watched<'a> {
    /// The entries of one channel.
    Channel(&'a Channel),
    /// The entries of all channels of a tenant.
    Tenant(&'a TenantId),
}

/// What a watcher of presences sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceEvent {
    /// An entry is there, or was given another value since the watcher was told of it.
    Put {
        /// Which one.
        id: EntryId,
        /// Its value.
        value: Bytes,
        /// Grows with each change of the entry, as long as the store lives.
        revision: u64,
    },
    /// An entry that the watcher was told of is gone: removed, or its owner is.
    Removed {
        /// Which one.
        id: EntryId,
        /// The revision that it had.
        revision: u64,
    },
    /// The state at the start is complete. Comes once.
    Current,
}

/// Why a bus operation failed.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The tenant's log does not exist (no replicator has run yet).
    #[error("the tenant has no log yet")]
    NoLog,
    /// Another writer has written: this one must stop.
    #[error("another writer has appended to the log")]
    Fenced,
    /// The lease lapsed or was taken.
    #[error("the lease was lost")]
    LeaseLost,
    /// The wanted sequence is older than what the log holds.
    #[error("the log was trimmed past the wanted place")]
    Trimmed,
    /// The log was deleted and made anew: sequences start again.
    #[error("the log was made anew")]
    Reset,
    /// A payload is larger than the trait's largest.
    #[error("payload of {0} bytes is too large for the bus")]
    TooLarge(usize),
    /// No answer, or a refusal that a later try may not get.
    #[error("the bus is unavailable: {0}")]
    Unavailable(&'static str, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
}
