//! JSON strings, escaped as Postgres's `escape_json` does: only what must be.

/// Bytes that are looked at together, for which the compiler uses vector instructions.
const CHUNK: usize = 32;

/// Appends a JSON string.
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    for chunk in text.as_bytes().chunks(CHUNK) {
        if is_plain(chunk) {
            out.extend_from_slice(chunk);
        } else {
            chunk.iter().for_each(|byte| push_escaped(out, *byte));
        }
    }
    out.push(b'"');
}

/// Whether no byte needs an escape; looks at all of them, so that there is no branch for each.
fn is_plain(chunk: &[u8]) -> bool {
    chunk.iter().fold(true, |plain, byte| plain & (*byte >= 0x20) & (*byte != b'"') & (*byte != b'\\'))
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        0x08 => out.extend_from_slice(b"\\b"),
        b'\t' => out.extend_from_slice(b"\\t"),
        b'\n' => out.extend_from_slice(b"\\n"),
        0x0c => out.extend_from_slice(b"\\f"),
        b'\r' => out.extend_from_slice(b"\\r"),
        0..0x20 => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 0xf)]),
        _ => out.push(byte),
    }
}

/// Appends a JSON string of bytes that may not be UTF-8.
pub(super) fn write_string_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    write_string(out, &String::from_utf8_lossy(bytes));
}

const fn hex(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_must_be_is_escaped() {
        let mut out = Vec::new();
        write_string(&mut out, "a\"b\\c\n\u{1}\u{1f}\u{7f}/é\u{2028}");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), "\"a\\\"b\\\\c\\n\\u0001\\u001f\u{7f}/é\u{2028}\"");
    }
}
