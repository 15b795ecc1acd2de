//! Where the parts of a filter's text end.
//!
//! Commas part conditions where no parenthesis is open and no quote is. A quote opens only right after `.`, `(` or
//! `,` (or at the start); within it a backslash takes the next character along.

/// Which characters a backslash in quotes stands for.
#[derive(Clone, Copy)]
pub(super) enum Escapes {
    /// `\"` and `\\`; other backslashes stay, as patterns need them.
    OfScalars,
    /// Any character, as in an array literal.
    OfArrays,
}

/// The text within quotes when they enclose all of `text`, else `text` itself.
pub(super) fn unquoted(text: &str, escapes: Escapes) -> String {
    let literal = || text.to_owned();
    let Some(inner) = text.strip_prefix('"') else { return literal() };
    let mut value = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    loop {
        match chars.next() {
            None => return literal(),
            Some('"') => return if chars.as_str().is_empty() { value } else { literal() },
            Some('\\') => match (chars.next(), escapes) {
                (None, _) => return literal(),
                (Some(c @ ('"' | '\\')), _) | (Some(c), Escapes::OfArrays) => value.push(c),
                (Some(c), Escapes::OfScalars) => value.extend(['\\', c]),
            },
            Some(c) => value.push(c),
        }
    }
}

/// Whether parentheses keep commas together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    Counts,
    Ignored,
}

/// The parts between commas.
pub(super) fn split(text: &str, nesting: Nesting) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest?;
        let end = part_end(current, nesting);
        rest = current.get(end + 1..);
        current.get(..end)
    })
}

/// Offset of the comma that ends the first part, or the length.
fn part_end(text: &str, nesting: Nesting) -> usize {
    let mut scan = Scan::default();
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        if scan.is_quoted(byte) {
            continue;
        }
        match byte {
            b'(' if nesting == Nesting::Counts => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// The text within the parenthesis that `text` begins with, when its partner is the last character.
pub(super) fn enclosed(text: &str) -> Option<&str> {
    let mut scan = Scan::default();
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        if scan.is_quoted(byte) {
            continue;
        }
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return (at > 0 && at + 1 == text.len()).then(|| text.get(1..at))?;
        }
    }
    None
}

/// Keeps track of quotes byte by byte.
#[derive(Default)]
struct Scan {
    quoted: bool,
    escaped: bool,
    /// The byte before, blanks after `(` and `,` not counted; 0 at the start.
    before: u8,
}

impl Scan {
    /// Whether this byte is a quote or within quotes.
    fn is_quoted(&mut self, byte: u8) -> bool {
        if self.quoted {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                _ => {}
            }
            return true;
        }
        self.quoted = byte == b'"' && matches!(self.before, 0 | b'.' | b'(' | b',');
        if !(byte == b' ' && matches!(self.before, b'(' | b',')) {
            self.before = byte;
        }
        self.quoted
    }
}

/// The column's name, which may be in quotes, and what follows the delimiter.
pub(super) fn split_name(part: &str, delimiter: char) -> Option<(String, &str)> {
    if part.starts_with('"') {
        let mut scan = Scan::default();
        let end = part.bytes().position(|byte| !scan.is_quoted(byte))?;
        let rest = part.get(end..)?.trim_start().strip_prefix(delimiter)?;
        return Some((unquoted(part.get(..end)?, Escapes::OfScalars), rest));
    }
    let (name, rest) = part.split_once(delimiter)?;
    Some((name.trim().to_owned(), rest))
}
