//! Broadcasts of the database: rows of `realtime.messages` as they are committed.
//!
//! Each gateway reads them from the change log, which it follows anyway, and delivers them to its own clients, so that none goes
//! over the bus and none comes twice.

use std::sync::Arc;

use bytes::Bytes;
use reactor_model::{Batch, Change, ChangeKind, Datum, Position, Relation};
use reactor_protocol::broadcast::{Broadcast, Encoding};
use reactor_protocol::session::ChannelName;

use super::topics::Topics;
use crate::metrics::Metrics;

/// Schema and table in which broadcasts are stored.
pub(super) const MESSAGES: (&str, &str) = ("realtime", "messages");

/// Delivers the broadcasts of a batch after a position, if it has any.
pub fn deliver(topics: &Arc<Topics>, batch: &Batch, after: Position, metrics: &Metrics) {
    let Some(relation) = batch.relation.as_ref().filter(|relation| is_messages(relation)) else { return };
    let is_new = |change: &&Change| change.kind == ChangeKind::Insert && change.position > after;
    for change in batch.changes.iter().filter(is_new) {
        let row = Row { relation, change };
        if row.text("extension").as_deref() != Some("broadcast") || row.is_true("skip_broadcast") {
            continue;
        }
        let Some(topic) = row.text("topic") else { continue };
        let name = ChannelName { name: topic.into(), private: row.is_true("private") };
        let Some(hold) = topics.find(&name) else { continue };
        metrics.ws.published.with_label_values(&["database"]).inc();
        match row.broadcast() {
            Some(broadcast) => hold.deliver(None, &broadcast),
            None => {
                metrics.ws.broadcasts_lost.with_label_values(&["unreadable"]).inc();
                tracing::warn!("a broadcast of the database is too large, or has no event or payload");
            }
        }
    }
}

fn is_messages(relation: &Relation) -> bool {
    (relation.schema.as_str(), relation.table.as_str()) == MESSAGES
}

struct Row<'a> {
    relation: &'a Relation,
    change: &'a Change,
}

impl Row<'_> {
    fn value(&self, column: &str) -> Option<&[u8]> {
        let index = self.relation.column_index(column)?;
        match self.change.new.as_ref()?.get(index)? {
            Datum::Text(text) => Some(text),
            Datum::Null | Datum::Unchanged | Datum::Omitted => None,
        }
    }

    fn text(&self, column: &str) -> Option<String> {
        String::from_utf8(self.value(column)?.to_vec()).ok()
    }

    fn is_true(&self, column: &str) -> bool {
        self.value(column) == Some(b"t")
    }

    fn broadcast(&self) -> Option<Broadcast> {
        let (event, id) = (self.text("event")?, self.text("id")?);
        let (encoding, payload) = match self.value("binary_payload") {
            Some(hex) => (Encoding::Binary, unhex(hex)?),
            None => (Encoding::Json, Bytes::copy_from_slice(self.value("payload")?)),
        };
        Broadcast::from_database(&event, encoding, payload, &id).ok()
    }
}

/// A `bytea` in Postgres's hex form.
fn unhex(text: &[u8]) -> Option<Bytes> {
    let digits = text.strip_prefix(b"\\x")?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()).collect();
    bytes.map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read() {
        assert_eq!(unhex(b"\\x00fFa0"), Some(Bytes::from_static(&[0, 255, 160])));
        assert_eq!(unhex(b"\\x"), Some(Bytes::new()));
        for wrong in [&b"00"[..], b"\\x0", b"\\xzz"] {
            assert_eq!(unhex(wrong), None);
        }
    }
}
