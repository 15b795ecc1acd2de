//! Bringing one connection from a past position into its lane, at the pace of its reader.
//!
//! Read what the ring or the log has after the cursor, deliver it, and join the lane at exactly the position reached. May be
//! dropped at any await and gone on with: the state moves only when something was delivered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reactor_model::{Batch, Code, EventId, Position};
use reactor_runtime::clock;

use crate::connection::{Link, about};
use crate::error::ApiError;
use crate::feed::{HistoryCursor, HistoryError, Step};
use crate::replay::{Replay, ReplayError};

/// How long a position ahead of this gateway is waited for. Gateways are milliseconds apart; this is for one that is itself
/// catching up.
const AHEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a log that cannot be read is waited for: a bus that restarts is back within this.
const LOG_PATIENCE: Duration = Duration::from_secs(30);
/// How long a reader that has fallen behind may take to make room for the next batch before its connection is closed: with
/// the default queue it must read some 70 KB/s.
const READER_PATIENCE: Duration = Duration::from_secs(15);
/// Pause between attempts to read the log.
const PAUSE: Duration = Duration::from_millis(200);

/// A connection on its way into its lane.
#[derive(Debug)]
pub struct CatchUp {
    /// Everything up to here was read.
    read: HistoryCursor,
    /// What was read and not yet delivered.
    pending: VecDeque<Arc<Batch>>,
    /// Everything up to here was delivered.
    delivered: Position,
    /// For the subscriptions that the connection had when this was last run.
    replay: Replay,
    /// Sent once it is known that the history reaches back.
    greeting: Option<Bytes>,
    /// While the reader is waited for: when that ends. Survives a drop of the future.
    reader_deadline: Option<Instant>,
    /// Since when it has waited for the lane or the log, if it does.
    waiting_since: Option<Instant>,
    source: &'static str,
}

/// How catching up ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaughtUp {
    /// The connection is in its lane.
    Joined,
    /// The history does not reach back: the reason for a resync.
    Lost(&'static str),
    /// Not yet: decisions must be asked for again.
    Undecided,
    /// Not yet: sets must be loaded again.
    NotLoaded,
}

impl CatchUp {
    /// Begins after an event; `greeting` goes before the first thing that is delivered.
    #[must_use]
    pub fn after(id: EventId, greeting: Option<Bytes>, link: &Link) -> Self {
        Self {
            read: HistoryCursor::after(id),
            pending: VecDeque::new(),
            delivered: id.position,
            replay: link.replay(),
            greeting,
            reader_deadline: None,
            waiting_since: None,
            source: "ring",
        }
    }

    /// Where the next batch is looked for: the ring or the log.
    #[must_use]
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// Delivers until the connection is in its lane. Goes on with what the link has now, when it was renewed since.
    ///
    /// # Errors
    /// Why the connection must be closed.
    pub async fn run(&mut self, link: &Link) -> Result<CaughtUp, ApiError> {
        if !self.replay.is_of(&link.member) {
            self.replay = link.replay();
        }
        loop {
            if let Some(ended) = self.deliver_pending(link).await? {
                return Ok(ended);
            }
            let greeting = &mut self.greeting;
            let greet = || {
                if let Some(greeting) = greeting.take() {
                    // The first frame of a queue always finds room.
                    let _ = link.member.outbox.push(greeting);
                }
            };
            match link.feed.attach(&link.member, link.lane, self.read.id, greet) {
                Step::Attached => return Ok(CaughtUp::Joined),
                Step::NotLoaded => return Ok(CaughtUp::NotLoaded),
                Step::EpochChanged => return Ok(CaughtUp::Lost("epoch_changed")),
                Step::Wait => {
                    if self.has_waited(AHEAD_PATIENCE) {
                        return Ok(CaughtUp::Lost("ahead"));
                    }
                    let mut status = link.feed.status();
                    let _ = tokio::time::timeout(PAUSE, status.changed()).await;
                }
                Step::Chunk(batches) => match batches.last() {
                    Some(last) => {
                        self.read.advance(last.last);
                        self.pending.extend(batches);
                        self.waiting_since = None;
                    }
                    // The lane is within the next batch: the rest of that is being judged.
                    None => tokio::time::sleep(PAUSE).await,
                },
                Step::History => {
                    if let Some(reason) = self.read_log(link).await? {
                        return Ok(CaughtUp::Lost(reason));
                    }
                }
            }
        }
    }

