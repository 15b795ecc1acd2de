//! `json` and `jsonb` values, nested into the output.

mod compact;
mod normal;
mod token;

use std::cmp::Ordering;

pub(super) use compact::write_compact;
pub(super) use normal::write_normal;

/// The order of an object's keys in `jsonb`: shorter ones first, then by bytes.
pub(super) fn key_order(left: &[u8], right: &[u8]) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}
