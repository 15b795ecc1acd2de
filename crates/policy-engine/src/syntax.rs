//! Whether a condition that somebody wrote is one.

use crate::sql::parse_expression;

/// Whether the text is one expression in SQL, as far as its grammar goes. Parts that are valid but unusual are understood
/// where they stand in parentheses.
#[must_use]
pub fn is_condition(text: &str) -> bool {
    parse_expression(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_told_from_other_texts() {
        for text in ["owner = auth.uid()", "a in (select b from c where d = 1)", "(x is json)", "true -- all"] {
            assert!(is_condition(text), "{text}");
        }
        for text in ["", "owner =", "owner = (", "a = 1; drop table b", "a) or (b", "select 1", "a = 'x"] {
            assert!(!is_condition(text), "{text}");
        }
    }
}
