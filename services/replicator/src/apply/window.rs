//! Batches on their way to the log: waiting to be taken, and taken but not yet stored.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use reactor_model::Position;
use reactor_model::envelope::EncodedRelation;

/// Batches that may be on their way. An ack takes about a millisecond, so this is far from the limit of a log.
const MAX_BATCHES: usize = 256;
/// Bytes that may be on their way, which bounds the memory of a session however large a transaction is.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// While fewer batches than this are on their way, one is published as soon as the input pauses. More would only
/// make batches smaller: the log is busy anyhow.
const EAGER_BATCHES: usize = 4;

/// A batch for the log.
#[derive(Clone)]
pub struct Publish {
    /// The table; `None` for a mark.
    pub relation: Option<Arc<EncodedRelation>>,
    /// The encoded batch.
    pub payload: Bytes,
    /// The batch's last position.
    pub last: Position,
    /// Rows in it.
    pub rows: u32,
}

impl fmt::Debug for Publish {
    /// Prints no payload: row values never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publish({:?}, {} rows, {} bytes)", self.last, self.rows, self.payload.len())
    }
}

#[derive(Debug, Default)]
pub(super) struct Window {
    waiting: VecDeque<Publish>,
    in_flight: VecDeque<(Position, usize)>,
    bytes: usize,
}

impl Window {
    pub(super) fn push(&mut self, publish: Publish) {
        self.bytes += publish.payload.len();
        self.waiting.push_back(publish);
    }

    pub(super) fn take(&mut self) -> Option<Publish> {
        let publish = self.waiting.pop_front()?;
        self.in_flight.push_back((publish.last, publish.payload.len()));
        Some(publish)
    }

    /// The oldest batch in flight is stored: its last position.
    pub(super) fn handle_ack(&mut self) -> Option<Position> {
        let (last, bytes) = self.in_flight.pop_front()?;
        self.bytes -= bytes;
        Some(last)
    }

    pub(super) fn batches(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_full(&self) -> bool {
        self.batches() >= MAX_BATCHES || self.bytes >= MAX_BYTES
    }

    pub(super) fn is_eager(&self) -> bool {
        self.batches() < EAGER_BATCHES
    }
}
