//! The state of one replication session.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reactor_model::envelope::{EncodedRelation, OldTuple};
use reactor_model::{ChangeKind, Lsn, Position};

use super::batch::{self, Head, OpenBatch, Row};
use super::confirm::Confirm;
use super::model::{ApplyError, Frame, Limits, Lsns, Start, Totals};
use super::status::{StandbyStatus, Status};
use super::window::{Publish, Window};
use crate::pgoutput::{Message, OldRow};

/// What a batch may wait for more while history is being caught up with; nothing beside being that far behind.
const LINGER: Duration = Duration::from_millis(3);
/// A batch of this size costs the bus little for each row, and waits no more.
const LINGER_BYTES: usize = 64 * 1024;
/// Between marks while the server's log moves on without changes of ours: what it holds back stays small, and the
/// log gets one tiny message.
const MARK_SPACING: Duration = Duration::from_secs(5);
/// Between marks while nothing moves at all, so that the log is never empty within its window.
const MARK_AT_LEAST: Duration = Duration::from_secs(30);
/// A commit that is sent later than this is history being caught up with, not a live tail.
const BEHIND_US: i64 = 20_000;

#[derive(Clone, Copy, Debug)]
struct Transaction {
    commit_lsn: Lsn,
    commit_time_us: i64,
    ordinal: u32,
}

/// Turns the stream into batches and says what may be confirmed.
#[derive(Debug)]
pub struct Machine {
    head: Head,
    relations: BTreeMap<u32, Arc<EncodedRelation>>,
    transaction: Option<Transaction>,
    /// Changes at or before this are stored already.
    stored: Position,
    /// Last position of the newest finished batch: what the next one names as `previous`.
    chain: Position,
    open: Option<OpenBatch>,
    /// Whether a part of the transaction at `chain` was finished before its end was known.
    unfinished: bool,
    window: Window,
    confirm: Confirm,
    status: Status,
    /// When a batch was last finished.
    quiet_since: Duration,
    wal_end: Lsn,
    received: Lsn,
    published: Lsn,
    input_drained: bool,
    /// When the open batch was begun.
    open_since: Duration,
    behind_us: i64,
    totals: Totals,
}

impl Machine {
    /// A session that begins at `now` = zero.
    #[must_use]
    pub fn new(limits: Limits, start: Start) -> Self {
        let mut machine = Self {
            head: Head { epoch: start.epoch, live_from: start.live_from, max_payload_bytes: limits.max_payload_bytes },
            relations: BTreeMap::new(),
            transaction: None,
            stored: start.previous,
            chain: start.previous,
            open: None,
            // What was stored last may be a part; then its transaction is read again, up to its end.
            unfinished: start.continues,
            window: Window::default(),
            confirm: Confirm::new(limits.confirm_lag, limits.confirm_lag_max_bytes, start.confirmed),
            status: Status::new(),
            quiet_since: Duration::ZERO,
            wal_end: Lsn::ZERO,
            received: start.confirmed.max(start.previous.lsn),
            published: start.previous.lsn,
            input_drained: true,
            open_since: Duration::ZERO,
            behind_us: 0,
            totals: Totals::default(),
        };
        if start.continues {
            // How long it has been stored is not known, so its lag begins now.
            machine.confirm.handle_stored(start.previous.lsn, Duration::ZERO);
        } else {
            machine.publish_mark(start.previous, Duration::ZERO);
        }
        machine
    }

    /// The shell has learnt what a `Relation` message means; it replaces the earlier description.
    pub fn handle_relation(&mut self, relation: EncodedRelation, now: Duration) {
        let oid = relation.relation.oid;
        if self.open.as_ref().is_some_and(|open| open.oid() == oid) {
            self.finish_open(now);
        }
        self.relations.insert(oid, Arc::new(relation));
    }

    /// A message of the stream. Relation messages are resolved by the shell, see [`Machine::handle_relation`].
    ///
    /// # Errors
    /// [`ApplyError`]; the session must end.
    pub fn handle_message(&mut self, frame: Frame, message: &Message<'_>, now: Duration) -> Result<(), ApplyError> {
        self.received = self.received.max(frame.wal_start);
        self.input_drained = false;
        self.status.handle_change();
        match message {
            Message::Insert { relation, new } => {
                self.handle_change(*relation, ChangeKind::Insert, OldRow::None, Some(new), now)?;
            }
            Message::Update { relation, old, new } => {
                self.handle_change(*relation, ChangeKind::Update, *old, Some(new), now)?;
            }
            Message::Delete { relation, old } => {
                self.handle_change(*relation, ChangeKind::Delete, *old, None, now)?;
            }
            Message::Truncate { relations } => {
                for relation in relations.iter() {
                    self.handle_change(relation, ChangeKind::Truncate, OldRow::None, None, now)?;
                }
            }
            Message::Begin { commit_lsn, commit_time_us, .. } => self.handle_begin(*commit_lsn, *commit_time_us)?,
            Message::Commit { commit_lsn, end_lsn, .. } => self.handle_commit(*commit_lsn, *end_lsn, now)?,
            Message::Relation(_) | Message::Type { .. } | Message::Origin { .. } | Message::Logical { .. } => {}
        }
        if let Some(transaction) = &self.transaction {
            self.behind_us = frame.sent_us.saturating_sub(transaction.commit_time_us);
        }
        Ok(())
    }

