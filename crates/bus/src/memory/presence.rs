//! [`Presence`] inside one process.

use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::{self, BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};

use crate::board::{Board, Value};
use crate::{BusError, Channel, EntryId, OwnerId, Presence, PresenceEvent, PresenceOwner, Taken, Watched, lock};

/// Presences that other tasks of this process see.
pub struct MemoryPresence {
    max_value_bytes: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    board: Arc<Board>,
    /// Revision of the newest change. Held while the board is changed, so that both go on in one order.
    newest: Mutex<u64>,
}

impl MemoryPresence {
    /// With nobody present.
    #[must_use]
    pub fn new(max_value_bytes: usize) -> Self {
        Self { max_value_bytes, shared: Arc::default() }
    }
}

impl fmt::Debug for MemoryPresence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPresence").finish_non_exhaustive()
    }
}

impl Presence for MemoryPresence {
    fn max_value_bytes(&self) -> usize {
        self.max_value_bytes
    }

    fn register(&self, owner: OwnerId) -> Arc<dyn PresenceOwner> {
        let shared = Arc::clone(&self.shared);
        Arc::new(MemoryOwner { id: owner, max_value_bytes: self.max_value_bytes, shared, left: Mutex::new(false) })
    }

    fn watch<'a>(&'a self, watched: Watched<'a>) -> BoxFuture<'a, Result<BoxStream<'static, PresenceEvent>, BusError>> {
        future::ready(Ok(self.shared.board.watch(watched, ()).boxed())).boxed()
    }
}

struct MemoryOwner {
    id: OwnerId,
    max_value_bytes: usize,
    shared: Arc<Shared>,
    /// Held while an entry is set, so that none is set after the end.
    left: Mutex<bool>,
}

impl MemoryOwner {
    fn put_now(&self, id: EntryId, bytes: Bytes) -> Result<(), BusError> {
        let size = bytes.len() + id.channel.topic.len() + id.key.len();
        if size > self.max_value_bytes {
            return Err(BusError::TooLarge(size));
        }
        let left = lock(&self.left);
        if *left {
            return Err(BusError::Unavailable("the owner of presences has left", None));
        }
        let mut newest = lock(&self.shared.newest);
        *newest += 1;
        self.shared.board.put(id, Value { bytes, revision: *newest });
        Ok(())
    }

    fn leave_now(&self) {
        let mut left = lock(&self.left);
        *left = true;
        let _newest = lock(&self.shared.newest);
        self.shared.board.remove_owner(&self.id);
    }

    fn entry(&self, channel: &Channel, key: &str) -> EntryId {
        EntryId { channel: channel.clone(), owner: self.id.clone(), key: key.into() }
    }
}

impl fmt::Debug for MemoryOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryOwner").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PresenceOwner for MemoryOwner {
    fn id(&self) -> &OwnerId {
        &self.id
    }

    fn put(&self, channel: &Channel, key: &str, value: Bytes) -> Taken {
        future::ready(self.put_now(self.entry(channel, key), value)).boxed()
    }

    fn remove(&self, channel: &Channel, key: &str) -> Taken {
        let _newest = lock(&self.shared.newest);
        self.shared.board.remove(&self.entry(channel, key));
        future::ready(Ok(())).boxed()
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), BusError>> {
        self.leave_now();
        future::ready(Ok(())).boxed()
    }
}

impl Drop for MemoryOwner {
    fn drop(&mut self) {
        self.leave_now();
    }
}
