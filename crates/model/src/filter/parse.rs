//! The filter grammar: `column=[not.]operator.value,…`, and PostgREST's `or=(…)` and `and=(…)` groups.
//!
//! A scalar that is wholly in quotes is unquoted, any other is taken literally. The values of `in` follow Postgres's
//! array literals, but `NULL` is a text.

use super::split::{Escapes, Nesting, enclosed, split, split_name, unquoted};
use super::{Condition, Filter, FilterError, IsKeyword, Operand, Operation, Operator};
use crate::limits;

const ASSIGNMENT: &str = "column=operator.value";
const MEMBER: &str = "column.operator.value";

/// Characters of a part that an error message repeats.
const SHOWN_CHARS: usize = 80;

impl Filter {
    /// Parses a whole filter; blank text is "every row".
    ///
    /// # Errors
    /// [`FilterError`] naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        check_length(text.len())?;
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::And(Vec::new()));
        }
        let mut parser = Parser::default();
        let parts = split(text, Nesting::Counts)
            .map(|part| {
                let part = non_empty(part)?;
                let (name, value) = split_assignment(part)?;
                parser.assignment(&name, value, part)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::all(parts))
    }

    /// Parses one query parameter, `<column>=[not.]<operator>.<value>` or `or=(…)`. All of `value` belongs to it, so
    /// commas in a scalar need no quotes.
    ///
    /// # Errors
    /// [`FilterError`] naming the part that is wrong.
    pub fn parse_param(name: &str, value: &str) -> Result<Self, FilterError> {
        check_length(name.len() + value.len())?;
        let part = format!("{name}={value}");
        Parser::default().assignment(name, value, &part)
    }

    /// All of these. Conjunctions within it become part of it, and one filter alone stays itself.
    #[must_use]
    pub fn all(filters: Vec<Self>) -> Self {
        let mut parts = Vec::with_capacity(filters.len());
        for filter in filters {
            match filter {
                Self::And(inner) => parts.extend(inner),
                Self::Or(_) | Self::Condition(_) => parts.push(filter),
            }
        }
        single(parts).unwrap_or_else(Self::And)
    }

    fn any(filters: Vec<Self>) -> Self {
        let mut parts = Vec::with_capacity(filters.len());
        for filter in filters {
            match filter {
                Self::Or(inner) => parts.extend(inner),
                Self::And(_) | Self::Condition(_) => parts.push(filter),
            }
        }
        single(parts).unwrap_or_else(Self::Or)
    }

    /// The conditions in the order of the text.
    #[must_use]
    pub fn conditions(&self) -> Vec<&Condition> {
        let mut found = Vec::new();
        self.collect_conditions(&mut found);
        found
    }

    fn collect_conditions<'a>(&'a self, found: &mut Vec<&'a Condition>) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.collect_conditions(found)),
            Self::Condition(condition) => found.push(condition),
        }
    }

    /// Whether every row satisfies it.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(Self::is_everything),
            Self::Or(_) | Self::Condition(_) => false,
        }
    }
}

/// The only element, or all of them back.
fn single(mut parts: Vec<Filter>) -> Result<Filter, Vec<Filter>> {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => Ok(only),
        (_, last) => {
            parts.extend(last);
            Err(parts)
        }
    }
}

#[derive(Default)]
struct Parser {
    conditions: usize,
    depth: usize,
}

impl Parser {
    /// `name=value`, where `or` and `and` before a parenthesis are groups and not columns.
    fn assignment(&mut self, name: &str, value: &str, part: &str) -> Result<Filter, FilterError> {
        let group = match name {
            "or" | "and" => value.trim_start().starts_with('('),
            "not.or" | "not.and" => return Err(FilterError::NegatedGroup { part: shown(part) }),
            _ => false,
        };
        if group { self.group(name, value, part) } else { self.condition(name, value, part, ASSIGNMENT) }
    }

    /// The parenthesised list of `or` or `and`.
    fn group(&mut self, name: &str, list: &str, part: &str) -> Result<Filter, FilterError> {
        let inner = enclosed(list.trim()).ok_or_else(|| FilterError::GroupNotWrapped { part: shown(part) })?;
        self.depth += 1;
        if self.depth > limits::MAX_FILTER_DEPTH {
            return Err(FilterError::TooDeep);
        }
        let parts = split(inner, Nesting::Counts)
            .map(|member| self.member(non_empty(member)?))
            .collect::<Result<Vec<_>, _>>()?;
        self.depth -= 1;
        Ok(if name == "or" { Filter::any(parts) } else { Filter::all(parts) })
    }

