//! The stream of presences: how it is made, and what is written to it.

use std::future::IntoFuture as _;
use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, LastRawMessageErrorKind, StorageType};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use tokio::sync::watch;

use super::super::connect::Link;
use super::super::error::{refused, unavailable};
use super::super::log::{connection_lost, request, stream_info};
use super::super::subject::{PRESENCE, PRESENCE_PREFIX};
use super::names::{OPERATION, deletion};
use crate::BusError;

/// How long a lease lives after its last renewal. With the server's own delay, an owner that died is gone for all well
/// within 15 seconds.
pub(super) const LEASE_TTL: Duration = Duration::from_secs(9);

/// How long deletions and lapses are remembered. A reader that was away compares the whole state; so this needs only to be
/// longer than a message is on its way. The server puts a mark in the place of a deletion that it forgets, and forgets
/// the mark after as long again.
const KEPT: Duration = Duration::from_secs(30);

/// Of all presences of all tenants. What would pass it is refused, and written when there is room.
const MAX_BYTES: i64 = 256 << 20;

/// The least that the server takes; nothing here has an id.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

/// A handle on the stream.
#[derive(Clone)]
pub(super) struct Store {
    pub(super) requests: jetstream::Context,
    pub(super) publishes: jetstream::Context,
    pub(super) link: watch::Receiver<Link>,
    pub(super) replicas: usize,
    /// For a write.
    pub(super) deadline: Duration,
}

/// Why a write did not come about.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The key is not at the revision that was expected.
    Changed,
    /// There is no stream.
    NoStore,
    /// Anything that a later attempt may not meet. It is unknown whether the write was stored.
    Other(BusError),
}

impl From<WriteError> for BusError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Changed => Self::Unavailable("a key of presences was changed by another", None),
            WriteError::NoStore => Self::Unavailable("there is no stream of presences", None),
            WriteError::Other(error) => error,
        }
    }
}

/// Resolves to the revision.
pub(super) type Write = BoxFuture<'static, Result<u64, WriteError>>;

impl Store {
    /// Makes the stream where there is none, and brings it up to date where it is not as it must be. More copies than
    /// are wanted are left alone: another service may want more.
    pub(super) async fn ensure(&self) -> Result<(), BusError> {
        let (action, found) = match stream_info(&self.requests, PRESENCE).await {
            Ok(info) => ("UPDATE", info.config),
            Err(BusError::NoLog) => ("CREATE", Config { name: PRESENCE.to_owned(), ..Config::default() }),
            Err(error) => return Err(error),
        };
        let wanted = self.configured(found.clone());
        if action == "CREATE" || wanted != found {
            let _: Info = request(&self.requests, format!("STREAM.{action}.{PRESENCE}"), &wanted).await?;
        }
        Ok(())
    }

    /// What it must be, on top of what an operator may have set beside it.
    fn configured(&self, found: Config) -> Config {
        Config {
            subjects: vec![format!("{PRESENCE_PREFIX}>")],
            max_messages_per_subject: 1,
            max_bytes: MAX_BYTES,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: self.replicas.max(found.num_replicas),
            allow_rollup: true,
            deny_delete: true,
            allow_direct: true,
            duplicate_window: DUPLICATE_WINDOW,
            allow_message_ttl: true,
            subject_delete_marker_ttl: Some(KEPT),
            ..found
        }
    }

    /// Hands a write over in call order.
    pub(super) async fn write(&self, key: String, payload: Bytes, options: Options) -> Result<Write, WriteError> {
        let link = self.link.borrow().clone();
        if !link.connected {
            return Err(WriteError::Other(BusError::Unavailable("not connected to NATS", None)));
        }
        let mut message = PublishMessage::build().payload(payload);
        if options.delete {
            message = message.headers(deletion(KEPT.as_secs()));
        }
        if let Some(ttl) = options.ttl {
            message = message.ttl(ttl);
        }
        if let Some(revision) = options.expected {
            message = message.expected_last_subject_sequence(revision);
        }
        let lost = connection_lost(self.link.clone(), link.generation);
        let ack = self.publishes.send_publish(key, message).await.map_err(write_error)?;
        Ok(async move {
            tokio::select! {
                biased;
                ack = ack.into_future() => ack.map(|ack| ack.sequence).map_err(write_error),
                // An acknowledgement over a connection that is gone never comes; no need to wait for its deadline.
                () = lost => {
                    Err(WriteError::Other(BusError::Unavailable("the connection was lost before the acknowledgement", None)))
                }
            }
        }
        .boxed())
    }

    /// Writes, and waits until it is stored.
    pub(super) async fn store(&self, key: String, payload: Bytes, options: Options) -> Result<u64, WriteError> {
        self.write(key, payload, options).await?.await
    }

    /// Payload and revision of a key, asked of the leading copy; `None` when it is not there or was deleted.
    pub(super) async fn read(&self, key: &str) -> Result<Option<(Bytes, u64)>, BusError> {
        let store = self.requests.get_stream_no_info(PRESENCE).await;
        let store = store.map_err(|error| unavailable("no answer from JetStream", error))?;
        match store.get_last_raw_message_by_subject(key).await {
            Ok(message) if is_deletion(&message.headers) => Ok(None),
            Ok(message) => Ok(Some((message.payload, message.sequence))),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(refusal) => Err(refused("a read was refused", refusal)),
                LastRawMessageErrorKind::InvalidSubject | LastRawMessageErrorKind::Other => {
                    Err(unavailable("a read failed", error))
                }
            },
        }
    }

    /// Sequence of the newest message.
    pub(super) async fn last_sequence(&self) -> Result<u64, BusError> {
        Ok(stream_info(&self.requests, PRESENCE).await?.state.last_sequence)
    }

    /// Deletes what these subjects hold up to this sequence. Readers are not told.
    pub(super) async fn purge(&self, subjects: String, up_to: u64) -> Result<u64, BusError> {
        let store = self.requests.get_stream_no_info(PRESENCE).await;
        let store = store.map_err(|error| unavailable("no answer from JetStream", error))?;
        let purged = store.purge().filter(subjects).sequence(up_to + 1).await;
        Ok(purged.map_err(|error| unavailable("a purge failed", error))?.purged)
    }
}

fn is_deletion(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some() || headers.get(async_nats::header::NATS_MARKER_REASON).is_some()
}

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// The key is deleted, with this as the last word.
    pub(super) delete: bool,
    /// It lapses.
    pub(super) ttl: Option<Duration>,
    /// Only when the key is at this revision.
    pub(super) expected: Option<u64>,
}

fn write_error(error: PublishError) -> WriteError {
    match error.kind() {
        PublishErrorKind::WrongLastSequence => WriteError::Changed,
        PublishErrorKind::StreamNotFound => WriteError::NoStore,
        PublishErrorKind::TimedOut
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::MaxPayloadExceeded
        | PublishErrorKind::Other => WriteError::Other(unavailable("presences cannot be written", error)),
    }
}
