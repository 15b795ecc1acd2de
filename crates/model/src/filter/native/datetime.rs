//! Dates and times in ISO form as order keys.

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;
/// Microseconds of a day.
const DAY: i64 = 86_400 * SECOND;
/// Days from 0000-03-01 to 2000-01-01. From 2000 on, as Postgres counts, every timestamp fits an `i64`.
const DAYS_TO_EPOCH: i64 = 730_425;

/// Order key of a `date`: days, with the infinities at both ends.
pub(in crate::filter) fn date(text: &[u8]) -> Option<i64> {
    infinity(text).or_else(|| {
        let (date, before_christ) = without_era(text);
        let (days, rest) = calendar_days(date, before_christ)?;
        rest.is_empty().then_some(days)
    })
}

/// Order key of a `time`: microseconds.
pub(in crate::filter) fn time(text: &[u8]) -> Option<i64> {
    let (micros, rest) = clock_micros(text)?;
    rest.is_empty().then_some(micros)
}

/// Order key of a `timestamp` or `timestamptz`: microseconds in UTC, with the infinities at both ends.
pub(in crate::filter) fn timestamp(text: &[u8]) -> Option<i64> {
    infinity(text).or_else(|| {
        let (text, before_christ) = without_era(text);
        let (days, rest) = calendar_days(text, before_christ)?;
        let (micros, rest) = clock_micros(rest.strip_prefix(b" ")?)?;
        let local = days.checked_mul(DAY)?.checked_add(micros)?;
        local.checked_sub(offset_micros(rest)?)
    })
}

fn infinity(text: &[u8]) -> Option<i64> {
    match text {
        b"infinity" => Some(i64::MAX),
        b"-infinity" => Some(i64::MIN),
        _ => None,
    }
}

fn without_era(text: &[u8]) -> (&[u8], bool) {
    text.strip_suffix(b" BC").map_or((text, false), |rest| (rest, true))
}

/// Days since 2000-01-01 of `year-month-day`, and what follows.
fn calendar_days(text: &[u8], before_christ: bool) -> Option<(i64, &[u8])> {
    let (year, rest) = number(text)?;
    let (month, rest) = number(rest.strip_prefix(b"-")?)?;
    let (day, rest) = number(rest.strip_prefix(b"-")?)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if before_christ { 1 - year } else { year };
    // Years begin in March, so that the leap day is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - DAYS_TO_EPOCH;
    Some((days, rest))
}

/// Microseconds of `hh:mm:ss[.ffffff]`, and what follows.
fn clock_micros(text: &[u8]) -> Option<(i64, &[u8])> {
    let (hours, rest) = number(text)?;
    let (minutes, rest) = number(rest.strip_prefix(b":")?)?;
    let (seconds, rest) = number(rest.strip_prefix(b":")?)?;
    let whole = hours.checked_mul(3600)?.checked_add(minutes * 60 + seconds)?.checked_mul(SECOND)?;
    let Some(fraction) = rest.strip_prefix(b".") else { return Some((whole, rest)) };
    let (value, rest) = number(fraction)?;
    let digits = u32::try_from(fraction.len() - rest.len()).ok()?;
    let scale = 10i64.checked_pow(6u32.checked_sub(digits)?)?;
    Some((whole + value * scale, rest))
}

/// Microseconds of a `+hh[:mm[:ss]]` offset that ends the text; none is 0.
fn offset_micros(text: &[u8]) -> Option<i64> {
    let (sign, mut rest) = match text.split_first() {
        None => return Some(0),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        Some(_) => return None,
    };
    let mut micros = 0;
    for unit in [3600, 60, 1] {
        let (value, after) = number(rest)?;
        micros += value * unit * SECOND;
        match after.strip_prefix(b":") {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(sign * micros),
        }
    }
    None
}

/// The number that the text begins with (at most 9 digits, so that sums of them cannot overflow), and what follows.
fn number(text: &[u8]) -> Option<(i64, &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&len) {
        return None;
    }
    let value = text.get(..len)?.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some((value, text.get(len..)?))
}