    /// One element of a group.
    fn member(&mut self, part: &str) -> Result<Filter, FilterError> {
        for name in ["or", "and"] {
            if let Some(list) = part.strip_prefix(name)
                && list.starts_with('(')
            {
                return self.group(name, list, part);
            }
        }
        if part.starts_with("not.or(") || part.starts_with("not.and(") {
            return Err(FilterError::NegatedGroup { part: shown(part) });
        }
        let (name, rest) = split_name(part, '.').ok_or_else(|| not_a_condition(part, MEMBER))?;
        self.condition(&name, rest, part, MEMBER)
    }

    /// A column with `[not.]operator.value`.
    fn condition(
        &mut self,
        column: &str,
        text: &str,
        part: &str,
        expected: &'static str,
    ) -> Result<Filter, FilterError> {
        self.conditions += 1;
        if self.conditions > limits::MAX_FILTER_CONDITIONS {
            return Err(FilterError::TooManyConditions);
        }
        if column.is_empty() {
            return Err(FilterError::NoColumn { part: shown(part) });
        }
        let (negated, text) = text.strip_prefix("not.").map_or((false, text), |rest| (true, rest));
        let Some((name, value)) = text.split_once('.') else {
            return Err(if text.is_empty() || Operator::from_name(text).is_some() {
                not_a_condition(part, expected)
            } else {
                unknown_operator(text, part)
            });
        };
        let operator = Operator::from_name(name).ok_or_else(|| unknown_operator(name, part))?;
        let operand = operand(operator, value, part)?;
        Ok(Filter::Condition(Condition {
            column: column.to_owned(),
            negated,
            operation: Operation { operator, operand },
        }))
    }
}

fn operand(operator: Operator, value: &str, part: &str) -> Result<Operand, FilterError> {
    match operator {
        Operator::In => in_values(value).map(Operand::List),
        Operator::Is => {
            let keyword = [IsKeyword::Null, IsKeyword::True, IsKeyword::False, IsKeyword::Unknown]
                .into_iter()
                .find(|keyword| keyword.name().eq_ignore_ascii_case(value.trim()));
            let unknown = || FilterError::UnknownKeyword { keyword: shown(value), part: shown(part) };
            keyword.map(Operand::Keyword).ok_or_else(unknown)
        }
        Operator::Eq
        | Operator::Neq
        | Operator::Lt
        | Operator::Lte
        | Operator::Gt
        | Operator::Gte
        | Operator::Like
        | Operator::Ilike
        | Operator::Match
        | Operator::Imatch
        | Operator::IsDistinct => Ok(Operand::Text(unquoted(value, Escapes::OfScalars))),
    }
}

fn in_values(value: &str) -> Result<Vec<String>, FilterError> {
    let value = value.trim();
    let inner = value.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or(FilterError::InNotWrapped)?;
    if inner.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut values = Vec::new();
    for element in split(inner, Nesting::Ignored) {
        if values.len() == limits::MAX_IN_VALUES {
            return Err(FilterError::InTooLong);
        }
        values.push(unquoted(non_empty(element)?, Escapes::OfArrays));
    }
    Ok(values)
}

fn split_assignment(part: &str) -> Result<(String, &str), FilterError> {
    split_name(part, '=').ok_or_else(|| not_a_condition(part, ASSIGNMENT))
}

fn check_length(bytes: usize) -> Result<(), FilterError> {
    if bytes > limits::MAX_FILTER_BYTES { Err(FilterError::TooLong { bytes }) } else { Ok(()) }
}

fn non_empty(part: &str) -> Result<&str, FilterError> {
    let part = part.trim();
    if part.is_empty() { Err(FilterError::EmptySegment) } else { Ok(part) }
}

fn not_a_condition(part: &str, expected: &'static str) -> FilterError {
    FilterError::NotACondition { part: shown(part), expected }
}

fn unknown_operator(operator: &str, part: &str) -> FilterError {
    FilterError::UnknownOperator { operator: shown(operator), part: shown(part) }
}

fn shown(part: &str) -> String {
    match part.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", part.get(..end).unwrap_or_default()),
        None => part.to_owned(),
    }
}
