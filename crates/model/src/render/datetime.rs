//! Timestamps: ISO 8601 as `to_jsonb` writes them, from the output of DateStyle ISO.

use super::render_string;

/// Appends a `timestamp` or `timestamptz`: `T` for the blank, and minutes to an offset of hours.
pub(super) fn write_timestamp(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let Some(blank) = text.iter().position(|byte| *byte == b' ') else { return render_string(out, text) };
    let (date, time) = (text.get(..blank)?, text.get(blank + 1..)?);
    let (time, era) = match time.strip_suffix(b" BC") {
        Some(time) => (time, &b" BC"[..]),
        None => (time, &[][..]),
    };
    let is_sign = |byte: &u8| matches!(byte, b'+' | b'-');
    let has_form = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b':' | b'.' | b'-' | b'+'));
    if !has_form(date) || !has_form(time) {
        return None;
    }
    let offset_len = time.iter().rposition(is_sign).map_or(0, |at| time.len() - at);
    out.push(b'"');
    out.extend_from_slice(date);
    out.push(b'T');
    out.extend_from_slice(time);
    if offset_len == b"+00".len() {
        out.extend_from_slice(b":00");
    }
    out.extend_from_slice(era);
    out.push(b'"');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_become_iso_8601() {
        let check = |text: &str, expected: &str| {
            let mut out = Vec::new();
            write_timestamp(&mut out, text.as_bytes()).expect("a timestamp");
            assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
        };
        check("2025-11-03 09:32:55+00", "\"2025-11-03T09:32:55+00:00\"");
        check("2025-11-03 09:32:55.12", "\"2025-11-03T09:32:55.12\"");
        check("2025-11-03 09:32:55.12+05:30", "\"2025-11-03T09:32:55.12+05:30\"");
        check("0044-03-15 00:00:00+00 BC", "\"0044-03-15T00:00:00+00:00 BC\"");
        check("294276-12-31 23:59:59", "\"294276-12-31T23:59:59\"");
        check("-infinity", "\"-infinity\"");
        assert_eq!(write_timestamp(&mut Vec::new(), b"a \"b"), None);
    }
}
