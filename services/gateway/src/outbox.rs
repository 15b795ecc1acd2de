//! What waits to be written to one connection: bounded in bytes, joined into one chunk per write.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The queue between the fan-out and a connection's writer.
///
/// A push that would pass the limit is refused and changes nothing: the fan-out then leaves the connection behind, and
/// its own task brings it up again from the ring or the log, at the reader's pace (see `connection`). Nobody else waits.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    limit_bytes: usize,
    /// Told when the queue was taken or the reader went away.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    bytes: usize,
    finished: bool,
    reader_gone: bool,
    waker: Option<Waker>,
}

/// Frames in order. Most are taken before others come: the first needs no room of its own.
#[derive(Default)]
struct Queue {
    first: Option<Bytes>,
    rest: Vec<Bytes>,
}

impl fmt::Debug for Queue {
    /// Leaves the frames out: row values never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} pushes)", self.rest.len() + usize::from(self.first.is_some()))
    }
}

impl Queue {
    fn push(&mut self, frames: Bytes) {
        match self.first {
            None => self.first = Some(frames),
            Some(_) => self.rest.push(frames),
        }
    }

    /// All of them, which are this many bytes, in one chunk; `None` when there are none.
    fn join(self, bytes: usize) -> Option<Bytes> {
        let first = self.first?;
        if self.rest.is_empty() {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity(bytes);
        joined.extend_from_slice(&first);
        self.rest.iter().for_each(|frames| joined.extend_from_slice(frames));
        Some(joined.freeze())
    }
}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// Queued.
    Queued,
    /// Refused: the limit would be passed.
    Full,
    /// Refused: closed already.
    Closed,
}

/// The reader did not make room in the time that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reader did not make room in time")]
pub struct Stalled;

impl Outbox {
    /// An empty outbox that holds at most `limit_bytes`, or one push if that is larger.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { state: Mutex::default(), limit_bytes, changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues whole frames.
    pub fn push(&self, frames: Bytes) -> Push {
        self.push_within(frames, self.limit_bytes)
    }

    /// The same with another limit, for frames that cannot be brought up again later.
    pub fn push_within(&self, frames: Bytes, limit_bytes: usize) -> Push {
        let mut state = self.state();
        if state.finished || state.reader_gone {
            return Push::Closed;
        }
        if state.bytes + frames.len() > limit_bytes && state.bytes > 0 {
            return Push::Full;
        }
        state.bytes += frames.len();
        state.queue.push(frames);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Push::Queued
    }

    /// Queues last frames regardless of the limit and ends the response after them.
    pub fn finish(&self, last: Option<Bytes>) {
        let mut state = self.state();
        if let Some(last) = last {
            state.bytes += last.len();
            state.queue.push(last);
        }
        state.finished = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Everything that waits, in one chunk; `None` at the end.
    pub fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.state();
        let queue = std::mem::take(&mut state.queue);
        let bytes = std::mem::take(&mut state.bytes);
        if queue.first.is_none() {
            if state.finished {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.changed.notify_waiters();
        Poll::Ready(queue.join(bytes))
    }

    /// The reader has gone: nothing more can be delivered.
    pub fn reader_gone(&self) {
        let mut state = self.state();
        state.reader_gone = true;
        state.queue = Queue::default();
        state.bytes = 0;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Queues whole frames as soon as there is room for them.
    ///
    /// # Errors
    /// [`Stalled`] when the reader has not made room by `deadline`.
    pub async fn push_when_room(&self, frames: Bytes, deadline: Instant) -> Result<(), Stalled> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the attempt, so that a change in between is not missed.
            changed.as_mut().enable();
            match self.push(frames.clone()) {
                Push::Queued | Push::Closed => return Ok(()),
                Push::Full => tokio::time::timeout_at(deadline, changed).await.map_err(|_| Stalled)?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn take(outbox: &Outbox) -> Poll<Option<Bytes>> {
        outbox.poll_take(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn frames_are_joined_in_order_and_end_after_finish() {
        let outbox = Outbox::new(100);
        assert_eq!(take(&outbox), Poll::Pending);
        assert_eq!(outbox.push(Bytes::from_static(b"a")), Push::Queued);
        assert_eq!(outbox.push(Bytes::from_static(b"b")), Push::Queued);
        outbox.finish(Some(Bytes::from_static(b"c")));
        assert_eq!(outbox.push(Bytes::from_static(b"d")), Push::Closed);
        assert_eq!(take(&outbox), Poll::Ready(Some(Bytes::from_static(b"abc"))));
        assert_eq!(take(&outbox), Poll::Ready(None));
    }

    #[test]
    fn a_full_queue_refuses_and_keeps_what_it_has() {
        let outbox = Outbox::new(4);
        assert_eq!(outbox.push(Bytes::from_static(b"abc")), Push::Queued);
        assert_eq!(outbox.push(Bytes::from_static(b"de")), Push::Full);
        outbox.finish(Some(Bytes::from_static(b"why")));
        assert_eq!(take(&outbox), Poll::Ready(Some(Bytes::from_static(b"abcwhy"))));
        assert_eq!(take(&outbox), Poll::Ready(None));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_room_ends_with_room_or_patience() {
        let outbox = Outbox::new(4);
        let deadline = || Instant::now() + Duration::from_secs(10);
        assert_eq!(outbox.push_when_room(Bytes::from_static(b"abc"), deadline()).await, Ok(()));
        assert_eq!(outbox.push_when_room(Bytes::from_static(b"de"), deadline()).await, Err(Stalled));
        let (pushed, _) = tokio::join!(outbox.push_when_room(Bytes::from_static(b"de"), deadline()), async {
            tokio::time::sleep(Duration::from_secs(9)).await;
            take(&outbox)
        });
        assert_eq!(pushed, Ok(()));
        assert_eq!(take(&outbox), Poll::Ready(Some(Bytes::from_static(b"de"))));
    }

    #[test]
    fn a_frame_larger_than_the_limit_passes_an_empty_queue() {
        let outbox = Outbox::new(2);
        assert_eq!(outbox.push(Bytes::from_static(b"abc")), Push::Queued);
    }
}
