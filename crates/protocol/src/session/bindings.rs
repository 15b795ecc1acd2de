//! The entries of `config.postgres_changes`: what is echoed, what is asked for, and what is wrong with them.

use std::fmt::Write as _;
use std::sync::Arc;

use reactor_model::ChangeKind;
use reactor_model::filter::{Filter, FilterError, Operand};
use serde_json::{Map, Value};

use super::action::ChangeBinding;
use crate::json;

/// One more than the largest id: 27 bits, as clients expect.
const IDS: u64 = 1 << 27;

/// The entries of one join.
#[derive(Debug)]
pub(super) struct Bindings {
    /// The array of the reply: the client's entries, each with its id.
    pub(super) echo: Vec<u8>,
    /// What is asked for, or the text that says what is wrong.
    pub(super) parsed: Result<Arc<[ChangeBinding]>, String>,
}

impl Bindings {
    /// Reads the entries; `null` entries and what is no object is passed over, as the reference server does.
    pub(super) fn read(entries: Option<&Value>, max: usize) -> Self {
        let entries = entries.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let entries: Vec<&Map<String, Value>> = entries.iter().filter_map(Value::as_object).collect();
        if entries.len() > max {
            let text = format!("Too many `postgres_changes`. Maximum {max}");
            return Self { echo: b"[]".to_vec(), parsed: Err(text) };
        }
        let ids = ids(&entries);
        let mut echo = vec![b'['];
        let mut first = true;
        for (entry, id) in entries.iter().zip(&ids) {
            json::separate(&mut echo, &mut first);
            let mut entry = (*entry).clone();
            entry.insert("id".to_owned(), Value::from(*id));
            // Writing a tree to a Vec cannot fail.
            let _ = serde_json::to_writer(&mut echo, &entry);
        }
        echo.push(b']');
        let parsed = entries.iter().zip(ids).map(|(entry, id)| parse(entry, id)).collect();
        Self { echo, parsed }
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.parsed.as_ref().is_ok_and(|bindings| bindings.is_empty())
    }
}

/// Ids by content, never 0, equal for equal entries and only for these.
fn ids(entries: &[&Map<String, Value>]) -> Vec<u32> {
    let mut known: Vec<(u32, &Map<String, Value>)> = Vec::new();
    for entry in entries {
        let mut id = hash(&serde_json::to_string(entry).unwrap_or_default());
        while known.iter().any(|(taken, other)| *taken == id && other != entry) {
            id = id % 0x07ff_ffff + 1;
        }
        known.push((id, entry));
    }
    known.into_iter().map(|(id, _)| id).collect()
}

/// FNV-1a: the same in every gateway and release.
fn hash(text: &str) -> u32 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    u32::try_from((hash ^ (hash >> 32)) % (IDS - 1)).unwrap_or(0) + 1
}

fn parse(entry: &Map<String, Value>, id: u32) -> Result<ChangeBinding, String> {
    let text = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(no_params(entry)),
    };
    let (schema, table) = match (text("schema")?, text("table")?) {
        (Some(schema), Some(table)) => (schema, table),
        (Some(schema), None) if text("filter")?.is_none_or(str::is_empty) => (schema, "*"),
        (None, Some(table)) => ("public", table),
        (Some(_) | None, None) => return Err(no_params(entry)),
    };
    let select = select(entry.get("select"))?;
    if !select.is_empty() && (schema == "*" || table == "*") {
        return Err(
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
                .to_owned(),
        );
    }
    let event = entry.get("event").and_then(Value::as_str).and_then(kind_of);
    let unfiltered = ChangeBinding {
        id,
        event,
        schema: schema.to_owned(),
        table: table.to_owned(),
        filter: Filter::And(Vec::new()),
        select,
        leave: json::flexible_bool(entry.get("leave")).unwrap_or(false),
    };
    match Filter::parse(text("filter")?.unwrap_or_default()) {
        Ok(filter) => Ok(ChangeBinding { filter, ..unfiltered }),
        Err(error) => Err(filter_text(&error, &unfiltered)),
    }
}

