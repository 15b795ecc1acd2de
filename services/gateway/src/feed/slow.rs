//! The slow lane: connections with rows that only Postgres can judge. It reads the ring behind the fast lane, asks, and
//! delivers; when no answer can be had in time, nothing is delivered, and those connections are told to resync when answers
//! can be had again.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reactor_model::{Batch, EventId};

use super::{CHUNK_BYTES, Feed, ask};
use crate::hub::{Answers, Resync};

/// How often it is looked whether answers can be had again.
const PAUSE: Duration = Duration::from_secs(1);

impl Feed {
    /// Serves the slow lane for ever.
    pub(super) async fn serve_slow_lane(&self) {
        let mut status = self.status();
        loop {
            let head = status.borrow_and_update().head;
            if let Some(head) = head {
                self.catch_up_slow_lane(head).await;
            }
            let owes = self.owes_resync.load(Ordering::Relaxed);
            tokio::select! {
                changed = status.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(PAUSE), if owes => {}
            }
            if owes {
                self.resync_if_answered();
            }
        }
    }

    async fn catch_up_slow_lane(&self, head: EventId) {
        loop {
            let (at, holds) = {
                let mut slow = self.slow();
                match slow.taken() {
                    // History was lost since this head was told. The lane is past it, and never goes back; the next is told soon.
                    Some(at) if at.epoch != head.epoch || at.position > head.position => return,
                    Some(at) if !slow.is_empty() => (at, slow.holds_a_part()),
                    // Nobody waits: the lane starts again at the head.
                    _ => {
                        slow.set_head(head);
                        return;
                    }
                }
            };
            let batches = {
                let ring = &self.live().ring;
                match ring.mark_at(at.position).filter(|_| holds) {
                    Some(mark) => Some(vec![mark]),
                    None => ring.between(at.position, head.position, CHUNK_BYTES),
                }
            };
            let Some(batches) = batches else {
                let resync = Resync { reason: "gap", oldest: self.oldest(), newest: head };
                let mut slow = self.slow();
                if slow.taken() != Some(at) {
                    return;
                }
                let delivered = slow.resync(&resync);
                drop(slow);
                self.metrics.resyncs.with_label_values(&["gap"]).inc();
                self.count(&delivered);
                return;
            };
            if batches.is_empty() {
                return;
            }
            for batch in batches {
                if batch.epoch != at.epoch {
                    return;
                }
                self.deliver_slowly(&batch).await;
            }
        }
    }

    /// Delivers a batch, and those of its transaction that were held for it.
    async fn deliver_slowly(&self, batch: &Arc<Batch>) {
        let batches = {
            let mut slow = self.slow();
            if slow.is_of_other_history(batch) {
                return;
            }
            let batches = slow.take(batch);
            let delivered = slow.foresee(&batches);
            drop(slow);
            self.count(&delivered);
            batches
        };
        for batch in batches {
            let parts = self.slow().parts(&batch);
            for part in parts {
                self.deliver_part_slowly(&batch, part).await;
            }
        }
    }

    /// Asks what is not known yet, until everything is, and delivers under the same lock: a connection that joins in
    /// between has its questions asked too.
    async fn deliver_part_slowly(&self, batch: &Arc<Batch>, part: Range<usize>) {
        let mut answers = Answers::default();
        let mut gave_up = self.owes_resync.load(Ordering::Relaxed) && self.authorizer.unavailable().is_some();
        loop {
            let questions = {
                let mut slow = self.slow();
                let (questions, delivered) = slow.questions(batch, part.clone(), &answers);
                self.count(&delivered);
                if questions.is_empty() || gave_up {
                    let delivered = slow.deliver_part(batch, part, &answers);
                    drop(slow);
                    self.count(&delivered);
                    return;
                }
                questions
            };
            self.metrics.comparisons_asked.inc_by(questions.comparisons.len() as u64);
            let rows: usize = questions.rows.values().map(|rows| rows.places.len()).sum();
            self.metrics.rows_asked.inc_by(rows as u64);
            if let Err(error) = ask(&self.authorizer, &self.settings.tenant, batch, questions, &mut answers).await {
                tracing::warn!(%error, "rows could not be judged; their subscribers are told to resync when they can be");
                self.owes_resync.store(true, Ordering::Relaxed);
                gave_up = true;
            }
        }
    }

    /// Tells those from whom something was withheld for want of an answer, once answers can be had.
    fn resync_if_answered(&self) {
        if self.authorizer.unavailable().is_some() {
            return;
        }
        self.owes_resync.store(false, Ordering::Relaxed);
        let mut slow = self.slow();
        let Some(newest) = slow.head() else { return };
        self.metrics.resyncs.with_label_values(&["policy_unavailable"]).inc();
        let delivered = slow.resync_asking(&Resync { reason: "policy_unavailable", oldest: None, newest });
        drop(slow);
        self.count(&delivered);
    }
}
