//! One replication session: drives the machine between the stream and the log until something ends it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesOrdered, StreamExt};
use reactor_bus::{Ack, BusError};
use reactor_model::Lsn;
use reactor_model::envelope::EncodedRelation;
use reactor_pg::{Client, PgError};
use reactor_runtime::clock;
use tokio::time::Instant;
use tracing::info;

use crate::apply::{Limits, Machine, Publish, Totals};
use crate::attempt::{Context, SessionEnd};
use crate::error::SessionError;
use crate::pgoutput::{self, Message, RelationMessage};
use crate::prepare::Prepared;
use crate::relation::{self, Described};
use crate::slot::{self, SlotNames};
use crate::source::{ReplicationStream, StreamFrame};

/// While catching up, a read of less than `COALESCE_BELOW` is followed by this pause. The walsender sends a message per
/// row and is the limit; a reader that wakes for each one slows it. Measured: 1.3 to 2 times the rate of a reader
/// without pauses. A live tail never pauses.
const COALESCE: Duration = Duration::from_micros(200);
const COALESCE_BELOW: usize = 16 * 1024;
/// Without a byte from the server for this long it is asked for a sign of life…
const SILENCE: Duration = Duration::from_secs(30);
/// …and given up after this much more.
const SILENCE_GRACE: Duration = Duration::from_secs(15);
/// How often the slot is looked at.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// How long a stop waits for what is on its way to the log.
const STOP_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Session {
    context: Context,
    machine: Machine,
    stream: ReplicationStream,
    catalog: Arc<Client>,
    names: SlotNames,
    slot: String,
    begun: Instant,
    /// What the next append expects to be the newest in the log.
    last_seq: u64,
    /// The append that the log has not taken over yet.
    appending: Option<BoxFuture<'static, Result<Ack, BusError>>>,
    acks: FuturesOrdered<Ack>,
    /// Sequences that the acks must say, oldest first.
    expected: VecDeque<u64>,
    /// A relation message whose meaning is being looked up; nothing is read meanwhile.
    describing: Option<BoxFuture<'static, Result<Described, PgError>>>,
    described: BTreeMap<u32, Described>,
    /// The transaction that the stream is in, or was in last.
    xid: Option<u32>,
    probing: BoxFuture<'static, Option<u64>>,
    heard_at: Instant,
    asked_for_life: bool,
    pause_before_read: bool,
    counted: Totals,
    /// Where this session ends, because the next one follows another publication too.
    ends_at: Option<Lsn>,
    /// Whether everything before that has been read.
    is_at_end: bool,
}

