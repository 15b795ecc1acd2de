//! Configured rules: who may read which rows, beside what the database says. Pure.

use std::collections::BTreeSet;

use reactor_runtime::PolicyRule;

/// The rules for one table and role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The number of the first of them, counted from one.
    pub(crate) first: Option<usize>,
    /// Their conditions, of which one must hold; none when there is no rule.
    pub(crate) conditions: Vec<String>,
}

impl Rules {
    /// Those that name the table and the role.
    pub(crate) fn of(all: &[PolicyRule], default_schema: &str, role: &str, schema: &str, table: &str) -> Self {
        let mut rules = Self::default();
        for (index, rule) in all.iter().enumerate() {
            let names_role = rule.role.as_deref().is_none_or(|named| named == role);
            let names_table = rule.table == table && rule.schema.as_deref().unwrap_or(default_schema) == schema;
            if names_role && names_table {
                rules.first.get_or_insert(index + 1);
                rules.conditions.push(rule.using.clone().unwrap_or_else(|| "true".to_owned()));
            }
        }
        rules
    }
}

/// The columns that a condition may read, of these: those whose names are in its text. `None` when the whole row may be in
/// it.
pub(crate) fn columns_in<'a>(
    condition: &str,
    table: &str,
    columns: impl Iterator<Item = &'a str>,
) -> Option<Vec<String>> {
    let (words, starred) = words(condition);
    if starred || words.contains(&table.to_ascii_lowercase()) && names_row(condition, table) {
        return None;
    }
    Some(columns.filter(|column| words.contains(&column.to_ascii_lowercase())).map(str::to_owned).collect())
}

/// All that could be names, and whether there is a `.*`.
fn words(text: &str) -> (BTreeSet<String>, bool) {
    let mut words = BTreeSet::new();
    for part in text.split('"') {
        words.insert(part.to_ascii_lowercase());
    }
    let is_part = |character: char| character.is_alphanumeric() || matches!(character, '_' | '$');
    for word in text.split(|character| !is_part(character)) {
        words.insert(word.to_ascii_lowercase());
    }
    (words, text.contains(".*"))
}

/// Whether the table's name stands in the text without a dot behind it.
fn names_row(text: &str, table: &str) -> bool {
    let (text, table) = (text.to_ascii_lowercase(), table.to_ascii_lowercase());
    text.match_indices(&table).any(|(at, _)| {
        let rest = text.get(at + table.len()..).unwrap_or_default().trim_start_matches('"').trim_start();
        !rest.starts_with('.')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(role: Option<&str>, schema: Option<&str>, table: &str, using: Option<&str>) -> PolicyRule {
        PolicyRule {
            role: role.map(String::from),
            schema: schema.map(String::from),
            table: table.into(),
            using: using.map(String::from),
        }
    }

    #[test]
    fn rules_are_found_by_table_and_role() {
        let all = [
            rule(Some("a"), None, "todos", Some("x = 1")),
            rule(None, Some("public"), "todos", None),
            rule(None, Some("app"), "todos", Some("y = 2")),
        ];
        let of = |role: &str, schema: &str| Rules::of(&all, "public", role, schema, "todos");
        assert_eq!(of("a", "public"), Rules { first: Some(1), conditions: vec!["x = 1".into(), "true".into()] });
        assert_eq!(of("b", "public"), Rules { first: Some(2), conditions: vec!["true".into()] });
        assert_eq!(of("b", "app").first, Some(3));
        assert_eq!(of("b", "other"), Rules::default());
    }

    #[test]
    fn columns_are_those_named() {
        let of = |condition: &str| columns_in(condition, "todos", ["id", "owner", "Odd one"].into_iter());
        assert_eq!(of("owner = auth.uid()"), Some(vec!["owner".into()]));
        assert_eq!(of("todos.id > 1 and \"Odd one\" is null"), Some(vec!["id".into(), "Odd one".into()]));
        assert_eq!(of("is_mine(todos)"), None);
        assert_eq!(of("is_mine(todos.*)"), None);
        assert_eq!(of("true"), Some(vec![]));
    }
}
