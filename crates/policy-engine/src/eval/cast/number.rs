//! Casts to numbers.

use reactor_model::oid;

use super::super::types::Type;
use super::{Casting, Conversion, Converted, trimmed};

/// Longer numbers are left to Postgres, which has limits of its own for them.
const MAX_DIGITS: usize = 1000;

pub(super) fn casting(from: Type, to: u32) -> Casting {
    match (from.oid, to) {
        (oid::INT2, oid::INT4 | oid::INT8 | oid::NUMERIC | oid::FLOAT4 | oid::FLOAT8)
        | (oid::INT4, oid::INT8 | oid::NUMERIC | oid::FLOAT8)
        | (oid::INT8, oid::NUMERIC)
        | (oid::OID, oid::INT8) => Casting::Same,
        // From these on, floats are printed with exponents.
        (oid::INT4, oid::FLOAT4) => Conversion::asking(|value| below(value, 1_000_000)),
        (oid::INT8, oid::FLOAT4) => Conversion::asking(|value| below(value, 1_000_000)),
        (oid::INT8, oid::FLOAT8) => Conversion::asking(|value| below(value, 1_000_000_000_000_000)),
        (oid::INT4 | oid::INT8, oid::INT2) => Conversion::raising(narrowed::<i16>),
        (oid::INT8, oid::INT4) => Conversion::raising(narrowed::<i32>),
        (oid::NUMERIC, oid::INT2) => Conversion::raising(rounded::<i16>),
        (oid::NUMERIC, oid::INT4) => Conversion::raising(rounded::<i32>),
        (oid::NUMERIC, oid::INT8) => Conversion::raising(rounded::<i64>),
        (oid::FLOAT4 | oid::FLOAT8, oid::INT2) => Conversion::raising(rounded_float::<i16>),
        (oid::FLOAT4 | oid::FLOAT8, oid::INT4) => Conversion::raising(rounded_float::<i32>),
        (oid::FLOAT4 | oid::FLOAT8, oid::INT8) => Conversion::raising(rounded_float::<i64>),
        (oid::BOOL, oid::INT4) => Conversion::exact(|value| Converted::Text(vec![b'0' + u8::from(value == b"t")])),
        (oid::JSONB, oid::INT2) => Conversion::asking(|value| jsonb(value, rounded::<i16>)),
        (oid::JSONB, oid::INT4) => Conversion::asking(|value| jsonb(value, rounded::<i32>)),
        (oid::JSONB, oid::INT8) => Conversion::asking(|value| jsonb(value, rounded::<i64>)),
        (oid::JSONB, oid::NUMERIC) => Conversion::asking(|value| jsonb(value, |_| Converted::Same)),
        (_, oid::INT2) if from.is_text() => Conversion::asking(text_to_int::<i16>),
        (_, oid::INT4) if from.is_text() => Conversion::asking(text_to_int::<i32>),
        (_, oid::INT8) if from.is_text() => Conversion::asking(text_to_int::<i64>),
        (_, oid::NUMERIC) if from.is_text() => Conversion::asking(text_to_numeric),
        _ => Casting::Unknown,
    }
}

/// The number within a `jsonb`. A null is an error until Postgres 17 and NULL from 18 on.
fn jsonb(value: &[u8], convert: fn(&[u8]) -> Converted) -> Converted {
    match value {
        b"null" => Converted::Ask,
        [b'-' | b'0'..=b'9', ..] => convert(value),
        _ => Converted::Raised,
    }
}

fn below(value: &[u8], limit: u64) -> Converted {
    match parsed::<i64>(value) {
        Some(number) if number.unsigned_abs() < limit => Converted::Same,
        Some(_) => Converted::Ask,
        None => Converted::Raised,
    }
}

fn narrowed<T: std::str::FromStr>(value: &[u8]) -> Converted {
    if parsed::<T>(value).is_some() { Converted::Same } else { Converted::Raised }
}

fn parsed<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn fitting<T: TryFrom<i128>>(number: Option<i128>) -> Converted {
    match number {
        Some(number) if T::try_from(number).is_ok() => Converted::Text(number.to_string().into_bytes()),
        _ => Converted::Raised,
    }
}

/// A numeric, rounded to the nearest integer, halves away from zero.
fn rounded<T: TryFrom<i128>>(value: &[u8]) -> Converted {
    fitting::<T>(nearest(value))
}

fn nearest(value: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.parse::<i128>().ok()?;
    let is_up = fraction.as_bytes().first().is_some_and(|digit| *digit >= b'5');
    let magnitude = whole.checked_add(i128::from(is_up))?;
    Some(if negative { -magnitude } else { magnitude })
}

/// A float, rounded to the nearest integer, halves to the even one.
fn rounded_float<T: TryFrom<i128>>(value: &[u8]) -> Converted {
    let Some(number) = parsed::<f64>(value) else { return Converted::Raised };
    let rounded = number.round_ties_even();
    // Printed in full, so that no cast between number types is needed; NaN and infinities do not parse.
    fitting::<T>(parsed(format!("{rounded:.0}").as_bytes()))
}

