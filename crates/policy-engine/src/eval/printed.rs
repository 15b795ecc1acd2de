//! JSON texts as `jsonb` prints them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::json::encoded;

/// Nesting that is followed; deeper texts are left to Postgres.
const MAX_DEPTH: usize = 64;

/// Longer numbers may be beyond what `numeric` holds.
const MAX_DIGITS: usize = 1_000;

/// What `text::jsonb` prints; `None` when that may raise an error, or cannot be told here: numbers with an exponent, names
/// that are there twice.
pub(crate) fn printed(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    print(serde_json::from_str(text).ok()?, MAX_DEPTH, &mut out)?;
    Some(out)
}

fn print(json: &RawValue, depth: usize, out: &mut String) -> Option<()> {
    let (text, depth) = (json.get(), depth.checked_sub(1)?);
    match text.as_bytes().first()? {
        b'{' => {
            let Members(mut members) = serde_json::from_str(text).ok()?;
            members.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
            if members.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
                return None;
            }
            out.push('{');
            for (place, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if place > 0 { ", " } else { "" });
                print_string(&name, out)?;
                out.push_str(": ");
                print(value, depth, out)?;
            }
            out.push('}');
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push('[');
            for (place, value) in elements.into_iter().enumerate() {
                out.push_str(if place > 0 { ", " } else { "" });
                print(value, depth, out)?;
            }
            out.push(']');
        }
        b'"' => print_string(&serde_json::from_str::<String>(text).ok()?, out)?,
        b't' | b'f' | b'n' => out.push_str(text),
        _ => out.push_str(number(text)?),
    }
    Some(())
}

fn print_string(text: &str, out: &mut String) -> Option<()> {
    // Postgres has no such character.
    if text.contains('\0') {
        return None;
    }
    out.push_str(std::str::from_utf8(&encoded(text)).ok()?);
    Some(())
}

/// A number that is printed as it is written.
fn number(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    // There is no negative zero.
    let is_zero = digits.len() < text.len() && !digits.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    (is_plain && !is_zero && text.len() <= MAX_DIGITS).then_some(text)
}

/// The members of an object as they are written, those of one name too.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_printed_as_jsonb() {
        for (text, expected) in [
            (
                r#" {"sub":"u","a":[1,-2.50,{}],"b":{"c":null}} "#,
                r#"{"a": [1, -2.50, {}], "b": {"c": null}, "sub": "u"}"#,
            ),
            (r#"{"bb":1,"a":2,"é":3}"#, r#"{"a": 2, "bb": 1, "é": 3}"#),
            (r#""\u00e9\n\/\u0001""#, "\"é\\n/\\u0001\""),
            ("[ ]", "[]"),
            ("{ }", "{}"),
            ("0", "0"),
            ("true", "true"),
        ] {
            assert_eq!(printed(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_left_out() {
        for text in ["", "x", "{\"a\":1,\"a\":1}", "1e2", "-0.0", r#""\u0000""#, r#""\ud800""#, "[1,]", "{} {}"] {
            assert_eq!(printed(text), None, "{text}");
        }
        assert_eq!(printed(&format!("{}{}", "[".repeat(100), "]".repeat(100))), None);
        assert_eq!(printed(&"1".repeat(2_000)), None);
    }
}
