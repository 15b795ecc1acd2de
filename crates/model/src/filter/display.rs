//! Filters as text that parses to the same filter.

use std::fmt::{self, Display, Formatter, Write};

use super::{Condition, Filter, Operand};

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(parts) => separated(f, parts, write_assignment),
            Self::Or(_) | Self::Condition(_) => write_assignment(f, self),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_condition(f, self, '=')
    }
}

fn write_assignment(f: &mut Formatter<'_>, filter: &Filter) -> fmt::Result {
    match filter {
        Filter::And(parts) => write_group(f, "and=", parts),
        Filter::Or(parts) => write_group(f, "or=", parts),
        Filter::Condition(condition) => write_condition(f, condition, '='),
    }
}

fn write_member(f: &mut Formatter<'_>, filter: &Filter) -> fmt::Result {
    match filter {
        Filter::And(parts) => write_group(f, "and", parts),
        Filter::Or(parts) => write_group(f, "or", parts),
        Filter::Condition(condition) => write_condition(f, condition, '.'),
    }
}

fn write_group(f: &mut Formatter<'_>, name: &str, parts: &[Filter]) -> fmt::Result {
    f.write_str(name)?;
    f.write_char('(')?;
    separated(f, parts, write_member)?;
    f.write_char(')')
}

fn write_condition(f: &mut Formatter<'_>, condition: &Condition, delimiter: char) -> fmt::Result {
    let plain = condition.column.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    write_text(f, &condition.column, plain)?;
    f.write_char(delimiter)?;
    if condition.negated {
        f.write_str("not.")?;
    }
    write!(f, "{}.", condition.operation.operator)?;
    match &condition.operation.operand {
        Operand::Text(value) => write_text(f, value, is_plain(value)),
        Operand::Keyword(keyword) => f.write_str(keyword.name()),
        Operand::List(values) => {
            f.write_char('(')?;
            separated(f, values, |f, value| write_text(f, value, is_plain(value) && !value.is_empty()))?;
            f.write_char(')')
        }
    }
}

/// Whether a value needs no quotes anywhere in the grammar.
fn is_plain(value: &str) -> bool {
    !value.contains(['"', '\\', ',', '(', ')']) && value.trim() == value
}

fn write_text(f: &mut Formatter<'_>, value: &str, plain: bool) -> fmt::Result {
    if plain {
        return f.write_str(value);
    }
    f.write_char('"')?;
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}

fn separated<T>(
    f: &mut Formatter<'_>,
    parts: &[T],
    write: impl Fn(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        write(f, part)?;
    }
    Ok(())
}