fn kind_of(event: &str) -> Option<ChangeKind> {
    [ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete]
        .into_iter()
        .find(|kind| kind.event_name().eq_ignore_ascii_case(event))
}

fn select(value: Option<&Value>) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(names)) => Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        Some(_) => Err(
            r#"Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]"#
                .to_owned(),
        ),
    }
}

fn no_params(entry: &Map<String, Value>) -> String {
    let mut text =
        "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: ".to_owned();
    inspect_map(&mut text, entry);
    text
}

/// The text for a filter that cannot be read: the parts that are wrong, in the notation of the reference server.
fn filter_text(error: &FilterError, binding: &ChangeBinding) -> String {
    let parts: Vec<&str> = match error {
        FilterError::InTooLong => return binding.exception(&error.to_string()),
        FilterError::NotACondition { part, .. }
        | FilterError::UnknownOperator { part, .. }
        | FilterError::UnknownKeyword { part, .. }
        | FilterError::NoColumn { part } => match part.split_once('=') {
            Some((_, value)) => value.splitn(2, '.').collect(),
            None => vec![part],
        },
        FilterError::TooLong { .. }
        | FilterError::TooDeep
        | FilterError::TooManyConditions
        | FilterError::EmptySegment
        | FilterError::InNotWrapped
        | FilterError::GroupNotWrapped { .. }
        | FilterError::NegatedGroup { .. }
        | FilterError::UnknownColumn { .. }
        | FilterError::NotApplicable { .. }
        | FilterError::LikeEscape { .. }
        | FilterError::OperandsDiffer { .. } => return format!("Error parsing `filter` params: {error}"),
    };
    format!("Error parsing `filter` params: {}", inspect_list(&parts))
}

impl ChangeBinding {
    /// The text for a subscription that can give no changes: the table is not published.
    #[must_use]
    pub fn not_enabled(&self) -> String {
        format!(
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: {}",
            self.params()
        )
    }

    /// The text for a subscription that the database refuses with this message (``invalid column for filter x``).
    #[must_use]
    pub fn exception(&self, message: &str) -> String {
        format!(
            "Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: {}. Exception: ERROR P0001 (raise_exception) {message}",
            self.params()
        )
    }

    fn params(&self) -> String {
        let event = self.event.map_or("*", crate::changes::type_name);
        let filters: Vec<String> = self.filter.conditions().iter().map(|condition| condition_text(condition)).collect();
        let select: Vec<&str> = self.select.iter().map(String::as_str).collect();
        format!(
            "[event: {event}, schema: {}, table: {}, filters: [{}], select: {}]",
            self.schema,
            self.table,
            filters.join(", "),
            if select.is_empty() { "nil".to_owned() } else { inspect_list(&select) }
        )
    }
}

fn condition_text(condition: &reactor_model::filter::Condition) -> String {
    let not = if condition.negated { "not." } else { "" };
    let operand = match &condition.operation.operand {
        Operand::Text(text) => text.clone(),
        Operand::List(values) => format!("{{{}}}", values.join(",")),
        Operand::Keyword(keyword) => keyword.name().to_owned(),
    };
    let operator = format!("{not}{}", condition.operation.operator);
    format!("{{{:?}, {operator:?}, {operand:?}}}", condition.column)
}

fn inspect_list(parts: &[&str]) -> String {
    format!("{parts:?}")
}

