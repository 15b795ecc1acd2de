//! What others tell a connection's loop.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use reactor_protocol::replay::StoredBroadcast;
use reactor_protocol::session::{
    ChangesRefusal, ChannelId, Grant, PublishRefused, ReplayRefused, RequestId, Rights, Ticket, Token,
};
use reactor_protocol::texts::{JoinRefusal, TokenRefusal};
use reactor_protocol::wire::Encoded;
use tokio::sync::oneshot;

use super::deflate::Compression;
use super::frame::{self, Shared};
use super::topics::Hold;
use crate::auth::Identity;
use crate::outbox::{Outbox, Push};

/// Something that a connection is told. Each is an answer to a question of its own or comes once for a channel, so that what
/// waits is bounded by its channels.
#[derive(Debug)]
pub enum Told {
    /// What a token may do in a channel, and the channel's topic, which is being followed from before this was decided.
    Decided(RequestId, ChannelId, Result<(Grant<Arc<Identity>>, Hold), JoinRefusal>),
    /// A token that channels have is no longer good.
    TokenRefused(Token, TokenRefusal),
    /// Row changes are there, or not.
    Changes(ChannelId, Result<(), ChangesRefusal>),
    /// Row changes were lost; told on before the sender is answered.
    Resync(ChannelId, &'static str, oneshot::Sender<()>),
    /// The past of a channel.
    Replayed(ChannelId, Result<Vec<StoredBroadcast>, ReplayRefused>),
    /// The bus has a broadcast, or not.
    Published(Ticket, Result<Option<String>, PublishRefused>),
    /// Broadcasts of the database are being followed.
    Following(ChannelId),
    /// What a channel's token may do now that policies have changed.
    Rights(ChannelId, Option<Rights>),
    /// The reader is too slow.
    Slow,
}

/// How much more than its outbox's limit may wait for a connection: row changes are brought up again at the reader's pace, but
/// broadcasts and presences are not, and a burst of them is no sign of a slow reader.
const BURST: usize = 16;

/// A connection as others see it: what it is told, and what waits for its socket.
#[derive(Debug)]
pub struct Port {
    /// Frames for the socket.
    pub outbox: Arc<Outbox>,
    /// What was agreed on for them.
    pub compression: Compression,
    limit_bytes: usize,
    told: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Told>,
    waker: Option<Waker>,
    is_slow: bool,
}

impl Port {
    /// With nothing in it; row changes may take `queue_bytes` of the outbox, and all together 16 times as many.
    #[must_use]
    pub fn new(queue_bytes: usize, compression: Compression) -> Arc<Self> {
        let outbox = Arc::new(Outbox::new(queue_bytes));
        Arc::new(Self { outbox, compression, limit_bytes: queue_bytes.saturating_mul(BURST), told: Mutex::default() })
    }

    /// Tells the loop.
    pub fn tell(&self, told: Told) {
        let mut state = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push_back(told);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Queues frames for the socket; a connection without room for them is told that it is too slow, once.
    pub fn send(&self, frames: bytes::Bytes) -> bool {
        match self.outbox.push_within(frames, self.limit_bytes) {
            Push::Queued => true,
            Push::Closed => false,
            Push::Full => {
                let mut state = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                let known = std::mem::replace(&mut state.is_slow, true);
                drop(state);
                if !known {
                    self.tell(Told::Slow);
                }
                false
            }
        }
    }

    /// Queues a message of its own for the socket.
    pub fn send_message(&self, message: &Encoded) -> bool {
        self.send(frame::encode(message, self.compression))
    }

    /// Queues a message that others get too.
    pub fn send_shared(&self, shared: &Shared) -> bool {
        self.send(shared.frame(self.compression))
    }

    /// The next thing that the loop is told.
    pub async fn next(&self) -> Told {
        std::future::poll_fn(|cx| {
            let mut state = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            match state.waiting.pop_front() {
                Some(told) => Poll::Ready(told),
                None => {
                    state.waiting = VecDeque::new();
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