    /// Whether it has waited for so long since it last got on; counts from the first time that this is asked.
    fn has_waited(&mut self, patience: Duration) -> bool {
        clock::now() > *self.waiting_since.get_or_insert_with(clock::now) + patience
    }

    async fn read_log(&mut self, link: &Link) -> Result<Option<&'static str>, ApiError> {
        self.source = "log";
        let mut cursor = self.read;
        match link.feed.history().read(&mut cursor).await {
            Ok(batches) if !batches.is_empty() => {
                self.read = cursor;
                self.pending.extend(batches);
                self.waiting_since = None;
                return Ok(None);
            }
            // The feed has seen more: the bus has lost that, and is about to get it again.
            Ok(_) => {}
            Err(HistoryError::Lost) => return Ok(Some("too_old")),
            Err(HistoryError::Bus(error)) => tracing::warn!(%error, "cannot read the log for a resume"),
        }
        if self.has_waited(LOG_PATIENCE) {
            return Err(ApiError::of(Code::NotReady));
        }
        tokio::time::sleep(about(PAUSE)).await;
        Ok(None)
    }

    /// Delivers what was read. Batches may overlap: what was published again after a loss in the bus need not be cut in the
    /// same places.
    async fn deliver_pending(&mut self, link: &Link) -> Result<Option<CaughtUp>, ApiError> {
        while let Some(batch) = self.pending.front() {
            // The log is read ahead of the lane at times, and the lane's sets are as of where it is.
            while !link.sets.is_empty() && link.feed.head(link.lane).is_none_or(|head| head.position < batch.last) {
                let mut status = link.feed.status();
                let _ = tokio::time::timeout(PAUSE, status.changed()).await;
                if link.feed.head(link.lane).is_some_and(|head| head.epoch != batch.epoch) {
                    return Ok(Some(CaughtUp::Lost("epoch_changed")));
                }
            }
            let frames = self.replay.frames(batch, self.delivered, link.feed.tenant(), link.feed.authorizer()).await;
            let frames = match frames {
                Ok(frames) => frames,
                Err(ReplayError::Schema(_)) => return Ok(Some(CaughtUp::Lost("schema_changed"))),
                Err(ReplayError::Decision(why)) => {
                    tracing::debug!(%why, "a decision must be asked for again");
                    return Ok(Some(CaughtUp::Undecided));
                }
                Err(ReplayError::NotLoaded) => return Ok(Some(CaughtUp::NotLoaded)),
                Err(ReplayError::Policy(error)) => return Err(error.into()),
            };
            if let Some(greeting) = &self.greeting {
                push(link, greeting.clone(), &mut self.reader_deadline).await?;
                self.greeting = None;
            }
            if !frames.is_empty() {
                push(link, frames, &mut self.reader_deadline).await?;
            }
            self.delivered = self.delivered.max(batch.last);
            self.pending.pop_front();
        }
        Ok(None)
    }
}

/// Queues frames at the reader's pace.
async fn push(link: &Link, frames: Bytes, deadline: &mut Option<Instant>) -> Result<(), ApiError> {
    let until = *deadline.get_or_insert_with(|| clock::now() + READER_PATIENCE);
    let pushed = link.member.outbox.push_when_room(frames, until.into()).await;
    *deadline = None;
    pushed.map_err(|_| ApiError::of(Code::SlowConsumer))
}
