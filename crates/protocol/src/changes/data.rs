//! The JSON object of one change.

use bytes::Bytes;
use reactor_model::{Change, ChangeKind, Epoch, EventId, Relation};

use super::row::{has_omitted, new_value, write_old_row, write_row};
use super::{ChangeError, ChangeShape, OldRow, timestamp, type_name};
use crate::audience::Style;
use crate::json;

/// Bytes of a value's JSON up to which it stays in a row that is too large.
const MAX_KEPT_VALUE_BYTES: usize = 64;

/// A change about to be written.
pub(super) struct Data<'a> {
    pub(super) epoch: Epoch,
    pub(super) change: &'a Change,
    pub(super) relation: &'a Relation,
    pub(super) shape: &'a ChangeShape,
    pub(super) style: Style,
}

/// The rendered rows; `None` where the event has none.
struct Rows {
    record: Option<Vec<u8>>,
    old_record: Option<Vec<u8>>,
}

impl Data<'_> {
    pub(super) fn encode(&self, max_record_bytes: usize) -> Bytes {
        let rows = self.rows(usize::MAX);
        let row_bytes = |row: &Option<Vec<u8>>| row.as_ref().map_or(0, Vec::len);
        if self.has_omitted() || row_bytes(&rows.record) + row_bytes(&rows.old_record) > max_record_bytes {
            return self.write(&self.rows(MAX_KEPT_VALUE_BYTES), &self.shape.shown, Some(ChangeError::TooLarge));
        }
        self.write(&rows, &self.shape.shown, None)
    }

    pub(super) fn encode_error(&self, error: ChangeError) -> Bytes {
        let empty = || Some(b"{}".to_vec());
        let rows = Rows {
            record: self.has_record().then(empty).flatten(),
            old_record: self.has_old_record().then(empty).flatten(),
        };
        self.write(&rows, &[], Some(error))
    }

    /// What the change is to who gets it: a row that leaves is gone for them.
    const fn kind(&self) -> ChangeKind {
        if self.shape.leave { ChangeKind::Delete } else { self.change.kind }
    }

    fn has_record(&self) -> bool {
        self.kind() != ChangeKind::Delete
    }

    fn has_old_record(&self) -> bool {
        self.kind() != ChangeKind::Insert
    }

    /// Whether a value that would be shown was left out on the way.
    fn has_omitted(&self) -> bool {
        let of_new = !self.shape.leave && has_omitted(&self.shape.shown, |index| new_value(self.change, index));
        let old = self.change.old.tuple();
        of_new || old.is_some_and(|old| has_omitted(self.old_columns(), |index| old.get(index)))
    }

    fn old_columns(&self) -> &[usize] {
        let keys_only = self.shape.leave || self.shape.old == OldRow::Keys;
        if keys_only { &self.shape.keys } else { &self.shape.shown }
    }

    fn rows(&self, max_value_bytes: usize) -> Rows {
        let record = self.has_record().then(|| {
            if self.change.new.is_none() {
                return b"{}".to_vec();
            }
            let mut out = Vec::new();
            let value = |index| new_value(self.change, index);
            write_row(&mut out, self.relation, self.shape.shown.iter().copied(), max_value_bytes, value);
            out
        });
        let old_record = self.has_old_record().then(|| {
            let mut out = Vec::new();
            write_old_row(&mut out, self.change, self.relation, self.old_columns(), max_value_bytes);
            out
        });
        Rows { record, old_record }
    }

    fn write(&self, rows: &Rows, columns: &[usize], error: Option<ChangeError>) -> Bytes {
        let row_bytes = rows.record.as_ref().map_or(0, Vec::len) + rows.old_record.as_ref().map_or(0, Vec::len);
        let mut out = Vec::with_capacity(row_bytes + 256 + columns.len() * 32);
        out.extend_from_slice(b"{\"schema\":");
        json::write_string(&mut out, &self.relation.schema);
        out.extend_from_slice(b",\"table\":");
        json::write_string(&mut out, &self.relation.table);
        out.extend_from_slice(b",\"type\":\"");
        out.extend_from_slice(type_name(self.kind()).as_bytes());
        out.extend_from_slice(b"\",\"commit_timestamp\":\"");
        timestamp::write(&mut out, self.change.commit_time_us);
        out.extend_from_slice(b"\",\"columns\":");
        self.write_columns(&mut out, columns);
        for (name, row) in [(&b",\"record\":"[..], &rows.record), (b",\"old_record\":", &rows.old_record)] {
            if let Some(row) = row {
                out.extend_from_slice(name);
                out.extend_from_slice(row);
            }
        }
        match error {
            None => out.extend_from_slice(b",\"errors\":null"),
            Some(error) => {
                out.extend_from_slice(b",\"errors\":[");
                json::write_string(&mut out, error.text());
                out.push(b']');
            }
        }
        out.extend_from_slice(b",\"event_id\":\"");
        let id = EventId { epoch: self.epoch, position: self.change.position };
        out.extend_from_slice(id.to_string().as_bytes());
        out.push(b'"');
        if self.shape.leave {
            out.extend_from_slice(b",\"leave\":true");
        }
        if self.style == Style::Bare {
            self.write_bare(&mut out, rows);
        }
        out.push(b'}');
        out.into()
    }

    fn write_columns(&self, out: &mut Vec<u8>, columns: &[usize]) {
        out.push(b'[');
        let mut first = true;
        for column in columns.iter().filter_map(|index| self.relation.columns.get(*index)) {
            json::separate(out, &mut first);
            out.extend_from_slice(b"{\"name\":");
            json::write_string(out, &column.name);
            out.extend_from_slice(b",\"type\":");
            json::write_string(out, self.relation.types.get(&column.type_oid).map_or("", |info| &info.name));
            out.push(b'}');
        }
        out.push(b']');
    }

    /// What the client libraries make of the data, for clients that have no library.
    fn write_bare(&self, out: &mut Vec<u8>, rows: &Rows) {
        out.extend_from_slice(b",\"eventType\":\"");
        out.extend_from_slice(type_name(self.kind()).as_bytes());
        out.extend_from_slice(b"\",\"new\":");
        out.extend_from_slice(rows.record.as_deref().unwrap_or(b"{}"));
        out.extend_from_slice(b",\"old\":");
        out.extend_from_slice(rows.old_record.as_deref().unwrap_or(b"{}"));
    }
}
