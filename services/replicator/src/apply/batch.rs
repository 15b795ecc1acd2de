//! The batch that is being filled: consecutive changes of one relation.

use std::fmt;
use std::sync::Arc;

use reactor_model::envelope::{EncodedRelation, OldTuple};
use reactor_model::{BatchBuilder, ChangeKind, Epoch, Lsn, Position};

use super::model::ApplyError;
use super::oversize;
use super::window::Publish;

/// Bytes at which a batch is full. Larger ones gain nothing on the way and make the first row wait for the last.
const MAX_BYTES: usize = 256 * 1024;
/// Changes at which a batch is full.
const MAX_CHANGES: u32 = 4096;

/// One change with its place.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) kind: ChangeKind,
    pub(super) position: Position,
    pub(super) commit_time_us: i64,
    pub(super) old: OldTuple<'a>,
    pub(super) new: Option<&'a [u8]>,
}

impl Row<'_> {
    fn encoded_bytes(&self) -> usize {
        BatchBuilder::change_bytes(self.old, self.new)
    }

    fn images(&self) -> impl Iterator<Item = &[u8]> {
        let old = match self.old {
            OldTuple::None => None,
            OldTuple::Key(image) | OldTuple::Full(image) => Some(image),
        };
        old.into_iter().chain(self.new)
    }
}

fn column_count(image: &[u8]) -> Option<usize> {
    image.first_chunk().map(|count| usize::from(u16::from_be_bytes(*count)))
}

/// What the batches of a session have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) epoch: Epoch,
    pub(super) live_from: Lsn,
    /// Largest batch that the log takes.
    pub(super) max_payload_bytes: usize,
}

pub(super) struct OpenBatch {
    relation: Arc<EncodedRelation>,
    builder: BatchBuilder,
    max_payload_bytes: usize,
}

impl fmt::Debug for OpenBatch {
    /// Prints no bytes: row values never reach logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenBatch({} changes up to {:?})", self.builder.count(), self.builder.last())
    }
}

impl OpenBatch {
    pub(super) fn new(head: Head, previous: Position, relation: Arc<EncodedRelation>) -> Self {
        let builder = BatchBuilder::new(head.epoch, previous, head.live_from, Some(&relation));
        Self { relation, builder, max_payload_bytes: head.max_payload_bytes }
    }

    pub(super) fn oid(&self) -> u32 {
        self.relation.relation.oid
    }

    /// Encoded size so far.
    pub(super) fn bytes(&self) -> usize {
        self.builder.encoded_bytes()
    }

    /// Whether the row goes into this batch: it has the relation's oid and there is room.
    pub(super) fn takes(&self, oid: u32, row: &Row<'_>) -> bool {
        self.oid() == oid
            && self.builder.count() < MAX_CHANGES
            && self.builder.encoded_bytes() + row.encoded_bytes() <= MAX_BYTES.min(self.max_payload_bytes)
    }

    /// Appends the row; when it alone exceeds the bus's maximum, without its largest values.
    ///
    /// Returns whether values were left out.
    pub(super) fn push(&mut self, row: &Row<'_>) -> Result<bool, ApplyError> {
        let columns = self.relation.relation.columns.len();
        if row.images().any(|image| column_count(image) != Some(columns)) {
            return Err(ApplyError::ColumnCount(self.oid()));
        }
        let room = self.max_payload_bytes.saturating_sub(self.builder.encoded_bytes());
        if row.encoded_bytes() <= room {
            self.append(row);
            return Ok(false);
        }
        let budget = room.saturating_sub(BatchBuilder::change_bytes(OldTuple::None, None));
        let shrunk =
            oversize::shrink(&self.relation.relation, row.old, row.new, budget).ok_or(ApplyError::DoesNotFit)?;
        let old = match (row.old, &shrunk.old) {
            (OldTuple::Key(_), Some(tuple)) => OldTuple::Key(tuple.as_bytes()),
            (OldTuple::Full(_), Some(tuple)) => OldTuple::Full(tuple.as_bytes()),
            (OldTuple::None | OldTuple::Key(_) | OldTuple::Full(_), _) => OldTuple::None,
        };
        self.append(&Row { old, new: shrunk.new.as_ref().map(|tuple| &**tuple.as_bytes()), ..*row });
        Ok(true)
    }

    fn append(&mut self, row: &Row<'_>) {
        self.builder.push(row.kind, row.position, row.commit_time_us, row.old, row.new);
    }

    /// Last position so far.
    pub(super) fn last(&self) -> Position {
        self.builder.last()
    }

    /// The batch; two when its newest transaction goes on while others are whole, so that a batch holds whole transactions
    /// or a part of one.
    pub(super) fn finish(self, newest_goes_on: bool) -> (Option<Publish>, Publish) {
        let relation = self.relation;
        let publish = |builder: BatchBuilder, ends_transaction| {
            let (rows, last) = (builder.count(), builder.last());
            Publish { relation: Some(Arc::clone(&relation)), payload: builder.finish(ends_transaction), last, rows }
        };
        if !newest_goes_on {
            return (None, publish(self.builder, true));
        }
        let (whole, newest) = self.builder.split_newest_transaction();
        (whole.map(|whole| publish(whole, true)), publish(newest, false))
    }
}

/// A batch without changes that only moves the position on.
pub(super) fn mark(head: Head, previous: Position, last: Position) -> Publish {
    let payload = BatchBuilder::new(head.epoch, previous, head.live_from, None).finish_at(last);
    Publish { relation: None, payload, last, rows: 0 }
}
