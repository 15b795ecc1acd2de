//! Equality of `jsonb` values as Postgres prints them: keys sorted and unique, numbers without exponent.

use std::cmp::Ordering;

use super::numeric;

/// Whether two printed values are equal: the same text, but for numbers, which are equal as numbers.
#[must_use]
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    let (mut left, mut right) = (left, right);
    loop {
        let (first, second) = match (token(left), token(right)) {
            (None, None) => return true,
            (Some(first), Some(second)) => (first, second),
            _ => return false,
        };
        let same = first == second || (is_number(first) && numeric::compare(first, second) == Some(Ordering::Equal));
        if !same {
            return false;
        }
        left = left.get(first.len()..).unwrap_or_default();
        right = right.get(second.len()..).unwrap_or_default();
    }
}

/// A string, a number or a single byte of anything else; `None` at the end.
fn token(text: &[u8]) -> Option<&[u8]> {
    let len = match text.first()? {
        b'"' => string_len(text),
        b'-' | b'0'..=b'9' => text.iter().take_while(|byte| matches!(byte, b'-' | b'.' | b'0'..=b'9')).count(),
        _ => 1,
    };
    text.get(..len)
}

fn string_len(text: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_number(token: &[u8]) -> bool {
    matches!(token.first(), Some(b'-' | b'0'..=b'9'))
}
