//! Row changes as the data of `postgres_changes`, one encoding for each distinct shape.

mod data;
mod row;
mod timestamp;

use bytes::Bytes;
use reactor_model::{Change, ChangeKind, Epoch, Relation};

use crate::audience::Style;
pub use row::{has_omitted, new_value, write_old_row, write_row};

/// Bytes of one row's JSON by default, past which only its small values are sent (error 413).
pub const MAX_RECORD_BYTES: usize = 1_048_576;

/// How much of the old row is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OldRow {
    /// Every shown column that the old image holds.
    Whole,
    /// Its key columns only: the row policy does not show the old row, or the row is protected and deleted.
    Keys,
}

/// Which columns of a relation version are shown, and what of the old row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChangeShape {
    /// Shown columns, in the relation's order.
    pub shown: Vec<usize>,
    /// Those of them that are of the primary key, or of the replica identity where there is no primary key.
    pub keys: Vec<usize>,
    /// The old row.
    pub old: OldRow,
    /// An UPDATE took the row out of the subscription's rows: what is sent is a DELETE with the old row's keys and
    /// `"leave":true`.
    pub leave: bool,
}

/// Why a change has no row in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeError {
    /// The table has no primary key.
    NoPrimaryKey,
    /// The role may not read the primary key.
    Unauthorized,
    /// The row is too large.
    TooLarge,
}

impl ChangeError {
    /// The text in `errors`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NoPrimaryKey => "Error 400: Bad Request, no primary key",
            Self::Unauthorized => "Error 401: Unauthorized",
            Self::TooLarge => "Error 413: Payload Too Large",
        }
    }
}

/// The data of a change for audiences of this style: `None` for TRUNCATE, which this protocol does not have.
///
/// Says by itself that a table has no primary key (400) and that a row is too large (413); the caller says
/// that a role may not read the key ([`encode_error`]).
#[must_use]
pub fn encode(
    epoch: Epoch,
    change: &Change,
    relation: &Relation,
    shape: &ChangeShape,
    style: Style,
    max_record_bytes: usize,
) -> Option<Bytes> {
    let has_key = relation.columns.iter().any(|column| column.primary_key);
    match change.kind {
        ChangeKind::Truncate => None,
        ChangeKind::Insert | ChangeKind::Update if !has_key => {
            encode_error(epoch, change, relation, style, ChangeError::NoPrimaryKey)
        }
        ChangeKind::Insert | ChangeKind::Update | ChangeKind::Delete => {
            Some(data::Data { epoch, change, relation, shape, style }.encode(max_record_bytes))
        }
    }
}

/// The data of a change of which nothing may be shown but that it happened.
#[must_use]
pub fn encode_error(
    epoch: Epoch,
    change: &Change,
    relation: &Relation,
    style: Style,
    error: ChangeError,
) -> Option<Bytes> {
    if change.kind == ChangeKind::Truncate {
        return None;
    }
    let shape = ChangeShape { shown: Vec::new(), keys: Vec::new(), old: OldRow::Keys, leave: false };
    Some(data::Data { epoch, change, relation, shape: &shape, style }.encode_error(error))
}

/// `INSERT`, `UPDATE`, `DELETE`.
#[must_use]
pub const fn type_name(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Insert => "INSERT",
        ChangeKind::Update => "UPDATE",
        ChangeKind::Delete => "DELETE",
        ChangeKind::Truncate => "TRUNCATE",
    }
}
