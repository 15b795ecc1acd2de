//! [`ChangeLog`] on one JetStream stream for each tenant.

use std::future::IntoFuture as _;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{
    Config, DirectGetErrorKind, DiscardPolicy, Info, RawMessageErrorKind, State, StorageType,
};
use async_nats::jetstream::{self};
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use reactor_model::TenantId;
use serde::Serialize;
use tokio::sync::watch;

use super::connect::Link;
use super::error::{append_failed, refused, unavailable};
use super::follow::Follower;
use super::subject::{stream_of, subject_of, subjects_of};
use super::{NatsBus, NatsConfig};
use crate::{Ack, Bounds, BusError, ChangeLog, Stored};

/// What the server counts as payload beside ours: the headers of an append are below 200 bytes.
pub(super) const HEADER_ALLOWANCE: usize = 4 * 1024;
/// The least that the server takes. Ids serve the chain of appends here, not the recognition of duplicates.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

impl ChangeLog for NatsBus {
    /// From the server's greeting; before the first one, from its default of 1 MiB.
    fn max_payload_bytes(&self) -> usize {
        self.client.max_payload().saturating_sub(HEADER_ALLOWANCE)
    }

    fn open<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<(), BusError>> {
        self.open_stream(tenant).boxed()
    }

    fn bounds<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<Bounds, BusError>> {
        async { Ok(bounds_of(&stream_info(&self.requests, &stream_of(tenant)).await?.state)) }.boxed()
    }

    fn append<'a>(
        &'a self,
        tenant: &'a TenantId,
        schema: &'a str,
        table: &'a str,
        payload: Bytes,
        expected_last: u64,
    ) -> BoxFuture<'a, Result<Ack, BusError>> {
        self.send_append(tenant, subject_of(tenant, schema, table), payload, expected_last).boxed()
    }

    fn get<'a>(&'a self, tenant: &'a TenantId, seq: u64) -> BoxFuture<'a, Result<Option<Stored>, BusError>> {
        self.get_one(tenant, seq).boxed()
    }

    fn follow<'a>(
        &'a self,
        tenant: &'a TenantId,
        after: u64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Stored, BusError>>, BusError>> {
        async move {
            let follower = Follower::start(self.requests.clone(), self.link.clone(), stream_of(tenant), after).await?;
            Ok(stream::try_unfold(follower, Follower::step).boxed())
        }
        .boxed()
    }

    fn unavailable(&self) -> Option<String> {
        let link = self.link.borrow();
        match (link.connected, link.problem.as_str()) {
            (true, _) => None,
            (false, "") => Some("not connected to NATS".to_owned()),
            (false, problem) => Some(format!("not connected to NATS: {problem}")),
        }
    }
}

impl NatsBus {
    async fn open_stream(&self, tenant: &TenantId) -> Result<(), BusError> {
        let (name, context) = (stream_of(tenant), &self.requests);
        match stream_info(context, &name).await {
            Ok(info) => {
                let wanted = configured(info.config.clone(), tenant, &self.config);
                if wanted != info.config {
                    let _: Info = request(context, format!("STREAM.UPDATE.{name}"), &wanted).await?;
                }
            }
            Err(BusError::NoLog) => {
                let wanted = configured(Config { name: name.clone(), ..Config::default() }, tenant, &self.config);
                let _: Info = request(context, format!("STREAM.CREATE.{name}"), &wanted).await?;
            }
            Err(error) => return Err(error),
        }
        self.chains.reset(tenant);
        Ok(())
    }

