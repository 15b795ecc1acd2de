//! Reads the times of events: UTC, RFC 3339, six decimals.

/// Bytes of `2025-11-19T00:22:40.877123Z`.
pub(crate) const BYTES: usize = 27;

/// µs since 1970; `None` of anything else.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
    if text.len() != BYTES || separators.iter().any(|(at, expected)| text.get(*at) != Some(expected)) {
        return None;
    }
    let (year, month, day) = (number(text, 0..4)?, number(text, 5..7)?, number(text, 8..10)?);
    let (hour, minute, second) = (number(text, 11..13)?, number(text, 14..16)?, number(text, 17..19)?);
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000_000 + number(text, 20..26)?)
}

fn number(text: &[u8], range: std::ops::Range<usize>) -> Option<i64> {
    let digits = text.get(range)?;
    digits.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

/// Days since 1970 of a date in the proleptic Gregorian calendar. Years begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.000000Z", 0),
            ("1970-01-01T00:00:01.000002Z", 1_000_002),
            ("2000-02-29T23:59:59.999999Z", 951_868_799_999_999),
            ("2025-11-19T00:22:40.877123Z", 1_763_511_760_877_123),
            ("1969-12-31T23:59:59.000000Z", -1_000_000),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "2025-11-19 00:22:40.877123Z", "2025-11-19T00:22:40.87712Z", "2025-1a-19T00:22:40.877123Z"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
