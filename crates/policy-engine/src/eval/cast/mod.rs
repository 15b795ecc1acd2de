//! Casts, as far as their results are known: to the text that the type cast to prints.

mod datetime;
mod number;

use std::borrow::Cow;

use reactor_model::filter::compare::labels;
use reactor_model::{Relation, oid};

use super::json::is_space;
use super::types::Type;
use super::{Stop, expr::Text};

/// What a cast does to values that are not NULL.
#[derive(Clone, Debug)]
pub(super) enum Casting {
    /// The text stays.
    Same,
    /// The text changes, or is checked.
    By(Conversion),
    /// Only Postgres knows.
    Unknown,
}

/// A cast that does something to the text.
#[derive(Clone, Debug)]
pub(super) struct Conversion {
    convert: Convert,
    /// Whether some values are left to Postgres.
    pub(super) may_ask: bool,
    /// Whether some values are refused.
    pub(super) may_raise: bool,
}

#[derive(Clone, Debug)]
enum Convert {
    By(fn(&[u8]) -> Converted),
    /// To an enum with these labels, as far as they are known.
    Label(Vec<String>),
}

/// What becomes of a value.
enum Converted {
    Same,
    Text(Vec<u8>),
    Ask,
    Raised,
}

impl Conversion {
    const fn exact(convert: fn(&[u8]) -> Converted) -> Casting {
        Casting::By(Self { convert: Convert::By(convert), may_ask: false, may_raise: false })
    }

    const fn raising(convert: fn(&[u8]) -> Converted) -> Casting {
        Casting::By(Self { convert: Convert::By(convert), may_ask: false, may_raise: true })
    }

    const fn asking(convert: fn(&[u8]) -> Converted) -> Casting {
        Casting::By(Self { convert: Convert::By(convert), may_ask: true, may_raise: true })
    }

    pub(super) fn apply<'a>(&self, value: Text<'a>) -> Result<Text<'a>, Stop> {
        let converted = match &self.convert {
            Convert::By(convert) => convert(&value),
            Convert::Label(labels) if labels.iter().any(|label| label.as_bytes() == &*value) => Converted::Same,
            // It may have been added after the relation was described.
            Convert::Label(_) => Converted::Ask,
        };
        match converted {
            Converted::Same => Ok(value),
            Converted::Text(text) => Ok(Cow::Owned(text)),
            Converted::Ask => Err(Stop::Ask),
            Converted::Raised => Err(Stop::Raised),
        }
    }
}

/// The cast of one type to another.
pub(super) fn casting(relation: &Relation, from: Type, to: u32) -> Casting {
    if from.oid == to {
        return Casting::Same;
    }
    if let (Some(from), Some(to)) = (from.element(relation), Type::plain(to).element(relation)) {
        return match casting(relation, from, to.oid) {
            Casting::Same => Casting::Same,
            Casting::By(_) | Casting::Unknown => Casting::Unknown,
        };
    }
    match to {
        oid::TEXT | oid::VARCHAR => to_text(relation, from),
        oid::BPCHAR if from.is_text() => Casting::Same,
        oid::NAME if from.is_text() => Conversion::asking(to_name),
        oid::BOOL => to_bool(from),
        oid::UUID if from.is_text() => Conversion::raising(text_to_uuid),
        oid::INT2 | oid::INT4 | oid::INT8 | oid::NUMERIC | oid::FLOAT4 | oid::FLOAT8 => number::casting(from, to),
        oid::DATE | oid::TIME | oid::TIMESTAMP | oid::TIMESTAMPTZ => datetime::casting(from, to),
        _ if from.is_text() && !labels(relation, to).is_empty() => Casting::By(Conversion {
            convert: Convert::Label(labels(relation, to).to_vec()),
            may_ask: true,
            may_raise: true,
        }),
        _ => Casting::Unknown,
    }
}

fn to_text(relation: &Relation, from: Type) -> Casting {
    match from.oid {
        oid::TEXT
        | oid::VARCHAR
        | oid::NAME
        | oid::UUID
        | oid::INT2
        | oid::INT4
        | oid::INT8
        | oid::OID
        | oid::NUMERIC
        | oid::FLOAT4
        | oid::FLOAT8
        | oid::DATE
        | oid::TIME
        | oid::TIMESTAMP
        | oid::JSONB => Casting::Same,
        oid::BPCHAR => Conversion::exact(without_trailing_blanks),
        oid::BOOL => Conversion::exact(bool_to_text),
        _ if !labels(relation, from.oid).is_empty() => Casting::Same,
        _ => Casting::Unknown,
    }
}

fn to_bool(from: Type) -> Casting {
    match from.oid {
        oid::INT4 => Conversion::exact(|value| printed_bool(value != b"0")),
        oid::JSONB => Conversion::asking(jsonb_to_bool),
        _ if from.is_text() => Conversion::raising(text_to_bool),
        _ => Casting::Unknown,
    }
}

fn without_trailing_blanks(value: &[u8]) -> Converted {
    let len = value.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    match value.get(..len) {
        Some(text) if len < value.len() => Converted::Text(text.into()),
        _ => Converted::Same,
    }
}

