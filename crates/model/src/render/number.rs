//! Numbers as `jsonb` prints them: no exponent, digits after the point kept, no negative zero.

/// Exponents that are written out as zeros: those of every float. In `json` texts there can be larger ones; a few bytes
/// would then become 131,072, so these stay as they are.
const MAX_EXPONENT: i64 = 400;

/// Appends an integer, whose text is JSON already.
pub(super) fn write_integer(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    canonical.then(|| out.extend_from_slice(text))
}

/// Appends a `numeric` or a float; those that are no numbers (NaN and the infinities) as strings.
pub(super) fn write_number(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    if matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
        return Some(());
    }
    Parts::parse(text)?.write(out)
}

/// Appends a number of a `json` text.
pub(super) fn write_json_number(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let parts = Parts::parse(text)?;
    if parts.exponent.abs() > MAX_EXPONENT {
        out.extend_from_slice(text);
        return Some(());
    }
    parts.write(out)
}

/// Whether the text is a number of JSON's form.
pub(super) fn is_number(text: &[u8]) -> bool {
    Parts::parse(text).is_some()
}

/// A decimal number taken apart: the digits of `whole` and `fraction` times ten to the `exponent`.
struct Parts<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Parts<'a> {
    /// Reads a number of JSON's form.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let (whole, rest) = digits(text);
        let (fraction, rest) = match rest.strip_prefix(b".") {
            Some(rest) => Some(digits(rest)).filter(|(fraction, _)| !fraction.is_empty())?,
            None => (&[][..], rest),
        };
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with(b"0")) {
            return None;
        }
        let exponent = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', exponent)) => parse_exponent(exponent)?,
            Some(_) => return None,
        };
        Some(Self { negative, whole, fraction, exponent })
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        let all_digits = || self.whole.iter().chain(self.fraction).copied();
        let is_zero = all_digits().all(|digit| digit == b'0');
        if self.exponent.abs() > MAX_EXPONENT {
            return None;
        }
        if self.negative && !is_zero {
            out.push(b'-');
        }
        if self.exponent == 0 {
            out.extend_from_slice(self.whole);
            if !self.fraction.is_empty() {
                out.push(b'.');
                out.extend_from_slice(self.fraction);
            }
            return Some(());
        }
        self.write_shifted(out)
    }

    /// Writes the number with its point where the exponent puts it.
    fn write_shifted(&self, out: &mut Vec<u8>) -> Option<()> {
        let all_digits = || self.whole.iter().chain(self.fraction).copied();
        let count = i64::try_from(self.whole.len() + self.fraction.len()).ok()?;
        // Digits before the point and after it, as the exponent leaves them; either may be negative or beyond the end.
        let before = i64::try_from(self.whole.len()).ok()? + self.exponent;
        let after = (i64::try_from(self.fraction.len()).ok()? - self.exponent).max(0);
        let start = out.len();
        let taken = usize::try_from(before.clamp(0, count)).ok()?;
        out.extend(all_digits().take(taken).skip_while(|digit| *digit == b'0'));
        if out.len() > start {
            let padding = usize::try_from((before - count).max(0)).ok()?;
            out.extend(std::iter::repeat_n(b'0', padding));
        } else {
            out.push(b'0');
        }
        if after > 0 {
            out.push(b'.');
            out.extend(std::iter::repeat_n(b'0', usize::try_from((-before).max(0)).ok()?));
            out.extend(all_digits().skip(taken));
        }
        Some(())
    }
}

/// The digits that the text begins with, and the rest.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let (digits, rest) = digits(text);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let value = digits
        .iter()
        .try_fold(0i64, |value, digit| value.checked_mul(10)?.checked_add(i64::from(digit - b'0')))
        .unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let mut out = Vec::new();
        let written = write_number(&mut out, text.as_bytes());
        assert_eq!(written.map(|()| String::from_utf8(out).expect("UTF-8")).as_deref(), expected, "{text}");
    }

    #[test]
    fn numbers_lose_their_exponent_and_keep_their_digits() {
        check("1", Some("1"));
        check("-12.3400", Some("-12.3400"));
        check("1e+20", Some("100000000000000000000"));
        check("1.5e+20", Some("150000000000000000000"));
        check("1.5e-07", Some("0.00000015"));
        check("1.50e1", Some("15.0"));
        check("12.5e1", Some("125"));
        check("1e-1", Some("0.1"));
        check("123e-2", Some("1.23"));
        check("123e-3", Some("0.123"));
        check("-0", Some("0"));
        check("-0.00", Some("0.00"));
        check("0e5", Some("0"));
        check("0.001e2", Some("0.1"));
        check("NaN", Some("\"NaN\""));
        check("-Infinity", Some("\"-Infinity\""));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "1x", "1e999999999999999999999", "+1", "inf"] {
            check(text, None);
        }
    }
}
