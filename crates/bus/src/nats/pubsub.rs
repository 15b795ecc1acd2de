//! [`PubSub`] on core NATS: a subject for each channel, nothing stored.

use std::sync::Arc;

use async_nats::Subscriber;
use async_nats::client::PublishErrorKind;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, FutureExt, pending};
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::task::unconstrained;

use super::NatsBus;
use super::connect::Link;
use super::error::unavailable;
use super::round_trip::{Connection, RoundTrips};
use super::subject::messages_of;
use super::task::Task;
use crate::buffer::{Buffer, Reader};
use crate::{BusError, Channel, PubSub, Received, Taken};

/// What the client holds for one subscription at most.
const CLIENT_CAPACITY: usize = 1024 * 64;

impl PubSub for NatsBus {
    /// From the server's greeting; before the first one, from its default of 1 MiB.
    fn max_message_bytes(&self) -> usize {
        self.client.max_payload()
    }

    fn publish<'a>(&'a self, channel: &'a Channel, payload: Bytes) -> BoxFuture<'a, Result<Taken, BusError>> {
        self.send_message(channel, payload).boxed()
    }

    fn subscribe<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<BoxStream<'static, Received>, BusError>> {
        self.start_subscription(channel).boxed()
    }
}

impl NatsBus {
    async fn send_message(&self, channel: &Channel, payload: Bytes) -> Result<Taken, BusError> {
        let size = payload.len();
        if size > self.max_message_bytes() {
            return Err(BusError::TooLarge(size));
        }
        self.need_connection()?;
        let over = Connection::of(&self.client);
        self.client.publish(messages_of(channel), payload).await.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => BusError::TooLarge(size),
            PublishErrorKind::InvalidSubject | PublishErrorKind::Send => unavailable("cannot publish", error),
        })?;
        let round_trips = Arc::clone(&self.round_trips);
        // Asks only when it is awaited: who needs no answer causes no round trip.
        Ok(async move {
            if round_trips.complete().await? != over {
                return Err(BusError::Unavailable("the connection was lost before the message was taken", None));
            }
            Ok(())
        }
        .boxed())
    }

    async fn start_subscription(&self, channel: &Channel) -> Result<BoxStream<'static, Received>, BusError> {
        self.need_connection()?;
        let seen = Marks::of(&self.link.borrow());
        let subscribed = self.client.subscribe(messages_of(channel)).await;
        let messages = subscribed.map_err(|error| unavailable("cannot subscribe", error))?;
        // Also when the connection is another one by now: the client subscribes anew before it sends anything else.
        self.round_trips.complete().await?;
        let buffer = Buffer::new(self.config.backlog);
        let drain = Drain {
            messages,
            buffer: Arc::clone(&buffer),
            link: self.link.clone(),
            round_trips: Arc::clone(&self.round_trips),
            seen,
        };
        Ok(Reader { buffer, _guard: Task::spawn(drain.run()) }.boxed())
    }

    pub(super) fn need_connection(&self) -> Result<(), BusError> {
        match self.link.borrow().connected {
            true => Ok(()),
            false => Err(BusError::Unavailable("not connected to NATS", None)),
        }
    }
}

/// What changes when messages may have been lost.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Marks {
    generation: u64,
    dropped: u64,
}

impl Marks {
    fn of(link: &Link) -> Self {
        Self { generation: link.generation, dropped: link.dropped }
    }
}

/// Moves messages from the client, whose buffer drops without a word and counts no bytes, to one that does not.
struct Drain {
    messages: Subscriber,
    buffer: Arc<Buffer>,
    link: watch::Receiver<Link>,
    round_trips: Arc<RoundTrips>,
    /// The marks up to which gaps have been told.
    seen: Marks,
}

impl Drain {
    async fn run(mut self) {
        // Whether the subscription is active again is being asked, since these marks.
        let mut asking: Option<(Marks, BoxFuture<'static, bool>)> = None;
        loop {
            let active = async {
                match &mut asking {
                    Some((_, answer)) => answer.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                message = self.messages.next() => match message {
                    Some(message) => self.buffer.push(message.payload),
                    None => break,
                },
                changed = self.link.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    asking = self.ask();
                }
                active = active => {
                    match asking.take() {
                        Some((marks, _)) if active => {
                            self.seen = marks;
                            self.take_over();
                            self.buffer.gap();
                        }
                        _ => asking = self.ask(),
                    }
                }
            }
        }
        self.buffer.close();
    }

    /// What the client has, so that it comes before the gap: some of it may be from before what was lost.
    fn take_over(&mut self) {
        for _ in 0..CLIENT_CAPACITY {
            match unconstrained(self.messages.next()).now_or_never() {
                Some(Some(message)) => self.buffer.push(message.payload),
                Some(None) | None => return,
            }
        }
    }

    fn ask(&mut self) -> Option<(Marks, BoxFuture<'static, bool>)> {
        let link = self.link.borrow_and_update();
        let marks = Marks::of(&link);
        if !link.connected || marks == self.seen {
            return None;
        }
        let round_trips = Arc::clone(&self.round_trips);
        Some((marks, async move { round_trips.complete().await.is_ok() }.boxed()))
    }
}
