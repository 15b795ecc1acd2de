//! What travels on the bus: a batch of consecutive changes of one table, or a mark without changes.
//!
//! Layout, version 2, big-endian: version `u8`, flags `u8`, epoch `u32`, previous position, last position, live-from
//! LSN `u64`, change count `u32`, relation fingerprint `u64`, relation description (`u32` length + JSON), then the
//! changes. A change is kind `u8`, old-image tag `u8`, commit LSN `u64`, ordinal `u32`, commit time `i64`
//! (µs since 1970), old tuple, new tuple (see [`crate::tuple`]). A reader refuses a version it does not know.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::Epoch;
use crate::lsn::Lsn;
use crate::position::Position;
use crate::relation::Relation;
use crate::tuple::{self, Tuple};

const VERSION: u8 = 2;
/// Flag: the last change is the last of its transaction.
const ENDS_TRANSACTION: u8 = 1;
const FLAGS_OFFSET: usize = 1;
const EPOCH_OFFSET: usize = 2;
const PREVIOUS_OFFSET: usize = EPOCH_OFFSET + 4;
const CHANGE_HEADER_BYTES: usize = 1 + 1 + 8 + 4 + 8;
/// Bytes from the start to the change count.
const COUNT_OFFSET: usize = LAST_OFFSET + 12 + 8;
const LAST_OFFSET: usize = PREVIOUS_OFFSET + 12;

/// What happened to a row, or to a whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChangeKind {
    /// A new row.
    Insert,
    /// A changed row.
    Update,
    /// A removed row.
    Delete,
    /// All rows removed at once.
    Truncate,
}

impl ChangeKind {
    const fn tag(self) -> u8 {
        match self {
            Self::Insert => b'I',
            Self::Update => b'U',
            Self::Delete => b'D',
            Self::Truncate => b'T',
        }
    }

    /// The name of the event in SSE: `insert`, `update`, `delete` or `truncate`.
    #[must_use]
    pub const fn event_name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }
}

/// The old row of an UPDATE or DELETE, as much as the replica identity gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldImage {
    /// Not sent.
    None,
    /// Identity columns only; the others are NULL in the tuple and mean nothing.
    Key(Tuple),
    /// Every column (REPLICA IDENTITY FULL).
    Full(Tuple),
}

impl OldImage {
    /// The old row, when every column of it is known.
    #[must_use]
    pub const fn full(&self) -> Option<&Tuple> {
        match self {
            Self::Full(tuple) => Some(tuple),
            Self::None | Self::Key(_) => None,
        }
    }

    /// What is known of the old row, in whichever form.
    #[must_use]
    pub const fn tuple(&self) -> Option<&Tuple> {
        match self {
            Self::Full(tuple) | Self::Key(tuple) => Some(tuple),
            Self::None => None,
        }
    }
}

/// One change with its place in the total order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Place in the total order.
    pub position: Position,
    /// Commit time, µs since 1970 UTC.
    pub commit_time_us: i64,
    /// What happened.
    pub kind: ChangeKind,
    /// Row before, for UPDATE and DELETE.
    pub old: OldImage,
    /// Row after, for INSERT and UPDATE.
    pub new: Option<Tuple>,
}

/// Consecutive changes of one table; without a relation it is a mark that only moves the position on.
///
/// The changes are those of whole transactions, or of a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// History that the positions belong to.
    pub epoch: Epoch,
    /// Last position of the batch before this one: a follower that has not seen it has a gap.
    pub previous: Position,
    /// Last position of this batch.
    pub last: Position,
    /// Whether nothing more of its last change's transaction follows. A mark ends one whose end was not known before.
    pub ends_transaction: bool,
    /// End of the log when the replicator's session began; before it, changes are a re-reading of the past.
    pub live_from: Lsn,
    /// The table; `None` in a mark.
    pub relation: Option<Arc<Relation>>,
    /// Identifies the relation's description; 0 in a mark.
    pub fingerprint: u64,
    /// The changes in order.
    pub changes: Vec<Change>,
    /// Size of the encoded batch in bytes.
    pub encoded_bytes: usize,
}

/// The bytes are not a batch of a version that this reader knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A newer writer.
    #[error("batch version {0} is not known to this reader")]
    Version(u8),
    /// Bytes end early, a tag or tuple is wrong, or the description does not parse.
    #[error("malformed batch")]
    Malformed,
}