    /// The server's keepalive: everything that committed before `wal_end` has been sent.
    pub fn handle_keepalive(&mut self, wal_end: Lsn, reply_requested: bool, now: Duration) {
        self.wal_end = self.wal_end.max(wal_end);
        self.received = self.received.max(wal_end);
        self.behind_us = 0;
        if reply_requested {
            self.status.handle_request(now);
        }
    }

    /// The oldest batch in flight is stored.
    ///
    /// # Errors
    /// [`ApplyError::UnexpectedAck`] when none is in flight.
    pub fn handle_ack(&mut self, now: Duration) -> Result<(), ApplyError> {
        let last = self.window.handle_ack().ok_or(ApplyError::UnexpectedAck)?;
        self.confirm.handle_stored(last.lsn, now);
        self.flush_when_eager(now);
        Ok(())
    }

    /// All that was read has been handled: what is open goes out, unless the log is busy.
    pub fn handle_input_drained(&mut self, now: Duration) {
        self.input_drained = true;
        self.flush_when_eager(now);
    }

    /// No more input will come: what is open goes out. Ends a partial transaction where it stands.
    pub fn handle_end(&mut self, now: Duration) {
        self.finish_open(now);
    }

    /// Everything that committed before `lsn` has been handled, and nothing else will be: the log is told that it is that far.
    pub fn handle_end_at(&mut self, lsn: Lsn, now: Duration) {
        self.finish_open(now);
        let at = Position::before(lsn);
        if at > self.chain {
            self.publish_mark(at, now);
        }
    }

