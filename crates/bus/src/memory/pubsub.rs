//! [`PubSub`] inside one process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use futures::future::{self, BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};

use crate::buffer::{Backlog, Buffer, Reader};
use crate::{BusError, Channel, PubSub, Received, Taken, lock};

/// Messages between the tasks of this process.
pub struct MemoryPubSub {
    max_message_bytes: usize,
    backlog: Backlog,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    channels: HashMap<Channel, BTreeMap<u64, Arc<Buffer>>>,
    last_number: u64,
}

impl MemoryPubSub {
    /// Without any subscription.
    #[must_use]
    pub fn new(max_message_bytes: usize, backlog: Backlog) -> Self {
        Self { max_message_bytes, backlog, table: Arc::default() }
    }

    fn publish_now(&self, channel: &Channel, payload: &Bytes) -> Result<Taken, BusError> {
        if payload.len() > self.max_message_bytes {
            return Err(BusError::TooLarge(payload.len()));
        }
        // All of it under the lock, so that each subscription gets messages in one order.
        for buffer in lock(&self.table).channels.get(channel).into_iter().flat_map(BTreeMap::values) {
            buffer.push(payload.clone());
        }
        Ok(future::ready(Ok(())).boxed())
    }

    fn subscribe_now(&self, channel: &Channel) -> Reader<Subscription> {
        let buffer = Buffer::new(self.backlog);
        let mut table = lock(&self.table);
        table.last_number += 1;
        let number = table.last_number;
        table.channels.entry(channel.clone()).or_default().insert(number, Arc::clone(&buffer));
        let _guard = Subscription { table: Arc::downgrade(&self.table), channel: channel.clone(), number };
        Reader { buffer, _guard }
    }
}

impl fmt::Debug for MemoryPubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPubSub").field("backlog", &self.backlog).finish_non_exhaustive()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.channels.values().flat_map(BTreeMap::values).for_each(|buffer| buffer.close());
    }
}

impl PubSub for MemoryPubSub {
    fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    fn publish<'a>(&'a self, channel: &'a Channel, payload: Bytes) -> BoxFuture<'a, Result<Taken, BusError>> {
        future::ready(self.publish_now(channel, &payload)).boxed()
    }

    fn subscribe<'a>(&'a self, channel: &'a Channel) -> BoxFuture<'a, Result<BoxStream<'static, Received>, BusError>> {
        future::ready(Ok(self.subscribe_now(channel).boxed())).boxed()
    }
}

/// Ends with its reader.
struct Subscription {
    table: Weak<Mutex<Table>>,
    channel: Channel,
    number: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(table) = self.table.upgrade() else { return };
        let mut table = lock(&table);
        if let Some(buffers) = table.channels.get_mut(&self.channel) {
            buffers.remove(&self.number);
            if buffers.is_empty() {
                table.channels.remove(&self.channel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;

    #[tokio::test]
    async fn a_dropped_subscription_leaves_nothing() {
        let bus = MemoryPubSub::new(100, Backlog::default());
        let channel = Channel::new("acme".parse().unwrap(), Scope::Public, "room");
        let first = bus.subscribe(&channel).await.unwrap();
        let second = bus.subscribe(&channel).await.unwrap();
        drop(first);
        assert_eq!(lock(&bus.table).channels[&channel].len(), 1);
        drop(second);
        assert!(lock(&bus.table).channels.is_empty());
    }

    #[tokio::test]
    async fn subscriptions_end_with_the_bus() {
        let bus = MemoryPubSub::new(100, Backlog::default());
        let channel = Channel::new("acme".parse().unwrap(), Scope::Public, "room");
        let mut subscription = bus.subscribe(&channel).await.unwrap();
        drop(bus);
        assert_eq!(subscription.next().await, None);
    }
}