impl Session {
    pub(crate) fn new(context: Context, prepared: Prepared) -> Self {
        let limits = Limits {
            max_payload_bytes: context.log.max_payload_bytes(),
            confirm_lag: context.settings.confirm_lag,
            confirm_lag_max_bytes: context.settings.confirm_lag_max_bytes,
        };
        let begun = Instant::now();
        let probing =
            probe(Arc::clone(&prepared.catalog), prepared.names.clone(), prepared.slot.clone(), Duration::ZERO);
        Self {
            machine: Machine::new(limits, prepared.start),
            stream: prepared.stream,
            catalog: prepared.catalog,
            names: prepared.names,
            slot: prepared.slot,
            begun,
            last_seq: prepared.last_seq,
            appending: None,
            acks: FuturesOrdered::new(),
            expected: VecDeque::new(),
            describing: None,
            described: BTreeMap::new(),
            xid: None,
            probing,
            heard_at: begun,
            asked_for_life: false,
            pause_before_read: false,
            counted: Totals::default(),
            ends_at: prepared.messages_from,
            is_at_end: false,
            context,
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The session's one loop. In order of priority: abort, stop, the log taking a batch over, acks, descriptions,
    /// deadlines, the slot probe, and only then more input.
    pub(crate) async fn run(mut self) -> Result<SessionEnd, SessionError> {
        loop {
            self.handle_buffered()?;
            let has_read = self.read_what_is_there().await?;
            self.exchange_with_log()?;
            self.send_due_status().await?;
            self.context.status.record(&mut self.machine, self.begun.elapsed(), &mut self.counted);
            if self.is_at_end {
                self.end().await?;
                return Ok(SessionEnd::PublicationJoins);
            }
            if self.machine.server_is_stopping() {
                info!("the server is shutting down");
                self.end().await?;
                return Ok(SessionEnd::ServerStopping);
            }
            let (deadline, reads) = (self.deadline(), self.reads());
            tokio::select! {
                biased;
                () = self.context.abort.cancelled() => return Ok(SessionEnd::Aborted),
                () = self.context.stop.cancelled() => {
                    self.end().await?;
                    return Ok(SessionEnd::Stopped);
                }
                ack = pending_or(&mut self.appending) => self.handle_appended(ack?),
                Some(stored) = self.acks.next() => self.handle_stored(stored?)?,
                described = pending_or(&mut self.describing) => self.handle_described(described?),
                () = tokio::time::sleep_until(deadline) => self.handle_deadline().await?,
                retained = &mut self.probing => self.handle_probe(retained)?,
                () = std::future::ready(()), if has_read => {}
                read = self.stream.fill(), if reads => self.handle_read(read?),
            }
        }
    }

    /// Whether more of the stream may be read now.
    fn reads(&self) -> bool {
        self.describing.is_none() && !self.is_at_end && self.machine.wants_input()
    }

    /// Takes what has arrived, without waiting for more. Whether there was anything; if not, the machine is told that it
    /// has all there is.
    async fn read_what_is_there(&mut self) -> Result<bool, SessionError> {
        if !self.reads() {
            return Ok(false);
        }
        if std::mem::take(&mut self.pause_before_read) {
            std::thread::sleep(COALESCE);
            // Lets the runtime see what has arrived meanwhile.
            tokio::task::yield_now().await;
        }
        match self.stream.fill().now_or_never() {
            Some(read) => {
                self.handle_read(read?);
                Ok(true)
            }
            None => {
                let now = self.now();
                self.machine.handle_input_drained(now);
                Ok(false)
            }
        }
    }

    /// Hands the frames that were read to the machine, as far as it wants them.
    fn handle_buffered(&mut self) -> Result<(), SessionError> {
        let now = self.now();
        while self.reads() {
            let Some(frame) = self.stream.next_frame()? else { break };
            match frame {
                StreamFrame::Keepalive { wal_end, reply_requested } => {
                    self.machine.handle_keepalive(wal_end, reply_requested, now);
                    if let Some(end) = self.ends_at.filter(|end| wal_end >= *end && !self.machine.in_transaction()) {
                        self.machine.handle_end_at(end, now);
                        self.is_at_end = true;
                    }
                }
                StreamFrame::Data { frame, message } => {
                    let message = pgoutput::decode(message)?;
                    if let Message::Begin { commit_lsn, .. } = message
                        && let Some(end) = self.ends_at.filter(|end| commit_lsn >= *end)
                    {
                        // Transactions come in the order of their commits, so that this one is the next session's.
                        self.machine.handle_end_at(end, now);
                        self.is_at_end = true;
                        break;
                    }
                    self.machine.handle_message(frame, &message, now)?;
                    match message {
                        Message::Begin { xid, .. } => self.xid = Some(xid),
                        Message::Relation(relation) => self.describing = Some(self.describe(relation)),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn describe(&self, message: RelationMessage) -> BoxFuture<'static, Result<Described, PgError>> {
        let catalog = Arc::clone(&self.catalog);
        let earlier = self.described.get(&message.oid).cloned();
        let xid = self.xid;
        Box::pin(async move { relation::describe(&catalog, &message, earlier.as_ref(), xid).await })
    }

    fn handle_described(&mut self, described: Described) {
        let now = self.now();
        self.machine.handle_relation(EncodedRelation::new(Arc::clone(&described.relation)), now);
        self.described.insert(described.relation.oid, described);
        self.heard_at = Instant::now();
    }

    /// Appends are handed over one after the other, so that the log sees them in order.
    fn begin_append(&mut self) {
        if self.appending.is_some() {
            return;
        }
        let Some(publish) = self.machine.poll_publish() else { return };
        let (log, tenant) = (Arc::clone(&self.context.log), self.context.settings.tenant.clone());
        let expected_last = self.last_seq;
        self.last_seq += 1;
        self.expected.push_back(self.last_seq);
        self.appending = Some(Box::pin(async move {
            let Publish { relation, payload, .. } = publish;
            let (schema, table) = relation
                .as_ref()
                .map_or(("", ""), |encoded| (encoded.relation.schema.as_str(), encoded.relation.table.as_str()));
            log.append(&tenant, schema, table, payload, expected_last).await
        }));
    }

    /// Everything between us and the log that needs no waiting.
    fn exchange_with_log(&mut self) -> Result<(), SessionError> {
        loop {
            self.begin_append();
            let Some(ack) = pending_or(&mut self.appending).now_or_never() else { break };
            self.handle_appended(ack?);
        }
        while let Some(Some(stored)) = self.acks.next().now_or_never() {
            self.handle_stored(stored?)?;
        }
        self.begin_append();
        Ok(())
    }

    fn handle_appended(&mut self, ack: Ack) {
        self.acks.push_back(ack);
    }

    fn handle_stored(&mut self, seq: u64) -> Result<(), SessionError> {
        if self.expected.pop_front() != Some(seq) {
            return Err(BusError::Fenced.into());
        }
        let now = self.now();
        Ok(self.machine.handle_ack(now)?)
    }

    fn handle_read(&mut self, bytes: usize) {
        self.heard_at = Instant::now();
        self.asked_for_life = false;
        self.pause_before_read = bytes < COALESCE_BELOW && self.machine.is_behind();
    }

    async fn send_due_status(&mut self) -> Result<(), SessionError> {
        let now = self.now();
        match self.machine.poll_status(now) {
            Some(status) => Ok(self.stream.send_status(status, clock::unix_micros(), false).await?),
            None => Ok(()),
        }
    }

    fn deadline(&mut self) -> Instant {
        let now = self.now();
        let (due, _reason) = self.machine.poll_timeout(now);
        let silence = if self.asked_for_life { SILENCE + SILENCE_GRACE } else { SILENCE };
        (self.begun + due).min(self.heard_at + silence)
    }

    async fn handle_deadline(&mut self) -> Result<(), SessionError> {
        let now = self.now();
        self.machine.handle_timeout(now);
        let silent = self.heard_at.elapsed();
        if !self.reads() {
            // It is we who do not listen.
            self.heard_at = Instant::now();
        } else if silent >= SILENCE + SILENCE_GRACE {
            return Err(SessionError::Silent);
        } else if silent >= SILENCE && !self.asked_for_life {
            self.asked_for_life = true;
            let status = self.machine.standby_status(now);
            self.stream.send_status(status, clock::unix_micros(), true).await?;
        }
        Ok(())
    }

    fn handle_probe(&mut self, retained: Option<u64>) -> Result<(), SessionError> {
        self.probing = probe(Arc::clone(&self.catalog), self.names.clone(), self.slot.clone(), PROBE_EVERY);
        let Some(bytes) = retained else { return Ok(()) };
        self.context.status.set_retained(bytes);
        if self.context.settings.max_lag_bytes.is_some_and(|max| bytes > max) {
            return Err(SessionError::LagsTooFar { slot: self.slot.clone(), bytes });
        }
        Ok(())
    }

    /// What has been read goes to the log, the server hears how far that was, the connection is closed.
    async fn end(mut self) -> Result<(), SessionError> {
        let now = self.now();
        self.machine.handle_end(now);
        let finish = async {
            loop {
                self.begin_append();
                if self.appending.is_none() && self.acks.is_empty() {
                    return Ok::<(), SessionError>(());
                }
                tokio::select! {
                    biased;
                    ack = pending_or(&mut self.appending) => self.handle_appended(ack?),
                    Some(stored) = self.acks.next() => self.handle_stored(stored?)?,
                }
            }
        };
        let finished = tokio::time::timeout(STOP_WITHIN, finish).await;
        let now = self.now();
        self.context.status.record(&mut self.machine, now, &mut self.counted);
        let status = self.machine.standby_status(now);
        self.stream.send_status(status, clock::unix_micros(), false).await?;
        self.stream.close().await;
        info!(acked = %self.machine.lsns(now).acked, flushed = %status.flushed, in_time = finished.is_ok(), "session ended");
        finished.unwrap_or(Ok(()))
    }
}

/// The value of the future, which is then gone; never without one.
async fn pending_or<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => {
            let value = future.await;
            *slot = None;
            value
        }
        None => std::future::pending().await,
    }
}

/// What the slot holds back, after `delay`; `None` when that cannot be read, which the stream will notice too.
fn probe(catalog: Arc<Client>, names: SlotNames, slot: String, delay: Duration) -> BoxFuture<'static, Option<u64>> {
    Box::pin(async move {
        tokio::time::sleep(delay).await;
        slot::retained_bytes(&catalog, &names, &slot).await.ok().flatten()
    })
}
