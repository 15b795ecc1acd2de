//! Following a log, over lost connections and consumers.
//!
//! A hole in the sequences of a consumer that lost nothing means that the log no longer holds what is missing.

use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::{self};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::debug;

use super::connect::Link;
use super::consumer::{Consumer, Delivery};
use super::log::{bounds_of, stream_info};
use crate::{BusError, Stored};

/// Bounds of the wait between attempts to make the consumer anew.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Attempts in a row, over a live connection, after which the caller is told.
const ATTEMPTS: u32 = 20;

/// One reader's place in a log.
pub(super) struct Follower {
    context: jetstream::Context,
    link: watch::Receiver<Link>,
    stream: String,
    /// Sequence of what was given out last.
    cursor: u64,
    /// When the log was made. A log of the same name with another time is another log.
    created: Option<DateTime>,
    consumer: Option<Consumer>,
}

impl Follower {
    /// Fails where following cannot begin: there is no log, or not the wanted place in it, or no connection.
    pub(super) async fn start(
        context: jetstream::Context,
        link: watch::Receiver<Link>,
        stream: String,
        after: u64,
    ) -> Result<Self, BusError> {
        let mut follower = Self { context, link, stream, cursor: after, created: None, consumer: None };
        if !follower.link.borrow().connected {
            return Err(BusError::Unavailable("not connected to NATS", None));
        }
        follower.attach().await?;
        Ok(follower)
    }

    /// The next batch, for a stream that unfolds.
    pub(super) async fn step(mut self) -> Result<Option<(Stored, Self)>, BusError> {
        loop {
            let Some(consumer) = &mut self.consumer else {
                self.attach_again().await?;
                continue;
            };
            match consumer.next(&self.context, &mut self.link).await {
                Delivery::Message { seq, .. } if seq <= self.cursor => {}
                Delivery::Message { seq, .. } if seq != self.cursor + 1 => return Err(BusError::Trimmed),
                Delivery::Message { seq, message, .. } => {
                    self.cursor = seq;
                    return Ok(Some((Stored { seq, payload: message.payload }, self)));
                }
                Delivery::Broken(reason) => {
                    debug!(log = self.stream, after = self.cursor, reason, "following anew");
                    self.consumer = None;
                }
            }
        }
    }

    /// Tries until there is a consumer, or the log turns out to be gone or another one.
    async fn attach_again(&mut self) -> Result<(), BusError> {
        let (mut delay, longest) = RETRY_DELAY;
        let mut attempts = 0;
        loop {
            if self.link.wait_for(|link| link.connected).await.is_err() {
                return Err(BusError::Unavailable("the connection was closed", None));
            }
            match self.attach().await {
                // It was there before.
                Err(BusError::NoLog) => return Err(BusError::Reset),
                Err(error @ BusError::Unavailable(..)) => {
                    attempts += 1;
                    if attempts == ATTEMPTS {
                        return Err(error);
                    }
                    debug!(log = self.stream, attempts, error = %error, "cannot follow yet");
                }
                done => return done,
            }
            sleep(delay).await;
            delay = (delay * 2).min(longest);
        }
    }

    async fn attach(&mut self) -> Result<(), BusError> {
        let start = DeliverPolicy::ByStartSequence { start_sequence: self.cursor + 1 };
        let (consumer, _) = Consumer::attach(&self.context, &self.link, &self.stream, start, Vec::new()).await?;
        // Asked for after the consumer was made: if the log is the known one now, it was that when the consumer came.
        self.check_log().await?;
        self.consumer = Some(consumer);
        Ok(())
    }

    async fn check_log(&mut self) -> Result<(), BusError> {
        let info = stream_info(&self.context, &self.stream).await?;
        let bounds = bounds_of(&info.state);
        if *self.created.get_or_insert(info.created) != info.created || bounds.last < self.cursor {
            return Err(BusError::Reset);
        }
        if self.cursor + 1 < bounds.first {
            return Err(BusError::Trimmed);
        }
        Ok(())
    }
}
