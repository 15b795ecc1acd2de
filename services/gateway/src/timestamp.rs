//! Times as clients see them: UTC, RFC 3339, six decimals.

use std::io::Write as _;

const DAY_US: i64 = 86_400_000_000;

/// Writes a time given in µs since 1970: `2025-11-19T00:22:40.877123Z`.
pub fn write(out: &mut Vec<u8>, unix_us: i64) {
    let days = unix_us.div_euclid(DAY_US);
    let in_day = unix_us.rem_euclid(DAY_US);
    let (year, month, day) = civil(days);
    let (seconds, micros) = (in_day / 1_000_000, in_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z");
}

/// The same as a string.
#[must_use]
pub fn text(unix_us: i64) -> String {
    let mut out = Vec::with_capacity(27);
    write(&mut out, unix_us);
    String::from_utf8(out).unwrap_or_default()
}

/// Proleptic Gregorian date of a day number since 1970 (the era method: 400 years are 146,097 days).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written() {
        for (us, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_763_511_760_877_123, "2025-11-19T00:22:40.877123Z"),
            (4_107_542_399_000_001, "2100-02-28T23:59:59.000001Z"),
        ] {
            assert_eq!(text(us), expected);
        }
    }
}