/// As Postgres reads integers. Underscores and other bases are errors until Postgres 15 and numbers from 16 on.
fn text_to_int<T: TryFrom<i128>>(value: &[u8]) -> Converted {
    let (negative, unsigned) = signed(trimmed(value));
    if unsigned.is_empty() {
        return Converted::Raised;
    }
    if !unsigned.iter().all(u8::is_ascii_digit) {
        return if is_newer_form(unsigned) { Converted::Ask } else { Converted::Raised };
    }
    let zeros = unsigned.iter().take_while(|digit| **digit == b'0').count();
    let significant = unsigned.get(zeros..).unwrap_or_default();
    let magnitude = if significant.is_empty() { Some(0) } else { parsed::<i128>(significant) };
    fitting::<T>(magnitude.map(|magnitude| if negative { -magnitude } else { magnitude }))
}

fn is_newer_form(unsigned: &[u8]) -> bool {
    unsigned.contains(&b'_') || matches!(unsigned, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..])
}

/// As `numeric` reads what has only digits and a point; the rest is left to Postgres.
fn text_to_numeric(value: &[u8]) -> Converted {
    let (negative, unsigned) = signed(trimmed(value));
    let is_plain = unsigned.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if !is_plain || unsigned.len() > MAX_DIGITS {
        return match unsigned.first() {
            // Not a digit, a point, or the beginning of `NaN` or `Infinity`.
            Some(first) if first.is_ascii_alphabetic() && !b"nNiI".contains(first) => Converted::Raised,
            _ => Converted::Ask,
        };
    }
    let point = unsigned.iter().position(|byte| *byte == b'.');
    let whole = unsigned.get(..point.unwrap_or(unsigned.len())).unwrap_or_default();
    let fraction = point.and_then(|at| unsigned.get(at + 1..)).unwrap_or_default();
    if whole.len() + fraction.len() == 0 || fraction.contains(&b'.') {
        return Converted::Raised;
    }
    let zeros = whole.iter().take_while(|digit| **digit == b'0').count();
    let mut text = Vec::with_capacity(unsigned.len() + 2);
    if negative && whole.iter().chain(fraction).any(|digit| *digit != b'0') {
        text.push(b'-');
    }
    match whole.get(zeros..) {
        Some(significant) if !significant.is_empty() => text.extend_from_slice(significant),
        _ => text.push(b'0'),
    }
    if !fraction.is_empty() {
        text.push(b'.');
        text.extend_from_slice(fraction);
    }
    Converted::Text(text)
}

fn signed(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Stop;
    use super::super::tests::check;
    use super::*;

    #[test]
    fn texts_are_read_as_integers() {
        check(oid::TEXT, oid::INT4, " +0012\t", Ok("12"));
        check(oid::TEXT, oid::INT4, "-0", Ok("0"));
        check(oid::TEXT, oid::INT2, "-32768", Ok("-32768"));
        for text in ["", " ", "-", "1 2", "1.0", "a", "32768", "--1"] {
            check(oid::TEXT, oid::INT2, text, Err(Stop::Raised));
        }
        for text in ["0x1F", "1_000", "-0b1"] {
            check(oid::TEXT, oid::INT8, text, Err(Stop::Ask));
        }
        check(oid::TEXT, oid::INT8, "9223372036854775808", Err(Stop::Raised));
        check(oid::TEXT, oid::INT8, &"9".repeat(50), Err(Stop::Raised));
    }

    #[test]
    fn texts_are_read_as_numerics() {
        for (text, expected) in
            [(" 007.50 ", "7.50"), (".5", "0.5"), ("5.", "5"), ("-0.00", "0.00"), ("-.5", "-0.5"), ("+1", "1")]
        {
            check(oid::TEXT, oid::NUMERIC, text, Ok(expected));
        }
        for text in ["", ".", "1.2.3", "abc"] {
            check(oid::TEXT, oid::NUMERIC, text, Err(Stop::Raised));
        }
        for text in ["1e3", "NaN", "0x1", "1_0", "inf"] {
            check(oid::TEXT, oid::NUMERIC, text, Err(Stop::Ask));
        }
    }

    #[test]
    fn numbers_are_rounded_to_integers() {
        for (number, expected) in [("2.5", "3"), ("-2.5", "-3"), ("2.4999", "2"), ("-0.4", "0"), ("32767.49", "32767")]
        {
            check(oid::NUMERIC, oid::INT2, number, Ok(expected));
        }
        for number in ["32767.5", "NaN", "Infinity"] {
            check(oid::NUMERIC, oid::INT2, number, Err(Stop::Raised));
        }
        for (number, expected) in [("2.5", "2"), ("3.5", "4"), ("-0.4", "0"), ("1e+09", "1000000000")] {
            check(oid::FLOAT8, oid::INT4, number, Ok(expected));
        }
        for number in ["NaN", "-Infinity", "1e+300", "9.223372036854776e+18"] {
            check(oid::FLOAT8, oid::INT8, number, Err(Stop::Raised));
        }
        check(oid::JSONB, oid::INT4, "1.50", Ok("2"));
        check(oid::JSONB, oid::INT4, "\"1\"", Err(Stop::Raised));
        check(oid::INT8, oid::FLOAT8, "1000000000000000", Err(Stop::Ask));
    }
}
