//! `pgoutput`, the logical replication messages of Postgres (protocol versions 1 to 4, text values).
//!
//! Pure: bytes in, messages out, nothing copied but the rare relation descriptions. No input makes it panic.
//! Streaming of open transactions and two-phase commit are never asked for, so their messages are errors.

mod decode;
mod message;

#[cfg(test)]
mod tests;

pub use decode::{DecodeError, decode};
pub(crate) use decode::{postgres_us, unix_us};
pub use message::{Message, OldRow, RelationColumn, RelationIds, RelationMessage};
