//! The values of a row image, and what is known about those that it lacks.

use crate::envelope::{Change, OldImage};
use crate::tuple::{Datum, Tuple};

/// A row image as it is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct RowImage<'a> {
    /// The image.
    pub image: &'a Tuple,
    /// The full old image, for values that are unchanged in `image`.
    pub fallback: Option<&'a Tuple>,
    /// Which columns the image holds: those of the key in a key-only old image; `None` means all.
    pub held: Option<&'a [bool]>,
}

/// What is known of a column's value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RowValue<'a> {
    /// Nothing.
    Missing,
    /// NULL.
    Null,
    /// Not NULL, but not sent.
    Withheld,
    /// The value in text form.
    Text(&'a [u8]),
}

impl std::fmt::Debug for RowValue<'_> {
    /// Leaves the text out: row values never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "Missing",
            Self::Null => "Null",
            Self::Withheld => "Withheld",
            Self::Text(_) => "Text",
        })
    }
}

impl<'a> RowImage<'a> {
    /// The row after a change; `None` when there is none.
    #[must_use]
    pub fn after(change: &'a Change) -> Option<Self> {
        change.new.as_ref().map(|image| Self { image, fallback: change.old.full(), held: None })
    }

    /// The row before a change, as far as it was sent; `identity` says by column whether a key-only image holds it.
    #[must_use]
    pub const fn before(change: &'a Change, identity: &'a [bool]) -> Option<Self> {
        match &change.old {
            OldImage::Full(image) => Some(Self { image, fallback: None, held: None }),
            OldImage::Key(image) => Some(Self { image, fallback: None, held: Some(identity) }),
            OldImage::None => None,
        }
    }

    /// The value of a column, by its index.
    #[must_use]
    pub fn value(&self, column: usize) -> RowValue<'a> {
        Row { image: self.image, fallback: self.fallback, held: self.held }.value(column)
    }
}

/// The same, for those who borrow from the image for longer than from `held`.
pub(super) struct Row<'a, 'h> {
    pub(super) image: &'a Tuple,
    pub(super) fallback: Option<&'a Tuple>,
    pub(super) held: Option<&'h [bool]>,
}

impl<'a> Row<'a, '_> {
    pub(super) fn value(&self, column: usize) -> RowValue<'a> {
        if self.held.is_some_and(|held| !held.get(column).copied().unwrap_or(false)) {
            return RowValue::Missing;
        }
        match self.image.get(column) {
            Some(Datum::Text(text)) => RowValue::Text(text),
            Some(Datum::Null) => RowValue::Null,
            Some(Datum::Omitted) => RowValue::Withheld,
            Some(Datum::Unchanged) => match self.fallback.and_then(|old| old.get(column)) {
                Some(Datum::Text(text)) => RowValue::Text(text),
                _ => RowValue::Withheld,
            },
            None => RowValue::Missing,
        }
    }
}
