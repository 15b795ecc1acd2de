//! The newest batches, bounded in bytes, as one unbroken chain.

use std::collections::VecDeque;
use std::sync::Arc;

use reactor_model::{Batch, EventId, Position};

/// An unbroken chain of the newest batches. When a push passes the bound, the oldest go; at least one stays.
#[derive(Debug)]
pub struct Ring {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    limit_bytes: usize,
}

impl Ring {
    /// An empty ring.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, limit_bytes }
    }

    /// Appends the batch that follows the newest.
    pub fn push(&mut self, batch: Arc<Batch>) {
        self.bytes += batch.encoded_bytes;
        self.batches.push_back(batch);
        while self.bytes > self.limit_bytes && self.batches.len() > 1 {
            if let Some(oldest) = self.batches.pop_front() {
                self.bytes -= oldest.encoded_bytes;
            }
        }
    }

    /// Forgets everything: the chain was broken.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }

    /// The oldest position from which the ring can serve.
    #[must_use]
    pub fn oldest(&self) -> Option<Position> {
        self.batches.front().map(|batch| batch.previous)
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest batches of a table, in order: those up to `upto` whose last commit is at most `age_us` older than the newest.
    #[must_use]
    pub fn newest_of(&self, schema: &str, table: &str, upto: Option<EventId>, age_us: i64) -> Vec<Arc<Batch>> {
        let committed = |batch: &Batch| batch.changes.last().map(|change| change.commit_time_us);
        let newest = self.batches.iter().rev().find_map(|batch| committed(batch)).unwrap_or_default();
        let is_recent = |batch: &&Arc<Batch>| committed(batch).is_none_or(|at| at >= newest.saturating_sub(age_us));
        let is_wanted = |batch: &&Arc<Batch>| {
            upto.is_some_and(|upto| batch.last <= upto.position)
                && batch.relation.as_ref().is_some_and(|relation| relation.table == table && relation.schema == schema)
        };
        let mut found: Vec<_> = self.batches.iter().rev().take_while(is_recent).filter(is_wanted).cloned().collect();
        found.reverse();
        found
    }

    /// The mark that ends the transaction up to this position, when it has that position itself.
    #[must_use]
    pub fn mark_at(&self, position: Position) -> Option<Arc<Batch>> {
        let start = self.batches.partition_point(|batch| batch.last < position);
        let mut found = self.batches.range(start..).take_while(|batch| batch.last == position);
        found.find(|batch| batch.relation.is_none()).cloned()
    }

    /// Batches with something after `after` and nothing after `upto`, in order, about `max_bytes` of them;
    /// `None` when the ring does not reach back to `after`.
    #[must_use]
    pub fn between(&self, after: Position, upto: Position, max_bytes: usize) -> Option<Vec<Arc<Batch>>> {
        if self.oldest()? > after {
            return None;
        }
        let start = self.batches.partition_point(|batch| batch.last <= after);
        let mut bytes = 0;
        let fits = |batch: &&Arc<Batch>| {
            let first = bytes == 0;
            bytes += batch.encoded_bytes;
            batch.last <= upto && (first || bytes <= max_bytes)
        };
        Some(self.batches.range(start..).take_while(fits).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reactor_model::{Epoch, Lsn};

    fn batch(previous: u64, last: u64) -> Arc<Batch> {
        Arc::new(Batch {
            epoch: Epoch(1),
            previous: Position::before(Lsn(previous)),
            last: Position::before(Lsn(last)),
            live_from: Lsn(0),
            relation: None,
            fingerprint: 0,
            changes: Vec::new(),
            ends_transaction: true,
            encoded_bytes: 10,
        })
    }

    fn lasts(ring: &Ring, after: u64, upto: u64, max: usize) -> Option<Vec<u64>> {
        let found = ring.between(Position::before(Lsn(after)), Position::before(Lsn(upto)), max)?;
        Some(found.iter().map(|batch| batch.last.lsn.0).collect())
    }

    #[test]
    fn serves_from_the_middle_and_knows_its_reach() {
        let mut ring = Ring::new(30);
        assert_eq!(lasts(&ring, 0, 9, 100), None);
        for at in 1..=5 {
            ring.push(batch(at, at + 1));
        }
        assert_eq!(ring.oldest(), Some(Position::before(Lsn(3))));
        assert_eq!(lasts(&ring, 2, 9, 100), None);
        assert_eq!(lasts(&ring, 3, 9, 100), Some(vec![4, 5, 6]));
        assert_eq!(lasts(&ring, 4, 5, 100), Some(vec![5]));
        assert_eq!(lasts(&ring, 3, 9, 15), Some(vec![4]));
        assert_eq!(lasts(&ring, 6, 9, 100), Some(vec![]));
    }
}
