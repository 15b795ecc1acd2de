//! One channel: followed on the bus while somebody holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use reactor_bus::{Channel, Received};
use reactor_protocol::broadcast::{Broadcast, Envelope, Origin};
use reactor_protocol::session::ChannelName;
use reactor_runtime::Backoff;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Topics;
use super::listeners::{Listener, Listeners};
use super::presence::Room;

/// First and longest pause between attempts to subscribe.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A channel that is followed.
#[derive(Debug)]
pub struct Topic {
    pub(super) channel: Channel,
    pub(super) topics: Arc<Topics>,
    listeners: Mutex<Listeners>,
    pub(super) room: Mutex<Room>,
}

/// Keeps a channel followed. Dropping the last one ends that.
#[derive(Debug)]
pub(super) struct Held {
    name: ChannelName,
    topic: Arc<Topic>,
    followed: tokio::sync::OnceCell<()>,
    watched: tokio::sync::OnceCell<()>,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.topic.topics.forget(&self.name);
    }
}

impl Held {
    pub(super) fn new(topics: &Arc<Topics>, name: &ChannelName) -> Arc<Self> {
        let topic = Arc::new(Topic {
            channel: topics.channel(name),
            topics: Arc::clone(topics),
            listeners: Mutex::default(),
            room: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let (followed, watched) = Default::default();
        Arc::new(Self { name: name.clone(), topic, followed, watched, _stop: stop.clone().drop_guard(), stop })
    }
}

/// One's share in a channel.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Held>);

impl std::ops::Deref for Hold {
    type Target = Topic;

    fn deref(&self) -> &Topic {
        &self.0.topic
    }
}

impl Hold {
    pub(super) fn of(held: Arc<Held>) -> Self {
        Self(held)
    }

    /// Whether broadcasts are being followed.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.0.followed.initialized()
    }

    /// Resolves when every broadcast from now on reaches this gateway. The first who asks subscribes for all; tries for ever.
    pub async fn follow(&self) {
        let begin = async || {
            let Topic { channel, topics, .. } = &**self;
            let mut backoff = Backoff::new(RETRY.0, RETRY.1);
            let stream = loop {
                match topics.bus.subscribe(channel).await {
                    Ok(stream) => break stream,
                    Err(error) => tracing::debug!(%error, "a channel cannot be subscribed to yet"),
                }
                tokio::time::sleep(backoff.next_delay()).await;
            };
            let following = Arc::clone(&self.0.topic).follow_on(stream);
            tokio::spawn(self.0.stop.clone().run_until_cancelled_owned(following));
        };
        self.0.followed.get_or_init(begin).await;
    }

    /// Has the channel's presences watched from now on.
    pub fn watch(&self) {
        if self.0.watched.set(()).is_ok() {
            let watching = Arc::clone(&self.0.topic).watch_on();
            tokio::spawn(self.0.stop.clone().run_until_cancelled_owned(watching));
        }
    }
}

impl Topic {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers what comes from the bus, to its end.
    async fn follow_on(self: Arc<Self>, mut stream: BoxStream<'static, Received>) {
        let metrics = &self.topics.metrics.ws;
        while let Some(received) = stream.next().await {
            match received {
                Received::Message(bytes) => self.take(&bytes),
                Received::Lagged(lost) => {
                    metrics.broadcasts_lost.with_label_values(&["lagged"]).inc_by(lost);
                    tracing::warn!(lost, "broadcasts were dropped: this gateway is too slow for a channel");
                }
                Received::Gap => {
                    metrics.broadcasts_lost.with_label_values(&["gap"]).inc();
                    tracing::warn!("broadcasts may have been lost with the connection to the bus");
                }
            }
        }
    }

    fn take(&self, bytes: &Bytes) {
        match Envelope::decode(bytes) {
            Ok(envelope) => self.deliver(envelope.origin, &envelope.broadcast),
            Err(error) => tracing::warn!(%error, "a broadcast cannot be read"),
        }
    }

    /// Delivers a broadcast to the clients that have joined here.
    pub fn deliver(&self, origin: Option<Origin>, broadcast: &Broadcast) {
        let delivered = self.listeners().deliver(origin, broadcast);
        let metrics = &self.topics.metrics.ws;
        metrics.broadcasts.inc();
        metrics.broadcasts_delivered.inc_by(delivered);
    }

    /// Adds a client, or puts it in the place of itself.
    pub fn listen(&self, origin: Origin, audience: &reactor_protocol::audience::Audience, listener: Listener) {
        self.listeners().add(origin, audience, listener);
    }

    /// Removes a client.
    pub fn unlisten(&self, origin: Origin, audience: &reactor_protocol::audience::Audience) {
        self.listeners().remove(origin, audience);
    }

    /// Lets a client that got the past have what came meanwhile.
    pub fn open(&self, origin: Origin, audience: &reactor_protocol::audience::Audience, replayed: Vec<String>) {
        self.listeners().open(origin, audience, replayed);
    }
}
