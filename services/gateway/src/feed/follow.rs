//! Following the log: find it, read on from the last known position, notice every gap.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reactor_bus::{BusError, Stored};
use reactor_model::{Batch, EventId, Position, RelationCache};
use reactor_runtime::Backoff;

use super::{Feed, Fit, fit};
use crate::hub::Answers;

/// First and longest pause between attempts to follow: short, since every subscriber waits for it.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

impl Feed {
    /// Follows for ever; every failure is retried.
    pub(super) async fn follow_forever(&self) {
        let cache = RelationCache::default();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let error = match self.follow_once(&cache, &mut backoff).await {
                Ok(()) => BusError::Unavailable("the log's stream ended", None),
                Err(error) => error,
            };
            self.set_status(|status| status.following = false);
            self.metrics.follow_errors.inc();
            if matches!(error, BusError::NoLog) {
                tracing::debug!("no change log yet");
            } else {
                tracing::warn!(%error, "lost the change log; following again");
            }
            if matches!(error, BusError::Reset) {
                self.history.forget();
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn follow_once(&self, cache: &RelationCache, backoff: &mut Backoff) -> Result<(), BusError> {
        let after = self.place_in_log(cache).await?;
        let mut stored = self.log.follow(&self.settings.tenant, after).await?;
        self.set_status(|status| status.following = status.head.is_some());
        while let Some(next) = stored.next().await {
            if let (Some((batch, after)), Some(observer)) = (self.take(&next?, cache), self.observer.0.get()) {
                observer(&batch, after);
            }
            backoff.reset();
        }
        Ok(())
    }

    /// The sequence after which to follow: that of the newest batch at first, later that of the last one seen.
    async fn place_in_log(&self, cache: &RelationCache) -> Result<u64, BusError> {
        let head = self.status.borrow().head;
        if let Some(head) = head {
            let after = self.history.sequence_after(head).await?;
            return Ok(after.saturating_sub(1));
        }
        let bounds = self.log.bounds(&self.settings.tenant).await?;
        if let Some(newest) = self.log.get(&self.settings.tenant, bounds.last).await? {
            self.take(&newest, cache);
        }
        Ok(bounds.last)
    }

    /// Returns the batch when it was not known, and the position after which it is new.
    fn take(&self, stored: &Stored, cache: &RelationCache) -> Option<(Arc<Batch>, Position)> {
        let batch = match Batch::decode(stored.payload.clone(), cache) {
            Ok(batch) => Arc::new(batch),
            Err(error) => {
                // The next batch shows the gap that this one leaves.
                self.metrics.undecodable.inc();
                tracing::error!(%error, seq = stored.seq, "cannot read a batch");
                return None;
            }
        };
        let newest = EventId { epoch: batch.epoch, position: batch.last };
        self.metrics.batches.inc();
        let head = self.status.borrow().head;
        let mut after = batch.previous;
        match head.map_or(Fit::Next, |head| fit(head, &batch)) {
            Fit::Known => return None,
            Fit::Next => after = head.map_or(after, |head| head.position),
            Fit::Gap => self.lose("gap", EventId { epoch: batch.epoch, position: batch.previous }),
            Fit::OtherEpoch => self.lose("epoch_changed", EventId { epoch: batch.epoch, position: batch.previous }),
        }
        {
            let mut live = self.live();
            if live.hub.head().is_none() {
                live.hub.set_head(EventId { epoch: batch.epoch, position: batch.previous });
            }
            live.ring.push(Arc::clone(&batch));
            let delivered = live.hub.deliver(&batch, &Answers::default());
            self.metrics.ring_bytes.set(i64::try_from(live.ring.bytes()).unwrap_or(i64::MAX));
            drop(live);
            self.count(&delivered);
        }
        self.observe_lag(&batch);
        self.set_status(|status| {
            status.head = Some(newest);
            status.live_from = batch.live_from;
            status.following = true;
        });
        Some((batch, after))
    }

    /// History between the head and `newest` is lost: tells everybody, and goes on from there.
    fn lose(&self, reason: &'static str, newest: EventId) {
        tracing::error!(reason, "changes were lost before they reached this gateway; subscribers are told to resync");
        self.metrics.resyncs.with_label_values(&[reason]).inc();
        let resync = crate::hub::Resync { reason, oldest: None, newest };
        let (fast, slow) = {
            // Both lanes at once: the slow one is never behind what the ring has lost.
            let (mut slow, mut live) = (self.slow(), self.live());
            live.ring.clear();
            (live.hub.resync(&resync), slow.resync(&resync))
        };
        self.count(&fast);
        self.count(&slow);
    }

    fn observe_lag(&self, batch: &Batch) {
        if let Some(change) = batch.changes.last() {
            let lag_us = reactor_runtime::clock::unix_micros().saturating_sub(change.commit_time_us).max(0);
            #[expect(clippy::cast_precision_loss, reason = "a duration in µs is far below 2^52")]
            self.metrics.commit_to_fanout.observe(lag_us as f64 / 1e6);
        }
    }
}
