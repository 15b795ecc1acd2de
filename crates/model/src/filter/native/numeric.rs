//! Numbers in text form, compared as Postgres compares `numeric`, `float4` and `float8`.

use std::cmp::Ordering;

/// Compares two numerics in the form in which Postgres prints them; `None` when one is not of that form.
pub(in crate::filter) fn compare(left: &[u8], right: &[u8]) -> Option<Ordering> {
    if left == right {
        return Some(Ordering::Equal);
    }
    let (left, right) = (Number::parse(left)?, Number::parse(right)?);
    Some(match left.rank.cmp(&right.rank) {
        Ordering::Equal => match left.rank {
            Rank::Negative => right.cmp_magnitude(&left),
            Rank::Positive => left.cmp_magnitude(&right),
            Rank::NegativeInfinity | Rank::Zero | Rank::PositiveInfinity | Rank::Nan => Ordering::Equal,
        },
        other => other,
    })
}

/// Where a number stands before its digits are looked at, in Postgres's order: NaN is equal to itself and the largest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    NegativeInfinity,
    Negative,
    Zero,
    Positive,
    PositiveInfinity,
    Nan,
}

/// A number's significant digits, without copying them.
struct Number<'a> {
    rank: Rank,
    /// Without leading zeros.
    whole: &'a [u8],
    /// Without trailing zeros.
    fraction: &'a [u8],
}

impl<'a> Number<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let special = |rank| Some(Self { rank, whole: &[], fraction: &[] });
        match text {
            b"NaN" => return special(Rank::Nan),
            b"Infinity" => return special(Rank::PositiveInfinity),
            b"-Infinity" => return special(Rank::NegativeInfinity),
            _ => {}
        }
        let (negative, digits) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let point = digits.iter().position(|byte| *byte == b'.');
        let (whole, fraction) = match point {
            Some(at) => (digits.get(..at)?, digits.get(at + 1..)?),
            None => (digits, &[][..]),
        };
        let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let leading = whole.iter().take_while(|byte| **byte == b'0').count();
        let trailing = fraction.iter().rev().take_while(|byte| **byte == b'0').count();
        let (whole, fraction) = (whole.get(leading..)?, fraction.get(..fraction.len() - trailing)?);
        let rank = match (whole.is_empty() && fraction.is_empty(), negative) {
            (true, _) => Rank::Zero,
            (false, true) => Rank::Negative,
            (false, false) => Rank::Positive,
        };
        Some(Self { rank, whole, fraction })
    }

    fn cmp_magnitude(&self, other: &Self) -> Ordering {
        self.whole
            .len()
            .cmp(&other.whole.len())
            .then_with(|| self.whole.cmp(other.whole))
            .then_with(|| self.fraction.cmp(other.fraction))
    }
}

/// Compares floats in Postgres's order: NaN is equal to itself and the largest, both zeros are equal.
pub(in crate::filter) fn compare_floats<F: PartialOrd + Copy>(left: F, right: F) -> Ordering {
    let is_nan = |value: F| value.partial_cmp(&value).is_none();
    left.partial_cmp(&right).unwrap_or_else(|| is_nan(left).cmp(&is_nan(right)))
}