impl From<bytes::TryGetError> for EnvelopeError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Malformed
    }
}

impl From<tuple::TupleError> for EnvelopeError {
    fn from(_: tuple::TupleError) -> Self {
        Self::Malformed
    }
}

/// A relation with its description encoded once, for [`BatchBuilder`].
#[derive(Clone, Debug)]
pub struct EncodedRelation {
    /// The relation.
    pub relation: Arc<Relation>,
    fingerprint: u64,
    json: Bytes,
}

impl EncodedRelation {
    /// Encodes the description.
    #[must_use]
    pub fn new(relation: Arc<Relation>) -> Self {
        let json = Bytes::from(serde_json::to_vec(&*relation).unwrap_or_default());
        let fingerprint = fingerprint(&json);
        Self { relation, fingerprint, json }
    }

    /// Identifies this description: equal for equal relations, never 0.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Bytes that the description adds to a batch.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        self.json.len()
    }
}

fn fingerprint(json: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    json.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Builds one batch by appending changes as they are decoded.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: BytesMut,
    /// Bytes before the first change.
    header_bytes: usize,
    whole: Place,
    end: Place,
}

/// A place between two changes.
#[derive(Clone, Copy, Debug)]
struct Place {
    bytes: usize,
    count: u32,
    last: Position,
}

impl BatchBuilder {
    /// Starts a batch after `previous`. A batch without a relation is a mark: give it its place with
    /// [`BatchBuilder::finish_at`].
    #[must_use]
    pub fn new(epoch: Epoch, previous: Position, live_from: Lsn, relation: Option<&EncodedRelation>) -> Self {
        let description = relation.map_or(0, EncodedRelation::encoded_bytes);
        let mut bytes = BytesMut::with_capacity(1024 + description);
        bytes.put_u8(VERSION);
        bytes.put_u8(0);
        bytes.put_u32(epoch.0);
        put_position(&mut bytes, previous);
        put_position(&mut bytes, previous);
        bytes.put_u64(live_from.0);
        bytes.put_u32(0);
        bytes.put_u64(relation.map_or(0, |relation| relation.fingerprint));
        bytes.put_u32(u32::try_from(description).unwrap_or(u32::MAX));
        if let Some(relation) = relation {
            bytes.put_slice(&relation.json);
        }
        let place = Place { bytes: bytes.len(), count: 0, last: previous };
        Self { header_bytes: bytes.len(), bytes, whole: place, end: place }
    }

    /// Appends one change; tuples are given in their encoded form (see [`crate::tuple`]).
    pub fn push(
        &mut self,
        kind: ChangeKind,
        position: Position,
        commit_time_us: i64,
        old: OldTuple<'_>,
        new: Option<&[u8]>,
    ) {
        if position.lsn != self.end.last.lsn {
            self.whole = self.end;
        }
        let (old_tag, old_bytes) = match old {
            OldTuple::None => (b'-', None),
            OldTuple::Key(bytes) => (b'K', Some(bytes)),
            OldTuple::Full(bytes) => (b'O', Some(bytes)),
        };
        self.bytes.put_u8(kind.tag());
        self.bytes.put_u8(old_tag);
        put_position(&mut self.bytes, position);
        self.bytes.put_i64(commit_time_us);
        for tuple in [old_bytes, new].into_iter().flatten() {
            self.bytes.put_slice(tuple);
        }
        self.end = Place { bytes: self.bytes.len(), count: self.end.count + 1, last: position };
    }

