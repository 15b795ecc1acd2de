//! `json` values in the form of `jsonb`: of several members with one key the last, keys in order, numbers and strings
//! in one way each.

use super::super::number;
use super::super::string::write_string;
use super::token::{Token, Tokens};
use super::{key_order, write_compact};

/// Nesting that is brought to normal form; deeper texts are only compacted, so that recursion is bounded.
const MAX_DEPTH: usize = 128;

/// Appends a `json` value as `jsonb`; `None` when `jsonb` could not hold it.
pub(in crate::render) fn write_normal(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    let mut tokens = Tokens::new(std::str::from_utf8(text).ok()?);
    let start = out.len();
    let first = tokens.next()??;
    match Value::parse(&mut tokens, first, 0) {
        Ok(value) => {
            value.write(out)?;
            tokens.next()?.is_none().then_some(())
        }
        Err(Refusal::TooDeep) => {
            out.truncate(start);
            write_compact(out, text)
        }
        Err(Refusal::Malformed) => None,
    }
}

enum Refusal {
    Malformed,
    TooDeep,
}

enum Value<'a> {
    /// `true`, `false` or `null`.
    Word(&'a [u8]),
    Number(&'a [u8]),
    String(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl<'a> Value<'a> {
    fn parse(tokens: &mut Tokens<'a>, first: Token<'a>, depth: usize) -> Result<Self, Refusal> {
        match first {
            Token::Word(word) => Ok(Self::Word(word)),
            Token::Number(number) => Ok(Self::Number(number)),
            Token::String(text) => unescaped(text).map(Self::String).ok_or(Refusal::Malformed),
            Token::Mark(b'{' | b'[') if depth >= MAX_DEPTH => Err(Refusal::TooDeep),
            Token::Mark(b'[') => Self::array(tokens, depth + 1),
            Token::Mark(b'{') => Self::object(tokens, depth + 1),
            Token::Mark(_) => Err(Refusal::Malformed),
        }
    }

    fn array(tokens: &mut Tokens<'a>, depth: usize) -> Result<Self, Refusal> {
        let mut elements = Vec::new();
        let mut token = next(tokens)?;
        if token == Token::Mark(b']') {
            return Ok(Self::Array(elements));
        }
        loop {
            elements.push(Self::parse(tokens, token, depth)?);
            match next(tokens)? {
                Token::Mark(b',') => token = next(tokens)?,
                Token::Mark(b']') => return Ok(Self::Array(elements)),
                _ => return Err(Refusal::Malformed),
            }
        }
    }

    fn object(tokens: &mut Tokens<'a>, depth: usize) -> Result<Self, Refusal> {
        let mut members = Vec::new();
        let mut token = next(tokens)?;
        if token == Token::Mark(b'}') {
            return Ok(Self::Object(members));
        }
        loop {
            let Token::String(key) = token else { return Err(Refusal::Malformed) };
            let key = unescaped(key).ok_or(Refusal::Malformed)?;
            if next(tokens)? != Token::Mark(b':') {
                return Err(Refusal::Malformed);
            }
            let first = next(tokens)?;
            members.push((key, Self::parse(tokens, first, depth)?));
            match next(tokens)? {
                Token::Mark(b',') => token = next(tokens)?,
                Token::Mark(b'}') => break,
                _ => return Err(Refusal::Malformed),
            }
        }
        members.sort_by(|(left, _), (right, _)| key_order(left.as_bytes(), right.as_bytes()));
        Ok(Self::Object(members))
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Word(word) => out.extend_from_slice(word),
            Self::Number(text) => number::write_json_number(out, text)?,
            Self::String(text) => write_string(out, text),
            Self::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    element.write(out)?;
                }
                out.push(b']');
            }
            Self::Object(members) => write_members(out, members)?,
        }
        Some(())
    }
}

/// Appends the members, which are sorted; of those with the same key the last.
fn write_members(out: &mut Vec<u8>, members: &[(String, Value<'_>)]) -> Option<()> {
    out.push(b'{');
    let mut is_first = true;
    for (index, (key, value)) in members.iter().enumerate() {
        if members.get(index + 1).is_some_and(|(next, _)| next == key) {
            continue;
        }
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        write_string(out, key);
        out.push(b':');
        value.write(out)?;
    }
    out.push(b'}');
    Some(())
}

fn next<'a>(tokens: &mut Tokens<'a>) -> Result<Token<'a>, Refusal> {
    tokens.next().flatten().ok_or(Refusal::Malformed)
}

/// The text of a string token; `None` when it has half a surrogate pair.
fn unescaped(token: &[u8]) -> Option<String> {
    let inner = std::str::from_utf8(token).ok()?.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let letter = escape.chars().next()?;
        rest = escape.get(1..)?;
        text.push(match letter {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (c, after) = code_point(rest)?;
                rest = after;
                c
            }
            other => other,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// The character of the hex digits that follow `\u`, with the second escape of a surrogate pair.
fn code_point(text: &str) -> Option<(char, &str)> {
    let unit = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
    let (first, rest) = (unit(text)?, text.get(4..)?);
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let rest = rest.strip_prefix("\\u")?;
    let second = unit(rest).filter(|unit| (0xdc00..0xe000).contains(unit))?;
    let c = char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?;
    Some((c, rest.get(4..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let mut out = Vec::new();
        let written = write_normal(&mut out, text.as_bytes());
        assert_eq!(written.map(|()| String::from_utf8(out).expect("UTF-8")).as_deref(), expected, "{text}");
    }

    #[test]
    fn objects_are_as_jsonb_keeps_them() {
        check(r#"{"bb": 1, "a": 2, "bb": 3, "a": {"z": [ ], "y": { }}}"#, Some(r#"{"a":{"y":{},"z":[]},"bb":3}"#));
        check(r#"{"\u0061": 1, "a": 2}"#, Some(r#"{"a":2}"#));
    }

    #[test]
    fn numbers_and_strings_have_one_form() {
        check("[1e2, 1.50, -0, 1.5e-3]", Some("[100,1.50,0,0.0015]"));
        check("1e100000", Some("1e100000"));
        check(r#""\/\u00e9\ud83d\ude00\u0001\t""#, Some("\"/é😀\\u0001\\t\""));
        check(r#""\ud83d""#, None);
        check(r#""\ud83dx""#, None);
        check(r#""\ude00""#, None);
    }

    #[test]
    fn deep_texts_are_compacted() {
        let deep = |inner: &str| "[".repeat(200) + inner + &"]".repeat(200);
        check(&deep("1e2 , 1"), Some(&deep("1e2,1")));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "[1", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "1 2", "[1 2]", ":", "{\"a\":1]", "nul"] {
            check(text, None);
        }
    }
}
