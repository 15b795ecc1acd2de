//! What waits between the bus and the reader of a subscription: bounded, and what is dropped is counted.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::Stream;
use futures::task::AtomicWaker;

use crate::{Received, lock};

/// How much waits for the reader of one subscription. What comes when either is used up is dropped, and the reader is
/// told how many those were; one message is taken whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Messages.
    pub messages: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
}

impl Default for Backlog {
    /// Seconds of a busy channel: a reader that is behind by more than that will not catch up.
    fn default() -> Self {
        Self { messages: 8_192, bytes: 8 << 20 }
    }
}

/// The writing end.
pub(crate) struct Buffer {
    limits: Backlog,
    state: Mutex<State>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Received>,
    messages: usize,
    bytes: usize,
    /// Dropped behind the last of what is waiting.
    dropped: u64,
    closed: bool,
}

impl Buffer {
    pub(crate) fn new(limits: Backlog) -> Arc<Self> {
        Arc::new(Self { limits, state: Mutex::default(), reader: AtomicWaker::new() })
    }

    pub(crate) fn push(&self, payload: Bytes) {
        lock(&self.state).push(payload, self.limits);
        self.reader.wake();
    }

    pub(crate) fn gap(&self) {
        lock(&self.state).gap();
        self.reader.wake();
    }

    /// The reader gets what is waiting, and then the end.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.reader.wake();
    }
}

impl State {
    fn push(&mut self, payload: Bytes, limits: Backlog) {
        let fits = self.messages < limits.messages && self.bytes + payload.len() <= limits.bytes;
        if !fits && self.messages > 0 {
            self.dropped += 1;
            return;
        }
        self.tell_dropped();
        self.messages += 1;
        self.bytes += payload.len();
        self.waiting.push_back(Received::Message(payload));
    }

    fn gap(&mut self) {
        self.tell_dropped();
        // Two without a message between say no more than one.
        if self.waiting.back() != Some(&Received::Gap) {
            self.waiting.push_back(Received::Gap);
        }
    }

    fn tell_dropped(&mut self) {
        if self.dropped > 0 {
            self.waiting.push_back(Received::Lagged(std::mem::take(&mut self.dropped)));
        }
    }

    fn pop(&mut self) -> Option<Received> {
        if self.waiting.is_empty() {
            self.tell_dropped();
        }
        let next = self.waiting.pop_front()?;
        if let Received::Message(payload) = &next {
            self.messages -= 1;
            self.bytes -= payload.len();
        }
        Some(next)
    }
}

/// The reading end. Holds what must live as long.
pub(crate) struct Reader<G> {
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) _guard: G,
}

impl<G: Unpin> Stream for Reader<G> {
    type Item = Received;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        // Before looking, so that what comes after the look wakes.
        self.buffer.reader.register(cx.waker());
        let mut state = lock(&self.buffer.state);
        match state.pop() {
            Some(next) => Poll::Ready(Some(next)),
            None if state.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    fn reader(messages: usize, bytes: usize) -> Reader<()> {
        Reader { buffer: Buffer::new(Backlog { messages, bytes }), _guard: () }
    }

    fn message(text: &'static str) -> Received {
        Received::Message(text.into())
    }

    fn read(reader: &mut Reader<()>) -> Vec<Received> {
        std::iter::from_fn(|| reader.next().now_or_never().flatten()).collect()
    }

    fn push(reader: &Reader<()>, texts: &[&'static str]) {
        for text in texts {
            reader.buffer.push((*text).into());
        }
    }

    #[test]
    fn what_is_dropped_is_told_where_it_was() {
        let mut reader = reader(2, 100);
        push(&reader, &["a", "b", "c", "d"]);
        assert_eq!(reader.next().now_or_never(), Some(Some(message("a"))));
        push(&reader, &["e", "f"]);
        assert_eq!(read(&mut reader), [message("b"), Received::Lagged(2), message("e"), Received::Lagged(1)]);
        push(&reader, &["g"]);
        assert_eq!(read(&mut reader), [message("g")]);
    }

    #[test]
    fn bytes_count_but_one_message_is_always_taken() {
        let mut reader = reader(100, 3);
        push(&reader, &["too large", "a"]);
        assert_eq!(read(&mut reader), [message("too large"), Received::Lagged(1)]);
        push(&reader, &["abc", ""]);
        assert_eq!(read(&mut reader), [message("abc"), message("")]);
    }

    #[test]
    fn gaps_come_in_their_place_and_do_not_pile_up() {
        let mut reader = reader(1, 100);
        push(&reader, &["a", "b"]);
        for _ in 0..3 {
            reader.buffer.gap();
        }
        assert_eq!(read(&mut reader), [message("a"), Received::Lagged(1), Received::Gap]);
    }

    #[test]
    fn the_end_comes_after_what_is_waiting() {
        let mut reader = reader(9, 100);
        push(&reader, &["a"]);
        reader.buffer.close();
        assert_eq!(reader.next().now_or_never(), Some(Some(message("a"))));
        assert_eq!(reader.next().now_or_never(), Some(None));
    }
}