    /// Changes so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.end.count
    }

    /// Encoded size so far.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Size that a change with these tuples would add.
    #[must_use]
    pub fn change_bytes(old: OldTuple<'_>, new: Option<&[u8]>) -> usize {
        let old = match old {
            OldTuple::None => 0,
            OldTuple::Key(bytes) | OldTuple::Full(bytes) => bytes.len(),
        };
        CHANGE_HEADER_BYTES + old + new.map_or(0, <[u8]>::len)
    }

    /// Position of the last change, or the previous batch's when empty.
    #[must_use]
    pub fn last(&self) -> Position {
        self.end.last
    }

    /// The changes of the transactions before the newest, and those of the newest; `None` when there is only one.
    #[must_use]
    pub fn split_newest_transaction(mut self) -> (Option<Self>, Self) {
        let whole = self.whole;
        if whole.count == 0 {
            return (None, self);
        }
        let mut bytes = BytesMut::with_capacity(self.header_bytes + self.bytes.len() - whole.bytes);
        bytes.put_slice(self.bytes.get(..self.header_bytes).unwrap_or_default());
        if let Some(mut slot) = bytes.get_mut(PREVIOUS_OFFSET..LAST_OFFSET) {
            slot.put_u64(whole.last.lsn.0);
            slot.put_u32(whole.last.ordinal);
        }
        let begin = Place { bytes: self.header_bytes, count: 0, last: whole.last };
        bytes.put_slice(self.bytes.get(whole.bytes..).unwrap_or_default());
        let end = Place { bytes: bytes.len(), count: self.end.count - whole.count, last: self.end.last };
        let newest = Self { bytes, header_bytes: self.header_bytes, whole: begin, end };
        self.bytes.truncate(whole.bytes);
        self.end = whole;
        (Some(self), newest)
    }

    /// The encoded batch, ending at its last change; `ends_transaction` as in [`Batch::ends_transaction`].
    #[must_use]
    pub fn finish(mut self, ends_transaction: bool) -> Bytes {
        if let Some(flags) = self.bytes.get_mut(FLAGS_OFFSET) {
            *flags = if ends_transaction { ENDS_TRANSACTION } else { 0 };
        }
        let last = self.end.last;
        self.close(last)
    }

    /// A mark, ending at `last`.
    #[must_use]
    pub fn finish_at(mut self, last: Position) -> Bytes {
        self.end.last = last;
        self.finish(true)
    }

    fn close(mut self, last: Position) -> Bytes {
        if let Some(slot) = self.bytes.get_mut(LAST_OFFSET..LAST_OFFSET + 12) {
            let mut slot = slot;
            slot.put_u64(last.lsn.0);
            slot.put_u32(last.ordinal);
        }
        if let Some(slot) = self.bytes.get_mut(COUNT_OFFSET..COUNT_OFFSET + 4) {
            slot.copy_from_slice(&self.end.count.to_be_bytes());
        }
        self.bytes.freeze()
    }
}

/// An old image in encoded form.
#[derive(Clone, Copy, Debug)]
pub enum OldTuple<'a> {
    /// Not sent.
    None,
    /// Identity columns only.
    Key(&'a [u8]),
    /// Every column.
    Full(&'a [u8]),
}

/// Relations by fingerprint, so that a description is parsed once and shared by all its batches.
///
/// Bounded: at `MAX_RELATIONS` it is emptied, which only costs parsing again.
#[derive(Debug, Default)]
pub struct RelationCache {
    relations: Mutex<HashMap<u64, Arc<Relation>>>,
}

/// Descriptions that a [`RelationCache`] holds: far more than a tenant has published tables.
const MAX_RELATIONS: usize = 4096;

impl RelationCache {
    fn relation(&self, fingerprint: u64, json: &[u8]) -> Result<Arc<Relation>, EnvelopeError> {
        let mut relations = self.relations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(relation) = relations.get(&fingerprint) {
            return Ok(Arc::clone(relation));
        }
        let relation: Arc<Relation> = Arc::new(serde_json::from_slice(json).map_err(|_| EnvelopeError::Malformed)?);
        if relations.len() >= MAX_RELATIONS {
            relations.clear();
        }
        relations.insert(fingerprint, Arc::clone(&relation));
        Ok(relation)
    }
}

/// The head of a batch, read without its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// History that the positions belong to.
    pub epoch: Epoch,
    /// Last position of the batch before.
    pub previous: Position,
    /// Last position of this batch.
    pub last: Position,
    /// Whether nothing more of its last change's transaction follows.
    pub ends_transaction: bool,
}

impl BatchHead {
    /// Reads the head only.
    ///
    /// # Errors
    /// As [`Batch::decode`].
    pub fn decode(mut bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let version = bytes.try_get_u8()?;
        if version != VERSION {
            return Err(EnvelopeError::Version(version));
        }
        let ends_transaction = bytes.try_get_u8()? & ENDS_TRANSACTION != 0;
        let epoch = Epoch(bytes.try_get_u32()?);
        let previous = take_position(&mut bytes)?;
        let last = take_position(&mut bytes)?;
        Ok(Self { epoch, previous, last, ends_transaction })
    }
}

