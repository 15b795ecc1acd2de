//! The total order of a tenant's changes, and the event id that carries it to clients.

use std::fmt;
use std::str::FromStr;

use crate::ids::Epoch;
use crate::lsn::Lsn;

/// A place in the total order of one epoch: (commit LSN, ordinal inside the transaction).
///
/// Ordinals of changes start at 1; ordinal 0 is the place before the transaction's first change, so
/// that a mark at an LSN never equals a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Start of the transaction's commit record, or the scanned log position of a mark.
    pub lsn: Lsn,
    /// Index of the change inside its transaction, from 1; 0 in marks.
    pub ordinal: u32,
}

impl Position {
    /// The place before every change that commits at or after `lsn`.
    #[must_use]
    pub const fn before(lsn: Lsn) -> Self {
        Self { lsn, ordinal: 0 }
    }
}

/// What clients see as the id of an event: `<epoch>-<commit LSN>-<ordinal>` in 8, 16 and 8 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId {
    /// The history that the position belongs to.
    pub epoch: Epoch,
    /// The place in that history.
    pub position: Position,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-{:08x}", self.epoch, self.position.lsn.0, self.position.ordinal)
    }
}

/// The text is not an event id that this server has given out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an event id of this server")]
pub struct InvalidEventId;

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn hex(part: Option<&str>, digits: usize) -> Result<u64, InvalidEventId> {
            let part = part.ok_or(InvalidEventId)?;
            if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(InvalidEventId);
            }
            u64::from_str_radix(part, 16).map_err(|_| InvalidEventId)
        }
        let narrow = |value: u64| u32::try_from(value).map_err(|_| InvalidEventId);
        let mut parts = text.split('-');
        let epoch = Epoch(narrow(hex(parts.next(), 8)?)?);
        let lsn = Lsn(hex(parts.next(), 16)?);
        let ordinal = narrow(hex(parts.next(), 8)?)?;
        if parts.next().is_some() {
            return Err(InvalidEventId);
        }
        Ok(Self { epoch, position: Position { lsn, ordinal } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_sort_as_text() {
        let id = |lsn, ordinal| EventId { epoch: Epoch(0xab), position: Position { lsn: Lsn(lsn), ordinal } };
        let ids = [id(1, 0), id(1, 2), id(0x10, 1), id(u64::MAX, u32::MAX)];
        for pair in ids.windows(2) {
            assert!(pair[0].position < pair[1].position);
            assert!(pair[0].to_string() < pair[1].to_string());
        }
        for each in ids {
            assert_eq!(each.to_string().parse(), Ok(each));
        }
        assert_eq!(id(0x016b_3748, 3).to_string(), "000000ab-00000000016b3748-00000003");
    }

    #[test]
    fn other_text_is_refused() {
        for wrong in [
            "",
            "1",
            "0-0-0",
            "000000ab-00000000016b3748-0000000g",
            "000000ab-00000000016b3748-00000003-",
            "+00000ab-00000000016b3748-00000003",
        ] {
            assert_eq!(wrong.parse::<EventId>(), Err(InvalidEventId), "{wrong}");
        }
    }
}
