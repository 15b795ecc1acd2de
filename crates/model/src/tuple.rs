//! Row images, kept as the bytes that Postgres sent and read without copying.
//!
//! Layout: `u16` count, then per column a tag byte and, for `t`, a `u32` length and that many bytes:
//! the layout of `pgoutput`'s TupleData, with one tag more, `o`, for values left out.

use bytes::{Buf, Bytes};

/// Tag of a NULL value.
pub const TAG_NULL: u8 = b'n';
/// Tag of an unchanged TOAST value that was not sent.
pub const TAG_UNCHANGED: u8 = b'u';
/// Tag of a value in its text form.
pub const TAG_TEXT: u8 = b't';
/// Tag of a value left out because its row exceeded the bus's maximum payload.
pub const TAG_OMITTED: u8 = b'o';

/// One column's value in a row image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datum<'a> {
    /// SQL NULL.
    Null,
    /// An unchanged TOAST value that Postgres did not send. Never NULL.
    Unchanged,
    /// A value left out because its row exceeded the bus's maximum payload. Never NULL.
    Omitted,
    /// The value in Postgres's text form.
    Text(&'a [u8]),
}

/// The bytes are not a tuple.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed tuple")]
pub struct TupleError;

/// A row image over shared bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Tuple {
    bytes: Bytes,
    /// Offset of each column's tag.
    offsets: Vec<u32>,
}

impl std::fmt::Debug for Tuple {
    /// Prints the number of columns only: row values never reach logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tuple({} columns)", self.offsets.len())
    }
}

impl Tuple {
    /// Reads a tuple that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`TupleError`] when a tag, a length or the total does not fit.
    pub fn parse(bytes: Bytes) -> Result<Self, TupleError> {
        if encoded_len(&bytes)? != bytes.len() {
            return Err(TupleError);
        }
        let mut rest: &[u8] = &bytes;
        let count = rest.try_get_u16().map_err(|_| TupleError)?;
        let mut offsets = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            offsets.push(u32::try_from(bytes.len() - rest.len()).map_err(|_| TupleError)?);
            skip_column(&mut rest)?;
        }
        Ok(Self { bytes, offsets })
    }

    /// Builds a tuple from values, in column order.
    #[must_use]
    pub fn from_values<'a>(values: impl IntoIterator<Item = Datum<'a>>) -> Self {
        let mut bytes = vec![0, 0];
        let mut offsets = Vec::new();
        for value in values {
            offsets.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            match value {
                Datum::Null => bytes.push(TAG_NULL),
                Datum::Unchanged => bytes.push(TAG_UNCHANGED),
                Datum::Omitted => bytes.push(TAG_OMITTED),
                Datum::Text(text) => {
                    bytes.push(TAG_TEXT);
                    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
                    bytes.extend_from_slice(text);
                }
            }
        }
        let count = u16::try_from(offsets.len()).unwrap_or(u16::MAX);
        bytes.splice(0..2, count.to_be_bytes());
        Self { bytes: bytes.into(), offsets }
    }

    /// Number of columns.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether the tuple has no columns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The value of column `index`; `None` past the last column.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Datum<'_>> {
        let mut rest = self.bytes.get(*self.offsets.get(index)? as usize..)?;
        match rest.try_get_u8().ok()? {
            TAG_NULL => Some(Datum::Null),
            TAG_UNCHANGED => Some(Datum::Unchanged),
            TAG_OMITTED => Some(Datum::Omitted),
            TAG_TEXT => {
                let len = rest.try_get_u32().ok()? as usize;
                rest.get(..len).map(Datum::Text)
            }
            _ => None,
        }
    }

    /// All values in column order.
    pub fn iter(&self) -> impl Iterator<Item = Datum<'_>> {
        (0..self.offsets.len()).filter_map(|index| self.get(index))
    }

    /// The encoded form.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Length in bytes of the tuple that `bytes` starts with.
///
/// # Errors
/// [`TupleError`] when the bytes end early or a tag is unknown.
pub fn encoded_len(bytes: &[u8]) -> Result<usize, TupleError> {
    let mut rest = bytes;
    let count = rest.try_get_u16().map_err(|_| TupleError)?;
    for _ in 0..count {
        skip_column(&mut rest)?;
    }
    Ok(bytes.len() - rest.len())
}

fn skip_column(rest: &mut &[u8]) -> Result<(), TupleError> {
    match rest.try_get_u8().map_err(|_| TupleError)? {
        TAG_NULL | TAG_UNCHANGED | TAG_OMITTED => Ok(()),
        TAG_TEXT => {
            let len = rest.try_get_u32().map_err(|_| TupleError)? as usize;
            *rest = rest.get(len..).ok_or(TupleError)?;
            Ok(())
        }
        _ => Err(TupleError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip() {
        let values = [Datum::Null, Datum::Text(b"a"), Datum::Unchanged, Datum::Text(b""), Datum::Omitted];
        let tuple = Tuple::from_values(values);
        let read = Tuple::parse(tuple.as_bytes().clone()).expect("own encoding");
        assert_eq!(read.iter().collect::<Vec<_>>(), values);
        assert_eq!(read.get(5), None);
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = Tuple::from_values([Datum::Text(b"abc"), Datum::Null]).as_bytes().clone();
        for end in 0..whole.len() {
            assert_eq!(Tuple::parse(whole.slice(..end)), Err(TupleError), "{end}");
        }
        assert_eq!(Tuple::parse(Bytes::from_static(&[0, 1, b'x'])), Err(TupleError));
        assert_eq!(Tuple::parse(Bytes::from_static(&[0, 1, b'n', 0])), Err(TupleError));
    }
}
