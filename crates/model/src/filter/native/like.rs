//! `LIKE`: `%` is any text, `_` any character, and a backslash takes the next character as it is.

/// Characters of a part with `_` that may stand anywhere. Trying it at every place of a long value costs their product,
/// so longer ones are left to Postgres, which has a deadline.
const MAX_SEARCHED_CHARS: usize = 64;

/// Whether the pattern ends within an escape, which Postgres refuses when a value reaches it.
pub(in crate::filter) fn ends_in_escape(pattern: &str) -> bool {
    pattern.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// A pattern ready to be matched: what stands before the first `%`, between them and after the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// All of the value when there is no `%`, else its start.
    start: Part,
    /// What must follow somewhere, each after the one before.
    middle: Vec<Part>,
    /// The end; `None` when there is no `%`.
    end: Option<Part>,
}

/// A part without `%`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    /// Characters; `None` for any one.
    chars: Vec<Option<char>>,
    /// The same as a text, when it has no `_`.
    literal: Option<String>,
}

impl Pattern {
    /// Reads a pattern; `None` when it ends within an escape or is too costly to be matched here.
    #[must_use]
    pub fn parse(pattern: &str) -> Option<Self> {
        let mut parts = vec![Vec::new()];
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            match c {
                '%' => parts.push(Vec::new()),
                '_' => parts.last_mut()?.push(None),
                '\\' => parts.last_mut()?.push(Some(chars.next()?)),
                _ => parts.last_mut()?.push(Some(c)),
            }
        }
        let mut parts = parts.into_iter().map(Part::new);
        let start = parts.next()?;
        let mut middle: Vec<_> = parts.collect();
        let end = middle.pop();
        middle.retain(|part| !part.chars.is_empty());
        let is_cheap = |part: &Part| part.literal.is_some() || part.chars.len() <= MAX_SEARCHED_CHARS;
        middle.iter().all(is_cheap).then_some(Self { start, middle, end })
    }

    /// Whether the value matches.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        self.rest(value).is_some_and(str::is_empty)
    }

    /// What is left over of the value, if it matches so far.
    fn rest<'v>(&self, value: &'v str) -> Option<&'v str> {
        let rest = self.start.strip_from_start(value)?;
        let Some(end) = &self.end else { return Some(rest) };
        let between = end.strip_from_end(rest)?;
        // The first place of each is the best: it leaves the most for those after it.
        self.middle.iter().try_fold(between, |rest, part| part.skip_past(rest))?;
        Some("")
    }
}

impl Part {
    fn new(chars: Vec<Option<char>>) -> Self {
        Self { literal: chars.iter().copied().collect(), chars }
    }

    fn strip_from_start<'v>(&self, value: &'v str) -> Option<&'v str> {
        if let Some(literal) = &self.literal {
            return value.strip_prefix(literal.as_str());
        }
        let mut rest = value.chars();
        let matched = self.chars.iter().all(|wanted| fits(*wanted, rest.next()));
        matched.then_some(rest.as_str())
    }

    fn strip_from_end<'v>(&self, value: &'v str) -> Option<&'v str> {
        if let Some(literal) = &self.literal {
            return value.strip_suffix(literal.as_str());
        }
        let mut rest = value.chars();
        let matched = self.chars.iter().rev().all(|wanted| fits(*wanted, rest.next_back()));
        matched.then_some(rest.as_str())
    }

    fn skip_past<'v>(&self, value: &'v str) -> Option<&'v str> {
        if let Some(literal) = &self.literal {
            return value.split_once(literal.as_str()).map(|(_, rest)| rest);
        }
        value.char_indices().find_map(|(at, _)| self.strip_from_start(value.get(at..)?))
    }
}

fn fits(wanted: Option<char>, found: Option<char>) -> bool {
    found.is_some() && (wanted.is_none() || wanted == found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, value: &str, expected: bool) {
        let parsed = Pattern::parse(pattern).expect("pattern");
        assert_eq!(parsed.matches(value), expected, "{pattern} on {value}");
    }

    #[test]
    fn wildcards_match_characters() {
        check("", "", true);
        check("", "a", false);
        check("%", "", true);
        check("%%", "a", true);
        check("a%", "abc", true);
        check("%c", "abc", true);
        check("%b%", "abc", true);
        check("a_c", "abc", true);
        check("a_c", "ac", false);
        check("_", "é", true);
        check("__", "é", false);
        check("%_é", "éé", true);
        check("%_é%", "éé", true);
        check("a%a", "a", false);
        check("a%_%a", "aa", false);
        check("%ab%ac", "ababac", true);
        check("%aab", "aaab", true);
        check("a%b%c", "axbxbxd", false);
    }

    #[test]
    fn a_backslash_takes_the_next_character() {
        check(r"100\%", "100%", true);
        check(r"100\%", "1000", false);
        check(r"a\_b", "a_b", true);
        check(r"a\\b", r"a\b", true);
        check(r"\é", "é", true);
        for (pattern, expected) in [(r"abc\", true), (r"a\\", false), (r"\\\", true), ("", false)] {
            assert_eq!(ends_in_escape(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn costly_patterns_are_left_to_postgres() {
        let long = "a_".repeat(MAX_SEARCHED_CHARS);
        assert_eq!(Pattern::parse(&format!("%{long}%")), None);
        assert!(Pattern::parse(&format!("{long}%{long}")).is_some());
        check(&format!("%{}b%", "a".repeat(8000)), &"a".repeat(100_000), false);
    }
}
