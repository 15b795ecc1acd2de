//! The JSON object of one row of a change.

use reactor_model::render::render_value;
use reactor_model::{Change, Datum, OldImage, Relation};

use crate::json;

/// A column's value in the new row, taken from the full old image where Postgres did not send it again.
#[must_use]
pub fn new_value(change: &Change, column: usize) -> Option<Datum<'_>> {
    match change.new.as_ref()?.get(column) {
        Some(Datum::Unchanged) => change.old.full().and_then(|old| old.get(column)),
        found => found,
    }
}

/// Whether one of these values was left out on the way, because its row was too large for the bus.
pub fn has_omitted<'a>(columns: &[usize], value: impl Fn(usize) -> Option<Datum<'a>>) -> bool {
    columns.iter().any(|index| value(*index) == Some(Datum::Omitted))
}

/// Appends the columns that have a value here; those that Postgres did not send are absent, and those whose JSON has more than
/// `max_value_bytes`.
pub fn write_row<'a>(
    out: &mut Vec<u8>,
    relation: &Relation,
    columns: impl Iterator<Item = usize>,
    max_value_bytes: usize,
    value: impl Fn(usize) -> Option<Datum<'a>>,
) {
    out.push(b'{');
    let mut first = true;
    for index in columns {
        let Some(column) = relation.columns.get(index) else { continue };
        let text = match value(index) {
            None | Some(Datum::Unchanged | Datum::Omitted) => continue,
            Some(Datum::Null) => None,
            Some(Datum::Text(text)) => Some(text),
        };
        let (start, was_first) = (out.len(), first);
        json::separate(out, &mut first);
        json::write_string(out, &column.name);
        out.push(b':');
        let value_start = out.len();
        match text {
            Some(text) => render_value(out, relation, column.type_oid, text),
            None => out.extend_from_slice(b"null"),
        }
        if out.len() - value_start > max_value_bytes {
            out.truncate(start);
            first = was_first;
        }
    }
    out.push(b'}');
}

/// Appends these columns of the old row as far as the replica identity tells them. An UPDATE that leaves the identity alone comes
/// without an old image: then its identity columns are those of the new row.
pub fn write_old_row(
    out: &mut Vec<u8>,
    change: &Change,
    relation: &Relation,
    columns: &[usize],
    max_value_bytes: usize,
) {
    let identity = |index: &usize| relation.columns.get(*index).is_some_and(|column| column.identity_key);
    let columns = columns.iter().copied();
    match (&change.old, &change.new) {
        (OldImage::Full(old), _) => write_row(out, relation, columns, max_value_bytes, |index| old.get(index)),
        (OldImage::Key(old), _) => {
            write_row(out, relation, columns.filter(identity), max_value_bytes, |index| old.get(index));
        }
        (OldImage::None, Some(new)) => {
            write_row(out, relation, columns.filter(identity), max_value_bytes, |index| new.get(index));
        }
        (OldImage::None, None) => out.extend_from_slice(b"{}"),
    }
}
