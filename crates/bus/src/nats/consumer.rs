//! An ephemeral push consumer of a stream, given up as soon as it may have missed something.
//!
//! Deliveries are numbered by the consumer, one by one, and carry the sequence in the stream. A hole in the first
//! numbers means that a delivery was lost on the way.

use std::time::Duration;

use async_nats::header::NATS_LAST_CONSUMER;
use async_nats::jetstream::consumer::push::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::stream::ConsumerErrorKind;
use async_nats::jetstream::{self};
use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::connect::Link;
use super::error::{refused, unavailable};
use crate::BusError;

/// How often an idle consumer shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Silence after which a consumer is taken for dead.
const SILENCE: Duration = Duration::from_secs(3);
/// How long the server keeps a consumer that nobody listens to.
const INACTIVE: Duration = Duration::from_secs(10);
/// Sent by the server with a heartbeat while it waits for an answer to its flow control; holds where to send it.
const STALLED: &str = "Nats-Consumer-Stalled";

/// A consumer that nobody else reads.
pub(super) struct Consumer {
    messages: Subscriber,
    /// Of the connection that it was made over.
    generation: u64,
    /// The consumer's number of the newest delivery.
    delivered: u64,
}

/// What came from a consumer.
pub(super) enum Delivery {
    /// A message of the stream.
    Message {
        /// With its subject, headers and payload.
        message: Message,
        /// Its sequence in the stream.
        seq: u64,
        /// How many were waiting behind it.
        pending: u64,
    },
    /// The consumer must be made anew, for this reason.
    Broken(&'static str),
}

impl Consumer {
    /// Makes one, of the messages with these subjects, or all; and how many wait for it. [`BusError::NoLog`] when
    /// there is no such stream.
    pub(super) async fn attach(
        context: &jetstream::Context,
        link: &watch::Receiver<Link>,
        stream: &str,
        start: DeliverPolicy,
        subjects: Vec<String>,
    ) -> Result<(Self, u64), BusError> {
        let generation = link.borrow().generation;
        let client = context.client();
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await.map_err(|error| unavailable("cannot subscribe", error))?;
        let config = Config { filter_subjects: subjects, ..consumer_config(inbox, start) };
        let made = context.create_consumer_on_stream(config, stream).await.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(refusal) => refused("the consumer was refused", refusal),
            _ => unavailable("no answer from JetStream", error),
        })?;
        Ok((Self { messages, generation, delivered: 0 }, made.cached_info().num_pending))
    }

    /// The next message. May be dropped while it waits without losing one.
    pub(super) async fn next(&mut self, context: &jetstream::Context, link: &mut watch::Receiver<Link>) -> Delivery {
        let generation = self.generation;
        loop {
            let message = tokio::select! {
                // What has arrived is good, also when the connection is lost meanwhile.
                biased;
                message = timeout(SILENCE, self.messages.next()) => message,
                _ = link.wait_for(|link| !link.connected || link.generation != generation) => {
                    return Delivery::Broken("the connection was lost");
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Delivery::Broken("the subscription ended"),
                Err(_) => return Delivery::Broken("no heartbeat"),
            };
            let delivery = match message.status {
                None => Some(self.take(context, message)),
                Some(StatusCode::IDLE_HEARTBEAT) => self.heartbeat(context, message).await,
                Some(_) => Some(Delivery::Broken("the consumer ended")),
            };
            if let Some(delivery) = delivery {
                return delivery;
            }
        }
    }

    fn take(&mut self, context: &jetstream::Context, message: Message) -> Delivery {
        let message = jetstream::Message { message, context: context.clone() };
        let numbers = message.info().map(|info| (info.consumer_sequence, info.stream_sequence, info.pending));
        let Ok((number, seq, pending)) = numbers else {
            return Delivery::Broken("a delivery without its numbers");
        };
        if number != self.delivered + 1 {
            return Delivery::Broken("a delivery was lost");
        }
        self.delivered = number;
        Delivery::Message { message: message.message, seq, pending }
    }

    /// Answers the server's flow control, and compares the number of the newest delivery.
    async fn heartbeat(&mut self, context: &jetstream::Context, message: Message) -> Option<Delivery> {
        let headers = message.headers.unwrap_or_default();
        let stalled = || text_of(&headers, STALLED).map(async_nats::Subject::from);
        if let Some(answer_to) = message.reply.or_else(stalled)
            && context.client().publish(answer_to, Bytes::new()).await.is_err()
        {
            return Some(Delivery::Broken("cannot answer flow control"));
        }
        let sent = text_of(&headers, NATS_LAST_CONSUMER.as_ref()).and_then(|text| text.parse::<u64>().ok());
        (sent? > self.delivered).then_some(Delivery::Broken("a delivery was lost"))
    }
}

fn consumer_config(deliver_subject: String, deliver_policy: DeliverPolicy) -> Config {
    Config {
        deliver_subject,
        deliver_policy,
        ack_policy: AckPolicy::None,
        replay_policy: ReplayPolicy::Instant,
        max_deliver: 1,
        flow_control: true,
        idle_heartbeat: HEARTBEAT,
        inactive_threshold: INACTIVE,
        num_replicas: 1,
        memory_storage: true,
        ..Config::default()
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(async_nats::HeaderValue::as_str)
}
