//! `[[policy.rules]]`: who may read which rows, for what the database itself does not say. Pure.

use serde_json::{Map, Value};

/// The most rules that are taken. Each costs a condition in the policies of its table.
const MAX_RULES: usize = 1_000;

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyRule {
    /// The token's role; `None` for every role.
    pub role: Option<String>,
    /// Schema of the table; `None` for the users' schema.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// The condition in SQL; `None` for all rows.
    pub using: Option<String>,
}

/// The keys of a rule.
const KEYS: &[&str] = &["role", "table", "permission", "using"];

/// Reads a JSON array of rules. Every problem is a line of the error.
pub(super) fn read(text: &str) -> Result<Vec<PolicyRule>, String> {
    let Ok(items) = serde_json::from_str::<Vec<Map<String, Value>>>(text) else {
        return Err(format!("expected {}", super::Kind::Rules));
    };
    if items.len() > MAX_RULES {
        return Err(format!("{} rules, and {MAX_RULES} are taken", items.len()));
    }
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let mut found = Vec::new();
        rules.extend(rule(item, &mut found));
        problems.extend(found.into_iter().map(|problem| format!("rule {}: {problem}", index + 1)));
    }
    if problems.is_empty() { Ok(rules) } else { Err(problems.join("\n")) }
}

fn rule(item: &Map<String, Value>, problems: &mut Vec<String>) -> Option<PolicyRule> {
    // A misspelt `using` must not permit every row, so what is unknown is refused here.
    for key in item.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        problems.push(format!("unknown key {key:?}: there are {}", KEYS.join(", ")));
    }
    let role = text(item, "role", problems);
    let table = text(item, "table", problems);
    let permission = text(item, "permission", problems);
    let using = text(item, "using", problems);
    for (key, value) in [("role", &role), ("table", &table)] {
        if value.is_none() && !item.contains_key(key) {
            problems.push(format!("{key} is missing"));
        }
    }
    if using.as_deref().is_some_and(|using| !reactor_policy_engine::is_condition(using)) {
        problems.push("using: not understood as a condition in SQL; put unusual parts in parentheses".to_owned());
    }
    let (role, table) = (role?, table?);
    if let Some(permission) = permission
        && !matches!(permission.as_str(), "read" | "select")
        && permission != format!("data:{table}:read")
    {
        problems.push(format!("permission: expected read, select or data:{table}:read"));
    }
    let (schema, table) = match table.split_once('.') {
        Some((schema, table)) => (Some(schema.to_owned()), table.to_owned()),
        None => (None, table),
    };
    if table.is_empty() || schema.as_ref().is_some_and(String::is_empty) {
        problems.push("table: expected a name, or a schema and a name with a dot between".to_owned());
    }
    Some(PolicyRule { role: Some(role).filter(|role| role != "*"), schema, table, using })
}

fn text(item: &Map<String, Value>, key: &str, problems: &mut Vec<String>) -> Option<String> {
    match item.get(key)? {
        Value::String(text) if !text.trim().is_empty() && !text.contains('\0') => Some(text.clone()),
        _ => {
            problems.push(format!("{key}: expected a text that is not empty"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn problems(text: &str) -> Vec<String> {
        read(text).unwrap_err().lines().map(str::to_owned).collect()
    }

    #[test]
    fn rules_are_read() {
        let rules = read(
            r#"[{"role":"*","table":"app.todos","permission":"data:app.todos:read","using":"owner = auth.uid()"},
                {"role":"a","table":"t","permission":"select"}]"#,
        );
        let rule = |role: Option<&str>, schema: Option<&str>, table: &str, using: Option<&str>| PolicyRule {
            role: role.map(String::from),
            schema: schema.map(String::from),
            table: table.into(),
            using: using.map(String::from),
        };
        let expected =
            vec![rule(None, Some("app"), "todos", Some("owner = auth.uid()")), rule(Some("a"), None, "t", None)];
        assert_eq!(rules, Ok(expected));
    }

    #[test]
    fn every_problem_of_every_rule_is_said() {
        let found = problems(
            r#"[{"role":"a","table":"t","usign":"true"}, {"table":7},
                {"role":"a","table":".t","permission":"write"}, {"role":"a","table":"t","using":"owner = ("}]"#,
        );
        let parts = ["rule 1: unknown key \"usign\"", "rule 2: table: expected a text", "rule 2: role is missing"];
        let more = ["rule 3: permission: expected read", "rule 3: table: expected a name", "rule 4: using: "];
        for part in parts.iter().chain(&more) {
            assert!(found.iter().any(|problem| problem.starts_with(part)), "{part} in {found:?}");
        }
        assert_eq!(found.len(), 6, "{found:?}");
        assert!(problems("{}")[0].starts_with("expected rules"));
        assert!(problems(r#"["x"]"#)[0].starts_with("expected rules"));
    }
}
