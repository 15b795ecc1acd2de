//! Row policies. What cannot be written, or is not understood when read, becomes a question for Postgres: never an error, as the
//! subscription can still be served, and never a truth value.

mod read;
mod write;

pub(super) use read::{read, read_set};
pub use write::MAX_POLICY_BYTES;
