//! Rows to be judged, and rows of sets.

use prost::Message;
use reactor_policy_engine::{CheckRequest, CheckedRow, CheckedValue, MemberRow, MemberSet, Members, MembersRequest};

use super::{NotUnderstood, Result, policy, principal, required, tenant};
use crate::chunks::{MESSAGE_BYTES, chunks};
use crate::policy::v1;

/// A set of more bytes is [`Members::TooMany`]: the service bounds those of the values, the reader those on the wire.
pub const MAX_SET_BYTES: usize = 32 * 1024 * 1024;

impl From<CheckRequest> for v1::CheckRowsRequest {
    fn from(request: CheckRequest) -> Self {
        Self {
            tenant: request.tenant.to_string(),
            principal: Some(request.principal.into()),
            schema: request.schema,
            table: request.table,
            table_oid: request.table_oid,
            columns: request.columns,
            rows: request.rows.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::CheckRowsRequest> for CheckRequest {
    type Error = NotUnderstood;

    fn try_from(request: v1::CheckRowsRequest) -> Result<Self> {
        let columns = request.columns.len();
        Ok(Self {
            tenant: tenant(&request.tenant)?,
            principal: principal(request.principal)?,
            schema: request.schema,
            table: request.table,
            table_oid: request.table_oid,
            columns: request.columns,
            rows: request.rows.into_iter().map(|row| checked_row(row, columns)).collect::<Result<_>>()?,
        })
    }
}

impl From<CheckedRow> for v1::CheckedRow {
    fn from(row: CheckedRow) -> Self {
        Self { values: row.values.into_iter().map(Into::into).collect(), must_exist: row.must_exist }
    }
}

impl From<CheckedValue> for v1::CheckedValue {
    fn from(value: CheckedValue) -> Self {
        let value = match value {
            CheckedValue::Missing => v1::checked_value::Value::Missing(v1::Missing {}),
            CheckedValue::Null => v1::checked_value::Value::Null(v1::Null {}),
            CheckedValue::Text(text) => v1::checked_value::Value::Text(text),
        };
        Self { value: Some(value) }
    }
}

fn checked_row(row: v1::CheckedRow, columns: usize) -> Result<CheckedRow> {
    if row.values.len() != columns {
        return Err(NotUnderstood("row with another number of values"));
    }
    let values = row.values.into_iter().map(|value| {
        Ok(match required(value.value, "value")? {
            v1::checked_value::Value::Missing(v1::Missing {}) => CheckedValue::Missing,
            v1::checked_value::Value::Null(v1::Null {}) => CheckedValue::Null,
            v1::checked_value::Value::Text(text) => CheckedValue::Text(text),
        })
    });
    Ok(CheckedRow { values: values.collect::<Result<_>>()?, must_exist: row.must_exist })
}

impl From<MembersRequest> for v1::MembersRequest {
    fn from(request: MembersRequest) -> Self {
        Self {
            tenant: request.tenant.to_string(),
            principal: Some(request.principal.into()),
            schema: request.schema,
            table: request.table,
            set: Some(request.set.into()),
        }
    }
}

impl TryFrom<v1::MembersRequest> for MembersRequest {
    type Error = NotUnderstood;

    fn try_from(request: v1::MembersRequest) -> Result<Self> {
        Ok(Self {
            tenant: tenant(&request.tenant)?,
            principal: principal(request.principal)?,
            schema: request.schema,
            table: request.table,
            set: required(request.set.and_then(policy::read_set), "set")?,
        })
    }
}

impl From<MemberRow> for v1::MemberRow {
    fn from(row: MemberRow) -> Self {
        let texts = |texts: Vec<Option<String>>| texts.into_iter().map(|text| v1::NullableText { text }).collect();
        Self { identity: texts(row.identity), keys: texts(row.keys) }
    }
}

/// What a set holds as messages that each have room on the wire.
#[must_use]
pub fn member_parts(members: Members) -> Vec<v1::MembersResponse> {
    use v1::members_response::Part;
    let rows = match members {
        Members::Rows(rows) => rows.into_iter().map(v1::MemberRow::from),
        Members::TooMany => return vec![message(Part::TooMany(v1::TooMany {}))],
        Members::Changed => return vec![message(Part::Changed(v1::Changed {}))],
    };
    let mut chunks = chunks(rows);
    // A row that has no room in a message begins its chunk.
    if chunks.iter().filter_map(|chunk| chunk.first()).any(|row| row.encoded_len() > MESSAGE_BYTES) {
        return vec![message(Part::TooMany(v1::TooMany {}))];
    }
    let last = v1::MemberRows { rows: chunks.pop().unwrap_or_default(), last: true };
    let before = chunks.into_iter().map(|rows| v1::MemberRows { rows, last: false });
    before.chain([last]).map(|rows| message(Part::Rows(rows))).collect()
}

fn message(part: v1::members_response::Part) -> v1::MembersResponse {
    v1::MembersResponse { part: Some(part) }
}

/// Puts together what [`member_parts`] took apart.
#[derive(Debug)]
pub struct MembersReader {
    identity: usize,
    keys: usize,
    rows: Vec<MemberRow>,
    bytes: usize,
}

impl MembersReader {
    /// Reads the rows of this set.
    #[must_use]
    pub fn new(set: &MemberSet) -> Self {
        Self { identity: set.identity.len(), keys: set.keys.len(), rows: Vec::new(), bytes: 0 }
    }

    /// Takes the next message; answers when it was the last one.
    ///
    /// # Errors
    /// [`NotUnderstood`]: then there is no answer.
    pub fn add(&mut self, message: v1::MembersResponse) -> Result<Option<Members>> {
        use v1::members_response::Part;
        self.bytes += message.encoded_len();
        let part = match required(message.part, "part of a set")? {
            Part::Rows(rows) => rows,
            Part::TooMany(v1::TooMany {}) => return Ok(Some(Members::TooMany)),
            Part::Changed(v1::Changed {}) => return Ok(Some(Members::Changed)),
        };
        if self.bytes > MAX_SET_BYTES {
            self.rows.clear();
            return Ok(Some(Members::TooMany));
        }
        for row in part.rows {
            if row.identity.len() != self.identity || row.keys.len() != self.keys {
                return Err(NotUnderstood("row of a set"));
            }
            let texts = |texts: Vec<v1::NullableText>| texts.into_iter().map(|value| value.text).collect();
            self.rows.push(MemberRow { identity: texts(row.identity), keys: texts(row.keys) });
        }
        Ok(part.last.then(|| Members::Rows(std::mem::take(&mut self.rows))))
    }
}
