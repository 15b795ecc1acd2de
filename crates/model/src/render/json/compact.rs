//! JSON without the blanks between its tokens.

use super::token::{Token, Tokens};

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    Nothing,
}

/// Appends a `jsonb` value, which Postgres prints in its normal form; `None` when the text is not JSON.
///
/// Does not recurse, so that nesting of any depth is safe.
pub(in crate::render) fn write_compact(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let mut tokens = Tokens::new(std::str::from_utf8(text).ok()?);
    out.reserve(text.len());
    // The containers that are open: whether each is an object.
    let mut open: Vec<bool> = Vec::new();
    let mut expect = Expect::Value;
    while let Some(token) = tokens.next()? {
        expect = match (expect, token) {
            (Expect::Value | Expect::ValueOrEnd, Token::Mark(b'{')) => {
                open.push(true);
                Expect::KeyOrEnd
            }
            (Expect::Value | Expect::ValueOrEnd, Token::Mark(b'[')) => {
                open.push(false);
                Expect::ValueOrEnd
            }
            (Expect::Value | Expect::ValueOrEnd, Token::String(_) | Token::Number(_) | Token::Word(_)) => after(&open),
            (Expect::Key | Expect::KeyOrEnd, Token::String(_)) => Expect::Colon,
            (Expect::Colon, Token::Mark(b':')) => Expect::Value,
            (Expect::CommaOrEnd, Token::Mark(b',')) => match open.last()? {
                true => Expect::Key,
                false => Expect::Value,
            },
            (Expect::KeyOrEnd | Expect::CommaOrEnd, Token::Mark(b'}')) if open.last() == Some(&true) => {
                open.pop();
                after(&open)
            }
            (Expect::ValueOrEnd | Expect::CommaOrEnd, Token::Mark(b']')) if open.last() == Some(&false) => {
                open.pop();
                after(&open)
            }
            _ => return None,
        };
        match token {
            Token::Mark(mark) => out.push(mark),
            Token::String(text) | Token::Number(text) | Token::Word(text) => out.extend_from_slice(text),
        }
    }
    (expect == Expect::Nothing).then_some(())
}

fn after(open: &[bool]) -> Expect {
    if open.is_empty() { Expect::Nothing } else { Expect::CommaOrEnd }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let mut out = Vec::new();
        let written = write_compact(&mut out, text.as_bytes());
        assert_eq!(written.map(|()| String::from_utf8(out).expect("UTF-8")).as_deref(), expected, "{text}");
    }

    #[test]
    fn blanks_go_and_the_rest_stays() {
        check(
            r#"{"a": [1, 2.50, {"b": null}], "c d": "e, f: \" "}"#,
            Some(r#"{"a":[1,2.50,{"b":null}],"c d":"e, f: \" "}"#),
        );
        check("[]", Some("[]"));
        check(" {} ", Some("{}"));
        check("-1", Some("-1"));
        check(&("[".repeat(100_000) + &"]".repeat(100_000)), Some(&("[".repeat(100_000) + &"]".repeat(100_000))));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            "{",
            "}",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{1:2}",
            "[1 2]",
            "1 2",
            "tru",
            "01",
            "\"a",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "[}",
            "{]",
            "nullx",
        ] {
            check(text, None);
        }
    }
}