impl Batch {
    /// Reads a batch; its tuples share `bytes`.
    ///
    /// # Errors
    /// [`EnvelopeError`] on an unknown version or malformed bytes.
    pub fn decode(bytes: Bytes, cache: &RelationCache) -> Result<Self, EnvelopeError> {
        let encoded_bytes = bytes.len();
        let head = BatchHead::decode(&bytes)?;
        let mut rest = bytes.slice(LAST_OFFSET + 12..);
        let live_from = Lsn(rest.try_get_u64()?);
        let count = rest.try_get_u32()?;
        let fingerprint = rest.try_get_u64()?;
        let json = take(&mut rest, |rest| Ok(rest.try_get_u32()? as usize))?;
        let relation = if fingerprint == 0 { None } else { Some(cache.relation(fingerprint, &json)?) };
        // A change takes at least its header, so a lying count cannot reserve more than the bytes there are.
        let mut changes = Vec::with_capacity((count as usize).min(rest.len() / CHANGE_HEADER_BYTES));
        for _ in 0..count {
            changes.push(decode_change(&mut rest)?);
        }
        if rest.has_remaining() || (relation.is_none() && !changes.is_empty()) {
            return Err(EnvelopeError::Malformed);
        }
        Ok(Self {
            epoch: head.epoch,
            previous: head.previous,
            last: head.last,
            ends_transaction: head.ends_transaction,
            live_from,
            relation,
            fingerprint,
            changes,
            encoded_bytes,
        })
    }
}

fn decode_change(rest: &mut Bytes) -> Result<Change, EnvelopeError> {
    let kind = match rest.try_get_u8()? {
        b'I' => ChangeKind::Insert,
        b'U' => ChangeKind::Update,
        b'D' => ChangeKind::Delete,
        b'T' => ChangeKind::Truncate,
        _ => return Err(EnvelopeError::Malformed),
    };
    let old_tag = rest.try_get_u8()?;
    let position = take_position(rest)?;
    let commit_time_us = rest.try_get_i64()?;
    let old = match old_tag {
        b'-' => OldImage::None,
        b'K' => OldImage::Key(take_tuple(rest)?),
        b'O' => OldImage::Full(take_tuple(rest)?),
        _ => return Err(EnvelopeError::Malformed),
    };
    let new = match kind {
        ChangeKind::Insert | ChangeKind::Update => Some(take_tuple(rest)?),
        ChangeKind::Delete | ChangeKind::Truncate => None,
    };
    Ok(Change { position, commit_time_us, kind, old, new })
}

fn take(
    rest: &mut Bytes,
    len: impl FnOnce(&mut Bytes) -> Result<usize, EnvelopeError>,
) -> Result<Bytes, EnvelopeError> {
    let len = len(rest)?;
    if len > rest.len() {
        return Err(EnvelopeError::Malformed);
    }
    Ok(rest.split_to(len))
}

fn take_tuple(rest: &mut Bytes) -> Result<Tuple, EnvelopeError> {
    let bytes = take(rest, |rest| Ok(tuple::encoded_len(rest)?))?;
    Ok(Tuple::parse(bytes)?)
}

fn put_position(bytes: &mut BytesMut, position: Position) {
    bytes.put_u64(position.lsn.0);
    bytes.put_u32(position.ordinal);
}

