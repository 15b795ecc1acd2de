//! Reading the stream of presences: the whole state, then what changes; and all of it again after anything that may have
//! been missed.

use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::consumer::DeliverPolicy;
use tokio::time::sleep;
use tracing::debug;

use super::super::consumer::{Consumer, Delivery};
use super::super::log::stream_info;
use super::super::subject::PRESENCE;
use super::names::{Change, change_of};
use super::store::Store;
use crate::BusError;

/// Bounds of the wait between attempts to make the consumer.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What comes out.
#[derive(Debug)]
pub(super) enum Item {
    /// What comes now, up to [`Item::Complete`], is the whole state. `another`: in another store than before, whose
    /// revisions begin anew.
    Begin { another: bool },
    /// Something was said at this revision.
    Change(Change, u64),
    /// The state is complete.
    Complete,
}

pub(super) struct Feed {
    store: Store,
    subjects: Vec<String>,
    created: Option<DateTime>,
    state: State,
}

enum State {
    Detached,
    Attached {
        consumer: Consumer,
        /// How much of the state is to come; `None` when it is complete.
        left: Option<u64>,
    },
}

impl Feed {
    pub(super) fn new(store: Store, subjects: Vec<String>) -> Self {
        Self { store, subjects, created: None, state: State::Detached }
    }

    /// `None` when the connection was closed for good. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Option<Item> {
        loop {
            let State::Attached { consumer, left } = &mut self.state else {
                return self.attach_at_last().await.map(|another| Item::Begin { another });
            };
            if *left == Some(0) {
                *left = None;
                return Some(Item::Complete);
            }
            match consumer.next(&self.store.requests, &mut self.store.link).await {
                Delivery::Message { message, seq, pending } => {
                    // Fewer come than were there when one is replaced meanwhile.
                    *left = left.map(|left| if pending == 0 { 0 } else { left - 1 });
                    if let Some(change) = change_of(&message, seq) {
                        return Some(Item::Change(change, seq));
                    }
                }
                Delivery::Broken(reason) => {
                    debug!(reason, "reading presences anew");
                    self.state = State::Detached;
                }
            }
        }
    }

    /// Tries until there is a consumer, and says whether it reads another store.
    async fn attach_at_last(&mut self) -> Option<bool> {
        let (mut delay, longest) = RETRY_DELAY;
        loop {
            if self.store.link.wait_for(|link| link.connected).await.is_err() {
                return None;
            }
            match self.attach().await {
                Ok(another) => return Some(another),
                Err(error) => debug!(error = %error, "cannot read presences yet"),
            }
            sleep(delay).await;
            delay = (delay * 2).min(longest);
        }
    }

    async fn attach(&mut self) -> Result<bool, BusError> {
        let Store { requests, link, .. } = &self.store;
        let attach =
            || Consumer::attach(requests, link, PRESENCE, DeliverPolicy::LastPerSubject, self.subjects.clone());
        let (consumer, waiting) = match attach().await {
            Err(BusError::NoLog) => {
                self.store.ensure().await?;
                attach().await?
            }
            attached => attached?,
        };
        // Asked for after the consumer was made: if the store is the known one now, it was that when the consumer came.
        let created = stream_info(requests, PRESENCE).await?.created;
        let another = self.created.is_some_and(|known| known != created);
        self.created = Some(created);
        self.state = State::Attached { consumer, left: Some(waiting) };
        Ok(another)
    }
}
