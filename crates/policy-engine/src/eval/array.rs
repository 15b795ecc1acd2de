//! Elements of arrays in text form: `{a,"b c",NULL}`, with dimensions nested and bounds before an `=` if they are unusual.

use std::borrow::Cow;

/// An element; `None` is NULL.
pub(super) type Element<'a> = Option<Cow<'a, [u8]>>;

/// The elements of all dimensions in order; `None` when the text is not an array's.
pub(super) fn elements(text: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut rest = match text.first()? {
        b'[' => text.get(text.iter().position(|byte| *byte == b'=')? + 1..)?,
        _ => text,
    };
    let mut elements = Vec::new();
    let mut depth = 0usize;
    loop {
        match rest.first()? {
            b'{' => {
                depth += 1;
                rest = rest.get(1..)?;
                if rest.first()? != &b'}' {
                    continue;
                }
            }
            b'"' if depth > 0 => {
                let (element, after) = quoted(rest)?;
                elements.push(Some(element));
                rest = after;
            }
            _ if depth > 0 => {
                let len = rest.iter().position(|byte| matches!(byte, b',' | b'}'))?;
                elements.push(match rest.get(..len)? {
                    b"" => return None,
                    b"NULL" => None,
                    value => Some(Cow::Borrowed(value)),
                });
                rest = rest.get(len..)?;
            }
            _ => return None,
        }
        while let Some(after) = rest.strip_prefix(b"}") {
            depth = depth.checked_sub(1)?;
            rest = after;
        }
        if depth == 0 {
            return rest.is_empty().then_some(elements);
        }
        rest = rest.strip_prefix(b",")?;
    }
}

/// The element in quotes that the text begins with, and what follows it.
fn quoted(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let inner = text.strip_prefix(b"\"")?;
    let plain = inner.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    if inner.get(plain) == Some(&b'"') {
        return Some((Cow::Borrowed(inner.get(..plain)?), inner.get(plain + 1..)?));
    }
    let mut value = Vec::new();
    let mut rest = inner;
    loop {
        let len = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        value.extend_from_slice(rest.get(..len)?);
        match rest.get(len..)? {
            [b'"', after @ ..] => return Some((Cow::Owned(value), after)),
            [b'\\', escaped, after @ ..] => {
                value.push(*escaped);
                rest = after;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&[Option<&str>]>) {
        let elements = elements(text.as_bytes());
        let texts = elements.as_ref().map(|elements| {
            elements
                .iter()
                .map(|element| element.as_deref().map(|bytes| std::str::from_utf8(bytes).expect("UTF-8")))
                .collect::<Vec<_>>()
        });
        assert_eq!(texts.as_deref(), expected, "{text}");
    }

    #[test]
    fn dimensions_are_looked_through() {
        check("{}", Some(&[]));
        check("{a,NULL,\"NULL\"}", Some(&[Some("a"), None, Some("NULL")]));
        check("{{a,b},{c,d}}", Some(&[Some("a"), Some("b"), Some("c"), Some("d")]));
        check("[2:3]={a,b}", Some(&[Some("a"), Some("b")]));
        check(r#"{"a\"b","c\\d","e,f",""}"#, Some(&[Some("a\"b"), Some("c\\d"), Some("e,f"), Some("")]));
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for text in ["", "{", "}", "{a", "{a,}", "{a}b", "{\"a}", "[1:2]", "a", "{}}", "{\"a\"b}", "\"a\""] {
            check(text, None);
        }
    }
}
