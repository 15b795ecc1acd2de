//! Parts of `jsonb` values, cut out of the text that Postgres prints: keys unique, `, ` and `: ` between parts.
//!
//! An outer `None` means that the text is not of that form.

use std::borrow::Cow;
use std::fmt::Write;

/// The value of an object's member; `key` is as [`encoded`] gives it. `None` within for what is no object or has none.
pub(super) fn field<'a>(json: &'a [u8], key: &[u8]) -> Option<Option<&'a [u8]>> {
    let Some(mut rest) = json.strip_prefix(b"{") else { return Some(None) };
    if rest == b"}" {
        return Some(None);
    }
    loop {
        let (name, after) = split_value(rest)?;
        let (value, after) = split_value(after.strip_prefix(b": ")?)?;
        if name == key {
            return Some(Some(value));
        }
        match after.strip_prefix(b", ") {
            Some(next) => rest = next,
            None => return (after == b"}").then_some(None),
        }
    }
}

/// The elements of an array; `None` within for what is no array.
pub(super) fn elements(json: &[u8]) -> Option<Option<Vec<&[u8]>>> {
    let Some(mut rest) = json.strip_prefix(b"[") else { return Some(None) };
    let mut elements = Vec::new();
    if rest == b"]" {
        return Some(Some(elements));
    }
    loop {
        let (value, after) = split_value(rest)?;
        elements.push(value);
        match after.strip_prefix(b", ") {
            Some(next) => rest = next,
            None => return (after == b"]").then_some(Some(elements)),
        }
    }
}

/// The element of an array, counted from its end if the index is negative.
pub(super) fn element(json: &[u8], index: i64) -> Option<Option<&[u8]>> {
    let Some(elements) = elements(json)? else { return Some(None) };
    Some(at(&elements, index))
}

/// What `-> index` gives: a scalar that is not in anything counts as an array of itself.
pub(super) fn element_or_scalar(json: &[u8], index: i64) -> Option<Option<&[u8]>> {
    match json.first()? {
        b'[' => element(json, index),
        b'{' => Some(None),
        _ => Some(at(&[json], index)),
    }
}

fn at<'a>(elements: &[&'a [u8]], index: i64) -> Option<&'a [u8]> {
    let len = i64::try_from(elements.len()).ok()?;
    let index = if index < 0 { index.checked_add(len)? } else { index };
    elements.get(usize::try_from(index).ok()?).copied()
}

/// What a path leads to.
pub(super) fn at_path<'a>(json: &'a [u8], path: &[Cow<'_, [u8]>]) -> Option<Option<&'a [u8]>> {
    let mut value = json;
    for step in path {
        let next = match value.first()? {
            b'{' => field(value, &encoded(std::str::from_utf8(step).ok()?))?,
            b'[' => match index(step) {
                Some(index) => element(value, index)?,
                None => None,
            },
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => return Some(None),
        }
    }
    Some(Some(value))
}

/// The array index that a step of a path is read as, as `strtoint` reads it.
fn index(step: &[u8]) -> Option<i64> {
    let start = step.iter().position(|byte| !is_space(*byte))?;
    let digits = step.get(start..)?;
    let unsigned = digits.strip_prefix(b"+").or_else(|| digits.strip_prefix(b"-")).unwrap_or(digits);
    if !unsigned.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse::<i32>().ok().filter(|index| *index != i32::MIN).map(i64::from)
}

/// Whether C's `isspace` says so.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The text of `->>`: strings without their quotes; `None` within for null, which becomes NULL.
pub(super) fn as_text(json: &[u8]) -> Option<Option<Cow<'_, [u8]>>> {
    match json {
        b"null" => Some(None),
        [b'"', ..] => unescaped(json).map(Some),
        _ => Some(Some(Cow::Borrowed(json))),
    }
}

/// A text as a string within `jsonb` prints it.
pub(super) fn encoded(text: &str) -> Vec<u8> {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out.into_bytes()
}

fn unescaped(string: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = string.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(plain) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(rest.get(..plain)?);
        let letter = *rest.get(plain + 1)?;
        rest = rest.get(plain + 2..)?;
        out.push(match letter {
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            // Only control characters are printed so.
            b'u' => {
                let code = std::str::from_utf8(rest.get(..4)?).ok()?;
                rest = rest.get(4..)?;
                u8::from_str_radix(code, 16).ok().filter(u8::is_ascii)?
            }
            other => other,
        });
    }
    out.extend_from_slice(rest);
    Some(Cow::Owned(out))
}

/// The value that the text begins with, and what follows it.
fn split_value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = match text.first()? {
        b'"' => string_len(text)?,
        b'{' | b'[' => container_len(text)?,
        _ => text.iter().position(|byte| matches!(byte, b',' | b'}' | b']')).unwrap_or(text.len()),
    };
    (len > 0).then(|| text.split_at_checked(len))?
}

fn container_len(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => at += string_len(text.get(at..)?)? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn string_len(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: Option<Option<&[u8]>>, expected: Option<&str>) {
        assert_eq!(found, Some(expected.map(str::as_bytes)));
    }

    #[test]
    fn parts_are_cut_out_as_they_are_printed() {
        let json = br#"{"a": {"b": [1, "x}\"", {}]}, "\u0001\n": null, "c": []}"#;
        check(field(json, &encoded("a")), Some(r#"{"b": [1, "x}\"", {}]}"#));
        check(field(json, &encoded("\u{1}\n")), Some("null"));
        check(field(json, &encoded("c")), Some("[]"));
        check(field(json, &encoded("d")), None);
        check(field(b"{}", &encoded("a")), None);
        check(field(b"[1]", &encoded("a")), None);
        check(element(br#"[1, "x]", {"a": 2}]"#, -1), Some(r#"{"a": 2}"#));
        check(element(b"[1]", 1), None);
        check(element(b"[1]", -2), None);
        check(element(b"{}", 0), None);
        check(element_or_scalar(b"1", 0), Some("1"));
        check(element_or_scalar(b"{}", 0), None);
        let path = |steps: &[&'static str]| steps.iter().map(|step| step.as_bytes().into()).collect::<Vec<_>>();
        check(at_path(json, &path(&["a", "b", " -2"])), Some(r#""x}\"""#));
        check(at_path(json, &path(&["a", "b", "x"])), None);
        check(at_path(b"1", &path(&["0"])), None);
        check(at_path(b"1", &[]), Some("1"));
    }

    #[test]
    fn strings_lose_quotes_and_escapes() {
        let text = as_text("\"a\\\"\\\\\\u0001\\té\"".as_bytes()).flatten().expect("a string");
        assert_eq!(&*text, "a\"\\\u{1}\té".as_bytes());
        assert_eq!(as_text(b"null"), Some(None));
        assert_eq!(as_text(b"1.50").flatten().as_deref(), Some(b"1.50".as_slice()));
    }

    #[test]
    fn what_is_not_printed_so_is_refused() {
        for text in ["{", "{\"a\":1}", "{\"a\": 1,\"b\": 2}", "{\"a\": 1", "{\"a\": [}"] {
            assert_eq!(field(text.as_bytes(), b"\"b\""), None, "{text}");
        }
        for text in ["[", "[1", "[1,2]", "[1, ]"] {
            assert_eq!(elements(text.as_bytes()), None, "{text}");
        }
    }
}