fn inspect_map(out: &mut String, map: &Map<String, Value>) {
    out.push_str("%{");
    for (index, (name, value)) in map.iter().enumerate() {
        let _ = write!(out, "{}{name:?} => ", if index > 0 { ", " } else { "" });
        match value {
            Value::Null => out.push_str("nil"),
            Value::Object(inner) => inspect_map(out, inner),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                let _ = write!(out, "{value}");
            }
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(entries: &Value, expected: Result<usize, &str>) {
        let bindings = Bindings::read(Some(entries), 100);
        match (&bindings.parsed, expected) {
            (Ok(parsed), Ok(count)) => assert_eq!(parsed.len(), count, "{entries}"),
            (Err(text), Err(part)) => assert_eq!(text, part, "{entries}"),
            (parsed, expected) => panic!("{entries}: {parsed:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn entries_are_read_or_refused_by_text() {
        check(&json!([{"event":"*","schema":"public","table":"todos","filter":"id=eq.1","select":["id"]}]), Ok(1));
        check(&json!([null, {"schema":"public"}, {"table":"todos"}, 7]), Ok(2));
        check(&json!([{"schema":"public","table":null,"filter":""}]), Ok(1));
        check(
            &json!([{"schema":"public","table":"t","filter":"wrong"}]),
            Err("Error parsing `filter` params: [\"wrong\"]"),
        );
        check(
            &json!([{"schema":"public","table":"t","filter":"id=foo.hey"}]),
            Err("Error parsing `filter` params: [\"foo\", \"hey\"]"),
        );
        check(
            &json!([{"schema":"public","table":"t","filter":"id=in.1,2"}]),
            Err("Error parsing `filter` params: `in` filter value must be wrapped by parentheses"),
        );
        check(
            &json!([{"schema":"public","table":"t","filter":"id=eq.1,,a=eq.2"}]),
            Err("Error parsing `filter` params: filter must not contain empty segments (check for extra commas)"),
        );
        check(
            &json!([{"schema":"public","table":"t","select":"id"}]),
            Err(
                "Error parsing `select` params: expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]",
            ),
        );
        check(
            &json!([{"schema":"public","select":["id"]}]),
            Err(
                "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.",
            ),
        );
        check(
            &json!([{"event":"INSERT"}]),
            Err(
                "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: %{\"event\" => \"INSERT\"}",
            ),
        );
    }

    #[test]
    fn texts_of_the_shell_name_the_parameters() {
        let entries = json!([{"event":"insert","schema":"public","table":"t","filter":"a=eq.1","select":["id","a"]}]);
        let parsed = Bindings::read(Some(&entries), 100).parsed.expect("valid");
        let binding = parsed.first().expect("one");
        assert_eq!(
            binding.exception("invalid column for filter a"),
            "Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: \
             [event: INSERT, schema: public, table: t, filters: [{\"a\", \"eq\", \"1\"}], select: [\"id\", \"a\"]]. \
             Exception: ERROR P0001 (raise_exception) invalid column for filter a"
        );
        let wildcard = Bindings::read(Some(&json!([{"event":"INSERT","schema":"public"}])), 100).parsed.expect("valid");
        assert_eq!(
            wildcard.first().expect("one").not_enabled(),
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: \
             [event: INSERT, schema: public, table: *, filters: [], select: nil]"
        );
    }

    #[test]
    fn ids_are_those_of_the_content() {
        let entries = json!([{"table":"a","id":5},{"table":"b"},{"table":"b"}]);
        let bindings = Bindings::read(Some(&entries), 100);
        let parsed = bindings.parsed.as_ref().expect("valid");
        let ids: Vec<u32> = parsed.iter().map(|binding| binding.id).collect();
        assert_eq!(ids.get(1), ids.get(2));
        assert_ne!(ids.first(), ids.get(1));
        assert!(ids.iter().all(|id| *id > 0 && u64::from(*id) < IDS));
        let echo: Value = serde_json::from_slice(&bindings.echo).expect("JSON");
        let first = ids.first().expect("three");
        assert_eq!(echo.get(0), Some(&json!({"table":"a","id":first})));
    }

    #[test]
    fn entries_are_bounded() {
        let entries = Value::from(vec![json!({"table":"a"}); 3]);
        assert_eq!(Bindings::read(Some(&entries), 2).parsed, Err("Too many `postgres_changes`. Maximum 2".to_owned()));
    }
}
