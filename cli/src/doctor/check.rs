//! One thing that was looked at.

use serde::Serialize;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    /// Works, but not for everything or not for ever.
    Warn,
    /// Nothing, or not all, can work.
    Fail,
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) message: String,
    /// SQL or a sentence, one a line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) remedy: Vec<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, message: message.into(), remedy: Vec::new() }
    }

    pub(super) fn warn(name: &'static str, message: impl Into<String>) -> Self {
        Self { status: Status::Warn, ..Self::ok(name, message) }
    }

    pub(super) fn fail(name: &'static str, message: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::ok(name, message) }
    }

    /// Adds a way to mend it.
    pub(super) fn mend(mut self, remedy: impl Into<String>) -> Self {
        self.remedy.push(remedy.into());
        self
    }

    /// Adds a way to mend it for each, as far as they can be shown.
    pub(super) fn mend_each<T>(mut self, each: &[T], remedy: impl Fn(&T) -> String) -> Self {
        self.remedy.extend(each.iter().take(SHOWN).map(remedy));
        if let Some(more) = more(each.len()) {
            self.remedy.push(format!("-- {more}"));
        }
        self
    }
}

/// The worst of all.
pub(super) fn worst(checks: &[Check]) -> Status {
    checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok)
}

/// Tables that one line names: more are not read.
const SHOWN: usize = 20;

/// Names separated by commas, as far as they can be shown.
pub(super) fn list<T: ToString>(names: &[T]) -> String {
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(T::to_string).collect();
    shown.extend(more(names.len()));
    shown.join(", ")
}

fn more(count: usize) -> Option<String> {
    (count > SHOWN).then(|| format!("and {} more", count - SHOWN))
}

/// A name as SQL has it.
pub(super) fn ident(name: &str) -> String {
    let plain = name.starts_with(|char: char| char.is_ascii_lowercase() || char == '_')
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    // A plain name may still be a word of the language, but then the quotes are easily added by hand.
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A text as SQL has it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// In the largest unit that gives at least two.
pub(super) fn bytes(count: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| count >> shift >= 2) {
        Some((shift, unit)) => format!("{} {unit}", count >> shift),
        None => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_fit_for_sql() {
        for (name, expected) in [("a_1", "a_1"), ("A", "\"A\""), ("1a", "\"1a\""), ("a\"b", "\"a\"\"b\""), ("", "\"\"")]
        {
            assert_eq!(ident(name), expected);
        }
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<usize> = (1..=22).collect();
        assert!(list(&names).ends_with("19, 20, and 2 more"));
        let check = Check::fail("x", "y").mend_each(&names, |name| format!("mend {name};"));
        assert_eq!(check.remedy.len(), 21);
        assert_eq!(list(&["a", "b"]), "a, b");
    }

    #[test]
    fn sizes_are_rounded_down() {
        for (count, expected) in
            [(0, "0 bytes"), (2047, "2047 bytes"), (2048, "2 KiB"), (3 << 20, "3 MiB"), (5 << 30, "5 GiB")]
        {
            assert_eq!(bytes(count), expected);
        }
    }
}
