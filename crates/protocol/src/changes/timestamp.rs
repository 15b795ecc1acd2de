//! Commit times as this protocol writes them: UTC, three decimals.

use std::io::Write as _;

use time::OffsetDateTime;

/// Writes a time given in µs since 1970: `2025-11-19T00:22:40.877Z`.
pub(super) fn write(out: &mut Vec<u8>, unix_us: i64) {
    let nanos = i128::from(unix_us) * 1000;
    // Times that are not in the calendar's range are of a broken clock; the latest time that can be written stands for them.
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .unwrap_or(time::macros::datetime!(9999-12-31 23:59:59.999 UTC));
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, millis) = (at.hour(), at.minute(), at.second(), at.millisecond());
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z");
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written() {
        for (us, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_763_511_760_877_999, "2025-11-19T00:22:40.877Z"),
            (i64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            let mut out = Vec::new();
            super::write(&mut out, us);
            assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
        }
    }
}
