//! Bytes to messages.

use bytes::Buf;
use reactor_model::{Lsn, ReplicaIdentity, tuple};

use super::message::{Message, OldRow, RelationColumn, RelationIds, RelationMessage};

/// µs from 1970-01-01 to 2000-01-01, where Postgres's timestamps start.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The bytes are not a message that this replicator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the message does.
    #[error("replication message ends early")]
    Truncated,
    /// More bytes than the message has.
    #[error("replication message has trailing bytes")]
    Trailing,
    /// A message of streaming or two-phase mode, or of a version that is not known.
    #[error("replication message of unknown kind {0:#04x}")]
    Unknown(u8),
    /// A part has a value that it cannot have.
    #[error("malformed {0} in a replication message")]
    Malformed(&'static str),
}

impl From<bytes::TryGetError> for DecodeError {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Truncated
    }
}

/// Decodes one message that fills `bytes` exactly.
///
/// # Errors
/// [`DecodeError`] for anything else.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut rest = bytes;
    let kind = rest.try_get_u8()?;
    let message = match kind {
        b'I' => Message::Insert { relation: rest.try_get_u32()?, new: new_row(&mut rest)? },
        b'U' => update(&mut rest)?,
        b'D' => delete(&mut rest)?,
        b'B' => Message::Begin {
            commit_lsn: Lsn(rest.try_get_u64()?),
            commit_time_us: unix_us(rest.try_get_i64()?),
            xid: rest.try_get_u32()?,
        },
        b'C' => commit(&mut rest)?,
        b'R' => Message::Relation(relation(&mut rest)?),
        b'T' => truncate(&mut rest)?,
        b'Y' => Message::Type { oid: rest.try_get_u32()?, schema: text(&mut rest)?, name: text(&mut rest)? },
        b'O' => Message::Origin { lsn: Lsn(rest.try_get_u64()?), name: text(&mut rest)? },
        b'M' => logical(&mut rest)?,
        other => return Err(DecodeError::Unknown(other)),
    };
    if rest.is_empty() { Ok(message) } else { Err(DecodeError::Trailing) }
}

/// µs since 1970 of a timestamp in µs since 2000.
pub(crate) const fn unix_us(postgres_us: i64) -> i64 {
    postgres_us.saturating_add(POSTGRES_EPOCH_US)
}

/// µs since 2000 of a timestamp in µs since 1970.
pub(crate) const fn postgres_us(unix_us: i64) -> i64 {
    unix_us.saturating_sub(POSTGRES_EPOCH_US)
}

fn update<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>, DecodeError> {
    let relation = rest.try_get_u32()?;
    let old = match rest.first().ok_or(DecodeError::Truncated)? {
        b'N' => OldRow::None,
        _ => old_row(rest)?,
    };
    Ok(Message::Update { relation, old, new: new_row(rest)? })
}

fn delete<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>, DecodeError> {
    Ok(Message::Delete { relation: rest.try_get_u32()?, old: old_row(rest)? })
}

fn commit<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>, DecodeError> {
    let _unused_flags = rest.try_get_u8()?;
    Ok(Message::Commit {
        commit_lsn: Lsn(rest.try_get_u64()?),
        end_lsn: Lsn(rest.try_get_u64()?),
        commit_time_us: unix_us(rest.try_get_i64()?),
    })
}

fn truncate<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>, DecodeError> {
    let count = rest.try_get_u32()? as usize;
    let _cascade_and_restart = rest.try_get_u8()?;
    let bytes = take(rest, count.checked_mul(4).ok_or(DecodeError::Truncated)?)?;
    Ok(Message::Truncate { relations: RelationIds::new(bytes) })
}

fn logical<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>, DecodeError> {
    let transactional = rest.try_get_u8()? & 1 == 1;
    let lsn = Lsn(rest.try_get_u64()?);
    let prefix = text(rest)?;
    let len = rest.try_get_u32()? as usize;
    Ok(Message::Logical { transactional, lsn, prefix, content: take(rest, len)? })
}

fn relation(rest: &mut &[u8]) -> Result<RelationMessage, DecodeError> {
    let oid = rest.try_get_u32()?;
    // The system schema is sent as an empty name.
    let schema = match text(rest)? {
        "" => "pg_catalog",
        name => name,
    };
    let table = text(rest)?;
    let identity = match rest.try_get_u8()? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        _ => return Err(DecodeError::Malformed("replica identity")),
    };
    let count = rest.try_get_u16()?;
    let columns = (0..count).map(|_| column(rest)).collect::<Result<_, _>>()?;
    Ok(RelationMessage { oid, schema: schema.to_owned(), table: table.to_owned(), identity, columns })
}

fn column(rest: &mut &[u8]) -> Result<RelationColumn, DecodeError> {
    let flags = rest.try_get_u8()?;
    let name = text(rest)?.to_owned();
    Ok(RelationColumn {
        name,
        identity_key: flags & 1 == 1,
        type_oid: rest.try_get_u32()?,
        type_mod: rest.try_get_i32()?,
    })
}

fn new_row<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    match rest.try_get_u8()? {
        b'N' => row(rest),
        _ => Err(DecodeError::Malformed("row tag")),
    }
}

fn old_row<'a>(rest: &mut &'a [u8]) -> Result<OldRow<'a>, DecodeError> {
    match rest.try_get_u8()? {
        b'K' => Ok(OldRow::Key(row(rest)?)),
        b'O' => Ok(OldRow::Full(row(rest)?)),
        _ => Err(DecodeError::Malformed("row tag")),
    }
}

fn row<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DecodeError> {
    let len = tuple::encoded_len(rest).map_err(|_| DecodeError::Malformed("row"))?;
    take(rest, len)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], DecodeError> {
    let (taken, after) = rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
    *rest = after;
    Ok(taken)
}

/// Text up to a zero byte. The session's client encoding is UTF-8.
fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
    let end = rest.iter().position(|byte| *byte == 0).ok_or(DecodeError::Truncated)?;
    let taken = take(rest, end)?;
    rest.advance(1);
    std::str::from_utf8(taken).map_err(|_| DecodeError::Malformed("name"))
}
