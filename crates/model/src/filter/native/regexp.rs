//! The part of Postgres's regular expressions that means the same to the `regex` crate.
//!
//! Literals, `.`, anchors, groups, alternatives, single quantifiers and ASCII bracket sets. Everything else (classes,
//! most escapes, lazy quantifiers, look-around, options …) is left to Postgres. Only whether there is a match is asked,
//! so it does not matter which of several matches each engine prefers.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Regex, RegexBuilder};

/// Bytes of a compiled expression: enough for what a person writes, and a bound on the cost for each byte of a value.
const MAX_COMPILED_BYTES: usize = 64 * 1024;

/// Bytes of the cache that makes matching fast.
const MAX_CACHE_BYTES: usize = 256 * 1024;

/// Postgres's own limit of repetitions (`DUPMAX`).
const MAX_REPETITIONS: u32 = 255;

/// Compiles the expression; `None` when it is not in the part that both engines understand alike.
pub(in crate::filter) fn compile(pattern: &str, ignore_case: bool) -> Option<Regex> {
    let translated = Translation::new(pattern).run()?;
    RegexBuilder::new(&translated)
        .dot_matches_new_line(true)
        .case_insensitive(ignore_case)
        .size_limit(MAX_COMPILED_BYTES)
        .dfa_size_limit(MAX_CACHE_BYTES)
        .build()
        .ok()
}

struct Translation<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    /// Whether a quantifier may follow.
    quantifiable: bool,
    /// Of each open group and of the whole: whether an anchor is in it.
    anchored: Vec<bool>,
}

impl<'a> Translation<'a> {
    fn new(pattern: &'a str) -> Self {
        Self {
            rest: pattern.chars().peekable(),
            out: String::with_capacity(pattern.len() + 8),
            quantifiable: false,
            anchored: vec![false],
        }
    }

    fn run(mut self) -> Option<String> {
        while let Some(c) = self.rest.next() {
            self.step(c)?;
        }
        (self.anchored.len() == 1).then_some(self.out)
    }

    fn step(&mut self, c: char) -> Option<()> {
        match c {
            '(' => self.open()?,
            ')' => self.close()?,
            '|' => self.push('|', false),
            '^' | '$' => {
                *self.anchored.last_mut()? = true;
                self.push(c, false);
            }
            '.' => self.push('.', true),
            '*' | '+' | '?' => {
                self.take_quantifiable()?;
                self.push(c, false);
            }
            '{' => {
                self.take_quantifiable()?;
                self.bounds()?;
            }
            '[' => self.bracket()?,
            '\\' => {
                let escaped = self.rest.next().filter(char::is_ascii_punctuation)?;
                self.literal(escaped);
            }
            ']' | '}' => return None,
            _ => self.literal(c),
        }
        Some(())
    }

    fn push(&mut self, c: char, quantifiable: bool) {
        self.out.push(c);
        self.quantifiable = quantifiable;
    }

    fn literal(&mut self, c: char) {
        push_escaped(&mut self.out, c);
        self.quantifiable = true;
    }

    fn take_quantifiable(&mut self) -> Option<()> {
        std::mem::take(&mut self.quantifiable).then_some(())
    }

    fn open(&mut self) -> Option<()> {
        if self.rest.peek() == Some(&'?') {
            return None;
        }
        self.anchored.push(false);
        self.out.push_str("(?:");
        self.quantifiable = false;
        Some(())
    }

    /// A group with an anchor in it may not be repeated: engines differ on what that means.
    fn close(&mut self) -> Option<()> {
        let anchored = self.anchored.pop()?;
        let outer = self.anchored.last_mut()?;
        *outer |= anchored;
        self.push(')', !anchored);
        Some(())
    }

    /// `{m}`, `{m,}` or `{m,n}` after its brace.
    fn bounds(&mut self) -> Option<()> {
        let least = self.count()?;
        let most = match self.rest.next()? {
            '}' => Some(least),
            ',' if self.rest.next_if_eq(&'}').is_some() => None,
            ',' => {
                let most = self.count()?;
                self.rest.next_if_eq(&'}')?;
                Some(most)
            }
            _ => return None,
        };
        if most.is_some_and(|most| most < least) {
            return None;
        }
        let most = most.map(|most| most.to_string()).unwrap_or_default();
        self.out.push_str(&format!("{{{least},{most}}}"));
        Some(())
    }

    fn count(&mut self) -> Option<u32> {
        let mut digits = String::new();
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        digits.parse().ok().filter(|count| *count <= MAX_REPETITIONS)
    }

    /// A bracket set after its bracket: single ASCII characters and ranges of letters or digits.
    fn bracket(&mut self) -> Option<()> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut members = 0;
        loop {
            let first = self.rest.next()?;
            match first {
                ']' if members > 0 => break,
                ']' | '[' | '\\' => return None,
                '-' if members > 0 && self.rest.peek() != Some(&']') => return None,
                _ if !first.is_ascii() => return None,
                _ => {}
            }
            members += 1;
            push_escaped(&mut self.out, first);
            if first != '-' && self.rest.next_if_eq(&'-').is_some() {
                self.range_end(first)?;
            }
        }
        self.push(']', true);
        Some(())
    }

    /// What follows a member and a hyphen: the end of a range, or of the set.
    fn range_end(&mut self, first: char) -> Option<()> {
        if self.rest.peek() == Some(&']') {
            self.out.push_str("\\-");
            return Some(());
        }
        let last = self.rest.next()?;
        if !first.is_ascii_alphanumeric() || !last.is_ascii_alphanumeric() || last < first {
            return None;
        }
        self.out.push('-');
        self.out.push(last);
        Some(())
    }
}

/// `\<` and `\>` would be word boundaries.
fn push_escaped(out: &mut String, c: char) {
    if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
        out.push('\\');
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_part_is_translated() {
        let check = |pattern: &str, value: &str, expected: bool| {
            let regex = compile(pattern, false).unwrap_or_else(|| panic!("{pattern} is in the common part"));
            assert_eq!(regex.is_match(value), expected, "{pattern} on {value}");
        };
        check("", "", true);
        check("^a.c$", "a\nc", true);
        check("^a$", "a\n", false);
        check("^(ab|cd)+$", "abcdab", true);
        check("a{2,3}b", "xaaab", true);
        check("^a{2}$", "aaa", false);
        check("[a-f0-9_-]", "-", true);
        check("^[^a-z]$", "ä", true);
        check(r"\.txt$", "a.txt", true);
        check("a#b c~", "a#b c~", true);
        check("[&&]", "&", true);
    }

    #[test]
    fn the_rest_is_left_to_postgres() {
        for pattern in [
            "*a",
            "a**",
            "a*?",
            "(?i)a",
            "(?:a)",
            "***=a",
            r"\d",
            r"\ma",
            r"[[:alpha:]]",
            r"[\d]",
            "[]a]",
            "a{300}",
            "a{3,2}",
            "a{",
            "a{,3}",
            "a}",
            "(",
            "a)",
            "[b-a]",
            "[a",
            "(^a)*",
            "^*",
            r"a\",
            "[é]",
            "(|*)",
            "(a{255}){255}",
            "[a-c-e]",
        ] {
            assert!(compile(pattern, false).is_none(), "{pattern}");
        }
    }
}