    /// Time has passed, see [`Machine::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Duration) {
        self.flush_when_eager(now);
        if let Some((due, _)) = self.mark_due()
            && due <= now
        {
            self.publish_mark(self.chain.max(Position::before(self.wal_end)), now);
        }
    }

    /// Whether the stream is inside a transaction.
    #[must_use]
    pub const fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// Whether more of the stream may be handed in.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        !self.window.is_full()
    }

    /// The next batch for the log. It is in flight until [`Machine::handle_ack`].
    pub fn poll_publish(&mut self) -> Option<Publish> {
        let publish = self.window.take()?;
        self.published = publish.last.lsn;
        self.totals.batches += 1;
        self.totals.bytes += publish.payload.len() as u64;
        Some(publish)
    }

    /// The standby status to send at `now`, when one is due.
    pub fn poll_status(&mut self, now: Duration) -> Option<StandbyStatus> {
        let status = self.standby_status(now);
        self.status.poll(status, now)
    }

    /// What Postgres may be told at `now`, due or not.
    pub fn standby_status(&mut self, now: Duration) -> StandbyStatus {
        let flushed = self.confirm.flushed(now);
        StandbyStatus { received: self.received.max(flushed), flushed }
    }

    /// When to call [`Machine::handle_timeout`] and [`Machine::poll_status`] if nothing happens before, and why.
    pub fn poll_timeout(&mut self, now: Duration) -> (Duration, &'static str) {
        let status = self.standby_status(now);
        let mut first = (self.status.due(status), "standby status");
        let confirm = self.confirm.next().map(|due| (due, "confirm lag"));
        let lingers = self.input_drained && self.window.is_eager() && !self.awaits_commit();
        let linger = self.lingers_until().filter(|_| lingers);
        let linger = linger.map(|until| (until, "small batch"));
        for other in [confirm, self.mark_due(), linger].into_iter().flatten() {
            if other.0 < first.0 {
                first = other;
            }
        }
        first
    }

    /// Whether the stream is history being caught up with, by the server's own clock.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind_us > BEHIND_US
    }

    /// How old the commit that is being read was when the server sent it, by its clock.
    #[must_use]
    pub fn commit_lag(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.behind_us).unwrap_or(0))
    }

    /// Whether the server waits for us in order to shut down.
    #[must_use]
    pub fn server_is_stopping(&self) -> bool {
        self.status.server_is_stopping()
    }

    /// Batches and bytes on their way to the log.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        (self.window.batches(), self.window.bytes())
    }

    /// The four positions at `now`.
    pub fn lsns(&mut self, now: Duration) -> Lsns {
        let status = self.standby_status(now);
        Lsns {
            received: status.received,
            published: self.published,
            acked: self.confirm.acked(),
            flushed: status.flushed,
        }
    }

    /// Counters since the session began.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    fn handle_begin(&mut self, commit_lsn: Lsn, commit_time_us: i64) -> Result<(), ApplyError> {
        if self.transaction.is_some() {
            return Err(ApplyError::OutOfPlace);
        }
        self.transaction = Some(Transaction { commit_lsn, commit_time_us, ordinal: 0 });
        Ok(())
    }

    fn handle_commit(&mut self, commit_lsn: Lsn, end_lsn: Lsn, now: Duration) -> Result<(), ApplyError> {
        let transaction = self.transaction.take().ok_or(ApplyError::OutOfPlace)?;
        if transaction.commit_lsn != commit_lsn {
            return Err(ApplyError::OutOfPlace);
        }
        self.received = self.received.max(end_lsn);
        // Readers hold a transaction back until they know that it is whole.
        if self.unfinished && self.chain.lsn == commit_lsn && self.open.is_none() {
            self.publish_mark(self.chain, now);
        }
        Ok(())
    }

    fn handle_change(
        &mut self,
        oid: u32,
        kind: ChangeKind,
        old: OldRow<'_>,
        new: Option<&[u8]>,
        now: Duration,
    ) -> Result<(), ApplyError> {
        let transaction = self.transaction.as_mut().ok_or(ApplyError::OutOfPlace)?;
        transaction.ordinal = transaction.ordinal.checked_add(1).ok_or(ApplyError::TooManyChanges)?;
        let position = Position { lsn: transaction.commit_lsn, ordinal: transaction.ordinal };
        if position <= self.stored {
            self.totals.skipped += 1;
            return Ok(());
        }
        let old = match old {
            OldRow::None => OldTuple::None,
            OldRow::Key(row) => OldTuple::Key(row),
            OldRow::Full(row) => OldTuple::Full(row),
        };
        let row = Row { kind, position, commit_time_us: transaction.commit_time_us, old, new };
        self.push(oid, &row, now)
    }

    fn push(&mut self, oid: u32, row: &Row<'_>, now: Duration) -> Result<(), ApplyError> {
        if self.open.as_ref().is_some_and(|open| !open.takes(oid, row)) {
            self.finish_open(now);
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                self.open_since = now;
                let relation = self.relations.get(&oid).ok_or(ApplyError::UnknownRelation(oid))?;
                self.open.insert(OpenBatch::new(self.head, self.chain, Arc::clone(relation)))
            }
        };
        if open.push(row)? {
            self.totals.oversize += 1;
        }
        self.totals.rows += 1;
        Ok(())
    }

    fn flush_when_eager(&mut self, now: Duration) {
        let is_due = self.lingers_until().is_none_or(|until| until <= now);
        if self.input_drained && self.window.is_eager() && is_due && !self.awaits_commit() {
            self.finish_open(now);
        }
    }

    /// Whether a small batch holds a part of the transaction that is being read: its rest is on the way already, since the
    /// server sends a transaction only when it has committed.
    fn awaits_commit(&self) -> bool {
        self.open.as_ref().is_some_and(|open| self.goes_on(open.last()) && open.bytes() < LINGER_BYTES)
    }

    fn goes_on(&self, last: Position) -> bool {
        self.transaction.is_some_and(|transaction| transaction.commit_lsn == last.lsn)
    }

    /// Until when a small batch waits for more: only while history is being caught up with. The server is slower than we
    /// are, so that the input is drained again and again; a batch for every few rows would cost the bus more than the rows.
    fn lingers_until(&self) -> Option<Duration> {
        let open = self.open.as_ref()?;
        (self.is_behind() && open.bytes() < LINGER_BYTES).then_some(self.open_since + LINGER)
    }

    fn finish_open(&mut self, now: Duration) {
        if let Some(open) = self.open.take() {
            let goes_on = self.goes_on(open.last());
            let (whole, newest) = open.finish(goes_on);
            if let Some(whole) = whole {
                self.enqueue(whole, now);
            }
            self.enqueue(newest, now);
            self.unfinished = goes_on;
        }
    }

    fn publish_mark(&mut self, at: Position, now: Duration) {
        self.unfinished = false;
        self.enqueue(batch::mark(self.head, self.chain, at), now);
    }

    fn enqueue(&mut self, publish: Publish, now: Duration) {
        self.chain = publish.last;
        self.quiet_since = now;
        self.window.push(publish);
    }

    /// A mark is for quiet times: it waits while a transaction, a batch or an ack is still to come.
    fn mark_due(&self) -> Option<(Duration, &'static str)> {
        if self.transaction.is_some() || self.open.is_some() || self.window.batches() > 0 {
            return None;
        }
        let live_from = self.head.live_from;
        // Gateways take nobody in before the log has passed the place where this session began, so that one is due at once.
        let caught_up = self.chain.lsn < live_from && self.wal_end >= live_from;
        let moved = self.wal_end > self.chain.lsn;
        let spacing = match (caught_up, moved) {
            (true, _) => Duration::ZERO,
            (false, true) => MARK_SPACING,
            (false, false) => MARK_AT_LEAST,
        };
        Some((self.quiet_since + spacing, "mark"))
    }
}
