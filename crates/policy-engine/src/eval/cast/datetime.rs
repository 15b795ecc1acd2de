//! Casts to dates and times, for texts in the very form that the type prints, and among those without a time zone.

use reactor_model::oid;

use super::super::types::Type;
use super::{Casting, Conversion, Converted};

/// The last year of a `timestamp`.
const LAST_YEAR: u32 = 294_276;

pub(super) fn casting(from: Type, to: u32) -> Casting {
    match (from.oid, to) {
        (oid::TIMESTAMP, oid::DATE) => Conversion::exact(timestamp_to_date),
        (oid::DATE, oid::TIMESTAMP) => Conversion::raising(date_to_timestamp),
        (_, oid::DATE) if from.is_text() => Conversion::asking(|text| if_printed(is_date(text))),
        (_, oid::TIME) if from.is_text() => Conversion::asking(|text| if_printed(is_time(text))),
        (_, oid::TIMESTAMP) if from.is_text() => Conversion::asking(|text| if_printed(is_timestamp(text))),
        // Values are printed in UTC.
        (_, oid::TIMESTAMPTZ) if from.is_text() => {
            Conversion::asking(|text| if_printed(text.strip_suffix(b"+00").is_some_and(is_timestamp)))
        }
        _ => Casting::Unknown,
    }
}

fn if_printed(is_printed: bool) -> Converted {
    if is_printed { Converted::Same } else { Converted::Ask }
}

fn timestamp_to_date(value: &[u8]) -> Converted {
    let Some(end) = value.iter().position(|byte| *byte == b' ') else { return Converted::Same };
    let mut date = value.get(..end).unwrap_or_default().to_vec();
    if value.ends_with(b" BC") {
        date.extend_from_slice(b" BC");
    }
    Converted::Text(date)
}

fn date_to_timestamp(value: &[u8]) -> Converted {
    if value.ends_with(b"infinity") {
        return Converted::Same;
    }
    let (date, era) = value.strip_suffix(b" BC").map_or((value, &b""[..]), |date| (date, b" BC"));
    let year = date.split(|byte| *byte == b'-').next().and_then(number);
    match year {
        Some(year) if !era.is_empty() || year <= LAST_YEAR => Converted::Text([date, b" 00:00:00", era].concat()),
        _ => Converted::Raised,
    }
}

/// Whether this is a day of the years 1 to 9999 as it is printed.
fn is_date(text: &[u8]) -> bool {
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = text else { return false };
    let (Some(year), Some(month), Some(day)) = (four_digits(year), number(&[*m1, *m2]), number(&[*d1, *d2])) else {
        return false;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 0,
    };
    year > 0 && (1..=days).contains(&day)
}

fn is_time(text: &[u8]) -> bool {
    let Some((clock, fraction)) = text.split_at_checked(8) else { return false };
    let [h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return false };
    let below = |tens: &u8, ones: &u8, limit: u32| number(&[*tens, *ones]).is_some_and(|value| value < limit);
    let has_fraction = match fraction {
        [] => true,
        [b'.', digits @ ..] => digits.len() <= 6 && number(digits).is_some() && digits.last() != Some(&b'0'),
        _ => false,
    };
    below(h1, h2, 24) && below(m1, m2, 60) && below(s1, s2, 60) && has_fraction
}

fn is_timestamp(text: &[u8]) -> bool {
    match text.split_at_checked(10) {
        Some((date, [b' ', time @ ..])) => is_date(date) && is_time(time),
        _ => false,
    }
}

fn four_digits(text: &[u8]) -> Option<u32> {
    if text.len() == 4 { number(text) } else { None }
}

/// A number of digits alone.
fn number(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::Stop;
    use super::super::tests::check;
    use super::*;

    #[test]
    fn texts_in_the_printed_form_are_taken_over() {
        for (to, text) in [
            (oid::DATE, "2024-02-29"),
            (oid::TIME, "23:59:59.000001"),
            (oid::TIMESTAMP, "0001-01-01 00:00:00"),
            (oid::TIMESTAMPTZ, "2024-02-29 12:00:00.5+00"),
        ] {
            check(oid::TEXT, to, text, Ok(text));
        }
        for (to, text) in [
            (oid::DATE, "2023-02-29"),
            (oid::DATE, "2023-13-01"),
            (oid::DATE, "0000-01-01"),
            (oid::DATE, "10000-01-01"),
            (oid::DATE, "2024-1-01"),
            (oid::DATE, "today"),
            (oid::TIME, "24:00:00"),
            (oid::TIME, "23:59:59.10"),
            (oid::TIME, "23:59:60"),
            (oid::TIME, "23:59:59."),
            (oid::TIMESTAMP, "2024-02-29T12:00:00"),
            (oid::TIMESTAMPTZ, "2024-02-29 12:00:00"),
            (oid::TIMESTAMPTZ, "2024-02-29 12:00:00+01"),
        ] {
            check(oid::TEXT, to, text, Err(Stop::Ask));
        }
    }

    #[test]
    fn dates_and_timestamps_become_each_other() {
        check(oid::TIMESTAMP, oid::DATE, "2024-02-29 12:00:00.5", Ok("2024-02-29"));
        check(oid::TIMESTAMP, oid::DATE, "0044-03-15 12:00:00 BC", Ok("0044-03-15 BC"));
        check(oid::TIMESTAMP, oid::DATE, "-infinity", Ok("-infinity"));
        check(oid::DATE, oid::TIMESTAMP, "2024-02-29", Ok("2024-02-29 00:00:00"));
        check(oid::DATE, oid::TIMESTAMP, "0044-03-15 BC", Ok("0044-03-15 00:00:00 BC"));
        check(oid::DATE, oid::TIMESTAMP, "infinity", Ok("infinity"));
        check(oid::DATE, oid::TIMESTAMP, "294277-01-01", Err(Stop::Raised));
    }
}