/// Longer ones are cut off at a character.
fn to_name(value: &[u8]) -> Converted {
    if value.len() < 64 { Converted::Same } else { Converted::Ask }
}

fn bool_to_text(value: &[u8]) -> Converted {
    match value {
        b"t" => Converted::Text(b"true".into()),
        b"f" => Converted::Text(b"false".into()),
        _ => Converted::Raised,
    }
}

fn printed_bool(value: bool) -> Converted {
    Converted::Text(if value { b"t" } else { b"f" }.into())
}

/// A null is an error until Postgres 17 and NULL from 18 on.
fn jsonb_to_bool(value: &[u8]) -> Converted {
    match value {
        b"true" => printed_bool(true),
        b"false" => printed_bool(false),
        b"null" => Converted::Ask,
        _ => Converted::Raised,
    }
}

/// As `boolin` reads it: a beginning of a word is enough if it says which.
fn text_to_bool(value: &[u8]) -> Converted {
    let word = trimmed(value).to_ascii_lowercase();
    let begins = |whole: &[u8], least: usize| word.len() >= least && whole.starts_with(&word);
    if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || word == b"1" {
        printed_bool(true)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || word == b"0" {
        printed_bool(false)
    } else {
        Converted::Raised
    }
}

/// As `uuid_in` reads it: perhaps in braces, with a hyphen after any group of four digits.
fn text_to_uuid(value: &[u8]) -> Converted {
    parsed_uuid(value)
        .map_or(Converted::Raised, |text| if text == value { Converted::Same } else { Converted::Text(text) })
}

fn parsed_uuid(value: &[u8]) -> Option<Vec<u8>> {
    let inner = match value.strip_prefix(b"{") {
        Some(inner) => inner.strip_suffix(b"}")?,
        None => value,
    };
    let mut rest = inner;
    let mut text = Vec::with_capacity(36);
    for place in 0..16 {
        let (digits, after) = rest.split_at_checked(2)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        text.extend(digits.iter().map(u8::to_ascii_lowercase));
        if matches!(place, 3 | 5 | 7 | 9) {
            text.push(b'-');
        }
        rest = match after.strip_prefix(b"-") {
            Some(next) if place % 2 == 1 && place < 15 => next,
            _ => after,
        };
    }
    rest.is_empty().then_some(text)
}

/// Without what `isspace` finds at both ends.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_space(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_space(*last)
    {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    pub(super) fn check(from: u32, to: u32, value: &str, expected: Result<&str, Stop>) {
        let relation = crate::eval::tests::relation();
        let result = match casting(&relation, Type::plain(from), to) {
            Casting::Same => Ok(Cow::Borrowed(value.as_bytes())),
            Casting::By(conversion) => conversion.apply(Cow::Borrowed(value.as_bytes())),
            Casting::Unknown => Err(Stop::Ask),
        };
        let text = result.as_deref().map(|text| std::str::from_utf8(text).expect("UTF-8")).map_err(|stop| *stop);
        assert_eq!(text, expected, "{value} of {from} to {to}");
    }

    #[test]
    fn texts_become_uuids_of_one_form() {
        let canonical = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [
            canonical,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        ] {
            check(oid::TEXT, oid::UUID, text, Ok(canonical));
        }
        for text in ["", "a0eebc99", " a0eebc999c0b4ef8bb6d6bb9bd380a11", "{a0eebc999c0b4ef8bb6d6bb9bd380a11"] {
            check(oid::TEXT, oid::UUID, text, Err(Stop::Raised));
        }
        check(oid::TEXT, oid::UUID, "a0eebc999c0b4ef8bb6d6bb9bd380a11-", Err(Stop::Raised));
        check(oid::TEXT, oid::UUID, "a0-eebc999c0b4ef8bb6d6bb9bd380a11", Err(Stop::Raised));
    }

    #[test]
    fn booleans_have_many_names() {
        for (text, expected) in
            [(" T", "t"), ("yE\n", "t"), ("on", "t"), ("1", "t"), ("of", "f"), ("n", "f"), ("0", "f")]
        {
            check(oid::TEXT, oid::BOOL, text, Ok(expected));
        }
        for text in ["", "o", "trues", "10", "t f"] {
            check(oid::TEXT, oid::BOOL, text, Err(Stop::Raised));
        }
        check(oid::JSONB, oid::BOOL, "true", Ok("t"));
        check(oid::JSONB, oid::BOOL, "null", Err(Stop::Ask));
        check(oid::JSONB, oid::BOOL, "\"true\"", Err(Stop::Raised));
        check(oid::BOOL, oid::TEXT, "t", Ok("true"));
        check(oid::INT4, oid::BOOL, "-2", Ok("t"));
    }

    #[test]
    fn texts_are_taken_over() {
        check(oid::BPCHAR, oid::TEXT, "a b  ", Ok("a b"));
        check(oid::TEXT, oid::NAME, "a", Ok("a"));
        check(oid::TEXT, oid::NAME, &"a".repeat(64), Err(Stop::Ask));
        check(oid::TIMESTAMPTZ, oid::TEXT, "2024-01-01 00:00:00+00", Err(Stop::Ask));
        check(1015, 1009, "{a}", Ok("{a}"));
        check(1000, 1009, "{t}", Err(Stop::Ask));
    }
}