    async fn send_append(
        &self,
        tenant: &TenantId,
        subject: String,
        payload: Bytes,
        expected_last: u64,
    ) -> Result<Ack, BusError> {
        if payload.len() > self.max_payload_bytes() {
            return Err(BusError::TooLarge(payload.len()));
        }
        let link = self.link.borrow().clone();
        if !link.connected {
            return Err(BusError::Unavailable("not connected to NATS", None));
        }
        let place = self.chains.extend(tenant, expected_last, link.generation)?;
        let mut message =
            PublishMessage::build().payload(payload).message_id(&place.id).expected_last_sequence(expected_last);
        if let Some(previous) = &place.previous {
            message = message.expected_last_message_id(previous);
        }
        let lost = connection_lost(self.link.clone(), link.generation);
        let sent = self.publishes.send_publish(subject, message).await;
        let ack = sent.map_err(|error| append_failed(error, expected_last)).inspect_err(|error| place.fail(error))?;
        Ok(async move {
            let outcome = tokio::select! {
                biased;
                ack = ack.into_future() => ack.map(|ack| ack.sequence).map_err(|error| append_failed(error, expected_last)),
                // An acknowledgement over a connection that is gone never comes; no need to wait for its deadline.
                () = lost => Err(BusError::Unavailable("the connection was lost before the acknowledgement", None)),
            };
            match &outcome {
                Ok(seq) => place.acknowledge(*seq),
                Err(error) => place.fail(error),
            }
            outcome
        }
        .boxed())
    }

    /// Any copy of the log may answer first. What that one does not have, the leading one is asked for.
    async fn get_one(&self, tenant: &TenantId, seq: u64) -> Result<Option<Stored>, BusError> {
        if seq == 0 {
            // The server takes that for a request without a sequence.
            return Ok(None);
        }
        let name = stream_of(tenant);
        let log = self.requests.get_stream_no_info(&name).await.map_err(|error| unavailable("get failed", error))?;
        match log.direct_get(seq).await {
            Ok(message) => return Ok(Some(Stored { seq, payload: message.payload })),
            Err(error) if error.kind() == DirectGetErrorKind::TimedOut => return Err(unavailable("get failed", error)),
            Err(_) => {}
        }
        match log.get_raw_message(seq).await {
            Ok(message) => Ok(Some(Stored { seq, payload: message.payload })),
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(None),
                RawMessageErrorKind::JetStream(refusal) => Err(refused("get was refused", refusal)),
                RawMessageErrorKind::InvalidSubject | RawMessageErrorKind::Other => {
                    Err(unavailable("get failed", error))
                }
            },
        }
    }
}

/// What the log must be, on top of what an operator may have set beside it (placement, compression).
fn configured(found: Config, tenant: &TenantId, config: &NatsConfig) -> Config {
    Config {
        subjects: vec![subjects_of(tenant)],
        max_age: config.retention,
        max_bytes: i64::try_from(config.max_bytes).unwrap_or(i64::MAX),
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        num_replicas: config.replicas,
        allow_direct: true,
        duplicate_window: DUPLICATE_WINDOW.min(config.retention),
        ..found
    }
}

/// What the server knows of a stream; [`BusError::NoLog`] when it is not there.
pub(super) async fn stream_info(context: &jetstream::Context, name: &str) -> Result<Info, BusError> {
    request(context, format!("STREAM.INFO.{name}"), &()).await
}

/// An empty log that nothing was ever stored in says 0 for both ends.
pub(super) fn bounds_of(state: &State) -> Bounds {
    let first = if state.messages == 0 { state.last_sequence + 1 } else { state.first_sequence };
    Bounds { first, last: state.last_sequence }
}

pub(super) async fn request<T: Serialize + Sync>(
    context: &jetstream::Context,
    subject: String,
    body: &T,
) -> Result<Info, BusError> {
    match context.request(subject, body).await.map_err(|error| unavailable("no answer from JetStream", error))? {
        Response::Ok(answer) => Ok(answer),
        Response::Err { error } => Err(refused("refused by JetStream", error)),
    }
}

/// Ends when the connection of this generation is no more.
pub(super) async fn connection_lost(mut link: watch::Receiver<Link>, generation: u64) {
    // An error means that the client is gone, and its connection with it.
    let _ = link.wait_for(|link| !link.connected || link.generation != generation).await;
}