fn take_position(bytes: &mut impl Buf) -> Result<Position, EnvelopeError> {
    Ok(Position { lsn: Lsn(bytes.try_get_u64()?), ordinal: bytes.try_get_u32()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relation::ReplicaIdentity;
    use crate::tuple::Datum;

    fn relation() -> EncodedRelation {
        EncodedRelation::new(Arc::new(Relation {
            oid: 1,
            table_oid: 1,
            schema: "public".into(),
            table: "todos".into(),
            columns: Vec::new(),
            identity: ReplicaIdentity::Default,
            row_security: false,
            types: std::collections::BTreeMap::new(),
        }))
    }

    fn sample() -> Bytes {
        let row = Tuple::from_values([Datum::Text(b"1"), Datum::Null]);
        let mut builder = BatchBuilder::new(Epoch(7), Position::before(Lsn(10)), Lsn(5), Some(&relation()));
        let at = |ordinal| Position { lsn: Lsn(20), ordinal };
        builder.push(ChangeKind::Insert, at(1), 99, OldTuple::None, Some(row.as_bytes()));
        builder.push(ChangeKind::Update, at(2), 99, OldTuple::Full(row.as_bytes()), Some(row.as_bytes()));
        builder.push(ChangeKind::Delete, at(3), 99, OldTuple::Key(row.as_bytes()), None);
        builder.push(ChangeKind::Truncate, at(4), 99, OldTuple::None, None);
        builder.finish(true)
    }

    #[test]
    fn batches_round_trip() {
        let cache = RelationCache::default();
        let batch = Batch::decode(sample(), &cache).expect("own encoding");
        assert_eq!(batch.epoch, Epoch(7));
        assert_eq!(batch.previous, Position::before(Lsn(10)));
        assert_eq!(batch.last, Position { lsn: Lsn(20), ordinal: 4 });
        assert_eq!(batch.live_from, Lsn(5));
        assert_eq!(batch.relation.as_deref(), Some(&*relation().relation));
        let kinds: Vec<_> = batch.changes.iter().map(|change| change.kind).collect();
        assert_eq!(kinds, [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete, ChangeKind::Truncate]);
        assert!(matches!(batch.changes[1].old, OldImage::Full(_)));
        let known = |index: usize| (batch.changes[index].old.full(), batch.changes[index].old.tuple());
        assert!(matches!([known(0), known(1), known(2)], [(None, None), (Some(_), Some(_)), (None, Some(_))]));
        assert!(matches!(batch.changes[2].old, OldImage::Key(_)));
    }

    #[test]
    fn marks_have_a_place_and_no_changes() {
        let mark =
            BatchBuilder::new(Epoch(7), Position::before(Lsn(10)), Lsn(5), None).finish_at(Position::before(Lsn(30)));
        let batch = Batch::decode(mark, &RelationCache::default()).expect("own encoding");
        assert_eq!(batch.last, Position::before(Lsn(30)));
        assert!(batch.relation.is_none() && batch.changes.is_empty() && batch.ends_transaction);
    }

    #[test]
    fn the_newest_transaction_is_split_off() {
        let row = Tuple::from_values([Datum::Text(b"1")]);
        let at = |lsn, ordinal| Position { lsn: Lsn(lsn), ordinal };
        let mut builder = BatchBuilder::new(Epoch(7), Position::before(Lsn(10)), Lsn(5), Some(&relation()));
        for position in [at(20, 1), at(20, 2), at(30, 1)] {
            builder.push(ChangeKind::Insert, position, 99, OldTuple::None, Some(row.as_bytes()));
        }
        let (whole, newest) = builder.split_newest_transaction();
        let read = |builder: BatchBuilder, ends| {
            Batch::decode(builder.finish(ends), &RelationCache::default()).expect("own encoding")
        };
        let (whole, newest) = (read(whole.expect("two transactions"), true), read(newest, false));
        assert_eq!((whole.previous, whole.last, whole.changes.len()), (Position::before(Lsn(10)), at(20, 2), 2));
        assert_eq!((newest.previous, newest.last, newest.changes.len()), (at(20, 2), at(30, 1), 1));
        assert_eq!((whole.ends_transaction, newest.ends_transaction), (true, false));
        assert_eq!(newest.changes[0].position, at(30, 1));
        let mut single = BatchBuilder::new(Epoch(7), at(20, 1), Lsn(5), Some(&relation()));
        single.push(ChangeKind::Insert, at(20, 2), 99, OldTuple::None, Some(row.as_bytes()));
        assert!(single.split_newest_transaction().0.is_none());
    }

    #[test]
    fn every_truncation_and_another_version_is_refused() {
        let whole = sample();
        for end in 0..whole.len() {
            assert!(Batch::decode(whole.slice(..end), &RelationCache::default()).is_err(), "{end}");
        }
        let mut newer = whole.to_vec();
        newer[0] = VERSION + 1;
        assert_eq!(Batch::decode(newer.into(), &RelationCache::default()), Err(EnvelopeError::Version(VERSION + 1)));
    }
}
