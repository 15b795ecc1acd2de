//! Composites from their text form: `(a,"b ""c""",)`, as objects with their keys in `jsonb`'s order.

use super::WriteMember;
use super::json::key_order;
use super::string::write_string;

/// Appends a composite as an object. `member` appends one member's value of the type.
pub(super) fn write_composite(
    out: &mut Vec<u8>,
    text: &[u8],
    attributes: &[(String, u32)],
    member: WriteMember<'_>,
) -> Option<()> {
    let fields = fields(text, attributes.len())?;
    let mut members: Vec<_> = attributes.iter().zip(&fields).collect();
    members.sort_by(|((left, _), _), ((right, _), _)| key_order(left.as_bytes(), right.as_bytes()));
    let mut unescaped = Vec::new();
    out.push(b'{');
    for (index, ((name, type_oid), field)) in members.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        match field {
            Field::Null => out.extend_from_slice(b"null"),
            Field::Plain(value) => member(out, *type_oid, value)?,
            Field::Quoted(inner) => {
                unescape(inner, &mut unescaped)?;
                member(out, *type_oid, &unescaped)?;
            }
        }
    }
    out.push(b'}');
    Some(())
}

enum Field<'a> {
    /// Nothing between the commas.
    Null,
    Plain(&'a [u8]),
    /// The text within the quotes, its escapes still in it.
    Quoted(&'a [u8]),
}

fn fields(text: &[u8], count: usize) -> Option<Vec<Field<'_>>> {
    let mut rest = text.strip_prefix(b"(")?;
    let mut fields = Vec::with_capacity(count);
    for index in 0..count {
        if index > 0 {
            rest = rest.strip_prefix(b",")?;
        }
        let (field, after) = match rest.strip_prefix(b"\"") {
            Some(inner) => {
                let len = quoted_len(inner)?;
                (Field::Quoted(inner.get(..len)?), inner.get(len + 1..)?)
            }
            None => {
                let len = rest.iter().position(|byte| matches!(byte, b',' | b')'))?;
                let value = rest.get(..len)?;
                (if value.is_empty() { Field::Null } else { Field::Plain(value) }, rest.get(len..)?)
            }
        };
        fields.push(field);
        rest = after;
    }
    (rest == b")").then_some(fields)
}

/// Length of a quoted text up to its closing quote; a doubled quote or a backslash takes the next byte along.
fn quoted_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += match (text.get(at)?, text.get(at + 1)) {
            (b'"', Some(b'"')) | (b'\\', Some(_)) => 2,
            (b'"', _) => return Some(at),
            _ => 1,
        };
    }
}

fn unescape(text: &[u8], value: &mut Vec<u8>) -> Option<()> {
    value.clear();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        value.extend_from_slice(rest.get(..at)?);
        value.push(*rest.get(at + 1)?);
        rest = rest.get(at + 2..)?;
    }
    value.extend_from_slice(rest);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::render_string;
    use super::*;

    #[track_caller]
    fn check(text: &str, names: &[&str], expected: Option<&str>) {
        let attributes: Vec<_> = names.iter().map(|name| ((*name).to_owned(), 25)).collect();
        let mut out = Vec::new();
        let written =
            write_composite(&mut out, text.as_bytes(), &attributes, &mut |out, _, value| render_string(out, value));
        assert_eq!(written.map(|()| String::from_utf8(out).expect("UTF-8")).as_deref(), expected, "{text}");
    }

    #[test]
    fn composites_become_objects() {
        check("(1,2)", &["bb", "a"], Some(r#"{"a":"2","bb":"1"}"#));
        check("(,)", &["a", "b"], Some(r#"{"a":null,"b":null}"#));
        check("()", &[], Some("{}"));
        check("()", &["a"], Some(r#"{"a":null}"#));
        check(r#"("",x)"#, &["a", "b"], Some(r#"{"a":"","b":"x"}"#));
        check(r#"("a ""b""","c\\d")"#, &["a", "b"], Some(r#"{"a":"a \"b\"","b":"c\\d"}"#));
        check(r#"("x)y")"#, &["a"], Some(r#"{"a":"x)y"}"#));
    }

    #[test]
    fn what_is_no_composite_is_refused() {
        for text in ["", "(", "(1", "(1,2)", "(1)x", "(\"1)", "1", "(\"a\\"] {
            check(text, &["a"], None);
        }
    }
}
